"""What blurs the animal's position: a wheel that slips, and a tracker that errs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import ClockLevels
from neuro_assets.simulation.rng import FloatArray, IntArray, stream
from neuro_assets.simulation.world import GRID_HZ, World

TRACKER_HZ = 30.0
PX_PER_CM = 3.0
ORIGIN_PX = (40.0, 240.0)
HALF_LENGTH_CM = 4.0
BOUT_SAMPLES = (2, 12)
POINTS = ("front", "back")


def with_slip(world: World, levels: ClockLevels | None, seed: int) -> World:
    """Let the wheel turn a little more or less than the animal runs.

    Parameters
    ----------
    world : World
        The animal on the track.
    levels : ClockLevels, optional
        How much; none without.
    seed : int
        Seed of the session.

    Returns
    -------
    World
        With what the wheel turned, in cm, for the position.
    """
    from scipy.ndimage import gaussian_filter1d

    if levels is None:
        return world
    slow = gaussian_filter1d(stream(seed, "slip").standard_normal(len(world.times)), GRID_HZ)
    slip = 1 + levels.wheel_slip * slow / np.std(slow)
    steps = np.diff(world.position_cm, prepend=world.position_cm[0])
    return replace(world, position_cm=world.position_cm[0] + np.cumsum(steps * slip))


def make_tracking(world: World, levels: ClockLevels, seed: int) -> pd.DataFrame:
    """Track two points on the animal, with noise, losses and mistaken points.

    Parameters
    ----------
    world : World
        Position and runs.
    levels : ClockLevels
        How often and how much it errs.
    seed : int
        Seed of the session.

    Returns
    -------
    DataFrame
        One row a sample: session_s; for `front` and `back` the true place (`<point>_x_cm`,
        `<point>_y_cm`), what the file says (`<point>_x_px`, `<point>_y_px`, NaN where lost) and
        `<point>_lost`; `swapped` where the file says one point's place for the other's.
    """
    rng = stream(seed, "tracking")
    times = np.arange(0.1, world.times[-1] - 0.1, 1 / TRACKER_HZ)
    n = len(times)
    table = pd.DataFrame({"session_s": times})
    heading = np.sign(np.interp(times, world.times, _heading(world)))
    swapped = _bouts(rng, n, levels.swapped_fraction)
    places = {}
    for point, ahead in zip(POINTS, (HALF_LENGTH_CM, -HALF_LENGTH_CM), strict=True):
        x, y = world.position(times) + ahead * heading, rng.normal(0, 0.1, n)
        table[f"{point}_x_cm"], table[f"{point}_y_cm"] = x, y
        noise = rng.normal(0, levels.tracking_noise_cm, (n, 2))
        places[point] = (np.column_stack([x, y]) + noise) * PX_PER_CM + ORIGIN_PX
    front, back = places["front"].copy(), places["back"].copy()
    front[swapped], back[swapped] = places["back"][swapped], places["front"][swapped]
    for point, place in zip(POINTS, (front, back), strict=True):
        lost = _bouts(rng, n, levels.lost_fraction)
        place[lost] = np.nan
        table[f"{point}_x_px"], table[f"{point}_y_px"] = place.T
        table[f"{point}_lost"] = lost
    table["swapped"] = swapped
    return table


def _heading(world: World) -> IntArray:
    """Where the animal looks, +1 or -1, on the grid; it turns in the middle of each pause."""
    starts, stops = world.runs["start_s"].to_numpy(), world.runs["stop_s"].to_numpy()
    turns = (stops[:-1] + starts[1:]) / 2
    return 1 - 2 * (np.searchsorted(turns, world.times) % 2)


def _bouts(rng: np.random.Generator, n: int, fraction: float) -> np.ndarray:
    """Mask of bouts that cover a part of n samples."""
    mask, wanted = np.zeros(n, dtype=bool), round(fraction * n)
    while (missing := wanted - int(mask.sum())) > 0:
        start, length = int(rng.integers(n)), int(rng.integers(*BOUT_SAMPLES))
        mask[start : start + min(length, missing)] = True
    return mask


def tracking_file(table: pd.DataFrame, shown_s: FloatArray) -> pd.DataFrame:
    """Keep what the tracker writes: its own time in us, and the places of both points in px.

    Parameters
    ----------
    table : DataFrame
        From `make_tracking`.
    shown_s : ndarray
        What the tracker's clock shows for each sample, s.

    Returns
    -------
    DataFrame
        time_us, front_x, front_y, back_x, back_y.
    """
    columns = {f"{point}_{axis}_px": f"{point}_{axis}" for point in POINTS for axis in "xy"}
    file = table[list(columns)].rename(columns=columns).round(2)
    file.insert(0, "time_us", np.floor(shown_s * 1e6).astype(np.int64))
    return file
