"""The `.ch` file beside a `.cbin`: what mtscomp says of the samples that it compressed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from neuro_assets.formats.broken import Broken, read_text

_MOST_TABLE = 100_000_000
"""Bytes: a table has 40 for each second of a recording."""


@dataclass(frozen=True)
class ChunkTable:
    """What the `.ch` file of an mtscomp pair says."""

    n_channels: int
    n_samples: int
    compressed_size: int
    sha1: str | None


def read_chunk_table(path: Path) -> ChunkTable:
    """Read the JSON beside a `.cbin` file.

    Parameters
    ----------
    path : Path
        The `.ch` file.

    Returns
    -------
    ChunkTable
        Shape, and the size that the compressed file must have.

    Raises
    ------
    Broken
        `ch_broken` when it is not mtscomp's.
    """
    try:
        table = json.loads(read_text(path, _MOST_TABLE))
        if table["dtype"] != "int16":
            raise Broken("ch_broken", f"{path.name} holds {table['dtype']}, SpikeGLX writes int16")
        return ChunkTable(
            n_channels=int(table["n_channels"]),
            n_samples=int(table["chunk_bounds"][-1]),
            compressed_size=int(table["chunk_offsets"][-1]),
            sha1=table.get("sha1_uncompressed"),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise Broken(
            "ch_broken", f"{path.name} is not a chunk table of mtscomp ({error}); copy it again"
        ) from error
