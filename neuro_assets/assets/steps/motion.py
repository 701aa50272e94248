"""Movement of the probe against the tissue."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion, limits_of
from neuro_assets.config import LabConfig
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "drift_rms_um", "drift", "um", warning=20, fail=50,
        source="neuro_assets: one and two and a half contact pitches of Neuropixels",
    ),
    Criterion(
        "max_jump_um", "drift", "um", warning=20,
        source="neuro_assets: jumps beyond one contact pitch break rigid correction",
    ),
    Criterion(
        "confident_fraction", "drift", "1", warning=0.5, above=False,
        source="neuro_assets: most of the probe shows too few spikes to tell its motion",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(MotionParameters),
        group=names.RECORDING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
        ],
        io_manager_key=PARQUET,
        criteria=CRITERIA,
        packages=("scipy", "spikeinterface", "torch"),
        pool=names.HEAVY_POOL,
    )
    def motion(step: Step) -> StepResult:
        """Movement of the probe against the tissue: estimated, and not applied unless asked."""
        from neuro_assets.science.compression.run import open_compressed
        from neuro_assets.science.motion import estimate_motion

        return estimate_motion(
            open_compressed(step.stored(names.COMPRESSED_RECORDING).local()),
            step.stored(names.BAD_CHANNELS).table("channels"),
            step.folder,
            step.parameters,
            saturation=step.stored(names.RECORDING_QUALITY).table("saturation"),
            limits_um=limits_of(CRITERIA, "drift_rms_um"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return [motion]
