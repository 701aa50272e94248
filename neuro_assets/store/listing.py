"""Reading the pointers of very many keys: one listing an asset instead of a miss for each key."""

from __future__ import annotations

from typing import Any

from neuro_assets.store.backend import Backend


class ListedBackend:
    """A backend for one look over all keys; what is stored later may be missed.

    Parameters
    ----------
    backend : Backend
        Does everything else.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._keys: dict[str, set[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def read(self, path: str) -> bytes:
        """See `Backend.read`."""
        asset, _, rest = path.partition("/")
        if asset not in self._keys:
            self._keys[asset] = set(self._backend.names(asset))
        if rest.partition("/")[0] not in self._keys[asset]:
            raise FileNotFoundError(path)
        root = self._backend.local_root
        if root is None:
            return self._backend.read(path)
        try:
            with open(f"{root}/{path}", "rb") as file:  # noqa: PTH123  a path object costs as much
                return file.read()
        except FileNotFoundError:
            raise
        except OSError:
            return self._backend.read(path)  # which says what is wrong
