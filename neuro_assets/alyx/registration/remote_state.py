"""What Alyx and the write repository hold of one recording: questions only, no judgement.

`GET /check-protected` is not among them: it adds the token's user to the session and sets its
parent (`_get_session` in Alyx's `data/transfers.py`), so that it is asked by those who write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.model import (
    DatasetTypeRow,
    Observed,
    OutgoingFile,
    TaskRow,
)
from neuro_assets.alyx.rows import (
    DatasetRow,
    InsertionRow,
    SessionDetail,
    SessionRow,
    parse,
)
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository

_MOST_DATASETS = 20_000
_MOST_TASKS = 5_000
_MOST_TYPES = 20_000
_MOST_SESSIONS = 1_000
"""Lists that are longer were not filtered: 1,000 sessions of one subject and day are not."""


def observe(
    client: Alyx,
    eid: str,
    pid: str | None = None,
    *,
    files: Iterable[OutgoingFile] = (),
    repository: WriteRepository | None = None,
) -> Observed:
    """Ask for everything that write-back touches or depends on.

    Parameters
    ----------
    client : Alyx
        The database.
    eid, pid : str
        Session, and insertion where there is one.
    files : iterable of OutgoingFile
        What is going to be compared; dataset types are asked for only where there are some.
    repository : WriteRepository, optional
        Where copies are looked for.

    Returns
    -------
    Observed
        As it is now. Nothing in Alyx is changed by asking.

    Raises
    ------
    PermanentFailure
        Session or insertion are not in Alyx (any more).
    TransientFailure
        Alyx does not answer.
    """
    session = SessionDetail.of(_read(client, "sessions", eid))
    wanted = {(file.collection, file.name) for file in files}
    datasets = [
        row
        for row in parse(DatasetRow, map(_plain, _listed(client, "datasets", eid, _MOST_DATASETS)))
        if (row.collection, row.name) in wanted
    ]
    types = client.rows("dataset-types", most=_MOST_TYPES) if wanted else []
    return Observed(
        session=session,
        insertion=InsertionRow.of(_read(client, "insertions", pid)) if pid else None,
        same_path=_same_path(client, session),
        datasets=tuple(datasets),
        protected=frozenset(row.path for row in datasets if row.protected),
        types=tuple(parse(DatasetTypeRow, types)),
        tasks=tuple(parse(TaskRow, _listed(client, "tasks", eid, _MOST_TASKS))),
        copies=_copies(repository, datasets),
    )


def _read(client: Alyx, endpoint: str, name: str) -> dict[str, Any]:
    row = client.read(endpoint, name)
    if row is None:
        raise PermanentFailure(
            f"{endpoint.removesuffix('s')} {name} is not in Alyx any more: nothing can be "
            "registered for it; look whether somebody deleted it"
        )
    return row


def _listed(client: Alyx, endpoint: str, eid: str, most: int) -> list[dict[str, Any]]:
    return client.rows(endpoint, most=most, session=eid)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Turn the count of protected tags, which lists give under `protected`, into yes or no."""
    return {**row, "protected": bool(row.get("protected"))}


def _same_path(client: Alyx, session: SessionDetail) -> tuple[str, ...]:
    if session.date is None or session.number is None:
        return ()
    rows = client.rows(
        "sessions",
        most=_MOST_SESSIONS,
        subject=session.subject,
        date_range=f"{session.date},{session.date}",
        number=session.number,
    )
    # The filter on the subject does not tell upper from lower case.
    here = (session.subject, session.date, session.number)
    found = parse(SessionRow, rows)
    return tuple(row.id for row in found if (row.subject, row.date, row.number) == here)


def _copies(repository: WriteRepository | None, datasets: Iterable[DatasetRow]) -> dict[str, int]:
    if repository is None:
        return {}
    paths = {
        record.relative_path
        for row in datasets
        for record in row.file_records
        if record.data_repository == repository.name and record.exists
    }
    sizes = {path: repository.size(path) for path in paths}
    return {path: size for path, size in sizes.items() if size is not None}
