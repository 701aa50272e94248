"""The section `sources` of `lab.yaml`: folders with sessions."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from neuro_assets.config.base import Strict


class SourceConfig(Strict):
    """A folder in which recording sessions appear."""

    name: str = "local"
    """Name of the source, shown in the user interface"""
    path: str
    """Folder that holds <lab>/Subjects/... or run folders"""
    settle_minutes: float = Field(10.0, ge=0)
    """Minutes for which sizes must not change where there is no flag"""
    use_file_hash: bool = False
    """Identify raw data by the SHA-1 in SpikeGLX metadata, where present"""
    project: str = ""
    """Name of the project of all BIDS subjects here, instead of the names of folders"""
    project_in_subject: bool = False
    """Call subjects <project>-<label> where several BIDS projects have one sub-<label> each"""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        # What the store takes as a folder's name: what is found in a source is kept under it.
        if re.fullmatch(r"(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", name):
            return name
        raise ValueError(
            f"{name!r} names no source: letters, digits, '_', '.' and '-' only, no leading '.', no "
            "'..', at most 200 characters"
        )
