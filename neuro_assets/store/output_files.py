"""Tables written as parquet, and the proof that what was written opens with the field's tools.

Each check opens lazily: headers and metadata are read, not the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_assets.formats.code_in_data import refuse_code
from neuro_assets.outcomes import NeuroAssetsError, Outcome, PermanentFailure
from neuro_assets.store.attempt import Attempt
from neuro_assets.store.errors import explain
from neuro_assets.store.model import Manifest, checked_name
from neuro_assets.store.stored import Stored

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_KEY = b"neuro_assets"
"""Entry of a parquet file's metadata with asset, key, version and clock as JSON."""


def write_tables(
    tables: Mapping[str, pd.DataFrame], folder: Path, manifest: Manifest
) -> dict[str, int]:
    """Write each table as `<name>.parquet`, compressed with zstd.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By name.
    folder : Path
        The attempt's folder.
    manifest : Manifest
        What the file says of itself: asset, key, version, clock.

    Returns
    -------
    dict of str to int
        Rows by table.

    Raises
    ------
    PermanentFailure
        When the step wrote a file of that name itself.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = {name: getattr(manifest, name) for name in ("asset", "key", "version", "clock")}
    rows = {}
    for name, frame in tables.items():
        path = folder / f"{checked_name(name, 'table name')}.parquet"
        if path.exists():
            raise PermanentFailure(f"{manifest.asset} wrote {path.name} itself and as a table")
        table = pa.Table.from_pandas(frame)
        metadata = {**(table.schema.metadata or {}), SCHEMA_KEY: json.dumps(origin).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")
        rows[name] = len(frame)
    return rows


def commit_result(
    attempt: Attempt,
    manifest: Manifest,
    required: str,
    tables: Mapping[str, pd.DataFrame] | None = None,
    known: Mapping[str, str] | None = None,
) -> Stored:
    """Write the tables of a complete output, check that all of it opens, and commit.

    Parameters
    ----------
    attempt : Attempt
        Where the step wrote.
    manifest : Manifest
        Complete or skipped; of a skipped one nothing is written or checked.
    required : str
        See `check_opens`.
    tables : mapping of str to DataFrame, optional
        By name.
    known : mapping of str to str, optional
        See `neuro_assets.store.digest.content_digest`.

    Returns
    -------
    Stored
        See `Attempt.commit`.
    """
    if manifest.outcome is Outcome.COMPLETE:
        rows = write_tables(tables or {}, attempt.folder, manifest)
        manifest = manifest.model_copy(update={"extra": {**manifest.extra, "rows": rows}})
        check_opens(attempt.folder, required, manifest.asset)
    return attempt.commit(manifest, known)


def check_opens(folder: Path, required: str, asset: str) -> None:
    """Open everything in an output whose format we know.

    Parameters
    ----------
    folder : Path
        The attempt's folder.
    required : str
        Ending of what the output must hold at least one of: `.parquet`, `.nwb` (`.nwb.zarr` too) or
        `.zarr`.
    asset : str
        For the message.

    Raises
    ------
    PermanentFailure
        Names the file that does not open or would run code, or says what is missing.
    """
    refuse_code(folder)
    found = list(_known_formats(folder))
    if not any(_format(path) == required for path in found):
        raise PermanentFailure(f"{asset} is complete but holds no {required} file: a step's fault")
    for path in found:
        try:
            _CHECKS[_format(path)](path)
        except NeuroAssetsError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and (explanation := explain(error, str(path))):
                raise explanation from error
            raise PermanentFailure(
                f"{asset} wrote {path.relative_to(folder)}, which does not open "
                f"({type(error).__name__}: {_one_line(error)}); nothing was committed"
            ) from error


def _known_formats(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix in _CHECKS:
            yield path
        elif path.is_dir():
            yield from _known_formats(path)


def _format(path: Path) -> str:
    """Give the ending of a format; NWB with the Zarr backend is NWB."""
    return ".nwb" if path.name.endswith(".nwb.zarr") else path.suffix


def _check_parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _ = file.schema_arrow


def _check_nwb(path: Path) -> None:
    from neuro_assets.science.nwb.check import open_nwb

    io, nwbfile = open_nwb(path)
    with io:
        _ = nwbfile.identifier


def _check_zarr(path: Path) -> None:
    """Open as what it says it is: a recording, a sorting, an analyzer, or plain arrays."""
    import zarr

    root = zarr.open_group(str(path), mode="r")
    if "zarr_class_info" in root.attrs:
        from spikeinterface.core import read_zarr

        read_zarr(path)
        return
    if "spikeinterface_info" in root.attrs:
        from spikeinterface.core import load_sorting_analyzer

        load_sorting_analyzer(path, load_extensions=False)
        return
    if not list(root.arrays(recurse=True)):
        raise ValueError("there is no array in it")


_CHECKS: dict[str, Callable[[Path], None]] = {
    ".parquet": _check_parquet,
    ".nwb": _check_nwb,
    ".zarr": _check_zarr,
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
