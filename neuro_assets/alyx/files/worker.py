"""The helper process that moves bytes: one job a line comes in, one answer a line goes out.

ONE's download function sets urllib's global opener and takes no time limit; here that is set for
the whole process, which can be killed when a server hangs all the same. Files are only written
into the folder that a job names. What to fetch, and what to make of it, is decided by the parent.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.errors import WRITE_ERRORS, error_number, explain, server_code

if TYPE_CHECKING:
    from s3fs import S3FileSystem

LOGIN, PASSWORD, SERVER = "HTTP_DATA_SERVER_LOGIN", "HTTP_DATA_SERVER_PWD", "HTTP_DATA_SERVER"
"""Environment variables, under ONE's names. With `SERVER`, no other one gets the password."""

_PART = 8 << 20
_NO_SIZE = {400, 403, 405, 501}
"""Answers to HEAD of servers that only know GET, and of signed links."""


class Worker:
    """Does jobs; several at once.

    Parameters
    ----------
    options : dict
        Options of `s3fs.S3FileSystem`, and our `max_attempts`.
    timeout_s : float
        Longest silence of a server, s.
    """

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        socket.setdefaulttimeout(timeout_s)
        self._options = options
        self._s3: S3FileSystem | None = None
        self._guard = threading.Lock()

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do one job.

        Parameters
        ----------
        job : dict
            `do` (`size`, `get`), `source`, and for `get` an empty `folder`.

        Returns
        -------
        dict
            `size` (None where the server does not say); or `path` and `md5`; or `error` (`gone`,
            `permanent`, `transient`) with `text`.
        """
        source: str = job["source"]
        try:
            if job["do"] == "size":
                return {"size": self._size(source)}
            path, md5 = self._get(source, Path(job["folder"]))
            return {"path": str(path), "md5": md5}
        except Exception as error:  # becomes a typed failure in the parent
            kind, text = _explained(error, source)
            return {"error": kind, "text": text}

    def _size(self, source: str) -> int | None:
        if source.startswith("s3://"):
            return int(self._connection().info(_key(source))["size"])
        # Encoded as ONE does, so that both ask for the same file.
        parts = urllib.parse.urlsplit(source, allow_fragments=False)
        url = parts._replace(path=urllib.parse.quote(parts.path)).geturl()
        opener = urllib.request.build_opener(_authentication(url))
        try:
            with opener.open(urllib.request.Request(url, method="HEAD")) as answer:
                length = answer.headers.get("Content-Length")
        except HTTPError as error:
            if error.code in _NO_SIZE:
                return None
            raise
        return int(length) if length is not None else None

    def _get(self, source: str, folder: Path) -> tuple[Path, str]:
        if source.startswith("s3://"):
            return self._get_object(_key(source), folder)
        from one.webclient import http_download_file

        login, password = _login(source)
        path, md5 = http_download_file(
            source,
            target_dir=folder,
            clobber=True,
            silent=True,
            return_md5=True,
            username=login,
            password=password,
        )
        return Path(path), md5

    def _get_object(self, key: str, folder: Path) -> tuple[Path, str]:
        target, md5 = folder / "object", hashlib.md5()
        with (
            self._connection().open(key, "rb", block_size=_PART, cache_type="none") as remote,
            target.open("wb") as file,
        ):
            while part := remote.read(_PART):
                file.write(part)
                md5.update(part)
        return target, md5.hexdigest()

    def _connection(self) -> S3FileSystem:
        from s3fs import S3FileSystem

        from neuro_assets.store.s3 import full_options

        with self._guard:
            if self._s3 is None:
                options = dict(self._options)
                attempts = options.pop("max_attempts", None)
                self._s3 = S3FileSystem(**full_options(options), skip_instance_cache=True)
                self._s3.retries = attempts or self._s3.retries
            return self._s3


def _key(source: str) -> str:
    return source.removeprefix("s3://")


def _login(url: str) -> tuple[str, str]:
    """User and password for a data server; none for another one than the named."""
    server = os.environ.get(SERVER, "").rstrip("/")
    if server and not url.startswith(f"{server}/"):
        return "", ""
    return os.environ.get(LOGIN, ""), os.environ.get(PASSWORD, "")


def _authentication(url: str) -> urllib.request.HTTPBasicAuthHandler:
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    login, password = _login(url)
    if login and password:
        manager.add_password(None, url.rpartition("/")[0], login, password)
    return urllib.request.HTTPBasicAuthHandler(manager)


def _explained(error: Exception, source: str) -> tuple[str, str]:
    """Kind and text of a failure, without secrets."""
    if isinstance(error, HTTPError):
        return _explained_status(error.code)
    if isinstance(error, FileNotFoundError) and server_code(error) != "NoSuchBucket":
        return "gone", "it is not there"
    where = source if source.startswith("s3://") else "the cache"
    number = error_number(error)
    if number in WRITE_ERRORS or source.startswith("s3://"):
        known = explain(error, "the cache" if number in WRITE_ERRORS else where)
        if known is not None:
            return _kind(known), str(known)
    return _explained_transport(error)


def _explained_status(status: int) -> tuple[str, str]:
    if status in (404, 410):
        return "gone", f"the data server does not have it ({status})"
    if status in (401, 403, 407):
        return "permanent", (
            f"the data server wants a user and password, or refuses ours ({status}): set {LOGIN} "
            f"and {PASSWORD} in the environment"
        )
    kind = "transient" if status in (408, 425, 429) or status >= 500 else "permanent"
    return kind, f"the data server answered with status {status}"


def _explained_transport(error: Exception) -> tuple[str, str]:
    reason = error.reason if isinstance(error, URLError) else error
    words = f"{type(reason).__name__}: {str(reason)[:200]}"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "permanent", f"the certificate of the data server is not trusted ({words})"
    if isinstance(error, TypeError) and "NoneType" in words:
        return "permanent", "the data server does not say how long the file is (Content-Length)"
    if isinstance(reason, TimeoutError):
        return "transient", "the data server hangs"
    if isinstance(reason, OSError) and reason.errno in (errno.EACCES, errno.EPERM):
        return "permanent", words
    if isinstance(error, OSError | HTTPException):
        return "transient", f"the connection broke off ({words})"
    return "permanent", words


def _kind(failure: Exception) -> str:
    if isinstance(failure, TransientFailure):
        return "transient"
    return "permanent" if isinstance(failure, PermanentFailure) else "transient"


def _end_with(parent: int) -> None:
    """End when the parent is gone; a program that it started may keep our pipe open."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(setup: dict[str, Any]) -> None:
    """Answer jobs until the parent closes the pipe.

    Parameters
    ----------
    setup : dict
        `options`, `timeout_s`, `n_threads`, and the parent's process id, `parent`.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    threading.Thread(target=_end_with, args=(setup["parent"],), daemon=True).start()
    worker, guard = Worker(setup["options"], setup["timeout_s"]), threading.Lock()

    def do(job: dict[str, Any]) -> None:
        answer = {"id": job["id"], **worker.answer(job)}
        with guard:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

    pool = ThreadPoolExecutor(setup["n_threads"])
    for line in sys.stdin:
        pool.submit(do, json.loads(line))
    # At once: the parent waits for nothing any more, and a download may hang.
    os._exit(0)
