"""The kernel's locks (flock) in a local store, and what holds on file systems without them.

Many shares have none, or keep them from the other machines: nothing that is committed hangs on them
alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""Nothing can lie behind a name; ELOOP is a link to itself."""

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def try_lock(handle: int) -> bool:
    """Wait for a lock.

    Parameters
    ----------
    handle : int
        An open file; the lock ends with it.

    Returns
    -------
    bool
        False where the file system has none.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def hold_folder(folder: Path) -> int:
    """Mark a folder as in use until the handle is closed or the process ends.

    Parameters
    ----------
    folder : Path
        Exists.

    Returns
    -------
    int
        An open handle.
    """
    handle = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # without locks its age alone protects it
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


def is_held(folder: Path) -> bool | None:
    """Tell whether a living process holds a folder.

    Parameters
    ----------
    folder : Path
        May be missing.

    Returns
    -------
    bool or None
        None where that cannot be known: NFS, for one, has no locks of folders.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return False if error.errno in NO_FOLDER else None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False
