"""The incremental scan: which sessions moved since the last one, by three lists, few requests.

Lists show no more than a few fields of a session, and each window overlaps the one before: what
counts as moved is a row that is new in the window, or whose token changed, or a session that was
saved since the last scan, whatever of it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from os.path import commonprefix
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from neuro_assets.alyx.rows import DatasetRow, InsertionRow, SessionRow, last_part
from neuro_assets.outcomes import TransientFailure
from neuro_assets.sources.alyx.cursor import AlyxCursor, local_bound

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.config import AlyxConfig

MARGIN = timedelta(seconds=30)
"""How far before the last scan sessions count as saved since: requests that were in flight."""

MAX_ROWS = 200_000
"""Of datasets or insertions in one window: a night's bulk transfer is some ten thousand."""

MAX_WALKS = 5
"""Walks over a list of several pages that changes meanwhile, before the next scan tries again."""


@dataclass
class ScanResult:
    """What a scan found.

    Parameters
    ----------
    date : datetime
        Server's time at the first response, UTC.
    ids : list of str
        Sessions to look at.
    rows : dict of str to SessionRow
        Rows of sessions in the window, by id.
    sessions, datasets, insertions : dict of str to str
        Tokens of the rows in the window, by id.
    complete : bool
        Whether every list was read without changing meanwhile; else the window stays.
    """

    date: datetime
    ids: list[str] = field(default_factory=list)
    rows: dict[str, SessionRow] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    insertions: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def scan(client: Alyx, cursor: AlyxCursor, config: AlyxConfig) -> ScanResult:
    """Find what moved.

    Parameters
    ----------
    client : Alyx
        The server.
    cursor : AlyxCursor
        From the last scan.
    config : AlyxConfig
        For zone and overlap.

    Returns
    -------
    ScanResult
        Three requests when nothing moved within the overlap, four when something did.

    Raises
    ------
    TransientFailure, PermanentFailure
        When a list could not be read, or is far longer than it can be.
    """
    if cursor.since is None:
        date = client.page("sessions", limit=1).date
        return _Scan(client, config, cursor, date).run()
    return _Scan(client, config, cursor, cursor.since).run()


@dataclass
class _Scan:
    client: Alyx
    config: AlyxConfig
    cursor: AlyxCursor
    since: datetime
    date: datetime | None = None
    complete: bool = True

    def run(self) -> ScanResult:
        zone = ZoneInfo(self.config.timezone)
        bound = local_bound(self.since - timedelta(minutes=self.config.overlap_minutes), zone)
        window = f"auto_datetime__gte,{bound}"
        rows = self._list("sessions", self.config.most_sessions, SessionRow.of, django=window)
        saved: dict[str, Any] = {}
        if rows and self.cursor.since is not None:
            lately = f"auto_datetime__gte,{local_bound(self.since - MARGIN, zone)}"
            saved = self._list("sessions", self.config.most_sessions, SessionRow.of, django=lately)
        datasets = self._list(
            "datasets", MAX_ROWS, DatasetRow.of, django=window + _of_types(self.config.expected)
        )
        insertions = self._list("insertions", MAX_ROWS, InsertionRow.of, django=window)
        if self.date is None:
            raise TransientFailure("Alyx gave no list; it is tried again")
        moved = ScanResult(
            date=self.date,
            rows={**rows, **saved},
            sessions=_tokens(rows),
            datasets=_tokens(datasets),
            insertions=_tokens(insertions),
            complete=self.complete,
        )
        before = self.cursor
        ids = [*saved, *_moved(moved.sessions, before.sessions)]
        ids += [datasets[name].session for name in _moved(moved.datasets, before.datasets)]
        ids += [insertions[name].session for name in _moved(moved.insertions, before.insertions)]
        moved.ids = list(dict.fromkeys(name for name in ids if name))
        return moved

    def _list(
        self, endpoint: str, most: int, parse: Callable[[Any], Any], **query: Any
    ) -> dict[str, Any]:
        """Read a list; one of several pages again, until two walks agree.

        Rows that are edited between two pages change their place, so that a walk can miss others.
        """
        found, n_pages = self._walk(endpoint, most, parse, query)
        if n_pages == 1:
            return found
        for _ in range(MAX_WALKS - 1):
            again, _ = self._walk(endpoint, most, parse, query)
            agreed = _tokens(again) == _tokens(found)
            found = {**found, **again}
            if agreed:
                return found
        self.complete = False
        return found

    def _walk(
        self, endpoint: str, most: int, parse: Callable[[Any], Any], query: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        n_pages = 0
        for page in self.client.pages(endpoint, most=most, **query):
            self.date = self.date or page.date
            n_pages += 1
            for raw in page.rows:
                found[str(raw.get("id") or last_part(raw.get("url")))] = parse(raw)
        return found, n_pages


def _of_types(expected: list[str]) -> str:
    """Narrow the window of datasets to what readiness depends on, where that has one name."""
    prefix = commonprefix(expected).rpartition(".")[0]
    return f",dataset_type__name__icontains,{prefix}" if prefix else ""


def _tokens(rows: dict[str, Any]) -> dict[str, str]:
    return {name: row.token for name, row in rows.items()}


def _moved(now: dict[str, str], before: dict[str, str]) -> list[str]:
    return [name for name, token in now.items() if before.get(name) != token]
