"""The level `face`: what its frames show, found in the video, against the truth."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from neuro_assets.simulation import simulate_session


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("face")
    return simulate_session(out, duration_s=20, n_channels=4, seed=9, difficulty="face")


def table(made, name):
    return pd.read_parquet(made.truth / f"{name}.parquet")


@pytest.fixture(scope="module")
def images(made):
    film = cv2.VideoCapture(str(next(made.session.rglob("_iblrig_rightCamera.raw.mp4"))))
    found = []
    while (grabbed := film.read())[0]:
        found.append(grabbed[1].astype(int))
    return found


@pytest.fixture(scope="module")
def saved(made):
    frames = table(made, "face_frames")
    return frames[frames["frame"] >= 0].set_index("frame")


def keypoint(made, name):
    own = table(made, "face_keypoints")
    return own[own["keypoint"] == name].set_index("frame")


def test_the_files_hold_the_saved_frames_and_the_line_their_exposures(made, images, saved):
    frames = table(made, "face_frames")
    assert len(images) == len(saved)
    assert len(frames) - len(saved) == max(1, round(0.002 * len(frames)))
    folder = made.session / "raw_video_data"
    counter = np.fromfile(folder / "_iblrig_rightCamera.frame_counter.bin")
    np.testing.assert_array_equal(counter, saved["exposure"])
    lines = (folder / "_iblrig_rightCamera.timestamps.ssv").read_text().splitlines()
    assert len(lines) == len(saved)
    nidq = np.fromfile(next(made.session.rglob("*.nidq.bin")), "<i2").reshape(-1, 3)
    rises = np.flatnonzero(np.diff(nidq[:, 2] >> 1 & 1) == 1) + 1
    np.testing.assert_allclose(rises / 30000, frames["session_s"], atol=1 / 30000)
    wiring = json.loads(next(made.session.rglob("*.nidq.wiring.json")).read_text())
    assert wiring["SYNC_WIRING_DIGITAL"]["P0.1"] == "right_camera"


def test_the_pupil_in_the_frames_is_as_wide_as_the_truth_says(made, images, saved):
    """Area of what is darkest in the eye, as a circle."""
    points = {p: keypoint(made, f"pupil_{p}_r") for p in ("top", "bottom", "left", "right")}
    wide = points["bottom"]["y_px"] - points["top"]["y_px"]
    np.testing.assert_allclose(wide, saved["pupil_diameter_px"], atol=1e-9)
    off = []
    for frame in saved.index[saved["eye_shut"] == 0][::10]:
        eye = images[frame][26:63, 40:77].mean(axis=2)
        off.append(2 * np.sqrt((eye < 100).sum() / np.pi) - saved["pupil_diameter_px"][frame])
    assert np.abs(off).max() < 2
    assert np.ptp(saved["pupil_diameter_px"]) > 4


def test_the_pupil_is_wider_while_the_animal_runs(made, saved):
    position = table(made, "position")
    speed = np.interp(saved["session_s"] - 0.8, position["session_s"], position["speed_cm_s"])
    assert np.corrcoef(speed, saved["pupil_diameter_px"])[0, 1] > 0.6


def test_the_pupil_cannot_be_seen_in_the_middle_of_a_blink(made, images, saved):
    blinks = table(made, "blinks")
    assert len(blinks) == round(0.2 * 20)
    assert blinks["duration_s"].between(0.12, 0.3).all()
    visible = keypoint(made, "pupil_top_r")["visible"]
    for blink in blinks.itertuples():
        frame = (saved["session_s"] - blink.peak_s).abs().idxmin()
        assert saved["eye_shut"][frame] > 0.6
        assert not visible[frame]
        dark = lambda at: (images[at][26:63, 40:77].mean(axis=2) < 60).sum()  # noqa: E731
        before = (saved["session_s"] - (blink.start_s - 0.05)).abs().idxmin()
        assert dark(frame) < 0.5 * dark(before)


def test_licks_follow_rewards_at_7_hz_and_show_as_a_red_tongue(made, images, saved):
    licks, trials = table(made, "licks")["session_s"].to_numpy(), table(made, "trials")
    last = trials["feedback_times"].to_numpy()[
        np.searchsorted(trials["feedback_times"], licks, side="right") - 1
    ]
    assert ((licks - last) > 0.1).all()
    assert ((licks - last) < 2).all()
    gaps = np.diff(licks)[np.diff(licks) < 0.5]
    assert 1 / np.mean(gaps) == pytest.approx(7, rel=0.05)
    visible = keypoint(made, "tongue_end_l")["visible"]
    out = visible.to_numpy() & saved["tongue_out"].gt(0.6).to_numpy()
    assert out.sum() >= 3

    def red(frame):
        patch = images[frame][70:100, 112:140]
        return ((patch[:, :, 2] - patch[:, :, 1]) > 60).sum()

    shown = [red(frame) for frame in saved.index[out]]
    hidden = [red(frame) for frame in saved.index[saved["tongue_out"] == 0][::25]]
    assert min(shown) > 15
    assert max(hidden) < 10


def test_paws_are_where_the_truth_says_and_step_while_running(made, images, saved):
    position = table(made, "position")
    speed = np.interp(saved["session_s"], position["session_s"], position["speed_cm_s"])
    for name in ("paw_l", "paw_r"):
        paw = keypoint(made, name)
        moved = np.hypot(*np.diff(paw[["x_px", "y_px"]].to_numpy(), axis=0).T)
        assert moved[speed[1:] < 0.01].max() < 0.01
        assert np.median(moved[speed[1:] > 20]) > 0.5
    for frame in saved.index[::60]:
        rows, columns = np.nonzero(images[frame][95:118, :, 2] > 175)
        for name in ("paw_l", "paw_r"):
            x, y = keypoint(made, name).loc[frame, ["x_px", "y_px"]].astype(float)
            near = np.hypot(columns - x, rows + 95 - y) < 8
            assert near.sum() > 40
            assert np.hypot(columns[near].mean() - x, rows[near].mean() + 95 - y) < 1


def test_a_session_without_video_has_no_second_camera_either(tmp_path):
    made = simulate_session(tmp_path, duration_s=1, n_channels=4, difficulty="face", video=False)
    assert not (made.session / "raw_video_data").exists()
    wiring = json.loads(next(made.session.rglob("*.nidq.wiring.json")).read_text())
    assert wiring["SYNC_WIRING_DIGITAL"]["P0.1"] is None


@pytest.mark.parametrize(("duration_s", "n_channels"), [(0.5, 1), (2, 4), (2, 17)])
def test_a_session_too_short_for_a_run_can_be_lifelike(tmp_path, duration_s, n_channels):
    made = simulate_session(
        tmp_path, duration_s=duration_s, n_channels=n_channels, seed=1, difficulty="lifelike"
    )
    assert not len(table(made, "laps"))
    assert not len(table(made, "licks"))
    assert (made.session / "raw_session.flag").exists()


def test_lifelike_has_everything(tmp_path):
    made = simulate_session(tmp_path, duration_s=8, n_channels=16, difficulty="lifelike")
    names = {path.stem for path in made.truth.glob("*.parquet")}
    assert {"artefacts", "device_clocks", "tracking", "currents", "licks", "blinks"} <= names
    assert "content" in table(made, "ripples")
    assert {"label", "amplitude_sd", "precession_rad"} <= set(table(made, "units"))
    assert set(table(made, "device_clocks")["device"]) >= {"left_camera", "right_camera"}
