"""Reading the pointers of very many keys, without asking for what is not there."""

from __future__ import annotations

import os
import stat

from neuro_assets.store.backend import Backend
from neuro_assets.store.regular import read_regular

FileState = tuple[int, int, int, int]
"""Modification, change of the entry, inode, size: another one after every write."""

UNCERTAIN: FileState = (0, 1 << 63, 0, 0)
"""What is no plain file, or cannot be looked at: as if it changed after every look."""


class ListedBackend:
    """Reads from a server for one look over all keys, after one listing an asset.

    Parameters
    ----------
    backend : Backend
        Where the files are; what is stored later may be missed.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._keys: dict[str, set[str]] = {}

    def require(self) -> None:
        """See `Backend.require`."""
        self._backend.require()

    def read(self, path: str) -> bytes:
        """See `Backend.read`."""
        asset, _, rest = path.partition("/")
        if asset not in self._keys:
            self._keys[asset] = set(self._backend.names(asset))
        if rest.partition("/")[0] not in self._keys[asset]:
            raise FileNotFoundError(path)
        return self._backend.read(path)


class TracedBackend:
    """Reads from a folder and remembers in which state each file was before it was read.

    Parameters
    ----------
    backend : Backend
        Of a folder. Nothing but reading is passed on, so that nothing escapes the trace. Whether
        the store is still there is not asked for each missing file: `require` it after a look.

    Attributes
    ----------
    seen : dict of str to (FileState or None)
        By path; None where there was no file. A path that stands here is not looked at again.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._root = str(backend.local_root)
        self.seen: dict[str, FileState | None] = {}

    def look(self, path: str) -> FileState | None:
        """Tell the state of a file, and remember it."""
        try:
            found = os.stat(f"{self._root}/{path}")  # noqa: PTH116  a path object costs as much
        except (FileNotFoundError, NotADirectoryError):
            state = None
        except OSError:
            state = UNCERTAIN
        else:
            state = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
            state = state if stat.S_ISREG(found.st_mode) else UNCERTAIN
        self.seen[path] = state
        return state

    def state(self, path: str) -> FileState | None:
        """Tell the state of a file as it was at the first look."""
        return self.seen[path] if path in self.seen else self.look(path)

    def require(self) -> None:
        """See `Backend.require`."""
        self._backend.require()

    def read(self, path: str) -> bytes:
        """See `Backend.read`."""
        state = self.state(path)
        if state is None:
            raise FileNotFoundError(path)
        if state is not UNCERTAIN:
            try:
                return read_regular(f"{self._root}/{path}")
            except FileNotFoundError:
                raise
            except OSError:
                pass
        return self._backend.read(path)  # which says what is wrong
