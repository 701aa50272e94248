"""The process that executes runs of the command line, seen from the one that asks for them.

What happens inside it is in `neuro_assets.service.worker`.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service.follower import OnEvent, RunFollower, RunResult
from neuro_assets.service.home import CodeLocation, child_environment, log_file, tail

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from neuro_assets.service.runs import Request

Log = Callable[[str], None]
_POLL_S = 1.0
"""A look at a run costs about 15 ms of CPU, which its steps lack on a small machine."""
_CANCEL_GRACE_S = 60.0


class WorkerProcess:
    """A process for one run after the other; it imports what they need while it waits for them.

    Parameters
    ----------
    home : Path
        From `prepare_home`.
    workdir : Path
        The lab's folder.
    location : CodeLocation
        The definitions.
    """

    def __init__(self, home: Path, workdir: Path, location: CodeLocation) -> None:
        self._home, self._workdir, self._location = home, workdir, location
        self._log = log_file(home, "run")
        self._start()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        command = ["-P", "-m", "neuro_assets.service.worker", json.dumps(asdict(self._location))]
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self._workdir,
                env=child_environment(self._home),
                stdin=theirs.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C is ours to hand on.
                start_new_session=True,
            )
        self._replies = self._channel.makefile("r", encoding="utf-8")

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave no process behind; one that executes a run is given time to end it."""
        self._replies.close()
        self._channel.close()
        try:
            self._process.wait(_CANCEL_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(
        self,
        instance: DagsterInstance,
        lock: TextIO,
        request: Request,
        on_event: OnEvent,
        log: Log,
    ) -> RunResult:
        """Execute a run and wait for its end; on a signal cancel it.

        Parameters
        ----------
        instance : DagsterInstance
            Where the run is recorded.
        lock : file
            The held lock of the home. Were we killed, the process holds it until the run ended.
        request : Request
            What to run.
        on_event : callable
            Gets each entry of the run's log.
        log : callable
            Gets a line when the run is cancelled.

        Returns
        -------
        RunResult
            How it ended.

        Raises
        ------
        PermanentFailure
            When the run could not be started.
        """
        if self._process.poll() is not None:
            self.close()
            self._start()
        message = {"home": str(self._home), "request": asdict(request)}
        socket.send_fds(self._channel, [json.dumps(message).encode() + b"\n"], [lock.fileno()])
        run_id = self._read_run_id()
        follower, interrupted = RunFollower(instance, run_id, on_event), False
        try:
            while not follower.finished() and self._process.poll() is None:
                # Until the next look, or the worker's word that the run ended, or its end.
                select.select([self._channel], [], [], _POLL_S)
            self._replies.readline()
        except KeyboardInterrupt:
            interrupted = True
            self._cancel(instance, run_id, log)
        except BaseException:
            self.close()
            raise
        finally:
            self._settle(instance, run_id, interrupted=interrupted)
        follower.finished()
        status = follower.run.status.value
        return RunResult(run_id, status, in_daemon=False, interrupted=interrupted)

    def _read_run_id(self) -> str:
        """Return the id of the run, or raise the error that the worker reports."""
        line = self._replies.readline()
        if not line:
            raise PermanentFailure(
                f"the run could not be started; the end of {self._log}:\n{tail(self._log)}"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PermanentFailure(reply["error"])
        return str(reply["run"])

    def _cancel(self, instance: DagsterInstance, run_id: str, log: Log) -> None:
        """Let the executor end its steps, so that they clean up; interrupted again, kill it."""
        try:
            log("interrupted: cancelling the run (again Ctrl-C: at once)")
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                instance.report_run_canceling(run)
        except KeyboardInterrupt:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        try:
            self._process.terminate()
            self._process.wait(_CANCEL_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def _settle(self, instance: DagsterInstance, run_id: str, *, interrupted: bool = False) -> None:
        """End a run that is given up, and its record, and free what its steps held."""
        run = instance.get_run_by_id(run_id)
        if interrupted or (run is not None and not run.is_finished):
            self._end()
            run = instance.get_run_by_id(run_id)  # it may have ended in order meanwhile
        if run is None:
            return
        if not run.is_finished:
            if interrupted or run.status.value == "CANCELING":
                instance.report_run_canceled(run)
            else:
                instance.report_run_failed(run, f"Its process ended; see {self._log}.")
        # Also of a run that was cancelled in order: a step that was ended keeps its slot, and the
        # next run would wait for it for ever.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
