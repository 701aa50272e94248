"""Raw data that change while a step reads them are never stored under the old version."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.alyx.files.repositories import Repositories
from neuro_assets.assets import runner
from neuro_assets.registry.metadata import RemoteFile
from neuro_assets.science.compression import run as compression

KEY = "raw_20240512_1_probe00"
COPY = "compressed_recording"
TEXT = "lab: l\nstore: {url: store}\n"


@pytest.fixture
def lab(tmp_path, monkeypatch) -> SmallLab:
    monkeypatch.setattr(runner, "RETRIES", None)
    lab = SmallLab(tmp_path, TEXT)
    write(path(lab), n=3000)
    assert lab.register(tmp_path / "raw") == [KEY]
    return lab


def path(lab):
    return lab.folder / "raw/M1_g0_t0.imec0.ap.bin"


def failure(lab):
    assert not lab.run("process", KEY, only=[COPY]).success
    assert lab.store.current(COPY, KEY) is None
    return lab.store.failure(COPY, KEY).error


def other(lab):
    """Another file of the same name and size."""
    write(path(lab), n=3000, seed=1)


def longer(lab):
    with path(lab).open("ab") as file:
        file.write(b"12" * 9)


@pytest.mark.parametrize("change", [other, longer])
def test_files_that_changed_after_they_were_registered_are_not_read(lab, change):
    change(lab)
    error = failure(lab)
    assert error["type"] == "TransientFailure"
    assert "changed since they were registered" in error["message"]
    assert f"neuro-assets run {path(lab).parent}" in error["message"]


@pytest.mark.parametrize("change", [other, longer])
@pytest.mark.parametrize("when", ["before", "after"])
def test_files_that_change_while_they_are_read_leave_no_output(lab, monkeypatch, change, when):
    real = compression.compress_recording

    def compress(*given, **more):
        if when == "before":
            change(lab)
        result = real(*given, **more)
        change(lab)
        return result

    monkeypatch.setattr(compression, "compress_recording", compress)
    error = failure(lab)
    assert error["type"] == "TransientFailure"
    assert "changed while they were read" in error["message"]


def test_what_did_not_change_is_stored_and_a_failure_stays_what_it_is(lab, monkeypatch):
    def broken(*given, **more):
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(compression, "compress_recording", broken)
        assert failure(lab) == {"type": "ValueError", "message": "a bug"}
    assert lab.run("process", KEY, only=[COPY]).success
    stored = lab.store.current(COPY, KEY)
    assert stored.manifest.inputs[0].version == lab.registry.get(KEY).raw_version


def test_a_version_that_a_database_gave_is_only_compared_before_and_after(lab, monkeypatch):
    """Alyx names raw data by its hashes; what is fetched has the time at which it came."""
    record = lab.registry.get(KEY)
    session = record.session.model_copy(update={"session_id": "e1"})
    fetched = []
    names = {"eid": "e1", "session": session, "raw_version": "of-alyx", "reported": "of-alyx"}
    remote = RemoteFile(path="a.bin", repository="r", source="s", size=1)
    lab.registry.update(KEY, lambda record: {**names, "remote_files": (remote,)})

    def present(self, files, folder, report):
        fetched.append(folder)
        os.utime(path(lab))
        return nullcontext()

    monkeypatch.setattr(Repositories, "present", present)
    assert lab.run("process", KEY, only=[COPY]).success
    assert fetched == [path(lab).parent]
    real = compression.compress_recording

    def compress(*given, **more):
        result = real(*given, **more)
        other(lab)
        return result

    monkeypatch.setattr(compression, "compress_recording", compress)
    assert not lab.run("process", KEY, only=[COPY], tags={"neuro/force": "true"}).success
    assert "while they were read" in lab.store.failure(COPY, KEY).error["message"]
