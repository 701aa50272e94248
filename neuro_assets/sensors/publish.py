"""What follows a run: `publish` when `process` ends, and the lab's tables when `publish` ends."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets import names
from neuro_assets.executors.retries import settled, will_be_retried
from neuro_assets.partitions import SET_NAME

ENDED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
COPIED_TAGS = ("neuro/session", "neuro/duration_s", "neuro/channels")


def publish_sensors(
    process: UnresolvedAssetJobDefinition, publish: UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """Request `publish` once for each ended run of `process`, however it ended, after its retries.

    What failed or was skipped is in the store, and the NWB file says what it was made without.
    """

    def request(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        run = context.dagster_run
        key = run.tags.get(names.PARTITION_TAG)
        if key is None:
            return dg.SkipReason(f"Run {run.run_id} has no partition")
        if not context.instance.has_dynamic_partition(SET_NAME, key):
            return dg.SkipReason(f"{key} was renamed after its run {run.run_id}")
        if will_be_retried(context.instance, settled(context.instance, run)):
            return dg.SkipReason(f"Run {run.run_id} was lost and is retried: waiting for its end")
        tags = {name: run.tags[name] for name in COPIED_TAGS if name in run.tags}
        return dg.RunRequest(run_key=run.run_id, partition_key=key, tags=tags)

    about = "Requests `publish` when a run of `process` ends as {}."
    return [after("publish", about, process, status, request, publish) for status in ENDED]


def tables_sensors(
    publish: UnresolvedAssetJobDefinition, refresh: UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """Refresh the lab's tables after `publish`; many ended runs share one refresh."""

    def request(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        waiting = dg.RunsFilter(job_name=names.TABLES_JOB, statuses=WAITING)
        if context.instance.get_runs_count(waiting):
            yield dg.SkipReason("A refresh of the tables is waiting already")
            return
        yield dg.RunRequest(run_key=context.dagster_run.run_id)

    about = "Refreshes the lab's tables when `publish` ends as {}."
    return [after("tables", about, publish, status, request, refresh) for status in ENDED[:2]]


def after(
    name: str,
    about: str,
    job: UnresolvedAssetJobDefinition,
    status: dg.DagsterRunStatus,
    follow: Callable[[dg.RunStatusSensorContext], Any],
    request_job: UnresolvedAssetJobDefinition | None = None,
) -> dg.SensorDefinition:
    """Build the sensor that follows runs of a job that have come to a status.

    Parameters
    ----------
    name : str
        Begins the sensor's name.
    about : str
        Description, with `{}` for the status.
    job : UnresolvedAssetJobDefinition
        Whose runs are followed.
    status : DagsterRunStatus
        Of the runs.
    follow : callable
        Called with the context of each.
    request_job : UnresolvedAssetJobDefinition, optional
        What it may request.

    Returns
    -------
    SensorDefinition
        It runs unless somebody stops it.
    """
    return dg.run_status_sensor(
        name=f"{name}_after_{status.value.lower()}",
        description=about.format(status.value),
        run_status=status,
        monitored_jobs=[job],
        request_job=request_job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,
    )(follow)
