"""What goes wrong in the Alyx test server when a test asks for it."""

from __future__ import annotations

from typing import Any

Planned = tuple[int, dict[str, str], bytes]


class Faults:
    """What goes wrong next; each fault ends by itself or when its field is set back."""

    def __init__(self, lock: Any) -> None:
        self.down = False
        self.hang_s = 0.0
        self._lock = lock
        self._drops = {False: 0, True: 0}
        self._planned: list[Planned] = []
        self._cuts: list[int] = []
        self._rate: tuple[int, int] | None = None
        self._times: list[Any] = []

    def drop(self, n: int, *, after: bool) -> None:
        """Close the next `n` connections without an answer, before or after the work is done."""
        with self._lock:
            self._drops[after] = n

    def take_drop(self, *, after: bool) -> bool:
        """Whether this request's connection is to be closed."""
        with self._lock:
            if self._drops[after] < 1:
                return False
            self._drops[after] -= 1
            return True

    def plan(self, n: int, status: int, body: str, headers: dict[str, str]) -> None:
        """Answer the next `n` requests so, without doing anything."""
        with self._lock:
            self._planned += [(status, headers, body.encode())] * n

    def take_planned(self) -> Planned | None:
        """Answer that was planned for this request."""
        with self._lock:
            return self._planned.pop(0) if self._planned else None

    def cut(self, n: int, size: int) -> None:
        """End the next `n` downloads after `size` bytes."""
        with self._lock:
            self._cuts += [size] * n

    def take_cut(self) -> int | None:
        """Bytes after which this download ends."""
        with self._lock:
            return self._cuts.pop(0) if self._cuts else None

    def throttle(self, per_minute: int | None, retry_after: int) -> None:
        """Allow so many requests a minute of the server's clock; None ends it."""
        with self._lock:
            self._rate = None if per_minute is None else (per_minute, retry_after)
            self._times = []

    def throttled(self, now: Any) -> int | None:
        """Seconds to wait, when the rate is used up; a refused request does not count."""
        with self._lock:
            if self._rate is None:
                return None
            most, wait = self._rate
            self._times = [then for then in self._times if 0 <= (now - then).total_seconds() < 60]
            if len(self._times) >= most:
                return wait
            self._times.append(now)
            return None
