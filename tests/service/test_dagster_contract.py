"""What we use of Dagster that it does not promise: each assertion names the module that needs it.

When a new minor version of Dagster breaks one of these, look at that module before widening the
version range in pyproject.toml.
"""

from __future__ import annotations

import inspect
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions import definitions_load_context as loading
from dagster._core.definitions.reconstruct import (
    ReconstructableRepository,
    initialize_repository_def_from_pointer,
)
from dagster._core.events import EngineEventData
from dagster._core.instance import DagsterInstance
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage import tags
from dagster._daemon.monitoring import run_monitoring
from places import REPOSITORY as ROOT

from neuro_assets.executors.frozen_config import frozen_text
from neuro_assets.executors.launcher import WatchedRunLauncher
from neuro_assets.service import prepare_home

TEMPLATES = ROOT / "neuro_assets" / "templates"


def test_dagster_is_the_minor_version_that_this_was_written_for() -> None:
    assert dg.__version__.startswith("1.13.")


def test_what_is_pending_at_initialization_is_handed_back_at_reconstruction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`frozen_config`: the way of a text from the code server into a step."""
    reads = []

    def read() -> str:
        reads.append(1)
        return f"text {len(reads)}"

    module = type(sys)("contract_location")
    seen: list[str] = []

    @dg.definitions
    def defs() -> dg.Definitions:
        seen.append(frozen_text("x", read))
        return dg.Definitions(assets=[dg.AssetSpec("a")])

    module.defs = defs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "contract_location", module)
    monkeypatch.setattr(loading.DefinitionsLoadContext, "_instance", None)
    repository = ReconstructableRepository.for_module("contract_location", "defs")

    first = initialize_repository_def_from_pointer(repository.pointer)
    assert seen[-1] == "text 1"
    monkeypatch.setattr(loading.DefinitionsLoadContext, "_instance", None)
    again = repository.with_repository_load_data(first.repository_load_data).get_definition()
    assert seen[-1] == "text 1"
    # A step hands its own load data on (a step that starts a process of its own).
    monkeypatch.setattr(loading.DefinitionsLoadContext, "_instance", None)
    repository.with_repository_load_data(again.repository_load_data).get_definition()
    assert seen[-1] == "text 1"
    # A new load reads again: a reload, or the next run of the command line.
    initialize_repository_def_from_pointer(repository.pointer)
    assert seen[-1] == "text 2"


def test_run_monitoring_asks_the_launcher_and_fails_what_is_not_running() -> None:
    """`executors.launcher`."""
    source = inspect.getsource(run_monitoring.monitor_started_run)
    assert "supports_check_run_worker_health" in source
    assert "check_run_worker_health(run)" in source
    assert {"RUNNING", "FAILED"} <= {s.name for s in WorkerStatus}
    assert CheckRunHealthResult._fields[:2] == ("status", "msg")
    assert WatchedRunLauncher().supports_check_run_worker_health
    assert not DefaultRunLauncher().supports_check_run_worker_health


def test_a_run_worker_reports_its_pid_as_text_metadata() -> None:
    """`executors.launcher`: how the process behind a run is found."""
    assert EngineEventData.in_process(17).metadata["pid"].value == "17"
    from dagster._grpc import impl

    assert "EngineEventData.in_process(pid)" in inspect.getsource(impl._run_in_subprocess)


def test_the_tags_that_we_read_exist() -> None:
    """`executors.launcher`, `service.execution`."""
    assert tags.HIDDEN_TAG_PREFIX == ".dagster/"
    assert tags.GRPC_INFO_TAG == ".dagster/grpc_info"
    assert tags.AUTO_RETRY_RUN_ID_TAG == "dagster/auto_retry_run_id"
    assert tags.WILL_RETRY_TAG == "dagster/will_retry"


def test_the_queue_takes_a_run_without_a_workspace() -> None:
    """`service.execution`: the command line has none."""
    assert ".workspace" not in inspect.getsource(QueuedRunCoordinator.submit_run)


def test_the_packaged_instance_loads_and_means_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`templates/dagster.yaml` loads, and means what it says."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    home = prepare_home(tmp_path, cores=2)
    with DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1
        limits = {limit["key"]: limit for limit in queue.tag_concurrency_limits}
        assert limits["dagster/partition"]["limit"] == 1
        assert limits["dagster/partition"]["value"] == {"applyLimitPerUniqueValue": True}
        assert instance.global_op_concurrency_default_limit == 1
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 30
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 1
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.get_sensor_settings()["use_threads"]
        assert "SqliteRunStorage" in type(instance.run_storage).__name__


def test_workspace_and_pyproject_name_the_same_definitions() -> None:
    """Without `-w` Dagster takes the module of pyproject.toml: it must be the same."""
    workspace = yaml.safe_load((TEMPLATES / "workspace.yaml").read_text())
    (entry,) = workspace["load_from"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tool = project["tool"]["dg"]["project"]
    module = entry["python_module"]
    assert module["module_name"] == tool["code_location_target_module"]
    assert module["location_name"] == tool["root_module"]


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_the_files_in_the_root_are_the_packaged_ones(name: str) -> None:
    assert (ROOT / name).resolve() == (TEMPLATES / name).resolve()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "**/*.yaml" in project["tool"]["setuptools"]["package-data"]["neuro_assets"]
