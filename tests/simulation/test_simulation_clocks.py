"""The level `clocks`: what devices write, mapped back to the session by the truth alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from neuro_assets.simulation import simulate_session
from neuro_assets.simulation.device_clocks import make_device_clocks
from neuro_assets.simulation.levels import NAMED, STANDARD

WRAPS_S = {"bpod": 4294.967296, "encoder": 4294.967296, "left_camera": 128, "tracker": 4294.967296}


class Made:
    def __init__(self, out, difficulty):
        made = simulate_session(out, duration_s=20, n_channels=4, seed=12, difficulty=difficulty)
        self.session, self.truth = made.session, made.truth
        self.behavior = made.session / "raw_behavior_data"

    def table(self, name):
        return pd.read_parquet(self.truth / f"{name}.parquet")

    def text(self, name):
        return next(self.session.rglob(name)).read_text().splitlines()

    def to_session(self, device, shown):
        """Undo offset, wrap and rate; the session is shorter than any wrap."""
        clock = self.table("device_clocks").set_index("device").loc[device]
        wraps = np.count_nonzero(np.diff(shown) < -clock["wrap_s"] / 2)
        # A trial is longer than the time to the wrap may be.
        assert wraps == 1 or device == "bpod"
        running = np.mod(shown - clock["offset_s"], clock["wrap_s"])
        return running / (1 + clock["ppm"] * 1e-6)

    def bpod_starts(self):
        lines = [json.loads(x)["behavior_data"] for x in self.text("*taskData.raw.jsable")]
        return lines, np.array([line["Trial start timestamp"] for line in lines])

    def encoder(self):
        rows = np.array([x.split() for x in self.text("*encoderPositions.raw.ssv")], dtype=float)
        return rows[:, 0] / 1e6, rows[:, 1] * 2 * np.pi * 3.1 / 1024

    def camera(self):
        packed = np.array([int(x.split()[-1]) for x in self.text("*leftCamera.timestamps.ssv")])
        return (packed >> 25) + (packed >> 12 & 0x1FFF) / 8000 + (packed & 0xFFF) / 8000 / 3072

    def tracker(self):
        return pd.read_csv(self.behavior / "_simlab_tracking.raw.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("clocks"), "clocks")


def test_every_device_has_a_clock_of_its_own_that_wraps_in_the_session(made):
    clocks = made.table("device_clocks").set_index("device")
    assert clocks["wrap_s"].to_dict() == WRAPS_S
    assert clocks["ppm"].abs().between(10, 80).all()
    assert clocks["ppm"].nunique() == clocks["offset_s"].nunique() == len(clocks)
    wrapped_at = (clocks["wrap_s"] - clocks["offset_s"]) / 20.5
    assert wrapped_at.between(0.25, 0.75).all()


def test_bpod_times_are_the_trials_through_its_clock(made):
    lines, starts = made.bpod_starts()
    trials = made.table("trials")
    jitter = made.table("device_clocks").set_index("device").loc["bpod", "jitter_s"]
    off = made.to_session("bpod", starts) - trials["intervals_0"]
    assert np.abs(off).max() < 4 * jitter + 1e-4
    assert np.abs(starts - trials["intervals_0"]).min() > 1
    for line, trial in zip(lines, trials.itertuples(), strict=True):
        reward = line["States timestamps"]["reward"][0][0]
        assert reward == pytest.approx(trial.feedback_times - trial.intervals_0, abs=1e-3)


def test_the_encoder_counts_the_wheel_which_slips_on_its_own_clock(made):
    shown, turned = made.encoder()
    wheel, position = made.table("wheel"), made.table("position")
    session = made.to_session("encoder", shown)
    expected = np.interp(session, wheel["session_s"], wheel["wheel_cm"] - wheel["wheel_cm"][0])
    assert np.abs(turned - expected).max() < 0.3
    true = np.interp(session, position["session_s"], position["position_cm"]) - 3
    assert 0.5 < np.abs(turned - true).max() < 15
    # The digital lines hold the same wheel, on session time.
    nidq = np.fromfile(next(made.session.rglob("*.nidq.bin")), "<i2").reshape(-1, 3)
    state = np.array([[0, 3], [1, 2]])[nidq[:, 2] >> 5 & 1, nidq[:, 2] >> 6 & 1]
    moved = np.cumsum((np.diff(state) + 1) % 4 - 1) * 2 * np.pi * 3.1 / 4096
    at = np.interp(np.arange(len(moved)) / 30000, wheel["session_s"], wheel["wheel_cm"])
    assert np.abs(moved - (at - at[0])).max() < 0.1


def test_encoder_events_are_the_trials_events(made):
    rows = np.array([x.split() for x in made.text("*encoderEvents.raw.ssv")], dtype=float)
    trials = made.table("trials")
    lights = made.to_session("encoder", rows[:, 0] / 1e6)[rows[:, 1] == 2]
    np.testing.assert_allclose(lights, trials["stimOn_times"], atol=1e-3)


def test_camera_times_are_the_exposures_through_its_clock(made):
    frames = made.table("frames").query("frame >= 0")["session_s"].to_numpy()
    shown = made.camera()
    jitter = made.table("device_clocks").set_index("device").loc["left_camera", "jitter_s"]
    off = made.to_session("left_camera", shown) - frames
    assert np.abs(off).max() < 4 * jitter + 1e-6
    assert off.std() == pytest.approx(jitter, rel=0.15)


def test_a_fit_of_frames_on_exposures_finds_the_drift(made):
    """Without the truth's map: the slope of the unwrapped times is the rate."""
    frames = made.table("frames").query("frame >= 0")["session_s"].to_numpy()
    shown = np.unwrap(made.camera(), period=128)
    ppm = (np.polyfit(frames, shown, 1)[0] - 1) * 1e6
    clock = made.table("device_clocks").set_index("device").loc["left_camera"]
    assert ppm == pytest.approx(clock["ppm"], abs=6 * clock["jitter_s"] / 20 * 1e6 / 10)


def test_the_tracker_loses_and_swaps_points_as_the_truth_says(made):
    file, truth = made.tracker(), made.table("tracking")
    assert list(file.columns) == ["time_us", "front_x", "front_y", "back_x", "back_y"]
    session = made.to_session("tracker", file["time_us"].to_numpy() / 1e6)
    assert np.abs(session - truth["session_s"]).max() < 0.001
    for point in ("front", "back"):
        lost = truth[f"{point}_lost"]
        assert (file[f"{point}_x"].isna() == lost).all()
        assert lost.mean() == pytest.approx(0.05, abs=0.005)
    assert truth["swapped"].mean() == pytest.approx(0.03, abs=0.005)
    centimetres = (file["front_x"] - 40) / 3
    off = centimetres - truth["front_x_cm"]
    assert off[~truth["swapped"]].std() == pytest.approx(0.4, rel=0.15)
    # The other point is 8 cm away.
    assert off[truth["swapped"]].abs().dropna().between(6, 10).all()
    assert truth.index[truth["swapped"]].to_series().diff().max() > 20


def test_the_tracked_animal_is_the_one_on_the_track(made):
    truth, position = made.table("tracking"), made.table("position")
    middle = (truth["front_x_cm"] + truth["back_x_cm"]) / 2
    at = np.interp(truth["session_s"], position["session_s"], position["position_cm"])
    np.testing.assert_allclose(middle, at, atol=0.1)
    speed = np.gradient(middle, truth["session_s"])
    ahead = np.sign(truth["front_x_cm"] - truth["back_x_cm"])
    assert (ahead == np.sign(speed))[np.abs(speed) > 5].all()


def test_other_levels_stay_on_the_sessions_clock(tmp_path):
    made = Made(tmp_path, "standard")
    _, starts = made.bpod_starts()
    np.testing.assert_allclose(starts, made.table("trials")["intervals_0"], atol=1e-4)
    assert not list(made.truth.glob("device_clocks*"))
    assert not list(made.behavior.glob("*tracking*"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stop_s", [30.0, 300.0, 7200.0])
def test_clocks_wrap_on_every_seed_and_length_and_never_run_back(seed, stop_s):
    events = np.arange(0, stop_s, 0.05)
    for device, clock in make_device_clocks(NAMED["clocks"], stop_s, seed).items():
        shown = clock.shown(events, "test")
        assert (shown >= 0).all() and (shown < WRAPS_S[device]).all()
        back = np.flatnonzero(np.diff(shown) < 0)
        assert len(back) >= 1
        assert (np.diff(shown)[back] < -WRAPS_S[device] + 1).all()
    plain = make_device_clocks(STANDARD, stop_s, seed)["bpod"]
    np.testing.assert_array_equal(plain.shown(events, "test"), events)
