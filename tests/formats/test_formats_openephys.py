"""Open Ephys folders: experiments, recordings, record nodes, copies, damage."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from places import REAL

from neuro_assets.formats import scan_session
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.modalities import MODALITIES
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.raw_versions import raw_version
from neuro_assets.formats.timeline import timeline_of

OE = REAL / "openephys_aind_v06_npx2probes"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not OE.is_dir(), reason=f"no real Open Ephys data in {OE}"),
]
NODE = "Record Node 101"
PROBE_B = "continuous/Neuropix-PXI-100.ProbeB"


@pytest.fixture
def session(tmp_path):
    """Experiment 1 of the real recording, that a test may damage."""
    source = next(OE.iterdir()) / NODE
    target = tmp_path / "2022-05-03_10-52-24" / NODE
    shutil.copytree(source / "experiment1", target / "experiment1")
    shutil.copy(source / "settings.xml", target)
    return tmp_path


def node(session, name=NODE):
    return session / "2022-05-03_10-52-24" / name


def recording(session, name=NODE):
    return node(session, name) / "experiment1/recording1"


def later(folder):
    """Make a copied recording one that was recorded after the original."""
    for path in folder.rglob("sample_numbers.npy"):
        np.save(path, np.load(path) + 1_000_000)
    for path in folder.rglob("timestamps.npy"):
        numbers = np.load(path)
        if np.issubdtype(numbers.dtype, np.integer):
            np.save(path, numbers + 1_000_000)


def labels(scan):
    return sorted(one.label for one in scan.recordings)


def kinds(scan):
    return sorted(problem.kind for problem in scan.problems)


def test_every_experiment_of_the_real_recording_is_found():
    scan = scan_session(OE)
    assert labels(scan) == [
        "probe01",
        "probe01-e3r1",
        "probe01-e6r1",
        "probe02",
        "probe02-e3r1",
        "probe02-e6r1",
    ]
    assert scan.problems == ()
    first = next(one for one in scan.recordings if one.label == "probe01")
    assert first.identity.probe_serial == "20403311724"
    # From sync_messages.txt, which the scan does not read.
    assert first.identity.first_sample == 1863198
    assert first.identity.is_strong
    assert set(first.streams) == {"wideband"}
    assert len({one.identity for one in scan.recordings}) == 6


def test_the_real_recording_opens_as_with_spikeinterfaces_own_reader():
    from spikeinterface.extractors import read_openephys

    folder = next(OE.iterdir())
    for one in scan_session(folder).recordings:
        experiment = one.main.files[0].split("/")[1]
        stream = open_raw(one, folder)["wideband"]
        name = f"{NODE}#Neuropix-PXI-100.{one.reader_options['probe_name']}"
        reference = read_openephys(folder, experiment_name=experiment, stream_name=name)
        assert np.array_equal(stream.neural.get_traces(), reference.get_traces())
        assert list(stream.neural.channel_ids) == list(reference.channel_ids)
        np.testing.assert_allclose(stream.neural.get_channel_gains(), reference.get_channel_gains())
        np.testing.assert_allclose(
            stream.neural.get_channel_locations(), reference.get_channel_locations()
        )
        np.testing.assert_allclose(
            stream.neural.get_property("inter_sample_shift"),
            reference.get_property("inter_sample_shift"),
        )


def test_a_copied_record_node_does_not_double_the_streams(session):
    shutil.copytree(node(session), node(session, "Record Node 115"))
    scan = scan_session(session)
    assert labels(scan) == ["probe01", "probe02"]
    assert all(NODE in one.main.files[0] for one in scan.recordings)
    assert kinds(scan) == ["duplicate_stream"] * 2
    assert all("Record Node 115" in problem.path for problem in scan.problems)


def test_the_node_nearest_to_the_source_is_chosen_whatever_its_number(session):
    shutil.copytree(node(session), node(session, "Record Node 99"))
    oebin = recording(session, "Record Node 99") / "structure.oebin"
    oebin.write_text(
        oebin.read_text().replace(
            "Merger -> Record Node", "Merger -> Bandpass Filter -> Record Node"
        )
    )
    scan = scan_session(session)
    assert all(NODE in one.main.files[0] for one in scan.recordings)
    assert all(one.processed == "" for one in scan.recordings)
    shutil.rmtree(node(session))
    assert all("Bandpass" in one.processed for one in scan_session(session).recordings)


def test_a_broken_stream_in_one_node_is_taken_from_the_other(session):
    shutil.copytree(node(session), node(session, "Record Node 115"))
    (recording(session) / PROBE_B / "continuous.dat").write_bytes(b"")
    scan = scan_session(session)
    assert labels(scan) == ["probe01", "probe02"]
    assert "empty_file" in kinds(scan)


def test_recordings_of_one_experiment_are_told_apart(session):
    later(shutil.copytree(recording(session), recording(session).parent / "recording2"))
    assert labels(scan_session(session)) == [
        "probe01",
        "probe01-e1r2",
        "probe02",
        "probe02-e1r2",
    ]


def test_two_acquisitions_in_one_session_are_told_apart(session):
    later(shutil.copytree(session / "2022-05-03_10-52-24", session / "2022-05-03_11-00-00"))
    assert labels(scan_session(session)) == ["probe01", "probe01-b2", "probe02", "probe02-b2"]


def test_a_folder_without_record_node_is_read(session):
    node(session).rename(session / "flat")
    shutil.rmtree(session / "2022-05-03_10-52-24")
    assert labels(scan_session(session / "flat")) == ["probe01", "probe02"]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda stream: (stream / "continuous.dat").write_bytes(b""), "empty_file"),
        (lambda stream: (stream / "continuous.dat").write_bytes(b"1" * 1001), "truncated"),
        (lambda stream: (stream / "continuous.dat").write_bytes(b"1" * 7680), "truncated"),
        (lambda stream: (stream / "continuous.dat").unlink(), "data_missing"),
    ],
)
def test_a_broken_stream_does_not_hide_the_other_probe(session, damage, kind):
    damage(recording(session) / PROBE_B)
    scan = scan_session(session)
    assert labels(scan) == ["probe02"]
    assert kinds(scan) == [kind]
    assert "ProbeB" in scan.problems[0].path


@pytest.mark.parametrize("value", [float("nan"), 0, None, "x"])
def test_a_bit_volts_that_is_no_gain_is_reported(session, value):
    oebin = recording(session) / "structure.oebin"
    structure = json.loads(oebin.read_text())
    structure["continuous"][0]["channels"][5]["bit_volts"] = value
    oebin.write_text(json.dumps(structure))
    scan = scan_session(session)
    assert labels(scan) == ["probe02"]
    assert kinds(scan) == ["bad_gain"]


def test_missing_or_damaged_structure_and_settings_are_reported(session):
    oebin = recording(session) / "structure.oebin"
    text = oebin.read_text()
    oebin.write_text(text[:-5000])
    assert kinds(scan_session(session)) == ["meta_broken"]
    oebin.unlink()
    assert kinds(scan_session(session)) == ["meta_missing"] * 3
    oebin.write_text(text)
    (node(session) / "settings.xml").write_text("<SETTINGS>")
    assert kinds(scan_session(session)) == ["unknown_probe"] * 2
    (node(session) / "settings.xml").unlink()
    scan = scan_session(session)
    assert kinds(scan) == ["unknown_probe"] * 2
    assert "settings.xml" in scan.problems[0].detail


def test_settings_with_another_channel_count_are_reported(session):
    oebin = recording(session) / "structure.oebin"
    structure = json.loads(oebin.read_text())
    entry = structure["continuous"][0]
    entry["channels"], entry["num_channels"] = entry["channels"][:192], 192
    oebin.write_text(json.dumps(structure))
    for name in ("sample_numbers.npy", "timestamps.npy"):
        (recording(session) / PROBE_B / name).unlink()
    scan = scan_session(session)
    assert labels(scan) == ["probe02"]
    assert kinds(scan) == ["channel_count"]


def test_a_sync_channel_in_the_stream_is_not_neural(session):
    oebin = recording(session) / "structure.oebin"
    structure = json.loads(oebin.read_text())
    entry = structure["continuous"][0]
    entry["channels"].append({**entry["channels"][0], "channel_name": "SYNC"})
    entry["num_channels"] = 385
    oebin.write_text(json.dumps(structure))
    dat = recording(session) / PROBE_B / "continuous.dat"
    old = np.fromfile(dat, np.int16).reshape(-1, 384)
    np.column_stack([old, np.arange(100, dtype=np.int16)]).astype(np.int16).tofile(dat)
    one = next(one for one in scan_session(session).recordings if one.label == "probe01")
    stream = open_raw(one, session)["wideband"]
    assert stream.sync_channel_ids == ["SYNC"]
    assert np.array_equal(stream.neural.get_traces(), old)
    assert stream.recording.get_traces(channel_ids=["SYNC"])[:, 0].tolist() == list(range(100))


@pytest.mark.parametrize("what", ["recording2", "acquisition"])
def test_a_byte_identical_copy_is_reported_once_and_the_first_stays(session, what):
    before = scan_session(session)
    if what == "recording2":
        shutil.copytree(recording(session), recording(session).parent / "recording2")
    else:
        shutil.copytree(session / "2022-05-03_10-52-24", session / "2022-05-03_11-00-00")
    for _ in range(2):
        scan = scan_session(session)
        assert scan.recordings == before.recordings
        assert kinds(scan) == ["copy", "copy"]


def test_streams_of_one_file_set_are_recordings_whatever_serial_they_share(session, monkeypatch):
    # Quad Base: four shanks are four streams with one serial, date and first sample.
    import probeinterface

    real = probeinterface.read_openephys_neuropixels

    def one_serial(*args, **options):
        probe = real(*args, **options)
        if probe is not None:
            probe.annotate(serial_number="7")
        return probe

    monkeypatch.setattr(probeinterface, "read_openephys_neuropixels", one_serial)
    for numbers in recording(session).rglob("sample_numbers.npy"):
        np.save(numbers, np.arange(np.load(numbers).size) + 5)
    first, second = scan_session(session).recordings
    assert first.identity.origin[0] == second.identity.origin[0] == "7"
    assert first.identity.is_strong
    assert not first.identity.is_same(second.identity)


def stream_b(session):
    return recording(session) / PROBE_B


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def garbled(path):
    path.write_bytes(b"\x93NUMPY\x01\x00" + b"x" * 200)


def without_rows(path):
    np.save(path, np.zeros(0, np.int64))


def in_seconds(path):
    np.save(path, np.load(path) / 30000)


def gone(path):
    path.unlink()


@pytest.mark.parametrize("damage", [empty, cut, garbled, without_rows, in_seconds, gone])
def test_a_stream_without_readable_sample_numbers_is_no_gapless_recording(session, damage):
    one = next(one for one in scan_session(session).recordings if one.label == "probe01")
    damage(stream_b(session) / "sample_numbers.npy")
    scan = scan_session(session)
    assert labels(scan) == ["probe02"]
    (problem,) = scan.problems
    assert problem.kind in ("sample_numbers", "truncated")
    assert "copy" in problem.detail and "\n" not in problem.detail
    assert PROBE_B in problem.path
    with pytest.raises(Broken, match="sample"):  # damaged after it was found
        open_raw(one, session)


def test_sample_numbers_of_old_versions_stand_in_timestamps(session):
    for path in recording(session).rglob("sample_numbers.npy"):
        numbers = np.load(path)
        numbers[50:] += 7
        path.unlink()
        np.save(path.with_name("timestamps.npy"), numbers)
    scan = scan_session(session)
    assert labels(scan) == ["probe01", "probe02"]
    for one in scan.recordings:
        assert one.main.n_missing == 7
        assert one.main.sample_numbers[0].endswith("/timestamps.npy")
        assert timeline_of(open_raw(one, session)["wideband"].neural).clock == (0, 57)
        earlier = one.main.model_copy(update={"sample_numbers": ()})
        before = one.model_copy(update={"streams": {"wideband": earlier}})
        assert timeline_of(open_raw(before, session)["wideband"].neural).clock == (0, 57)


def test_other_sample_numbers_are_another_version_and_have_to_be_fetched(session):
    def found():
        return next(one for one in scan_session(session).recordings if one.label == "probe01")

    one, path = found(), stream_b(session) / "sample_numbers.npy"
    assert path.relative_to(session).as_posix() in MODALITIES["recording"].files(one)
    numbers = np.load(path)
    numbers[50:80] += 7  # two gaps; the first and the last number stay
    numbers[80:] += 7
    before = raw_version(one, session)
    np.save(path, numbers)
    assert raw_version(found(), session) != before
    shifted = np.load(path)
    shifted[50:60] -= 7  # the same first and last number, a gap elsewhere
    before = raw_version(found(), session)
    np.save(path, shifted)
    assert found().main.n_missing == 7
    assert raw_version(found(), session) != before
