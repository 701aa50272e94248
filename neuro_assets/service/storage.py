"""The databases of a Dagster home: made whole by one process before any other opens them.

Dagster makes its tables at the first use and lets two first users collide ("table already exists").
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neuro_assets.outcomes import PermanentFailure

_LOCK = "prepare.lock"
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


@contextmanager
def preparing(home: Path) -> Iterator[None]:
    """Wait until no other process prepares a home, and prepare it alone.

    Parameters
    ----------
    home : Path
        Exists.
    """
    with (home / _LOCK).open("a") as lock:
        with suppress(OSError):  # on a share without locks, where SQLite cannot work either
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_databases(home: Path) -> None:
    """Make the databases of a home that has none yet; call it within `preparing`.

    Parameters
    ----------
    home : Path
        With its `dagster.yaml`.

    Raises
    ------
    PermanentFailure
        When Dagster cannot open it, with its last words.
    """
    if all((home / name).exists() for name in _DATABASES):
        return
    if "dagster" in sys.modules:
        open_once(home)
        return
    # Not in a process that has no other need of Dagster: the supervisor lives for months.
    code = f"from {__name__} import open_once; from pathlib import Path; import sys"
    command = [sys.executable, "-P", "-c", f"{code}; open_once(Path(sys.argv[1]))", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermanentFailure(
            f"the databases in {home} cannot be made: {done.stderr.strip().splitlines()[-1:]}; "
            "correct dagster.yaml there, or remove it"
        )


def open_once(home: Path) -> None:
    """Open the instance of a home, which makes its tables, and close it.

    Parameters
    ----------
    home : Path
        With its `dagster.yaml`.
    """
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(home)):
        pass
