"""A small Alyx for tests: a real HTTP server that answers as the Alyx 3.6.1 that was measured.

Tests hold an `AlyxServer`: its address and token for clients, its clock, its faults, and methods
that do what people, rigs and scripts do behind the client's back. The parts, `fake_alyx.<part>`:

`models`, `tables`
    Rows, and what saving one moves.
`values`, `lookups`, `filters`
    Django's filters, and the parameters and orders of each list.
`rows`, `fields`
    The JSON that is answered, and the fields that can be written.
`endpoints`, `api`, `writes`, `register`, `schema`
    The endpoints and what they do.
`http`, `files`, `faults`
    Connections, downloads, and what goes wrong on demand.
`missing`, `adding`, `editing`, `loading`
    The Python side.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

from fake_alyx.api import Api
from fake_alyx.faults import Faults
from fake_alyx.http import Listener
from fake_alyx.loading import Loading
from fake_alyx.missing import USER
from fake_alyx.register import Refused
from fake_alyx.schema import add_fixtures
from fake_alyx.tables import Tables

PASSWORD, TOKEN = "test-password", "test-token-0123456789abcdef"
START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)

__all__ = ["PASSWORD", "START", "TOKEN", "USER", "AlyxServer", "Refused"]


class AlyxServer(Loading):
    """An Alyx on 127.0.0.1.

    Parameters
    ----------
    zone : str
        The server's TIME_ZONE: its times are naive in it. Alyx's default is London, where
        `auto_datetime` jumps back one hour each autumn.
    now : datetime or None
        The server's clock, aware. It stands still until it is set or `advance` is called; None
        follows the real clock.
    seed : int
        Of the ids.

    Examples
    --------
    >>> with AlyxServer() as server:
    ...     session = server.add_session("M1", "2026-01-15", 1, projects=["p"], lab="lab")
    """

    user, password, token = USER, PASSWORD, TOKEN

    def __init__(
        self, *, zone: str = "Europe/London", now: datetime | None = START, seed: int = 0
    ) -> None:
        self.zone = ZoneInfo(zone)
        self._now = now
        self.lock = threading.RLock()
        self.counting = threading.Lock()
        self.closing = threading.Event()
        self.log: list[tuple[str, str]] = []
        self.busy_s = 0.0
        self.errors: list[BaseException | None] = []
        self.faults = Faults(self.counting)
        self.between_pages: Callable[[str, int], Any] | None = None
        """Called before a page with an offset is made, with endpoint and offset."""
        self.before_projects: Callable[[str], Any] | None = None
        """Called by POST /sessions with the new id, while the row has no projects yet."""
        self.tables = Tables(self.local_now, seed)
        add_fixtures(self.tables, (USER,))
        self._listener = Listener(self)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        self.api = Api(self)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name="alyx", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        if self.errors and exception[0] is None:
            raise AssertionError("the Alyx test server broke") from self.errors[0]

    def close(self) -> None:
        """Stop; open connections end."""
        self.closing.set()
        self._listener.shutdown()
        self._listener.close_connections()
        self._listener.server_close()
        self._thread.join()

    # the clock

    @property
    def now(self) -> datetime:
        """The server's clock, aware UTC."""
        return datetime.now(UTC) if self._now is None else self._now

    @now.setter
    def now(self, when: datetime) -> None:
        if when.tzinfo is None:
            raise ValueError("the clock takes aware times only")
        self._now = when.astimezone(UTC)

    def advance(self, seconds: float) -> datetime:
        """Move the clock on.

        Returns
        -------
        datetime
            The new time, aware UTC.
        """
        self.now = self.now + timedelta(seconds=seconds)
        return self.now

    def local_now(self) -> datetime:
        """Naive time that Alyx stamps rows with."""
        return self.now.astimezone(self.zone).replace(tzinfo=None)

    # faults

    @property
    def down(self) -> bool:
        """Whether the database is down: every answer is 500."""
        return self.faults.down

    @down.setter
    def down(self, flag: bool) -> None:
        self.faults.down = flag

    @property
    def hang_s(self) -> float:
        """Seconds that every answer is late."""
        return self.faults.hang_s

    @hang_s.setter
    def hang_s(self, seconds: float) -> None:
        self.faults.hang_s = seconds

    def throttle(self, n_per_minute: int | None, *, retry_after: int = 1) -> None:
        """Answer 429 beyond so many requests a minute of the server's clock; None ends it."""
        self.faults.throttle(n_per_minute, retry_after)

    def drop_connections(self, n: int, *, after: bool = False) -> None:
        """Break the next `n` connections without an answer; `after`: after the work is done."""
        self.faults.drop(n, after=after)

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 502,
        body: str = "<html>Bad Gateway</html>",
        **headers: str,
    ) -> None:
        """Answer the next `n` requests so, as a proxy before Alyx does; nothing is done."""
        kinds = {"Content-Type": "text/html"}
        kinds |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.plan(n, status, body, kinds)

    def cut_downloads(self, n: int, size: int) -> None:
        """End the next `n` downloads of files after `size` bytes."""
        self.faults.cut(n, size)
