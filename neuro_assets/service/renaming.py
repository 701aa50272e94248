"""Giving a recording another key: registry and store first, then its history in Dagster.

Every part may be done again: a renaming that was killed is finished by the same command.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster_shared.record import copy

from neuro_assets import names
from neuro_assets.executors.launcher import is_dead
from neuro_assets.executors.retries import next_run, will_be_retried
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.partitions import SET_NAME
from neuro_assets.registry.registry import Registry
from neuro_assets.registry.renaming import (
    is_switched,
    release,
    reserve,
    reserved_for,
    switch,
    take_back,
    tidy,
)
from neuro_assets.service.home import hold

_RENAMED_TO = "renamed_to"
"""Metadata that ends the history of a key in Dagster."""


_LOCK = "rename.lock"


def check_renaming(registry: Registry, instance: dg.DagsterInstance, old: str, new: str) -> str:
    """Refuse a renaming that is not possible, or not now.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    instance : DagsterInstance
        Where its runs are.
    old, new : str
        Keys.

    Returns
    -------
    str
        What would be done, for people.

    Raises
    ------
    PermanentFailure
        Says why in one line; nothing was changed.
    """
    if reserved_for(registry.refresh(), old) == new:
        return f"the renaming of {new} to {old} can be taken back"
    is_done = _is_done(registry, instance, old, new)
    return f"{old} has that key already" if is_done else f"{old} can become {new}"


def rename(
    registry: Registry,
    instance: dg.DagsterInstance,
    old: str,
    new: str,
    checks: Sequence[dg.AssetCheckKey],
) -> str:
    """Give a recording another key; outputs, order of runs and history stay its own.

    The other way round it takes back a renaming that was cut before the recording had the new key.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    instance : DagsterInstance
        The lab's.
    old, new : str
        Keys.
    checks : sequence of AssetCheckKey
        Whose last evaluation the new partition gets.

    Returns
    -------
    str
        What was done, for people.

    Raises
    ------
    PermanentFailure
        See `check_renaming`.
    TransientFailure
        While another process of this lab renames.
    """
    with _alone(registry, instance):
        if reserved_for(registry.refresh(), old) == new:
            take_back(registry, new, old)
            return f"The renaming of {new} to {old} is taken back."
        if not _is_done(registry, instance, old, new):
            is_ours = reserve(registry, old, new)
            if run := _run_to_come(instance, old):
                if is_ours:
                    release(registry, old, new)
                raise PermanentFailure(f"run {run} of {old} began meanwhile: rename it afterwards")
            switch(registry, old, new, _user())
        tidy(registry, old, new)
        _move_history(instance, old, new, checks)
        registry.update(old, lambda _: {"renaming_to": ""})
    return f"{old} is {new} now; the old key stays its alias."


@contextmanager
def _alone(registry: Registry, instance: dg.DagsterInstance) -> Iterator[None]:
    """Rename one at a time: on this machine, and on others where the store has locks."""
    with hold(Path(instance.root_directory) / _LOCK) as lock:
        if lock is None:
            raise TransientFailure("another process renames a recording: try again when it is done")
        with registry.store.backend.lock("registry/turns"):
            yield


def _is_done(registry: Registry, instance: dg.DagsterInstance, old: str, new: str) -> bool:
    """Tell whether at most tidying is left; refuse what is not possible, or not now."""
    is_done = is_switched(registry, old, new)
    if not is_done and (run := _run_to_come(instance, old)):
        raise PermanentFailure(f"run {run} of {old} is not over: rename it afterwards")
    return is_done


def _run_to_come(instance: dg.DagsterInstance, key: str) -> str | None:
    """Find a run of a recording that waits, lives or is going to be executed again."""
    for run in instance.get_runs(dg.RunsFilter(tags={names.PARTITION_TAG: key})):
        lives = not run.is_finished and not is_dead(instance, run)
        if lives or (will_be_retried(instance, run) and next_run(instance, run) is None):
            return run.run_id
    return None


def _move_history(
    instance: dg.DagsterInstance, old: str, new: str, checks: Sequence[dg.AssetCheckKey]
) -> None:
    """Report under the new partition what Dagster shows of the old one, then take that away."""
    instance.add_dynamic_partitions(SET_NAME, [new])
    for asset in instance.all_asset_keys():
        for event in _events_to_move(instance, asset, old, new):
            instance.report_runless_asset_event(event)
    for evaluation in _checks_to_move(instance, checks, old, new):
        instance.report_runless_asset_event(evaluation)
    if instance.has_dynamic_partition(SET_NAME, old):
        instance.delete_dynamic_partition(SET_NAME, old)


def _events_to_move(
    instance: dg.DagsterInstance, asset: dg.AssetKey, old: str, new: str
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Give the last events of a key for another that has none, and what ends the old history."""
    made, seen = _last_events(instance, asset, old)
    if seen is not None and _RENAMED_TO in seen.metadata or (made or seen) is None:
        return
    made_since, seen_since = _last_events(instance, asset, new)
    if made is not None and made_since is None:
        yield made._replace(partition=new)
    if seen is not None and seen_since is None:
        yield seen._replace(partition=new)
    yield dg.AssetObservation(asset_key=asset, partition=old, metadata={_RENAMED_TO: new})


def _last_events(
    instance: dg.DagsterInstance, asset: dg.AssetKey, key: str
) -> tuple[dg.AssetMaterialization | None, dg.AssetObservation | None]:
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[key])
    made = instance.fetch_materializations(wanted, limit=1).records
    seen = instance.fetch_observations(wanted, limit=1).records
    return (
        made[0].asset_materialization if made else None,
        seen[0].asset_observation if seen else None,
    )


def _checks_to_move(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], old: str, new: str
) -> Iterator[dg.AssetCheckEvaluation]:
    """Give the last evaluations of a key for another, where it has none."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key
    known = latest(checks, PartitionKeyFilter(key=new))
    for check, record in latest(checks, PartitionKeyFilter(key=old)).items():
        event = record.event.dagster_event if record.event else None
        found = event.event_specific_data if event else None
        if isinstance(found, dg.AssetCheckEvaluation) and check not in known:
            # Its materialization is another event now.
            yield copy(found, partition=new, target_materialization_data=None)


def _user() -> str:
    """Name who renames, for the registry's log; a container may have no name for its user."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return f"user {os.getuid()}"
