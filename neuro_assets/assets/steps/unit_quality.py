"""The judgement of the units of each sorter set."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.parameters.unit_quality import UnitQualityParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult

JUDGED = (
    Criterion(
        "good_fraction_judged", "verdicts", "1", warning=0.001, above=False,
        source="neuro_assets: not one of the units that could be judged is good",
    ),
    Criterion("n_units_good", "verdicts", "units"),
    Criterion("n_units_bad", "verdicts", "units"),
    Criterion("n_units_noise", "verdicts", "units"),
    Criterion("n_units_unknown", "verdicts", "units"),
)  # fmt: skip
"""Labels of units; `unknown_because` and `noise_because` are beside them."""

CRITERIA = (
    *JUDGED,
    Criterion(
        "median_snr", "isolation", "1", warning=3, above=False,
        source="neuro_assets: peaks of fewer than three SD of the noise are hardly units",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give one step for each sorter set."""
    return [_unit_quality(config, sorter.name) for sorter in config.sorters]


def _unit_quality(config: LabConfig, sorter: str) -> StepSpec:
    source = names.analyzer(sorter)

    @step(
        config.step(UnitQualityParameters),
        name=names.unit_quality(sorter),
        group=names.SORTING,
        kinds={"parquet"},
        needs=[Need(source)],
        io_manager_key=PARQUET,
        criteria=CRITERIA,
        packages=("spikeinterface",),
    )
    def unit_quality(step: Step) -> StepResult:
        """One row a unit: SpikeInterface's metrics, IBL's label, and ours."""
        from neuro_assets.science.analyzer import open_analyzer
        from neuro_assets.science.unit_quality import unit_quality as measure

        return measure(
            open_analyzer(step.stored(source).local()),
            step.folder,
            step.parameters,
            progress=step.progress,
        )

    return unit_quality
