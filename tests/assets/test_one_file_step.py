"""A step is one file: nothing else in the package has to be changed for a new one."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets import names
from neuro_assets.assets import steps
from neuro_assets.assets.catalog import all_steps, in_order, step_models
from neuro_assets.assets.step import Need, step
from neuro_assets.config import ConfigError, LabConfig, parse_config
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.base import StepParameters
from neuro_assets.science.result import StepResult
from neuro_assets.store.judgement import judgement

WARN = dg.AssetCheckSeverity.WARN

TOY = '''
"""A derived asset in one file: how long a recording is, in a unit of one's own."""

from typing import ClassVar

import pandas as pd
from pydantic import Field

from neuro_assets import names
from neuro_assets.assets.step import Need, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.science.result import StepResult


class ToyParameters(StepParameters):
    step: ClassVar[str] = "toy"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(source="here"),
        "minutes": NamedSet(source="here", values={"unit_s": 60.0}),
    }
    unit_s: float = Field(1.0, gt=0, description="Length of the unit, seconds")


CRITERIA = (Criterion("length", "extent", "1", warning=1e-6, above=False),)


def specs(config):
    @step(
        config.step(ToyParameters),
        group=names.RECORDING,
        kinds={"parquet"},
        needs=[Need(names.RAW_RECORDING)],
        io_manager_key="parquet_io",
        criteria=CRITERIA,
        pool=names.HEAVY_POOL,
    )
    def toy(step):
        """Length of the recording."""
        stream = step.raw.record.raw.main
        length = stream.n_samples / stream.sampling_frequency / step.parameters.unit_s
        return StepResult(
            metrics={"length": length}, tables={"toy": pd.DataFrame({"length": [length]})}
        )

    return [toy]
'''


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A folder of steps beside the package's own, with one file."""
    folder = tmp_path / "more_steps"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(folder)])
    yield folder
    sys.modules.pop(f"{steps.__name__}.toy", None)


def test_a_new_file_is_an_asset_with_checks_parameters_and_a_state(tmp_path, toy):
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000)
    lab = SmallLab(tmp_path, "store: {url: store}\nsteps: {toy: {set: minutes}}")
    (key,) = lab.register(tmp_path / "raw")
    assert lab.outcomes(key)["toy"] == "waiting"
    node = lab.defs.get_repository_def().asset_graph.get(dg.AssetKey("toy"))
    assert (node.group_name, node.pools) == ("recording", {"heavy"})

    result = lab.run("process", key, only=["toy"])

    assert result.success
    state = lab.states(key)["toy"]
    assert (state.outcome.value, state.out_of_date) == ("complete", ())
    assert state.stored.table("toy")["length"][0] == pytest.approx(0.1 / 60)
    assert {name for asset, name in lab.checks(result) if asset == "toy"} == {
        "outcome", "usable", "extent",
    }  # fmt: skip
    changed = lab.with_text("store: {url: store}").states(key)["toy"]
    assert "parameters: unit_s from 60.0 to 1.0" in changed.out_of_date


def test_a_changed_or_new_criterion_judges_what_is_stored_and_computes_nothing(tmp_path, toy):
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000)
    before = SmallLab(tmp_path, "store: {url: store}")
    (key,) = before.register(tmp_path / "raw")
    assert before.run("process", key, only=["toy"]).success
    made = before.store.current("toy", key)
    assert [row["verdict"] for row in judgement(made)] == ["PASS"]

    new = 'warning=5, above=False), Criterion("width", "form", "1", fail=1))'
    broken = TOY.replace("warning=1e-6, above=False),)", new)
    (toy / "toy.py").write_text(broken.replace("return StepResult(", "raise AssertionError("))
    sys.modules.pop(f"{steps.__name__}.toy")
    after = before.with_text("store: {url: store}  # read again")
    result = after.run("process", key, only=["toy"])

    assert result.success
    now = after.store.current("toy", key)
    assert now.attempt == made.attempt
    assert {row["metric"]: row["verdict"] for row in judgement(now)} == {
        "length": "WARNING", "width": "NOT_SET",
    }  # fmt: skip
    checks = {name: check for (asset, name), check in after.checks(result).items()}
    assert checks["outcome"].passed and checks["usable"].passed
    assert (checks["extent"].passed, checks["extent"].severity) == (False, WARN)
    assert (checks["form"].passed, checks["form"].severity) == (False, WARN)
    assert "width not measured: the output is older" in checks["form"].description

    (toy / "toy.py").write_text(TOY)
    sys.modules.pop(f"{steps.__name__}.toy")
    assert before.with_text("store: {url: store}  #").run("process", key, only=["toy"]).success
    assert [row["verdict"] for row in judgement(now)] == ["PASS"]


def test_its_parameters_are_checked_as_those_of_any_step(toy):
    assert "toy" in step_models()
    with pytest.raises(ConfigError, match="did you mean 'unit_s'"):
        all_steps(parse_config("steps: {toy: {parameters: {unit: 3}}}"))
    with pytest.raises(ConfigError, match="no parameter set 'hours'"):
        all_steps(parse_config("steps: {toy: {set: hours}}"))


def test_without_its_file_the_step_does_not_exist():
    with pytest.raises(ConfigError, match="there is no step 'toy'"):
        all_steps(parse_config("steps: {toy: {}}"))


def test_sorter_sets_are_set_under_sorters_only():
    with pytest.raises(ConfigError, match="there is no step 'sorting'"):
        all_steps(parse_config("steps: {sorting: {}}"))


def declared(name: str, *needs: str, **others):
    @step(
        StepParameters(), name=name, group="lfp", kinds=set(), needs=[Need(n) for n in needs],
        io_manager_key="parquet_io", **others,
    )  # fmt: skip
    def compute(step) -> StepResult:
        """Do nothing."""
        return StepResult()

    return compute


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([declared("a", "b"), declared("b", "a")], "circle: a -> b -> a"),
        ([declared("a"), declared("a")], "one name"),
        ([declared("a", "c")], "a needs c, which no step makes"),
        (
            [declared("a", names.RAW_RECORDING, scope="session")],
            "a is made once a session and may not need raw_recording",
        ),
        (
            [declared("a", names.RAW_RECORDING), declared("b", "a", scope="session")],
            "b is made once a session and may not need a",
        ),
    ],
)
def test_steps_that_do_not_fit_together_are_refused(specs, words):
    with pytest.raises(PermanentFailure, match=words):
        in_order(specs)


def test_a_sorter_that_nobody_here_knows_needs_no_code():
    lab = LabConfig.model_validate({"sorters": [{"name": "mine", "sorter": "herdingspikes"}]})
    names_of = {spec.name: spec for spec in all_steps(lab)}
    assert {"sorting_mine", "analyzer_mine", "unit_quality_mine"} <= names_of.keys()
    assert names_of["sorting_mine"].pool == "heavy"


def test_kilosort_is_a_special_case_in_one_place_only():
    root = Path(steps.__path__[0]).parents[1]
    special = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "kilosort4" in line and (" if " in f" {line}" or "==" in line or line.startswith("GPU"))
    ]
    assert special == ["parameters/sorting.py"]
