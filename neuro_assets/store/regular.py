"""Opening what should be a file of a local store, and nothing that only looks like one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from neuro_assets.store.errors import NotAFileError

_PIECE = 1 << 20


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file for reading; a pipe, which would wait for its writer for ever, is refused.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    file
        Open for reading.

    Raises
    ------
    NotAFileError
        When there is anything but a file.
    """
    return open(path, "rb", opener=_regular)  # noqa: PTH123  a path object has no opener


def read_regular(path: Path | str) -> bytes:
    """Read a small file whole, without a file object in between.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    NotAFileError
        As in `open_regular`.
    """
    handle = _regular(os.fspath(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(handle, _PIECE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def _regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise NotAFileError(f"{path} is no file: move it away, and restore the file from a backup")
