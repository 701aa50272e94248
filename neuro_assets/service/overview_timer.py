"""Starts the making of the overview now and then, in a process of low priority."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from neuro_assets.service.home import child_environment, log_file

FIRST_S, EVERY_S = 60.0, 900.0
"""Seconds after the start, and from then on."""

_COMMAND = [sys.executable, "-P", "-m", "neuro_assets.assets.overview_refresh"]
_NICE = 15


class OverviewTimer:
    """Starts `neuro_assets.assets.overview_refresh` when it is due.

    Parameters
    ----------
    home : Path
        Dagster's home, with the log of the process.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._due = time.monotonic() + FIRST_S
        self._process: subprocess.Popen[bytes] | None = None

    def poll(self) -> None:
        """Do what is due; returns at once."""
        is_running = self._process is not None and self._process.poll() is None
        if is_running or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + EVERY_S
        with log_file(self._home, "overview").open("ab") as output:
            self._process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(self._home),
                start_new_session=True,
            )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)

    def stop(self) -> None:
        """End a process in progress."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
