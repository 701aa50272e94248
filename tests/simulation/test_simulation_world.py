"""The simulated animal and its units over a long session, without writing traces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline
from scipy.signal import butter, hilbert, sosfiltfilt

from neuro_assets.simulation import simulate_recording
from neuro_assets.simulation.clocks import lay_out, make_clock, probe_pulses, true_pulses
from neuro_assets.simulation.levels import HARD, STANDARD
from neuro_assets.simulation.lfp import interpolation_kernel, upsample
from neuro_assets.simulation.plan import plan_probe, saturation_times
from neuro_assets.simulation.probes import make_probe
from neuro_assets.simulation.rig import make_trials
from neuro_assets.simulation.spikes import make_spikes
from neuro_assets.simulation.tissue import make_drift
from neuro_assets.simulation.units import make_footprints, make_units
from neuro_assets.simulation.video import KEYPOINTS, camera_time, plan_video
from neuro_assets.simulation.world import make_world


class Long:
    """Ten minutes of one probe, spikes only."""

    def __init__(self, levels, seed=31, duration_s=600.0):
        self.levels = levels
        self.timeline = lay_out(duration_s, 1, 1, levels)
        plan = plan_probe("NP1", 60, self.timeline, levels, seed, 0)
        self.clock = plan.clock
        self.world = make_world(self.timeline, [plan])
        self.units = make_units(plan)
        self.spikes = make_spikes(self.units, self.world, plan)
        self.spikes["time"] = self.clock.times(self.spikes["sample"].to_numpy())


@pytest.fixture(scope="module")
def long():
    return Long(STANDARD)


def test_out_and_back_takes_at_most_40_s_on_180_cm_of_track(long):
    back = long.world.runs[long.world.runs["direction"] == -1]["stop_s"].to_numpy()
    assert back[0] <= 40
    assert np.diff(back).max() <= 40
    assert long.world.position_cm.min() >= 0
    assert 170 < np.ptp(long.world.position_cm) <= 180


def test_ripples_and_bursts_never_meet_and_only_come_while_still(long):
    both = pd.concat([long.world.ripples, long.world.bursts]).sort_values("start_s")
    assert (both["start_s"].to_numpy()[1:] > both["stop_s"].to_numpy()[:-1]).all()
    assert (long.world.speed(both["peak_s"].to_numpy()) < 1).all()
    still = sum(stop - start for start, stop in long.world.still)
    assert len(long.world.ripples) / still == pytest.approx(0.3, abs=0.02)


def rate_map(long: Long, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Rate in 3 cm bins while running, Hz."""
    edges = np.arange(3, 178, 3)
    grid = long.world.times[long.world.speed_cm_s > 4]
    seconds = np.histogram(long.world.position(grid), edges)[0] / 500
    own = long.spikes[long.spikes["unit"] == unit]["time"].to_numpy()
    own = own[long.world.speed(own) > 4]
    counts = np.histogram(long.world.position(own), edges)[0]
    return (edges[:-1] + edges[1:]) / 2, counts / seconds


def test_place_units_fire_at_their_place_over_the_stated_width_and_others_everywhere(long):
    widths, selective = [], []
    for unit in long.units.itertuples():
        where, rate = rate_map(long, unit.unit)
        smooth = np.convolve(rate, np.ones(3) / 3, "same")
        selective.append(np.max(smooth) / np.mean(rate) > 2.2)
        if unit.place_cell and unit.rate_hz > 1.5 and 40 < unit.place_center_cm < 140:
            fraction = np.mean(smooth > 0.2 * np.max(smooth)) * 174
            widths.append(fraction - unit.place_width_cm)
            assert abs(where[np.argmax(smooth)] - unit.place_center_cm) < 12
    assert len(widths) >= 3
    assert abs(np.median(widths)) < 12
    assert np.mean(selective) == pytest.approx(0.6, abs=0.12)


def test_spikes_follow_their_preferred_theta_phase_while_running(long):
    running = long.spikes[long.world.speed(long.spikes["time"].to_numpy()) > 15]
    phase = np.interp(running["time"], long.world.times, long.world.theta_phase)
    off = []
    for unit in long.units.itertuples():
        own = phase[(running["unit"] == unit.unit).to_numpy()]
        if len(own) > 200:
            mean = np.exp(1j * (own - unit.theta_phase)).mean()
            # A rate of 1 + m cos gives a resultant of m / 2.
            assert np.abs(mean) == pytest.approx(unit.theta_depth / 2, abs=0.15)
            off.append(np.angle(mean))
    assert np.abs(off).max() < 0.6


def test_participating_units_fire_more_inside_ripples(long):
    ripples = long.world.ripples
    inside = np.zeros(len(long.spikes), dtype=bool)
    for event in ripples.itertuples():
        inside |= long.spikes["time"].between(event.start_s, event.stop_s).to_numpy()
    seconds = ripples["duration_s"].sum()
    counts = long.spikes[inside].groupby("unit").size().reindex(long.units["unit"], fill_value=0)
    gain = counts.to_numpy() / seconds / long.units["rate_hz"].to_numpy()
    takes_part = long.units["ripple_gain"].to_numpy() > 0
    assert takes_part.any()
    assert np.median(gain[takes_part]) > 3 * np.median(gain[~takes_part])


def test_rates_and_refractory_times_hold_over_ten_minutes(long):
    counts = long.spikes.groupby("unit").size().to_numpy()
    np.testing.assert_allclose(counts / 600, long.units["rate_hz"], rtol=0.05)
    assert np.median(long.units["rate_hz"]) == pytest.approx(3, rel=0.2)
    assert min(np.diff(own).min() for _, own in long.spikes.groupby("unit")["sample"]) >= 60


@pytest.mark.parametrize(
    ("levels", "dropped", "hidden"), [(STANDARD, 0.002, 0.05), (HARD, 0.01, 0.15)]
)
def test_frames_are_dropped_and_keypoints_hidden_as_often_as_stated(levels, dropped, hidden):
    world = Long(levels, duration_s=120).world
    film = plan_video(world, levels, 3)
    assert 1 - film.saved.mean() == pytest.approx(dropped, abs=0.0005)
    assert 1 - film.keypoints["visible"].mean() == pytest.approx(hidden, abs=0.005)
    assert np.diff(film.times) == pytest.approx(1 / 60)
    assert len(film.keypoints) == film.saved.sum() * len(KEYPOINTS)
    assert film.keypoints["x_px"].between(0, 256).all()
    assert film.keypoints["y_px"].between(0, 192).all()
    x = film.keypoints.query("keypoint == 'body'")["x_px"].to_numpy()
    place = world.position(film.times[film.saved])
    assert np.corrcoef(x, place)[0, 1] > 0.999


def test_the_animal_looks_where_it_runs(long):
    film = plan_video(long.world, STANDARD, 1)
    velocity = np.gradient(long.world.position(film.times), film.times)
    nose_ahead = film.points[:, 0, 0] - film.points[:, 4, 0]
    fast = np.abs(velocity) > 15
    assert (np.sign(nose_ahead) == np.sign(velocity))[fast].mean() > 0.99


def test_trials_follow_one_another_and_rewards_come_on_arrival(long):
    trials = make_trials(long.world, 1)
    order = ["intervals_0", "stimOn_times", "goCue_times", "response_times", "feedback_times"]
    times = trials[[*order, "stimOff_times", "intervals_1"]].to_numpy()
    assert (np.diff(times, axis=1) > 0).all()
    assert (trials["intervals_0"].to_numpy()[1:] > trials["intervals_1"].to_numpy()[:-1]).all()


def test_hard_drift_is_slow_movement_and_one_jump():
    drift = make_drift(100, HARD, 8, 0)
    path = drift.at(np.arange(0, 100.01, 0.01))
    steps = np.diff(path)
    assert abs(path[-1] - path[0]) == pytest.approx(50, abs=0.1)
    assert np.sum(np.abs(steps) > 10) == 1
    assert np.abs(steps).max() == pytest.approx(20, abs=0.1)
    calm = make_drift(100, STANDARD, 8, 0).at(np.arange(0, 100.01, 0.01))
    assert np.ptp(calm) == pytest.approx(15, abs=0.05)
    assert np.abs(np.diff(calm)).max() < 0.01


def test_a_clock_maps_there_and_back_and_knows_its_gap():
    timeline = lay_out(60, 1, 1, HARD)
    clock = make_clock(timeline, HARD, 2, 0)
    samples = np.arange(0, clock.n_samples, 997)
    np.testing.assert_array_equal(clock.samples(clock.times(samples)), samples)
    first, second = clock.pieces
    gap = second.time - first.stop_time
    assert 0.2 <= gap < 1
    assert clock.samples(np.array([first.stop_time + gap / 2]))[0] == -1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [STANDARD, HARD], ids=["standard", "hard"])
def test_two_pulses_are_lost_and_one_is_extra_on_every_seed(levels, seed):
    timeline = lay_out(30, 1, 1, levels)
    clock = make_clock(timeline, levels, seed, 0)
    pulses = probe_pulses(true_pulses(timeline, seed), clock, levels, seed, 0)
    assert pulses["status"].value_counts()[["lost", "extra"]].tolist() == [2, 1]
    ends = pulses[pulses["sample"] >= 0]["status"].to_numpy()
    assert set(ends[[0, -1]]) == {"seen"}


def test_short_recordings_lose_no_pulse_and_have_no_more_saturation_than_fits():
    timeline = lay_out(2, 1, 1, HARD)
    clock = make_clock(timeline, HARD, 0, 0)
    pulses = probe_pulses(true_pulses(timeline, 0), clock, HARD, 0, 0)
    assert set(pulses["status"]) == {"seen"}
    assert len(saturation_times(clock, HARD, 0, 0)) <= 1


def test_each_channel_of_a_template_is_sampled_at_its_own_moment():
    """Against a cubic spline through the same templates sampled all at once."""
    none = np.zeros(0, dtype=int)
    plan = plan_probe("NP1", 24, lay_out(10, 1, 1, STANDARD), STANDARD, 4, 0)
    plan = replace(plan, dead=none, noisy=none, drift=make_drift(10, STANDARD, 4, 0))
    probe = plan.probe
    units = make_units(plan).head(4)
    together = replace(plan, probe=replace(probe, shifts=np.zeros(24)))
    shifted = make_footprints(units, plan)
    plain = make_footprints(units, together)
    samples = np.arange(5, 95)
    for unit, late, base in zip(units.itertuples(), shifted, plain, strict=True):
        trough = -base.waveforms.min(axis=(1, 2))
        assert trough.mean() == pytest.approx(unit.amplitude_uv, rel=0.25)
        for column, channel in enumerate(base.channels):
            spline = CubicSpline(np.arange(105), base.waveforms[0, :, column])
            expected = spline(samples + probe.shifts[channel])
            found = late.waveforms[0, samples, column]
            assert np.abs(found - expected).max() < 0.06 * unit.amplitude_uv


def test_undoing_the_sampling_shift_aligns_channels_and_the_wrong_sign_does_not():
    from spikeinterface.preprocessing import highpass_filter, phase_shift

    recording, _ = simulate_recording(2, 24, seed=6, probe_model="NP2")
    recording = highpass_filter(recording.astype("float32"), freq_min=1500)
    good = np.flatnonzero(recording.get_property("truth_label") == "good")

    def shared(shifts):
        moved = phase_shift(recording, inter_sample_shift=shifts)
        traces = moved.get_traces(start_frame=1000, end_frame=55000)[:, good]
        traces = traces[np.abs(traces).max(axis=1) < 60]
        return np.corrcoef(traces.T)[np.triu_indices(len(good), 1)].mean()

    shifts = recording.get_property("inter_sample_shift")
    right, none, wrong = shared(shifts), shared(0 * shifts), shared(-shifts)
    assert right > none + 0.005 > wrong + 0.01


def test_theta_in_the_lf_band_has_the_true_phase(tmp_path):
    from neuro_assets.simulation import simulate_session

    made = simulate_session(tmp_path, duration_s=12, n_channels=16, seed=3, video=False)
    lf = np.fromfile(next(made.session.rglob("*.lf.bin")), "<i2").reshape(-1, 17)
    labels = pd.read_parquet(made.truth / "channels.parquet")["label"]
    top = int(np.flatnonzero(labels == "good")[-1])
    sync = pd.read_parquet(made.truth / "sync_map.parquet").iloc[0]
    theta = pd.read_parquet(made.truth / "theta.parquet")
    band = butter(2, (5, 11), "bandpass", fs=2500, output="sos")
    analytic = hilbert(sosfiltfilt(band, lf[:, top].astype(float)))
    channel = int(pd.read_parquet(made.truth / "layers.parquet")["channel"][0])
    layer = hilbert(sosfiltfilt(band, lf[:, channel].astype(float)))
    times = sync["session_s"] + np.arange(len(lf)) * 12 / sync["rate_hz"]
    unwrapped = np.interp(times, theta["session_s"], np.unwrap(theta["phase_rad"]))
    strong = np.interp(times, theta["session_s"], theta["amplitude"]) > 0.8
    assert strong.mean() > 0.2
    saturated = np.abs(lf[:, top]) > 500
    strong &= np.convolve(saturated, np.ones(3001), "same") == 0
    offs = [
        np.exp(1j * (np.angle(trace) - unwrapped))[strong].mean() for trace in (analytic, layer)
    ]
    assert np.abs(offs).min() > 0.8
    # In phase at the top, a quarter turn behind in the pyramidal layer, on the way to reversal.
    assert abs(np.angle(offs[0])) < 0.5
    assert abs(np.angle(offs[1] * 1j)) < 0.6


def test_interpolation_to_the_ap_grid_keeps_a_sine_in_place():
    coarse = np.arange(-7, 500 + 8) / 2500
    block = np.sin(2 * np.pi * 200 * coarse)[:, None]
    fine = upsample(block, interpolation_kernel())[:, 0]
    expected = np.sin(2 * np.pi * 200 * np.arange(500 * 12) / 30000)
    assert np.abs(fine - expected).max() < 0.01


def test_the_cameras_packed_time_unpacks_to_the_second_it_was():
    for seconds in (0.0, 1.5, 127.999, 130.25):
        packed = camera_time(seconds)
        unpacked = (packed >> 25) + (packed >> 12 & 0x1FFF) / 8000 + (packed & 0xFFF) / 8000 / 3072
        assert unpacked == pytest.approx(seconds % 128, abs=1e-6)


@pytest.mark.parametrize("model", ["NP1", "NP2", "NP2.4"])
@pytest.mark.parametrize("n_channels", [1, 3, 17, 384])
def test_any_channel_count_gives_contiguous_sites_from_the_tip(model, n_channels):
    probe = make_probe(model, n_channels)
    assert probe.n_channels == n_channels
    assert np.all(np.diff(probe.readout) > 0)
    for shank in np.unique(probe.shanks):
        depth = np.unique(probe.positions[probe.shanks == shank, 1])
        pitch = 20 if model == "NP1" else 15
        np.testing.assert_allclose(depth, pitch * np.arange(len(depth)))
