"""A server that does what a script says: for what no good server does on demand."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from places import SAMPLES

from neuro_assets.alyx.client import Alyx

TOKEN = "5ecre7-t0ken-0f-the-lab"
EID = "bef15ba9-8135-4be7-9753-4f5409f98e32"
DATE = "Fri, 20 Nov 2026 22:00:17 GMT"
LOGIN_PAGE = b"<!doctype html><html><head><title>Sign in to\n LabNet</title></head></html>"
EMPTY = {"count": 0, "next": None, "previous": None, "results": []}

Act = Callable[["Handler"], None]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    port: int


@dataclass
class Scripted:
    """A server that acts one item of a script for each request, and the last one for ever."""

    acts: list[Act] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def next_act(self) -> Act:
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Scripted

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has hung up, which it is meant to
            self.close_connection = True

    def act(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.script.seen.append(
            Seen(
                self.command,
                self.path,
                dict(self.headers),
                json.loads(body) if body else None,
                self.client_address[1],
            )
        )
        self.script.next_act()(self)

    def do_GET(self) -> None:
        self.act()

    def do_POST(self) -> None:
        self.act()

    def do_PATCH(self) -> None:
        self.act()

    def log_message(self, *args: object) -> None:
        pass


def says(
    status: int, body: Any = None, kind: str = "application/json", date: str = DATE, **headers: str
) -> Act:
    """Answer; `retry_after="1"` becomes the header `retry-after`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(handler: Handler) -> None:
        handler.send_response_only(status)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Type": kind, "Date": date, **more}.items():
            if value:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def page(rows: list[dict[str, Any]], count: int | None = None) -> Act:
    return says(200, {**EMPTY, "count": len(rows) if count is None else count, "results": rows})


def html(status: int, body: bytes = LOGIN_PAGE) -> Act:
    return says(status, body, "text/html; charset=utf-8")


def drops(handler: Handler) -> None:
    """Hang up without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def hangs(handler: Handler) -> None:
    handler.script.ended.wait()
    handler.close_connection = True


def drips_body(handler: Handler) -> None:
    """Send a good answer, a byte at a time, for ten seconds."""
    body = json.dumps(EMPTY).encode()
    handler.send_response_only(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) + 500))
    handler.end_headers()
    _drip(handler, body + b" " * 500)


def drips_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x" * 500 + b"\r\nContent-Length: 2\r\n\r\n{}")


def _drip(handler: Handler, data: bytes) -> None:
    for number in data:
        if handler.script.ended.wait(0.02):
            break
        handler.wfile.write(bytes([number]))


def cut_short(handler: Handler) -> None:
    """Promise more than is sent."""
    handler.send_response_only(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"count": 1, ')
    handler.close_connection = True


@contextmanager
def scripted(tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Run such a server on 127.0.0.1 and a free port."""
    script = Scripted()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"script": script}))
    http.daemon_threads = True
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    script.url = f"http{'s' if tls else ''}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        script.ended.set()
        http.shutdown()
        thread.join()
        http.server_close()


def recorded(name: str) -> tuple[dict[str, Any], Act]:
    """The request and the answer of a sample."""
    path = SAMPLES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recorded answers of Alyx are not at {SAMPLES}")
    exchange = json.loads(path.read_text("utf-8"))["exchanges"][0]
    answer = exchange["response"]
    body, kind = answer["body"], answer["headers"]["Content-Type"]
    return exchange["request"], says(
        answer["status"], body.encode() if isinstance(body, str) else body, kind
    )


def lonely_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty home, with nobody to ask, and no proxy before 127.0.0.1."""

    def ask(*args: object) -> str:
        pytest.fail("somebody was asked")

    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("getpass.getpass", ask)
    return folder


def client_of(server: Scripted, waits: list[float], *acts: Act, **options: Any) -> Alyx:
    """Make a client of a server with this script; instead of waiting it notes how long."""
    server.acts[:] = acts
    url, token = options.pop("url", server.url), options.pop("token", TOKEN)
    return Alyx(url, token, **{"sleep": waits.append, **options})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return lonely_home(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as script:
        yield script


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def make(server: Scripted, waits: list[float]) -> Callable[..., Alyx]:
    return partial(client_of, server, waits)
