"""A run launcher that knows whether the process of a run still lives.

Dagster's default launcher cannot tell, so a run that was killed together with the machine stays
STARTED and keeps its pool slot. Here the run carries the identity of its process in a tag; run
monitoring finds it dead, fails it, and run retries start it again from where it stood. Only
launching, health and termination live here; which run starts when is the queue's business.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Sequence

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterUserCodeProcessError, DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG, HIDDEN_TAG_PREFIX, MAX_RETRIES_TAG

from neuro_assets import names
from neuro_assets.executors.process_identity import Liveness, ProcessIdentity, existed_at
from neuro_assets.executors.retries import (
    keep_plan_of_parent,
    note_progress,
    retry_failed,
    will_be_retried,
)
from neuro_assets.executors.run_tags import refused_tags

WORKER_TAG = f"{HIDDEN_TAG_PREFIX}neuro_worker"
"""Run tag with the run id and the identity of the process that executes it."""

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_PID_WAIT_S = 5.0
_PID_POLL_S = 0.1
_UNFINISHED: Sequence[DagsterRunStatus] = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)

_log = logging.getLogger("dagster.neuro_assets.launcher")


def claim(instance: DagsterInstance, run_id: str, worker: ProcessIdentity) -> None:
    """Write into the run's tags which process executes it.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run_id : str
        The run. Its id goes into the tag: a retried run inherits the tags of its parent, and must
        not be taken for dead because its parent is.
    worker : ProcessIdentity
        The process; without a pid while it is being started.
    """
    instance.add_run_tags(
        run_id, {WORKER_TAG: json.dumps({"run": run_id, "worker": worker.to_json()})}
    )


def claimed_by(run: DagsterRun) -> ProcessIdentity | None:
    """Return the process that executes a run.

    Parameters
    ----------
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    ProcessIdentity or None
        None when nobody claimed this run (it was started in some other way).
    """
    tag = run.tags.get(WORKER_TAG)
    if tag is None:
        return None
    fields = json.loads(tag)
    return ProcessIdentity.from_json(fields["worker"]) if fields["run"] == run.run_id else None


def worker_of(instance: DagsterInstance, run: DagsterRun) -> ProcessIdentity | None:
    """Return the process that executes a run, completing a claim that was left unfinished.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    ProcessIdentity or None
        None when nobody claimed this run; without a pid when its process is not known (yet).
    """
    worker = claimed_by(run)
    if worker is None or worker.pid is not None or not worker.machine_runs:
        return worker
    reported = _reported_process(instance, run)
    if reported is None:
        return worker
    pid, at = reported
    if existed_at(pid, at):
        worker = ProcessIdentity.here(pid)
    else:
        worker = ProcessIdentity(host=worker.host, boot=worker.boot, pid=pid)
    claim(instance, run.run_id, worker)
    return worker


def _reported_process(instance: DagsterInstance, run: DagsterRun) -> tuple[int, float] | None:
    """Return the number and the report time of the process that said it executes the run."""
    entries = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    for entry in reversed(entries):
        event = entry.dagster_event
        if event is None or event.step_key is not None:
            continue
        pid = event.engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def is_dead(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether the process that claimed a run is certainly gone.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    bool
        False for a run that nobody claimed, on another machine, or just being launched.
    """
    worker = worker_of(instance, run)
    return worker is not None and worker.liveness() is Liveness.GONE


def living_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """List the runs in progress whose process lives on this machine.

    Parameters
    ----------
    instance : DagsterInstance
        Where the runs are.

    Returns
    -------
    list of DagsterRun
        Without those that are being cancelled.
    """
    statuses = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
    living = []
    for run in instance.get_runs(RunsFilter(statuses=statuses)):
        worker = worker_of(instance, run)
        if worker is not None and worker.liveness() is Liveness.ALIVE:
            living.append(run)
    return living


def processing_run(instance: DagsterInstance, key: str, besides: str = "") -> str | None:
    """Find a live run that makes results of a recording.

    Parameters
    ----------
    instance : DagsterInstance
        Where the runs are.
    key : str
        The recording.
    besides : str
        Id of a run that does not count.

    Returns
    -------
    str or None
        Its id; runs of `publish` make no results.
    """
    statuses = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    for run in instance.get_runs(RunsFilter(statuses=statuses, tags={names.PARTITION_TAG: key})):
        is_other = run.run_id != besides and run.job_name != names.PUBLISH_JOB
        if is_other and not is_dead(instance, run):
            return run.run_id
    return None


def counts_as_run(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether a run did, does or will do what was asked for: all but those that died.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run : DagsterRun
        The run, with its tags.

    Returns
    -------
    bool
        False when its process is gone and nobody has noticed, or its retry could not be started.
        True also for a run that failed, was cancelled, or was retried without progress: asking
        again would end in the same way.
    """
    if not run.is_finished:
        return not is_dead(instance, run)
    return will_be_retried(instance, run) or not retry_failed(instance, run)


def reap_dead_runs(instance: DagsterInstance) -> list[str]:
    """Fail every run whose process is gone, and free its pool slots.

    Run monitoring in the daemon does this; where no daemon runs, the next run does it first, or
    it would wait for the slot of a dead one.

    Parameters
    ----------
    instance : DagsterInstance
        Where the runs are.

    Returns
    -------
    list of str
        Ids of the runs found dead.
    """
    dead = [
        run
        for run in instance.get_runs(RunsFilter(statuses=list(_UNFINISHED)))
        if is_dead(instance, run)
    ]
    for run in dead:
        note_progress(instance, run)
        _log.warning("the process of run %s is gone: marking it as failed", run.run_id)
        instance.report_run_failed(run, "The process of this run is gone (killed, or power lost).")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher, plus a health check by boot id, process number and start time.

    The health check answers for runs that it launched on this machine. A run of another machine,
    or one that was started in another way, counts as healthy: `max_runtime_seconds` ends it.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask for the health of a run: yes."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the process of a run in the code server, and remember its identity.

        Parameters
        ----------
        context : LaunchRunContext
            The run and the workspace that holds its code location.
        """
        run_id = context.dagster_run.run_id
        if refused := refused_tags(context.dagster_run.tags):
            self._refuse(context.dagster_run, refused)
            return
        # Before the process exists: were we killed in between, the boot id would still tell.
        claim(self._instance, run_id, ProcessIdentity.here())
        keep_plan_of_parent(self._instance, context.dagster_run)
        super().launch_run(context)
        self._await_worker(run_id)

    def _refuse(self, run: DagsterRun, refused: list[str]) -> None:
        """End a run before it has a process; started again as it is, it would end the same way."""
        self._instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
        self._instance.report_run_failed(
            run, f"Not started: these run tags are not allowed here: {', '.join(refused)}"
        )

    def _await_worker(self, run_id: str) -> None:
        """Wait a moment for the process to report its number; else the health check finds it."""
        deadline = time.monotonic() + _PID_WAIT_S
        while time.monotonic() < deadline:
            run = self._instance.get_run_by_id(run_id)
            if run is None or run.is_finished or not _is_local(run):
                return
            worker = worker_of(self._instance, run)
            if worker is None or worker.pid is not None:
                return
            time.sleep(_PID_POLL_S)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a run lives, and note its progress for its retries.

        Parameters
        ----------
        run : DagsterRun
            A run in progress.

        Returns
        -------
        CheckRunHealthResult
            `RUNNING`, or `FAILED` when the process is certainly gone.
        """
        # Here, because whether a lost run is retried is decided right after this look at it.
        note_progress(self._instance, run)
        if not _is_local(run):
            return _healthy("its code server is on another machine: cannot be judged from here")
        worker = worker_of(self._instance, run)
        if worker is None:
            return _healthy("was not launched here: cannot be judged")
        liveness = worker.liveness()
        if liveness is Liveness.ALIVE:
            return _healthy(f"process {worker.pid} lives")
        if liveness is Liveness.UNKNOWN:
            return _healthy(f"runs on {worker.host}: cannot be judged from here")
        return CheckRunHealthResult(WorkerStatus.FAILED, _gone_message(worker))

    def terminate(self, run_id: str) -> bool:
        """Ask a run to stop, through its code server or else by a signal to its process.

        A restarted code server no longer knows the runs that it started, and a run of the command
        line never had one.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        bool
            Whether somebody was there to be asked.
        """
        try:
            asked = super().terminate(run_id)
        except (DagsterUserCodeProcessError, DagsterUserCodeUnreachableError) as error:
            _log.warning("code server could not stop run %s: %s", run_id, error)
            asked = False
        run = self._instance.get_run_by_id(run_id)
        if asked or run is None or run.is_finished:
            return asked
        worker = worker_of(self._instance, run)
        if worker is None or worker.pid is None or worker.liveness() is not Liveness.ALIVE:
            return False
        os.kill(worker.pid, signal.SIGTERM)
        return True


def _is_local(run: DagsterRun) -> bool:
    """Whether the code server of a run is on this machine (or the run never had one)."""
    tag = run.tags.get(GRPC_INFO_TAG)
    if tag is None:
        return True
    info = json.loads(tag)
    return "socket" in info or info.get("host") in _LOCAL_HOSTS


def _healthy(message: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.RUNNING, message)


def _gone_message(worker: ProcessIdentity) -> str:
    if not worker.machine_runs:
        return "the machine was restarted since"
    return f"process {worker.pid} is gone"
