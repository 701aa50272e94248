"""Sessions of an Alyx database, by the protocol that folders follow too.

What moved is found by `sweep`, what a session is by `describing`; here is the order of work: what
is looked at now, what waits for the next look, and what a second look confirms.
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
from neuro_assets.sources.alyx.description import Described, Describer
from neuro_assets.sources.alyx.exclusion import why_not
from neuro_assets.sources.alyx.full_reconciliation import compare
from neuro_assets.sources.alyx.incremental_scan import Moved, sweep

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.config import AlyxConfig, LabConfig

MOST_LOOKS = 120
"""Sessions that one call describes: some five requests each, a quarter of the throttle's minute."""

LOOKING_S = 25.0
"""Time after which a call describes no further session: a tick of a sensor may last 60 s."""

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
    describer : Describer
        Turns a session's rows and files into a description.
    monotonic : callable
        Clock for the time that a call may take, s.
    """

    client: Alyx
    config: AlyxConfig
    describer: Describer
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
            For the sensors: it gives up early and is asked again.
        """
        from neuro_assets.alyx.client import connect

        client = connect(config.alyx, tries=SENSOR_TRIES, deadline_s=SENSOR_DEADLINE_S)
        return cls(client, config.alyx, Describer.of(client, config))

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
        moved = sweep(self.client, before, self.config)
        call = _Call(self, before, moved, limit, known)
        call.look(again)
        return call.answer()

    def describe(self, session_id: str) -> SessionDescription:
        """Describe one session as it is now; see `SessionSource.describe`.

        A person's word replaces the second look.
        """
        found = self.describer.describe(session_id, self._today())
        if found is None:
            raise PermanentFailure(f"{self.name} has no session {session_id}")
        if found.description is None:
            raise PermanentFailure(f"session {session_id} is left out: {found.excluded}")
        return settled(found.description)

    def reconcile(self, known: Mapping[str, Known], cursor: str | None = None) -> Reconciliation:
        """Compare everything with what is registered; see `SessionSource.reconcile`.

        One request for each 1,000 sessions, and at most five more.
        """
        return compare(self.client, self.config, known, cursor)

    def _today(self) -> datetime:
        return (self.client.date or datetime.now(UTC)).astimezone(self.zone)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The server's zone."""
        return ZoneInfo(self.config.timezone)


def settled(description: SessionDescription) -> SessionDescription:
    """Say of a description that nothing of it is expected to change.

    Parameters
    ----------
    description : SessionDescription
        As it was seen.

    Returns
    -------
    SessionDescription
        Ready, unless something is missing.
    """
    waits = bool(description.waiting or description.announced)
    missing = [line for lines in description.waiting.values() for line in lines]
    missing += [line for lines in description.announced.values() for line in lines]
    return description.model_copy(
        update={"settled": True, "ready": not waits, "missing": tuple(dict.fromkeys(missing))}
    )


@dataclass
class _Call:
    """One call of `changes`: a queue of sessions, and what became of each."""

    source: AlyxSessionSource
    before: AlyxCursor
    moved: Moved
    limit: int | None
    known: Collection[str]
    pending: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    settling: dict[str, Settling] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    twins: dict[str, list[str]] = field(default_factory=dict)
    changed: list[SessionDescription] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    new: int = 0
    failures: int = 0

    def look(self, again: Collection[str]) -> None:
        """Go through all that is to be looked at, as far as time and limits allow."""
        config = self.source.config
        today = self.moved.date.astimezone(self.source.zone).date()
        self.settling = dict(self.before.settling)
        self.twins = dict(self.before.twins)
        began = self.source.monotonic()
        n_looks = 0
        for eid in self._queue(again):
            row = self.moved.rows.get(eid)
            if row is not None and (reason := why_not(row, config, today)):
                self._leave_out(eid, reason)
                continue
            late = self.source.monotonic() - began > LOOKING_S
            if late or n_looks >= MOST_LOOKS or self.failures > 1 or not self._has_room(eid):
                (self.failed if eid in self.before.failed else self.pending).append(eid)
                continue
            n_looks += 1
            self._look_at(eid)

    def _queue(self, again: Collection[str]) -> list[str]:
        """Order the work: confirmations first, then what is registered, then what is new."""
        due = timedelta(minutes=self.source.config.settle_minutes)
        confirm = [n for n, s in self.before.settling.items() if self.moved.date - s.since >= due]
        rest = [*self.before.pending, *self.before.gone, *self.moved.ids, *again]
        failed = self.before.failed
        if not rest:
            return list(dict.fromkeys([*(n for n in confirm if n not in failed), *failed]))
        old = [name for name in rest if name in self.known]
        order = dict.fromkeys([*confirm, *old, *rest])
        return [*(name for name in order if name not in failed), *failed]

    def _has_room(self, eid: str) -> bool:
        if self.limit is None or eid in self.before.settling or eid in self.known:
            return True
        return self.new < self.limit

    def _look_at(self, eid: str) -> None:
        today = self.moved.date.astimezone(self.source.zone)
        try:
            found = self.source.describer.describe(eid, today)
        except TransientFailure as failure:
            self.failures += 1
            self._report(eid, "unreadable", f"{failure}; it is looked at again")
            self.failed.append(eid)
            return
        except PermanentFailure as failure:
            self._report(eid, "refused", str(failure))
            return
        if found is None:
            self._miss(eid)
            return
        self._relate(eid, found.twins)
        if found.description is None:
            self._leave_out(eid, found.excluded)
            return
        if eid not in self.known:
            self.new += 1
        self._take(found, found.description)

    def _leave_out(self, eid: str, reason: str) -> None:
        self.excluded[eid] = reason
        self.settling.pop(eid, None)

    def _miss(self, eid: str) -> None:
        """Believe a deletion when two looks say so."""
        self.settling.pop(eid, None)
        if eid not in self.before.gone:
            self.gone.append(eid)
            return
        self.vanished.append(eid)
        self._relate(eid, ())

    def _relate(self, eid: str, others: Collection[str]) -> None:
        """Look again at those who share, or shared, a name with a session that changed."""
        before = set(self.twins.pop(eid, ()))
        if others:
            self.twins[eid] = sorted(others)
        self.pending += sorted(before ^ set(others))

    def _take(self, found: Described, description: SessionDescription) -> None:
        """Take a description as settled when the look before saw the same raw data."""
        eid, seen = description.session_id, self.settling.get(description.session_id)
        complete = len(description.waiting) < len(description.recordings)
        if not complete:
            self.settling.pop(eid, None)
            self.changed.append(settled(description))
            return
        due = timedelta(minutes=self.source.config.settle_minutes)
        if seen is not None and seen.token == found.token:
            if self.moved.date - seen.since >= due:
                del self.settling[eid]
                description = settled(description)
        else:
            self.settling[eid] = Settling(token=found.token, since=self.moved.date)
        self.changed.append(description)

    def _report(self, eid: str, kind: str, words: str) -> None:
        self.problems.append(Problem(kind=kind, path=eid, detail=words))

    def answer(self) -> Changes:
        """Say what was found, and remember what is left."""
        moved, before = self.moved, self.before
        looked = {d.session_id for d in self.changed} | set(self.excluded) | set(self.vanished)
        pending = [name for name in dict.fromkeys(self.pending) if name not in looked]
        cursor = AlyxCursor(
            since=moved.date if moved.complete else (before.since or moved.date),
            sessions=moved.sessions,
            datasets=moved.datasets,
            insertions=moved.insertions,
            pending=[n for n in pending if n not in self.gone and n not in self.failed],
            failed=self.failed,
            settling=self.settling,
            gone=self.gone,
            twins=self.twins,
        )
        problems = [p for d in self.changed for p in d.problems]
        return Changes(
            seen=tuple(moved.ids),
            changed=tuple(self.changed),
            vanished=tuple(self.vanished),
            excluded=self.excluded,
            not_ready=tuple(d.session_id for d in self.changed if not d.ready),
            problems=(*self.problems, *problems),
            cursor=cursor.encode(),
            # What failed is tried again each time; it must not keep others from being looked at.
            complete=not cursor.pending and moved.complete,
        )
