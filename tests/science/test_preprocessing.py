"""The chains: order, what they do to known signals, and that no sample moves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from hypothesis import given, settings
from hypothesis import strategies as st
from probeinterface import Probe
from scipy.signal import butter, sosfiltfilt

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.science.masking import BridgedPeriodsRecording, masked_periods
from neuro_assets.science.preprocessing import (
    base_chain,
    filter_band,
    good_channels,
    reference_band,
    shank_groups,
    spike_band_chain,
)

FS = 30_000.0


def recording(traces: np.ndarray, *, groups: np.ndarray | None = None) -> si.BaseRecording:
    n_channels = traces.shape[1]
    made = si.NumpyRecording([traces], FS, channel_ids=[f"AP{i}" for i in range(n_channels)])
    probe = Probe(ndim=2, si_units="um")
    positions = np.stack([np.arange(n_channels) % 2 * 32.0, np.arange(n_channels) * 20.0], axis=1)
    if groups is not None:
        positions[:, 0] += 250.0 * groups
    probe.set_contacts(positions, shank_ids=None if groups is None else groups.astype(str))
    probe.set_device_channel_indices(np.arange(n_channels))
    made.set_probe(probe, group_mode="by_shank" if groups is not None else "auto")
    made.set_channel_gains(1.0)
    made.set_channel_offsets(0.0)
    return made


def labels(recording: si.BaseRecording, **other: str) -> pd.DataFrame:
    ids = recording.channel_ids.astype(str)
    return pd.DataFrame({"channel_id": ids, "label": [other.get(name, "good") for name in ids]})


def noise(n_samples: int, n_channels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 20, (n_samples, n_channels)).astype(np.int16)


def test_channelwise_steps_come_before_every_step_across_channels() -> None:
    raw = recording(noise(30_000, 32))
    raw.set_property("inter_sample_shift", np.arange(32) % 4 / 4)
    saturation = pd.DataFrame({"start_sample": [5000], "stop_sample": [5600]})
    chain = spike_band_chain(raw, labels(raw, AP3="dead"), saturation, SpikeBand())
    assert [step.name for step in chain.applied] == [
        "remove_bad_channels",
        "bridge_saturated_periods",
        "phase_shift",
        "highpass_filter",
        "common_reference",
    ]
    assert chain.applied[0].parameters == {"channel_ids": ["AP3"]}
    assert chain.recording.get_num_samples() == raw.get_num_samples()


def test_what_was_not_done_is_not_reported_as_applied() -> None:
    raw = recording(noise(9000, 8))
    names = [s.name for s in spike_band_chain(raw, labels(raw), None, SpikeBand()).applied]
    assert names == ["highpass_filter"]  # no shifts known, too few channels for a median


def test_the_phase_shift_aligns_a_sine_that_was_sampled_channel_after_channel() -> None:
    shifts = np.arange(12) / 12
    time = (np.arange(30_000)[:, None] + shifts[None, :]) / FS
    raw = recording((3000 * np.sin(2 * np.pi * 2500 * time)).astype(np.int16))
    raw.set_property("inter_sample_shift", shifts)
    aligned = base_chain(raw, labels(raw), None, SpikeBand()).recording.get_traces()[3000:-3000]
    expected = 3000 * np.sin(2 * np.pi * 2500 * np.arange(30_000) / FS)[3000:-3000, None]
    assert np.abs(aligned - expected).max() < 3
    assert np.abs(raw.get_traces()[3000:-3000] - expected).max() > 1000


def test_the_filter_is_the_zero_phase_butterworth_of_scipy() -> None:
    raw = recording(noise(30_000, 2))
    chain = base_chain(raw, labels(raw), None, SpikeBand())
    filter_band(chain, SpikeBand(filter_order=3))
    sos = butter(3, 300, btype="high", fs=FS, output="sos")
    expected = sosfiltfilt(sos, raw.get_traces().astype(float), axis=0)
    got = chain.recording.get_traces()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[3000:-3000], expected[3000:-3000], atol=1e-3)


def test_a_dead_channel_stays_out_of_the_median() -> None:
    traces = noise(3000, 17).astype(np.float32)
    traces[:, 16] = 1e6
    raw = recording(traces)
    chain = base_chain(raw, labels(raw, AP16="dead"), None, SpikeBand())
    reference_band(chain, SpikeBand())
    expected = traces[:, :16] - np.median(traces[:, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(chain.recording.get_traces(), expected, rtol=1e-5)


def test_each_shank_has_its_own_median_where_it_has_enough_channels() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 16)
    common = rng.normal(0, 50, (3000, 2))[:, groups].astype(np.float32)
    raw = recording(common + rng.normal(0, 1, common.shape).astype(np.float32), groups=groups)
    chain = base_chain(raw, labels(raw), None, SpikeBand())
    reference_band(chain, SpikeBand())
    assert chain.recording.get_traces().std() < 1.5
    assert chain.applied[-1].parameters["groups"] == 2
    assert shank_groups(raw, 17) is None


def test_a_bridge_leaves_no_step_where_zeros_would() -> None:
    traces = noise(30_000, 4).astype(np.int16) + np.array([0, 500, -800, 300], dtype=np.int16)
    traces[10_000:13_000] = 8000
    raw = recording(traces)
    saturation = pd.DataFrame({"start_sample": [10_000], "stop_sample": [13_000]})
    chain = base_chain(raw, labels(raw), saturation, SpikeBand())
    assert chain.recording.get_dtype() == np.int16
    bridged = chain.recording.get_traces()
    np.testing.assert_array_equal(bridged[:9970], traces[:9970])
    np.testing.assert_array_equal(bridged[13_030:], traces[13_030:])
    filter_band(chain, SpikeBand())
    near = np.r_[9500:9970, 13_030:13_500]
    assert np.abs(chain.recording.get_traces()[near]).max() < 6 * 20


def test_bridges_are_the_same_whatever_chunks_are_read() -> None:
    raw = recording(noise(3000, 3))
    bridged = BridgedPeriodsRecording(raw, [0, 500, 2900], [40, 900, 3000], 30)
    whole = bridged.get_traces()
    pieces = [
        bridged.get_traces(start_frame=start, end_frame=min(start + 70, 3000))
        for start in range(0, 3000, 70)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    one = bridged.get_traces(channel_ids=["AP2"])
    np.testing.assert_array_equal(one[:, 0], whole[:, 2])
    assert np.all(np.abs(np.diff(whole[500:900], n=2, axis=0)) <= 2)  # a straight line, rounded


@settings(max_examples=80, deadline=None)
@given(
    periods=st.lists(st.tuples(st.integers(0, 990), st.integers(1, 60)), max_size=8),
    pad=st.integers(0, 20),
)
@pytest.mark.property
def test_merged_periods_cover_exactly_the_padded_ones(
    periods: list[tuple[int, int]], pad: int
) -> None:
    table = pd.DataFrame(
        [(start, start + length) for start, length in periods],
        columns=["start_sample", "stop_sample"],
    )
    merged = masked_periods(table, 1000, pad)
    expected = np.zeros(1000, dtype=bool)
    for start, stop in table.to_numpy():
        expected[max(0, start - pad) : stop + pad] = True
    got = np.zeros(1000, dtype=bool)
    for start, stop in merged:
        got[start:stop] = True
    np.testing.assert_array_equal(got, expected)
    assert np.all(merged[1:, 0] > merged[:-1, 1])


def test_a_chain_reads_the_same_in_another_process(tmp_path) -> None:
    raw = recording(noise(9000, 20)).save(folder=tmp_path / "raw", verbose=False)
    raw.set_property("inter_sample_shift", np.arange(20) % 4 / 4)  # in memory only
    saturation = pd.DataFrame({"start_sample": [5000], "stop_sample": [5600]})
    chain = spike_band_chain(raw, labels(raw, AP1="noise"), saturation, SpikeBand())
    chain.recording.dump(tmp_path / "chain.json")
    again = si.load(tmp_path / "chain.json")
    np.testing.assert_array_equal(again.get_traces(), chain.recording.get_traces())


def test_a_table_of_another_recording_is_refused() -> None:
    raw = recording(noise(100, 4))
    with pytest.raises(PermanentFailure, match="AP3.*1 of 4"):
        good_channels(raw, labels(raw).iloc[:3])


def test_no_good_channel_is_a_skip() -> None:
    raw = recording(noise(100, 2))
    with pytest.raises(Skipped) as skip:
        good_channels(raw, labels(raw, AP0="dead", AP1="out"))
    assert skip.value.reason is SkipReason.TOO_FEW_GOOD_CHANNELS


def test_several_segments_are_refused_because_indices_would_start_again() -> None:
    two = si.append_recordings([recording(noise(100, 2)), recording(noise(100, 2))])
    with pytest.raises(PermanentFailure, match="2 segments"):
        base_chain(two, labels(two), None, SpikeBand())


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(ValueError, match="lowpass_hz"):
        SpikeBand(highpass_hz=300, lowpass_hz=200)
