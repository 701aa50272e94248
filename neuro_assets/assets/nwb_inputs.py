"""Collects what goes into the NWB file of a recording from the outputs that there are."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from neuro_assets import names
from neuro_assets.assets.step import Step
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.resources.io_managers import Missing
from neuro_assets.store import Stored

if TYPE_CHECKING:
    import pandas as pd

    from neuro_assets.science.nwb.inputs import NwbInputs


def require_contents(step: Step) -> None:
    """Refuse a file of metadata alone, as after a full disk: it would look like a result.

    Raises
    ------
    PermanentFailure
        When of all that the file could hold nothing was made, with the first reason.
    """
    gone = {name: found for name, found in step.inputs.items() if isinstance(found, Missing)}
    contents = step.inputs.keys() - {names.RAW_RECORDING, names.RECORDING_METADATA}
    if contents <= gone.keys() and not step.parameters.raw_traces:
        first = min(contents, key=lambda name: not gone[name].reason.startswith("it failed"))
        raise PermanentFailure(
            f"nothing that the file could hold was made ({first}: {gone[first].reason}): "
            f"mend that, then `neuro-assets run {step.key}`"
        )


def nwb_inputs(step: Step) -> NwbInputs:
    """Open the inputs of the NWB file; what failed or was skipped is named in it.

    Parameters
    ----------
    step : Step
        The step `nwb`.

    Returns
    -------
    NwbInputs
        Lazy where it is large.
    """
    from neuro_assets.formats.timeline import timeline_of
    from neuro_assets.science.compression.run import open_compressed
    from neuro_assets.science.nwb.inputs import (
        NwbInputs,
        channels_of,
        manufacturer_of,
        templates_of,
    )

    raw = step.raw
    record, session = raw.record, raw.record.session
    recording = record.raw
    compressed = step.optional(names.COMPRESSED_RECORDING)
    traces = (
        open_compressed(compressed.local())
        if compressed is not None
        else next(iter(raw.open(streams=[recording.main.name]).values())).neural
    )
    labels = _table(step, names.BAD_CHANNELS, "channels")
    units, spikes, analyzer = _units(step)
    return NwbInputs(
        key=step.key,
        lab=session.lab,
        subject=session.subject,
        date=session.date,
        number=session.number,
        probe=recording.probe,
        probe_model=recording.probe_model,
        probe_serial=recording.identity.probe_serial or "",
        probe_manufacturer=manufacturer_of(traces),
        start_time=recording.identity.created,
        sampling_frequency=recording.main.sampling_frequency,
        n_samples=recording.main.n_samples,
        channels=channels_of(traces, labels),
        timeline=timeline_of(traces),
        units=units,
        spikes=spikes,
        templates=None if analyzer is None else templates_of(analyzer),
        masked=_masked(step, analyzer, recording.main.n_samples),
        lfp=_lfp(step),
        raw=traces if step.parameters.raw_traces else None,
        **_said_by_database(step, session.date),
        session_aliases={
            name: value
            for name, value in (
                ("eid", record.eid),
                ("pid", record.pid),
                ("date", "guessed from a file's time" if session.date_guessed else ""),
            )
            if value
        },
        missing=_missing(step),
        version=step.version,
    )


def _said_by_database(step: Step, day: date) -> dict[str, Any]:
    """Animal and session as the lab's database has them; the file's own defaults without one."""
    from neuro_assets.sources.alyx.metadata_subject import subject_info

    said = step.metadata
    if said is None:
        return {}
    words = "; ".join(part for part in (said.session.task_protocol, said.session.narrative) if part)
    found: dict[str, Any] = {"experiment_description": words or None}
    if said.subject is not None:
        found["subject_info"] = subject_info(said.subject, day)
    return found


def _table(step: Step, asset: str, table: str) -> pd.DataFrame | None:
    stored = step.optional(asset)
    return None if stored is None else stored.table(table)


def _units(step: Step) -> tuple[pd.DataFrame | None, dict[Any, Any] | None, Any]:
    """Units with their spikes, as chosen; the analyzer of the sorter set they came from."""
    from neuro_assets.science.analyzer import open_analyzer
    from neuro_assets.science.nwb.inputs import trains_from_tables

    stored = step.optional(names.UNITS)
    if stored is None:
        return None, None, None
    units, spikes = stored.table("units"), stored.table("spikes")
    trains = trains_from_tables(units, spikes)
    source = str(stored.manifest.metrics["source"])
    return units, trains, open_analyzer(step.stored(names.analyzer(source)).local())


def _masked(step: Step, analyzer: Any, n_samples: int) -> pd.DataFrame:
    """List what the units' spikes were taken without; saturated periods alone without units."""
    from neuro_assets.science.masking import masked_periods, masked_table
    from neuro_assets.science.valid_time import masked_of

    saturation = _table(step, names.RECORDING_QUALITY, "saturation")
    if analyzer is not None:
        return masked_table(masked_of(analyzer), saturation)
    return masked_table(masked_periods(saturation, n_samples, 0), saturation)


def _lfp(step: Step) -> Any:
    from spikeinterface.core import read_zarr

    stored = step.optional(names.LFP_ASSET)
    return None if stored is None else read_zarr(stored.local() / "lfp.zarr")


def _missing(step: Step) -> list[str]:
    """List what the file is made without, each with the reason that the store knows."""
    lines = []
    for asset, found in step.inputs.items():
        if asset == names.RECORDING_METADATA:
            continue  # most labs have no database, and the file says so by its empty fields
        if isinstance(found, Stored) and found.outcome is not Outcome.COMPLETE:
            skip = found.manifest.skip or {}
            lines.append(f"{asset}: skipped, {skip.get('reason')}: {skip.get('detail')}")
        elif reason := getattr(found, "reason", None):
            lines.append(f"{asset}: {reason}")
    return lines
