"""A bounded local folder for fetched files: who uses what, what may go, what arrived whole.

Locks are the kernel's (flock), so that a killed process holds none. How files get here is not
known here.

    <cache>/<repository>/<subject>/<date>/<number>/...   the files, as the database names them
    <the same>/.fetched/<file>.json                      what was checked about each
    <the same>/.incoming-<token>/                        downloads in progress
    <cache>/.state/                                      locks, reservations, refusals
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from neuro_assets.alyx.files.rejected import Refusals, read_json, short_hash
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.metadata import RemoteFile
from neuro_assets.store.errors import explained
from neuro_assets.store.local import make_folders, sync_path, write_durable

_STATE = ".state"
_INCOMING = ".incoming-"
_FETCHED = ".fetched"
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_BUSY = {errno.EAGAIN, errno.EACCES}


@dataclass
class Hold:
    """A session folder that is in use, and the lock that says so."""

    folder: Path
    handle: int


@dataclass(frozen=True)
class Reservation:
    """Room that a running download may fill.

    Parameters
    ----------
    token : str
        Names its incoming folder.
    folder : Path
        Session folder.
    sizes : dict of str to int
        Bytes by path below the session folder.
    """

    token: str
    folder: Path
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def incoming(self) -> Path:
        """Folder for unfinished downloads, on the same file system as their place."""
        return self.folder / f"{_INCOMING}{self.token}"

    @property
    def n_bytes(self) -> int:
        """Bytes in all."""
        return sum(self.sizes.values())


class Cache:
    """Files of session folders below one local folder.

    Parameters
    ----------
    root : Path
        Made on first use. Local: locks of some network file systems do not lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self._state = self.root / _STATE
        self.refusals = Refusals(self._state / "refused")

    def has_place_for(self, folder: Path) -> bool:
        """Tell whether a session folder is one of this cache."""
        return self.root in folder.absolute().parents

    @contextmanager
    def hold(self, folder: Path) -> Iterator[Hold]:
        """Keep a session folder from being removed, here and in every other process.

        Parameters
        ----------
        folder : Path
            Session folder; need not exist.

        Yields
        ------
        Hold
            For the time of use.
        """
        with self._lock(self.lock_path(folder, "use"), fcntl.LOCK_SH) as handle:
            if os.fstat(handle).st_size == 0:
                os.pwrite(handle, str(folder.relative_to(self.root)).encode(), 0)
            os.utime(handle)
            yield Hold(folder, handle)

    @contextmanager
    def alone(self, folder: Path, what: str) -> Iterator[None]:
        """Wait until no other process downloads the same kind of files of this session."""
        with self._lock(self.lock_path(folder, what), fcntl.LOCK_EX):
            yield

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Wait until no other process counts, removes or reserves."""
        with self._lock(self._state / "count.lock", fcntl.LOCK_EX):
            yield

    def lock_path(self, folder: Path, what: str) -> Path:
        """Place of a session's lock; never removed, since another process may wait on it."""
        below = str(folder.relative_to(self.root))
        return self._state / "locks" / f"{short_hash(below)}.{what}"

    def has(self, folder: Path, file: RemoteFile) -> bool:
        """Tell whether a file is here, whole, and the registered one.

        Parameters
        ----------
        folder : Path
            Session folder.
        file : RemoteFile
            As registered now.

        Returns
        -------
        bool
            By size and modification time, and the hash that was taken when it came.
        """
        note = read_json(self._note(folder, file.path))
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
            Where it is, on the same file system.
        md5 : str
            Of its content.
        """
        sync_path(arrived)
        stat = arrived.stat()
        note = self._note(folder, file.path)
        make_folders(note.parent)
        make_folders((folder / file.path).parent)
        said = {"path": file.path, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": md5}
        # The note first: alone it says nothing, while a file without it would come again.
        write_durable(note, json.dumps(said).encode())
        arrived.replace(folder / file.path)
        self.refusals.forget(file)

    def sessions(self) -> list[tuple[float, Path]]:
        """List session folders that were ever used, and when last, the oldest first."""
        found = []
        for lock in (self._state / "locks").glob("*.use"):
            below = lock.read_text(encoding="utf-8", errors="replace")
            folder = self.root / below
            if below and folder.is_dir():
                found.append((lock.stat().st_mtime, folder))
        return sorted(found)

    def n_bytes(self, folder: Path, live: Iterable[Reservation] = ()) -> int:
        """Count the bytes of a session folder that no running download accounts for.

        Parameters
        ----------
        folder : Path
            Session folder.
        live : iterable of Reservation
            Running downloads; incoming folders of no such one are removed.

        Returns
        -------
        int
            Bytes.
        """
        apart = {each.folder / path for each in live for path in each.sizes}
        running = {each.incoming for each in live}
        total = 0
        for top, folders, names in os.walk(folder):
            at = Path(top)
            for name in [name for name in folders if name.startswith(_INCOMING)]:
                folders.remove(name)
                if at / name not in running:
                    shutil.rmtree(at / name, ignore_errors=True)
            total += sum(_size(at / name) for name in names if at / name not in apart)
        return total

    def remove(self, folder: Path) -> bool:
        """Remove a session folder; only while `counting`.

        Parameters
        ----------
        folder : Path
            Session folder.

        Returns
        -------
        bool
            False where somebody uses it.
        """
        with self._lock(self.lock_path(folder, "use"), fcntl.LOCK_EX, wait=False) as handle:
            if handle < 0:
                return False
            trash = self._state / "trash"
            make_folders(trash)
            # Renamed first, so that nobody ever sees half of it.
            with suppress(FileNotFoundError):
                folder.rename(trash / secrets.token_hex(6))
            # All of it: also what a process left that was killed here.
            shutil.rmtree(trash, ignore_errors=True)
            for above in folder.parents:
                if above == self.root or not _removed_empty(above):
                    break
            return True

    def is_ours_alone(self, hold: Hold) -> bool:
        """Tell whether nobody else uses the session that we hold. Only while `counting`.

        An upgrade gives the shared lock up for a moment; whoever would remove the folder then
        must be counting, which we are.
        """
        try:
            fcntl.flock(hold.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            return False
        finally:
            fcntl.flock(hold.handle, fcntl.LOCK_SH)
        return True

    def remove_file(self, folder: Path, path: str) -> None:
        """Remove one file of a session that nobody else uses."""
        (folder / path).unlink(missing_ok=True)
        self._note(folder, path).unlink(missing_ok=True)

    def reservations(self) -> list[Reservation]:
        """List the downloads that run now, in any process. Only while `counting`."""
        live = []
        for note in (self._state / "reserved").glob("*.json"):
            with self._lock(note, fcntl.LOCK_SH, wait=False) as handle:
                if handle >= 0:  # its owner is gone
                    note.unlink(missing_ok=True)
                    continue
            said = read_json(note)
            if said:
                live.append(Reservation(note.stem, self.root / said["folder"], said["sizes"]))
        return live

    @contextmanager
    def reserve(self, folder: Path, sizes: dict[str, int]) -> Iterator[Reservation]:
        """Say that a download will fill so much; call it while `counting`, go on after.

        Parameters
        ----------
        folder : Path
            Session folder.
        sizes : dict of str to int
            Bytes by path below it.

        Yields
        ------
        Reservation
            Its incoming folder is made, and removed at the end.
        """
        made = Reservation(secrets.token_hex(8), folder, sizes)
        note = self._state / "reserved" / f"{made.token}.json"
        with self._lock(note, fcntl.LOCK_EX) as handle:
            said = {"folder": str(folder.relative_to(self.root)), "sizes": sizes}
            os.pwrite(handle, json.dumps(said).encode(), 0)
            try:
                make_folders(made.incoming)
                yield made
            finally:
                shutil.rmtree(made.incoming, ignore_errors=True)
                note.unlink(missing_ok=True)

    @contextmanager
    def _lock(self, path: Path, how: int, *, wait: bool = True) -> Iterator[int]:
        """Lock a file; the handle is -1 where somebody else has it and we do not wait."""
        with explained(str(self.root)):
            make_folders(path.parent)
            # Not inherited by programs that we start: they would go on holding it.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield handle if self._locked(handle, how, wait) else -1
        finally:
            os.close(handle)

    def _locked(self, handle: int, how: int, wait: bool) -> bool:
        try:
            fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)
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

    def _note(self, folder: Path, path: str) -> Path:
        return folder / _FETCHED / f"{short_hash(path)}.json"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _removed_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # something is in it, or was put there just now
        return False
    return True
