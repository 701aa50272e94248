"""The client of Alyx: what it asks for, pages, rows, and the resource that makes it."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_alyx.server import AlyxServer
from scripted_http import (
    EMPTY,
    TOKEN,
    home,
    make,
    page,
    says,
    server,
    waits,
)

from neuro_assets.alyx.client import Alyx, TokenRefused, connect
from neuro_assets.config import AlyxConfig
from neuro_assets.outcomes import PermanentFailure, TransientFailure

__all__ = ["home", "make", "server", "waits"]  # fixtures


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
        for name in ("Accept", "Content-Type", "Authorization"):
            assert ours.headers[name] == one.headers[name]


def test_nothing_is_written_to_the_home_directory_nor_read_from_it(make, server, home):
    (home / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (home / ".netrc").chmod(0o600)
    client = make(page([{"id": "1"}]), says(403, {"detail": "Invalid token."}), token="")
    client.rows("sessions", most=5)
    with pytest.raises(TokenRefused):
        client.get("sessions")
    assert [path.name for path in home.rglob("*")] == [".netrc"]
    assert all("Authorization" not in seen.headers for seen in server.seen)


def test_the_date_of_a_page_is_the_servers_clock(make):
    client = make(page([]))
    moment = datetime(2026, 11, 20, 22, 0, 17, tzinfo=UTC)
    found = client.page("sessions")
    assert (found.date, client.date) == (moment, moment)
    assert found.date.utcoffset().total_seconds() == 0


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Fri, 20 Nov 2026 25:00:17 GMT", "Fri, 20 Nov 2026 22:00:17"]
)
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
    client = make(page([{"id": "1"}], 10_001), page([]))
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


def test_notices_of_alyx_are_logged(make, caplog):
    caplog.set_level(logging.INFO)
    make(says(200, {}, Alyx_API_Notice="maintenance at noon")).get("sessions")
    assert "maintenance at noon" in caplog.text


def test_the_package_loads_without_one():
    code = (
        "import sys, neuro_assets.alyx, neuro_assets.definitions;"
        "sys.exit(', '.join({'one', 'iblutil'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.returncode) == ("", 0)


def test_a_client_takes_the_token_from_the_environment(server, monkeypatch, make):
    monkeypatch.delenv("ALYX_TOKEN", raising=False)
    config = AlyxConfig(url=f"{server.url}/", timeout_s=7, deadline_s=9)
    make(says(403, {"detail": "Authentication credentials were not provided."}))
    with pytest.raises(TokenRefused, match="set ALYX_TOKEN"):
        connect(config).get("sessions")
    monkeypatch.setenv("ALYX_TOKEN", f"{TOKEN}\n")
    make(says(200, {}))
    client = connect(config)
    client.get("sessions")
    assert server.seen[-1].headers["Authorization"] == f"Token {TOKEN}"
    assert TOKEN not in repr(client)
    assert "Authorization" not in server.seen[0].headers


def test_a_client_needs_an_address():
    with pytest.raises(PermanentFailure, match=r"lab\.yaml"):
        connect(AlyxConfig())


@pytest.fixture
def alyx() -> Iterator[AlyxServer]:
    with AlyxServer() as server:
        yield server


@pytest.fixture
def one(alyx: AlyxServer) -> Any:
    """ONE's own client, as people use it."""
    from one.webclient import AlyxClient

    return AlyxClient(alyx.url, alyx.user, alyx.password, silent=True, cache_rest=None)


@pytest.fixture
def client(alyx: AlyxServer, waits: list[float]) -> Alyx:
    return Alyx(alyx.url, alyx.token, sleep=waits.append)


def test_lists_and_rows_are_what_ones_own_client_gets(alyx, one, client):
    for number in range(1, 1_203):
        alyx.add_session("M1", "2026-01-15", number, lab="lab")
    alyx.advance(60)
    late = alyx.add_session("M 2 ", "2026-01-16", 1, projects=["a, b&c"], lab="lab")
    alyx.add_dataset(late["id"], "alf/_ibl_trials.table.pqt")
    filters = {"django": "start_time__gte,2026-01-15,number__gt,2", "lab": "lab"}
    theirs = one.rest("sessions", "list", **filters)
    ours = client.rows("sessions", most=2_000, **filters)
    assert len(ours) == 1_200
    assert {row["id"]: row for row in ours} == {row["id"]: row for row in theirs}
    assert client.n_requests == 2
    for endpoint in ("sessions", "datasets", "subjects", "projects", "labs", "data-repository"):
        assert client.rows(endpoint, most=2_000) == list(one.rest(endpoint, "list"))
    project = {"project": "a, b&c"}
    assert client.rows("sessions", most=1, **project) == one.rest("sessions", "list", **project)
    assert client.read("sessions", late["id"]) == one.rest("sessions", "read", id=late["id"])


def test_what_is_written_is_what_ones_own_client_reads(alyx, one, client):
    row = client.create("sessions", _session(alyx))
    assert one.rest("sessions", "read", id=row["id"])["subject"] == "M1"
    changed = client.update("sessions", row["id"], {"qc": "FAIL", "json": {"a": [1.5, None]}})
    assert (changed["qc"], changed["json"]) == ("FAIL", {"a": [1.5, None]})
    assert one.rest("sessions", "read", id=row["id"]) == changed
    one.rest("sessions", "delete", id=row["id"])
    assert client.read("sessions", row["id"]) is None


def _session(alyx: AlyxServer) -> dict[str, Any]:
    alyx.add_subject("M1")
    return {
        "subject": "M1",
        "start_time": "2026-01-15T10:00:00",
        "number": 1,
        "users": [alyx.user],
        "procedures": [],
        "projects": [],
        "type": "Experiment",
    }


def test_rows_that_move_between_pages_come_once(alyx, client):
    made = [alyx.add_session("M1", "2026-01-15", number) for number in range(1, 1_051)]

    def people_register_another(endpoint: str, offset: int) -> None:
        alyx.add_session("M1", "2026-01-16", offset)

    alyx.between_pages = people_register_another
    rows = client.rows("sessions", most=2_000)
    assert {row["id"] for row in made} <= {row["id"] for row in rows}
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_misspelt_filter_is_stopped_by_the_count(alyx, client):
    for number in range(1, 12):
        alyx.add_session("M1", "2026-01-15", number)
    with pytest.raises(PermanentFailure, match="11 sessions"):
        client.rows("sessions", most=10, subjekt="M2")


def test_a_throttled_database_is_waited_for(alyx, client, waits):
    alyx.throttle(2, retry_after=30)
    client.page("sessions")
    client.page("sessions")

    def wait(seconds: float) -> None:
        waits.append(seconds)
        alyx.advance(61)

    client._sleep = wait
    client.page("sessions")
    assert 30 <= waits[0] <= 31
    assert client.n_requests == 4


def test_an_outage_ends_the_call_and_the_next_one_works(alyx, client, waits):
    alyx.down = True
    with pytest.raises(TransientFailure, match="connection to server"):
        client.page("sessions")
    assert client.n_requests == 6
    alyx.down = False
    assert client.page("sessions").count == 0


def test_a_session_is_created_once_when_the_answer_is_lost(alyx, client):
    data = _session(alyx)
    alyx.drop_connections(1, after=True)
    with pytest.raises(TransientFailure, match="it may have been done"):
        client.create("sessions", data)
    assert client.page("sessions").count == 1


def test_dropped_connections_are_made_again(alyx, client):
    alyx.drop_connections(3)
    assert client.page("sessions").count == 0
    assert client.n_requests == 4
