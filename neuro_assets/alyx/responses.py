"""What a response of Alyx means: done, refused, not an Alyx at all, or worth another try.

Only judgement of statuses, headers and texts lives here, each with a message that tells a person
what to do. How responses are got is in `http`, how often is tried in `retry`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from neuro_assets.outcomes import PermanentFailure

TOKEN_VARIABLE = "ALYX_TOKEN"
"""Environment variable with the token; it is never read from a file."""

MEND_URL = "correct url in the alyx section of lab.yaml"

_DONE = (200, 201, 204)
_MAX_MESSAGE = 400

_MISTAKES = re.compile(
    # The first five were recorded from Alyx 3.6.1. The others are Django's messages for a value
    # that does not fit its field, which Alyx hands on in the same way.
    r"Cannot resolve keyword|list index out of range|Invalid\s*\w*, choices are"
    r"|has an invalid (?:date )?format|No dataset type found"
    r"|Unsupported lookup|invalid lookup|expected a number but got|is not a valid UUID"
    r"|must be either True or False"
)
"""A 500 with one of these is a mistake in the request: another try gives the same."""

_OUTAGE = "connection to server"
"""PostgreSQL's message; it comes first, since its text may quote the query."""

_TOKEN_MESSAGES = (
    "Invalid token",
    "Authentication credentials were not provided",
    "User inactive or deleted",
)


class AlyxRefused(PermanentFailure):
    """Alyx understood and said no: another try gives the same.

    Parameters
    ----------
    message : str
        One line.
    status : int
        HTTP status.
    body : object
        The response: parsed JSON, or text.
    """

    def __init__(self, message: str, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class TokenRefused(AlyxRefused):
    """The token is missing, wrong, or of a user who may not log in any more."""


class NotAlyx(AlyxRefused):
    """What answers at this address is not an Alyx, or something stands before it."""


class RetryableError(Exception):
    """An exchange that failed in a way that may pass. Never leaves the client.

    Parameters
    ----------
    message : str
        What happened, as the end of a sentence.
    wait_s : float, optional
        What the server asks us to wait, in seconds.
    may_be_done : bool
        Whether the server may have done the request, so that a POST must not be sent again.
    """

    def __init__(
        self, message: str, *, wait_s: float | None = None, may_be_done: bool = True
    ) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.may_be_done = may_be_done


@dataclass(frozen=True)
class Request:
    """What was sent, for messages.

    Parameters
    ----------
    method, base, path : str
        HTTP method, address of Alyx, and the rest with its query.
    """

    method: str
    base: str
    path: str

    def __str__(self) -> str:
        return shortened(f"{self.method} {self.base}{self.path}")

    @property
    def names_a_row_badly(self) -> bool:
        """Whether one row is requested by a name that is no uuid."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        return len(parts) > 1 and not is_uuid(parts[-1])

    def not_alyx(self, found: str) -> str:
        """Write that something else than Alyx answered, with what to do; `found`: what came."""
        return (
            f"{self.base} is not an Alyx, or a proxy stands before it: {self} gave "
            f"{found}; {MEND_URL}"
        )


@dataclass(frozen=True)
class Response:
    """What came back.

    Parameters
    ----------
    status : int
        HTTP status.
    headers : mapping
        Headers; names in any case.
    text : str
        Body without secrets; its beginning suffices.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_json(self) -> bool:
        """Whether it says of itself that it is JSON, which every response of Alyx does."""
        return "json" in self.headers.get("Content-Type", "").lower()

    @property
    def body(self) -> Any:
        """Parsed JSON, or the text where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text

    @property
    def message(self) -> str:
        """One line: the reason that it names, or the title of a web page."""
        body = self.body
        if isinstance(body, dict):
            reason = body.get("detail") or body.get("error")
            rest = {key: value for key, value in body.items() if key != "status_code"}
            return shortened(reason if isinstance(reason, str) else json.dumps(rest))
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", self.text, re.I | re.S)
        return shortened(title.group(2) if title else self.text)


def check_response(request: Request, response: Response) -> None:
    """Let a good response pass and raise what any other one means.

    Parameters
    ----------
    request : Request
        What was sent.
    response : Response
        What came back.

    Raises
    ------
    AlyxRefused
        Another try gives the same; `TokenRefused` and `NotAlyx` are kinds of it.
    RetryableError
        Another try may help.
    """
    status, message, body = response.status, response.message, response.body
    if status in _DONE and (status == 204 or response.is_json):
        return
    if status == 429:
        wait = retry_after_s(response.headers)
        raise RetryableError("throttles our requests (429)", wait_s=wait, may_be_done=False)
    if status >= 500:
        if _OUTAGE in response.text or not _MISTAKES.search(response.text):
            wait = retry_after_s(response.headers) if status == 503 else None
            raise RetryableError(f"failed with {status}: {message}", wait_s=wait)
        raise AlyxRefused(
            f"Alyx cannot make sense of {request}: {message} ({status}); this is a mistake in the "
            "request, no outage: correct the filter or the value it names, or report it as a bug",
            status,
            body,
        )
    if 300 <= status < 400:
        raise _redirected(request, response)
    if status in (401, 403) and any(text in response.text for text in _TOKEN_MESSAGES):
        raise TokenRefused(
            f"Alyx at {request.base} says {message!r}: token missing or wrong: set "
            f"{TOKEN_VARIABLE} to a token of that Alyx, of a user who may log in",
            status,
            body,
        )
    # Alyx itself answers a malformed name with a page; an unknown uuid it answers in JSON. A page
    # for a uuid is somebody else's, and must never pass for "this session was deleted".
    if not response.is_json and not (status == 404 and request.names_a_row_badly):
        page = f"a page {message!r} with status {status}"
        raise NotAlyx(request.not_alyx(page), status, body)
    if status == 404 and isinstance(body, dict) and "detail" not in body:
        raise NotAlyx(request.not_alyx(message), status, body)
    raise AlyxRefused(f"Alyx refused {request}: {message} ({status})", status, body)


def _redirected(request: Request, response: Response) -> NotAlyx:
    target = urlsplit(response.headers.get("Location", ""))
    where = f"{target.scheme}://{target.netloc}" if target.netloc else target.path or "nowhere"
    return NotAlyx(
        f"{request} is redirected to {shortened(where)}, where the token is not sent: if Alyx "
        "moved, set url in the alyx section of lab.yaml to its new address; else a login page "
        "stands before it, which this machine has to pass",
        response.status,
        response.headers.get("Location"),
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long a server asks us to wait.

    Parameters
    ----------
    headers : mapping
        Headers of the response. A date in `Retry-After` is compared with the server's own `Date`,
        so that the difference of our clocks does not count.

    Returns
    -------
    float or None
        Seconds, not negative; None when it does not say, or nonsense.
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    until = http_date(text)
    if until is None:
        return None
    now = http_date(headers.get("Date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP date.

    Parameters
    ----------
    text : str or None
        `Fri, 20 Nov 2026 22:00:17 GMT`.

    Returns
    -------
    datetime.datetime or None
        Aware, UTC; None for anything that is no date with a zone.
    """
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def shortened(text: str, most: int = _MAX_MESSAGE) -> str:
    """Make one line of moderate length.

    Parameters
    ----------
    text : str
        Any text.
    most : int
        Characters to keep.

    Returns
    -------
    str
        White space collapsed; the end cut off where it is longer.
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."


def is_uuid(text: str) -> bool:
    """Tell whether a text is the name of a row."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
