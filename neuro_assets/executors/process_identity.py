"""Which process, on which machine, since when: an identity that outlives the process.

A process number alone says nothing after a restart of the machine, or after the system has used
the number again. Only the identity lives here; what is concluded from it is the launcher's and
the service's business.
"""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STARTTIME_FIELD = 19
"""Position of `starttime` in /proc/<pid>/stat after the command name (proc(5), field 22)."""
_CLOCK_SLACK_S = 2.0


class Liveness(StrEnum):
    """What can be said of a process from here."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@functools.cache
def boot_id() -> str:
    """Return an identity of this start of the machine.

    Returns
    -------
    str
        The kernel's boot id (Linux), boot session (macOS), or else the boot time in seconds.
    """
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"{psutil.boot_time():.0f}"


def process_start(pid: int) -> str | None:
    """Return when a process started, in a form that no change of the clock can alter.

    Parameters
    ----------
    pid : int
        Process number on this machine.

    Returns
    -------
    str or None
        Clock ticks since boot on Linux, else seconds since 1970; None when there is no such
        process, or only its zombie.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # The command name may hold spaces and parentheses: count from its last one.
            return stat.read_text().rpartition(")")[2].split()[_STARTTIME_FIELD]
        return f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def existed_at(pid: int, timestamp: float) -> bool:
    """Tell whether the process that now has this number existed at some time.

    Parameters
    ----------
    pid : int
        Process number on this machine.
    timestamp : float
        Seconds since 1970 by this machine's clock; two seconds of slack are given.

    Returns
    -------
    bool
        False when there is no such process, or when it is younger and got the number later.
    """
    try:
        return psutil.Process(pid).create_time() <= timestamp + _CLOCK_SLACK_S
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one machine since one boot.

    Parameters
    ----------
    host : str
        Name of the machine.
    boot : str
        Identity of the machine's start, see `boot_id`.
    pid : int or None
        Process number; None for a process that is being started and not known yet.
    start : str or None
        See `process_start`.
    """

    host: str
    boot: str
    pid: int | None = None
    start: str | None = None

    @classmethod
    def here(cls, pid: int | None = None) -> ProcessIdentity:
        """Identify a process of this machine, or the machine alone.

        Parameters
        ----------
        pid : int, optional
            Process number.

        Returns
        -------
        ProcessIdentity
            Its `start` is None when there is no such process.
        """
        start = None if pid is None else process_start(pid)
        return cls(host=platform.node(), boot=boot_id(), pid=pid, start=start)

    @classmethod
    def from_json(cls, text: str) -> ProcessIdentity:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON object.

        Returns
        -------
        ProcessIdentity
            The identity.
        """
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return a JSON object."""
        return json.dumps(asdict(self))

    @property
    def machine_runs(self) -> bool:
        """Whether the machine is this one and was not restarted since."""
        return self.boot == boot_id()

    @property
    def is_elsewhere(self) -> bool:
        """Whether the machine is another one, of which nothing can be said from here."""
        return not self.machine_runs and self.host != platform.node()

    def liveness(self) -> Liveness:
        """Compare boot, process number and start time with what runs now.

        Returns
        -------
        Liveness
            `UNKNOWN` on another machine (absence here proves nothing there), and for a process
            that is being started.
        """
        if self.is_elsewhere or (self.machine_runs and self.pid is None):
            return Liveness.UNKNOWN
        if not self.machine_runs or self.pid is None or self.start is None:
            return Liveness.GONE
        return Liveness.ALIVE if process_start(self.pid) == self.start else Liveness.GONE
