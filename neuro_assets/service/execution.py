"""Have one run executed: by the daemon where one is alive, else by a process of our own.

Dagster is imported inside the functions, so that the command line starts fast. What a run computes
is known to the definitions only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service.home import (
    RUN_LOCK,
    UP_LOCK,
    CodeLocation,
    hold,
    is_held,
    log_file,
    prepare_home,
    tail,
)

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance, DagsterRun

    from neuro_assets.service.runs import Request

HEARTBEAT_S = 75.0
"""A daemon that gave no sign of life for this long (it gives one every 30 s) is not alive."""
_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
_POLL_S = 0.5
_CANCEL_GRACE_S = 60.0
_DECISION_POLLS = 20
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

OnEvent = Callable[["DagsterEvent"], None]
Say = Callable[[str], None]


def _ignore(event: DagsterEvent) -> None:
    """Watch no events."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended, or stands when we stopped waiting for it.

    Parameters
    ----------
    run_id : str
        The run; after an automatic retry the one that counts.
    status : str
        Dagster's run status: SUCCESS, FAILURE, CANCELED, or one in progress.
    in_daemon : bool
        Whether the daemon executed it.
    """

    run_id: str
    status: str
    in_daemon: bool

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == "SUCCESS"

    def __bool__(self) -> bool:
        return self.ok


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


def execute(
    job_name: str,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    selection: Sequence[str] | None = None,
    *,
    workdir: Path | None = None,
    location: CodeLocation | None = None,
    on_event: OnEvent = _ignore,
    say: Say = print,
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
    on_event : callable
        Gets each Dagster event of the run; it must not raise.
    say : callable
        Gets a line now and then: waiting, taken over, interrupted.

    Returns
    -------
    RunResult
        True in a condition only if the run succeeded. On SIGINT, SIGTERM or SIGHUP a run of our
        own is cancelled, and one of the daemon goes on.

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
                result = _in_daemon(instance, location, request, on_event, say)
            else:
                result = _here(instance, workdir, location, request, on_event, say)
            if result is not None:
                return result
            time.sleep(_POLL_S)


def _in_daemon(
    instance: DagsterInstance, location: CodeLocation, request: Request, on_event: OnEvent, say: Say
) -> RunResult | None:
    """Put a run into the queue and follow it; None when the daemon went away before it began."""
    from neuro_assets.service.runs import create_run, load_job

    run = create_run(instance, load_job(location, request.job), request)
    # The queue does not look at the workspace; the daemon finds the location by its name.
    instance.submit_run(run.run_id, cast(Any, None))
    say(f"run {run.run_id} is in the queue of the running daemon")
    follower = _Follower(instance, run.run_id, on_event)
    try:
        while not follower.finished_with_retries():
            if follower.waiting() and not daemon_alive(instance):
                say("the daemon is gone: taking the run back from the queue")
                instance.report_run_canceled(follower.run, "The daemon is gone.")
                return None
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        say(f"no longer waiting; run {follower.run.run_id} goes on, the user interface stops it")
    return RunResult(follower.run.run_id, follower.run.status.value, in_daemon=True)


class _Follower:
    """Reads the events of a run as they come."""

    def __init__(self, instance: DagsterInstance, run_id: str, on_event: OnEvent) -> None:
        self._instance = instance
        self._on_event = on_event
        self._cursor: str | None = None
        self._undecided_polls = 0
        self.run = self._get(run_id)

    def _get(self, run_id: str) -> DagsterRun:
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            raise PermanentFailure(f"run {run_id} was deleted while it was waited for")
        return run

    def waiting(self) -> bool:
        """Whether it is still in the queue."""
        return self.run.status.value in ("NOT_STARTED", "QUEUED")

    def finished(self) -> bool:
        """Hand on what is new; whether the run has ended."""
        # The state first: an end that is seen has all its events in the log already.
        self.run = self._get(self.run.run_id)
        more = True
        while more:
            page = self._instance.get_records_for_run(self.run.run_id, self._cursor)
            for record in page.records:
                if record.event_log_entry.dagster_event is not None:
                    self._on_event(record.event_log_entry.dagster_event)
            self._cursor, more = page.cursor, page.has_more
        return self.run.is_finished

    def finished_with_retries(self) -> bool:
        """Do the same, and go on with the automatic retry of a run whose process was lost."""
        from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

        finished = self.finished()
        if self.run.status.value != "FAILURE":
            return finished
        will_retry = self.run.tags.get(WILL_RETRY_TAG)
        if will_retry is None:
            # Dagster decides just after it has recorded the failure; without retries, never.
            self._undecided_polls += 1
            return self._undecided_polls > _DECISION_POLLS
        if will_retry != "true":
            return True
        retry = self.run.tags.get(AUTO_RETRY_RUN_ID_TAG)
        if retry is not None:
            self.run, self._cursor, self._undecided_polls = self._get(retry), None, 0
        return False


def _here(
    instance: DagsterInstance,
    workdir: Path,
    location: CodeLocation,
    request: Request,
    on_event: OnEvent,
    say: Say,
) -> RunResult | None:
    """Execute a run ourselves; None when another one holds the lock or a daemon came up."""
    from neuro_assets.executors.launcher import reap_dead_runs

    with hold(Path(instance.root_directory) / RUN_LOCK) as lock:
        if lock is None:
            _await_lock(instance, say)
            return None
        if daemon_alive(instance):
            return None
        for dead in reap_dead_runs(instance):
            say(f"run {dead} was killed earlier: marked as failed, its pool slots are free")
        with _Worker(instance, lock, workdir, location, request) as worker:
            return worker.follow(on_event, say)


def _await_lock(instance: DagsterInstance, say: Say) -> None:
    """Wait until the run of another process is over, or a daemon takes the work."""
    say("another run of this home is being executed: waiting for its end")
    while is_held(Path(instance.root_directory) / RUN_LOCK) and not daemon_alive(instance):
        time.sleep(_POLL_S)


class _Worker:
    """The process that executes a run of ours; see `neuro_assets.service.worker`."""

    def __init__(
        self,
        instance: DagsterInstance,
        lock: TextIO,
        workdir: Path,
        location: CodeLocation,
        request: Request,
    ) -> None:
        home = Path(instance.root_directory)
        self._instance = instance
        self._log = log_file(home, "run")
        self._run_id: str | None = None
        read, write = os.pipe()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "neuro_assets.service.worker"],
                cwd=workdir,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # With the lock: were we killed, it is held until the worker has ended too.
                pass_fds=(write, lock.fileno()),
                # The terminal's Ctrl-C is ours to hand on.
                start_new_session=True,
            )
        os.close(write)
        self._report = os.fdopen(read)
        asked = {
            "home": str(home),
            "location": asdict(location),
            "request": asdict(request),
            "report": write,
        }
        self._input = cast(Any, self._process.stdin)
        self._input.write(json.dumps(asked).encode() + b"\n")
        self._input.flush()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process behind, and no run that claims to be in progress."""
        self._input.close()
        try:
            self._process.wait(_CANCEL_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._report.close()
        self._settle()

    def follow(self, on_event: OnEvent, say: Say) -> RunResult:
        """Wait for the run's end; on a signal cancel it."""
        self._run_id = self._read_run_id()
        follower = _Follower(self._instance, self._run_id, on_event)
        try:
            while not follower.finished() and self._process.poll() is None:
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            say("interrupted: cancelling the run (again Ctrl-C: at once)")
            self._cancel()
        self._settle()
        follower.finished()
        return RunResult(self._run_id, follower.run.status.value, in_daemon=False)

    def _read_run_id(self) -> str:
        """Return the id of the run, or raise what the worker has to say instead."""
        line = self._report.readline()
        if not line:
            raise PermanentFailure(
                f"the run could not be started; the last words in {self._log}:\n{tail(self._log)}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise PermanentFailure(answer["error"])
        return str(answer["run"])

    def _cancel(self) -> None:
        """Let the executor end its steps, so that they clean up."""
        run = self._instance.get_run_by_id(cast(str, self._run_id))
        if run is not None and not run.is_finished:
            self._instance.report_run_canceling(run)
        try:
            self._process.terminate()
            self._process.wait(_CANCEL_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def _settle(self) -> None:
        """End the record of a run whose process is gone."""
        run = self._instance.get_run_by_id(self._run_id) if self._run_id else None
        if run is None or run.is_finished:
            return
        self._process.wait()
        if run.status.value == "CANCELING":
            self._instance.report_run_canceled(run)
        else:
            self._instance.report_run_failed(run, f"Its process ended; see {self._log}.")
        self._instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


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
