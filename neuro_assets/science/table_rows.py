"""What the cohort tables take from the registry's records: plain values, without any table.

`status` compares them with what a table was made of, and must not load pandas for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY_COLUMNS = {
    "key": "string",
    "lab": "string",
    "subject": "string",
    "date": "datetime64[us]",
    "number": "string",
    "probe": "string",
}
"""What every row of every cohort table begins with."""


def identity_of(key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give what every row of a recording begins with.

    Parameters
    ----------
    key : str
        Its key.
    record : mapping
        Of the registry, as JSON; may be empty.

    Returns
    -------
    dict
        By column: `KEY_COLUMNS`; None where it is unknown.
    """
    session, recording = record.get("session", {}), record.get("recording") or {}
    named = {name: session.get(name) for name in ("lab", "subject", "date", "number")}
    return {"key": key, **named, "probe": recording.get("probe")}


def row_of_record(key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the table of insertions takes from a record.

    Parameters
    ----------
    key : str
        Its key.
    record : mapping
        Of the registry, as JSON.

    Returns
    -------
    dict
        By column: those of `identity_of`, and all further ones that count no outputs.
    """
    recording = record.get("recording") or {}
    streams = recording.get("streams") or {}
    main = streams.get("ap") or streams.get("wideband") or {}
    rate = main.get("sampling_frequency")
    return {
        **identity_of(key, record),
        **{name: record.get(name) for name in ("state", "raw_version", "eid", "pid", "first_seen")},
        **{name: recording.get(name) for name in ("qualifier", "probe_model")},
        "probe_serial": (recording.get("identity") or {}).get("probe_serial"),
        "duration_s": main["n_samples"] / rate if rate else None,
        "n_channels": main.get("n_channels"),
        "sampling_frequency": rate,
    }
