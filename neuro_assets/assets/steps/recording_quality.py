"""Noise, spectrum, line noise and saturation of every channel, and gaps in time."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion, limits_of
from neuro_assets.config import LabConfig
from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "rms_destriped_uv_median", "noise", "uV", warning=20, fail=40,
        source="neuro_assets: two and four times the 10 uV of the simulation",
    ),
    Criterion(
        "line_noise_db", "noise", "dB", warning=10, fail=20,
        source="neuro_assets: power at 50 or 60 Hz over its neighbourhood",
    ),
    Criterion(
        "saturated_fraction", "saturation", "1", warning=0.001, fail=0.05, critical=0.5,
        source="saturation as in IBL ibllib qc, ephysqc.py, more than 20 % of the channels",
    ),
    Criterion(
        "dropped_fraction", "continuity", "1", warning=0, fail=0.001,
        source="neuro_assets: a rig loses nothing; 0.1 % is IBL's limit for frames, qc/camera.py",
    ),
)  # fmt: skip


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(RecordingQualityParameters),
        group=names.RECORDING,
        kinds={"parquet"},
        needs=[Need(names.COMPRESSED_RECORDING), Need(names.BAD_CHANNELS)],
        io_manager_key=PARQUET,
        criteria=CRITERIA,
        packages=("scipy", "spikeinterface"),
    )
    def recording_quality(step: Step) -> StepResult:
        """Noise, spectrum, line noise and saturation of every channel, and gaps in time."""
        from neuro_assets.science.compression.run import open_recordings
        from neuro_assets.science.quality.recording import recording_quality as measure

        streams = open_recordings(step.stored(names.COMPRESSED_RECORDING).local())
        return measure(
            streams,
            step.folder,
            step.parameters,
            channels=step.stored(names.BAD_CHANNELS).table("channels"),
            limits_uv=limits_of(CRITERIA, "rms_destriped_uv_median"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return [recording_quality]
