"""Home folder, supervision and execution on one machine."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psutil
import pytest
import service_tools as tools
import yaml

from neuro_assets.executors.frozen_config import loaded_config
from neuro_assets.executors.launcher import claimed_by
from neuro_assets.executors.multiprocess import PRELOAD, multiprocess_config
from neuro_assets.executors.process_identity import Liveness
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service import (
    CodeLocation,
    RunResult,
    child_process,
    daemon_alive,
    execution,
    prepare_home,
    prepared_worker,
    supervisor,
    up,
)
from neuro_assets.service import home as homes
from neuro_assets.service.runs import Request, create_run, load_job


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and deleted again, so that what a test sets is undone after it.
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")


# --- the home -------------------------------------------------------------------------------


def test_a_home_is_made_in_the_folder_of_the_lab_and_named_to_all_children(tmp_path: Path) -> None:
    home = prepare_home(tmp_path)
    assert home == tmp_path / ".dagster_home"
    assert homes.child_environment(home)["DAGSTER_HOME"] == str(home)
    assert "WatchedRunLauncher" in (home / "dagster.yaml").read_text()


def test_an_empty_entry_of_the_python_path_does_not_bring_the_working_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/libraries{os.pathsep}")
    folders = homes.child_environment(tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert folders == [str(tmp_path), "/libraries"]


def test_each_lab_has_its_own_home_also_in_one_process(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert prepare_home(tmp_path / name) == tmp_path / name / ".dagster_home"


def test_the_home_of_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    assert prepare_home(tmp_path) == tmp_path / "elsewhere"


@pytest.mark.parametrize(("cores", "runs"), [(1, 1), (2, 1), (15, 1), (16, 2), (64, 8)])
def test_the_number_of_runs_fits_the_cores(cores: int, runs: int) -> None:
    config = yaml.safe_load(homes.instance_yaml(cores))
    assert config["concurrency"]["runs"]["max_concurrent_runs"] == runs


def test_an_unchanged_file_is_renewed_and_a_changed_one_is_left_alone(tmp_path: Path) -> None:
    path = prepare_home(tmp_path, cores=2) / "dagster.yaml"
    prepare_home(tmp_path, cores=32)
    assert "max_concurrent_runs: 4" in path.read_text()
    ours = path.read_text()
    path.write_text(ours.replace("max_retries: 1", "max_retries: 7"))
    prepare_home(tmp_path, cores=2)
    assert "max_retries: 7" in path.read_text()
    assert "max_concurrent_runs: 4" in path.read_text()


def test_a_file_that_a_person_wrote_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".dagster_home" / "dagster.yaml"
    path.parent.mkdir()
    path.write_text("telemetry: {enabled: false}\n")
    prepare_home(tmp_path)
    assert path.read_text() == "telemetry: {enabled: false}\n"


def test_several_first_commands_of_a_lab_make_its_databases_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
if sys.argv[2] == "dagster":
    import dagster
from neuro_assets.service import prepare_home
print("ready", flush=True)
sys.stdin.readline()
home = prepare_home(Path(sys.argv[1]))
assert ("dagster" in sys.modules) == (sys.argv[2] == "dagster"), "it stays small"
from dagster import DagsterInstance
with DagsterInstance.from_config(str(home)) as instance:
    instance.get_runs(limit=1)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    kinds = ("dagster", "dagster", "small")
    children = [subprocess.Popen([*command, kind], text=True, **pipes) for kind in kinds]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children if child.wait()] == []


def test_a_home_that_dagster_cannot_open_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ".dagster_home" / "dagster.yaml"
    path.parent.mkdir()
    path.write_text("no_such_field: 1\n")
    code = (
        "import sys, pathlib, neuro_assets.service as s; s.prepare_home(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert "cannot be made" in last and "correct dagster.yaml" in last


@pytest.mark.parametrize("name", ["short", "x" * 120])
def test_the_socket_of_the_code_server_has_a_path_that_the_system_takes(
    tmp_path: Path, name: str
) -> None:
    home = tmp_path / name
    home.mkdir()
    path = homes.socket_path(home)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert path.parent.is_dir()
    if len(name) > 100:
        assert path.parent.stat().st_mode & 0o077 == 0


def test_the_workspace_names_the_socket_whatever_its_path_holds(tmp_path: Path) -> None:
    odd = tmp_path / "a: #b 'ü"
    path = homes.write_workspace(tmp_path, CodeLocation(), odd)
    (entry,) = yaml.safe_load(path.read_text())["load_from"]
    assert entry["grpc_server"] == {"socket": str(odd), "location_name": "neuro_assets"}


def test_a_lock_is_held_by_one_and_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not homes.is_held(path)
    code = (
        "import sys, time; from pathlib import Path; from neuro_assets.service.home import hold\n"
        "with hold(Path(sys.argv[1])) as lock:\n"
        "    print(lock is not None, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=tools.environment(tmp_path)
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert homes.is_held(path)
        with homes.hold(path) as lock:
            assert lock is None
        holder.kill()
    assert not homes.is_held(path)


def test_asking_whether_a_lock_is_held_never_keeps_another_from_taking_it(tmp_path: Path) -> None:
    path, stop, errors = tmp_path / "a.lock", threading.Event(), []
    path.touch()

    def ask() -> None:
        while not stop.is_set():
            homes.is_held(path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for _ in range(300):
        with homes.hold(path) as lock:
            errors += [lock is None]
    stop.set()
    for asker in askers:
        asker.join()
    assert not any(errors)


def test_a_process_that_inherits_a_lock_holds_it_too(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = [sys.executable, "-c", "input()"]
    with homes.hold(path) as lock:
        assert lock is not None
        heir = subprocess.Popen(code, stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    assert homes.is_held(path)
    heir.communicate(b"\n")
    assert not homes.is_held(path)


def test_a_log_that_has_grown_too_large_is_put_aside_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "_MAX_LOG_BYTES", 10)
    path = homes.log_file(tmp_path, "daemon")
    with path.open("ab", buffering=0) as log:
        log.write(b"the first eleven and more\n")
        assert homes.log_file(tmp_path, "daemon") == path
        log.write(b"next\n")
    assert path.read_bytes() == b"next\n"
    assert (tmp_path / "logs" / "daemon.log.1").read_bytes() == b"the first eleven and more\n"


def test_the_supervisor_stays_small() -> None:
    """It lives as long as the platform; the command line imports this package, too."""
    code = "import sys, neuro_assets.service; print([m for m in sys.modules if m == 'dagster'])"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert output == b"[]\n"


# --- up refuses ------------------------------------------------------------------------------


def test_a_second_up_says_where_the_first_one_is(tmp_path: Path) -> None:
    home = prepare_home(tmp_path)
    with homes.hold(home / homes.UP_LOCK) as lock:
        assert lock is not None
        homes.write_state(lock, {"pid": 17, "url": "http://127.0.0.1:3000"})
        with pytest.raises(PermanentFailure, match="up already.*127.0.0.1:3000.*17"):
            up(3001, workdir=tmp_path)


def test_a_port_that_is_taken_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PermanentFailure, match=f"port {port} is not free.*--port"):
            up(port, workdir=tmp_path)
    assert not homes.is_held(tmp_path / ".dagster_home" / homes.UP_LOCK)


def test_definitions_that_end_their_process_are_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an exception, which Dagster shows in the user interface: an end of the process."""
    monkeypatch.setattr(
        supervisor,
        "_code_server",
        lambda *_: ["timeit", "-n1", "-r1", "-s", "import sys; sys.exit('no such library')"],
    )
    # Whatever the process had before: Dagster's own tools install one too.
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PermanentFailure, match="code-server ended at its start(?s:.*)no such lib"):
        up(tools.free_port(), workdir=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_code_server_without_its_inner_process_is_ended_and_one_that_still_imports_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals: list[int] = []
    inner: list[str] = []
    monkeypatch.setattr(supervisor, "living", lambda _: inner)
    watched: Any = object.__new__(supervisor._Supervisor)
    watched._code = SimpleNamespace(pid=os.getpid(), signal=signals.append)
    watched._has_inner_code, watched._lost_code_polls = False, 0

    def look(times: int) -> None:
        for _ in range(times):
            watched._watch_code()

    look(10 * supervisor._LOST_CODE_POLLS)
    assert signals == []
    inner.append("it")
    look(1)
    inner.clear()
    look(supervisor._LOST_CODE_POLLS - 1)
    assert signals == []
    look(1)
    assert signals == [signal.SIGKILL]


def test_a_full_disk_is_reported_once_and_does_not_end_the_platform() -> None:
    reports: list[str] = []
    errors = iter([OSError(errno.ENOSPC, "No space left on device")] * 3)
    watched: Any = object.__new__(supervisor._Supervisor)
    watched._report, watched._trouble = reports.append, ""

    def watch() -> None:
        for error in errors:
            raise error

    watched._watch = watch
    for _ in range(5):
        watched._watch_on()
    assert len(reports) == 1 and "No space left on device" in reports[0]
    assert watched._trouble == ""


def test_what_a_killed_up_left_behind_is_ended_and_a_stranger_is_not(tmp_path: Path) -> None:
    from neuro_assets.executors.process_identity import ProcessIdentity

    code = "import time; time.sleep(600)"
    left, stranger = (subprocess.Popen([sys.executable, "-c", code]) for _ in range(2))
    try:
        mine = ProcessIdentity.here(left.pid)
        reused = ProcessIdentity(mine.host, mine.boot, stranger.pid, mine.start + "0")  # type: ignore[operator]
        said: list[str] = []
        children = {"daemon": mine.to_json(), "webserver": reused.to_json()}
        child_process.end_leftovers(children, said.append)
        left.wait()
        assert stranger.poll() is None
        assert len(said) == 1
        assert "daemon" in said[0]
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


# --- is a daemon alive? ----------------------------------------------------------------------


def test_a_daemon_is_alive_while_up_holds_its_lock_or_heartbeats_are_fresh(tmp_path: Path) -> None:
    from dagster._daemon.types import DaemonHeartbeat

    home = prepare_home(tmp_path)
    with dg.DagsterInstance.from_config(str(home)) as instance:

        def beat(age_s: float) -> None:
            instance.add_daemon_heartbeat(
                DaemonHeartbeat(time.time() - age_s, "QUEUED_RUN_COORDINATOR", "id", [])
            )

        assert not daemon_alive(instance)
        with homes.hold(home / homes.UP_LOCK):
            assert daemon_alive(instance)
        assert not daemon_alive(instance)
        beat(10)
        assert daemon_alive(instance)
        beat(200)
        assert not daemon_alive(instance)


# --- the executor ----------------------------------------------------------------------------


def test_the_executor_takes_its_configuration() -> None:
    config = multiprocess_config(3)
    assert dg.multiprocess_executor.configured(config)
    assert config["max_concurrent"] == 3
    preload = config["start_method"]["forkserver"]["preload_modules"]
    assert preload == ["dagster", "neuro_assets.executors.preload", "neuro_assets.definitions"]


_FORK_SERVER = """
import json, multiprocessing as mp, os, sys
from pathlib import Path

def look(queue):
    status = Path(f"/proc/{os.getppid()}/status").read_text()
    loaded = [name for name in sys.argv[1:] if name in sys.modules]
    queue.put([int(status.partition("Threads:")[2].split()[0]), loaded])

if __name__ == "__main__":
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(sys.argv[1:])
    queue = context.SimpleQueue()
    process = context.Process(target=look, args=(queue,))
    process.start()
    print(json.dumps(queue.get()))
    process.join()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts threads in /proc")
def test_the_fork_server_has_one_thread_after_the_preload(tmp_path: Path) -> None:
    """A thread, or CUDA, that is forked hangs the step. Imports that fail are dropped silently."""
    modules = [name for name in PRELOAD if tools.importable(name)]
    assert len(modules) >= 2
    program = tmp_path / "fork.py"
    program.write_text(_FORK_SERVER)
    output = subprocess.run(
        [sys.executable, str(program), *modules],
        check=True,
        capture_output=True,
        env=tools.environment(tmp_path),
    ).stdout
    threads, loaded = json.loads(output)
    assert loaded == modules
    assert threads == 1


# --- execution -------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab.yaml").write_text("number: 1\n")
    home = tools.quick_home(tmp_path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("tiny", ["one"])
    return tmp_path


def result_of(lab: Path, log: str) -> list[str]:
    (line,) = [x for x in tools.log(lab, log).splitlines() if x.startswith("RESULT")]
    return line.split()


def runs(lab: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(lab / ".dagster_home")) as instance:
        return list(instance.get_runs())


def slots(lab: Path) -> set[str]:
    with dg.DagsterInstance.from_config(str(lab / ".dagster_home")) as instance:
        return set(instance.event_log_storage.get_concurrency_info("heavy").active_run_ids)


def test_a_result_is_true_only_if_the_run_succeeded() -> None:
    assert RunResult("id", "SUCCESS", in_daemon=False)
    assert not RunResult("id", "CANCELED", in_daemon=False)
    assert not RunResult("id", "STARTED", in_daemon=True)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("chains", "one", {}, None), "no job 'chains'; there are .*chain"),
        (Request("chain", "two", {}, None), "'two' is not a registered recording"),
        (Request("chain", "one", {}, ["first", "lsat"]), "no asset lsat"),
    ],
)
def test_what_does_not_exist_is_named(
    lab: Path, monkeypatch: pytest.MonkeyPatch, request_: Request, message: str
) -> None:
    monkeypatch.setenv("TINY_LAB", str(lab))
    # While it imports, Dagster drops the first folder of the path: the one of the tests.
    importlib.import_module("tiny_lab")
    location = CodeLocation("tiny_lab", "defs", "tiny")
    with dg.DagsterInstance.from_config(str(lab / ".dagster_home")) as instance:
        with pytest.raises(PermanentFailure, match=message):
            create_run(instance, load_job(location, request_.job), request_)
        assert instance.get_runs_count() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_stop_signal_interrupts_and_is_given_back_as_it_was(number: signal.Signals) -> None:
    """Also SIGINT where it is ignored, as in the background jobs of a shell; SIGHUP stays so."""
    handler = signal.SIG_DFL if number is signal.SIGHUP else signal.SIG_IGN
    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt), execution._interruptible():
            signal.raise_signal(number)
        assert signal.getsignal(number) is handler
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with execution._interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(number, before)


@pytest.mark.integration
def test_an_interrupted_run_cleans_up_and_is_cancelled(lab: Path) -> None:
    """Here a background job of a shell, which has SIGINT ignored."""
    process = tools.start_execute(lab, "'chain', 'one'", "run.log", shell=True)
    tools.until(lambda: tools.lines(lab, "slow"), "the step in progress")
    assert len(slots(lab)) == 1
    members = tools.family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert result_of(lab, "run.log")[2] == "CANCELED"
    (run,) = runs(lab)
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert len(tools.lines(lab, "slow_cleaned")) == 1
    assert slots(lab) == set()
    _gone, alive = psutil.wait_procs(members, timeout=30)
    assert alive == []


@pytest.mark.integration
@pytest.mark.slow
def test_after_a_killed_command_the_next_one_frees_the_slot_and_succeeds(lab: Path) -> None:
    first = tools.start_execute(lab, "'chain', 'one'", "first.log")
    (slow,) = tools.until(lambda: tools.lines(lab, "slow"), "the step in progress")
    members = tools.kill_family(first.pid)
    first.wait()
    assert slow["pid"] in members
    assert slots(lab) == {slow["run"]}
    (lab / "go").touch()
    second = tools.start_execute(lab, "'chain', 'one'", "second.log")
    assert second.wait() == 0
    assert f"run {slow['run']} was killed earlier" in tools.log(lab, "second.log")
    assert result_of(lab, "second.log")[2] == "SUCCESS"
    states = {run.run_id: run.status.value for run in runs(lab)}
    assert states[slow["run"]] == "FAILURE"


@pytest.mark.integration
@pytest.mark.slow
def test_two_commands_in_one_home_take_turns_and_a_lost_command_ends_its_run(lab: Path) -> None:
    first = tools.start_execute(lab, "'chain', 'one'", "first.log")
    (slow,) = tools.until(lambda: tools.lines(lab, "slow"), "the step in progress")
    tags = {"neuro/force": "true"}
    second = tools.start_execute(lab, f"'chain', 'one', {tags}, ['first']", "second.log")
    tools.until(lambda: "waiting for its end" in tools.log(lab, "second.log"), "the second waits")
    assert len(runs(lab)) == 1
    # Only the command, not what it started: nothing of its run goes on.
    step = psutil.Process(slow["pid"])
    first.kill()
    first.wait()
    assert second.wait() == 0
    # Without a daemon the command executes the job itself: one key, what was selected, its tags.
    (mine,) = [run for run in runs(lab) if run.run_id != slow["run"]]
    assert result_of(lab, "second.log")[1:] == [mine.run_id, "SUCCESS", "False"]
    assert (mine.tags["dagster/partition"], mine.tags["neuro/force"]) == ("one", "true")
    assert [x["run"] for x in tools.lines(lab, "first")] == [slow["run"], mine.run_id]
    assert len(tools.lines(lab, "slow")) == 1
    with dg.DagsterInstance.from_config(str(lab / ".dagster_home")) as instance:
        (made,) = instance.fetch_materializations(dg.AssetKey("first"), limit=1).records
    assert (made.run_id, made.partition_key) == (mine.run_id, "one")
    assert not step.is_running() or step.status() == psutil.STATUS_ZOMBIE
    assert len(tools.lines(lab, "slow_cleaned")) == 1
    states = {run.run_id: run.status.value for run in runs(lab)}
    assert states[slow["run"]] == "FAILURE"


@pytest.mark.integration
def test_one_worker_executes_one_run_after_the_other(lab: Path) -> None:
    """Each sees the configuration as it is at its start; one that is refused costs no worker."""
    code = f"""
from neuro_assets.outcomes import PermanentFailure
lab = Path({str(lab)!r})
with prepared_worker(lab, {tools.LOCATION}) as worker:
    for number, job in enumerate(['texts_forked', 'no_such_job', 'texts_forked']):
        (lab / 'lab.yaml').write_text(f'number: {{number}}')
        try:
            r = execute(job, selection=['text_before'], workdir=lab, location={tools.LOCATION},
                        worker=worker)
            print('RESULT', r.run_id, r.status)
        except PermanentFailure as error:
            print('REFUSED', error)
"""
    assert tools.start(lab, code, "run.log").wait() == 0
    results = [x.split() for x in tools.log(lab, "run.log").splitlines()]
    assert [r[0] for r in results] == ["RESULT", "REFUSED", "RESULT"]
    # The words of the worker reach the person.
    assert "there is no job 'no_such_job'" in tools.log(lab, "run.log")
    assert [t["text"] for t in tools.lines(lab, "text")] == ["number: 0", "number: 2"]
    workers = {claimed_by(run) for run in runs(lab)}
    assert len(workers) == 1
    (worker,) = workers
    assert worker is not None
    assert worker.liveness() is Liveness.GONE
    assert not homes.is_held(lab / ".dagster_home" / homes.RUN_LOCK)


def test_no_worker_is_prepared_while_up_takes_the_runs(tmp_path: Path) -> None:
    with (
        homes.hold(prepare_home(tmp_path) / homes.UP_LOCK),
        prepared_worker(tmp_path) as worker,
    ):
        assert worker is None


# --- up ----------------------------------------------------------------------------------------


def query(port: int, text: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as response:
        data: dict[str, Any] = json.load(response)["data"]
        return data


@pytest.fixture
def platform(lab: Path) -> Iterator[tuple[Path, int, subprocess.Popen[bytes]]]:
    port = tools.free_port()
    # The web server would take it for a library, were the working folder on the path.
    (lab / "gql.py").write_text("raise RuntimeError('a stray file')")
    process = tools.start_up(lab, port, shell=True)
    try:
        tools.until(lambda: "is up" in tools.log(lab, "up.log") or process.poll(), "up")
        assert process.poll() is None, tools.log(lab, "up.log")
        yield lab, port, process
    finally:
        tools.kill_family(process.pid)
        process.wait()


LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
TEXT = '{ assetNodes(assetKeys: [{path: ["text_before"]}]) { description } }'


def named(members: list[psutil.Process], *words: str) -> psutil.Process:
    # A child that ended a moment ago has no command line any more.
    living = [m for m in members if m.is_running() and m.status() != psutil.STATUS_ZOMBIE]
    (process,) = [m for m in living if all(w in " ".join(m.cmdline()) for w in words)]
    return process


@pytest.mark.integration
@pytest.mark.slow
def test_up_serves_queues_reloads_restarts_and_stops(
    platform: tuple[Path, int, subprocess.Popen[bytes]],
) -> None:
    lab, port, process = platform

    # The user interface answers, on this machine only, and all share one code server.
    (entry,) = query(port, LOCATIONS)["workspaceOrError"]["locationEntries"]
    assert entry["name"] == "tiny"
    assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    members = tools.family(process.pid)
    listening = [c for m in members for c in m.net_connections("tcp") if c.status == "LISTEN"]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert len([m for m in members if "api grpc" in " ".join(m.cmdline())]) == 1

    # A run goes through the queue. The configuration is edited meanwhile: it is loaded by itself,
    # and the steps keep the one that they began with.
    follower = tools.start_execute(lab, "'texts_forked'", "run.log")
    tools.until(lambda: tools.lines(lab, "text"), "the first step")
    (lab / "lab.yaml").write_text("number: 2\n")
    tools.until(lambda: "lab.yaml was loaded" in tools.log(lab, "up.log"), "the new configuration")
    assert "number: number: 1 -> number: 2" in tools.log(lab, "up.log")
    assert query(port, TEXT) == {"assetNodes": [{"description": "number: 2\n"}]}
    (lab / "edited").touch()
    assert follower.wait() == 0
    assert result_of(lab, "run.log")[2:] == ["SUCCESS", "True"]
    assert [t["text"] for t in tools.lines(lab, "text")] == ["number: 1\n"] * 2

    # A broken one is refused, with the reason; what was loaded stays in force, and is shown.
    (lab / "lab.yaml").write_text("broken\n")
    tools.until(lambda: "was refused" in tools.log(lab, "up.log"), "the refusal")
    assert "the word 'broken' is not allowed" in tools.log(lab, "up.log")
    loaded = loaded_config(lab / ".dagster_home" / homes.LOADED_CONFIG)
    assert loaded is not None
    assert (loaded.text, loaded.error) == ("number: 2\n", None)
    (lab / "lab.yaml").write_text("number: 3\n")

    # What dies is started again.
    daemon = named(tools.family(process.pid), "dagster._daemon")
    daemon.kill()
    tools.until(lambda: "the daemon died" in tools.log(lab, "up.log"), "the death is noticed")
    tools.until(
        lambda: any("dagster._daemon" in " ".join(m.cmdline()) for m in tools.family(process.pid)),
        "a new daemon",
    )

    # Stopped in the middle of a run: the step cleans up, nothing is left, SIGINT is not ignored.
    waiting = tools.start_execute(lab, "'chain', 'one', selection=['slow', 'last']", "second.log")
    (slow,) = tools.until(lambda: tools.lines(lab, "slow"), "the step in progress")
    members = tools.family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    _gone, alive = psutil.wait_procs(members, timeout=5)
    assert alive == []
    assert len(tools.lines(lab, "slow_cleaned")) == 1
    assert "interrupting 1 run(s)" in tools.log(lab, "up.log")
    # It had finished no step yet, and may still be lost as often as before.
    (stopped,) = [run for run in runs(lab) if run.run_id == slow["run"]]
    assert stopped.tags["dagster/max_retries"] == "2"

    # The next start resumes the run, and whoever waited for it hears of its end.
    (lab / "go").touch()
    again = tools.start_up(lab, tools.free_port())
    try:
        assert waiting.wait() == 0
    finally:
        again.terminate()
        assert again.wait() == 0
    resumed = result_of(lab, "second.log")
    assert resumed[1] != slow["run"]
    assert resumed[2:] == ["SUCCESS", "True"]


@pytest.mark.integration
@pytest.mark.slow
def test_read_only_starts_nothing(lab: Path) -> None:
    process = tools.start_up(lab, tools.free_port(), options="read_only=True")
    try:
        tools.until(lambda: "is up" in tools.log(lab, "up.log") or process.poll(), "up")
        commands = [" ".join(m.cmdline()) for m in tools.family(process.pid)]
        assert not [c for c in commands if "_daemon" in c]
        assert [c for c in commands if "web_server" in c and "--read-only" in c]
        # A run of the command line is not left to a queue that nobody works on.
        with dg.DagsterInstance.from_config(str(lab / ".dagster_home")) as instance:
            assert not daemon_alive(instance)
        with homes.hold(lab / ".dagster_home" / homes.UP_LOCK) as lock:
            assert lock is not None
    finally:
        process.terminate()
        assert process.wait() == 0
