"""Temporary folders on the local disk, one a process and removed when it ends.

Their names tell the leavings of a killed process from the folder of a living one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import threading
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.errors import explained

_PREFIX = "neuro_assets"
_NAME = re.compile(rf"{_PREFIX}-(?P<host>[A-Za-z0-9.]+)-(?P<pid>\d+)-(?P<start>\d+)-\w+")
_guard = threading.Lock()
_folders: dict[tuple[int, Path], Path] = {}


def scratch_root(scratch: Path | None) -> Path:
    """Choose where temporary folders are made.

    Parameters
    ----------
    scratch : Path or None
        Configured folder; None for the system's.

    Returns
    -------
    Path
        Absolute folder.
    """
    return (scratch or Path(tempfile.gettempdir())).expanduser().absolute()


def process_folder(scratch: Path | None) -> Path:
    """Give the folder of this process, made at the first call and removed when it ends.

    Parameters
    ----------
    scratch : Path or None
        Configured folder; None for the system's.

    Returns
    -------
    Path
        A folder that nobody else uses.
    """
    root = scratch_root(scratch)
    name = (os.getpid(), root)  # a forked child must not share (and at exit remove) ours
    with _guard:
        if name not in _folders:
            with explained(str(root)):
                root.mkdir(parents=True, exist_ok=True)
                _folders[name] = Path(tempfile.mkdtemp(prefix=_own_prefix(), dir=root))
            # Not `atexit`: the children of a fork server leave by `os._exit`, which skips it.
            Finalize(None, _remove_own, args=name, exitpriority=1)
        return _folders[name]


def temporary_folder(scratch: Path | None, kind: str) -> Path:
    """Make an empty folder below this process's.

    Parameters
    ----------
    scratch : Path or None
        Configured folder; None for the system's.
    kind : str
        Beginning of its name, for people who look.

    Returns
    -------
    Path
        Empty folder; whoever asked removes it, and the end of the process does.
    """
    own = process_folder(scratch)
    with explained(str(own)):
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=own))


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse a transfer that cannot fit, before it fills the disk for everybody.

    Parameters
    ----------
    folder : Path
        Where it would go.
    needed : int
        Bytes.
    what : str
        For the message.

    Raises
    ------
    PermanentFailure
        When less than that and 64 MB are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + (64 << 20):
        raise PermanentFailure(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free: "
            "set a scratch folder with more space"
        )


def abandoned_folders(scratch: Path | None) -> list[Path]:
    """Find what processes of this machine left when they were killed.

    Parameters
    ----------
    scratch : Path or None
        Configured folder; None for the system's.

    Returns
    -------
    list of Path
        Folders whose process is gone.
    """
    root = scratch_root(scratch)
    if not root.is_dir():
        return []
    return sorted(path for path in root.glob(f"{_PREFIX}-*") if _is_abandoned(path))


def _is_abandoned(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    if found is None or found["host"] != _host() or not path.is_dir():
        return False
    try:
        # A process id is used again some day; its start time tells the two processes apart.
        return int(psutil.Process(int(found["pid"])).create_time()) != int(found["start"])
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _own_prefix() -> str:
    start = int(psutil.Process().create_time())
    return f"{_PREFIX}-{_host()}-{os.getpid()}-{start}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", ".", socket.gethostname())


def _remove_own(pid: int, root: Path) -> None:
    folder = _folders.pop((pid, root), None)
    if folder is not None and pid == os.getpid():
        # The process is ending: there is nobody left to tell, and `gc` finds what stays.
        shutil.rmtree(folder, ignore_errors=True)
