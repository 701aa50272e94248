"""Hostile headers and names: each costs its own recording only, and is shown."""

from __future__ import annotations

import json
import os
import socket
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spikeglx_files import write

from neuro_assets.formats import scan_session
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta, parse_fields, parse_subset
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.registry import Registry
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import Store

DIGITS = "9" * 5000


def good_and(tmp_path, **extra):
    write(tmp_path / "good_g0_t0.imec0.ap.bin", serial="1")
    path = write(tmp_path / "odd_g0_t0.imec1.ap.bin", serial="2", extra=extra)
    return path, scan_session(tmp_path)


@pytest.mark.parametrize(
    "extra",
    [
        {"nSavedChans": DIGITS}, {"nSavedChans": "1e300"}, {"nSavedChans": "-3"},
        {"nSavedChans": "nan"}, {"snsApLfSy": f"{DIGITS},0,1"}, {"snsApLfSy": "8,1"},
        {"snsApLfSy": "8,0,\u00b9"}, {"snsSaveChanSubset": "0:2000000000"},
        {"snsSaveChanSubset": "\u00b2"}, {"imSampRate": DIGITS}, {"imSampRate": "1e300"},
        {"imSampRate": "0"}, {"typeThis": DIGITS}, {"~imroTbl": "(0,384)(" + DIGITS + ")"},
        {"~imroTbl": "(" * 100_000},
    ],
)  # fmt: skip
def test_a_header_without_sense_costs_its_own_recording_only(tmp_path, extra):
    path, scan = good_and(tmp_path, **extra)
    assert [each.main.files for each in scan.recordings] == [("good_g0_t0.imec0.ap.bin",)]
    (problem,) = (each for each in scan.problems if each.path == path.name)
    assert len(problem.detail) < 400


@pytest.mark.parametrize("value", ["\u00b2", DIGITS, "-1", "x", "1e5x"])
@pytest.mark.parametrize("field", ["firstSample", "fileSizeBytes", "fileTimeSecs", "NP2.4_shank"])
def test_a_field_that_can_be_done_without_is_taken_as_missing(tmp_path, field, value):
    _, scan = good_and(tmp_path, **{field: value})
    assert len(scan.recordings) == 2


def test_pipes_sockets_and_devices_are_reported_and_never_opened(tmp_path):
    write(tmp_path / "good_g0_t0.imec0.ap.bin")
    write(tmp_path / "two_g0_t0.imec1.ap.bin", serial="2")
    (tmp_path / "zero_g0_t0.imec2.ap.bin").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "socket.bin"))
        scan = scan_session(tmp_path)
    kinds = {problem.path: problem.kind for problem in scan.problems}
    assert kinds["zero_g0_t0.imec2.ap.bin"] == kinds["socket.bin"] == "not_a_file"
    assert len(scan.recordings) == 2


def test_a_pipe_named_as_a_meta_does_not_hang(tmp_path):
    write(tmp_path / "good_g0_t0.imec0.ap.bin")
    data = write(tmp_path / "pipe_g0_t0.imec1.ap.bin", serial="2")
    data.with_suffix(".meta").unlink()
    os.mkfifo(data.with_suffix(".meta"))
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert {problem.kind for problem in scan.problems} == {"not_a_file", "meta_missing"}


def test_a_huge_meta_is_not_read(tmp_path):
    path, _ = good_and(tmp_path)
    with path.with_suffix(".meta").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    scan = scan_session(tmp_path)
    assert [problem.kind for problem in scan.problems] == ["meta_broken"]
    assert len(scan.recordings) == 1


@pytest.mark.parametrize("continuous", [[1], [{}], [{"channels": 3}], [{"folder_name": "../x"}]])
def test_a_structure_without_sense_is_reported(tmp_path, continuous):
    write(tmp_path / "good_g0_t0.imec0.ap.bin")
    folder = tmp_path / "Record Node 101/experiment1/recording1"
    folder.mkdir(parents=True)
    (folder / "structure.oebin").write_text(json.dumps({"continuous": continuous}))
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert scan.problems


@pytest.mark.parametrize("name", ["s" * 240, "\u00e4" * 120, "x" * 100 + ".." * 20])
def test_a_long_name_gets_a_key_that_a_file_can_have(tmp_path, name):
    write(tmp_path / f"data/{name}/a_g0_t0.imec0.ap.bin", serial="1")
    write(tmp_path / "data/plain/a_g0_t0.imec0.ap.bin", serial="2")
    registry = Registry(Store(tmp_path / "store"))
    register_sessions(registry, LocalSessionSource(tmp_path / "data").survey()[0])
    keys = list(registry.all())
    assert len(keys) == 2
    assert all(len(key) < 120 for key in keys)
    other = RecordingKey.make(name + "2", date(2024, 5, 12), 1, "probe00")
    assert str(other) not in keys
    assert RecordingKey.parse(str(other)) == other


@pytest.mark.property
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=60), n=st.integers(0, 400))
def test_any_channel_list_is_a_list_of_bounded_length(text, n):
    assert len(parse_subset(text, n)) <= 1 << 16


@pytest.mark.property
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=40))
def test_optional_fields_are_read_or_none_whatever_they_hold(text):
    names = ("firstSample", "fileSizeBytes", "fileTimeSecs", "fileCreateTime", "fileName")
    meta = SpikeGLXMeta(parse_fields("\n".join(f"{name}={text}" for name in names)))
    for value in (meta.first_sample, meta.file_size, meta.file_time):
        assert value is None or value >= 0
    assert isinstance(meta.stream, str)
    assert meta.created is None or meta.created.tzinfo is None
