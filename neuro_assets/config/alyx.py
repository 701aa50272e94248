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

    url: str | None = None
    """Address, as in https://alyx.example.org"""
    name: str = "alyx"
    """Name of the source, shown in the user interface"""
    projects: list[str] = []
    """Exact names; sessions of all when empty"""
    labs: list[str] = []
    """Exact names; sessions of all when empty"""
    since: date | None = None
    """First day of the sessions that are taken"""
    exclude_subjects: list[str] = ["test_subject*"]
    """Patterns of subjects that are no animals, any case"""
    include_mock: bool = False
    """Take sessions that are marked as trial runs (json.IS_MOCK)"""
    timezone: str = "Europe/London"
    """Zone of the server's times (TIME_ZONE in its settings)"""
    repositories: dict[str, str] = {}
    """Where each data repository is for this machine: a folder, s3://bucket/prefix, or `download`;
    the first one that holds a file is read"""
    expected: list[str] = ["ephysData.raw.ap", "ephysData.raw.meta"]
    """Dataset types that every probe must have before it is processed"""
    settle_minutes: float = Field(10.0, ge=0)
    """Minutes for which datasets must not change; at least two looks"""
    overlap_minutes: float = Field(120.0, ge=75)
    """How far each look reaches back; more than the hour that clocks are set back"""
    alert_days: float = Field(7.0, gt=0)
    """Days after which a recording that still waits is reported"""
    reconcile_hours: float = Field(6.0, gt=0)
    """Hours between two full reconciliations with the database"""
    most_sessions: int = Field(100_000, ge=1)
    """A longer list means that a filter was ignored: nothing is done"""
    cache: str = "alyx_cache"
    """Local folder for files that are fetched"""
    cache_gb: float = Field(200.0, gt=0)
    """Most that the cache may hold, GB"""
    timeout_s: float = Field(30.0, gt=0)
    """Longest silence of the server, s"""
    deadline_s: float = Field(120.0, gt=0)
    """Longest time of one call, its retries included, s"""
    write: bool = False
    """Register results in Alyx; when false the difference is only shown"""
    write_repository: str | None = None
    """Data repository that results are copied to and registered on, not a personal one in Alyx"""
    dagster_url: str | None = None
    """Address of this platform's interface, for the links in Alyx's tasks"""

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
