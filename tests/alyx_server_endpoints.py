"""Endpoints of the Alyx test server: lists with pages and filters, details, and what a write does.

No sockets here: `Api.answer` takes a parsed request and gives status and JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import alyx_server_fields as fields
import alyx_server_filters as filters
from alyx_server_fields import Invalid, Spec
from alyx_server_register import Refused, Register, is_protected
from alyx_server_rows import Rows
from alyx_server_tables import (
    Dataset,
    DatasetType,
    FileRecord,
    Insertion,
    Lab,
    Note,
    Project,
    Repository,
    Revision,
    Session,
    Subject,
    Tag,
    Task,
    Trajectory,
)
from alyx_server_values import FilterError, as_datetime, parse

PAGE, MOST = 250, 1000
"""Rows of a page that asks for none, and the most that any page gives."""
HELD = {"Dataset": "datasets", "ProbeInsertion": "insertions", "Task": "tasks"}
"""Models whose rows a session holds: an index."""
OF_SESSION = {
    f"session{key}{lookup}" for key in ("", "_id", "__id", "__pk") for lookup in ("", "__in")
}
LIST, ROW = ("GET", "POST"), ("GET", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Endpoint:
    """One of Alyx's tables as its REST interface shows it."""

    model: str
    """Django's name, for the text of a 404."""
    table: str
    listed: str
    """Method of `Rows` for a list."""
    detail: str
    specs: Mapping[str, Spec] = field(default_factory=dict)
    parameters: Mapping[str, filters.Make] = field(default_factory=dict)
    order: filters.Order = filters.heap
    key: str = "id"
    methods: tuple[str, ...] = LIST
    row_methods: tuple[str, ...] = ROW


def _small(
    model: str,
    table: str,
    row: str,
    specs: Mapping[str, Spec],
    parameters: Mapping[str, filters.Make],
    order: filters.Order = filters.by_name,
) -> Endpoint:
    """Endpoint whose rows are found by name."""
    return Endpoint(model, table, row, row, specs, parameters, order, "name")


ENDPOINTS: dict[str, Endpoint] = {
    "sessions": Endpoint(
        "Session",
        "sessions",
        "session_listed",
        "session",
        fields.SESSION,
        filters.SESSION,
        filters.by_start,
    ),
    "insertions": Endpoint(
        "ProbeInsertion",
        "insertions",
        "insertion_listed",
        "insertion",
        fields.INSERTION,
        filters.INSERTION,
        filters.by_session,
    ),
    "trajectories": Endpoint(
        "TrajectoryEstimate",
        "trajectories",
        "trajectory",
        "trajectory",
        fields.TRAJECTORY,
        filters.TRAJECTORY,
    ),
    "datasets": Endpoint(
        "Dataset", "datasets", "dataset_listed", "dataset", fields.DATASET, filters.DATASET
    ),
    "files": Endpoint("FileRecord", "", "record", "record", fields.RECORD, filters.RECORD),
    "tasks": Endpoint("Task", "tasks", "task", "task", fields.TASK, filters.TASK, filters.by_level),
    "notes": Endpoint("Note", "notes", "note", "note", fields.NOTE, filters.NOTE),
    "subjects": Endpoint(
        "Subject",
        "subjects",
        "subject_listed",
        "subject",
        fields.SUBJECT,
        filters.SUBJECT,
        filters.by_name,
        "nickname",
    ),
    "projects": _small("Project", "projects", "project", fields.PROJECT, {}),
    "labs": _small("Lab", "labs", "lab", fields.LAB, filters.LAB, filters.heap),
    "data-repository": _small(
        "DataRepository", "repositories", "repository", fields.REPOSITORY, filters.REPOSITORY
    ),
    "dataset-types": _small("DatasetType", "types", "dataset_type", fields.TYPE, {}),
    "data-formats": _small("DataFormat", "formats", "data_format", {}, {}),
    "revisions": _small("Revision", "revisions", "revision", fields.REVISION, filters.NAME),
    "tags": _small("Tag", "tags", "tag", fields.TAG, filters.NAME),
    "users": Endpoint(
        "LabMember",
        "users",
        "user",
        "user",
        {},
        filters.USER,
        key="username",
        methods=("GET",),
        row_methods=("GET",),
    ),
    "register-file": Endpoint("", "", "", "", methods=("POST",), row_methods=()),
    "check-protected": Endpoint("", "", "", "", methods=("GET",), row_methods=()),
}


@dataclass
class Answer:
    """Status and body; `allow` are the methods of the address."""

    status: int
    body: Any = None
    allow: tuple[str, ...] = ()
    html: bool = False


class NotFound(Exception):
    """404 in HTML: there is no such address."""


class Api:
    """The REST interface over the tables.

    Parameters
    ----------
    server : AlyxServer
        Gives `tables`, `zone`, `lock`, `url` and the hooks.
    """

    def __init__(self, server: Any) -> None:
        self.server, self.tables = server, server.tables
        self.rows = Rows(self.tables, server.url)
        self.registrar = Register(self.tables, self.rows)
        self._found: dict[tuple[int, str, str], list[Any]] = {}

    # one request

    def answer(self, method: str, target: str, body: Callable[[], Any]) -> Answer:
        """Answer a request whose token is good."""
        split = urlsplit(target)
        name, _, key = split.path.strip("/").partition("/")
        endpoint = ENDPOINTS.get(name)
        if endpoint is None or split.path != f"/{name}" + (f"/{key}" if key else ""):
            raise NotFound(split.path)
        if key and (not endpoint.row_methods or "/" in key):
            raise NotFound(split.path)
        if key and endpoint.key == "id" and not _is_uuid(key):
            raise NotFound(split.path)
        allow = endpoint.row_methods if key else endpoint.methods
        try:
            if method not in allow:
                text = f'Method "{method}" not allowed.'
                return Answer(405, {"detail": text, "status_code": 405}, allow)
            query = {word: values[-1] for word, values in parse_qs(split.query, True).items()}
            return self._act(endpoint, name, method, key, query, target, body, allow)
        except Refused as refused:
            return Answer(refused.status, refused.body, allow)
        except Invalid as invalid:
            return Answer(400, {**invalid.errors, "status_code": 400}, allow)
        except (FilterError, TypeError) as error:
            return Answer(500, {"status_code": 500, "detail": str(error)}, allow)

    def _act(
        self,
        endpoint: Endpoint,
        name: str,
        method: str,
        key: str,
        query: dict[str, str],
        target: str,
        body: Callable[[], Any],
        allow: tuple[str, ...],
    ) -> Answer:
        if name == "register-file":
            return Answer(201, self.registrar.register(body()), allow)
        if name == "check-protected":
            return Answer(200, self.registrar.check_protected(body() or query), allow)
        if not key and method == "GET":
            return Answer(200, self._page(endpoint, query, target), allow)
        if not key:
            return Answer(201, self.create(name, body()), allow)
        row = self.find(name, key)
        if row is None:
            text = f"No {endpoint.model} matches the given query."
            return Answer(404, {"detail": text, "status_code": 404}, allow)
        if method == "GET":
            return Answer(200, getattr(self.rows, endpoint.detail)(row), allow)
        if method == "DELETE":
            self.delete(name, row)
            return Answer(204, None, allow)
        return Answer(200, self.update(name, row, body(), partial=method == "PATCH"), allow)

    def find(self, name: str, key: str) -> Any:
        """Row of an endpoint by its key; None when there is none."""
        endpoint = ENDPOINTS[name]
        if name == "files":
            return self.tables.record(key)
        table = getattr(self.tables, endpoint.table)
        return (table.rows if endpoint.key == "id" else table.by_key).get(key)

    # lists

    def _page(self, endpoint: Endpoint, query: dict[str, str], target: str) -> dict[str, Any]:
        limit = min(_positive(query.get("limit"), PAGE) or PAGE, MOST)
        offset = _positive(query.get("offset"), 0)
        rows = self._select(endpoint, query)
        render = getattr(self.rows, endpoint.listed)
        address = self.server.url + target
        following = None
        if offset + limit < len(rows):
            following = _with(address, limit=limit, offset=offset + limit)
        previous = None
        if offset > 0:
            previous = _with(address, limit=limit, offset=max(offset - limit, 0))
        return {
            "count": len(rows),
            "next": following,
            "previous": previous,
            "results": [render(row) for row in rows[offset : offset + limit]],
        }

    def _select(self, endpoint: Endpoint, query: dict[str, str]) -> list[Any]:
        """Rows of a list, in order; kept until something is written, because pages follow."""
        wanted = {
            word: text for word, text in query.items() if text and word in endpoint.parameters
        }
        key = (self.tables.version, endpoint.model, urlencode(sorted(wanted.items())))
        if key not in self._found:
            tests = self._tests(endpoint, wanted)
            rows = [
                row
                for row in self._candidates(endpoint, wanted)
                if all(test(row) for test in tests)
            ]
            if len(self._found) > 8:
                self._found.clear()
            # Without order and index the rows come as they lie already.
            unordered = endpoint.model == "FileRecord"
            self._found[key] = rows if unordered else endpoint.order(rows)
        return self._found[key]

    def _tests(self, endpoint: Endpoint, wanted: dict[str, str]) -> list[filters.Test]:
        tests = []
        for word, text in wanted.items():
            try:
                test = endpoint.parameters[word](self.tables, self.server.zone, text)
            except filters.BadParameter as error:
                raise Invalid({word: [str(error)]}) from error
            if test is not None:
                tests.append(test)
        return tests

    def _candidates(self, endpoint: Endpoint, wanted: dict[str, str]) -> Iterable[Any]:
        """Rows that can match, by an index where the filters allow it."""
        if endpoint.model == "FileRecord":
            return self._records(wanted)
        table = getattr(self.tables, endpoint.table)
        if endpoint.model in HELD and "session" in wanted:
            session = self.tables.sessions.rows.get(str(UUID(wanted["session"])))
            return getattr(session, HELD[endpoint.model], {}).values()
        for key, value in parse(wanted.get("django", "")).items() if "django" in wanted else ():
            rows = self._by_lookup(endpoint.model, table, key, value)
            if rows is not None:
                return rows
        return table

    def _by_lookup(self, model: str, table: Any, key: str, value: Any) -> Iterable[Any] | None:
        if key in ("id__in", "pk__in") and isinstance(value, list | tuple):
            found = (table.rows.get(str(item)) for item in value)
            return [row for row in found if row is not None]
        if key in ("id", "pk", "id__exact") and isinstance(value, str):
            row = table.rows.get(value)
            return [] if row is None else [row]
        if key in OF_SESSION and model in HELD:
            ids = [value] if isinstance(value, str) else value
            sessions = [self.tables.sessions.rows.get(str(item)) for item in ids or ()]
            held = [getattr(row, HELD[model]).values() for row in sessions if row is not None]
            return [row for rows in held for row in rows]
        relation, _, rest = key.rpartition("auto_datetime__")
        if rest not in ("gte", "gt") or not isinstance(value, str):
            return None
        when = as_datetime(value, self.server.zone)
        if not relation and table.times is not None:
            return table.times.since(when, table.rows)
        if model == "Session" and relation in (
            "data_dataset_session_related__",
            "probe_insertion__",
        ):
            related = self.tables.datasets if relation[0] == "d" else self.tables.insertions
            rows = related.times.since(when, related.rows)
            return {row.session.id: row.session for row in rows}.values()
        return None

    def _records(self, wanted: dict[str, str]) -> Iterator[FileRecord]:
        dataset = self.tables.datasets.rows.get(wanted.get("dataset", ""))
        for row in [dataset] if dataset else list(self.tables.datasets):
            yield from self.tables.records(row)

    # writes

    def create(self, name: str, body: Any) -> dict[str, Any]:
        """Create a row; the answer is its detail."""
        endpoint = ENDPOINTS[name]
        values = fields.read(self.tables, endpoint.specs, body, partial=False)
        row = getattr(self, f"_create_{name.replace('-', '_')}")(values)
        render = "subject_listed" if name == "subjects" else endpoint.detail
        if name == "insertions":
            render = "insertion_listed"
        if name == "datasets":
            render = "dataset"
        return getattr(self.rows, render)(row)

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

    def _create_trajectories(self, values: dict[str, Any]) -> Trajectory:
        insertion = values.pop("probe_insertion", None)
        if insertion is None:
            raise Invalid({"probe_insertion": ["This field may not be null."]})
        if any(row.provenance == values["provenance"] for row in insertion.trajectories.values()):
            raise _not_unique("provenance, probe_insertion")
        now = self.tables.clock()
        row = Trajectory(self.tables.new_id(), insertion, values.pop("provenance"), now, **values)
        insertion.trajectories[row.id] = row
        return self.tables.trajectories.add(row)

    def _create_datasets(self, values: dict[str, Any]) -> Dataset:
        session = values.pop("session", None)
        if session is None:
            raise Invalid({"session": ["The test server keeps only datasets of sessions."]})
        now = self.tables.clock()
        values.setdefault("created_by", self.tables.users.by_key["admin"])
        values = {name: value for name, value in values.items() if value is not None}
        form = values.pop("data_format", None) or self.tables.formats.by_key["npy"]
        row = Dataset(
            self.tables.new_id(),
            values.pop("name"),
            session,
            values.pop("collection", ""),
            values.pop("dataset_type"),
            form,
            now,
            now,
            **values,
        )
        session.datasets[row.id] = row
        self.tables.save_dataset(row)
        return row

    def _create_files(self, values: dict[str, Any]) -> FileRecord:
        if self.tables.record_at(values["data_repository"], values["relative_path"]):
            raise _not_unique("data_repository, relative_path")
        self.tables.records(values["dataset"])
        row = self.tables.new_record(
            values["dataset"],
            values["data_repository"],
            values["relative_path"],
            values.get("exists", False),
        )
        self.tables.save_record(row)
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

    def _create_revisions(self, values: dict[str, Any]) -> Revision:
        values.setdefault("created_datetime", self.tables.clock())
        return self._named("revisions", "revision", Revision, values)

    def _create_tags(self, values: dict[str, Any]) -> Tag:
        return self._named("tags", "tag", Tag, values)

    def _named(self, table: str, what: str, kind: type, values: dict[str, Any]) -> Any:
        rows = getattr(self.tables, table)
        self._unique(rows, what, "name", values["name"])
        return rows.add(kind(self.tables.new_id(), **values))

    @staticmethod
    def _unique(table: Any, what: str, key: str, value: str) -> None:
        if value in table.by_key:
            raise Invalid({key: [f"{what} with this {key} already exists."]})

    def update(self, name: str, row: Any, body: Any, *, partial: bool) -> dict[str, Any]:
        """Change a row: fields that are not sent are kept, with PUT too; every save moves times."""
        endpoint = ENDPOINTS[name]
        values = fields.read(self.tables, endpoint.specs, body, partial=partial)
        if name == "sessions" and values.keys() & {"subject", "number", "start_time"}:
            self.tables.pin_paths(row)
        if name == "tasks":
            now = [values.get(word, getattr(row, word)) for word in ("name", "session")]
            self._unique_task(row, *now, values.get("arguments", row.arguments))
        if "projects" in values:
            values["projects"] = _kept_first(row.projects, values["projects"])
        if name == "sessions" and "subject" in values:
            row.subject.sessions.pop(row.id)
            values["subject"].sessions[row.id] = row
        for word, value in values.items():
            setattr(row, word, value)
        self._save(name, row)
        return getattr(self.rows, endpoint.detail)(row)

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
        elif name == "files":
            self.tables.drop_record(row)
        elif name == "trajectories":
            row.probe_insertion.trajectories.pop(row.id)
            self.tables.trajectories.remove(row)
        elif name == "tasks":
            if row.session is not None:
                row.session.tasks.pop(row.id)
            self.tables.tasks.remove(row)
        else:
            getattr(self.tables, ENDPOINTS[name].table).remove(row)

    def _delete_dataset(self, row: Dataset) -> None:
        if is_protected(row):
            tags = '", "'.join(tag.name for tag in row.tags if tag.protected)
            text = f'Failed to delete dataset {row.name} due to protected tag(s) "{tags}"'
            raise Refused(403, {"status_code": 403, "detail": text})
        self.tables.delete_dataset(row)


def _not_unique(names: str) -> Invalid:
    text = f"The fields {names} must make a unique set."
    return Invalid({"non_field_errors": [text]})


def _kept_first(old: list[Any], new: list[Any]) -> list[Any]:
    # A relation is changed by its difference: rows that stay keep their place.
    return [row for row in old if row in new] + [row for row in new if row not in old]


def _is_uuid(text: str) -> bool:
    # Django's converter: lower case with hyphens only.
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _positive(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


def _with(address: str, *, limit: int, offset: int) -> str:
    """Address of another page, as REST framework builds it: parameters sorted."""
    split = urlsplit(address)
    query = parse_qs(split.query, keep_blank_values=True)
    query.pop("offset", None)
    query["limit"] = [str(limit)]
    if offset:
        query["offset"] = [str(offset)]
    return split._replace(query=urlencode(sorted(query.items()), doseq=True)).geturl()
