"""Faults, pages and small oddities of Alyx, as the test server has them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fake_alyx.lookups import NotModelled
from fake_alyx.requests import call, get
from fake_alyx.server import AlyxServer

AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as made:
        yield made


# faults ------------------------------------------------------------------------------------------


def test_above_the_rate_alyx_answers_429_with_retry_after(server: AlyxServer) -> None:
    server.throttle(3)
    codes = [call(server, "GET", "/labs").status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    answer = call(server, "GET", "/labs")
    assert answer.headers["Retry-After"] == "1"
    text = "Request was throttled. Expected available in 1 second."
    assert answer.json() == {"detail": text, "status_code": 429}
    server.advance(60)
    assert call(server, "GET", "/labs").status_code == 200
    server.throttle(None)
    assert [call(server, "GET", "/labs").status_code for _ in range(4)] == [200] * 4


def test_a_hanging_server_does_not_answer_and_still_closes(server: AlyxServer) -> None:
    server.hang_s = 600.0
    with pytest.raises(requests.exceptions.ReadTimeout):
        call(server, "GET", "/labs", timeout=0.1)
    server.hang_s = 0.0
    assert call(server, "GET", "/labs").status_code == 200


def test_a_dropped_connection_leaves_open_whether_the_work_was_done(server: AlyxServer) -> None:
    server.add_subject("M1")
    for after, count in ((False, 0), (True, 1)):
        server.drop_connections(1, after=after)
        with pytest.raises(requests.exceptions.ConnectionError):
            call(server, "POST", "/sessions", json={"subject": "M1"})
        assert get(server, "/sessions")["count"] == count


def test_a_proxy_s_error_is_answered_without_any_work(server: AlyxServer) -> None:
    server.add_subject("M1")
    server.fail_next(2, status=503, Retry_After="7")
    for _ in range(2):
        answer = call(server, "POST", "/sessions", json={"subject": "M1"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert get(server, "/sessions")["count"] == 0


def test_with_the_database_down_every_answer_is_a_500(server: AlyxServer) -> None:
    server.down = True
    for path in ("/sessions", "/labs", "/datasets/x"):
        answer = call(server, "GET", path)
        assert answer.status_code == 500
        assert answer.json()["detail"].startswith('connection to server at "127.0.0.1"')
    server.down = False
    assert get(server, "/sessions")["count"] == 0


def test_one_connection_serves_many_requests(server: AlyxServer) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {server.token}"
        for _ in range(5):
            assert session.get(f"{server.url}/labs", timeout=10).status_code == 200
        assert len(server._listener.connections) == 1
    assert server.log == [("GET", "/labs")] * 5
    assert server.busy_s > 0


def test_what_the_server_does_not_model_is_an_error_and_never_a_wrong_answer() -> None:
    for path in ("/sessions?histology=True", "/sessions?django=field_of_view__isnull,True"):
        server = AlyxServer()
        with pytest.raises(AssertionError, match="test server broke") as broken, server:
            assert call(server, "GET", path).status_code == 501
        assert isinstance(broken.value.__cause__, NotModelled)


def test_requests_at_one_time_leave_the_tables_whole(server: AlyxServer) -> None:
    server.add_project("p")
    server.add_subject("M1")
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(8):
            body = {"subject": "M1", "number": number * 100 + turn, "projects": ["p"]}
            made = call(server, "POST", "/sessions", json=body)
            found = get(server, "/sessions", django=f"id,{made.json()['id']}")
            if found["count"] != 1:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert get(server, "/sessions")["count"] == 48


# pages and small things --------------------------------------------------------------------------


def test_pages_have_250_rows_and_never_more_than_1000(server: AlyxServer) -> None:
    server.load(1003, n_probes=0, session_files=[])
    for query, n in (
        ({}, 250),
        ({"limit": 0}, 250),
        ({"limit": "many"}, 250),
        ({"limit": 7}, 7),
        ({"limit": 100000}, 1000),
        ({"limit": 1000, "offset": 1000}, 3),
        ({"offset": 5000}, 0),
    ):
        page = get(server, "/sessions", **query)
        assert (page["count"], len(page["results"])) == (1003, n), query
    page = get(server, "/sessions", limit=250, offset=250, lab="lab")
    assert page["next"] == f"{server.url}/sessions?lab=lab&limit=250&offset=500"
    assert page["previous"] == f"{server.url}/sessions?lab=lab&limit=250"


def test_a_task_without_status_breaks_every_answer_that_it_is_in(server: AlyxServer) -> None:
    """Read in Alyx's code: the column's default is none of its choices."""
    eid = server.add_session("M1", "2026-01-15", 1)["id"]
    answer = call(server, "POST", "/tasks", json={"name": "t", "session": eid, "arguments": {}})
    assert (answer.status_code, answer.json()["detail"]) == (500, "list index out of range")
    assert call(server, "GET", "/tasks").status_code == 500


def test_tasks_come_by_level_then_priority_then_newest_session(server: AlyxServer) -> None:
    eids = [server.add_session("M1", f"2026-01-{day}", 1)["id"] for day in (15, 16)]
    for eid in eids:
        for level, priority in ((1, 50), (0, 10), (0, 60), (None, 90), (0, None)):
            name = f"{level} {priority} {eids.index(eid)}"
            body = {"name": name, "session": eid, "level": level, "priority": priority}
            call(server, "POST", "/tasks", json={**body, "status": "Waiting"})
    names = [row["name"] for row in get(server, "/tasks")["results"]]
    order = ["0 None", "0 60", "0 10", "1 50", "None 90"]
    assert names == [f"{name} {eid}" for name in order for eid in (1, 0)]


def test_a_browser_gets_a_page_and_a_head_request_no_body(server: AlyxServer) -> None:
    page = call(server, "GET", "/labs", headers={"Accept": "text/html"})
    assert page.headers["Content-Type"].startswith("text/html")
    head = call(server, "HEAD", "/labs")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0
    assert call(server, "GET", "/labs/").status_code == 404
    assert call(server, "DELETE", "/labs").json()["detail"] == 'Method "DELETE" not allowed.'


def test_rows_that_alyx_could_not_hold_are_refused_to_tests_too(server: AlyxServer) -> None:
    one, two = (server.add_session("M1", "2026-01-15", 1)["id"] for _ in range(2))
    server.add_dataset(one, AP, exists=["central"])
    with pytest.raises(ValueError, match="already"):
        server.add_dataset(one, AP)
    with pytest.raises(ValueError, match="another session holds"):
        server.add_dataset(two, AP)
    server.add_insertion(one)
    with pytest.raises(ValueError, match="already"):
        server.add_insertion(one)
    assert get(server, "/sessions", subject="M1", number=1)["count"] == 2


def test_loaded_rows_are_the_same_as_added_ones(server: AlyxServer) -> None:
    eid, other = server.load(2)
    server.patch_session(other, number=9)
    paths = {x["relative_path"][:22] for row in server.datasets(other) for x in row["file_records"]}
    assert {path.split("/")[2] for path in paths} == {"001"}
    session = server.session(eid)
    assert len(session["probe_insertion"]) == 2
    assert len(session["data_dataset_session_related"]) == len(server.datasets(eid)) == 25
    assert all(len(row["datasets"]) == 10 for row in session["probe_insertion"])
    added = server.add_session("M1", "2026-01-15", 1)["id"]
    row = server.add_dataset(added, AP, hash="a", size=1, exists=["central", "lab_server"])
    loaded = next(x for x in server.datasets(eid) if x["dataset_type"] == "ephysData.raw.ap")
    assert {name: type(value) for name, value in row.items()} == {
        name: type(value) for name, value in loaded.items()
    }
    record = loaded["file_records"][1]
    assert call(server, "GET", f"/files/{record['id']}").json()["exists"] is True
    server.patch_session(eid, number=9)
    again = server.dataset(loaded["url"][-36:])["file_records"]
    assert [x["relative_path"] for x in again] == [
        x["relative_path"] for x in loaded["file_records"]
    ]
    assert session["auto_datetime"] < server.local_now().isoformat()


def test_an_added_revision_takes_the_default_from_the_one_before(server: AlyxServer) -> None:
    eid = server.add_session("M1", "2026-01-15", 1)["id"]
    for revision, default in (("", True), ("2026-01-20", True), ("2026-01-21", False)):
        server.add_dataset(eid, "alf/spikes.times.npy", revision=revision, default=default)
    flags = {row["revision"]: row["default_dataset"] for row in server.datasets(eid)}
    assert flags == {"": False, "2026-01-20": True, "2026-01-21": False}


def test_a_dataset_type_is_found_without_regard_to_case(server: AlyxServer) -> None:
    eid = server.add_session("M1", "2026-01-15", 1)["id"]
    made = server.add_dataset_type("wheel.velocity", "*Wheel.Velocity*")
    assert made["filename_pattern"] == "*wheel.velocity*"
    patterns = [row["filename_pattern"] for row in get(server, "/dataset-types")["results"]]
    assert len(patterns) > 40
    assert patterns == [pattern.lower() for pattern in patterns]
    row = server.add_dataset(eid, "alf/_ibl_wheel.velocity.npy")
    assert row["dataset_type"] == "wheel.velocity"
    other = server.add_dataset(eid, "alf/_lab_paws.speed.npy")
    assert other["dataset_type"] == "paws.speed"
