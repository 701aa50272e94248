"""The data repository that results are copied to: a folder or a prefix on S3.

A file appears there whole or not at all, and is read back before anybody is told that it is there.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.errors import explained
from neuro_assets.store.local import make_folders, sync_path
from neuro_assets.store.model import checked_path

if TYPE_CHECKING:
    from neuro_assets.config import LabConfig
    from neuro_assets.store.backend import Backend

_CHUNK = 1 << 20


class WriteRepository(Protocol):
    """Where results are copied to."""

    name: str

    def size(self, path: str) -> int | None:
        """Bytes of a file, None where there is none."""

    def put(self, source: Path, path: str, size: int, md5: str) -> bool:
        """Copy a file there; False where it was there already."""


def write_repository(config: LabConfig) -> WriteRepository | None:
    """Open the repository of a configuration.

    Parameters
    ----------
    config : LabConfig
        `alyx.write_repository` and its place under `alyx.repositories`; for one on S3, endpoint
        and region are those of `store`, and credentials come from the environment.

    Returns
    -------
    WriteRepository or None
        None where none is named; nothing is connected yet.
    """
    from neuro_assets.store.opening import open_store

    name = config.alyx.write_repository
    if name is None:
        return None
    url = config.alyx.repositories[name]
    if not url.startswith("s3://"):
        return FolderRepository(name, Path(url))
    store = open_store(config.store.model_copy(update={"url": url}))
    return S3Repository(name, store.backend)


class FolderRepository:
    """A folder, which has to be there.

    Parameters
    ----------
    name : str
        Its name in Alyx.
    root : Path
        Folder that holds the subjects.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def __repr__(self) -> str:
        return f"FolderRepository({self.name!r}, {str(self._root)!r})"

    def size(self, path: str) -> int | None:
        """Tell the size of a file.

        Parameters
        ----------
        path : str
            Below the root.

        Returns
        -------
        int or None
            Bytes; None where there is none.

        Raises
        ------
        PermanentFailure
            The root is not there, so that nothing can be said.
        """
        self._require_root()
        target = self._root / _inside(path)
        with explained(str(self._root)):
            return target.stat().st_size if target.is_file() else None

    def put(self, source: Path, path: str, size: int, md5: str) -> bool:
        """Copy a file beside its final place, check it there, and rename it.

        Parameters
        ----------
        source : Path
            The file.
        path : str
            Where it goes, below the root.
        size, md5 : int, str
            What it must be.

        Returns
        -------
        bool
            False where the same file was there already.

        Raises
        ------
        PermanentFailure
            The root is not there, or the source is not what it was.
        TransientFailure
            The copy is not like the source.
        """
        if self.size(path) == size and self._md5(self._root / path) == md5:
            return False
        target = self._root / path
        with explained(str(self._root)):
            make_folders(target.parent)
            part = target.with_name(f".{secrets.token_hex(6)}.part")
            try:
                shutil.copyfile(source, part)
                sync_path(part)
                _compare(f"{self.name}:{path}", part.stat().st_size, self._md5(part), size, md5)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            sync_path(target.parent)
        return True

    def _require_root(self) -> None:
        # Never made: a folder on the mount point of a disk that is away would swallow the files.
        if not self._root.is_dir():
            raise PermanentFailure(
                f"{self._root}, the place of data repository {self.name}, is not there: mount it, "
                "or correct alyx.repositories in lab.yaml"
            )

    def _md5(self, path: Path) -> str:
        with explained(str(self._root)), path.open("rb") as file:
            return _md5_of(file)


class S3Repository:
    """A prefix of a bucket, where an upload is visible only when it is whole.

    Parameters
    ----------
    name : str
        Its name in Alyx.
    backend : Backend
        The prefix.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    def __repr__(self) -> str:
        return f"S3Repository({self.name!r}, {self._backend.url!r})"

    def size(self, path: str) -> int | None:
        """Tell the size of a file; as `FolderRepository.size`."""
        entry = self._backend.entry(_inside(path))
        return None if entry is None else entry.size

    def put(self, source: Path, path: str, size: int, md5: str) -> bool:
        """Upload a file and read it back; as `FolderRepository.put`."""
        if self.size(path) == size and self._md5(path) == md5:
            return False
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="neuro_assets-upload-") as place:
            # Under its final name, which the upload keeps.
            (Path(place) / name).symlink_to(source.absolute())
            self._backend.upload(Path(place), [name], folder)
        _compare(f"{self.name}:{path}", self.size(path), self._md5(path), size, md5)
        return True

    def _md5(self, path: str) -> str:
        with explained(self._backend.url), self._backend.open(path) as file:
            return _md5_of(file)


def md5_of(path: Path) -> str:
    """Hash a local file as Alyx does.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    with explained(str(path)), path.open("rb") as file:
        return _md5_of(file)


def _inside(path: str) -> str:
    """Refuse a path that leaves the repository: it may be what a database says."""
    try:
        return checked_path(path)
    except ValueError as error:
        raise PermanentFailure(f"a file record in Alyx is not to be followed: {error}") from error


def _md5_of(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _compare(where: str, size: int | None, md5: str, wanted_size: int, wanted_md5: str) -> None:
    if (size, md5) != (wanted_size, wanted_md5):
        raise TransientFailure(
            f"{where} arrived with {size} bytes and MD5 {md5}, not {wanted_size} and {wanted_md5}; "
            "nothing was registered: run it again, and check disk and network if it stays so"
        )
