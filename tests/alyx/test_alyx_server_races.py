"""Races and clocks of Alyx, as the test server has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from fake_alyx.requests import call, get, ids, walk
from fake_alyx.server import AlyxServer

AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as made:
        yield made


# races of paging ---------------------------------------------------------------------------------


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
