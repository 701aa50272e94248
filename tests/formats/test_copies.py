"""Copies within a session, and what a SpikeGLX recording says of itself."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime

import pytest
from spikeglx_files import samples, write

from neuro_assets.formats import scan_session
from neuro_assets.formats.model import Identity
from neuro_assets.registry.actions import ActionKind
from neuro_assets.registry.registry import Registry
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import Store

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
FILE = "a_g0/a_g0_t0.imec0.ap"


def copy(folder, name):
    for suffix in (".bin", ".meta"):
        shutil.copy(folder / f"{FILE}{suffix}", folder / f"a_g0/{name}{suffix}")


@pytest.mark.parametrize("serial", ["19000000001", "0", ""])
@pytest.mark.parametrize("sha1", [None, "0"])
@pytest.mark.parametrize(
    "name", ["a_g0_t0.imec0.ap - Copy", "Copy of a_g0_t0.imec0.ap", "b_g0_t0.imec0.ap"]
)
def test_a_copy_in_the_session_never_takes_the_key(tmp_path, name, serial, sha1):
    root = tmp_path / "data"
    write(root / f"M1/{FILE}.bin", serial=serial, **({} if sha1 is None else {"sha1": sha1}))
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(root, settle_s=0)

    def scan():
        return register_sessions(registry, source.survey()[0], now=NOW)

    first = scan()
    copy(root / "M1", name)
    for _ in range(3):
        (action,) = scan()
        assert action.kind in (ActionKind.KEEP, ActionKind.UPDATE)
        assert action.record.raw_version == first[0].record.raw_version
        assert [problem.kind for problem in action.record.problems] == ["copy"]
    (record,) = registry.all().values()
    assert record.raw_history == []
    assert record.raw.main.files == (f"{FILE}.bin",)


def test_a_stored_hash_that_differs_means_other_data(tmp_path):
    write(tmp_path / f"{FILE}.bin", seed=0)
    write(tmp_path / "a_g0/b_g0_t0.imec0.ap.bin", seed=1)
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 2
    one, other = (each.identity for each in scan.recordings)
    assert one.origin == other.origin
    assert not one.is_same(other)
    registry = Registry(Store(tmp_path / "store"))
    register_sessions(registry, LocalSessionSource(tmp_path, bare_root=True).survey()[0])
    assert len(registry.all()) == 2


def test_content_tells_where_no_hash_is_stored(tmp_path):
    write(tmp_path / f"{FILE}.bin", seed=0, sha1="0")
    write(tmp_path / "a_g0/b_g0_t0.imec0.ap.bin", seed=1, sha1="0")
    scan = scan_session(tmp_path)
    assert [each.label for each in scan.recordings] == ["probe00", "probe00-r2"]


@pytest.mark.parametrize("serial", ["", "0", "000", " 0 ", 0])
def test_a_serial_of_zero_is_none(serial):
    said = Identity(probe_serial=serial, created=datetime(2024, 1, 1), first_sample=1, size_bytes=2)
    assert said.probe_serial is None
    assert not said.is_strong


def test_probes_without_a_serial_are_not_taken_for_each_other(tmp_path):
    for probe in range(2):
        write(tmp_path / f"s/a_g0_t0.imec{probe}.ap.bin", serial="0", seed=probe)
        write(tmp_path / f"t/a_g0_t0.imec{probe}.ap.bin", serial="0", seed=probe + 2)
    registry = Registry(Store(tmp_path / "store"))
    for _ in range(2):
        register_sessions(registry, LocalSessionSource(tmp_path).survey()[0])
        assert len(registry.all()) == 4


def test_probes_of_one_run_are_two_though_their_serial_is_one(tmp_path):
    for probe in range(2):
        name = f"D:/a_g0/a_g0_t0.imec{probe}.ap.bin"
        path = tmp_path / f"s/a_g0_t0.imec{probe}.ap.bin"
        write(path, seed=probe, sha1="0", file_name=name)
    registry = Registry(Store(tmp_path / "store"))
    register_sessions(registry, LocalSessionSource(tmp_path).survey()[0])
    assert len(registry.all()) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"created": "2024-05-12T15:00:00"},
        {"first_sample": 900_000},
        {"sha1": "0"},
    ],
)
def test_two_recordings_with_one_run_name_are_both_held_and_none_is_to_be_removed(tmp_path, other):
    names = [f"mouse{n}/rec_g0/rec_g0_t0.imec0.ap.bin" for n in (1, 2)]
    write(tmp_path / names[0], seed=1)
    write(tmp_path / names[1], seed=2, **other)
    scan = scan_session(tmp_path)
    assert scan.recordings == ()
    assert [problem.kind for problem in scan.problems] == ["conflicting_files"] * 2
    assert {problem.path for problem in scan.problems} == set(names)
    for problem in scan.problems:
        assert all(name in problem.detail for name in names)
        assert "remove" not in problem.detail


@pytest.mark.parametrize("sha1", ["0", hashlib.sha1(samples(300, 0).tobytes()).hexdigest()])
def test_one_header_with_other_samples_is_another_recording_whatever_hash_it_has(tmp_path, sha1):
    names = [tmp_path / f"data/Subjects/{m}/2024-05-12/001/{FILE}.bin" for m in ("M1", "M2")]
    for seed, name in enumerate(names):
        write(name, seed=seed, sha1=sha1)
    registry = Registry(Store(tmp_path / "store"))
    register_sessions(registry, LocalSessionSource(tmp_path / "data", settle_s=0).survey()[0])
    first, second = registry.all().values()
    assert (first.state, second.state) == ("ready", "held")
    assert "samples differ" in second.reason


def test_a_copy_that_says_too_little_of_itself_takes_no_key(tmp_path):
    root = tmp_path / "data"
    says = {"created": None, "sha1": None, "serial": "0"}
    write(root / "M1/a_g0/a_g0_t0.imec0.ap.bin", seed=1, **says)
    write(root / "M1/bc_g0/bc_g0_t0.imec0.ap.bin", seed=1, **says)
    write(root / "M1/d_g0/d_g0_t0.imec0.ap.bin", seed=2, **says)
    (root / "M1/raw_session.flag").touch()
    registry = Registry(Store(tmp_path / "store"))
    for _ in range(2):
        register_sessions(registry, LocalSessionSource(root).survey()[0])
        assert [r.raw.main.files[0][:2] for r in registry.all().values()] == ["a_", "d_"]
        (problem,) = {p for r in registry.all().values() for p in r.problems if p.kind == "copy"}
        assert problem.path == "bc_g0/bc_g0_t0.imec0.ap.bin"
