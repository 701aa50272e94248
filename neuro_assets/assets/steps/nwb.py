"""The NWB file of a recording, made of whatever there is when `process` ended."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from neuro_assets import names
from neuro_assets.assets.local_raw_files import raw_files
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.assets.steps.units import unit_sources
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.resources.io_managers import NWB_FILE
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "n_validation_errors", "validity", "errors", fail=0, source="pynwb.validate",
    ),
    Criterion(
        "n_critical_file", "validity", "messages", fail=0,
        source="nwbinspector with DANDI's configuration, CRITICAL, that the data can satisfy",
    ),
    Criterion(
        "n_critical_metadata", "validity", "messages",
        source="nwbinspector with DANDI's configuration: only the lab can say it",
    ),
    Criterion(
        "n_critical", "validity", "messages",
        source="nwbinspector with DANDI's configuration: DANDI refuses such a file",
    ),
    Criterion(
        "n_best_practice_violations", "validity", "messages", warning=0,
        source="nwbinspector, BEST_PRACTICE_VIOLATION that the data can satisfy",
    ),
    Criterion(
        "n_unmade_inputs", "contents", "outputs", warning=0,
        source="neuro_assets: what failed or was not made is not in the file (`made_without`)",
    ),
)  # fmt: skip


def _names_in_file(record: RecordingRecord) -> dict[str, Any]:
    """Names that `nwb_inputs` writes into the file."""
    session = record.session
    return {
        "session.lab": session.lab,
        "session.subject": session.subject,
        "session.date": session.date,
        "session.number": session.number,
        "session.date_guessed": bool(session.date_guessed),
        "eid": record.eid,
        "pid": record.pid,
    }


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""

    @step(
        config.step(NwbParameters),
        group=names.EXPORT,
        kinds={"nwb"},
        needs=[
            Need(names.RAW_RECORDING),
            Need(names.RECORDING_METADATA, optional=True),
            Need(names.COMPRESSED_RECORDING, optional=True),
            Need(names.BAD_CHANNELS, optional=True),
            Need(names.RECORDING_QUALITY, optional=True),
            *(Need(names.analyzer(source), optional=True) for source in unit_sources(config)),
            Need(names.UNITS, optional=True),
            Need(names.LFP_ASSET, optional=True),
        ],
        packages=("hdmf", "pynwb"),
        record_values=_names_in_file,
        io_manager_key=NWB_FILE,
        criteria=CRITERIA,
        job=names.PUBLISH_JOB,
    )
    def nwb(step: Step) -> StepResult:
        """NWB file of one probe: electrodes, units with metrics, LFP; validated and inspected."""
        from neuro_assets.assets.nwb_inputs import nwb_inputs, require_contents
        from neuro_assets.science.nwb.write import write_nwb

        require_contents(step)
        stored = step.optional(names.COMPRESSED_RECORDING) is not None
        with nullcontext() if stored else raw_files(step, config):
            return write_nwb(nwb_inputs(step), step.folder, step.parameters, progress=step.progress)

    return [nwb]
