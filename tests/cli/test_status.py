"""`status`: one line a recording, a summary, filters, and details on demand."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date
from pathlib import Path

import pytest
from labs import SmallLab
from typer.testing import CliRunner

from neuro_assets.assets.inventory import OutputState
from neuro_assets.assets.overview import line_of
from neuro_assets.cli import app
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.metadata import RecordingMetadata, SessionMetadata
from neuro_assets.registry.registry import RecordingRecord, SessionInfo
from neuro_assets.store import Manifest

N = 60


def record(n: int, **more) -> RecordingRecord:
    stream = Stream(name="ap", files=("a",), n_channels=1, n_samples=1, sampling_frequency=1.0)
    recording = RawRecording(
        format="spikeglx", probe="probe00", streams={"ap": stream}, identity=Identity(size_bytes=2)
    )
    session = SessionInfo(subject=f"M{n % 3}", date=date(2026, 1, 1 + n % 28), number=str(n))
    key = f"M{n % 3}_{session.date:%Y%m%d}_{n}_probe00"
    values = {"recording": recording, "raw_version": "v1", **more}
    return RecordingRecord(key=key, session=session, **values)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch) -> SmallLab:
    lab = SmallLab(tmp_path)
    (tmp_path / "lab.yaml").write_text(lab.text)
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    records = [record(n) for n in range(N)]
    records[7] = record(7, state="held", hold="look first")
    lab.registry.transact(lambda index: [index.put(each) for each in records])
    return lab


def call(*arguments: str):
    return CliRunner().invoke(app, ["status", *arguments])


def test_many_recordings_give_a_summary_and_one_line_each(lab):
    done = call()
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == f"{N} recordings: 1 held, {N - 1} waiting"
    assert len(lines) == N + 2
    assert [line for line in lines if "held" in line][1].endswith("raw data held: look first")


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        (("--subject", "M1"), 20),
        (("--state", "held"), 1),
        (("--state", "complete"), 0),
        (("--since", "2026-01-28"), 2),
        (("--project", "none"), 0),
    ],
)
def test_filters(lab, arguments, n):
    assert call(*arguments).output.splitlines()[0].startswith(f"{n} recordings")


def test_one_recording_is_shown_with_its_outputs_and_reads_no_other(lab, monkeypatch):
    from neuro_assets.registry.registry import Registry

    def refuse(self):
        raise AssertionError("read all records")

    monkeypatch.setattr(Registry, "refresh", refuse)
    key = record(7).key
    assert "compressed_recording" in call(key).output
    states = json.loads(call(key, "--json").output)
    assert {state["key"] for state in states} == {key} and len(states) > 5


def test_a_damaged_record_has_a_line_and_every_other_too(lab):
    registry = Path(lab.config.store.url) / "registry"
    key = record(7).key
    (registry / f"{key}.json").write_text("{")
    for path in (registry / "log").iterdir():
        path.write_bytes(path.read_bytes().replace(f'"key":"{key}"'.encode(), b'"kex":"'))
    done = call()
    assert done.exit_code == 1
    assert done.output.splitlines()[0] == f"{N} recordings: 1 damaged, {N - 1} waiting"
    assert f"{key}" in done.output and "its record is damaged" in done.output


def test_a_damaged_output_costs_its_recording_only(lab):
    key = record(8).key
    path = Path(lab.config.store.url) / "lfp" / key / "current.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    output = call().output
    assert output.splitlines()[0] == f"{N} recordings: 1 damaged, 1 held, {N - 2} waiting"


def put(lab: SmallLab, key: str):
    made = Manifest(asset="lfp", key=key, version="aa", outcome=Outcome.COMPLETE)
    with lab.store.attempt("lfp", key, "aa") as attempt:
        return attempt.commit(made)


def as_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("damage", [os.mkfifo, as_folder, lambda p: p.write_bytes(b"[" * 200_000)])
@pytest.mark.parametrize("name", ["current.json", "failure.json", "manifest.json"])
def test_what_is_no_file_costs_its_output_only(lab, damage, name):
    key, other = record(8).key, record(9).key
    stored, top = put(lab, key), Path(lab.config.store.url)
    put(lab, other)
    path = top / (stored.path if name == "manifest.json" else f"lfp/{key}") / name
    path.unlink(missing_ok=True)
    damage(path)
    for stray in ("Thumbs.db", "lfp/Thumbs.db", f"lfp/{key}/Thumbs.db", "lfp/.DS_Store"):
        (top / stray).write_bytes(b"x")
    lines = call().output.splitlines()
    assert len(lines) == N + 2
    for arguments in ((key,), ("--all",)):
        done = call(*arguments, "--json")
        states = {(each["key"], each["asset"]): each for each in json.loads(done.output)}
        assert states[key, "lfp"]["outcome"] == "failed"
        assert name in states[key, "lfp"]["detail"]
        assert states[key, "compressed_recording"]["outcome"] == "waiting"
    assert states[other, "lfp"]["outcome"] == "complete"
    assert call(key).exit_code == 1


def test_a_copied_output_is_shown_as_damaged(lab):
    key, other = record(8).key, record(9).key
    put(lab, key)
    top = Path(lab.config.store.url) / "lfp"
    shutil.copytree(top / key, top / other)
    [line] = [line for line in call().output.splitlines() if f" {other} " in f" {line} "]
    assert "damaged" in line and "is a copy of" in line


def test_a_recording_has_the_state_that_matters_most():
    def state(*outcomes: Outcome, **more) -> str:
        states = [OutputState("k", f"a{i}", each) for i, each in enumerate(outcomes)]
        return line_of(record(0, **more), states).state.value

    ok, failed, waiting = Outcome.COMPLETE, Outcome.FAILED, Outcome.WAITING
    assert state(ok, Outcome.SKIPPED) == "complete"
    assert state(ok, waiting) == "waiting"
    assert state(ok, failed, Outcome.RUNNING) == "failed"
    assert state(ok, Outcome.RUNNING) == "running"
    assert state(ok, state="vanished", missing=["gone"]) == "raw_data_missing"
    old = OutputState("k", "a", ok, out_of_date=("code: 1 to 2",))
    assert line_of(record(0), [old]).state.value == "out_of_date"


def test_an_unknown_recording_is_one_line(lab):
    done = call("M9")
    assert isinstance(done.exception, PermanentFailure)
    assert "no recording 'M9'" in str(done.exception)


def test_projects_filter_by_what_the_database_says():
    from neuro_assets.assets.overview import Filter

    session = SessionMetadata.model_construct(projects=("ibl",))
    known = record(0).model_copy(
        update={"metadata": RecordingMetadata.model_construct(session=session)}
    )
    assert Filter(project="ibl").admits(known) and not Filter(project="x").admits(known)
    assert not Filter(project="ibl").admits(record(0))
