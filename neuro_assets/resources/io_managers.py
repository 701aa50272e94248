"""Dagster's side of the store: lazy handles in and out.

An IO manager decides nothing: which version, whether to reuse and which outcome are decided by the
step, which commits by itself. No object is ever pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from neuro_assets.registry.registry import Registry
from neuro_assets.resources.store import StoreResource
from neuro_assets.sources.raw_input import RawInput, externals
from neuro_assets.store import WHOLE_LAB, Store, Stored

PARQUET = "parquet_io"
ZARR_RECORDING = "zarr_recording_io"
ZARR_ANALYZER = "zarr_analyzer_io"
NWB_FILE = "nwb_io"

REQUIRED = {
    PARQUET: ".parquet",
    ZARR_RECORDING: ".zarr",
    ZARR_ANALYZER: ".zarr",
    NWB_FILE: ".nwb",
}
"""Ending of what an output of each format holds at least one of; tables go with any."""

STORE = "store"
"""Resource key of the store itself."""

_DEFAULT = "io_manager"
"""Where Dagster would put its own manager, which pickles, in a folder that a launch may choose."""

_MOST_ANCESTORS = 50


@dataclass(frozen=True)
class Missing:
    """An input that nobody made.

    Parameters
    ----------
    asset, key : str
        Which one.
    reason : str
        Why, as far as the store knows.
    is_expected : bool
        False for raw data that the session does not have: nothing is waited for.
    version : str
        Of raw data that are there and not whole; empty for what is not there.
    """

    asset: str
    key: str
    reason: str
    is_expected: bool = True
    version: str = ""


@dataclass(frozen=True)
class Unreadable:
    """An input that is there and cannot be resolved; the step raises it, so that it is recorded.

    Parameters
    ----------
    asset, key : str
        Which one.
    error : Exception
        Why.
    """

    asset: str
    key: str
    error: Exception


class StoreIOManager(dg.IOManager):
    """Passes lazy handles on; what is committed the step has committed before."""

    def __init__(self, store: StoreResource, roots: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.roots = dict(roots or {})

    def handle_output(self, context: dg.OutputContext, obj: Stored) -> None:
        """Take what a step committed."""
        if not isinstance(obj, Stored):
            raise dg.Failure(
                f"{context.asset_key.to_user_string()} returned {type(obj).__name__}, not a "
                "Stored output: an asset's fault",
                allow_retries=False,
            )

    def load_input(self, context: dg.InputContext) -> Stored | RawInput | Missing | Unreadable:
        """Give a handle on the upstream output: of this run if it made it, else what counts."""
        asset = context.asset_key.to_user_string()
        key = context.asset_partition_key if context.has_asset_partitions else WHOLE_LAB
        try:
            return _resolve(self.store.store(), asset, key, list(_runs(context)), self.roots)
        except Exception as error:
            # Raised here it would leave no record, and the checks of the last run as they are.
            return Unreadable(asset, key, error)


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
        **{name: StoreIOManager(*common) for name in (_DEFAULT, *REQUIRED)},
    }


def _resolve(
    store: Store, asset: str, key: str, runs: list[str], roots: Mapping[str, str]
) -> Stored | RawInput | Missing:
    if (external := externals().get(asset)) is not None:
        record = Registry(store).get(key)
        why = external.why_missing(record)
        if record is None:
            return Missing(asset, key, why)
        if why:
            expected, version = external.is_expected(record), external.version(record)
            return Missing(asset, key, why, expected, version)
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
