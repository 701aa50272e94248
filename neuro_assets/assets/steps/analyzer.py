"""Waveforms, templates, locations and metrics of the units of each sorter set."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.parameters.analyzer import AnalyzerParameters
from neuro_assets.resources.io_managers import ZARR_ANALYZER
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "duplicate_fraction", "duplicates", "1", warning=0.2, fail=0.5,
        source="neuro_assets: many duplicates mean an over-split sorting",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give one step for each sorter set."""
    return [_analyzer(config, sorter.name) for sorter in config.sorters]


def _analyzer(config: LabConfig, sorter: str) -> StepSpec:
    source = names.sorting(sorter)

    @step(
        config.step(AnalyzerParameters),
        name=names.analyzer(sorter),
        group=names.SORTING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
            Need(source),
        ],
        io_manager_key=ZARR_ANALYZER,
        criteria=CRITERIA,
        packages=("scikit-learn", "spikeinterface"),
        pool=names.HEAVY_POOL,
    )
    def analyzer(step: Step) -> StepResult:
        """Waveforms, templates, locations and metrics of the units, without duplicates."""
        from neuro_assets.science.analyzer import analyze_sorting
        from neuro_assets.science.compression.run import open_compressed
        from neuro_assets.science.sorting import open_sorting

        return analyze_sorting(
            open_compressed(step.stored(names.COMPRESSED_RECORDING).local()),
            open_sorting(step.stored(source).local()),
            step.stored(names.BAD_CHANNELS).table("channels"),
            step.folder,
            step.parameters,
            saturation=step.stored(names.RECORDING_QUALITY).table("saturation"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return analyzer
