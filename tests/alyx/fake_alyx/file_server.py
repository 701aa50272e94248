"""A data server for tests: files in memory, and every way in which such a server fails."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class FileServer:
    """What it serves and how it misbehaves; `log` has method and path of every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    login: tuple[str, str] | None = None
    passwords: list[str] = field(default_factory=list)
    cut: int = 0
    cut_at: int = 10
    hang: bool = False
    hang_at: int = 5
    drip: bool = False
    no_head: bool = False
    fail_heads: int = 0
    status: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    sent: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    hung: threading.Event = field(default_factory=threading.Event)

    def n_gets(self, path: str | None = None) -> int:
        return sum(m == "GET" and path in (None, p) for m, p in self.log)


class _Handler(BaseHTTPRequestHandler):
    at: FileServer

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        path = unquote(urlsplit(self.path).path)
        self.at.log.append((self.command, path))
        if self.at.login and not self._is_known():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="data"')
            self.end_headers()
            return
        if body is not None and self.at.fail_heads > 0:
            self.at.fail_heads -= 1
            self.send_error(502)
            return
        if body is not None and self.at.no_head:
            self.send_error(405)
            return
        if path in self.at.moved:
            self.send_response(302)
            self.send_header("Location", self.at.moved[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path in self.at.status:
            self.send_error(self.at.status[path])
            return
        bodies = self.at.bodies.get(path)
        content = bodies.pop(0) if bodies and body is None else self.at.files.get(path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body is None:
            self._send(content)

    def _is_known(self) -> bool:
        said = self.headers.get("Authorization", "")
        if said:
            self.at.passwords.append(base64.b64decode(said.split()[1]).decode())
        return bool(said) and self.at.passwords[-1] == ":".join(self.at.login or ())

    def _send(self, content: bytes) -> None:
        if self.at.cut > 0:
            self.at.cut -= 1
            content = content[: self.at.cut_at]
        if self.at.hang:
            self.wfile.write(content[: self.at.hang_at])
            self.wfile.flush()
            self.at.sent.set()
            self.at.release.wait(60)
            self.at.hung.set()
            content = content[self.at.hang_at :]
        if self.at.drip:
            for i in range(len(content)):
                self.wfile.write(content[i : i + 1])
                self.wfile.flush()
                if self.at.release.wait(0.05):
                    return
            return
        self.wfile.write(content)
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    made = FileServer()
    handler = type("Handler", (_Handler,), {"at": made})
    server = _Server(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield made
    finally:
        made.release.set()
        server.shutdown()
        server.server_close()
