"""The kernel's locks (flock) in a local store, and what holds on file systems without them.

Many shares have none, or keep them from the other machines: nothing that is committed hangs on them
alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""Nothing can lie behind a name; ELOOP is a link to itself."""

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_ON_ONE_MACHINE = {
    *(f"fuse.{name}" for name in ("sshfs", "rclone", "s3fs", "gcsfuse", "goofys", "geesefs")),
    "davfs", "fuse.davfs2", "9p", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse", "prl_fs",
}  # fmt: skip
"""File systems of several machines whose locks the kernel of each one keeps to itself."""
_OPTIONS = {"nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock", "localflocks"}
"""Options with which NFS, SMB, Lustre, GFS2 and OCFS2 do the same (nfs(5), mount.cifs(8))."""


def mount_with_own_locks(folder: Path, mounts: str | None = None) -> str:
    """Find whether the locks of a folder are known to hold on this machine only.

    Parameters
    ----------
    folder : Path
        Need not exist.
    mounts : str, optional
        Lines of `/proc/self/mounts`; by default those of this machine.

    Returns
    -------
    str
        Type, options that say so and place of the mount; empty where nothing is known against it.
    """
    table = Path("/proc/self/mounts")
    if mounts is None:
        mounts = table.read_text("utf-8", "surrogateescape") if table.is_file() else ""
    place, found = folder.resolve(), ("", "", "")
    for line in mounts.splitlines():
        # Octal escapes stand for spaces, tabs and backslashes.
        point, kind, options = (
            re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)
            for word in line.split(" ")[1:4]
        )
        if place.is_relative_to(point) and len(point) >= len(found[0]):  # the later one hides
            found = (point, kind, options)
    point, kind, options = found
    reasons = sorted(_OPTIONS.intersection(options.split(",")))
    if kind not in _ON_ONE_MACHINE and not reasons:
        return ""
    return f"{' '.join([kind, *reasons])} at {point}"


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
