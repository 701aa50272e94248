"""The process that executes the runs of the command line: `python -m neuro_assets.service.worker`.

A process of its own, so that the terminal of the person stays clean, threads of the caller are
not forked, and the steps do not import the program that asked for the run. Its standard input is
a socket: each line that comes holds a request, with the lock of the home, and is answered by the
run's id (or why there is none) and, at its end, by `done`. When the other side closes the socket,
whoever asked is gone, and a run in progress is ended.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from multiprocessing import forkserver
from queue import SimpleQueue
from typing import Any

from neuro_assets.executors.multiprocess import PRELOAD, require_semaphores
from neuro_assets.executors.process_identity import ProcessIdentity
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.service.home import CodeLocation

_BUFFER_BYTES = 65536


def main() -> None:
    """Execute what is asked for on standard input, for the code location of the arguments."""
    location = CodeLocation(**json.loads(sys.argv[1]))
    channel = _take_input()
    _start_fork_server(location.module)
    messages: SimpleQueue[tuple[dict[str, Any], int] | None] = SimpleQueue()
    threading.Thread(
        target=_receive, args=(channel, messages), name="parent-watchdog", daemon=True
    ).start()
    # What every run needs, while the person's command is still busy with the recordings.
    importlib.import_module("neuro_assets.service.runs")
    importlib.import_module(location.module)
    # Dagster turns SIGTERM into this: an interrupted run has recorded its end before.
    with suppress(KeyboardInterrupt):
        while (message := messages.get()) is not None:
            _serve(location, *message, channel)


def _serve(
    location: CodeLocation, message: dict[str, Any], lock: int, channel: socket.socket
) -> None:
    last: dict[str, Any] = {"done": True}
    try:
        _execute(location, message, channel)
    except NeuroAssetsError as error:
        last = {"error": str(error)}
    os.close(lock)
    _reply(channel, last)


def _execute(location: CodeLocation, message: dict[str, Any], channel: socket.socket) -> None:
    from dagster import DagsterInstance
    from dagster._core.execution.api import execute_run_iterator
    from dagster._utils.interrupts import capture_interrupts

    from neuro_assets.executors.launcher import claim
    from neuro_assets.service.runs import Request, create_run, load_job

    require_semaphores()
    request = Request(**message["request"])
    # From here on a signal waits for the moments at which the executor can end its steps.
    with capture_interrupts(), DagsterInstance.from_config(message["home"]) as instance:
        job = load_job(location, request.job)
        run = create_run(instance, job, request)
        claim(instance, run.run_id, ProcessIdentity.here(os.getpid()))
        _reply(channel, {"run": run.run_id})
        for _event in execute_run_iterator(job.recon, run, instance):
            pass


def _reply(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def _take_input() -> socket.socket:
    """Move the socket away from standard input, which every process that is started inherits."""
    channel = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    return channel


def _start_fork_server(module: str) -> None:
    """Start the server that steps are forked from, so that it imports while we load the job."""
    # Another code location has libraries of its own.
    preload = PRELOAD if module == PRELOAD[-1] else ("dagster", module)
    multiprocessing.set_forkserver_preload(list(preload))
    forkserver.ensure_running()


def _receive(channel: socket.socket, messages: SimpleQueue[Any]) -> None:
    """Hand requests on; interrupt this process when the one that asked is gone."""
    while True:
        data, locks, _flags, _address = socket.recv_fds(channel, _BUFFER_BYTES, 1)
        while data and not data.endswith(b"\n"):
            data += channel.recv(_BUFFER_BYTES) or b"\n"
        if not data:
            messages.put(None)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        messages.put((json.loads(data), locks[0]))


if __name__ == "__main__":
    main()
