"""A right to do something alone that ends by itself, for saving work; never for correctness."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

from neuro_assets.outcomes import NeuroAssetsError, TransientFailure
from neuro_assets.store.errors import NotAFileError
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.json_values import parsed, pretty
from neuro_assets.store.model import checked_name

_LONGEST_S = 3600.0
"""A file that asks for more silence than this is damaged."""


class Lease:
    """One lease; as a context manager it waits for the right, and gives it back at the end.

    The holder counts on in its file for as long as it lives. Who finds that nothing is counted any
    more takes over, by creating the next file, which only one of several can. No clock is compared
    with another. Two holders at once are still possible (one that was stopped and goes on, a place
    without exclusive creation): whatever is guarded must be right without it.

    Parameters
    ----------
    store : StoreFiles
        Where `leases/<name>/<number>.json` are kept.
    name : str
        What for.
    seconds : float
        After how many seconds of silence the holder is taken for dead.
    timeout_s : float, optional
        How long to wait for the right; `seconds` by default.
    """

    def __init__(
        self, store: StoreFiles, name: str, seconds: float, timeout_s: float | None = None
    ) -> None:
        self._store = store
        self._folder = f"leases/{checked_name(name, 'lease name')}"
        self.name = name
        self.seconds = seconds
        self.timeout_s = seconds if timeout_s is None else timeout_s
        self._mine = {
            "owner": secrets.token_hex(8),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "seconds": seconds,
        }
        self._number = 0
        self._seen: tuple[str, float] = ("", 0.0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take the right if nobody holds it, or its holder was silent while we looked.

        Returns
        -------
        bool
            False where somebody else holds it.
        """
        newest = self._newest()
        if newest and newest == self._number:
            return True
        if newest and not self._is_over(newest):
            return False
        if not self._store.create_json(self._path(newest + 1), {**self._mine, "count": 0}):
            return False
        # Where creation is not exclusive, the last one to write holds it.
        if self._read(newest + 1).get("owner") != self._mine["owner"]:
            return False
        self._number = newest + 1
        if newest:
            self._store.backend.remove(self._path(newest))
        return True

    def release(self) -> None:
        """Give the right back, if it is still ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._number and self._newest() == self._number:
            self._write({**self._mine, "released": True})
        self._number = 0

    def __enter__(self) -> Self:
        end = time.monotonic() + self.timeout_s
        while not self.acquire():
            if time.monotonic() >= end:
                holder = self._read(self._newest())
                raise TransientFailure(
                    f"{self.name} is being done by another process ({holder.get('host')}, pid "
                    f"{holder.get('pid')}): try again later"
                )
            time.sleep(min(1.0, self.seconds / 5))
        self._stop.clear()
        self._thread = threading.Thread(target=self._count, name=self._folder, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _count(self) -> None:
        """Show that we live, until the right is given back or somebody has taken it."""
        count = 0
        while not self._stop.wait(self.seconds / 4):
            count += 1
            try:
                if self._newest() != self._number:
                    return
                self._write({**self._mine, "count": count})
            except NeuroAssetsError:
                continue  # the store does not answer now: nobody can take over either

    def _is_over(self, number: int) -> bool:
        """Whether a holder gave the right back, or has not counted for as long as it may."""
        found = self._read(number)
        if found.get("released"):
            return True
        if self._seen[0] != repr((number, found)):
            self._seen = (repr((number, found)), time.monotonic())
            return False
        seconds = found.get("seconds")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST_S:
            seconds = self.seconds
        return time.monotonic() - self._seen[1] > seconds

    def _newest(self) -> int:
        names = (name.removesuffix(".json") for name in self._store.backend.names(self._folder))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _read(self, number: int) -> dict[str, Any]:
        """Read what a holder wrote; nothing where the file is gone or damaged."""
        try:
            found = parsed(self._store.backend.read(self._path(number)))
        except (FileNotFoundError, NotAFileError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, value: dict[str, Any]) -> None:
        self._store.backend.write(self._path(self._number), pretty(value))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number}.json"
