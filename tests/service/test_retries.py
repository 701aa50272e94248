"""Lost runs are resumed as long as they make progress; decisions only, without processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import service_tools as tools
from dagster._core.events import DagsterEvent, JobFailureData, RunFailureReason
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    ROOT_RUN_ID_TAG,
    WILL_RETRY_TAG,
)
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import (
    get_automatically_retried_run_if_exists,
    should_retry,
)
from dagster._daemon.auto_run_reexecution.event_log_consumer import _create_cursor_key
from instances import watched_instance

from neuro_assets.executors import retries
from neuro_assets.executors.launcher import claim, counts_as_run, living_runs, reap_dead_runs
from neuro_assets.executors.process_identity import ProcessIdentity
from neuro_assets.executors.retries import (
    FAILED_RETRY_MESSAGE,
    MAX_START_ATTEMPTS,
    allow_for_stop,
    next_run,
    note_progress,
    retry_dropped,
    settled,
    will_be_retried,
)
from neuro_assets.partitions import SET_NAME
from neuro_assets.sensors import dropped_retries
from neuro_assets.sensors.dropped_retries import dropped_retries_sensor
from neuro_assets.sensors.publish import publish_sensors
from neuro_assets.service import execution, runs
from neuro_assets.service.follower import RunFollower
from neuro_assets.service.home import CodeLocation
from neuro_assets.service.runs import Request

DAY = timedelta(days=1)
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


@dg.job
def nothing() -> None: ...


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    retries = {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    with watched_instance({"run_retries": retries}) as instance:
        yield instance


def reload(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    again = instance.get_run_by_id(run.run_id)
    assert again is not None
    return again


def start(instance: dg.DagsterInstance, lost: dg.DagsterRun | None = None) -> dg.DagsterRun:
    """A first run, or what Dagster's daemon makes of one that was lost."""
    if lost is None:
        return instance.create_run_for_job(nothing, tags={"dagster/partition": "one"})
    parent = reload(instance, lost)
    root = parent.root_run_id or parent.run_id
    group = {ROOT_RUN_ID_TAG: root, PARENT_RUN_ID_TAG: parent.run_id, WILL_RETRY_TAG: ""}
    return instance.create_run_for_job(
        nothing, tags={**parent.tags, **group}, root_run_id=root, parent_run_id=parent.run_id
    )


def finish_step(instance: dg.DagsterInstance, run: dg.DagsterRun, step: str) -> None:
    event = DagsterEvent(
        dg.DagsterEventType.STEP_SUCCESS.value,
        run.job_name,
        step_key=step,
        event_specific_data=StepSuccessData(duration_ms=1.0),
    )
    instance.report_dagster_event(event, run.run_id)


def die(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Find the process of a run gone, as the daemon does; whether Dagster retries it."""
    gone = replace(ProcessIdentity.here(os.getpid()), start="0")
    claim(instance, run.run_id, gone)
    assert run.run_id in reap_dead_runs(instance)
    again = reload(instance, run)
    assert again.status is dg.DagsterRunStatus.FAILURE
    assert will_be_retried(instance, again) is (again.tags[WILL_RETRY_TAG] == "true")
    return again.tags[WILL_RETRY_TAG] == "true"


def test_twice_without_progress_is_final(instance: dg.DagsterInstance) -> None:
    first = start(instance)
    assert die(instance, first)
    assert not die(instance, start(instance, first))


def test_a_run_is_resumed_for_as_long_as_it_makes_progress(instance: dg.DagsterInstance) -> None:
    run = start(instance)
    for number in range(6):
        finish_step(instance, run, f"step {number}")
        assert die(instance, run)
        run = start(instance, run)
    # A step that the group had finished already is no progress.
    finish_step(instance, run, "step 0")
    assert die(instance, run)
    run = start(instance, run)
    assert not die(instance, run)


def test_one_death_without_progress_between_others_is_forgotten(
    instance: dg.DagsterInstance,
) -> None:
    run = start(instance)
    for number in range(3):
        assert die(instance, run)
        run = start(instance, run)
        finish_step(instance, run, f"step {number}")
        assert die(instance, run)
        run = start(instance, run)


def test_the_health_check_notes_progress_before_the_run_is_failed(
    instance: dg.DagsterInstance,
) -> None:
    first = start(instance)
    assert die(instance, first)
    run = start(instance, first)
    finish_step(instance, run, "new")
    claim(instance, run.run_id, ProcessIdentity.here(os.getpid()))
    instance.run_launcher.check_run_worker_health(reload(instance, run))
    # A worker that reports its own end: nobody looks at it again before.
    instance.report_run_failed(reload(instance, run))
    assert will_be_retried(instance, reload(instance, run))


@pytest.mark.parametrize("progress", [False, True])
def test_polite_stops_cost_no_retry(instance: dg.DagsterInstance, progress: bool) -> None:
    run = start(instance)
    for number in range(5):
        if progress:
            finish_step(instance, run, f"step {number}")
        allow_for_stop(instance, reload(instance, run))
        instance.report_run_failed(reload(instance, run))
        assert will_be_retried(instance, reload(instance, run))
        run = start(instance, run)
    assert die(instance, run)
    assert not die(instance, start(instance, run))


def test_noting_the_same_progress_again_changes_nothing(instance: dg.DagsterInstance) -> None:
    run = start(instance)
    finish_step(instance, run, "step")
    for _ in range(3):
        note_progress(instance, reload(instance, run))
    assert reload(instance, run).tags["dagster/max_retries"] == "2"


def test_only_runs_whose_process_lives_are_asked_to_stop(instance: dg.DagsterInstance) -> None:
    living, dead, foreign = (start(instance) for _ in range(3))
    claim(instance, living.run_id, ProcessIdentity.here(os.getpid()))
    claim(instance, dead.run_id, replace(ProcessIdentity.here(os.getpid()), start="0"))
    for run in (living, dead, foreign):
        event = DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
        instance.report_dagster_event(event, run.run_id)
    assert [run.run_id for run in living_runs(instance)] == [living.run_id]


# --- a retry that the daemon could not start --------------------------------------------------


def drop_retry(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """What the daemon does when the code server does not answer."""
    instance.report_engine_event(FAILED_RETRY_MESSAGE, reload(instance, run))
    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})


def test_a_retry_that_was_dropped_is_tried_again_until_there_is_one(
    instance: dg.DagsterInstance,
) -> None:
    lost = start(instance)
    assert die(instance, lost)
    assert retry_dropped(instance, LONG_AGO) == []
    drop_retry(instance, lost)
    assert retry_dropped(instance, LONG_AGO) == [lost.run_id]
    # The daemon reads the new failure, with this:
    assert reload(instance, lost).tags[WILL_RETRY_TAG] == "true"
    drop_retry(instance, lost)
    start(instance, lost)
    instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": "the retry"})
    assert retry_dropped(instance, LONG_AGO) == []


def test_a_dropped_retry_is_marked_before_the_daemon_can_read_of_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = start(instance)
    assert die(instance, lost)
    drop_retry(instance, lost)
    marks: list[str] = []
    store = instance.event_log_storage.store_event

    def read(event: Any) -> None:
        store(event)
        marks.append(reload(instance, lost).tags[WILL_RETRY_TAG])

    monkeypatch.setattr(instance.event_log_storage, "store_event", read)
    assert retry_dropped(instance, LONG_AGO) == [lost.run_id]
    assert set(marks) == {"true"}


def test_a_failure_that_the_daemon_overlooked_is_reported_again(
    instance: dg.DagsterInstance,
) -> None:
    overlooked, retried = start(instance), start(instance)
    assert die(instance, overlooked) and die(instance, retried)
    start(instance, retried)
    assert retry_dropped(instance, LONG_AGO) == []
    for attempt in range(MAX_START_ATTEMPTS):
        assert retry_dropped(instance, LONG_AGO, timedelta(0)) == [overlooked.run_id]
        assert will_be_retried(instance, reload(instance, overlooked)) is (attempt < 9)
    # Not for ever: Dagster has reasons of its own, such as a backfill that was cancelled.
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == []
    given_up = reload(instance, overlooked)
    assert given_up.tags[WILL_RETRY_TAG] == "false"
    assert not counts_as_run(instance, given_up)
    assert RunFollower(instance, overlooked.run_id, lambda event: None).finished_with_retries()


def test_a_retry_that_was_dropped_before_the_platform_was_down_for_long_is_tried_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor, since = dropped_retries_sensor(), []
    look = dropped_retries.retry_dropped
    monkeypatch.setattr(dropped_retries, "retry_dropped", lambda *a: since.append(a[1]) or look(*a))

    def tick(cursor: str | None) -> str | None:
        context = dg.build_sensor_context(instance, cursor=cursor)
        sensor(context)
        return context.cursor

    cursor = tick(None)
    lost = start(instance)
    assert die(instance, lost)
    drop_retry(instance, lost)
    clock = type("Later", (datetime,), {"now": lambda zone: datetime.now(zone) + 90 * DAY})
    monkeypatch.setattr(dropped_retries, "datetime", clock)
    after = tick(cursor)
    assert reload(instance, lost).tags[WILL_RETRY_TAG] == "true"
    # Not all failures of the lab at every look.
    tick(after)
    assert since[2] - since[1] >= 89 * DAY


def test_a_run_that_is_final_is_not_taken_for_dropped(instance: dg.DagsterInstance) -> None:
    first = start(instance)
    die(instance, first)
    second = start(instance, first)
    die(instance, second)
    assert retry_dropped(instance, LONG_AGO) == []


def test_a_retry_that_never_starts_is_given_up(instance: dg.DagsterInstance) -> None:
    lost = start(instance)
    die(instance, lost)
    for attempt in range(MAX_START_ATTEMPTS):
        assert will_be_retried(instance, reload(instance, lost)), attempt
        drop_retry(instance, lost)
        assert retry_dropped(instance, LONG_AGO) == [lost.run_id]
    assert not will_be_retried(instance, reload(instance, lost))
    assert retry_dropped(instance, LONG_AGO) == []
    drop_retry(instance, lost)
    assert retry_dropped(instance, LONG_AGO) == []


def made_and_lost(instance: dg.DagsterInstance, lost: dg.DagsterRun) -> dg.DagsterRun:
    """What the daemon leaves that is killed, or hits an error, before it submits the retry."""
    retry = start(instance, lost)
    instance.add_run_tags(retry.run_id, {RETRY_NUMBER_TAG: "1"})
    return retry


@pytest.mark.parametrize("end", ["killed at once", "killed", "error"])
def test_a_retry_that_was_made_and_not_submitted_is_submitted_by_the_daemon(
    instance: dg.DagsterInstance, end: str
) -> None:
    lost = start(instance)
    assert die(instance, lost)
    retry = made_and_lost(instance, lost)
    if end != "killed at once":
        instance.add_run_tags(lost.run_id, {AUTO_RETRY_RUN_ID_TAG: retry.run_id})
    if end == "error":
        drop_retry(instance, lost)
    assert retry_dropped(instance, LONG_AGO) == [], "the daemon may be about to submit it"
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == [lost.run_id]
    # What the daemon asks when it reads the failure that was reported, and what it then submits:
    asked = reload(instance, lost)
    assert should_retry(asked, instance)
    group = instance.get_run_group(lost.run_id)[1]
    submitted = get_automatically_retried_run_if_exists(instance, asked, group)
    assert submitted.run_id == retry.run_id
    launch(instance, submitted)
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == []
    assert not die(instance, retry), "it has used its try"


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    event = DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, run.job_name)
    instance.report_dagster_event(event, run.run_id)


def test_a_retry_that_failed_unsubmitted_costs_no_try(instance: dg.DagsterInstance) -> None:
    lost = start(instance)
    assert die(instance, lost)
    unsubmitted = made_and_lost(instance, lost)
    # Dagster's run monitoring, five minutes later.
    instance.report_run_failed(unsubmitted, "Run timed out due to taking longer than 300 seconds")
    assert reload(instance, unsubmitted).tags[WILL_RETRY_TAG] == "false"
    assert will_be_retried(instance, reload(instance, unsubmitted))
    assert counts_as_run(instance, reload(instance, unsubmitted))
    assert retry_dropped(instance, LONG_AGO) == [unsubmitted.run_id]
    assert should_retry(reload(instance, unsubmitted), instance)
    assert retry_dropped(instance, LONG_AGO) == [], "it is the daemon's turn"
    again = start(instance, unsubmitted)
    launch(instance, again)
    assert not die(instance, again), "it has used its try"
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == []


def test_a_retry_that_is_never_submitted_is_given_up(instance: dg.DagsterInstance) -> None:
    lost = start(instance)
    assert die(instance, lost)
    unsubmitted = made_and_lost(instance, lost)
    for _ in range(MAX_START_ATTEMPTS):
        assert retry_dropped(instance, LONG_AGO, timedelta(0)) == [lost.run_id]
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == []
    for _ in range(MAX_START_ATTEMPTS + 1):
        instance.report_run_failed(unsubmitted, "Run timed out")
    assert not will_be_retried(instance, reload(instance, unsubmitted))
    assert retry_dropped(instance, LONG_AGO, timedelta(0)) == []


def test_a_retry_that_is_made_while_one_asks_for_it_counts(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = start(instance)
    assert die(instance, lost)
    decide = retries.auto_reexecution_should_retry_run

    def late(*arguments: Any) -> bool:
        start(instance, lost)
        return decide(*arguments)

    monkeypatch.setattr(retries, "auto_reexecution_should_retry_run", late)
    assert will_be_retried(instance, reload(instance, lost))


def test_a_dead_run_counts_as_none_and_a_failed_one_as_one(instance: dg.DagsterInstance) -> None:
    dead, lost, dropped = (start(instance) for _ in range(3))
    claim(instance, dead.run_id, replace(ProcessIdentity.here(os.getpid()), start="0"))
    assert not counts_as_run(instance, reload(instance, dead))
    assert die(instance, lost)
    assert counts_as_run(instance, reload(instance, lost))
    assert die(instance, dropped)
    for _ in range(MAX_START_ATTEMPTS + 1):
        drop_retry(instance, dropped)
    assert not counts_as_run(instance, reload(instance, dropped))
    final = start(instance, lost)
    assert not die(instance, final)
    assert counts_as_run(instance, reload(instance, final))


# --- publish ------------------------------------------------------------------------------------


def test_publish_waits_while_process_is_going_to_be_retried(instance: dg.DagsterInstance) -> None:
    job = dg.define_asset_job("process")
    (sensor,) = [s for s in publish_sensors(job, job) if s.name == "publish_after_failure"]

    def ask(run: dg.DagsterRun) -> object:
        event = DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name)
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=reload(instance, run),
        )
        return sensor(context)

    instance.add_dynamic_partitions(SET_NAME, ["one"])
    first = start(instance)
    assert die(instance, first)
    assert isinstance(ask(first), dg.SkipReason)
    second = start(instance, first)
    assert isinstance(ask(first), dg.SkipReason)
    assert not die(instance, second)
    request = ask(second)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "one"
    instance.delete_dynamic_partition(SET_NAME, "one")
    skipped = ask(second)
    assert isinstance(skipped, dg.SkipReason)
    assert f"one was renamed after its run {second.run_id}" in str(skipped.skip_message)


def test_an_end_is_judged_only_when_dagster_has_written_it_down(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(instance)
    finished: list[dg.DagsterRun] = []
    # The event of the end was seen; status, reason and decision follow.
    monkeypatch.setattr(retries.time, "sleep", lambda _: finished.append(fail_in_step()))

    def fail_in_step() -> dg.DagsterRun:
        data = JobFailureData(error=None, failure_reason=RunFailureReason.STEP_FAILURE)
        instance.report_run_failed(reload(instance, run), job_failure_data=data)
        return reload(instance, run)

    assert not will_be_retried(instance, settled(instance, run))
    assert len(finished) == 1


def test_who_waits_for_a_retry_hears_that_the_platform_was_stopped(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, messages, later = start(instance), [], []
    assert die(instance, lost)
    monkeypatch.setattr(runs, "load_job", lambda *_: None)
    monkeypatch.setattr(runs, "create_run", lambda *_: lost)
    monkeypatch.setattr(instance, "submit_run", lambda *_: None)
    monkeypatch.setattr(execution, "daemon_alive", lambda _: bool(later))

    def next_up(_: float) -> None:
        later.append(start(instance, lost))
        instance.report_run_canceled(later[0])

    monkeypatch.setattr(execution.time, "sleep", next_up)
    request, location = Request("nothing", None, {}, None), CodeLocation()
    result = execution._in_daemon(instance, location, request, lambda event: None, messages.append)
    assert result is not None and (result.run_id, result.status) == (later[0].run_id, "CANCELED")
    (stopped,) = messages[1:]
    assert lost.run_id in stopped and "next `neuro-assets up`" in stopped


def test_ctrl_c_ends_the_wait_for_a_run_of_the_daemon(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, messages = start(instance), []
    monkeypatch.setattr(runs, "load_job", lambda *_: None)
    monkeypatch.setattr(runs, "create_run", lambda *_: run)
    monkeypatch.setattr(instance, "submit_run", lambda *_: None)
    monkeypatch.setattr(execution, "daemon_alive", lambda _: True)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution.time, "sleep", interrupt)
    request, location = Request("nothing", None, {}, None), CodeLocation()
    result = execution._in_daemon(instance, location, request, lambda event: None, messages.append)
    assert result is not None and result.stopped and not result
    assert messages[1].startswith(f"no longer waiting; run {run.run_id} goes on")


def failure_was_read(instance: dg.DagsterInstance) -> bool:
    """Whether the daemon has dealt with the only failure."""
    failed = dg.DagsterEventType.RUN_FAILURE
    events = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        after_cursor=0, dagster_event_type={failed}
    )
    cursor = _create_cursor_key(failed)
    read = instance.daemon_cursor_storage.get_cursor_values({cursor}).get(cursor, "0")
    return bool(events) and int(read) >= max(events)


@pytest.mark.integration
@pytest.mark.slow
def test_a_worker_and_a_code_server_that_are_killed_together_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("number: 1\n")
    home = tools.quick_home(tmp_path)
    follower = None
    up = tools.start_up(tmp_path, tools.free_port())
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions("tiny", ["one"])
            tools.until(lambda: "is up" in tools.log(tmp_path, "up.log"), "up")
            follower = tools.start_execute(
                tmp_path, "'chain', 'one', selection=['slow', 'last']", "run.log"
            )
            (slow,) = tools.until(lambda: tools.lines(tmp_path, "slow"), "the step in progress")
            # The code server stays away until the daemon has read of the failure: it gives the
            # retry up, or overlooks it.
            up.send_signal(signal.SIGSTOP)
            server = next(
                m for m in tools.family(up.pid) if "code-server start" in " ".join(m.cmdline())
            )
            tools.kill_family(server.pid)
            tools.until(lambda: failure_was_read(instance), "the daemon reads of the failure")
            lost = instance.get_run_by_id(slow["run"])
            assert lost is not None
            assert next_run(instance, lost) is None
            (tmp_path / "go").touch()
            up.send_signal(signal.SIGCONT)
            assert follower.wait() == 0
            retried = tools.lines(tmp_path, "slow")[-1]["run"]
            assert retried != slow["run"]
            assert f"RESULT {retried} SUCCESS True" in tools.log(tmp_path, "run.log")
    finally:
        for process in (up, follower):
            if process is not None:
                tools.kill_family(process.pid)
                process.wait()
