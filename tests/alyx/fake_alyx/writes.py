"""What a POST, PUT, PATCH or DELETE does to the tables, for each endpoint.

register-file has rules of its own, in `fake_alyx.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fake_alyx.fields as fields
from fake_alyx.endpoints import ENDPOINTS
from fake_alyx.fields import Invalid
from fake_alyx.lookups import NotModelled
from fake_alyx.models import (
    Dataset,
    DatasetType,
    Insertion,
    Lab,
    Note,
    Project,
    Repository,
    Session,
    Subject,
    Task,
)
from fake_alyx.register import Refused, is_protected
from fake_alyx.values import FilterError


class Writes:
    """Writes over the tables.

    Parameters
    ----------
    server : AlyxServer
        Gives `tables`, `zone`, `lock` and the hook `before_projects`.
    """

    def __init__(self, server: Any) -> None:
        self.server, self.tables = server, server.tables

    def create(self, name: str, body: Any) -> Any:
        """Create a row."""
        values = fields.read(self.tables, ENDPOINTS[name].specs, body, partial=False)
        create = getattr(self, f"_create_{name.replace('-', '_')}", None)
        if create is None:
            raise NotModelled(f"the test server creates nothing of /{name}")
        return create(values)

    def _create_sessions(self, values: dict[str, Any]) -> Session:
        subject, projects = values.pop("subject"), values.pop("projects", [])
        start = values.pop("start_time", self.tables.clock())
        users = values.pop("users", None) or [self.tables.users.by_key["admin"]]
        lab = values.pop("lab", None) or subject.lab
        row = Session(
            self.tables.new_id(),
            subject,
            lab,
            values.pop("number", None),
            start,
            self.tables.clock(),
            users=users,
            **values,
        )
        subject.sessions[row.id] = row
        self.tables.save_session(row)
        if self.server.before_projects is not None:
            with self.unlocked():
                self.server.before_projects(row.id)
        row.projects = projects
        self.tables.version += 1
        return row

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let other requests in: what another connection sees between two statements."""
        self.server.lock.release()
        try:
            yield
        finally:
            self.server.lock.acquire()

    def _create_insertions(self, values: dict[str, Any]) -> Insertion:
        session = values.pop("session")
        if any(row.name == values["name"] for row in session.insertions.values()):
            raise _not_unique("name, session")
        now = self.tables.clock()
        row = Insertion(self.tables.new_id(), session, values.pop("name"), now, **values)
        session.insertions[row.id] = row
        self.tables.save_insertion(row)
        return row

    def _create_tasks(self, values: dict[str, Any]) -> Task:
        name, session = values.pop("name", None), values.pop("session", None)
        self._unique_task(None, name, session, values.get("arguments"))
        row = Task(self.tables.new_id(), name, session, self.tables.clock(), **values)
        if session is not None:
            session.tasks[row.id] = row
        return self.tables.tasks.add(row)

    def _unique_task(self, own: Task | None, name: Any, session: Any, arguments: Any) -> None:
        if None in (name, session, arguments):
            return  # null is not equal to null
        for row in session.tasks.values():
            if row is not own and row.name == name and row.arguments == arguments:
                raise _not_unique("name, session, arguments")

    def _create_notes(self, values: dict[str, Any]) -> Note:
        kinds = {
            "session": ("actions.session", "sessions", "Session"),
            "dataset": ("data.dataset", "datasets", "Dataset"),
            "probeinsertion": ("experiments.probeinsertion", "insertions", "ProbeInsertion"),
            "task": ("jobs.task", "tasks", "Task"),
        }
        kind = values.pop("content_type").rpartition(".")[2]
        if kind not in kinds:
            raise FilterError("ContentType matching query does not exist.")
        content_type, table, model = kinds[kind]
        if values["object_id"] not in getattr(self.tables, table).rows:
            raise FilterError(f"{model} matching query does not exist.")
        when = values.pop("date_time", self.tables.clock())
        user = values.pop("user")
        row = Note(self.tables.new_id(), user, when, content_type, **values)
        return self.tables.notes.add(row)

    def _create_subjects(self, values: dict[str, Any]) -> Subject:
        self._unique(self.tables.subjects, "subject", "nickname", values["nickname"])
        user = values.pop("responsible_user", None) or self.tables.users.by_key["admin"]
        nickname, lab = values.pop("nickname"), values.pop("lab")
        row = Subject(self.tables.new_id(), nickname, lab, user, **values)
        return self.tables.subjects.add(row)

    def _create_projects(self, values: dict[str, Any]) -> Project:
        values.setdefault("users", [self.tables.users.by_key["admin"]])
        return self._named("projects", "project", Project, values)

    def _create_labs(self, values: dict[str, Any]) -> Lab:
        values.setdefault("timezone", self.server.zone.key)
        return self._named("labs", "lab", Lab, values)

    def _create_data_repository(self, values: dict[str, Any]) -> Repository:
        values.setdefault("timezone", self.server.zone.key)
        return self._named("repositories", "data repository", Repository, values)

    def _create_dataset_types(self, values: dict[str, Any]) -> DatasetType:
        values.setdefault("created_by", self.tables.users.by_key["admin"])
        # Alyx stores the pattern in lower case.
        values["filename_pattern"] = values.get("filename_pattern", "").lower()
        return self._named("types", "dataset type", DatasetType, values)

    def _named(self, table: str, what: str, kind: type, values: dict[str, Any]) -> Any:
        rows = getattr(self.tables, table)
        self._unique(rows, what, "name", values["name"])
        return rows.add(kind(self.tables.new_id(), **values))

    @staticmethod
    def _unique(table: Any, what: str, key: str, value: str) -> None:
        if value in table.by_key:
            raise Invalid({key: [f"{what} with this {key} already exists."]})

    def update(self, name: str, row: Any, body: Any, *, partial: bool) -> None:
        """Change a row: fields that are not sent are kept, with PUT too; every save moves times."""
        values = fields.read(self.tables, ENDPOINTS[name].specs, body, partial=partial)
        _check_held(name, row, values)
        if name == "sessions" and values.keys() & {"subject", "number", "start_time"}:
            self.tables.pin_paths(row)
        if name == "tasks":
            now = [values.get(word, getattr(row, word)) for word in ("name", "session")]
            self._unique_task(row, *now, values.get("arguments", row.arguments))
        if "projects" in values:
            values["projects"] = _kept_first(row.projects, values["projects"])
        if name == "sessions" and values.get("subject", row.subject) is not row.subject:
            row.subject.sessions.pop(row.id)
            values["subject"].sessions[row.id] = row
        for word, value in values.items():
            setattr(row, word, value)
        self._save(name, row)

    def _save(self, name: str, row: Any) -> None:
        savers: dict[str, Callable[[Any], None]] = {
            "sessions": self.tables.save_session,
            "insertions": self.tables.save_insertion,
            "datasets": self.tables.save_dataset,
            "files": self.tables.save_record,
        }
        if name in savers:
            savers[name](row)
            return
        if name in ("tasks", "trajectories"):
            row.datetime = self.tables.clock()
        getattr(self.tables, ENDPOINTS[name].table).add(row)

    def delete(self, name: str, row: Any) -> None:
        """Delete a row and what hangs on it."""
        if name == "sessions":
            self.tables.delete_session(row)
        elif name == "insertions":
            self.tables.delete_insertion(row)
        elif name == "datasets":
            self._delete_dataset(row)
        else:
            raise NotModelled(f"the test server deletes nothing of /{name}")

    def _delete_dataset(self, row: Dataset) -> None:
        if is_protected(row):
            tags = '", "'.join(tag.name for tag in row.tags if tag.protected)
            text = f'Failed to delete dataset {row.name} due to protected tag(s) "{tags}"'
            raise Refused(403, {"status_code": 403, "detail": text})
        self.tables.delete_dataset(row)


def _check_held(name: str, row: Any, values: dict[str, Any]) -> None:
    """Refuse what our indices do not follow: a row that changes its owner or its name."""
    key = ENDPOINTS[name].key
    held = {"session", "probe_insertion", "dataset", *([] if key == "id" else [key])}
    for word in held & values.keys():
        now = getattr(row, word)
        if values[word] is not now and values[word] != now:
            raise NotModelled(f"the test server does not change {word} of /{name}")


def _not_unique(names: str) -> Invalid:
    text = f"The fields {names} must make a unique set."
    return Invalid({"non_field_errors": [text]})


def _kept_first(old: list[Any], new: list[Any]) -> list[Any]:
    # A relation is changed by its difference: rows that stay keep their place.
    return [row for row in old if row in new] + [row for row in new if row not in old]
