"""Files that are not what the database says: remembered, so that they do not come for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from neuro_assets.registry.metadata import RemoteFile
from neuro_assets.store.local import make_folders, write_durable


class Refusals:
    """Notes about refused files; they outlive the session folder in the cache.

    Parameters
    ----------
    folder : Path
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def found(self, file: RemoteFile) -> str | None:
        """Tell what was found instead of a file when it was last asked for, as registered now."""
        note = read_json(self._note(file))
        same = (note.get("size"), note.get("md5")) == (file.size, file.md5)
        return str(note.get("found")) if same else None

    def add(self, file: RemoteFile, found: str) -> None:
        """Remember that a file is not what is registered.

        Parameters
        ----------
        file : RemoteFile
            As registered.
        found : str
            What the repository has, for people.
        """
        note = self._note(file)
        make_folders(note.parent)
        said = {"path": file.path, "size": file.size, "md5": file.md5, "found": found}
        write_durable(note, json.dumps(said).encode())

    def forget(self, file: RemoteFile) -> None:
        """Forget it, since the file is right now."""
        self._note(file).unlink(missing_ok=True)

    def _note(self, file: RemoteFile) -> Path:
        named = short_hash("\n".join((file.repository, file.dataset_id, file.path)))
        return self._folder / f"{named}.json"


def short_hash(text: str) -> str:
    """Make a name of fixed length out of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def read_json(path: Path) -> dict[str, Any]:
    """Read a note; one that is missing or damaged says nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
