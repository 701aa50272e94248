"""The executor of a workstation: one process a step, forked from a server that imported once.

Slurm and other executors have their own modules. The science in a step decides itself how many
threads it uses; only the number of concurrent steps is set here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

PRELOAD = ("dagster", "neuro_assets.executors.preload", "neuro_assets.definitions")
"""Imported once by the fork server. Never anything that starts a thread or CUDA: a child forked
after that hangs. `tests/test_service.py` counts the threads."""


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    Returns
    -------
    int
        At least 1; on Linux fewer than the machine's when the process is pinned.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def concurrent_steps(cores: int | None = None) -> int:
    """Return how many steps of one run may be executed at the same time.

    Two keep light steps going beside a heavy one (the pool `heavy` holds the others back); more
    only where memory usually comes with the cores.

    Parameters
    ----------
    cores : int, optional
        Cores to share; those usable by this process when None.

    Returns
    -------
    int
        1 on a single core, 2 up to 11 cores, a quarter of the cores up to 8.
    """
    cores = cores or usable_cores()
    return 1 if cores == 1 else max(2, min(8, cores // 4))


def multiprocess_config(
    max_concurrent: int | None = None, preload: Sequence[str] = PRELOAD
) -> dict[str, Any]:
    """Return the configuration of `dagster.multiprocess_executor`.

    Parameters
    ----------
    max_concurrent : int, optional
        Steps at once; `concurrent_steps` when None.
    preload : sequence of str
        Modules that the fork server imports.

    Returns
    -------
    dict
        For `dg.multiprocess_executor.configured(multiprocess_config())`.
    """
    return {
        "max_concurrent": max_concurrent or concurrent_steps(),
        "start_method": {"forkserver": {"preload_modules": list(preload)}},
    }
