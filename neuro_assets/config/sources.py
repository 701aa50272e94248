"""The section `sources` of `lab.yaml`: folders with sessions."""

from __future__ import annotations

from pydantic import Field

from neuro_assets.config.base import Strict


class SourceConfig(Strict):
    """A folder in which recording sessions appear."""

    name: str = Field("local", description="Name of the source, shown in the user interface")
    path: str = Field(description="Folder that holds <lab>/Subjects/... or run folders")
    settle_minutes: float = Field(
        10.0, ge=0, description="Minutes for which sizes must not change where there is no flag"
    )
    use_file_hash: bool = Field(
        False, description="Identify raw data by the SHA-1 in SpikeGLX metadata, where present"
    )
