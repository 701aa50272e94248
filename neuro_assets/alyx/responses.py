"""What an answer of Alyx means: done, refused, not an Alyx at all, or worth asking again.

Only judgement of statuses, headers and texts lives here, each with the words that tell a person
what to do. How answers are got is in `transport`, how often is asked in `client`.
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
_MOST_WORDS = 400

_MISTAKES = re.compile(
    # The first five were recorded from Alyx 3.6.1. The others are Django's words for a value
    # that does not fit its field, which Alyx hands on in the same way.
    r"Cannot resolve keyword|list index out of range|Invalid\s*\w*, choices are"
    r"|has an invalid (?:date )?format|No dataset type found"
    r"|Unsupported lookup|invalid lookup|expected a number but got|is not a valid UUID"
    r"|must be either True or False"
)
"""A 500 with these words is a mistake in the request: asking again gives the same."""

_OUTAGE = "connection to server"
"""PostgreSQL's words; they come first, since its text may quote the query."""

_TOKEN_WORDS = (
    "Invalid token",
    "Authentication credentials were not provided",
    "User inactive or deleted",
)


class AlyxRefused(PermanentFailure):
    """Alyx understood and said no: asking again gives the same answer.

    Parameters
    ----------
    message : str
        One line.
    status : int
        HTTP status.
    body : object
        The answer: parsed JSON, or text.
    """

    def __init__(self, message: str, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class TokenRefused(AlyxRefused):
    """The token is missing, wrong, or of a user who may not log in any more."""


class NotAlyx(AlyxRefused):
    """What answers at this address is not an Alyx, or something stands before it."""


class Again(Exception):
    """An exchange that failed in a way that may pass. Never leaves the client.

    Parameters
    ----------
    words : str
        What happened, as the end of a sentence.
    wait_s : float, optional
        What the server asks us to wait, in seconds.
    may_be_done : bool
        Whether the server may have done what was asked, so that a POST must not be sent again.
    """

    def __init__(
        self, words: str, *, wait_s: float | None = None, may_be_done: bool = True
    ) -> None:
        super().__init__(words)
        self.wait_s = wait_s
        self.may_be_done = may_be_done


@dataclass(frozen=True)
class Request:
    """What was asked, for messages.

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
        """Whether one row is asked for by a name that is no uuid."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        return len(parts) > 1 and not _is_uuid(parts[-1])


@dataclass(frozen=True)
class Answer:
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
        """Whether it says of itself that it is JSON, which every answer of Alyx does."""
        return "json" in self.headers.get("Content-Type", "").lower()

    @property
    def body(self) -> Any:
        """Parsed JSON, or the text where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text

    @property
    def words(self) -> str:
        """What it says, in one line: the reason that it names, or the title of a web page."""
        body = self.body
        if isinstance(body, dict):
            said = body.get("detail") or body.get("error")
            rest = {key: value for key, value in body.items() if key != "status_code"}
            return shortened(said if isinstance(said, str) else json.dumps(rest))
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", self.text, re.I | re.S)
        return shortened(title.group(2) if title else self.text)


def judge(request: Request, answer: Answer) -> None:
    """Let a good answer pass and raise what any other one means.

    Parameters
    ----------
    request : Request
        What was asked.
    answer : Answer
        What came back.

    Raises
    ------
    AlyxRefused
        Asking again gives the same; `TokenRefused` and `NotAlyx` are kinds of it.
    Again
        Asking again may help.
    """
    if answer.status in _DONE and (answer.status == 204 or answer.is_json):
        return
    if answer.status == 429:
        wait = retry_after_s(answer.headers)
        raise Again("throttles our requests (429)", wait_s=wait, may_be_done=False)
    if answer.status >= 500:
        raise _of_failed_server(request, answer)
    raise _of_refusal(request, answer)


def _of_failed_server(request: Request, answer: Answer) -> Exception:
    if _OUTAGE not in answer.text and _MISTAKES.search(answer.text):
        return AlyxRefused(
            f"Alyx cannot make sense of {request}: {answer.words} ({answer.status}); this is a "
            "mistake in the request, no outage: correct the filter or the value it names, or "
            "report it as a bug",
            answer.status,
            answer.body,
        )
    wait = retry_after_s(answer.headers) if answer.status == 503 else None
    return Again(f"failed with {answer.status}: {answer.words}", wait_s=wait)


def _of_refusal(request: Request, answer: Answer) -> AlyxRefused:
    status, words, body = answer.status, answer.words, answer.body
    if 300 <= status < 400:
        return _of_redirect(request, answer)
    if status in (401, 403) and any(phrase in answer.text for phrase in _TOKEN_WORDS):
        return TokenRefused(
            f"Alyx at {request.base} says {words!r}: token missing or wrong: set {TOKEN_VARIABLE} "
            "to a token of that Alyx, of a user who may log in",
            status,
            body,
        )
    # Alyx itself answers a malformed name with a page; an unknown uuid it answers in JSON. A page
    # for a uuid is somebody else's, and must never pass for "this session was deleted".
    if answer.is_json or (status == 404 and request.names_a_row_badly):
        if status == 404 and isinstance(body, dict) and "detail" not in body:
            return NotAlyx(not_alyx(request, words), status, body)
        return AlyxRefused(f"Alyx refused {request}: {words} ({status})", status, body)
    return NotAlyx(not_alyx(request, f"a page {words!r} with status {status}"), status, body)


def _of_redirect(request: Request, answer: Answer) -> NotAlyx:
    target = urlsplit(answer.headers.get("Location", ""))
    where = f"{target.scheme}://{target.netloc}" if target.netloc else target.path or "nowhere"
    return NotAlyx(
        f"{request} is redirected to {shortened(where)}, where the token is not sent: if Alyx "
        "moved, set url in the alyx section of lab.yaml to its new address; else a login page "
        "stands before it, which this machine has to pass",
        answer.status,
        answer.headers.get("Location"),
    )


def not_alyx(request: Request, found: str) -> str:
    """Say that something else than Alyx answered.

    Parameters
    ----------
    request : Request
        What was asked.
    found : str
        What came instead.

    Returns
    -------
    str
        One line, with what to do.
    """
    return (
        f"{request.base} is not an Alyx, or a proxy stands before it: {request} gave "
        f"{found}; {MEND_URL}"
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long a server asks us to wait.

    Parameters
    ----------
    headers : mapping
        Headers of the answer. A date in `Retry-After` is compared with the server's own `Date`,
        so that the difference of our clocks does not count.

    Returns
    -------
    float or None
        Seconds, not negative; None when it does not say, or nonsense.
    """
    said = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", said):
        return float(said)
    until = http_date(said)
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


def shortened(text: str, most: int = _MOST_WORDS) -> str:
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


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
