"""The reconciliation sensor: a slow, full comparison of sources, registry and runs.

It decides nothing about a session: what differs is named to the discovery sensor, which looks
again and is the only one that asks for runs.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from neuro_assets import names
from neuro_assets.config import LabConfig
from neuro_assets.executors.launcher import counts_as_run
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.descriptions import Known
from neuro_assets.registry.recheck_queue import write_recheck_queue
from neuro_assets.registry.registry import RecordingRecord, Registry
from neuro_assets.sensors.discovery import SENSOR as SENSOR_NAME
from neuro_assets.sensors.sources import for_each_source, source_sensor
from neuro_assets.service.events import RAW_VERSION_TAG, alert, run_key
from neuro_assets.sources.protocol import SessionSource

SENSOR = "reconciliation"

LOST_AFTER = timedelta(hours=2)
"""Age of a request for a run without a trace of the run: longer than a run is asked for again."""


def reconciliation_sensor(config: LabConfig) -> dg.SensorDefinition:
    """Build the sensor that compares everything, every `alyx.reconcile_hours`.

    Parameters
    ----------
    config : LabConfig
        For the sources and the interval.

    Returns
    -------
    dagster.SensorDefinition
        Running from the start.
    """
    return source_sensor(
        SENSOR,
        "Compares every registered session with its source, and finds recordings that wait too "
        "long or were never processed.",
        round(config.alyx.reconcile_hours * 3600),
        config,
        compare,
    )


def compare(
    context: dg.SensorEvaluationContext,
    registry: Registry,
    config: LabConfig,
    sources: Mapping[str, SessionSource],
    now: datetime | None = None,
) -> dg.SensorResult:
    """Compare every source with the registry, and the registry with the runs.

    Parameters
    ----------
    context : SensorEvaluationContext
        Holds the cursor: JSON with one cursor a source.
    registry : Registry
        The lab's registry.
    config : LabConfig
        For the number of days after which waiting is reported.
    sources : mapping of str to SessionSource
        Sources by name.
    now : datetime, optional
        UTC; this machine's clock by default.

    Returns
    -------
    dagster.SensorResult
        Alerts of recordings that wait too long, and the new cursor.

    Raises
    ------
    TransientFailure
        When no source could be compared.
    """
    now = now or datetime.now(UTC)
    cursors: dict[str, str] = json.loads(context.cursor or "{}")
    records = registry.all()

    def look_at(name: str, source: SessionSource) -> None:
        lost = _lost(context, registry, records, name, now)
        found = source.reconcile(known_sessions(records, name), cursors.get(name))
        recheck = {**lost, **found.recheck}
        write_recheck_queue(registry.store, name, recheck)
        cursors[name] = found.cursor
        context.log.info(f"{name}: {found.n_listed} sessions compared, {len(recheck)} differ")
        for session, reason in recheck.items():
            context.log.info(f"{name}: {session}: {reason}")

    for_each_source(context, sources, look_at)
    stuck = [r for r in records.values() if _is_stuck(r, now, config.alyx.alert_days)]
    for record in stuck:
        context.log.warning(f"{record.key} waits since {record.waiting_since}: {record.reason}")
    return dg.SensorResult(
        asset_events=[alert(record, now) for record in stuck], cursor=json.dumps(cursors)
    )


def known_sessions(records: Mapping[str, RecordingRecord], source: str) -> dict[str, Known]:
    """Summarise what the registry has of the sessions of one source.

    Parameters
    ----------
    records : mapping of str to RecordingRecord
        The registry, by key.
    source : str
        Name of the source.

    Returns
    -------
    dict of str to Known
        By session id; also of recordings that another source found and that have an id here.
    """
    groups: dict[str, list[RecordingRecord]] = defaultdict(list)
    for record in records.values():
        if record.session.source == source:
            groups[record.session.session_id].append(record)
        elif record.eid is not None:
            groups[record.eid].append(record)
    return {name: _known(group) for name, group in groups.items()}


def _known(group: list[RecordingRecord]) -> Known:
    metadata: Any = next((r.metadata for r in group if r.metadata), None)
    of_database = metadata.session if metadata else None
    return Known(
        row_token=of_database.row_token if of_database else "",
        source_token=next((r.source_token for r in group if r.source_token), ""),
        qc=of_database.qc if of_database else "",
        waits=any(r.state in ("not_ready", "held") for r in group),
        gone=all(r.state == "vanished" for r in group),
        pids=frozenset(r.pid for r in group if r.pid),
        subject=metadata.subject if metadata else None,
    )


def _lost(
    context: dg.SensorEvaluationContext,
    registry: Registry,
    records: Mapping[str, RecordingRecord],
    source: str,
    now: datetime,
) -> dict[str, str]:
    """Find recordings whose run was requested and left no trace; discovery requests another."""
    lost: dict[str, str] = {}
    for record in records.values():
        if record.session.source != source or not _may_be_lost(registry, record, now):
            continue
        if _has_run(context.instance, record):
            continue
        registry.update(record.key, lambda _: {"requested": None})
        lost[record.session.session_id] = f"{record.key} was never processed"
    return lost


def _may_be_lost(registry: Registry, record: RecordingRecord, now: datetime) -> bool:
    if record.state != "ready" or record.requested not in (None, record.raw_version):
        return False
    # Without a version but with a time: found to be lost before, and nobody has looked since.
    if record.requested_at is None or now - record.requested_at < LOST_AFTER:
        return False
    store, first = registry.store, names.COMPRESSED_RECORDING
    try:
        return store.current(first, record.key) is None and store.failure(first, record.key) is None
    except PermanentFailure:  # damaged, as `status` shows: it did leave a trace
        return False


def _has_run(instance: dg.DagsterInstance, record: RecordingRecord) -> bool:
    # Also what ran under an earlier key of the recording.
    keys = [record.key, *record.aliases]
    tags: dict[str, str | list[str]] = {
        names.PARTITION_TAG: keys,
        RAW_VERSION_TAG: record.raw_version,
    }
    if record.requested_by == SENSOR_NAME:
        tags["dagster/run_key"] = run_key(record)
    runs = instance.get_runs(dg.RunsFilter(tags=tags))
    return any(counts_as_run(instance, run) for run in runs if not _was_refused(run, record))


def _was_refused(run: dg.DagsterRun, record: RecordingRecord) -> bool:
    """Tell whether it failed under an earlier key, as every run does that begins after a rename."""
    is_earlier = run.tags.get(names.PARTITION_TAG) in record.aliases
    return is_earlier and run.status is dg.DagsterRunStatus.FAILURE


def _is_stuck(record: RecordingRecord, now: datetime, days: float) -> bool:
    since = record.waiting_since
    return since is not None and now - since > timedelta(days=days)
