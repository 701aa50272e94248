"""Which files a library opens, as the interpreter reports them: many formats name only a header."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


class _Recorder(threading.local):
    """What one thread opens while somebody wants to know."""

    names: set[str] | None = None


_recorder = _Recorder()


@contextmanager
def opened_files() -> Iterator[set[str]]:
    """Collect the files that are opened by this thread.

    Yields
    ------
    set of str
        Absolute paths, added as files are opened; also those that are not there. Files that a C
        library opens by itself (HDF5) are not among them.
    """
    _install()
    before, _recorder.names = _recorder.names, set()
    try:
        yield _recorder.names
    finally:
        _recorder.names = before


@cache
def _install() -> None:
    """Install the hook once: the interpreter has no way to take one out again."""
    sys.addaudithook(_note)


def _note(event: str, args: tuple[Any, ...]) -> None:
    names = _recorder.names
    if names is not None and event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        names.add(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100
