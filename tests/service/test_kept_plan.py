"""A retry computes what its run set out to: with the configuration of the first start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions import definitions_load_context as loading
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG
from instances import watched_instance

from neuro_assets.executors import launcher
from neuro_assets.executors.frozen_config import frozen_text
from neuro_assets.executors.retries import keep_plan_of_parent, run_first_tried
from neuro_assets.service.home import CodeLocation
from neuro_assets.service.runs import _remote_origin, load_job

LOCATION = CodeLocation("kept_location", "defs", "kept")
Start = Callable[..., dg.DagsterRun]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with watched_instance({"run_retries": {"enabled": True, "max_retries": 3}}) as instance:
        yield instance


@pytest.fixture
def start(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Make a run of a code location that is loaded with a text, as Dagster's daemon does."""
    text = ""

    @dg.definitions
    def defs() -> dg.Definitions:
        frozen = frozen_text("lab.yaml", lambda: text)

        @dg.op(description=frozen)
        def one() -> None: ...

        @dg.op(ins={"after": dg.In(dg.Nothing)})
        def two() -> None: ...

        @dg.job(name="work", tags={"text": frozen})
        def work() -> None:
            two(one())

        return dg.Definitions(jobs=[work])

    module = ModuleType(LOCATION.module)
    module.defs = defs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LOCATION.module, module)
    monkeypatch.setattr(loading.DefinitionsLoadContext, "_instance", None)

    def make(config: str, retries: dg.DagsterRun | None = None, **more: Any) -> dg.DagsterRun:
        nonlocal text
        text = config
        job = load_job(LOCATION, "work")
        parent = {"parent_run_id": retries.run_id, "root_run_id": retries.run_id} if retries else {}
        return instance.create_run_for_job(
            job.recon.get_definition(),
            job_code_origin=job.recon.get_python_origin(),
            remote_job_origin=_remote_origin(job),
            repository_load_data=job.load_data,
            **parent,
            **more,
        )

    return make


def seen(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[Any, list[str], str]:
    """Which configuration the processes of a run are handed, its steps, and its job's snapshot."""
    again = instance.get_run_by_id(run.run_id)
    assert again is not None and again.execution_plan_snapshot_id and again.job_snapshot_id
    plan = instance.get_execution_plan_snapshot(again.execution_plan_snapshot_id)
    [text] = plan.repository_load_data.reconstruction_metadata.values()
    job = instance.get_job_snapshot(again.job_snapshot_id)
    return getattr(text, "value", text), plan.step_keys_to_execute, job.tags["text"]


def retry_of(instance: dg.DagsterInstance, lost: dg.DagsterRun, start: Start) -> dg.DagsterRun:
    """What the daemon makes after `lab.yaml` was edited: the last step is left."""
    retry = start("new", lost, op_selection=["two"])
    instance.add_run_tags(lost.run_id, {AUTO_RETRY_RUN_ID_TAG: retry.run_id})
    return retry


def test_a_retry_keeps_the_configuration_of_the_first_start(
    instance: dg.DagsterInstance, start: Start
) -> None:
    first = start("old")
    for _ in range(2):  # also the retry of a retry
        retry = retry_of(instance, first, start)
        assert seen(instance, retry) == ("new", ["two"], "new")
        keep_plan_of_parent(instance, retry)
        assert seen(instance, retry) == ("old", ["two"], "old"), "its own steps, as of then"
        first = retry


def test_the_launcher_hands_the_kept_plan_to_the_process(
    instance: dg.DagsterInstance, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry, launched = retry_of(instance, start("old"), start), []
    monkeypatch.setattr(launcher, "_PID_WAIT_S", 0.0)
    monkeypatch.setattr(
        DefaultRunLauncher, "launch_run",
        lambda self, context: launched.append(seen(instance, context.dagster_run)),
    )  # fmt: skip
    context: Any = SimpleNamespace(dagster_run=retry)
    instance.run_launcher.launch_run(context)
    assert launched == [("old", ["two"], "old")]


def test_a_run_that_a_person_executes_again_takes_the_configuration_of_now(
    instance: dg.DagsterInstance, start: Start
) -> None:
    first = start("old")
    again = start("new", first)
    keep_plan_of_parent(instance, again)
    assert seen(instance, again) == ("new", ["one", "two"], "new")
    assert run_first_tried(instance, again) == again.run_id
    assert run_first_tried(instance, retry_of(instance, first, start)) == first.run_id
