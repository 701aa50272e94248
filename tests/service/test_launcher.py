"""Is the process of a run alive? Runs killed with the machine are found, freed and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psutil
import pytest
import service_tools as tools
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from instances import watched_instance

from neuro_assets.executors import process_identity
from neuro_assets.executors.launcher import (
    WORKER_TAG,
    claim,
    claimed_by,
    reap_dead_runs,
    worker_of,
)
from neuro_assets.executors.process_identity import (
    Liveness,
    ProcessIdentity,
    existed_at,
    process_start,
)

_SLEEPER = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    # A child inherits which signals its parent ignores or blocks: those of whatever ran the tests.
    with subprocess.Popen([sys.executable, "-c", _SLEEPER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with watched_instance({"concurrency": {"pools": {"default_limit": 1}}}) as instance:
        yield instance


def new_run(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    @dg.job
    def nothing() -> None: ...

    return instance.create_run_for_job(nothing, tags=tags)


def reload(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    again = instance.get_run_by_id(run.run_id)
    assert again is not None
    return again


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    return instance.run_launcher.check_run_worker_health(reload(instance, run)).status


# --- the identity of a process -------------------------------------------------------------


def test_a_running_process_is_alive_and_a_killed_one_is_gone_also_as_a_zombie(
    sleeper: subprocess.Popen[bytes],
) -> None:
    who = ProcessIdentity.here(sleeper.pid)
    assert who.liveness() is Liveness.ALIVE
    sleeper.kill()
    # Nobody has waited for it yet: the process number still exists.
    tools.until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, "zombie")
    assert who.liveness() is Liveness.GONE
    sleeper.wait()
    assert who.liveness() is Liveness.GONE
    assert ProcessIdentity.here(sleeper.pid).liveness() is Liveness.GONE


def test_another_process_with_the_same_number_is_not_the_one_that_was_meant(
    sleeper: subprocess.Popen[bytes],
) -> None:
    who = ProcessIdentity.here(sleeper.pid)
    assert replace(who, start=process_start(os.getpid())).liveness() is Liveness.GONE
    assert replace(who, pid=os.getpid()).liveness() is Liveness.GONE


def test_after_a_restart_of_the_machine_every_earlier_process_is_gone(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    who = ProcessIdentity.here(sleeper.pid)
    starting = ProcessIdentity.here()
    assert starting.liveness() is Liveness.UNKNOWN
    monkeypatch.setattr(process_identity, "boot_id", lambda: "the next boot")
    assert who.liveness() is Liveness.GONE
    assert starting.liveness() is Liveness.GONE


def test_nothing_is_said_of_a_process_on_another_machine(
    sleeper: subprocess.Popen[bytes],
) -> None:
    who = replace(ProcessIdentity.here(sleeper.pid), host="rig-2", boot="its boot")
    assert who.liveness() is Liveness.UNKNOWN


def test_a_container_that_got_a_new_name_on_the_same_machine_is_judged(
    sleeper: subprocess.Popen[bytes],
) -> None:
    who = replace(ProcessIdentity.here(sleeper.pid), host="the-container-before")
    assert who.liveness() is Liveness.ALIVE
    assert replace(who, start="1").liveness() is Liveness.GONE


def test_the_start_time_is_the_one_that_the_kernel_counts_in_ticks() -> None:
    start = process_start(os.getpid())
    assert start is not None
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc on this system")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - int(start) / os.sysconf("SC_CLK_TCK")
    assert age == pytest.approx(
        time.time() - psutil.Process().create_time(),
        abs=2,
    )


def test_an_identity_survives_json() -> None:
    who = ProcessIdentity.here(os.getpid())
    assert ProcessIdentity.from_json(who.to_json()) == who


def test_a_process_that_is_younger_than_the_report_is_another_one() -> None:
    born = psutil.Process().create_time()
    assert existed_at(os.getpid(), born + 1)
    assert not existed_at(os.getpid(), born - 3600)
    assert not existed_at(2**22 + 1, born)


# --- the health of a run -------------------------------------------------------------------


def test_the_health_of_a_run_is_the_health_of_its_process(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    run = new_run(instance)
    claim(instance, run.run_id, ProcessIdentity.here(sleeper.pid))
    assert health(instance, run) is WorkerStatus.RUNNING
    sleeper.kill()
    sleeper.wait()
    assert health(instance, run) is WorkerStatus.FAILED


def test_a_retried_run_is_not_taken_for_dead_because_its_parent_is(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    parent = new_run(instance)
    claim(instance, parent.run_id, ProcessIdentity.here(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    child = new_run(instance, tags={WORKER_TAG: reload(instance, parent).tags[WORKER_TAG]})
    assert health(instance, parent) is WorkerStatus.FAILED
    assert claimed_by(reload(instance, child)) is None
    assert health(instance, child) is WorkerStatus.RUNNING


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"host": "localhost", "socket": "/run/code.sock"}, WorkerStatus.FAILED),
        ({"host": "localhost", "port": 4000}, WorkerStatus.FAILED),
        ({"host": "code.lab.example", "port": 4000}, WorkerStatus.RUNNING),
    ],
)
def test_only_runs_of_a_code_server_on_this_machine_are_judged(
    instance: dg.DagsterInstance, info: dict[str, object], expected: WorkerStatus
) -> None:
    run = new_run(instance, tags={GRPC_INFO_TAG: json.dumps(info)})
    claim(instance, run.run_id, replace(ProcessIdentity.here(os.getpid()), start="0"))
    assert health(instance, run) is expected


def test_a_claim_left_unfinished_is_completed_from_what_the_process_reported(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    """The daemon can be killed between the start of a run and the look at its process."""
    from dagster._core.events import EngineEventData

    run = new_run(instance)
    claim(instance, run.run_id, ProcessIdentity.here())
    assert health(instance, run) is WorkerStatus.RUNNING
    instance.report_engine_event("Started process", run, EngineEventData.in_process(sleeper.pid))
    worker = worker_of(instance, reload(instance, run))
    assert worker == ProcessIdentity.here(sleeper.pid)
    assert claimed_by(reload(instance, run)) == worker
    sleeper.kill()
    sleeper.wait()
    assert health(instance, run) is WorkerStatus.FAILED


def test_a_run_whose_process_died_before_anybody_looked_is_found(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    from dagster._core.events import EngineEventData

    run = new_run(instance)
    claim(instance, run.run_id, ProcessIdentity.here())
    instance.report_engine_event("Started process", run, EngineEventData.in_process(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    assert health(instance, run) is WorkerStatus.FAILED


def test_reaping_fails_dead_runs_only_and_frees_their_slots(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    storage = instance.event_log_storage
    dead, living, foreign, starting = (new_run(instance) for _ in range(4))
    claim(instance, dead.run_id, replace(ProcessIdentity.here(sleeper.pid), start="0"))
    claim(instance, living.run_id, ProcessIdentity.here(sleeper.pid))
    claim(instance, starting.run_id, ProcessIdentity.here())
    storage.initialize_concurrency_limit_to_default("heavy")
    assert storage.claim_concurrency_slot("heavy", dead.run_id, "sorting").is_claimed
    assert not storage.claim_concurrency_slot("heavy", living.run_id, "sorting").is_claimed

    assert reap_dead_runs(instance) == [dead.run_id]
    assert reload(instance, dead).status is dg.DagsterRunStatus.FAILURE
    for run in (living, foreign, starting):
        assert reload(instance, run).status is dg.DagsterRunStatus.NOT_STARTED
    assert storage.claim_concurrency_slot("heavy", living.run_id, "sorting").is_claimed


def test_terminating_signals_the_process_where_no_code_server_knows_the_run(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[bytes]
) -> None:
    run = new_run(instance)
    claim(instance, run.run_id, ProcessIdentity.here(sleeper.pid))
    assert instance.run_launcher.terminate(run.run_id)
    assert sleeper.wait(timeout=60) == -15
    assert reload(instance, run).status is dg.DagsterRunStatus.CANCELING
    assert not instance.run_launcher.terminate(run.run_id)


# --- processes that outlive the one that started them ---------------------------------------

_PARENT = """
import multiprocessing as mp, sys, time
from neuro_assets.parent_watchdog import end_with_parent

def child(cleaned, stubborn):
    import signal
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    assert end_with_parent(grace_s=1)
    try:
        print(mp.current_process().pid, flush=True)
        time.sleep(600)
    finally:
        open(cleaned, "w").close()

if __name__ == "__main__":
    assert not end_with_parent()
    arguments = (sys.argv[2], sys.argv[3] == "1")
    process = mp.get_context(sys.argv[1]).Process(target=child, args=arguments)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_step_ends_with_the_process_of_its_run(
    tmp_path: Path, method: str, stubborn: bool
) -> None:
    program, cleaned = tmp_path / "parent.py", tmp_path / "cleaned"
    program.write_text(_PARENT)
    command = [sys.executable, str(program), method, str(cleaned), str(int(stubborn))]
    env = tools.environment(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    tools.until(lambda: not child.is_running() or child.status() == "zombie", "end of the child")
    assert cleaned.exists() is not stubborn


# --- the whole of it ------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.slow
def test_a_run_that_was_killed_with_everything_is_found_freed_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("number: 1\n")
    home = tools.quick_home(tmp_path)
    follower = None
    up = tools.start_up(tmp_path, tools.free_port())
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions("tiny", ["one"])
            tools.until(lambda: "is up" in tools.log(tmp_path, "up.log"), "up")
            follower = tools.start_execute(tmp_path, "'chain', 'one'", "run.log")
            (slow,) = tools.until(lambda: tools.lines(tmp_path, "slow"), "the step in progress")
            slots = instance.event_log_storage.get_concurrency_info("heavy")
            assert slots.active_run_ids == {slow["run"]}
            run = instance.get_run_by_id(slow["run"])
            assert run is not None
            worker = worker_of(instance, run)
            assert worker is not None

            killed = tools.kill_family(up.pid)
            up.wait()
            assert worker.pid in killed
            assert slow["pid"] in killed
            run = instance.get_run_by_id(slow["run"])
            assert run is not None
            assert run.status is dg.DagsterRunStatus.STARTED

            # The retry goes on with the configuration that its run began with.
            (tmp_path / "lab.yaml").write_text("number: 2\n")
            up = tools.start_up(tmp_path, tools.free_port())
            tools.until(
                lambda: instance.get_run_by_id(slow["run"]).status is dg.DagsterRunStatus.FAILURE,  # type: ignore[union-attr]
                "the dead run is found",
            )
            second = tools.until(
                lambda: tools.lines(tmp_path, "slow")[1:], "the step is executed again"
            )
            assert second[0]["run"] != slow["run"]
            slots = instance.event_log_storage.get_concurrency_info("heavy")
            assert slots.active_run_ids == {second[0]["run"]}
            (tmp_path / "go").touch()
            assert follower.wait() == 0
            # Resumed, not started again: what was done stays done.
            assert len(tools.lines(tmp_path, "first")) == 1
            assert [line["text"] for line in tools.lines(tmp_path, "last")] == ["number: 1\n"]
            assert f"RESULT {second[0]['run']} SUCCESS True" in tools.log(tmp_path, "run.log")
            retried = instance.get_run_by_id(second[0]["run"])
            assert retried is not None
            assert retried.parent_run_id == slow["run"]
    finally:
        for process in (up, follower):
            if process is not None:
                tools.kill_family(process.pid)
                process.wait()
