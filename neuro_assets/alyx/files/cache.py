"""A bounded local folder for fetched files: who uses what, what has to go, what arrived whole.

Locks are the kernel's (flock): a killed process holds none, and several can share one, which
`filelock` does not know. How files get here is not known here.

    <cache>/<repository>/<subject>/<date>/<number>/...   the files, as the database names them
    <the same>/.fetched/<file>.json                      what was checked about each
    <the same>/.incoming-<kind>/<i>.<bytes>/             downloads in progress
    <cache>/.state/                                      locks, bytes in use, refused files
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.metadata import RemoteFile
from neuro_assets.store.errors import explained
from neuro_assets.store.local import make_folders, sync_path, write_durable

SMALL_BYTES = 10_000_000
"""Below this a file is fetched to look into it (meta, chunk table), not for its samples."""

_INCOMING = ".incoming-"
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_BUSY = {errno.EAGAIN, errno.EACCES}


class Cache:
    """Files of session folders below one local folder.

    Parameters
    ----------
    root : Path
        Made on first use. Local: locks of some network file systems do not lock.
    most_bytes : int
        What the files may be in all, bytes.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self.root = root.expanduser().absolute()
        self._most = most_bytes
        self._state = self.root / ".state"

    def has_place_for(self, folder: Path) -> bool:
        """Tell whether a session folder is one of this cache."""
        return self.root in folder.absolute().parents

    @contextmanager
    def hold(self, folder: Path) -> Iterator[int]:
        """Keep a session folder from being removed, here and in every other process.

        Parameters
        ----------
        folder : Path
            Session folder; need not exist.

        Yields
        ------
        int
            The lock, for `reserve`.
        """
        with self._lock(self.use_lock(folder), fcntl.LOCK_SH) as use:
            if os.fstat(use).st_size == 0:
                os.pwrite(use, str(folder.relative_to(self.root)).encode(), 0)
            os.utime(use)
            yield use

    @contextmanager
    def alone(self, folder: Path, kind: str) -> Iterator[None]:
        """Wait until no other process downloads the same kind of files of this session."""
        with self._lock(self.use_lock(folder).with_suffix(f".{kind}"), fcntl.LOCK_EX):
            yield

    def use_lock(self, folder: Path) -> Path:
        """Place of a session's lock; never removed, since another process may wait on it."""
        below = str(folder.relative_to(self.root))
        return self._state / "locks" / f"{_short_hash(below)}.use"

    def has(self, folder: Path, file: RemoteFile) -> bool:
        """Tell whether a file is here, whole, and the one that is registered now.

        Parameters
        ----------
        folder : Path
            Session folder.
        file : RemoteFile
            As registered.

        Returns
        -------
        bool
            By size and modification time, and the hash that was taken when it came.
        """
        note = _read_json(_note(folder, file.path))
        try:
            stat = (folder / file.path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (
            note.get("mtime_ns") == stat.st_mtime_ns
            and note.get("size") == stat.st_size == file.size
            and file.md5 in (None, note.get("md5"))
        )

    def keep(self, folder: Path, file: RemoteFile, arrived: Path, md5: str) -> None:
        """Put a checked file in its place; the old one, if any, is replaced at once.

        Parameters
        ----------
        folder : Path
            Session folder.
        file : RemoteFile
            What it is.
        arrived : Path
            Where it is: in its folder of `reserve`, which is given back.
        md5 : str
            Of its content.
        """
        sync_path(arrived)
        stat = arrived.stat()
        make_folders((folder / file.path).parent)
        # The note first: alone it says nothing, while a file without it would come again.
        _write_json(
            _note(folder, file.path),
            {"path": file.path, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": md5},
        )
        arrived.replace(folder / file.path)
        arrived.parent.rmdir()
        self._refusal(file).unlink(missing_ok=True)

    def refused(self, file: RemoteFile) -> str | None:
        """Tell what was found instead of a file when it was last fetched, as registered now."""
        note = _read_json(self._refusal(file))
        same = (note.get("size"), note.get("md5")) == (file.size, file.md5)
        return str(note.get("found")) if same else None

    def refuse(self, file: RemoteFile, found: str) -> None:
        """Remember that a file is not the registered one, so that it does not come for ever.

        Parameters
        ----------
        file : RemoteFile
            As registered.
        found : str
            What the repository has, for people.
        """
        note = {"path": file.path, "size": file.size, "md5": file.md5, "found": found}
        _write_json(self._refusal(file), note)

    def check_fits(self, n_bytes: int) -> None:
        """Fail when so much, which is needed together, can never be here at once.

        Parameters
        ----------
        n_bytes : int
            All files that are needed together.

        Raises
        ------
        PermanentFailure
            With both sizes.
        """
        if n_bytes > self._most:
            raise PermanentFailure(
                f"{_gb(n_bytes)} are needed at once and the cache {self.root} may hold "
                f"{_gb(self._most)}: raise cache_gb in the alyx section of lab.yaml"
            )

    @contextmanager
    def reserve(
        self,
        use: int,
        folder: Path,
        kind: str,
        files: Sequence[RemoteFile],
        needed: Collection[str],
    ) -> Iterator[list[Path]]:
        """Make room for a download and keep it; what nobody used for longest goes first.

        Parameters
        ----------
        use : int
            From `hold`.
        folder : Path
            Session folder.
        kind : str
            As in `alone`, which the caller is.
        files : sequence of RemoteFile
            To come.
        needed : collection of str
            All paths below the folder that must be there together, these included.

        Yields
        ------
        list of Path
            An empty folder for each file, on the file system of its place.

        Raises
        ------
        PermanentFailure
            The disk is too full, with sizes.
        TransientFailure
            All the rest is in use.
        """
        incoming = folder / f"{_INCOMING}{kind}"
        total = self._state / "bytes.json"
        with self._lock(self._state / "count.lock", fcntl.LOCK_EX):
            shutil.rmtree(incoming, ignore_errors=True)  # of a process that was killed
            n_bytes = sum(file.size for file in files)
            # An upper bound: what was counted last, and all that was reserved since.
            used = _read_json(total).get("used", self._most)
            if used + n_bytes > self._most or self._free() < n_bytes:
                used = self._evict(use, folder, n_bytes, {file.path for file in files}, needed)
            _write_json(total, {"used": used + n_bytes})
            folders = [incoming / f"{i}.{file.size}" for i, file in enumerate(files)]
            for each in folders:
                each.mkdir(parents=True)
        try:
            yield folders
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def sessions(self) -> list[Path]:
        """List session folders that were ever used, the one that was not for longest first."""
        locks = sorted((self._state / "locks").glob("*.use"), key=lambda lock: lock.stat().st_mtime)
        named = [(self.root, lock.read_text("utf-8", "replace")) for lock in locks]
        return [root / below for root, below in named if below and (root / below).is_dir()]

    def _evict(
        self, use: int, folder: Path, n_bytes: int, coming: set[str], needed: Collection[str]
    ) -> int:
        """Remove until so many bytes fit; gives the bytes that stay."""
        replaced = {folder / path for path in coming}
        sizes = {path: _n_bytes(path, replaced) for path in self.sessions()}
        used = sum(sizes.values())

        def is_short() -> bool:
            return used + n_bytes > self._most or self._free() < n_bytes

        for path, size in sizes.items():
            if is_short() and size and path != folder and self._remove(path):
                used -= size
        if is_short() and self._is_ours_alone(use):
            used -= _remove_large(folder, needed)
        if used + n_bytes > self._most:
            raise TransientFailure(
                f"{_gb(n_bytes)} do not fit: the cache {self.root} may hold {_gb(self._most)}, and "
                "all in it is in use by other steps: try again when they are done, or raise "
                "cache_gb in the alyx section of lab.yaml"
            )
        if (free := self._free()) < n_bytes:
            raise PermanentFailure(
                f"{_gb(n_bytes)} are to be fetched and the disk of the cache {self.root} has "
                f"{_gb(free)} free: free space, or put `cache` in the alyx section of lab.yaml on "
                "another disk"
            )
        return used

    def _remove(self, folder: Path) -> bool:
        """Remove a session folder unless somebody uses it."""
        with self._lock(self.use_lock(folder), fcntl.LOCK_EX | fcntl.LOCK_NB) as use:
            if use < 0:
                return False
            trash = self._state / "trash"
            make_folders(trash)
            # Renamed first, so that nobody ever sees half of it.
            with suppress(FileNotFoundError):
                folder.rename(trash / secrets.token_hex(6))
            # All of it: also what a process left that was killed here.
            shutil.rmtree(trash, ignore_errors=True)
            with suppress(OSError):  # the first folder that still holds something
                for above in folder.parents[: len(folder.relative_to(self.root).parts) - 1]:
                    above.rmdir()
            return True

    def _is_ours_alone(self, use: int) -> bool:
        """Tell whether nobody else uses the session that we hold.

        An upgrade gives the shared lock up for a moment; whoever would remove the folder then
        must be counting, which we are.
        """
        try:
            return self._locked(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            fcntl.flock(use, fcntl.LOCK_SH)

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free

    @contextmanager
    def _lock(self, path: Path, how: int) -> Iterator[int]:
        """Lock a file; the handle is -1 where somebody else has it and we do not wait."""
        with explained(str(self.root)):
            make_folders(path.parent)
            # Not inherited by programs that we start: they would go on holding it.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield handle if self._locked(handle, how) else -1
        finally:
            os.close(handle)

    def _locked(self, handle: int, how: int) -> bool:
        try:
            fcntl.flock(handle, how)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise PermanentFailure(
                    f"the file system of {self.root} has no locks: put `cache` in the alyx "
                    "section of lab.yaml on a local disk"
                ) from error
            if error.errno not in _BUSY:
                raise
            return False
        return True

    def _refusal(self, file: RemoteFile) -> Path:
        name = _short_hash("\n".join((file.repository, file.dataset_id, file.path)))
        return self._state / "refused" / f"{name}.json"


def _note(folder: Path, path: str) -> Path:
    return folder / ".fetched" / f"{_short_hash(path)}.json"


def _n_bytes(folder: Path, replaced: Collection[Path]) -> int:
    """Bytes of a session: its files without those that will be replaced, and what is reserved."""
    total = 0
    for top, folders, names in os.walk(folder):
        at = Path(top)
        if at.name.startswith(_INCOMING):
            total += sum(int(name.partition(".")[2]) for name in folders)
            folders.clear()
            continue
        for name in names:
            with suppress(FileNotFoundError):
                total += (at / name).lstat().st_size if at / name not in replaced else 0
    return total


def _remove_large(folder: Path, needed: Collection[str]) -> int:
    """Remove large files of other probes from a session that nobody else uses."""
    gone = 0
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(top) / name for name in names):
            path, size = file.relative_to(folder).as_posix(), file.lstat().st_size
            if size > SMALL_BYTES and path not in needed:
                file.unlink()
                _note(folder, path).unlink(missing_ok=True)
                gone += size
    return gone


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _read_json(path: Path) -> dict[str, Any]:
    """Read a note; one that is missing or damaged says nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, note: dict[str, Any]) -> None:
    make_folders(path.parent)
    write_durable(path, json.dumps(note).encode())


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB"
