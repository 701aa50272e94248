"""Data that would run code when they are read: refused by their headers, nothing is decoded.

A pickle is a program, and several formats of the field can hold one: a Zarr array with numcodecs'
`pickle` codec, a NumPy file of objects (SpikeInterface saves properties so), a pickled recording or
model beside the data. SpikeInterface's JSON names a class that is imported and called.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from neuro_assets.outcomes import PermanentFailure

# fmt: off
SAFE_CODECS = frozenset([
    "adler32", "astype", "base64", "bitround", "blosc", "bz2", "categorize", "crc32", "crc32c",
    "delta", "fixedscaleoffset", "flac", "fletcher32", "gzip", "jenkins_lookup3", "json", "json2",
    "lz4", "lzma", "packbits", "pcodec", "quantize", "shuffle", "vlen-array", "vlen-bytes",
    "vlen-utf8", "wavpack", "zfpy", "zlib", "zstd",
])
# fmt: on
"""Codecs that only compute; `pickle` runs what it finds, and of others nothing is known."""

_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth"})
_ZARR_METADATA = frozenset({".zarray", ".zattrs", ".zmetadata"})
_SPIKEINTERFACE_FOLDER = frozenset(
    {".zgroup", "si_folder.json", "binary.json", "npy.json", "cached.json", "cached.pkl"}
)
_TRUSTED_CLASSES = ("spikeinterface.", "probeinterface.", "numpy.")

Open = Callable[[str], BinaryIO]


def refuse_code(path: Path) -> None:
    """Refuse a file or folder that would run code when it is read.

    Parameters
    ----------
    path : Path
        Raw data or an output.

    Raises
    ------
    PermanentFailure
        Names the file and what is wrong with it.
    """
    if not path.is_dir():
        refuse_code_in([path.name], lambda name: path.open("rb"), str(path.parent))
        return
    names = list(_names(path))
    pickles = any(PurePosixPath(name).name in _SPIKEINTERFACE_FOLDER for name in names)
    refuse_code_in(names, lambda name: (path / name).open("rb"), str(path), pickles=pickles)


def refuse_code_in(names: Iterable[str], open_: Open, where: str, *, pickles: bool = True) -> None:
    """Refuse files that would run code; see `refuse_code`.

    Parameters
    ----------
    names : iterable of str
        Relative paths with `/`; only metadata and headers are read.
    open_ : callable
        Opens one of them for reading.
    where : str
        The folder, for the message.
    pickles : bool
        Whether a pickle beside the data counts, because a reader might take it.
    """
    for name in names:
        fault = _fault(name, open_, pickles)
        if fault is not None:
            raise PermanentFailure(
                f"{where}/{name} {fault}: it is not read, because that would run code from the "
                "file. Save the data again without Python objects"
            )


def _names(folder: Path) -> Iterator[str]:
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):  # as a reader would
        seen.add(os.path.realpath(root))
        folders[:] = [d for d in folders if os.path.realpath(f"{root}/{d}") not in seen]
        for name in files:
            yield (Path(root) / name).relative_to(folder).as_posix()


def _fault(name: str, open_: Open, pickles: bool) -> str | None:
    path = PurePosixPath(name)
    if path.suffix in _PICKLES:
        return "is a pickle" if pickles else None
    if path.name in _ZARR_METADATA or path.suffix == ".json":
        with open_(name) as file:
            return _fault_of_json(path, file.read())
    if path.suffix == ".npy":
        with open_(name) as file:
            return _fault_of_npy(file)
    if path.suffix == ".npz":
        with open_(name) as file:
            return _fault_of_npz(file)
    return None


def _fault_of_json(path: PurePosixPath, data: bytes) -> str | None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None if path.suffix == ".json" else "is not JSON"
    for found in _dicts(content):
        for codec in _dicts([found.get("compressor"), found.get("filters")]):
            if path.name in _ZARR_METADATA and codec.get("id", "zstd") not in SAFE_CODECS:
                return f"names the codec {codec['id']!r}"
        class_ = found.get("class")
        if isinstance(class_, str) and "." in class_ and not class_.startswith(_TRUSTED_CLASSES):
            return f"names the class {class_!r}"
    if path.name == ".zarray" and path.parent.name == "recording" and "|O" in str(content):
        return "holds a recording as a Python object"
    return None


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _fault_of_npy(file: BinaryIO) -> str | None:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file)
    except ValueError:
        return "is not a NumPy file"  # NumPy would take it for a pickle
    return "is a NumPy array of Python objects" if dtype.hasobject else None


def _fault_of_npz(file: BinaryIO) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    if fault := _fault_of_npy(io.BytesIO(member.read(1 << 16))):
                        return f"({name}) {fault}"
    except zipfile.BadZipFile:
        return "is not a NumPy archive"
    return None
