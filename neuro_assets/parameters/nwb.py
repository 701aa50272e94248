"""Parameters of the NWB export: what goes in, how it is stored, what the lab knows of itself.

The writer lives in `neuro_assets.science.nwb.write`; nothing here touches a file.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from neuro_assets.parameters.base import NamedSet, StepParameters


class NwbParameters(StepParameters):
    """Parameters of step `nwb`."""

    step: ClassVar[str] = "nwb"
    algorithm_version: ClassVar[str] = "3"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="neuro_assets: HDF5, gzip 4 with shuffle as NeuroConv writes, no raw traces"
        ),
        "archive": NamedSet(
            source="neuro_assets: everything in one file, for DANDI",
            values={"raw_traces": True},
        ),
        "zarr": NamedSet(
            source="neuro_assets: for object stores, with hdmf-zarr", values={"backend": "zarr"}
        ),
    }

    backend: Literal["hdf5", "zarr"] = "hdf5"
    """container of the file"""
    raw_traces: bool = False
    """whether the raw AP traces are written too"""
    compression_level: int = Field(4, ge=0, le=9)
    """gzip (HDF5) or Blosc-zstd (Zarr) level, no unit"""
    chunk_mb: float = Field(4.0, gt=0)
    """size of a stored chunk of traces, MB"""
    buffer_mb: float = Field(64.0, gt=0)
    """traces held in memory while writing, MB; at least one chunk"""
    waveform_channels: int = Field(16, ge=1)
    """channels of each unit's mean waveform, those of largest amplitude"""
    timezone: str = "UTC"
    """time zone (IANA name) of start times that carry none, as SpikeGLX writes them"""
    species: str | None = None
    """species of every subject that has none of its own, Latin binomial"""
    institution: str | None = None
    """written into every file"""
    experimenters: tuple[str, ...] = ()
    """`Last, First`, for sessions that name nobody"""
    keywords: tuple[str, ...] = ("extracellular electrophysiology", "spike sorting")
    """search terms"""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"unknown time zone {value!r}; use a name like Europe/Lisbon"
            ) from error
        return value
