"""What a database says becomes actions: expected probes, holds, two sources of one recording."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from test_planning import NOW, after, kinds, recording, session

from neuro_assets.registry.actions import Action, ActionKind, Seen
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.index import Records
from neuro_assets.registry.keys import claim_expected
from neuro_assets.registry.metadata import (
    InsertionMetadata,
    RecordingMetadata,
    SessionMetadata,
)
from neuro_assets.registry.planning import plan
from neuro_assets.registry.registry import RecordIndex, RecordingRecord
from neuro_assets.service.events import raw_events

EID, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PID = "33333333-3333-4333-8333-333333333333"
KEY = "M1_20260115_1_probe00"


def said(eid=EID, qc="PASS", projects=("p",), serial="") -> RecordingMetadata:
    return RecordingMetadata(
        session=SessionMetadata(eid=eid, qc=qc, projects=projects, subject="M1"),
        insertion=InsertionMetadata(pid=PID, name="probe00", probe="probe00", serial=serial),
    )


def alyx(*recordings, eid=EID, expected=None, hold="", version="h1", qc="PASS", **more) -> Seen:
    """A session as the Alyx source describes it; without recordings its probe is expected."""
    found = () if expected else recordings or (recording(),)
    description = SessionDescription(
        lab="lab",
        subject=more.get("subject", "M1"),
        date=more.get("day", date(2026, 1, 15)),
        number=more.get("number", "1"),
        session_id=eid,
        source="alyx",
        folder=more.get("folder", "/server/M1/2026-01-15/001"),
        recordings=found,
        ready=more.get("ready", not expected),
        settled=more.get("settled", True),
        missing=() if more.get("settled", True) else ("datasets changed lately",),
        eid=eid,
        pids={"probe00": PID},
        expected=expected or {},
        serials=more.get("serials", {}),
        versions={r.label: version for r in found},
        metadata={"probe00": said(eid, qc, more.get("projects", ("p",)))},
        hold=hold,
        source_token=more.get("token", "t"),
    )
    return Seen(description, {r.label: version for r in found})


def local(**more) -> Seen:
    described = session(**{"folder": "/rig/M1/1", **more})
    return Seen(described, {r.label: "stat1" for r in described.recordings})


def records(actions: list[Action]) -> dict[str, RecordingRecord]:
    return after(actions)


WAITS = {"probe00": ("ephysData.raw.ap is not registered",)}


def test_an_expected_probe_waits_under_its_key_and_runs_when_its_data_are_there():
    waits = plan({}, [alyx(expected=WAITS)], [], NOW)
    assert kinds(waits) == [(ActionKind.NOT_READY, False)]
    [record] = records(waits).values()
    assert (record.key, record.state, record.recording) == (KEY, "not_ready", None)
    assert record.missing == ["ephysData.raw.ap is not registered"]
    assert record.waiting_since == NOW
    later = NOW + timedelta(hours=5)
    here = plan(records(waits), [alyx()], [], later)
    assert kinds(here) == [(ActionKind.ADD, True)]
    assert here[0].record.key == KEY and here[0].report
    assert here[0].record.waiting_since is None


def test_waiting_keeps_its_first_day_and_says_nothing_new_twice():
    waits = plan({}, [alyx(expected=WAITS)], [], NOW)
    again = plan(records(waits), [alyx(expected=WAITS)], [], NOW + timedelta(days=9))
    assert again[0].record.waiting_since == NOW
    assert not again[0].changed and raw_events(again[0]) == []


def test_the_same_hash_again_changes_nothing_and_a_new_one_is_reported():
    known = records(plan({}, [alyx()], [], NOW))
    later = NOW + timedelta(days=1)
    same = plan(known, [alyx()], [], later)
    assert kinds(same) == [(ActionKind.KEEP, False)] and raw_events(same[0]) == []
    other = plan(known, [alyx(version="h2")], [], later)
    assert kinds(other) == [(ActionKind.CHANGE, False)]
    assert len(raw_events(other[0])) == 4  # raw data and metadata, each made and observed
    wanted = plan(known, [alyx(version="h2")], [], later, reprocess_changed=True)
    assert kinds(wanted) == [(ActionKind.CHANGE, True)]
    # Looked at again, nobody who did not ask gets a run.
    assert kinds(plan(records(other), [alyx(version="h2")], [], later)) == [
        (ActionKind.KEEP, False)
    ]


def test_what_was_complete_does_not_settle_again():
    known = records(plan({}, [alyx()], [], NOW))
    again = plan(known, [alyx(settled=False, ready=False)], [], NOW)
    assert again[0].record.state == "ready"
    new = plan(known, [alyx(settled=False, ready=False, version="h2")], [], NOW)
    assert new[0].record.state == "not_ready"


def test_critical_quality_holds_and_its_end_starts_what_was_held():
    held = plan({}, [alyx(hold="quality is CRITICAL", qc="CRITICAL")], [], NOW)
    assert kinds(held) == [(ActionKind.HOLD, False)]
    assert records(held)[KEY].state == "held"
    freed = plan(records(held), [alyx()], [], NOW + timedelta(days=30))
    assert freed[0].record.state == "ready" and freed[0].run


def test_critical_quality_after_a_run_keeps_results_and_starts_nothing_when_it_ends():
    known = records(plan({}, [alyx()], [], NOW))
    later = NOW + timedelta(days=3)
    held = plan(known, [alyx(hold="quality is CRITICAL", qc="CRITICAL")], [], later)
    assert records(held)[KEY].state == "held" and held[0].changed
    freed = plan(records(held), [alyx()], [], later)
    assert (freed[0].record.state, freed[0].run) == ("ready", False)


def test_data_that_changed_while_held_are_reported_once():
    known = records(plan({}, [alyx()], [], NOW))
    later = NOW + timedelta(days=3)
    held = plan(known, [alyx(hold="CRITICAL", version="h2")], [], later)
    assert held[0].report
    freed = plan(records(held), [alyx(version="h2")], [], later)
    assert not freed[0].report and not freed[0].run


def test_a_deleted_session_is_marked_and_comes_back_without_a_second_run():
    known = records(plan({}, [alyx()], [], NOW))
    gone = plan(known, [], [("alyx", EID)], NOW + timedelta(days=1))
    assert kinds(gone) == [(ActionKind.VANISH, False)]
    assert "deleted in Alyx" in records(gone)[KEY].reason
    back = plan(records(gone), [alyx()], [], NOW + timedelta(days=2))
    assert kinds(back) == [(ActionKind.RETURN, False)]


def test_a_recording_from_a_folder_gets_its_ids_and_no_second_run():
    known = records(plan({}, [local()], [], NOW))
    attached = plan(known, [alyx()], [], NOW + timedelta(days=1))
    assert kinds(attached) == [(ActionKind.UPDATE, False)]
    record = records(attached)[KEY]
    assert (record.eid, record.pid) == (EID, PID)
    assert (record.session.source, record.raw_version) == ("local", "stat1")
    again = plan({KEY: record}, [alyx()], [], NOW + timedelta(days=1))
    assert kinds(again) == [(ActionKind.KEEP, False)] and raw_events(again[0]) == []
    # The folder source goes on to look after the files; the ids stay.
    seen_again = plan({KEY: record}, [local()], [], NOW + timedelta(days=1))
    assert records(seen_again)[KEY].eid == EID
    assert kinds(seen_again) == [(ActionKind.KEEP, False)]


def test_a_recording_from_alyx_is_not_a_copy_when_its_folder_is_seen_too():
    known = records(plan({}, [alyx()], [], NOW))
    seen = plan(known, [local()], [], NOW + timedelta(days=1))
    assert [a.record.key for a in seen] == [KEY] and not seen[0].run
    assert seen[0].record.session.source == "alyx"
    assert "/rig/M1/1" in seen[0].record.aliases


def test_files_in_a_folder_make_a_recording_of_what_alyx_only_expected():
    known = records(plan({}, [alyx(expected=WAITS)], [], NOW))
    here = plan(known, [local()], [], NOW)
    assert kinds(here) == [(ActionKind.ADD, True)]
    assert (here[0].record.key, here[0].record.eid) == (KEY, EID)


def test_what_alyx_announces_is_the_recording_that_a_folder_has_already():
    known = records(plan({}, [local()], [], NOW))
    expected = plan(known, [alyx(expected=WAITS)], [], NOW)
    assert records(expected)[KEY].eid == EID
    assert records(expected)[KEY].state == "ready"
    other = alyx(expected=WAITS, serials={"probe00": "99999"})
    assert plan(known, [other], [], NOW)[0].record.key != KEY


def test_a_folder_that_vanished_is_taken_over_by_alyx_and_not_run_again():
    known = records(plan({}, [local()], [], NOW))
    gone = records(plan(known, [], [("local", "/rig/M1/1")], NOW))
    taken = plan(gone, [alyx(version="h1")], [], NOW + timedelta(days=1))
    assert records(taken)[KEY].session.source == "alyx"
    # Another way to name the same data is no other version, now and later.
    assert (taken[0].kind, taken[0].run) == (ActionKind.MOVE, False)
    assert records(taken)[KEY].raw_version == "stat1"
    later = NOW + timedelta(days=2)
    assert kinds(plan(records(taken), [alyx(version="h1")], [], later)) == [
        (ActionKind.KEEP, False)
    ]
    unsettled = plan(records(taken), [alyx(settled=False, ready=False)], [], later)
    assert unsettled[0].record.state == "ready"
    assert records(plan(records(taken), [alyx(version="h2")], [], later))[KEY].raw_version == "h2"


def test_alyx_holds_and_frees_a_recording_that_a_folder_looks_after():
    known = records(plan({}, [local()], [], NOW))
    held = records(plan(known, [alyx(hold="quality is CRITICAL")], [], NOW))
    assert held[KEY].state == "held"
    assert records(plan(held, [local()], [], NOW))[KEY].state == "held"
    freed = records(plan(held, [alyx()], [], NOW))
    assert freed[KEY].state == "ready"
    deleted = records(plan(freed, [], [("alyx", EID)], NOW))
    assert (deleted[KEY].state, deleted[KEY].hold) == ("held", "its session was deleted in Alyx")


TWO = "two sessions of Alyx are M1 2026-01-15 1"


def test_two_sessions_of_one_name_share_one_held_key():
    both = [
        alyx(expected=WAITS, hold=TWO),
        alyx(expected=WAITS, hold=TWO, eid=OTHER),
    ]
    actions = plan({}, both, [], NOW)
    assert {a.record.key for a in actions} == {KEY}
    held = records(actions)
    assert held[KEY].state == "held" and TWO in held[KEY].reason
    survivor = records(plan(held, [alyx(eid=OTHER)], [("alyx", EID)], NOW))
    assert (survivor[KEY].eid, survivor[KEY].state) == (OTHER, "ready")


def test_a_second_session_of_the_name_holds_what_was_processed_and_its_deletion_frees_it():
    known = records(plan({}, [alyx()], [], NOW))
    later = NOW + timedelta(days=1)
    held = records(plan(known, [alyx(hold=TWO), alyx(eid=OTHER, hold=TWO)], [], later))
    assert list(held) == [KEY] and held[KEY].state == "held" and held[KEY].eid == EID
    freed = plan(held, [alyx()], [("alyx", OTHER)], later)
    assert [(a.record.state, a.run) for a in freed] == [("ready", False)]


def test_a_renumbered_session_keeps_its_key_and_its_folder_is_followed():
    known = records(plan({}, [alyx()], [], NOW))
    moved = plan(known, [alyx(number="3", subject="M-one", folder="/server/M1/x/003")], [], NOW)
    assert kinds(moved)[0][0] is ActionKind.MOVE
    record = records(moved)[KEY]
    assert (record.session.subject, record.session.number) == ("M-one", "3")
    assert record.session.place == "/server/M1/x/003"
    assert record.aliases == ["/server/M1/2026-01-15/001"]


def test_a_session_that_takes_a_number_that_was_given_up_gets_a_key_of_its_own():
    known = records(plan({}, [alyx()], [], NOW))
    renumbered = records(plan(known, [alyx(number="2")], [], NOW))
    actions = plan(renumbered, [alyx(eid=OTHER, expected=WAITS)], [], NOW)
    assert [(a.record.key, a.record.label) for a in actions] == [(f"{KEY}-x2", "probe00")]
    assert [p.kind for p in actions[0].record.problems] == ["key_collision"]


def test_a_session_that_the_lab_does_not_want_any_more_is_held_and_unknown_ones_are_nothing():
    known = records(plan({}, [alyx()], [], NOW))
    why = {("alyx", EID): "its projects (x) are not among alyx.projects", ("alyx", OTHER): "mock"}
    held = plan(known, [], [], NOW, excluded=why)
    assert [(a.record.key, a.record.state) for a in held] == [(KEY, "held")]
    assert plan(records(held), [], [], NOW, excluded=why) == []


def test_a_probe_that_alyx_does_not_name_any_more_is_marked():
    known = records(plan({}, [alyx()], [], NOW))
    nothing = alyx().description.model_copy(update={"recordings": (), "versions": {}})
    gone = plan(known, [Seen(nothing, {})], [], NOW)
    assert kinds(gone) == [(ActionKind.VANISH, False)]


def test_quality_and_projects_are_shown_and_leave_every_version_as_it_was():
    known = records(plan({}, [alyx()], [], NOW))
    later = NOW + timedelta(days=1)
    judged = plan(known, [alyx(qc="WARNING", projects=("p", "q"))], [], later)
    assert kinds(judged) == [(ActionKind.UPDATE, False)]
    events = raw_events(judged[0])
    assert {event.metadata["qc"].value for event in events} == {"WARNING"}
    assert {event.metadata["projects"].value for event in events} == {"p, q"}
    before = {e.asset_key: e.tags for e in raw_events(plan({}, [alyx()], [], NOW)[0])}
    assert {e.asset_key: e.tags for e in events} == before, "another version makes results stale"


@pytest.mark.parametrize("n", [2000])
def test_looking_for_a_recording_does_not_look_through_all(n):
    """The index answers from its tables: it never walks over all records."""
    index = RecordIndex({})
    many = [alyx(recording(serial=str(i)), eid=str(i), number=str(i)) for i in range(n)]
    plan(index, many, [], NOW)
    assert len(index.records) == n

    class Untouchable(Records):
        def __iter__(self):
            raise AssertionError("walked over all records")

    index.records = Untouchable(index.records.lines)
    actions = plan(index, many[:50], [], NOW)
    assert {a.kind for a in actions} == {ActionKind.KEEP}
    info = actions[0].record.session
    assert claim_expected(index, info, "probe00").known is not None
