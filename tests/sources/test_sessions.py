"""The local session source: what is new, changed, vanished, waiting; and what is never lost."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spikeglx_files import meta_text, samples, write

from neuro_assets.formats import walk
from neuro_assets.formats.completeness import FLAG
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.planning import plan
from neuro_assets.service.session_registration import seen
from neuro_assets.sources.folders.cursor import Entry, State, decode, encode
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.sources.protocol import SessionSource

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
ONE = "lab/Subjects/KS 1/2024-05-12/001"


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source(tmp_path, clock):
    return LocalSessionSource(tmp_path, name="rig", settle_s=600, clock=clock)


def session(root, place=ONE, *, serial="1", flag=False, n=300):
    folder = root / place
    write(folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.bin", n, serial=serial)
    if flag:
        (folder / FLAG).touch()
    return folder


def ids(changes):
    return [one.session_id for one in changes.changed]


def refuse(monkeypatch, folder, number):
    real = os.scandir

    def scandir(path="."):
        if not isinstance(path, int) and os.fspath(path) == os.fspath(folder):
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)


# --- finding ----------------------------------------------------------------------------------


def test_the_source_follows_the_protocol_and_travels_to_other_processes(tmp_path):
    source = LocalSessionSource(tmp_path)
    assert isinstance(source, SessionSource)
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_one_session_is_described_with_its_fields_recordings_and_files(tmp_path, source):
    folder = session(tmp_path, flag=True)
    (one,) = source.changes().changed
    assert (one.lab, one.subject, one.date, one.number) == (
        "lab",
        "KS 1",
        date(2024, 5, 12),
        "001",
    )
    assert (one.session_id, one.source, one.folder) == (ONE, "rig", str(folder))
    assert [recording.label for recording in one.recordings] == ["probe00"]
    assert one.ready
    assert one.missing == ()
    by_path = {dataset.path: dataset for dataset in one.datasets}
    data = by_path["raw_ephys_data/probe00/a_g0_t0.imec0.ap.bin"]
    assert data.size == 300 * 9 * 2
    assert data.hash == one.recordings[0].main.sha1[0]
    assert FLAG in by_path


def test_the_lab_level_is_optional_and_the_root_may_be_subjects(tmp_path, clock):
    session(tmp_path, "Subjects/s/2024-05-12/001", flag=True)
    (one,) = LocalSessionSource(tmp_path).changes().changed
    assert (one.lab, one.subject) == ("", "s")
    (one,) = LocalSessionSource(tmp_path / "Subjects").changes().changed
    assert one.subject == "s"
    assert one.session_id == "s/2024-05-12/001"


def test_a_root_that_is_a_session_is_that_session(tmp_path):
    folder = session(tmp_path, flag=True)
    (one,) = LocalSessionSource(folder, bare_root=True).survey()[0]
    assert (one.lab, one.subject, one.number) == ("lab", "KS 1", "001")


def test_a_tree_given_as_a_bare_root_is_still_a_tree(tmp_path):
    session(tmp_path)
    session(tmp_path, "lab/Subjects/other/2024-05-13/002", serial="2")
    described = LocalSessionSource(tmp_path, bare_root=True).survey()[0]
    assert [one.subject for one in described] == ["KS 1", "other"]


def test_bare_run_folders_beside_a_tree_are_sessions(tmp_path, source):
    session(tmp_path, flag=True)
    write(tmp_path / "ZFM-06048_20240511_2_g0/ZFM-06048_20240511_2_g0_t0.imec0.ap.bin", serial="2")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("hello")
    changes = source.changes()
    assert set(changes.seen) == {ONE, "ZFM-06048_20240511_2_g0"}
    bare = next(one for one in changes.changed if one.session_id != ONE)
    # The date is when SpikeGLX created the file, not what somebody wrote in the name.
    assert (bare.subject, bare.date, bare.number) == ("ZFM-06048", date(2024, 5, 12), "2")


def test_a_run_folder_named_by_a_person_is_one_session(tmp_path):
    write(tmp_path / "M1_g0/M1_g0_imec0/M1_g0_t0.imec0.ap.bin")
    (one,) = LocalSessionSource(tmp_path / "M1_g0", bare_root=True).survey()[0]
    assert (one.subject, one.number, one.ready) == ("M1", "1", True)


def test_bids_folders_name_subject_and_number(tmp_path):
    write(tmp_path / "x/sub-M7/ses-003/ephys/run-1_g0_t0.imec0.ap.bin")
    (one,) = LocalSessionSource(tmp_path / "x", bare_root=True).survey()[0]
    assert (one.subject, one.number) == ("M7", "003")


def test_days_mixed_in_a_bare_folder_are_reported(tmp_path):
    write(tmp_path / "m/a_g0_t0.imec0.ap.bin")
    write(tmp_path / "m/b_g0_t0.imec0.ap.bin", created="2024-05-14T10:00:00")
    (one,) = LocalSessionSource(tmp_path / "m", bare_root=True).survey()[0]
    assert [problem.kind for problem in one.problems] == ["several_dates"]


def test_data_loose_in_the_root_are_reported(tmp_path, source):
    write(tmp_path / "a_g0_t0.imec0.ap.bin")
    changes = source.changes()
    assert changes.seen == ()
    assert [problem.kind for problem in changes.problems] == ["loose_file"]


def test_folders_that_were_meant_as_sessions_are_reported(tmp_path, source):
    (tmp_path / "Subjects/s/2024-13-45/001").mkdir(parents=True)
    (tmp_path / "Subjects/s/2024-05-12/001_bad").mkdir(parents=True)
    (tmp_path / "Subjects/s/histology").mkdir()
    changes = source.changes()
    assert [problem.kind for problem in changes.problems] == ["odd_folder", "odd_folder"]


@pytest.mark.parametrize("subject", ["M 1", "Mäuschen", "a_b_c", "x...y", "x'; DROP", "日本"])
def test_subjects_are_handed_on_as_they_were_typed(tmp_path, source, subject):
    session(tmp_path, f"Subjects/{subject}/2024-05-12/001", flag=True)
    assert source.changes().changed[0].subject == subject


# --- changes ----------------------------------------------------------------------------------


def test_nothing_is_described_twice_without_a_change(tmp_path, source):
    session(tmp_path, flag=True)
    first = source.changes()
    again = source.changes(first.cursor)
    assert ids(first) == [ONE]
    assert again.changed == ()
    assert again.seen == first.seen
    assert again.cursor == first.cursor


def test_an_unchanged_tree_is_swept_without_reading_a_file(tmp_path, source, monkeypatch):
    session(tmp_path, flag=True)
    cursor = source.changes().cursor

    def read(*_, **__):
        raise AssertionError("a file was read")

    monkeypatch.setattr("pathlib.Path.read_text", read)
    monkeypatch.setattr("pathlib.Path.open", read)
    assert source.changes(cursor).seen == (ONE,)


def test_new_changed_and_vanished_sessions_are_told_apart(tmp_path, source):
    session(tmp_path, flag=True)
    gone = session(tmp_path, "lab/Subjects/b/2024-05-12/001", serial="2", flag=True)
    cursor = source.changes().cursor
    shutil.rmtree(gone)
    session(tmp_path, "lab/Subjects/c/2024-05-12/001", serial="3", flag=True)
    write(tmp_path / ONE / "raw_ephys_data/probe01/a_g0_t0.imec1.ap.bin", serial="4")
    changes = source.changes(cursor)
    assert sorted(ids(changes)) == sorted([ONE, "lab/Subjects/c/2024-05-12/001"])
    assert changes.vanished == ("lab/Subjects/b/2024-05-12/001",)
    changed = next(one for one in changes.changed if one.session_id == ONE)
    assert len(changed.recordings) == 2
    assert source.changes(changes.cursor).vanished == ()


def test_an_old_cursor_repeats_work_and_loses_nothing(tmp_path, source):
    session(tmp_path, flag=True)
    first = source.changes()
    session(tmp_path, "lab/Subjects/b/2024-05-12/001", serial="2", flag=True)
    assert source.changes(first.cursor) == source.changes(first.cursor)


def test_a_limit_leaves_the_rest_for_the_next_call(tmp_path, source):
    places = [f"lab/Subjects/s{i}/2024-05-12/001" for i in range(5)]
    for i, place in enumerate(places):
        session(tmp_path, place, serial=str(i), flag=True)
    cursor, found, calls = None, [], 0
    while True:
        changes = source.changes(cursor, limit=2)
        assert len(changes.changed) <= 2
        assert len(changes.seen) == 5
        found += ids(changes)
        cursor = changes.cursor
        calls += 1
        if changes.complete:
            break
    assert found == places
    assert calls == 3


def test_a_renamed_session_vanishes_and_appears_with_the_same_identity(tmp_path, source):
    folder = session(tmp_path, flag=True)
    first = source.changes()
    folder.rename(folder.with_name("002"))
    second = source.changes(first.cursor)
    assert second.vanished == (ONE,)
    assert second.changed[0].recordings[0].identity == first.changed[0].recordings[0].identity


def test_describe_gives_one_session_or_says_that_there_is_none(tmp_path, source):
    session(tmp_path)
    assert source.describe(ONE).subject == "KS 1"
    with pytest.raises(PermanentFailure, match="has no session"):
        source.describe("lab/Subjects/x/2024-05-12/001")


# --- readiness --------------------------------------------------------------------------------


def test_a_flag_makes_a_session_ready_at_once(tmp_path, source):
    session(tmp_path, flag=True)
    assert source.changes().changed[0].ready


def test_without_a_flag_a_session_is_ready_when_it_has_settled(tmp_path, source, clock):
    session(tmp_path)
    first = source.changes()
    (one,) = first.changed
    assert not one.ready
    assert not one.is_ready(one.recordings[0])
    assert first.not_ready == (ONE,)
    assert "600 s" in one.missing_of(one.recordings[0])[0]
    clock.now += 599
    second = source.changes(first.cursor)
    assert second.changed == ()
    assert second.not_ready == (ONE,)
    clock.now += 2
    third = source.changes(second.cursor)
    assert third.changed[0].ready
    assert third.not_ready == ()
    assert source.changes(third.cursor).changed == ()


def test_a_growing_file_starts_the_settle_time_anew(tmp_path, source, clock):
    folder = session(tmp_path)
    cursor = source.changes().cursor
    clock.now += 500
    data = folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.bin"
    with data.open("ab") as file:
        file.write(samples(10).tobytes())
    changes = source.changes(cursor)
    assert not changes.changed[0].ready
    clock.now += 200
    assert source.changes(changes.cursor).changed == ()
    clock.now += 500
    # Settled, but longer than the meta says.
    late = source.changes(changes.cursor).changed[0]
    assert late.settled
    assert not late.ready
    assert "310 samples are there, the meta says 300" in late.missing[0]


def test_an_old_modification_time_does_not_make_a_session_ready(tmp_path, source):
    folder = session(tmp_path)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    assert not source.changes().changed[0].ready


def settled(source, clock):
    cursor = source.changes().cursor
    clock.now += 700
    (one,) = source.changes(cursor).changed
    assert one.settled
    return one


def test_a_preallocated_copy_is_not_ready(tmp_path, source, clock):
    folder = session(tmp_path, n=9000)
    data = folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.bin"
    content = data.read_bytes()
    data.write_bytes(content[:-70_000] + bytes(70_000))
    one = settled(source, clock)
    assert not one.ready
    assert "ends in zeros" in one.missing[0]


def test_a_silent_end_of_some_channels_is_no_preallocation(tmp_path, source, clock):
    folder = session(tmp_path)
    data = samples(9000)
    data[-8000:, :-1] = 0
    write(folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.bin", data=data)
    assert settled(source, clock).ready


def test_a_session_still_being_acquired_is_not_ready_and_says_why(tmp_path, source, clock):
    folder = session(tmp_path)
    meta = folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.meta"
    meta.write_text(meta_text(0, extra={"fileSizeBytes": None, "fileTimeSecs": None}))
    one = settled(source, clock)
    assert not one.ready
    assert "still acquiring" in one.missing[0]
    (folder / FLAG).touch()
    assert source.changes().changed[0].ready


def test_size_and_time_in_the_meta_must_agree(tmp_path, source, clock):
    folder = session(tmp_path)
    meta = folder / "raw_ephys_data/probe00/a_g0_t0.imec0.ap.meta"
    # Both sizes are whole samples, but the file was recorded for twice as long.
    size = 300 * 9 * 2
    meta.write_text(meta_text(size // 2, extra={"fileTimeSecs": str(300 / 30000)}))
    one = settled(source, clock)
    assert not one.ready
    assert any("fileTimeSecs" in line for line in one.missing)


def test_an_unfinished_probe_does_not_hold_back_a_finished_one(tmp_path, source, clock):
    folder = session(tmp_path)
    path = write(folder / "raw_ephys_data/probe01/a_g0_t0.imec1.ap.bin", serial="2")
    path.write_bytes(path.read_bytes()[: -18 * 10])
    one = settled(source, clock)
    good, bad = one.recordings
    assert (good.label, bad.label) == ("probe00", "probe01")
    assert one.is_ready(good)
    assert not one.is_ready(bad)
    assert one.missing_of(good) == ()
    assert "290 samples" in one.missing_of(bad)[0]


def test_a_broken_probe_does_not_hold_back_a_good_one(tmp_path, source, clock):
    folder = session(tmp_path)
    write(folder / "raw_ephys_data/probe01/a_g0_t0.imec1.ap.bin").write_bytes(b"\x01" * 35)
    one = settled(source, clock)
    assert one.ready
    assert [problem.kind for problem in one.problems] == ["truncated"]


def test_a_partial_copy_beside_the_data_is_waited_for(tmp_path, source, clock):
    folder = session(tmp_path)
    (folder / "video.mp4.filepart").write_bytes(b"1")
    one = settled(source, clock)
    assert not one.ready
    assert "video.mp4.filepart is a copy in progress" in one.missing


def test_a_clock_that_jumps_back_neither_settles_a_session_nor_blocks_it(tmp_path, source, clock):
    session(tmp_path)
    cursor = source.changes().cursor
    clock.now -= 10_000
    cursor = source.changes(cursor).cursor
    clock.now += 500
    changes = source.changes(cursor)
    assert changes.not_ready == (ONE,)
    clock.now += 200
    assert source.changes(changes.cursor).changed[0].ready


# --- failed reads -----------------------------------------------------------------------------


def test_a_root_that_is_not_there_is_a_failure_and_no_empty_list(tmp_path):
    source = LocalSessionSource(tmp_path / "mnt")
    with pytest.raises(TransientFailure, match="mounted"):
        source.changes()
    with pytest.raises(TransientFailure):
        source.survey()[0]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_root_that_cannot_be_read_is_a_failure(tmp_path, source, monkeypatch, number):
    session(tmp_path, flag=True)
    refuse(monkeypatch, tmp_path, number)
    with pytest.raises(TransientFailure):
        source.changes()


def test_a_mount_point_without_its_mount_is_a_failure(tmp_path, source):
    session(tmp_path, flag=True)
    cursor = source.changes().cursor
    shutil.rmtree(tmp_path / "lab")
    with pytest.raises(TransientFailure, match="is empty but held"):
        source.changes(cursor)
    (tmp_path / "emptied on purpose.txt").touch()
    assert source.changes(cursor).vanished == (ONE,)


def test_a_lab_whose_mount_vanished_keeps_its_sessions(tmp_path, source):
    session(tmp_path, flag=True)
    session(tmp_path, "lab2/Subjects/s/2024-05-12/001", serial="2", flag=True)
    cursor = source.changes().cursor
    shutil.rmtree(tmp_path / "lab2")
    (tmp_path / "lab2").mkdir()
    changes = source.changes(cursor)
    assert changes.vanished == ()
    assert [problem.kind for problem in changes.problems] == ["empty_mount"]
    session(tmp_path, "lab2/Subjects/s/2024-05-12/001", serial="2", flag=True)
    assert source.changes(changes.cursor).vanished == ()


def test_a_subject_behind_a_dead_link_keeps_its_sessions(tmp_path, source):
    session(tmp_path / "disk", "s/2024-05-12/001", flag=True)
    (tmp_path / "root/Subjects").mkdir(parents=True)
    (tmp_path / "root/Subjects/s").symlink_to(tmp_path / "disk/s")
    source = LocalSessionSource(tmp_path / "root")
    first = source.changes()
    assert first.seen == ("Subjects/s/2024-05-12/001",)
    (tmp_path / "disk").rename(tmp_path / "off")
    second = source.changes(first.cursor)
    assert second.vanished == ()
    assert [problem.kind for problem in second.problems] == ["dangling_link"]


@pytest.mark.parametrize("place", ["lab/Subjects/KS 1", "lab/Subjects/KS 1/2024-05-12", ONE])
def test_an_unreadable_folder_keeps_its_sessions_and_hides_no_other(
    tmp_path, source, monkeypatch, place
):
    session(tmp_path, flag=True)
    cursor = source.changes().cursor
    session(tmp_path, "lab/Subjects/b/2024-05-12/001", serial="2", flag=True)
    with monkeypatch.context() as patch:
        refuse(patch, tmp_path / place, errno.EACCES)
        changes = source.changes(cursor)
    assert changes.vanished == ()
    assert ids(changes) == ["lab/Subjects/b/2024-05-12/001"]
    assert [(p.kind, p.path) for p in changes.problems] == [("unreadable", place)]
    after = source.changes(changes.cursor)
    assert after.changed == ()
    assert len(after.seen) == 2


def test_a_mount_that_vanishes_in_the_middle_is_a_failure(tmp_path, source, monkeypatch):
    session(tmp_path, flag=True)
    cursor = source.changes().cursor
    refuse(monkeypatch, tmp_path / ONE / "raw_ephys_data", errno.ESTALE)
    with pytest.raises(TransientFailure):
        source.changes(cursor)


# --- cursor -----------------------------------------------------------------------------------


@pytest.mark.property
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
        st.builds(
            Entry, st.text("0123456789abcdef"), st.integers(0, 2**40), st.sampled_from(State)
        ),
    )
)
def test_a_cursor_comes_back(entries):
    assert decode(encode(entries)) == entries


def test_a_cursor_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    entries = {
        f"lab/Subjects/ZFM-{i // 40:05d}/2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}/001": Entry(
            rng.bytes(6).hex(), 1_700_000_000 + i * 600, State.READY
        )
        for i in range(10_000)
    }
    assert len(encode(entries)) < 300_000


def test_a_damaged_cursor_is_a_named_failure_and_another_version_starts_anew(tmp_path, source):
    session(tmp_path, flag=True)
    with pytest.raises(PermanentFailure, match="reset it"):
        source.changes("nonsense")
    old = json.dumps({"version": 0, "sessions": "x"})
    assert ids(source.changes(old)) == [ONE]


def test_what_the_first_cursor_knew_is_described_again_without_settling_anew(tmp_path, source):
    session(tmp_path)
    cursor = json.loads(source.changes().cursor) | {"version": 1}
    source.clock.now += 7200
    changes = source.changes(json.dumps(cursor))
    assert ids(changes) == [ONE] and changes.changed[0].settled
    assert ids(source.changes(changes.cursor)) == []
    shutil.rmtree(tmp_path / ONE)
    assert source.changes(json.dumps(cursor)).vanished == (ONE,)


# --- trees of projects ------------------------------------------------------------------------


def neuroblueprint(root, subject, session, *, serial, created="2024-05-12T10:00:00", run="a"):
    folder = root / f"rawdata/{subject}/{session}/ephys"
    write(folder / f"{run}_g0/{run}_g0_t0.imec0.ap.bin", serial=serial, created=created)


def fields_of(source):
    found = source.survey()[0]
    return sorted((one.session_id, one.subject, one.number, str(one.date)) for one in found)


def project(root):
    neuroblueprint(root, "sub-001_id-M7", "ses-001_date-20240512", serial="1")
    neuroblueprint(
        root, "sub-001_id-M7", "ses-002_date-20240513", serial="2", created="2024-05-13T10:00:00"
    )
    neuroblueprint(root, "sub-002", "ses-001_date-20240512", serial="3")
    (root / "derivatives/sub-001_id-M7/ses-001").mkdir(parents=True)
    (root / "derivatives/sub-001_id-M7/ses-001/recording.dat").write_bytes(b"12")


@pytest.mark.parametrize("bare_root", [False, True])
@pytest.mark.parametrize("below", ["", "project", "rawdata"])
def test_a_project_is_its_subjects_and_sessions(tmp_path, below, bare_root):
    project(tmp_path / "x" / ("project" if below == "project" else ""))
    root = tmp_path / "x" / ("rawdata" if below == "rawdata" else "")
    found = fields_of(LocalSessionSource(root, bare_root=bare_root))
    assert [each[1:] for each in found] == [
        ("001", "001", "2024-05-12"),
        ("001", "002", "2024-05-13"),
        ("002", "001", "2024-05-12"),
    ]


def test_a_subject_or_a_session_given_by_name_knows_its_place(tmp_path):
    project(tmp_path)
    subject = tmp_path / "rawdata/sub-001_id-M7"
    found = fields_of(LocalSessionSource(subject, bare_root=True))
    assert [each[1:3] for each in found] == [("001", "001"), ("001", "002")]
    (one,) = LocalSessionSource(subject / "ses-002_date-20240513", bare_root=True).survey()[0]
    assert (one.subject, one.number, one.date) == ("001", "002", date(2024, 5, 13))
    session(tmp_path, "Subjects/s/2024-05-12/001", serial="7")
    session(tmp_path, "Subjects/s/2024-05-12/002", serial="8")
    session(tmp_path, "Subjects/s/2024-05-13/001", serial="9")
    found = fields_of(LocalSessionSource(tmp_path / "Subjects/s", bare_root=True))
    assert [each[1:] for each in found] == [
        ("s", "001", "2024-05-12"), ("s", "002", "2024-05-12"), ("s", "001", "2024-05-13"),
    ]  # fmt: skip
    found = fields_of(LocalSessionSource(tmp_path / "Subjects/s/2024-05-12", bare_root=True))
    assert [each[1:3] for each in found] == [("s", "001"), ("s", "002")]


def test_subjects_with_dates_and_numbers_need_no_folder_subjects(tmp_path):
    session(tmp_path, "mice/m1/2024-05-12/001", serial="1")
    session(tmp_path, "mice/m2/2024-05-12/001", serial="2")
    found = fields_of(LocalSessionSource(tmp_path))
    assert [each[1] for each in found] == ["m1", "m2"]


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("m1/2024-05-12/001", [("m1", "001", "2024-05-12")]),
        ("m2/2024-05-12/001", [("m2", "001", "2024-05-12")]),
        ("m1/2024-05-12", [("m1", "001", "2024-05-12")]),
        ("m1", [("m1", "001", "2024-05-12"), ("m1", "001", "2024-05-13")]),
    ],
)
def test_a_part_of_a_tree_without_a_folder_subjects_knows_its_place(tmp_path, place, wanted):
    for n, part in enumerate(("m1/2024-05-12/001", "m1/2024-05-13/001", "m2/2024-05-12/001")):
        session(tmp_path, part, serial=str(n + 1))
    found = fields_of(LocalSessionSource(tmp_path / place, bare_root=True))
    assert [each[1:] for each in found] == wanted


@pytest.mark.parametrize("flag", [False, True])
def test_two_animals_or_days_in_one_folder_are_held(tmp_path, flag):
    write(tmp_path / "m/sub-A/a_g0_t0.imec0.ap.bin", serial="1")
    write(tmp_path / "m/sub-A/x/sub-B_g0/b_g0_t0.imec0.ap.bin", serial="2")
    write(tmp_path / "n/a_g0_t0.imec0.ap.bin", serial="3")
    write(tmp_path / "n/b_g0_t0.imec0.ap.bin", serial="4", created="2024-05-14T10:00:00")
    write(tmp_path / "o/M1_20240512_g0_t0.imec0.ap.bin", serial="5")
    write(tmp_path / "o/M2_20240512_g0_t0.imec0.ap.bin", serial="6")
    neuroblueprint(tmp_path / "p", "sub-1", "ses-1_date-20230101", serial="7")
    if flag:
        for path in ("m/sub-A", "n", "o", "p/rawdata/sub-1/ses-1_date-20230101"):
            (tmp_path / path / FLAG).touch()
    found = LocalSessionSource(tmp_path, settle_s=0).survey()[0]
    kinds = [problem.kind for one in found for problem in one.problems]
    assert sorted(kinds) == [
        "date_conflict", "several_dates", "several_subjects", "several_subjects",
    ]  # fmt: skip
    records = [
        action.record for action in plan({}, [seen(one, use_hash=False) for one in found], [], NOW)
    ]
    assert {record.state for record in records} == {"held"}
    assert all(record.reason == record.conflict != "" for record in records)


def test_a_session_beyond_midnight_is_one(tmp_path):
    write(tmp_path / "m/a_g0_t0.imec0.ap.bin", serial="1", created="2024-05-12T23:00:00")
    write(tmp_path / "m/b_g0_t0.imec0.ap.bin", serial="1", created="2024-05-13T01:00:00")
    (one,) = LocalSessionSource(tmp_path).survey()[0]
    assert one.ready
    assert one.date == date(2024, 5, 12)


def test_a_date_from_a_files_time_is_a_guess(tmp_path, source):
    write(tmp_path / "m/a_g0_t0.imec0.ap.bin", created="")
    write(tmp_path / "n_2024-05-01/a_g0_t0.imec0.ap.bin", created="", serial="2")
    guessed = {one.session_id: one.date_guessed for one in source.survey()[0]}
    assert guessed == {"m": True, "n_2024-05-01": False}
