"""Django's lookups, as `django=`, `json=` and `extended_qc=` send them: the models they walk.

Values are in `fake_alyx.values`; which endpoint has which other parameter is in
`fake_alyx.filters`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from fake_alyx.values import TEXT, FilterError, Test, leaf_test, parse


class NotModelled(Exception):
    """A field that Alyx has and this server has not: an error of the test, never a wrong answer."""


@dataclass(frozen=True)
class Field:
    """How to read a field: its kind, and for a relation the model it leads to."""

    kind: str
    get: Callable[[Any], Any]
    model: str = ""


def plain(kind: str, *names: str) -> dict[str, Field]:
    """Fields that are attributes of the row."""

    def reader(name: str) -> Callable[[Any], Any]:
        return lambda row: getattr(row, name)

    return {name: Field(kind, reader(name)) for name in names}


def one(model: str, *names: str) -> dict[str, Field]:
    """Relations to one row, with their `_id` twins."""
    out = {name: Field("one", field.get, model) for name, field in plain("one", *names).items()}
    return out | {f"{name}_id": field for name, field in out.items()}


def many(model: str, **getters: Callable[[Any], Iterable[Any]]) -> dict[str, Field]:
    """Relations to many rows."""
    return {name: Field("many", get, model) for name, get in getters.items()}


def _subdict(attribute: str) -> Callable[[Any], Iterable[Any]]:
    return lambda row: getattr(row, attribute).values()


@dataclass(slots=True)
class _Place:
    """A file record seen through its dataset, without making the row."""

    data_repository: Any
    exists: bool


def _places(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset.records, list):
        yield from dataset.records
    else:
        yield from (_Place(*pair) for pair in dataset.records)


NAMED = plain("uuid", "id") | plain("char", "name", "description") | plain("json", "json")
MODELS: dict[str, dict[str, Field]] = {
    "LabMember": {"username": Field("char", lambda row: row.name)} | plain("uuid", "id"),
    "ProcedureType": NAMED,
    "ProbeModel": NAMED | {"probe_model": Field("char", lambda row: row.name)},
    "CoordinateSystem": NAMED,
    "DataFormat": NAMED | plain("char", "file_extension"),
    "Project": NAMED | many("LabMember", users=lambda row: row.users),
    "DataRepository": NAMED
    | plain("char", "hostname", "globus_path", "data_url", "timezone")
    | plain("bool", "globus_is_personal")
    | plain("uuid", "globus_endpoint_id"),
    "Lab": NAMED
    | plain("char", "institution", "address", "timezone")
    | many("DataRepository", repositories=lambda row: row.repositories),
    "Subject": plain("uuid", "id")
    | plain("char", "nickname", "sex", "description")
    | plain("json", "json")
    | one("Lab", "lab")
    | one("LabMember", "responsible_user")
    | many("Project", projects=lambda row: row.projects)
    | many("Session", actions_sessions=_subdict("sessions")),
    "Session": plain("uuid", "id")
    | plain("char", "name", "type", "task_protocol", "narrative")
    | plain("json", "json", "extended_qc")
    | plain("int", "number", "n_trials", "n_correct_trials", "qc")
    | plain("datetime", "start_time", "end_time", "auto_datetime")
    | one("Subject", "subject")
    | one("Lab", "lab")
    | one("Session", "parent_session")
    | many("LabMember", users=lambda row: row.users)
    | many("ProcedureType", procedures=lambda row: row.procedures)
    | many("Project", projects=lambda row: row.projects)
    | many("Dataset", data_dataset_session_related=_subdict("datasets"))
    | many("ProbeInsertion", probe_insertion=_subdict("insertions"))
    | many("Task", tasks=_subdict("tasks")),
    "ProbeInsertion": NAMED
    | plain("char", "serial")
    | plain("datetime", "auto_datetime")
    | one("Session", "session")
    | one("ProbeModel", "model")
    | many("Dataset", datasets=lambda row: row.datasets)
    | many("TrajectoryEstimate", trajectory_estimate=_subdict("trajectories")),
    "TrajectoryEstimate": plain("uuid", "id")
    | plain("float", "x", "y", "z", "depth", "theta", "phi", "roll")
    | plain("int", "provenance")
    | plain("datetime", "datetime")
    | plain("json", "json")
    | one("ProbeInsertion", "probe_insertion")
    | one("CoordinateSystem", "coordinate_system"),
    "DatasetType": NAMED | plain("char", "filename_pattern") | one("LabMember", "created_by"),
    "Revision": NAMED | plain("datetime", "created_datetime"),
    "Tag": NAMED | plain("bool", "protected", "public") | plain("char", "hash"),
    "Dataset": NAMED
    | plain("char", "hash", "version", "collection", "generating_software")
    | plain("int", "file_size", "qc")
    | plain("bool", "default_dataset")
    | plain("datetime", "auto_datetime", "created_datetime")
    | one("Session", "session")
    | one("DatasetType", "dataset_type")
    | one("DataFormat", "data_format")
    | one("Revision", "revision")
    | one("LabMember", "created_by")
    | many("Tag", tags=lambda row: row.tags)
    | many("FileRecord", file_records=_places)
    | many(
        "ProbeInsertion",
        probe_insertion=lambda row: [
            found for found in row.session.insertions.values() if row in found.datasets
        ],
    ),
    "FileRecord": NAMED
    | plain("char", "relative_path")
    | plain("bool", "exists")
    | one("Dataset", "dataset")
    | one("DataRepository", "data_repository"),
    "Task": plain("uuid", "id")
    | plain("char", "name", "executable", "graph", "log", "version")
    | plain("int", "priority", "io_charge", "level", "gpu", "cpu", "ram", "time_out_secs", "status")
    | plain("float", "time_elapsed_secs")
    | plain("datetime", "datetime")
    | plain("json", "arguments")
    | one("Session", "session")
    | one("DataRepository", "data_repository")
    | many("Task", parents=lambda row: row.parents),
}

# Fields that Alyx's error texts offer and that nothing here keeps. Session's are as recorded; the
# others are read in Alyx's models.
OTHERS = {
    "Session": "field_of_view location location_id session wateradmin_session_related",
    "Dataset": "content_object content_type content_type_id data_dataset_provenance_related "
    "data_notices download field_of_view md5 object_id protected provenance_directory "
    "provenance_directory_id public",
    "ProbeInsertion": "channels chronic_insertion chronic_insertion_id",
    "Subject": "birth_date death_date genotype line litter source species strain",
    "TrajectoryEstimate": "channels chronic_insertion chronic_insertion_id",
    "Task": "children",
}

KINDS = {
    "relation": "ForeignKey",
    "char": "CharField",
    "int": "IntegerField",
    "float": "FloatField",
    "bool": "BooleanField",
    "datetime": "DateTimeField",
    "date": "DateField",
    "uuid": "UUIDField",
    "json": "JSONField",
}
LOOKUPS = ("exact", "gt", "gte", "lt", "lte", "in", "isnull", "range", "regex", "iregex", *TEXT)
TRANSFORMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "date": ("date", lambda value: value.date()),
    "year": ("int", lambda value: value.year),
    "month": ("int", lambda value: value.month),
    "day": ("int", lambda value: value.day),
    "hour": ("int", lambda value: value.hour),
}


# walking -----------------------------------------------------------------------------------------


def choices(model: str) -> str:
    """Field names as Django's error text lists them."""
    names = {*MODELS[model], *OTHERS.get(model, "").split()}
    return ", ".join(sorted(names))


def _field(model: str, name: str, first: bool) -> Field | None:
    name = "id" if name == "pk" else name
    if name in OTHERS.get(model, "").split():
        raise NotModelled(f"the test server does not keep {model}.{name}")
    if found := MODELS[model].get(name):
        return found
    if first:
        text = f"Cannot resolve keyword '{name}' into field. Choices are: {choices(model)}"
        raise FilterError(text)
    return None


def _unsupported(name: str, kind: str) -> FilterError:
    near = difflib.get_close_matches(name, LOOKUPS)
    more = f", perhaps you meant {' or '.join(near)}?" if near else "."
    text = f"Unsupported lookup '{name}' for {KINDS[kind]} or join on the field not permitted"
    return FilterError(text + more)


def _tail(kind: str, rest: list[str]) -> tuple[str, Callable[[Any], Any], str]:
    """Kind, transform and lookup of what follows a field's name."""
    if kind == "json":
        lookup = rest.pop() if rest and rest[-1] in LOOKUPS else "exact"
        return kind, _json_reader(rest), lookup
    transform: Callable[[Any], Any] = lambda value: value  # noqa: E731
    if rest and kind in ("datetime", "date") and rest[0] in TRANSFORMS:
        kind, transform = TRANSFORMS[rest.pop(0)]
    lookup = rest.pop(0) if rest and rest[0] in LOOKUPS else "exact"
    if rest:
        raise _unsupported(rest[0], kind)
    return kind, transform, lookup


def _json_reader(keys: list[str]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value

    return read


def _related(field: Field, name: str, rest: list[str], value: Any, zone: ZoneInfo) -> Test:
    """Test of a relation itself: its ids, or whether there is any."""
    lookup = rest[0] if rest else "exact"
    if lookup == "isnull" or (lookup == "exact" and value is None):
        wanted = True if value is None else _truth(value)
        if field.kind == "one":
            return lambda row: (field.get(row) is None) == wanted
        return lambda row: (not any(True for _ in field.get(row))) == wanted
    if lookup not in ("exact", "in", "gt", "gte", "lt", "lte"):
        raise _unsupported(lookup, "relation")
    test = leaf_test("uuid", name, lookup, value, zone)
    if field.kind == "one":
        return lambda row: (found := field.get(row)) is not None and test(found.id)
    return lambda row: any(test(found.id) for found in field.get(row))


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FilterError("The QuerySet value for an isnull lookup must be True or False.")
    return value


def compile_lookup(model: str, key: str, value: Any, zone: ZoneInfo) -> Test:
    """Test of a row for one pair of `django=`, without `~`."""
    return _compile(model, key.split("__"), value, zone, True)


def _compile(model: str, parts: list[str], value: Any, zone: ZoneInfo, first: bool) -> Test:
    name, *rest = parts
    field = _field(model, name, first)
    if field is None:
        raise _unsupported(name, "relation")
    if field.model:
        target = rest and _field(field.model, rest[0], False)
        if not target:
            return _related(field, name, rest, value, zone)
        return _through(field, _compile(field.model, rest, value, zone, False), rest, value)
    kind, transform, lookup = _tail(field.kind, rest)
    get = field.get
    if lookup == "isnull" or (lookup == "exact" and value is None):
        wanted = True if value is None else _truth(value)
        return lambda row: ((found := get(row)) is None or transform(found) is None) == wanted
    test = leaf_test(kind, name, lookup, value, zone)

    def check(row: Any) -> bool:
        found = get(row)
        if found is None:
            return False
        found = transform(found)
        return found is not None and test(found)

    return check


def _through(field: Field, test: Test, rest: list[str], value: Any) -> Test:
    """Test of the rows behind a relation; a missing row is null (an outer join)."""
    null = (rest[-1] == "isnull" and value is True) or value is None
    get = field.get
    if field.kind == "one":
        return lambda row: null if (found := get(row)) is None else test(found)

    def check(row: Any) -> bool:
        found = list(get(row))
        return any(map(test, found)) if found else null

    return check


def compile_django(model: str, text: str, zone: ZoneInfo) -> list[Test]:
    """Tests of a row for `django=`: all must hold; `~` excludes."""
    tests = []
    for key, value in parse(text).items():
        if key.startswith("~"):
            test = compile_lookup(model, key[1:], value, zone)
            tests.append(lambda row, test=test: not test(row))
        else:
            tests.append(compile_lookup(model, key, value, zone))
    return tests
