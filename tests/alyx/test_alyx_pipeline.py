"""From a session in Alyx to stored results: files in place, files that are fetched, NWB."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from alyx_lab import LOCAL, AlyxLab
from fake_alyx.server import AlyxServer

KEY = "M1_20260115_1_probe00"


@pytest.fixture
def server():
    with AlyxServer(now=datetime(2026, 1, 15, 8, tzinfo=UTC)) as server:
        yield server


@pytest.fixture
def remote(tmp_path, server, monkeypatch):
    """A lab that reaches the data repository through its links only."""
    import alyx_lab

    monkeypatch.setattr(
        alyx_lab, "TEXT", alyx_lab.TEXT.replace("lab_server: repository", "lab_server: download")
    )
    lab = AlyxLab(tmp_path, server)
    server.add_repository(LOCAL, lab="lab", personal=True, folder=lab.repository)
    lab.tick()
    return lab


def test_files_are_fetched_by_the_step_that_reads_them(remote):
    _, file, _ = remote.recorded()
    remote.ticks(2)
    record = remote.record()
    assert record.state == "ready"
    fetched = {f.path.rsplit("/", 1)[-1] for f in record.remote_files}
    assert fetched == {file.name, file.with_suffix(".meta").name}
    assert not list((remote.folder / "alyx_cache").rglob("*.bin")), "a sensor fetches no raw data"
    result = remote.lab.run("process", KEY, only=["compressed_recording"])
    assert result.success
    assert list((remote.folder / "alyx_cache").rglob("*.bin"))
    [state] = [s for s in remote.lab.states(KEY).values() if s.asset == "compressed_recording"]
    assert state.outcome.value == "complete"


def test_a_wrong_size_in_the_database_is_one_error_and_not_downloaded_for_ever(remote):
    _, file, (ap, _) = remote.recorded()
    remote.server.patch_dataset(ap, file_size=file.stat().st_size + 18)
    remote.ticks(3)
    record = remote.record()
    if record.state == "ready":
        first = remote.lab.run("process", KEY, only=["compressed_recording"])
        assert not first.success
        [state] = [s for s in remote.lab.states(KEY).values() if s.asset == "compressed_recording"]
        assert "size" in state.detail or "bytes" in state.detail
        n = len([1 for _, path in remote.server.log if path.startswith("/data/")])
        remote.lab.run("process", KEY, only=["compressed_recording"])
        asked = [each for each in remote.server.log if each[1].startswith("/data/")][n:]
        assert not [p for method, p in asked if method == "GET" and p.endswith(".bin")], asked
    else:
        assert "bytes" in record.reason or "size" in record.reason


def test_what_alyx_says_goes_into_the_nwb_file_and_its_version(tmp_path, server):
    from pynwb import NWBHDF5IO

    lab = AlyxLab(tmp_path, server)
    lab.tick()
    lab.recorded(task_protocol="_iblrig_tasks_passiveChoiceWorld8.2.1")
    animal = lab.client.get("subjects/M1")["id"]
    born = {"birth_date": "2025-11-01", "sex": "F", "species": "Laboratory mouse"}
    lab.server.sql("subjects", animal, **born)
    lab.ticks(2)
    assert lab.lab.run("process", KEY, only=["compressed_recording"]).success
    assert lab.lab.run("publish", KEY, only=["nwb"]).success
    stored = lab.lab.store.current("nwb", KEY)
    [path] = stored.local().glob("*.nwb")
    with NWBHDF5IO(path, "r", load_namespaces=True) as io:
        said = io.read()
        assert said.subject.species == "Mus musculus"
        assert (said.subject.sex, said.subject.age) == ("F", "P75D")
        assert "passiveChoiceWorld" in said.experiment_description
    assert [i.asset for i in stored.manifest.inputs if i.asset == "recording_metadata"]
    # A corrected birth date makes the file, and nothing of the recording, out of date.
    lab.wait(hours=3)
    lab.server.sql("subjects", animal, birth_date="2025-10-01")
    lab.server.patch_session(lab.record().eid, narrative="corrected the birth date")
    lab.ticks(2)
    states = lab.lab.states(KEY)
    assert states["nwb"].out_of_date == ("input: recording_metadata",)
    assert states["compressed_recording"].out_of_date == ()
