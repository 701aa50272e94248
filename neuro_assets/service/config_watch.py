"""`lab.yaml` edited under a running `neuro-assets up`: checked, then loaded, in another process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from neuro_assets.executors.frozen_config import loaded_config
from neuro_assets.service.home import LOADED_CONFIG, CodeLocation, child_environment

_SETTLE_S = 1.0
"""Editors write a file in several steps."""


class ConfigWatch:
    """Look at a configuration file now and then; have a changed one loaded.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    home : Path
        Dagster's home.
    location : CodeLocation
        The definitions.
    socket : Path
        Where the code server listens.
    log : callable
        Gets a line when a change was loaded or refused.
    """

    def __init__(
        self,
        path: Path,
        home: Path,
        location: CodeLocation,
        socket: Path,
        log: Callable[[str], None],
    ) -> None:
        self._path, self._home, self._log = path, home, log
        message = {
            "module": location.module, "attribute": location.attribute, "socket": str(socket)
        }  # fmt: skip
        self._command = [
            *(sys.executable, "-P", "-m", "neuro_assets.service.reload", json.dumps(message))
        ]
        self._seen = self._state()
        self._changed_at: float | None = None
        self._process: subprocess.Popen[str] | None = None

    def _state(self) -> tuple[int, ...]:
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def poll(self) -> None:
        """Do what is due; returns at once."""
        if self._process is not None:
            if self._process.poll() is not None:
                self._finish(self._process)
                self._process = None
            return
        state = self._state()
        if state != self._seen:
            self._seen, self._changed_at = state, time.monotonic()
        elif self._changed_at is not None and time.monotonic() - self._changed_at > _SETTLE_S:
            self._changed_at = None
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                env=child_environment(self._home),
                start_new_session=True,
            )

    def stop(self) -> None:
        """End a check in progress."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _finish(self, process: subprocess.Popen[str]) -> None:
        output = process.communicate()[0].strip()
        if process.returncode:
            self._log(f"{self._path} was refused, what was loaded stays in force: {output}")
            return
        self._log(f"{self._path} was loaded; runs in progress and their retries keep theirs")
        loaded = loaded_config(self._home / LOADED_CONFIG)
        for change in loaded.changes if loaded else []:
            self._log(f"  {change['field']}: {change['old']} -> {change['new']}")
