"""Cohort tables: all units, and all insertions, of a lab as one frame each.

Types do not depend on what happens to be in the store today: numbers are float64, yes or no is
`boolean` (with NA for unknown), the rest is `string`. A query that ran on one store runs on
every other, the empty one included. Reading the store and writing parquet are not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.api.types import pandas_dtype

from neuro_assets.science.table_rows import KEY_COLUMNS, identity_of, row_of_record

UNIT_COLUMNS = {
    "unit_id": "string",
    "uuid": "string",
    "source": "string",
    "label": "string",
    "good": "boolean",
    "ibl_label": "float64",
    "main_channel_id": "string",
    "x_um": "float64",
    "y_um": "float64",
    "num_spikes": "float64",
    "firing_rate": "float64",
    "presence_ratio": "float64",
    "snr": "float64",
}
"""Columns that the units table always has; further metrics follow in alphabetical order."""

INSERTION_COLUMNS = {
    "qualifier": "string",
    "state": "string",
    "raw_version": "string",
    "probe_model": "string",
    "probe_serial": "string",
    "duration_s": "float64",
    "n_channels": "float64",
    "sampling_frequency": "float64",
    "eid": "string",
    "pid": "string",
    "first_seen": "datetime64[us, UTC]",
    "n_complete": "float64",
    "n_skipped": "float64",
    "n_failed": "float64",
    "n_missing": "float64",
}
"""Columns that the table of insertions always has, before those of each asset."""

DONE = ("complete", "skipped", "failed")

Outcome = Mapping[str, str | None]
"""`outcome` and `reason` of one asset of one recording."""


def units_table(
    frames: Mapping[str, pd.DataFrame], records: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Put the units of all recordings below each other.

    Parameters
    ----------
    frames : mapping of key to DataFrame
        Table `units` of each recording; columns may differ between recordings.
    records : mapping of key to record
        Registry records, as JSON; a key without one gets NA.

    Returns
    -------
    DataFrame
        `KEY_COLUMNS`, `UNIT_COLUMNS`, then every other column of any frame; one row a unit, in
        the order of the keys.
    """
    parts = []
    for key in sorted(frames):
        identity = identity_of(key, records.get(key, {}))
        parts.append(frames[key].reset_index(drop=True).assign(**identity))
    types = KEY_COLUMNS | UNIT_COLUMNS
    types |= _other_types(parts, types)
    typed = [_typed(part, types) for part in parts]
    return pd.concat([_empty(types), *typed], ignore_index=True)


def insertions(
    records: Mapping[str, Mapping[str, Any]],
    outcomes: Mapping[str, Mapping[str, Outcome]],
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    assets: Sequence[str],
) -> pd.DataFrame:
    """Describe every recording of a lab in one row.

    Parameters
    ----------
    records : mapping of key to record
        Registry records, as JSON.
    outcomes : mapping of key to mapping of asset to outcome
        `outcome` and `reason` of each.
    metrics : mapping of key to mapping of asset to mapping of metric to value
        Flat metrics of each asset.
    assets : sequence of str
        Assets that have columns, whether or not a recording has an outcome of theirs.

    Returns
    -------
    DataFrame
        `KEY_COLUMNS`, `INSERTION_COLUMNS`, then `<asset>__outcome`, `<asset>__reason` and
        `<asset>__<metric>` of each asset; one row a key. An outcome that nobody recorded is NA,
        and counted in `n_missing`.
    """
    rows = []
    for key in sorted(records):
        results = _results(assets, outcomes.get(key, {}), metrics.get(key, {}))
        rows.append(_insertion(key, records[key], outcomes.get(key, {}), assets) | results)
    table = pd.DataFrame(rows)
    types = KEY_COLUMNS | INSERTION_COLUMNS
    for asset in assets:
        types |= {f"{asset}__outcome": "string", f"{asset}__reason": "string"}
        prefix = f"{asset}__"
        own = [str(name) for name in table.columns if str(name).startswith(prefix)]
        types |= _other_types([table[own]], types)
    return pd.concat([_empty(types), _typed(table, types)], ignore_index=True)


def _insertion(
    key: str, record: Mapping[str, Any], outcomes: Mapping[str, Outcome], names: Iterable[str]
) -> dict[str, Any]:
    states = [outcomes.get(name, {}).get("outcome") for name in names]
    return {
        **row_of_record(key, record),
        **{f"n_{state}": states.count(state) for state in DONE},
        "n_missing": sum(state not in DONE for state in states),
    }


def _results(
    names: Iterable[str], outcomes: Mapping[str, Outcome], metrics: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in names:
        given = outcomes.get(name, {})
        row |= {f"{name}__{field}": given.get(field) for field in ("outcome", "reason")}
        row |= {f"{name}__{metric}": value for metric, value in metrics.get(name, {}).items()}
    return row


def _other_types(parts: Sequence[pd.DataFrame], known: Mapping[str, str]) -> dict[str, str]:
    """Choose the types of columns that are not fixed, from all recordings at once."""
    names = sorted({str(name) for part in parts for name in part.columns} - set(known))
    return {name: _common_type([p[name] for p in parts if name in p]) for name in names}


def _common_type(columns: Sequence[pd.Series]) -> str:
    kinds = {_kind(column) for column in columns} - {"unknown"}
    if not kinds or kinds == {"float64"}:
        return "float64"
    return "boolean" if kinds == {"boolean"} else "string"


def _kind(column: pd.Series) -> str:
    present = column.dropna()
    if present.empty and not pd.api.types.is_bool_dtype(column.dtype):
        return "unknown"
    inferred = present.infer_objects()
    if pd.api.types.is_bool_dtype(inferred.dtype):
        return "boolean"
    return "float64" if pd.api.types.is_numeric_dtype(inferred.dtype) else "string"


def _empty(types: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


def _typed(part: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    columns = {
        name: _convert(part[name], kind)
        if name in part
        else pd.Series([None] * len(part), index=part.index).astype(pandas_dtype(kind))
        for name, kind in types.items()
    }
    return pd.DataFrame(columns)


def _convert(column: pd.Series, kind: str) -> pd.Series:
    if kind.startswith("datetime64"):
        utc = kind.endswith("UTC]")
        return pd.to_datetime(column, utc=utc, format="ISO8601").astype(pandas_dtype(kind))
    if kind == "float64":
        return pd.to_numeric(column.astype(object), errors="coerce").astype("float64")
    if kind == "boolean":
        return column.astype(object).where(column.notna(), None).astype("boolean")
    present = column.notna()
    return column.astype(object).map(str).where(present, None).astype("string")
