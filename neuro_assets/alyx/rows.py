"""Rows of Alyx's REST interface as typed data; nothing here calls a server.

Fields that we use, under Alyx's own names; others are ignored, because every Alyx version adds
some. A row without a field that we need is a clear error and not a wrong decision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from neuro_assets.outcomes import PermanentFailure

QC = ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")
"""Alyx's scale of quality, from not judged to must not be used."""


def last_part(url: Any) -> Any:
    """Take the id out of a row's URL: the last part of its path."""
    return url.rstrip("/").rsplit("/", 1)[-1] if isinstance(url, str) else url


def token_of(*parts: Any) -> str:
    """Hash the content of a row: 12 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Row(BaseModel):
    """Immutable; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, row: Any) -> Self:
        """Read a row.

        Parameters
        ----------
        row : Any
            Parsed JSON.

        Returns
        -------
        Row
            Typed.

        Raises
        ------
        PermanentFailure
            When the server's answer has another shape: naming the field.
        """
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise PermanentFailure(
                f"Alyx answered with a {cls.__name__} that is not understood ({place}: "
                f"{first['msg']}); is its version another than 3.6?"
            ) from error


Id = Annotated[str, BeforeValidator(last_part)]
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Json = Annotated[
    dict[str, Any] | None,
    BeforeValidator(lambda value: value if isinstance(value, dict) else None),
]
"""A field in which Alyx takes any JSON, also lists and texts: those have none of our keys. What is
written is merged with the field as it is, never with this."""


class SessionRow(Row):
    """A session as lists give it.

    Parameters
    ----------
    id : str
        The eid.
    subject, lab : str
        Names.
    start_time : datetime or None
        Naive, in the server's zone.
    number : int
        Number of the day.
    projects : tuple of str
        Names.
    """

    id: Id
    subject: Text = ""
    lab: Text = ""
    start_time: datetime | None = None
    number: int | None = None
    projects: tuple[str, ...] = ()
    task_protocol: Text = ""

    @property
    def token(self) -> str:
        """Changes when anything that the list row shows does."""
        return token_of(
            self.subject, self.lab, self.start_time, self.number, self.projects, self.task_protocol
        )

    @property
    def date(self) -> date | None:
        """Day of the session."""
        return self.start_time.date() if self.start_time else None


class InsertionRow(Row):
    """A probe insertion.

    Parameters
    ----------
    id : str
        The pid.
    session : str or None
        The eid; Alyx keeps insertions without a session.
    name : str
        Name of the probe as somebody typed it.
    """

    id: Id
    session: Annotated[str | None, BeforeValidator(last_part)] = None
    name: Text = ""
    model: Text = ""
    serial: Text = ""
    info: Json = Field(None, alias="json")
    auto_datetime: datetime | None = None

    @property
    def token(self) -> str:
        """Changes with every change of the row."""
        return token_of(self.auto_datetime, self.name, self.model, self.serial, self.info)


class FileRecord(Row):
    """One copy of a dataset in one repository."""

    id: Id
    data_repository: Text = ""
    relative_path: Text = ""
    data_url: str | None = None
    exists: bool = False


class DatasetRow(Row):
    """A dataset with its copies.

    Parameters
    ----------
    url : str
        Holds the id.
    session : str or None
        The eid.
    hash : str or None
        MD5 of the file.
    file_size : int or None
        Bytes.
    """

    url: str
    name: str
    session: Annotated[str | None, BeforeValidator(last_part)] = None
    dataset_type: Text = ""
    collection: Text = ""
    revision: Text = ""
    default_dataset: bool = True
    hash: str | None = None
    file_size: int | None = None
    version: str | None = None
    qc: Text = "NOT_SET"
    auto_datetime: datetime | None = None
    protected: Annotated[bool, BeforeValidator(bool)] = False  # a count of protected tags
    file_records: tuple[FileRecord, ...] = ()

    @property
    def id(self) -> str:
        """Id of the dataset."""
        return str(last_part(self.url))

    @property
    def path(self) -> str:
        """Path below the session folder, as it is on disk."""
        parts = [self.collection, f"#{self.revision}#" if self.revision else "", self.name]
        return "/".join(part for part in parts if part)

    @property
    def token(self) -> str:
        """Changes with every change of the row or of one of its copies."""
        copies = sorted((f.data_repository, f.relative_path, f.exists) for f in self.file_records)
        return token_of(
            self.auto_datetime,
            self.hash,
            self.file_size,
            self.revision,
            self.default_dataset,
            copies,
        )

    def copy_on(self, repositories: Iterable[str]) -> FileRecord | None:
        """Give the copy that exists on the first of some repositories that has one.

        Parameters
        ----------
        repositories : iterable of str
            Names, the preferred one first.

        Returns
        -------
        FileRecord or None
            The newest path where a renumbered session has several records on one repository.
        """
        for name in repositories:
            there = [f for f in self.file_records if f.data_repository == name and f.exists]
            if there:
                return max(there, key=lambda record: record.relative_path)
        return None


class SessionDetail(SessionRow):
    """A session as its own page gives it."""

    url: Text = ""
    users: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()
    type: Text = ""
    end_time: datetime | None = None
    narrative: Text = ""
    qc: Text = "NOT_SET"
    extended_qc: Json = None
    info: Json = Field(None, alias="json")
    auto_datetime: datetime | None = None
    probe_insertion: tuple[InsertionRow, ...] = ()

    @property
    def is_mock(self) -> bool:
        """Whether somebody marked it as a trial run of the rig (`json.IS_MOCK`)."""
        return bool((self.info or {}).get("IS_MOCK"))


R = TypeVar("R", bound=Row)


def parse(kind: type[R], rows: Iterable[Any]) -> list[R]:
    """Read many rows; see `Row.of`."""
    return [kind.of(row) for row in rows]
