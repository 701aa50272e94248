"""Requests of tests to the Alyx test server, with its token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

from fake_alyx.server import AlyxServer


def call(server: AlyxServer, method: str, path: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Token {server.token}", **more.pop("headers", {})}
    return requests.request(method, server.url + path, headers=headers, **{"timeout": 10, **more})


def get(server: AlyxServer, path: str, **query: Any) -> Any:
    answer = call(server, "GET", path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row.get("id") or row["url"][-36:] for row in rows]


def walk(server: AlyxServer, path: str, act: Callable[[], None], **query: Any) -> list[str]:
    """Ids of all pages of 250; `act` happens once, after the first."""
    done: list[int] = []

    def between(endpoint: str, offset: int) -> None:
        if not done:
            done.append(offset)
            act()

    server.between_pages = between
    found, offset = [], 0
    while True:
        page = get(server, path, limit=250, offset=offset, **query)
        found += ids(page["results"])
        if page["next"] is None:
            server.between_pages = None
            assert done == [250]
            return found
        offset += 250
