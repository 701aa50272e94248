"""The discovery sensor on real folders: new, changed, vanished, unready; a crash does no harm."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from labs import SmallLab
from records import have_output

from neuro_assets.outcomes import TransientFailure
from neuro_assets.partitions import SET_NAME
from neuro_assets.sensors.discovery import look
from neuro_assets.service.session_registration import local_source, register_folder
from neuro_assets.simulation import simulate_session

TEXT = """
store: {url: store}
sources: [{name: rig, path: sessions, settle_minutes: 0}]
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """A tiny session with two probes, to copy from."""
    out = tmp_path_factory.mktemp("simulated")
    return simulate_session(
        out, duration_s=1.0, n_channels=8, n_probes=2, video=False, seed=3, date=date(2026, 1, 15)
    ).session


class Rig:
    """A lab with one source folder, and the daemon's part of a tick."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        self.lab = SmallLab(folder, text)
        self.sessions = folder / "sessions"
        self.sessions.mkdir(exist_ok=True)
        self.cursor: str | None = None
        self.started: dict[str, str] = {}

    def drop(self, session: Path, subject: str = "M1", number: str = "001") -> Path:
        target = self.sessions / "lab" / "Subjects" / subject / "2026-01-15" / number
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(session, target)
        return target

    def evaluate(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.lab.instance, cursor=self.cursor)
        config = self.lab.config
        sources = {s.name: local_source(s, config) for s in config.sources}
        return look(context, self.lab.registry, config, sources)

    def tick(self, *, until: str = "cursor") -> dg.SensorResult:
        """What the daemon does, in its order; `until` is where it is killed."""
        result = self.evaluate()
        for event in result.asset_events or []:
            self.lab.instance.report_runless_asset_event(event)
        if until == "events":
            return result
        for request in result.dynamic_partitions_requests or []:
            self.lab.instance.add_dynamic_partitions(SET_NAME, list(request.partition_keys))
        if until == "keys":
            return result
        for request in result.run_requests or []:
            self.started.setdefault(request.run_key, request.partition_key)
        if until == "runs":
            return result
        self.cursor = result.cursor
        return result

    @property
    def keys(self) -> set[str]:
        return set(self.lab.instance.get_dynamic_partitions(SET_NAME))


KEYS = {"M1_20260115_1_probe00", "M1_20260115_1_probe01"}


def test_a_dropped_session_becomes_keys_raw_versions_and_runs(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick()
    assert rig.keys == KEYS
    assert set(rig.started.values()) == KEYS
    records = rig.lab.registry.all()
    for key in KEYS:
        event = (
            rig.lab.instance.get_latest_data_version_record(
                dg.AssetKey("raw_recording"), partition_key=key
            )
            if hasattr(rig.lab.instance, "get_latest_data_version_record")
            else None
        )
        assert event is not None
        assert event.asset_materialization or event.asset_observation
        assert f"{key}:1" in rig.started and records[key].request == 1


def test_a_tick_with_nothing_new_does_nothing(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick()
    again = rig.tick()
    assert not again.run_requests and not again.dynamic_partitions_requests
    assert not again.asset_events


@pytest.mark.parametrize("killed_after", ["events", "keys", "runs"])
def test_a_crash_between_two_steps_neither_doubles_nor_loses_a_run(tmp_path, session, killed_after):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick(until=killed_after)
    rig.tick()
    assert rig.keys == KEYS
    assert sorted(rig.started.values()) == sorted(KEYS)


def test_a_session_without_its_flag_waits_and_says_for_what(tmp_path, session):
    rig = Rig(tmp_path)
    folder = rig.drop(session)
    (folder / "raw_session.flag").unlink()
    data = next(folder.rglob("*probe00*/*.ap.bin"), None) or next(folder.rglob("*.ap.bin"))
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2 // 2 * 2])
    events = rig.tick().asset_events
    waiting = [r for r in rig.lab.registry.all().values() if r.state == "not_ready"]
    assert waiting and waiting[0].missing
    raw = [e for e in events if e.asset_key == dg.AssetKey("raw_recording")]
    said = [e.description for e in raw if e.partition == waiting[0].key]
    assert said == [f"raw data not ready: {waiting[0].reason}"]
    assert waiting[0].key in rig.keys, "its page is there"
    again = [e for e in rig.tick().asset_events or [] if e.partition == waiting[0].key]
    assert again == [], "once, and not at every tick"
    assert waiting[0].key not in rig.started.values()
    data.write_bytes(whole)
    (folder / "raw_session.flag").touch()
    rig.tick()
    assert set(rig.started.values()) == KEYS


def test_changed_raw_data_are_reported_and_not_run_unless_the_lab_says_so(tmp_path, session):
    for name, setting, runs in (("a", "", 2), ("b", "processing: {reprocess_changed: true}\n", 3)):
        folder = tmp_path / name
        folder.mkdir()
        rig = Rig(folder, TEXT + setting)
        data = next(rig.drop(session).rglob("*imec0.ap.bin"))
        rig.tick()
        have_output(rig.lab.store, "M1_20260115_1_probe00")
        content = bytearray(data.read_bytes())
        content[1000] ^= 1
        data.write_bytes(bytes(content))
        changed = rig.tick()
        reported = [
            e
            for e in changed.asset_events
            if e.partition.endswith("probe00") and e.asset_key == dg.AssetKey("raw_recording")
        ]
        assert len(reported) == 2
        assert len(rig.started) == runs


def test_data_that_change_to_and_fro_are_run_each_time(tmp_path, session):
    rig = Rig(tmp_path, TEXT + "processing: {reprocess_changed: true}\n")
    data = next(rig.drop(session).rglob("*imec0.ap.bin"))
    first = data.read_bytes()
    second = bytes([first[0] ^ 1]) + first[1:]
    for content in (first, second, first):
        data.write_bytes(content)
        rig.tick()
        rig.tick()
    key = "M1_20260115_1_probe00"
    assert sorted(k for k in rig.started if k.startswith(key)) == [f"{key}:{n}" for n in (1, 2, 3)]


def test_a_run_from_the_command_line_is_not_started_again_by_the_sensor(tmp_path, session):
    rig = Rig(tmp_path)
    folder = rig.drop(session)
    found = register_folder(tmp_path, rig.lab.config, rig.lab.registry, folder, use_hash=False)
    assert set(found.keys) == KEYS
    rig.tick()
    rig.tick()
    assert rig.keys == KEYS and rig.started == {}


def test_a_damaged_record_costs_its_recording_only_and_is_reported(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick()
    registry = tmp_path / "store" / "registry"
    (registry / "M1_20260115_1_probe00.json").write_text("{")
    for path in (registry / "log").iterdir():
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(b"x" if b"_probe00" in line[:50] else line for line in lines))
    rig.cursor = None
    rig.tick()
    assert rig.keys == KEYS, "no second key for the recording whose record is damaged"
    assert set(rig.lab.registry.all()) == {"M1_20260115_1_probe01"}


def test_a_vanished_session_is_marked_and_its_key_stays(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    kept = rig.drop(session, subject="M2")
    for meta in kept.rglob("*.meta"):
        meta.write_text(meta.read_text().replace("imDatPrb_sn=", "imDatPrb_sn=9"))
    rig.tick()
    shutil.rmtree(rig.sessions / "lab" / "Subjects" / "M1")
    rig.tick()
    states = {r.session.subject: r.state for r in rig.lab.registry.all().values()}
    assert states == {"M1": "vanished", "M2": "ready"}
    assert rig.keys >= KEYS


def test_a_renamed_subject_keeps_its_key(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick()
    subjects = rig.sessions / "lab" / "Subjects"
    (subjects / "M1").rename(subjects / "renamed mouse")
    rig.tick()
    assert rig.keys == KEYS
    records = rig.lab.registry.all()
    assert {r.session.subject for r in records.values()} == {"renamed mouse"}
    assert len(rig.started) == 2


def test_all_are_known_at_once_and_few_runs_a_tick_follow_the_newest_first(tmp_path, session):
    rig = Rig(tmp_path, TEXT + "processing: {runs_per_tick: 3}\n")
    for i in range(4):
        folder = rig.drop(session, subject=f"S{i}")
        for meta in folder.rglob("*.meta"):
            text = meta.read_text().replace("imDatPrb_sn=", f"imDatPrb_sn={i}")
            meta.write_text(text)
    older = rig.sessions / "lab" / "Subjects" / "S0" / "2026-01-15"
    older.rename(older.with_name("2026-01-14"))
    started = []
    for _ in range(4):
        before = set(rig.started)
        rig.tick()
        assert len(rig.keys) == 8
        started.append(set(rig.started) - before)
    assert [len(each) for each in started] == [3, 3, 2, 0]
    assert {key.split("_")[0] for key in started[2]} == {"S0"}


def test_a_source_that_cannot_be_read_is_an_error_and_never_an_empty_list(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session)
    rig.tick()
    cursor = rig.cursor
    rig.sessions.rename(tmp_path / "unmounted")
    with pytest.raises(TransientFailure, match="sessions"):
        rig.evaluate()
    assert {r.state for r in rig.lab.registry.all().values()} == {"ready"}
    (tmp_path / "unmounted").rename(rig.sessions)
    rig.tick()
    assert json.loads(rig.cursor).keys() == json.loads(cursor).keys()
    assert len(rig.started) == 2


def test_a_hostile_subject_is_found_under_a_safe_key(tmp_path, session):
    rig = Rig(tmp_path)
    rig.drop(session, subject="my mouse é|1")
    rig.tick()
    assert rig.keys == {f"my-mouse---1_20260115_1_probe0{i}" for i in (0, 1)}


def test_the_sensor_is_on_from_the_start(tmp_path):
    lab = SmallLab(tmp_path, TEXT)
    sensors = {s.name: s for s in lab.defs.get_repository_def().sensor_defs}
    assert sensors["discovery"].default_status is dg.DefaultSensorStatus.RUNNING
