"""Handles on what is in the store: cheap to make and to send to another process, loaded on use."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_assets.formats.code_in_data import refuse_code, refuse_code_in
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.errors import explained
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.model import MANIFEST, FileEntry, InputRef, Manifest, Pointer, checked_path
from neuro_assets.store.scratch import process_folder, require_space

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath


log = logging.getLogger(__name__)

_guard = threading.Lock()
_downloading: dict[Path, threading.Lock] = {}


class Stored:
    """One committed output.

    Parameters
    ----------
    store : StoreFiles
        Where it is.
    asset, key, version, attempt : str
        Which one.
    manifest : Manifest, optional
        Where it is at hand; else it is read at the first use.
    pointer : Pointer, optional
        Where one led here: outcome and digest are known without the manifest.
    copied_from : str
        `<asset>/<key>` whose pointer led here, where it lies in another output's folder.
    """

    def __init__(
        self,
        store: StoreFiles,
        asset: str,
        key: str,
        version: str,
        attempt: str,
        manifest: Manifest | None = None,
        pointer: Pointer | None = None,
        copied_from: str = "",
    ) -> None:
        self.store = store
        self.asset = asset
        self.key = key
        self.version = version
        self.attempt = attempt
        self._manifest = manifest
        self._copied_from = copied_from
        known = manifest or (None if copied_from else pointer)
        self._outcome = known.outcome if known else None
        self._digest = known.digest if known else ""

    def __repr__(self) -> str:
        return f"Stored({self.path})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and (self.store.url, self.path) == (
            other.store.url,
            other.path,
        )

    def __hash__(self) -> int:
        return hash((self.store.url, self.path))

    @property
    def path(self) -> str:
        """Folder of the attempt, relative to the store."""
        return f"{self.asset}/{self.key}/{self.version}/{self.attempt}"

    @property
    def files_path(self) -> str:
        """Folder of the files, relative to the store."""
        return self.manifest.stored_in or self.path

    @cached_property
    def ref(self) -> InputRef:
        """How a manifest names it as an input."""
        return InputRef(
            asset=self.asset, version=self.version, attempt=self.attempt, digest=self.digest
        )

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return self._digest or self.manifest.digest

    @property
    def manifest(self) -> Manifest:
        """What is known about it.

        Raises
        ------
        PermanentFailure
            When the manifest was removed, is damaged or another output's.
        """
        if self._copied_from:
            raise self._copied(self._copied_from)
        if self._manifest is None:
            found = self.store.read_manifest(self.asset, self.key, self.version, self.attempt)
            if found is None:
                raise self._deleted(MANIFEST)
            if is_copied(found, self.asset, self.key, self.version, self.attempt):
                raise self._copied(f"{found.asset}/{found.key}/{found.version}/{found.attempt}")
            self._manifest, self._outcome = found, found.outcome
        return self._manifest

    @property
    def outcome(self) -> Outcome:
        """Complete, skipped or failed."""
        return self._outcome if self._outcome is not None else self.manifest.outcome

    def is_intact(self) -> bool:
        """Tell whether it is committed, with every file there at its size."""
        try:
            found = self.store.read_manifest(self.asset, self.key, self.version, self.attempt)
        except PermanentFailure as error:
            log.warning("%s is not used: %s", self.path, error)
            return False
        if found is None or found.outcome not in (Outcome.COMPLETE, Outcome.SKIPPED):
            return False
        if is_copied(found, self.asset, self.key, self.version, self.attempt):
            return False
        self._manifest, self._outcome = found, found.outcome
        return self._first_fault(found.files) is None

    def check(self) -> None:
        """Make sure that every file is there at its size.

        Raises
        ------
        PermanentFailure
            Names the asset, the key and the first file that is not.
        """
        self._require(self.manifest.files)

    def file(self, name: str) -> UPath:
        """Locate one file, or a folder such as a Zarr array, where it is stored.

        Parameters
        ----------
        name : str
            Relative to the output, with `/`.

        Returns
        -------
        UPath
            Opens with fsspec's protocols where the store is remote.

        Raises
        ------
        PermanentFailure
            When the output never had it, or it was removed or cut since.
        """
        entries = self._below(name)
        self._require(entries)
        self._refuse_code(name, entries)
        return self.store.backend.locate(f"{self.files_path}/{name}")

    def has(self, name: str) -> bool:
        """Tell whether the output holds a file or a folder, by its manifest.

        Parameters
        ----------
        name : str
            Relative to the output, with `/`.

        Returns
        -------
        bool
            Nothing is read but the manifest.
        """
        return any(
            entry.path == name or entry.path.startswith(f"{name}/") for entry in self.manifest.files
        )

    def local(self) -> Path:
        """Give the output as a folder on the local disk, all files there at their sizes.

        Returns
        -------
        Path
            In a local store the output itself: read only, never write to it. From a remote store
            a copy, fetched once a process and removed when the process ends.

        Raises
        ------
        PermanentFailure
            When a file was removed or cut behind the platform's back, or the scratch folder has
            no room for the copy.
        TransientFailure
            When the connection broke.
        """
        root = self.store.backend.local_root
        if root is not None:
            self.check()
            refuse_code(root / self.files_path)
            return root / self.files_path
        own = process_folder(self.store.scratch) / "downloads" / _bucket_name(self.store.url)
        target = own / self.path
        with _guard:
            lock = _downloading.setdefault(target, threading.Lock())
        with lock:
            if not (target / MANIFEST).is_file():
                self._fetch(target)
                refuse_code(target)
        return target

    def table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read one of its tables.

        Parameters
        ----------
        name : str
            Name without `.parquet`.
        columns : list of str, optional
            Only these; a table that is read whole is compared with its checksum.

        Returns
        -------
        DataFrame
            The table.
        """
        import pandas as pd

        [entry] = self._below(f"{name}.parquet")
        path = f"{self.files_path}/{entry.path}"
        self._require([entry])
        if columns is None:
            data = self.store.backend.read(path)
            self._require_same(entry, hashlib.sha256(data).hexdigest())
            return pd.read_parquet(io.BytesIO(data))
        with explained(self.store.url), self.store.backend.open(path) as file:
            return pd.read_parquet(file, columns=columns)

    def _refuse_code(self, name: str, entries: list[FileEntry]) -> None:
        """Refuse what would run code when it is opened where it is stored."""
        backend, folder = self.store.backend, f"{self.files_path}/{name}"
        if len(entries) == 1 and entries[0].path == name:
            refuse_code_in(
                [name], lambda one: backend.open(f"{self.files_path}/{one}"), self.files_path
            )
        else:
            found = backend.entries(folder)
            refuse_code_in(found, lambda one: backend.open(f"{folder}/{one}"), folder)

    def _below(self, name: str) -> list[FileEntry]:
        try:
            checked_path(name)
        except ValueError as error:
            raise PermanentFailure(str(error)) from error
        entries = [
            entry
            for entry in self.manifest.files
            if entry.path == name or entry.path.startswith(f"{name}/")
        ]
        if not entries:
            tops = sorted({entry.path.split("/")[0] for entry in self.manifest.files})
            raise PermanentFailure(
                f"{self.asset} of {self.key} ({self.outcome.value}) has no {name!r}; it has: "
                f"{', '.join(tops) or 'no files'}"
            )
        return entries

    def _require(self, entries: list[FileEntry]) -> None:
        if fault := self._first_fault(entries):
            raise self._deleted(*fault)

    def _require_same(self, entry: FileEntry, sha256: str) -> None:
        """Refuse a file that was read whole and is not what was committed."""
        if sha256 != entry.sha256:
            raise self._deleted(entry.path, "is not what was committed (its checksum differs)")

    def _first_fault(self, entries: list[FileEntry]) -> tuple[str, str] | None:
        """Find a file that is missing or of another size."""
        if not entries:
            return None
        backend = self.store.backend
        if len(entries) == 1:
            one = backend.entry(f"{self.files_path}/{entries[0].path}")
            sizes: dict[str, int] = {entries[0].path: one.size} if one else {}
        else:
            top = _common_folder(entry.path for entry in entries)
            below = backend.entries(f"{self.files_path}/{top}" if top else self.files_path)
            sizes = {f"{top}/{path}" if top else path: e.size for path, e in below.items()}
        for entry in entries:
            size = sizes.get(entry.path)
            if size is None:
                return entry.path, "is missing"
            if size != entry.size:
                return entry.path, f"has {size} bytes instead of {entry.size}"
        return None

    def _copied(self, origin: str) -> PermanentFailure:
        return PermanentFailure(
            f"{self.path} in the store {self.store.url} is a copy of {origin}, or that was "
            f"renamed: run `neuro-assets verify --repair`, or move it away, then run `neuro-assets "
            f"run {self.key} --only {self.asset}`"
        )

    def _deleted(self, name: str, what: str = "is missing") -> PermanentFailure:
        return PermanentFailure(
            f"{self.asset} of {self.key}: the file {self.path}/{name} {what} in the store "
            f"{self.store.url}. It was deleted or changed behind the platform's back; restore it "
            f"or run `neuro-assets run {self.key} --force`"
        )

    def _fetch(self, target: Path) -> None:
        """Download beside the target and rename, so that a broken one is never taken for whole."""
        self.check()
        part = target.with_name(f".{target.name}.part")
        part.mkdir(parents=True, exist_ok=True)
        require_space(part, self.manifest.size_bytes, f"{self.asset} of {self.key}")
        entries = self.manifest.files
        try:
            self.store.backend.download(self.files_path, [entry.path for entry in entries], part)
        except FileNotFoundError as error:  # removed since the check above
            raise self._deleted(str(error)) from error
        for entry in entries:
            size = (part / entry.path).stat().st_size if (part / entry.path).is_file() else -1
            if size != entry.size:
                raise self._deleted(entry.path, f"arrived with {size} bytes, not {entry.size}")
            with (part / entry.path).open("rb") as file:
                self._require_same(entry, hashlib.file_digest(file, "sha256").hexdigest())
        (part / MANIFEST).write_bytes(self.manifest.to_json())
        part.replace(target)


def is_copied(manifest: Manifest, asset: str, key: str, version: str, attempt: str) -> bool:
    """Tell whether a manifest was committed for another output than the one it is found in.

    Parameters
    ----------
    manifest : Manifest
        As found.
    asset, key, version, attempt : str
        Names of the folders that hold it.

    Returns
    -------
    bool
        True where somebody copied or renamed a folder.
    """
    own = (manifest.asset, manifest.key, manifest.version, manifest.attempt)
    return own != (asset, key, version, attempt)


def _common_folder(paths: Iterable[str]) -> str:
    """Find the deepest folder that holds all of the paths; empty for the top."""
    parts = [path.split("/")[:-1] for path in paths]
    common: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common)


def _bucket_name(url: str) -> str:
    return url.removeprefix("s3://").replace("/", "_")
