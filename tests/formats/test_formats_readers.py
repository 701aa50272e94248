"""NWB files, and recordings that a reader entry describes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from places import REAL
from pydantic import ValidationError
from spikeglx_files import write

from neuro_assets.formats import scan_session, timeline
from neuro_assets.formats.model import Scan, Wiring
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.outcomes import PermanentFailure

LOCUST = REAL / "tridesclous_locust"
TETRODE = Wiring(positions_um=((0, 0), (25, 0), (0, 25), (25, 25)))


def tetrode(**changes):
    values = {
        "glob": "**/*.raw",
        "reader": "binary",
        "options": {"sampling_frequency": 15000.0, "num_channels": 4, "dtype": "int16"},
        "probe": "tetrode1",
        "wiring": TETRODE,
        "gain_uv": 0.5,
    }
    return ReaderEntry(**{**values, **changes})


def raw_file(path, n=100, seed=0, n_channels=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(-99, 99, (n, n_channels), dtype=np.int16)
    path.write_bytes(data.tobytes())
    return data


def nwb_file(path, *, series=("ElectricalSeriesAPProbe00",), rates=(30000.0,), geometry=True, n=50):
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    path.parent.mkdir(parents=True, exist_ok=True)
    nwb = NWBFile("x", path.stem, datetime(2024, 5, 12, 10, tzinfo=UTC))
    if geometry:
        nwb.add_electrode_column("rel_x", "um")
        nwb.add_electrode_column("rel_y", "um")
    names = sorted({name[-7:] for name in series})
    for name in names:
        device = nwb.create_device(name)
        group = nwb.create_electrode_group(name, description="-", location="-", device=device)
        for i in range(4):
            where = {"rel_x": 20.0 * (i % 2), "rel_y": 15.0 * i} if geometry else {}
            nwb.add_electrode(group=group, location="-", **where)
    data = {}
    for name, rate in zip(series, rates, strict=True):
        first = 4 * names.index(name[-7:])
        region = nwb.create_electrode_table_region(list(range(first, first + 4)), "-")
        rng = np.random.default_rng(len(data))
        data[name] = rng.integers(-99, 99, (n, 4), dtype=np.int16)
        nwb.add_acquisition(
            ElectricalSeries(
                name, data[name], region, rate=rate, starting_time=2.0, conversion=2e-6, offset=1e-6
            )
        )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return data


def kinds(scan):
    return sorted(problem.kind for problem in scan.problems)


# --- NWB --------------------------------------------------------------------------------------


def test_an_nwb_file_with_bands_of_two_probes_gives_two_recordings(tmp_path):
    names = ("ElectricalSeriesAPProbe00", "ElectricalSeriesLFProbe00", "ElectricalSeriesAPProbe01")
    data = nwb_file(tmp_path / "a.nwb", series=names, rates=(30000.0, 2500.0, 30000.0))
    scan = scan_session(tmp_path)
    assert [one.label for one in scan.recordings] == ["probe00", "probe01"]
    assert scan.problems == ()
    first = scan.recordings[0]
    assert first.identity.first_sample == 60000
    assert first.identity.created == datetime(2024, 5, 12, 10)
    streams = open_raw(first, tmp_path)
    assert set(streams) == {"wideband", "lf"}
    wide = streams["wideband"]
    assert np.array_equal(wide.recording.get_traces(), data[names[0]])
    np.testing.assert_allclose(
        wide.neural.get_traces(return_in_uV=True), data[names[0]] * 2.0 + 1.0, rtol=1e-6
    )
    assert wide.neural.get_channel_locations().tolist() == [[0, 0], [20, 15], [0, 30], [20, 45]]
    assert np.array_equal(streams["lf"].recording.get_traces(), data[names[1]])


def test_an_nwb_file_without_geometry_is_reported_and_can_be_described(tmp_path):
    data = nwb_file(tmp_path / "a.nwb", geometry=False)
    scan = scan_session(tmp_path)
    assert scan.recordings == ()
    assert kinds(scan) == ["unknown_probe"]
    entry = ReaderEntry(glob="*.nwb", reader="nwb", wiring=TETRODE)
    scan = scan_session(tmp_path, [entry])
    assert scan.problems == ()
    neural = open_raw(scan.recordings[0], tmp_path)["wideband"].neural
    assert np.array_equal(neural.get_traces(), data["ElectricalSeriesAPProbe00"])
    assert neural.get_channel_gains()[0] == pytest.approx(2.0)


def test_an_nwb_copy_of_acquired_files_is_a_derivative(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    nwb_file(tmp_path / "results/a.nwb")
    scan = scan_session(tmp_path)
    assert [one.format for one in scan.recordings] == ["spikeglx"]
    assert kinds(scan) == ["derivative"]


@pytest.mark.parametrize("entries", [(), (ReaderEntry(glob="*.nwb", reader="nwb"),)])
@pytest.mark.parametrize("block", [7, 1 << 22])
@pytest.mark.parametrize(
    ("jump", "found"),
    [(0.0, []), (0.4, []), (0.6, ["timestamps_jump"]), (3e5, ["timestamps_jump"]),
     (np.nan, ["timestamps_jump"])],
)  # fmt: skip
def test_an_nwb_series_with_pauses_is_refused(tmp_path, monkeypatch, entries, block, jump, found):
    monkeypatch.setattr(timeline, "BLOCK", block)
    nwb_file(tmp_path / "a.nwb", n=3000)
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        series = file["acquisition/ElectricalSeriesAPProbe00"]
        del series["starting_time"]
        times = 2 + np.arange(3000) / 30000
        times[2100:] += jump / 30000  # behind the first samples, and between two blocks
        series["timestamps"] = times
        series["timestamps"].attrs["interval"] = 1
    scan = scan_session(tmp_path, entries)
    assert kinds(scan) == found
    assert len(scan.recordings) == 1 - len(found)
    assert all("after sample 2099" in problem.detail for problem in scan.problems)


@pytest.mark.parametrize("entries", [(), (ReaderEntry(glob="a.nwb", reader="nwb"),)])
@pytest.mark.parametrize("how", ["link", "virtual", "external"])
def test_an_nwb_series_whose_samples_are_in_another_file_is_refused(tmp_path, entries, how):
    nwb_file(tmp_path / "a.nwb", n=3000)
    path = "acquisition/ElectricalSeriesAPProbe00/data"
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        data, attributes = file[path][:], dict(file[path].attrs)
        del file[path]
        with h5py.File(tmp_path / "b.h5", "w") as other:
            other["data"] = data
            other["data"].attrs.update(attributes)
        if how == "link":
            file[path] = h5py.ExternalLink("b.h5", "data")
        elif how == "virtual":
            layout = h5py.VirtualLayout(data.shape, data.dtype)
            layout[:] = h5py.VirtualSource("b.h5", "data", data.shape)
            file.create_virtual_dataset(path, layout).attrs.update(attributes)
        else:
            data.tofile(tmp_path / "b.dat")
            where = [(str(tmp_path / "b.dat"), 0, data.nbytes)]
            made = file.create_dataset(path, data.shape, data.dtype, external=where)
            made.attrs.update(attributes)
    scan = scan_session(tmp_path, entries)
    assert scan.recordings == ()
    assert "linked_samples" in kinds(scan)


def test_damaged_nwb_files_are_reported_and_hide_nothing(tmp_path):
    nwb_file(tmp_path / "good.nwb")
    (tmp_path / "empty.nwb").write_bytes(b"")
    (tmp_path / "other.nwb").write_bytes(b"this is no HDF5 file")
    (tmp_path / "cut.nwb").write_bytes((tmp_path / "good.nwb").read_bytes()[:3000])
    (tmp_path / "folder.nwb").mkdir()
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert kinds(scan) == ["empty_file", "meta_broken", "meta_broken", "unsupported_backend"]


def test_an_nwb_file_with_lfp_only_is_reported(tmp_path):
    nwb_file(tmp_path / "a.nwb", series=("ElectricalSeriesLFProbe00",), rates=(1250.0,))
    assert kinds(scan_session(tmp_path)) == ["ap_missing"]


# --- reader entries ---------------------------------------------------------------------------


def test_each_matched_file_is_a_recording_of_its_own(tmp_path):
    data = [raw_file(tmp_path / f"day/trial_{i}.raw", seed=i) for i in (1, 2, 10)]
    scan = scan_session(tmp_path, [tetrode()])
    assert [one.label for one in scan.recordings] == ["tetrode1", "tetrode1-t2", "tetrode1-t3"]
    assert scan.recordings[2].main.files == ("day/trial_10.raw",)
    for one, expected in zip(scan.recordings, data, strict=True):
        stream = open_raw(one, tmp_path)["wideband"]
        assert np.array_equal(stream.recording.get_traces(), expected)
        np.testing.assert_allclose(stream.neural.get_traces(return_in_uV=True), expected * 0.5)
        assert stream.neural.get_channel_locations().tolist() == [
            list(xy) for xy in TETRODE.positions_um
        ]


def test_a_glob_matches_at_any_depth_or_at_the_top_only(tmp_path):
    raw_file(tmp_path / "top.raw")
    raw_file(tmp_path / "a/b/deep.raw", seed=1)
    assert len(scan_session(tmp_path, [tetrode()]).recordings) == 2
    assert len(scan_session(tmp_path, [tetrode(glob="*.raw")]).recordings) == 1
    assert len(scan_session(tmp_path, [tetrode(glob="a/*/*.raw")]).recordings) == 1


def test_wiring_puts_channels_where_their_contacts_are_and_sync_apart(tmp_path):
    data = raw_file(tmp_path / "x.raw", n_channels=5)
    entry = tetrode(
        options={"sampling_frequency": 15000.0, "num_channels": 5, "dtype": "int16"},
        wiring=Wiring(positions_um=TETRODE.positions_um, channels=(4, 3, 1, 0)),
        sync_channels=(2,),
    )
    stream = open_raw(scan_session(tmp_path, [entry]).recordings[0], tmp_path)["wideband"]
    assert stream.sync_channel_ids == [2]
    assert stream.neural.channel_ids.tolist() == [0, 1, 3, 4]  # the order of the file
    locations = dict(
        zip(
            stream.neural.channel_ids.tolist(),
            map(tuple, stream.neural.get_channel_locations().tolist()),
            strict=True,
        )
    )
    assert locations == {4: (0, 0), 3: (25, 0), 1: (0, 25), 0: (25, 25)}
    assert np.array_equal(stream.neural.get_traces(channel_ids=[0, 1, 3, 4]), data[:, [0, 1, 3, 4]])


def test_a_probe_file_gives_the_geometry(tmp_path):
    import probeinterface

    probe = probeinterface.generate_tetrode()
    probe.set_device_channel_indices([3, 2, 1, 0])
    probeinterface.write_probeinterface(tmp_path / "probe.json", probe)
    raw_file(tmp_path / "data/x.raw")
    entry = tetrode(wiring=None, probe_file=str(tmp_path / "probe.json"))
    scan = scan_session(tmp_path / "data", [entry])
    neural = open_raw(scan.recordings[0], tmp_path / "data")["wideband"].neural
    np.testing.assert_allclose(neural.get_channel_locations()[0], probe.contact_positions[3])
    (tmp_path / "probe.json").write_text("{}")
    scan = scan_session(tmp_path / "data", [entry])
    assert kinds(scan) == ["unknown_probe"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"wiring": None}, "unknown_probe"),
        ({"wiring": Wiring(positions_um=((0, 0), (25, 0)))}, "channel_count"),
        ({"wiring": Wiring(positions_um=TETRODE.positions_um, channels=(0, 1, 2, 9))},
         "channel_count"),
        ({"gain_uv": None}, "bad_gain"),
        ({"reader": "binari"}, "unknown_reader"),
        ({"reader": "intan", "options": {}}, "reader_failed"),
        ({"options": {"num_channels": 4}}, "bad_options"),
        ({"options": {"sampling_frequency": 1.0, "num_channels": 4, "dtype": "int16", "x": 1}},
         "reader_failed"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_reported_with_what_to_do(tmp_path, changes, kind):
    raw_file(tmp_path / "x.raw")
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    scan = scan_session(tmp_path, [tetrode(**changes)])
    assert [one.label for one in scan.recordings] == ["probe00"]
    assert kinds(scan) == [kind]
    assert "lab.yaml" in scan.problems[0].detail
    assert "\n" not in scan.problems[0].detail


def test_a_misspelt_reader_names_the_nearest(tmp_path):
    raw_file(tmp_path / "x.raw")
    scan = scan_session(tmp_path, [tetrode(reader="binari")])
    assert "'binary'" in scan.problems[0].detail


def test_a_cut_and_an_empty_file_are_reported_and_the_others_used(tmp_path):
    for i in range(3):
        raw_file(tmp_path / f"t{i}.raw", seed=i)
    (tmp_path / "t0.raw").write_bytes(b"123")
    (tmp_path / "t1.raw").write_bytes(b"")
    scan = scan_session(tmp_path, [tetrode()])
    assert [one.main.files[0] for one in scan.recordings] == ["t2.raw"]
    assert kinds(scan) == ["empty_file", "truncated"]


def test_files_of_an_entry_are_left_alone_by_the_other_formats(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    entry = tetrode(
        glob="*.ap.bin",
        options={"sampling_frequency": 30000.0, "num_channels": 9, "dtype": "int16"},
        wiring=Wiring(positions_um=tuple((0.0, 20.0 * i) for i in range(8))),
        sync_channels=(8,),
    )
    scan = scan_session(tmp_path, [entry])
    assert [one.format for one in scan.recordings] == ["reader"]
    assert path.name in scan.recordings[0].main.files


def test_two_formats_with_one_label_are_told_apart(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    raw_file(tmp_path / "x.raw")
    scan = scan_session(tmp_path, [tetrode(probe="probe00")])
    assert sorted(one.label for one in scan.recordings) == ["probe00", "probe00-x2"]
    assert kinds(scan) == ["label_clash"]


@pytest.mark.parametrize(
    "changes",
    [
        {"glob": "/etc/*"},
        {"glob": "../*.raw"},
        {"glob": ""},
        {"gain_uv": -1.0},
        {"probe": "a/b"},
        {"probe_file": "p.json"},
        {"wirring": None},
    ],
)
def test_entries_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValidationError):
        tetrode(**changes)


def test_wiring_that_makes_no_sense_is_refused():
    with pytest.raises(ValidationError, match="entries"):
        Wiring(positions_um=((0, 0), (1, 1)), channels=(0,))
    with pytest.raises(ValidationError, match="twice"):
        Wiring(positions_um=((0, 0), (1, 1)), channels=(0, 0))


def test_a_changed_file_is_refused_when_opened(tmp_path):
    raw_file(tmp_path / "x.raw")
    one = scan_session(tmp_path, [tetrode()]).recordings[0]
    raw_file(tmp_path / "x.raw", n=120)
    with pytest.raises(PermanentFailure, match=r"x\.raw was changed"):
        open_raw(one, tmp_path)


def test_a_scan_comes_back_from_json(tmp_path):
    raw_file(tmp_path / "x.raw")
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    scan = scan_session(tmp_path, [tetrode()])
    assert Scan.model_validate_json(scan.model_dump_json()) == scan


@pytest.mark.real
@pytest.mark.skipif(not LOCUST.is_dir(), reason=f"no real tetrode data in {LOCUST}")
def test_the_real_tetrode_is_two_recordings_of_one_small_entry():
    scan = scan_session(LOCUST, [tetrode()])
    assert [one.label for one in scan.recordings] == ["tetrode1", "tetrode1-t2"]
    for one in scan.recordings:
        stream = open_raw(one, LOCUST)["wideband"]
        data = np.fromfile(LOCUST / one.main.files[0], np.int16).reshape(-1, 4)
        assert one.duration_s == pytest.approx(28.77, abs=0.01)
        assert np.array_equal(stream.neural.get_traces(), data)


def test_two_nwb_files_of_one_identifier_are_two_recordings_and_a_copy_is_none(tmp_path):
    for n, name in enumerate(("a", "b")):
        nwb_file(tmp_path / f"{name}.nwb", n=50)
        with h5py.File(tmp_path / f"{name}.nwb", "r+") as file:
            file["identifier"][()] = "one"
            file["acquisition/ElectricalSeriesAPProbe00/data"][:10] = n + 1
    shutil.copy(tmp_path / "a.nwb", tmp_path / "a - Copy.nwb")
    scan = scan_session(tmp_path)
    assert [one.main.files for one in scan.recordings] == [("a.nwb",), ("b.nwb",)]
    first, second = (one.identity for one in scan.recordings)
    assert first.is_strong and not first.is_same(second)
    assert [(one.kind, one.path) for one in scan.problems] == [("copy", "a - Copy.nwb")]
    # Results that are added to a file later do not make it another recording.
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        file["acquisition"].attrs["note"] = "x" * 5000
    (tmp_path / "a - Copy.nwb").unlink()
    assert scan_session(tmp_path).recordings[0].identity.is_same(first)
