"""One call of Alyx: tried until there is a response, no hope, or no time.

Only when and how often to try lives here. One exchange is in `http`, its meaning in `responses`,
and which calls there are in `client`. urllib3's `Retry` is not used: whether a 500 may pass is in
its body, a POST may be repeated only where nothing can have been done, and all of a call has one
deadline.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from neuro_assets.alyx.responses import (
    MEND_URL,
    TOKEN_VARIABLE,
    Request,
    Response,
    RetryableError,
    check_response,
    http_date,
)
from neuro_assets.outcomes import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.http import HttpSession

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_LONGEST_THROTTLE_S = 60.0
"""Alyx counts requests by the minute, so an honest `Retry-After` is not longer."""

_ERROR_BYTES = 1 << 16
_log = logging.getLogger(__name__)


class RetryingClient:
    """Sends requests to one Alyx server; parameters and errors are those of `client.Alyx`."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 30,
        deadline_s: float = 120,
        tries: int = 6,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked_url(url)
        self.n_requests = 0
        self.date: datetime | None = None
        self._token = _checked_token(token)
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._tries = tries
        self._sleep = sleep
        self._notice = ""
        self._http: HttpSession | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Alyx({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_http": None}

    def _call(self, method: str, path: str, data: Any = None) -> Any:
        """Try until there is a response, or no hope, or no time."""
        request, attempt = Request(method, self.url, path), 0
        end = time.monotonic() + self._deadline_s
        while True:
            attempt += 1
            try:
                return self._exchange(request, data, end - time.monotonic())
            except RetryableError as error:
                self._drop()
                wait_s = _wait_s(error, attempt)
                final = self._final(request, error, attempt, end - time.monotonic() - wait_s)
                if final:
                    raise TransientFailure(final) from error.__cause__
            self._sleep(wait_s)

    def _final(
        self, request: Request, error: RetryableError, attempt: int, spare_s: float
    ) -> str | None:
        """Give the reason for no further try; None when there is one."""
        failure = f"{request}: Alyx {error}"
        if request.method == "POST" and error.may_be_done:
            return f"{failure}; it may have been done, so look in Alyx before sending it again"
        if error.wait_s is not None and error.wait_s > _LONGEST_THROTTLE_S:
            return f"{failure}; it asks us to wait {error.wait_s:.0f} s: try again then"
        if attempt < self._tries and spare_s > 0:
            return None
        why = f"no time left of {self._deadline_s:.3g} s" if spare_s <= 0 else "the last one"
        return (
            f"{failure} (try {attempt}; {why}): see whether Alyx is up and this machine reaches "
            f"it; if it never did, {MEND_URL}"
        )

    def _exchange(self, request: Request, data: Any, left_s: float) -> Any:
        """Make one request, judge its response and give its JSON."""
        http = self._session(is_fresh=request.method == "POST")
        body = None if data is None else json.dumps(data)
        self.n_requests += 1
        found = http.send(request.method, f"{self.url}{request.path}", body, left_s)
        self.date = http_date(found.headers.get("Date"))
        text = found.content[:_ERROR_BYTES].decode("utf-8", "replace")
        # Without the token, which a proxy's error page may quote.
        text = text.replace(self._token, "***") if self._token else text
        check_response(request, Response(found.status_code, found.headers, text))
        notice = found.headers.get("Alyx-API-Notice", self._notice)
        if notice != self._notice:
            _log.info("notice of Alyx at %s: %s", self.url, notice)
            self._notice = notice
        try:
            return None if found.status_code == 204 else json.loads(found.content)
        except ValueError as error:
            raise RetryableError(f"sent broken JSON ({error})") from error

    def _session(self, *, is_fresh: bool) -> HttpSession:
        """Give this process's connection; a fork must not share its parent's."""
        from neuro_assets.alyx.http import HttpSession

        if self._pid != os.getpid():
            self._http, self._pid = None, os.getpid()
        if is_fresh:
            # Whether a request arrived over a kept connection that then turns out to be closed
            # cannot be known; over a new one it can.
            self._drop()
        if self._http is None:
            self._http = HttpSession(self._token, self._timeout_s)
        return self._http

    def _drop(self) -> None:
        if self._http is not None:
            self._http.close()
        self._http = None


def _wait_s(error: RetryableError, attempt: int) -> float:
    """Give seconds to wait: what was asked for, or twice as long each time; never in step."""
    if error.wait_s is not None:
        return min(error.wait_s, _LONGEST_THROTTLE_S) + random.uniform(0.0, 1.0)
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, or a port that is no number
        is_address = False
    if not is_address:
        raise PermanentFailure(
            f"{url.partition('?')[0]!r} is not like https://alyx.example.org: {MEND_URL}"
        )
    if "@" in parts.netloc or parts.query:
        raise PermanentFailure(
            f"the address of Alyx at {parts.hostname} holds a login or a query, which may be "
            f"secret: remove it, and set {TOKEN_VARIABLE} instead"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _checked_token(token: str) -> str:
    # Of the secret itself nothing may be shown. The HTTP library would quote it.
    if not re.fullmatch(r"[!-~]*", token.strip()):
        raise PermanentFailure(
            f"the token of Alyx holds characters that no token has: set {TOKEN_VARIABLE} to the "
            "token alone, without the word Token, spaces or quotes"
        )
    return token.strip()
