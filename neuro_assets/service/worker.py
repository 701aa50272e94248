"""The process that executes one run of the command line: `python -m neuro_assets.service.worker`.

A process of its own, so that the terminal of the person stays clean, threads of the caller are
not forked, and the steps do not import the program that asked for the run. It reads one JSON
object from its standard input and writes one to the file descriptor named there: the run's id, or
why there is none. When its standard input closes, whoever asked is gone, and the run is ended.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from typing import Any

from neuro_assets.executors.identity import ProcessIdentity
from neuro_assets.executors.multiprocess import PRELOAD
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.service.home import CodeLocation


def main() -> None:
    """Execute the run that standard input asks for."""
    asked = json.loads(sys.stdin.readline())
    _start_fork_server(asked["location"]["module"])
    threading.Thread(target=_end_with_input, name="lifeline", daemon=True).start()
    with os.fdopen(asked["report"], "w") as report:
        try:
            _execute(asked, lambda answer: print(json.dumps(answer), file=report, flush=True))
        except NeuroAssetsError as error:
            print(json.dumps({"error": str(error)}), file=report, flush=True)


def _execute(asked: dict[str, Any], answer: Any) -> None:
    from dagster import DagsterInstance
    from dagster._core.execution.api import execute_run_iterator
    from dagster._utils.interrupts import capture_interrupts

    from neuro_assets.executors.launcher import claim
    from neuro_assets.service.runs import Request, create_run, load_job

    request = Request(**asked["request"])
    # From here on a signal waits for the moments at which the executor can end its steps.
    with capture_interrupts(), DagsterInstance.from_config(asked["home"]) as instance:
        job = load_job(CodeLocation(**asked["location"]), request.job)
        run = create_run(instance, job, request)
        claim(instance, run.run_id, ProcessIdentity.here(os.getpid()))
        answer({"run": run.run_id})
        for _event in execute_run_iterator(job.recon, run, instance):
            pass


def _start_fork_server(module: str) -> None:
    """Start the server that steps are forked from, so that it imports while we load the job."""
    multiprocessing.set_forkserver_preload([*PRELOAD[:-1], module])
    forkserver.ensure_running()


def _end_with_input() -> None:
    """Interrupt this process when the one that holds the other end of its input is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
