"""The discovery sensor: what changed at the sources becomes keys, raw versions and runs."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets.config import LabConfig
from neuro_assets.outcomes import NeuroAssetsError, TransientFailure
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.registry.descriptions import Changes, SessionDescription
from neuro_assets.registry.planning import Action, ActionKind
from neuro_assets.registry.recheck_queue import read_revisits
from neuro_assets.registry.registry import Registry
from neuro_assets.resources.io_managers import StoreResource
from neuro_assets.service.events import raw_events, run_request
from neuro_assets.service.registration import register_sessions, sources_of
from neuro_assets.sources.protocol import SessionSource

SENSOR = "discovery"
INTERVAL_S = 30

REVISITS_PER_TICK = 50
"""Sessions named by the comparison that one tick looks at: about five requests each."""


def discovery_sensor(
    config: LabConfig,
    process: UnresolvedAssetJobDefinition,
    config_error: str | None = None,
) -> dg.SensorDefinition:
    """Build the sensor that finds sessions at all sources of the lab.

    Parameters
    ----------
    config : LabConfig
        For the sources.
    process : job
        Requested once for each version of a recording's raw data.
    config_error : str, optional
        Why `lab.yaml` as it is now was refused.

    Returns
    -------
    dagster.SensorDefinition
        Running from the start.
    """
    registries = RegistryCache()

    @dg.sensor(
        name=SENSOR,
        job=process,
        description="Finds new, changed and vanished recording sessions at the lab's sources.",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def discovery(
        context: dg.SensorEvaluationContext, store: dg.ResourceParam[StoreResource]
    ) -> dg.SensorResult | dg.SkipReason:
        if config_error:
            context.log.error(config_error)
        sources = sources_of(config)
        if not sources:
            return dg.SkipReason("lab.yaml names no source: add a folder under `sources`")
        return look(context, registries.of(store), config, sources)

    return discovery


@dataclass
class RegistryCache:
    """One registry a store for the life of the code server: its records are read once."""

    _registries: dict[str, Registry] = field(default_factory=dict)

    def of(self, store: StoreResource) -> Registry:
        """Give the registry in a store."""
        return self._registries.setdefault(store.url, Registry(store.store()))


@dataclass
class Cursor:
    """What the sensor remembers.

    Parameters
    ----------
    sources : dict of str to str
        Cursor of each source.
    later : dict of str to list of str
        Sessions for whose keys a tick had no room.
    revisits : dict of str to list of int
        How far the last comparison's list is done.
    behind : list of str
        Sources that had more to look at than a tick can; they get nothing new from that list.
    """

    sources: dict[str, str] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    revisits: dict[str, list[int]] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read a cursor; one of another shape counts as none: everything is looked at anew."""
        said = json.loads(text or "{}")
        if set(said) - set(cls.__dataclass_fields__):
            return cls()
        return cls(**said)

    def text(self) -> str:
        """Write it."""
        return json.dumps(self.__dict__)


class _Registered(Collection[str]):
    """Ids of the registered sessions of a source; the registry is read when they are asked for."""

    def __init__(self, registry: Registry, source: str) -> None:
        self._registry, self._source = registry, source
        self._ids: set[str] | None = None

    def _read(self) -> set[str]:
        if self._ids is None:
            records = self._registry.all().values()
            self._ids = {
                r.session.session_id for r in records if r.session.source == self._source
            } | {r.eid for r in records if r.eid}
        return self._ids

    def __contains__(self, name: object) -> bool:
        return name in self._read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


@dataclass
class _Tick:
    """One look at every source."""

    context: dg.SensorEvaluationContext
    registry: Registry
    config: LabConfig
    cursor: Cursor
    now: datetime
    actions: list[Action] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Keys that this tick may still add."""
        added = sum(action.kind is ActionKind.ADD for action in self.actions)
        return self.config.processing.new_keys_per_tick - added

    def look_at(self, name: str, source: SessionSource) -> None:
        """Look at one source; nothing is remembered unless all of it succeeded."""
        later = self.cursor.later.get(name, [])
        revisits = read_revisits(self.registry.store, name)
        done = tuple(self.cursor.revisits.get(name, (0, 0)))
        room = 0 if name in self.cursor.behind else REVISITS_PER_TICK - len(later)
        again, done_after = revisits.after((done[0], done[1]), room)
        known = _Registered(self.registry, name)
        changes = source.changes(
            self.cursor.sources.get(name),
            limit=max(self.room - len(later), 0),
            again=[*later, *again],
            known=known,
        )
        for problem in changes.problems:
            self.context.log.warning(f"{name}: {problem.path}: {problem.detail}")
        for session, reason in changes.excluded.items():
            self.context.log.info(f"{name}: {session} is left out: {reason}")
        fitting, postponed = self._fit(changes.changed, known)
        self._register(name, changes, fitting)
        self.cursor.sources[name] = changes.cursor
        self.cursor.later[name] = postponed
        self.cursor.revisits[name] = list(done_after)
        self.cursor.behind = [each for each in self.cursor.behind if each != name]
        if not changes.complete:
            self.cursor.behind.append(name)

    def _fit(
        self, sessions: Sequence[SessionDescription], known: Collection[str]
    ) -> tuple[list[SessionDescription], list[str]]:
        """Take the sessions for whose new keys there is room, at least one; the rest later."""
        fitting: list[SessionDescription] = []
        postponed: list[str] = []
        keys = 0
        for session in sessions:
            new = 0
            if session.session_id not in known:
                new = len(session.recordings) + len(session.announced)
            if new and keys and keys + new > self.room:
                postponed.append(session.session_id)
                continue
            keys += new
            fitting.append(session)
        return fitting, postponed

    def _register(
        self, name: str, changes: Changes, sessions: Sequence[SessionDescription]
    ) -> None:
        if not (sessions or changes.vanished or changes.excluded):
            return
        by_hash = {source.name: source.use_file_hash for source in self.config.sources}
        self.actions += register_sessions(
            self.registry,
            sessions,
            [(name, session) for session in changes.vanished],
            excluded={(name, session): why for session, why in changes.excluded.items()},
            use_hash=by_hash.get(name, False),
            reprocess_changed=self.config.processing.reprocess_changed,
            now=self.now,
        )


def look(
    context: dg.SensorEvaluationContext,
    registry: Registry,
    config: LabConfig,
    sources: Mapping[str, SessionSource],
    now: datetime | None = None,
) -> dg.SensorResult:
    """Look at every source once; one that cannot be read does not stop the others.

    Parameters
    ----------
    context : SensorEvaluationContext
        Holds the cursor.
    registry : Registry
        The lab's registry.
    config : LabConfig
        For the limits.
    sources : mapping of str to SessionSource
        Sources by name.
    now : datetime, optional
        UTC; this machine's clock by default.

    Returns
    -------
    dagster.SensorResult
        Keys, raw data versions, runs and the new cursor.

    Raises
    ------
    TransientFailure
        When no source could be read: a failed read is never an empty list.
    """
    cursor = Cursor.parse(context.cursor)
    tick = _Tick(context, registry, config, cursor, now or datetime.now(UTC))
    failures: list[str] = []
    for name, source in sources.items():
        try:
            tick.look_at(name, source)
        except NeuroAssetsError as failure:
            failures.append(f"{name}: {failure}")
            context.log.error(failures[-1])
        if tick.room <= 0:
            break
    if len(failures) == len(sources):
        raise TransientFailure("; ".join(failures))
    changed = [a for a in tick.actions if a.kind is not ActionKind.KEEP]
    for action in changed:
        if action.news or action.kind is ActionKind.COPY:
            context.log.info(action.words)
    if changed:
        registry.rebuild_index()
    return _result(tick.actions, tick.cursor)


def _result(actions: Sequence[Action], cursor: Cursor) -> dg.SensorResult:
    keys = [a.record.key for a in actions if a.kind is not ActionKind.VANISH]
    more: dict[str, Any] = {}
    if keys:
        more["dynamic_partitions_requests"] = [
            SESSION_PROBE.build_add_request(list(dict.fromkeys(keys)))
        ]
    return dg.SensorResult(
        asset_events=[event for action in actions for event in raw_events(action)],
        run_requests=[run_request(action.record) for action in actions if action.run],
        cursor=cursor.text(),
        **more,
    )
