"""Have one run executed: by the daemon where one is alive, else by a process of our own.

Dagster is imported inside the functions, so that the command line starts fast. What a run computes
is known to the definitions only.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from neuro_assets.service.follower import OnEvent, RunFollower, RunResult
from neuro_assets.service.home import RUN_LOCK, UP_LOCK, CodeLocation, hold, is_held, prepare_home
from neuro_assets.service.worker_process import Log, WorkerProcess

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from neuro_assets.service.runs import Request

HEARTBEAT_S = 75.0
"""A daemon that gave no sign of life for this long (it gives one every 30 s) is not alive."""
_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
_POLL_S = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def daemon_alive(instance: DagsterInstance) -> bool:
    """Tell whether a daemon works on the queue of an instance.

    Parameters
    ----------
    instance : DagsterInstance
        With a home folder.

    Returns
    -------
    bool
        True while `neuro-assets up` holds its lock, or when a daemon that was started in another
        way gave a sign of life in the last 75 s.
    """
    if is_held(Path(instance.root_directory) / UP_LOCK):
        return True
    heartbeat = instance.get_daemon_heartbeats().get(_QUEUE_DAEMON)
    return heartbeat is not None and time.time() - heartbeat.timestamp < HEARTBEAT_S


@contextmanager
def prepared_worker(
    workdir: Path, location: CodeLocation | None = None
) -> Iterator[WorkerProcess | None]:
    """Start the process for runs to come, so that it imports while the caller does other things.

    Parameters
    ----------
    workdir : Path
        The lab's folder.
    location : CodeLocation, optional
        The definitions.

    Yields
    ------
    WorkerProcess or None
        For `execute`; None while `neuro-assets up` takes the runs.
    """
    home = prepare_home(workdir)
    if is_held(home / UP_LOCK):
        yield None
        return
    with WorkerProcess(home, workdir, location or CodeLocation()) as worker:
        yield worker


def execute(
    job_name: str,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    selection: Sequence[str] | None = None,
    *,
    workdir: Path | None = None,
    location: CodeLocation | None = None,
    worker: WorkerProcess | None = None,
    on_event: OnEvent = lambda event: None,
    log: Log = print,
) -> RunResult:
    """Execute a job for one key and wait for its end.

    With a living daemon the run goes through its queue. Otherwise a lock is taken (one run of the
    command line at a time in a home), runs whose process is gone are failed, and a process of our
    own executes the job with the job's executor.

    Parameters
    ----------
    job_name : str
        A job of the definitions.
    partition_key : str, optional
        Key of the job's partition; it must exist already.
    tags : mapping, optional
        Further run tags.
    selection : sequence of str, optional
        Asset keys (`a` or `a/b`); all assets of the job when None.
    workdir : Path, optional
        The lab's folder; the current one when None.
    location : CodeLocation, optional
        The definitions.
    worker : WorkerProcess, optional
        Executes the run where no daemon does, and is left open; one for this run when None.
    on_event : callable
        Gets each entry of the run's log; it must not raise.
    log : callable
        Gets a line now and then: waiting, taken over, interrupted.

    Returns
    -------
    RunResult
        True in a condition only if the run succeeded. On SIGINT, SIGTERM or SIGHUP a run of our
        own is cancelled, and one of the daemon goes on; see `RunResult.stopped`.

    Raises
    ------
    PermanentFailure
        When there is no such job, key or asset.
    KeyboardInterrupt
        On one of those signals before there is a run.
    """
    from dagster import DagsterInstance

    from neuro_assets.service.runs import Request

    workdir = workdir or Path.cwd()
    location = location or CodeLocation()
    request = Request(
        job_name,
        partition_key,
        dict(tags or {}),
        list(selection) if selection is not None else None,
    )
    home = prepare_home(workdir)

    with DagsterInstance.from_config(str(home)) as instance, _interruptible():
        while True:
            if daemon_alive(instance):
                result = _in_daemon(instance, location, request, on_event, log)
            else:
                result = _here(instance, workdir, location, worker, request, on_event, log)
            if result is not None:
                return result
            time.sleep(_POLL_S)


def _in_daemon(
    instance: DagsterInstance, location: CodeLocation, request: Request, on_event: OnEvent, log: Log
) -> RunResult | None:
    """Put a run into the queue and follow it; None when the daemon went away before it began."""
    from neuro_assets.service.runs import create_run, load_job

    run = create_run(instance, load_job(location, request.job), request)
    # The queue does not look at the workspace; the daemon finds the location by its name.
    instance.submit_run(run.run_id, cast(Any, None))
    log(f"run {run.run_id} is in the queue of the running daemon")
    follower = RunFollower(instance, run.run_id, on_event)
    is_stopped = interrupted = False
    try:
        while not follower.finished_with_retries():
            if (follower.waiting() or not is_stopped) and not daemon_alive(instance):
                if follower.waiting():
                    log("the daemon is gone: taking the run back from the queue")
                    instance.report_run_canceled(follower.run, "The daemon is gone.")
                    return None
                is_stopped = True
                log(
                    f"the daemon is gone: run {follower.run.run_id}, or its retry, goes on with "
                    "the next `neuro-assets up` at the latest; Ctrl-C ends the wait"
                )
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        interrupted = True
        log(f"no longer waiting; run {follower.run.run_id} goes on, the user interface stops it")
    status = follower.run.status.value
    return RunResult(follower.run.run_id, status, in_daemon=True, interrupted=interrupted)


def _here(
    instance: DagsterInstance,
    workdir: Path,
    location: CodeLocation,
    worker: WorkerProcess | None,
    request: Request,
    on_event: OnEvent,
    log: Log,
) -> RunResult | None:
    """Execute a run ourselves; None when another one holds the lock or a daemon came up."""
    from neuro_assets.executors.launcher import reap_dead_runs

    home = Path(instance.root_directory)
    with hold(home / RUN_LOCK) as lock:
        if lock is None:
            _await_lock(instance, log)
            return None
        if daemon_alive(instance):
            return None
        for dead in reap_dead_runs(instance):
            log(f"run {dead} was killed earlier: marked as failed, its pool slots are free")
        with nullcontext(worker) if worker else WorkerProcess(home, workdir, location) as process:
            return process.run(instance, lock, request, on_event, log)


def _await_lock(instance: DagsterInstance, log: Log) -> None:
    """Wait until the run of another process is over, or a daemon takes the work."""
    log("another run of this home is being executed: waiting for its end")
    while is_held(Path(instance.root_directory) / RUN_LOCK) and not daemon_alive(instance):
        time.sleep(_POLL_S)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the stop signals into KeyboardInterrupt.

    SIGINT explicitly too: a shell starts its background jobs with it ignored. SIGHUP stays ignored
    where it is (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    for number in _STOP_SIGNALS:
        if number is not signal.SIGHUP or previous[number] is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
