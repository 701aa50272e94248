"""The camera's video of the animal on the track, with true keypoints; drawing and encoding only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from neuro_assets.science.result import Progress
from neuro_assets.simulation.device_clocks import DeviceClock
from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.rng import FloatArray, IntArray, stream
from neuro_assets.simulation.world import World

WIDTH, HEIGHT = 256, 192
KEYPOINTS = ("nose", "left_ear", "right_ear", "body", "tail_base")
# Along and across the body, px from its middle.
_OFFSETS = np.array([[17.0, 0.0], [10.0, 7.0], [10.0, -7.0], [0.0, 0.0], [-16.0, 0.0]])
# Blue, green, red: nose, ears, body, tail base; each stands out from the fur and from the track.
_COLORS = ((90, 60, 230), (40, 110, 120), (40, 110, 120), (205, 205, 200), (190, 90, 60))
OCCLUDER_PX = 5.0
FIRST_FRAME_S = 0.2
OCCLUSION_FRAMES = (8, 30)
CAMERA_CYCLE_HZ = 8000
CAMERA_TICKS = 3072
NOISE_FRAMES = 8


@dataclass(frozen=True)
class Film:
    """Every exposure of the camera.

    Parameters
    ----------
    times : ndarray
        Exposures, session time, s.
    saved : ndarray
        Which of them are in the file.
    points : ndarray
        Keypoints, px, shape (n, 5, 2).
    occluders : ndarray
        Keypoint under an occluder, or -1, shape (n,).
    frames, keypoints : DataFrame
        The truth.
    blur : ndarray
        Standard deviation of the blur, px.
    rate_hz : float
        Frames per second.
    """

    times: FloatArray
    saved: np.ndarray
    points: FloatArray
    occluders: IntArray
    frames: pd.DataFrame
    keypoints: pd.DataFrame
    blur: FloatArray
    rate_hz: float


def plan_video(world: World, levels: Levels, seed: int) -> Film:
    """Decide what every frame shows.

    Parameters
    ----------
    world : World
        Position and speed.
    levels : Levels
        Frame rate, dropped frames, occlusion.
    seed : int
        Seed of the session.

    Returns
    -------
    Film
        The plan.
    """
    rng = stream(seed, "video")
    times = np.arange(FIRST_FRAME_S, world.times[-1] - 0.1, 1 / levels.video_hz)
    n = len(times)
    saved = np.ones(n, dtype=bool)
    n_dropped = max(1, round(levels.dropped_fraction * n)) if n > 10 else 0
    saved[1 + rng.permutation(n - 2)[:n_dropped]] = False
    points = _points(world, times, rng, levels)
    occluders = _occluders(rng, points, saved, levels.occluded_fraction)
    hidden = _hidden(points, occluders)
    number = np.where(saved, np.cumsum(saved) - 1, -1)
    frames = pd.DataFrame({"exposure": np.arange(n), "frame": number, "session_s": times})
    rows = np.flatnonzero(saved)
    keypoints = pd.DataFrame(
        {
            "frame": np.repeat(number[rows], len(KEYPOINTS)),
            "keypoint": np.tile(KEYPOINTS, len(rows)),
            "x_px": points[rows, :, 0].ravel(),
            "y_px": points[rows, :, 1].ravel(),
            "visible": ~hidden[rows].ravel(),
        }
    )
    blur = 0.6 + 0.9 * np.clip(world.speed(times) / 50, 0, 1)
    return Film(times, saved, points, occluders, frames, keypoints, blur, levels.video_hz)


def _points(
    world: World, times: FloatArray, rng: np.random.Generator, levels: Levels
) -> FloatArray:
    """Keypoints of an animal that faces where it runs and turns round while it rests."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.special import expit

    def wander(seconds: float, size: float) -> FloatArray:
        noise = gaussian_filter1d(rng.standard_normal(len(times)), seconds * levels.video_hz)
        return size * noise / max(float(np.std(noise)), 1e-9)

    x = 22 + world.position(times) / levels.track_cm * (WIDTH - 44)
    y = HEIGHT / 2 + wander(0.6, 5.0)
    turns = np.concatenate([[0.0], _turn_times(world)])
    angle = np.zeros(len(times))
    for turn in turns[1:]:
        angle += np.pi * expit((times - turn) / 0.12)
    angle += wander(0.3, 0.12)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    middle = np.stack([x, y], axis=-1)
    return (
        middle[:, None, :]
        + _OFFSETS[None, :, :1] * along[:, None, :]
        + _OFFSETS[None, :, 1:] * across[:, None, :]
    )


def _turn_times(world: World) -> FloatArray:
    """Middle of each pause between two runs, s."""
    starts = world.runs["start_s"].to_numpy(dtype=float)
    stops = world.runs["stop_s"].to_numpy(dtype=float)
    return (stops[:-1] + starts[1:]) / 2


def _hidden(points: FloatArray, occluders: IntArray) -> np.ndarray:
    """Keypoints that lie under the occluder of their frame, shape (n, 5)."""
    rows = np.arange(len(points))
    center = points[rows, np.maximum(occluders, 0)]
    near = np.linalg.norm(points - center[:, None, :], axis=-1) <= OCCLUDER_PX
    return near & (occluders >= 0)[:, None]


def _occluders(
    rng: np.random.Generator, points: FloatArray, saved: np.ndarray, fraction: float
) -> IntArray:
    """Bouts in which one keypoint is covered, until the wanted part of all keypoints is."""
    occluders = np.full(len(points), -1)
    wanted = round(fraction * int(saved.sum()) * len(KEYPOINTS))
    for _ in range(20 * len(points)):
        missing = wanted - int((saved & (occluders >= 0)).sum())
        if missing <= 0:
            break
        start = int(rng.integers(len(points)))
        length = min(int(rng.integers(*OCCLUSION_FRAMES)), missing)
        bout = occluders[start : start + length]
        bout[bout < 0] = int(rng.integers(len(KEYPOINTS)))
    return occluders


def write_video(
    folder: Path,
    film: Film,
    created: datetime,
    seed: int,
    progress: Progress,
    clock: DeviceClock,
) -> None:
    """Draw and encode the film, and write the camera's frame counts and times.

    Parameters
    ----------
    folder : Path
        `raw_video_data`, to be created.
    film : Film
        The plan.
    created : datetime
        Start of the session, rig's local time.
    seed : int
        Seed of the session.
    progress : callable
        Called every few seconds.
    clock : DeviceClock
        Clock of the camera.
    """
    folder.mkdir(parents=True)
    rows = np.flatnonzero(film.saved)
    images = _images(film, rows, seed, progress)
    encode(folder / "_iblrig_leftCamera.raw.mp4", images, (WIDTH, HEIGHT), film.rate_hz)
    write_times(folder, "left", film.times, film.saved, created, clock)


def write_times(
    folder: Path,
    camera: str,
    times: FloatArray,
    saved: np.ndarray,
    created: datetime,
    clock: DeviceClock,
) -> None:
    """Write a camera's frame counts and times.

    Parameters
    ----------
    folder : Path
        `raw_video_data`.
    camera : str
        `left` or `right`.
    times : ndarray
        Exposures, session time, s.
    saved : ndarray
        Which of them are in the file.
    created : datetime
        Start of the session, rig's local time.
    clock : DeviceClock
        Clock of the camera.
    """
    rows = np.flatnonzero(saved)
    rows.astype(np.float64).tofile(folder / f"_iblrig_{camera}Camera.frame_counter.bin")
    lines = []
    shown = clock.shown(times[rows], "frames")
    for time, own in zip(times[rows], shown, strict=True):
        stamp = (created + timedelta(seconds=float(time))).isoformat(timespec="microseconds")
        lines.append(f"{stamp}0+00:00 {camera_time(float(own))} \n")
    text = "".join(lines)
    (folder / f"_iblrig_{camera}Camera.timestamps.ssv").write_text(text, encoding="utf-8")


def camera_time(seconds: float) -> int:
    """Pack a time as the camera does: 7 bits of s, 13 of 1/8000 s, 12 of a 1/3072 of that.

    Parameters
    ----------
    seconds : float
        Time, s.

    Returns
    -------
    int
        32 bits; wraps after 128 s.
    """
    ticks = round(seconds * CAMERA_CYCLE_HZ * CAMERA_TICKS)
    cycles, tick = divmod(ticks, CAMERA_TICKS)
    whole, cycle = divmod(cycles, CAMERA_CYCLE_HZ)
    return (whole % 128) << 25 | cycle << 12 | tick


def _images(film: Film, rows: IntArray, seed: int, progress: Progress) -> Iterator[np.ndarray]:
    rng = stream(seed, "camera noise")
    noise = np.rint(rng.normal(0, 3, (NOISE_FRAMES, HEIGHT, WIDTH, 3))).astype(np.int16)
    background = _background(rng)
    for count, row in enumerate(rows):
        yield _draw(film, int(row), background, noise[count % NOISE_FRAMES])
        if count % 600 == 0:
            progress(0.8 + 0.19 * count / len(rows), f"video: frame {count}")


def encode(path: Path, images: Iterable[np.ndarray], size: tuple[int, int], rate_hz: float) -> None:
    """Encode a video, the same bytes for the same images.

    Parameters
    ----------
    path : Path
        File to create.
    images : iterable of ndarray
        Blue, green, red, uint8.
    size : tuple of int
        Width and height, px.
    rate_hz : float
        Frames per second.
    """
    import imageio_ffmpeg

    # One thread and bit-exact muxing: the same frames give the same file.
    options = ["-preset", "veryfast", "-crf", "23", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    options += ["-threads", "1"]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=rate_hz,
        codec="libx264",
        pix_fmt_in="bgr24",
        macro_block_size=1,
        quality=None,
        output_params=options,
        ffmpeg_log_level="error",
    )
    writer.send(None)
    try:
        for image in images:
            writer.send(image)
    finally:
        writer.close()


def _background(rng: np.random.Generator) -> np.ndarray:
    """Draw a bright track on a textured floor."""
    import cv2

    texture = rng.normal(0, 10, (HEIGHT // 8, WIDTH // 8)).astype(np.float32)
    floor = cv2.resize(texture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = np.repeat(np.clip(112 + floor, 0, 255)[:, :, None], 3, axis=2).astype(np.uint8)
    cv2.rectangle(image, (4, HEIGHT // 2 - 26), (WIDTH - 5, HEIGHT // 2 + 26), (178, 182, 184), -1)
    cv2.rectangle(image, (4, HEIGHT // 2 - 26), (WIDTH - 5, HEIGHT // 2 + 26), (90, 92, 94), 2)
    return image


def _draw(film: Film, row: int, background: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """One frame; coordinates in sixteenths of a pixel, so that drawing is as exact as the truth."""
    import cv2

    image = background.copy()
    points = film.points[row]
    fine = np.rint(points * 16).astype(int)
    along = points[0] - points[4]
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    tail = points[4] - along * 0.45 + np.array([0.0, 3 * np.sin(row / 9)])
    end = tuple(int(v) for v in np.rint(tail * 16))
    line = (cv2.LINE_AA, 4)
    cv2.line(image, tuple(fine[4].tolist()), end, (120, 130, 180), 2, *line)
    body = tuple(fine[3].tolist())
    cv2.ellipse(image, body, (15 * 16, 8 * 16), angle, 0, 360, (70, 70, 76), -1, *line)
    head = tuple(((fine[1] + fine[2]) // 2).tolist())
    cv2.ellipse(image, head, (8 * 16, 6 * 16), angle, 0, 360, (82, 82, 90), -1, *line)
    for point, color, radius in zip(fine, _COLORS, (32, 44, 44, 30, 32), strict=True):
        cv2.circle(image, tuple(point.tolist()), radius, color, -1, *line)
    if film.occluders[row] >= 0:
        center = tuple(fine[film.occluders[row]].tolist())
        cv2.circle(image, center, int(OCCLUDER_PX * 16), (168, 172, 160), -1, *line)
    blurred = cv2.GaussianBlur(image, (0, 0), float(film.blur[row]))
    return cv2.add(blurred, noise, dtype=cv2.CV_8U)
