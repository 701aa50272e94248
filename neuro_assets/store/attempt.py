"""One try at making an output: a private folder that becomes visible whole, or never.

The order of a commit is the order of a promise: files on the disk, then the manifest, then the
pointers. A process killed between any two of them leaves garbage or a committed output.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from neuro_assets.outcomes import NeuroAssetsError, Outcome, PermanentFailure, TransientFailure
from neuro_assets.store.digest import content_digest
from neuro_assets.store.errors import (
    WRITE_ERRORS,
    error_number,
    explain,
    explained,
)
from neuro_assets.store.local import make_folders, sync_path
from neuro_assets.store.locks import hold_folder
from neuro_assets.store.model import CURRENT, MANIFEST, FileEntry, Manifest, checked_path
from neuro_assets.store.pointers import adopt, new_attempt_id, readable_pointer
from neuro_assets.store.reader import StoreReader
from neuro_assets.store.scratch import temporary_folder
from neuro_assets.store.stored import Stored

log = logging.getLogger(__name__)

_THREADS = 4
_SETTLE_S = 2.0
"""How long two commits that saw each other wait for the other's pointer, where no lock exists."""


class Attempt:
    """A try in progress, used as a context manager.

    Parameters
    ----------
    store : StoreReader
        Where it will be committed.
    asset, key, version : str
        What is being made.
    counts_for : str
        The key that it will count for, where that is not its own: a recording of the session.

    Attributes
    ----------
    id : str
        Unique; sorts by time.
    folder : Path
        Empty local folder that the output is written to. In a local store it is the final
        place; for a remote one it is uploaded at commit.
    scratch : Path
        Local folder that is removed in any case.
    """

    def __init__(
        self, store: StoreReader, asset: str, key: str, version: str, counts_for: str = ""
    ) -> None:
        self._store = store
        self._counts_for = counts_for
        self.asset = asset
        self.key = key
        self.version = version
        self.id = new_attempt_id()
        self.stored: Stored | None = None
        self._before: set[str] = set()
        self._held: int | None = None

    @property
    def path(self) -> str:
        """Where it stands in the store."""
        return f"{self.asset}/{self.key}/{self.version}/{self.id}"

    def __enter__(self) -> Self:
        backend = self._store.backend
        with explained(backend.url):
            backend.require()
        self._before = set(self._store.attempts(self.asset, self.key, self.version))
        self.scratch = temporary_folder(self._store.scratch, "scratch")
        if backend.local_root is None:
            self.folder = temporary_folder(self._store.scratch, "output")
            return self
        self.folder = backend.local_root / self.path
        try:
            with explained(backend.url):
                make_folders(self.folder)
                self._held = hold_folder(self.folder)
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()
        if isinstance(error, Exception) and not isinstance(error, NeuroAssetsError):
            self._translate(error)

    def discard(self) -> None:
        """Remove the scratch folder, and what was not committed; harmless when done twice."""
        # What cannot be removed is invisible garbage for `gc`, and must not hide the real error.
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if self.stored is None or self._store.backend.local_root is None:
            with suppress(OSError):
                # First, where the commit broke off just behind it: what follows takes a while.
                (self.folder / MANIFEST).unlink()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _translate(self, error: Exception) -> None:
        """Say it in our words when the disk, not the step, was at fault."""
        name = getattr(error, "filename", None) if isinstance(error, OSError) else None
        # Without a file name, only a failed write surely happened in our two folders; HDF5 and
        # Zarr hand one on as an error of another type.
        if name is None and error_number(error) not in WRITE_ERRORS:
            return
        if isinstance(error, FileNotFoundError):
            return
        where = name or f"{self.folder} or the scratch folder {self.scratch}"
        if explanation := explain(error, str(where)):
            raise explanation from error

    def commit(self, manifest: Manifest, known: Mapping[str, str] | None = None) -> Stored:
        """Make the output visible: checksums, upload, manifest, pointers, in this order.

        Parameters
        ----------
        manifest : Manifest
            Complete or skipped. Attempt and files are filled in here; of a skipped one all
            files are removed first.
        known : mapping of str to str, optional
            See `neuro_assets.store.digest.content_digest`.

        Returns
        -------
        Stored
            This output; or, where another process committed the same version meanwhile, that
            one: this attempt's files are then removed.

        Raises
        ------
        PermanentFailure, TransientFailure
            When it could not be stored. Nothing of it is visible then.
        """
        self._require_mine(manifest)
        if manifest.outcome is Outcome.SKIPPED:
            self._empty()
        with explained(str(self.folder)):
            files = self._entries()
            digest = content_digest(self.folder, manifest, known or {})
        filled = {"attempt": self.id, "files": files, "digest": digest}
        manifest = manifest.model_copy(update=filled)
        stored = self._publish(manifest)
        adopt(self._store, stored, manifest.run_id, manifest.turn, self._counts_for)
        return stored

    def _require_mine(self, manifest: Manifest) -> None:
        if self.stored is not None:
            raise PermanentFailure(f"attempt {self.path} was committed already")
        if manifest.outcome not in (Outcome.COMPLETE, Outcome.SKIPPED):
            raise PermanentFailure(
                f"{self.asset} of {self.key} cannot be committed as {manifest.outcome.value}: "
                "a failure goes to Store.fail"
            )
        if (manifest.asset, manifest.key, manifest.version) != (
            self.asset,
            self.key,
            self.version,
        ):
            raise PermanentFailure(
                f"the manifest is of {manifest.asset}/{manifest.key}/{manifest.version}, the "
                f"attempt of {self.asset}/{self.key}/{self.version}"
            )

    def _empty(self) -> None:
        with explained(str(self.folder)):
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _entries(self) -> list[FileEntry]:
        """Checksum every file, and in a local store push it to the disk."""
        durable = self._store.backend.local_root is not None
        names = sorted(_plain_files(self.folder))
        with ThreadPoolExecutor(_THREADS) as pool:
            entries = list(pool.map(lambda name: _entry(self.folder, name, durable), names))
        if durable:
            for path in [self.folder, *(p for p in self.folder.rglob("*") if p.is_dir())]:
                sync_path(path)
        return entries

    def _publish(self, manifest: Manifest) -> Stored:
        """Write the manifest, unless somebody was faster."""
        backend = self._store.backend
        if backend.local_root is None:
            backend.require()
            if rival := self._rival():
                return rival
            backend.upload(self.folder, [entry.path for entry in manifest.files], self.path)
        with backend.lock(f"{self.asset}/{self.key}") as locked:
            rival = self._rival()
            if rival is None:
                self._require_whole(manifest)
                backend.write(f"{self.path}/{MANIFEST}", manifest.to_json())
        if rival is None and not locked:
            rival = self._settle()
        if rival is not None:
            self._withdraw()
            return rival
        self.stored = self._store.stored(self.asset, self.key, self.version, self.id, manifest)
        return self.stored

    def _require_whole(self, manifest: Manifest) -> None:
        """Refuse to commit files that somebody removed meanwhile."""
        found = self._store.backend.entries(self.path)
        for entry in manifest.files:
            if entry.path not in found or found[entry.path].size != entry.size:
                raise TransientFailure(
                    f"{self.path}/{entry.path} was removed or changed before it was committed"
                )

    def _rival(self) -> Stored | None:
        """Find an intact commit of this version that was made after this attempt began."""
        for attempt in self._store.attempts(self.asset, self.key, self.version):
            if attempt in self._before or attempt == self.id:
                continue
            stored = self._store.stored(self.asset, self.key, self.version, attempt)
            if stored.is_intact():
                return stored
        return None

    def _settle(self) -> Stored | None:
        """Agree with a commit that happened at the same moment, in a place without locks.

        Whoever writes its manifest second sees the first one, because listings are consistent.
        If the first did not see the second, it has pointed `current.json` at itself meanwhile, and
        wins; if both saw each other, neither has, and the smaller name wins for both. Either way
        every attempt is whole: being wrong costs a duplicate, never a mixture.
        """
        rival = self._rival()
        if rival is None:
            return None
        time.sleep(_SETTLE_S)
        current = readable_pointer(self._store, f"{self.asset}/{self.key}/{CURRENT}")
        if current is not None and current.version == self.version:
            if current.attempt == self.id:
                return None
            if current.attempt not in self._before:
                return self._store.stored(self.asset, self.key, self.version, current.attempt)
        rival = self._rival()
        return rival if rival is not None and rival.attempt < self.id else None

    def _withdraw(self) -> None:
        """Make this attempt invisible.

        A remote one's files stay until `gc`: a reader who saw its manifest in the last two
        seconds can still finish.
        """
        backend = self._store.backend
        backend.remove(f"{self.path}/{MANIFEST}")
        log.info("%s was committed by another process meanwhile; using that one", self.path)


def _plain_files(folder: Path) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(top) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise PermanentFailure(
                    f"the output holds {relative!r}, a link or a special file: the store keeps "
                    "plain files only; write a copy"
                )
            if path.is_file():
                yield _storable(relative)


def _storable(relative: str) -> str:
    if relative == MANIFEST:
        raise PermanentFailure(f"the output holds a file named {MANIFEST}: the store writes it")
    try:
        relative.encode()
        return checked_path(relative)
    except ValueError as error:  # UnicodeEncodeError is one
        raise PermanentFailure(
            f"the output holds a file name that no store can keep: {relative!r}"
        ) from error


def _entry(folder: Path, name: str, durable: bool) -> FileEntry:
    path = folder / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        if durable:
            os.fsync(file.fileno())
    return FileEntry(path=name, size=size, sha256=digest)
