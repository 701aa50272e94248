"""What Alyx's serializers make of rows: the JSON of lists, of details and of register-file.

The field lists are the contract, measured on Alyx 3.6.1; the replay of the recorded samples in
`test_alyx_server` compares every one of them.
"""

from __future__ import annotations

from typing import Any

from fake_alyx.models import (
    PROVENANCES,
    QC_NAMES,
    Dataset,
    FileRecord,
    Insertion,
    Session,
    Trajectory,
)
from fake_alyx.small_rows import SmallRows, columns, name_of, names, stamp
from fake_alyx.tables import Tables

SESSION_COLUMNS = ("type", "task_protocol", "number", "narrative", "n_correct_trials", "n_trials")
TRAJECTORY_COLUMNS = ("x", "y", "z", "depth", "theta", "phi", "roll")


class Rows(SmallRows):
    """Renders rows; `url` is the server's address, without trailing slash."""

    # sessions

    def session_listed(self, row: Session) -> dict[str, Any]:
        """List row: eight fields."""
        return {
            "id": row.id,
            "subject": row.subject.nickname,
            "start_time": stamp(row.start_time),
            "number": row.number,
            "lab": name_of(row.lab),
            "projects": names(row.projects),
            "url": f"{self.url}/sessions/{row.id}",
            "task_protocol": row.task_protocol,
        }

    def session(self, row: Session) -> dict[str, Any]:
        """Detail."""
        parent = row.parent_session
        notes = [note for note in self.tables.notes if note.object_id == row.id]
        insertions = sorted(row.insertions.values(), key=lambda found: found.seq)
        return {
            **columns(row, SESSION_COLUMNS),
            "subject": row.subject.nickname,
            "users": names(row.users),
            "location": row.location,
            "procedures": names(row.procedures),
            "lab": name_of(row.lab),
            "projects": names(row.projects),
            "start_time": stamp(row.start_time),
            "end_time": stamp(row.end_time),
            "parent_session": f"{self.url}/sessions/{parent.id}" if parent else None,
            "url": f"{self.url}/sessions/{row.id}",
            "extended_qc": row.extended_qc,
            "qc": QC_NAMES[row.qc],
            "wateradmin_session_related": [],
            "data_dataset_session_related": [
                {
                    **self._nested_dataset(found),
                    "revision": found.revision.id if found.revision else "",
                    "default_revision": str(found.default_dataset),
                    "qc": QC_NAMES[found.qc],
                }
                for found in self.online(row.datasets.values())
            ],
            "auto_datetime": stamp(row.auto_datetime),
            "id": row.id,
            "json": row.json,
            "probe_insertion": [self.insertion_listed(found) for found in insertions],
            "field_of_view": [],
            "notes": [self.note(note) for note in notes],
        }

    def online(self, datasets: Any) -> list[Dataset]:
        """Datasets that exist on a non-personal repository; all, where there is none such."""
        repositories = list(self.tables.repositories)
        if not any(row.globus_is_personal is False for row in repositories):
            return list(datasets)
        return [row for row in datasets if is_online(row, self.tables)]

    def _nested_dataset(self, row: Dataset) -> dict[str, Any]:
        return {
            "id": row.id,
            "name": row.name,
            "dataset_type": row.dataset_type.name,
            "data_url": self._best_url(row),
            "url": f"{self.url}/datasets/{row.id}",
            "file_size": row.file_size,
            "hash": row.hash,
            "version": row.version,
            "collection": row.collection,
        }

    def _best_url(self, row: Dataset) -> str | None:
        records = [
            record
            for record in self.tables.records(row)
            if record.exists and record.data_repository.data_url is not None
        ]
        records.sort(key=lambda record: record.data_repository.name, reverse=True)
        records.sort(key=lambda record: bool(record.data_repository.globus_is_personal))
        return self.data_url(records[0]) if records else None

    def session_info(self, row: Session) -> dict[str, Any]:
        """Session inside an insertion or a trajectory."""
        listed = self.session_listed(row)
        del listed["url"]
        return listed

    # insertions

    def insertion_listed(self, row: Insertion) -> dict[str, Any]:
        """List row: the datasets are ids."""
        return {**self._insertion(row), "datasets": [found.id for found in row.datasets]}

    def insertion(self, row: Insertion) -> dict[str, Any]:
        """Detail: the datasets are rows, only of those on a central repository; QC a number."""
        name = row.name.lower()
        datasets = row.session.datasets.values() if row.session else ()
        of_probe = [x for x in datasets if name in x.collection.lower()]
        found = self.online(of_probe)
        rows = [{**self._nested_dataset(dataset), "qc": dataset.qc} for dataset in found]
        return {**self._insertion(row), "datasets": rows}

    def _insertion(self, row: Insertion) -> dict[str, Any]:
        return {
            "id": row.id,
            "session": row.session.id if row.session else None,
            "model": name_of(row.model),
            "session_info": self.session_info(row.session) if row.session else None,
            "name": row.name,
            "json": row.json,
            "serial": row.serial,
            "auto_datetime": stamp(row.auto_datetime),
            "chronic_insertion": row.chronic_insertion,
        }

    def trajectory(self, row: Trajectory) -> dict[str, Any]:
        """Row of a list and detail."""
        provenances = {number: name for name, number in PROVENANCES.items()}
        return {
            "id": row.id,
            "probe_insertion": row.probe_insertion.id,
            **columns(row, TRAJECTORY_COLUMNS),
            "provenance": provenances[row.provenance],
            "session": self.session_info(row.probe_insertion.session),
            "probe_name": row.probe_insertion.name,
            "coordinate_system": name_of(row.coordinate_system),
            "datetime": stamp(row.datetime),
            "json": row.json,
            "chronic_insertion": row.chronic_insertion,
        }

    # datasets

    def data_url(self, record: FileRecord) -> str | None:
        """Address of the file: the dataset's id stands before the extension."""
        root = record.data_repository.data_url
        return root + with_id(record.relative_path, record.dataset.id) if root else None

    def dataset_listed(self, row: Dataset) -> dict[str, Any]:
        """List row: the detail and two flags."""
        return {
            **self.dataset(row),
            "protected": int(any(tag.protected for tag in row.tags)),
            "public": int(any(tag.public for tag in row.tags)),
        }

    def dataset(self, row: Dataset) -> dict[str, Any]:
        """Detail."""
        return {
            "url": f"{self.url}/datasets/{row.id}",
            "name": row.name,
            "created_by": name_of(row.created_by),
            "created_datetime": stamp(row.created_datetime),
            "dataset_type": row.dataset_type.name,
            "data_format": row.data_format.name,
            "collection": row.collection,
            "session": f"{self.url}/sessions/{row.session.id}",
            "file_size": row.file_size,
            "hash": row.hash,
            "version": row.version,
            "experiment_number": row.session.number,
            "file_records": [
                {
                    "id": record.id,
                    "data_repository": record.data_repository.name,
                    "data_repository_path": record.data_repository.globus_path,
                    "relative_path": record.relative_path,
                    "data_url": self.data_url(record),
                    "exists": record.exists,
                }
                for record in self.tables.records(row)
            ],
            "auto_datetime": stamp(row.auto_datetime),
            "revision": row.revision.name if row.revision else "",
            "default_dataset": row.default_dataset,
            "tags": names(row.tags),
            "qc": QC_NAMES[row.qc],
            "json": row.json,
        }

    def dataset_registered(self, row: Dataset) -> dict[str, Any]:
        """Row of register-file's answer: QC is a number."""
        session = row.session
        return {
            "id": row.id,
            "name": row.name,
            "file_size": row.file_size,
            "subject": session.subject.nickname,
            "created_by": name_of(row.created_by),
            "created_datetime": stamp(row.created_datetime),
            "dataset_type": row.dataset_type.name,
            "data_format": row.data_format.name,
            "session": session.id,
            "session_number": session.number,
            "session_users": ",".join(names(session.users)),
            "session_start_time": stamp(session.start_time),
            "collection": row.collection,
            "revision": row.revision.name if row.revision else "",
            "default": row.default_dataset,
            "qc": row.qc,
            "file_records": [
                {
                    "id": record.id,
                    "data_repository": record.data_repository.name,
                    "relative_path": record.relative_path,
                    "exists": record.exists,
                }
                for record in self.tables.records(row)
            ],
        }

    def record(self, row: FileRecord) -> dict[str, Any]:
        """Row of `/files`."""
        return {
            "url": f"{self.url}/files/{row.id}",
            "dataset": f"{self.url}/datasets/{row.dataset.id}",
            "data_repository": row.data_repository.name,
            "name": row.name,
            "json": row.json,
            "relative_path": row.relative_path,
            "exists": row.exists,
        }


def is_online(row: Dataset, tables: Tables) -> bool:
    """Whether a dataset exists on a non-personal repository."""
    return any(ok and place.globus_is_personal is False for place, ok in tables.places(row))


def with_id(path: str, dataset_id: str) -> str:
    """Put a dataset's id before the extension of a path."""
    folder, _, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    named = f"{stem}.{dataset_id}.{extension}" if dot else f"{name}.{dataset_id}"
    return f"{folder}/{named}" if folder else named
