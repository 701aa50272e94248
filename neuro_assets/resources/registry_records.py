"""What the registry keeps of a recording, as plain data, and how it looks as a table.

Reading and writing records is done by `neuro_assets.resources.registry`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from neuro_assets.partitions import RecordingKey
from neuro_assets.resources.store_model import now
from neuro_assets.science.formats.model import Identity, Problem, RawRecording

if TYPE_CHECKING:
    import pandas as pd

State = Literal["ready", "not_ready", "vanished", "held"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SessionInfo(_Record):
    """The session that a recording belongs to, as its source names it.

    Parameters
    ----------
    lab, subject : str
        As they are written at the source, not made safe.
    date : date
        Day of the session.
    number : str
        Number of the day.
    source : str
        Name of the source in `lab.yaml`.
    folder : str
        Where its files are now.
    session_id : str
        The source's own name for it; stays when the folder moves, where the source can tell.
    """

    lab: str = ""
    subject: str
    date: date
    number: Annotated[str, BeforeValidator(str)]
    source: str = "local"
    folder: str = ""
    session_id: str = ""


class RecordingRecord(_Record):
    """Everything that is known about one recording before anything was computed.

    Parameters
    ----------
    key : str
        Partition key.
    session : SessionInfo
        Its session.
    recording : RawRecording
        How to open it.
    raw_version : str
        Version of the raw data.
    state : str
        `ready`, `not_ready` (still being copied), `vanished` (its files are gone), `held` (a
        person stopped it).
    missing : list of str
        What is missing until it is ready.
    problems : list of Problem
        What is odd about it, for people.
    eid, pid : str or None
        Alyx's ids of session and insertion.
    aliases : list of str
        Other names under which it was known.
    first_seen, updated : datetime
        UTC.
    raw_history : list of dict
        Earlier raw versions: `version`, `until`.
    """

    key: str
    session: SessionInfo
    recording: RawRecording
    raw_version: str
    state: State = "ready"
    missing: list[str] = []
    problems: list[Problem] = []
    eid: str | None = None
    pid: str | None = None
    aliases: list[str] = []
    first_seen: datetime = Field(default_factory=now)
    updated: datetime = Field(default_factory=now)
    raw_history: list[dict[str, Any]] = []

    @property
    def identity(self) -> Identity:
        """What the recording says of itself."""
        return self.recording.identity


_COLUMNS = {
    "key": "string",
    "lab": "string",
    "subject": "string",
    "date": "datetime64[us]",
    "number": "string",
    "probe": "string",
    "qualifier": "string",
    "source": "string",
    "session_id": "string",
    "folder": "string",
    "state": "string",
    "raw_version": "string",
    "format": "string",
    "probe_model": "string",
    "probe_serial": "string",
    "created": "datetime64[us]",
    "duration_s": "float64",
    "n_channels": "Int64",
    "sampling_frequency": "float64",
    "size_bytes": "Int64",
    "n_problems": "Int64",
    "eid": "string",
    "pid": "string",
    "first_seen": "datetime64[us, UTC]",
    "updated": "datetime64[us, UTC]",
}


def as_table(records: Iterable[RecordingRecord]) -> pd.DataFrame:
    """Put records side by side, one row each.

    Parameters
    ----------
    records : iterable of RecordingRecord
        Any number, also none.

    Returns
    -------
    DataFrame
        The same columns and types whatever the records hold.
    """
    import pandas as pd

    rows = [_row(record) for record in records]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _row(record: RecordingRecord) -> dict[str, Any]:
    recording, identity, main = record.recording, record.identity, record.recording.main
    return {
        **record.session.model_dump(),
        "key": record.key,
        "probe": recording.probe,
        "qualifier": RecordingKey.parse(record.key).qualifier,
        "state": record.state,
        "raw_version": record.raw_version,
        "format": recording.format,
        "probe_model": recording.probe_model,
        "probe_serial": identity.probe_serial,
        "created": identity.created,
        "duration_s": recording.duration_s,
        "n_channels": main.n_channels,
        "sampling_frequency": main.sampling_frequency,
        "size_bytes": identity.size_bytes,
        "n_problems": len(record.problems),
        "eid": record.eid,
        "pid": record.pid,
        "first_seen": record.first_seen,
        "updated": record.updated,
    }
