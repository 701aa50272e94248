"""NWB files read back with pynwb, h5py and SpikeInterface."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from nwbinspector import Importance, inspect_nwbfile, load_config
from probeinterface import Probe, generate_multi_shank

from neuro_assets.assets.steps.nwb import CRITERIA
from neuro_assets.checks.criteria import Verdict, judge
from neuro_assets.formats.timeline import Timeline
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.science.lfp.extract import extract_lfp, open_lfp
from neuro_assets.science.masking import masked_table
from neuro_assets.science.nwb.check import inspect_nwb, open_nwb
from neuro_assets.science.nwb.inputs import (
    NwbInputs,
    SubjectInfo,
    Templates,
    channels_of,
    manufacturer_of,
    templates_of,
    trains_from_tables,
)
from neuro_assets.science.nwb.units import strongest
from neuro_assets.science.nwb.write import build_nwb, nwb_path, save_nwb, write_nwb

RATE, SECONDS, N_CHANNELS = 30000.39, 3, 8
KEY = "M 1_20240512_1_probe00"
MOUSE = SubjectInfo(species="Mus musculus", sex="F", age="P90D", weight="23.1 g")


def recording(gain=2.0, offset=0.0):
    traces = np.random.default_rng(0).normal(0, 100, (round(SECONDS * RATE), N_CHANNELS))
    rec = si.NumpyRecording(
        [traces.astype(np.int16)], RATE, channel_ids=[f"AP{k}" for k in range(N_CHANNELS)]
    )
    probe = generate_multi_shank(num_shank=2, num_columns=1, num_contact_per_column=4)
    probe.set_device_channel_indices(np.arange(N_CHANNELS))
    rec.set_probe(probe)
    rec.set_channel_gains(gain)
    rec.set_channel_offsets(offset)
    return rec


@pytest.fixture(scope="module")
def lfp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lfp")
    extract_lfp(recording(), None, None, folder, LfpParameters(chunk_s=1.0))
    return open_lfp(folder)


def spikes():
    rng = np.random.default_rng(1)
    return {
        unit: np.sort(rng.choice(round(SECONDS * RATE), 50, replace=False)) for unit in ("3", "7")
    } | {"11": np.zeros(0, dtype=np.int64)}


def units():
    return pd.DataFrame(
        {
            "unit_id": ["3", "7", "11"],
            "uuid": [f"00000000-0000-5000-8000-00000000000{k}" for k in range(3)],
            "firing_rate": [16.5, 17.25, np.nan],
            "num_spikes": [50, 50, 0],
            "passes": [True, False, False],
            "n_maybe": pd.array([1, None, 3], dtype="Int64"),
            "reason": ["", None, "no spikes"],
            "electrodes": [1.0, 2.0, 3.0],
        }
    )


def inputs(**changes):
    rec = recording()
    labels = pd.DataFrame({"channel_id": rec.get_channel_ids(), "label": ["good"] * 7 + ["dead"]})
    given = {
        "key": KEY,
        "lab": "lab",
        "subject": "M 1",
        "date": dt.date(2024, 5, 12),
        "number": "1",
        "sampling_frequency": RATE,
        "n_samples": rec.get_num_samples(),
        "channels": channels_of(rec, labels),
        "probe_model": "NP2014",
        "probe_serial": "123",
        "probe_manufacturer": "imec",
        "start_time": dt.datetime(2024, 5, 12, 10, 30, tzinfo=dt.UTC),
        "version": "0123456789abcdef",
        "units": units(),
        "spikes": spikes(),
        "subject_info": MOUSE,
        "experimenters": ("Doe, Jane",),
        "experiment_description": "a test",
    }
    return NwbInputs(**(given | changes))


def templates():
    average = np.zeros((3, 20, N_CHANNELS))
    average[0, 8, 2], average[0, 8, 5] = -120.0, -60.0
    average[1, 8, 6] = -80.0
    average[2, 8, 1] = -40.0
    ids = ["7", "3", "11"]
    return Templates(ids, [f"AP{k}" for k in range(N_CHANNELS)], average, RATE, 8, average / 10)


class Opened:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.io, nwbfile = open_nwb(self.path)
        return nwbfile

    def __exit__(self, *error):
        self.io.close()


def write(folder, given, **values):
    """Write, validate, inspect."""
    result = write_nwb(given, folder, NwbParameters(**values))
    (path,) = list(folder.iterdir())
    return path, result


def save(folder, given, **values):
    """Write only: for what is read back and needs no inspector."""
    parameters = NwbParameters(**values)
    path = nwb_path(given.key, folder, parameters)
    save_nwb(build_nwb(given, parameters), path, parameters)
    return path


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_full_file_is_valid_and_follows_best_practice(tmp_path, lfp, backend):
    given = inputs(lfp=lfp, raw=recording(), templates=templates())
    path, result = write(tmp_path, given, backend=backend, raw_traces=True, institution="here")
    metrics, messages = result.metrics, result.tables["inspector"]
    assert metrics["n_validation_errors"] == 0, messages.to_string()
    assert metrics["n_critical"] == 0, messages.to_string()
    assert metrics["n_best_practice_violations"] == 0, messages.to_string()
    assert set(messages.loc[messages["missing_metadata"], "check"]) == {
        "check_electrodes_location_allen_ccf"
    }
    assert metrics["n_units"] == 3
    assert metrics["n_spikes"] == 100
    assert metrics["has_lfp"] == metrics["has_raw_traces"] == 1
    assert path.name == KEY + (".nwb" if backend == "hdf5" else ".nwb.zarr")


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_spikes_metrics_and_traces_come_back_as_they_were(tmp_path, lfp, backend):
    path = save(tmp_path, inputs(lfp=lfp), backend=backend)
    with Opened(path) as nwbfile:
        table = nwbfile.units
        for row, unit in enumerate(["3", "7", "11"]):
            np.testing.assert_array_equal(table["spike_times"][row], spikes()[unit] / RATE)
        assert table.resolution == 1 / RATE
        assert list(table["unit_name"][:]) == ["3", "7", "11"]
        assert list(table.id[:]) == [3, 7, 11]
        frame = units()
        assert list(table["uuid"][:]) == list(frame["uuid"])
        np.testing.assert_array_equal(table["firing_rate"][:], frame["firing_rate"])
        np.testing.assert_array_equal(table["num_spikes"][:], frame["num_spikes"])
        np.testing.assert_array_equal(table["passes"][:], frame["passes"])
        np.testing.assert_array_equal(table["n_maybe"][:], [1, np.nan, 3])
        assert list(table["reason"][:]) == ["", "", "no spikes"]
        np.testing.assert_array_equal(table["metric_electrodes"][:], [1.0, 2.0, 3.0])
        text = "spikes per second of valid time (Hz); source: neuro_assets"
        assert table["firing_rate"].description == text
        assert "`probe`" in table.description

        series = nwbfile.processing["ecephys"]["LFP"]["ElectricalSeriesLFP"]
        volts = series.data[:] * series.conversion + series.offset
        np.testing.assert_allclose(volts, lfp.get_traces(return_in_uV=True) * 1e-6, rtol=1e-6)
        assert (series.starting_time, series.rate) == (0.0, RATE / 30)
        assert series.channel_conversion is None
        assert "`probe`" in series.description
        assert "0.5 Hz" in series.filtering
        assert list(series.electrodes.to_dataframe()["channel_name"]) == [
            f"AP{k}" for k in range(N_CHANNELS)
        ]


def test_electrodes_carry_place_label_and_shank(tmp_path):
    given = inputs()
    path = save(tmp_path, given)
    with Opened(path) as nwbfile:
        frame = nwbfile.electrodes.to_dataframe()
        np.testing.assert_array_equal(frame[["rel_x", "rel_y"]], given.channels[["x_um", "y_um"]])
        assert list(frame["label"]) == ["good"] * 7 + ["dead"]
        assert set(frame["location"]) == {"unknown"}
        assert list(frame["group_name"]) == ["probe00_shank0"] * 4 + ["probe00_shank1"] * 4
        assert set(nwbfile.electrode_groups) == {"probe00_shank0", "probe00_shank1"}
        device = nwbfile.devices["probe00"]
        assert (device.serial_number, device.model.name) == ("123", "NP2014")
        assert device.model.manufacturer == "imec"


def test_known_regions_are_written(tmp_path):
    given = inputs()
    given.channels["location"] = ["CA1"] * 7 + [None]
    path = save(tmp_path, given)
    with Opened(path) as nwbfile:
        assert list(nwbfile.electrodes["location"][:]) == ["CA1"] * 7 + ["unknown"]


def test_the_session_and_the_animal_are_described(tmp_path):
    path = save(tmp_path, inputs(session_aliases={"eid": "abc"}), institution="here")
    with Opened(path) as nwbfile:
        assert nwbfile.session_start_time == dt.datetime(2024, 5, 12, 10, 30, tzinfo=dt.UTC)
        assert nwbfile.session_id == "2024-05-12_1"
        assert nwbfile.lab == "lab"
        assert nwbfile.institution == "here"
        assert nwbfile.notes == "eid: abc"
        subject = nwbfile.subject
        assert (subject.subject_id, subject.species, subject.sex) == ("M 1", "Mus musculus", "F")


def test_the_identifier_depends_on_recording_and_version_only(tmp_path):
    identifiers = []
    for name, version in (("a", "v1"), ("b", "v1"), ("c", "v2")):
        (tmp_path / name).mkdir()
        path = save(tmp_path / name, inputs(version=version, units=None))
        with Opened(path) as nwbfile:
            identifiers.append(nwbfile.identifier)
    assert identifiers[0] == identifiers[1] != identifiers[2]


def test_a_file_without_units_because_sorting_failed_is_amber_and_says_so(tmp_path):
    missing = ["units: it was never made", "sorting_x: it failed: out of memory"]
    _path, result = write(tmp_path, inputs(units=None, spikes=None, missing=missing))
    (judged,) = [each for each in judge(CRITERIA, result.metrics)
                 if each.criterion.family == "contents"]  # fmt: skip
    assert (judged.value, judged.verdict) == (2, Verdict.WARNING)
    assert "it failed: out of memory" in result.metrics["made_without"]


def test_without_units_and_lfp_there_is_still_a_file_that_says_so(tmp_path):
    given = inputs(units=None, spikes=None, missing=["units: skipped, no_units_found"])
    path, result = write(tmp_path, given)
    assert result.metrics["n_validation_errors"] == result.metrics["n_critical"] == 0
    assert result.metrics["n_best_practice_violations"] == 0
    assert result.metrics["n_units"] == result.metrics["has_lfp"] == 0
    assert result.metrics["n_missing_inputs"] == 2
    assert result.metrics["n_unmade_inputs"] == 0
    assert result.applied[0].parameters["without"] == ["units: skipped, no_units_found", "lfp"]
    with Opened(path) as nwbfile:
        assert nwbfile.units is None
        assert "units: skipped, no_units_found; lfp" in nwbfile.session_description


def test_an_empty_units_table_is_no_units_table(tmp_path):
    path, result = write(tmp_path, inputs(units=units().iloc[:0], spikes={}))
    assert result.metrics["n_units"] == 0
    with Opened(path) as nwbfile:
        assert nwbfile.units is None


def test_units_that_never_fired_give_a_valid_file(tmp_path):
    path, result = write(tmp_path, inputs(units=units().iloc[2:], spikes=spikes()))
    assert result.metrics["n_validation_errors"] == 0
    with Opened(path) as nwbfile:
        assert len(nwbfile.units["spike_times"][0]) == 0


@pytest.mark.parametrize(
    ("start", "zone", "expected", "words"),
    [
        (dt.datetime(2024, 5, 12, 10, 30), "Europe/Lisbon", "2024-05-12T10:30:00+01:00", "Lisbon"),
        (None, "UTC", "2024-05-12T00:00:00+00:00", "midnight"),
    ],
)
def test_a_start_time_without_zone_or_no_start_time_is_named(
    tmp_path, start, zone, expected, words
):
    path, _ = write(tmp_path, inputs(start_time=start, units=None), timezone=zone)
    with Opened(path) as nwbfile:
        assert nwbfile.session_start_time == dt.datetime.fromisoformat(expected)
        assert words in nwbfile.session_description


def test_all_that_dandi_refuses_is_counted_by_its_cause(tmp_path):
    path, result = write(tmp_path, inputs(subject_info=SubjectInfo(), units=None))
    counts = ("n_critical", "n_critical_metadata", "n_critical_file")
    assert [result.metrics[name] for name in counts] == [2, 2, 0]
    assert result.metrics["n_best_practice_violations"] == 0
    assert result.metrics["n_missing_metadata"] == 2
    # nwbinspector itself, as `nwbinspector --config dandi` finds them.
    theirs = inspect_nwbfile(nwbfile_path=path, config=load_config("dandi"))
    critical = [m.check_function_name for m in theirs if m.importance is Importance.CRITICAL]
    assert sorted(critical) == ["check_subject_age", "check_subject_species_exists"]
    # The same file, judged as if the lab had known better.
    metrics, _ = inspect_nwb(path, MOUSE)
    assert [metrics[name] for name in counts] == [2, 0, 2]


def test_the_schema_is_really_checked(tmp_path, lfp):
    path = save(tmp_path, inputs(lfp=lfp, units=None))
    with h5py.File(path, "a") as file:
        del file["processing/ecephys/LFP/ElectricalSeriesLFP/data"].attrs["unit"]
    metrics, messages = inspect_nwb(path, MOUSE)
    assert metrics["n_validation_errors"] == 1
    assert "validate" in set(messages["check"])


def test_bad_spike_times_are_critical(tmp_path):
    from pynwb import NWBHDF5IO, NWBFile

    nwbfile = NWBFile("x", "y", dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    nwbfile.add_unit(spike_times=[3.0, 1.0, -2.0])
    with NWBHDF5IO(str(tmp_path / "bad.nwb"), "w") as io:
        io.write(nwbfile)
    metrics, messages = inspect_nwb(tmp_path / "bad.nwb", MOUSE)
    assert metrics["n_critical"] >= 2
    assert {"check_subject_exists", "check_ascending_spike_times"} <= set(messages["check"])


def test_each_gain_of_its_own_becomes_a_channel_conversion(tmp_path):
    gains = np.linspace(1, 2, N_CHANNELS)
    raw = recording(gain=gains, offset=-100.0)
    path = save(tmp_path, inputs(units=None, raw=raw), raw_traces=True)
    with Opened(path) as nwbfile:
        series = nwbfile.acquisition["ElectricalSeriesAP"]
        assert series.data.dtype == np.int16
        assert series.offset == pytest.approx(-100e-6)
        factors = series.channel_conversion[:]
        volts = series.data[:1000] * series.conversion * factors + series.offset
        expected = raw.get_traces(start_frame=0, end_frame=1000, return_in_uV=True) * 1e-6
        np.testing.assert_allclose(volts, expected, rtol=1e-5, atol=1e-12)


def test_offsets_that_differ_are_written_as_microvolts(tmp_path):
    raw = recording(offset=np.arange(N_CHANNELS) * 10.0)
    path = save(tmp_path, inputs(units=None, raw=raw), raw_traces=True)
    with Opened(path) as nwbfile:
        series = nwbfile.acquisition["ElectricalSeriesAP"]
        assert series.data.dtype == np.float32
        expected = raw.get_traces(return_in_uV=True) * 1e-6
        np.testing.assert_allclose(series.data[:] * series.conversion, expected, rtol=1e-6)


def test_raw_traces_stay_out_unless_asked_and_are_written_in_compressed_chunks(tmp_path, lfp):
    (tmp_path / "off").mkdir()
    (tmp_path / "on").mkdir()
    given = inputs(units=None, raw=recording(), lfp=lfp)
    off = save(tmp_path / "off", given)
    seen = []
    parameters = NwbParameters(raw_traces=True, chunk_mb=0.05, buffer_mb=0.1)
    write_nwb(given, tmp_path / "on", parameters, progress=lambda f, w: seen.append(f))
    with h5py.File(off) as file:
        assert list(file["acquisition"]) == []
        assert file["processing/ecephys/LFP/ElectricalSeriesLFP/data"].compression == "gzip"
    with h5py.File(tmp_path / "on" / f"{KEY}.nwb") as file:
        data = file["acquisition/ElectricalSeriesAP/data"]
        assert data.compression == "gzip"
        assert data.chunks[0] * data.chunks[1] * 2 <= 50_000
        np.testing.assert_array_equal(data[:], recording().get_traces())
    assert seen == sorted(seen)
    assert len(seen) > 10


@pytest.mark.parametrize("full", [True, False])
def test_a_byte_that_changed_in_any_chunk_of_numbers_is_an_error_for_any_reader(
    tmp_path, lfp, full
):
    given = inputs(lfp=lfp, raw=recording(), templates=templates())
    if not full:  # no unit ever fired: columns without rows
        given = replace(given, spikes={unit: np.zeros(0, dtype=np.int64) for unit in spikes()})
    path = save(tmp_path, given, raw_traces=full)
    whole, places = path.read_bytes(), {}
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, node: names.append(name))
        for node in (file[name] for name in names):
            if isinstance(node, h5py.Dataset) and node.chunks and node.dtype.kind in "biuf":
                assert node.fletcher32, node.name
                if node.id.get_num_chunks():
                    places[node.name] = node.id.get_chunk_info(0).byte_offset
    assert ("/acquisition/ElectricalSeriesAP/data" in places) is full
    assert {"/units/num_spikes", "/units/id", "/units/firing_rate"} <= places.keys()
    for name, place in places.items():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with h5py.File(path) as file, pytest.raises(OSError, match="(filter|inflate)"):
            file[name][()]


def test_the_clock_begins_at_the_first_sample_whatever_the_acquisition_counted(tmp_path):
    raw = recording()
    raw.shift_times(24.4)
    path = save(tmp_path, inputs(raw=raw), raw_traces=True)
    with Opened(path) as nwbfile:
        assert nwbfile.acquisition["ElectricalSeriesAP"].starting_time == 0.0
        assert nwbfile.units["spike_times"][0][0] == spikes()["3"][0] / RATE


def test_irregular_times_are_written_one_by_one(tmp_path):
    raw = recording()
    times = np.arange(raw.get_num_samples()) / RATE
    times[1000:] += 0.5
    raw.set_times(times)
    path = save(tmp_path, inputs(units=None, raw=raw), raw_traces=True)
    with Opened(path) as nwbfile:
        series = nwbfile.acquisition["ElectricalSeriesAP"]
        np.testing.assert_array_equal(series.timestamps[:], times)
        assert series.rate is None


def test_mean_waveforms_are_volts_on_the_strongest_channels(tmp_path):
    path, result = write(tmp_path, inputs(templates=templates()), waveform_channels=2)
    assert result.metrics["n_validation_errors"] == 0
    with Opened(path) as nwbfile:
        table = nwbfile.units
        mean = table["waveform_mean"][:]
        assert mean.shape == (3, 20, 2)
        # Rows follow the units table (3, 7, 11), not the templates (7, 3, 11).
        np.testing.assert_allclose(mean[:, 8, 0], [-80e-6, -120e-6, -40e-6], rtol=1e-6)
        np.testing.assert_allclose(table["waveform_sd"][1][8], [-12e-6, -6e-6], rtol=1e-6)
        assert list(table["electrodes"][1]["channel_name"]) == ["AP2", "AP5"]
        assert table["electrode_group"][0].name == "probe00_shank1"
        assert table.waveform_rate == RATE
        assert table.waveform_time_before_peak_in_ms == pytest.approx(8000 / RATE)


def test_masked_stretches_and_gaps_are_invalid_times_and_no_observed_ones(tmp_path):
    masked = masked_table(
        np.array([[3_000, 6_000], [44_970, 45_030], [60_000, 60_300]]),
        pd.DataFrame({"start_sample": [3_030, 60_030], "stop_sample": [5_970, 60_270]}),
    )
    assert masked["reason"].tolist() == ["saturation", "edge of a gap", "saturation"]
    n = 90_001
    trains = {u: t[~np.isin(t, np.arange(3_000, 6_000))] for u, t in spikes().items()}
    timeline = Timeline((0, 45_000), (0, 60_000), (0, 0))
    write_nwb(inputs(masked=masked, timeline=timeline, n_samples=n, spikes=trains), tmp_path)
    with Opened(nwb_path(KEY, tmp_path, NwbParameters())) as nwbfile:
        valid = np.array([[0, 3_000], [6_000, 44_970], [60_030, 75_000], [75_300, 105_001]])
        for unit in range(3):
            seen = np.array(nwbfile.units["obs_intervals"][unit])
            np.testing.assert_allclose(seen, valid / RATE, rtol=0, atol=1e-9)
        table = nwbfile.invalid_times.to_dataframe()
        bounds = [(3_000, 6_000), (44_970, 45_000), (45_000, 60_000), (60_000, 60_030)]
        bounds.append((75_000, 75_300))
        got = table[["start_time", "stop_time"]].to_numpy() * RATE
        np.testing.assert_allclose(got, bounds, rtol=0, atol=1e-4)
        assert [list(tags) for tags in table["tags"]] == [
            ["masked", "saturation"],
            ["masked", "edge of a gap"],
            ["gap", "lost samples"],
            ["masked", "edge of a gap"],
            ["masked", "saturation"],
        ]


def test_the_edges_of_the_lfps_filter_are_invalid_times(tmp_path, lfp):
    write_nwb(inputs(lfp=lfp, units=None), tmp_path)
    with Opened(nwb_path(KEY, tmp_path, NwbParameters())) as nwbfile:
        table = nwbfile.invalid_times.to_dataframe()
    edge, end = lfp.get_annotation("filter_edge_s"), lfp.get_num_samples() / lfp.sampling_frequency
    assert edge > 0.01
    got = table[["start_time", "stop_time"]].to_numpy()
    np.testing.assert_allclose(got, [[0, edge], [end - edge, end]], rtol=0, atol=1e-9)
    assert [list(tags) for tags in table["tags"]] == [["LFP", "edge of its filter"]] * 2


def test_the_maker_of_the_probe_is_that_of_its_annotation():
    rec = recording()
    assert manufacturer_of(rec) == manufacturer_of(si.NumpyRecording([np.zeros((9, 1))], 1.0)) == ""
    probe = Probe(ndim=2, si_units="um", manufacturer="imec")
    probe.set_contacts(positions=np.arange(2 * N_CHANNELS).reshape(-1, 2))
    probe.set_device_channel_indices(np.arange(N_CHANNELS))
    rec.set_probe(probe)
    assert manufacturer_of(rec) == "imec"


def test_the_first_channel_is_the_main_one_though_another_is_larger_from_peak_to_peak():
    average = np.zeros((1, 20, 3), np.float32)
    average[0, 8, 1] = -100
    average[0, [8, 12], 2] = -80, 60
    found, _, _ = strongest(Templates([0], ["a", "b", "c"], average, RATE, 8), ["0"], 2)
    assert found.tolist() == [[1, 2]]


def test_main_channels_serve_where_there_are_no_templates(tmp_path):
    frame = units().assign(main_channel_id=["AP1", "AP6", "AP0"])
    path = save(tmp_path, inputs(units=frame))
    with Opened(path) as nwbfile:
        names = [nwbfile.units["electrodes"][k]["channel_name"].iloc[0] for k in range(3)]
        assert names == ["AP1", "AP6", "AP0"]
        assert nwbfile.units["electrode_group"][1].name == "probe00_shank1"


def test_inputs_come_out_of_spikeinterface_objects(tmp_path):
    rec, sorting = si.generate_ground_truth_recording(
        durations=[2.0], num_channels=N_CHANNELS, num_units=3, seed=0
    )
    analyzer = si.create_sorting_analyzer(sorting, rec, sparse=False, progress_bar=False)
    assert templates_of(analyzer) is None
    analyzer.compute(["random_spikes", "templates"], progress_bar=False)
    frame = pd.DataFrame({"unit_id": sorting.unit_ids})
    given = inputs(
        sampling_frequency=rec.sampling_frequency,
        n_samples=rec.get_num_samples(),
        channels=channels_of(rec),
        units=frame,
        spikes={unit: sorting.get_unit_spike_train(unit) for unit in sorting.unit_ids},
        templates=templates_of(analyzer),
    )
    path, result = write(tmp_path, given)
    assert result.metrics["n_units"] == 3
    from spikeinterface.extractors import read_nwb_sorting

    back = read_nwb_sorting(
        path, sampling_frequency=rec.sampling_frequency, t_start=0.0, electrical_series_path=None
    )
    for row, unit in enumerate(sorting.unit_ids):
        np.testing.assert_array_equal(
            back.get_unit_spike_train(back.unit_ids[row]), sorting.get_unit_spike_train(unit)
        )
    with Opened(path) as nwbfile:
        dense = analyzer.get_extension("templates").get_data("average")
        peak = np.ptp(dense[0], axis=0).argmax()
        np.testing.assert_allclose(
            nwbfile.units["waveform_mean"][0][:, 0], dense[0][:, peak] * 1e-6, rtol=1e-5, atol=1e-12
        )


def test_spike_trains_come_out_of_the_stored_tables():
    units = pd.DataFrame({"unit_id": ["a", "b", "c"], "unit_index": [0, 1, 2]})
    spikes = pd.DataFrame({"sample_index": [5, 6, 7, 9], "unit_index": [2, 0, 2, 0]})
    trains = trains_from_tables(units, spikes)
    assert {unit: list(train) for unit, train in trains.items()} == {
        "a": [6, 9],
        "b": [],
        "c": [5, 7],
    }
    assert list(trains_from_tables(units, spikes.iloc[:0])["a"]) == []


def test_spikeinterface_reads_the_lfp_back(tmp_path, lfp):
    path = save(tmp_path, inputs(lfp=lfp))
    from spikeinterface.extractors import read_nwb_recording

    back = read_nwb_recording(
        path, electrical_series_path="processing/ecephys/LFP/ElectricalSeriesLFP"
    )
    np.testing.assert_allclose(
        back.get_traces(return_in_uV=True), lfp.get_traces(return_in_uV=True), atol=1e-3
    )
    assert back.get_sampling_frequency() == pytest.approx(RATE / 30)


def test_a_zarr_file_holds_no_pickle(tmp_path, lfp):
    path = save(tmp_path, inputs(lfp=lfp), backend="zarr")
    filters = [
        entry["id"]
        for file in path.rglob(".zarray")
        for entry in (json.loads(file.read_text())["filters"] or [])
    ]
    assert filters
    assert "pickle" not in filters


def test_traces_without_gains_are_left_out_and_named(tmp_path, lfp):
    plain = si.NumpyRecording(
        [lfp.get_traces()], lfp.get_sampling_frequency(), channel_ids=lfp.get_channel_ids()
    )
    path, result = write(tmp_path, inputs(lfp=plain, units=None))
    assert result.metrics["has_lfp"] == 0
    with Opened(path) as nwbfile:
        assert "lfp: its gains are unknown" in nwbfile.session_description


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spikes": {"3": np.array([1])}}, "2 of 3 units have no spike train"),
        ({"spikes": {"3": np.array([10**9]), "7": [], "11": []}}, "in a recording of"),
        ({"spikes": {"3": np.array([-1]), "7": [], "11": []}}, "from sample -1"),
        ({"key": "../../x"}, "cannot be a file's name"),
        ({"templates": replace(templates(), unit_ids=["3", "7", "x"])}, "have no template"),
    ],
)
def test_inputs_that_contradict_each_other_are_refused(tmp_path, changes, words):
    with pytest.raises(PermanentFailure, match=words):
        write_nwb(inputs(**changes), tmp_path)
    assert not any(Path(tmp_path).iterdir())


def test_traces_of_other_channels_are_refused(tmp_path, lfp):
    given = inputs(lfp=lfp, units=None)
    given.channels["channel_id"] = [f"x{k}" for k in range(N_CHANNELS)]
    with pytest.raises(PermanentFailure, match="not in the channel table"):
        write_nwb(given, tmp_path)


def test_gains_that_are_not_numbers_are_refused(tmp_path):
    raw = recording(gain=[np.nan] * N_CHANNELS)
    with pytest.raises(PermanentFailure, match="NaN"):
        write_nwb(inputs(raw=raw, units=None), tmp_path, NwbParameters(raw_traces=True))


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValueError, match="unknown time zone 'Mars'"):
        NwbParameters(timezone="Mars")
