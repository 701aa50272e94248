"""Parameters of the lossless compression of raw recordings, and their named sets.

Nothing here may change a sample: compression is lossless whatever is chosen. How much memory
and how many threads are used is not a parameter, because it changes no result.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters

Delta = Literal["sample", "none", "consecutive1", "consecutive2", "auto"]


class CompressionParameters(StepParameters):
    """How `compressed_recording` is written."""

    step: ClassVar[str] = "compressed_recording"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="neuro_assets benchmarks/compression.py on real Neuropixels 2.0 data; "
            "1 s chunks as mtscomp (IBL) and aind-data-transformation"
        ),
        "small": NamedSet(
            source="neuro_assets benchmarks/compression.py: 0.4 % smaller, encodes 4 % slower",
            values={"level": 8},
        ),
    }

    chunk_duration_s: float = Field(1.0, gt=0, le=60)
    """Length of one stored chunk, seconds."""
    level: int = Field(7, ge=0, le=12)
    """pcodec's compression level, 0..12 (no unit)."""
    delta: Delta = "sample"
    """Difference along time before the entropy coder: `none`, first (`consecutive1`) or second
    order, `sample` = the smallest of these on a sample of the data, `auto` = pcodec chooses in
    every chunk (a third slower). No unit."""
    on_sha1_mismatch: Literal["fail", "report"] = "fail"
    """What to do when the raw file does not have the SHA-1 that its own metadata records: fail, or
    keep the copy and report `sha1_matches` = 0. No unit."""
    write_cbin: bool = False
    """Also write mtscomp files (.cbin, .ch) for ONE users. No unit."""
