from __future__ import annotations

import numpy as np
import pytest
import spikeinterface.core as si
from places import NO_NP24, NP24
from probeinterface import generate_multi_columns_probe

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.science.bad_channels import detect_bad_channels
from neuro_assets.science.geometry import channel_table
from neuro_assets.science.quality import recording as module
from neuro_assets.science.quality.destripe import Destriper, spatial_highpass
from neuro_assets.science.quality.recording import recording_quality, spike_counts
from neuro_assets.science.quality.saturation import find_saturation, limits_of
from neuro_assets.science.spectral import line_noise_db, power_spectrum

FS = 30_000.0
GAIN = 2.34375
N_CHANNELS = 24
DEFAULT = RecordingQualityParameters()


def make(traces_uv: np.ndarray, fs: float = FS, shifts: bool = True) -> si.BaseRecording:
    n_channels = traces_uv.shape[1]
    counts = np.clip(np.round(traces_uv / GAIN), -512, 511).astype(np.int16)
    recording = si.NumpyRecording([counts], fs)
    recording.set_channel_gains(GAIN)
    recording.set_channel_offsets(0.0)
    probe = generate_multi_columns_probe(
        num_columns=2, num_contact_per_column=n_channels // 2, xpitch=32, ypitch=20
    )
    probe.set_device_channel_indices(np.arange(n_channels))
    recording.set_probe(probe)
    if shifts:
        recording.set_property("inter_sample_shift", (np.arange(n_channels) // 2 % 12) / 13)
    recording.annotate(saturation_threshold_uV=1200.0)
    return recording


def noise(duration_s: float, sd_uv: float = 20.0, seed: int = 0, n: int = N_CHANNELS) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=sd_uv, size=(round(duration_s * FS), n))


def good(recording: si.BaseRecording) -> list[str]:
    return channel_table(recording).assign(label="good")


def saturated(recording: si.BaseRecording, n_jobs: int = 2, **changes):
    parameters = RecordingQualityParameters(**changes)
    limits = limits_of(recording, parameters, slope=True)
    return find_saturation(
        recording,
        limits,
        gap_samples=parameters.saturation_gap_samples,
        n_jobs=n_jobs,
        watch=lambda fraction: None,
    )


def test_rms_and_spectrum_are_those_of_white_noise(tmp_path):
    recording = make(noise(3, 30.0))
    result = recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=good(recording))
    quality = result.tables["channel_quality"]
    assert quality["rms_raw_uv"].to_numpy() == pytest.approx(30, rel=0.03)
    spectrum = result.tables["spectrum"]
    level = spectrum.loc[spectrum["frequency_hz"].between(1000, 14000), "power_uv2_hz"]
    assert level.median() == pytest.approx(30**2 / (FS / 2), rel=0.05)
    assert len(spectrum) == N_CHANNELS * 513
    # High-pass keeps 14.7 of 15 kHz; the common median of 24 channels takes about 1/24.
    assert result.metrics["rms_destriped_uv_median"] == pytest.approx(30, rel=0.06)
    assert len(result.picture.png) < 100_000


def test_what_was_applied_to_which_number_is_in_their_order(tmp_path):
    t = np.arange(int(10 * FS)) / FS
    slow = (300 * np.sin(2 * np.pi * 5 * t))[:, None]  # below the high-pass
    recording = make(noise(10.0) + slow)
    parameters = RecordingQualityParameters()
    result = recording_quality(
        {"wideband": recording}, tmp_path, parameters, channels=good(recording)
    )
    table = result.tables["channel_quality"]
    after = {}
    for i, step in enumerate(result.applied):
        for number in step.parameters.get("numbers", []):
            after[number] = [s.name for s in result.applied[:i] if "measure" not in s.name]
    assert after["rms_raw_uv"] == after["spectrum"] == []
    assert after["spike_band_power_uv2"] == ["highpass_filter"]
    assert after["rms_destriped_uv"][0] == "highpass_filter" and len(after["rms_destriped_uv"]) > 1
    # The numbers are of what it says, each computed here from the pieces that it names.
    raw_step = result.applied[0].parameters
    assert raw_step["length_s"] == parameters.piece_s and len(raw_step["start_s"]) == 5
    traces = recording.get_traces(return_in_uV=True)
    firsts = [round(start * FS) for start in raw_step["start_s"]]
    pieces = [traces[first : first + int(FS)] for first in firsts]
    expected = np.median([piece.std(axis=0) for piece in pieces], axis=0)
    np.testing.assert_allclose(table["rms_raw_uv"], expected, rtol=1e-5)
    assert (table["rms_raw_uv"] > 200).all()
    assert (np.sqrt(table["spike_band_power_uv2"]) < 25).all()


def test_what_all_channels_share_is_gone_after_destriping(tmp_path):
    shared = np.random.default_rng(1).normal(scale=100, size=(round(2 * FS), 1))
    recording = make(noise(2, 10.0) + shared, shifts=False)
    metrics = recording_quality(
        {"ap": recording}, tmp_path, DEFAULT, channels=good(recording)
    ).metrics
    assert metrics["rms_raw_uv_median"] == pytest.approx(100.5, rel=0.03)
    assert metrics["rms_destriped_uv_median"] < 12


@pytest.mark.parametrize(("n_channels", "left"), [(4, 1.0), (16, 0.0)])
def test_a_median_is_taken_of_sixteen_channels_or_more(tmp_path, n_channels, left):
    t = np.arange(int(3 * FS)) / FS
    shared = np.tile((30 * np.sin(2 * np.pi * 1000 * t))[:, None], (1, n_channels))
    recording = make(shared, shifts=False)
    result = recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=good(recording))
    assert result.metrics["rms_destriped_uv_median"] == pytest.approx(
        left * 30 / np.sqrt(2), abs=0.5
    )
    names = [step.name for step in result.applied]
    assert ("spatial_filter" in names) == (n_channels >= 16)


@pytest.mark.parametrize("spatial_filter", ["car", "kfilt"])
@pytest.mark.parametrize("with_bad", [False, True])
def test_destriping_is_that_of_ibl(spatial_filter, with_bad):
    voltage = pytest.importorskip("ibldsp.voltage")
    rng = np.random.default_rng(2)
    t = np.arange(round(FS)) / FS
    shared = 80 * np.sin(2 * np.pi * 700 * t)[:, None] + rng.normal(scale=30, size=(len(t), 1))
    recording = make(noise(1, 20.0, n=96) + shared)
    table = good(recording)
    if with_bad:
        table.loc[[5, 40], "label"] = ["dead", "noise"]
        table.loc[90:, "label"] = "out"
    parameters = RecordingQualityParameters(spatial_filter=spatial_filter)
    ours = Destriper(recording, table, parameters).traces(0, len(t))
    codes = table["label"].map({"good": 0, "dead": 1, "noise": 2, "out": 3}).to_numpy()
    header = {
        "x": table["x_um"].to_numpy(),
        "y": table["y_um"].to_numpy(),
        "shank": np.zeros(96),
        "sample_shift": recording.get_property("inter_sample_shift"),
    }
    order = np.lexsort((header["x"], header["y"]))  # IBL's headers come in the order of depth
    header = {name: values[order] for name, values in header.items()}
    volts = recording.get_traces(return_in_uV=True).T[order].astype(float) * 1e-6
    theirs = voltage.destripe(
        volts,
        FS,
        h=header,
        neuropixel_version=1,
        channel_labels=codes[order],
        k_filter=spatial_filter == "kfilt",
        k_kwargs={
            "ntr_pad": 60,
            "ntr_tap": 0,
            "lagc": int(FS / 10),
            "butter_kwargs": {"N": 3, "Wn": 0.01, "btype": "highpass"},
        },
    )
    theirs = theirs.T[:, np.argsort(order)] * 1e6
    middle = slice(3000, -3000)  # both have borders of their own
    error = ours[middle] - theirs[middle]
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(theirs[middle] ** 2))


def test_the_spatial_filter_leaves_a_dead_channel_finite():
    values = noise(0.2, 20.0)
    values[:, 3] = 0
    assert np.isfinite(spatial_highpass(values, 3000)).all()


@pytest.mark.parametrize("line", [50, 60])
def test_line_noise_is_found_at_its_frequency(tmp_path, line):
    t = np.arange(round(3 * FS))[:, None] / FS
    recording = make(noise(3, 10.0) + 20 * np.sin(2 * np.pi * line * t), shifts=False)
    metrics = recording_quality(
        {"ap": recording}, tmp_path, DEFAULT, channels=good(recording)
    ).metrics
    # A sine of 20 uV in noise of 100/15000 uV^2/Hz, spread by the window over 3 bins of 1 Hz.
    expected = 10 * np.log10(200 / 3 / (100 / 15000))
    assert metrics[f"line_noise_{line}hz_db"] == pytest.approx(expected, abs=1.5)
    assert metrics["line_noise_db"] == metrics[f"line_noise_{line}hz_db"]
    assert metrics[f"line_noise_{110 - line}hz_db"] < 5


def test_without_a_line_there_is_no_line_noise(tmp_path):
    recording = make(noise(5, 10.0))
    metrics = recording_quality(
        {"ap": recording}, tmp_path, DEFAULT, channels=good(recording)
    ).metrics
    assert metrics["line_noise_db"] < 5


def test_a_dead_channel_hides_no_mains(tmp_path):
    t = np.arange(round(3 * FS))[:, None] / FS
    traces = noise(3, 10.0) + 100 * np.sin(2 * np.pi * 60 * t)
    traces[:, 7] = 0
    lf = make(traces[::12], 2500.0, shifts=False)
    ap = make(traces, shifts=False)
    for label in ("dead", "good"):
        channels = good(ap)
        channels.loc[7, "label"] = label
        result = recording_quality({"ap": ap, "lf": lf}, tmp_path, DEFAULT, channels=channels)
        quality = result.tables["channel_quality"]
        assert result.metrics["line_noise_db"] == result.metrics["line_noise_60hz_db"] > 30
        assert result.metrics["lf_line_noise_db"] > 30
        assert np.isnan(
            quality.loc[7, ["line_noise_60hz_db", "lf_line_noise_60hz_db"]].astype(float)
        ).all()


def test_numbers_that_no_channel_has_are_not_computed(tmp_path):
    recording = make(np.zeros((round(FS), N_CHANNELS)), shifts=False)
    channels = good(recording).assign(label="dead")
    metrics = recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=channels).metrics
    assert np.isnan(metrics["line_noise_db"]) and np.isnan(metrics["rms_destriped_uv_median"])


def test_a_spectrum_too_coarse_for_a_line_says_so():
    frequencies, power = power_spectrum(noise(1), FS, 1024)
    assert np.isnan(line_noise_db(frequencies, power, 50, 4)).all()


def test_spikes_are_counted_per_channel():
    clean = np.zeros((1000, 3))
    clean[100:104, 0] = -60
    clean[[200, 300, 301], 1] = -51
    clean[:, 2] = -49
    assert spike_counts(clean, -50.0).tolist() == [1, 2, 0]


def test_spike_rate_is_that_of_injected_spikes(tmp_path):
    traces = noise(2, 5.0)
    shape = -200 * np.exp(-0.5 * (np.arange(-15, 16) / 5) ** 2)
    for start in range(1000, len(traces) - 100, 3000):  # ten a second
        traces[start : start + 31, 7] += shape
    recording = make(traces, shifts=False)
    result = recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=good(recording))
    rates = result.tables["channel_quality"]["spike_rate_hz"]
    assert rates[7] == pytest.approx(10, abs=1)
    assert rates.drop(7).max() == 0


def test_saturated_intervals_are_found_to_the_sample():
    traces = noise(3.2, 20.0)
    n = len(traces)
    events = [(5, 25), (29_980, 30_040), (60_000, 60_001), (n - 10, n)]
    for start, stop in events:
        traces[start:stop, :8] = 2000  # a third of the channels
    traces[45_000:45_100, :4] = 2000  # a sixth is not enough
    table, n_saturated = saturated(make(traces), saturation_slope_uv=None)
    found = list(zip(table["start_sample"], table["stop_sample"], strict=True))
    assert found == events
    assert n_saturated == sum(stop - start for start, stop in events)
    assert table["clipped"].all()


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_saturation_agrees_with_ibl_over_borders_of_blocks(n_jobs):
    voltage = pytest.importorskip("ibldsp.voltage")
    traces = noise(2.5, 20.0)
    rng = np.random.default_rng(3)
    for start in rng.integers(0, 29_000, 12):
        traces[start : start + rng.integers(1, 50), : rng.integers(2, 20)] = -1300
    traces[30_000:30_020] = 600  # within the range: only the jumps at both ends count
    traces[59_980:60_000] = -700
    recording = make(traces)
    table, n_saturated = saturated(recording, n_jobs=n_jobs, saturation_gap_samples=0)
    assert {29_999, 59_999} <= set(table["start_sample"])
    volts = recording.get_traces(return_in_uV=True).T.astype(float) * 1e-6
    theirs, _ = voltage.saturation(volts, max_voltage=1200e-6, fs=FS)
    ours = np.zeros(len(traces), bool)
    for start, stop in zip(table["start_sample"], table["stop_sample"], strict=True):
        ours[start:stop] = True
    np.testing.assert_array_equal(ours, theirs)
    assert n_saturated == theirs.sum()


def test_short_pauses_do_not_end_an_interval():
    traces = noise(1, 20.0)
    traces[1000:1010] = 2000
    traces[1015:1020] = 2000
    traces[1040:1050] = 2000
    table, _ = saturated(make(traces), saturation_slope_uv=None)
    assert table["start_sample"].tolist() == [1000, 1040]
    assert table["n_saturated"].tolist() == [15, 10]


def test_a_clean_recording_has_an_empty_table_with_its_columns(tmp_path):
    recording = make(noise(1))
    result = recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=good(recording))
    table = result.tables["saturation"]
    assert len(table) == 0
    assert table["start_sample"].dtype == np.int64
    assert result.metrics["n_saturation_events"] == 0
    assert result.metrics["saturated_fraction"] == 0


def test_the_range_comes_from_the_probe_and_can_be_overridden():
    recording = make(noise(0.1))
    assert limits_of(recording, DEFAULT, slope=True).range_uv == 1200
    given = RecordingQualityParameters(saturation_range_uv=500.0)
    assert limits_of(recording, given, slope=True).range_uv == 500
    recording.annotate(saturation_threshold_uV=None)
    unknown = limits_of(recording, DEFAULT, slope=False)
    assert unknown.range_uv == pytest.approx(32767 * GAIN)
    assert unknown.jump is None
    probe = recording.get_probe()
    probe.annotate(adc_range_vpp=1.0, ap_gain=80.0)  # Neuropixels 2.0
    recording.set_probe(probe)
    assert limits_of(recording, DEFAULT, slope=False).range_uv == 6250


def test_half_a_second_is_enough(tmp_path):
    recording = make(noise(0.5, 20.0))
    result = recording_quality({"wideband": recording}, tmp_path, DEFAULT, channels=good(recording))
    assert result.metrics["examined_s"] == 0.5
    assert result.metrics["rms_raw_uv_median"] == pytest.approx(20, rel=0.05)
    assert np.isfinite(result.metrics["line_noise_db"])


@pytest.mark.parametrize(
    ("duration_s", "starts"),
    [(0.5, [0]), (60, None), (1000, None), (2000, [40, 340, 640, 940, 1240, 1540, 1840])],
)
def test_pieces_are_ibls_for_long_recordings_and_spread_for_short_ones(duration_s, starts):
    class Fake:
        sampling_frequency = 1000.0

        def get_num_samples(self):
            return round(duration_s * 1000)

        def get_annotation(self, name):
            return None

    pieces = module._pieces(Fake(), DEFAULT)
    if starts is not None:
        assert [start / 1000 for start, _ in pieces] == starts
    else:
        assert len(pieces) == 5
    assert all(0 <= a < b <= duration_s * 1000 for a, b in pieces)
    assert all(first[1] <= second[0] for first, second in zip(pieces, pieces[1:], strict=False))


def test_the_lf_band_is_measured_beside_the_spike_band(tmp_path):
    ap = make(noise(1))
    t = np.arange(2500 * 2)[:, None] / 2500
    lf = make(np.tile(100 * np.sin(2 * np.pi * 50 * t), (1, N_CHANNELS)), 2500.0, shifts=False)
    result = recording_quality({"ap": ap, "lf": lf}, tmp_path, DEFAULT, channels=good(ap))
    assert result.metrics["rms_lf_uv_median"] == pytest.approx(100 / np.sqrt(2), rel=0.01)
    assert result.metrics["lf_line_noise_db"] > 20
    assert set(result.tables["spectrum"]["stream"]) == {"ap", "lf"}
    assert result.tables["channel_quality"]["rms_lf_uv"].notna().all()
    assert len(result.tables["channel_quality"]) == N_CHANNELS


def test_gains_that_are_not_numbers_are_refused(tmp_path):
    recording = make(noise(0.2))
    recording.set_channel_gains([np.nan] * N_CHANNELS)
    with pytest.raises(PermanentFailure, match="no numbers"):
        recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=good(recording))


def test_a_recording_without_a_main_stream_is_refused(tmp_path):
    lf = make(noise(0.2))
    with pytest.raises(PermanentFailure, match="neither"):
        recording_quality({"lf": lf}, tmp_path, DEFAULT, channels=good(lf))


def test_labels_of_another_recording_are_refused(tmp_path):
    recording = make(noise(0.2))
    channels = good(recording).assign(channel_id=[f"x{i}" for i in range(N_CHANNELS)])
    with pytest.raises(PermanentFailure, match="another"):
        recording_quality({"ap": recording}, tmp_path, DEFAULT, channels=channels)


def test_every_named_set_is_valid():
    for name in RecordingQualityParameters.sets:
        assert RecordingQualityParameters.resolve(name).piece_s == 1.0


@pytest.mark.real
def test_real_neuropixels_have_the_noise_they_are_known_for(tmp_path):
    from spikeinterface.extractors import read_spikeglx

    folders = sorted(NP24.rglob("*imec0"))
    if not folders:
        pytest.skip(NO_NP24)
    recording = read_spikeglx(folders[0], stream_id="imec0.ap")
    found = detect_bad_channels(recording, tmp_path, BadChannelsParameters(n_chunks=10))
    result = recording_quality(
        {"wideband": recording}, tmp_path, DEFAULT, channels=found.tables["channels"]
    )
    assert result.metrics["saturation_range_uv"] == 6250
    assert result.metrics["saturated_fraction"] == 0
    assert 5 < result.metrics["rms_destriped_uv_median"] < 30
