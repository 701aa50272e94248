"""What a request to the web server must look like: no other page and no other name gets through.

Dagster's web server knows no users and no tokens: whatever reaches it may start runs. Any page that
is open in a browser on this machine can send requests to 127.0.0.1, so each is judged by what the
browser itself says of it (Host, Origin, Sec-Fetch-Site), before Dagster sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Refusal = tuple[HTTPStatus, str]

_GRAPHQL = "/graphql"
_READING = frozenset({"GET", "HEAD"})
_OWN_PAGES = frozenset({"same-origin", "none"})
_POLICY_VIOLATION = 1008
_HEADERS = (
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""No other page may frame the user interface, read from it or keep a handle on its window."""


def local_hosts(port: int) -> frozenset[str]:
    """Return the names of this machine's own interface, as browsers write them into `Host`.

    Parameters
    ----------
    port : int
        Port of the web server.

    Returns
    -------
    frozenset of str
        Without the port for port 80 alone.
    """
    names = ("127.0.0.1", "localhost", "[::1]")
    return frozenset(name if port == 80 else f"{name}:{port}" for name in names)


class GuardedApp:
    """An ASGI application that refuses what the lab's own pages would not send.

    Parameters
    ----------
    app : ASGI application
        Dagster's.
    hosts : iterable of str
        Values of `Host` that are served, in lower case; an Origin must be one of them.
    """

    def __init__(self, app: App, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in plain text."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await _refuse(send, *refusal)

    def _refusal(self, scope: Message) -> Refusal | None:
        """Why a request is refused, the reasons that hold for every route first."""
        headers = _headers(scope)
        return self._foreign(headers) or (
            _wrong_use(scope, headers) if scope["type"] == "http" else None
        )

    def _foreign(self, headers: dict[str, list[str]]) -> Refusal | None:
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, (
                "this name is not served: use http://127.0.0.1 with the port, or add the name to "
                "web.allowed_hosts in lab.yaml"
            )
        if any(not self._is_ours(origin) for origin in headers.get("origin", [])):
            return HTTPStatus.FORBIDDEN, "requests of other pages are refused"
        site, mode = headers.get("sec-fetch-site", ["none"]), headers.get("sec-fetch-mode", [""])
        if not _OWN_PAGES.issuperset(site) and mode != ["navigate"]:
            return HTTPStatus.FORBIDDEN, "requests of other pages are refused"
        return None

    def _is_ours(self, origin: str) -> bool:
        """Whether an Origin is one of our hosts; `null` (a file, a sandbox) never is."""
        scheme, _, host = origin.lower().partition("://")
        return scheme in ("http", "https") and host in self._hosts


def _wrong_use(scope: Message, headers: dict[str, list[str]]) -> Refusal | None:
    """Leave one way to change anything: a POST of JSON to `/graphql`.

    Which closes Dagster's `/report_asset_*`, and the two ways (GET, other kinds of text) in which
    a browser sends requests of foreign pages without asking first.
    """
    if scope["path"] != _GRAPHQL:
        if scope["method"] in _READING:
            return None
        return HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be sent here"
    if scope["method"] in _READING:
        if "text/html" in headers.get("accept", [""])[0]:
            return None  # the page for queries by hand, which sends them by POST
        return HTTPStatus.METHOD_NOT_ALLOWED, "send queries by POST"
    kinds = [kind.partition(";")[0].strip().lower() for kind in headers.get("content-type", [])]
    if kinds != ["application/json"]:
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send queries as application/json"
    return None


def _headers(scope: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending


async def _refuse(send: Send, status: HTTPStatus, message: str) -> None:
    body = f"refused: {message}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
