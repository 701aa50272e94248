"""The lossless copy of the raw recording, of which everything else is made."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.local_raw_files import raw_files
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.resources.io_managers import ZARR_RECORDING
from neuro_assets.science.result import StepResult

SAME_AS_SOURCE = (
    Criterion(
        "verified", "integrity", "1", critical=0.5, above=False,
        source="every sample compared with the raw file",
    ),
    Criterion(
        "sha1_matches", "integrity", "1", critical=0.5, above=False,
        source="SpikeGLX fileSHA1 in the metadata",
    ),
)  # fmt: skip
CRITERIA = (
    *SAME_AS_SOURCE,
    Criterion(
        "duration_s", "length", "s", warning=120, above=False,
        source="AIND ephys pipeline 1.3.1, default_params.json: shorter recordings are not sorted",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(CompressionParameters),
        group=names.RECORDING,
        kinds={"zarr"},
        needs=[Need(names.RAW_RECORDING)],
        io_manager_key=ZARR_RECORDING,
        criteria=CRITERIA,
        pool=names.HEAVY_POOL,
    )
    def compressed_recording(step: Step) -> StepResult:
        """Lossless copy of all streams of the probe, verified sample by sample."""
        from neuro_assets.science.compression.run import compress_recording

        with raw_files(step, config):
            return compress_recording(
                step.raw.open(),
                step.folder,
                step.parameters,
                n_jobs=step.n_jobs,
                progress=step.progress,
            )

    return [compressed_recording]
