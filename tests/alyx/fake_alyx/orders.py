"""Orders of Alyx's lists; `/datasets` has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

Order = Callable[[list[Any]], list[Any]]


def heap(rows: Iterable[Any]) -> list[Any]:
    """No order: as the rows lie, the last edited ones last."""
    return sorted(rows, key=lambda row: row.seq)


def by_start(rows: list[Any]) -> list[Any]:
    """Newest start first, null before all; rows of one start as they lie."""
    return sorted(heap(rows), key=lambda row: row.start_time or datetime.max, reverse=True)


def by_session(rows: list[Any]) -> list[Any]:
    """Insertions: newest session first, then by name."""
    named = sorted(heap(rows), key=lambda row: row.name)
    return sorted(named, key=_start, reverse=True)


def by_level(rows: list[Any]) -> list[Any]:
    """Tasks: by level, highest priority first, newest session first; nulls as PostgreSQL puts them.

    Ascending columns put null last, descending ones first.
    """

    out = sorted(heap(rows), key=_start, reverse=True)
    infinite = float("inf")
    out.sort(key=lambda row: infinite if row.priority is None else row.priority, reverse=True)
    return sorted(out, key=lambda row: infinite if row.level is None else row.level)


def _start(row: Any) -> datetime:
    """Start of a row's session, for a descending order."""
    found = row.session.start_time if row.session else None
    return found or datetime.max


def by_name(rows: list[Any]) -> list[Any]:
    """Alphabetical."""
    return sorted(rows, key=lambda row: getattr(row, "nickname", None) or row.name)
