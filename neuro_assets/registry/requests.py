"""Which runs are requested in a plan: those that are due, and those that may be lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from neuro_assets.registry.actions import Action, ActionKind, Requests
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.judging import changed_modalities, metadata_version
from neuro_assets.registry.records import RecordingRecord

REPEATED_FOR = timedelta(hours=1)
NOT_LOOKED_AT = (ActionKind.COPY, ActionKind.VANISH)


def request_runs(
    index: RecordIndex, actions: list[Action], requests: Requests, now: datetime
) -> None:
    """Request the runs that are due, and repeat what may not have been handed over.

    Parameters
    ----------
    index : RecordIndex
        The registry, with what the plan changed.
    actions : list of Action
        Of the plan; those that start a run are replaced, others added.
    requests : Requests
        Which ones.
    now : datetime
        UTC.
    """
    looked_at = {a.record.key for a in actions if a.kind not in NOT_LOOKED_AT}
    due = sorted(index.due, key=lambda key: index.due[key], reverse=True)
    new = [key for key in due if requests.backlog or key in looked_at][: requests.most]
    since = requests.since or now - REPEATED_FOR
    repeated = [
        key
        for key, (by, at) in index.requested.items()
        if by == requests.by and at > since and (requests.backlog or key in looked_at)
    ]
    for key in new:
        record = index.records[key]
        requested = {
            "requested": record.raw_version,
            "requested_at": now,
            "requested_by": requests.by,
            "request": record.request + 1,
        }
        _run(index, actions, record.model_copy(update=requested))
    for key in repeated:
        record = index.records[key]
        if record.requested == record.raw_version:
            _run(index, actions, record)


def _run(index: RecordIndex, actions: list[Action], record: RecordingRecord) -> None:
    """Let the action of a recording start its run; what it reports is reported again."""
    index.put(record)
    more: dict[str, Any] = {
        "run": True,
        "report": True,
        "report_metadata": bool(metadata_version(record)),
        "report_modalities": changed_modalities(None, record),
    }
    for place, action in enumerate(actions):
        if action.record.key == record.key and action.kind not in NOT_LOOKED_AT:
            actions[place] = replace(action, record=record, **more)
            return
    message = f"{record.key}: its run is requested"
    actions.append(Action(ActionKind.KEEP, record, message=message, **more))
