"""Readers whose samples lie beside the matched file: they are part of the recording."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from header_folders import intan, neuroscope
from spikeglx_files import samples

from neuro_assets.formats import scan_session
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.completeness import what_is_missing
from neuro_assets.formats.model import Wiring
from neuro_assets.formats.opened_files import opened_files
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.raw_versions import raw_version
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.registry import Registry
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import Store

TETRODE = Wiring(positions_um=((0, 0), (25, 0), (0, 25), (25, 25)))


def write_neuroscope(folder, data):
    neuroscope(folder, data)
    return {"amp.xml", "amp.dat"}, "amp.dat"


def write_per_signal(folder, data):
    intan(folder, data)
    return {"info.rhd", "amplifier.dat", "time.dat", "digitalin.dat"}, "amplifier.dat"


def write_per_channel(folder, data):
    intan(folder, data, per_channel=True)
    amplifiers = {f"amp-A-{i:03d}.dat" for i in range(4)}
    return {"info.rhd", "time.dat", "board-DIGITAL-IN-00.dat", *amplifiers}, "amp-A-002.dat"


CASES = [
    pytest.param(write_neuroscope, ReaderEntry(glob="**/*.xml", reader="neuroscope",
                                               wiring=TETRODE), id="neuroscope"),
    pytest.param(write_per_signal, ReaderEntry(glob="**/*.rhd", reader="intan", wiring=TETRODE,
                 options={"stream_name": "RHD2000 amplifier channel"}), id="intan-per-signal"),
    pytest.param(write_per_channel, ReaderEntry(glob="**/*.rhd", reader="intan", wiring=TETRODE,
                 options={"stream_name": "RHD2000 amplifier channel"}), id="intan-per-channel"),
]  # fmt: skip
each_format = pytest.mark.parametrize(("write", "entry"), CASES)


def data(seed, n=3000):
    return samples(n, seed, 4)


def sessions(root: Path, write):
    for seed, place in enumerate(("M1/2024-05-12/001", "M2/2024-06-01/001")):
        write(root / "Subjects" / place, data(seed))


@each_format
def test_files_that_the_reader_opens_are_part_of_the_recording(tmp_path, write, entry):
    names, sample_file = write(tmp_path / "rec", data(1))
    scan = scan_session(tmp_path, [entry])
    assert scan.problems == ()
    (one,) = scan.recordings
    assert {Path(name).name for name in one.main.files} == names
    assert one.main.files[0].endswith((".xml", ".rhd"))
    stream = open_raw(one, tmp_path)["wideband"]
    assert np.array_equal(stream.recording.get_traces(), data(1))
    version = raw_version(one, tmp_path)
    write(tmp_path / "rec", data(2))
    assert raw_version(one, tmp_path) != version
    write(tmp_path / "rec", data(2, n=2000))
    with pytest.raises(PermanentFailure, match="was changed"):
        open_raw(one, tmp_path)
    write(tmp_path / "rec", data(1))
    (tmp_path / "rec" / sample_file).unlink()
    with pytest.raises(PermanentFailure, match=f"{sample_file} is missing"):
        open_raw(one, tmp_path)


@each_format
def test_two_animals_with_one_header_are_two_recordings_and_other_samples_are_seen(
    tmp_path, write, entry
):
    sessions(tmp_path / "data", write)
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(tmp_path / "data", readers=(entry,), settle_s=0)
    register_sessions(registry, source.survey()[0])
    first, second = registry.all().values()
    assert (first.state, second.state) == ("ready", "ready")
    assert first.session.subject == "M1" and second.session.subject == "M2"
    _, sample_file = write(tmp_path / "data/Subjects/M1/2024-05-12/001", data(7))
    register_sessions(registry, source.survey()[0], reprocess_changed=True)
    after = registry.all()[first.key]
    assert after.raw_version != first.raw_version
    assert (after.request, registry.all()[second.key].request) == (2, 1)


@each_format
def test_space_that_was_reserved_for_samples_is_waited_for(tmp_path, write, entry):
    whole = data(1, n=40_000)
    write(tmp_path, whole)
    (one,) = scan_session(tmp_path, [entry]).recordings
    assert what_is_missing(one, tmp_path) == ()  # though the digital input ends in zeros
    whole[-20_000:] = 0
    write(tmp_path, whole)
    (one,) = scan_session(tmp_path, [entry]).recordings
    (reason,) = what_is_missing(one, tmp_path)
    assert "end in zeros" in reason


def test_samples_that_cannot_be_found_are_not_taken(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    neuroscope(elsewhere, data(1))
    session = tmp_path / "session"
    neuroscope(session, data(1))
    (session / "amp.dat").unlink()
    entry = ReaderEntry(
        glob="**/*.xml",
        reader="neuroscope",
        path_argument="xml_file_path",
        wiring=TETRODE,
        options={"file_path": str(elsewhere / "amp.dat")},
    )
    scan = scan_session(session, [entry])
    assert scan.recordings == ()
    assert [problem.kind for problem in scan.problems] == ["samples_elsewhere"]
    assert "lab.yaml" in scan.problems[0].detail


def test_a_file_that_an_option_names_is_part_of_the_version(tmp_path):
    header = neuroscope(tmp_path / "lab", data(1), "template")
    session = tmp_path / "session"
    session.mkdir()
    data(1).astype("<i2").tofile(session / "a.dat")
    entry = ReaderEntry(
        glob="*.dat", reader="neuroscope", wiring=TETRODE, options={"xml_file_path": str(header)}
    )
    (one,) = scan_session(session, [entry]).recordings
    version = raw_version(one, session)
    header.write_text(header.read_text().replace(">1000<", ">2000<"))
    assert raw_version(one, session) != version


def test_samples_behind_a_link_are_found(tmp_path):
    neuroscope(tmp_path / "disk", data(1))
    session = tmp_path / "session"
    session.mkdir()
    for name in ("amp.xml", "amp.dat"):
        (session / name).symlink_to(tmp_path / "disk" / name)
    entry = CASES[0].values[1]
    (one,) = scan_session(session, [entry]).recordings
    assert one.main.files == ("amp.xml", "amp.dat")


def test_only_files_that_are_opened_meanwhile_and_by_this_thread_are_told(tmp_path):
    (tmp_path / "before").touch()
    (tmp_path / "while").touch()
    (tmp_path / "before").open().close()
    with opened_files() as names:
        np.fromfile(tmp_path / "while", np.uint8)
        os.close(os.open(os.fsencode(tmp_path / "while"), os.O_RDONLY))
        with opened_files() as inner:
            pass
    (tmp_path / "before").open().close()
    assert names == {str(tmp_path / "while")}
    assert inner == set()


def test_equal_files_of_an_entry_are_one_recording_and_a_copy(tmp_path):
    entry = ReaderEntry(
        glob="**/*.raw", reader="binary", wiring=TETRODE, gain_uv=0.5,
        options={"sampling_frequency": 15000.0, "num_channels": 4, "dtype": "int16"},
    )  # fmt: skip
    root = tmp_path / "data"
    folder = root / "Subjects/M1/2024-05-12/001"
    folder.mkdir(parents=True)
    data(1).tofile(folder / "b.raw")
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(root, readers=(entry,), settle_s=0)
    register_sessions(registry, source.survey()[0])
    data(1).tofile(folder / "a - Copy.raw")
    data(2).tofile(folder / "c.raw")
    for _ in range(3):
        register_sessions(registry, source.survey()[0])
        records = registry.all()
        assert {k: r.raw.main.files for k, r in records.items()} == {
            "M1_20240512_1_probe00": ("b.raw",),
            "M1_20240512_1_probe00-t2": ("c.raw",),
        }
        assert all(r.raw_history == [] for r in records.values())
        problems = [p for r in records.values() for p in r.problems]
        assert {(p.kind, p.path) for p in problems} == {("copy", "a - Copy.raw")}


def test_a_pattern_that_matches_a_header_and_its_samples_gives_one_recording(tmp_path):
    neuroscope(tmp_path, data(1))
    entry = ReaderEntry(glob="**/amp.*", reader="neuroscope", wiring=TETRODE)
    scan = scan_session(tmp_path, [entry])
    assert [one.label for one in scan.recordings] == ["probe00"]
    assert [problem.kind for problem in scan.problems] == ["matched_twice"]
    # Two entries that divide the channels among probes are two recordings.
    halves = [
        ReaderEntry(glob="**/*.xml", reader="neuroscope", probe=f"probe0{i}", wiring=Wiring(
            positions_um=((0, 0), (0, 25)), channels=(2 * i, 2 * i + 1)),
            sync_channels=(2 - 2 * i, 3 - 2 * i))
        for i in range(2)
    ]  # fmt: skip
    scan = scan_session(tmp_path, halves)
    assert [one.label for one in scan.recordings] == ["probe00", "probe01"]
    registry = Registry(Store(tmp_path / "store"))
    register_sessions(registry, LocalSessionSource(tmp_path, readers=tuple(halves),
                                                   bare_root=True).survey()[0])  # fmt: skip
    assert len(registry.all()) == 2


def problem_of(folder, case):
    scan = scan_session(folder, [CASES[case].values[1]])
    assert scan.recordings == ()
    return next(p for p in scan.problems if p.kind not in ("unrecognised", "partial_copy"))


@pytest.mark.parametrize("ending", [".eeg", ".lfp"])
def test_the_lfp_of_neuroscope_is_never_taken_for_the_wideband(tmp_path, ending):
    root = tmp_path / "data"
    folder = root / "Subjects/M1/2024-05-12/001"
    neuroscope(folder, data(1))
    data(3, n=200).tofile(folder / f"amp{ending}")
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(root, readers=(CASES[0].values[1],), settle_s=0)
    register_sessions(registry, source.survey()[0])
    (before,) = registry.all().values()
    assert before.state == "ready"
    (folder / "amp.dat").rename(folder / "amp.dat.part")
    register_sessions(registry, source.survey()[0], reprocess_changed=True)
    (after,) = registry.all().values()
    assert after.state == "vanished"
    assert after.raw.main.files == ("amp.xml", "amp.dat")
    assert (after.raw_version, after.request) == (before.raw_version, 1)
    assert "amp.dat is not there" in after.reason
    (folder / "amp.dat.part").rename(folder / "amp.dat")
    register_sessions(registry, source.survey()[0])
    (again,) = registry.all().values()
    assert (again.state, again.raw_version) == ("ready", before.raw_version)


def test_a_pattern_names_the_lfp_of_neuroscope_or_does_not(tmp_path):
    neuroscope(tmp_path, data(1))
    (tmp_path / "amp.dat").rename(tmp_path / "amp.lfp")
    for glob, n_found in (("**/*.lfp", 1), ("**/amp.*", 0)):
        entry = ReaderEntry(glob=glob, reader="neuroscope", wiring=TETRODE)
        assert len(scan_session(tmp_path, [entry]).recordings) == n_found
    header = tmp_path / "amp.xml"
    rate = "<fieldPotentials><lfpSamplingRate>1250</lfpSamplingRate></fieldPotentials></parameters>"
    header.write_text(header.read_text().replace("</parameters>", rate))
    scan = scan_session(tmp_path, [entry.model_copy(update={"glob": "**/*.lfp"})])
    assert scan.recordings == ()
    assert "1250 Hz, and the reader takes it for 20000 Hz" in scan.problems[0].detail


def test_a_file_of_no_channel_and_a_channel_without_a_file_are_refused(tmp_path):
    write_per_channel(tmp_path, data(1))
    (one,) = scan_session(tmp_path, [CASES[2].values[1]]).recordings
    copy = tmp_path / "amp-A-001 - Copy.dat"
    copy.write_bytes((tmp_path / "amp-A-001.dat").read_bytes())
    found = problem_of(tmp_path, 2)
    assert found.kind == "channel_files" and copy.name in found.detail
    with pytest.raises(PermanentFailure, match=copy.name):
        open_raw(one, tmp_path)
    copy.unlink()
    (tmp_path / "amp-A-001.dat").unlink()
    found = problem_of(tmp_path, 2)
    assert found.kind == "channel_files" and "no file of channel A-001" in found.detail
    # The reader looks into every folder below.
    write_per_channel(tmp_path, data(1))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "amp-A-001.dat").write_bytes(bytes(2 * 3000))
    assert "5 files" in problem_of(tmp_path, 2).detail


@pytest.mark.parametrize(
    ("case", "name", "size", "n_bytes"),
    [
        (1, "amplifier.dat", 8 * 2000, 8000),
        (1, "amplifier.dat", 8 * 2000 + 3, 7997),
        (1, "time.dat", 4 * 2000, 4000),
        (2, "amp-A-000.dat", 2 * 2000, 2000),
        (2, "amp-A-003.dat", 2 * 2000, 2000),
        (2, "time.dat", 4 * 2000, 4000),
    ],
)
def test_files_that_end_at_different_samples_are_refused(tmp_path, case, name, size, n_bytes):
    write = CASES[case].values[0]
    write(tmp_path, data(1))
    with (tmp_path / name).open("r+b") as file:
        file.truncate(size)
    found = problem_of(tmp_path, case)
    assert found.kind == "truncated"
    assert found.detail.startswith(f"{name} holds 2000 of ")
    assert f"{n_bytes} bytes are missing" in found.detail


@pytest.mark.parametrize(("case", "name"), [(1, "digitalin.dat"), (2, "board-DIGITAL-IN-00.dat")])
@pytest.mark.parametrize("n", [0, 2999, 3001])
def test_a_digital_input_that_is_not_as_long_as_the_recording_is_refused(tmp_path, case, name, n):
    CASES[case].values[0](tmp_path, data(1))
    (tmp_path / name).write_bytes(bytes(2 * n) or b"\0")
    found = problem_of(tmp_path, case)
    assert found.kind in ("truncated", "reader_failed")
    if n:
        assert f"{name} holds {n} samples, the recording beside it 3000" in found.detail


def test_inputs_that_are_sampled_slower_are_compared_with_their_own_length(tmp_path):
    from neuro_assets.formats.companions import _check_beside

    for name, n, stream in (
        ("auxiliary.dat", 750, "RHD2000 auxiliary input channel"),
        ("auxiliary.dat", 3000, "RHD2000 auxiliary input channel"),
        ("supply.dat", 50, "RHD2000 supply voltage channel"),
    ):
        np.zeros((n, 3), "<u2").tofile(tmp_path / name)
        file = np.memmap(tmp_path / name, "<u2", "r", shape=(n, 3))
        _check_beside([file], 3000, stream)
        with pytest.raises(Broken, match=f"{name} holds {n} samples"):
            _check_beside([file], 3100, stream)


@pytest.mark.parametrize("start", [0, 20_000])
def test_a_channel_whose_file_is_zero_at_its_end_is_waited_for_by_name(tmp_path, start):
    entry = CASES[2].values[1]
    whole = data(1, n=40_000)
    whole[start:, 2] = 0
    write_per_signal(tmp_path, whole)
    (one,) = scan_session(tmp_path, [CASES[1].values[1]]).recordings
    assert what_is_missing(one, tmp_path) == ()  # one file: its other channels were copied
    for path in tmp_path.iterdir():
        path.unlink()
    write_per_channel(tmp_path, whole)
    (one,) = scan_session(tmp_path, [entry]).recordings
    (reason,) = what_is_missing(one, tmp_path)
    assert "channel A-002 end in zeros" in reason
    assert "raw_session.flag" in reason


@pytest.mark.parametrize("first", ["a.raw", "x - Copy.raw"])
def test_a_copy_of_an_entry_that_was_cut_short_gets_no_key(tmp_path, first):
    entry = ReaderEntry(
        glob="**/*.raw", reader="binary", wiring=TETRODE, gain_uv=0.5,
        options={"sampling_frequency": 15000.0, "num_channels": 4, "dtype": "int16"},
    )  # fmt: skip
    data(1).tofile(tmp_path / "x.raw")
    data(1)[:2000].tofile(tmp_path / first)
    data(2)[:2000].tofile(tmp_path / "y.raw")
    other = data(1)[:2000]
    other[-1] += 1  # begins alike, and is another recording
    other.tofile(tmp_path / "z.raw")
    scan = scan_session(tmp_path, [entry])
    assert [one.main.files for one in scan.recordings] == [("x.raw",), ("y.raw",), ("z.raw",)]
    (copy,) = scan.problems
    assert (copy.kind, copy.path) == ("copy", first)
    assert "a copy that was cut short of x.raw" in copy.detail


def test_a_copy_with_a_rewritten_header_in_another_session_is_held(tmp_path):
    entry, root = CASES[0].values[1], tmp_path / "data"
    sessions(root, write_neuroscope)
    registry = Registry(Store(str(tmp_path / "store"), scratch=tmp_path / "scratch"))

    def look():
        source = LocalSessionSource(root, readers=(entry,), settle_s=0)
        register_sessions(registry, source.survey()[0])
        return registry.all()

    first = look()
    assert {record.state for record in first.values()} == {"ready"}
    copy = root / "Subjects/M3/2024-06-02/001"
    neuroscope(copy, data(0))
    header = copy / "amp.xml"
    header.write_text(header.read_text().replace("neuroscope-2.0.0", "ndManager-2.1.0"))
    after = look()
    (key,) = after.keys() - first.keys()
    assert after[key].state == "held"
    assert "has its samples, with another header" in after[key].reason
    assert {after[each].state for each in first} == {"ready"}
