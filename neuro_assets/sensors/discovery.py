"""The discovery sensor: what changed at the sources becomes keys, raw versions and runs."""

import json
from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets.config import LabConfig
from neuro_assets.outcomes import TransientFailure
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.resources.io_managers import StoreResource
from neuro_assets.resources.planning import Action, ActionKind
from neuro_assets.resources.registry import Registry
from neuro_assets.resources.sessions import Changes, SessionSource
from neuro_assets.sensors.events import raw_events, run_request
from neuro_assets.sensors.registration import local_source, register_sessions

SENSOR = "discovery"
INTERVAL_S = 30


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

    @dg.sensor(
        name=SENSOR,
        job=process,
        description="Finds new, changed and vanished recording sessions at the lab's sources.",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def discovery(
        context: dg.SensorEvaluationContext, store: StoreResource
    ) -> dg.SensorResult | dg.SkipReason:
        if config_error:
            context.log.error(config_error)
        sources = {source.name: local_source(source, config) for source in config.sources}
        if not sources:
            return dg.SkipReason("lab.yaml names no source: add a folder under `sources`")
        return look(context, Registry(store.store()), config, sources)

    return discovery


def look(
    context: dg.SensorEvaluationContext,
    registry: Registry,
    config: LabConfig,
    sources: Mapping[str, SessionSource],
) -> dg.SensorResult:
    """Look at every source once; one that cannot be read does not stop the others.

    Parameters
    ----------
    context : SensorEvaluationContext
        Holds the cursor: JSON with one cursor a source.
    registry : Registry
        The lab's registry.
    config : LabConfig
        For the limits.
    sources : mapping of str to SessionSource
        Sources by name.

    Returns
    -------
    dagster.SensorResult
        Keys, raw data versions, runs and the new cursor.

    Raises
    ------
    TransientFailure
        When no source could be read: a failed read is never an empty list.
    """
    cursors: dict[str, str] = json.loads(context.cursor or "{}")
    by_hash = {source.name: source.use_file_hash for source in config.sources}
    limit = config.processing.new_keys_per_tick
    actions: list[Action] = []
    failures: list[str] = []
    for name, source in sources.items():
        try:
            changes = _changes(source, cursors.get(name), limit - len(actions))
        except TransientFailure as failure:
            failures.append(f"{name}: {failure}")
            context.log.error(failures[-1])
            continue
        for problem in changes.problems:
            context.log.warning(f"{name}: {problem.path}: {problem.detail}")
        actions += register_sessions(
            registry,
            changes.changed,
            [(name, session) for session in changes.vanished],
            use_hash=by_hash.get(name, False),
            reprocess_changed=config.processing.reprocess_changed,
        )
        cursors[name] = changes.cursor
        if len(actions) >= limit:
            break
    if len(failures) == len(sources):
        raise TransientFailure("; ".join(failures))
    for action in actions:
        if action.kind is not ActionKind.KEEP:
            context.log.info(action.words)
    if actions:
        registry.rebuild_index()
    return _result(actions, cursors)


def _changes(source: SessionSource, cursor: str | None, room: int) -> Changes:
    """Take as many changed sessions as have room for their keys, and at least one."""
    changes = source.changes(cursor, limit=room)
    keys = 0
    for fitting, session in enumerate(changes.changed):
        keys += len(session.recordings)
        if keys > room and fitting:
            # The same cursor gives the same answer, up to where this tick can carry it.
            return source.changes(cursor, limit=fitting)
    return changes


def _result(actions: list[Action], cursors: dict[str, str]) -> dg.SensorResult:
    keys = [a.record.key for a in actions if a.kind is not ActionKind.VANISH]
    return dg.SensorResult(
        asset_events=[event for action in actions for event in raw_events(action)],
        dynamic_partitions_requests=(
            [SESSION_PROBE.build_add_request(list(dict.fromkeys(keys)))] if keys else []
        ),
        run_requests=[run_request(a.record) for a in actions if a.run],
        cursor=json.dumps(cursors),
    )
