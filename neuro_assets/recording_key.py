"""The key of a recording, for people; pure.

One key is one recording of one probe: `<subject>_<yyyymmdd>_<number>_<probe>[-<qualifier>]`.
The key is for people. Which recording it stands for is the registry's business.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Self

NO_PROBE = "noprobe"
"""Probe name of a session without probes."""

MOST_CHARACTERS = 64
"""Of one part of a key; longer ones are cut and get a hash."""

_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]")
_TAIL = re.compile(
    r"(?P<subject>.+)_(?P<date>[0-9]{8})_(?P<number>[A-Za-z0-9.]+)_"
    r"(?P<probe>[A-Za-z0-9.]+)(?:-(?P<qualifier>[A-Za-z0-9.-]+))?"
)


def safe_name(text: str) -> str:
    """Replace every character that may not stand in a key by `-`.

    Parameters
    ----------
    text : str
        A subject's name as somebody typed it.

    Returns
    -------
    str
        Letters, digits, `_`, `.` and `-` only; no `..`, and never empty or of dots alone, so that
        it is safe as a folder name and cannot be Dagster's range syntax (`...`).
    """
    # A letter with an accent is one character or two, as a disk or a server keeps it.
    name = _ALLOWED.sub("-", unicodedata.normalize("NFC", text))
    name = re.sub(r"\.{2,}", lambda m: "-" * len(m.group()), name)
    if name.startswith("."):
        name = "-" + name[1:]
    if len(name) > MOST_CHARACTERS:
        # A file name holds 255 bytes; what tells long names apart may stand at their end.
        name = f"{name[:40]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
    return name or "-"


@dataclass(frozen=True, order=True)
class RecordingKey:
    """Parsed form of a partition key.

    Parameters
    ----------
    subject : str
        Subject as it stands in the key (see `safe_name`); may hold `_`.
    date : datetime.date
        Date of the session.
    number : str
        Session number of the day, or `c<N>` for a concatenation; letters, digits and `.`.
    probe : str
        `probe00`, or `noprobe`; letters, digits and `.`.
    qualifier : str
        Empty, or what tells recordings of one probe and session apart (`g1`, `e2r1`, `s2`).
    """

    subject: str
    date: datetime.date
    number: str
    probe: str
    qualifier: str = ""

    @classmethod
    def make(
        cls, subject: str, day: datetime.date, number: str | int, probe: str, qualifier: str = ""
    ) -> Self:
        """Build a key from names as they are on disk or in a database.

        Parameters
        ----------
        subject, day, number, probe, qualifier
            As in the class; every name is made safe.

        Returns
        -------
        RecordingKey
            A key for which `parse(str(key)) == key`.
        """
        digits = str(number)
        return cls(
            safe_name(subject),
            day,
            _plain(digits.lstrip("0")),
            _plain(probe),
            _plain(qualifier) if qualifier else "",
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key from the right, so that `_` in a subject's name stays.

        Parameters
        ----------
        text : str
            A partition key.

        Returns
        -------
        RecordingKey
            Its parts.

        Raises
        ------
        ValueError
            When the text is not a key.
        """
        found = _TAIL.fullmatch(text)
        try:
            day = datetime.date.fromisoformat(found["date"]) if found else None
        except ValueError:
            day = None
        if found is None or day is None:
            raise ValueError(
                f"{text!r} is not a recording key; expected <subject>_<yyyymmdd>_<number>_<probe>, "
                "as in ZFM-06048_20240512_1_probe00"
            )
        return cls(found["subject"], day, found["number"], found["probe"], found["qualifier"] or "")

    def __str__(self) -> str:
        tail = f"-{self.qualifier}" if self.qualifier else ""
        return f"{self.subject}_{self.date:%Y%m%d}_{self.number}_{self.probe}{tail}"


def _plain(text: str) -> str:
    """Safe name without the separators `_` and `-`."""
    return re.sub(r"[_.-]+", ".", safe_name(text)).strip(".") or "0"
