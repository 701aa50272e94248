"""A right to do something alone that ends by itself, for saving work; never for correctness."""

from __future__ import annotations

import os
import secrets
import socket
import time
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ValidationError

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.model import checked_name, now


class _Holder(BaseModel):
    """Content of a lease's file."""

    owner: str
    host: str
    pid: int
    expires: datetime


class Lease:
    """One lease; as a context manager it waits for the right, and gives it back at the end.

    Two holders at once are possible (an expired one that goes on, S3 without exclusive writes):
    whatever is guarded must be right without it.

    Parameters
    ----------
    store : StoreFiles
        Where `leases/<name>.json` is kept.
    name : str
        What for.
    seconds : float
        How long it lasts without `renew`, seconds.
    """

    def __init__(self, store: StoreFiles, name: str, seconds: float) -> None:
        self._store = store
        self._path = f"leases/{checked_name(name, 'lease name')}.json"
        self.name = name
        self.seconds = seconds
        self._owner = secrets.token_hex(8)

    def acquire(self) -> bool:
        """Take the right if nobody holds it or its holder's time is over.

        Returns
        -------
        bool
            False where somebody else holds it.
        """
        mine = self._mine().model_dump(mode="json")
        holder = self.holder()
        if holder is None:
            return self._store.create_json(self._path, mine) and self._is_mine()
        if holder.owner != self._owner and holder.expires > now():
            return False
        self._store.write_json_atomic(self._path, mine)
        return self._is_mine()

    def renew(self) -> bool:
        """Extend the right by its full time.

        Returns
        -------
        bool
            False where somebody else has taken it meanwhile.
        """
        if not self._is_mine():
            return False
        self._store.write_json_atomic(self._path, self._mine().model_dump(mode="json"))
        return True

    def release(self) -> None:
        """Give the right back, if it is still ours."""
        if self._is_mine():
            self._store.backend.remove(self._path)

    def wait(self, timeout_s: float, poll_s: float = 1.0) -> bool:
        """Wait for the right.

        Parameters
        ----------
        timeout_s : float
            How long at most, seconds.
        poll_s : float
            How often to look, seconds.

        Returns
        -------
        bool
            False where the time ran out.
        """
        end = time.monotonic() + timeout_s
        while not self.acquire():
            if time.monotonic() >= end:
                return False
            time.sleep(min(poll_s, max(0.0, end - time.monotonic())))
        return True

    def holder(self) -> _Holder | None:
        """Tell who holds it, also after its end."""
        found = self._store.read_json(self._path)
        if found is None:
            return None
        try:
            return _Holder.model_validate(found)
        except ValidationError as error:
            raise PermanentFailure(
                f"{self._path} in the store {self._store.url} is damaged: remove it"
            ) from error

    def __enter__(self) -> Self:
        if not self.wait(self.seconds):
            holder = self.holder()
            raise TransientFailure(
                f"{self.name} is being done by another process"
                + (f" ({holder.host}, pid {holder.pid})" if holder else "")
                + ": try again later"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _is_mine(self) -> bool:
        holder = self.holder()
        return holder is not None and holder.owner == self._owner

    def _mine(self) -> _Holder:
        return _Holder(
            owner=self._owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            expires=now() + timedelta(seconds=self.seconds),
        )
