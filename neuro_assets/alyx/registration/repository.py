"""The data repository that results are copied to: a folder or a prefix on S3.

A file appears there whole or not at all, and is read back before it is registered.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.errors import explained
from neuro_assets.store.local import make_folders, sync_path
from neuro_assets.store.model import checked_path

if TYPE_CHECKING:
    from neuro_assets.config import LabConfig
    from neuro_assets.store.backend import Backend


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
    from neuro_assets.store.files import open_backend
    from neuro_assets.store.opening import S3_SCHEME, s3_options

    name = config.alyx.write_repository
    if name is None:
        return None
    url = config.alyx.repositories[name]
    options = s3_options(config.store) if url.startswith(S3_SCHEME) else None
    return WriteRepository(name, open_backend(url, options))


class WriteRepository:
    """Where results are copied to.

    Parameters
    ----------
    name : str
        Its name in Alyx.
    backend : Backend
        The folder or prefix that holds the subjects; a folder has to be there.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    def __repr__(self) -> str:
        return f"WriteRepository({self.name!r}, {self._backend.url!r})"

    def size(self, path: str) -> int | None:
        """Get the size of a file.

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
            The root is not there, so that nothing is known.
        """
        root = self._backend.local_root
        # Never made: a folder on the mount point of a disk that is away would swallow the files.
        if root is not None and not root.is_dir():
            raise PermanentFailure(
                f"{root}, the place of data repository {self.name}, is not there: mount it, or "
                "correct alyx.repositories in lab.yaml"
            )
        try:
            entry = self._backend.entry(checked_path(path))
        except ValueError as error:  # it may be what a database says
            raise PermanentFailure(
                f"a file record in Alyx is not to be followed: {error}"
            ) from error
        return None if entry is None else entry.size

    def put(self, source: Path, path: str, size: int, md5: str) -> bool:
        """Copy a file there, and read it back; in a folder before it gets its name.

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
            The root is not there.
        TransientFailure
            The source is not what it was, or the copy not like it.
        """
        if self.size(path) == size and self._md5(path) == md5:
            return False
        folder, _, name = path.rpartition("/")
        if (root := self._backend.local_root) is None:
            with tempfile.TemporaryDirectory(prefix="neuro_assets-upload-") as place:
                # Under its final name, which the upload keeps.
                (Path(place) / name).symlink_to(source.absolute())
                self._backend.upload(Path(place), [name], folder)
            self._compare(path, path, size, md5)
            return True
        part = f"{folder}/.{secrets.token_hex(6)}.part"
        with explained(str(root)):
            make_folders(root / folder)
            try:
                shutil.copyfile(source, root / part)
                sync_path(root / part)
                self._compare(part, path, size, md5)
                (root / part).replace(root / path)
            finally:
                (root / part).unlink(missing_ok=True)
            sync_path(root / folder)
        return True

    def _compare(self, arrived: str, path: str, size: int, md5: str) -> None:
        found = (self.size(arrived), self._md5(arrived))
        if found != (size, md5):
            raise TransientFailure(
                f"{self.name}:{path} arrived with {found[0]} bytes and MD5 {found[1]}, not {size} "
                f"and {md5}; nothing was registered: run it again, and check disk and network if "
                "it stays so"
            )

    def _md5(self, path: str) -> str:
        with explained(self._backend.url), self._backend.open(path) as file:
            # Files of both backends have `readinto`, which `BinaryIO` does not promise.
            return hashlib.file_digest(file, "md5").hexdigest()  # type: ignore[arg-type]


def md5_of(path: Path) -> str:
    """Hash a local file as Alyx does; gives 32 hexadecimal digits."""
    with explained(str(path)), path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
