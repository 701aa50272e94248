"""Rows of the Alyx test server, under Alyx's own field names; codes of its fixed vocabularies.

Times are naive, in the server's zone, as Alyx keeps them. What saving a row moves is in
`fake_alyx.tables`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

QC = {"CRITICAL": 50, "FAIL": 40, "WARNING": 30, "NOT_SET": 0, "PASS": 10}
"""In the order in which Alyx's error texts list them."""
QC_NAMES = {number: name for name, number in QC.items()}
STATUSES = {
    "Waiting": 20,
    "Held": 25,
    "Started": 30,
    "Errored": 40,
    "Abandoned": 45,
    "Empty": 50,
    "Incomplete": 55,
    "Complete": 60,
}
PROVENANCES = {
    "Ephys aligned histology track": 70,
    "Histology track": 50,
    "Micro-manipulator": 30,
    "Planned": 10,
}


@dataclass(slots=True, eq=False)
class Named:
    """A small table's row: user, procedure, probe model, coordinate system, data format."""

    id: str
    name: str
    json: Any = None
    description: str = ""
    file_extension: str = ""
    seq: int = 0


@dataclass(slots=True, eq=False)
class Project:
    id: str
    name: str
    description: str = ""
    users: list[Named] = field(default_factory=list)
    json: Any = None
    seq: int = 0


@dataclass(slots=True, eq=False)
class Repository:
    id: str
    name: str
    timezone: str
    globus_path: str = ""
    hostname: str = ""
    data_url: str | None = None
    repository_type: str | None = None
    globus_endpoint_id: str | None = None
    globus_is_personal: bool | None = None
    json: Any = None
    seq: int = 0
    folder: Any = None
    """Where our file server finds its files; not a field of Alyx."""


@dataclass(slots=True, eq=False)
class Lab:
    id: str
    name: str
    timezone: str
    institution: str = ""
    address: str = ""
    repositories: list[Repository] = field(default_factory=list)
    reference_weight_pct: float = 0.0
    zscore_weight_pct: float = 0.0
    json: Any = None
    seq: int = 0


@dataclass(slots=True, eq=False)
class Subject:
    id: str
    nickname: str
    lab: Lab
    responsible_user: Named
    projects: list[Project] = field(default_factory=list)
    birth_date: str | None = None
    death_date: str | None = None
    species: str | None = "Laboratory mouse"
    sex: str = "U"
    litter: str | None = None
    strain: str | None = None
    source: str | None = None
    line: str | None = None
    description: str = ""
    json: Any = None
    seq: int = 0
    sessions: dict[str, Session] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Session:
    id: str
    subject: Subject
    lab: Lab | None
    number: int | None
    start_time: datetime | None
    auto_datetime: datetime
    seq: int = 0
    end_time: datetime | None = None
    name: str = ""
    projects: list[Project] = field(default_factory=list)
    users: list[Named] = field(default_factory=list)
    procedures: list[Named] = field(default_factory=list)
    type: str | None = None
    task_protocol: str = ""
    narrative: str = ""
    location: str | None = None
    parent_session: Session | None = None
    n_trials: int | None = None
    n_correct_trials: int | None = None
    extended_qc: Any = None
    qc: int = 0
    json: Any = None
    datasets: dict[str, Dataset] = field(default_factory=dict)
    insertions: dict[str, Insertion] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Insertion:
    id: str
    session: Session | None
    name: str
    auto_datetime: datetime
    seq: int = 0
    model: Named | None = None
    serial: str = ""
    json: Any = None
    chronic_insertion: str | None = None
    datasets: list[Dataset] = field(default_factory=list)
    trajectories: dict[str, Trajectory] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Trajectory:
    id: str
    probe_insertion: Insertion
    provenance: int
    datetime: datetime
    seq: int = 0
    x: float | None = None
    y: float | None = None
    z: float | None = None
    depth: float | None = None
    theta: float | None = None
    phi: float | None = None
    roll: float | None = None
    coordinate_system: Named | None = None
    chronic_insertion: str | None = None
    json: Any = None


@dataclass(slots=True, eq=False)
class DatasetType:
    id: str
    name: str
    filename_pattern: str = ""
    description: str = ""
    created_by: Named | None = None
    json: Any = None
    seq: int = 0


@dataclass(slots=True, eq=False)
class Revision:
    id: str
    name: str
    created_datetime: datetime | None = None
    description: str = ""
    json: Any = None
    seq: int = 0


@dataclass(slots=True, eq=False)
class Tag:
    id: str
    name: str
    protected: bool = False
    public: bool = False
    description: str = ""
    hash: str | None = None
    json: Any = None
    seq: int = 0


@dataclass(slots=True, eq=False)
class FileRecord:
    id: str
    dataset: Dataset
    data_repository: Repository
    relative_path: str
    exists: bool = False
    name: str = ""
    json: Any = None


@dataclass(slots=True, eq=False)
class Dataset:
    id: str
    name: str
    session: Session
    collection: str
    dataset_type: DatasetType
    data_format: Named
    auto_datetime: datetime
    created_datetime: datetime
    seq: int = 0
    created_by: Named | None = None
    file_size: int | None = None
    hash: str = ""
    version: str = ""
    revision: Revision | None = None
    default_dataset: bool = True
    qc: int = 0
    tags: list[Tag] = field(default_factory=list)
    json: Any = None
    generating_software: str = ""
    records: list[FileRecord] | tuple[tuple[Repository, bool], ...] = ()
    """File records; a tuple of (repository, exists) where nobody has touched them yet (bulk)."""
    n_records: int = 0
    """File records made so far: numbers the next one's id."""


@dataclass(slots=True, eq=False)
class Task:
    id: str
    name: str | None
    session: Session | None
    datetime: datetime
    seq: int = 0
    status: int = 10
    priority: int | None = None
    io_charge: int | None = None
    level: int | None = None
    gpu: int | None = None
    cpu: int | None = None
    ram: int | None = None
    time_out_secs: int | None = None
    time_elapsed_secs: float | None = None
    executable: str | None = None
    graph: str | None = None
    log: str | None = None
    version: str | None = None
    parents: list[Task] = field(default_factory=list)
    arguments: Any = None
    data_repository: Repository | None = None


@dataclass(slots=True, eq=False)
class Note:
    id: str
    user: Named
    date_time: datetime
    content_type: str
    object_id: str
    text: str = ""
    image: str | None = None
    json: Any = None
    seq: int = 0


def relative_path(dataset: Dataset) -> str:
    """Path of a dataset under its repositories, by the session's present number."""
    session = dataset.session
    day = session.start_time.date().isoformat() if session.start_time else "None"
    revision = f"#{dataset.revision.name}#/" if dataset.revision else ""
    folder = f"{dataset.collection}/" if dataset.collection else ""
    number = f"{session.number or 0:03d}"
    return f"{session.subject.nickname}/{day}/{number}/{folder}{revision}{dataset.name}"
