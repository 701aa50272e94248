"""Catalogue of the test server's endpoints: their tables, fields, filters, orders and methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import fake_alyx.fields as fields
import fake_alyx.filters as filters
import fake_alyx.orders as orders
from fake_alyx.fields import Spec

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
    order: orders.Order = orders.heap
    key: str = "id"
    methods: tuple[str, ...] = LIST
    row_methods: tuple[str, ...] = ROW


def _small(
    model: str,
    table: str,
    row: str,
    specs: Mapping[str, Spec],
    parameters: Mapping[str, filters.Make],
    order: orders.Order = orders.by_name,
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
        orders.by_start,
    ),
    "insertions": Endpoint(
        "ProbeInsertion",
        "insertions",
        "insertion_listed",
        "insertion",
        fields.INSERTION,
        filters.INSERTION,
        orders.by_session,
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
    "files": Endpoint("FileRecord", "", "record", "record", fields.RECORD, {}),
    "tasks": Endpoint("Task", "tasks", "task", "task", fields.TASK, filters.TASK, orders.by_level),
    "notes": Endpoint("Note", "notes", "note", "note", fields.NOTE, {}),
    "subjects": Endpoint(
        "Subject",
        "subjects",
        "subject_listed",
        "subject",
        fields.SUBJECT,
        filters.SUBJECT,
        orders.by_name,
        "nickname",
    ),
    "projects": _small("Project", "projects", "project", fields.PROJECT, {}),
    "labs": _small("Lab", "labs", "lab", fields.LAB, {}, orders.heap),
    "data-repository": _small(
        "DataRepository", "repositories", "repository", fields.REPOSITORY, {}
    ),
    "dataset-types": _small("DatasetType", "types", "dataset_type", fields.TYPE, {}),
    "data-formats": _small("DataFormat", "formats", "data_format", {}, {}),
    "users": Endpoint(
        "LabMember",
        "users",
        "user",
        "user",
        {},
        {},
        key="username",
        methods=("GET",),
        row_methods=("GET",),
    ),
    "register-file": Endpoint("", "", "", "", methods=("POST",), row_methods=()),
    "check-protected": Endpoint("", "", "", "", methods=("GET",), row_methods=()),
}
