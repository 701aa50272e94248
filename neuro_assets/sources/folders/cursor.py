"""The cursor of a local session source: what was seen of each session, as one short text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from neuro_assets.formats.walk import Listing
from neuro_assets.outcomes import PermanentFailure

VERSION = 2
"""Version 1 knew of readers' recordings only the file that the pattern matches."""


class State(StrEnum):
    """How far a session has come."""

    NEW = "n"
    """Seen, not described yet (a limit was reached)."""
    UNSETTLED = "u"
    """Described; its files changed within the settle time."""
    WAITING = "w"
    """Settled, but something is missing."""
    READY = "r"
    """Settled and complete."""
    NOTHING = "x"
    """A folder that holds no recording."""


@dataclass(frozen=True)
class Entry:
    """What the cursor keeps of one session.

    Parameters
    ----------
    fingerprint : str
        Hash of names, sizes and times of its files.
    since : int
        When this fingerprint was first seen, seconds since 1970.
    state : State
        How far it has come.
    """

    fingerprint: str
    since: int
    state: State


def fingerprint(listing: Listing, more: Iterable[str] = ()) -> str:
    """Hash what `stat` tells of a session's files, and what else decides about them.

    Parameters
    ----------
    listing : Listing
        Its files.
    more : iterable of str
        Any number of lines, also none.

    Returns
    -------
    str
        12 hexadecimal digits of the files, and after a `-` 6 of the lines, where there are any.
    """
    digest = hashlib.sha256()
    for found in listing.files:
        digest.update(f"{found.path}\0{found.size}\0{found.mtime_ns}\0".encode())
    for problem in listing.problems:
        digest.update(f"{problem.kind}\0{problem.path}\0".encode())
    lines = "\0".join(more)
    of_lines = f"-{hashlib.sha256(lines.encode()).hexdigest()[:6]}" if lines else ""
    return digest.hexdigest()[:12] + of_lines


def is_of_same_files(entry: Entry, fingerprint: str) -> bool:
    """Tell whether an entry is of the files of a fingerprint, whatever else decides about them."""
    return entry.fingerprint.partition("-")[0] == fingerprint.partition("-")[0]


def stat_line(value: object) -> str:
    """Give size and time of a file that is named by its absolute path; empty for all else."""
    path = Path(value).expanduser() if isinstance(value, str) else None
    if path is None or not path.is_absolute():
        return ""
    try:
        found = path.stat()
    except OSError:
        return "not there"  # describing says so by name
    return f"{found.st_size} {found.st_mtime_ns}"


def encode(entries: dict[str, Entry]) -> str:
    """Write a cursor: about 25 bytes a session, because paths repeat and are compressed.

    Parameters
    ----------
    entries : dict of str to Entry
        By session id.

    Returns
    -------
    str
        JSON.
    """
    rows = {name: [e.fingerprint, e.since, e.state.value] for name, e in sorted(entries.items())}
    data = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 9)
    return json.dumps({"version": VERSION, "sessions": base64.b64encode(data).decode()})


def decode(cursor: str | None) -> dict[str, Entry]:
    """Read a cursor.

    Parameters
    ----------
    cursor : str or None
        From `encode`; None or empty before the first call.

    Returns
    -------
    dict of str to Entry
        By session id; of version 1 all to be described again. A cursor of another version counts
        as none: everything is looked at anew.

    Raises
    ------
    PermanentFailure
        When the text is no cursor.
    """
    if not cursor:
        return {}
    try:
        content = json.loads(cursor)
        version = content["version"]
        if version not in (1, VERSION):
            return {}
        rows = json.loads(zlib.decompress(base64.b64decode(content["sessions"])))
        return {
            name: Entry(str(f), int(s), State(state) if version == VERSION else State.NEW)
            for name, (f, s, state) in rows.items()
        }
    except (ValueError, KeyError, TypeError, zlib.error, binascii.Error) as error:
        raise PermanentFailure(
            "the sensor's cursor cannot be read; reset it in the user interface, nothing is lost"
        ) from error
