"""A small Alyx for tests: a real HTTP server that answers as the Alyx 3.6.1 that was measured.

Tests hold an `AlyxServer`: its address and token for clients, and methods that do what people,
rigs and scripts do behind the client's back. The parts: `alyx_server_tables` (rows and what moves
them), `_values` and `_lookups` (Django's filters), `_filters` (parameters and orders), `_rows`
(JSON), `_fields` (what can be written), `_register` (register-file), `_endpoints`, `_schema`,
`_http`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from alyx_server_endpoints import ENDPOINTS, Api
from alyx_server_http import Faults, Listener
from alyx_server_register import Refused, data_format, matching_types
from alyx_server_schema import add_fixtures
from alyx_server_tables import (
    PROVENANCES,
    QC,
    Dataset,
    DatasetType,
    Insertion,
    Lab,
    Named,
    Project,
    Repository,
    Revision,
    Session,
    Subject,
    Tables,
    Tag,
    Trajectory,
    relative_path,
)

USER, PASSWORD, TOKEN = "admin", "test-password", "test-token-0123456789abcdef"
START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)

__all__ = ["PASSWORD", "START", "TOKEN", "USER", "AlyxServer", "Refused"]


class AlyxServer:
    """An Alyx on 127.0.0.1.

    Parameters
    ----------
    zone : str
        The server's TIME_ZONE: its times are naive in it. Alyx's default is London, where
        `auto_datetime` jumps back one hour each autumn.
    now : datetime or None
        The server's clock, aware. It stands still until it is set or `advance` is called; None
        follows the real clock.
    seed : int
        Of the ids.

    Examples
    --------
    >>> with AlyxServer() as server:
    ...     session = server.add_session("M1", "2026-01-15", 1, projects=["p"], lab="lab")
    """

    user, password, token = USER, PASSWORD, TOKEN

    def __init__(
        self, *, zone: str = "Europe/London", now: datetime | None = START, seed: int = 0
    ) -> None:
        self.zone = ZoneInfo(zone)
        self._now = now
        self.lock = threading.RLock()
        self.counting = threading.Lock()
        self.closing = threading.Event()
        self.log: list[tuple[str, str]] = []
        self.busy_s = 0.0
        self.errors: list[BaseException | None] = []
        self.faults = Faults(self.counting)
        self.between_pages: Callable[[str, int], Any] | None = None
        """Called before a page with an offset is made, with endpoint and offset."""
        self.before_projects: Callable[[str], Any] | None = None
        """Called by POST /sessions with the new id, while the row has no projects yet."""
        self.tables = Tables(self.local_now, seed)
        add_fixtures(self.tables, (USER,))
        self._listener = Listener(self)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        self.api = Api(self)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name="alyx", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        if self.errors and exception[0] is None:
            raise AssertionError("the Alyx test server broke") from self.errors[0]

    def close(self) -> None:
        """Stop; open connections end."""
        self.closing.set()
        self._listener.shutdown()
        self._listener.close_connections()
        self._listener.server_close()
        self._thread.join()

    # the clock

    @property
    def now(self) -> datetime:
        """The server's clock, aware UTC."""
        return datetime.now(UTC) if self._now is None else self._now

    @now.setter
    def now(self, when: datetime) -> None:
        if when.tzinfo is None:
            raise ValueError("the clock takes aware times only")
        self._now = when.astimezone(UTC)

    def advance(self, seconds: float) -> datetime:
        """Move the clock on.

        Returns
        -------
        datetime
            The new time, aware UTC.
        """
        self.now = self.now + timedelta(seconds=seconds)
        return self.now

    def local_now(self) -> datetime:
        """Naive time that Alyx stamps rows with."""
        return self.now.astimezone(self.zone).replace(tzinfo=None)

    # faults

    @property
    def down(self) -> bool:
        """Whether the database is down: every answer is 500."""
        return self.faults.down

    @down.setter
    def down(self, flag: bool) -> None:
        self.faults.down = flag

    @property
    def hang_s(self) -> float:
        """Seconds that every answer is late."""
        return self.faults.hang_s

    @hang_s.setter
    def hang_s(self, seconds: float) -> None:
        self.faults.hang_s = seconds

    def throttle(self, n_per_minute: int | None, *, retry_after: int = 1) -> None:
        """Answer 429 beyond so many requests a minute of the server's clock; None ends it."""
        self.faults.throttle(n_per_minute, retry_after)

    def drop_connections(self, n: int, *, after: bool = False) -> None:
        """Break the next `n` connections without an answer; `after`: after the work is done."""
        self.faults.drop(n, after=after)

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 502,
        body: str = "<html>Bad Gateway</html>",
        **headers: str,
    ) -> None:
        """Answer the next `n` requests so, as a proxy before Alyx does; nothing is done."""
        kinds = {"Content-Type": "text/html"}
        kinds |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.plan(n, status, body, kinds)

    def cut_downloads(self, n: int, size: int) -> None:
        """End the next `n` downloads of files after `size` bytes."""
        self.faults.cut(n, size)

    # adding

    def add_lab(
        self, name: str, *, timezone: str | None = None, repositories: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Add a lab, or add repositories to one."""
        with self.lock:
            lab = self._lab(name)
            lab.timezone = timezone or lab.timezone
            self._give_repositories(lab, repositories)
            return self.api.rows.lab(lab)

    def add_project(self, name: str) -> dict[str, Any]:
        """Add a project."""
        with self.lock:
            return self.api.rows.project(self._project(name))

    def add_repository(
        self,
        name: str,
        *,
        lab: str | None = None,
        personal: bool = False,
        folder: Path | str | None = None,
        globus_path: str = "",
        hostname: str = "",
    ) -> dict[str, Any]:
        """Add a repository, or change it.

        Parameters
        ----------
        name : str
            Its files are under `<url>/data/<name>/`.
        lab : str, optional
            Lab whose new datasets get file records on it.
        personal : bool
            A lab's own server; else a central server.
        folder : Path, optional
            Where its files are: `<folder>/<relative_path>`, with or without the dataset's id in
            the name. Without it, every file is a 404.
        """
        with self.lock:
            row = self._repository(name)
            row.globus_is_personal, row.hostname = personal, hostname
            row.globus_path = globus_path or f"/{name}/Subjects/"
            row.folder = folder if folder is not None else row.folder
            if lab is not None:
                self._give_repositories(self._lab(lab), [name])
            return self.api.rows.repository(row)

    def add_user(self, name: str) -> None:
        """Add a user."""
        with self.lock:
            self._user(name)

    def add_subject(
        self, nickname: str, *, lab: str = "lab", projects: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Add a subject."""
        with self.lock:
            return self.api.rows.subject(self._subject(nickname, lab, projects))

    def add_session(
        self,
        subject: str,
        date: str | date | None,
        number: int | None = 1,
        *,
        projects: Iterable[str] = (),
        lab: str | None = None,
        start_time: str | datetime | None = None,
        end_time: str | datetime | None = None,
        task_protocol: str = "",
        procedures: Iterable[str] = (),
        users: Iterable[str] = (USER,),
        type: str | None = "Experiment",
        qc: str = "NOT_SET",
        n_trials: int | None = None,
        n_correct_trials: int | None = None,
        extended_qc: Any = None,
        json: Any = None,
        narrative: str = "",
        id: str | None = None,
    ) -> dict[str, Any]:
        """Add a session, as POST /sessions does; two of one subject, day and number are two rows.

        Parameters
        ----------
        date : str or date or None
            Day; the session starts at 10:00 of it unless `start_time` (naive, in the server's
            zone) says otherwise. None: a session without start time.
        projects : iterable of str
            None of them for a row whose projects come late: `attach_project` then.

        Returns
        -------
        dict
            The detail.
        """
        with self.lock:
            animal = self._subject(subject, lab or "lab", ())
            row = Session(
                id or self.tables.new_id(),
                animal,
                self._lab(lab) if lab else animal.lab,
                number,
                _moment(start_time) or (None if date is None else _moment(f"{date}T10:00:00")),
                self.local_now(),
                end_time=_moment(end_time),
                projects=[self._project(name) for name in projects],
                users=[self._user(name) for name in users],
                procedures=[self._procedure(name) for name in procedures],
                type=type,
                task_protocol=task_protocol,
                narrative=narrative,
                n_trials=n_trials,
                n_correct_trials=n_correct_trials,
                extended_qc=extended_qc,
                qc=QC[qc],
                json=json,
            )
            animal.sessions[row.id] = row
            self.tables.save_session(row)
            return self.api.rows.session(row)

    def add_insertion(
        self,
        eid: str,
        name: str = "probe00",
        *,
        model: str | None = "3B2",
        serial: str = "",
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a probe insertion."""
        with self.lock:
            session = self._session(eid)
            if any(row.name == name for row in session.insertions.values()):
                raise ValueError(f"{eid} has an insertion {name} already")
            kind = None if model is None else self._named(self.tables.models, model)
            row = Insertion(self.tables.new_id(), session, name, self.local_now())
            row.model, row.serial, row.json = kind, serial, json
            session.insertions[row.id] = row
            self.tables.save_insertion(row)
            return self.api.rows.insertion_listed(row)

    def add_trajectory(
        self,
        insertion: str,
        provenance: str = "Ephys aligned histology track",
        *,
        x: float | None = 0.0,
        y: float | None = 0.0,
        z: float | None = 0.0,
        depth: float | None = 3000.0,
        theta: float | None = 15.0,
        phi: float | None = 180.0,
        roll: float | None = 0.0,
        coordinate_system: str | None = "IBL-Allen",
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a trajectory of an insertion: micrometres and degrees."""
        with self.lock:
            probe = self.tables.insertions.rows[insertion]
            systems = self.tables.systems
            system = None if coordinate_system is None else self._named(systems, coordinate_system)
            row = Trajectory(self.tables.new_id(), probe, PROVENANCES[provenance], self.local_now())
            row.x, row.y, row.z, row.depth = x, y, z, depth
            row.theta, row.phi, row.roll, row.json = theta, phi, roll, json
            row.coordinate_system = system
            probe.trajectories[row.id] = row
            self.tables.trajectories.add(row)
            return self.api.rows.trajectory(row)

    def add_dataset(
        self,
        eid: str,
        path: str,
        *,
        hash: str = "",
        size: int | None = None,
        exists: Iterable[str] = (),
        revision: str = "",
        version: str = "",
        qc: str = "NOT_SET",
        dataset_type: str | None = None,
        default: bool = True,
        tags: Iterable[str] = (),
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a dataset of a session.

        Parameters
        ----------
        path : str
            Collection and file name, without revision folder:
            `raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin`.
        exists : iterable of str
            Repositories where the file is. The lab's other repositories get records with `exists`
            false; unknown ones are made, as central servers.
        revision : str
            Becomes the default when `default`.
        dataset_type : str, optional
            By default of the name, made when Alyx's stock has none.

        Raises
        ------
        ValueError
            When the session has this file and revision, or another session's file record is on its
            path: use `register` for what a second registration does.
        """
        collection, _, name = path.rpartition("/")
        with self.lock:
            session = self._session(eid)
            places = self._places(session, exists)
            row = Dataset(
                self.tables.new_id(),
                name,
                session,
                collection,
                self._dataset_type(name, dataset_type),
                self._data_format(name),
                self.local_now(),
                self.local_now(),
                created_by=self._user(USER),
                file_size=size,
                hash=hash,
                version=version,
                revision=self._revision(revision) if revision else None,
                default_dataset=default,
                qc=QC[qc],
                tags=[self._tag(tag) for tag in tags],
                json=json,
                records=tuple(places.items()),
            )
            self._check_free(session, row)
            if default:
                self._take_default(session, row)
            session.datasets[row.id] = row
            self.tables.records(row)
            self.tables.save_dataset(row)
            return self.api.rows.dataset_listed(row)

    def add_tag(self, name: str, *, protected: bool = True) -> dict[str, Any]:
        """Add a tag: a protected one forbids changes of its datasets."""
        with self.lock:
            tag = self._tag(name)
            tag.protected = protected
            return self.api.rows.tag(tag)

    def add_dataset_type(self, name: str, pattern: str = "") -> dict[str, Any]:
        """Add a dataset type."""
        with self.lock:
            row = DatasetType(self.tables.new_id(), name, pattern.lower())
            return self.api.rows.dataset_type(self.tables.types.add(row))

    # editing

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
        """
        with self.lock:
            rows = getattr(self.tables, table)
            row = rows.rows[id]
            if table == "sessions":
                self.tables.pin_paths(row)
            for name, value in fields.items():
                setattr(row, name, _stored(name, value))
            rows.add(row)

    def delete_session(self, eid: str) -> None:
        """DELETE a session with all that hangs on it."""
        with self.lock:
            self.api.delete("sessions", self._session(eid))

    def delete_dataset(self, dataset: str) -> None:
        """DELETE a dataset.

        Raises
        ------
        Refused
            When a protected tag forbids it.
        """
        with self.lock:
            self.api.delete("datasets", self.tables.datasets.rows[dataset])

    def delete_insertion(self, insertion: str) -> None:
        """DELETE an insertion."""
        with self.lock:
            self.api.delete("insertions", self.tables.insertions.rows[insertion])

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

    # helpers

    def _patch(self, name: str, key: str, fields: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for project in fields.get("projects", ()):
                self._project(project)
            row = getattr(self.tables, ENDPOINTS[name].table).rows[key]
            return self.api.update(name, row, fields, partial=True)

    def _session(self, eid: str) -> Session:
        return self.tables.sessions.rows[eid]

    def _named(self, table: Any, name: str) -> Any:
        return table.by_key.get(name) or table.add(Named(self.tables.new_id(), name))

    def _user(self, name: str) -> Named:
        return self._named(self.tables.users, name)

    def _procedure(self, name: str) -> Named:
        return self._named(self.tables.procedures, name)

    def _project(self, name: str) -> Project:
        projects = self.tables.projects
        made = projects.by_key.get(name)
        return made or projects.add(Project(self.tables.new_id(), name, users=[self._user(USER)]))

    def _lab(self, name: str) -> Lab:
        labs = self.tables.labs
        return labs.by_key.get(name) or labs.add(Lab(self.tables.new_id(), name, self.zone.key))

    def _repository(self, name: str) -> Repository:
        repositories = self.tables.repositories
        found = repositories.by_key.get(name)
        if found is not None:
            return found
        row = Repository(self.tables.new_id(), name, self.zone.key, f"/{name}/Subjects/")
        row.data_url, row.globus_is_personal = f"{self.url}/data/{name}/", False
        row.repository_type = "Fileserver"
        return repositories.add(row)

    def _give_repositories(self, lab: Lab, names: Iterable[str]) -> None:
        for name in names:
            repository = self._repository(name)
            if repository not in lab.repositories:
                lab.repositories.append(repository)
        self.tables.version += 1

    def _subject(self, nickname: str, lab: str, projects: Iterable[str]) -> Subject:
        subjects = self.tables.subjects
        found = subjects.by_key.get(nickname)
        if found is not None:
            return found
        row = Subject(self.tables.new_id(), nickname, self._lab(lab), self._user(USER))
        row.projects = [self._project(name) for name in projects]
        return subjects.add(row)

    def _tag(self, name: str) -> Tag:
        return self.tables.tags.by_key.get(name) or self.tables.tags.add(
            Tag(self.tables.new_id(), name, protected=True)
        )

    def _revision(self, name: str) -> Revision:
        revisions = self.tables.revisions
        return revisions.by_key.get(name) or revisions.add(
            Revision(self.tables.new_id(), name, self.local_now())
        )

    def _dataset_type(self, name: str, wanted: str | None) -> DatasetType:
        types = self.tables.types
        if wanted is not None:
            return types.by_key.get(wanted) or types.add(DatasetType(self.tables.new_id(), wanted))
        if found := matching_types(self.tables, name):
            return found[0]
        stem = name.rpartition(".")[0].split(".")
        attribute = ".".join([stem[0].split("_")[-1], *stem[1:2]])
        made = DatasetType(self.tables.new_id(), attribute, f"*{attribute.lower()}*")
        return types.by_key.get(attribute) or types.add(made)

    def _data_format(self, name: str) -> Named:
        extension = name.rpartition(".")[2]
        if not any(row.file_extension == f".{extension}" for row in self.tables.formats):
            made = Named(self.tables.new_id(), extension, file_extension=f".{extension}")
            return self.tables.formats.add(made)
        return data_format(self.tables, name)

    def _places(self, session: Session, exists: Iterable[str]) -> dict[Repository, bool]:
        lab = session.lab or session.subject.lab
        known = list(exists)
        for name in known:
            if name not in self.tables.repositories.by_key:
                self._give_repositories(lab, [name])
        rows = {row.name: row for row in lab.repositories}
        rows |= {name: self._repository(name) for name in known}
        return {rows[name]: name in known for name in sorted(rows)}

    def _check_free(self, session: Session, row: Dataset) -> None:
        for other in session.datasets.values():
            same = other.collection == row.collection and other.name == row.name
            if same and other.revision is row.revision:
                raise ValueError(f"{session.id} has {row.collection}/{row.name} already")
        for repository, _ in row.records:
            if self.tables.record_at(repository, relative_path(row)):
                raise ValueError(f"another session holds {relative_path(row)}")

    def _take_default(self, session: Session, row: Dataset) -> None:
        for other in session.datasets.values():
            same = other.collection == row.collection and other.name == row.name
            if same and other.default_dataset:
                other.default_dataset = False
                other.auto_datetime = self.local_now()
                self.tables.datasets.add(other)


def _moment(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _stored(name: str, value: Any) -> Any:
    """Value of a column, of what a test writes."""
    if name == "qc" and isinstance(value, str):
        return QC[value]
    if name.endswith(("_time", "datetime")):
        return _moment(value)
    return value
