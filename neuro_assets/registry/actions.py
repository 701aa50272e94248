"""What a plan starts from and what comes out of it, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.records import RecordingRecord


class ActionKind(StrEnum):
    """What happened to a recording since it was last looked at."""

    ADD = "add"
    CHANGE = "change"
    MOVE = "move"
    RETURN = "return"
    NOT_READY = "not_ready"
    VANISH = "vanish"
    HOLD = "hold"
    COPY = "copy"
    UPDATE = "update"
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
    message : str
        One line for people.
    report : bool
        Whether the version of the raw data has to be reported.
    report_metadata : bool
        Whether what the database says has to be reported.
    report_modalities : tuple of str
        Other raw modalities of which the version has to be reported.
    changed : bool
        Whether anything that people see changed.
    copy_in : str
        For a copy: id of the session that holds it.
    """

    kind: ActionKind
    record: RecordingRecord
    run: bool
    message: str
    report: bool = False
    report_metadata: bool = False
    report_modalities: tuple[str, ...] = ()
    changed: bool = False
    copy_in: str = ""


@dataclass(frozen=True)
class Seen:
    """One session as the source describes it, with the versions of its raw data.

    Parameters
    ----------
    description : SessionDescription
        The session.
    versions : mapping of str to str
        Data version of each recording, by its label.
    contents : mapping of str to str
        Of the samples of each recording that could be read, by its label.
    """

    description: SessionDescription
    versions: Mapping[str, str]
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Requests:
    """Which runs are requested in a plan.

    Parameters
    ----------
    by : str
        Who starts them; nobody repeats another one's requests.
    most : int or None
        How many new ones, the newest sessions first; all when None.
    backlog : bool
        Also those of recordings that are not looked at now.
    since : datetime or None
        Requests later than this are repeated: a tick that was killed may not have handed them
        over, and a run key starts one run only. An hour ago when None.
    """

    by: str = "discovery"
    most: int | None = None
    backlog: bool = False
    since: datetime | None = None
