"""How the registry's records look as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from neuro_assets.formats.model import RawRecording
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.records import RecordingRecord

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {
    "key": "string",
    "lab": "string",
    "subject": "string",
    "date": "datetime64[us]",
    "number": "string",
    "date_guessed": "bool",
    "probe": "string",
    "qualifier": "string",
    "source": "string",
    "session_id": "string",
    "root": "string",
    "path": "string",
    "state": "string",
    "reason": "string",
    "projects": "string",
    "qc": "string",
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
    key = RecordingKey.parse(record.key)
    of_database = record.metadata.session if record.metadata else None
    return {
        **record.session.model_dump(),
        "key": record.key,
        "probe": key.probe,
        "qualifier": key.qualifier,
        "state": record.state,
        "reason": record.reason,
        "projects": ", ".join(of_database.projects) if of_database else None,
        "qc": of_database.qc if of_database else None,
        "raw_version": record.raw_version,
        "n_problems": len(record.problems),
        "eid": record.eid,
        "pid": record.pid,
        "first_seen": record.first_seen,
        "updated": record.updated,
        **(_of_files(record.recording) if record.recording else {}),
    }


def _of_files(recording: RawRecording) -> dict[str, Any]:
    identity, main = recording.identity, recording.main
    return {
        "probe": recording.probe,
        "format": recording.format,
        "probe_model": recording.probe_model,
        "probe_serial": identity.probe_serial,
        "created": identity.created,
        "duration_s": recording.duration_s,
        "n_channels": main.n_channels,
        "sampling_frequency": main.sampling_frequency,
        "size_bytes": identity.size_bytes,
    }
