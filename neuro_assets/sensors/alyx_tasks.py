"""What keeps Alyx up with the lab beside the runs themselves; only where Alyx is named.

Its list of tasks follows the runs of `process`: a courtesy to people who look there, for which no
run waits and by which none fails. What an outage of Alyx swallows is set right by the step
`alyx_registration`, which writes the final status again. What was published while nothing was
sent is registered once the lab says so.
"""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets import names
from neuro_assets.assets.step import StepSpec
from neuro_assets.assets.steps.alyx_registration import process_assets
from neuro_assets.config import LabConfig
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.parameters.alyx_registration import AlyxRegistrationParameters
from neuro_assets.sensors.publish import ENDED, after

STARTED = dg.DagsterRunStatus.STARTED

_TIMEOUT_S = 10.0
_DEADLINE_S = 20.0
"""Dagster gives a sensor a minute, and the next run's event waits meanwhile."""


KEYS_PER_TICK = 100
"""Recordings that one tick looks at for results that were not sent."""


def alyx_backlog_sensors(
    config: LabConfig, publish: UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """Build the sensor that registers what was published before `alyx.write` was true.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.
    publish : UnresolvedAssetJobDefinition
        The job of which the step `alyx_registration` is requested.

    Returns
    -------
    list of SensorDefinition
        Empty where nothing may be sent.
    """
    if not (config.alyx.url and config.alyx.write):
        return []
    asset = AlyxRegistrationParameters.step

    @dg.sensor(
        name="alyx_backlog",
        description="Registers in Alyx what was published while `alyx.write` was false.",
        job=publish,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def request(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
        from neuro_assets.registry.registry import Registry
        from neuro_assets.store.opening import open_store

        store = open_store(config.store)
        keys = sorted(key for key, record in Registry(store).all().items() if record.eid)
        keys = [key for key in keys if key > (context.cursor or "")] or keys
        n_requests = 0
        for key in keys[:KEYS_PER_TICK]:
            if n_requests == config.processing.runs_per_tick:
                return
            context.update_cursor(key)
            try:
                stored = store.current(asset, key)
                is_dry = stored is not None and stored.manifest.metrics.get("dry_run")
            except NeuroAssetsError as error:
                context.log.warning(f"{key}: {error}")
                continue
            if stored is not None and is_dry:
                n_requests += 1
                yield dg.RunRequest(
                    run_key=f"register-{key}-{stored.version}-{stored.attempt}",
                    partition_key=key,
                    asset_selection=[dg.AssetKey(asset)],
                )

    return [request]


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
    task = task_state(record.home, "Started", alyx, run_id=run_id)
    if status is not STARTED:
        final = task_of(record.home, outputs_of(store, key, assets), alyx)
        # By what is stored, as the step does it, so that the two never disagree.
        ended = (
            {"status": final.status, "version": final.version} if final else {"status": "Errored"}
        )
        task = task.model_copy(update=ended)
    quick = alyx.model_copy(update={"timeout_s": min(alyx.timeout_s, _TIMEOUT_S)})
    client = connect(quick, tries=2, deadline_s=_DEADLINE_S)
    return f"{key}: {move_task(client, record.eid, task, write=alyx.write)}"
