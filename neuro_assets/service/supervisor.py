"""`neuro-assets up`: one code server, the web server and the daemon, kept alive together.

Processes only. It never imports Dagster, so that the process that watches the others stays small.
All three listen on this machine only: Dagster knows no users.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

import psutil

from neuro_assets.executors.frozen_config import LOADED_VARIABLE
from neuro_assets.executors.process_identity import ProcessIdentity
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.result import Progress, no_progress
from neuro_assets.service.child_process import (
    CODE_SERVER,
    DAEMON,
    WEB_SERVER,
    ChildProcess,
    descendants,
    end_leftovers,
    living,
    run_workers,
)
from neuro_assets.service.config_watch import ConfigWatch
from neuro_assets.service.home import (
    LOADED_CONFIG,
    READ_ONLY_LOCK,
    UP_LOCK,
    CodeLocation,
    child_environment,
    hold,
    prepare_home,
    read_state,
    socket_path,
    tail,
    write_state,
    write_workspace,
)
from neuro_assets.service.overview_timer import OverviewTimer

HOST = "127.0.0.1"

_POLL_S = 0.5
_LOST_CODE_POLLS = 20
_RUN_GRACE_S = 60.0

Log = Callable[[str], None]


class _Stopped(Exception):  # noqa: N818
    """A signal asked for the end while something was awaited."""


def up(
    port: int = 3000,
    *,
    workdir: Path | None = None,
    location: CodeLocation | None = None,
    read_only: bool = False,
    config: Path | None = None,
    log: Log = print,
    progress: Progress = no_progress,
) -> None:
    """Run the web server, the daemon and the code server until a signal ends it.

    Restarts what dies, and loads `config` again when it was changed and is usable. On SIGINT or
    SIGTERM runs in progress are interrupted (their steps clean up; the next `up` resumes them) and
    the processes stopped; a second signal kills them.

    Parameters
    ----------
    port : int
        Port of the user interface, on 127.0.0.1.
    workdir : Path, optional
        The lab's folder; the current one when None.
    location : CodeLocation, optional
        The definitions.
    read_only : bool
        Serve a user interface that cannot start anything, and start nothing: no sensors, no queue,
        no runs. It may stand beside an `up` that does.
    config : Path, optional
        The configuration file of the definitions; `lab.yaml` in `workdir` when None.
    log : callable
        Gets one line at a time.
    progress : callable
        Takes the fraction of the start that is done, and a few words; 1 when it is up.

    Raises
    ------
    PermanentFailure
        When it is up already, the port is taken, or a process does not come up.
    """
    workdir = workdir or Path.cwd()
    home = prepare_home(workdir)
    path = home / (READ_ONLY_LOCK if read_only else UP_LOCK)
    with hold(path) as lock:
        if lock is None:
            state = read_state(path)
            raise PermanentFailure(
                f"neuro-assets is up already for {home}: {state.get('url', 'starting')} "
                f"(process {state.get('pid', 'unknown')}); stop that one first"
            )
        end_leftovers(read_state(path).get("children", {}), log)
        _require_free(port)
        location, config = location or CodeLocation(), config or workdir / "lab.yaml"
        _Supervisor(home, lock, port, location, config, read_only, log).run(progress)


class _Supervisor:
    """The three processes of one home."""

    def __init__(
        self,
        home: Path,
        lock: TextIO,
        port: int,
        location: CodeLocation,
        config: Path,
        read_only: bool,
        log: Log,
    ) -> None:
        self._home = home
        self._lock = lock
        self._report = log
        self._port = port
        self._url = f"http://{HOST}:{port}"
        prefix = "read-only-" if read_only else ""
        self._socket = socket_path(home, f"{prefix}code")
        workspace = str(write_workspace(home, location, self._socket, f"{prefix}workspace.yaml"))
        loaded = {} if read_only else {LOADED_VARIABLE: str(home / LOADED_CONFIG)}
        command = _code_server(location, self._socket, home)
        self._code = ChildProcess(f"{prefix}{CODE_SERVER}", command, home, loaded)
        command = _web_server(workspace, port, read_only)
        self._web = ChildProcess(f"{prefix}{WEB_SERVER}", command, home)
        daemon = ChildProcess(DAEMON, ["dagster._daemon", "run", "-w", workspace], home)
        self._daemon = None if read_only else daemon
        self._config = ConfigWatch(config, home, location, self._socket, log)
        self._overview = None if read_only else OverviewTimer(home)
        self._has_inner_code, self._lost_code_polls = False, 0
        self._signals = 0
        self._wake = threading.Event()
        self._trouble = ""

    @property
    def _children(self) -> tuple[ChildProcess, ...]:
        known = (self._code, self._web, self._daemon)
        return tuple(child for child in known if child is not None)

    def run(self, progress: Progress) -> None:
        """Start, watch, stop."""
        # Explicitly: a shell starts its background jobs with SIGINT ignored, and ignoring is
        # inherited by whatever they start.
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._start_all(progress)
            while True:
                self._pause()
                self._watch_on()
        except _Stopped:
            self._report("stopping (again Ctrl-C: at once)")
        finally:
            self._stop_all()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._wake.set()

    def _pause(self) -> None:
        """Wait for one poll interval, or for a signal."""
        if self._wake.wait(_POLL_S):
            raise _Stopped

    def _start_all(self, progress: Progress) -> None:
        self._start(self._code)
        loading = partial(progress, 0.0, "loading the definitions")
        self._await(self._code, self._code_answers, loading)
        self._start(self._web)
        if self._daemon is not None:
            self._start(self._daemon)
        starting = partial(progress, 0.5, "starting the user interface")
        self._await(self._web, self._web_answers, starting)
        progress(1.0, "up")
        self._report(f"neuro-assets is up: {self._url}   (logs: {self._code.log.parent})")

    def _start(self, child: ChildProcess) -> None:
        if child is self._code:
            self._has_inner_code = False
            self._socket.unlink(missing_ok=True)
        child.start()
        # Kept for the case that we are killed: the next `up` ends what is left.
        identities = {
            c.name: ProcessIdentity.here(c.pid).to_json() for c in self._children if c.pid
        }
        write_state(self._lock, {"pid": os.getpid(), "url": self._url, "children": identities})

    def _await(
        self, child: ChildProcess, answers: Callable[[], bool], show: Callable[[], None]
    ) -> None:
        while not answers():
            show()
            if child.pid is None:
                raise PermanentFailure(
                    f"the {child.name} ended at its start; the end of {child.log}:\n"
                    f"{tail(child.log)}"
                )
            self._pause()

    def _code_answers(self) -> bool:
        """Whether the socket is bound, which happens only after the definitions were loaded."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", "/server_info")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _watch_on(self) -> None:
        """Watch; a full disk or a lack of processes is reported once, and does not end it."""
        try:
            self._watch()
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                self._report(f"cannot look after the platform ({error}); trying again")
            self._trouble = str(error)

    def _watch(self) -> None:
        """Start again what has died."""
        self._watch_code()
        self._config.poll()
        if self._overview is not None:
            self._overview.poll()
        for child in self._children:
            child.trim_log()
            if child.pid is not None:
                continue
            if child.due == 0.0:
                delay = child.note_death()
                self._report(f"the {child.name} died (see {child.log}); new start in {delay:.0f} s")
            if time.monotonic() >= child.due:
                child.due = 0.0
                self._start(child)

    def _watch_code(self) -> None:
        """End a code server whose inner process is gone: it would answer every call with an error.

        `dagster code-server` is a shell around the process that holds the definitions, and does
        not notice its death.
        """
        if self._code.pid is None:
            return
        if living(psutil.Process(self._code.pid).children()):
            self._has_inner_code, self._lost_code_polls = True, 0
            return
        # Before it has one it imports, on a busy machine for longer than this waits.
        self._lost_code_polls += self._has_inner_code
        if self._lost_code_polls >= _LOST_CODE_POLLS:
            self._lost_code_polls = 0
            self._code.signal(signal.SIGKILL)

    def _stop_all(self) -> None:
        """Daemon first, so that it starts nothing more; then runs; the code server last."""
        self._config.stop()
        if self._overview is not None:
            self._overview.stop()
        ended_first = [child for child in self._children if child is not self._code]
        for child in ended_first:
            child.signal(signal.SIGTERM)
        self._keep_retries()
        for child in ended_first:
            self._end(child)
        tree = descendants(self._code.pid)
        self._interrupt_runs()
        self._code.signal(signal.SIGTERM)
        self._end(self._code)
        for process in living([*tree, *descendants(self._code.pid)]):
            process.kill()
        self._socket.unlink(missing_ok=True)
        write_state(self._lock, {})

    def _keep_retries(self) -> None:
        """Let this stop cost no run one of its retries; see `keep_retries`."""
        if not run_workers(self._code.pid) or self._signals > 1:
            return
        command = [sys.executable, "-P", "-m", "neuro_assets.service.keep_retries"]
        with subprocess.Popen(command, env=child_environment(self._home)) as process:
            self._wait(lambda: process.poll() is not None, _RUN_GRACE_S)
            process.kill()

    def _interrupt_runs(self) -> None:
        """Ask the runs of our code server to stop and give them time to clean up."""
        workers = run_workers(self._code.pid)
        if not workers:
            return
        self._report(f"interrupting {len(workers)} run(s); the next start resumes them")
        for worker in workers:
            worker.terminate()
        self._wait(lambda: not living(workers), _RUN_GRACE_S)

    def _end(self, child: ChildProcess) -> None:
        """Wait for a process that was asked to stop; kill it when it does not."""
        self._wait(lambda: child.pid is None, child.grace_s)
        child.signal(signal.SIGKILL)

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until something is done, the time is over or a second signal came."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until and self._signals < 2:
            time.sleep(0.1)


def _code_server(location: CodeLocation, socket_: Path, home: Path) -> list[str]:
    return [
        # The folder of which Dagster imports before all others: one without modules.
        *("dagster", "code-server", "start", "--socket", str(socket_), "-d", str(home)),
        *("-m", location.module, "-a", location.attribute, "--location-name", location.name),
    ]


def _web_server(workspace: str, port: int, read_only: bool) -> list[str]:
    return [
        *("neuro_assets.service.web_server", "-w", workspace, "-p", str(port)),
        *(["--read-only"] if read_only else []),
    ]


def _require_free(port: int) -> None:
    """Fail early, and with a sentence, when somebody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PermanentFailure(
                f"port {port} is not free ({error.strerror}); choose another with --port"
            ) from error
