"""Local field potentials."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion, limits_of
from neuro_assets.config import LabConfig
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.resources.io_managers import ZARR_RECORDING
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "lfp_rms_uv_median", "amplitude", "uV", warning=1000, fail=5000,
        source="neuro_assets: far above a field potential; movement or no reference",
    ),
    Criterion(
        "n_missing_samples", "integrity", "samples", warning=0, fail=1000,
        source="neuro_assets: NaN in the source",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(LfpParameters),
        group=names.LFP,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS, optional=True),
            Need(names.RECORDING_QUALITY, optional=True),
        ],
        packages=("scipy",),
        io_manager_key=ZARR_RECORDING,
        criteria=CRITERIA,
        pool=names.HEAVY_POOL,
    )
    def lfp(step: Step) -> StepResult:
        """Local field potential of every channel, zero-phase, on the probe's clock."""
        from neuro_assets.science.compression.run import open_recordings
        from neuro_assets.science.lfp.extract import extract_lfp

        recordings = open_recordings(step.stored(names.COMPRESSED_RECORDING).local())
        labels = step.optional(names.BAD_CHANNELS)
        quality = step.optional(names.RECORDING_QUALITY)
        return extract_lfp(
            recordings.get("ap", recordings.get("wideband")),
            recordings.get("lf"),
            None if labels is None else labels.table("channels"),
            step.folder,
            step.parameters,
            saturation=None if quality is None else quality.table("saturation"),
            limits_uv=limits_of(CRITERIA, "lfp_rms_uv_median"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return [lfp]
