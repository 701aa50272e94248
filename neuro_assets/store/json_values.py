"""Values as JSON, the same on every machine: for hashing, and for files that people open."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

from pydantic import BaseModel

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def jsonable(value: Any, *, exact: bool = False) -> Any:
    """Turn a value into what JSON can hold, the same on every machine.

    Parameters
    ----------
    value : Any
        Numbers (numpy's too), text, dates, enums, models, and containers of them.
    exact : bool
        Keep NaN and infinities, and take what tables hold: bytes, decimals, durations, times, ids.

    Returns
    -------
    Any
        Plain values; else NaN and infinities become None, because JSON has no word for them.

    Raises
    ------
    TypeError
        For anything else: a silent `str()` would make two versions out of one.
    """
    if type(value) is str:  # by far the most frequent
        return value
    if isinstance(value, Enum):
        return jsonable(value.value, exact=exact)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if exact or math.isfinite(value) else None
    if exact and isinstance(value, bytes | Decimal | timedelta | time | UUID):
        return _of_a_table(value)
    return _jsonable_object(value, partial(jsonable, exact=True) if exact else jsonable)


def _of_a_table(value: Any) -> str | int:
    """One text or number for each value of one type; what tells types apart is hashed beside it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):  # pandas counts nanoseconds
        return value.value if hasattr(value, "value") else value // timedelta(microseconds=1)
    return value.isoformat() if isinstance(value, time) else str(value)


def _jsonable_object(value: Any, plain: Callable[[Any], Any]) -> Any:
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path | PurePosixPath):
        return value.as_posix()
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON: {value!r:.80}")


def parsed(data: bytes) -> Any:
    """Read JSON that somebody may have damaged.

    Parameters
    ----------
    data : bytes
        The whole text.

    Returns
    -------
    Any
        Plain values.

    Raises
    ------
    ValueError
        Where it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def canonical(value: Any, *, exact: bool = False) -> bytes:
    """Render the one JSON text of a value: sorted keys, no spaces, UTF-8.

    Parameters
    ----------
    value : Any
        See `jsonable`.
    exact : bool
        Tell NaN, the infinities and null apart: for hashing, since no JSON knows these words.

    Returns
    -------
    bytes
        JSON.
    """
    return _CANONICAL.encode(jsonable(value, exact=exact)).encode()


def of_strings(value: str | list[list[str]]) -> bytes:
    """Render the same text as `canonical`, of strings alone and faster."""
    return _CANONICAL.encode(value).encode()


def pretty(value: Any) -> bytes:
    """Render JSON for people: indented, one newline at the end.

    Parameters
    ----------
    value : Any
        See `jsonable`.

    Returns
    -------
    bytes
        UTF-8.
    """
    return (json.dumps(jsonable(value), indent=1, ensure_ascii=False) + "\n").encode()
