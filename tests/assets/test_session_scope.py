"""What is made once a session: one computation, one folder, a pointer for each recording."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.assets import steps
from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.inventory import inventory
from neuro_assets.partitions import SET_NAME

pytestmark = pytest.mark.integration

TEXT = "store: {url: store}"

TOY = '''
"""A session's asset: computed slowly, and every computation leaves a line."""

import os
import time
from pathlib import Path
from typing import ClassVar

import pandas as pd

from neuro_assets import names
from neuro_assets.assets.step import Need, step
from neuro_assets.parameters.base import StepParameters
from neuro_assets.science.result import StepResult


class ToyParameters(StepParameters):
    step: ClassVar[str] = "toy"
    value: int = 1


class ToyChildParameters(StepParameters):
    step: ClassVar[str] = "toy_child"


def specs(config):
    common = {"group": "behavior", "kinds": {"parquet"}, "io_manager_key": "parquet_io"}

    @step(config.step(ToyParameters), needs=[], scope="session", clock="session", **common)
    def toy(step):
        """Made once a session."""
        with Path(os.environ["TOY_LOG"]).open("a") as log:
            log.write(f"{step.key} {os.getpid()}\\n")
        time.sleep(1)
        return StepResult(tables={"toy": pd.DataFrame({"x": [step.parameters.value]})})

    @step(config.step(ToyChildParameters), needs=[Need("toy")], **common)
    def toy_child(step):
        """Made of it, for each recording."""
        return StepResult(tables={"toy_child": step.stored("toy").table("toy")})

    return [toy, toy_child]
'''


def run_toy(folder: Path, key: str, barrier, answers) -> None:
    """Be the run of one probe, in a process of its own."""
    os.environ["TOY_LOG"] = str(folder / "computed")
    steps.__path__.append(str(folder / "more_steps"))
    lab = SmallLab(folder, TEXT)
    lab.instance.add_dynamic_partitions(SET_NAME, [key])
    lab.defs.get_job_def("process")
    barrier.wait()
    result = lab.run("process", key, only=["toy", "toy_child"])
    (version,) = [
        event.step_materialization_data.materialization.tags["dagster/data_version"]
        for event in result.get_asset_materialization_events()
        if event.asset_key.to_user_string() == "toy"
    ]
    answers.put((result.success, version))


@pytest.fixture
def lab(tmp_path, monkeypatch) -> SmallLab:
    """A session with four probes, and the toy steps."""
    (tmp_path / "more_steps").mkdir()
    (tmp_path / "more_steps" / "toy.py").write_text(TOY)
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(tmp_path / "more_steps")])
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "computed"))
    for probe in range(4):
        path = tmp_path / "raw" / "M1_g0" / f"M1_g0_t0.imec{probe}.ap.bin"
        write(path, n=300, seed=probe, serial=f"1900000000{probe}")
    lab = SmallLab(tmp_path, TEXT)
    lab.keys = lab.register(tmp_path / "raw")
    assert len(lab.keys) == 4
    yield lab
    sys.modules.pop(f"{steps.__name__}.toy", None)


def computed(lab: SmallLab) -> int:
    path = lab.folder / "computed"
    return len(path.read_text().splitlines()) if path.exists() else 0


def attempts(lab: SmallLab) -> list[Path]:
    return [path.parent for path in (lab.folder / "store" / "toy").rglob("manifest.json")]


def test_four_probes_at_once_compute_once(lab):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dagster", "neuro_assets.definitions", "labs"])
    # The limit only keeps a broken test from hanging.
    barrier, answers = context.Barrier(4, timeout=900), context.Queue()
    children = [
        context.Process(target=run_toy, args=(lab.folder, key, barrier, answers))
        for key in lab.keys
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    results = [answers.get() for child in children if child.exitcode == 0]
    assert [success for success, _ in results] == [True] * 4
    assert len({version for _, version in results}) == 1, "one data version for all keys"
    assert computed(lab) == 1
    (folder,) = attempts(lab)
    home = lab.registry.get(lab.keys[0]).session.store_key
    assert folder.relative_to(lab.folder / "store").parts[:2] == ("toy", home)
    assert not (lab.folder / "store" / "toy" / home / "current.json").exists()
    for key in lab.keys:
        assert [path.name for path in (lab.folder / "store" / "toy" / key).glob("*.json")] == [
            "current.json"
        ]
        assert (
            lab.store.current("toy", key).path
            == folder.relative_to(lab.folder / "store").as_posix()
        )
        assert lab.outcomes(key)["toy"] == lab.outcomes(key)["toy_child"] == "complete"
        assert not any(state.out_of_date for state in lab.states(key).values())
    assert lab.store.current("toy", lab.keys[0]).manifest.clock == "session"
    assert lab.store.verify() == []
    assert {garbage.kind for garbage in lab.store.gc(older_than_h=0)} <= {"scratch"}


def test_the_second_probe_reuses_and_a_changed_parameter_is_out_of_date_for_all(lab):
    first, second = lab.keys[:2]
    assert lab.run("process", first, only=["toy"]).success
    assert lab.outcomes(second)["toy"] == "waiting"
    assert lab.run("process", second, only=["toy"]).success
    assert computed(lab) == 1
    changed = lab.with_text("store: {url: store}\nsteps: {toy: {parameters: {value: 2}}}")
    for key in (first, second):
        assert changed.states(key)["toy"].out_of_date == ("parameters: value from 1 to 2",)
    toy = next(step for step in all_steps(lab.config) if step.name == "toy")
    records = {first: lab.registry.all()[first]}
    (state,) = inventory(lab.store, records, [replace(toy, clock="probe")])
    assert state.out_of_date == ("clock: session to probe",)
    assert changed.run("process", first, only=["toy"]).success
    assert changed.states(first)["toy"].out_of_date == ()
    assert changed.states(second)["toy"].out_of_date != ()


def test_a_failure_is_that_of_the_recording_whose_run_it_was(lab):
    path = lab.folder / "more_steps" / "toy.py"
    path.write_text(TOY.replace("time.sleep(1)", "raise RuntimeError('no camera')"))
    first, second = lab.keys[:2]
    assert not lab.run("process", first, only=["toy"]).success
    assert "no camera" in lab.states(first)["toy"].detail
    assert lab.outcomes(first)["toy"] == "failed"
    assert lab.outcomes(second)["toy"] == "waiting"
    path.write_text(TOY)
    sys.modules.pop(f"{steps.__name__}.toy")
    again = lab.with_text(TEXT + "  #")
    assert again.run("process", first, only=["toy"]).success
    assert again.outcomes(first)["toy"] == "complete"
