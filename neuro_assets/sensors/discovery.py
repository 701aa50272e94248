"""The discovery sensor: what changed at the sources becomes keys, raw versions and runs."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets.config import LabConfig
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.registry.actions import Action, ActionKind, Requests
from neuro_assets.registry.descriptions import Changes
from neuro_assets.registry.findings import read_findings, update_findings
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.recheck_queue import read_recheck_queue
from neuro_assets.registry.registry import Registry
from neuro_assets.sensors.sources import for_each_source, source_sensor
from neuro_assets.service.events import findings_event, raw_events, run_request
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.sources.protocol import SessionSource

SENSOR = "discovery"
INTERVAL_S = 30

RECHECKS_PER_TICK = 50
"""Sessions named by the full comparison that one tick looks at: about five requests each."""

SESSIONS_PER_TICK = 500
"""Sessions that one tick describes; a source that needs longer stops earlier by itself."""

KEYS_PER_REQUEST = 1000

LEFT_OUT = 500
"""Tokens of 8 digits that the cursor keeps of sessions that are left out, to say each once."""

LARGE_REGISTRY = 1000
INDEX_INTERVAL = timedelta(minutes=10)
"""A large registry's table is written at most so often by the sensor."""


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
    return source_sensor(
        SENSOR,
        "Finds new, changed and vanished recording sessions at the lab's sources.",
        INTERVAL_S,
        config,
        look,
        job=process,
        config_error=config_error,
    )


@dataclass
class Cursor:
    """What the sensor remembers.

    Parameters
    ----------
    sources : dict of str to str
        Cursor of each source.
    rechecked : dict of str to list of int
        How far the last full comparison's list is done.
    behind : list of str
        Sources that had more to look at than a tick can; they get nothing new from that list.
    at : str
        When the last tick ended whose result arrived: later requests of runs are repeated.
    indexed : str
        When `registry.parquet` was written last.
    left_out : list of str
        Tokens of sessions and reasons that the log has already, the newest last.
    stale_index : bool
        Whether it has to be written anew.
    """

    sources: dict[str, str] = field(default_factory=dict)
    rechecked: dict[str, list[int]] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)
    at: str = ""
    indexed: str = ""
    stale_index: bool = False
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read a cursor; one of another shape counts as none: everything is looked at anew."""
        content = json.loads(text or "{}")
        if set(content) - set(cls.__dataclass_fields__):
            return cls()
        return cls(**content)

    def text(self) -> str:
        """Write it."""
        return json.dumps(self.__dict__)


class _Registered(Collection[str]):
    """Ids of the registered sessions of a source; the registry is read when they are asked for."""

    def __init__(self, registry: Registry, source: str) -> None:
        self._registry, self._source = registry, source

    @cached_property
    def _index(self) -> RecordIndex:
        return self._registry.refresh()

    def __contains__(self, name: object) -> bool:
        return self._index.is_registered(self._source, str(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.session_ids(self._source))

    def __len__(self) -> int:
        return len(self._index.session_ids(self._source))


@dataclass
class _Tick:
    """One look at every source."""

    context: dg.SensorEvaluationContext
    registry: Registry
    config: LabConfig
    cursor: Cursor
    now: datetime
    actions: list[Action] = field(default_factory=list)
    events: list[dg.AssetObservation] = field(default_factory=list)

    def look_at(self, name: str, source: SessionSource) -> None:
        """Look at one source; nothing is remembered unless all of it succeeded."""
        queue = read_recheck_queue(self.registry.store, name)
        number, done = self.cursor.rechecked.get(name, (0, 0))
        room = 0 if name in self.cursor.behind else RECHECKS_PER_TICK
        recheck, done_after = queue.after((number, done), room)
        changes = source.changes(
            self.cursor.sources.get(name),
            limit=SESSIONS_PER_TICK,
            again=[*recheck, *self._copies(name)],
            known=_Registered(self.registry, name),
        )
        for problem in changes.problems:
            self.context.log.warning(f"{name}: {problem.path}: {problem.detail}")
        for session, reason in changes.excluded.items():
            line = f"{name}: {session} is left out: {reason}"
            token = hashlib.sha256(line.encode()).hexdigest()[:8]
            if token not in self.cursor.left_out:
                self.context.log.info(line)
                self.cursor.left_out = [*self.cursor.left_out, token][-LEFT_OUT:]
        self._keep_findings(name, changes, self._register(name, changes))
        self.cursor.sources[name] = changes.cursor
        self.cursor.rechecked[name] = list(done_after)
        self.cursor.behind = [each for each in self.cursor.behind if each != name]
        if not changes.complete:
            self.cursor.behind.append(name)

    def _copies(self, name: str) -> list[str]:
        """Name the sessions of which a copy has to be compared again."""
        found = read_findings(self.registry.store, name)
        return found.to_compare(self.registry.refresh().records) if found.copies else []

    def _keep_findings(self, name: str, changes: Changes, actions: Sequence[Action]) -> None:
        """Keep what is no recording, for `status` and for the page of the raw recordings."""
        found = update_findings(
            self.registry.store,
            name,
            {session.session_id: session.problems for session in changes.changed},
            actions,
            gone=changes.vanished,
            places=None if name == self.config.alyx.name else changes.problems,
        )
        if found is not None:
            self.events.append(findings_event(name, found))

    def _register(self, name: str, changes: Changes) -> list[Action]:
        if not (changes.changed or changes.vanished or changes.excluded):
            return []
        by_hash = {source.name: source.use_file_hash for source in self.config.sources}
        actions = register_sessions(
            self.registry,
            changes.changed,
            [(name, session) for session in changes.vanished],
            excluded={(name, session): why for session, why in changes.excluded.items()},
            use_hash=by_hash.get(name, False),
            reprocess_changed=self.config.processing.reprocess_changed,
            now=self.now,
            requests=Requests(most=0, since=self.now),
        )
        self.actions += actions
        return actions

    def request_runs(self) -> None:
        """Request the runs of the newest sessions that are due, and those not handed over."""
        since = datetime.fromisoformat(self.cursor.at) if self.cursor.at else None
        most = self.config.processing.runs_per_tick
        requests = Requests(by=SENSOR, most=most, backlog=True, since=since)
        reported = {action.record.key for action in self.actions if action.report}
        for action in register_sessions(self.registry, [], now=self.now, requests=requests):
            if action.record.key in reported:
                action = replace(action, report=False, report_metadata=False, report_modalities=())
            self.actions.append(action)

    def rebuild_index(self) -> None:
        """Write `registry.parquet`, of a large registry not at every change."""
        indexed = datetime.fromisoformat(self.cursor.indexed) if self.cursor.indexed else None
        large = len(self.registry.refresh().records) > LARGE_REGISTRY
        if large and indexed is not None and self.now - indexed < INDEX_INTERVAL:
            self.cursor.stale_index = True
            return
        self.registry.rebuild_index()
        self.cursor.indexed, self.cursor.stale_index = self.now.isoformat(), False


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
    for_each_source(context, sources, tick.look_at)
    tick.request_runs()
    for key, reason in registry.damaged.items():
        context.log.error(f"the record of {key} is damaged and it is left alone: {reason}")
    changed = [a for a in tick.actions if a.kind is not ActionKind.KEEP]
    for action in changed:
        if action.changed or action.kind is ActionKind.COPY:
            context.log.info(action.message)
    if changed or cursor.stale_index:
        tick.rebuild_index()
    cursor.at = tick.now.isoformat()
    return _result(tick.actions, cursor, tick.events)


def _result(
    actions: Sequence[Action], cursor: Cursor, events: Sequence[dg.AssetObservation]
) -> dg.SensorResult:
    keys = list(dict.fromkeys(a.record.key for a in actions if a.kind is not ActionKind.VANISH))
    runs = {action.record.key: action.record for action in actions if action.run}
    return dg.SensorResult(
        asset_events=[*events, *(event for action in actions for event in raw_events(action))],
        run_requests=[run_request(record) for record in runs.values()],
        dynamic_partitions_requests=[
            SESSION_PROBE.build_add_request(keys[start : start + KEYS_PER_REQUEST])
            for start in range(0, len(keys), KEYS_PER_REQUEST)
        ],
        cursor=cursor.text(),
    )
