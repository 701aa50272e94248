"""The process that executes a run of the command line, seen from the one that asked for it.

What happens inside it is in `neuro_assets.service.worker`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service.follower import OnEvent, RunFollower, RunResult
from neuro_assets.service.home import CodeLocation, log_file, tail

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from neuro_assets.service.runs import Request

Log = Callable[[str], None]
_POLL_S = 0.5
_CANCEL_GRACE_S = 60.0


class WorkerProcess:
    """Start the process that executes one run, hand it the request, and see it to its end.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is recorded.
    lock : file
        The held lock of the home; the process inherits it.
    workdir : Path
        The lab's folder.
    location : CodeLocation
        The definitions.
    request : Request
        What to run.
    """

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
        message = {
            "home": str(home),
            "location": asdict(location),
            "request": asdict(request),
            "report": write,
        }
        self._input = cast(Any, self._process.stdin)
        self._input.write(json.dumps(message).encode() + b"\n")
        self._input.flush()

    def __enter__(self) -> WorkerProcess:
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

    def follow(self, on_event: OnEvent, log: Log) -> RunResult:
        """Wait for the run's end; on a signal cancel it."""
        self._run_id = self._read_run_id()
        follower = RunFollower(self._instance, self._run_id, on_event)
        try:
            while not follower.finished() and self._process.poll() is None:
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            log("interrupted: cancelling the run (again Ctrl-C: at once)")
            self._cancel()
        self._settle()
        follower.finished()
        return RunResult(self._run_id, follower.run.status.value, in_daemon=False)

    def _read_run_id(self) -> str:
        """Return the id of the run, or raise the error that the worker reports."""
        line = self._report.readline()
        if not line:
            raise PermanentFailure(
                f"the run could not be started; the end of {self._log}:\n{tail(self._log)}"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise PermanentFailure(reply["error"])
        return str(reply["run"])

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
