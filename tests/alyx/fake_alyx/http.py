"""HTTP of the Alyx test server: connections, tokens, faults.

What a request means is in `fake_alyx.endpoints`; here is only how it arrives and how it fails.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import suppress
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fake_alyx.api import Answer, NotFound
from fake_alyx.endpoints import ENDPOINTS
from fake_alyx.files import download
from fake_alyx.schema import openapi

NOT_FOUND = (
    '\n<!doctype html>\n<html lang="en">\n<head>\n  <title>Not Found</title>\n</head>\n<body>\n'
    "  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n"
    "</body>\n</html>\n"
)
DOWN = (
    'connection to server at "127.0.0.1", port 5432 failed: Connection refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections?\n"
)


class BadJson(Exception):
    """A body that is not JSON."""


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection; the server object is `self.server.alyx`."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gunicorn", ""
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(ConnectionError):  # the client is gone: what is left to send is lost
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: tests read `AlyxServer.log`."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Date header, by the server's own clock."""
        return format_datetime(self.alyx.now, usegmt=True)

    @property
    def alyx(self) -> Any:
        """The server that tests hold."""
        return self.server.alyx

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (Dropped, ConnectionError, TimeoutError):
            # A client that went away, or a fault that was asked for.
            self.close_connection = True

    def do_GET(self) -> None:
        self._request("GET")

    def do_POST(self) -> None:
        self._request("POST")

    def do_PUT(self) -> None:
        self._request("PUT")

    def do_PATCH(self) -> None:
        self._request("PATCH")

    def do_DELETE(self) -> None:
        self._request("DELETE")

    def do_OPTIONS(self) -> None:
        self._request("OPTIONS")

    def do_HEAD(self) -> None:
        self._request("HEAD")

    # one request

    def _request(self, method: str) -> None:
        self.raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.alyx.log.append((method, self.path))
        path = urlsplit(self.path).path
        if path.startswith("/data/"):
            asked = self.headers.get("Range", "")
            status, headers, content, length = download(self.alyx, unquote(path), asked)
            self._send(status, headers, b"" if method == "HEAD" else content, length)
            self.close_connection |= len(content) < length
            return
        faults = self.alyx.faults
        if faults.hang_s:
            self.alyx.closing.wait(faults.hang_s)
        if faults.take_drop(after=False):
            self._drop()
        started = time.perf_counter()
        try:
            status, headers, body = self._answered(method, path)
        finally:
            with self.alyx.counting:
                self.alyx.busy_s += time.perf_counter() - started
        if faults.take_drop(after=True):
            self._drop()
        self._send(status, headers, b"" if method == "HEAD" else body, len(body))

    def _drop(self) -> None:
        # The other side sees a reset connection, not an orderly end.
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        raise Dropped

    def _answered(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if planned := self.alyx.faults.take_planned():
            return planned
        if self.alyx.faults.down:
            return self._json(Answer(500, {"status_code": 500, "detail": DOWN}, self._allow(path)))
        if path == "/auth-token":
            return self._json(self._log_in(method))
        # A page that is not there is not there for anybody.
        if path != "/me" and (refusal := self._refusal(path)):
            return refusal
        if path == "/api/schema":
            return self._json(Answer(200, openapi(ENDPOINTS), ("GET",)))
        if method == "OPTIONS":
            return self._json(self._options(path))
        return self._api("GET" if method == "HEAD" else method)

    def _api(self, method: str) -> tuple[int, dict[str, str], bytes]:
        if self.alyx.between_pages is not None and method == "GET":
            query = parse_qs(urlsplit(self.path).query)
            offset = query.get("offset", ["0"])[-1]
            if offset.isdigit() and int(offset) > 0:
                self.alyx.between_pages(urlsplit(self.path).path.strip("/"), int(offset))
        try:
            with self.alyx.lock:
                return self._json(self.alyx.api.answer(method, self.path, self._body))
        except NotFound:
            return 404, {"Content-Type": "text/html; charset=utf-8"}, NOT_FOUND.encode()
        except BadJson as error:
            text = f"JSON parse error - {error}"
            body = {"detail": text, "status_code": 400}
            return self._json(Answer(400, body, self._allow(urlsplit(self.path).path)))
        except Exception as error:
            # A hole in this server, not Alyx's answer: the test that met it fails at the end too.
            self.alyx.errors.append(error)
            return self._json(Answer(501, {"detail": f"the test server broke: {error!r}"}))

    @staticmethod
    def _allow(path: str) -> tuple[str, ...]:
        name, _, key = path.strip("/").partition("/")
        endpoint = ENDPOINTS.get(name)
        if endpoint is None:
            return ()
        return endpoint.row_methods if key else endpoint.methods

    def _options(self, path: str) -> Answer:
        if path == "/sessions":
            text = "'list' object has no attribute 'items'"
            return Answer(500, {"status_code": 500, "detail": text}, ("GET", "POST"))
        return Answer(200, {"name": path.strip("/"), "description": ""}, self._allow(path))

    # credentials

    def _log_in(self, method: str) -> Answer:
        if method != "POST":
            text = f'Method "{method}" not allowed.'
            return Answer(405, {"detail": text, "status_code": 405}, ("POST",))
        try:
            body = self._body()
        except BadJson as error:
            text = f"JSON parse error - {error}"
            return Answer(400, {"detail": text, "status_code": 400}, ("POST",))
        missing = [name for name in ("username", "password") if not body.get(name)]
        if missing:
            errors = {name: ["This field is required."] for name in missing}
            return Answer(400, {**errors, "status_code": 400}, ("POST",))
        if (body["username"], body["password"]) != (self.alyx.user, self.alyx.password):
            text = "Unable to log in with provided credentials."
            return Answer(400, {"non_field_errors": [text], "status_code": 400}, ("POST",))
        return Answer(200, {"token": self.alyx.token}, ("POST",))

    def _refusal(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        """403 without a good token, 429 above the rate; never 401."""
        allow = self._allow(path)
        word, _, token = self.headers.get("Authorization", "").partition(" ")
        text = ""
        if word.lower() != "token" or not token:
            text = "Authentication credentials were not provided."
        elif token.strip() != self.alyx.token:
            text = "Invalid token."
        if text:
            return self._json(Answer(403, {"detail": text, "status_code": 403}, allow))
        wait = self.alyx.faults.throttled(self.alyx.now)
        if wait is None:
            return None
        unit = "second" if wait == 1 else "seconds"
        text = f"Request was throttled. Expected available in {wait} {unit}."
        status, headers, body = self._json(Answer(429, {"detail": text, "status_code": 429}, allow))
        return status, {**headers, "Retry-After": str(wait)}, body

    # bodies

    def _body(self) -> Any:
        if not self.raw:
            return {}
        if self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            found = parse_qs(self.raw.decode(), keep_blank_values=True)
            return {name: values[-1] for name, values in found.items()}
        try:
            return json.loads(self.raw)
        except ValueError as error:
            raise BadJson(str(error)) from error

    def _json(self, answer: Answer) -> tuple[int, dict[str, str], bytes]:
        methods = ", ".join(
            [*answer.allow, *(["HEAD"] if "GET" in answer.allow else []), "OPTIONS"]
        )
        vary = "Cookie" if self.path == "/auth-token" else "Accept, Cookie"
        headers = {"Vary": vary, "Allow": methods}
        if answer.status == 204:
            return 204, headers, b""
        text = json.dumps(answer.body, separators=(",", ":"), ensure_ascii=False)
        kind = "application/json"
        accept = self.headers.get("Accept", "")
        if accept.startswith("text/html"):
            # A browser gets a page: a client that does not ask for JSON gets none.
            kind, text = (
                "text/html; charset=utf-8",
                f"<!DOCTYPE html><html><pre>{text}</pre></html>",
            )
        elif self.path.startswith("/api/schema"):
            kind = "application/vnd.oai.openapi+json"
        return answer.status, {"Content-Type": kind, **headers}, text.encode()

    def _send(self, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Listener(ThreadingHTTPServer):
    """Sockets and threads."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, alyx: Any) -> None:
        self.alyx = alyx
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for a name here, which can take seconds.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep a handler's exception for the test: `AlyxServer.close` raises it."""
        self.alyx.errors.append(sys.exc_info()[1])

    def close_connections(self) -> None:
        """End what clients keep open."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by the client meanwhile
