"""Dagster's side of a registered recording: its raw data version, its run and the run's tags."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from neuro_assets import names
from neuro_assets.formats.modalities import MODALITIES, RECORDING
from neuro_assets.registry.actions import Action
from neuro_assets.registry.findings import Findings
from neuro_assets.registry.keys import present_name
from neuro_assets.registry.registry import RecordingRecord

RawEvent = dg.AssetMaterialization | dg.AssetObservation

MOST_ROWS = 200

RAW_VERSION_TAG = "neuro/raw_version"
"""Run tag: the version of the raw data for which the run was asked."""


def raw_events(action: Action) -> list[RawEvent]:
    """Make the events that tell Dagster of a recording's raw data.

    A version of the raw data is reported as a materialization and an observation: with
    observations only, grandchildren never turn stale; with materializations only, the child does
    not. The same version again makes nothing stale. What is waited for, before there are raw data,
    is an observation.

    Parameters
    ----------
    action : Action
        What was planned.

    Returns
    -------
    list
        Events without a run; empty where there is nothing new.
    """
    record = action.record
    events: list[RawEvent] = []
    # Changes of what is there already too: a key's page shows the last materialization only.
    if action.report or (action.changed and record.reported):
        events += _both(names.RAW_RECORDING, record, record.reported, shown(record))
    elif action.changed:
        events.append(_observation(names.RAW_RECORDING, record, shown(record), None))
    if (action.report_metadata or action.changed) and record.metadata is not None:
        shown_metadata = _shown_metadata(record)
        events += _both(names.RECORDING_METADATA, record, record.metadata.version, shown_metadata)
    for name in action.report_modalities:
        modality, data = MODALITIES[name], record.modalities[name]
        values = {"folder": record.session.place, **modality.shown(data.item)}
        events += _both(modality.asset, record, data.version, values)
    return events


def findings_event(source: str, findings: Findings) -> dg.AssetObservation:
    """List on the page of the raw recordings what is none, and why.

    Parameters
    ----------
    source : str
        Name of the source.
    findings : Findings
        All that is known of it.

    Returns
    -------
    dagster.AssetObservation
        Of no partition; the first 200 in a table, all of them in `neuro-assets status`.
    """
    rows = findings.rows()
    lines = [
        dg.TableRecord({"path": row.path, "kind": row.kind, "detail": row.detail})
        for row in rows[:MOST_ROWS]
    ]
    columns = [dg.TableColumn(name, "string") for name in ("path", "kind", "detail")]
    table = dg.MetadataValue.table(lines, schema=dg.TableSchema(columns))
    said: dict[str, Any] = {"source": source, "not_recordings": len(rows), "what is wrong": table}
    return dg.AssetObservation(asset_key=names.RAW_RECORDING, metadata=said)


def alert(record: RecordingRecord, now: datetime) -> dg.AssetObservation:
    """Say that a recording waits too long.

    An observation: of a check without a run Dagster keeps one evaluation for each partition and
    refuses the next.

    Parameters
    ----------
    record : RecordingRecord
        Not ready.
    now : datetime
        UTC.

    Returns
    -------
    dagster.AssetObservation
        With what is missing, and for how long.
    """
    waited = now - (record.waiting_since or now)
    days = round(waited.total_seconds() / 86400, 1)
    values = {"alert": f"waits for {days} days: {record.reason}", "waiting_days": days}
    return _observation(names.RAW_RECORDING, record, {**values, **shown(record)}, None)


def _both(
    asset: str, record: RecordingRecord, version: str, values: dict[str, Any]
) -> list[RawEvent]:
    tags = {"dagster/data_version": version}
    made = dg.AssetMaterialization(
        asset_key=asset, partition=record.key, metadata=values, tags=tags
    )
    return [made, _observation(asset, record, values, tags)]


def _observation(
    asset: str, record: RecordingRecord, values: dict[str, Any], tags: dict[str, str] | None
) -> dg.AssetObservation:
    state = record.state.replace("_", " ")
    return dg.AssetObservation(
        asset_key=asset,
        partition=record.key,
        description=f"raw data {state}: {record.reason}" if record.reason else None,
        metadata=values,
        tags=tags,
    )


def shown(record: RecordingRecord) -> dict[str, Any]:
    """List what the user interface shows of a recording, the database's part first.

    Parameters
    ----------
    record : RecordingRecord
        The record.

    Returns
    -------
    dict
        Metadata values by name.
    """
    session = record.session
    values: dict[str, Any] = {"state": record.state}
    if record.reason:
        values["reason"] = record.reason
    values.update(_shown_of_database(record))
    values.update(lab=session.lab, subject=session.subject, source=session.source)
    if name := present_name(record):
        values["named"] = name
    if session.date_guessed:
        values["date"] = f"{session.date}, guessed from a file's time"
    if session.place:
        values["folder"] = session.place
    if record.recording is not None:
        values.update(MODALITIES[RECORDING].shown(record.recording))
    if record.lost:
        values["lost"] = record.lost
    values["problems"] = "; ".join(p.detail for p in record.problems) or "none"
    return values


def _shown_of_database(record: RecordingRecord) -> dict[str, Any]:
    if record.metadata is None:
        return {}
    session = record.metadata.session
    values: dict[str, Any] = {
        "projects": ", ".join(session.projects) or "none",
        "qc": session.qc,
        "eid": session.eid,
    }
    if session.link:
        values["alyx"] = dg.MetadataValue.url(session.link)
    if record.pid:
        values["pid"] = record.pid
    return values


def _shown_metadata(record: RecordingRecord) -> dict[str, Any]:
    """Figures of animal, session and insertion; all of it is in the registry's record."""
    metadata = record.metadata
    if metadata is None:
        return {}
    values = {"state": record.state, "reason": record.reason, **_shown_of_database(record)}
    values["tasks"] = ", ".join(task.protocol or task.collection for task in metadata.session.tasks)
    if metadata.subject is not None:
        known = metadata.subject.model_dump(exclude_none=True, mode="json")
        values.update({f"subject_{name}": value for name, value in known.items() if value != ""})
    if metadata.insertion is not None:
        values["probe_model"] = metadata.insertion.model
        values["alignment"] = metadata.insertion.alignment
        values["trajectories"] = ", ".join(t.provenance for t in metadata.insertion.trajectories)
        values["n_xyz_picks"] = len(metadata.insertion.xyz_picks_um)
    return {name: value for name, value in values.items() if value != ""}


def run_tags(record: RecordingRecord) -> dict[str, str]:
    """Tags from which executors size resources and people filter runs."""
    session, recording = record.session, record.raw
    return {
        RAW_VERSION_TAG: record.raw_version,
        "neuro/session": f"{session.subject}_{session.date}_{session.number}",
        "neuro/duration_s": f"{recording.duration_s:.0f}",
        "neuro/channels": str(recording.main.n_channels),
    }


def run_key(record: RecordingRecord) -> str:
    """Name the run that was requested last; Dagster starts one run a name."""
    return f"{record.key}:{record.request}"


def run_request(record: RecordingRecord) -> dg.RunRequest:
    """Request the run of a recording; requested twice, it starts once."""
    return dg.RunRequest(
        run_key=run_key(record),
        partition_key=record.key,
        job_name=names.PROCESS_JOB,
        tags=run_tags(record),
    )
