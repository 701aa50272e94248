"""Tables of the Alyx test server: their indices, and what saving a row moves.

No HTTP, no JSON and no filters here.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count
from typing import Any

from fake_alyx.models import (
    Dataset,
    FileRecord,
    Insertion,
    Repository,
    Session,
    Subject,
    relative_path,
)


class TimeIndex:
    """Rows by modification time; entries that a later save made stale are skipped."""

    def __init__(self) -> None:
        self._entries: list[tuple[datetime, int, Any]] = []

    def add(self, row: Any) -> None:
        """Note the row's present time."""
        entry = (row.auto_datetime, row.seq, row)
        if not self._entries or entry[:2] > self._entries[-1][:2]:
            self._entries.append(entry)
        else:
            insort(self._entries, entry, key=lambda old: old[:2])

    def load(self, rows: Iterable[Any]) -> None:
        """Note many rows."""
        self._entries.extend((row.auto_datetime, row.seq, row) for row in rows)
        self._entries.sort(key=lambda entry: entry[:2])

    def since(self, when: datetime, live: dict[str, Any]) -> list[Any]:
        """Rows of `live` modified at or after a time."""
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

    def load(self, rows: Iterable[Any]) -> None:
        """Note the times of rows that are already in `rows`."""
        if self.times is not None:
            self.times.load(rows)

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
        found = insertion.session.datasets.values() if insertion.session else ()
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
        if insertion.session:
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
