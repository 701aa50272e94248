"""The lossless copy of what auxiliary boards recorded beside the probes, once a session."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.local_raw_files import raw_files
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.assets.steps.compressed_recording import SAME_AS_SOURCE
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.formats.model import RawFiles
from neuro_assets.outcomes import Skipped, SkipReason
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.resources.io_managers import ZARR_RECORDING, Missing
from neuro_assets.science.result import StepResult

CRITERIA = (
    *SAME_AS_SOURCE,
    Criterion(
        "n_unusable", "completeness", "files", fail=0,
        source="neuro_assets: no file of a board is left out without a word",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(CompressionParameters),
        name=names.COMPRESSED_AUXILIARY,
        group=names.RECORDING,
        kinds={"zarr"},
        needs=[Need(names.RAW_AUXILIARY, optional=True)],
        io_manager_key=ZARR_RECORDING,
        criteria=CRITERIA,
        scope="session",
        clock="board",
    )
    def compressed_auxiliary(step: Step) -> StepResult:
        """Lossless copy of all streams of NI-DAQ, OneBox ADC and analogue inputs, verified."""
        from neuro_assets.science.compression.auxiliary import compress_auxiliary

        found = step.inputs[names.RAW_AUXILIARY]
        if isinstance(found, Missing) and not found.is_expected:
            raise Skipped(SkipReason.NO_AUXILIARY, "no auxiliary board was recorded in the session")
        raw = step.raw_data(names.RAW_AUXILIARY)
        assert isinstance(raw.item, RawFiles)
        with raw_files(step, config, names.RAW_AUXILIARY):
            return compress_auxiliary(
                raw.item,
                raw.folder,
                step.folder,
                step.parameters,
                n_jobs=step.n_jobs,
                progress=step.progress,
            )

    return [compressed_auxiliary]
