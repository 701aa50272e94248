"""What a step reads of the record is part of its version, and status says what changed."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import date

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.inventory import inventory
from neuro_assets.outcomes import Outcome
from neuro_assets.store import Attempt, InputRef, Manifest

TEXT = "lab: mylab\nstore: {url: store}\n"


@pytest.fixture
def lab(tmp_path):
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    return SmallLab(tmp_path, TEXT)


def stored_nwb(lab, record, step, refs=()):
    manifest = Manifest(
        asset="nwb",
        key=record.key,
        version=step.version(list(refs), record.key, record),
        outcome="complete",
        code_version=step.code_version,
        parameters=step.values(record.key, record),
        inputs=list(refs),
        packages=dict(step.releases),
        clock=step.clock,
        turn=1,
    )
    with lab.store.attempt("nwb", record.key, manifest.version) as attempt:
        (attempt.folder / "f").write_bytes(b"x")
        attempt.commit(manifest)


def reasons(lab, record, step):
    (state,) = inventory(lab.store, {record.key: record}, [step])
    assert state.outcome is Outcome.COMPLETE
    return state.out_of_date


def test_an_nwb_file_of_another_subject_or_day_is_out_of_date(lab, tmp_path) -> None:
    (key,) = lab.register(tmp_path / "raw")
    record = lab.registry.get(key)
    (step,) = [replace(s, needs=()) for s in all_steps(lab.config) if s.name == "nwb"]
    stored_nwb(lab, record, step)
    assert reasons(lab, record, step) == ()
    session = record.session.model_copy(update={"subject": "M2", "date": date(2001, 2, 3)})
    found = reasons(lab, record.model_copy(update={"session": session}), step)
    assert [line.split(" from ")[0] for line in found] == [
        "parameters: session.date",
        "parameters: session.subject",
    ]
    assert found[1] == f"parameters: session.subject from {record.session.subject} to M2"


def test_a_need_that_is_gone_is_out_of_date(lab, tmp_path) -> None:
    (key,) = lab.register(tmp_path / "raw")
    record = lab.registry.get(key)
    (step,) = [replace(s, needs=()) for s in all_steps(lab.config) if s.name == "nwb"]
    stored_nwb(lab, record, step, [InputRef(asset="analyzer_gone", version="v", digest="d")])
    assert reasons(lab, record, step) == ("input: analyzer_gone is no longer used",)


def test_a_disk_that_was_full_leaves_no_file_of_metadata_alone(lab, tmp_path, monkeypatch) -> None:
    (key,) = lab.register(tmp_path / "raw")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "commit", full)
        assert not lab.run("process", key, only=["compressed_recording"]).success
    assert not lab.run("publish", key, only=["nwb"]).success
    nwb = lab.states(key)["nwb"]
    assert nwb.outcome is Outcome.FAILED
    assert "nothing that the file could hold was made (compressed_recording" in nwb.detail
    assert "space" in nwb.detail
