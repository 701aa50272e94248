"""Sessions of Alyx found and followed: each story told to a real HTTP server."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alyx_lab import CENTRAL, LOCAL, AlyxLab
from fake_alyx.fields import DatabaseError
from fake_alyx.server import AlyxServer
from hypothesis import given
from hypothesis import strategies as st
from places import REAL
from records import have_output
from spikeglx_files import write_cbin

from neuro_assets.alyx.files.paths import with_uuid
from neuro_assets.assets.overview import line_of
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.keys import present_name
from neuro_assets.service.events import shown
from neuro_assets.service.renaming import rename
from neuro_assets.sources.alyx.cursor import AlyxCursor, local_bound
from neuro_assets.sources.alyx.incremental_scan import ScanResult
from neuro_assets.sources.alyx.source import _Call
from neuro_assets.sources.protocol import SessionSource

LONDON = ZoneInfo("Europe/London")
KEY = "M1_20260115_1_probe00"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer(now=datetime(2026, 1, 15, 8, tzinfo=UTC)) as server:
        yield server


@pytest.fixture
def lab(tmp_path: Path, server: AlyxServer) -> AlyxLab:
    lab = AlyxLab(tmp_path, server)
    lab.tick()
    return lab


def test_it_follows_the_protocol(lab):
    assert isinstance(lab.source, SessionSource)


def test_a_session_is_found_waits_for_its_data_and_is_run_once(lab):
    eid = lab.session()
    pid = lab.insertion(eid)
    lab.tick()
    record = lab.record()
    assert (record.key, record.state, record.eid, record.pid) == (KEY, "not_ready", eid, pid)
    assert "ephysData.raw.ap is not registered" in record.missing
    file = lab.copy_files(eid)
    ids = lab.register(eid, file, exists=False)
    lab.tick()
    assert f"not yet on a repository that is read here ({LOCAL})" in lab.record().reason
    for dataset in ids:
        lab.server.set_exists(dataset, LOCAL, True)
    lab.tick()
    assert lab.record().state == "not_ready" and "second look" in lab.record().reason
    lab.tick()
    assert lab.states == {KEY: "ready"}
    assert list(lab.started) == [f"{KEY}:1"]
    assert lab.record().raw.streams["ap"].files == (
        "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.bin",
    )
    lab.ticks(3)
    assert len(lab.asked) == 1


def test_data_that_change_between_two_looks_are_not_confirmed(lab):
    eid, _, (ap, _) = lab.recorded()
    lab.tick()
    lab.server.patch_dataset(ap, hash="b" * 32)
    lab.tick()
    assert lab.states == {KEY: "not_ready"} and not lab.started
    lab.tick()
    assert lab.states == {KEY: "ready"} and len(lab.started) == 1


def test_a_copy_on_another_repository_does_not_count(lab):
    eid, _, ids = lab.recorded()
    for dataset in ids:
        lab.server.set_exists(dataset, LOCAL, False)
        lab.server.set_exists(dataset, CENTRAL, True)
    lab.ticks(3)
    assert lab.states == {KEY: "not_ready"}


def test_a_dataset_without_hash_or_size_is_waited_for(lab):
    eid, _, (ap, _) = lab.recorded()
    with pytest.raises(DatabaseError):
        lab.server.patch_dataset(ap, hash=None)
    lab.server.sql("datasets", ap, hash="")  # as registered without one
    lab.ticks(3)
    assert "has no hash in Alyx" in lab.record().reason


def test_a_compressed_file_waits_for_its_table_of_chunks(lab):
    eid = lab.session()
    lab.insertion(eid)
    for kind in ("ap.cbin", "ap.meta"):
        path = f"raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.{kind}"
        lab.server.add_dataset(eid, path, hash="a" * 32, size=10, exists=(LOCAL,))
    lab.ticks(2)
    assert lab.record().missing == ["ephysData.raw.ch is not registered"]


def test_a_file_that_is_not_where_alyx_says_is_named_and_found_later(lab):
    eid, file, _ = lab.recorded()
    content = file.read_bytes()
    file.unlink()
    lab.ticks(3)
    assert lab.record().state == "not_ready"
    assert "is not there although dataset" in lab.record().reason
    file.write_bytes(content)
    lab.reconcile()
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}


def test_a_repository_that_is_not_mounted_is_an_outage_and_no_loss(lab):
    lab.recorded()
    lab.ticks(2)
    lab.recorded(subject="M2")
    lab.repository.rename(lab.folder / "unmounted")
    lab.ticks(3)
    assert lab.states == {KEY: "ready"} and lab.pending()
    (lab.folder / "unmounted").rename(lab.repository)
    lab.ticks(2)
    assert set(lab.states.values()) == {"ready"} and len(lab.states) == 2


def test_sessions_that_cannot_be_read_hold_up_no_other(tmp_path, server, monkeypatch):
    import alyx_lab

    places = "{{lab_server: repository, other: elsewhere}}"
    monkeypatch.setattr(
        alyx_lab, "TEXT", alyx_lab.TEXT.replace("{{lab_server: repository}}", places)
    )
    lab = AlyxLab(tmp_path, server)
    lab.tick()
    for number in range(1, 5):
        eid = lab.session(number=number)
        lab.insertion(eid)
        for kind in ("ap.cbin", "ap.ch", "ap.meta"):
            path = f"raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.{kind}"
            lab.server.add_dataset(eid, path, hash="a" * 32, size=10, exists=("other",))
    lab.tick()
    lab.recorded(subject="M2")
    lab.ticks(3)
    assert lab.states == {"M2_20260115_1_probe00": "ready"}
    assert len(lab.pending()) == 4
    # Nor what the comparison names.
    late, _, _ = lab.recorded(subject="M3", projects=[])
    lab.wait(days=3)
    lab.tick()
    lab.server.attach_project(late, "p")
    lab.reconcile()
    lab.ticks(3)
    assert lab.states["M3_20260115_1_probe00"] == "ready"


def test_a_project_that_is_attached_later_is_seen_though_no_time_moves(lab):
    eid = lab.session(projects=[])
    lab.insertion(eid)
    lab.register(eid, lab.copy_files(eid))
    lab.ticks(3)
    assert lab.states == {}
    lab.wait(minutes=50)
    lab.server.attach_project(eid, "p")
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}


def test_a_project_that_is_attached_long_after_is_found_by_the_comparison(lab):
    eid, _, _ = lab.recorded(projects=[])
    lab.ticks(2)
    lab.wait(days=9)
    lab.tick()
    lab.server.attach_project(eid, "p")
    lab.ticks(2)
    assert lab.states == {}
    lab.reconcile()
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}


def test_a_session_without_insertion_whose_project_came_late_is_found_by_the_comparison(lab):
    eid = lab.session(projects=[])
    lab.register(eid, lab.copy_files(eid))
    lab.ticks(2)
    lab.wait(days=9)
    lab.tick()
    lab.server.attach_project(eid, "p")
    lab.reconcile()
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}


@pytest.mark.parametrize("info", ['{"qc": "PASS"}', [1], None])
def test_an_odd_insertion_stops_nobody_else(lab, info):
    lab.recorded()
    lab.server.add_insertion(None, json=info)
    other = lab.session("M2")
    lab.insertion(other, json=info)
    lab.ticks(3)
    assert lab.states == {KEY: "ready", "M2_20260115_1_probe00": "not_ready"}


def test_a_deleted_insertion_is_found_by_the_comparison_and_its_id_forgotten(lab):
    eid = lab.session()
    pid = lab.insertion(eid)
    lab.register(eid, lab.copy_files(eid))
    lab.ticks(2)
    assert lab.record().pid == pid
    lab.wait(days=2)
    lab.server.delete_insertion(pid)
    lab.ticks(2)
    assert lab.record().pid == pid, "a deletion leaves no trace"
    lab.reconcile()
    lab.ticks(2)
    assert lab.record().pid is None and lab.states == {KEY: "ready"}
    n = len(lab.server.log)
    lab.reconcile()
    lab.tick()
    assert all("/sessions/" not in path for _, path in lab.server.log[n:]), "asked for ever"


def test_an_edited_animal_is_found_by_the_comparison(lab):
    lab.recorded()
    lab.ticks(2)
    lab.wait(days=2)
    lab.server.sql("subjects", lab.server.tables.subjects.by_key["M1"].id, sex="F")
    lab.source.reader.subjects.clear()  # a reader lives for one tick
    lab.ticks(2)
    lab.reconcile()
    lab.ticks(2)
    assert lab.record().metadata.subject.sex == "F"
    n = len(lab.server.log)
    lab.reconcile()
    lab.tick()
    assert all("/sessions/" not in path for _, path in lab.server.log[n:]), "asked for ever"


def test_projects_match_whole_names_only(lab):
    lab.recorded(projects=["pp"])
    lab.recorded(subject="M2", projects=["xp", "P"])
    lab.ticks(3)
    assert lab.states == {}


def test_a_project_that_is_taken_away_holds_and_loses_nothing(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.server.patch_session(eid, projects=["other"])
    lab.tick()
    assert lab.states == {KEY: "held"}
    assert "not among alyx.projects" in lab.record().reason
    lab.server.patch_session(eid, projects=["p"])
    lab.ticks(2)
    assert lab.states == {KEY: "ready"} and len(lab.started) == 1


@pytest.mark.parametrize("many", [1, 2])
def test_a_new_hash_changes_the_version_and_runs_only_where_the_lab_says_so(tmp_path, server, many):
    lab = AlyxLab(tmp_path, server, reprocess=many == 2)
    lab.tick()
    eid, file, (ap, _) = lab.recorded()
    lab.ticks(2)
    first = lab.record().raw_version
    have_output(lab.lab.store, KEY)
    lab.wait(hours=3)
    lab.server.patch_dataset(ap, hash="b" * 32)
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}
    assert lab.record().raw_version != first
    assert lab.record().raw_history[0]["version"] == first
    lab.ticks(2)
    assert len(lab.started) == many


def test_data_that_come_back_to_an_earlier_version_run_again(tmp_path, server):
    lab = AlyxLab(tmp_path, server, reprocess=True)
    lab.tick()
    _, file, (ap, _) = lab.recorded()
    lab.ticks(2)
    versions = [lab.record().raw_version]
    have_output(lab.lab.store, KEY)
    first = hashlib.md5(file.read_bytes()).hexdigest()
    for content in ("b" * 32, first):
        lab.wait(hours=3)
        lab.server.patch_dataset(ap, hash=content)
        lab.ticks(3)
        versions.append(lab.record().raw_version)
    assert versions[0] == versions[2] != versions[1]
    assert len(lab.started) == 3 and lab.states == {KEY: "ready"}


def test_the_same_hash_again_is_nothing_new(lab):
    eid, file, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=3)
    lab.tick()
    before = lab.record()
    names = [p.name for p in (file, file.with_suffix(".meta"))]
    rows = [p.read_bytes() for p in (file, file.with_suffix(".meta"))]
    lab.server.register(
        "M1/2026-01-15/001/raw_ephys_data/probe00",
        names,
        hashes=[hashlib.md5(data).hexdigest() for data in rows],
        filesizes=[len(data) for data in rows],
        name=LOCAL,
    )
    result = lab.tick()
    assert not result.run_requests and not result.asset_events
    assert lab.record().raw_version == before.raw_version and lab.states == {KEY: "ready"}


def revise(lab, eid, file, *paths):
    """Register a new default revision; ONE's client leaves the old file where it is."""
    for path in paths or (file, file.with_suffix(".meta")):
        revised = path.parent / "#2026-02-01#" / path.name
        revised.parent.mkdir(exist_ok=True)
        revised.write_bytes(path.read_bytes())
        data = revised.read_bytes()
        lab.server.add_dataset(
            eid,
            f"raw_ephys_data/probe00/{path.name}",
            revision="2026-02-01",
            hash=hashlib.md5(data).hexdigest(),
            size=len(data),
            exists=(LOCAL,),
        )


def test_a_new_default_revision_is_read_and_the_old_file_beside_it_is_not(lab):
    eid, file, _ = lab.recorded()
    lab.ticks(2)
    first = lab.record().raw_version
    lab.wait(hours=3)
    revise(lab, eid, file)
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}
    assert lab.record().raw_version != first
    [read] = lab.record().raw.streams["ap"].files
    assert read.endswith(f"#2026-02-01#/{file.name}") and file.exists()


def test_a_revision_of_the_samples_alone_waits_for_its_meta_and_reads_nothing_old(lab):
    eid, file, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=3)
    revise(lab, eid, file, file)
    lab.ticks(2)
    assert lab.states == {KEY: "not_ready"}
    assert "default datasets in Alyx are read" in lab.record().reason


def test_an_unregistered_file_beside_a_registered_one_is_not_read(lab):
    eid = lab.session()
    lab.insertion(eid)
    file = lab.copy_files(eid)
    unregistered = file.read_bytes()
    content = write_cbin(file.with_suffix(".cbin"), 30, created="2026-01-15T10:00:00")
    file.write_bytes(unregistered)
    for path, kind in (
        (content, "ap"),
        (file.with_suffix(".ch"), "ch"),
        (file.with_suffix(".meta"), "meta"),
    ):
        data = path.read_bytes()
        lab.server.add_dataset(
            eid,
            f"raw_ephys_data/probe00/{path.name}",
            hash=hashlib.md5(data).hexdigest(),
            size=len(data),
            exists=(LOCAL,),
            dataset_type=f"ephysData.raw.{kind}",
        )
    lab.ticks(2)
    record = lab.record()
    assert record.raw.streams["ap"].files == (f"raw_ephys_data/probe00/{content.name}",)
    file.unlink()
    lab.wait(hours=3)
    lab.server.patch_session(eid, narrative="looked at again")
    lab.ticks(2)
    assert lab.states == {KEY: "ready"} and lab.record().raw_version == record.raw_version


OPEN_EPHYS = REAL / "openephys_aind_v06_npx2probes"


@pytest.mark.real
@pytest.mark.skipif(not OPEN_EPHYS.is_dir(), reason=f"no real Open Ephys data in {OPEN_EPHYS}")
def test_a_recording_waits_where_a_file_that_is_read_with_it_is_not_registered(lab):
    source = next(OPEN_EPHYS.iterdir()) / "Record Node 101"
    eid = lab.session()
    lab.insertion(eid, "probe01")
    folder = lab.repository / "M1/2026-01-15/001"
    node = folder / "raw_ephys_data/probe01/Record Node 101"
    shutil.copytree(source / "experiment1", node / "experiment1")
    shutil.copy(source / "settings.xml", node)
    kinds = {"continuous.dat": "ap", "structure.oebin": "meta", "sample_numbers.npy": "ap"} | {
        "settings.xml": "meta"
    }

    def register(*names: str) -> None:
        for path in (p for p in node.rglob("*") if p.name in names and "ADC" not in str(p)):
            if "ProbeB" in str(path) or kinds[path.name] == "meta":
                data = path.read_bytes()
                lab.server.add_dataset(
                    eid,
                    str(path.relative_to(folder)),
                    hash=hashlib.md5(data).hexdigest(),
                    size=len(data),
                    exists=(LOCAL,),
                    dataset_type=f"ephysData.raw.{kinds[path.name]}",
                )

    register("continuous.dat", "structure.oebin")
    lab.ticks(2)
    assert lab.states == {"M1_20260115_1_probe01": "not_ready"}
    assert "sample_numbers.npy is read with the recording" in lab.record().reason
    register("sample_numbers.npy", "settings.xml")
    lab.ticks(2)
    assert lab.states == {"M1_20260115_1_probe01": "ready"}


def test_names_with_the_ids_of_their_datasets_have_the_version_of_those_datasets(lab):
    eid, file, ids = lab.recorded()
    lab.ticks(2)
    first = lab.record().raw_version
    for path, id in zip((file, file.with_suffix(".meta")), ids, strict=True):
        path.rename(with_uuid(str(path), id))
    lab.wait(hours=3)
    lab.server.patch_session(eid, narrative="looked at again")
    lab.ticks(2)
    record = lab.record()
    assert ids[0] in record.raw.streams["ap"].files[0]
    assert lab.states == {KEY: "ready"} and record.raw_version == first


def test_critical_quality_holds_and_is_shown_and_released(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(minutes=5)
    lab.server.patch_session(eid, qc="CRITICAL")
    result = lab.tick()
    assert lab.states == {KEY: "held"} and "CRITICAL" in lab.record().reason
    event = result.asset_events[0]
    assert event.metadata["qc"].value == "CRITICAL"
    assert event.metadata["alyx"].value.endswith(f"/admin/actions/session/{eid}/change")
    lab.server.patch_session(eid, qc="PASS")
    lab.tick()
    assert lab.states == {KEY: "ready"} and len(lab.started) == 1


def test_critical_quality_without_a_trace_in_times_is_found_by_the_comparison(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.tick()
    lab.server.sql("sessions", eid, qc="CRITICAL")
    lab.tick()
    assert lab.states == {KEY: "ready"}
    lab.reconcile()
    lab.tick()
    assert lab.states == {KEY: "held"}


def test_a_deleted_session_is_believed_after_two_looks_and_nothing_is_lost(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(days=2)
    lab.server.delete_session(eid)
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}  # a deletion leaves no trace
    lab.reconcile()
    lab.tick()
    assert lab.states == {KEY: "ready"}
    lab.tick()
    assert lab.states == {KEY: "vanished"} and "deleted in Alyx" in lab.record().reason
    n = len(lab.server.log)
    lab.reconcile()
    lab.tick()
    assert all("/sessions/" not in path for _, path in lab.server.log[n:]), "asked for ever"


def test_a_renamed_subject_and_number_keep_the_key_and_the_path_of_the_files(lab):
    eid, file, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.server.patch_session(eid, number=7)
    lab.ticks(2)
    record = lab.record()
    assert (record.key, record.session.number, record.state) == (KEY, "7", "ready")
    folder = record.session.folder(lab.lab.config.roots)
    assert folder == file.parents[2], "files stay where they were"
    assert len(lab.asked) == 1


def test_after_renumbering_the_present_number_stands_beside_the_key(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    assert present_name(lab.record()) == ""
    lab.wait(hours=5)
    lab.server.patch_session(eid, number=2)
    lab.insertion(lab.session())
    lab.ticks(3)
    names = {key: present_name(record) for key, record in lab.records.items()}
    assert names == {
        KEY: "now M1, 2026-01-15, session 2",
        f"{KEY}-x2": "now M1, 2026-01-15, session 1",
    }
    for record in lab.records.values():
        assert shown(record)["named"] == present_name(record) in line_of(record, []).detail


def test_after_a_rename_alyx_finds_the_same_recordings_under_the_keys_of_today(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.server.patch_session(eid, number=2)
    other = lab.session()
    lab.insertion(other)
    lab.ticks(3)
    first, second = KEY, f"{KEY}-x2"
    instance = lab.lab.instance
    for run in instance.get_runs():
        instance.report_run_canceled(run)
    new = "M1_20260115_2_probe00"
    rename(lab.registry, instance, first, new, [])
    n_asked = len(lab.asked)
    # The other one waits for its data: what is expected keeps its key as well.
    with pytest.raises(PermanentFailure, match="waits: "):
        rename(lab.registry, instance, second, "M1_20260115_1b_probe00", [])
    lab.ticks(3)
    lab.wait(hours=2)
    lab.reconcile()
    lab.ticks(3)
    assert lab.states == {new: "ready", second: "not_ready"}
    assert (lab.records[new].eid, lab.records[second].eid) == (eid, other)
    assert present_name(lab.records[new]) == "" and present_name(lab.records[second])
    assert len(lab.asked) == n_asked, "no run is requested"


def test_files_that_follow_a_renumbering_are_followed(lab):
    eid, file, ids = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.server.patch_session(eid, number=2)
    target = file.parents[3] / "002"
    file.parents[2].rename(target)
    below = [f"raw_ephys_data/probe00/{p.name}" for p in (file, file.with_suffix(".meta"))]
    data = [(target / name).read_bytes() for name in below]
    lab.server.register(
        "M1/2026-01-15/002",
        below,
        hashes=[hashlib.md5(each).hexdigest() for each in data],
        filesizes=[len(each) for each in data],
        name=LOCAL,
    )
    lab.ticks(3)
    record = lab.record()
    assert (record.key, record.state) == (KEY, "ready")
    assert record.session.folder(lab.lab.config.roots) == target
    assert len(record.aliases) == 1 and record.aliases[0].endswith("M1/2026-01-15/001")
    assert len(lab.started) == 1


def test_two_sessions_of_one_name_are_held_and_reported_and_one_is_enough(lab):
    eid, _, _ = lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    other = lab.session()
    lab.insertion(other)
    lab.ticks(2)
    assert lab.states == {KEY: "held"}
    assert other in lab.record().reason or eid in lab.record().reason
    lab.server.delete_session(other)
    lab.reconcile()
    lab.ticks(4)
    assert lab.states == {KEY: "ready"} and lab.record().eid == eid
    assert len(lab.asked) == 1


@pytest.mark.parametrize("listed_last", [False, True])
def test_a_twin_that_is_renumbered_frees_both(lab, listed_last):
    eid, _, _ = lab.recorded()
    other = lab.session()
    lab.insertion(other)
    if listed_last:  # Alyx gives equal start times in any order
        lab.server.sql("sessions", eid, narrative="a script moves the row")
    lab.ticks(3)
    assert lab.states == {KEY: "held"}
    lab.server.patch_session(other, number=2)
    lab.ticks(4)
    assert lab.states == {KEY: "ready", "M1_20260115_2_probe00": "not_ready"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"json": {"IS_MOCK": True}}, "trial run"),
        ({"subject": "test_subject_3"}, "exclude_subjects"),
        ({"subject": "TEST_SUBJECT"}, "exclude_subjects"),
        ({"day": "2027-01-15"}, "future"),
        ({"day": "2019-01-15"}, "alyx.since"),
    ],
)
def test_sessions_that_nobody_wants_are_left_out(tmp_path, server, more, why):
    lab = AlyxLab(tmp_path, server, more="since: 2025-01-01")
    lab.tick()
    lab.recorded(**more)
    lab.ticks(3)
    lab.reconcile()
    lab.ticks(3)
    assert lab.states == {}


def test_that_a_session_is_left_out_is_said_once(lab, capfd):
    eid = lab.session(json={"IS_MOCK": True})
    lab.insertion(eid)
    for hours in (0, 0, 7):
        lab.wait(hours=hours)
        lab.reconcile()
        lab.ticks(2)
    lab.server.patch_session(eid, narrative="a mock still")
    lab.ticks(2)
    assert capfd.readouterr().err.count("is left out") == 1


def test_a_backdated_session_is_found(lab):
    lab.recorded(day="2025-03-02")
    lab.ticks(2)
    assert lab.states == {"M1_20250302_1_probe00": "ready"}


def test_a_future_date_is_waited_out_or_corrected(lab):
    eid, file, _ = lab.recorded(day="2026-01-25")
    lab.ticks(3)
    assert lab.states == {}
    lab.wait(days=10)
    lab.reconcile()
    lab.ticks(2)
    assert lab.states == {"M1_20260125_1_probe00": "ready"}


def test_a_session_without_start_time_gets_its_day_from_its_files_or_waits_for_one(lab):
    eid = lab.server.add_session("M1", None, 1, projects=["p"], lab="lab")["id"]
    lab.insertion(eid)
    lab.ticks(2)
    assert lab.states == {}
    lab.server.patch_session(eid, start_time="2026-01-14T10:00:00")
    lab.tick()
    assert list(lab.states) == ["M1_20260114_1_probe00"]
    dated, _, _ = lab.recorded(subject="M2")
    lab.server.patch_session(dated, start_time=None)
    lab.ticks(2)
    assert lab.states["M2_20260115_1_probe00"] == "ready"


def test_mock_sessions_are_taken_where_the_lab_says_so(tmp_path, server):
    lab = AlyxLab(tmp_path, server, more="include_mock: true")
    lab.tick()
    lab.recorded(json={"IS_MOCK": True})
    lab.ticks(2)
    assert lab.states == {KEY: "ready"}


def test_an_outage_changes_nothing_and_afterwards_nothing_is_missing(lab):
    lab.recorded()
    lab.ticks(2)
    cursor = lab.cursor
    lab.recorded(subject="M2")
    lab.server.down = True
    with pytest.raises(TransientFailure):
        lab.tick()
    assert lab.cursor == cursor and lab.states == {KEY: "ready"}
    lab.wait(hours=30)
    lab.server.down = False
    lab.ticks(2)
    assert sorted(lab.states.values()) == ["ready", "ready"]


def test_an_outage_in_the_middle_of_a_tick_loses_no_session(lab):
    for number in range(1, 6):
        lab.recorded(number=number)
    calls = []

    def stop_after(*_):
        calls.append(1)
        lab.server.down = len(calls) > 9

    real = lab.client.read
    lab.client.read = lambda *a: (stop_after(), real(*a))[1]
    for _ in range(3):
        try:
            lab.tick()
        except TransientFailure:
            break
    lab.client.read = real
    lab.server.down = False
    lab.ticks(3)
    assert sorted(lab.states.values()) == ["ready"] * 5
    assert len(lab.started) == 5


def test_one_session_that_the_server_cannot_show_does_not_hide_others(lab):
    bad, _, _ = lab.recorded()
    lab.recorded(subject="M2")
    real = lab.client.read

    def read(endpoint, name):
        if name == bad:
            raise PermanentFailure("500: 'NoneType' object has no attribute 'name'")
        return real(endpoint, name)

    lab.client.read = read
    lab.ticks(2)
    assert list(lab.states) == ["M2_20260115_1_probe00"]


def test_an_ignored_filter_stops_everything(tmp_path, server):
    lab = AlyxLab(tmp_path, server, more="most_sessions: 3")
    lab.tick()
    for number in range(1, 6):
        lab.recorded(number=number)
    with pytest.raises(TransientFailure, match="5"):
        lab.tick()
    assert lab.states == {} and not lab.started


@pytest.mark.parametrize("killed_after", ["events", "keys", "runs"])
def test_a_crash_between_two_steps_neither_doubles_nor_loses_a_run(lab, killed_after):
    lab.recorded()
    lab.tick()
    lab.tick(until=killed_after)
    lab.ticks(3)
    assert lab.states == {KEY: "ready"} and len(lab.started) == 1


def test_several_probes_are_several_recordings_and_a_late_one_hides_none(lab):
    eid, _, _ = lab.recorded()
    lab.insertion(eid, "probe01")
    lab.ticks(2)
    assert lab.states == {KEY: "ready", "M1_20260115_1_probe01": "not_ready"}
    lab.register(eid, lab.copy_files(eid, "probe01"))
    lab.ticks(2)
    assert set(lab.states.values()) == {"ready"} and len(lab.started) == 2


def test_a_critical_insertion_holds_its_probe_only(lab):
    eid, _, _ = lab.recorded()
    pid = lab.insertion(eid, "probe01", json={"qc": "CRITICAL"})
    lab.register(eid, lab.copy_files(eid, "probe01"))
    lab.ticks(2)
    assert lab.states == {KEY: "ready", "M1_20260115_1_probe01": "held"}
    lab.server.patch_insertion(pid, json={"qc": "WARNING"})
    lab.ticks(2)
    assert set(lab.states.values()) == {"ready"}


def test_what_waits_too_long_is_reported(lab):
    lab.insertion(lab.session())
    lab.tick()
    assert not lab.reconcile().asset_events
    lab.wait(days=8)
    [event] = lab.reconcile().asset_events
    assert event.partition == KEY
    assert "waits for 8" in event.metadata["alert"].value


def test_a_recording_that_was_asked_for_and_never_started_is_asked_for_again(lab):
    lab.daemon_lives = False
    lab.recorded()
    lab.ticks(2)
    assert len(lab.asked) == 1
    lab.wait(hours=5)
    lab.reconcile()
    lab.tick()
    assert [run_key for run_key, _ in lab.asked] == [f"{KEY}:1", f"{KEY}:2"]


def test_a_lost_run_is_not_forgotten_when_the_comparison_breaks_off(lab):
    lab.daemon_lives = False
    lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.server.down = True
    with pytest.raises(TransientFailure):
        lab.reconcile()
    lab.server.down = False
    lab.reconcile()
    lab.tick()
    assert len(lab.asked) == 2


def test_a_recording_that_has_a_run_is_not_asked_for_again(lab):
    lab.recorded()
    lab.ticks(2)
    lab.wait(hours=5)
    lab.reconcile()
    lab.ticks(2)
    assert len(lab.asked) == 1


def test_sessions_from_before_the_first_look_are_found_by_the_comparison(tmp_path, server):
    lab = AlyxLab(tmp_path, server, keys=3)
    for number in range(1, 8):
        lab.recorded(number=number)
    lab.wait(days=30)
    lab.tick()
    assert lab.states == {}
    lab.reconcile()
    sizes = []
    for _ in range(6):
        before = len(lab.started)
        lab.tick()
        sizes.append(len(lab.started) - before)
    assert max(sizes) <= 3 and len(lab.states) == 7
    lab.ticks(3)
    assert set(lab.states.values()) == {"ready"}


def test_a_long_list_of_the_comparison_waits_in_the_store_and_not_in_the_cursor(
    tmp_path, server, monkeypatch
):
    from neuro_assets.sensors import discovery

    monkeypatch.setattr(discovery, "RECHECKS_PER_TICK", 6)
    lab = AlyxLab(tmp_path, server, keys=2)
    for number in range(1, 31):
        lab.insertion(lab.session(number=number))
    lab.wait(days=30)
    lab.tick()
    lab.reconcile()
    left = []
    for _ in range(25):
        lab.tick()
        left.append(len(lab.pending()))
    assert max(left) <= 6 and len(lab.states) == 30


def test_silent_edits_of_datasets_are_found_in_turn(lab):
    eid, _, (ap, _) = lab.recorded()
    lab.ticks(2)
    first = lab.record().raw_version
    lab.wait(days=3)
    lab.tick()
    lab.server.sql("datasets", ap, hash="c" * 32)
    lab.tick()
    assert lab.record().raw_version == first
    lab.reconcile()
    lab.ticks(2)
    assert lab.record().raw_version != first


def test_rows_that_are_edited_between_two_pages_are_not_missed(lab):
    """Rows that move from the first page to the end pull others over the border of the pages."""
    eid = lab.session()
    lab.insertion(eid)

    def others(numbers: range) -> None:
        for i in numbers:
            path = f"raw_ephys_data/probe00/other{i}.ap.meta"
            lab.server.add_dataset(eid, path, dataset_type="ephysData.raw.meta")

    others(range(1005))
    late, _, (ap, _) = lab.recorded(subject="M2")
    others(range(1005, 1100))
    lab.ticks(3)
    assert lab.states["M2_20260115_1_probe00"] == "ready"
    lab.wait(hours=5)
    lab.tick()
    # Every row is touched in turn, the file of the late session with another hash.
    for row in lab.client.rows("datasets", most=2000):
        row_id = row["url"].rsplit("/", 1)[-1]
        lab.server.patch_dataset(row_id, **({"hash": "d" * 32} if row_id == ap else {"qc": "PASS"}))
    assert lab.client.page("datasets").count == 1102
    first = lab.client.page("datasets").rows[:40]
    edited = []

    def edit(endpoint: str, offset: int) -> None:
        if endpoint == "datasets" and not edited:
            for row in first:
                edited.append(lab.server.patch_dataset(row["url"].rsplit("/", 1)[-1], qc="PASS"))

    lab.server.between_pages = edit
    lab.tick()
    lab.server.between_pages = None
    assert len(edited) == 40
    assert lab.states["M2_20260115_1_probe00"] == "not_ready"  # seen, and to be confirmed


def test_the_clock_that_is_set_back_in_autumn_hides_nothing(tmp_path):
    fold = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 02:00 BST becomes 01:00 GMT
    with AlyxServer(now=fold - timedelta(minutes=8)) as server:
        lab = AlyxLab(tmp_path, server, more="overlap_minutes: 75")
        lab.tick()
        for number in range(1, 25):
            eid, _, _ = lab.recorded(day="2026-10-24", number=number)
            lab.wait(minutes=1)
            lab.tick(seconds=1)
        lab.ticks(3)
        assert len(lab.states) == 24 and set(lab.states.values()) == {"ready"}
        before = {key: record.eid for key, record in lab.records.items()}
        eid = before["M1_20261024_1_probe00"]
        lab.server.patch_session(eid, qc="CRITICAL")
        lab.tick()
        assert lab.states["M1_20261024_1_probe00"] == "held"


FOLDS = [  # clocks are set back: London, New York, Lord Howe (by half an hour)
    datetime(2026, 10, 25, 1),
    datetime(2026, 11, 1, 6),
    datetime(2026, 4, 4, 15),
]
NEAR_FOLDS = st.builds(
    lambda fold, minutes: fold + timedelta(minutes=minutes),
    st.sampled_from(FOLDS),
    st.integers(-120, 120),
)


@given(
    st.one_of(NEAR_FOLDS, st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1))),
    st.integers(0, 90 * 60),
    st.sampled_from(["Europe/London", "UTC", "America/New_York", "Australia/Lord_Howe"]),
)
def test_no_row_that_is_written_later_lies_before_the_bound(moment, seconds, name):
    zone = ZoneInfo(name)
    instant = moment.replace(tzinfo=UTC, microsecond=0)
    bound = datetime.fromisoformat(local_bound(instant, zone))
    written = (instant + timedelta(seconds=seconds)).astimezone(zone).replace(tzinfo=None)
    assert written >= bound


def test_a_quiet_tick_makes_at_most_four_requests(lab):
    lab.recorded()
    lab.ticks(4)
    assert lab.n_requests(lab.tick) <= 4
    lab.wait(hours=4)
    lab.tick()
    assert lab.n_requests(lab.tick) <= 3


def test_a_quiet_tick_writes_nothing_to_the_registry(lab):
    lab.recorded()
    lab.ticks(4)
    before = lab.record()
    lab.ticks(3)
    assert lab.record() == before


def test_a_damaged_cursor_is_one_clear_error():
    with pytest.raises(PermanentFailure, match="reset it in the user interface"):
        AlyxCursor.decode(json.dumps({"version": 2, "since": None, "rows": "x"}))
    assert AlyxCursor.decode(json.dumps({"version": 0})) == AlyxCursor()


def test_throttling_is_waited_for(lab):
    for number in range(1, 4):
        lab.recorded(number=number)
    lab.server.throttle(6, retry_after=1)
    for _ in range(6):
        try:
            lab.tick(seconds=61)
        except TransientFailure:
            continue
    lab.server.throttle(None)
    lab.ticks(4)
    assert sorted(lab.states.values()) == ["ready"] * 3
    assert len(lab.started) == 3


def test_a_recording_in_a_folder_and_in_alyx_is_one(tmp_path, server):
    sources = "[{name: rig, path: rig, settle_minutes: 0}]"
    lab = AlyxLab(tmp_path, server, sources=sources)
    rig = tmp_path / "rig"
    rig.mkdir()
    eid = lab.session()
    file = lab.copy_files(eid)
    folder = rig / "lab" / "Subjects" / "M1" / "2026-01-15"
    folder.mkdir(parents=True)
    import shutil

    shutil.copytree(file.parents[2], folder / "001")
    lab.tick()
    assert lab.record().session.source == "rig" and len(lab.started) == 1
    lab.insertion(eid)
    lab.register(eid, file)
    lab.ticks(3)
    record = lab.record()
    assert (record.key, record.eid, record.state) == (KEY, eid, "ready")
    assert len(lab.started) == 1


def test_what_a_video_waits_for_does_not_spare_a_recording_its_second_reading(lab):
    eid, *_ = lab.recorded()
    whole = lab.source.describe(eid)
    seen = whole.model_copy(update={"settled": False, "waiting": {"video": ("not yet copied",)}})
    call = _Call(lab.source, AlyxCursor(), ScanResult(lab.server.now), None, ())
    first, second = call._confirmed(seen), call._confirmed(seen)
    assert (first.settled, second.settled) == (False, True)
    broken = seen.model_copy(update={"waiting": {r.label: ("cut",) for r in seen.recordings}})
    assert call._confirmed(broken).settled
