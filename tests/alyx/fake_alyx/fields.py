"""Fields that a client may write: which words each endpoint takes, and what it refuses.

A refused value is a 400 with REST framework's text; unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fake_alyx.models import PROVENANCES, QC, STATUSES
from fake_alyx.tables import Tables

DATETIME = (
    "Datetime has wrong format. Use one of these formats instead: "
    "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)


class Wrong(ValueError):
    """One field's value is refused; the text is REST framework's."""


class DatabaseError(Exception):
    """The database takes a value less than the serializer does: 500 with its text."""


class Invalid(Exception):
    """A body is refused: 400 with a list of texts for each field."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


Reader = Callable[[Tables, Any], Any]


@dataclass(frozen=True)
class Spec:
    """A writable field: its reader, whether null is taken, whether it must be sent to create.

    `column` is named where the serializer takes null and the database does not: a 500.
    """

    read: Reader
    null: bool = False
    required: bool = False
    column: str = ""


def char(tables: Tables, value: Any) -> str:
    """Text; numbers are taken as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong("Not a valid string.")
    return str(value).strip()


def integer(tables: Tables, value: Any) -> int:
    """Whole number, also as text."""
    try:
        return int(str(value))
    except ValueError as error:
        raise Wrong("A valid integer is required.") from error


def floating(tables: Tables, value: Any) -> float:
    """Number, also as text."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Wrong("A valid number is required.") from error


def boolean(tables: Tables, value: Any) -> bool:
    """Boolean, also as the words that REST framework takes."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = words.get(str(value).lower())
    if found is None:
        raise Wrong("Must be a valid boolean.")
    return found


def moment(tables: Tables, value: Any) -> datetime:
    """Time; one with an offset becomes naive **UTC**, whatever the server's zone.

    REST framework's doing where USE_TZ is off: on a server in London, a summer time sent with its
    offset is an hour early. The recorded server ran in UTC, where it cannot be seen.
    """
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise Wrong(DATETIME) from error
    return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when


def anything(tables: Tables, value: Any) -> Any:
    """JSON."""
    return value


def slug(table: str, key: str = "name") -> Reader:
    """Row of another table, by name."""

    def read(tables: Tables, value: Any) -> Any:
        row = getattr(tables, table).by_key.get(value) if isinstance(value, str) else None
        if row is None:
            raise Wrong(f"Object with {key}={value} does not exist.")
        return row

    return read


def slugs(table: str, key: str = "name") -> Reader:
    """Rows of another table, by names."""
    read_one = slug(table, key)

    def read(tables: Tables, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Wrong(f'Expected a list of items but got type "{type(value).__name__}".')
        return [read_one(tables, item) for item in value]

    return read


def by_id(table: str) -> Reader:
    """Row of another table, by id or by the row's address."""

    def read(tables: Tables, value: Any) -> Any:
        key = str(value).rstrip("/").rsplit("/", 1)[-1]
        row = getattr(tables, table).rows.get(key)
        if row is None:
            raise Wrong(f"Object with id={value} does not exist.")
        return row

    return read


def by_ids(table: str) -> Reader:
    """Rows of another table, by ids."""
    read_one = by_id(table)
    return lambda tables, value: [read_one(tables, item) for item in value]


def word(name: str, values: dict[str, int]) -> Reader:
    """One of a fixed set of words."""

    def read(tables: Tables, value: Any) -> int:
        if value not in values:
            raise Wrong(f"Invalid {name}, choices are: {', '.join(values)}")
        return values[value]

    return read


TEXT = Spec(char)
NULL_TEXT, NULL_INT, NULL_FLOAT = (Spec(read, null=True) for read in (char, integer, floating))
NULL_TIME, JSON, TRUTH = Spec(moment, null=True), Spec(anything, null=True), Spec(boolean)

SESSION: dict[str, Spec] = {
    "subject": Spec(slug("subjects", "nickname"), required=True),
    "users": Spec(slugs("users", "username")),
    "location": NULL_TEXT,
    "procedures": Spec(slugs("procedures")),
    "lab": Spec(slug("labs")),
    "projects": Spec(slugs("projects")),
    "type": NULL_TEXT,
    "task_protocol": TEXT,
    "number": NULL_INT,
    "start_time": NULL_TIME,
    "end_time": NULL_TIME,
    "narrative": TEXT,
    "parent_session": Spec(by_id("sessions"), null=True),
    "n_correct_trials": NULL_INT,
    "n_trials": NULL_INT,
    "extended_qc": JSON,
    "qc": Spec(word("qc", QC)),
    "json": JSON,
}
INSERTION: dict[str, Spec] = {
    "session": Spec(by_id("sessions"), required=True),
    "model": Spec(slug("models", "probe_model")),
    "name": Spec(char, required=True),
    "json": JSON,
    "serial": TEXT,
}
TRAJECTORY: dict[str, Spec] = {
    "probe_insertion": Spec(by_id("insertions"), null=True),
    "x": Spec(floating, null=True, required=True),
    "y": Spec(floating, null=True, required=True),
    "z": NULL_FLOAT,
    "depth": Spec(floating, null=True, required=True),
    "theta": Spec(floating, null=True, required=True),
    "phi": Spec(floating, null=True, required=True),
    "roll": NULL_FLOAT,
    "provenance": Spec(word("provenance", PROVENANCES), required=True),
    "coordinate_system": Spec(slug("systems")),
    "json": JSON,
}
DATASET: dict[str, Spec] = {
    "name": Spec(char, required=True),
    "created_by": Spec(slug("users", "username")),
    "dataset_type": Spec(slug("types"), required=True),
    "data_format": Spec(slug("formats")),
    "collection": NULL_TEXT,
    "session": Spec(by_id("sessions")),
    "file_size": NULL_INT,
    "hash": Spec(char, null=True, column="hash"),
    "version": Spec(char, null=True, column="version"),
    "revision": Spec(slug("revisions")),
    "default_dataset": Spec(boolean, null=True),
    "tags": Spec(slugs("tags")),
    "qc": Spec(word("qc", QC)),
    "json": JSON,
}
RECORD: dict[str, Spec] = {
    "dataset": Spec(by_id("datasets"), required=True),
    "data_repository": Spec(slug("repositories"), required=True),
    "relative_path": Spec(char, required=True),
    "exists": TRUTH,
    "name": TEXT,
    "json": JSON,
}
TASK: dict[str, Spec] = {
    "name": NULL_TEXT,
    "session": Spec(by_id("sessions"), null=True),
    "status": Spec(word("status", STATUSES)),
    "arguments": JSON,
    "parents": Spec(by_ids("tasks")),
    "data_repository": Spec(slug("repositories")),
    "time_elapsed_secs": NULL_FLOAT,
    **dict.fromkeys(("executable", "graph", "log", "version"), NULL_TEXT),
    **dict.fromkeys(("priority", "io_charge", "level", "gpu", "cpu", "ram"), NULL_INT),
    "time_out_secs": NULL_INT,
}
SUBJECT: dict[str, Spec] = {
    "nickname": Spec(char, required=True),
    "lab": Spec(slug("labs"), required=True),
    "responsible_user": Spec(slug("users", "username")),
    "projects": Spec(slugs("projects")),
    **dict.fromkeys(("species", "litter", "strain", "source", "line"), NULL_TEXT),
    **dict.fromkeys(("birth_date", "death_date"), NULL_TEXT),
    "sex": TEXT,
    "description": TEXT,
    "json": JSON,
}
PROJECT: dict[str, Spec] = {
    "name": Spec(char, required=True),
    "description": TEXT,
    "users": Spec(slugs("users", "username")),
}
LAB: dict[str, Spec] = {
    "name": Spec(char, required=True),
    **dict.fromkeys(("institution", "address", "timezone"), TEXT),
    **dict.fromkeys(("reference_weight_pct", "zscore_weight_pct"), Spec(floating)),
    "repositories": Spec(slugs("repositories")),
    "json": JSON,
}
REPOSITORY: dict[str, Spec] = {
    "name": Spec(char, required=True),
    **dict.fromkeys(("timezone", "globus_path", "hostname"), TEXT),
    **dict.fromkeys(("data_url", "repository_type", "globus_endpoint_id"), NULL_TEXT),
    "globus_is_personal": Spec(boolean, null=True),
    "json": JSON,
}
TYPE: dict[str, Spec] = {
    "name": Spec(char, required=True),
    "created_by": Spec(slug("users", "username"), null=True),
    "description": TEXT,
    "filename_pattern": TEXT,
}
NOTE: dict[str, Spec] = {
    "user": Spec(slug("users", "username"), required=True),
    "date_time": Spec(moment),
    "content_type": Spec(char, required=True),
    "object_id": Spec(char, required=True),
    "text": TEXT,
    "json": JSON,
}


def read(tables: Tables, specs: Mapping[str, Spec], body: Any, *, partial: bool) -> dict[str, Any]:
    """Values of a body, checked.

    Raises
    ------
    Invalid
        With all that is wrong; nothing is written then.
    """
    if not isinstance(body, dict):
        text = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise Invalid({"non_field_errors": [text]})
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, spec in specs.items():
        if name not in body:
            if spec.required and not partial:
                errors[name] = ["This field is required."]
            continue
        try:
            values[name] = _value(tables, spec, body[name])
        except Wrong as error:
            errors[name] = [str(error)]
    if errors:
        raise Invalid(errors)
    return values


def _value(tables: Tables, spec: Spec, value: Any) -> Any:
    if value is not None:
        return spec.read(tables, value)
    if not spec.null:
        raise Wrong("This field may not be null.")
    if spec.column:
        raise DatabaseError(f'null value in column "{spec.column}" violates not-null constraint')
    return None
