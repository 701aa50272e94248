"""One supervised process of `neuro-assets up`, and finding the processes that belong to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from neuro_assets.executors.process_identity import Liveness, ProcessIdentity
from neuro_assets.service.home import child_environment, log_file

CODE_SERVER, WEB_SERVER, DAEMON = "code-server", "webserver", "daemon"
_GRACE_S = {CODE_SERVER: 15.0, WEB_SERVER: 5.0, DAEMON: 20.0}

_STEADY_S = 120.0
"""A process that lived this long was well: the next restart is immediate again."""
_MAX_DELAY_S = 60.0


class ChildProcess:
    """One supervised process with its log and the delay before its next start.

    Parameters
    ----------
    name : str
        Names it to the person and names its log.
    command : sequence of str
        Arguments of `python -m`.
    home : Path
        Dagster's home.
    environment : mapping, optional
        Variables beside those of `child_environment`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._home = home
        self.log = log_file(home, name)
        self._command = [sys.executable, "-P", "-m", *command]
        self._env = {
            # The first tick after a start reads a whole registry; of 16,000 sessions that takes
            # about a minute, which is where Dagster's own limit is.
            "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
            **child_environment(home),
            **(environment or {}),
        }
        self.grace_s = next(s for kind, s in _GRACE_S.items() if name.endswith(kind))
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0
        self.due = 0.0

    def start(self) -> None:
        """Start it in a session of its own: the terminal's Ctrl-C is ours to hand on."""
        self.trim_log()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        self._started = time.monotonic()

    def trim_log(self) -> None:
        """Keep its log from growing for ever."""
        log_file(self._home, self.name)

    @property
    def pid(self) -> int | None:
        """Its number while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def note_death(self) -> float:
        """Return the seconds to wait before it is started again."""
        if time.monotonic() - self._started > _STEADY_S:
            self._deaths = 0
        delay = 0.0 if self._deaths == 0 else min(_MAX_DELAY_S, 2.0**self._deaths)
        self._deaths += 1
        self.due = time.monotonic() + delay
        self._process = None
        return delay

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid is not None:
            os.kill(self.pid, number)


def end_leftovers(children: dict[str, str], log: Callable[[str], None]) -> None:
    """End what an `up` that was killed has left behind.

    The shell of the code server is killed at once: the process inside goes on until its runs are
    finished, and then ends by itself.
    """
    for name, text in children.items():
        identity = ProcessIdentity.from_json(text)
        if identity.liveness() is not Liveness.ALIVE or identity.pid is None:
            continue
        log(f"ending the {name} that an earlier start left behind (process {identity.pid})")
        process = psutil.Process(identity.pid)
        if not name.endswith(CODE_SERVER):
            process.terminate()
            psutil.wait_procs([process], timeout=20)
        if identity.liveness() is Liveness.ALIVE:
            process.kill()
            psutil.wait_procs([process], timeout=5)


def run_workers(code_server: int | None) -> list[psutil.Process]:
    """Return the processes that execute runs: what the inner code server has spawned."""
    workers = []
    for process in descendants(code_server):
        try:
            inner = process.parent()
            spawned = "spawn_main" in " ".join(process.cmdline())
            if spawned and inner is not None and inner.ppid() == code_server:
                workers.append(process)
        except psutil.NoSuchProcess:
            continue
    return workers


def descendants(pid: int | None) -> list[psutil.Process]:
    """Return all processes below one; none when it is gone."""
    if pid is None:
        return []
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that run; a zombie does not, nor does a stranger with the same number."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
