"""Tables over all recordings of the lab, in parquet: one row an insertion, one row a unit."""

import hashlib
import json
import logging
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from neuro_assets import names
from neuro_assets.assets.dagster_metadata import output, stored_metadata
from neuro_assets.assets.inventory import inventory
from neuro_assets.assets.runner import UNRESOLVED, record_failure
from neuro_assets.assets.step import StepSpec
from neuro_assets.config import LabConfig
from neuro_assets.outcomes import NeuroAssetsError, Outcome, PermanentFailure
from neuro_assets.registry.index import Records
from neuro_assets.registry.registry import Registry
from neuro_assets.registry.turns import take_turn
from neuro_assets.resources.io_managers import PARQUET, REQUIRED
from neuro_assets.resources.store import StoreResource
from neuro_assets.science.result import StepResult
from neuro_assets.science.table_rows import KEY_COLUMNS, row_of_record
from neuro_assets.store import (
    WHOLE_LAB,
    InputRef,
    Manifest,
    Store,
    Stored,
    version_of,
)
from neuro_assets.store.output_files import commit_result
from neuro_assets.store.packages import installed_packages

CODE_VERSION = "1"

Made = tuple[StepResult, list[InputRef], dict[str, str]]
"""Table, inputs, and digests of what it takes from the registry."""

log = logging.getLogger(__name__)


def table_assets(config: LabConfig, steps: Sequence[StepSpec]) -> list[dg.AssetsDefinition]:
    """Build the assets of the group `tables`.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.
    steps : sequence of StepSpec
        Steps whose outcomes the table of insertions shows.

    Returns
    -------
    list of AssetsDefinition
        Unpartitioned.
    """
    return [_units_table(), _insertions(steps)]


def _units_table() -> dg.AssetsDefinition:
    @_table(names.UNITS_TABLE, deps=[names.UNITS])
    def units_table(store: Store) -> Made:
        """Units of all recordings with their metrics, one row a unit."""
        from neuro_assets.science.tables import units_table as build

        records = _listed(Registry(store).all())
        made, frames = {}, {}
        for key in records:
            try:
                stored = store.current(names.UNITS, key)
                if stored is not None and stored.outcome is Outcome.COMPLETE:
                    frames[key] = stored.table("units")
                    made[f"{names.UNITS}:{key}"] = stored
            except PermanentFailure as error:
                store.backend.require()
                log.warning("the units of %s are left out: %s", key, error)
        table = build(frames, {k: r.model_dump(mode="json") for k, r in records.items()})
        metrics = {"n_recordings": len(made), "n_units": len(table)}
        taken = _taken(names.UNITS_TABLE, records, frames)
        return StepResult(metrics=metrics, tables={names.UNITS_TABLE: table}), _keyed(made), taken

    return units_table


def _insertions(steps: Sequence[StepSpec]) -> dg.AssetsDefinition:
    @_table(names.INSERTIONS, deps=[step.name for step in steps])
    def insertions(store: Store) -> Made:
        """List the recordings of the lab: what was made, skipped or failed, and key figures."""
        from neuro_assets.science.tables import insertions as build

        records = _listed(Registry(store).all())
        states = [each.readable() for each in inventory(store, records, steps)]
        outcomes: dict[str, dict[str, Any]] = {key: {} for key in records}
        metrics: dict[str, dict[str, Any]] = {key: {} for key in records}
        used: dict[str, Stored] = {}
        for state in states:
            outcome = {"outcome": state.outcome.value, "reason": state.detail or None}
            outcomes[state.key][state.asset] = outcome
            if state.stored is not None:
                metrics[state.key][state.asset] = state.stored.manifest.metrics
                used[f"{state.asset}:{state.key}"] = state.stored
        plain = {key: record.model_dump(mode="json") for key, record in records.items()}
        table = build(plain, outcomes, metrics, [step.name for step in steps])
        failed = sum(state.outcome is Outcome.FAILED for state in states)
        numbers = {"n_insertions": len(table), "n_outputs_failed": failed}
        taken = _taken(names.INSERTIONS, records, records)
        return StepResult(metrics=numbers, tables={names.INSERTIONS: table}), _keyed(used), taken

    return insertions


def tables_out_of_date(store: Store, records: Records) -> dict[str, str]:
    """Say which tables hold something of the registry that is no longer so.

    Parameters
    ----------
    store : Store
        The lab's store.
    records : Records
        The registry.

    Returns
    -------
    dict of str to str
        By table, what changed, or why it cannot be read; nothing for one that was never made.
    """
    found, records = {}, _listed(records)
    for name in (names.INSERTIONS, names.UNITS_TABLE):
        try:
            stored = store.current(name, WHOLE_LAB)
        except NeuroAssetsError as error:
            found[name] = str(error)
            continue
        if stored is None:
            continue
        used = {ref.asset.removeprefix(f"{names.UNITS}:") for ref in stored.manifest.inputs}
        before = stored.manifest.parameters
        after = _taken(name, records, used if name == names.UNITS_TABLE else records)
        changed = [column for column in after if before.get(column) != after[column]]
        if changed:
            fields = "other recordings" if "key" in changed else ", ".join(changed)
            found[name] = f"{fields} in the registry"
    return found


def _listed(records: Records) -> Records:
    """Leave out keys whose recording has another one now: it would be counted twice."""
    lines = records.lines.items()
    has_no_other = b'"renamed_to":""'  # most, and to parse all would take longer than the rest
    return Records({k: each for k, each in lines if has_no_other in each or not _is_renamed(each)})


def _is_renamed(record: bytes) -> bool:
    return bool(json.loads(record).get("renamed_to"))


def _taken(table: str, records: Records, keys: Container[str]) -> dict[str, str]:
    """Digest each column that a table takes from the registry."""
    digests: dict[str, Any] = {name: hashlib.sha256() for name in KEY_COLUMNS}
    for key in sorted(each for each in records if each in keys):
        # As text: to make objects of all recordings of a large lab would take longer than the rest.
        row = row_of_record(key, json.loads(records.lines[key]))
        for name in row if table == names.INSERTIONS else KEY_COLUMNS:
            digests.setdefault(name, hashlib.sha256()).update(f"{key}={row[name]!r};".encode())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _keyed(stored: dict[str, Stored]) -> list[InputRef]:
    """List the inputs of a table, one a recording, by asset and recording."""
    return [each.ref.model_copy(update={"asset": name}) for name, each in sorted(stored.items())]


def _table(name: str, deps: Sequence[str]) -> Any:
    """Turn a function of the store into an unpartitioned asset that is written like any other."""

    def decorate(compute: Any) -> dg.AssetsDefinition:
        def asset(
            context: dg.AssetExecutionContext, store: dg.ResourceParam[StoreResource]
        ) -> Iterator[Any]:
            began, opened = datetime.now(UTC), store.store()
            manifest = Manifest(
                asset=name,
                key=WHOLE_LAB,
                version=UNRESOLVED,
                outcome=Outcome.FAILED,
                code_version=CODE_VERSION,
                packages=installed_packages(),
                started=began,
                run_id=context.run_id,
            )
            try:
                # Before anything is read: a later refresh has read at least as much.
                turn = take_turn(opened, WHOLE_LAB, context.run_id)
                manifest = manifest.model_copy(update={"turn": turn})
                result, refs, taken = compute(opened)
                # Outcomes can change without any output changing: every refresh is a version.
                stamp = {"at": began.isoformat(), **taken}
                changes = {
                    "version": version_of(name, CODE_VERSION, stamp, refs, key=WHOLE_LAB),
                    "outcome": Outcome.COMPLETE,
                    "parameters": taken,
                    "inputs": refs,
                    "metrics": result.metrics,
                    "duration_s": (datetime.now(UTC) - began).total_seconds(),
                }
                manifest = Manifest.model_validate({**dict(manifest), **changes})
                with opened.attempt(name, WHOLE_LAB, manifest.version) as attempt:
                    stored = commit_result(attempt, manifest, REQUIRED[PARQUET], result.tables)
            except Exception as error:
                record_failure(opened, manifest, error)
                raise
            shown = stored_metadata(stored, reused=False, partition=False)
            yield output(stored, {**result.metrics, **shown})

        return dg.asset(
            name=name,
            description=(compute.__doc__ or "").strip(),
            group_name=names.TABLES,
            kinds={"parquet"},
            owners=["team:neuro_assets"],
            deps=list(deps),
            io_manager_key=PARQUET,
            code_version=CODE_VERSION,
        )(asset)

    return decorate
