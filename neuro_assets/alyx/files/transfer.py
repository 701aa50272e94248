"""Reading one file from a data server or from S3, in pieces, with failures that say what to do.

Which files, where to, and whether what came is right is decided by `fetch`.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as SilentServer

from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure, TransientFailure
from neuro_assets.store.errors import causes, explain, server_code

if TYPE_CHECKING:
    from s3fs import S3FileSystem

LOGIN, PASSWORD, SERVER = "HTTP_DATA_SERVER_LOGIN", "HTTP_DATA_SERVER_PWD", "HTTP_DATA_SERVER"
"""Environment variables, under ONE's names. Nobody but `SERVER` gets the password: whoever may
write to the database chooses the addresses of files."""

N_THREADS = 4
"""Files at once, as ONE does."""

_PART = 8 << 20
_NO_SIZE = {400, 403, 405, 501}
"""Answers to HEAD of servers that only know GET, and of signed links."""


class Gone(PermanentFailure):
    """The place does not have the file under this name."""


class Transfer:
    """Connections to data servers and S3, for one fetch of files by several threads.

    Parameters
    ----------
    options : dict
        Options of `s3fs.S3FileSystem`, and our `max_attempts`.
    timeout_s : float
        Longest silence of a server, seconds.
    patience_s : float
        Seconds in which 8 MB, or the end, must arrive: a server may send a byte a minute for ever.
    """

    def __init__(self, options: dict[str, Any], timeout_s: float, patience_s: float) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._running: set[requests.Response] = set()
        self._session = requests.Session()
        # As `auth`, since requests would otherwise take a login for this host from ~/.netrc.
        self._session.auth = _sign
        self._session.headers["Accept-Encoding"] = "identity"

    def close(self) -> None:
        """Break off what is being read."""
        for response in list(self._running):
            with suppress(RuntimeError, ValueError, OSError):  # it has just ended
                response.raw.shutdown()
        self._session.close()

    def size(self, source: str) -> int | None:
        """Ask how long a file is.

        Parameters
        ----------
        source : str
            `https://...` or `s3://...`.

        Returns
        -------
        int or None
            Bytes; None where the server does not say.

        Raises
        ------
        Gone
            It is not there.
        PermanentFailure, TransientFailure
            Trying again gives the same, or may help.
        """
        with _explained(source):
            if source.startswith("s3://"):
                return int(self._s3.info(_key(source))["size"])
            response = self._session.head(
                _url(source), timeout=self._timeout_s, allow_redirects=True
            )
            return None if response.status_code in _NO_SIZE else _length(response)

    def read(self, source: str) -> Iterator[bytes]:
        """Read one file.

        Parameters
        ----------
        source : str
            `https://...` or `s3://...`.

        Yields
        ------
        bytes
            The next piece of it.

        Raises
        ------
        Gone, PermanentFailure, TransientFailure
            As for `size`; an early end of the connection may pass as the end of the file.
        """
        since, n_new = time.monotonic(), 0
        with _explained(source), self._opened(source) as file:
            while True:
                part = file.read1(_PART) if hasattr(file, "read1") else file.read(_PART)
                if not part:
                    return
                yield part
                n_new += len(part)
                if n_new >= _PART:
                    since, n_new = time.monotonic(), 0
                elif time.monotonic() - since > self._patience_s:
                    raise TransientFailure(f"{source}: too little came in {self._patience_s:.0f} s")

    @contextmanager
    def _opened(self, source: str) -> Iterator[Any]:
        if source.startswith("s3://"):
            with self._s3.open(_key(source), "rb", block_size=_PART, cache_type="none") as file:
                yield file
            return
        with self._session.get(_url(source), timeout=self._timeout_s, stream=True) as response:
            _length(response)
            self._running.add(response)
            try:
                yield response.raw
            finally:
                self._running.discard(response)

    @cached_property
    def _s3(self) -> S3FileSystem:
        from s3fs import S3FileSystem

        from neuro_assets.store.s3 import full_options

        options = dict(self._options)
        attempts = options.pop("max_attempts", None)
        made = S3FileSystem(**full_options(options), skip_instance_cache=True)
        made.retries = attempts or made.retries
        return made


def _key(source: str) -> str:
    return source.removeprefix("s3://")


def _url(source: str) -> str:
    # Encoded as ONE does, so that both ask for the same file.
    parts = urlsplit(source, allow_fragments=False)
    return parts._replace(path=quote(parts.path)).geturl()


def _shown(text: str) -> str:
    """Leave out what follows a `?`: the query of a signed link is a password."""
    return re.sub(r"\?\S*", "?...", text)


def _sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add user and password for the data server that is named; requests drops them elsewhere."""
    server = os.environ.get(SERVER, "").rstrip("/")
    login, password = os.environ.get(LOGIN, ""), os.environ.get(PASSWORD, "")
    if login and password and server and str(request.url).startswith(f"{server}/"):
        return requests.auth.HTTPBasicAuth(login, password)(request)
    return request


def _length(response: requests.Response) -> int | None:
    """Give the length that a good answer names; raise what a bad one means."""
    status = response.status_code
    if status in (404, 410):
        raise Gone(f"the data server does not have it ({status})")
    if status in (401, 403, 407):
        raise PermanentFailure(
            f"{_shown(response.url)}: the data server wants a user and password, or refuses ours "
            f"({status}): set {LOGIN} and {PASSWORD} in the environment, and {SERVER} to the "
            "address of the server that they are for; no other one gets them"
        )
    if status != 200:
        kind = TransientFailure if status in (408, 425, 429) or status >= 500 else PermanentFailure
        raise kind(f"{_shown(response.url)}: the data server answered with status {status}")
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Raise a typed failure, without secrets, in place of what a library raises."""
    try:
        yield
    except (NeuroAssetsError, GeneratorExit):
        raise
    except Exception as error:
        raise _failure(error, source) from error


def _failure(error: Exception, source: str) -> NeuroAssetsError:
    if source.startswith("s3://"):
        if isinstance(error, FileNotFoundError) and server_code(error) != "NoSuchBucket":
            return Gone("it is not there")
        return explain(error, source) or TransientFailure(f"{source}: {type(error).__name__}")
    kind = f"{type(error).__name__}: {_shown(str(error))[:200]}"
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
        return PermanentFailure(f"the certificate of the data server is not trusted ({kind})")
    if isinstance(error, requests.exceptions.Timeout | SilentServer | TimeoutError):
        return TransientFailure(f"{source}: the data server hangs")
    if isinstance(error, requests.exceptions.RequestException | HTTPError | OSError):
        if isinstance(error, ValueError):  # requests' way to say that it is no address
            return PermanentFailure(f"{source} cannot be fetched ({kind})")
        return TransientFailure(f"{source}: the connection broke off ({kind})")
    return PermanentFailure(f"{source}: {kind}")
