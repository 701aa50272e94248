"""One exchange with a server under a total deadline, and ONE's part in it.

Importing this imports ONE and requests (half a second), so only `client` does, on first use.
When to ask again, and what an answer means, is not decided here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn

import requests
from one.webclient import AlyxClient
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import LocationParseError, NameResolutionError

from neuro_assets.alyx.responses import MEND_URL, Again, shortened
from neuro_assets.outcomes import PermanentFailure

_CHUNK = 1 << 16
MOST_BYTES = 1 << 28
"""Largest answer that is read: 1,000 datasets are 1.3 MB, so only a wrong URL gives more."""

_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    LocationParseError,
)


class OneRequests(AlyxClient):
    """ONE's request path without its parameters, caches, logins and prompts.

    Parameters
    ----------
    url : str
        Address of Alyx.
    """

    def __init__(self, url: str) -> None:
        # Not super().__init__(): it reads and writes parameter files in the home directory.
        self.silent = True
        self.base_url = url
        # Without the token, which `Wire` adds: ONE writes its headers to the debug log.
        self._headers = self._base_headers
        self.cache_mode = None
        self.default_expiry = None
        self.max_retry_attempts = 0
        self._attempt_counter = 0
        self._logged_notices: set[str] = set()

    @property
    def is_logged_in(self) -> bool:
        """Always: else ONE would ask somebody for a password."""
        return True

    def authenticate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Never log in: that prompts, and writes the token to a file."""
        raise PermanentFailure("ONE asked to log in to Alyx again: report this as a bug")

    def ask(self, send: Callable[..., requests.Response], path: str, data: Any = None) -> Any:
        """Make one request with ONE's headers and encoding, and read the JSON of its answer.

        Parameters
        ----------
        send : callable
            Takes the place of `requests.get` and its like; gives good answers only.
        path : str
            Path and query below the address.
        data : object, optional
            Sent as JSON.

        Returns
        -------
        object
            JSON; None when there is none (204).
        """
        return self._generic_request(send, path, data=data)


class _Watching(HTTPAdapter):
    """Knows the connections that are open, so that they can be cut, and whether one was made."""

    def __init__(self) -> None:
        self.has_connected = False
        self._is_cut = False
        self._open: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: self._watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _watched(self, pool: Any) -> Any:
        adapter = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                adapter._open.add(self)
                super().connect()
                # In this order, and the other one in `cut` and after it: either nothing is sent
                # any more, or the caller knows that something may have been.
                adapter.has_connected = True
                if adapter._is_cut:
                    self.close()
                    raise ConnectionAbortedError("the caller has given up")

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def cut(self) -> None:
        """End all that is being sent or read, for good, from another thread."""
        self._is_cut = True
        for connection in list(self._open):
            if isinstance(connection.sock, socket.socket):
                with contextlib.suppress(OSError):  # closed meanwhile: that is what we want
                    connection.sock.shutdown(socket.SHUT_RDWR)


class Wire:
    """A kept connection to a server, with our token, deadlines, and neither cookies nor netrc.

    Parameters
    ----------
    token : str
        Alyx's token; none is sent when empty.
    timeout_s : float
        Longest silence of the server, in seconds.
    """

    def __init__(self, token: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._adapter = _Watching()
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        # With a session cookie Alyx would demand CSRF tokens of our writes.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if token:
                request.headers["Authorization"] = f"Token {token}"
            return request

        # As `auth`, since requests would otherwise take one for this host from ~/.netrc.
        self._session.auth = sign

    def close(self) -> None:
        """Close the kept connection."""
        self._session.close()

    def send(self, method: str, url: str, *, left_s: float, **kwargs: Any) -> requests.Response:
        """Send one request and read its whole answer.

        Parameters
        ----------
        method, url : str
            What to send where.
        left_s : float
            Seconds after which the caller is back whatever happens.
        **kwargs
            Headers and data, as ONE gives them.

        Returns
        -------
        requests.Response
            With its content.

        Raises
        ------
        Again
            The exchange broke off; this object cannot be used any more.
        PermanentFailure
            The address cannot be right.
        """
        answer: Future[requests.Response] = Future()

        def exchange() -> None:
            try:
                answer.set_result(self._exchange(method, url, kwargs))
            except BaseException as error:
                answer.set_exception(error)  # raised below, in the caller's thread

        # In a thread of its own: neither a name server nor a server that sends one byte a second
        # can be interrupted otherwise. A daemon, so that it never holds up the end of the process.
        threading.Thread(target=exchange, name="alyx-request", daemon=True).start()
        try:
            return answer.result(left_s)
        except TimeoutError:
            self._adapter.cut()
            words = f"gave no whole answer within {left_s:.3g} s"
            raise Again(words, may_be_done=self._adapter.has_connected) from None
        except (requests.exceptions.RequestException, LocationParseError) as error:
            raise self._explained(error, url) from error
        finally:
            if not answer.done():
                self._adapter.cut()

    def _exchange(self, method: str, url: str, kwargs: dict[str, Any]) -> requests.Response:
        # Redirects are not followed: the token would go along, and a POST become a GET.
        options = {**kwargs, "allow_redirects": False, "timeout": self._timeout_s}
        response = self._session.request(method, url, **options)
        parts, size = [], 0
        for part in response.iter_content(_CHUNK):
            size += len(part)
            if size > MOST_BYTES:
                response.close()
                raise PermanentFailure(
                    f"{url} gives more than {MOST_BYTES >> 20} MiB: it is not an Alyx; {MEND_URL}"
                )
            parts.append(part)
        response._content = b"".join(parts)
        return response

    def _explained(self, error: Exception, url: str) -> Exception:
        """Say what a failed exchange means."""
        if isinstance(error, _BAD_ADDRESS):
            return PermanentFailure(f"{url} is no address ({type(error).__name__}): {MEND_URL}")
        causes = _causes(error)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return PermanentFailure(
                f"the certificate of {url} is not trusted: {MEND_URL}, or name the file of the "
                "authority that signed it in the environment variable REQUESTS_CA_BUNDLE"
            )
        return Again(self._words(causes), may_be_done=self._adapter.has_connected)

    def _words(self, causes: list[BaseException]) -> str:
        """Say how an exchange broke off."""
        for kind, words in (
            (NameResolutionError, "does not resolve: no such host, or no name server"),
            (ConnectionRefusedError, "refuses the connection: nothing listens there"),
            (TimeoutError, f"hangs: silent for {self._timeout_s:.3g} s"),
        ):
            if any(isinstance(cause, kind) for cause in causes):
                return words
        last = causes[-1]
        return f"broke the connection off ({shortened(str(last), 120) or type(last).__name__})"


def _causes(error: BaseException) -> list[BaseException]:
    """List what led to an error, the error itself first."""
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found
