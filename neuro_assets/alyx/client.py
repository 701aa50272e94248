"""Alyx over REST: endpoints, pages and names, and nothing of what rows mean.

How a call is made and repeated is in `retry`, the meaning of responses in `responses`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from neuro_assets.alyx.responses import (
    TOKEN_VARIABLE,
    AlyxRefused,
    NotAlyx,
    Request,
    TokenRefused,
)
from neuro_assets.alyx.retry import RetryingClient
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.config import AlyxConfig

__all__ = ["Alyx", "AlyxRefused", "NotAlyx", "Page", "TokenRefused"]

PAGE_ROWS = 1000
"""Alyx's hard cap: a larger limit silently gives 1,000."""


@dataclass(frozen=True)
class Page:
    """One page of a list.

    Parameters
    ----------
    rows : list of dict
        The rows, as Alyx gives them.
    count : int
        Rows of the whole list, at that moment.
    date : datetime.datetime
        The server's clock, from its `Date` header: aware, UTC, whole seconds.
    """

    rows: list[dict[str, Any]]
    count: int
    date: datetime


class Alyx(RetryingClient):
    """A client of one Alyx server, for one thread at a time.

    Nothing is cached, nothing is written to a file, nobody is prompted for a password, and no
    redirect is followed. It can be sent to another process, and survives a fork.

    Parameters
    ----------
    url : str
        Address, `https://alyx.example.org`.
    token : str
        Token of a user; none is sent when empty.
    timeout_s : float
        Longest silence of the server, in seconds.
    deadline_s : float
        Longest duration of one call, its retries and waits included, in seconds.
    tries : int
        Most requests that one call makes.
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    PermanentFailure
        The address or the token cannot be one.
    """

    def get(self, path: str, *, data: Any = None, **query: str | int | bool) -> Any:
        """Read anything.

        Parameters
        ----------
        path : str
            Below the address, without a query: `sessions/<uuid>`.
        data : object, optional
            Body, for `check-protected`, which wants one.
        **query
            Filters; encoded here.

        Returns
        -------
        object
            Parsed JSON.

        Raises
        ------
        AlyxRefused
            Alyx refused it, or is none.
        TransientFailure
            No good response after all tries.
        """
        return self._call("GET", _joined(path, query), data)

    def page(self, endpoint: str, *, limit: int = PAGE_ROWS, offset: int = 0, **query: Any) -> Page:
        """Read one page of a list.

        Parameters
        ----------
        endpoint : str
            `sessions`, `datasets`, ...
        limit, offset : int
            Rows to give, at most 1,000, and to leave out.
        **query
            Filters. Alyx ignores the ones that it does not know.

        Returns
        -------
        Page
            With the server's time.

        Raises
        ------
        PermanentFailure
            The response has no date, so that it is unknown when the list was true.
        """
        rows, count = self._page(endpoint, limit, offset, query)
        return self._dated(rows, count)

    def pages(self, endpoint: str, *, most: int, **query: Any) -> Iterator[Page]:
        """Read a list, 1,000 rows at a time. Rows that move meanwhile come twice, or not at all.

        Parameters
        ----------
        endpoint : str
            `sessions`, `datasets`, ...
        most : int
            Rows that the list can have at most if the filters were understood.
        **query
            Filters.

        Yields
        ------
        Page
            One request each.

        Raises
        ------
        PermanentFailure
            The list is longer.
        """
        for rows, count in self._pages(endpoint, most, query):
            yield self._dated(rows, count)

    def rows(self, endpoint: str, *, most: int, **query: Any) -> list[dict[str, Any]]:
        """Read a whole list, each row once, in its newest state.

        Parameters
        ----------
        endpoint, most, **query
            See `pages`.

        Returns
        -------
        list of dict
            In the order of their first appearance.
        """
        found: dict[str, dict[str, Any]] = {}
        for rows, _ in self._pages(endpoint, most, query):
            found.update((_row_id(row), row) for row in rows)
        return list(found.values())

    def read(self, endpoint: str, name: str) -> dict[str, Any] | None:
        """Read one row in full.

        Parameters
        ----------
        endpoint : str
            `sessions`, `subjects`, ...
        name : str
            The uuid, or the name where rows have names.

        Returns
        -------
        dict or None
            None when Alyx has no such row. For a uuid only Alyx's own answer counts: a web page
            with status 404 is `NotAlyx`, since a proxy gives it for rows that are there.
        """
        try:
            return self._call("GET", _path_of(endpoint, name))
        except NotAlyx:
            raise
        except AlyxRefused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, endpoint: str, data: Any) -> Any:
        """Send something new (POST): once, except where it cannot have been done.

        Parameters
        ----------
        endpoint : str
            `sessions`, `register-file`, ...
        data : object
            Sent as JSON.

        Returns
        -------
        object
            What Alyx made of it.

        Raises
        ------
        TransientFailure
            It may have been done nevertheless: look before sending it again.
        """
        return self._call("POST", _joined(endpoint, {}), data)

    def update(self, endpoint: str, name: str, data: dict[str, Any]) -> Any:
        """Change fields of one row (PATCH).

        Parameters
        ----------
        endpoint, name : str
            See `read`.
        data : dict
            The fields, with their whole values.

        Returns
        -------
        object
            The row as it is now.
        """
        return self._call("PATCH", _path_of(endpoint, name), data)

    def _pages(
        self, endpoint: str, most: int, query: dict[str, Any]
    ) -> Iterator[tuple[list[dict[str, Any]], int]]:
        offset, count = 0, 1
        while offset < count:
            rows, count = self._page(endpoint, PAGE_ROWS, offset, query)
            if count > most:
                raise PermanentFailure(
                    f"Alyx lists {count} {endpoint} where at most {most} were expected: it "
                    "ignores filters that it does not know, so a misspelt one gives everything; "
                    f"look at the query {query}"
                )
            yield rows, count
            if not rows:
                return
            # By what came: a server may give fewer than it was asked for.
            offset += len(rows)

    def _page(
        self, endpoint: str, limit: int, offset: int, query: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], int]:
        path = _joined(endpoint, {**query, "limit": limit, "offset": offset})
        match self._call("GET", path):
            case {"results": list() as rows, "count": int() as count}:
                return rows, count
            case found:
                request = Request("GET", self.url, path)
                raise NotAlyx(request.not_alyx("JSON that is not a page of rows"), 200, found)

    def _dated(self, rows: list[dict[str, Any]], count: int) -> Page:
        if self.date is None:
            raise PermanentFailure(
                f"Alyx at {self.url} answers without a readable Date header, so it is unknown "
                "when a list was true: let the proxy before it hand that header on"
            )
        return Page(rows, count, self.date)


def _joined(path: str, query: dict[str, Any]) -> str:
    for name, value in query.items():
        if not isinstance(value, str | int):
            raise TypeError(f"filter {name} of {path} is {value!r}: text, a number or a bool")
    return f"/{path.strip('/')}{'?' if query else ''}{urlencode(query)}"


def _path_of(endpoint: str, name: str) -> str:
    # Without a name this would be the list; dots are taken for folders on the way.
    if name.strip(".") == "":
        raise ValueError(f"{name!r} names no row of {endpoint}")
    return f"/{endpoint.strip('/')}/{quote(name, safe='')}"


def _row_id(row: dict[str, Any]) -> str:
    # Rows of /datasets have a url and no id; projects, labs and repositories only a name.
    found = row.get("id") or str(row.get("url") or "").rstrip("/").rpartition("/")[2]
    return str(found or row["name"])


def connect(config: AlyxConfig, *, tries: int = 6, deadline_s: float | None = None) -> Alyx:
    """Make the client of a configuration; nothing is connected yet.

    Parameters
    ----------
    config : AlyxConfig
        Its `url`, `timeout_s` and `deadline_s`. The token comes from the environment variable
        `ALYX_TOKEN`; a missing one is reported by the first request.
    tries : int
        Most requests that one call makes.
    deadline_s : float, optional
        A shorter time for one call than that of the configuration, seconds.

    Returns
    -------
    Alyx
        Can be sent to another process.

    Raises
    ------
    PermanentFailure
        There is no address.
    """
    if config.url is None:
        raise PermanentFailure("no Alyx is named: set url in the alyx section of lab.yaml")
    return Alyx(
        config.url,
        os.environ.get(TOKEN_VARIABLE, ""),
        timeout_s=config.timeout_s,
        deadline_s=min(config.deadline_s, deadline_s or config.deadline_s),
        tries=tries,
    )
