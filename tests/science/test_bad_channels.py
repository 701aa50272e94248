from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import spikeinterface.core as si
from places import NO_NP24, NP24
from probeinterface import generate_multi_columns_probe, generate_multi_shank, generate_tetrode

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.science import bad_channels as module
from neuro_assets.science.bad_channels import check_sortable, detect_bad_channels
from neuro_assets.science.geometry import channel_table

FS = 30_000.0
QUICK = BadChannelsParameters(n_chunks=8)


def brain(n_channels: int, duration_s: float, seed: int = 0) -> np.ndarray:
    """Noise shared by all channels plus each channel's own, uV; like tissue and amplifier."""
    rng = np.random.default_rng(seed)
    n_samples = int(duration_s * FS)
    own = rng.normal(scale=2.0, size=(n_samples, n_channels))
    shared = rng.normal(scale=8.0, size=(n_samples, 1))
    # The running mean keeps the top fifth of frequencies quiet, as an amplifier does.
    return np.apply_along_axis(np.convolve, 0, own + shared, np.ones(3) / 3, mode="same")


def recording_of(traces: np.ndarray, probe=None, gain: float | None = 0.1) -> si.BaseRecording:
    scale = gain or 1.0
    recording = si.NumpyRecording([np.round(traces / scale).astype(np.int16)], FS)
    if gain is not None:
        recording.set_channel_gains(gain)
        recording.set_channel_offsets(0.0)
    if probe is not None:
        probe.set_device_channel_indices(np.arange(traces.shape[1]))
        recording.set_probe(probe)
    return recording


def column(n_channels: int):
    return generate_multi_columns_probe(
        num_columns=2, num_contact_per_column=n_channels // 2, xpitch=32, ypitch=20
    )


def with_known_faults(n_channels: int = 64, duration_s: float = 2.0):
    """Traces on a two-column probe: two dead, two noisy, the ten highest out of the brain."""
    probe = column(n_channels)
    by_depth = np.lexsort((probe.contact_positions[:, 0], probe.contact_positions[:, 1]))
    traces = brain(n_channels, duration_s)
    rng = np.random.default_rng(1)
    truth = np.full(n_channels, "good", dtype=object)
    dead, noisy, out = by_depth[[8, 30]], by_depth[[15, 40]], by_depth[-10:]
    traces[:, dead] = rng.normal(scale=0.8, size=(len(traces), 2))
    traces[:, noisy] += rng.normal(scale=60.0, size=(len(traces), 2))
    traces[:, out] = brain(10, duration_s, seed=9) * 0.02
    truth[dead], truth[noisy], truth[out] = "dead", "noise", "out"
    return recording_of(traces, probe), truth


def test_known_dead_noisy_and_outside_channels_are_found(tmp_path):
    recording, truth = with_known_faults()
    result = detect_bad_channels(recording, tmp_path, QUICK)
    channels = result.tables["channels"]
    assert channels["label"].tolist() == truth.tolist()
    assert channels["channel_id"].tolist() == [str(c) for c in recording.channel_ids]
    assert set(channels["method"]) == {"coherence+psd"}
    assert result.metrics["n_dead_channels"] == 2
    assert result.metrics["n_noise_channels"] == 2
    assert result.metrics["n_out_channels"] == 10
    assert result.metrics["bad_channel_fraction"] == pytest.approx(14 / 64)
    assert len(result.picture.png) < 100_000


@pytest.mark.parametrize("location", ["top", "bottom", "both"])
@pytest.mark.parametrize("upside_down", [False, True])
def test_the_labels_of_each_piece_are_spikeinterfaces_own(location, upside_down):
    from spikeinterface.preprocessing.detect_bad_channels import detect_bad_channels_ibl

    recording, _ = with_known_faults()
    if upside_down:
        recording = recording_of(recording.get_traces()[:, ::-1] * 0.1, column(64))
    parameters = BadChannelsParameters(n_chunks=3, outside_channels_location=location)
    filtered, _ = module._prepared(recording, parameters)
    table = channel_table(recording)
    order = np.lexsort((table["x_um"], table["y_um"]))
    for start, stop in module._pieces(recording, parameters):
        traces = filtered.get_traces(start_frame=start, end_frame=stop, return_in_uV=True)
        frame = module._measure(traces, table, recording, parameters)
        theirs = np.empty(len(table), dtype=int)
        theirs[order] = detect_bad_channels_ibl(
            traces[:, order], FS, 0.02, outside_channels_location=location
        )
        ours = module._label(frame, "coherence+psd", parameters)
        np.testing.assert_array_equal(ours, theirs)


def test_the_whole_detection_agrees_with_spikeinterface(tmp_path):
    from spikeinterface.preprocessing import detect_bad_channels as theirs

    recording, _ = with_known_faults()
    _, labels = theirs(recording, seed=0, num_random_chunks=5, job_kwargs={"progress_bar": False})
    ours = detect_bad_channels(recording, tmp_path, QUICK).tables["channels"]["label"]
    assert ours.tolist() == labels.tolist()


def test_each_shank_is_judged_by_itself(tmp_path):
    probe = generate_multi_shank(
        num_shank=2, num_columns=1, num_contact_per_column=20, ypitch=20, shank_pitch=(250, 0)
    )
    traces = np.concatenate([brain(20, 1.0, 1), brain(20, 1.0, 2)], axis=1)
    traces[:, 31:] *= 0.02  # the upper end of the second shank
    result = detect_bad_channels(recording_of(traces, probe), tmp_path, QUICK)
    channels = result.tables["channels"]
    assert (channels.loc[channels["shank"] == "0", "label"] == "good").all()
    assert channels.loc[channels["shank"] == "1", "label"].tolist() == ["good"] * 11 + ["out"] * 9


def test_a_tetrode_is_judged_by_spread(tmp_path):
    traces = brain(4, 1.0)
    traces[:, 2] *= 20
    result = detect_bad_channels(recording_of(traces, generate_tetrode()), tmp_path, QUICK)
    channels = result.tables["channels"]
    assert set(channels["method"]) == {"mad"}
    assert channels["label"].tolist() == ["good", "good", "noise", "good"]
    assert result.applied[-1].parameters["methods"] == ["mad"]
    assert "psd_hf_threshold" not in result.applied[-1].parameters


def test_a_flat_channel_is_dead_whatever_the_method(tmp_path):
    for n_channels, probe in ((4, generate_tetrode()), (32, column(32))):
        traces = brain(n_channels, 1.0)
        traces[:, 1] = 0
        labels = detect_bad_channels(recording_of(traces, probe), tmp_path, QUICK).tables[
            "channels"
        ]
        assert labels["label"].tolist()[1] == "dead"
        assert (labels["label"] != "good").sum() == 1


@pytest.mark.parametrize("duration_s", [0.01, 0.2, 0.5])
def test_half_a_second_is_enough_for_labels(tmp_path, duration_s):
    recording = recording_of(brain(32, duration_s), column(32))
    result = detect_bad_channels(recording, tmp_path, BadChannelsParameters())
    assert result.metrics["n_good_channels"] == 32
    assert result.metrics["examined_s"] <= duration_s


def test_a_recording_without_gains_falls_back_and_says_so(tmp_path):
    result = detect_bad_channels(recording_of(brain(32, 0.5), column(32), None), tmp_path, QUICK)
    assert set(result.tables["channels"]["method"]) == {"mad"}


def test_gains_that_are_not_numbers_are_refused(tmp_path):
    recording = recording_of(brain(32, 0.5), column(32))
    recording.set_channel_gains([np.nan] * 32)
    with pytest.raises(PermanentFailure, match="gain"):
        detect_bad_channels(recording, tmp_path, QUICK)


def test_the_same_recording_gives_the_same_answer(tmp_path):
    recording, _ = with_known_faults()
    first, second = (
        detect_bad_channels(recording, tmp_path, QUICK).tables["channels"] for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, second)


def channels_of(labels: str, pitch_um: float = 20.0, shank: str = "0") -> pd.DataFrame:
    names = {"g": "good", "o": "out", "d": "dead", "n": "noise"}
    return pd.DataFrame(
        {
            "channel_id": [f"{shank}-{i}" for i in range(len(labels))],
            "y_um": np.arange(len(labels)) * pitch_um,
            "shank": shank,
            "label": [names[letter] for letter in labels],
        }
    )


PRODUCTION = BadChannelsParameters()


def test_a_shallow_insertion_is_sorted():
    numbers = check_sortable(channels_of("g" * 60 + "o" * 324), 600, PRODUCTION)
    assert numbers["good_stretch_channels"] == 60
    assert numbers["good_stretch_um"] == 59 * 20


def test_scattered_good_channels_are_not_worth_sorting():
    with pytest.raises(Skipped, match="longest stretch of good channels has 6") as caught:
        check_sortable(channels_of(("g" * 6 + "d" * 10) * 24), 600, PRODUCTION)
    assert caught.value.reason is SkipReason.TOO_FEW_GOOD_CHANNELS


def test_single_bad_channels_do_not_break_a_stretch():
    assert check_sortable(channels_of("gggd" * 20), 600, PRODUCTION)["good_stretch_channels"] == 60


def test_one_good_shank_is_enough_and_two_halves_are_not():
    good = pd.concat([channels_of("g" * 96, shank="0"), channels_of("o" * 96, shank="1")])
    assert check_sortable(good, 600, PRODUCTION)["good_stretch_shank"] == "0"
    halves = pd.concat([channels_of("g" * 20 + "o" * 76, shank=s) for s in "01"])
    with pytest.raises(Skipped):
        check_sortable(halves, 600, PRODUCTION)


def test_a_tetrode_needs_half_of_its_channels():
    assert check_sortable(channels_of("ggdd"), 600, PRODUCTION)["good_stretch_channels"] == 2
    with pytest.raises(Skipped):
        check_sortable(channels_of("gddd"), 600, PRODUCTION)


def test_short_recordings_are_skipped_and_the_demo_set_allows_a_minute():
    channels = channels_of("g" * 64)
    with pytest.raises(Skipped, match="0.5 s recorded, 120 s") as caught:
        check_sortable(channels, 0.5, PRODUCTION)
    assert caught.value.reason is SkipReason.RECORDING_TOO_SHORT
    check_sortable(channels, 60, BadChannelsParameters.resolve("demo"))


def test_every_named_set_is_valid():
    for name in BadChannelsParameters.sets:
        assert BadChannelsParameters.resolve(name).n_chunks > 0
    assert BadChannelsParameters.resolve("aind").outside_channel_threshold == -0.3
    assert BadChannelsParameters.resolve("ibl").outside_channel_threshold == -0.75


@pytest.mark.real
def test_real_neuropixels_give_labels_by_shank(tmp_path):
    from spikeinterface.extractors import read_spikeglx

    folders = sorted(NP24.rglob("*imec0"))
    if not folders:
        pytest.skip(NO_NP24)
    recording = read_spikeglx(folders[0], stream_id="imec0.ap")
    result = detect_bad_channels(recording, tmp_path, BadChannelsParameters(n_chunks=1))
    channels = result.tables["channels"]
    assert sorted(channels["shank"].unique()) == ["1", "2"]
    assert [step.name for step in result.applied][:2] == ["phase_shift", "highpass_filter"]
    with pytest.raises(Skipped, match="120 s"):
        check_sortable(channels, recording.get_duration(), PRODUCTION)
