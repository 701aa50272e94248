"""The store in a folder: durable atomic writes on a POSIX file system.

A write is temporary file, fsync, rename, fsync of the folder: after a power cut the old content
or the new one is there, never a half.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.backend import IDENTITY_FILE, Entry, require_identity
from neuro_assets.store.errors import explained
from neuro_assets.store.locks import NO_FOLDER, try_lock
from neuro_assets.store.regular import open_regular, read_regular

if TYPE_CHECKING:
    from upath import UPath

TEMPORARY = ".tmp"
"""Ending of files that are being written; `gc` removes what a killed process left."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def sync_path(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk.

    Parameters
    ----------
    path : Path
        What to flush.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder; their server does it at close.
        if error.errno not in {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Create a folder with its parents, so that they survive a power cut.

    Parameters
    ----------
    folder : Path
        May exist.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_path(path.parent)


def write_durable(path: Path, data: bytes) -> None:
    """Replace a file atomically and wait until it is on the disk.

    Parameters
    ----------
    path : Path
        Its folder exists.
    data : bytes
        The whole content.
    """
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def _write_temporary(path: Path, data: bytes) -> Path:
    """Write beside the final place. Not `tempfile`: its files are closed to the group."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def create_durable(path: Path, data: bytes) -> bool:
    """Write a file if there is none.

    Parameters
    ----------
    path : Path
        Its folder exists.
    data : bytes
        The whole content.

    Returns
    -------
    bool
        False where another writer was first. Of several at once exactly one gets True.
    """
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_without_links(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_path(path.parent)
    return True


def _create_without_links(temporary: Path, path: Path) -> bool:
    """Exclusive creation where the file system knows no hard links (exFAT, some shares)."""
    # The name appears with the whole content; a lock of its own, `LocalBackend.lock` may be held.
    handle = os.open(path.with_name(".create.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not try_lock(handle):
            raise PermanentFailure(
                f"{path.parent} lies on a file system without hard links and locks, which cannot "
                "keep two writers apart: keep the store on another one"
            )
        if path.exists():
            return False
        temporary.replace(path)
    finally:
        os.close(handle)
    sync_path(path.parent)
    return True


class LocalBackend:
    """Keeps files in a folder.

    Parameters
    ----------
    root : Path
        The store's folder; made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.local_root: Path | None = root.expanduser().absolute()
        self._root = self.local_root
        self.url = str(self._root)
        self.guarded = ""
        self._seen: tuple[int, ...] = ()
        self.private = False

    def _make(self, folder: Path) -> None:
        """Make a folder; the store's own closed to other users where the lab wants it so."""
        if self.private and not self._root.exists():
            make_folders(self._root.parent)
            self._root.mkdir(mode=0o700, exist_ok=True)
        make_folders(folder)

    def require(self) -> None:
        """See `Backend.require`."""
        if not self.guarded:
            return
        path = self._root / IDENTITY_FILE
        try:
            status = path.stat()
            seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:  # the file is read only once it is another one
                return
            require_identity(read_regular(path), self.guarded, self.url)
        except (FileNotFoundError, NotADirectoryError):
            raise PermanentFailure(
                f"the store {self.url} is not there any more ({IDENTITY_FILE} is missing): mount "
                "it, then run the step again"
            ) from None
        self._seen = seen

    def _require_folder(self) -> None:
        """Pass on that the store itself is a file; a file within it only holds nothing."""
        if not self._root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(self._root))

    def _path(self, path: str) -> Path:
        return self._root / path if path else self._root

    def read(self, path: str) -> bytes:
        """See `Backend.read`."""
        with explained(self.url):
            try:
                return read_regular(self._path(path))
            except FileNotFoundError:
                self.require()
                raise
            except NotADirectoryError:
                self._require_folder()
                raise FileNotFoundError(path) from None

    def write(self, path: str, data: bytes) -> None:
        """See `Backend.write`."""
        with explained(self.url):
            self.require()
            self._make(self._path(path).parent)
            write_durable(self._path(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        with explained(self.url):
            self.require()
            self._make(self._path(path).parent)
            return create_durable(self._path(path), data)

    def create_exclusively(self, path: str, data: bytes) -> bool:
        """See `Backend.create_exclusively`."""
        return self.create(path, data)

    def names(self, folder: str) -> list[str]:
        """See `Backend.names`."""
        with explained(self.url):
            try:
                found = [path.name for path in self._path(folder).iterdir()]
            except FileNotFoundError:
                self.require()
                return []
            except OSError as error:
                if error.errno not in NO_FOLDER:
                    raise
                self._require_folder()
                return []
            return sorted(name for name in found if not name.startswith("."))

    def entries(self, folder: str) -> dict[str, Entry]:
        """See `Backend.entries`."""
        with explained(self.url):
            self.require()
            top = self._path(folder)
            found = dict(_walk(top, "")) if top.is_dir() else {}
            self.require()  # a store that went meanwhile has not become smaller
            return found

    def entry(self, path: str) -> Entry | None:
        """See `Backend.entry`."""
        with explained(self.url):
            try:
                status = self._path(path).stat()
            except OSError as error:
                if error.errno not in NO_FOLDER:
                    raise
                return None
            return _as_entry(status)

    def remove(self, path: str) -> None:
        """See `Backend.remove`."""
        with explained(self.url):
            self.require()
            self._path(path).unlink(missing_ok=True)

    def remove_tree(self, folder: str) -> None:
        """See `Backend.remove_tree`."""
        top = self._path(folder)
        with explained(self.url):
            self.require()
            while top.is_dir():
                # Somebody else who removes the same tree makes files vanish under our hands.
                with suppress(FileNotFoundError):
                    shutil.rmtree(top)

    def locate(self, path: str) -> UPath:
        """See `Backend.locate`."""
        from upath import UPath

        return UPath(self._path(path))

    def open(self, path: str) -> BinaryIO:
        """See `Backend.open`."""
        with explained(self.url):
            return open_regular(self._path(path))

    @contextmanager
    def lock(self, folder: str) -> Iterator[bool]:
        """See `Backend.lock`. The kernel frees the lock of a process that is killed."""
        with explained(self.url):
            self.require()
            self._make(self._path(folder))
            handle = os.open(self._path(folder) / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with explained(self.url):
                locked = try_lock(handle)
            yield locked
        finally:
            os.close(handle)

    def upload(self, source: Path, names: Sequence[str], folder: str) -> None:
        """Not needed: an attempt is written in its final place."""
        raise NotImplementedError("a local store has nothing to upload")

    def download(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Not needed: the files are here."""
        raise NotImplementedError("a local store has nothing to download")

    def abandoned_uploads(self, older_than_s: float, *, remove: bool) -> list[str]:
        """See `Backend.abandoned_uploads`; a folder has none."""
        return []


def _walk(top: Path, prefix: str) -> Iterator[tuple[str, Entry]]:
    """Give every file below a folder; links are reported by their own size and not followed."""
    try:
        folder = os.scandir(top / prefix)
    except FileNotFoundError:  # a try of another writer, discarded meanwhile
        return
    with folder as found:
        for item in found:
            path = f"{prefix}/{item.name}" if prefix else item.name
            if item.is_dir(follow_symlinks=False):
                yield from _walk(top, path)
                continue
            try:
                status = item.stat(follow_symlinks=False)
            except FileNotFoundError:  # a temporary file of another writer, renamed meanwhile
                continue
            yield path, _as_entry(status)


def _as_entry(status: os.stat_result) -> Entry:
    # An atomic replace always brings another inode, so that two in one tick differ too.
    tag = f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"
    return Entry(status.st_size, status.st_mtime, tag)
