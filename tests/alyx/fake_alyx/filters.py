"""Query parameters of each endpoint; unknown ones are ignored.

A parameter that django-filter validates with a form answers 400; the others answer 500 with the
exception's text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fake_alyx.lookups import compile_django, compile_lookup
from fake_alyx.models import PROVENANCES, QC, STATUSES
from fake_alyx.rows import is_online
from fake_alyx.tables import Tables
from fake_alyx.values import FilterError, Test, as_date, as_datetime, parse

Make = Callable[[Tables, ZoneInfo, str], Test | None]


class BadParameter(Exception):
    """A value that a form refuses: 400 with the parameter's name."""


def lookup(model: str, key: str) -> Make:
    """Parameter that is one lookup; the value stays text."""
    return lambda tables, zone, text: compile_lookup(model, key, text, zone)


def pairs(model: str, prefix: str) -> Make:
    """Parameter that is pairs of lookups inside a JSON field."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        found = parse(text, prefix=f"{prefix}__").items()
        tests = [compile_lookup(model, key, value, zone) for key, value in found]
        return lambda row: all(test(row) for test in tests)

    return make


def django(model: str) -> Make:
    """The parameter `django`."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        tests = compile_django(model, text, zone)
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    return make


def enum(name: str, values: dict[str, int]) -> Make:
    """Parameter with a fixed set of words; the missing space in the text is Alyx's."""
    known = {word.lower(): number for word, number in values.items()}

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        wanted = known.get(text.lower().strip())
        if wanted is None:
            raise FilterError(f"Invalid{name}, choices are: {', '.join(values)}")
        return lambda row: getattr(row, name) == wanted

    return make


def row_id(model: str, key: str, table: str = "") -> Make:
    """Parameter that is an id; with `table`, an id without a row is refused (a choice field)."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        try:
            wanted = str(UUID(text))
        except ValueError as error:
            words = f"“{text}” is not a valid UUID." if table else "Enter a valid UUID."
            raise BadParameter(words) from error
        if table and wanted not in getattr(tables, table).rows:
            words = "Select a valid choice. That choice is not one of the available choices."
            raise BadParameter(words)
        return compile_lookup(model, key, wanted, zone)

    return make


def number(model: str, key: str) -> Make:
    """Parameter that is a number."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        try:
            wanted = float(text)
        except ValueError as error:
            raise BadParameter("Enter a number.") from error
        return lambda row: getattr(row, key) is not None and getattr(row, key) == wanted

    return make


def flag(test: Callable[[Tables, bool], Test]) -> Make:
    """Parameter that is true or false; other words are ignored."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test | None:
        wanted = {"true": True, "false": False}.get(text.lower())
        return None if wanted is None else test(tables, wanted)

    return make


def boolean(model: str, key: str) -> Make:
    """Parameter that is a boolean column."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test | None:
        wanted = {"true": True, "false": False}.get(text.lower())
        return None if wanted is None else compile_lookup(model, key, wanted, zone)

    return make


def moment(model: str, key: str) -> Make:
    """Parameter that is a time, checked by a form."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        try:
            as_datetime(text, zone)
        except FilterError as error:
            raise BadParameter("Enter a valid date/time.") from error
        return compile_lookup(model, key, text[:10] if "__date" in key else text, zone)

    return make


# the less regular ones ---------------------------------------------------------------------------


def date_range(tables: Tables, zone: ZoneInfo, text: str) -> Test:
    """Days of start_time, both ends included."""
    words = text.split(",")
    if len(words) < 2:
        raise FilterError("list index out of range")
    first, last = as_date(words[0]), as_date(words[1])

    def test(row: Any) -> bool:
        return row.start_time is not None and first <= row.start_time.date() <= last

    return test


def dataset_types(relation: str) -> Make:
    """Rows that have datasets of all these types, wherever they exist."""

    def make(tables: Tables, zone: ZoneInfo, text: str) -> Test:
        wanted = set(text.split(","))

        def test(row: Any) -> bool:
            found = getattr(row, relation)
            datasets = found.values() if isinstance(found, dict) else found
            return wanted <= {dataset.dataset_type.name for dataset in datasets}

        return test

    return make


def session_datasets(tables: Tables, zone: ZoneInfo, text: str) -> Test:
    """Sessions that have all these files on a central repository, none worse than FAIL."""
    wanted = set(text.split(","))

    def test(row: Any) -> bool:
        return wanted <= {
            dataset.name
            for dataset in row.datasets.values()
            if dataset.name in wanted and dataset.qc <= QC["FAIL"] and is_online(dataset, tables)
        }

    return test


def insertion_datasets(tables: Tables, zone: ZoneInfo, text: str) -> Test:
    """Insertions that have all these files, wherever they exist."""
    wanted = set(text.split(","))
    return lambda row: wanted <= {found.name for found in row.datasets if found.qc <= QC["FAIL"]}


def users(tables: Tables, zone: ZoneInfo, text: str) -> Test:
    """Sessions of all these users."""
    wanted = set(text.split(","))
    return lambda row: wanted <= {user.name for user in row.users}


def on_server(tables: Tables, wanted: bool) -> Test:
    """Datasets with a file record of that `exists` on a non-personal repository."""
    if not any(row.globus_is_personal is False for row in tables.repositories):
        return lambda row: True
    return lambda row: any(
        exists is wanted and place.globus_is_personal is False
        for place, exists in tables.places(row)
    )


def _tagged(attribute: str) -> Callable[[Tables, bool], Test]:
    return lambda tables, wanted: (
        lambda row: any(getattr(tag, attribute) for tag in row.tags) == wanted
    )


def probe_datasets(tables: Tables, zone: ZoneInfo, text: str) -> Test:
    """Datasets whose collection contains the insertion's name."""
    insertion = tables.insertions.rows.get(text)
    if insertion is None:
        raise FilterError("ProbeInsertion matching query does not exist.")
    name = insertion.name.lower()
    return lambda row: row.session is insertion.session and name in row.collection.lower()


SESSION: dict[str, Make] = {
    "django": django("Session"),
    "id": row_id("Session", "id"),
    "subject": lookup("Session", "subject__nickname__iexact"),
    "nickname": lookup("Session", "subject__nickname__iexact"),
    "lab": lookup("Session", "lab__name__iexact"),
    "project": lookup("Session", "projects__name__icontains"),
    "projects": lookup("Session", "projects__name__icontains"),
    "procedures": lookup("Session", "procedures__name__icontains"),
    "task_protocol": lookup("Session", "task_protocol__icontains"),
    "type": lookup("Session", "type__iexact"),
    "narrative": lookup("Session", "narrative"),
    "name": lookup("Session", "name"),
    "number": number("Session", "number"),
    "n_trials": number("Session", "n_trials"),
    "n_correct_trials": number("Session", "n_correct_trials"),
    "qc": enum("qc", QC),
    "users": users,
    "date_range": date_range,
    "start_time": moment("Session", "start_time"),
    "end_time": moment("Session", "end_time"),
    "auto_datetime": moment("Session", "auto_datetime"),
    "extended_qc": pairs("Session", "extended_qc"),
    "json": pairs("Session", "json"),
    "dataset_types": dataset_types("datasets"),
    "datasets": session_datasets,
    "tag": lookup("Session", "data_dataset_session_related__tags__name__icontains"),
    "parent_session": row_id("Session", "parent_session", "sessions"),
}
INSERTION: dict[str, Make] = {
    "django": django("ProbeInsertion"),
    "id": row_id("ProbeInsertion", "id"),
    "session": row_id("ProbeInsertion", "session"),
    "name": lookup("ProbeInsertion", "name"),
    "serial": lookup("ProbeInsertion", "serial"),
    "subject": lookup("ProbeInsertion", "session__subject__nickname"),
    "date": lookup("ProbeInsertion", "session__start_time__date"),
    "experiment_number": lookup("ProbeInsertion", "session__number"),
    "lab": lookup("ProbeInsertion", "session__lab__name__iexact"),
    "project": lookup("ProbeInsertion", "session__projects__name__icontains"),
    "task_protocol": lookup("ProbeInsertion", "session__task_protocol__icontains"),
    "model": lookup("ProbeInsertion", "model__name"),
    "auto_datetime": moment("ProbeInsertion", "auto_datetime"),
    "dataset_types": dataset_types("datasets"),
    "datasets": insertion_datasets,
    "tag": lookup("ProbeInsertion", "datasets__tags__name__icontains"),
}
TRAJECTORY: dict[str, Make] = {
    "django": django("TrajectoryEstimate"),
    "id": row_id("TrajectoryEstimate", "id"),
    "probe_insertion": row_id("TrajectoryEstimate", "probe_insertion", "insertions"),
    "provenance": enum("provenance", PROVENANCES),
    "session": row_id("TrajectoryEstimate", "probe_insertion__session"),
    "subject": lookup("TrajectoryEstimate", "probe_insertion__session__subject__nickname"),
    "project": lookup("TrajectoryEstimate", "probe_insertion__session__projects__name"),
    "date": lookup("TrajectoryEstimate", "probe_insertion__session__start_time__date"),
    "experiment_number": lookup("TrajectoryEstimate", "probe_insertion__session__number"),
    "probe": lookup("TrajectoryEstimate", "probe_insertion__name"),
}
DATASET: dict[str, Make] = {
    "django": django("Dataset"),
    "id": row_id("Dataset", "id"),
    "session": row_id("Dataset", "session", "sessions"),
    "name": lookup("Dataset", "name"),
    "collection": lookup("Dataset", "collection"),
    "hash": lookup("Dataset", "hash"),
    "version": lookup("Dataset", "version"),
    "subject": lookup("Dataset", "session__subject__nickname"),
    "lab": lookup("Dataset", "session__lab__name"),
    "date": lookup("Dataset", "session__start_time__date"),
    "experiment_number": lookup("Dataset", "session__number"),
    "dataset_type": lookup("Dataset", "dataset_type__name"),
    "created_by": lookup("Dataset", "created_by__username"),
    "created_date": lookup("Dataset", "created_datetime__date"),
    "created_date_gte": moment("Dataset", "created_datetime__date__gte"),
    "created_date_lte": moment("Dataset", "created_datetime__date__lte"),
    "created_datetime": moment("Dataset", "created_datetime"),
    "auto_datetime": moment("Dataset", "auto_datetime"),
    "file_size": number("Dataset", "file_size"),
    "default_dataset": boolean("Dataset", "default_dataset"),
    "exists": flag(on_server),
    "public": flag(_tagged("public")),
    "protected": flag(_tagged("protected")),
    "probe_insertion": probe_datasets,
    "revision": lookup("Dataset", "revision__name"),
    "tag": lookup("Dataset", "tags__name"),
    "qc": enum("qc", QC),
}
RECORD: dict[str, Make] = {
    "django": django("FileRecord"),
    "id": row_id("FileRecord", "id"),
    "dataset": row_id("FileRecord", "dataset", "datasets"),
    "relative_path": lookup("FileRecord", "relative_path"),
    "exists": boolean("FileRecord", "exists"),
    "lab": lookup("FileRecord", "dataset__session__lab__name"),
    "data_repository": lookup("FileRecord", "data_repository__name"),
    "globus_is_personal": boolean("FileRecord", "data_repository__globus_is_personal"),
}
TASK: dict[str, Make] = {
    "django": django("Task"),
    "id": row_id("Task", "id"),
    "session": row_id("Task", "session", "sessions"),
    "status": enum("status", STATUSES),
    "lab": lookup("Task", "session__lab__name"),
    "datetime": moment("Task", "datetime"),
    **{name: lookup("Task", name) for name in ("name", "executable", "graph", "version", "log")},
    **{name: number("Task", name) for name in ("priority", "level", "gpu", "cpu", "ram")},
}
SUBJECT: dict[str, Make] = {
    "django": django("Subject"),
    "id": row_id("Subject", "id"),
    "nickname": lookup("Subject", "nickname"),
    "lab": lookup("Subject", "lab__name"),
    "project": lookup("Subject", "projects__name"),
    "responsible_user": lookup("Subject", "responsible_user__username"),
    "alive": flag(lambda tables, wanted: lambda row: (row.death_date is None) == wanted),
}
LAB: dict[str, Make] = {"django": django("Lab"), "name": lookup("Lab", "name")}
REPOSITORY: dict[str, Make] = {
    "name": lookup("DataRepository", "name"),
    "globus_is_personal": boolean("DataRepository", "globus_is_personal"),
    "globus_endpoint_id": row_id("DataRepository", "globus_endpoint_id"),
}
NAME: dict[str, Make] = {"name": lookup("Tag", "name")}
NOTE: dict[str, Make] = {"django": django("Note")}
USER: dict[str, Make] = {
    "django": django("LabMember"),
    "username": lookup("LabMember", "username"),
}


# Parameters that Alyx has and this server has not: using one is an error of the test, because to
# ignore it would be a wrong answer.
UNMODELLED = {
    "sessions": "atlas_acronym atlas_id atlas_name dataset_qc_lte histology location "
    "performance_gte performance_lte",
    "insertions": "atlas_acronym atlas_id atlas_name chronic_insertion dataset_qc_lte",
    "trajectories": "chronic_insertion coordinate_system datetime depth phi roll theta x y z",
    "datasets": "content_type data_format generating_software md5 object_id provenance_directory "
    "tags",
    "files": "name",
    "tasks": "arguments data_repository io_charge parents time_elapsed_secs time_out_secs",
    "subjects": "actual_severity adverse_effects birth_date cage death_date description ear_mark "
    "genotype genotype_date genotype_test json line litter name projects protocol_number "
    "reduced_date request sex source species stock strain to_be_culled to_be_genotyped "
    "water_restricted wean_date",
    "labs": "address cage_cleaning_frequency_days cage_type enrichment food id institution "
    "light_cycle reference_weight_pct repositories timezone zscore_weight_pct",
    "users": "allowed_users date_joined email first_name groups id is_active is_public_user "
    "is_staff is_stock_manager is_superuser last_login last_name password user_permissions",
}
