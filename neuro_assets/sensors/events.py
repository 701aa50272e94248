"""Dagster's side of a registered recording: its raw data version, its run and the run's tags."""

from __future__ import annotations

from typing import Any

import dagster as dg

from neuro_assets.assets import names
from neuro_assets.resources.planning import Action, ActionKind
from neuro_assets.resources.registry import RecordingRecord

REPORTED = (ActionKind.ADD, ActionKind.CHANGE, ActionKind.MOVE, ActionKind.RETURN)

RawEvent = dg.AssetMaterialization | dg.AssetObservation


def raw_events(action: Action) -> list[RawEvent]:
    """Materialization and observation of the raw data, with one data version.

    Both are needed: with observations only, grandchildren never turn stale; with materializations
    only, the child does not.
    """
    if action.kind not in REPORTED:
        return []
    record = action.record
    recording, session = record.recording, record.session
    shown: dict[str, Any] = {
        "folder": dg.MetadataValue.path(session.folder),
        "source": session.source,
        "lab": session.lab,
        "subject": session.subject,
        "format": recording.format,
        "probe_model": recording.probe_model or "unknown",
        "duration_s": recording.duration_s,
        "channels": recording.main.n_channels,
        "size_bytes": recording.identity.size_bytes,
        "streams": ", ".join(recording.streams),
        "problems": len(record.problems),
    }
    tags = {"dagster/data_version": record.raw_version}
    return [
        kind(asset_key=names.RAW_RECORDING, partition=record.key, metadata=shown, tags=tags)
        for kind in (dg.AssetMaterialization, dg.AssetObservation)
    ]


def run_tags(record: RecordingRecord) -> dict[str, str]:
    """Tags from which executors size resources and people filter runs."""
    session = record.session
    return {
        "neuro/session": f"{session.subject}_{session.date}_{session.number}",
        "neuro/duration_s": f"{record.recording.duration_s:.0f}",
        "neuro/channels": str(record.recording.main.n_channels),
    }


def run_request(record: RecordingRecord) -> dg.RunRequest:
    """Request of the run for this version of the raw data; asked for twice, it starts once."""
    return dg.RunRequest(
        run_key=f"{record.key}:{record.raw_version}",
        partition_key=record.key,
        job_name=names.PROCESS_JOB,
        tags=run_tags(record),
    )
