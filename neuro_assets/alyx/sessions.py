"""Sessions of Alyx that share a name; Alyx itself keeps nobody from making two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuro_assets.alyx.rows import SessionRow, parse

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx

_MAX_SESSIONS = 1_000
"""A longer list was not filtered: nobody has 1,000 sessions of one subject and day."""


def duplicates(client: Alyx, session: SessionRow) -> tuple[str, ...]:
    """List the other sessions of a session's subject, day and number.

    Parameters
    ----------
    client : Alyx
        The database.
    session : SessionRow
        As it is now.

    Returns
    -------
    tuple of str
        Their ids, sorted; empty where the session has no day or no number.
    """
    if session.date is None or session.number is None:
        return ()
    rows = client.rows(
        "sessions",
        most=_MAX_SESSIONS,
        subject=session.subject,
        date_range=f"{session.date},{session.date}",
        number=session.number,
    )
    # The filter on the subject does not tell upper from lower case.
    name = (session.subject, session.date, session.number)
    found = parse(SessionRow, rows)
    same = {row.id for row in found if (row.subject, row.date, row.number) == name}
    return tuple(sorted(same - {session.id}))
