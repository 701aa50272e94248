"""Dagster instances with our launcher, in memory: files take a second to make."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.instance.types import InstanceType
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import TemporaryLocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage

from neuro_assets.executors.launcher import WatchedRunLauncher


def watched_instance(settings: dict[str, Any] | None = None) -> dg.DagsterInstance:
    """Make an instance with these sections of `dagster.yaml`."""
    return dg.DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=TemporaryLocalArtifactStorage(),
        run_storage=InMemoryRunStorage(),
        event_storage=InMemoryEventLogStorage(),
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=DefaultRunCoordinator(),
        run_launcher=WatchedRunLauncher(),
        settings=settings,
    )
