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


def on_server(tables: Tables, wanted: bool) -> Test:
    """Datasets with a file record of that `exists` on a non-personal repository."""
    if not any(row.globus_is_personal is False for row in tables.repositories):
        return lambda row: True
    return lambda row: any(
        exists is wanted and place.globus_is_personal is False
        for place, exists in tables.places(row)
    )


SESSION: dict[str, Make] = {
    "django": django("Session"),
    "id": row_id("Session", "id"),
    "subject": lookup("Session", "subject__nickname__iexact"),
    "lab": lookup("Session", "lab__name__iexact"),
    "project": lookup("Session", "projects__name__icontains"),
    "projects": lookup("Session", "projects__name__icontains"),
    "procedures": lookup("Session", "procedures__name__icontains"),
    "task_protocol": lookup("Session", "task_protocol__icontains"),
    "number": number("Session", "number"),
    "qc": enum("qc", QC),
    "date_range": date_range,
    "extended_qc": pairs("Session", "extended_qc"),
    "json": pairs("Session", "json"),
    "dataset_types": dataset_types("datasets"),
    "datasets": session_datasets,
}
INSERTION: dict[str, Make] = {
    "django": django("ProbeInsertion"),
    "session": row_id("ProbeInsertion", "session"),
    "project": lookup("ProbeInsertion", "session__projects__name__icontains"),
    "dataset_types": dataset_types("datasets"),
}
TRAJECTORY: dict[str, Make] = {
    "django": django("TrajectoryEstimate"),
    "probe_insertion": row_id("TrajectoryEstimate", "probe_insertion", "insertions"),
    "provenance": enum("provenance", PROVENANCES),
}
DATASET: dict[str, Make] = {
    "django": django("Dataset"),
    "id": row_id("Dataset", "id"),
    "session": row_id("Dataset", "session", "sessions"),
    "dataset_type": lookup("Dataset", "dataset_type__name"),
    "created_date_gte": moment("Dataset", "created_datetime__date__gte"),
    "exists": flag(on_server),
}
TASK: dict[str, Make] = {
    "django": django("Task"),
    "session": row_id("Task", "session", "sessions"),
    "status": enum("status", STATUSES),
}
SUBJECT: dict[str, Make] = {
    "django": django("Subject"),
}


# Parameters that Alyx has and this server has not: using one is an error of the test, because to
# ignore it would be a wrong answer.
UNMODELLED = {
    "sessions": "atlas_acronym atlas_id atlas_name auto_datetime dataset_qc_lte end_time "
    "histology location n_correct_trials n_trials name narrative nickname parent_session "
    "performance_gte performance_lte start_time tag type users",
    "insertions": "atlas_acronym atlas_id atlas_name auto_datetime chronic_insertion "
    "dataset_qc_lte datasets date experiment_number id lab model name serial subject tag "
    "task_protocol",
    "trajectories": "chronic_insertion coordinate_system date datetime depth experiment_number "
    "id phi probe project roll session subject theta x y z",
    "datasets": "auto_datetime collection content_type created_by created_date "
    "created_date_lte created_datetime data_format date default_dataset experiment_number "
    "file_size generating_software hash lab md5 name object_id probe_insertion protected "
    "provenance_directory public qc revision subject tag tags version",
    "files": "data_repository dataset django exists globus_is_personal id lab name relative_path",
    "tasks": "arguments cpu data_repository datetime executable gpu graph id io_charge lab "
    "level log name parents priority ram time_elapsed_secs time_out_secs version",
    "subjects": "actual_severity adverse_effects alive birth_date cage death_date description "
    "ear_mark genotype genotype_date genotype_test id json lab line litter name nickname "
    "project projects protocol_number reduced_date request responsible_user sex source species "
    "stock strain to_be_culled to_be_genotyped water_restricted wean_date",
    "labs": "address cage_cleaning_frequency_days cage_type django enrichment food id "
    "institution light_cycle name reference_weight_pct repositories timezone zscore_weight_pct",
    "users": "allowed_users date_joined django email first_name groups id is_active is_public_user "
    "is_staff is_stock_manager is_superuser last_login last_name password user_permissions "
    "username",
    "data-repository": "globus_endpoint_id globus_is_personal name",
    "notes": "django",
}
