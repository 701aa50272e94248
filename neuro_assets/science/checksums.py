"""The checksum of every chunk of a Zarr folder, which any reader of Zarr compares by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def checksum() -> Any:
    """Build the outer codec of every chunk: a frame whose checksum every Zarr reader compares.

    Returns
    -------
    numcodecs.abc.Codec
        Zstd at its fastest useful level, with the checksum that zstd keeps of its content (XXH64).
        pcodec and Blosc keep none, and decode flipped bits to other values; numcodecs' own
        checksums do not decode to what pcodec takes.
    """
    from numcodecs import Zstd

    return Zstd(level=1, checksum=True)


def add_checksums(folder: Path) -> None:
    """Put the chunks of a finished Zarr folder, whoever wrote it, into frames with a checksum.

    What compressed an array becomes the last of its filters, so its chunks are wrapped and not
    coded again.

    Parameters
    ----------
    folder : Path
        A Zarr group (format 2) that nobody else reads or writes.
    """
    import zarr

    outer = checksum()
    for metadata in folder.rglob(".zarray"):
        array = json.loads(metadata.read_bytes())
        inner, array["compressor"] = array["compressor"], outer.get_config()
        if inner == array["compressor"]:
            continue
        array["filters"] = [*(array["filters"] or []), *([inner] if inner else [])] or None
        for chunk in metadata.parent.rglob("*"):
            if chunk.is_file() and not chunk.name.startswith(".z"):
                chunk.write_bytes(outer.encode(chunk.read_bytes()))
        metadata.write_text(json.dumps(array))
    if (folder / ".zmetadata").exists():
        zarr.consolidate_metadata(str(folder))
