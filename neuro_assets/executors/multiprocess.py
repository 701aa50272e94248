"""The executor of a workstation: one process a step, forked from a server that imported once.

Slurm and other executors have their own modules. The science in a step decides itself how many
threads it uses; only the number of concurrent steps is set here.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

from neuro_assets.outcomes import PermanentFailure

PRELOAD = ("dagster", "neuro_assets.executors.preload", "neuro_assets.definitions")
"""Imported once by the fork server. Never anything that starts a thread or CUDA: a child forked
after that hangs. `tests/service/test_service.py` counts the threads."""


def multiprocess_config(max_concurrent: int, preload: Sequence[str] = PRELOAD) -> dict[str, Any]:
    """Return the configuration of `dagster.multiprocess_executor`.

    Parameters
    ----------
    max_concurrent : int
        Steps at once.
    preload : sequence of str
        Modules that the fork server imports.

    Returns
    -------
    dict
        For `dg.multiprocess_executor.configured(multiprocess_config(2))`.
    """
    return {
        "max_concurrent": max_concurrent,
        "start_method": {"forkserver": {"preload_modules": list(preload)}},
    }


def require_semaphores() -> str:
    """Make sure that steps can be started as processes, which share locks with their run.

    Returns
    -------
    str
        Where the locks are.

    Raises
    ------
    PermanentFailure
        When this machine does not let us make one.
    """
    try:
        multiprocessing.get_context("forkserver").Lock()
    except OSError as error:
        raise PermanentFailure(
            f"/dev/shm cannot be written to ({error.strerror}), and the steps of a run share locks "
            "in it: mount it as a tmpfs of mode 1777"
        ) from None
    return "/dev/shm"
