"""Which sessions of a database the lab wants: decided here, exactly, and not by the server.

The server's own filters match parts of names and race with the creation of sessions.
"""

from __future__ import annotations

from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from neuro_assets.alyx.rows import SessionDetail, SessionRow

if TYPE_CHECKING:
    from neuro_assets.config import AlyxConfig

FUTURE = timedelta(days=1)
"""Rigs in the east of the server are a day ahead; more is a mistyped date."""


def exclusion_reason(row: SessionRow, config: AlyxConfig, today: date) -> str:
    """Give the reason for which a session is left out.

    Parameters
    ----------
    row : SessionRow
        From a list, or the session's own page.
    config : AlyxConfig
        The lab's choices.
    today : date
        Day at the server.

    Returns
    -------
    str
        Empty when the lab wants it.
    """
    if config.labs and row.lab not in config.labs:
        return f"its lab is {row.lab!r}, not one of alyx.labs"
    if config.projects and not set(row.projects) & set(config.projects):
        names = ", ".join(row.projects) or "none"
        return f"its projects ({names}) are not among alyx.projects"
    subject = row.subject.casefold()
    if not subject:
        return "it has no subject; give it one in Alyx"
    if any(fnmatchcase(subject, pattern.casefold()) for pattern in config.exclude_subjects):
        return f"its subject {row.subject!r} is one of alyx.exclude_subjects"
    if isinstance(row, SessionDetail) and row.is_mock and not config.include_mock:
        return "it is marked as a trial run (json.IS_MOCK)"
    return _reason_by_date(row.date, config, today)


def _reason_by_date(day: date | None, config: AlyxConfig, today: date) -> str:
    if day is None:
        return ""  # its files may say it
    if config.since and day < config.since:
        return f"its day is before alyx.since ({config.since})"
    if day > today + FUTURE:
        return f"its start time lies in the future ({day}); correct it in Alyx"
    return ""
