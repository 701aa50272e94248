"""What a lab writes in `lab.yaml` about recordings that no format describes by itself.

Pure models: no reader is imported and no file touched here.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, JsonValue, field_validator, model_validator

from neuro_assets.formats.model import Frozen, Wiring


class ReaderEntry(Frozen):
    """Recordings that a SpikeInterface reader opens, found by a pattern.

    Every file (or folder) that matches `glob` is a recording of its own, in natural order of the
    names: how much time lies between two of them is not known, so they are never joined. The
    first has no qualifier, the others `t2`, `t3` and so on.
    """

    glob: str = Field(
        description="Pattern below the session folder, `**` for any depth: `**/*.raw`."
    )
    reader: str = Field(
        description="Name of a SpikeInterface reader: `binary`, `intan`, `blackrock`, ..."
    )
    options: dict[str, JsonValue] = Field(
        default={},
        description="Keyword arguments of the reader, such as sampling_frequency (Hz), "
        "num_channels, dtype.",
    )
    path_argument: str | None = Field(
        default=None,
        description="The reader's argument that takes the path; its first one by default.",
    )
    probe: str = Field(default="probe00", description="Name of the probe in the key.")
    probe_file: str | None = Field(
        default=None, description="Path of a probeinterface JSON with the probe and its wiring."
    )
    wiring: Wiring | None = Field(
        default=None, description="Contact positions (um) and channels, instead of a file."
    )
    probe_model: str = Field(default="", description="Name of the probe, for people.")
    gain_uv: float | None = Field(
        default=None, gt=0, description="uV per bit, where the reader gives no gain."
    )
    offset_uv: float | None = Field(
        default=None, description="uV at 0 bits, where the reader gives no offset."
    )
    sync_channels: tuple[int, ...] = Field(
        default=(), description="Channels (index in the file) that are not neural."
    )

    @field_validator("glob")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        if not value or value.startswith("/") or ".." in value.split("/"):
            raise ValueError("glob is a pattern below the session folder, such as **/*.raw")
        return value

    @field_validator("probe")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value or not all(c.isascii() and (c.isalnum() or c == ".") for c in value):
            raise ValueError("probe is letters, digits and dots, such as probe00 or tetrode1")
        return value

    @model_validator(mode="after")
    def _one_geometry(self) -> Self:
        if self.probe_file is not None and self.wiring is not None:
            raise ValueError("give probe_file or wiring, not both")
        return self
