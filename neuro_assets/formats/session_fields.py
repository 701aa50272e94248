"""Subject, date and number of a session, from its folder: ONE's layout, or a bare run folder.

Names are handed on as they were typed; they are made safe for keys elsewhere.

The rule for a bare folder (no `Subjects/<subject>/<date>/<number>`):

- subject: a folder `sub-<x>` (BIDS) gives x; else what stands before the date in the folder's
  name, else before the date in the run's name; else the folder's name without gate and probe.
- date: when the acquisition program created the first recording; else a date in the name; else
  the oldest modification time among the files.
- number: one to three digits behind the date in that name; else a folder `ses-<digits>`; else 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

from neuro_assets.formats.model import Problem, RawRecording
from neuro_assets.formats.names import parse_spikeglx_name
from neuro_assets.formats.walk import Listing

_DATE = re.compile(r"(?<!\d)(\d{4})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)")
_NUMBER = re.compile(r"^[_\-. ]+0*(\d{1,3})(?![\d:-])(?:[_\-. ]|$)")
_TAIL = re.compile(r"(_g\d+)?(_t\d+)?(_imec\d*)?$")
_NUMBER_FOLDER = re.compile(r"^\d{1,3}$")


@dataclass(frozen=True)
class SessionFields:
    """Who, when, which.

    Parameters
    ----------
    lab, subject : str
        As typed; lab is empty where the layout has none.
    date : datetime.date
        Day of the session.
    number : str
        Number of the day, as typed (`001`).
    """

    lab: str
    subject: str
    date: date
    number: str


def one_fields(path: PurePosixPath) -> SessionFields | None:
    """Read `[<lab>/]Subjects/<subject>/<yyyy-mm-dd>/<number>`.

    Parameters
    ----------
    path : PurePosixPath
        Path that ends with the session folder; what stands before the lab is ignored.

    Returns
    -------
    SessionFields or None
        None when the path is not of that form.
    """
    parts = path.parts
    if len(parts) < 4 or parts[-4] != "Subjects" or not _NUMBER_FOLDER.match(parts[-1]):
        return None
    day = parse_day(parts[-2])
    if day is None:
        return None
    return SessionFields(parts[-5] if len(parts) > 4 else "", parts[-3], day, parts[-1])


def parse_day(text: str) -> date | None:
    """Read a date folder.

    Parameters
    ----------
    text : str
        `yyyy-mm-dd`.

    Returns
    -------
    date or None
        None for anything else.
    """
    if not re.match(r"^\d{4}-\d{2}-\d{2}$", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def bare_fields(
    folder: Path, recordings: Sequence[RawRecording], listing: Listing
) -> SessionFields:
    """Make the fields of a folder without ONE's layout, by the rule of this module.

    Parameters
    ----------
    folder : Path
        The session folder.
    recordings : sequence of RawRecording
        What was found in it.
    listing : Listing
        Its files.

    Returns
    -------
    SessionFields
        Always complete.
    """
    folders = [folder.name, *_folders(recordings)]
    names = [folder.name, *_runs(recordings), *_folders(recordings)]
    dated = next((name for name in names if _find_day(name)), None)
    subject = _bids("sub", folders) or _before_date(dated)
    number = (_behind_date(dated) if dated else None) or _digits(_bids("ses", folders)) or "1"
    created = [r.identity.created.date() for r in recordings if r.identity.created]
    day = (
        (created[0] if created else None)
        or (_find_day(dated) if dated else None)
        or _oldest(listing)
    )
    return SessionFields("", subject or _TAIL.sub("", folder.name) or folder.name, day, number)


def several_dates(recordings: Sequence[RawRecording]) -> Problem | None:
    """Warn of a bare folder that holds recordings of several days.

    Parameters
    ----------
    recordings : sequence of RawRecording
        What was found in it.

    Returns
    -------
    Problem or None
        Of kind `several_dates`.
    """
    days = sorted({r.identity.created.date() for r in recordings if r.identity.created})
    if len(days) < 2:
        return None
    return Problem(
        kind="several_dates",
        path=recordings[-1].main.files[0],
        detail=f"recordings from {days[0]} to {days[-1]} count as one session here; put each day "
        "in a folder of its own, or use <subject>/<date>/<number>",
    )


def _runs(recordings: Sequence[RawRecording]) -> list[str]:
    """Run names from the files' present names."""
    runs = []
    for recording in recordings:
        name = parse_spikeglx_name(PurePosixPath(recording.main.files[0]).name)
        if name is not None:
            runs.append(name.run)
    return runs


def _folders(recordings: Sequence[RawRecording]) -> list[str]:
    return [
        part for recording in recordings for part in PurePosixPath(recording.main.files[0]).parts
    ]


def _bids(entity: str, folders: Sequence[str]) -> str | None:
    for name in folders:
        found = re.match(rf"^{entity}-([^_]+)", name)
        if found:
            return found[1]
    return None


def _find_day(name: str) -> date | None:
    for found in _DATE.finditer(name):
        try:
            return date(int(found[1]), int(found[2]), int(found[3]))
        except ValueError:
            continue
    return None


def _date_span(name: str) -> tuple[int, int]:
    for found in _DATE.finditer(name):
        if _find_day(found.group()):
            return found.span()
    return len(name), len(name)


def _before_date(name: str | None) -> str | None:
    return name[: _date_span(name)[0]].strip("_-. ") or None if name else None


def _behind_date(name: str) -> str | None:
    found = _NUMBER.match(_TAIL.sub("", name)[_date_span(name)[1] :])
    return found[1] if found else None


def _digits(text: str | None) -> str | None:
    return text if text and text.isascii() and text.isdigit() else None


def _oldest(listing: Listing) -> date:
    times = [found.mtime_ns for found in listing.files]
    return datetime.fromtimestamp(min(times, default=0) / 1e9, UTC).date()
