"""From what a session source saw to what has to be done: a pure difference function.

No file, no network, no Dagster: the sensor and the command line carry the actions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from neuro_assets.resources.registry import RecordingRecord, SessionInfo
from neuro_assets.resources.registry_keys import Claim, claim_key
from neuro_assets.resources.sessions import SessionDescription
from neuro_assets.science.formats.model import Problem, RawRecording


class ActionKind(StrEnum):
    """What happened to a recording since it was last looked at."""

    ADD = "add"
    CHANGE = "change"
    MOVE = "move"
    RETURN = "return"
    NOT_READY = "not_ready"
    VANISH = "vanish"
    HOLD = "hold"
    KEEP = "keep"


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Parameters
    ----------
    kind : ActionKind
        What happened.
    record : RecordingRecord
        The record as it has to be from now on.
    run : bool
        Whether the recording has to be processed.
    words : str
        One line for people.
    """

    kind: ActionKind
    record: RecordingRecord
    run: bool
    words: str


@dataclass(frozen=True)
class Seen:
    """One session as the source describes it, with the versions of its raw data.

    Parameters
    ----------
    description : SessionDescription
        The session.
    versions : mapping of str to str
        Data version of each recording, by its label.
    """

    description: SessionDescription
    versions: Mapping[str, str]


def plan(
    known: Mapping[str, RecordingRecord],
    seen: Sequence[Seen],
    vanished: Iterable[tuple[str, str]],
    now: datetime,
    *,
    reprocess_changed: bool = False,
) -> list[Action]:
    """Compare what is registered with what was seen.

    Parameters
    ----------
    known : mapping of str to RecordingRecord
        The registry, by key.
    seen : sequence of Seen
        Sessions that are new or changed.
    vanished : iterable of (str, str)
        Source and session id of sessions that are no longer there.
    now : datetime
        Time to write into the records, UTC.
    reprocess_changed : bool
        Whether changed raw data starts a run.

    Returns
    -------
    list of Action
        Vanished sessions first, so that a renamed folder is a move and not a copy. The same input
        gives the same actions: carrying them out twice does no harm.
    """
    records = dict(known)
    actions = [_vanish(r, now) for r in _of_sessions(records, set(vanished))]
    for action in actions:
        records[action.record.key] = action.record
    for session in seen:
        for recording in session.description.recordings:
            action = _compare(records, session, recording, now, reprocess_changed)
            actions.append(action)
            if action.kind is not ActionKind.HOLD:
                records[action.record.key] = action.record
    return actions


def _of_sessions(
    records: Mapping[str, RecordingRecord], ids: set[tuple[str, str]]
) -> list[RecordingRecord]:
    return [
        record
        for record in records.values()
        if (record.session.source, record.session.session_id) in ids and record.state != "vanished"
    ]


def _vanish(record: RecordingRecord, now: datetime) -> Action:
    gone = record.model_copy(update={"state": "vanished", "updated": now})
    words = f"raw data of {record.key} are no longer at {record.session.folder}; results are kept"
    return Action(ActionKind.VANISH, gone, False, words)


def _compare(
    records: Mapping[str, RecordingRecord],
    session: Seen,
    recording: RawRecording,
    now: datetime,
    reprocess_changed: bool,
) -> Action:
    info = session_info(session.description)
    claim = claim_key(records, info, recording)
    found = claim.known
    fresh = {
        "session": info,
        "recording": recording,
        "raw_version": session.versions[recording.label],
        "state": "ready" if session.description.is_ready(recording) else "not_ready",
        "missing": list(session.description.missing_of(recording)),
        "problems": _problems(session.description, claim),
        "updated": now,
    }
    if found is None:
        record = RecordingRecord(key=claim.key, first_seen=now, **fresh)
        return _ready_or_not(ActionKind.ADD, record, f"{claim.key} found in {info.folder}")
    if _is_copy(found, info):
        words = (
            f"{info.folder} holds the same recording as {found.key} ({found.session.folder}); "
            "the copy is left alone"
        )
        return Action(ActionKind.HOLD, found, False, words)
    return _known(found, found.model_copy(update=fresh), reprocess_changed)


def session_info(description: SessionDescription) -> SessionInfo:
    """Take what the registry keeps out of a description."""
    return SessionInfo(
        lab=description.lab,
        subject=description.subject,
        date=description.date,
        number=description.number,
        source=description.source,
        folder=str(description.folder),
        session_id=description.session_id,
    )


def _problems(description: SessionDescription, claim: Claim) -> list[Problem]:
    return [*description.problems, *([claim.problem] if claim.problem else [])]


def _known(found: RecordingRecord, record: RecordingRecord, reprocess_changed: bool) -> Action:
    """Judge a recording that has a key already: changed, moved, back, or as it was."""
    # A recording that was never ready has never been processed: its first run is due now.
    first = found.state == "not_ready"
    if found.raw_version != record.raw_version:
        words = f"raw data of {record.key} changed"
        return _ready_or_not(ActionKind.CHANGE, record, words, run=first or reprocess_changed)
    if found.session.folder != record.session.folder:
        words = f"{record.key} moved to {record.session.folder}"
        return _ready_or_not(ActionKind.MOVE, record, words, run=first)
    if found.state == "vanished":
        return _ready_or_not(ActionKind.RETURN, record, f"raw data of {record.key} are back")
    return _ready_or_not(ActionKind.KEEP, record, f"{record.key} is known")


def _ready_or_not(
    kind: ActionKind, record: RecordingRecord, words: str, *, run: bool = True
) -> Action:
    if record.state == "ready":
        return Action(kind, record, run, words)
    missing = "; ".join(record.missing) or "not complete"
    return Action(ActionKind.NOT_READY, record, False, f"{record.key} waits: {missing}")


def _is_copy(found: RecordingRecord, info: SessionInfo) -> bool:
    """Tell whether the recording is registered elsewhere, and still there."""
    same_place = (found.session.source, found.session.session_id) == (info.source, info.session_id)
    return not same_place and found.state != "vanished"
