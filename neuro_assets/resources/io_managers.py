"""Dagster's side of the store: what a step made goes in, lazy handles come out.

An IO manager moves bytes and decides nothing: which version, whether to reuse and which outcome
were decided by the step before. No object is ever pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import dagster as dg

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import Registry
from neuro_assets.resources.store import StoreResource
from neuro_assets.science.result import StepResult
from neuro_assets.sources.raw_input import RawInput, externals
from neuro_assets.store import WHOLE_LAB, Attempt, Manifest, Store, Stored
from neuro_assets.store.formats import check_opens, write_tables

__all__ = [
    "NWB_FILE",
    "PARQUET",
    "ZARR_ANALYZER",
    "ZARR_RECORDING",
    "Missing",
    "NwbIOManager",
    "ParquetIOManager",
    "Production",
    "StoreResource",
    "ZarrAnalyzerIOManager",
    "ZarrRecordingIOManager",
    "io_managers",
]

PARQUET = "parquet_io"
ZARR_RECORDING = "zarr_recording_io"
ZARR_ANALYZER = "zarr_analyzer_io"
NWB_FILE = "nwb_io"

STORE = "store"
"""Resource key of the store itself."""

_DEFAULT = "io_manager"
"""Where Dagster would put its own manager, which pickles, in a folder that a launch may choose."""

_MOST_ANCESTORS = 50
_THREADS = 8


@dataclass
class Production:
    """What a step hands over.

    Parameters
    ----------
    manifest : Manifest
        Complete or skipped; attempt and files are filled in at commit.
    attempt : Attempt or None
        Where the step wrote; None where `reused` is given.
    result : StepResult or None
        Its tables become parquet files.
    reused : Stored or None
        An output that was there already.
    """

    manifest: Manifest
    attempt: Attempt | None = None
    result: StepResult | None = None
    reused: Stored | None = None


@dataclass(frozen=True)
class Missing:
    """An input that nobody made.

    Parameters
    ----------
    asset, key : str
        Which one.
    reason : str
        Why, as far as the store knows.
    """

    asset: str
    key: str
    reason: str


class _StoreIOManager(dg.IOManager):
    """What all formats share; any of them may hold tables besides its own format."""

    required: ClassVar[str]

    def __init__(self, store: StoreResource, roots: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.roots = dict(roots or {})

    def handle_output(self, context: dg.OutputContext, obj: Production) -> None:
        """Write the tables, check that all opens, commit, and tell Dagster the numbers."""
        if not isinstance(obj, Production):
            raise dg.Failure(
                f"{context.asset_key.to_user_string()} returned {type(obj).__name__}, not a "
                "Production: an asset's fault",
                allow_retries=False,
            )
        store = self.store.store()
        if obj.reused is not None:
            store.adopt(obj.reused, run_id=context.run_id)
            context.add_output_metadata(_metadata(obj.reused, context, reused=True))
            return
        try:
            stored = self._commit(obj)
        except Exception as error:
            _give_up(store, obj, error)
            if isinstance(error, PermanentFailure):
                raise dg.Failure(str(error), allow_retries=False) from error
            raise
        beaten = obj.attempt is not None and stored.attempt != obj.attempt.id
        context.add_output_metadata(_metadata(stored, context, reused=beaten))

    def load_input(self, context: dg.InputContext) -> Any:
        """Give handles on the upstream output: of this run if it made it, else what counts."""
        asset = context.asset_key.to_user_string()
        store = self.store.store()
        runs = list(_runs(context))
        if not context.has_asset_partitions:
            return _resolve(store, asset, WHOLE_LAB, runs, self.roots)
        keys = list(context.asset_partition_keys)
        if context.has_partition_key and len(keys) == 1:
            return _resolve(store, asset, keys[0], runs, self.roots)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(lambda key: _resolve(store, asset, key, runs, self.roots), keys))
        return {
            key: each
            for key, each in zip(keys, found, strict=True)
            if not isinstance(each, Missing)
        }

    def _commit(self, obj: Production) -> Stored:
        attempt, manifest = obj.attempt, obj.manifest
        if attempt is None:
            raise PermanentFailure(f"{manifest.asset}: neither an attempt nor a reused output")
        if manifest.outcome is Outcome.COMPLETE:
            tables = obj.result.tables if obj.result is not None else {}
            rows = write_tables(tables, attempt.folder, manifest)
            extra = {**manifest.extra, "rows": rows}
            manifest = manifest.model_copy(update={"extra": extra})
            check_opens(attempt.folder, self.required, manifest.asset)
        return attempt.commit(manifest)


class ParquetIOManager(_StoreIOManager):
    """Outputs that are tables."""

    required = ".parquet"


class NwbIOManager(_StoreIOManager):
    """Outputs that are an NWB file."""

    required = ".nwb"


class ZarrRecordingIOManager(_StoreIOManager):
    """Outputs that are recordings in SpikeInterface's Zarr format."""

    required = ".zarr"


class ZarrAnalyzerIOManager(_StoreIOManager):
    """Outputs that are sortings or analyzers in SpikeInterface's Zarr formats."""

    required = ".zarr"


def io_managers(store: StoreResource, roots: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Make the IO managers of a store, by resource key; none takes a launch's configuration.

    Parameters
    ----------
    store : StoreResource
        The store.
    roots : mapping of str to str, optional
        Where raw data are; see `LabConfig.roots`.

    Returns
    -------
    dict
        For `dagster.Definitions(resources=...)`.
    """
    common = (store, roots)
    return {
        STORE: store,
        _DEFAULT: ParquetIOManager(*common),
        PARQUET: ParquetIOManager(*common),
        ZARR_RECORDING: ZarrRecordingIOManager(*common),
        ZARR_ANALYZER: ZarrAnalyzerIOManager(*common),
        NWB_FILE: NwbIOManager(*common),
    }


def _give_up(store: Store, obj: Production, error: Exception) -> None:
    """Record the failure: the step is suspended at its `yield` and will not hear of it."""
    if obj.attempt is not None:
        obj.attempt.discard()
    words = {"type": type(error).__name__, "message": str(error)}
    failed = obj.manifest.model_copy(update={"outcome": Outcome.FAILED, "error": words})
    try:
        store.fail(failed)
    except Exception as second:
        # The store itself may be what failed: the first error is the one to report.
        error.add_note(f"The failure could not be recorded in the store: {second}")


def _resolve(
    store: Store, asset: str, key: str, runs: list[str], roots: Mapping[str, str]
) -> Stored | RawInput | Missing:
    if (external := externals().get(asset)) is not None:
        record = Registry(store).get(key)
        why = external.why_missing(record)
        if record is None or why:
            return Missing(asset, key, why)
        return RawInput(key, record, external.version(record), external, roots)
    for run in runs:
        if found := store.produced_by(run, asset, key):
            return found
    if found := store.current(asset, key):
        return found
    failure = store.failure(asset, key)
    if failure is not None and failure.error is not None:
        return Missing(asset, key, f"it failed: {failure.error.get('message', '')}")
    return Missing(asset, key, "it was never made")


def _runs(context: dg.InputContext) -> Iterator[str]:
    """Give this run, then the runs that it is a re-execution of, newest first."""
    step = context.step_context
    run: dg.DagsterRun | None = step.dagster_run
    for _ in range(_MOST_ANCESTORS):
        if run is None:
            return
        yield run.run_id
        parent = run.parent_run_id
        run = step.instance.get_run_by_id(parent) if parent else None


def _metadata(stored: Stored, context: dg.OutputContext, *, reused: bool) -> Mapping[str, Any]:
    manifest = stored.manifest
    rows: dict[str, int] = manifest.extra.get("rows", {})
    folder = stored.store.backend.locate(stored.path)
    shown: dict[str, Any] = {
        "outcome": stored.outcome.value,
        "version": stored.version,
        "reused": reused,
        "size_bytes": manifest.size_bytes,
        "n_files": len(manifest.files),
        "step_duration_s": manifest.duration_s,
        "path": dg.MetadataValue.path(str(folder)),
        **{f"rows_{name}": count for name, count in rows.items()},
    }
    if manifest.peak_memory_bytes is not None:
        shown["peak_memory_mb"] = round(manifest.peak_memory_bytes / 1e6, 1)
    if rows:
        main = stored.asset if stored.asset in rows else next(iter(rows))
        entry = "partition_row_count" if context.has_asset_partitions else "row_count"
        shown[f"dagster/{entry}"] = rows[main]
    return shown
