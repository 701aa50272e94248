"""Carrying changes out, in their order; files of one session are registered together.

What to do is decided in `diff`, and how one change is sent is in `changes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.changes import Change, RegisterFile, required
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository


@dataclass
class Applied:
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
    applied: Applied,
) -> None:
    """Carry changes out.

    Parameters
    ----------
    client : Alyx
        The database.
    changes : sequence of Change
        What to do.
    repository : WriteRepository or None
        Where files are copied to; needed where there are files.
    applied : Applied
        Gets what was sent, also when an error is raised.

    Raises
    ------
    PermanentFailure
        Alyx refused something, or another writer changes a field all the time.
    TransientFailure
        Alyx does not answer; a registration may have been done in part.
    """
    if any(isinstance(change, RegisterFile) for change in changes):
        required(repository)
    for place, group in groupby(changes, key=_place):
        if place is not None:
            files = [change for change in group if isinstance(change, RegisterFile)]
            _register(client, place, files, applied)
            continue
        for change in group:
            applied.sent.append(change)
            if change.send is not None:
                change.send(client, repository)


def _place(change: Change) -> tuple[str, str, str] | None:
    """Session, lab and repository of a registration, which all files of one request share."""
    if not isinstance(change, RegisterFile):
        return None
    return change.session_path, change.lab, change.repository


def _register(
    client: Alyx, place: tuple[str, str, str], files: Sequence[RegisterFile], applied: Applied
) -> None:
    """Register files; there is no transaction in Alyx: after an error a part may be registered."""
    path, lab, repository = place
    batch = _without_protected(client, path, files)
    if not batch:
        return
    applied.sent += batch
    rows = client.create(
        "register-file",
        {
            "name": repository,
            "path": path,
            "filenames": [change.target for change in batch],
            "hashes": [change.file.md5 for change in batch],
            "filesizes": [change.file.size for change in batch],
            "versions": [change.file.version for change in batch],
            "qc": [change.qc for change in batch],
            "exists": True,
            "server_only": False,
            "default": True,
            # Asked above: with it Alyx would refuse a new revision of what is protected.
            "check_protected": False,
            **({"labs": lab} if lab else {}),
        },
    )
    if not isinstance(rows, list) or len(rows) != len(batch):
        raise PermanentFailure(
            f"register-file answered with {rows!r:.200} and not with {len(batch)} datasets: is "
            "the version of this Alyx another than 3.6?"
        )
    applied.ids |= {each.target: str(row["id"]) for each, row in zip(batch, rows, strict=True)}


def _without_protected(
    client: Alyx, path: str, files: Sequence[RegisterFile]
) -> Sequence[RegisterFile]:
    """Leave out what was protected meanwhile; the next comparison gives it a new revision.

    Alyx resets the quality of a protected dataset and takes its default away before it refuses.
    """
    names = [change.target for change in files]
    found: Any = client.get("check-protected", data={"path": path, "filenames": names})
    details = found.get("details") if isinstance(found, Mapping) else None
    # The status is 200 either way. Without anything protected the details are a sentence.
    if not isinstance(details, list):
        return files
    revisions = [next(iter(entry.values())) for entry in details]
    return [
        file
        for file, of_file in zip(files, revisions, strict=True)
        if not is_protected(file.target, of_file)
    ]


def is_protected(path: str, revisions: Iterable[Mapping[str, bool]]) -> bool:
    """Tell whether a path is among the protected revisions that check-protected lists.

    Parameters
    ----------
    path : str
        Below the session folder, with the revision.
    revisions : iterable of mapping
        `{"2026-11-20": true}, {"": false}`: what Alyx lists for the file's name.

    Returns
    -------
    bool
        Whether registering exactly this path would be refused.
    """
    folder = path.split("/")[-2] if "/" in path else ""
    revision = folder.strip("#") if folder.startswith("#") else ""
    return any(entry.get(revision, False) for entry in revisions)
