"""Exports of a recording: the NWB file, made of whatever there is when `process` ended."""

from __future__ import annotations

from contextlib import nullcontext

from neuro_assets import names
from neuro_assets.assets.raw_files import raw_files
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.rows import criteria
from neuro_assets.config import LabConfig
from neuro_assets.resources.io_managers import NWB_FILE
from neuro_assets.science.result import StepResult


def export_steps(config: LabConfig) -> list[StepSpec]:
    """Build the steps of the group `export`."""
    return [_nwb(config)]


def _nwb(config: LabConfig) -> StepSpec:
    @step(
        name=names.NWB,
        group=names.EXPORT,
        kinds={"nwb"},
        needs=[
            Need(names.RAW_RECORDING),
            Need(names.RECORDING_METADATA, optional=True),
            Need(names.COMPRESSED_RECORDING, optional=True),
            Need(names.BAD_CHANNELS, optional=True),
            *(Need(names.analyzer(source), optional=True) for source in config.unit_sources),
            Need(names.UNITS, optional=True),
            Need(names.LFP_ASSET, optional=True),
        ],
        parameters=config.step(names.NWB),
        io_manager_key=NWB_FILE,
        criteria=criteria(names.NWB),
        job=names.PUBLISH_JOB,
    )
    def nwb(step: Step) -> StepResult:
        """NWB file of one probe: electrodes, units with metrics, LFP; validated and inspected."""
        from neuro_assets.assets.nwb_inputs import nwb_inputs
        from neuro_assets.science.nwb.write import write_nwb

        stored = step.optional(names.COMPRESSED_RECORDING) is not None
        with nullcontext() if stored else raw_files(step, config):
            return write_nwb(nwb_inputs(step), step.folder, step.parameters, progress=step.progress)

    return nwb
