"""register-file and check-protected: the rules by which Alyx finds, makes and resets datasets.

As the views and transfers of Alyx 3.6.1 do it, in their order: there is no transaction, so what was
done before a refusal stays done.
"""

from __future__ import annotations

import re
from datetime import datetime
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from one.alf.path import folder_parts

from fake_alyx.models import QC, Dataset, DatasetType, Repository, Revision, Session
from fake_alyx.rows import Rows
from fake_alyx.tables import Tables
from fake_alyx.values import FilterError

SESSION_PATH = re.compile(r"(?P<subject>[\w.-]+)/(?P<date>\d{4}-\d{2}-\d{2})/(?P<number>\d{1,3})")
NOT_ALF = "Invalid ALF path. Only letters, numbers, hyphen and underscores allowed. "
SUBFOLDER = "Invalid ALF path. There must be only 1 revision and it cannot containsub folders. "
REVISIONS = "A revision folder must be surrounded by pound signs (#)."


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


def _refuse(status: int, *, key: str = "detail", text: str) -> Refused:
    return Refused(status, {"status_code": status, key: text})


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        value = value.split(",")
    return list(value) if isinstance(value, list | tuple) else [value]


def _flag(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name, default)
    return value == "True" if isinstance(value, str) else bool(value)


class Register:
    """The two endpoints; `first_by_id` chooses the day's first session as Alyx's SQL does."""

    def __init__(self, tables: Tables, rows: Rows) -> None:
        self.tables, self.rows = tables, rows
        self.first_by_id = False

    # finding the session

    def _first(self, sessions: list[Session]) -> Session | None:
        # Alyx takes the smallest id, which is random: "the first, without order". By creation,
        # runs repeat and the day's first session is the first.
        if self.first_by_id:
            sessions = sorted(sessions, key=lambda row: row.id)
        return sessions[0] if sessions else None

    def _session(self, path: str, user: Any) -> Session:
        found = SESSION_PATH.match(path)
        if not found:
            text = f"The path {path} should be `nickname/YYYY-MM-DD/n/..."
            raise _refuse(400, key="error", text=text)
        nickname, day, number = found["subject"], found["date"], int(found["number"])
        subject = self.tables.subjects.by_key.get(nickname)
        if subject is None:
            text = f'A subject with nickname "{path.split("/")[0]}" does not exist.'
            raise _refuse(400, key="error", text=text)
        of_day = self.tables.sessions_at(subject, day, None)
        base = self._first([row for row in of_day if row.parent_session is None])
        if base is None:
            text = f"A base session for {nickname} on {day} does not exist"
            raise _refuse(400, key="error", text=text)
        self._add_user(base, user)
        session = self._first([row for row in of_day if row.number == number])
        if session is None:
            text = f"A session for {nickname}/{number} on {day} does not exist"
            raise _refuse(400, key="error", text=text)
        self._add_user(session, user)
        if session.parent_session is None and session is not base:
            session.parent_session = base
            self.tables.save_session(session)
        return session

    def _add_user(self, session: Session, user: Any) -> None:
        if user is not None and user not in session.users:
            session.users.append(user)
            self.tables.save_session(session)

    def _user(self, body: dict[str, Any]) -> Any:
        name = body.get("created_by")
        if not name:
            return self.tables.users.by_key["admin"]
        if name not in self.tables.users.by_key:
            raise FilterError("LabMember matching query does not exist.")
        return self.tables.users.by_key[name]

    @staticmethod
    def _folders(path: str, names: list[str]) -> list[tuple[str, str, str]]:
        """(collection, revision, file name) of each file, by the function that Alyx calls.

        It ends at the first folder whose name it does not take: a file is recorded above it.
        """
        out = []
        for name in names:
            full = PurePosixPath(path) / name
            try:
                found = folder_parts(full.parent, as_dict=True)
                revision = found["revision"] or ""
                below = full.parts.index(f"#{revision}#") if revision else len(full.parts) - 2
            except ValueError as error:
                raise _refuse(400, text=NOT_ALF + REVISIONS) from error
            if below != len(full.parts) - 2:
                raise _refuse(400, text=SUBFOLDER + REVISIONS)
            out.append((found["collection"] or "", revision, full.name))
        return out

    # protection

    def _protection(self, session: Session, files: Any) -> tuple[bool, list[dict[str, Any]]]:
        details, any_protected = [], False
        for name, (collection, _, file) in files:
            found = self._versions(session, collection, file)
            # Latest revision first, the file without revision last.
            start = datetime.min
            found.sort(key=lambda row: row.revision.created_datetime if row.revision else start)
            flags = [
                {row.revision.name if row.revision else "": is_protected(row)}
                for row in reversed(found)
            ]
            any_protected |= any(is_protected(row) for row in found)
            details.append({name: flags})
        return any_protected, details

    @staticmethod
    def _versions(session: Session, collection: str, name: str) -> list[Dataset]:
        return [
            row
            for row in session.datasets.values()
            if row.collection == collection and row.name == name
        ]

    def check_protected(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer of GET /check-protected: always status 200."""
        path = _path(body)
        names = [name for name in _listed(body.get("filenames", ())) if name]
        try:
            session = self._session(path, self._user(body))
        except Refused as refused:
            raise FilterError(str(refused.body.get("error"))) from refused
        files = zip(names, self._folders(path, names), strict=True)
        protected, details = self._protection(session, files)
        if protected:
            text = "One or more datasets is protected"
            return {"status_code": 403, "error": text, "details": details}
        return {"status_code": 200, "details": "None of the datasets are protected"}

    # registering

    def register(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Answer of POST /register-file."""
        user = self._user(body)
        repository = self._repository(body)
        path = _path(body).strip("/")
        names = [name for name in _listed(body.get("filenames", ())) if name]
        session = self._session(path, user)
        folders = self._folders(path, names)
        repositories = self._repositories(body, session, repository)
        exists_in = repositories if _flag(body, "server_only", False) else [repository]
        if not _flag(body, "exists", True):
            exists_in = []
        if _flag(body, "check_protected", False):
            protected, details = self._protection(session, zip(names, folders, strict=True))
            if protected:
                text = "One or more datasets is protected"
                raise Refused(403, {"status_code": 403, "error": text, "details": details})
        out, prefix = [], _session_folder(path)
        for folder, values in zip(folders, _file_values(body, len(names)), strict=False):
            dataset = self._file(session, folder, values, user, _flag(body, "default", True))
            for place in repositories:
                self._place(
                    dataset, (prefix, *folder), place, place in exists_in, values["patched"]
                )
            out.append(self.rows.dataset_registered(dataset))
        return out

    def _repository(self, body: dict[str, Any]) -> Repository | None:
        if name := body.get("name"):
            found = self.tables.repositories.by_key.get(name)
        elif host := body.get("hostname"):
            found = next((row for row in self.tables.repositories if row.hostname == host), None)
        else:
            return None
        if found is None:
            raise _refuse(400, text="The specified repository does not exist.")
        return found

    def _repositories(
        self, body: dict[str, Any], session: Session, repository: Repository | None
    ) -> list[Repository]:
        named = _listed(body.get("labs", [])) + _listed(body.get("projects", []))
        labs = [self.tables.labs.by_key.get(name) for name in named if name]
        if None in labs:
            raise _refuse(400, text="One or more of the specified labs do not exist.")
        found = {
            place.name: place for lab in labs or [session.subject.lab] for place in lab.repositories
        }
        if _flag(body, "server_only", False):
            found = {name: x for name, x in found.items() if x.globus_is_personal is False}
        out = [found[name] for name in sorted(found)]
        return out if repository is None or repository in out else [*out, repository]

    def _file(
        self,
        session: Session,
        folder: tuple[str, str, str],
        values: dict[str, Any],
        user: Any,
        default: bool,
    ) -> Dataset:
        collection, revision_name, name = folder
        revision = self._revision(revision_name) if revision_name else None
        kind = dataset_type(self.tables, name)
        form = data_format(self.tables, name)
        if default:
            for other in self._versions(session, collection, name):
                if other.default_dataset:
                    other.default_dataset = False
                    other.auto_datetime = self.tables.clock()
                    self.tables.datasets.add(other)
        versions = self._versions(session, collection, name)
        found = [row for row in versions if row.revision is revision and row.dataset_type is kind]
        now = self.tables.clock()
        dataset = (
            found[0]
            if found
            else Dataset(self.tables.new_id(), name, session, collection, kind, form, now, now)
        )
        if not found:
            session.datasets[dataset.id] = dataset
            self.tables.save_dataset(dataset)
        dataset.revision, dataset.default_dataset = revision, default
        if values["qc"] not in QC and values["qc"] not in map(str, QC.values()):
            text = f'Invalid QC value "{values["qc"]}" for dataset "{name}"'
            raise _refuse(400, text=text)
        dataset.qc = QC.get(values["qc"]) if values["qc"] in QC else int(values["qc"])
        # Saved before the protection is looked at: a refused call still resets QC and default.
        self.tables.save_dataset(dataset)
        if found and is_protected(dataset):
            raise _refuse(403, text=f"Dataset {dataset.id} is protected, cannot patch")
        values["patched"] = not (values["hash"] and dataset.hash == values["hash"])
        dataset.created_by = user
        dataset.version = values["version"] or dataset.version
        dataset.hash = values["hash"] or dataset.hash
        if values["size"] is not None:
            dataset.file_size = values["size"]
        self.tables.save_dataset(dataset)
        return dataset

    def _revision(self, name: str) -> Revision:
        found = self.tables.revisions.by_key.get(name)
        if found is None:
            made = Revision(self.tables.new_id(), name, self.tables.clock())
            found = self.tables.revisions.add(made)
        return found

    def _place(
        self,
        dataset: Dataset,
        folder: tuple[str, str, str, str],
        repository: Repository,
        exists: bool,
        patched: bool,
    ) -> None:
        prefix, collection, revision, name = folder
        parts = [prefix, collection, f"#{revision}#" if revision else "", name]
        path = "/".join(part for part in parts if part)
        holder = self.tables.record_at(repository, path)
        if holder is not None and holder.dataset is not dataset:
            text = (
                f'A file record for "{path}" already exists on repository "{repository.name}" '
                "for a different dataset."
            )
            raise _refuse(400, text=text)
        record = holder or self.tables.new_record(dataset, repository, path, exists)
        if holder is None or patched:
            record.exists, record.json = exists, None
        self.tables.save_record(record)


def _session_folder(path: str) -> str:
    """Folder of the session as it was sent: Alyx keeps a number without leading zeros so."""
    found = SESSION_PATH.match(path)
    return found[0] if found else path


def _path(body: dict[str, Any]) -> str:
    path = body.get("path", "")
    if not path:
        raise FilterError("The path argument is required.")
    return str(path).replace("\\", "/").replace("//", "/")


def _file_values(body: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Hash, size, version and QC of each file; one version or QC serves all."""
    none = [None] * n
    versions, qcs = _listed(body.get("versions", none)), _listed(body.get("qc") or "NOT_SET")
    if isinstance(body.get("versions"), str) and len(versions) == 1:
        versions *= n
    if len(qcs) == 1:
        qcs *= n
    sizes = _listed(body.get("filesizes", none))
    hashes = _listed(body.get("hashes", none))
    return [
        {
            "hash": hash_ or "",
            "size": None if size is None else int(size),
            "version": version or "",
            "qc": str(qc or "NOT_SET"),
        }
        for hash_, size, version, qc in zip(hashes, sizes, versions, qcs, strict=False)
    ]


def is_protected(dataset: Dataset) -> bool:
    """Whether a tag forbids changing the dataset."""
    return any(tag.protected for tag in dataset.tags)


def matching_types(tables: Tables, name: str) -> list[DatasetType]:
    """Dataset types whose pattern fits a file name; without pattern, whose name is in it."""
    parts = name.split(".")
    bare = re.sub(r"^_[a-zA-Z0-9]+_", "", parts[0])
    attribute = parts[1] if len(parts) > 2 else ""
    return [
        row
        for row in tables.types
        if (
            fnmatch(name.lower(), row.filename_pattern.lower())
            if row.filename_pattern
            else row.name in (f"{bare}.{attribute}", name.rpartition(".")[0])
        )
    ]


def dataset_type(tables: Tables, name: str) -> DatasetType:
    """The one dataset type of a file name."""
    found = matching_types(tables, name)
    if not found:
        raise FilterError(f'No dataset type found for filename "{name}"')
    if len(found) > 1:
        kinds = ", ".join(row.name for row in found)
        raise FilterError(f'Multiple matching dataset types found for filename "{name}": \n{kinds}')
    return found[0]


def data_format(tables: Tables, name: str) -> Any:
    """The one data format of a file's extension."""
    extension = "." + name.rpartition(".")[2] if "." in name else ""
    found = [row for row in tables.formats if row.file_extension == extension]
    if not found:
        raise FilterError("DataFormat matching query does not exist.")
    return found[0]
