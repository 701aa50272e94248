"""What discovery remembers of an Alyx server between two scans, and how far back a scan reaches.

Alyx's times are naive and in the server's zone, so that its clock goes back an hour each autumn;
no bound made here lies behind a row that was written after the instant that was meant.
"""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, ValidationError

from neuro_assets.outcomes import PermanentFailure

VERSION = 2

_FOLD = timedelta(hours=2)
"""Longer than any zone's clock is set back at once."""


def local_bound(instant: datetime, zone: ZoneInfo) -> str:
    """Give an instant in the server's naive time, so that no later row lies before it.

    Rows that are written soon after the instant carry a smaller local time where the clock was
    set back in between: the smaller one of the two offsets counts.

    Parameters
    ----------
    instant : datetime
        From when on rows are wanted, aware.
    zone : ZoneInfo
        The server's zone.

    Returns
    -------
    str
        `YYYY-MM-DDTHH:MM:SS`.
    """
    moments = (instant, instant + _FOLD)
    offset = min(moment.astimezone(zone).utcoffset() or timedelta() for moment in moments)
    naive = instant.astimezone(UTC).replace(tzinfo=None) + offset
    return naive.isoformat(timespec="seconds")


class Settling(BaseModel):
    """Raw data of a session that were complete once, and are read once more."""

    token: str
    since: datetime


class AlyxCursor(BaseModel):
    """What is remembered.

    Parameters
    ----------
    since : datetime or None
        Server's time at the first response of the last whole scan, UTC.
    sessions, datasets, insertions : dict of str to str
        Tokens of the rows that the last scan's window held, by id: the next window overlaps it,
        and only rows that are new or differ count.
    pending : list of str
        Sessions that are still to be read.
    failed : list of str
        Sessions that could not be read; their turn comes last, so that they hold up no other.
    settling : dict of str to Settling
        Sessions whose data were complete once.
    gone : list of str
        Sessions that were not found once; a second time they are deleted.
    duplicates : dict of str to list of str
        Sessions that share subject, date and number with others, and those.
    """

    model_config = ConfigDict(extra="forbid")

    since: datetime | None = None
    sessions: dict[str, str] = {}
    datasets: dict[str, str] = {}
    insertions: dict[str, str] = {}
    pending: list[str] = []
    failed: list[str] = []
    settling: dict[str, Settling] = {}
    gone: list[str] = []
    duplicates: dict[str, list[str]] = {}

    @classmethod
    def decode(cls, text: str | None) -> AlyxCursor:
        """Read a cursor.

        Parameters
        ----------
        text : str or None
            From `encode`; None or empty before the first scan.

        Returns
        -------
        AlyxCursor
            One of another version counts as none: the reconciliation finds what is missed.

        Raises
        ------
        PermanentFailure
            When the text is no cursor.
        """
        if not text:
            return cls()
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                return cls()
            rows: Any = json.loads(zlib.decompress(base64.b64decode(content["rows"])))
            return cls.model_validate({"since": content["since"], **rows})
        except (ValueError, KeyError, TypeError, zlib.error, ValidationError) as error:
            raise PermanentFailure(
                "the sensor's cursor cannot be read; reset it in the user interface, nothing is "
                "lost"
            ) from error

    def encode(self) -> str:
        """Write a cursor: about 20 bytes for each row of the window."""
        rows = self.model_dump(mode="json", exclude={"since"})
        data = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 9)
        since = self.since.isoformat() if self.since else None
        return json.dumps(
            {"version": VERSION, "since": since, "rows": base64.b64encode(data).decode()}
        )
