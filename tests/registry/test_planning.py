"""What was seen becomes actions: a pure function, so every story is a list of calls."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.registry.actions import Action, ActionKind, Seen
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.planning import plan
from neuro_assets.registry.registry import RecordingRecord

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)


def recording(probe="probe00", serial: str | None = "18005", size=7700, qualifier=""):
    stream = Stream(
        name="ap", files=(f"{probe}.ap.bin",), n_channels=385, n_samples=size // 770,
        sampling_frequency=30000.0,
    )  # fmt: skip
    identity = Identity(
        probe_serial=serial, created=datetime(2026, 1, 15, 10), first_sample=100, size_bytes=size
    )
    return RawRecording(
        format="spikeglx", probe=probe, qualifier=qualifier, streams={"ap": stream},
        identity=identity,
    )  # fmt: skip


def session(*recordings, subject="M1", folder="/data/M1/1", ready=True, waiting=None, **more):
    return SessionDescription(
        lab=more.get("lab", "lab"),
        subject=subject,
        date=date(2026, 1, 15),
        number=more.get("number", "001"),
        session_id=folder.removeprefix("/data/"),
        source="local",
        folder=folder,
        recordings=recordings or (recording(),),
        ready=ready,
        missing=() if ready else ("raw_session.flag",),
        settled=more.get("settled", True),
        waiting=waiting or {},
    )


def seen(description: SessionDescription, version="v1") -> Seen:
    return Seen(description, {r.label: version for r in description.recordings})


def after(actions: list[Action], known=None) -> dict[str, RecordingRecord]:
    records = dict(known or {})
    records.update({a.record.key: a.record for a in actions})
    return records


def kinds(actions: list[Action]) -> list[tuple[ActionKind, bool]]:
    return [(action.kind, action.run) for action in actions]


@pytest.fixture
def known() -> dict[str, RecordingRecord]:
    return after(plan({}, [seen(session())], [], NOW))


def test_a_new_recording_gets_a_key_and_a_run(known):
    assert list(known) == ["M1_20260115_1_probe00"]
    assert kinds(plan({}, [seen(session())], [], NOW)) == [(ActionKind.ADD, True)]


def test_the_same_again_changes_nothing_but_asks_for_the_same_run(known):
    # The run key is the raw version: asked for twice, the run starts once, also after a crash.
    actions = plan(known, [seen(session())], [], NOW)
    assert kinds(actions) == [(ActionKind.KEEP, True)]
    assert actions[0].record.raw_version == "v1"


def test_changed_raw_data_are_reported_and_run_only_where_the_lab_says_so(known):
    changed = [seen(session(), "v2")]
    assert kinds(plan(known, changed, [], NOW)) == [(ActionKind.CHANGE, False)]
    assert kinds(plan(known, changed, [], NOW, reprocess_changed=True)) == [
        (ActionKind.CHANGE, True)
    ]


def test_a_band_that_arrives_late_runs_again_and_one_that_is_gone_does_not(known):
    whole = recording()
    lf = Stream(name="lf", files=("lf.bin",), n_channels=385, n_samples=1, sampling_frequency=2500)
    both = whole.model_copy(update={"streams": {**whole.streams, "lf": lf}})
    late = plan(known, [seen(session(both), "v2")], [], NOW)
    assert kinds(late) == [(ActionKind.CHANGE, True)]
    longer = {**both.streams, "lf": lf.model_copy(update={"n_samples": 2})}
    grown = session(both.model_copy(update={"streams": longer}))
    grown_plan = plan(after(late, known), [seen(grown, "v3")], [], NOW)
    assert kinds(grown_plan) == [(ActionKind.CHANGE, True)]
    gone = plan(after(late, known), [seen(session(), "v4")], [], NOW)
    assert kinds(gone) == [(ActionKind.NOT_READY, False)]
    said = plan(after(late, known), [seen(session(), "v4")], [], NOW, rename=True)
    assert kinds(said) == [(ActionKind.CHANGE, False)]


def test_what_grew_was_no_complete_copy_and_runs_again(known):
    longer = session(recording(size=77000), ready=False, settled=False)
    waits = plan(known, [seen(longer, "v2")], [], NOW)
    assert kinds(waits) == [(ActionKind.NOT_READY, False)]
    done = plan(after(waits, known), [seen(session(recording(size=77000)), "v3")], [], NOW)
    assert kinds(done) == [(ActionKind.CHANGE, True)]
    cut = [seen(session(recording(size=770)), "v2")]
    assert kinds(plan(known, cut, [], NOW)) == [(ActionKind.CHANGE, False)]


@pytest.mark.parametrize("failed", [True, False])
def test_a_failure_after_the_change_was_seen_runs_again_when_the_data_are_ready(known, failed):
    waits = plan(known, [seen(session(ready=False, settled=False), "v2")], [], NOW)
    records = after(waits, known)
    assert records["M1_20260115_1_probe00"].requested == "v1"
    ready = plan(records, [seen(session(), "v2")], [], NOW, is_unfinished=lambda key: failed)
    assert [action.run for action in ready] == [failed]


def two_sessions():
    one = session(recording(), folder="/data/M1/1")
    other = session(recording(serial="20001"), number="002", folder="/data/M1/2")
    return one, other


def swapped():
    one = session(recording(serial="20001"), folder="/data/M1/1")
    other = session(recording(), number="002", folder="/data/M1/2")
    return one, other


@pytest.mark.parametrize("order", [1, -1])
def test_two_folders_that_changed_places_are_found_where_they_are_now(order):
    known = after(plan({}, [seen(each) for each in two_sessions()], [], NOW))
    actions = plan(known, [seen(each) for each in swapped()][::order], [], NOW)
    assert {kind for kind, _ in kinds(actions)} == {ActionKind.MOVE}
    places = {key: record.session.place for key, record in after(actions, known).items()}
    assert places == {
        "M1_20260115_1_probe00": "/data/M1/2",
        "M1_20260115_2_probe00": "/data/M1/1",
    }
    later = plan(after(actions, known), [seen(each) for each in swapped()], [], NOW)
    assert {kind for kind, _ in kinds(later)} == {ActionKind.KEEP}


def test_folders_of_two_animals_that_changed_places_are_held():
    pair = [
        [session(recording(serial=serial), subject=animal, folder=f"/data/{animal}/1")
         for animal, serial in zip(("M1", "M2"), serials, strict=True)]
        for serials in (("1", "2"), ("2", "1"))
    ]  # fmt: skip
    known = after(plan({}, [seen(each) for each in pair[0]], [], NOW))
    actions = plan(known, [seen(each) for each in pair[1]], [], NOW)
    assert [(a.record.key[:2], a.record.session.subject) for a in actions] == [
        ("M2", "M1"), ("M1", "M2"),
    ]  # fmt: skip
    assert {a.record.state for a in actions} == {"held"}
    back = plan(after(actions, known), [seen(each) for each in pair[0]], [], NOW)
    assert {a.record.state for a in back} == {"ready"}


def test_folders_that_change_places_while_the_sensor_looks_are_found_too():
    first, second = two_sessions()
    known = after(plan({}, [seen(first), seen(second)], [], NOW))
    one, other = swapped()
    # The first is away for a moment, and the second's folder stands in its place.
    halfway = after(plan(known, [seen(one)], [("local", "M1/2")], NOW), known)
    actions = plan(halfway, [seen(other)], [], NOW)
    assert [kind for kind, _ in kinds(actions)] == [ActionKind.MOVE]
    assert actions[0].record.key == "M1_20260115_1_probe00"


def test_a_copy_is_left_alone_when_its_original_is_seen_with_it(known):
    both = [seen(session(folder="/data/backup/1")), seen(session())]
    assert [kind for kind, _ in kinds(plan(known, both, [], NOW))] == [
        ActionKind.COPY,
        ActionKind.KEEP,
    ]


def test_an_unready_session_is_registered_and_runs_when_it_became_ready():
    waits = plan({}, [seen(session(ready=False, settled=False))], [], NOW)
    assert kinds(waits) == [(ActionKind.NOT_READY, False)]
    assert waits[0].record.missing == ["raw_session.flag"]
    assert kinds(plan(after(waits), [seen(session(), "v2")], [], NOW)) == [
        (ActionKind.CHANGE, True)
    ]


def test_a_broken_probe_never_hides_a_good_one():
    two = session(
        recording(), recording("probe01", "18006"), ready=False,
        waiting={"probe01": ("probe01.ap.bin is truncated",)},
    )  # fmt: skip
    actions = plan({}, [seen(two)], [], NOW)
    assert kinds(actions) == [(ActionKind.ADD, True), (ActionKind.NOT_READY, False)]


def test_a_vanished_session_keeps_its_record_and_its_results(known):
    actions = plan(known, [], [("local", "M1/1")], NOW)
    assert kinds(actions) == [(ActionKind.VANISH, False)]
    assert actions[0].record.state == "vanished"
    assert plan(after(actions, known), [], [("local", "M1/1")], NOW) == []


def test_a_renamed_folder_and_subject_keep_the_key(known):
    renamed = session(subject="M-one", folder="/data/M-one/1")
    actions = plan(known, [seen(renamed)], [("local", "M1/1")], NOW)
    # Asked for again, the run starts once: its key is the version of the raw data.
    assert kinds(actions) == [(ActionKind.VANISH, False), (ActionKind.MOVE, True)]
    later = plan(after(actions, known), [seen(session())], [], NOW + timedelta(days=1))
    assert [action.run for action in later] == [False]
    assert actions[1].record.key == "M1_20260115_1_probe00"
    assert actions[1].record.session.place == "/data/M-one/1"


def test_a_copy_beside_the_original_is_held_and_not_processed_twice(known):
    copied = session(folder="/data/backup/1")
    actions = plan(known, [seen(copied)], [], NOW)
    assert kinds(actions) == [(ActionKind.COPY, False)]
    assert "left alone" in actions[0].message


def test_two_subjects_that_share_a_safe_name_get_two_keys_and_a_report(known):
    other = session(recording(serial="19999"), subject="M1", folder="/data/other/M1/1", lab="other")
    actions = plan(known, [seen(other)], [], NOW)
    assert actions[0].record.key != "M1_20260115_1_probe00"
    assert [p.kind for p in actions[0].record.problems] == ["key_collision"]


def test_planning_twice_without_carrying_out_gives_the_same_actions(known):
    changes = [seen(session(), "v2"), seen(session(recording("probe01", "7"), folder="/data/x"))]
    assert plan(known, changes, [], NOW) == plan(known, changes, [], NOW)
