"""The one place that assembles: assets, checks, resources, jobs, sensors, executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from neuro_assets import names
from neuro_assets.assets.catalog import all_steps, step_modules
from neuro_assets.assets.configuration import lab_configuration
from neuro_assets.assets.external_assets import external_assets
from neuro_assets.assets.runner import step_asset
from neuro_assets.assets.tables import table_assets
from neuro_assets.config import LabConfig, config_path, parse_config
from neuro_assets.config.changes import changed_fields
from neuro_assets.executors.frozen_config import ConfigText, frozen_config
from neuro_assets.executors.multiprocess import multiprocess_config
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.resources.io_managers import io_managers
from neuro_assets.resources.store import StoreResource
from neuro_assets.sensors.alyx_tasks import alyx_backlog_sensors, alyx_task_sensors
from neuro_assets.sensors.discovery import discovery_sensor
from neuro_assets.sensors.dropped_retries import dropped_retries_sensor
from neuro_assets.sensors.publish import publish_sensors, tables_sensors
from neuro_assets.sensors.reconciliation import reconciliation_sensor

# With this module, so that the fork server of the steps has them all.
step_modules()


def build_defs(
    *,
    config: LabConfig | None = None,
    resources: Mapping[str, Any] | None = None,
    loaded: ConfigText | None = None,
) -> dg.Definitions:
    """Assemble the platform for one lab.

    Parameters
    ----------
    config : LabConfig, optional
        The lab's choices; defaults when empty.
    resources : mapping, optional
        Resources that replace ours, for tests.
    loaded : ConfigText, optional
        The text of `lab.yaml` that was loaded, and why the file as it is now was refused.

    Returns
    -------
    dagster.Definitions
        Everything.
    """
    config, loaded = config or LabConfig(), loaded or ConfigText("")
    steps = all_steps(config)
    by_job = {
        job: dg.AssetSelection.assets(*(step.name for step in steps if step.job == job))
        for job in (names.PROCESS_JOB, names.PUBLISH_JOB)
    }
    tables = table_assets(config, steps)
    process = dg.define_asset_job(
        names.PROCESS_JOB,
        selection=by_job[names.PROCESS_JOB],
        partitions_def=SESSION_PROBE,
        description="Raw data to results, for one recording of one probe.",
    )
    publish = dg.define_asset_job(
        names.PUBLISH_JOB,
        selection=by_job[names.PUBLISH_JOB],
        partitions_def=SESSION_PROBE,
        description="NWB of whatever `process` made, failures and skips included.",
    )
    refresh = dg.define_asset_job(
        names.TABLES_JOB,
        selection=dg.AssetSelection.assets(*(table.key for table in tables)),
        description="Tables over all recordings of the lab.",
    )
    return dg.Definitions(
        assets=[
            *external_assets(),
            lab_configuration(loaded),
            *(step_asset(step, config) for step in steps),
            *tables,
        ],
        jobs=[process, publish, refresh],
        sensors=[
            discovery_sensor(config, process, loaded.error),
            reconciliation_sensor(config),
            *publish_sensors(process, publish),
            dropped_retries_sensor(),
            *tables_sensors(publish, refresh),
            *alyx_task_sensors(config, steps, process),
            *alyx_backlog_sensors(config, publish),
        ],
        resources={
            **io_managers(StoreResource(config.store, config.compute.scratch), config.roots),
            **(resources or {}),
        },
        executor=dg.multiprocess_executor.configured(multiprocess_config(config.compute.n_steps)),
        metadata={"lab": config.lab},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions for the `lab.yaml` in force: every step of a run sees the one it began with."""
    path = config_path()
    frozen = frozen_config(path, lambda text: all_steps(parse_config(text)), _compare)
    config = parse_config(frozen.text, base=path.parent)
    return build_defs(config=config, loaded=frozen)


def _compare(old: str, new: str) -> list[dict[str, str]]:
    return changed_fields(parse_config(old), parse_config(new))
