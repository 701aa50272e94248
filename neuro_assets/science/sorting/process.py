"""Starting the sorter's process, watching it, and saying how it ended.

What the process does is `child`; what becomes of its result is decided in the package itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeinterface.core import BaseRecording

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason, TransientFailure
from neuro_assets.parameters.sorting import PROGRAMS
from neuro_assets.science.result import Progress

HEARTBEAT_S = 15.0
"""Time between two reports of progress, seconds."""

LOG_NAME = "sorter.log"


@dataclass(frozen=True)
class Job:
    """One run of one sorter.

    Parameters
    ----------
    sorter : str
        SpikeInterface's name.
    parameters : dict
        The sorter's parameters that differ from its defaults.
    recording : BaseRecording
        What the sorter reads.
    n_jobs : int
        Worker processes and threads.
    """

    sorter: str
    parameters: dict[str, Any]
    recording: BaseRecording
    n_jobs: int


def require_programs(sorter: str) -> None:
    """Refuse a sorter that would call a program which is not there, before it runs for hours.

    Parameters
    ----------
    sorter : str
        SpikeInterface's name of the sorter.

    Raises
    ------
    PermanentFailure
        Naming the program and how to install it.
    """
    for program, package in PROGRAMS.get(sorter, {}).items():
        if sys.platform == "linux" and shutil.which(program) is None:
            raise PermanentFailure(
                f"{sorter} calls the program {program}, which this machine lacks; install it "
                f"(Debian and Ubuntu: apt-get install {package})"
            )


def run_job(job: Job, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run a sorter in a process of its own and wait for it.

    Parameters
    ----------
    job : Job
        What to run.
    folder : Path
        Empty scratch folder; afterwards holds `sorter.log`, `sorter/` and `result/`.
    progress : Progress
        Called at least every half minute.

    Returns
    -------
    dict
        `cpu_s` and `peak_memory_bytes` of the process.

    Raises
    ------
    Skipped
        `no_units_found`, when the sorter gives up because there is nothing to sort.
    TransientFailure
        When the process was killed or ran out of memory.
    PermanentFailure
        When the sorter raised.
    """
    description = {
        "sorter": job.sorter,
        "parameters": job.parameters,
        "n_jobs": job.n_jobs,
        "parent": os.getpid(),
        "recording": _hand_over(job, folder),
    }
    (folder / "job.json").write_text(json.dumps(description))
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "neuro_assets.science.sorting.child", str(folder)]
    with (folder / LOG_NAME).open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(job, folder),
            start_new_session=True,  # a group of its own, so that its workers die with it
        )
        try:
            _watch(process, job, folder, progress)
        finally:
            _end_group(process)
    return _read_answer(process.returncode, job, folder)


def _hand_over(job: Job, folder: Path) -> str:
    """Write the recording so that another process can open it; return the file's name."""
    if job.recording.check_serializability("json"):
        job.recording.dump(folder / "recording.json")
        return "recording.json"
    if job.recording.check_serializability("pickle"):
        job.recording.dump(folder / "recording.pickle")
        return "recording.pickle"
    job.recording.save(
        folder=folder / "recording",
        format="binary",
        n_jobs=1,
        chunk_duration="1s",
        progress_bar=False,
    )
    return "recording"


def _environment(job: Job, folder: Path) -> dict[str, str]:
    """As many threads as jobs, and every temporary or cache file in the scratch folder."""
    threads = {
        name: str(job.n_jobs)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    scratch = str(folder / "tmp")
    return {
        **os.environ,
        **threads,
        "NUMBA_NUM_THREADS": str(job.n_jobs),
        "TMPDIR": scratch,
        "KILOSORT_LOCAL_DOWNLOADS_PATH": scratch,
        "MPLCONFIGDIR": scratch,
        "MPLBACKEND": "agg",
        "PYTHONUNBUFFERED": "1",
    }


def _watch(process: subprocess.Popen[bytes], job: Job, folder: Path, progress: Progress) -> None:
    """Wait for the end, with a heartbeat. How far a sorter is, it does not say: time stands in."""
    started = time.monotonic()
    expected_s = 60.0 + job.recording.get_total_duration()
    progress(0.0, f"{job.sorter} started")
    while True:
        try:
            process.wait(timeout=HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - started
            fraction = elapsed / (elapsed + expected_s)
            progress(fraction, f"{job.sorter} {elapsed:.0f} s: {last_line(folder / LOG_NAME)}")
        else:
            return


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the process and its workers; nothing may write after this."""
    # Nobody may be left; macOS then says that it is not permitted.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(log: Path) -> str:
    """Last line of a log that says something.

    Parameters
    ----------
    log : Path
        Text file, maybe still being written; only its end is read.

    Returns
    -------
    str
        The line without carriage returns, at most 300 characters; empty where there is none.
    """
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _read_answer(returncode: int, job: Job, folder: Path) -> dict[str, Any]:
    """Turn the end of the process into a result or one of three outcomes."""
    file = folder / "answer.json"
    if not file.exists():
        raise _killed(returncode, job, last_line(folder / LOG_NAME))
    answer: dict[str, Any] = json.loads(file.read_text())
    message = answer["message"]
    if answer["status"] == "memory":
        raise TransientFailure(
            f"{job.sorter} was killed by a lack of memory ({message}); it is tried again, give the "
            "step more memory or fewer jobs if that does not help"
        )
    if answer["status"] == "nothing":
        raise Skipped(SkipReason.NO_UNITS_FOUND, f"{job.sorter} found nothing to sort ({message})")
    if answer["status"] == "error":
        raise PermanentFailure(f"{job.sorter} failed: {message}")
    return answer


def _killed(returncode: int, job: Job, words: str) -> PermanentFailure | TransientFailure:
    """Say why a process ended without an answer."""
    number = -returncode if returncode < 0 else returncode - 128
    said = f"; last line of its log: {words}" if words else ""
    if number == signal.SIGKILL:
        return TransientFailure(
            f"{job.sorter} was killed (signal 9), most likely for memory; give the step more "
            f"memory or fewer jobs{said}"
        )
    if number == signal.SIGTERM:
        return TransientFailure(f"{job.sorter} was terminated from outside (signal 15){said}")
    if returncode < 0 or number > 0:
        return PermanentFailure(f"{job.sorter} crashed with signal {number}{said}")
    return PermanentFailure(f"{job.sorter} ended with code {returncode} and no result{said}")
