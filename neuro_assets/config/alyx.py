"""The section `alyx` of `lab.yaml`; what is done with it is in `neuro_assets.alyx`."""

from __future__ import annotations

from datetime import date
from pathlib import PurePath
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from neuro_assets.config.base import Strict, nearest

DOWNLOAD = "download"
"""Place of a data repository whose files are fetched through Alyx's own links."""


class AlyxConfig(Strict):
    """The lab's Alyx database. The token comes from the environment, never from this file."""

    url: str | None = Field(None, description="Address, as in https://alyx.example.org")
    name: str = Field("alyx", description="Name of the source, shown in the user interface")
    projects: list[str] = Field([], description="Exact names; sessions of all when empty")
    labs: list[str] = Field([], description="Exact names; sessions of all when empty")
    since: date | None = Field(None, description="First day of the sessions that are taken")
    exclude_subjects: list[str] = Field(
        ["test_subject*"], description="Patterns of subjects that are no animals, any case"
    )
    include_mock: bool = Field(
        False, description="Take sessions that are marked as trial runs (json.IS_MOCK)"
    )
    timezone: str = Field(
        "Europe/London", description="Zone of the server's times (TIME_ZONE in its settings)"
    )
    repositories: dict[str, str] = Field(
        {},
        description="Where each data repository is for this machine: a folder, s3://bucket/prefix, "
        "or `download`; the first one that holds a file is read",
    )
    expected: list[str] = Field(
        ["ephysData.raw.ap", "ephysData.raw.meta"],
        description="Dataset types that every probe must have before it is processed",
    )
    settle_minutes: float = Field(
        10.0, ge=0, description="Minutes for which datasets must not change; at least two looks"
    )
    overlap_minutes: float = Field(
        120.0,
        ge=75,
        description="How far each look reaches back; more than the hour that clocks are set back",
    )
    alert_days: float = Field(
        7.0, gt=0, description="Days after which a recording that still waits is reported"
    )
    reconcile_hours: float = Field(
        6.0, gt=0, description="Hours between two full reconciliations with the database"
    )
    most_sessions: int = Field(
        100_000, ge=1, description="A longer list means that a filter was ignored: nothing is done"
    )
    cache: str = Field("alyx_cache", description="Local folder for files that are fetched")
    cache_gb: float = Field(200.0, gt=0, description="Most that the cache may hold, GB")
    timeout_s: float = Field(30.0, gt=0, description="Longest silence of the server, s")
    deadline_s: float = Field(
        120.0, gt=0, description="Longest time of one call, its retries included, s"
    )
    write: bool = Field(
        False, description="Register results in Alyx; when false the difference is only shown"
    )
    write_repository: str | None = Field(
        None, description="Data repository that results are copied to and registered on"
    )
    dagster_url: str | None = Field(
        None, description="Address of this platform's interface, for the links in Alyx's tasks"
    )

    @property
    def roots(self) -> dict[str, str]:
        """Folders in which sessions of this source are read, by the names in the registry."""
        places = {**self.repositories, "cache": self.cache}
        return {
            f"{self.name}/{name}": place
            for name, place in places.items()
            if place != DOWNLOAD and "://" not in place
        }

    def below_root(self, folder: str) -> tuple[str, str]:
        """Find the root that a session folder is below.

        Parameters
        ----------
        folder : str
            Absolute path.

        Returns
        -------
        root, path : str
            Name in `roots` and the path below it; no root and the folder itself elsewhere.
        """
        for name, place in self.roots.items():
            if PurePath(folder).is_relative_to(place):
                return name, PurePath(folder).relative_to(place).as_posix()
        return "", folder

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// (or http://)")
        if "@" in url.split("//", 1)[1].split("/", 1)[0]:
            raise ValueError("holds a user or password: give a token in ALYX_TOKEN instead")
        return url.rstrip("/")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"unknown time zone {name!r}; use a name like Europe/Lisbon"
            ) from error
        return name

    @model_validator(mode="after")
    def _can_write(self) -> AlyxConfig:
        if self.write_repository and self.write_repository not in self.repositories:
            raise ValueError(
                f"write_repository {self.write_repository!r} has no place under repositories"
                + (nearest(self.write_repository, self.repositories) if self.repositories else "")
            )
        if self.repositories.get(self.write_repository or "") == DOWNLOAD:
            raise ValueError("write_repository must be a folder or an s3:// prefix, not `download`")
        if self.write and not (self.url and self.write_repository):
            raise ValueError("write: true needs url and write_repository")
        return self
