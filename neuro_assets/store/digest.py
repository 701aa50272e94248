"""The content digest of an output: the same for the same content, however and wherever made.

Each format has one canonical form: values, types, shapes and attributes. Left out are run times,
random ids, keys, versions, where something came from, and how bytes are compressed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.fingerprint import block_fingerprint, block_length, traces_digest
from neuro_assets.science.result import NOT_CONTENT
from neuro_assets.store.json_values import canonical
from neuro_assets.store.model import MANIFEST, Manifest

_PIECE = 16 << 20
"""Bytes that are held at a time."""

_LOGS = {MANIFEST, "sorter.log", "spikeinterface_log.json", "spikeinterface_info.json"}
"""Files about how something was made."""

_HIDDEN = {
    "object_id", "source_object_id", ".specloc", "zarr_class_info", "spikeinterface_info",
    "provenance", "sorting_provenance", "run_info", "runtime_s", "specifications",
    "file_create_date", "identifier", "was_generated_by",
}  # fmt: skip
"""Attributes and nodes of Zarr and HDF5 files that differ between two writings of one content."""


def content_digest(folder: Path, manifest: Manifest, known: Mapping[str, str]) -> str:
    """Digest what a consumer can see of an output.

    Parameters
    ----------
    folder : Path
        The output's files.
    manifest : Manifest
        Its outcome, reason of a skip, clock and metrics count.
    known : mapping of str to str
        Digests of traces that were taken while they were written, by path in the folder
        (`ap.zarr/traces_seg0`): these are not read again.

    Returns
    -------
    str
        32 hexadecimal digits of a SHA-256.

    Raises
    ------
    PermanentFailure
        When a file is not what its name says.
    """
    skip = manifest.skip or {}
    metrics = {k: v for k, v in manifest.metrics.items() if k not in NOT_CONTENT}
    files = {
        path.relative_to(folder).as_posix().replace(manifest.key, "<key>"): _file_digest(
            path, path.relative_to(folder).as_posix(), manifest.key, known
        )
        for path in _contents(folder)
    }
    seen = {
        "outcome": manifest.outcome,
        "skip": {k: str(v).replace(manifest.key, "<key>") for k, v in skip.items()},
        "clock": manifest.clock,
        "metrics": metrics,
        "files": files,
    }
    return hashlib.sha256(canonical(seen)).hexdigest()[:32]


def _contents(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not any((path / mark).exists() for mark in (".zgroup", ".zarray")):
            yield from _contents(path)
        elif path.name not in _LOGS:
            yield path


def _file_digest(path: Path, name: str, key: str, known: Mapping[str, str]) -> str:
    try:
        if path.suffix == ".parquet":
            return _parquet_digest(path)
        if path.is_dir():
            return _zarr_digest(path, name, key, known)
        if path.suffix == ".nwb":
            return _hdf5_digest(path, key)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, OverflowError) as error:
        raise PermanentFailure(
            f"{name} is not a {path.suffix} file that can be read ({type(error).__name__}: {error})"
        ) from error
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parquet_digest(path: Path) -> str:
    """Digest the columns by name, type and values; not row groups, encodings or metadata."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for field in file.schema_arrow:
            if not _is_covered(field):
                raise PermanentFailure(
                    f"table {path.name}: column {field.name!r} is of type {field.type}, which the "
                    "content digest does not cover: write it as numbers, text, bytes or timestamps"
                )
        columns = {
            field.name: _column_digest(file, field)
            for field in file.schema_arrow
            if field.name not in NOT_CONTENT
        }
        order = [name for name in file.schema_arrow.names if name not in NOT_CONTENT]
        parts: dict[str, Any] = {
            "rows": file.metadata.num_rows, "order": order, "columns": columns
        }  # fmt: skip
        # Said where it is another one only: so most tables keep the digest of earlier releases.
        if index := _other_range(file.schema_arrow, file.metadata.num_rows):
            parts["index"] = index
    return hashlib.sha256(canonical(parts)).hexdigest()


def _other_range(schema: Any, rows: int) -> list[Any]:
    """Find row labels that pandas keeps as a range, other than 0, 1, 2 and so on."""
    kept = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    ranges = [each for each in kept if isinstance(each, dict) and each.get("kind") == "range"]
    # Of no or one row, start and step say nothing.
    return [
        [each["name"], each["start"] if rows else 0, each["step"] if rows > 1 else 1]
        for each in ranges
        if each["name"] is not None or (rows and each["start"]) or (rows > 1 and each["step"] != 1)
    ]


def _is_covered(field: Any, *, inside: bool = False) -> bool:
    """Tell whether every value of a column has a text of its own."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if isinstance(kind, pa.BaseExtensionType) or b"ARROW:extension:name" in (field.metadata or {}):
        return isinstance(kind, pa.UuidType)  # what else a value means, only its library knows
    if pa.types.is_nested(kind):
        return all(_is_covered(kind.field(n), inside=True) for n in range(kind.num_fields))
    return not (inside and kind == pa.time64("ns"))  # Python's time has no nanoseconds


def _column_digest(file: Any, field: Any) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    kind = pa.string() if text else kind
    total = hashlib.sha256(str(kind).encode())
    plain = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind)
    for batch in file.iter_batches(columns=[field.name]):
        values = batch.column(0).cast(kind)
        total.update(pc.is_null(values).to_numpy(zero_copy_only=False).tobytes())
        if plain:
            if pa.types.is_time(kind):  # to numpy as objects, whose bytes are addresses
                values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
            filled = pc.fill_null(values, 0) if values.null_count else values
            total.update(np.ascontiguousarray(filled.to_numpy(zero_copy_only=False)).tobytes())
        else:
            total.update(canonical(values.to_pylist(), exact=True))
    return total.hexdigest()


def _zarr_digest(path: Path, name: str, key: str, known: Mapping[str, str]) -> str:
    import zarr

    def readable(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: readable(v) for k, v in _attributes(value).items()}
        return [readable(v) for v in value] if isinstance(value, list) else _text(value, key)

    root = zarr.open(str(path), mode="r")
    rate = float(root.attrs.get("sampling_frequency", 0))
    nodes: dict[str, Any] = {"": readable(dict(root.attrs))}
    if isinstance(root, zarr.Array):
        nodes["values"] = _zarr_array_digest(root, path.name, rate, readable)
    stack = [("", root)] if isinstance(root, zarr.Group) else []
    while stack:
        prefix, group = stack.pop()
        for child, node in group.items():
            if child in _HIDDEN:
                continue
            place = f"{prefix}/{child}" if prefix else child
            nodes[place] = {"attributes": readable(dict(node.attrs))}
            if isinstance(node, zarr.Group):
                stack.append((place, node))
            else:
                done = known.get(f"{name}/{place}")
                values = done or _zarr_array_digest(node, child, rate, readable)
                nodes[place]["values"] = values
    return hashlib.sha256(canonical(nodes, exact=True)).hexdigest()


def _zarr_array_digest(array: Any, name: str, rate: float, readable: Callable[[Any], Any]) -> str:
    if any(codec.codec_id == "pickle" for codec in array.filters or ()):
        raise PermanentFailure(f"{array.path} holds pickled objects, which are never read")
    if name.startswith("traces_seg") and rate > 0:
        step = block_length(rate)
        pieces = (array[start : start + step] for start in range(0, array.shape[0], step))
        blocks = (block_fingerprint(np.ascontiguousarray(piece.T)) for piece in pieces)
        return traces_digest(array.shape, array.dtype, blocks)
    return _values_digest(array, array.shape, array.dtype, readable)


def _hdf5_digest(path: Path, key: str) -> str:
    import h5py

    with h5py.File(path) as file:

        def readable(value: Any) -> Any:
            if isinstance(value, h5py.Reference):
                return file[value].name if value else None
            if isinstance(value, np.ndarray | np.void):
                value = value.tolist()
            if isinstance(value, tuple | list):
                return [readable(v) for v in value]
            return _text(value, key)

        nodes: dict[str, Any] = {}
        stack = [("", file)]
        while stack:
            prefix, group = stack.pop()
            nodes[prefix] = _attributes({k: readable(v) for k, v in group.attrs.items()})
            for child in group:
                place, link = f"{prefix}/{child}", group.get(child, getlink=True)
                if child in _HIDDEN:
                    continue
                if not isinstance(link, h5py.HardLink):
                    nodes[place] = {"link": link.path}
                elif isinstance(group[child], h5py.Group):
                    stack.append((place, group[child]))
                else:
                    data = group[child]
                    nodes[place] = {
                        "attributes": _attributes({k: readable(v) for k, v in data.attrs.items()}),
                        "values": _values_digest(data, data.shape, data.dtype, readable),
                    }
    return hashlib.sha256(canonical(nodes, exact=True)).hexdigest()


def _text(value: Any, key: str) -> Any:
    """Text without the key, from bytes as well; anything else as it is."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.replace(key, "<key>") if isinstance(text, str) else text


def _values_digest(
    data: Any, shape: tuple[int, ...] | None, dtype: np.dtype, readable: Callable[[Any], Any]
) -> str:
    """Digest an array in C order, a piece at a time along its first axis."""
    if shape is None:
        return "empty"
    total = hashlib.sha256(f"{tuple(shape)} {dtype}".encode())
    row = dtype.itemsize * int(np.prod(shape[1:])) if shape else dtype.itemsize
    step = max(1, _PIECE // max(1, row))
    for start in range(0, shape[0], step) if shape else [None]:
        values = data[()] if start is None else data[start : start + step]
        if dtype.hasobject:
            plain = np.asarray(values, dtype=object).tolist()
            items = plain if isinstance(plain, list) else [plain]
            total.update(canonical([readable(item) for item in items], exact=True))
        else:
            total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def _attributes(values: Any) -> Any:
    """Leave out, at any depth, what is not content."""
    if isinstance(values, Mapping):
        return {str(k): _attributes(v) for k, v in values.items() if str(k) not in _HIDDEN}
    if isinstance(values, list | tuple):
        return [_attributes(item) for item in values]
    return values
