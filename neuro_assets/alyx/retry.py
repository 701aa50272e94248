"""One call of Alyx: asked until there is an answer, no hope, or no time.

Only when and how often to ask lives here. One exchange is in `transport`, its meaning in
`answers`, and what there is to ask for in `client`.
"""

from __future__ import annotations

import json
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
    Again,
    Answer,
    Request,
    http_date,
    judge,
)
from neuro_assets.outcomes import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    import requests

    from neuro_assets.alyx.http import OneRequests, Wire

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_LONGEST_THROTTLE_S = 60.0
"""Alyx counts requests by the minute, so an honest `Retry-After` is not longer."""

_ERROR_BYTES = 1 << 16


class Asking:
    """Asks one Alyx server; what it takes and raises is told in `client.Alyx`."""

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
        self._wire: Wire | None = None
        self._one: OneRequests | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Alyx({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_wire": None, "_one": None}

    def _ask(self, method: str, path: str, data: Any = None) -> Any:
        """Ask until there is an answer, or no hope, or no time."""
        request, start = Request(method, self.url, path), time.monotonic()
        end, attempt = start + self._deadline_s, 0
        while True:
            attempt += 1
            try:
                return self._exchange(request, data, end - time.monotonic())
            except Again as again:
                self._drop()
                wait_s = _wait_s(again, attempt)
                final = self._final(request, again, attempt, end - time.monotonic() - wait_s)
                if final:
                    raise TransientFailure(final) from again.__cause__
            self._sleep(wait_s)

    def _final(self, request: Request, again: Again, attempt: int, spare_s: float) -> str | None:
        """Say why it is not asked again; None when it is."""
        said = f"{request}: Alyx {again}"
        if request.method == "POST" and again.may_be_done:
            return f"{said}; it may have been done, so look in Alyx before sending it again"
        if again.wait_s is not None and again.wait_s > _LONGEST_THROTTLE_S:
            return f"{said}; it asks us to wait {again.wait_s:.0f} s: try again then"
        if attempt < self._tries and spare_s > 0:
            return None
        why = f"no time left of {self._deadline_s:.3g} s" if spare_s <= 0 else "the last one"
        return (
            f"{said} (try {attempt}; {why}): see whether Alyx is up and this machine reaches it; "
            f"if it never did, {MEND_URL}"
        )

    def _exchange(self, request: Request, data: Any, left_s: float) -> Any:
        """Make one request, judge its answer and give its JSON."""
        wire, one = self._connection(is_fresh=request.method == "POST")

        def send(url: str, *, headers: dict[str, str], data: Any, **_: Any) -> requests.Response:
            self.n_requests += 1
            response = wire.send(request.method, url, left_s=left_s, headers=headers, data=data)
            self.date = http_date(response.headers.get("Date"))
            text = response.content[:_ERROR_BYTES].decode("utf-8", "replace")
            judge(request, Answer(response.status_code, response.headers, self._without(text)))
            return response

        try:
            return one.ask(send, request.path, data)
        except json.JSONDecodeError as error:
            raise Again(f"sent broken JSON ({error})") from error

    def _connection(self, *, is_fresh: bool) -> tuple[Wire, OneRequests]:
        """Give this process's connection; a fork must not share its parent's."""
        from neuro_assets.alyx.http import OneRequests, Wire

        if self._one is None:
            self._one = OneRequests(self.url)
        if self._pid != os.getpid():
            self._wire, self._pid = None, os.getpid()
        if is_fresh:
            # Whether a request arrived over a kept connection that then turns out to be closed
            # cannot be known; over a new one it can.
            self._drop()
        if self._wire is None:
            self._wire = Wire(self._token, self._timeout_s)
        return self._wire, self._one

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _without(self, text: str) -> str:
        """Remove the token, which a proxy's error page may quote."""
        return text.replace(self._token, "***") if self._token else text


def _wait_s(again: Again, attempt: int) -> float:
    """Give seconds to wait: what was asked for, or twice as long each time; never in step."""
    if again.wait_s is not None:
        return min(again.wait_s, _LONGEST_THROTTLE_S) + random.uniform(0.0, 1.0)
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
