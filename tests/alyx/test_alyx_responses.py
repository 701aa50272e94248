"""What is refused says why, in words that help, and without the token."""

import io
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_http import (
    EID,
    SAMPLES,
    TOKEN,
    Act,
    Handler,
    cut_short,
    drops,
    hangs,
    home,
    html,
    make,
    recorded,
    says,
    server,
    waits,
)

from neuro_assets.alyx.client import Alyx, AlyxRefused, NotAlyx, TokenRefused
from neuro_assets.outcomes import PermanentFailure, TransientFailure

__all__ = ["home", "make", "server", "waits"]  # fixtures


@pytest.mark.parametrize(
    "name",
    [
        "52-error-bad-django-field",
        "53-error-odd-django",
        "54-error-bad-date_range",
        "55-error-bad-qc",
        "56-error-bad-date-value",
        "42-tasks-bad",
        "10b-register-file-unknown-type-500",
    ],
)
def test_a_500_that_names_our_mistake_is_refused_at_once(make, waits, name):
    request, act = recorded(name)
    client = make(act)
    path = urlsplit(request["url"])
    query = {key: values[0] for key, values in parse_qs(path.query).items()}
    with pytest.raises(AlyxRefused, match="mistake in the request") as refused:
        if request["method"] == "POST":
            client.create(path.path, request["body"])
        else:
            client.get(path.path, **query)
    assert refused.value.status == 500
    assert refused.value.body["detail"].split(",")[0] in str(refused.value)
    assert (waits, client.n_requests) == ([], 1)


def test_a_500_of_a_database_that_is_down_is_asked_again(make, waits):
    _, act = recorded("107-error-database-down")
    assert make(act, says(200, {"ok": 1})).get("sessions") == {"ok": 1}
    assert len(waits) == 1


def test_words_of_an_outage_count_more_than_what_it_quotes(make, waits):
    said = "connection to server failed: it was asked for a value that has an invalid format"
    assert make(says(500, {"detail": said}), says(200, {})).get("sessions") == {}
    assert len(waits) == 1


@pytest.mark.parametrize("name", ["30-error-401-403-no-credentials", "31-error-bad-token"])
def test_a_missing_or_wrong_token_is_named_before_one_logs_in_again(make, home, name):
    _, act = recorded(name)
    client = make(act)
    with pytest.raises(TokenRefused, match="token missing or wrong: set ALYX_TOKEN") as refused:
        client.get("sessions")
    assert refused.value.status == 403
    assert client.n_requests == 1
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "name",
    [
        "50-error-404-session",
        "57-error-400-create-session",
        "58-error-400-missing",
        "59-error-400-bad-qc",
        "60-error-405",
        "61-error-register-unknown-subject",
        "64-error-register-unknown-repo",
        "65-error-400-bad-json",
        "104-error-403-protected",
        "104b-error-403-check_protected",
        "106-delete-protected-dataset",
    ],
)
def test_a_refusal_carries_status_and_body(make, waits, name):
    request, act = recorded(name)
    sample = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))["exchanges"][0]["response"]
    client = make(act)
    with pytest.raises(AlyxRefused) as refused:
        client.get(urlsplit(request["url"]).path)
    assert type(refused.value) is AlyxRefused
    assert (refused.value.status, refused.value.body) == (sample["status"], sample["body"])
    assert (waits, client.n_requests) == ([], 1)


def test_a_refusal_survives_the_way_to_another_process():
    copy = pickle.loads(pickle.dumps(AlyxRefused("no", 403, {"detail": "protected"})))
    assert (str(copy), copy.status, copy.body) == ("no", 403, {"detail": "protected"})


@pytest.mark.parametrize("name", ["50-error-404-session", "51-error-404-bad-uuid"])
def test_a_row_that_is_not_there_is_none(make, name):
    request, act = recorded(name)
    _, endpoint, row = urlsplit(request["url"]).path.split("/")
    assert make(act).read(endpoint, row) is None


@pytest.mark.parametrize(
    "act", [html(404), says(404, {"message": "no route"})], ids=["page", "another API"]
)
def test_a_404_that_alyx_does_not_give_for_a_uuid_is_no_deletion(make, act):
    with pytest.raises(NotAlyx):
        make(act).read("sessions", EID)


@pytest.mark.parametrize(
    "act",
    [html(404), html(200), says(404, {"message": "no route"}), says(200, {"hello": "world"})],
    ids=["404 page", "login page", "another API's 404", "another API"],
)
def test_a_url_that_is_not_an_alyx_is_recognised(make, server, act):
    with pytest.raises(NotAlyx, match="is not an Alyx") as refused:
        make(act).page("sessions")
    assert server.url in str(refused.value)


def test_the_title_of_a_login_page_is_told(make):
    with pytest.raises(NotAlyx, match="Sign in to LabNet"):
        make(html(200)).rows("sessions", most=1)


@pytest.mark.parametrize("call", [lambda c: c.get("sessions"), lambda c: c.create("sessions", {})])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_and_the_token_goes_nowhere(make, server, call, status):
    client = make(says(status, {}, Location=f"{server.url}/elsewhere?next=secret"))
    with pytest.raises(NotAlyx, match=f"redirected to {server.url}, where the token is not sent"):
        call(client)
    assert [seen.path for seen in server.seen] == ["/sessions"]


def test_https_at_a_plain_server_is_told(make, server):
    client = make(says(200, {}), url=server.url.replace("http", "https"), tries=1)
    with pytest.raises(TransientFailure, match="SSL|TLS"):
        client.get("sessions")


@pytest.mark.parametrize(
    "url",
    ["alyx.example.org", "", "ftp://alyx.org", "https://", "https://a b:port", "http://[::1"],
)
def test_what_is_no_address_is_said_at_once(url):
    with pytest.raises(PermanentFailure, match="is not like https://alyx.example.org"):
        Alyx(url, TOKEN)


@pytest.mark.parametrize("url", [f"https://me:{TOKEN}@alyx.org", f"https://alyx.org/?t={TOKEN}"])
def test_an_address_with_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(PermanentFailure, match=r"alyx\.org holds a login or a query") as failure:
        Alyx(url, "")
    assert TOKEN not in str(failure.value)


def test_an_address_that_cannot_be_is_a_permanent_failure():
    with pytest.raises(PermanentFailure, match="is no address"):
        Alyx(f"http://{'a' * 70}.example.org", TOKEN, tries=1).get("sessions")


@pytest.mark.parametrize("token", [f"Token {TOKEN}", f"{TOKEN}\nx", f"“{TOKEN}”"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(server, token):
    with pytest.raises(PermanentFailure, match="ALYX_TOKEN") as failure:
        Alyx(server.url, token)
    assert TOKEN not in str(failure.value)


def _quotes(status: int, kind: str) -> Act:
    """A proxy that shows the request's headers in its error page."""

    def act(handler: Handler) -> None:
        said = f"headers: {handler.headers.get('Authorization')}"
        body = f"<title>{said}</title>".encode() if "html" in kind else {"detail": said}
        says(status, body, kind)(handler)

    return act


@pytest.mark.parametrize(
    "act",
    [
        *(_quotes(status, "text/html") for status in (200, 400, 403, 404, 500, 502)),
        *(_quotes(status, "application/json") for status in (400, 403, 500, 503)),
        says(403, {"detail": "Invalid token."}),
        says(302, {}, Location="http://elsewhere.example.org/"),
        says(429, {}, retry_after="999"),
        drops,
        cut_short,
        hangs,
    ],
)
@pytest.mark.parametrize("method", ["read", "create", "update"])
def test_the_token_is_in_no_error_log_or_repr(make, caplog, capfd, act, method):
    caplog.set_level(logging.DEBUG)
    client = make(act, timeout_s=0.1, deadline_s=5, tries=2)
    with pytest.raises((PermanentFailure, TransientFailure)) as failure:
        getattr(client, method)(
            "sessions", *{"read": (EID,), "update": (EID, {})}.get(method, ({},))
        )
    text = io.StringIO()
    traceback.print_exception(failure.value, file=text)
    shown = [text.getvalue(), caplog.text, repr(client), repr(failure.value), *capfd.readouterr()]
    shown += [
        repr(vars(error)) for error in _chain(failure.value) if isinstance(error, AlyxRefused)
    ]
    shown += [repr(vars(record)) for record in caplog.records]
    assert caplog.records
    assert not [words for words in shown if TOKEN in words]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
