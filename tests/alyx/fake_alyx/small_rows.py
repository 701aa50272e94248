"""JSON of Alyx's lesser tables: tasks, subjects, labs, projects, repositories and the like."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from fake_alyx.models import STATUSES, Repository, Subject, Task
from fake_alyx.tables import Tables
from fake_alyx.values import FilterError

TASK_COLUMNS = (
    "name",
    "priority",
    "io_charge",
    "level",
    "gpu",
    "cpu",
    "ram",
    "time_out_secs",
    "time_elapsed_secs",
    "executable",
    "graph",
    "log",
    "version",
    "arguments",
)
SUBJECT_COLUMNS = (
    "nickname",
    "id",
    "birth_date",
    "death_date",
    "species",
    "sex",
    "litter",
    "strain",
    "source",
    "line",
    "description",
    "json",
)
REPOSITORY_COLUMNS = (
    "name",
    "timezone",
    "globus_path",
    "hostname",
    "data_url",
    "repository_type",
    "globus_endpoint_id",
    "globus_is_personal",
    "json",
)
LAB_COLUMNS = (
    "name",
    "institution",
    "address",
    "timezone",
    "reference_weight_pct",
    "zscore_weight_pct",
    "json",
)


def stamp(when: datetime | None) -> str | None:
    """Time as Alyx writes it: naive, in the server's zone."""
    return None if when is None else when.isoformat()


def columns(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Plain fields of a row."""
    return {name: getattr(row, name) for name in names}


def names(rows: list[Any]) -> list[str]:
    """Names of related rows."""
    return [row.name for row in rows]


def name_of(row: Any) -> str | None:
    return None if row is None else row.name


class SmallRows:
    """Renders rows; `url` is the server's address, without trailing slash."""

    def __init__(self, tables: Tables, url: str) -> None:
        self.tables, self.url = tables, url

    def task(self, row: Task) -> dict[str, Any]:
        """Row of a list and detail; a task that never got a status breaks every answer it is in."""
        statuses = {number: name for name, number in STATUSES.items()}
        if row.status not in statuses:
            raise FilterError("list index out of range")
        return {
            "id": row.id,
            "parents": [parent.id for parent in row.parents],
            "session": row.session.id if row.session else None,
            "data_repository": name_of(row.data_repository),
            "status": statuses[row.status],
            **columns(row, TASK_COLUMNS),
            "datetime": stamp(row.datetime),
        }

    def subject_listed(self, row: Subject) -> dict[str, Any]:
        """Row of a list, and the answer to its creation."""
        today = self.tables.clock().date()
        born = date.fromisoformat(row.birth_date) if row.birth_date else today
        return {
            **columns(row, SUBJECT_COLUMNS),
            "url": f"{self.url}/subjects/{row.nickname}",
            "responsible_user": row.responsible_user.name,
            "age_weeks": (today - born).days // 7,
            "projects": names(row.projects),
            "session_projects": [],
            "lab": row.lab.name,
            "genotype": [],
            "alive": row.death_date is None,
            "reference_weight": 0.0,
            "last_water_restriction": None,
            "expected_water": 0.0,
            "remaining_water": 0.0,
        }

    def subject(self, row: Subject) -> dict[str, Any]:
        """Detail."""
        return {**self.subject_listed(row), "weighings": [], "water_administrations": []}

    def lab(self, row: Any) -> dict[str, Any]:
        """Row of `/labs`."""
        repositories = sorted(names(row.repositories))
        return {**columns(row, LAB_COLUMNS), "repositories": repositories}

    def project(self, row: Any) -> dict[str, Any]:
        """Row of `/projects`."""
        return {"name": row.name, "description": row.description, "users": names(row.users)}

    def repository(self, row: Repository) -> dict[str, Any]:
        """Row of `/data-repository`."""
        return columns(row, REPOSITORY_COLUMNS)

    def dataset_type(self, row: Any) -> dict[str, Any]:
        """Row of `/dataset-types`."""
        fields = ("id", "name", "description", "filename_pattern")
        return {**columns(row, fields), "created_by": name_of(row.created_by)}

    def data_format(self, row: Any) -> dict[str, Any]:
        """Row of `/data-formats`."""
        fields = ("id", "json", "name", "description", "file_extension")
        loaders = {"matlab_loader_function": "", "python_loader_function": ""}
        return {**columns(row, fields), **loaders}

    def tag(self, row: Any) -> dict[str, Any]:
        """Row of `/tags`."""
        return columns(row, ("id", "json", "name", "description", "protected", "public", "hash"))

    def user(self, row: Any) -> dict[str, Any]:
        """Row of `/users`."""
        mine = [x.nickname for x in self.tables.subjects if x.responsible_user is row]
        return {
            "id": row.id,
            "username": row.name,
            "email": "",
            "subjects_responsible": mine,
            "lab": [],
            "allowed_users": [],
            "is_stock_manager": False,
        }

    def note(self, row: Any) -> dict[str, Any]:
        """Row of `/notes`."""
        return {
            **columns(row, ("id", "content_type", "object_id", "text", "image", "json")),
            "user": row.user.name,
            "date_time": stamp(row.date_time),
        }
