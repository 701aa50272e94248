"""One exchange with a server over HTTP, under a total deadline.

When to try again, and what a response means, is not decided here.
"""

from __future__ import annotations

import socket
import ssl
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationParseError, NameResolutionError

from neuro_assets.alyx.responses import MEND_URL, RetryableError, shortened
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.errors import causes

MAX_BYTES = 1 << 28
"""Largest response that is read: 1,000 datasets are 1.3 MB, so only a wrong URL gives more."""

_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    LocationParseError,
)


class _Connection:
    """Mixed into urllib3's connections: known to the adapter, which can cut them."""

    adapter: _CuttableAdapter
    sock: socket.socket | None

    def connect(self) -> None:
        self.adapter.connections.add(self)
        super().connect()  # type: ignore[misc]
        # In this order, and the other one in `cut`: either nothing is sent any more, or the
        # caller knows that something may have been.
        self.adapter.has_connected = True
        if self.adapter.is_cut:
            self.close()  # type: ignore[attr-defined]
            raise ConnectionAbortedError("the caller has given up")


class _CuttableAdapter(HTTPAdapter):
    """Knows whether a connection was made, and can end what is being sent or read."""

    def __init__(self) -> None:
        self.has_connected = False
        self.is_cut = False
        self.connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Give the pool of connections to a host, direct or through a proxy."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Connection):
            bases = (_Connection, pool.ConnectionCls)
            pool.ConnectionCls = type("Connection", bases, {"adapter": self})
        return pool

    def cut(self) -> None:
        """End everything for good, from another thread."""
        self.is_cut = True
        for connection in list(self.connections):
            if isinstance(connection.sock, socket.socket):
                with suppress(OSError):  # closed meanwhile: that is what we want
                    connection.sock.shutdown(socket.SHUT_RDWR)


class HttpSession:
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
        self._adapter = _CuttableAdapter()
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        # With a session cookie Alyx would demand CSRF tokens of our writes.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        json = "application/json"
        self._session.headers.update({"Accept": json, "Content-Type": json})

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if token:
                request.headers["Authorization"] = f"Token {token}"
            return request

        # As `auth`, since requests would otherwise take one for this host from ~/.netrc.
        self._session.auth = sign

    def close(self) -> None:
        """Close the kept connection."""
        self._session.close()

    def send(self, method: str, url: str, data: str | None, left_s: float) -> requests.Response:
        """Send one request and read its whole response; redirects are not followed.

        Parameters
        ----------
        method, url : str
            What to send where.
        data : str or None
            JSON.
        left_s : float
            Seconds after which the caller is back whatever happens.

        Returns
        -------
        requests.Response
            With its content.

        Raises
        ------
        RetryableError
            The exchange broke off; this object cannot be used any more.
        PermanentFailure
            The address cannot be right.
        """
        response: Future[requests.Response] = Future()

        def exchange() -> None:
            try:
                response.set_result(self._exchange(method, url, data))
            except BaseException as error:
                response.set_exception(error)  # raised below, in the caller's thread

        # In a thread of its own: neither a name server nor a server that sends one byte a second
        # can be interrupted otherwise. A daemon, so that it never holds up the end of the process.
        threading.Thread(target=exchange, name="alyx-request", daemon=True).start()
        try:
            return response.result(left_s)
        except TimeoutError:
            self._adapter.cut()
            message = f"gave no whole answer within {left_s:.3g} s"
            raise RetryableError(message, may_be_done=self._adapter.has_connected) from None
        except (requests.exceptions.RequestException, LocationParseError) as error:
            raise self._explained(error, url) from error
        finally:
            if not response.done():
                self._adapter.cut()

    def _exchange(self, method: str, url: str, data: str | None) -> requests.Response:
        # A redirect would take the token along, and make a GET of a POST.
        response = self._session.request(
            method, url, data=data, timeout=self._timeout_s, stream=True, allow_redirects=False
        )
        content = bytearray()
        for part in response.iter_content(1 << 16):
            content += part
            if len(content) > MAX_BYTES:
                response.close()
                raise PermanentFailure(
                    f"{url} gives more than {MAX_BYTES >> 20} MiB: it is not an Alyx; {MEND_URL}"
                )
        response._content = bytes(content)
        return response

    def _explained(self, error: Exception, url: str) -> Exception:
        """Give what a failed exchange means."""
        if isinstance(error, _BAD_ADDRESS):
            return PermanentFailure(f"{url} is no address ({type(error).__name__}): {MEND_URL}")
        chain = causes(error)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
            return PermanentFailure(
                f"the certificate of {url} is not trusted: {MEND_URL}, or name the file of the "
                "authority that signed it in the environment variable REQUESTS_CA_BUNDLE"
            )
        last = shortened(str(chain[-1]), 120) or type(chain[-1]).__name__
        message = f"broke the connection off ({last})"
        for kind, known in (
            (TimeoutError, f"hangs: silent for {self._timeout_s:.3g} s"),
            (ConnectionRefusedError, "refuses the connection: nothing listens there"),
            (NameResolutionError, "does not resolve: no such host, or no name server"),
        ):
            if any(isinstance(cause, kind) for cause in chain):
                message = known
        return RetryableError(message, may_be_done=self._adapter.has_connected)
