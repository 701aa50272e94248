"""Helpers of the tests that start the platform: a lab folder, programs, and waiting."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from places import REPOSITORY

TESTS = Path(__file__).parent
LOCATION = "CodeLocation('tiny_lab', 'defs', 'tiny')"


def environment(lab: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("DAGSTER_")}
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), env.get("PYTHONPATH", "")])
    return {
        **env,
        "TINY_LAB": str(lab),
        "PYTHONPATH": path,
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        # The daemon looks for failed runs every second, not every five.
        "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
    }


def start(lab: Path, code: str, log: str, shell: bool = False) -> subprocess.Popen[bytes]:
    """Start Python code in a lab folder; `shell`: as a background job, with SIGINT ignored."""
    program = f"from neuro_assets.service import *\nfrom pathlib import Path\n{code}\n"
    command = [sys.executable, "-u", "-c", program]
    if shell:
        # What `sh -c 'command &'` does to its jobs, without losing sight of the process.
        ignoring = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); "
        command = [sys.executable, "-c", ignoring + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    with (lab / log).open("ab") as file:
        return subprocess.Popen(
            command, cwd=lab, env=environment(lab), stdout=file, stderr=subprocess.STDOUT
        )


def start_up(
    lab: Path, port: int, shell: bool = False, options: str = "", log: str = "up.log"
) -> subprocess.Popen[bytes]:
    code = f"up({port}, workdir=Path({str(lab)!r}), location={LOCATION}, {options})"
    return start(lab, code, log, shell)


def start_execute(lab: Path, call: str, log: str, shell: bool = False) -> subprocess.Popen[bytes]:
    """`call` holds the first arguments of `execute`; the log ends with the result's status."""
    code = (
        f"r = execute({call}, workdir=Path({str(lab)!r}), location={LOCATION})\n"
        "print('RESULT', r.run_id, r.status, r.in_daemon)"
    )
    return start(lab, code, log, shell)


def log(lab: Path, name: str) -> str:
    path = lab / name
    return path.read_text() if path.exists() else ""


def until(condition: Callable[[], Any], what: str, seconds: float = 900) -> Any:
    """Wait for something that must come; the limit only keeps a broken test from hanging."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"never came: {what}")


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _lives(process: psutil.Process) -> bool:
    """Whether it runs: one that nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_family(pid: int) -> list[int]:
    """SIGKILL a process that a test has started, with all that it started."""
    members: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        members = family(pid)
    for member in members:
        # A child that was waiting for another may end by itself meanwhile.
        with suppress(psutil.NoSuchProcess):
            member.kill()
    until(lambda: not any(_lives(member) for member in members), "the end of what was killed")
    return [member.pid for member in members]


def lines(lab: Path, name: str) -> list[dict[str, Any]]:
    """Return what the assets of `tiny_lab` have noted."""
    text = log(lab, f"{name}.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def quick_home(lab: Path) -> Path:
    """Prepare a home that looks at queue and runs every second or two, not every thirty."""
    home = lab / ".dagster_home"
    home.mkdir()
    text = (REPOSITORY / "dagster.yaml").read_text()
    for slow, quick in (
        (
            "class: QueuedRunCoordinator",
            "class: QueuedRunCoordinator\n  config: {dequeue_interval_seconds: 1}",
        ),
        ("poll_interval_seconds: 30", "poll_interval_seconds: 2"),
        ("free_slots_after_run_end_seconds: 30", "free_slots_after_run_end_seconds: 1"),
    ):
        assert slow in text
        text = text.replace(slow, quick)
    (home / "dagster.yaml").write_text(text)
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def importable(name: str) -> bool:
    """Whether there is such a module."""
    return importlib.util.find_spec(name) is not None


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
