"""What Alyx and the write repository hold of one recording: questions only, no judgement.

`GET /check-protected` is not among them: it adds the token's user to the session and sets its
parent (`_get_session` in Alyx's `data/transfers.py`), so that only those who write call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.changes import MAX_TASKS
from neuro_assets.alyx.registration.model import DatasetTypeRow, RemoteState, TargetState, TaskRow
from neuro_assets.alyx.rows import DatasetRow, InsertionRow, SessionDetail, parse
from neuro_assets.alyx.sessions import duplicates
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository

_MAX_ROWS = 20_000
"""Longer lists were not filtered."""


class SessionGone(PermanentFailure):
    """The session of a recording was deleted in Alyx."""


def remote_state(
    client: Alyx, target: TargetState, repository: WriteRepository | None
) -> RemoteState:
    """Read everything that registration touches or depends on.

    Parameters
    ----------
    client : Alyx
        The database.
    target : TargetState
        What is going to be compared.
    repository : WriteRepository or None
        Where copies are looked for.

    Returns
    -------
    RemoteState
        As it is now. Nothing in Alyx is changed by reading.

    Raises
    ------
    SessionGone
        The session is not in Alyx (any more).
    PermanentFailure
        Nor is the insertion.
    TransientFailure
        Alyx does not answer.
    """
    eid, pid = target.eid, target.pid
    session = SessionDetail.of(_read(client, "sessions", eid, SessionGone))
    names = {(file.collection, file.name) for file in target.files}
    rows = parse(DatasetRow, client.rows("datasets", most=_MAX_ROWS, session=eid))
    datasets = tuple(row for row in rows if (row.collection, row.name) in names)
    types = client.rows("dataset-types", most=_MAX_ROWS) if names else []
    return RemoteState(
        session=session,
        insertion=InsertionRow.of(_read(client, "insertions", pid)) if pid else None,
        duplicates=duplicates(client, session),
        datasets=datasets,
        types=tuple(parse(DatasetTypeRow, types)),
        tasks=tuple(parse(TaskRow, client.rows("tasks", most=MAX_TASKS, session=eid))),
        copies=_copies(repository, datasets) if repository else {},
    )


def _read(
    client: Alyx, endpoint: str, name: str, gone: type[PermanentFailure] = PermanentFailure
) -> dict[str, Any]:
    row = client.read(endpoint, name)
    if row is None:
        raise gone(
            f"{endpoint.removesuffix('s')} {name} is not in Alyx any more: nothing can be "
            "registered for it; look whether somebody deleted it"
        )
    return row


def _copies(repository: WriteRepository, datasets: Iterable[DatasetRow]) -> dict[str, int]:
    paths = {
        record.relative_path
        for row in datasets
        for record in row.file_records
        if record.data_repository == repository.name and record.exists
    }
    sizes = {path: repository.size(path) for path in paths}
    return {path: size for path, size in sizes.items() if size is not None}
