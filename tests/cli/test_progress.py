"""What a person sees while something takes long, and after Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from multiprocessing import synchronize
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import dagster as dg
import pytest
from commands import call
from dagster._core.events import DagsterEvent, StepRetryData
from dagster._utils.error import serializable_error_info_from_exc_info
from labs import SmallLab
from rich.console import Console

from neuro_assets import names, service
from neuro_assets.assets.dagster_metadata import stored_metadata
from neuro_assets.cli import demonstration, process, progress, run_display, status, upkeep
from neuro_assets.cli.lab import Interrupted
from neuro_assets.cli.progress import Bars, progress_of
from neuro_assets.cli.run_display import RunDisplay
from neuro_assets.executors.multiprocess import require_semaphores
from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.service.follower import RunFollower, RunResult
from neuro_assets.service.runs import Request
from neuro_assets.service.session_registration import register_folder
from neuro_assets.service.supervisor import _Supervisor
from neuro_assets.service.worker_process import WorkerProcess
from neuro_assets.simulation import simulate_session
from neuro_assets.store import Manifest
from neuro_assets.store.model import WHOLE_LAB


def screen(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, highlight=False)


def shown(console: Console) -> str:
    return console.file.getvalue()


def test_a_terminal_gets_a_bar_with_percent_and_what_is_done_within_80_columns():
    console = screen(terminal=True)
    with Bars(console) as bars:
        bars.update("M1_20260101_1_probe00", 0.4, "12 of 30 steps")
        bars.update("  unit_quality_tridesclous2", 0.25, "waveforms and templates of " * 5)
        bars._bars.refresh()
        lines = console.render_lines(bars._bars.get_renderable(), pad=False)
    text = ["".join(segment.text for segment in line) for line in lines]
    assert "40%" in text[0] and "12 of 30 steps" in text[0]
    assert "25%" in text[1] and "waveforms" in text[1]
    assert len(text) == 2 and max(map(len, text)) <= 80


def test_a_pipe_gets_a_plain_line_now_and_then_with_the_time_left(monkeypatch):
    console, now = screen(terminal=False), [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Bars(console) as bars:
        for now[0] in range(1, 25):  # noqa: B020
            bars.update("simulating", now[0] / 25, f"sample {now[0]}")
        bars.update("simulating", 1.0, "done")
    assert shown(console).splitlines() == [
        "simulating: 16%, 15.8 s left: sample 4",
        "simulating: 56%, 10.2 s left: sample 14",
        "simulating: 96%, 1.0 s left: sample 24",
    ]


def entry(step: str, kind: str = "", message: str = "", **metadata: object) -> SimpleNamespace:
    values = {name: SimpleNamespace(value=value) for name, value in metadata.items()}
    made = SimpleNamespace(materialization=SimpleNamespace(metadata=values))
    event = SimpleNamespace(event_type_value=kind, step_materialization_data=made)
    return SimpleNamespace(step_key=step, dagster_event=event if kind else None,
                           user_message=message)  # fmt: skip


def test_a_run_shows_percent_and_says_skipped_with_the_reason_and_not_done(monkeypatch):
    console, updates = screen(terminal=False), []
    monkeypatch.setattr(run_display, "console", console)
    bars = SimpleNamespace(update=lambda *what: updates.append(what), remove=lambda name: None)
    display = RunDisplay("K", 4, bars)
    for each in (
        entry("lfp", "STEP_START"), entry("lfp", message="40% filtering the LFP"),
        entry("lfp", message="no percent"),
        entry("lfp", "ASSET_MATERIALIZATION", reused=False), entry("lfp", "STEP_SUCCESS"),
        entry("bad", "ASSET_MATERIALIZATION", reused=False, reason="recording_too_short: 1 s"),
        entry("bad", "STEP_SUCCESS"),
        entry("old", "ASSET_MATERIALIZATION", reused=True), entry("old", "STEP_SUCCESS"),
        entry("ill", "STEP_FAILURE"),
    ):  # fmt: skip
        display(each)
    ends = [line.split(maxsplit=2)[2] for line in shown(console).splitlines()]
    assert ends == ["started", "done", "skipped: recording_too_short: 1 s",
                    "done (stored already)", "failed"]  # fmt: skip
    assert ("  lfp", 0.4, "filtering the LFP") in updates
    assert ("K", 0.5, "2 of 4 steps") in updates


def test_a_step_that_waits_to_be_tried_again_says_why_and_for_how_long(monkeypatch):
    console, own = screen(terminal=False), TransientFailure("rig/m1 is not there;\n mount its disk")
    monkeypatch.setattr(run_display, "console", console)
    own.__cause__ = FileNotFoundError(2, "No such file")
    try:
        raise ValueError("the engine's") from own
    except ValueError as error:
        info = serializable_error_info_from_exc_info((type(error), error, error.__traceback__))
    again = entry("raw", "STEP_UP_FOR_RETRY")
    again.dagster_event.step_retry_data = StepRetryData(info, 21.4)
    RunDisplay("K", 1, SimpleNamespace(update=lambda *_: None, remove=lambda _: None))(again)
    (line,) = shown(console).splitlines()
    assert "again in 21 s" in line and "TransientFailure: rig/m1 is not there; mount" in line


def test_a_run_that_no_step_ended_says_why(monkeypatch):
    console = screen(terminal=False)
    monkeypatch.setattr(run_display, "console", console)
    bars = SimpleNamespace(update=lambda *what: None, remove=lambda name: None)
    for error in (SimpleNamespace(message="OSError: [Errno 28] no space\n"), None):
        failed = entry("", "PIPELINE_FAILURE")
        failed.step_key, failed.dagster_event.job_failure_data = None, SimpleNamespace(error=error)
        RunDisplay("K", 4, bars)(failed)
    lines = [" ".join(line.split()) for line in shown(console).splitlines()]
    assert lines == ["K run failed: OSError: [Errno 28] no space"]


def test_a_run_whose_process_was_killed_says_why(tmp_path: Path, monkeypatch) -> None:
    console = screen(terminal=False)
    monkeypatch.setattr(run_display, "console", console)
    display = RunDisplay("K", 4, SimpleNamespace(update=lambda *what: None))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = instance.create_run_for_job(nothing)
        display._n_ended = 1
        instance.report_run_failed(run, "Its process ended;\nsee x.log.")
        assert RunFollower(instance, run.run_id, display).finished()
    assert " ".join(shown(console).split()) == "K run failed: Its process ended; see x.log."


def test_a_machine_without_shared_memory_is_said_before_a_run(monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert require_semaphores() == "/dev/shm"
    monkeypatch.setattr(synchronize._multiprocessing, "SemLock", refused)
    with pytest.raises(PermanentFailure, match="/dev/shm cannot be written to"):
        require_semaphores()


def test_what_dagster_shows_of_a_skip_has_its_reason(tmp_path: Path) -> None:
    skip = {"reason": "recording_too_short", "detail": "9 s", "origin": None}
    made = Manifest(asset="lfp", key="K", version="aa", outcome=Outcome.SKIPPED, skip=skip)
    with SmallLab(tmp_path).store.attempt("lfp", "K", "aa") as attempt:
        stored = attempt.commit(made)
    shown = stored_metadata(stored, reused=False, partition=True)
    assert shown["reason"] == "recording_too_short: 9 s"


def test_ctrl_c_says_what_is_left(tmp_path: Path, monkeypatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "open_lab", interrupt)
    done = call("status", folder=tmp_path)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
    asked: list[str] = []
    canceled = RunResult("r", "CANCELED", in_daemon=False)
    waiting = RunResult("r", "STARTED", in_daemon=True, interrupted=True)
    results = iter([canceled, waiting, waiting, waiting])
    monkeypatch.setattr(
        service, "execute", lambda job, *args, **options: asked.append(job) or next(results)
    )
    monkeypatch.setattr(process, "_record", lambda record, key: None)
    monkeypatch.setattr("neuro_assets.service.events.run_tags", lambda record: {})
    lab = SimpleNamespace(registry=lambda: {}, steps=list, folder=tmp_path)
    for _ in range(2):
        with pytest.raises(Interrupted, match="finished outputs are kept; run again to go on"):
            process.process_keys(lab, ["K"], [])
    assert asked == [names.PROCESS_JOB] * 2, "no further run is asked for"
    by_job = dict.fromkeys((names.PROCESS_JOB, names.PUBLISH_JOB), ["a"])
    monkeypatch.setattr(process, "_selection", lambda lab, only: by_job)
    with pytest.raises(Interrupted):
        upkeep._make_again(lab, "K", ["a", "b"], set(), None)
    with pytest.raises(KeyboardInterrupt):
        upkeep._make_again(lab, WHOLE_LAB, ["t"], set(), None)
    assert len(asked) == 4


@dg.job
def nothing() -> None:
    pass


@pytest.mark.parametrize("ends", ["CANCELED", "SUCCESS"])
def test_a_second_ctrl_c_at_once_ends_the_worker_and_the_run_is_cancelled_or_done(
    tmp_path: Path, monkeypatch, ends: str
) -> None:
    config = {"run_retries": {"enabled": True, "max_retries": 1}}
    with (
        dg.DagsterInstance.local_temp(str(tmp_path), overrides=config) as instance,
        (tmp_path / "lock").open("w+") as lock,
    ):
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        worker = object.__new__(WorkerProcess)
        worker._home, worker._log = tmp_path, tmp_path / "run.log"
        worker._channel, theirs = socket.socketpair()
        worker._replies = worker._channel.makefile("r")
        theirs.sendall(json.dumps({"run": run.run_id}).encode() + b"\n")
        worker._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
        terminate, finished, interrupts = worker._process.terminate, RunFollower.finished, iter("a")

        def interrupt(*_: object) -> NoReturn:
            raise KeyboardInterrupt

        def end() -> None:
            if ends == "SUCCESS":
                event = DagsterEvent("PIPELINE_SUCCESS", "nothing")
                instance.report_dagster_event(event, run.run_id)
            terminate()

        def first_interrupted(follower: RunFollower) -> bool:
            return interrupt() if next(interrupts, "") else finished(follower)

        monkeypatch.setattr(RunFollower, "finished", first_interrupted)
        monkeypatch.setattr(instance, "report_run_canceling", interrupt)
        monkeypatch.setattr(worker._process, "terminate", end)
        request = Request("nothing", None, {}, None)
        result = worker.run(instance, lock, request, lambda _: None, lambda _: None)
        assert worker._process.returncode == -signal.SIGKILL
        assert (result.status, result.stopped) == (ends, True)
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None and ended.tags.get("dagster/will_retry") != "true"
        worker._replies.close()
        worker._channel.close()
        theirs.close()


def test_a_cancelled_run_leaves_no_pool_to_wait_for(tmp_path: Path) -> None:
    """The executor reports the end of the run; the step that it ended keeps its slot."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("heavy", 1)
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.CANCELED)
        instance.event_log_storage.claim_concurrency_slot("heavy", run.run_id, "step")
        taken = instance.event_log_storage.get_concurrency_info("heavy").active_slot_count
        assert taken == 1
        object.__new__(WorkerProcess)._settle(instance, run.run_id)
        left = instance.event_log_storage.get_concurrency_info("heavy").active_slot_count
        assert left == 0


def test_half_a_simulated_session_is_removed(tmp_path: Path) -> None:
    def stop(fraction: float, doing: str) -> None:
        raise KeyboardInterrupt

    small = {"duration_s": 1, "n_channels": 4, "video": False}
    with pytest.raises(KeyboardInterrupt):
        simulate_session(tmp_path, **small, progress=stop)
    session = simulate_session(tmp_path, **small).session
    assert (session / "raw_session.flag").is_file()


def test_a_simulation_that_is_killed_leaves_no_session_and_is_made_again(tmp_path: Path) -> None:
    """Nothing can clean up after signal.SIGKILL: what is there has to be hidden, and nobody's."""
    small = {"duration_s": 1, "n_channels": 4, "video": False}
    child = os.fork()
    if not child:
        simulate_session(
            tmp_path, **small, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        )
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name[:12] for path in tmp_path.iterdir()] == [".simulating_"]
    made = simulate_session(tmp_path, **small)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simlab", "truth"]
    assert (made.session / "raw_session.flag").is_file()


def test_the_demonstration_goes_on_with_the_session_that_is_there(tmp_path: Path) -> None:
    made = simulate_session(tmp_path / "sessions", duration_s=1, n_channels=4, video=False)
    assert demonstration._session(tmp_path, 60, 64, 0) == (made.session, made.truth)


def test_registration_reports_its_progress(tmp_path: Path) -> None:
    session = simulate_session(tmp_path / "in", duration_s=1, n_channels=4, video=False).session
    lab, seen = SmallLab(tmp_path), []
    register_folder(
        tmp_path, lab.config, lab.registry, session, use_hash=False,
        progress=lambda fraction, doing: seen.append((fraction, doing)),
    )  # fmt: skip
    assert [fraction for fraction, _ in seen] == [0.0, 0.3, 0.9]
    assert str(session) in seen[0][1]


def test_the_start_of_up_reports_its_progress(monkeypatch) -> None:
    up, seen, polls = object.__new__(_Supervisor), [], iter([False, False, True, False, True])
    up._code = up._web = SimpleNamespace(pid=1, log=Path("log/x"))
    up._daemon, up._url, up._report = None, "", lambda line: None
    for name in ("_start", "_pause"):
        monkeypatch.setattr(up, name, lambda *args: None)
    for name in ("_code_answers", "_web_answers"):
        monkeypatch.setattr(up, name, lambda: next(polls))
    up._start_all(lambda fraction, doing: seen.append(fraction))
    assert seen == [0.0, 0.0, 0.5, 1.0]


def test_the_progress_of_one_thing_ends_with_it(monkeypatch) -> None:
    console = screen(terminal=True)
    monkeypatch.setattr(progress, "Bars", lambda: Bars(console))
    with progress_of("starting") as report:
        report(0.5, "the user interface")
        report(1.0, "up")
        assert "\x1b[?25h" in shown(console)  # the cursor is there again
