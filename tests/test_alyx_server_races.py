"""The Alyx test server's nastiness: races between pages, clocks, faults, and Django's filters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests
from alyx_server import AlyxServer
from alyx_server_lookups import NotModelled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as made:
        yield made


def call(server: AlyxServer, method: str, path: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Token {server.token}", **more.pop("headers", {})}
    return requests.request(method, server.url + path, headers=headers, **{"timeout": 10, **more})


def get(server: AlyxServer, path: str, **query: Any) -> Any:
    answer = call(server, "GET", path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row.get("id") or row["url"][-36:] for row in rows]


def walk(server: AlyxServer, path: str, act: Callable[[], None], **query: Any) -> list[str]:
    """Ids of all pages of 250; `act` happens once, after the first."""
    done: list[int] = []

    def between(endpoint: str, offset: int) -> None:
        if not done:
            done.append(offset)
            act()

    server.between_pages = between
    found, offset = [], 0
    while True:
        page = get(server, path, limit=250, offset=offset, **query)
        found += ids(page["results"])
        if page["next"] is None:
            server.between_pages = None
            assert done == [250]
            return found
        offset += 250


# races of paging (ALYX.md, section 6) ------------------------------------------------------------


def test_edits_between_pages_of_datasets_lose_rows(server: AlyxServer) -> None:
    server.load(40, n_probes=2)
    rows = list(server.tables.datasets)
    first_page = [row.id for row in rows[:250]]
    quiet = walk(server, "/datasets", lambda: None)
    assert sorted(quiet) == sorted(row.id for row in rows)

    def edit() -> None:
        for dataset in first_page[:40]:
            server.patch_dataset(dataset, qc="PASS")

    found = walk(server, "/datasets", edit)
    assert len(found) == 1000
    # Each edited row left its place: as many others slid into a page that was already read.
    assert len(set(found)) == 960


def test_a_closed_window_loses_sessions_that_are_edited_during_the_walk(
    server: AlyxServer,
) -> None:
    eids = server.load(700, n_probes=0, session_files=[], days=300)
    end = server.local_now().isoformat()
    window = f"auto_datetime__gte,2020-01-01T00:00:00,auto_datetime__lt,{end}"

    def edit() -> None:
        for eid in eids[:40]:
            server.patch_session(eid)

    server.advance(60)
    found = walk(server, "/sessions", edit, django=window)
    assert set(eids) - set(found) == set(eids[:40])


def test_an_open_window_loses_no_session_that_is_edited_during_the_walk(
    server: AlyxServer,
) -> None:
    eids = server.load(700, n_probes=0, session_files=[], days=300)

    def edit() -> None:
        for eid in eids[:20] + eids[-20:]:
            server.patch_session(eid, qc="PASS")

    server.advance(60)
    found = walk(server, "/sessions", edit, django="auto_datetime__gte,2020-01-01T00:00:00")
    assert sorted(found) == sorted(eids)


def test_sessions_created_during_the_walk_come_as_duplicates_of_others(
    server: AlyxServer,
) -> None:
    eids = server.load(700, n_probes=0, session_files=[], days=300)

    def create() -> None:
        for number in range(10):
            server.add_session("M1", "2026-11-20", number)

    found = walk(server, "/sessions", create, django="auto_datetime__gte,2020-01-01T00:00:00")
    assert set(found) == set(eids)
    assert len(found) == 710


def test_deletions_during_the_walk_lose_sessions_that_survive(server: AlyxServer) -> None:
    eids = server.load(700, n_probes=0, session_files=[], days=300)
    gone = eids[-10:]

    def delete() -> None:
        for eid in gone:
            server.delete_session(eid)

    found = walk(server, "/sessions", delete, django="auto_datetime__gte,2020-01-01T00:00:00")
    assert len(set(eids) - set(gone) - set(found)) == 10


def test_sessions_of_one_start_time_change_their_order_when_they_are_edited(
    server: AlyxServer,
) -> None:
    eids = [server.add_session(f"M{number}", "2026-01-15", 1)["id"] for number in range(300)]
    assert walk(server, "/sessions", lambda: None) == eids
    found = walk(server, "/sessions", lambda: server.patch_session(eids[0]) and None)
    assert len(set(found)) == 299


def test_a_session_is_seen_before_its_projects_are_attached(server: AlyxServer) -> None:
    server.add_subject("M1", lab="lab")
    server.add_project("p")
    server.add_project("a")
    seen: list[Any] = []
    # From another connection, while the creating request is still under way.
    server.before_projects = lambda eid: seen.append(get(server, f"/sessions/{eid}")["projects"])
    made = call(server, "POST", "/sessions", json={"subject": "M1", "projects": ["p", "a"]}).json()
    assert seen == [[]]
    assert made["projects"] == ["p", "a"]
    late = server.add_session("M1", "2026-01-16", 1)
    server.advance(5)
    server.attach_project(late["id"], "p")
    now = server.session(late["id"])
    assert (now["projects"], now["auto_datetime"]) == (["p"], late["auto_datetime"])


# times -------------------------------------------------------------------------------------------


def test_in_autumn_a_london_server_s_times_jump_back_one_hour(server: AlyxServer) -> None:
    server.now = datetime(2026, 10, 25, 0, 59, 50, tzinfo=UTC)
    first = server.add_session("M1", "2026-10-25", 1)
    server.advance(20)
    second = server.add_session("M1", "2026-10-25", 2)
    assert first["auto_datetime"] == "2026-10-25T01:59:50"
    assert second["auto_datetime"] == "2026-10-25T01:00:10"
    # A cursor that trusts the rows' times misses the later session.
    found = get(server, "/sessions", django=f"auto_datetime__gte,{first['auto_datetime']}")
    assert ids(found["results"]) == [first["id"]]
    answer = call(server, "GET", "/sessions")
    assert answer.headers["Date"] == "Sun, 25 Oct 2026 01:00:10 GMT"
    assert parsedate_to_datetime(answer.headers["Date"]) == server.now


def test_a_time_with_offset_becomes_utc_when_written_and_is_converted_in_a_filter(
    server: AlyxServer,
) -> None:
    server.now = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    made = server.add_session("M1", "2026-07-01", 1)
    assert made["auto_datetime"] == "2026-07-01T13:00:00"
    body = {"start_time": "2026-07-01T10:30:00+05:00"}
    changed = call(server, "PATCH", f"/sessions/{made['id']}", json=body).json()
    assert changed["start_time"] == "2026-07-01T05:30:00"
    for text, count in (
        ("2026-07-01T12:00:00+00:00", 1),
        ("2026-07-01T12:00:01+00:00", 0),
        ("2026-07-01T13:00:00", 1),
        ("2026-07-01T13:00:01", 0),
    ):
        found = get(server, "/sessions", django=f"auto_datetime__gte,{text}")
        assert found["count"] == count, text


def test_the_clock_stands_until_it_is_moved_and_can_follow_the_real_one() -> None:
    with AlyxServer(now=None) as server:
        before = datetime.now(UTC)
        assert before <= server.now <= datetime.now(UTC) + timedelta(seconds=1)
        server.now = datetime(2026, 1, 1, tzinfo=UTC)
        assert (
            server.advance(1.5) == server.now == datetime(2026, 1, 1, 0, 0, 1, 500000, tzinfo=UTC)
        )
        with pytest.raises(ValueError, match="aware"):
            server.now = datetime(2026, 1, 1)


# silent edits ------------------------------------------------------------------------------------


def test_raw_sql_and_relations_edited_by_scripts_move_no_time(server: AlyxServer) -> None:
    eid = server.add_session("M1", "2026-01-15", 1)["id"]
    dataset = server.add_dataset(eid, AP, hash="a", exists=["central"])["url"][-36:]
    session, row = server.session(eid), server.dataset(dataset)
    server.advance(60)
    server.sql("sessions", eid, qc="FAIL", start_time="2026-01-16T10:00:00")
    server.sql("datasets", dataset, hash="b")
    server.tag_dataset(dataset, "2026_Q4_release")
    after, changed = server.session(eid), server.dataset(dataset)
    assert (after["qc"], after["start_time"]) == ("FAIL", "2026-01-16T10:00:00")
    assert after["auto_datetime"] == session["auto_datetime"]
    assert (changed["hash"], changed["tags"]) == ("b", ["2026_Q4_release"])
    assert changed["auto_datetime"] == row["auto_datetime"]
    path = changed["file_records"][0]["relative_path"]
    assert path.startswith("M1/2026-01-15/001/")


def test_a_flip_of_exists_moves_the_dataset_and_not_the_session(server: AlyxServer) -> None:
    server.add_repository("lab_server", lab="lab", personal=True)
    eid = server.add_session("M1", "2026-01-15", 1, lab="lab")["id"]
    row = server.add_dataset(eid, AP, hash="a", exists=["lab_server", "central"])
    session = server.session(eid)
    assert len(session["data_dataset_session_related"]) == 1
    server.advance(60)
    server.set_exists(row["url"][-36:], "central", False)
    after, (changed,) = server.session(eid), server.datasets(eid)
    assert after["auto_datetime"] == session["auto_datetime"]
    assert after["data_dataset_session_related"] == []
    assert changed["auto_datetime"] > row["auto_datetime"]
    flags = {x["data_repository"]: x["exists"] for x in changed["file_records"]}
    assert flags == {"lab_server": True, "central": False}
    assert get(server, "/datasets", exists="True")["count"] == 0
    assert get(server, "/datasets", exists="False")["count"] == 1


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


# filters -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Iterator[AlyxServer]:
    """Four sessions, told apart by their numbers."""
    with AlyxServer() as server:
        server.add_repository("lab_server", lab="lab", personal=True)
        server.add_repository("central", lab="lab")
        raw = {"hash": "abc", "size": 10, "exists": ["lab_server"]}
        one = server.add_session(
            "ZFM-1",
            "2026-01-15",
            1,
            projects=["psychedelics"],
            qc="PASS",
            extended_qc={"task": "PASS", "rate": 0.97, "n": 3},
            json={"IS_MOCK": False},
        )["id"]
        server.add_insertion(one)
        server.add_dataset(one, AP, **raw)
        server.add_dataset(one, "alf/spikes.times.npy", exists=["central"], qc="WARNING")
        two = server.add_session(
            "ZFM-1",
            "2026-01-16",
            2,
            projects=["psychedelics", "brainwide"],
            qc="FAIL",
            lab="other",
            task_protocol="passive",
            extended_qc={"task": "FAIL", "rate": 0.5},
        )["id"]
        server.add_dataset(two, AP, exists=["central"], qc="CRITICAL")
        server.advance(3600)
        server.add_session("ZFM-2", None, 3, json={"IS_MOCK": True, "deep": {"a": [1, 2]}})
        server.add_session("zfm-10", "2026-01-16", 4, projects=["brainwide"], n_trials=400)
        yield server


CASES: list[tuple[dict[str, str], set[int]]] = [
    ({"subject": "zfm-1"}, {1, 2}),
    ({"subject": "ZFM"}, set()),
    ({"project": "psyche"}, {1, 2}),
    ({"projects": "BRAIN"}, {2, 4}),
    ({"lab": "OTHER"}, {2}),
    ({"qc": "fail"}, {2}),
    ({"date_range": "2026-01-15,2026-01-16"}, {1, 2, 4}),
    ({"date_range": "2026-01-16,2026-01-16"}, {2, 4}),
    ({"task_protocol": "PASS"}, {2}),
    ({"number": "3"}, {3}),
    ({"extended_qc": "task,PASS"}, {1}),
    ({"extended_qc": "rate__gte,0.5"}, {1, 2}),
    ({"extended_qc": "rate__gt,0.5,task,PASS"}, {1}),
    ({"extended_qc": "n,3"}, {1}),
    ({"json": "IS_MOCK,False"}, {1}),
    ({"json": "IS_MOCK,True"}, {3}),
    ({"json": "IS_MOCK,0"}, set()),
    ({"dataset_types": "ephysData.raw.ap"}, {1, 2}),
    ({"dataset_types": "ephysData.raw.ap,spikes.times"}, {1}),
    ({"datasets": "spikes.times.npy"}, {1}),
    ({"datasets": AP.rpartition("/")[2]}, set()),
    ({"not_a_filter": "x"}, {1, 2, 3, 4}),
    ({"ordering": "number"}, {1, 2, 3, 4}),
    ({"django": "subject__nickname,ZFM-1"}, {1, 2}),
    ({"django": "subject__nickname__in,['ZFM-1','zfm-10']"}, {1, 2, 4}),
    ({"django": "subject__nickname__iexact,ZFM-10"}, {4}),
    ({"django": "~subject__nickname,ZFM-1"}, {3, 4}),
    ({"django": "start_time__isnull,True"}, {3}),
    ({"django": "start_time,None"}, {3}),
    ({"django": "start_time__gte,2026-01-16"}, {2, 4}),
    ({"django": "~start_time__gte,2026-01-16"}, {1, 3}),
    ({"django": "start_time__date,2026-01-16"}, {2, 4}),
    ({"django": "start_time__date__lt,2026-01-16"}, {1}),
    ({"django": "start_time__year,2026,number__lt,2"}, {1}),
    ({"django": "number__in,[1,4]"}, {1, 4}),
    ({"django": "number__range,[2,3]"}, {2, 3}),
    ({"django": "number__gt,1,number__lte,3"}, {2, 3}),
    ({"django": "number,2"}, {2}),
    ({"django": "number__lt,4,~number__lt,2"}, {2, 3}),
    ({"django": "projects__name__icontains,brain,projects__name,psychedelics"}, {2}),
    ({"django": "~projects__name__icontains,brain"}, {1, 3}),
    ({"django": "projects__isnull,True"}, {3}),
    ({"django": "projects__name__isnull,True"}, {3}),
    ({"django": "qc__gte,30"}, {2}),
    ({"django": "probe_insertion__isnull,False"}, {1}),
    ({"django": "probe_insertion__name,probe00"}, {1}),
    ({"django": "data_dataset_session_related__isnull,True"}, {3, 4}),
    ({"django": "data_dataset_session_related__qc__gte,50"}, {2}),
    ({"django": "data_dataset_session_related__dataset_type__name,spikes.times"}, {1}),
    ({"django": "data_dataset_session_related__file_records__exists,False"}, {1}),
    (
        {
            "django": "data_dataset_session_related__file_records__exists,True,"
            "data_dataset_session_related__file_records__data_repository__globus_is_personal,False"
        },
        {1, 2},
    ),
    ({"django": "data_dataset_session_related__auto_datetime__gte,2026-11-20T22:00:00"}, {1, 2}),
    ({"django": "data_dataset_session_related__auto_datetime__gt,2026-11-20T22:00:00"}, set()),
    ({"django": "auto_datetime__gte,2026-11-20T22:00:00"}, {1, 2, 3, 4}),
    ({"django": "auto_datetime__gt,2026-11-20 22:00:00"}, {3, 4}),
    ({"django": "auto_datetime__gt,2026-11-20T22:00:00,lab__name,lab"}, {3, 4}),
    ({"django": "json__IS_MOCK,True"}, {3}),
    ({"django": "json__deep__a__1,2"}, {3}),
    ({"django": "json__isnull,True"}, {2, 4}),
    ({"django": "extended_qc__task__icontains,pa"}, {1}),
    ({"django": "n_trials__gte,400"}, {4}),
    ({"django": "task_protocol__startswith,pas"}, {2}),
    ({"django": "task_protocol__regex,^p.*e$"}, {2}),
    ({"django": "subject__lab__name,other"}, set()),
    ({"django": "users__username,admin,type,Experiment"}, {1, 2, 3, 4}),
]


@pytest.mark.parametrize(("query", "numbers"), CASES, ids=lambda value: str(value)[:70])
def test_a_filter_finds_the_sessions_that_it_means(
    world: AlyxServer, query: dict[str, str], numbers: set[int]
) -> None:
    rows = get(world, "/sessions", **query)["results"]
    assert {row["number"] for row in rows} == numbers


@pytest.mark.parametrize(
    ("path", "query", "count"),
    [
        (
            "/datasets",
            {
                "django": "session__subject__nickname,ZFM-1,dataset_type__name__in,"
                "['spikes.times','x']"
            },
            1,
        ),
        ("/datasets", {"django": "session__projects__name,brainwide"}, 1),
        ("/datasets", {"django": "probe_insertion__name,probe00"}, 1),
        ("/datasets", {"django": "file_records__data_repository__name,central"}, 3),
        ("/datasets", {"django": "created_datetime__gte,2026-11-20T22:00:00"}, 3),
        ("/datasets", {"created_date_gte": "2026-11-20"}, 3),
        ("/datasets", {"created_date_gte": "2026-11-21"}, 0),
        ("/datasets", {"exists": "True"}, 2),
        ("/datasets", {"exists": "False"}, 1),
        ("/datasets", {"qc": "WARNING"}, 1),
        ("/datasets", {"hash": "abc"}, 1),
        ("/insertions", {"project": "psyche"}, 1),
        ("/insertions", {"django": "session__projects__name,brainwide"}, 0),
        ("/insertions", {"django": "datasets__isnull,False"}, 1),
        ("/insertions", {"dataset_types": "ephysData.raw.ap"}, 1),
        ("/files", {"exists": "True", "data_repository": "central"}, 2),
        ("/data-repository", {"globus_is_personal": "true"}, 1),
        ("/subjects", {"lab": "lab"}, 3),
        ("/subjects", {"django": "nickname__icontains,zfm-1"}, 2),
    ],
)
def test_a_filter_finds_the_rows_of_other_tables(
    world: AlyxServer, path: str, query: dict[str, str], count: int
) -> None:
    assert get(world, path, **query)["count"] == count


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("django=session__nope,1", "Related Field got invalid lookup: nope"),
        ("django=hash__contain,a", "Unsupported lookup 'contain' for CharField"),
        ("django=qc,PASS", "Field 'qc' expected a number but got 'PASS'."),
        ("django=default_dataset,x", "['“x” value must be either True or False.']"),
        ("django=session,x", "['“x” is not a valid UUID.']"),
        ("django=hash__isnull,1", "The QuerySet value for an isnull lookup must be True or"),
        ("django=hash,a,hash,b", 'Duplicated fields in "hash,a,hash,b"'),
        ("django=qc__in,5", "'float' object is not iterable"),
    ],
)
def test_a_bad_filter_is_a_500_with_django_s_text(world: AlyxServer, query: str, text: str) -> None:
    answer = call(world, "GET", f"/datasets?{query}")
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith(text)


def test_a_parameter_that_a_form_checks_is_a_400(world: AlyxServer) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    choice = "Select a valid choice. That choice is not one of the available choices."
    for path, errors in (
        (f"/datasets?session={unknown}", {"session": [choice]}),
        ("/insertions?session=x", {"session": ["Enter a valid UUID."]}),
        ("/sessions?number=x", {"number": ["Enter a number."]}),
    ):
        answer = call(world, "GET", path)
        assert (answer.status_code, answer.json()) == (400, {**errors, "status_code": 400})
    assert get(world, f"/insertions?session={unknown}")["count"] == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "patch", "delete", "sql", "register", "back", "on"]),
            st.integers(0, 30),
        ),
        max_size=40,
    ),
    since=st.integers(-120, 120),
)
def test_the_cursor_finds_exactly_the_rows_whose_time_is_late_enough(
    steps: list[tuple[str, int]], since: int
) -> None:
    with AlyxServer() as server:
        start = server.now
        eids: list[str] = []
        for what, number in steps:
            eid = eids[number % len(eids)] if eids else ""
            if what == "on":
                server.advance(number)
            elif what == "back":
                server.advance(-number)
            elif what == "add" or not eids:
                made = server.add_session("M1", "2026-01-15", len(server.log) + number)
                eids.append(made["id"])
                server.add_insertion(made["id"])
            elif what == "patch":
                server.patch_session(eid)
            elif what == "delete":
                eids.remove(eid)
                server.delete_session(eid)
            elif what == "sql":
                server.sql("sessions", eid, narrative="x")
            elif not server.datasets(eid):
                row = server.session(eid)
                path = f"M1/2026-01-15/{row['number']:03d}/alf"
                server.register(path, ["spikes.times.npy"])
        when = (start + timedelta(seconds=since)).replace(tzinfo=None).isoformat()
        tables = server.tables
        for endpoint, table in (
            ("sessions", tables.sessions),
            ("insertions", tables.insertions),
            ("datasets", tables.datasets),
        ):
            expected = {row.id for row in table if row.auto_datetime.isoformat() >= when}
            page = get(server, f"/{endpoint}", django=f"auto_datetime__gte,{when}", limit=1000)
            assert set(ids(page["results"])) == expected
