"""What the store needs of a place that keeps bytes.

The two places are `local` (a folder) and `s3`; `files` chooses. Only features that every one of
them has are asked for: no conditional write, no object version, no metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.json_values import parsed

if TYPE_CHECKING:
    from upath import UPath

IDENTITY_FILE = "store.json"
"""Identity of the store, at its top."""


@dataclass(frozen=True)
class Entry:
    """Size and age of one stored file.

    Parameters
    ----------
    size : int
        Bytes.
    modified : float
        Seconds since 1970, by the clock of the place.
    tag : str
        Another one after every write.
    """

    size: int
    modified: float
    tag: str


class Backend(Protocol):
    """A place that keeps files under relative paths with `/`.

    Errors of the surroundings come out as `PermanentFailure` or `TransientFailure`; a missing
    file as `FileNotFoundError`.
    """

    url: str
    local_root: Path | None
    guarded: str
    """Identity of the store that this place must be; empty before it is known."""

    def require(self) -> None:
        """Refuse to go on once the guarded store, or the right one, is not there any more."""

    def read(self, path: str) -> bytes:
        """Read a small file whole."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file: whole or not at all, durable on return, replacing what was there."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a small file if there is none; False where there was one."""

    def create_exclusively(self, path: str, data: bytes) -> bool:
        """Create in one request, left to the place alone; a server may ignore the condition."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; hidden ones left out; empty where there is no folder."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """All files at any depth below a folder, by their path relative to it."""

    def entry(self, path: str) -> Entry | None:
        """Size and age of one file, None where there is none."""

    def remove(self, path: str) -> None:
        """Remove one file, if it is there."""

    def remove_tree(self, folder: str) -> None:
        """Remove a folder with all that is in it, if it is there."""

    def locate(self, path: str) -> UPath:
        """Path object that other libraries can open."""

    def open(self, path: str) -> BinaryIO:
        """Open for reading in pieces."""

    def lock(self, folder: str) -> AbstractContextManager[bool]:
        """Keep other writers out of a folder; gives False where the place has no locks."""

    def upload(self, source: Path, names: Sequence[str], folder: str) -> None:
        """Send files of a local folder; sizes are checked on the other side."""

    def download(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Fetch files into a local folder."""

    def abandoned_uploads(self, older_than_s: float, *, remove: bool) -> list[str]:
        """Paths of transfers that were never finished and that the place still keeps."""


def require_identity(data: bytes, expected: str, url: str) -> None:
    """Refuse a place that is by now another store than the one that this process works with.

    Parameters
    ----------
    data : bytes
        Content of the identity file.
    expected, url : str
        The store's identity and address.

    Raises
    ------
    PermanentFailure
        When it is another one's, or damaged.
    """
    try:
        found = parsed(data).get("id")
    except (ValueError, AttributeError):
        found = None
    if found != expected:
        raise PermanentFailure(
            f"{url} was the store {expected} and is {found or 'damaged'} now: mount the right one, "
            "then run the step again"
        )
