"""What Alyx should hold of a recording, and what it holds: plain data.

The steps from one to the other are in `changes`. Nothing here calls a server.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from neuro_assets.alyx.rows import DatasetRow, InsertionRow, Row, SessionDetail
from neuro_assets.formats.model import Frozen


class OutgoingFile(Frozen):
    """A file that is to be registered.

    Parameters
    ----------
    collection, name : str
        Where it goes below the session: `alf/probe00/neuro_assets`, `clusters.table.pqt`.
    source : Path
        Where it is on this machine.
    size : int
        Bytes.
    md5 : str
        Of its content.
    version : str
        Version of this package that made it.
    qc : str
        On Alyx's scale.
    """

    collection: str
    name: str
    source: Path
    size: int
    md5: str
    version: str
    qc: str = "NOT_SET"

    def path(self, revision: str = "") -> str:
        """Path below the session folder, in a revision."""
        parts = (self.collection, f"#{revision}#" if revision else "", self.name)
        return "/".join(part for part in parts if part)


class TaskState(Frozen):
    """One entry of Alyx's list of tasks.

    Parameters
    ----------
    name : str
        `neuro_assets_<job>_<label>`.
    status : str
        `Started`, `Complete`, `Incomplete` or `Errored`.
    version : str
        Of this package.
    log : str or None
        Link to the run.
    label : str
        Probe and qualifier. Alyx keeps tasks apart by name, session and arguments, and null
        arguments are never equal: without some the same task could be created twice.
    """

    name: str
    status: str
    version: str
    log: str | None = None
    label: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """What tells it apart."""
        return {"pname": self.label}


class TargetState(Frozen):
    """What Alyx should hold of one recording.

    Parameters
    ----------
    key, label : str
        The recording, and its probe with qualifier.
    eid, pid : str
        Session, and insertion where there is one.
    repository : str
        Data repository that results are registered on; empty where none is configured.
    files : tuple of OutgoingFile
        What is registered.
    qc : str
        Aggregate of the criteria; NOT_SET leaves the aggregates in Alyx alone.
    extended_qc : dict
        Our keys.
    summary : dict
        Our part of the session's `json`.
    task : TaskState or None
        None before anything was tried.
    today : date
        For the names of revisions.
    """

    key: str
    label: str
    eid: str
    pid: str | None = None
    repository: str = ""
    files: tuple[OutgoingFile, ...] = ()
    qc: str = "NOT_SET"
    extended_qc: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    task: TaskState | None = None
    today: date


TASK_PREFIX = "neuro_assets_"
"""Begins the names of our tasks in Alyx."""


class DatasetTypeRow(Row):
    """A dataset type."""

    name: str
    filename_pattern: str | None = None


class TaskRow(Row):
    """A task."""

    id: str
    name: str | None = None
    status: str = ""
    arguments: Any = None

    def is_of(self, task: TaskState) -> bool:
        """Whether it is our task; one of the name with other arguments is somebody else's."""
        return (self.name, self.arguments) == (task.name, task.arguments)


class RemoteState(Frozen):
    """What Alyx holds of one recording, and what is in the write repository.

    Parameters
    ----------
    session : SessionDetail
        The session.
    insertion : InsertionRow or None
        The insertion.
    duplicates : tuple of str
        Ids of other sessions of its subject, day and number.
    datasets : tuple of DatasetRow
        Of the session, those of the files that are compared.
    types : tuple of DatasetTypeRow
        All dataset types.
    tasks : tuple of TaskRow
        Of the session.
    copies : dict
        Size in bytes of each registered file that is in the write repository, by path.
    """

    session: SessionDetail
    insertion: InsertionRow | None = None
    duplicates: tuple[str, ...] = ()
    datasets: tuple[DatasetRow, ...] = ()
    types: tuple[DatasetTypeRow, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    copies: dict[str, int] = {}
