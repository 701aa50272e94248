"""Alyx's list of tasks follows the runs of `process`; only where Alyx is named.

A courtesy to people who look there: no run waits for it or fails by it. What an outage of Alyx
swallows is set right by the step `alyx_registration`, which writes the final status again.
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets import names
from neuro_assets.assets.step import StepSpec
from neuro_assets.assets.steps.alyx_registration import process_assets
from neuro_assets.config import LabConfig
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.sensors.publish import ENDED, after

STARTED = dg.DagsterRunStatus.STARTED

_TIMEOUT_S = 10.0
_DEADLINE_S = 20.0
"""Dagster gives a sensor a minute, and the next run's event waits meanwhile."""


def alyx_task_sensors(
    config: LabConfig, steps: list[StepSpec], process: UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """Build the sensors that move the tasks.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.
    steps : list of StepSpec
        All steps: whether all of `process` are made decides between Complete and Incomplete.
    process : UnresolvedAssetJobDefinition
        The job that is followed.

    Returns
    -------
    list of SensorDefinition
        One for each status; empty where `alyx.url` is not set.
    """
    if not config.alyx.url:
        return []
    assets = process_assets(steps)
    return [_sensor(config, assets, process, status) for status in (STARTED, *ENDED)]


def _sensor(
    config: LabConfig,
    assets: list[str],
    process: UnresolvedAssetJobDefinition,
    status: dg.DagsterRunStatus,
) -> dg.SensorDefinition:
    def follow(context: dg.RunStatusSensorContext) -> dg.SkipReason:
        run = context.dagster_run
        key = run.tags.get(names.PARTITION_TAG)
        if key is None:
            return dg.SkipReason(f"Run {run.run_id} has no partition")
        now = context.instance.get_run_by_id(run.run_id)
        if status is STARTED and (now is None or now.is_finished):
            # The events come by four sensors, so that the end may have been handled already.
            return dg.SkipReason(f"Run {run.run_id} is over already")
        try:
            line = _move(config, assets, key, run.run_id, status)
        except NeuroAssetsError as error:
            line = f"{key}: the task in Alyx was not moved for run {run.run_id}: {error}"
            context.log.warning(line)
        else:
            context.log.info(line)
        return dg.SkipReason(line)

    about = "Moves the task in Alyx when a run of `process` is {}."
    return after("alyx_task", about, process, status, follow)


def _move(
    config: LabConfig, assets: list[str], key: str, run_id: str, status: dg.DagsterRunStatus
) -> str:
    from neuro_assets.alyx.client import connect
    from neuro_assets.alyx.registration.changes import move_task
    from neuro_assets.alyx.registration.outputs import outputs_of
    from neuro_assets.alyx.registration.target_state import task_of, task_state
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.opening import open_store

    alyx = config.alyx
    store = open_store(config.store)
    record = Registry(store).get(key)
    if record is None or record.eid is None:
        return f"{key} has no session in Alyx"
    task = task_state(key, "Started", alyx, run_id=run_id)
    if status is not STARTED:
        final = task_of(key, outputs_of(store, key, assets), alyx)
        # By what is stored, as the step does it, so that the two never disagree.
        ended = (
            {"status": final.status, "version": final.version} if final else {"status": "Errored"}
        )
        task = task.model_copy(update=ended)
    quick = alyx.model_copy(update={"timeout_s": min(alyx.timeout_s, _TIMEOUT_S)})
    client = connect(quick, tries=2, deadline_s=_DEADLINE_S)
    return f"{key}: {move_task(client, record.eid, task, write=alyx.write)}"
