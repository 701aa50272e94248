"""Let a step end with the process that started it.

The process of a run can be killed alone (memory, an impatient person). Its steps would go on, with
the GPU, while their run is already failed and retried. Standard library and psutil only: every
layer may import this.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

import psutil

GRACE_S = 30.0
"""Seconds between the polite signal and the end."""


def end_with_parent(grace_s: float = GRACE_S) -> bool:
    """End this process, and what it started, when the process that started it is gone.

    First by SIGTERM, so that scratch folders are cleaned; after `grace_s` for good.

    Parameters
    ----------
    grace_s : float
        Seconds between the two.

    Returns
    -------
    bool
        False when this process was not started by `multiprocessing`: nothing is watched.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return False
    watch = threading.Thread(
        target=_watch, args=(parent.sentinel, grace_s), name="parent-watchdog", daemon=True
    )
    watch.start()
    return True


def _watch(sentinel: int, grace_s: float) -> None:
    """Wait for the parent's end, which closes the other side of the sentinel's pipe."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace_s)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os.kill(os.getpid(), signal.SIGKILL)
