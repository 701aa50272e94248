"""The overview of `status`: one state and one line a recording, a summary, and what filters it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from neuro_assets.outcomes import Outcome

if TYPE_CHECKING:
    from neuro_assets.assets.inventory import OutputState
    from neuro_assets.registry.records import RecordingRecord


class RecordingState(StrEnum):
    """State of a recording as a whole: the first of these that one of its outputs is in."""

    DAMAGED = "damaged"
    FAILED = "failed"
    RUNNING = "running"
    RAW_DATA_MISSING = "raw_data_missing"
    HELD = "held"
    WAITING = "waiting"
    OUT_OF_DATE = "out_of_date"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Filter:
    """Which recordings to show; empty fields let all through.

    Parameters
    ----------
    state : RecordingState or None
        As shown.
    subject, project : str
        Exactly.
    since : datetime.date or None
        First day of the session.
    """

    state: RecordingState | None = None
    subject: str = ""
    project: str = ""
    since: date | None = None

    @property
    def reads_records(self) -> bool:
        """Whether the records decide, not the state alone."""
        return bool(self.subject or self.project or self.since)

    def admits(self, record: RecordingRecord) -> bool:
        """Tell whether a record passes, whatever its state."""
        session = record.metadata.session if record.metadata else None
        projects = session.projects if session else ()
        return (
            (not self.subject or record.session.subject == self.subject)
            and (not self.project or self.project in projects)
            and (self.since is None or record.session.date >= self.since)
        )


@dataclass(frozen=True)
class Line:
    """One recording in the overview.

    Parameters
    ----------
    key : str
        Partition key.
    state : RecordingState
        The one that matters most.
    detail : str
        What is done and what is not.
    """

    key: str
    state: RecordingState
    detail: str


def line_of(record: RecordingRecord, states: Sequence[OutputState]) -> Line:
    """Summarise the outputs of one recording."""
    from neuro_assets.registry.keys import present_name

    if damage := [each.detail for each in states if each.damaged]:
        return Line(record.key, RecordingState.DAMAGED, "; ".join(damage))
    by_outcome: dict[Outcome, list[str]] = {}
    for each in states:
        by_outcome.setdefault(each.outcome, []).append(each.asset)
    old = [each.asset for each in states if each.out_of_date]
    parts = [f"{len(by_outcome.get(Outcome.COMPLETE, ()))} of {len(states)} complete"]
    for outcome in (Outcome.FAILED, Outcome.RUNNING):
        if outcome in by_outcome:
            parts.append(f"{outcome.value}: {', '.join(by_outcome[outcome])}")
    if skipped := by_outcome.get(Outcome.SKIPPED):
        parts.append(f"{len(skipped)} skipped")
    if old:
        parts.append(f"{len(old)} out of date")
    parts += filter(None, (present_name(record), record.lost))
    if record.reason:
        parts.append(f"raw data {record.state.replace('_', ' ')}: {record.reason}")
    if record.problems:
        parts.append(f"{len(record.problems)} problems")
    return Line(record.key, _state(record, by_outcome, is_old=bool(old)), "; ".join(parts))


def _state(
    record: RecordingRecord, by_outcome: Mapping[Outcome, Sequence[str]], *, is_old: bool
) -> RecordingState:
    for outcome in (Outcome.FAILED, Outcome.RUNNING, Outcome.RAW_DATA_MISSING):
        if outcome in by_outcome:
            return RecordingState(outcome.value)
    if record.state == "vanished":
        return RecordingState.RAW_DATA_MISSING
    if record.state == "held":
        return RecordingState.HELD
    if Outcome.WAITING in by_outcome or record.state == "not_ready":
        return RecordingState.WAITING
    return RecordingState.OUT_OF_DATE if is_old else RecordingState.COMPLETE


def summary(lines: Sequence[Line]) -> str:
    """Count the recordings by state, in one line."""
    counts = Counter(line.state for line in lines)
    shown = [
        f"{counts[state]} {state.replace('_', ' ')}" for state in RecordingState if counts[state]
    ]
    return f"{len(lines)} recordings: {', '.join(shown)}"
