"""The object store: what is written, made visible, found again and removed, on a folder or S3.

Nobody but this package of modules (`store*`, `s3`) writes into it. The layout::

    <asset>/<key>/<version>/<attempt>/...files...
    <asset>/<key>/<version>/<attempt>/manifest.json   written last
    <asset>/<key>/current.json                        which version and attempt count
    <asset>/<key>/failure.json                        the last failure, where nothing newer exists
    <asset>/<key>/runs/<run>.json                     what a run made
    registry/<key>.json    leases/<name>.json

A committed folder is never written again. Nothing here imports dagster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.resources.store_attempt import Attempt, new_attempt_id
from neuro_assets.resources.store_backend import Backend, open_backend
from neuro_assets.resources.store_lease import Lease
from neuro_assets.resources.store_model import (
    MANIFEST,
    WHOLE_LAB,
    FileEntry,
    InputRef,
    Manifest,
    Pointer,
    checked_name,
    pretty,
    version_of,
)
from neuro_assets.resources.store_stored import Stored
from neuro_assets.resources.store_upkeep import Defect, Garbage, collect_garbage, find_defects

__all__ = [
    "WHOLE_LAB",
    "Attempt",
    "Defect",
    "FileEntry",
    "Garbage",
    "InputRef",
    "Lease",
    "Manifest",
    "Pointer",
    "Store",
    "Stored",
    "version_of",
]

RESERVED = frozenset({"registry", "leases", "tables"})
"""Top folders that are no assets."""


class Store:
    """A folder or `s3://` prefix with the outputs of a lab. Cheap to make; can be pickled.

    Parameters
    ----------
    url : str or Path
        A folder, or `s3://bucket/prefix`.
    storage_options : dict, optional
        For S3: options of s3fs (`key`, `secret`, `client_kwargs={"endpoint_url": ...}`). Never
        shown nor logged.
    scratch : Path, optional
        Local folder for temporary files and downloads; the system's by default.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        storage_options: dict[str, Any] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._options = storage_options
        self.scratch = Path(scratch) if scratch is not None else None
        self.backend: Backend = open_backend(str(url), storage_options)
        self.url = self.backend.url

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "storage_options": self._options, "scratch": self.scratch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def is_local(self) -> bool:
        """True for a folder."""
        return self.backend.local_root is not None

    # -- writing ------------------------------------------------------------------------------

    def attempt(self, asset: str, key: str, version: str) -> Attempt:
        """Begin a try at an output.

        Parameters
        ----------
        asset, key, version : str
            What is going to be made.

        Returns
        -------
        Attempt
            A context manager. Leaving it without a commit removes everything.

        Raises
        ------
        PermanentFailure
            When a name is not safe, or the store cannot be written.
        """
        _check_names(asset, key, version)
        return Attempt(self, asset, key, version)

    def adopt(self, stored: Stored, run_id: str | None = None) -> None:
        """Make an existing output the one that counts: reuse instead of computing again.

        Parameters
        ----------
        stored : Stored
            A committed output.
        run_id : str, optional
            The run that uses it; its later steps then find it as the run's own.
        """
        pointer = Pointer(version=stored.version, attempt=stored.attempt, outcome=stored.outcome)
        home = f"{stored.asset}/{stored.key}"
        if run_id:
            path = f"{home}/runs/{checked_name(run_id, 'run id')}.json"
            self.backend.write(path, pointer.to_json())
        self.backend.write(f"{home}/current.json", pointer.to_json())

    def fail(self, manifest: Manifest) -> None:
        """Record that an output could not be made. What counted before goes on counting.

        Parameters
        ----------
        manifest : Manifest
            With outcome `failed` and the error.
        """
        if manifest.outcome is not Outcome.FAILED:
            raise PermanentFailure(f"{manifest.outcome.value} is not a failure: commit it instead")
        _check_names(manifest.asset, manifest.key, manifest.version)
        attempt = new_attempt_id()
        home = f"{manifest.asset}/{manifest.key}"
        filled = manifest.model_copy(update={"attempt": attempt, "files": []})
        path = f"{home}/{manifest.version}/{attempt}/{MANIFEST}"
        self.backend.write(path, filled.to_json())
        pointer = Pointer(version=manifest.version, attempt=attempt, outcome=Outcome.FAILED)
        self.backend.write(f"{home}/failure.json", pointer.to_json())

    # -- finding ------------------------------------------------------------------------------

    def current(self, asset: str, key: str) -> Stored | None:
        """Find the output that counts.

        Parameters
        ----------
        asset, key : str
            Which output.

        Returns
        -------
        Stored or None
            None where nothing was ever committed.
        """
        return self._follow(asset, key, "current.json")

    def produced_by(self, run_id: str, asset: str, key: str) -> Stored | None:
        """Find what one run made or reused.

        Parameters
        ----------
        run_id : str
            Dagster's run.
        asset, key : str
            Which output.

        Returns
        -------
        Stored or None
            None where that run has not made it (yet).
        """
        return self._follow(asset, key, f"runs/{checked_name(run_id, 'run id')}.json")

    def committed(self, asset: str, key: str, version: str) -> Stored | None:
        """Find a commit of exactly this version that can be used again.

        Parameters
        ----------
        asset, key, version : str
            Which output.

        Returns
        -------
        Stored or None
            Complete or skipped, all files there at their sizes; the one that counts where it
            is of this version, else the newest.
        """
        _check_names(asset, key, version)
        current = self.current(asset, key)
        attempts = self.attempts(asset, key, version)[::-1]
        if current is not None and current.version == version and current.attempt in attempts:
            attempts.remove(current.attempt)
            attempts.insert(0, current.attempt)
        handles = (self.stored(asset, key, version, attempt) for attempt in attempts)
        return next((stored for stored in handles if stored.is_intact()), None)

    def failure(self, asset: str, key: str) -> Manifest | None:
        """Find the last failure, if nothing was committed after it.

        Parameters
        ----------
        asset, key : str
            Which output.

        Returns
        -------
        Manifest or None
            With the error.
        """
        failed = self._pointer(asset, key, "failure.json")
        if failed is None:
            return None
        current = self._pointer(asset, key, "current.json")
        if current is not None and current.at > failed.at:
            return None
        return self.read_manifest(asset, key, failed.version, failed.attempt)

    def assets(self) -> list[str]:
        """List the assets that have anything stored.

        Returns
        -------
        list of str
            Sorted names.
        """
        return [name for name in self.backend.names("") if name not in RESERVED]

    def keys(self, asset: str) -> list[str]:
        """List the keys of which an asset has anything stored, failures included.

        Parameters
        ----------
        asset : str
            Name of the asset.

        Returns
        -------
        list of str
            Sorted keys.
        """
        return self.backend.names(checked_name(asset, "asset name"))

    def attempts(self, asset: str, key: str, version: str) -> list[str]:
        """List the attempts with a manifest, oldest first, failures included.

        Parameters
        ----------
        asset, key, version : str
            Which output.

        Returns
        -------
        list of str
            Their ids.
        """
        folder = f"{asset}/{key}/{version}"
        return [
            name
            for name in self.backend.names(folder)
            if self.backend.entry(f"{folder}/{name}/{MANIFEST}") is not None
        ]

    def stored(
        self, asset: str, key: str, version: str, attempt: str, manifest: Manifest | None = None
    ) -> Stored:
        """Make a handle without looking whether there is anything.

        Parameters
        ----------
        asset, key, version, attempt : str
            Which one.
        manifest : Manifest, optional
            Where it is at hand.

        Returns
        -------
        Stored
            The handle.
        """
        _check_names(asset, key, version)
        checked_name(attempt, "attempt")
        return Stored(self, asset, key, version, attempt, manifest)

    def read_manifest(self, asset: str, key: str, version: str, attempt: str) -> Manifest | None:
        """Read what is known about an attempt.

        Parameters
        ----------
        asset, key, version, attempt : str
            Which one.

        Returns
        -------
        Manifest or None
            None where there is none, that is, where nothing was committed.

        Raises
        ------
        PermanentFailure
            When the file is damaged.
        """
        path = f"{asset}/{key}/{version}/{attempt}/{MANIFEST}"
        try:
            return Manifest.model_validate_json(self.backend.read(path))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise self._damaged(path) from error

    # -- upkeep -------------------------------------------------------------------------------

    def verify(
        self,
        asset: str | None = None,
        key: str | None = None,
        *,
        progress: Callable[[float, str], None] | None = None,
    ) -> list[Defect]:
        """Read every committed file again and compare it with its checksum.

        Parameters
        ----------
        asset, key : str, optional
            Only these.
        progress : callable, optional
            Called with the fraction done and a few words.

        Returns
        -------
        list of Defect
            Empty where all is well.
        """
        return find_defects(self, asset, key, progress)

    def gc(self, *, older_than_h: float = 24.0, dry_run: bool = True) -> list[Garbage]:
        """Find, and if asked remove, what no reader can see or need.

        Parameters
        ----------
        older_than_h : float
            Hours since the last write to it; younger things may be in the making.
        dry_run : bool
            Only list.

        Returns
        -------
        list of Garbage
            What is (or was) there.
        """
        return collect_garbage(self, timedelta(hours=older_than_h), dry_run=dry_run)

    # -- small shared files -------------------------------------------------------------------

    def read_json(self, path: str) -> Any | None:
        """Read a JSON file of the registry, the leases or a pointer.

        Parameters
        ----------
        path : str
            Relative to the store.

        Returns
        -------
        Any or None
            None where there is no file.

        Raises
        ------
        PermanentFailure
            When the file is damaged.
        """
        try:
            return json.loads(self.backend.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(path) from error

    def write_json_atomic(self, path: str, value: Any) -> None:
        """Replace a JSON file: a reader sees the old content or the new one.

        Parameters
        ----------
        path : str
            Relative to the store.
        value : Any
            See `neuro_assets.resources.store_model.jsonable`.
        """
        self.backend.write(path, pretty(value))

    def create_json(self, path: str, value: Any) -> bool:
        """Write a JSON file if there is none.

        Parameters
        ----------
        path : str
            Relative to the store.
        value : Any
            See `neuro_assets.resources.store_model.jsonable`.

        Returns
        -------
        bool
            False where another writer was first. In a folder exactly one of several wins; on S3
            the last of several at the same moment may replace the first.
        """
        return self.backend.create(path, pretty(value))

    def lease(self, name: str, seconds: float) -> Lease:
        """Ask for the right to do something alone for a while.

        Parameters
        ----------
        name : str
            What for.
        seconds : float
            When the right ends if its holder is not heard of.

        Returns
        -------
        Lease
            Not yet acquired.
        """
        return Lease(self, name, seconds)

    # -- inside -------------------------------------------------------------------------------

    def _pointer(self, asset: str, key: str, name: str) -> Pointer | None:
        path = f"{checked_name(asset, 'asset name')}/{checked_name(key, 'key')}/{name}"
        found = self.read_json(path)
        if found is None:
            return None
        try:
            return Pointer.model_validate(found)
        except ValidationError as error:
            raise self._damaged(path) from error

    def _follow(self, asset: str, key: str, name: str) -> Stored | None:
        found = self._pointer(asset, key, name)
        if found is None:
            return None
        checked_name(found.version, "version")
        return Stored(
            self, asset, key, found.version, found.attempt, outcome=Outcome(found.outcome)
        )

    def _damaged(self, path: str) -> PermanentFailure:
        return PermanentFailure(
            f"{path} in the store {self.url} is damaged: restore it from a backup, or remove it "
            "and run the recording again"
        )


def _check_names(asset: str, key: str, version: str) -> None:
    checked_name(asset, "asset name")
    checked_name(key, "key")
    checked_name(version, "version")
    if asset in RESERVED or version == "runs":
        raise PermanentFailure(f"{asset}/{key}/{version}: the name is reserved by the store")
