"""What the machine gives to this process."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    Returns
    -------
    int
        At least 1; on Linux fewer than the machine's when the process is pinned, or its container
        has a share of the processor time (cgroup v2, rounded up).
    """
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    if _CGROUP_QUOTA.exists():
        quota, period = _CGROUP_QUOTA.read_text().split()
        if quota != "max":
            cores = min(cores, ceil(int(quota) / int(period)))
    return max(1, cores)
