"""Lines of the overview that are remembered: always those that would be made now."""

from __future__ import annotations

import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path

import pytest
from labs import SHORT, SmallLab

from neuro_assets.assets import overview_lines
from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.overview import Filter, Line
from neuro_assets.assets.overview_lines import SETTLED_S, lines_of
from neuro_assets.config import parse_config
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import RecordingRecord, SessionInfo
from neuro_assets.service import overview_timer
from neuro_assets.service.overview_timer import OverviewTimer
from neuro_assets.store import InputRef, Manifest

FIRST, LFP = "compressed_recording", "lfp"
N = 4
KEY = "M_20260101_0_probe00"


def record(n: int) -> RecordingRecord:
    stream = Stream(name="ap", files=("a",), n_channels=1, n_samples=1, sampling_frequency=1.0)
    recording = RawRecording(
        format="spikeglx", probe="probe00", streams={"ap": stream}, identity=Identity(size_bytes=2)
    )
    session = SessionInfo(subject="M", date=date(2026, 1, 1), number=str(n))
    key = f"M_20260101_{n}_probe00"
    return RecordingRecord(key=key, session=session, recording=recording, raw_version="v1")


class Overview:
    """A small store, looked at with and without a memory."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.lab = SmallLab(folder)
        self.memory = folder / "memory"
        self.steps = all_steps(self.lab.config)
        self.running: dict[str, set[str]] = {}
        self.made: list[str] = []
        inventory = overview_lines.inventory

        def counted(store, records, *more):
            self.made += records
            return inventory(store, records, *more)

        monkeypatch.setattr(overview_lines, "inventory", counted)
        self.lab.registry.transact(lambda index: [index.put(record(n)) for n in range(N)])
        for n in range(N):
            self.commit(FIRST, f"M_20260101_{n}_probe00")
        self.commit(LFP, KEY, Outcome.SKIPPED, skip={"reason": "no_lfp_band", "detail": "d"})

    def lines(self, folder: Path | None) -> list[Line]:
        self.made.clear()
        records, store = self.lab.registry.all(), self.lab.store
        return list(lines_of(store, records, self.steps, self.running, Filter(), folder))

    def remembered(self) -> list[Line]:
        return self.lines(self.memory)

    @property
    def first(self) -> int:
        """Place of the step that was made."""
        return [step.name for step in self.steps].index(FIRST)

    @cached_property
    def root(self) -> Path:
        return Path(self.lab.config.store.url)

    def pointer(self, asset: str = FIRST, name: str = "current.json") -> Path:
        return self.root / asset / KEY / name

    def commit(self, asset: str, key: str, outcome=Outcome.COMPLETE, **more) -> None:
        step = next(step for step in self.steps if step.name == asset)
        needs = [] if asset == FIRST else [self.lab.store.current(FIRST, key).ref]
        refs = [*needs, InputRef(asset="raw_recording", version="v1", digest="v1")][:1]
        values = {
            "asset": asset, "key": key, "version": step.version(refs, key, record(0)),
            "outcome": outcome, "code_version": step.code_version, "clock": step.clock,
            "parameters": step.values(key), "inputs": refs, "packages": step.releases,
        }  # fmt: skip
        with self.lab.store.attempt(asset, key, values["version"]) as attempt:
            attempt.commit(Manifest(**{**values, **more}))

    def fail(self) -> None:
        self.lab.store.fail(
            Manifest(
                asset=LFP, key=KEY, version="0" * 16, outcome=Outcome.FAILED, turn=1,
                error={"type": "PermanentFailure", "message": "broken"},
            )
        )  # fmt: skip


@pytest.fixture
def overview(tmp_path, monkeypatch):
    # What was just written counts as settled.
    monkeypatch.setattr(overview_lines, "SETTLED_S", -60.0)
    return Overview(tmp_path, monkeypatch)


def test_the_second_look_makes_nothing_again_and_shows_the_same(overview):
    first = overview.remembered()
    assert len(overview.made) == N and overview.lines(None) == first
    assert overview.remembered() == first and overview.made == []


def edit(path: Path, old: str, new: str) -> None:
    """In place, leaving size and modification time as they were."""
    before, text = path.stat(), path.read_text()
    assert len(old) == len(new) and old in text
    with path.open("r+") as file:
        file.write(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path: Path, old: str, new: str) -> None:
    """By a rename, as the store does it, at the same size and modification time."""
    before, other = path.stat(), path.with_name("new")
    other.write_text(path.read_text().replace(old, new))
    assert other.stat().st_size == before.st_size
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def other_steps(overview: Overview) -> None:
    text = SHORT + "  - {name: spykingcircus2, set: default}\n"
    overview.steps = all_steps(parse_config(text, base=overview.lab.folder))


def other_parameters(overview: Overview) -> None:
    text = SHORT.replace("steps:\n", "steps:\n  compressed_recording: {parameters: {level: 3}}\n")
    overview.steps = all_steps(parse_config(text, base=overview.lab.folder))


def other_algorithm(overview: Overview) -> None:
    old = overview.steps[overview.first]
    parameters = type(old.parameters)
    model = type("Other", (parameters,), {"algorithm_version": "99", "__module__": __name__})
    overview.steps[overview.first] = replace(old, parameters=model(**old.parameters.model_dump()))


def other_settings(overview: Overview) -> None:
    place = overview.first
    overview.steps[place] = replace(overview.steps[place], settings=lambda key: {"selected": False})


def other_packages(overview: Overview) -> None:
    place = overview.first
    overview.steps[place] = replace(overview.steps[place], packages=("numpy",))


CHANGES = {
    "a commit": lambda o: o.commit("bad_channels", KEY),
    "a failure": lambda o: o.fail(),
    "a deleted pointer": lambda o: o.pointer().unlink(),
    "a deleted folder": lambda o: shutil.rmtree(o.root / FIRST / KEY),
    "a damaged pointer": lambda o: o.pointer().write_text("{"),
    "a pointer that is no file": lambda o: (o.pointer().unlink(), o.pointer().mkdir()),
    "an edited pointer": lambda o: edit(o.pointer(), "complete", "complexe"),
    "a replaced pointer": lambda o: replace_file(
        o.pointer(LFP), '"outcome": "skipped"', '"outcome":"complete"'
    ),
    "a deleted manifest": lambda o: next(o.pointer(LFP).parent.glob("*/*/manifest.json")).unlink(),
    "a run in progress": lambda o: o.running.update({KEY: {LFP}}),
    "raw data that changed": lambda o: o.lab.registry.update(KEY, lambda r: {"raw_version": "v2"}),
    "a held recording": lambda o: o.lab.registry.update(
        KEY, lambda r: {"state": "held", "hold": "look"}
    ),
    "another step": other_steps,
    "other parameters": other_parameters,
    "another algorithm": other_algorithm,
    "other settings": other_settings,
    "other packages": other_packages,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(overview, change):
    before = overview.remembered()
    CHANGES[change](overview)
    after = overview.remembered()
    assert after == overview.lines(None)
    assert after != before
    assert overview.remembered() == after


def test_only_what_changed_is_made_again(overview):
    overview.remembered()
    overview.fail()
    overview.remembered()
    assert overview.made == [KEY]


def test_a_young_file_is_not_relied_upon(overview, monkeypatch):
    monkeypatch.setattr(overview_lines, "SETTLED_S", 3600.0)
    overview.remembered()
    assert overview.remembered() and len(overview.made) == N


def test_a_recording_that_left_the_registry_is_forgotten(overview):
    overview.remembered()
    (path,) = overview.memory.iterdir()
    records = overview.lab.registry.all()
    del records.lines[KEY]
    overview.commit("bad_channels", "M_20260101_1_probe00")
    list(lines_of(overview.lab.store, records, overview.steps, {}, Filter(), overview.memory))
    assert KEY not in path.read_text() and "M_20260101_1_probe00" in path.read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"waiting", b"complete"),
        lambda data: data.replace(b"1 of", b"9 of"),
        lambda data: b"\xff\x00" + data,
        lambda data: data.split(b"\n", 1)[0] + b"\n\t\tx\n",
    ],
)
def test_a_memory_that_was_damaged_or_edited_is_not_believed(overview, damage):
    first = overview.remembered()
    (path,) = overview.memory.iterdir()
    changed = damage(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert overview.remembered() == first and len(overview.made) == N
    assert overview.remembered() == first and overview.made == []


def test_the_memory_of_another_store_is_not_believed(overview, tmp_path, monkeypatch):
    overview.remembered()
    overview.root.rename(tmp_path / "away")
    (tmp_path / ".neuro_assets").exists() and shutil.rmtree(tmp_path / ".neuro_assets")
    overview.lab.registry.transact(lambda index: [index.put(record(n)) for n in range(N)])
    lines = overview.remembered()
    assert lines == overview.lines(None) and all("0 of" in line.detail for line in lines)


def test_two_at_once_leave_a_whole_memory(overview):
    first = overview.lines(None)
    with ThreadPoolExecutor(4) as pool:
        records, store = overview.lab.registry.all(), overview.lab.store
        looks = [
            pool.submit(
                lambda: list(
                    lines_of(store, records, overview.steps, {}, Filter(), overview.memory)
                )
            )
            for _ in range(8)
        ]
        assert all(look.result() == first for look in looks)
    assert overview.remembered() == first and overview.made == []


def test_a_memory_that_cannot_be_written_is_reported_and_costs_nothing_else(overview, caplog):
    overview.memory.write_text("no folder")
    assert overview.remembered() == overview.lines(None)
    assert "not remembered" in caplog.text or "cannot be read" in caplog.text


def test_up_makes_the_lines_ahead(overview, tmp_path, monkeypatch):
    (tmp_path / "lab.yaml").write_text(overview.lab.text)
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    home = tmp_path / ".dagster_home"
    home.mkdir()
    timer = OverviewTimer(home)
    timer.poll()
    assert timer._process is None  # not while everything else starts
    monkeypatch.setattr(overview_timer, "FIRST_S", 0.0)
    time.sleep(SETTLED_S)
    timer = OverviewTimer(home)
    timer.poll()
    process = timer._process
    assert process is not None and process.wait() == 0
    timer.poll()
    assert timer._process is process  # the next one is not due
    overview.memory = tmp_path / ".neuro_assets"
    assert len(overview.remembered()) == N and overview.made == []


@pytest.mark.parametrize("is_remembered", [False, True])
def test_a_store_that_goes_away_is_an_error_and_nothing_of_it_is_remembered(
    overview, tmp_path, is_remembered
):
    first = overview.lines(None)
    if is_remembered:
        assert overview.remembered() == first
    store, records = overview.lab.store, overview.lab.registry.all()
    lines = lines_of(store, records, overview.steps, {}, Filter(), overview.memory)
    assert next(lines) == first[0]
    overview.root.rename(tmp_path / "away")
    with pytest.raises(PermanentFailure, match="not there any more"):
        next(lines)
    (tmp_path / "away").rename(overview.root)
    assert overview.remembered() == first
    assert len(overview.made) == (0 if is_remembered else N)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ESTALE, "does not answer"),
        (errno.EIO, "does not answer"),
        (errno.EACCES, "no permission"),
    ],
)
def test_a_file_that_cannot_be_looked_at_is_said_to_be_so(overview, monkeypatch, number, message):
    stat, open_ = os.stat, os.open

    def failing(function):
        def call(path, *arguments, **options):
            if str(path) == str(overview.pointer()):
                raise OSError(number, os.strerror(number), path)
            return function(path, *arguments, **options)

        return call

    first = overview.lines(None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", failing(stat))
        patch.setattr(os, "open", failing(open_))
        (line,) = [line for line in overview.remembered() if line.key == KEY]
    assert message in line.detail and "remove" not in line.detail
    assert overview.remembered() == first


def test_a_look_that_fails_for_a_moment_changes_no_line(overview, monkeypatch):
    stat = os.stat

    def stale(path, *arguments, **options):
        if str(path) == str(overview.pointer()):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return stat(path, *arguments, **options)

    first = overview.lines(None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stale)
        assert overview.remembered() == first


def test_a_file_in_the_place_of_a_folder_holds_no_output(overview):
    first = overview.remembered()
    (overview.root / "bad_channels").mkdir()
    (overview.root / "bad_channels" / KEY).write_text("x")
    assert overview.remembered() == overview.lines(None) == first


@pytest.mark.parametrize("lost", ["manifest.json", ""])
def test_an_output_whose_folder_or_manifest_is_gone_is_damaged(overview, lost):
    before = overview.remembered()
    (manifest,) = overview.pointer().parent.glob("*/*/manifest.json")
    manifest.unlink() if lost else shutil.rmtree(manifest.parent.parent)
    after = overview.remembered()
    assert [line.key for line in before if line not in after] == [KEY]
    (line,) = [line for line in after if line.key == KEY]
    assert line.state == "damaged" and "manifest.json" in line.detail
    assert overview.lines(None) == after


def test_what_is_remembered_of_a_private_store_is_closed_to_others(overview):
    assert overview.lab.config.store.private
    overview.memory.mkdir(mode=0o755)
    overview.remembered()
    (path,) = overview.memory.iterdir()
    assert [each.stat().st_mode & 0o777 for each in (overview.memory, path)] == [0o700, 0o600]


def test_what_is_remembered_of_an_open_store_stays_open(overview):
    overview.memory.mkdir()
    overview.memory.chmod(0o755)
    text = SHORT.replace("{url: store}", "{url: store, private: false}")
    overview.lab = overview.lab.with_text(text)
    overview.remembered()
    (path,) = overview.memory.iterdir()
    assert overview.memory.stat().st_mode & 0o777 == 0o755
    assert path.stat().st_mode & 0o077
