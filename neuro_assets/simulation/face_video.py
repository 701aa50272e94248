"""A second camera at the animal's face: pupil and blinks, tongue, paws; planning and drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import Levels, VideoLevels
from neuro_assets.simulation.rng import FloatArray, spread_events, stream
from neuro_assets.simulation.world import World

WIDTH, HEIGHT = 160, 128
POINTS = (
    "pupil_top_r",
    "pupil_right_r",
    "pupil_bottom_r",
    "pupil_left_r",
    "tongue_end_l",
    "tongue_end_r",
    "paw_l",
    "paw_r",
)
EYE, EYE_RADIUS = np.array([58.0, 44.0]), 17.0
MOUTH = np.array([118.0, 76.0])
PAWS = np.array([[84.0, 108.0], [112.0, 110.0]])
FIRST_FRAME_S = 0.21
LICK_S = 0.06
FIRST_LICK_S = 0.12
NOISE_FRAMES = 8


@dataclass(frozen=True)
class Face:
    """Every exposure of the face camera.

    Parameters
    ----------
    times : ndarray
        Exposures, session time, s.
    saved : ndarray
        Which of them are in the file.
    points : ndarray
        Places of `POINTS`, px, shape (n, 8, 2).
    diameter : ndarray
        Of the pupil, px.
    lid : ndarray
        0 where the eye is open, 1 where it is shut.
    tongue : ndarray
        0 where it is in, 1 where it is out in full.
    licks, blinks, frames, keypoints : DataFrame
        The truth.
    """

    times: FloatArray
    saved: np.ndarray
    points: FloatArray
    diameter: FloatArray
    lid: FloatArray
    tongue: FloatArray
    licks: pd.DataFrame
    blinks: pd.DataFrame
    frames: pd.DataFrame
    keypoints: pd.DataFrame


def plan_face(
    world: World, trials: pd.DataFrame, levels: Levels, video: VideoLevels, seed: int
) -> Face:
    """Decide what every frame of the face camera shows.

    Parameters
    ----------
    world : World
        The animal: running widens the pupil and moves the paws.
    trials : DataFrame
        Rewards are licked for.
    levels : Levels
        Frame rate and dropped frames.
    video : VideoLevels
        Licks, blinks, pupil.
    seed : int
        Seed of the session.

    Returns
    -------
    Face
        The plan.
    """
    rng = stream(seed, "face")
    times = np.arange(FIRST_FRAME_S, world.times[-1] - 0.1, 1 / levels.video_hz)
    n = len(times)
    saved = np.ones(n, dtype=bool)
    saved[1 + rng.permutation(n - 2)[: max(1, round(levels.dropped_fraction * n))]] = False
    licks = _licks(trials, video, rng)
    blinks = _blinks(world, video, rng)
    tongue = _bumps(times, licks["session_s"].to_numpy(), np.full(len(licks), LICK_S))
    lid = _bumps(times, blinks["peak_s"].to_numpy(), blinks["duration_s"].to_numpy())
    diameter = _diameter(world, times, video, rng)
    points = _points(world, times, diameter, tongue, rng)
    hidden = np.zeros((n, len(POINTS)), dtype=bool)
    hidden[:, :4] = lid[:, None] > 0.5
    hidden[:, 4:6] = tongue[:, None] < 0.3
    number = np.where(saved, np.cumsum(saved) - 1, -1)
    frames = pd.DataFrame(
        {
            "exposure": np.arange(n),
            "frame": number,
            "session_s": times,
            "pupil_diameter_px": diameter,
            "eye_shut": lid,
            "tongue_out": tongue,
        }
    )
    keypoints = pd.DataFrame(
        {
            "frame": np.repeat(number[saved], len(POINTS)),
            "keypoint": np.tile(POINTS, int(saved.sum())),
            "x_px": points[saved, :, 0].ravel(),
            "y_px": points[saved, :, 1].ravel(),
            "visible": ~hidden[saved].ravel(),
        }
    )
    return Face(times, saved, points, diameter, lid, tongue, licks, blinks, frames, keypoints)


def _licks(trials: pd.DataFrame, video: VideoLevels, rng: np.random.Generator) -> pd.DataFrame:
    """Bouts of licks after each reward; a lick's time is that of the tongue farthest out."""
    found: list[FloatArray] = []
    for reward in trials["feedback_times"]:
        n = int(rng.integers(*video.licks_per_reward))
        gaps = 1 / video.lick_hz * rng.uniform(0.85, 1.15, n)
        found.append(reward + FIRST_LICK_S + np.cumsum(gaps))
    return pd.DataFrame({"session_s": np.concatenate([np.zeros(0), *found])})


def _blinks(world: World, video: VideoLevels, rng: np.random.Generator) -> pd.DataFrame:
    stop = float(world.times[-1]) - 0.5
    peaks = spread_events(rng, round(video.blink_hz * stop), [(0.5, stop)], 1.0)
    length = rng.uniform(*video.blink_s, len(peaks))
    return pd.DataFrame(
        {
            "start_s": peaks - length / 2,
            "peak_s": peaks,
            "stop_s": peaks + length / 2,
            "duration_s": length,
        }
    )


def _bumps(times: FloatArray, peaks: FloatArray, lengths: FloatArray) -> FloatArray:
    """Trace that is 1 at each peak and 0 half a length away, smoothly."""
    trace = np.zeros(len(times))
    for peak, length in zip(peaks, lengths, strict=True):
        first, last = np.searchsorted(times, [peak - length / 2, peak + length / 2])
        trace[first:last] = np.cos(np.pi * (times[first:last] - peak) / length) ** 2
    return trace


def _diameter(
    world: World, times: FloatArray, video: VideoLevels, rng: np.random.Generator
) -> FloatArray:
    """Pupil that widens over a second while the animal runs, and wanders."""
    from scipy.ndimage import gaussian_filter1d

    step = 1 / (times[1] - times[0])
    aroused = gaussian_filter1d(np.clip(world.speed(times - 0.8) / 30, 0, 1), step)
    wander = gaussian_filter1d(rng.standard_normal(len(times)), 2 * step)
    wander *= 0.08 / max(float(np.std(wander)), 1e-9)
    low, high = video.pupil_px
    return low + (high - low) * np.clip(0.15 + 0.7 * aroused + wander, 0, 1)


def _points(
    world: World,
    times: FloatArray,
    diameter: FloatArray,
    tongue: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Places of all points: the eye looks about a little, the paws step with the run."""
    from scipy.ndimage import gaussian_filter1d

    gaze = gaussian_filter1d(rng.standard_normal((len(times), 2)), 15, axis=0)
    center = EYE + 1.5 * gaze / max(float(np.std(gaze)), 1e-9)
    around = np.array([[0.0, -0.5], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0]])
    pupil = center[:, None] + around * diameter[:, None, None]
    tip = MOUTH + tongue[:, None] * np.array([10.0, 12.0])
    ends = tip[:, None] + np.array([[-3.0, 2.0], [3.0, -2.0]])
    stride = world.position(times) / 6 * 2 * np.pi
    steps = np.stack([np.cos(stride), np.cos(stride + np.pi)], axis=-1)
    paws = np.repeat(PAWS[None], len(times), axis=0)
    paws[:, :, 0] += 8 * steps
    paws[:, :, 1] -= 4 * np.clip(np.stack([np.sin(stride), -np.sin(stride)], axis=-1), 0, 1)
    return np.concatenate([pupil, ends, paws], axis=1)


def draw(face: Face, seed: int) -> Iterator[np.ndarray]:
    """Draw the saved frames.

    Parameters
    ----------
    face : Face
        The plan.
    seed : int
        Seed of the session.

    Yields
    ------
    ndarray
        Blue, green, red, shape (HEIGHT, WIDTH, 3), uint8.
    """
    import cv2

    rng = stream(seed, "face noise")
    noise = np.rint(rng.normal(0, 3, (NOISE_FRAMES, HEIGHT, WIDTH, 3))).astype(np.int16)
    for count, row in enumerate(np.flatnonzero(face.saved)):
        image = cv2.GaussianBlur(_draw(face, int(row)), (0, 0), 0.7)
        yield cv2.add(image, noise[count % NOISE_FRAMES], dtype=cv2.CV_8U)


def _draw(face: Face, row: int) -> np.ndarray:
    """One frame; coordinates in sixteenths of a pixel."""
    import cv2

    def at(point: FloatArray) -> tuple[int, int]:
        return int(round(point[0] * 16)), int(round(point[1] * 16))

    line = (cv2.LINE_AA, 4)
    image = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    cv2.ellipse(
        image, at(np.array([66.0, 62.0])), (58 * 16, 44 * 16), 12, 0, 360, (120,) * 3, -1, *line
    )
    cv2.circle(image, at(EYE), int(EYE_RADIUS * 16), (205, 205, 205), -1, *line)
    points = face.points[row]
    pupil, radius = points[:4].mean(axis=0), face.diameter[row] / 2
    cv2.circle(image, at(pupil), round(radius * 16), (8, 8, 8), -1, *line)
    if face.lid[row] > 0:
        # The lid comes down from above: at 1 it covers the whole eye.
        low = EYE[1] - EYE_RADIUS + 2 * EYE_RADIUS * face.lid[row]
        top = int(EYE[1] - EYE_RADIUS) - 1
        left, right = int(EYE[0] - EYE_RADIUS) - 1, int(EYE[0] + EYE_RADIUS) + 2
        image[top : round(low) + 1, left:right] = 120
    if face.tongue[row] > 0:
        cv2.line(image, at(MOUTH), at(points[4:6].mean(axis=0)), (120, 90, 235), 6, *line)
    for paw in points[6:]:
        cv2.circle(image, at(paw), 5 * 16, (150, 190, 235), -1, *line)
    return image
