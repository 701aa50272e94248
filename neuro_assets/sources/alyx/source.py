"""Sessions of an Alyx database, by the protocol that folders follow too.

What moved is found by `incremental_scan`, what a session is by `session`; here is the order of
work: what is read now, what waits for the next scan, and what a second reading confirms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.descriptions import Changes, Known, Reconciliation, SessionDescription
from neuro_assets.sources.alyx.cursor import AlyxCursor, Settling
from neuro_assets.sources.alyx.exclusion import exclusion_reason
from neuro_assets.sources.alyx.full_reconciliation import reconcile
from neuro_assets.sources.alyx.incremental_scan import ScanResult, scan
from neuro_assets.sources.alyx.session import SessionReader

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.config import AlyxConfig, LabConfig

MAX_READS = 120
"""Sessions that one call reads: some five requests each, a quarter of the throttle's minute."""

READING_S = 25.0
"""Time after which a call reads no further session: a tick of a sensor may last 60 s."""

SENSOR_TRIES = 3
SENSOR_DEADLINE_S = 20.0
"""A tick that meets a bad server ends; the next one tries again."""


@dataclass
class AlyxSessionSource:
    """Sessions that an Alyx server has.

    Parameters
    ----------
    client : Alyx
        The server.
    config : AlyxConfig
        What the lab wants of it.
    reader : SessionReader
        Turns a session's rows and files into a description.
    monotonic : callable
        Clock for the time that a call may take, s.
    """

    client: Alyx
    config: AlyxConfig
    reader: SessionReader
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, config: LabConfig) -> AlyxSessionSource:
        """Make the source of a configuration; nothing is connected yet.

        Parameters
        ----------
        config : LabConfig
            Its `alyx` section, and `readers`.

        Returns
        -------
        AlyxSessionSource
            For the sensors: it gives up early and is called again.
        """
        from neuro_assets.alyx.client import connect

        client = connect(config.alyx, tries=SENSOR_TRIES, deadline_s=SENSOR_DEADLINE_S)
        return cls(client, config.alyx, SessionReader.of(client, config))

    @property
    def name(self) -> str:
        """Name of the source in `lab.yaml`."""
        return self.config.name

    def changes(
        self,
        cursor: str | None = None,
        *,
        limit: int | None = None,
        again: Collection[str] = (),
        known: Collection[str] = (),
    ) -> Changes:
        """List what changed since a cursor; see `SessionSource.changes`.

        The first call starts the clock: sessions that are older are named by `reconcile`.
        """
        before = AlyxCursor.decode(cursor)
        call = _Call(self, before, scan(self.client, before, self.config), limit, known)
        call.run(again)
        return call.result()

    def describe(self, session_id: str) -> SessionDescription:
        """Describe one session as it is now; see `SessionSource.describe`.

        A person's word replaces the second reading.
        """
        today = (self.client.date or datetime.now(UTC)).astimezone(self.zone)
        found = self.reader.read(session_id, today)
        if found is None:
            raise PermanentFailure(f"{self.name} has no session {session_id}")
        if found.description is None:
            raise PermanentFailure(f"session {session_id} is left out: {found.exclusion_reason}")
        return settled(found.description)

    def reconcile(self, known: Mapping[str, Known], cursor: str | None = None) -> Reconciliation:
        """Compare everything with what is registered; see `SessionSource.reconcile`.

        One request for each 1,000 sessions, at most eight more, and one for each of 40 animals.
        """
        return reconcile(self.client, self.config, known, cursor)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The server's zone."""
        return ZoneInfo(self.config.timezone)


def settled(description: SessionDescription) -> SessionDescription:
    """Mark a description as one of which nothing is expected to change.

    Parameters
    ----------
    description : SessionDescription
        As it was read.

    Returns
    -------
    SessionDescription
        Ready, unless something is missing.
    """
    lines = (*description.waiting.values(), *description.expected.values())
    missing = tuple(dict.fromkeys(line for some in lines for line in some))
    return description.model_copy(update={"settled": True, "ready": not lines, "missing": missing})


@dataclass
class _Call:
    """One call of `changes`: a queue of sessions, and what became of each."""

    source: AlyxSessionSource
    before: AlyxCursor
    moved: ScanResult
    limit: int | None
    known: Collection[str]
    after: AlyxCursor = field(default_factory=AlyxCursor)
    changed: list[SessionDescription] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    n_new: int = 0
    n_failures: int = 0

    @property
    def today(self) -> datetime:
        """The server's time, in its zone."""
        return self.moved.date.astimezone(self.source.zone)

    @property
    def settle_time(self) -> timedelta:
        """How long data must not change."""
        return timedelta(minutes=self.source.config.settle_minutes)

    def run(self, again: Collection[str]) -> None:
        """Go through all that is to be read, as far as time and limits allow."""
        self.after.settling = dict(self.before.settling)
        self.after.duplicates = dict(self.before.duplicates)
        end, n_reads = self.source.monotonic() + READING_S, 0
        for eid in self._queue(again):
            row = self.moved.rows.get(eid)
            if row and (reason := exclusion_reason(row, self.source.config, self.today.date())):
                self._exclude(eid, reason)
            elif (
                self.source.monotonic() > end
                or n_reads >= MAX_READS
                or self.n_failures > 1
                or not self._has_room(eid)
            ):
                (self.after.failed if eid in self.before.failed else self.after.pending).append(eid)
            else:
                n_reads += 1
                self._read(eid)

    def _queue(self, again: Collection[str]) -> list[str]:
        """Order the work: confirmations, then what is registered, what is new, what failed."""
        before, now, due = self.before, self.moved.date, self.settle_time
        confirm = [eid for eid, each in before.settling.items() if now - each.since >= due]
        rest = [*before.pending, *before.gone, *self.moved.ids, *again]
        registered = [eid for eid in rest if eid in self.known]
        order = dict.fromkeys([*confirm, *registered, *rest])
        return [*(eid for eid in order if eid not in before.failed), *before.failed]

    def _has_room(self, eid: str) -> bool:
        is_new = eid not in self.before.settling and eid not in self.known
        return self.limit is None or not is_new or self.n_new < self.limit

    def _read(self, eid: str) -> None:
        try:
            found = self.source.reader.read(eid, self.today)
        except TransientFailure as failure:
            self.n_failures += 1
            self._report(eid, "unreadable", f"{failure}; it is read again")
            self.after.failed.append(eid)
            return
        except PermanentFailure as failure:
            self._report(eid, "refused", str(failure))
            return
        if found is None:
            self._miss(eid)
            return
        self._queue_duplicates(eid, found.duplicates)
        if found.description is None:
            self._exclude(eid, found.exclusion_reason)
            return
        self.n_new += eid not in self.known
        self.changed.append(self._confirmed(found.description))

    def _exclude(self, eid: str, reason: str) -> None:
        self.excluded[eid] = reason
        self.after.settling.pop(eid, None)

    def _miss(self, eid: str) -> None:
        """Believe a deletion when it is missed twice."""
        self.after.settling.pop(eid, None)
        if eid not in self.before.gone:
            self.after.gone.append(eid)
            return
        self.vanished.append(eid)
        self._queue_duplicates(eid, ())

    def _queue_duplicates(self, eid: str, others: Collection[str]) -> None:
        """Read those again who share, or shared, a name with a session that changed."""
        before = set(self.after.duplicates.pop(eid, ()))
        if others:
            self.after.duplicates[eid] = sorted(others)
        self.after.pending += sorted(before ^ set(others))

    def _confirmed(self, description: SessionDescription) -> SessionDescription:
        """Settle a description when the reading before found the same raw data."""
        eid, token = description.session_id, description.source_token
        seen = self.after.settling.get(eid)
        if all(each.label in description.waiting for each in description.recordings):
            self.after.settling.pop(eid, None)
            return settled(description)
        if seen is None or seen.token != token:
            self.after.settling[eid] = Settling(token=token, since=self.moved.date)
            return description
        if self.moved.date - seen.since < self.settle_time:
            return description
        del self.after.settling[eid]
        return settled(description)

    def _report(self, eid: str, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind=kind, path=eid, detail=detail))

    def result(self) -> Changes:
        """Give what was found, and a cursor with what is left."""
        moved, before = self.moved, self.before
        done = {d.session_id for d in self.changed} | set(self.excluded) | set(self.vanished)
        done |= {*self.after.gone, *self.after.failed}
        cursor = self.after.model_copy(
            update={
                "since": moved.date if moved.complete else (before.since or moved.date),
                "sessions": moved.sessions,
                "datasets": moved.datasets,
                "insertions": moved.insertions,
                "pending": [eid for eid in dict.fromkeys(self.after.pending) if eid not in done],
            }
        )
        problems = [p for d in self.changed for p in d.problems]
        return Changes(
            seen=tuple(moved.ids),
            # Of two sessions with one name the one that has data gets the key.
            changed=tuple(sorted(self.changed, key=lambda d: not d.recordings)),
            vanished=tuple(self.vanished),
            excluded=self.excluded,
            not_ready=tuple(d.session_id for d in self.changed if not d.ready),
            problems=(*self.problems, *problems),
            cursor=cursor.encode(),
            # What failed is tried again each time; it must not keep others from being read.
            complete=not cursor.pending and moved.complete,
        )
