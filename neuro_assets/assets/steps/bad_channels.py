"""The label of every channel: good, dead, noisy or outside the brain."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "bad_fraction", "channels", "1", warning=0.1, fail=0.5,
        source="FAIL from AIND ephys pipeline 1.3.1, default_params.json: fraction 0.5; "
        "here without those out of the brain",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(BadChannelsParameters),
        group=names.RECORDING,
        kinds={"parquet"},
        needs=[Need(names.COMPRESSED_RECORDING)],
        io_manager_key=PARQUET,
        criteria=CRITERIA,
        packages=("scipy", "spikeinterface"),
    )
    def bad_channels(step: Step) -> StepResult:
        """Label of every channel: good, dead, noisy or outside the brain."""
        from neuro_assets.science.bad_channels import detect_bad_channels
        from neuro_assets.science.compression.run import open_compressed

        recording = open_compressed(step.stored(names.COMPRESSED_RECORDING).local())
        return detect_bad_channels(recording, step.folder, step.parameters, progress=step.progress)

    return [bad_channels]
