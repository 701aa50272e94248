"""Which lost runs are started again, and with what: as long as they make progress.

Dagster starts a failed run again while its group (the first run and all its retries) has at most
`dagster/max_retries` members. That tag is raised here, so that twice without progress is final:
a run that finished a step which is new to its group, and a run that was asked to stop with the
platform, cost no retry.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunRecord,
    RunsFilter,
)
from dagster._core.errors import DagsterRunNotFoundError
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    MAX_RETRIES_TAG,
    RETRY_NUMBER_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)

FAILED_RETRY_MESSAGE = "Failed to retry run"
"""What Dagster's daemon records with a run whose retry it could not start, before it gives up."""
MAX_START_ATTEMPTS = 10
OVERDUE = timedelta(minutes=2)
"""The daemon starts a retry within seconds of the failure."""

_SETTLE_POLLS, _SETTLE_POLL_S = 50, 0.2

_log = logging.getLogger("dagster.neuro_assets.retries")


def note_progress(instance: DagsterInstance, run: DagsterRun) -> None:
    """Let a run that finished a step which is new to its group be resumed, however long that is.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        In progress, or lost and not failed yet.
    """
    group = _group(instance, run)
    if _max_retries(instance, run) <= len(group) and _made_progress(instance, run, group):
        _allow(instance, run, len(group) + 1)


def allow_for_stop(instance: DagsterInstance, run: DagsterRun) -> None:
    """Let the polite stop of a run cost no retry; called before the stop.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        In progress.
    """
    group, allowed = _group(instance, run), _max_retries(instance, run)
    if _made_progress(instance, run, group):
        _allow(instance, run, max(allowed, len(group) + 1))
    else:
        _allow(instance, run, allowed + 1)


def will_be_retried(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether a run that ended was, or is going to be, executed again.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    bool
        Also true for a run whose retry could not be started for a moment, see `retry_dropped`.
    """
    if run.status is not DagsterRunStatus.FAILURE or not instance.run_retries_enabled:
        return False
    # The retry last: one that the daemon makes in between fills the group, which is then said to
    # have none left.
    if _has_retry_left(instance, run) or next_run(instance, run) is not None:
        return True
    return _never_submitted(instance, run) and not _was_given_up(instance, run)


def next_run(instance: DagsterInstance, run: DagsterRun) -> DagsterRun | None:
    """Return the run that executes a failed one again, if there is one.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run.

    Returns
    -------
    DagsterRun or None
        The first of them.
    """
    again = (other for other in _group(instance, run) if other.parent_run_id == run.run_id)
    return next(again, None)


def settled(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    """Return a run that is ending as it is once Dagster has written down how it ended.

    Dagster stores the event of an end first, then the status, then the reason, then whether the
    run is retried; a sensor sees the event.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        Of an event of its end.

    Returns
    -------
    DagsterRun
        Read again; as it is after some seconds when no more comes.
    """
    for _ in range(_SETTLE_POLLS):
        run = instance.get_run_by_id(run.run_id) or run
        failed = run.status is DagsterRunStatus.FAILURE and instance.run_retries_enabled
        if run.is_finished and (not failed or WILL_RETRY_TAG in run.tags):
            break
        time.sleep(_SETTLE_POLL_S)
    return run


def retry_dropped(
    instance: DagsterInstance, since: datetime, overdue: timedelta = OVERDUE
) -> list[str]:
    """Have the daemon try again to start the retries that it gave up or overlooked.

    It gives up at the first error, as when a worker and the code server were killed together. It
    overlooks a failure whose event it reads before the run is marked as one to be retried. Killed
    between the two, it makes a retry and never submits it: such a run costs no try. Only the daemon
    makes and submits retries, so that no run is ever submitted twice.

    Parameters
    ----------
    instance : DagsterInstance
        Where the runs are.
    since : datetime
        Only runs that changed after this.
    overdue : timedelta
        A retry of which nothing came for this long was overlooked.

    Returns
    -------
    list of str
        Ids of the failed runs whose retry is tried again, or given up after ten times.
    """
    failed = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=since)
    records = instance.get_run_records(failed)
    runs = [
        record.dagster_run
        for record in records
        if _was_dropped(instance, record.dagster_run)
        or _overlooked(instance, record, overdue)
        or _waits_for_submission(instance, record, overdue)
    ]
    for run in runs:
        # Dagster counts a retry that it never submitted; it is asked again as if there were none.
        if _max_retries(instance, run) < (size := len(_group(instance, run))):
            _allow(instance, run, size)
        # Marked before its event is there to be read, or this one would be overlooked, too.
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true"})
        # A new failure event is what the daemon, and whoever waits for the end, reacts to.
        instance.report_run_failed(run, "Its retry could not be started: trying again.")
        _log.warning("run %s: its retry could not be started, trying again", run.run_id)
        if not will_be_retried(instance, instance.get_run_by_id(run.run_id) or run):
            # Dagster, which marked it with the report, counts the runs only.
            instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    return [run.run_id for run in runs]


def retry_failed(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether the daemon could not start the retry of a failed run, or never did.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    bool
        False once there is a retry.
    """
    if AUTO_RETRY_RUN_ID_TAG in run.tags:
        return False
    return _start_attempts(instance, run) > 0 or _was_given_up(instance, run)


def keep_plan_of_parent(instance: DagsterInstance, run: DagsterRun) -> None:
    """Let an automatic retry compute what its run set out to: with the configuration of then.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        About to be launched. A run that a person re-executes takes the configuration of now.
    """
    parent = _retried_run(instance, run)
    if parent is None:
        return
    if not parent.execution_plan_snapshot_id or not run.execution_plan_snapshot_id:
        return
    first = instance.get_execution_plan_snapshot(parent.execution_plan_snapshot_id)
    now = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    if first.repository_load_data == now.repository_load_data or run.remote_job_origin is None:
        return
    plan = first._replace(
        step_keys_to_execute=now.step_keys_to_execute, initial_known_state=now.initial_known_state
    )
    storage = instance.run_storage
    kept = run._replace(
        execution_plan_snapshot_id=storage.add_execution_plan_snapshot(plan),
        job_snapshot_id=parent.job_snapshot_id,
    )
    # The one method of the storage that writes a whole run again.
    storage.replace_job_origin(kept, run.remote_job_origin)


def run_first_tried(instance: DagsterInstance, run: DagsterRun) -> str:
    """Give the run whose configuration a run has: the place in the order of runs is that one's.

    Parameters
    ----------
    instance : DagsterInstance
        Where the runs are.
    run : DagsterRun
        Any run.

    Returns
    -------
    str
        The id of the run that it retries automatically, over any number of retries; its own where
        a person, a sensor or the command line started it.
    """
    while (parent := _retried_run(instance, run)) is not None:
        run = parent
    return run.run_id


def _has_retry_left(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether Dagster would start one more run of this group, and could so far."""
    if _start_attempts(instance, run) >= MAX_START_ATTEMPTS or _was_given_up(instance, run):
        return False
    reason = run.tags.get(RUN_FAILURE_REASON_TAG)
    return auto_reexecution_should_retry_run(
        instance, run, RunFailureReason(reason) if reason else None
    )


def _retried_run(instance: DagsterInstance, run: DagsterRun) -> DagsterRun | None:
    """Return the run of which this is the automatic retry."""
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    is_retry = parent is not None and parent.tags.get(AUTO_RETRY_RUN_ID_TAG) == run.run_id
    return parent if is_retry else None


def _group(instance: DagsterInstance, run: DagsterRun) -> list[DagsterRun]:
    try:
        found = instance.get_run_group(run.run_id)
    except DagsterRunNotFoundError:
        # The first run of the group was deleted.
        return [run]
    return list(found[1]) if found else [run]


def _max_retries(instance: DagsterInstance, run: DagsterRun) -> int:
    tag = run.tags.get(MAX_RETRIES_TAG, "")
    return int(tag) if tag.isdecimal() else instance.run_retries_max_retries


def _allow(instance: DagsterInstance, run: DagsterRun, max_retries: int) -> None:
    instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: str(max_retries)})


def _made_progress(instance: DagsterInstance, run: DagsterRun, group: list[DagsterRun]) -> bool:
    earlier = (_finished_steps(instance, r) for r in group if r.run_id != run.run_id)
    return bool(_finished_steps(instance, run).difference(*earlier))


def _finished_steps(instance: DagsterInstance, run: DagsterRun) -> set[str]:
    entries = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_SUCCESS)
    return {entry.step_key for entry in entries if entry.step_key is not None}


def _start_attempts(instance: DagsterInstance, run: DagsterRun) -> int:
    entries = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return sum(entry.message.startswith(FAILED_RETRY_MESSAGE) for entry in entries)


def _was_given_up(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a failure was reported again so often that no retry is waited for any more."""
    failures = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
    return len(failures) > MAX_START_ATTEMPTS


def _was_dropped(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the daemon gave the retry up."""
    if run.tags.get(WILL_RETRY_TAG) != "false" or not retry_failed(instance, run):
        return False
    if _was_given_up(instance, run):
        return False
    # At the last attempt too: the failure is reported once more, now as final.
    return _start_attempts(instance, run) == MAX_START_ATTEMPTS or will_be_retried(instance, run)


def _never_submitted(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a run is a retry that failed because it was made and not put into the queue."""
    if RETRY_NUMBER_TAG not in run.tags or run.status is not DagsterRunStatus.FAILURE:
        return False
    submitted = {DagsterEventType.RUN_ENQUEUED, DagsterEventType.RUN_STARTING}
    return not instance.all_logs(run.run_id, of_type=submitted)


def _waits_for_submission(instance: DagsterInstance, record: RunRecord, overdue: timedelta) -> bool:
    """Whether a retry was made and never submitted: of this run, or this one and it has failed."""
    run, retry = record.dagster_run, next_run(instance, record.dagster_run)
    if retry is None:
        waits = run.tags.get(WILL_RETRY_TAG) == "false" and _never_submitted(instance, run)
    else:
        young = datetime.now(UTC) - record.update_timestamp < overdue
        is_made = retry.status is DagsterRunStatus.NOT_STARTED and RETRY_NUMBER_TAG in retry.tags
        waits = is_made and not young
    return waits and not _was_given_up(instance, run)


def _overlooked(instance: DagsterInstance, record: RunRecord, overdue: timedelta) -> bool:
    """Whether a retry is due and nothing was done about it for long."""
    run = record.dagster_run
    if run.tags.get(WILL_RETRY_TAG) != "true" or AUTO_RETRY_RUN_ID_TAG in run.tags:
        return False
    if datetime.now(UTC) - record.update_timestamp < overdue or next_run(instance, run):
        return False
    return not _was_given_up(instance, run)
