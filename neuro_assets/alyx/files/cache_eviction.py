"""Room in the cache: who has to go so that a download fits, and who may not.

Decides before anything is downloaded. Nothing here moves a byte or knows a server.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from neuro_assets.alyx.files.cache import Cache, Hold, Reservation
from neuro_assets.outcomes import PermanentFailure, TransientFailure

SMALL_BYTES = 10_000_000
"""Below this a file is fetched to look into it (meta, chunk table), not for its samples."""

_GB = 1e9
_QUICK_BYTES = 50_000_000
_RECOUNT_S = 60.0
_NEARLY_FULL = 0.9


class Room:
    """Makes room in a cache of limited size.

    Parameters
    ----------
    cache : Cache
        Its files.
    most_bytes : int
        What they may be in all, bytes.
    """

    def __init__(self, cache: Cache, most_bytes: int) -> None:
        self._cache = cache
        self._most = most_bytes
        self._counted: tuple[float, int] | None = None

    def check(self, n_bytes: int) -> None:
        """Fail when so much can never be here at once.

        Parameters
        ----------
        n_bytes : int
            All files that are needed together.

        Raises
        ------
        PermanentFailure
            With both sizes.
        """
        if n_bytes > self._most:
            raise PermanentFailure(
                f"{_gb(n_bytes)} are needed at once and the cache {self._cache.root} may hold "
                f"{_gb(self._most)}: raise cache_gb in the alyx section of lab.yaml"
            )

    @contextmanager
    def reserve(
        self, hold: Hold, sizes: dict[str, int], needed: Collection[str]
    ) -> Iterator[Reservation]:
        """Keep room for a download while it runs; what nobody used for longest goes first.

        Parameters
        ----------
        hold : Hold
            On the session folder that it is for.
        sizes : dict of str to int
            Bytes to come, by path below the folder.
        needed : collection of str
            All paths below the folder that must be there together, these included.

        Yields
        ------
        Reservation
            With a folder for unfinished files.

        Raises
        ------
        PermanentFailure
            The disk is too full, with sizes.
        TransientFailure
            All the rest is in use.
        """
        with ExitStack() as stack:
            with self._cache.counting():
                own = Reservation("", hold.folder, sizes)
                if not self._surely_fits(own.n_bytes):
                    self._make(hold, own, needed)
                if self._counted is not None:
                    self._counted = (self._counted[0], self._counted[1] + own.n_bytes)
                made = stack.enter_context(self._cache.reserve(hold.folder, sizes))
            yield made

    def _surely_fits(self, n_bytes: int) -> bool:
        """Spare a count for a few small files; thousands of sessions take a second to count."""
        if self._counted is None or n_bytes > _QUICK_BYTES:
            return False
        when, used = self._counted
        is_new = time.monotonic() - when < _RECOUNT_S
        return (
            is_new
            and used + n_bytes < _NEARLY_FULL * self._most
            and self._free() > n_bytes + _QUICK_BYTES
        )

    def _make(self, hold: Hold, own: Reservation, needed: Collection[str]) -> None:
        live = self._cache.reservations()
        apart = [*live, own]
        counted = [(path, self._cache.n_bytes(path, apart)) for _, path in self._cache.sessions()]
        used = sum(size for _, size in counted) + sum(each.n_bytes for each in live)
        excess = used + own.n_bytes - self._most
        gone = 0
        for path, size in counted:
            if not self._lacks(excess - gone, own):
                break
            if size and path != hold.folder and self._cache.remove(path):
                gone += size
        if self._lacks(excess - gone, own):
            gone += self._trim(hold, needed)
        self._counted = (time.monotonic(), used - gone)
        self._say_what_lacks(excess - gone, own)

    def _lacks(self, excess: int, own: Reservation) -> bool:
        return excess > 0 or self._free() < own.n_bytes

    def _trim(self, hold: Hold, needed: Collection[str]) -> int:
        """Remove large files of other probes from our own session, when nobody else uses it."""
        if not self._cache.is_ours_alone(hold):
            return 0
        gone = 0
        for top, folders, names in os.walk(hold.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = (Path(top) / name).relative_to(hold.folder).as_posix()
                size = (hold.folder / path).lstat().st_size
                if size > SMALL_BYTES and path not in needed:
                    self._cache.remove_file(hold.folder, path)
                    gone += size
        return gone

    def _say_what_lacks(self, excess: int, own: Reservation) -> None:
        if excess > 0:
            raise TransientFailure(
                f"{_gb(own.n_bytes)} do not fit: the cache {self._cache.root} may hold "
                f"{_gb(self._most)}, and all in it is in use by other steps: try again when they "
                "are done, or raise cache_gb in the alyx section of lab.yaml"
            )
        if self._free() < own.n_bytes:
            raise PermanentFailure(
                f"{_gb(own.n_bytes)} are to be fetched and the disk of the cache "
                f"{self._cache.root} has {_gb(self._free())} free: free space, or put `cache` in "
                "the alyx section of lab.yaml on another disk"
            )

    def _free(self) -> int:
        return shutil.disk_usage(self._cache.root).free


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / _GB:.3g} GB"
