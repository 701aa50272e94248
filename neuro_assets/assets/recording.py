"""What is made of a recording before it is sorted: compressed copy, quality, channels, motion."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.raw_files import raw_files
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.rows import criteria
from neuro_assets.config import LabConfig
from neuro_assets.resources.io_managers import PARQUET, ZARR_RECORDING
from neuro_assets.science.result import StepResult


def recording_steps(config: LabConfig) -> list[StepSpec]:
    """Build the steps of the group `recording`."""
    return [_compressed(config), _bad_channels(config), _quality(config), _motion(config)]


def _compressed(config: LabConfig) -> StepSpec:
    @step(
        name=names.COMPRESSED_RECORDING,
        group=names.RECORDING,
        kinds={"zarr"},
        needs=[Need(names.RAW_RECORDING)],
        parameters=config.step(names.COMPRESSED_RECORDING),
        io_manager_key=ZARR_RECORDING,
        criteria=criteria(names.COMPRESSED_RECORDING),
        pool=names.HEAVY_POOL,
    )
    def compressed_recording(step: Step) -> StepResult:
        """Lossless copy of all streams of the probe, verified sample by sample."""
        from neuro_assets.science.compression import compress_recording

        with raw_files(step, config):
            return compress_recording(
                step.raw.open(),
                step.folder,
                step.parameters,
                n_jobs=step.n_jobs,
                progress=step.progress,
            )

    return compressed_recording


def _quality(config: LabConfig) -> StepSpec:
    @step(
        name=names.RECORDING_QUALITY,
        group=names.RECORDING,
        kinds={"parquet"},
        needs=[Need(names.COMPRESSED_RECORDING), Need(names.BAD_CHANNELS)],
        parameters=config.step(names.RECORDING_QUALITY),
        io_manager_key=PARQUET,
        criteria=criteria(names.RECORDING_QUALITY),
    )
    def recording_quality(step: Step) -> StepResult:
        """Noise, spectrum, line noise and saturation of every channel."""
        from neuro_assets.science.compression import open_recordings
        from neuro_assets.science.quality.recording import recording_quality as measure

        streams = open_recordings(step.stored(names.COMPRESSED_RECORDING).local())
        return measure(
            streams,
            step.folder,
            step.parameters,
            channels=step.stored(names.BAD_CHANNELS).table("channels"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return recording_quality


def _bad_channels(config: LabConfig) -> StepSpec:
    @step(
        name=names.BAD_CHANNELS,
        group=names.RECORDING,
        kinds={"parquet"},
        needs=[Need(names.COMPRESSED_RECORDING)],
        parameters=config.step(names.BAD_CHANNELS),
        io_manager_key=PARQUET,
        criteria=criteria(names.BAD_CHANNELS),
    )
    def bad_channels(step: Step) -> StepResult:
        """Label of every channel: good, dead, noisy or outside the brain."""
        from neuro_assets.science.bad_channels import detect_bad_channels
        from neuro_assets.science.compression import open_compressed

        recording = open_compressed(step.stored(names.COMPRESSED_RECORDING).local())
        return detect_bad_channels(recording, step.folder, step.parameters, progress=step.progress)

    return bad_channels


def _motion(config: LabConfig) -> StepSpec:
    @step(
        name=names.MOTION,
        group=names.RECORDING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
        ],
        parameters=config.step(names.MOTION),
        io_manager_key=PARQUET,
        criteria=criteria(names.MOTION),
        pool=names.HEAVY_POOL,
    )
    def motion(step: Step) -> StepResult:
        """Movement of the probe against the tissue: estimated, and not applied unless asked."""
        from neuro_assets.science.compression import open_compressed
        from neuro_assets.science.motion import estimate_motion

        return estimate_motion(
            open_compressed(step.stored(names.COMPRESSED_RECORDING).local()),
            step.stored(names.BAD_CHANNELS).table("channels"),
            step.folder,
            step.parameters,
            saturation=step.stored(names.RECORDING_QUALITY).table("saturation"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return motion
