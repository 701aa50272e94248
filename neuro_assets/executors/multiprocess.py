"""The executor of a workstation: one process a step, forked from a server that imported once.

Slurm and other executors have their own modules. The science in a step decides itself how many
threads it uses; only the number of concurrent steps is set here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
