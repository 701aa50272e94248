"""What people, rigs and scripts change in Alyx behind a client's back, and looks without requests.

Each moves the times that it moves in Alyx, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fake_alyx.adding import Adding, moment
from fake_alyx.endpoints import ENDPOINTS
from fake_alyx.models import QC


class Editing(Adding):
    """Edits, deletes, registers and looks."""

    def patch_session(self, eid: str, **fields: Any) -> dict[str, Any]:
        """PATCH a session; also a no-op moves its time."""
        return self._patch("sessions", eid, fields)

    def patch_insertion(self, insertion: str, **fields: Any) -> dict[str, Any]:
        """PATCH an insertion."""
        return self._patch("insertions", insertion, fields)

    def patch_dataset(self, dataset: str, **fields: Any) -> dict[str, Any]:
        """PATCH a dataset."""
        return self._patch("datasets", dataset, fields)

    def set_exists(self, dataset: str, repository: str, flag: bool = True) -> None:
        """Save a file record: moves the dataset's time."""
        with self.lock:
            for record in list(self.tables.records(self.tables.datasets.rows[dataset])):
                if record.data_repository.name == repository:
                    record.exists = flag
                    self.tables.save_record(record)

    def attach_project(self, eid: str, name: str) -> None:
        """Attach a project, as the second half of a session's creation does: nothing moves."""
        with self.lock:
            session, project = self._session(eid), self._project(name)
            if project not in session.projects:
                session.projects.append(project)
            self.tables.version += 1

    def tag_dataset(self, dataset: str, tag: str) -> None:
        """Tag a dataset, as a release script does: nothing moves."""
        with self.lock:
            self.tables.datasets.rows[dataset].tags.append(self._tag(tag))
            self.tables.version += 1

    def sql(self, table: str, id: str, **fields: Any) -> None:
        """Edit a row with raw SQL: no time moves; PostgreSQL moves the row in its heap.

        Parameters
        ----------
        table : str
            `sessions`, `insertions`, `datasets`, `tasks`, `trajectories` or a small table.
        **fields
            Columns; `qc` by word, times as text, `projects` by names. Not the row's owner.
        """
        with self.lock:
            rows = getattr(self.tables, table)
            row = rows.rows[id]
            if table == "sessions":
                self.tables.pin_paths(row)
            for name, value in fields.items():
                setattr(row, name, self._stored(name, value))
            rows.add(row)

    def delete_session(self, eid: str) -> None:
        """DELETE a session with all that hangs on it."""
        with self.lock:
            self.api.writes.delete("sessions", self._session(eid))

    def delete_dataset(self, dataset: str) -> None:
        """DELETE a dataset.

        Raises
        ------
        Refused
            When a protected tag forbids it.
        """
        with self.lock:
            self.api.writes.delete("datasets", self.tables.datasets.rows[dataset])

    def delete_insertion(self, insertion: str) -> None:
        """DELETE an insertion."""
        with self.lock:
            self.api.writes.delete("insertions", self.tables.insertions.rows[insertion])

    def register(self, path: str, filenames: Iterable[str], **fields: Any) -> list[dict[str, Any]]:
        """POST /register-file.

        Parameters
        ----------
        path : str
            `subject/YYYY-MM-DD/number` and folders.
        **fields
            `name`, `hashes`, `filesizes`, `versions`, `qc`, `exists`, `labs`, `created_by`,
            `check_protected`, `server_only`, `default`.

        Raises
        ------
        Refused
            With `status` and `body`, for what Alyx answers other than 201 and 500.
        """
        with self.lock:
            body = {"path": path, "filenames": list(filenames), **fields}
            return self.api.registrar.register(body)

    # looking

    def session(self, eid: str) -> dict[str, Any]:
        """Detail of a session, without a request."""
        with self.lock:
            return self.api.rows.session(self._session(eid))

    def dataset(self, dataset: str) -> dict[str, Any]:
        """Detail of a dataset, without a request."""
        with self.lock:
            return self.api.rows.dataset(self.tables.datasets.rows[dataset])

    def datasets(self, eid: str) -> list[dict[str, Any]]:
        """Rows of a session's datasets, without a request."""
        with self.lock:
            rows = self._session(eid).datasets.values()
            return [self.api.rows.dataset_listed(row) for row in rows]

    def _patch(self, name: str, key: str, fields: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for project in fields.get("projects", ()):
                self._project(project)
            row = getattr(self.tables, ENDPOINTS[name].table).rows[key]
            return self.api.update(name, row, fields, partial=True)

    def _stored(self, name: str, value: Any) -> Any:
        """Value of a column, of what a test writes."""
        if name in ("subject", "session", "dataset", "probe_insertion", "id"):
            raise ValueError(f"the test server does not change {name} of a row")
        if name == "qc" and isinstance(value, str):
            return QC[value]
        if name == "projects":
            return [self._project(project) for project in value]
        return moment(value) if name.endswith(("_time", "datetime")) else value
