"""Local field potentials."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.rows import criteria
from neuro_assets.config import LabConfig
from neuro_assets.resources.io_managers import ZARR_RECORDING
from neuro_assets.science.result import StepResult


def lfp_steps(config: LabConfig) -> list[StepSpec]:
    """Build the steps of the group `lfp`."""
    return [_lfp(config)]


def _lfp(config: LabConfig) -> StepSpec:
    @step(
        name=names.LFP_ASSET,
        group=names.LFP,
        kinds={"zarr"},
        needs=[Need(names.COMPRESSED_RECORDING), Need(names.BAD_CHANNELS, optional=True)],
        parameters=config.step(names.LFP_ASSET),
        io_manager_key=ZARR_RECORDING,
        criteria=criteria(names.LFP_ASSET),
        pool=names.HEAVY_POOL,
    )
    def lfp(step: Step) -> StepResult:
        """Local field potential of every channel, zero-phase, on the probe's clock."""
        from neuro_assets.science.compression import open_recordings
        from neuro_assets.science.lfp.extract import extract_lfp

        recordings = open_recordings(step.stored(names.COMPRESSED_RECORDING).local())
        labels = step.optional(names.BAD_CHANNELS)
        return extract_lfp(
            recordings.get("ap", recordings.get("wideband")),
            recordings.get("lf"),
            None if labels is None else labels.table("channels"),
            step.folder,
            step.parameters,
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return lfp
