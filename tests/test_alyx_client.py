"""The client of Alyx against servers that misbehave in every way that was seen or feared."""

import io
import json
import logging
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest

from neuro_assets.config import AlyxConfig
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.resources.alyx.client import Alyx, AlyxRefused, NotAlyx, TokenRefused
from neuro_assets.resources.alyx.resource import AlyxResource

SAMPLES = Path(
    os.environ.get(
        "NEURO_ASSETS_ALYX_SAMPLES", Path(__file__).parents[2] / "shared" / "alyx-samples"
    )
)
TOKEN = "5ecre7-t0ken-0f-the-lab"
DATE = "Fri, 20 Nov 2026 22:00:17 GMT"
EID = "bef15ba9-8135-4be7-9753-4f5409f98e32"
LOGIN_PAGE = b"<!doctype html><html><head><title>Sign in to\n LabNet</title></head></html>"
EMPTY = {"count": 0, "next": None, "previous": None, "results": []}

Act = Callable[["Handler"], None]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    port: int


@dataclass
class Scripted:
    """A server that acts one item of a script for each request, and the last one for ever."""

    acts: list[Act] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def next_act(self) -> Act:
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Scripted

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has hung up, which it is meant to
            self.close_connection = True

    def act(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.script.seen.append(
            Seen(
                self.command,
                self.path,
                dict(self.headers),
                json.loads(body) if body else None,
                self.client_address[1],
            )
        )
        self.script.next_act()(self)

    def do_GET(self) -> None:
        self.act()

    def do_POST(self) -> None:
        self.act()

    def do_PATCH(self) -> None:
        self.act()

    def log_message(self, *args: object) -> None:
        pass


def says(
    status: int, body: Any = None, kind: str = "application/json", date: str = DATE, **headers: str
) -> Act:
    """Answer; `retry_after="1"` becomes the header `retry-after`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(handler: Handler) -> None:
        handler.send_response_only(status)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Type": kind, "Date": date, **more}.items():
            if value:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def page(rows: list[dict[str, Any]], count: int | None = None) -> Act:
    return says(200, {**EMPTY, "count": len(rows) if count is None else count, "results": rows})


def html(status: int, body: bytes = LOGIN_PAGE) -> Act:
    return says(status, body, "text/html; charset=utf-8")


def drops(handler: Handler) -> None:
    """Hang up without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def hangs(handler: Handler) -> None:
    handler.script.ended.wait()
    handler.close_connection = True


def drips_body(handler: Handler) -> None:
    """Send a good answer, a byte at a time, for ten seconds."""
    body = json.dumps(EMPTY).encode()
    handler.send_response_only(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) + 500))
    handler.end_headers()
    _drip(handler, body + b" " * 500)


def drips_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x" * 500 + b"\r\nContent-Length: 2\r\n\r\n{}")


def _drip(handler: Handler, data: bytes) -> None:
    for number in data:
        if handler.script.ended.wait(0.02):
            break
        handler.wfile.write(bytes([number]))


def cut_short(handler: Handler) -> None:
    """Promise more than is sent."""
    handler.send_response_only(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"count": 1, ')
    handler.close_connection = True


def recorded(name: str) -> tuple[dict[str, Any], Act]:
    """The request and the answer of a sample."""
    path = SAMPLES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recorded answers of Alyx are not at {SAMPLES}")
    exchange = json.loads(path.read_text("utf-8"))["exchanges"][0]
    answer = exchange["response"]
    body, kind = answer["body"], answer["headers"]["Content-Type"]
    return exchange["request"], says(
        answer["status"], body.encode() if isinstance(body, str) else body, kind
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, nobody to ask, and no proxy before 127.0.0.1."""

    def ask(*args: object) -> str:
        pytest.fail("somebody was asked")

    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("getpass.getpass", ask)
    return folder


@pytest.fixture
def server() -> Iterator[Scripted]:
    script = Scripted()
    handler = type("Bound", (Handler,), {"script": script})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    script.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield script
    script.ended.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def make(server: Scripted, waits: list[float]) -> Callable[..., Alyx]:
    def made(*acts: Act, **options: Any) -> Alyx:
        server.acts[:] = acts
        url, token = options.pop("url", server.url), options.pop("token", TOKEN)
        return Alyx(url, token, **{"sleep": waits.append, **options})

    return made


def test_a_request_carries_what_ones_own_client_sends(make, server, home):
    from one.webclient import AlyxClient

    client = make(says(200, {"username": "lab"}), page([]))
    theirs = AlyxClient(server.url, "lab", token=TOKEN, silent=True, cache_rest=None)
    theirs.get("/sessions?limit=1&django=start_time__gte%2C2026-11-20T10%3A00%3A00")
    theirs.post("/sessions", data={"subject": "Ä 1", "projects": ["a"]})
    client.get("sessions", limit=1, django="start_time__gte,2026-11-20T10:00:00")
    client.create("sessions", {"subject": "Ä 1", "projects": ["a"]})

    _, their_get, their_post, our_get, our_post = server.seen
    for ours, one in ((our_get, their_get), (our_post, their_post)):
        assert (ours.method, ours.path, ours.body) == (one.method, one.path, one.body)
        assert ours.headers == one.headers


def test_nothing_is_written_to_the_home_directory_nor_read_from_it(make, server, home):
    (home / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (home / ".netrc").chmod(0o600)
    client = make(page([{"id": "1"}]), says(403, {"detail": "Invalid token."}), token="")
    client.rows("sessions", most=5)
    with pytest.raises(TokenRefused):
        client.get("sessions")
    assert [path.name for path in home.rglob("*")] == [".netrc"]
    assert all("Authorization" not in seen.headers for seen in server.seen)


def test_cookies_of_the_server_are_not_sent_back(make, server):
    client = make(says(200, {}, Set_Cookie="sessionid=1; Path=/"))
    client.get("sessions")
    client.create("sessions", {})
    assert all("Cookie" not in seen.headers for seen in server.seen)


def test_one_connection_is_kept_for_reading_and_a_new_one_made_for_each_post(make, server):
    client = make(says(200, {}))
    client.get("sessions")
    client.get("sessions")
    client.create("sessions", {})
    client.create("sessions", {})
    ports = [seen.port for seen in server.seen]
    assert ports[0] == ports[1]
    assert len(set(ports[1:])) == 3


def test_a_copy_in_another_process_makes_its_own_connection(make, server):
    client = make(says(200, {}), sleep=_no_sleep)
    client.get("sessions")
    child = multiprocessing.get_context("fork").Process(target=client.get, args=("child",))
    child.start()
    child.join()
    assert child.exitcode == 0
    client.get("sessions")
    pickle.loads(pickle.dumps(client)).get("copy")
    before, forked, after, copied = (seen.port for seen in server.seen)
    assert before == after
    assert len({before, forked, copied}) == 3


def _no_sleep(seconds: float) -> None:
    pass


@pytest.mark.parametrize("act", [drips_body, drips_header, hangs])
def test_a_server_that_never_comes_to_an_end_is_given_up_at_the_deadline(make, act):
    client = make(act, timeout_s=30, deadline_s=0.15)
    with pytest.raises(TransientFailure, match=r"no whole answer within 0\.15 s"):
        client.get("sessions")


def test_what_hung_is_not_left_behind(make):
    client = make(drips_header, timeout_s=30, deadline_s=0.15)
    with pytest.raises(TransientFailure):
        client.get("sessions")
    for thread in [each for each in threading.enumerate() if each.name == "alyx-request"]:
        thread.join(5)
        assert not thread.is_alive()


def test_a_silent_server_is_asked_again_after_the_socket_timeout(make, server, waits):
    client = make(hangs, says(200, {"ok": 1}), timeout_s=0.1)
    assert client.get("sessions") == {"ok": 1}
    assert len(waits) == 1
    assert client.n_requests == len(server.seen) == 2


def test_a_name_server_that_hangs_is_given_up_at_the_deadline(make, server, monkeypatch):
    asked = threading.Event()

    def lookup(*args: object, **kwargs: object) -> None:
        asked.set()
        server.ended.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    client = make(says(200, {}), url="http://alyx.example.org", deadline_s=0.15)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(TransientFailure, match="no whole answer"):
        client.create("sessions", {})
    assert asked.is_set()


def test_what_connects_after_the_deadline_sends_nothing_any_more(make, server, monkeypatch):
    goes_on, real = threading.Event(), socket.getaddrinfo

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        goes_on.wait()
        return real(host, *args, **kwargs)

    client = make(says(201, {}), deadline_s=0.15)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(TransientFailure) as failure:
        client.create("sessions", {})
    assert "may have been done" not in str(failure.value)
    workers = [each for each in threading.enumerate() if each.name == "alyx-request"]
    assert workers
    goes_on.set()
    for worker in workers:
        worker.join(5)
    assert server.seen == []


@pytest.mark.parametrize(
    "act",
    [drops, cut_short, html(502), html(504), says(503, {}), says(500, {"detail": "odd"})],
    ids=["drop", "cut short", "502", "504", "503", "500"],
)
def test_what_may_pass_is_asked_again_with_growing_pauses(make, server, waits, act):
    client = make(act, act, act, act, act, says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert len(server.seen) == client.n_requests == 6
    for wait, base in zip(waits, (0.5, 1, 2, 4, 8), strict=True):
        assert base / 2 <= wait <= base


def test_broken_json_with_a_good_status_is_asked_again(make, waits):
    client = make(says(200, b'{"count": '), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert len(waits) == 1


def test_after_the_last_try_the_failure_says_what_was_asked_and_what_happened(make, server, waits):
    client = make(says(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html"), tries=3)
    with pytest.raises(TransientFailure) as failure:
        client.get("sessions", django="auto_datetime__gte,2026-11-20")
    words = str(failure.value)
    assert f"GET {server.url}/sessions?django=auto_datetime__gte%2C2026-11-20" in words
    assert "failed with 502: 502 Bad Gateway" in words
    assert "\n" not in words
    assert (len(waits), client.n_requests) == (2, 3)


@pytest.mark.parametrize(
    ("said", "least"), [("7", 7.0), ("Fri, 20 Nov 2026 22:00:24 GMT", 7.0), ("0", 0.0)]
)
def test_a_throttled_request_waits_as_long_as_it_is_asked_to(make, waits, said, least):
    client = make(says(429, {"detail": "throttled"}, retry_after=said), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert least <= waits[0] <= least + 1.0


@pytest.mark.parametrize("said", ["", "soon", "-3", "nan", "Fri, 99 Nov 2026 22:00:24 GMT"])
def test_a_throttled_request_without_a_sensible_time_backs_off(make, waits, said):
    client = make(says(429, {}, retry_after=said), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert 0.25 <= waits[0] <= 0.5


def test_the_recorded_throttling_is_waited_for(make, waits):
    path = SAMPLES / "91-throttle-429.json"
    if not path.is_file():
        pytest.skip(f"the recorded answers of Alyx are not at {SAMPLES}")
    first = json.loads(path.read_text("utf-8"))["summary"]["first_429"]
    act = says(429, first["body"], retry_after=first["headers"]["Retry-After"])
    assert make(act, says(200, {})).get("sessions") == {}
    assert 1.0 <= waits[0] <= 2.0


@pytest.mark.parametrize("retry_after", ["61", "3600"])
def test_a_longer_wait_than_an_honest_throttle_asks_is_not_waited_for(make, waits, retry_after):
    client = make(says(429, {}, retry_after=retry_after), deadline_s=10_000)
    with pytest.raises(TransientFailure, match=f"wait {retry_after} s"):
        client.get("sessions")
    assert waits == []


def test_a_wait_that_ends_after_the_deadline_is_not_begun(make, waits):
    client = make(says(429, {}, retry_after="20"), deadline_s=15)
    with pytest.raises(TransientFailure, match="no time left of 15 s"):
        client.get("sessions")
    assert waits == []


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


@pytest.mark.parametrize(
    "act",
    [drops, cut_short, html(502), says(503, {}), says(500, {"detail": "odd"}), says(201, b"{")],
    ids=["drop", "cut short", "502", "503", "500", "broken"],
)
def test_a_post_that_may_have_arrived_is_not_sent_again(make, server, act):
    client = make(act)
    with pytest.raises(TransientFailure, match="it may have been done"):
        client.create("register-file", {"name": "repo"})
    assert len(server.seen) == 1


def test_a_post_that_hangs_is_not_sent_again(make, server):
    client = make(hangs, deadline_s=0.15)
    with pytest.raises(TransientFailure, match="it may have been done"):
        client.create("register-file", {})
    assert len(server.seen) == 1


def test_a_throttled_post_is_sent_again(make, server, waits):
    client = make(says(429, {}, retry_after="1"), says(201, {"id": "1"}))
    assert client.create("sessions", {"number": 1}) == {"id": "1"}
    assert [seen.body for seen in server.seen] == [{"number": 1}] * 2


def test_a_post_that_found_nobody_is_sent_again(make, waits):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = make(says(201, {}), url=closed, tries=3)
    with pytest.raises(TransientFailure, match="refuses the connection"):
        client.create("sessions", {})
    assert len(waits) == 2


def test_a_patch_is_sent_again(make, server):
    client = make(drops, says(200, {"qc": "PASS"}))
    assert client.update("sessions", EID, {"qc": "PASS"}) == {"qc": "PASS"}
    assert [(seen.method, seen.path) for seen in server.seen] == [("PATCH", f"/sessions/{EID}")] * 2


def test_a_host_that_does_not_exist_is_told_apart(make, monkeypatch):
    def lookup(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    client = make(says(200, {}), url="https://alyx.example.org", tries=2)
    with pytest.raises(TransientFailure, match="does not resolve"):
        client.get("sessions")


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


def test_the_date_of_a_page_is_the_servers_clock(make):
    client = make(page([]))
    moment = datetime(2026, 11, 20, 22, 0, 17, tzinfo=UTC)
    found = client.page("sessions")
    assert (found.date, client.date) == (moment, moment)
    assert found.date.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 20 Nov 2026 25:00:17 GMT", "0"])
def test_only_who_needs_the_date_is_stopped_by_a_missing_one(make, date):
    client = make(says(200, EMPTY, date=date))
    assert client.rows("sessions", most=1) == []
    assert client.date is None
    with pytest.raises(PermanentFailure, match="Date header"):
        client.page("sessions")
    with pytest.raises(PermanentFailure, match="Date header"):
        next(client.pages("sessions", most=1))


def test_pages_ask_for_a_thousand_and_go_on_from_what_came(make, server):
    def asked(number: int) -> dict[str, Any]:
        query = parse_qs(urlsplit(server.seen[number].path).query)
        return {name: values[0] for name, values in query.items()}

    def rows(first: int, last: int) -> list[dict[str, Any]]:
        return [{"id": str(number)} for number in range(first, last)]

    client = make(page(rows(0, 1000), 1200), page(rows(900, 1000), 1200), page(rows(1000, 1100)))
    found = list(client.pages("sessions", most=1200, project="a b&c", exists=True))
    assert [(len(each.rows), each.count) for each in found] == [
        (1000, 1200),
        (100, 1200),
        (100, 100),
    ]
    assert asked(0) == {"project": "a b&c", "exists": "True", "limit": "1000", "offset": "0"}
    assert [asked(number)["offset"] for number in (1, 2)] == ["1000", "1100"]


def test_rows_come_once_each_in_their_newest_state(make):
    first = page([{"id": "1", "qc": "PASS"}, {"id": "2"}], 4)
    client = make(first, page([{"id": "1", "qc": "FAIL"}, {"id": "3"}], 4))
    assert client.rows("sessions", most=9) == [{"id": "1", "qc": "FAIL"}, {"id": "2"}, {"id": "3"}]


def test_rows_without_an_id_are_known_by_url_or_name(make):
    urls = [{"url": f"http://a/datasets/{name}", "name": "same"} for name in "112"]
    assert len(make(page(urls)).rows("datasets", most=9)) == 2
    assert len(make(page([{"name": "a"}, {"name": "b"}])).rows("projects", most=9)) == 2


def test_an_empty_page_ends_the_list_whatever_the_count_says(make, server):
    assert make(page([], 7)).rows("sessions", most=9) == []
    assert len(server.seen) == 1


def test_a_list_longer_than_can_be_is_stopped(make, server):
    client = make(page([{"id": "1"}], 10_001))
    with pytest.raises(PermanentFailure, match=r"10001 sessions .* at most 50 .* ignores filters"):
        client.rows("sessions", most=50, projekt="psyche")
    assert len(server.seen) == 1


def test_names_are_encoded_and_cannot_reach_another_endpoint(make, server):
    client = make(says(404, {"detail": "Not found."}))
    assert client.read("subjects", "M 1/2?x=#ä") is None
    assert server.seen[0].path == "/subjects/M%201%2F2%3Fx%3D%23%C3%A4"
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="names no row"):
            client.read("sessions", name)


@pytest.mark.parametrize("value", [None, ["a"], 1.5])
def test_a_filter_that_is_no_text_or_number_is_an_error_of_the_caller(make, value):
    with pytest.raises(TypeError, match="filter lab of sessions"):
        make(page([])).page("sessions", lab=value)


def test_a_body_can_be_sent_with_a_get(make, server):
    make(says(200, {"status_code": 403})).get("check-protected", data={"path": "a"})
    assert (server.seen[0].method, server.seen[0].body) == ("GET", {"path": "a"})


def test_notices_of_alyx_are_logged_as_one_does(make, caplog):
    caplog.set_level(logging.INFO)
    make(says(200, {}, Alyx_API_Notice="maintenance at noon")).get("sessions")
    assert "maintenance at noon" in caplog.text


def test_the_package_and_its_resource_load_without_one():
    code = (
        "import sys, neuro_assets.resources.alyx as alyx; alyx.AlyxResource, alyx.Alyx;"
        "from neuro_assets.resources.alyx import AlyxRefused;"
        "sys.exit(', '.join({'one', 'iblutil'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.returncode) == ("", 0)


def test_the_resource_takes_the_token_from_the_environment_when_it_is_used(
    server, monkeypatch, make
):
    monkeypatch.delenv("ALYX_TOKEN", raising=False)
    config = AlyxConfig(url=f"{server.url}/", timeout_s=7, deadline_s=9)
    resource = AlyxResource.of(config)
    assert (resource.url, resource.timeout_s, resource.deadline_s) == (server.url, 7, 9)
    make(says(403, {"detail": "Authentication credentials were not provided."}))
    with pytest.raises(TokenRefused, match="set ALYX_TOKEN"):
        resource.client().get("sessions")
    monkeypatch.setenv("ALYX_TOKEN", f"{TOKEN}\n")
    make(says(200, {}))
    for each in (resource, AlyxResource.of(config)):
        each.client().get("sessions")
        assert server.seen[-1].headers["Authorization"] == f"Token {TOKEN}"
        assert TOKEN not in repr(each)
    assert "Authorization" not in server.seen[0].headers


def test_dagster_puts_the_token_into_the_resource(server, monkeypatch, make):
    monkeypatch.setenv("ALYX_TOKEN", TOKEN)
    make(says(200, {"ok": 1}))

    @dg.asset
    def answer(alyx: AlyxResource) -> bool:
        assert TOKEN not in repr(alyx)
        return alyx.client().get("sessions") == {"ok": 1}

    resources = {"alyx": AlyxResource.of(AlyxConfig(url=server.url))}
    result = dg.materialize([answer], resources=resources)
    assert result.output_for_node("answer") is True
    assert server.seen[0].headers["Authorization"] == f"Token {TOKEN}"
    assert not [event for event in result.all_events if TOKEN in str(event)]


def test_a_resource_needs_an_address():
    with pytest.raises(PermanentFailure, match=r"lab\.yaml"):
        AlyxResource.of(AlyxConfig())


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
    client = make(act, timeout_s=0.1, tries=2)
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
    assert "one.webclient" in {record.name for record in caplog.records}
    assert not [words for words in shown if TOKEN in words]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
