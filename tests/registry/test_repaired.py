"""Repaired raw data of a failed recording run again by themselves, and the old error is gone."""

from __future__ import annotations

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.inventory import inventory
from neuro_assets.outcomes import Outcome
from neuro_assets.registry.actions import ActionKind
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import InputRef
from neuro_assets.store.model import Manifest, now

KEY = "M1_20240512_1_probe00"
TEXT = """
sources: [{name: rig, path: data, settle_minutes: 0}]
store: {url: store}
"""


@pytest.fixture
def lab(tmp_path):
    write(tmp_path / "data/M1/a_g0_t0.imec0.ap.bin")
    return SmallLab(tmp_path, TEXT)


def look(lab, name="rig"):
    source = LocalSessionSource(lab.folder / "data", name=name, settle_s=0)
    (action,) = register_sessions(lab.registry, source.survey()[0])
    return action


def fail(lab, asset, *inputs):
    lab.store.fail(
        Manifest(
            asset=asset, key=KEY, version="0" * 16, outcome=Outcome.FAILED, code_version="1-a",
            parameters={}, inputs=list(inputs), packages={}, clock="probe", started=now(),
            run_id="r", error={"type": "PermanentFailure", "message": "the file is cut"},
        )
    )  # fmt: skip


def states(lab):
    found = inventory(lab.store, lab.registry.all(), all_steps(lab.config))
    return {state.asset: state for state in found}


def test_a_failed_recording_runs_again_when_its_raw_data_change(lab):
    first = look(lab)
    raw = InputRef(asset="raw_recording", version=first.record.raw_version, attempt="")
    fail(lab, "compressed_recording", raw)
    assert states(lab)["compressed_recording"].outcome is Outcome.FAILED
    write(lab.folder / "data/M1/a_g0_t0.imec0.ap.bin", 400)
    action = look(lab)
    assert (action.kind, action.run) == (ActionKind.CHANGE, True)
    shown = states(lab)["compressed_recording"]
    assert (shown.outcome, shown.detail) == (Outcome.WAITING, "a run")


def test_what_never_came_to_a_result_runs_again_too(lab):
    look(lab)
    write(lab.folder / "data/M1/a_g0_t0.imec0.ap.bin", 400)
    assert look(lab).run


def test_data_changed_on_the_way_to_another_folder_source_have_another_version(lab):
    before = look(lab).record
    register_sessions(lab.registry, [], [("rig", before.session.session_id)])
    meta = lab.folder / "data/M1/a_g0_t0.imec0.ap.meta"
    meta.write_text(meta.read_text().replace(" 500 250 1)", " 1000 250 1)"))
    action = look(lab, "archive")
    assert (action.kind, action.record.version_alias) == (ActionKind.CHANGE, "")
    assert action.record.raw_version != before.raw_version
