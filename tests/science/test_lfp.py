"""The LFP against known signals, scipy and SpikeInterface."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from places import NO_NP24, NP24
from probeinterface import generate_linear_probe
from scipy import ndimage, signal

from neuro_assets.formats.bands import OFFSET, shared_clock_rate
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.science.lfp import filters as lfp_filters
from neuro_assets.science.lfp import metrics as lfp_metrics
from neuro_assets.science.lfp.extract import extract_lfp, open_lfp
from neuro_assets.science.lfp.filters import gaussian_sigma_s, rational_ratio

FLOAT = {"dtype": "float32"}


def highpass_amplitude(frequency_hz, cutoff_hz):
    """Amplitude that the Gaussian high-pass lets through, from its transfer function."""
    return 1 - np.exp(-2 * (np.pi * gaussian_sigma_s(cutoff_hz) * frequency_hz) ** 2)


@pytest.fixture(autouse=True)
def no_picture(monkeypatch, request):
    """Drawing takes longer than filtering: only its own tests draw."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(lfp_metrics, "picture", lambda *given: None)


def make(traces, rate=30000.0, gain=1.0, offset=0.0, shift=None, prefix="AP"):
    """A recording with a linear probe, in microvolts unless a gain says otherwise."""
    traces = np.asarray(traces)
    n = traces.shape[1]
    recording = si.NumpyRecording(
        [traces], rate, channel_ids=np.array([f"{prefix}{k}" for k in range(n)])
    )
    probe = generate_linear_probe(n, ypitch=20)
    probe.set_device_channel_indices(np.arange(n))
    recording.set_probe(probe)
    if gain is not None:
        recording.set_channel_gains(gain)
        recording.set_channel_offsets(offset)
    if shift is not None:
        recording.set_property("inter_sample_shift", np.asarray(shift, dtype=float))
    return recording


def sines(frequency, rate, seconds, n=2, amplitude=500.0, phase=0.3, when=None):
    when = np.arange(round(seconds * rate)) / rate if when is None else when
    return np.tile(
        (amplitude * np.cos(2 * np.pi * frequency * when + phase))[:, None], (1, n)
    ).astype(np.float32)


def run(tmp_path, ap=None, lf=None, channels=None, name="out", n_jobs=1, **values):
    folder = tmp_path / name
    folder.mkdir()
    result = extract_lfp(ap, lf, channels, folder, LfpParameters(**values), n_jobs=n_jobs)
    return open_lfp(folder), result


def fit_sine(trace, times, frequency):
    """Amplitude and phase of the best cosine, by least squares."""
    design = np.stack(
        [np.cos(2 * np.pi * frequency * times), -np.sin(2 * np.pi * frequency * times)], axis=1
    )
    (a, b), *_ = np.linalg.lstsq(design, trace, rcond=None)
    return np.hypot(a, b), np.arctan2(b, a)


def microvolts(recording):
    return recording.get_traces(return_in_uV=True)


def smooth_signal(times, seed=0, n=3, top=240.0, scale=100.0):
    """A sum of sines below `top` Hz, evaluated exactly at any times; shape (times, n)."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(1.0, top, (40, n))
    phase = rng.uniform(0, 2 * np.pi, (40, n))
    return (
        scale / 6 * np.cos(2 * np.pi * frequency[:, None] * times[:, None] + phase[:, None]).sum(0)
    )


@pytest.mark.parametrize("frequency", [0.5, 1.0, 8.0, 60.0, 150.0, 299.0])
def test_a_sine_keeps_its_phase_and_the_amplitude_that_the_design_says(tmp_path, frequency):
    recording, _ = run(tmp_path, make(sines(frequency, 30000.0, 14.0)), **FLOAT)
    times = np.arange(recording.get_num_samples()) / 1000.0
    inner = slice(3000, 11000)
    amplitude, phase = fit_sine(microvolts(recording)[inner, 0], times[inner], frequency)
    assert amplitude == pytest.approx(500 * highpass_amplitude(frequency, 0.5), rel=1e-3)
    assert phase == pytest.approx(0.3, abs=1e-3)


def test_the_highpass_is_3_db_down_at_its_cutoff_and_takes_slow_drift_away():
    assert highpass_amplitude(0.5, 0.5) == pytest.approx(np.sqrt(0.5))
    assert highpass_amplitude(1.0, 0.5) > 0.99
    assert highpass_amplitude(0.05, 0.5) < 0.0125
    assert highpass_amplitude(0.0, 0.5) == 0.0


@pytest.mark.parametrize("frequency", [460.0, 700.0, 990.0, 1010.0, 6000.0])
def test_nothing_above_the_stop_band_folds_into_the_lfp(tmp_path, frequency):
    recording, _ = run(tmp_path, make(sines(frequency, 30000.0, 2.0)), highpass_hz=None, **FLOAT)
    assert np.abs(microvolts(recording)[100:-100]).max() < 500 * 1.2e-4


def test_a_pulse_stays_at_its_time_wherever_it_lies(tmp_path):
    rate, centres = 30000.0, np.array([0.7501, 1.99987, 2.50003, 4.21234])
    times = np.arange(round(5 * rate)) / rate
    pulse = sum(400 * np.exp(-0.5 * ((times - c) / 0.004) ** 2) for c in centres)
    recording, _ = run(tmp_path, make(pulse[:, None]), chunk_s=1.0, **FLOAT)
    trace = microvolts(recording)[:, 0]
    for centre in centres:
        k = round(centre * 1000) + np.arange(-3, 4)
        a, b, _ = np.polyfit(k / 1000 - centre, np.log(trace[k] + 400 * 0.004 * 5), 2)
        assert -b / (2 * a) == pytest.approx(0, abs=2e-5)


def test_chunks_and_pieces_leave_no_trace(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    noise = (np.cumsum(rng.normal(0, 8, (10 * 30000, 3)), axis=0)).astype(np.float32)
    whole, _ = run(tmp_path, make(noise), name="whole", chunk_s=100.0, **FLOAT)
    monkeypatch.setattr(lfp_filters, "PIECE_BYTES", 200_000)
    parts, _ = run(tmp_path, make(noise), name="parts", chunk_s=0.7, **FLOAT)
    together, _ = run(tmp_path, make(noise), name="together", chunk_s=0.7, n_jobs=2, **FLOAT)
    scale = np.abs(noise).max()
    np.testing.assert_allclose(microvolts(parts), microvolts(whole), atol=2e-6 * scale, rtol=0)
    np.testing.assert_array_equal(microvolts(together), microvolts(parts))
    assert not np.allclose(microvolts(whole), 0)


def test_only_the_marked_edges_differ_from_the_lfp_of_a_longer_recording(tmp_path):
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 100, (90_000, 2)).astype(np.float32)
    whole, _ = run(tmp_path, make(traces), name="whole", highpass_hz=None, **FLOAT)
    part, result = run(
        tmp_path, make(traces[30_000:60_000]), name="part", highpass_hz=None, **FLOAT
    )
    edge = result.metrics["filter_edge_s"]
    assert edge == part.get_annotation("filter_edge_s") == pytest.approx(0.0167, abs=1e-3)
    apart = np.abs(microvolts(part) - microvolts(whole)[1_000:2_000]).max(axis=1)
    marked = np.minimum(np.arange(1_000), np.arange(1_000)[::-1]) / 1_000 < edge
    assert apart[~marked].max() < 0.05
    assert apart[:3].max() > 1 and apart[-3:].max() > 1


@pytest.mark.parametrize("cutoff", [0.5, 1.0])
@pytest.mark.parametrize("frequency", [0.7, 1.0, 2.0, 4.0])
def test_slow_waves_are_right_beyond_the_marked_edge(tmp_path, frequency, cutoff):
    when = np.arange(-10 * 2500, 10 * 2500) / 2500
    lf = np.concatenate([sines(frequency, 2500.0, 0, 1, 1000.0, p, when) for p in (0, 1.57)], 1)
    whole, _ = run(tmp_path, lf=make(lf, 2500.0), name="whole", highpass_hz=cutoff, **FLOAT)
    cut = make(lf[25_000:], 2500.0)
    part, result = run(tmp_path, lf=cut, name="part", highpass_hz=cutoff, **FLOAT)
    edge = round(result.metrics["filter_edge_s"] * 1000)
    assert edge == pytest.approx(17 + 2.326 * gaussian_sigma_s(cutoff) * 1000, abs=2)
    apart = np.abs(microvolts(part) - microvolts(whole)[10_000:]).max(axis=1)[:5_000]
    assert apart[edge:].max() < 20
    assert apart[: edge // 3].max() > 40


@pytest.mark.parametrize("band", ["lf", "wideband"])
def test_saturation_stays_within_its_period(tmp_path, band):
    rate, after = (2500.0, 5) if band == "lf" else (30000.0, 0)
    rng = np.random.default_rng(5)
    traces = rng.normal(0, 50, (round(10 * rate), 2)).astype(np.float32)
    saturated = traces.copy()
    saturated[round(5 * rate) - after : round(5.2 * rate) - after] = 4000
    table = pd.DataFrame({"start_sample": [150_000], "stop_sample": [156_000]})
    lfps = []
    for name, given, known in (("clean", traces, None), ("saturated", saturated, table)):
        recording = make(given, rate)
        ap = recording if band == "wideband" else make(np.zeros((300_000, 2)))
        if band == "lf":
            recording.annotate(**{OFFSET: float(after)})
        folder = tmp_path / name
        folder.mkdir()
        streams = (ap, recording if band == "lf" else None)
        result = extract_lfp(*streams, None, folder, LfpParameters(**FLOAT), saturation=known)
        lfps.append(microvolts(open_lfp(folder)))
    assert result.applied[0].name == "bridge_saturated_periods"
    apart = np.abs(lfps[1] - lfps[0]).max(axis=1)
    assert np.r_[apart[:4_980], apart[5_220:]].max() < 20
    assert apart.max() < 250


def test_int16_is_within_one_step_whatever_the_chunks(tmp_path):
    noise = np.random.default_rng(2).normal(0, 50, (6 * 2500, 4)).astype(np.float32)
    lf = make(noise, rate=2500.0)
    one, _ = run(tmp_path, lf=lf, name="one", chunk_s=100.0)
    many, _ = run(tmp_path, lf=lf, name="many", chunk_s=0.5)
    exact, _ = run(tmp_path, lf=lf, name="exact", **FLOAT)
    assert one.get_dtype() == np.int16
    assert np.abs(one.get_traces().astype(int) - many.get_traces().astype(int)).max() <= 1
    assert np.abs(microvolts(one) - microvolts(exact)).max() <= 0.2501


def test_wide_band_and_lf_band_give_the_same_lfp(tmp_path):
    fast, slow = np.arange(8 * 30000) / 30000, np.arange(8 * 2500) / 2500
    wide, _ = run(tmp_path, make(smooth_signal(fast)), name="wide", **FLOAT)
    low, _ = run(
        tmp_path,
        make(np.zeros((8 * 30000, 3))),
        make(smooth_signal(slow), 2500.0),
        name="lf",
        **FLOAT,
    )
    a, b = microvolts(wide)[100:-100], microvolts(low)[100:-100]
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 0.05
    assert a.std() > 30


def test_the_result_agrees_with_scipy(tmp_path):
    times = np.arange(12 * 2500) / 2500
    truth = smooth_signal(times, seed=3) + 40 * np.sin(2 * np.pi * 0.2 * times)[:, None]
    recording, _ = run(tmp_path, lf=make(truth, 2500.0), **FLOAT)
    taps = signal.firwin(2001, 370.0, fs=2 * 2500.0)
    reference = signal.resample_poly(truth, 2, 5, axis=0, window=taps)
    sigma = np.sqrt(-np.log(1 - np.sqrt(0.5)) / 2) / (np.pi * 0.5) * 1000
    reference = reference - ndimage.gaussian_filter1d(reference, sigma, axis=0, truncate=6)
    inner = slice(3500, -3500)
    assert np.abs(microvolts(recording)[inner] - reference[inner]).max() < 0.1
    # The same class of filter as IBL's forward-backward Butterworth: alike from 2 Hz on.
    ibl = signal.sosfiltfilt(
        signal.butter(3, [0.5, 300], "bandpass", fs=2500, output="sos"), truth, axis=0
    )
    top = signal.butter(4, 5, "highpass", fs=1000, output="sos")
    ours = signal.sosfiltfilt(top, microvolts(recording)[:, 0].astype(float))
    theirs = signal.sosfiltfilt(top, signal.resample_poly(ibl, 2, 5, axis=0, window=taps)[:, 0])
    assert np.corrcoef(ours[inner], theirs[inner])[0, 1] > 0.99


def test_channels_that_were_sampled_one_after_the_other_are_aligned(tmp_path):
    shift = np.array([0.5, 0.0, 11 / 12, 0.25])
    height = np.array([100, 200, 300, 400])
    staggered = (np.arange(6 * 2500)[:, None] + shift) / 2500
    traces = height * np.cos(2 * np.pi * 180 * staggered)
    lf = make(traces, 2500.0, shift=shift)
    aligned, result = run(tmp_path, lf=lf, name="aligned", **FLOAT)
    left, _ = run(tmp_path, lf=lf, name="left", phase_shift=False, **FLOAT)
    from spikeinterface.preprocessing import phase_shift

    theirs, _ = run(
        tmp_path, lf=phase_shift(lf, dtype="float32"), name="si", phase_shift=False, **FLOAT
    )
    inner = slice(1000, -1000)
    ours = microvolts(aligned)[inner]
    truth = np.cos(2 * np.pi * 180 * np.arange(aligned.get_num_samples()) / 1000)[inner]
    assert np.abs(ours - truth[:, None] * height).max() < 0.3
    assert np.abs(ours - microvolts(theirs)[inner]).max() < 0.5
    assert np.abs(microvolts(left)[inner, 2] - 300 * truth).max() > 100
    assert result.applied[0].name == "phase_shift"


def test_an_lf_band_without_shifts_takes_those_of_the_ap_band(tmp_path):
    shift = np.array([0.0, 0.5])
    staggered = (np.arange(3 * 2500)[:, None] + shift) / 2500
    lf = make(300 * np.cos(2 * np.pi * 100 * staggered), 2500.0, prefix="LF")
    ap = make(np.zeros((3 * 30000, 2)), shift=shift)
    recording, result = run(tmp_path, ap, lf, **FLOAT)
    traces = microvolts(recording)[500:-500]
    assert np.abs(traces[:, 0] - traces[:, 1]).max() < 0.2
    assert result.applied[0].parameters == {"inter_sample_shift_from": "ap"}


@pytest.mark.parametrize("delay", [-3.5, 0.4, 7.25])
def test_an_lf_band_that_starts_apart_from_the_ap_band_is_put_on_its_clock(tmp_path, delay):
    rate = 2500.0
    times = (np.arange(4 * 2500) + delay) / rate
    lf, ap = make(smooth_signal(times), rate), make(np.zeros((30000, 3)))
    lf.shift_times(100.0 + delay / rate)
    ap.shift_times(100.0)
    recording, _ = run(tmp_path, ap, lf, highpass_hz=None, **FLOAT)
    truth = smooth_signal(np.arange(recording.get_num_samples()) / 1000)
    assert np.abs(microvolts(recording) - truth)[200:-200].max() < 0.1
    assert recording.get_start_time() == 0.0


def test_streams_that_start_far_apart_are_refused(tmp_path):
    lf, ap = make(np.zeros((2500, 2)), 2500.0), make(np.zeros((30000, 2)))
    lf.shift_times(5.0)
    with pytest.raises(PermanentFailure, match=r"5\.000 s after"):
        run(tmp_path, ap, lf)


def test_a_calibrated_clock_does_not_drift(tmp_path):
    rate = 30000.390639
    assert shared_clock_rate(rate, 2500.03) == rate / 12
    assert shared_clock_rate(30000.0, 2499.0) == 2499.0
    times = np.arange(round(20 * rate)) / rate
    pulse = 400 * np.exp(-0.5 * ((times - 19.5) / 0.004) ** 2)
    recording, result = run(tmp_path, make(pulse[:, None], rate), **FLOAT)
    assert recording.get_sampling_frequency() == rate / 30
    trace = microvolts(recording)[:, 0]
    k = int(trace.argmax()) + np.arange(-3, 4)
    a, b, _ = np.polyfit(k / (rate / 30) - 19.5, np.log(trace[k] + 8), 2)
    assert -b / (2 * a) == pytest.approx(0, abs=2e-5)
    assert result.metrics["sampling_frequency_hz"] == rate / 30


@pytest.mark.parametrize(
    ("rate", "wanted", "ratio"),
    [
        (30000.0, 1000.0, (1, 30)),
        (2500.0, 1000.0, (2, 5)),
        (30000.39, 2500.0, (1, 12)),
        (15000.0, 1000.0, (1, 15)),
        (24414.0625, 1000.0, (5, 122)),
        (1000.0, 1000.0, (1, 1)),
    ],
)
def test_rates_become_ratios_of_small_integers(rate, wanted, ratio):
    assert rational_ratio(rate, wanted, 1e-3) == ratio


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.5])
def test_very_short_recordings_work(tmp_path, seconds):
    traces = np.random.default_rng(0).normal(300, 20, (round(seconds * 30000), 4))
    recording, result = run(tmp_path, make(traces))
    assert recording.get_num_samples() == max(1, round(seconds * 1000))
    assert np.isfinite(microvolts(recording)).all()
    assert np.abs(microvolts(recording)).max() < 60
    assert result.metrics["duration_s"] == pytest.approx(seconds, abs=1e-9)


def test_the_ends_hold_no_transient_of_a_large_offset(tmp_path):
    traces = 5000 + np.random.default_rng(0).normal(0, 10, (4 * 30000, 2))
    recording, _ = run(tmp_path, make(traces), **FLOAT)
    assert np.abs(microvolts(recording)[:5]).max() < 15
    assert np.abs(microvolts(recording)[-5:]).max() < 15


def test_a_level_that_changed_is_gone_three_seconds_later_and_at_the_end(tmp_path):
    traces = np.repeat([0.0, 5000.0], 4 * 2500)[:, None]
    recording, _ = run(tmp_path, lf=make(traces, 2500.0), **FLOAT)
    assert np.abs(microvolts(recording)[7000:]).max() < 0.1


def test_missing_samples_and_constant_channels_do_not_spread(tmp_path):
    rng = np.random.default_rng(5)
    clean = rng.normal(0, 30, (4 * 2500, 4)).astype(np.float32)
    broken = clean.copy()
    broken[5000:5200, 1] = np.nan
    broken[:, 2] = np.nan
    broken[:, 3] = 1234.5
    want, _ = run(tmp_path, lf=make(clean, 2500.0), name="clean", highpass_hz=None, **FLOAT)
    have, result = run(tmp_path, lf=make(broken, 2500.0), name="broken", **FLOAT)
    plain, _ = run(tmp_path, lf=make(broken, 2500.0), name="plain", highpass_hz=None, **FLOAT)
    assert np.isfinite(microvolts(have)).all()
    assert not microvolts(have)[:, 2:].any()
    far = np.r_[0:1900, 2200:4000]
    np.testing.assert_allclose(microvolts(plain)[far, 1], microvolts(want)[far, 1], atol=0.2)
    assert result.metrics["n_missing_samples"] == 200 + 4 * 2500
    assert result.metrics["n_flat_channels"] == 2
    assert result.tables["channels"]["is_flat"].tolist() == [False, False, True, True]


def test_spikeinterface_opens_the_result_with_gains_probe_labels_and_clock(tmp_path):
    shift = 0.0
    traces = (sines(20.0, 30000.0, 3.0, n=4) / 0.195 + 32768).astype(np.uint16)
    ap = make(traces, gain=0.195, offset=-32768 * 0.195)
    channels = pd.DataFrame({"channel_id": ap.get_channel_ids(), "label": ["good"] * 3 + ["dead"]})
    recording, result = run(tmp_path, ap, channels=channels)
    opened = si.read_zarr(tmp_path / "out" / "lfp.zarr")
    assert opened.get_dtype() == np.int16
    assert set(opened.get_channel_gains()) == {0.5}
    amplitude, _ = fit_sine(microvolts(opened)[1000:2000, 0], np.arange(1000, 2000) / 1000, 20.0)
    assert amplitude == pytest.approx(500, rel=2e-3)
    np.testing.assert_array_equal(opened.get_channel_locations(), ap.get_channel_locations())
    assert list(opened.get_channel_ids()) == list(ap.get_channel_ids())
    assert list(opened.get_property("label")) == ["good"] * 3 + ["dead"]
    assert opened.get_annotation("clock") == "probe"
    assert opened.get_times()[1500] == 1.5 + shift
    assert result.metrics["n_bad_channels"] == 1
    assert result.metrics["lfp_rms_uv_median"] == pytest.approx(500 / np.sqrt(2), rel=0.02)
    assert result.metrics["n_clipped_samples"] == 0


def test_without_a_highpass_the_level_is_kept(tmp_path):
    ap = make(np.full((30000, 2), 40000, np.uint16), gain=0.1, offset=-3276.8)
    recording, result = run(tmp_path, ap, highpass_hz=None)
    assert np.abs(microvolts(recording) - (4000 - 3276.8)).max() <= 0.26
    assert [step.name for step in result.applied] == ["lowpass_resample"]


def test_what_int16_cannot_hold_is_counted(tmp_path):
    traces = sines(10.0, 2500.0, 4.0, amplitude=30000.0)
    _, result = run(tmp_path, lf=make(traces, 2500.0))
    assert result.metrics["n_clipped_samples"] > 1000
    _, exact = run(tmp_path, lf=make(traces, 2500.0), name="float", **FLOAT)
    assert exact.metrics["n_clipped_samples"] == 0


def test_unknown_gains_give_a_float_lfp_and_an_unknown_rms(tmp_path):
    recording, result = run(tmp_path, lf=make(sines(10.0, 2500.0, 2.0), 2500.0, gain=None))
    assert recording.get_dtype() == np.float32
    assert not recording.has_scaleable_traces()
    assert np.isnan(result.metrics["lfp_rms_uv_median"])


def test_gains_that_are_not_numbers_are_refused(tmp_path):
    ap = make(np.zeros((3000, 3)), gain=[1.0, np.nan, 1.0])
    with pytest.raises(PermanentFailure, match="1 of 3 channels"):
        run(tmp_path, ap)


def test_bad_channels_are_interpolated_only_when_asked_and_never_outside_the_brain(tmp_path):
    rng = np.random.default_rng(6)
    traces = rng.normal(0, 50, (4 * 2500, 8)).astype(np.float32)
    lf = make(traces, 2500.0)
    labels = ["good", "good", "dead", "good", "noise", "good", "good", "out"]
    channels = pd.DataFrame({"channel_id": lf.get_channel_ids(), "label": labels})
    kept, plain = run(tmp_path, lf=lf, channels=channels, name="kept", **FLOAT)
    mended, result = run(
        tmp_path, lf=lf, channels=channels, name="mended", bad_channels="interpolate", **FLOAT
    )
    from spikeinterface.preprocessing.preprocessing_tools import get_kriging_channel_weights

    good = np.flatnonzero(np.array(labels) == "good")
    places = lf.get_channel_locations()
    weights = get_kriging_channel_weights(places[good], places[[2, 4]], 20.0, 1.3, -1)
    expected = microvolts(kept)[:, good] @ weights
    np.testing.assert_allclose(microvolts(mended)[:, [2, 4]], expected, atol=1e-3)
    np.testing.assert_array_equal(microvolts(mended)[:, 7], microvolts(kept)[:, 7])
    assert plain.metrics["n_interpolated_channels"] == 0
    assert result.metrics["n_interpolated_channels"] == 2
    assert result.applied[-1].parameters == {"channel_ids": ["AP2", "AP4"]}


def test_lf_channels_get_the_labels_of_the_ap_channels_at_their_place(tmp_path):
    ap = make(np.zeros((3000, 3)))
    lf = make(np.random.default_rng(0).normal(0, 9, (2500, 3)), 2500.0, prefix="LF")
    channels = pd.DataFrame({"channel_id": ap.get_channel_ids(), "label": ["good", "out", "good"]})
    recording, _ = run(tmp_path, ap, lf, channels)
    assert list(recording.get_property("label")) == ["good", "out", "good"]
    assert list(recording.get_property("ap_channel_id")) == ["AP0", "AP1", "AP2"]
    assert list(recording.get_channel_ids()) == ["LF0", "LF1", "LF2"]


def test_labels_of_other_channels_are_refused(tmp_path):
    channels = pd.DataFrame({"channel_id": ["x", "y"], "label": ["good", "good"]})
    with pytest.raises(PermanentFailure, match="make bad_channels again"):
        run(tmp_path, make(np.zeros((3000, 2))), channels=channels)


def two_band(filters=None):
    recording = make(np.random.default_rng(0).normal(0, 9, (3000, 2)))
    probe = recording.get_probe()
    probe.annotate(lf_sample_frequency_hz=2500.0)
    if filters is not None:
        probe.annotate_contacts(ap_hp_filters=filters)
    recording.set_probe(probe)
    return recording


def test_a_recording_without_the_band_is_skipped_with_the_reason(tmp_path):
    slow = make(np.zeros((500, 2)), 500.0)
    for name, (ap, lf) in {
        "ap": (two_band(), None),
        "no": (None, None),
        "slow": (None, slow),
    }.items():
        with pytest.raises(Skipped) as caught:
            run(tmp_path, ap, lf, name=name)
        assert caught.value.reason is SkipReason.NO_LFP_BAND
        assert not any((tmp_path / name).iterdir())


def test_an_ap_band_whose_filter_is_off_reaches_the_lfp(tmp_path):
    recording, result = run(tmp_path, two_band(filters=[0, 0]))
    assert result.metrics["source_stream"] == "wideband"
    assert recording.get_num_samples() == 100


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(lfp_filters, "PIECE_BYTES", 2**17)
    peaks = []
    for seconds in (15, 45):
        lf = si.generate_recording(
            num_channels=8, sampling_frequency=2500.0, durations=[seconds], seed=0
        )
        tracemalloc.start()
        run(tmp_path, lf=lf, name=str(seconds), chunk_s=1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("name", sorted(LfpParameters.sets))
def test_each_named_set_keeps_its_pass_band(tmp_path, name):
    parameters = LfpParameters.resolve(name, FLOAT)
    top = 0.98 * parameters.lowpass_hz
    extract_lfp(make(sines(top, 30000.0, 3.0)), None, None, tmp_path, parameters)
    recording = open_lfp(tmp_path)
    rate = recording.get_sampling_frequency()
    assert rate == pytest.approx(parameters.sampling_frequency_hz, rel=1e-3)
    trace = microvolts(recording)[:, 0]
    inner = slice(round(rate), -round(rate))
    amplitude, phase = fit_sine(trace[inner], np.arange(len(trace))[inner] / rate, top)
    assert amplitude == pytest.approx(500, rel=2e-3)
    assert phase == pytest.approx(0.3, abs=2e-3)
    assert LfpParameters.sets[name].source


def test_a_band_that_would_fold_back_is_refused():
    with pytest.raises(ValueError, match="fold back"):
        LfpParameters(lowpass_hz=450.0)
    with pytest.raises(ValueError, match="below lowpass_hz"):
        LfpParameters(highpass_hz=300.0)


def test_line_noise_is_seen_and_its_absence_too(tmp_path):
    noise = np.random.default_rng(8).normal(0, 20, (20 * 2500, 3))
    times = np.arange(20 * 2500) / 2500
    noise[:, 2] += 30 * np.sin(2 * np.pi * 60 * times)
    _, result = run(tmp_path, lf=make(noise, 2500.0))
    ratios = result.tables["channels"]["line_noise_ratio"]
    assert ratios[:2].max() < 2
    assert ratios[2] > 50
    spectrum = result.tables["spectrum"].set_index("frequency_hz")["power_median"]
    # White noise of 20 uV at 2500 Hz: 400 / 1250 uV^2/Hz.
    assert spectrum[100:250].median() == pytest.approx(400 / 1250, rel=0.15)


def test_the_picture_is_a_small_png(tmp_path):
    from matplotlib import image

    _, result = run(tmp_path, lf=make(np.random.default_rng(0).normal(0, 9, (5000, 32)), 2500.0))
    assert len(result.picture.png) < 100_000
    assert image.imread(io.BytesIO(result.picture.png)).shape[1] == 700


@pytest.mark.real
def test_half_a_second_of_a_real_neuropixels_2_recording_gives_its_lfp(tmp_path):
    run_folder = "rawdata/sub-001/ses-001/ephys/run-001_g0_imec0"
    if not (NP24 / run_folder).is_dir():
        pytest.skip(NO_NP24)
    from spikeinterface.extractors import read_spikeglx

    ap = read_spikeglx(NP24 / run_folder, stream_id="imec0.ap")
    recording, result = run(tmp_path, ap)
    assert recording.get_num_samples() == 500
    assert recording.get_num_channels() == 384
    assert result.applied[0].name == "phase_shift"
    raw = ap.get_traces(return_in_uV=True)[:, 100].astype(float)
    taps = signal.firwin(3001, 370.0, fs=30000.0)
    reference = signal.convolve(raw - raw.mean(), taps, mode="same")[::30]
    ours = microvolts(recording)[:, 100]
    middle = slice(60, -60)
    a, b = (
        x[middle] - np.polyval(np.polyfit(np.arange(380), x[middle], 2), np.arange(380))
        for x in (ours, reference)
    )
    assert np.corrcoef(a, b)[0, 1] > 0.99
