"""What the running platform does, for `neuro-assets status`: assets in progress, configuration.

Dagster is imported inside the functions: whatever imports this package must start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuro_assets import names
from neuro_assets.config import ConfigError, parse_config
from neuro_assets.config.changes import changed_fields
from neuro_assets.executors.frozen_config import loaded_config
from neuro_assets.service.home import LOADED_CONFIG, UP_LOCK, home_path, is_held, prepare_home

if TYPE_CHECKING:
    from dagster import DagsterInstance


def steps_in_progress(workdir: Path) -> dict[str, set[str]]:
    """List the steps that have begun and not ended, in runs whose process lives.

    Parameters
    ----------
    workdir : Path
        The lab's folder.

    Returns
    -------
    dict of str to set of str
        Step keys (asset names) by partition key.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    from neuro_assets.executors.launcher import is_dead

    found: dict[str, set[str]] = {}
    with DagsterInstance.from_config(str(prepare_home(workdir))) as instance:
        runs = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        for run in runs:
            key = run.tags.get(names.PARTITION_TAG)
            if key is not None and not is_dead(instance, run):
                found.setdefault(key, set()).update(_open_steps(instance, run.run_id))
    return found


def loaded_configuration(workdir: Path, path: Path) -> list[str]:
    """Say which configuration a running `neuro-assets up` has loaded.

    Parameters
    ----------
    workdir : Path
        The lab's folder.
    path : Path
        Its `lab.yaml`.

    Returns
    -------
    list of str
        Lines; with one for each field in which the file as it is now differs. None when it is not
        up, or was started in another way.
    """
    home = home_path(workdir)
    loaded = loaded_config(home / LOADED_CONFIG) if is_held(home / UP_LOCK) else None
    if loaded is None:
        return []
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text == loaded.text:
        return [f"{path} is loaded as it is, since {loaded.loaded_at}"]
    lines = [f"{path} was changed and is not loaded; in force is what was read {loaded.loaded_at}"]
    try:
        changes = changed_fields(parse_config(loaded.text), parse_config(text))
    except ConfigError as error:
        return [*lines, f"  it cannot be used: {error}"]
    return [*lines, *(f"  {c['field']}: {c['old']} -> {c['new']}" for c in changes)]


def _open_steps(instance: DagsterInstance, run_id: str) -> set[str]:
    from dagster import DagsterEventType as Type

    begun: set[str] = set()
    ended = (Type.STEP_SUCCESS, Type.STEP_FAILURE, Type.STEP_SKIPPED)
    for entry in instance.all_logs(run_id, of_type={Type.STEP_START, *ended}):
        event = entry.get_dagster_event()
        if event.step_key is None:
            continue
        if event.event_type is Type.STEP_START:
            begun.add(event.step_key)
        else:
            begun.discard(event.step_key)
    return begun
