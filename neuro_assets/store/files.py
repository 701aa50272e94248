"""The store as a place with an address: its backend, its manifests and its small JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.backend import Backend
from neuro_assets.store.json_values import parsed, pretty
from neuro_assets.store.local import LocalBackend
from neuro_assets.store.model import MANIFEST, Manifest, Pointer, checked_name

_RESTORED = "restore it from a backup, or remove it and run the recording again"
_MENDED = (
    "run `neuro-assets verify --repair`, which lets an intact attempt count or makes the output "
    "again"
)


def open_backend(url: str, storage_options: dict[str, Any] | None) -> Backend:
    """Choose the backend of an address.

    Parameters
    ----------
    url : str
        A folder, `file://...` or `s3://bucket/prefix`.
    storage_options : dict or None
        Options of s3fs: `key`, `secret`, `client_kwargs`, ...

    Returns
    -------
    Backend
        Not yet connected.

    Raises
    ------
    PermanentFailure
        When the address is of no known kind.
    """
    if url.startswith("s3://"):
        from neuro_assets.store.s3 import S3Backend

        return S3Backend(url, storage_options or {})
    folder = url.removeprefix("file://")
    if "://" in folder:
        raise PermanentFailure(
            f"the store's address {url!r} is neither a folder nor s3://bucket/prefix: correct it "
            "in lab.yaml"
        )
    return LocalBackend(Path(folder))


class StoreFiles:
    """What handles, leases and tries need of a store; parameters as in `store.Store`."""

    def __init__(
        self,
        url: str | Path,
        *,
        storage_options: dict[str, Any] | None = None,
        scratch: Path | None = None,
        guarded: str = "",
    ) -> None:
        self._options = storage_options
        self.scratch = Path(scratch) if scratch is not None else None
        self.backend: Backend = open_backend(str(url), storage_options)
        self.backend.guarded = guarded
        self.url = self.backend.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "storage_options": self._options,
            "scratch": self.scratch,
            "guarded": self.backend.guarded,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def is_local(self) -> bool:
        """True for a folder."""
        return self.backend.local_root is not None

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
            raise self.damaged(path, _MENDED) from error

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
            return parsed(self.backend.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self.damaged(path) from error

    def read_pointer(self, asset: str, key: str, name: str) -> Pointer | None:
        """Read `current.json`, `failure.json` or a run's pointer; None where there is none."""
        path = f"{checked_name(asset, 'asset name')}/{checked_name(key, 'key')}/{name}"
        try:
            return Pointer.model_validate_json(self.backend.read(path))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise self.damaged(path, _MENDED) from error

    def write_json_atomic(self, path: str, value: Any) -> None:
        """Replace a JSON file: a reader sees the old content or the new one.

        Parameters
        ----------
        path : str
            Relative to the store.
        value : Any
            See `neuro_assets.store.json_values.jsonable`.
        """
        self.backend.write(path, pretty(value))

    def create_json(self, path: str, value: Any) -> bool:
        """Write a JSON file if there is none.

        Parameters
        ----------
        path : str
            Relative to the store.
        value : Any
            See `neuro_assets.store.json_values.jsonable`.

        Returns
        -------
        bool
            False where another writer was first. On a server without conditional creation the
            last of several at the same moment may replace the first.
        """
        return self.backend.create(path, pretty(value))

    def damaged(self, path: str, advice: str = _RESTORED) -> PermanentFailure:
        """Say what to do about a file that cannot be read."""
        return PermanentFailure(f"{path} in the store {self.url} is damaged: {advice}")
