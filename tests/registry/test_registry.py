"""Records, keys, and which recording is which."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import claim, register

from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.adopt_records import adopt_records
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.keys import find_same
from neuro_assets.registry.registry import RecordingRecord, Registry, SessionInfo
from neuro_assets.store import Store

DAY = date(2024, 5, 12)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(Store(tmp_path))


def recording(serial="S1", first=0, size=1000, probe="probe00", qualifier="", **identity):
    ap = Stream(name="ap", files=("a.bin",), n_channels=4, n_samples=300, sampling_frequency=30.0)
    values = {"created": datetime(2024, 5, 12, 10), "first_sample": first, **identity}
    return RawRecording(
        format="spikeglx",
        probe=probe,
        qualifier=qualifier,
        streams={"ap": ap},
        identity=Identity(probe_serial=serial, size_bytes=size, **values),
    )


def weak(probe="probe00", qualifier="", size=1000):
    return recording(None, None, size, probe, qualifier, created=None)


def session(subject="M1", number="1", **more) -> SessionInfo:
    values = {"lab": "A", "folder": f"/data/{subject}/{number}", **more}
    return SessionInfo(subject=subject, date=DAY, number=number, **values)


def test_a_record_comes_back_as_it_was_written(registry):
    made = register(registry, session(), recording(), "v1", missing=["lf"], eid="e")
    assert made.key == "M1_20240512_1_probe00"
    assert registry.get(made.key) == made
    assert Registry(registry.store).all() == {made.key: made}
    assert registry.get("M2_20240512_1_probe00") is None


def test_a_renamed_folder_subject_or_number_keeps_its_key(registry):
    made = register(registry, session(), recording(), "v1")
    for where in (
        session(folder="/elsewhere"),
        session(subject="Mouse 1"),
        session(number="7"),
    ):
        assert claim(registry, where, recording()).key == made.key
    moved = register(registry, session(subject="Mouse 1"), recording(), "v1")
    assert moved.key == made.key
    assert moved.session.subject == "Mouse 1"
    assert "/data/M1/1" in moved.aliases
    assert len(registry.all()) == 1


def test_recordings_that_differ_in_probe_time_first_sample_or_size_are_not_the_same(registry):
    register(registry, session(), recording(), "v1")
    for other in (
        recording("S2"),
        recording(first=5),
        recording(size=5),
        recording(created=datetime(2024, 5, 12, 11)),
    ):
        assert find_same(registry.refresh(), other.identity) is None
    assert find_same(registry.refresh(), recording().identity).key == "M1_20240512_1_probe00"
    assert find_same(registry.refresh(), weak().identity) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (session(), session(lab="B", folder="/b/M1")),
        (session(subject="M-1"), session(subject="M 1")),
        (session(subject="m1"), session(subject="M1")),
    ],
    ids=["two labs", "two spellings", "two cases"],
)
@pytest.mark.parametrize("strong", [True, False])
def test_two_recordings_with_one_natural_key_get_two_keys_and_a_report(
    registry, first, second, strong
):
    one, two = (recording("S1"), recording("S2")) if strong else (weak(), weak())
    a = register(registry, first, one, "v1")
    claimed = claim(registry, second, two)
    b = register(registry, second, two, "v2")
    assert a.key.casefold() != b.key.casefold()
    assert b.key == claimed.key
    assert RecordingKey.parse(b.key).qualifier == "x2"
    assert a.problems == []
    assert [p.kind for p in b.problems] == ["key_collision"]
    assert repr(first.subject) in b.problems[0].detail
    # and both keep theirs at the next scan
    assert register(registry, first, one, "v1").key == a.key
    again = register(registry, second, two, "v2")
    assert again.key == b.key
    third = register(registry, session(lab="C", subject=second.subject), recording("S3"), "v3")
    assert len({a.key, b.key, third.key}) == 3


def test_a_qualifier_stays_before_the_suffix(registry):
    register(registry, session(), recording("S1", qualifier="g1"), "v")
    key = claim(registry, session(lab="B"), recording("S2", qualifier="g1")).key
    assert key == "M1_20240512_1_probe00-g1x2"
    assert RecordingKey.parse(key).qualifier == "g1x2"


def test_two_probes_and_two_gates_of_a_session_are_four_recordings(registry):
    keys = {
        register(registry, session(), recording(s, first, probe=p, qualifier=q), "v").key
        for s, p in (("S1", "probe00"), ("S2", "probe01"))
        for first, q in ((0, ""), (500, "g1"))
    }
    assert keys == {
        "M1_20240512_1_probe00",
        "M1_20240512_1_probe00-g1",
        "M1_20240512_1_probe01",
        "M1_20240512_1_probe01-g1",
    }


def test_a_recording_that_was_still_being_copied_keeps_its_key_when_it_is_whole(registry):
    half = register(registry, session(), recording(size=500), "v1", state="not_ready")
    whole = register(registry, session(), recording(size=1000), "v2", state="ready")
    assert whole.key == half.key
    assert whole.state == "ready"
    assert [past["version"] for past in whole.raw_history] == ["v1"]
    assert whole.first_seen == half.first_seen and whole.updated > half.updated


def test_another_recording_in_the_place_of_a_moved_one_gets_its_own_key(registry):
    a = register(registry, session(), recording("S1"), "v1")
    b = register(registry, session(), recording("S2"), "v2")
    assert a.key != b.key
    assert register(registry, session(folder="/archive"), recording("S1"), "v1").key == a.key


def test_swapped_folders_keep_their_recordings_keys(registry):
    a = register(registry, session(number="1"), recording("S1"), "v1")
    b = register(registry, session(number="2"), recording("S2"), "v2")
    assert register(registry, session(number="2"), recording("S1"), "v1").key == a.key
    assert register(registry, session(number="1"), recording("S2"), "v2").key == b.key
    assert len(registry.all()) == 2


def test_shanks_of_one_recording_are_not_taken_for_each_other(registry):
    whole = register(registry, session(), recording(), "v")
    shank = register(registry, session(), recording(qualifier="s2", stream="imec0-s2"), "v")
    assert shank.key == "M1_20240512_1_probe00-s2" != whole.key
    assert claim(registry, session(), recording(qualifier="s2", stream="imec0-s2")).key == shank.key
    assert claim(registry, session(), recording(qualifier="g0")).key == whole.key


def test_the_sources_own_name_for_a_session_outlives_a_rename_without_strong_identity(registry):
    made = register(registry, session(session_id="eid-1"), weak(), "v")
    renamed = session(subject="Other", number="3", session_id="eid-1")
    assert claim(registry, renamed, weak()).key == made.key
    assert claim(registry, session(session_id="eid-2"), weak()).key != made.key


def test_raw_versions_have_a_history(registry):
    made = register(registry, session(), recording(), "v1")
    registry.update(made.key, lambda record: {"state": "vanished"})
    last = registry.update(made.key, lambda record: {"raw_version": "v2"})
    assert Registry(registry.store).get(made.key) == registry.get(made.key) == last
    assert [past["version"] for past in last.raw_history] == ["v1"]


def test_nothing_is_written_when_nothing_changed(registry, tmp_path):
    made = register(registry, session(), recording(), "v1")
    path = tmp_path / "registry" / f"{made.key}.json"
    before = path.stat().st_ino
    assert register(registry, session(), recording(), "v1") == made
    assert path.stat().st_ino == before


def test_several_writers_at_once_lose_no_change_and_no_recording(tmp_path):
    def add(index: int) -> str:
        mine = Registry(Store(tmp_path))
        return register(mine, session(lab=f"L{index}"), recording(f"S{index}"), "v").key

    with ThreadPoolExecutor(6) as pool:
        keys = list(pool.map(add, range(6)))
    assert len(set(keys)) == 6

    def attach(index: int) -> None:
        mine = Registry(Store(tmp_path))
        mine.update(keys[0], lambda record: {"aliases": [*record.aliases, str(index)]})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(attach, range(12)))
    assert sorted(Registry(Store(tmp_path)).get(keys[0]).aliases, key=int) == [
        str(i) for i in range(12)
    ]


def test_another_process_changes_are_seen(tmp_path):
    mine, theirs = Registry(Store(tmp_path)), Registry(Store(tmp_path))
    made = register(mine, session(), recording(), "v1")
    assert mine.all()[made.key].state == "ready"
    theirs.update(made.key, lambda record: {"state": "held"})
    assert mine.all()[made.key].state == "held"


def test_damaged_and_misplaced_records_are_read_from_the_log_and_named(registry, tmp_path):
    made = register(registry, session(), recording(), "v1")
    path = tmp_path / "registry" / f"{made.key}.json"
    misplaced = path.with_name("X_20240512_1_probe00.json")
    for content in (None, "{", path.read_text().replace('"M1_', '"M2_')):
        path.write_text(content) if content else path.rename(misplaced)
        fresh = Registry(Store(tmp_path))
        assert fresh.get(made.key) == made and fresh.all() == {made.key: made}
        assert any(made.key in each for each in fresh.verify())
    assert fresh.get("X_20240512_1_probe00") is None
    assert fresh.verify(repair=True) and Registry(Store(tmp_path)).get(made.key) == made
    misplaced.unlink()
    assert fresh.verify() == []
    with pytest.raises(PermanentFailure, match="not in the registry"):
        registry.update("Y_20240512_1_probe00", lambda record: {})


def test_a_damaged_line_of_the_log_is_read_from_the_record_or_costs_that_recording_only(tmp_path):
    registry = Registry(Store(tmp_path))

    def put(index: RecordIndex) -> None:
        for n in range(3):
            info = session(subject=f"M{n}")
            index.put(RecordingRecord(key=f"M{n}_20240512_1_probe00", session=info))

    registry.transact(put)
    path = tmp_path / "registry" / "log" / "0000000001.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"key":"M1_', b'{"kex":"M1_'))
    assert len(Registry(Store(tmp_path)).all()) == 3
    (tmp_path / "registry" / "M1_20240512_1_probe00.json").unlink()
    hurt = Registry(Store(tmp_path))
    assert sorted(hurt.all()) == ["M0_20240512_1_probe00", "M2_20240512_1_probe00"]
    assert list(hurt.damaged) == ["M1_20240512_1_probe00"]
    assert any("M1_" in each for each in hurt.verify())
    with pytest.raises(PermanentFailure, match="record of M1_20240512_1_probe00 .* damaged"):
        hurt.get("M1_20240512_1_probe00")
    path.write_bytes(b"x" + whole)
    assert len(Registry(Store(tmp_path)).all()) == 2, "what the records still hold"
    path.write_bytes(whole)
    assert len(Registry(Store(tmp_path)).all()) == 3


@pytest.mark.parametrize("how", ["body", "newer", "prefix"])
def test_a_record_that_cannot_be_read_outlives_snapshots_and_keeps_its_key(
    tmp_path, monkeypatch, how
):
    monkeypatch.setattr("neuro_assets.registry.registry.SNAPSHOT_EVERY", 2)
    registry = Registry(Store(tmp_path))
    made = register(registry, session(), recording(), "v1")
    log = tmp_path / "registry" / "log" / "0000000001.json"
    derived = tmp_path / "registry" / f"{made.key}.json"
    whole, kept = log.read_bytes(), derived.read_bytes()
    old, new = {
        "body": (b'"subject":"M1"', b'"subject":"M1'),
        "newer": (b'"subject":"M1"', b'"subject":{"name":"M1"}'),
        "prefix": (b'{"key":"M1_', b'{"kex":"M1_'),
    }[how]
    log.write_bytes(whole.replace(old, new))
    derived.write_bytes(kept.replace(b'"subject"', b'"animal"'))
    writer = Registry(Store(tmp_path))
    other = register(writer, session(subject="M2"), recording("S2"), "v1")
    for n in range(4):
        writer.update(other.key, lambda record, n=n: {"hold": f"{n}"})
        fresh = Registry(Store(tmp_path))
        assert list(fresh.all()) == [other.key]
        assert list(fresh.damaged) == [made.key]
        assert claim(fresh, session(lab="B"), recording("S9")).is_damaged
    snapshot = (tmp_path / "registry" / "snapshot.json").read_bytes()
    assert how == "prefix" or whole.replace(old, new).split(b"\n")[1] in snapshot
    derived.write_bytes(kept)
    assert Registry(Store(tmp_path)).all()[made.key] == made, "restored from a backup"


def test_a_log_line_damaged_in_its_body_is_read_from_the_derived_record(registry, tmp_path):
    made = register(registry, session(), recording(), "v1")
    log = tmp_path / "registry" / "log" / "0000000001.json"
    whole = log.read_bytes()
    for hurt in (whole.replace(b'"subject":"M1"', b'"subject":"M1'), whole[: len(whole) // 2]):
        log.write_bytes(hurt)
        fresh = Registry(Store(tmp_path))
        assert fresh.all() == {made.key: made} and not fresh.damaged
        assert fresh.get(made.key) == made


def test_a_derived_record_that_is_older_than_a_damaged_line_is_not_taken(
    registry, tmp_path, monkeypatch
):
    made = register(registry, session(), recording(), "v1")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_derive", lambda self: None)
        registry.update(made.key, lambda record: {"raw_version": "v2"})
    log = tmp_path / "registry" / "log" / "0000000002.json"
    log.write_bytes(log.read_bytes().replace(b'"subject":"M1"', b'"subject":"M1'))
    fresh = Registry(Store(tmp_path))
    assert not fresh.all() and list(fresh.damaged) == [made.key]
    register(fresh, session(subject="M2"), recording("S2"), "v1")
    assert len(fresh.all()) == 1, "what cannot be derived stops nobody"


def test_the_log_is_a_document_that_anybody_can_read(registry, tmp_path):
    made = register(registry, session(), recording(), "v1")
    document = json.loads((tmp_path / "registry" / "log" / "0000000001.json").read_text())
    assert document["number"] == 1 and document["records"][0]["key"] == made.key


def test_a_snapshot_replaces_the_log_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr("neuro_assets.registry.registry.SNAPSHOT_EVERY", 4)
    registry = Registry(Store(tmp_path))
    made = register(registry, session(), recording(), "v0")
    for n in range(1, 6):
        registry.update(made.key, lambda record, n=n: {"raw_version": f"v{n}"})
    log = tmp_path / "registry" / "log"
    for number in (1, 2, 3):
        (log / f"{number:010d}.json").unlink()
    assert Registry(Store(tmp_path)).all()[made.key].raw_version == "v5"


def test_what_a_killed_writer_left_is_read_and_mended(registry, tmp_path, monkeypatch):
    made = register(registry, session(), recording(), "v1")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_derive", lambda self: None)
        registry.update(made.key, lambda record: {"raw_version": "v2"})
    path = tmp_path / "registry" / f"{made.key}.json"
    assert json.loads(path.read_text())["raw_version"] == "v1"
    assert Registry(Store(tmp_path)).get(made.key).raw_version == "v2"
    register(registry, session(subject="M2"), recording("S2"), "v1")
    assert json.loads(path.read_text())["raw_version"] == "v2"
    assert registry.verify() == []


def test_the_index_is_derived_and_reads_the_same_when_empty(registry, tmp_path):
    assert registry.rebuild_index() == 0
    empty = pd.read_parquet(tmp_path / "registry.parquet")
    register(registry, session(), recording(), "v1")
    register(registry, session(subject="M2"), weak(), "v2", state="not_ready")
    (tmp_path / "registry.parquet").unlink()
    assert registry.rebuild_index() == 2
    frame = pd.read_parquet(io.BytesIO((tmp_path / "registry.parquet").read_bytes()))
    assert list(frame.dtypes) == list(empty.dtypes)
    rows = frame.set_index("key")
    assert rows.loc["M1_20240512_1_probe00", "duration_s"] == 10.0
    assert rows.loc["M1_20240512_1_probe00", "date"] == pd.Timestamp(DAY)
    assert rows.loc["M2_20240512_1_probe00", "state"] == "not_ready"
    assert pd.isna(rows.loc["M2_20240512_1_probe00", "probe_serial"])
    assert registry.store.assets() == []
    assert len(Registry(registry.store).all()) == 2


@pytest.mark.property
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=12), st.text(max_size=3)),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_hostile_subjects_get_distinct_safe_keys(tmp_path_factory, names):
    registry = Registry(Store(tmp_path_factory.mktemp("r")))
    keys = [
        register(registry, session(subject=subject, lab=lab), weak(), "v").key
        for subject, lab in names
    ]
    assert len({key.casefold() for key in keys}) == len(names)
    for key, (subject, lab) in zip(keys, names, strict=True):
        assert str(RecordingKey.parse(key)) == key
        assert registry.get(key).session.subject == subject
        assert claim(registry, session(subject=subject, lab=lab), weak()).key == key


def test_an_older_release_reads_a_record_with_a_new_field(registry, tmp_path):
    made = register(registry, session(), recording(), "v1")
    for path in (tmp_path / "registry").rglob("*.json"):
        path.write_text(path.read_text().replace('"key":', '"brand_new": 1, "key":'))
    assert isinstance(Registry(registry.store).get(made.key), RecordingRecord)


def test_records_of_the_first_format_are_taken_into_the_log(registry, tmp_path):
    made = RecordingRecord(key="M1_20240512_1_probe00", session=session(), recording=recording())
    old = made.model_dump(mode="json")
    for name, before in {"reported": "told", "version_alias": "known_as"}.items():
        old[before] = old.pop(name) or "v1"
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / f"{made.key}.json").write_text(json.dumps(old))
    (folder / "M2_20240512_1_probe00.json").write_text("{")
    assert adopt_records(registry) == 1 and adopt_records(registry) == 0
    known = Registry(Store(tmp_path)).all()
    assert list(known) == [made.key] and known[made.key].reported == "v1"
    assert "M2_20240512_1_probe00" in registry.verify()[0]
