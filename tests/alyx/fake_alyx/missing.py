"""Rows that tests name and that are not there yet: made on the fly, as a lab's admin would."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fake_alyx.models import (
    Dataset,
    DatasetType,
    Lab,
    Named,
    Project,
    Repository,
    Revision,
    Session,
    Subject,
    Tag,
    relative_path,
)
from fake_alyx.register import data_format, matching_types
from fake_alyx.tables import Tables

USER = "admin"
"""The user whose token the server takes."""


class Missing:
    """Finds or makes rows; the server gives the rest."""

    tables: Tables
    lock: threading.RLock
    zone: ZoneInfo
    url: str
    api: Any

    def local_now(self) -> datetime:
        """Naive time that Alyx stamps rows with."""
        raise NotImplementedError

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
