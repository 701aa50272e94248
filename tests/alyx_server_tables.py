"""Tables of the Alyx test server: rows, their indices, and what saving a row moves.

No HTTP, no JSON and no filters here. Field names are Alyx's models' where they are stored, so that
the evaluator of lookups can walk them. Times are naive, in the server's zone, as Alyx keeps them.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
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
    session: Session
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


class TimeIndex:
    """Rows by modification time; entries that a later save made stale are skipped."""

    def __init__(self) -> None:
        self._entries: list[tuple[datetime, int, Any]] = []
        self._sorted = True

    def add(self, row: Any) -> None:
        """Note the row's present time."""
        entry = (row.auto_datetime, row.seq, row)
        last = self._entries[-1][:2] if self._entries and self._sorted else None
        if last is None or entry[:2] > last:
            self._entries.append(entry)
        else:
            insort(self._entries, entry, key=lambda old: old[:2])

    def load(self, rows: Iterable[Any]) -> None:
        """Note many rows; sorted when first asked."""
        self._entries.extend((row.auto_datetime, row.seq, row) for row in rows)
        self._sorted = False

    def since(self, when: datetime, live: dict[str, Any]) -> list[Any]:
        """Rows of `live` modified at or after a time."""
        if not self._sorted:
            self._entries.sort(key=lambda entry: entry[:2])
            self._sorted = True
        if len(self._entries) > 2 * len(live) + 1000:
            self._entries = [entry for entry in self._entries if self._present(entry, live)]
        first = bisect_left(self._entries, when, key=lambda entry: entry[0])
        return [entry[2] for entry in self._entries[first:] if self._present(entry, live)]

    @staticmethod
    def _present(entry: tuple[datetime, int, Any], live: dict[str, Any]) -> bool:
        row = entry[2]
        return row.seq == entry[1] and row.id in live


class Table:
    """Rows by id, in the order of PostgreSQL's heap: an edited row goes to the end."""

    def __init__(self, tables: Tables, *, timed: bool = False, key: str = "name") -> None:
        self.rows: dict[str, Any] = {}
        self.by_key: dict[str, Any] = {}
        self.times = TimeIndex() if timed else None
        self._tables, self._key = tables, key

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows.values())

    def add(self, row: Any) -> Any:
        """Insert a row, or put an edited one at the end of the heap."""
        self.rows.pop(row.id, None)
        self.rows[row.id] = row
        row.seq = next(self._tables.sequence)
        self._tables.version += 1
        key = getattr(row, self._key, None)
        if key is not None and self.times is None:
            self.by_key[key] = row
        if self.times is not None:
            self.times.add(row)
        return row

    def remove(self, row: Any) -> None:
        """Delete a row; what hangs on it is `Tables`' matter."""
        del self.rows[row.id]
        self._tables.version += 1
        if self.by_key.get(getattr(row, self._key, None)) is row:
            del self.by_key[getattr(row, self._key)]


class Tables:
    """The whole database, and the rules of what a save moves (Django's signals and `auto_now`)."""

    def __init__(self, clock: Callable[[], datetime], seed: int = 0) -> None:
        self.clock = clock
        self.sequence = count(1)
        self.version = 0
        self.random = random.Random(seed)
        names = ("users", "procedures", "models", "systems", "formats", "projects", "labs")
        for name in (*names, "repositories", "types", "revisions", "tags"):
            setattr(self, name, Table(self))
        self.subjects = Table(self, key="nickname")
        self.sessions, self.insertions = Table(self, timed=True), Table(self, timed=True)
        self.datasets = Table(self, timed=True)
        self.trajectories, self.tasks, self.notes = (Table(self, key="id") for _ in range(3))
        self._paths: dict[tuple[str, str], FileRecord] = {}

    users: Table
    procedures: Table
    models: Table
    systems: Table
    formats: Table
    projects: Table
    labs: Table
    repositories: Table
    types: Table
    revisions: Table
    tags: Table

    def new_id(self) -> str:
        """Random UUID of version 4; the same sequence for the same seed."""
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    # saving

    def save_session(self, session: Session) -> None:
        """Write the row: moves its time and its place."""
        session.auto_datetime = self.clock()
        self.sessions.add(session)

    def save_insertion(self, insertion: Insertion) -> None:
        """Write the row; its datasets become those whose collection contains its name."""
        insertion.auto_datetime = self.clock()
        self.insertions.add(insertion)
        name = insertion.name.lower()
        found = insertion.session.datasets.values()
        insertion.datasets = [row for row in found if name in row.collection.lower()]

    def save_dataset(self, dataset: Dataset) -> None:
        """Write the row: moves its time, its place, and joins it to its insertion."""
        dataset.auto_datetime = self.clock()
        self.datasets.add(dataset)
        self.join_insertion(dataset)

    @staticmethod
    def join_insertion(dataset: Dataset) -> None:
        """Make the insertion named by the collection's second folder list the dataset."""
        parts = dataset.collection.split("/")
        if len(parts) < 2:
            return
        insertions = dataset.session.insertions.values()
        named = [row for row in insertions if row.name == parts[1]]
        if not named:
            return
        for insertion in insertions:
            listed = dataset in insertion.datasets
            if insertion in named and not listed:
                insertion.datasets.append(dataset)
            elif insertion not in named and listed:
                insertion.datasets.remove(dataset)

    def save_record(self, record: FileRecord) -> None:
        """Write the row: it goes to the end of its dataset's, whose time moves."""
        records = self.records(record.dataset)
        if record in records:
            records.remove(record)
        records.append(record)
        self._paths[record.data_repository.name, record.relative_path] = record
        self.save_dataset(record.dataset)

    # file records

    @staticmethod
    def _record_id(dataset_id: str, number: int) -> str:
        # A one-to-one mixing of the dataset's id, so that 800,000 records need no index.
        return f"{int(dataset_id[:8], 16) ^ (number * 0x9E3779B9 & 0xFFFFFFFF):08x}{dataset_id[8:]}"

    @staticmethod
    def places(dataset: Dataset) -> Iterator[tuple[Repository, bool]]:
        """Repositories and `exists` of a dataset's file records."""
        for record in dataset.records:
            if isinstance(record, tuple):
                yield record
            else:
                yield record.data_repository, record.exists

    def records(self, dataset: Dataset) -> list[FileRecord]:
        """File records of a dataset, as rows."""
        if isinstance(dataset.records, list):
            return dataset.records
        made = []
        for repository, exists in dataset.records:
            record = self.new_record(dataset, repository, relative_path(dataset), exists)
            self._paths[repository.name, record.relative_path] = record
            made.append(record)
        dataset.records = made
        return made

    def new_record(
        self, dataset: Dataset, repository: Repository, path: str, exists: bool
    ) -> FileRecord:
        """Make a file record that is not yet saved."""
        dataset.n_records += 1
        record_id = self._record_id(dataset.id, dataset.n_records)
        return FileRecord(record_id, dataset, repository, path, exists)

    def record(self, record_id: str) -> FileRecord | None:
        """File record of an id."""
        for number in range(1, 17):
            dataset = self.datasets.rows.get(self._record_id(record_id, number))
            found = (row for row in self.records(dataset) if row.id == record_id) if dataset else ()
            if record := next(iter(found), None):
                return record
        return None

    def record_at(self, repository: Repository, path: str) -> FileRecord | None:
        """File record that holds a path of a repository: at most one, as in Alyx."""
        record = self._paths.get((repository.name, path))
        if record is not None:
            return record
        nickname, day, number = (*path.split("/"), "", "", "")[:3]
        subject = self.subjects.by_key.get(nickname)
        for session in self.sessions_at(subject, day, int(number) if number.isdigit() else None):
            for dataset in session.datasets.values():
                if relative_path(dataset) == path and isinstance(dataset.records, tuple):
                    held = self.records(dataset)
                    return next((row for row in held if row.data_repository is repository), None)
        return None

    def drop_record(self, record: FileRecord) -> None:
        """Delete a file record; its dataset stays as it is."""
        self.records(record.dataset).remove(record)
        self._paths.pop((record.data_repository.name, record.relative_path), None)
        self.version += 1

    def pin_paths(self, session: Session) -> None:
        """Fix the file records' paths before the session's number or day changes."""
        for dataset in session.datasets.values():
            self.records(dataset)

    # finding

    @staticmethod
    def sessions_at(subject: Subject | None, day: str, number: int | None) -> list[Session]:
        """Sessions of a subject on a day (and of a number), in order of creation."""
        if subject is None:
            return []
        return [
            row
            for row in subject.sessions.values()
            if row.start_time is not None
            and row.start_time.date().isoformat() == day
            and (number is None or row.number == number)
        ]

    # deleting

    def delete_dataset(self, dataset: Dataset) -> None:
        """Delete with its file records."""
        for record in dataset.records if isinstance(dataset.records, list) else ():
            self._paths.pop((record.data_repository.name, record.relative_path), None)
        for insertion in dataset.session.insertions.values():
            if dataset in insertion.datasets:
                insertion.datasets.remove(dataset)
        dataset.session.datasets.pop(dataset.id)
        self.datasets.remove(dataset)

    def delete_insertion(self, insertion: Insertion) -> None:
        """Delete with its trajectories."""
        for trajectory in list(insertion.trajectories.values()):
            self.trajectories.remove(trajectory)
        insertion.session.insertions.pop(insertion.id)
        self.insertions.remove(insertion)

    def delete_session(self, session: Session) -> None:
        """Delete with datasets, insertions and tasks; nothing remains to see it by."""
        for insertion in list(session.insertions.values()):
            self.delete_insertion(insertion)
        for dataset in list(session.datasets.values()):
            self.delete_dataset(dataset)
        for task in session.tasks.values():
            self.tasks.remove(task)
        for other in session.subject.sessions.values():
            if other.parent_session is session:
                other.parent_session = None
        session.subject.sessions.pop(session.id)
        self.sessions.remove(session)


def relative_path(dataset: Dataset) -> str:
    """Path of a dataset under its repositories, by the session's present number."""
    session = dataset.session
    day = session.start_time.date().isoformat() if session.start_time else "None"
    revision = f"#{dataset.revision.name}#/" if dataset.revision else ""
    folder = f"{dataset.collection}/" if dataset.collection else ""
    number = f"{session.number or 0:03d}"
    return f"{session.subject.nickname}/{day}/{number}/{folder}{revision}{dataset.name}"
