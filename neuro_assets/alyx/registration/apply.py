"""Carrying changes out: each field is read, merged, sent and read back.

What to do is decided in `writing_difference`; that all of it arrived is found out in `writing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.changes import (
    Change,
    CopyFile,
    CreateType,
    MarkPresent,
    MergeExtendedQC,
    MergeInsertion,
    MergeSummary,
    PutTask,
    RaiseDatasetQC,
    RaiseSessionQC,
    RegisterFile,
)
from neuro_assets.alyx.registration.merge import (
    merged_insertion,
    merged_keys,
    merged_summary,
    raised,
)
from neuro_assets.alyx.registration.task import put_task
from neuro_assets.alyx.responses import AlyxRefused
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository

_MERGES = 5
"""Writers that change one field at the same moment are few; more of them are a loop."""


@dataclass
class Written:
    """What was sent.

    Parameters
    ----------
    sent : list of Change
        In order. After an error the last ones may not have been done.
    ids : dict of str to str
        Ids of the datasets that Alyx named when they were registered, by path.
    """

    sent: list[Change] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)


def apply(
    client: Alyx,
    changes: Sequence[Change],
    repository: WriteRepository | None,
    written: Written | None = None,
) -> Written:
    """Carry changes out, in their order.

    Parameters
    ----------
    client : Alyx
        The database.
    changes : sequence of Change
        What to do.
    repository : WriteRepository or None
        Where files are copied to; needed where there are files.
    written : Written, optional
        Where to note what was sent, also when an error is raised.

    Returns
    -------
    Written
        What was done.

    Raises
    ------
    PermanentFailure
        Alyx refused something, or another writer changes a field all the time.
    TransientFailure
        Alyx does not answer; a registration may have been done in part.
    """
    written = written or Written()
    if any(isinstance(change, CopyFile | RegisterFile) for change in changes):
        repository = _required(repository)
    for kind, group in groupby(changes, key=type):
        if kind is RegisterFile:
            _register(client, [c for c in group if isinstance(c, RegisterFile)], written)
            continue
        for change in group:
            written.sent.append(change)
            _one(client, change, repository)
    return written


def _required(repository: WriteRepository | None) -> WriteRepository:
    if repository is None:
        raise PermanentFailure(
            "no data repository is named to which results go: set alyx.write_repository in "
            "lab.yaml, and its place under alyx.repositories"
        )
    return repository


def _one(client: Alyx, change: Change, repository: WriteRepository | None) -> None:
    """Carry out one change that is no registration."""
    match change:
        case CopyFile():
            _required(repository).put(change.source, change.path, change.size, change.md5)
        case CreateType():
            _create_type(client, change)
        case MarkPresent():
            client.update("files", change.record, {"exists": True})
        case RaiseDatasetQC():
            settle(client, "datasets", change.id, "qc", partial(raised, ours=change.qc))
        case MergeInsertion():
            merge = partial(
                merged_insertion, qc=change.qc, extended=change.keys, prefix=change.prefix
            )
            settle(client, "insertions", change.pid, "json", merge)
        case MergeExtendedQC():
            merge = partial(merged_keys, ours=change.keys, prefix=change.prefix)
            settle(client, "sessions", change.eid, "extended_qc", merge)
        case MergeSummary():
            merge = partial(merged_summary, label=change.label, ours=change.summary)
            settle(client, "sessions", change.eid, "json", merge)
        case RaiseSessionQC():
            settle(client, "sessions", change.eid, "qc", partial(raised, ours=change.qc))
        case PutTask():
            put_task(client, change.eid, change.task, change.id)
        case _:
            raise TypeError(f"no way to carry out {change!r}")


def settle(client: Alyx, endpoint: str, name: str, field: str, merge: Callable[[Any], Any]) -> None:
    """Bring a field that others write too to what a merge makes of it.

    Alyx has no conditional writes: the field is read right before it is sent, and read again
    afterwards, until the merge has nothing more to change.

    Parameters
    ----------
    client : Alyx
        The database.
    endpoint, name, field : str
        Which field of which row.
    merge : callable
        From the field as it is to what it should be; the same object where nothing is to do.

    Raises
    ------
    PermanentFailure
        The row is gone, or another writer undoes the change every time.
    """
    for _ in range(_MERGES):
        row = client.read(endpoint, name)
        if row is None:
            raise PermanentFailure(f"{endpoint} {name} vanished from Alyx: was it deleted?")
        merged = merge(row.get(field))
        if merged == row.get(field):
            return
        client.update(endpoint, name, {field: merged})
    raise PermanentFailure(
        f"{field} of {endpoint} {name} in Alyx is changed by another writer each time that it is "
        "written: find out who writes there, and register again"
    )


def _create_type(client: Alyx, change: CreateType) -> None:
    about = "Made by neuro_assets, which registers files of this type"
    try:
        client.create(
            "dataset-types",
            {"name": change.name, "filename_pattern": change.pattern, "description": about},
        )
    except AlyxRefused as refused:
        # Somebody was faster: whether it is the right one is seen when all is compared again.
        if refused.status != 400 or "already exists" not in str(refused.body):
            raise


def _register(client: Alyx, files: Iterable[RegisterFile], written: Written) -> None:
    """Register files, those of one session and repository in one call.

    There is no transaction in Alyx: after an error a part may be registered.
    """
    for (path, lab, repository), group in groupby(
        files, key=lambda file: (file.session_path, file.lab, file.repository)
    ):
        batch = _without_protected(client, path, list(group))
        if not batch:
            continue
        written.sent += batch
        rows = client.create(
            "register-file",
            {
                "name": repository,
                "path": path,
                "filenames": [file.path for file in batch],
                "hashes": [file.md5 for file in batch],
                "filesizes": [file.size for file in batch],
                "versions": [file.version for file in batch],
                "qc": [file.qc for file in batch],
                "exists": True,
                "server_only": False,
                "default": True,
                # Asked above: with it Alyx would refuse a new revision of what is protected.
                "check_protected": False,
                **({"labs": lab} if lab else {}),
            },
        )
        written.ids.update(_ids(batch, rows))


def _ids(batch: Sequence[RegisterFile], rows: Any) -> dict[str, str]:
    if not isinstance(rows, list) or len(rows) != len(batch):
        raise PermanentFailure(
            f"register-file answered with {rows!r:.200} and not with {len(batch)} datasets: is "
            "the version of this Alyx another than 3.6?"
        )
    return {file.path: str(row["id"]) for file, row in zip(batch, rows, strict=True)}


def _without_protected(
    client: Alyx, path: str, files: Sequence[RegisterFile]
) -> list[RegisterFile]:
    """Leave out what was protected meanwhile; the next comparison gives it a new revision.

    Alyx resets the quality of a protected dataset and takes its default away before it refuses.
    """
    answer = client.get(
        "check-protected", data={"path": path, "filenames": [file.path for file in files]}
    )
    details = answer.get("details") if isinstance(answer, Mapping) else None
    # The status is 200 either way. Without anything protected the details are a sentence.
    if not isinstance(details, list):
        return list(files)
    named = [next(iter(entry.values())) for entry in details]
    return [
        file
        for file, revisions in zip(files, named, strict=True)
        if not is_protected(file.path, revisions)
    ]


def is_protected(path: str, revisions: Iterable[Mapping[str, bool]]) -> bool:
    """Tell whether a path is among the protected revisions that check-protected lists.

    Parameters
    ----------
    path : str
        Below the session folder, with the revision.
    revisions : iterable of mapping
        `{"2026-11-20": true}, {"": false}`: what Alyx says of the file's name.

    Returns
    -------
    bool
        Whether registering exactly this path would be refused.
    """
    parts = path.split("/")
    folder = parts[-2] if len(parts) > 1 else ""
    revision = folder.strip("#") if folder.startswith("#") else ""
    return any(entry.get(revision, False) for entry in revisions)
