"""What place cells tell of the track: direction, phase precession, and replay during ripples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import Levels, NetworkLevels
from neuro_assets.simulation.rng import FloatArray, IntArray, rows, stream

EDGE_CM = 5.0
REPLAY_PEAK_HZ = 80.0


def with_content(ripples: pd.DataFrame, levels: Levels, seed: int) -> pd.DataFrame:
    """Draw what each ripple replays.

    Parameters
    ----------
    ripples : DataFrame
        start_s, stop_s, duration_s.
    levels : Levels
        Without `network`, nothing is drawn.
    seed : int
        Seed of the session.

    Returns
    -------
    DataFrame
        With content (`forward`, `reverse`, `stationary`, `shuffled`), map_direction (the running
        direction whose fields are replayed, +1 or -1), from_cm, to_cm and speed_m_s (signed; 0
        for a stationary one). Of a shuffled one, each cell's field lies elsewhere.
    """
    network = levels.network
    if network is None:
        return ripples
    n, rng = len(ripples), stream(seed, "replay")
    kinds = np.array(["stationary", "shuffled"])[np.arange(n) % 2].astype(object)
    n_replay = round(network.replay_fraction * n)
    kinds[:n_replay] = np.array(["forward", "reverse"])[np.arange(n_replay) % 2]
    kinds = rng.permutation(kinds)
    mapped = rng.choice([-1, 1], n)
    seconds = ripples["duration_s"].to_numpy(dtype=float)
    room = levels.track_cm - 2 * EDGE_CM
    speed = np.minimum(rng.uniform(*network.replay_m_s, n), room / 100 / seconds)
    moving = kinds != "stationary"
    signed = np.where(moving, np.where(kinds == "reverse", -mapped, mapped) * speed, 0.0)
    length = np.abs(signed) * 100 * seconds
    lowest = EDGE_CM + rng.random(n) * (room - length)
    start = np.where(signed < 0, lowest + length, lowest)
    return ripples.assign(
        content=kinds,
        map_direction=mapped,
        from_cm=start,
        to_cm=start + signed * 100 * seconds,
        speed_m_s=signed,
    )


def network_columns(
    units: pd.DataFrame, levels: NetworkLevels, rng: np.random.Generator
) -> pd.DataFrame:
    """Give place cells a direction and a precession.

    Parameters
    ----------
    units : DataFrame
        place_cell, place_width_cm.
    levels : NetworkLevels
        How many, how far.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DataFrame
        With place_direction (running direction in which the field is active, +1 or -1; 0 both)
        and precession_rad: how far the preferred theta phase moves from entry to exit of the
        field; `theta_phase` is that in its middle. Both 0 for other cells.
    """
    n, placed = len(units), units["place_cell"].to_numpy(dtype=bool)
    one_way = rng.permutation(n) < round(levels.directional_fraction * n)
    direction = np.where(one_way, rng.choice([-1, 1], n), 0)
    moved = rng.uniform(*levels.precession_rad, n)
    return units.assign(
        place_direction=np.where(placed, direction, 0),
        precession_rad=np.where(placed, moved, 0.0),
        theta_depth=np.where(placed, levels.precession_depth, units["theta_depth"]),
    )


class Network:
    """Rates of place cells beyond their place, on one grid of session time.

    Parameters
    ----------
    times : ndarray
        Grid, s.
    position_cm : ndarray
        On the grid.
    ripples, runs : DataFrame
        From the world; ripples with content.
    track_cm : float
        Length of the track, cm.
    seed : int
        Seed of the session; shuffled fields lie elsewhere for each ripple and cell.
    """

    def __init__(
        self,
        times: FloatArray,
        position_cm: FloatArray,
        ripples: pd.DataFrame,
        runs: pd.DataFrame,
        track_cm: float,
        seed: int,
    ) -> None:
        self._position, self._seed, self._track_cm = position_cm, seed, track_cm
        started = np.searchsorted(runs["start_s"].to_numpy(float), times, side="right")
        # Before the first run, and where there is none, as on the way out.
        way = np.concatenate([[1], runs["direction"].to_numpy(dtype=np.int64)])
        self.direction: IntArray = way[started]
        self._events = []
        for event in rows(ripples):
            bins = slice(*np.searchsorted(times, [event.start_s, event.stop_s]))
            place = event.from_cm + event.speed_m_s * 100 * (times[bins] - event.start_s)
            self._events.append((event, bins, place))

    def active(self, unit: Any) -> np.ndarray:
        """Whether a unit's field is active in the direction of the latest run."""
        return (unit.place_direction == 0) | (self.direction == unit.place_direction)

    def preferred_phase(self, unit: Any) -> FloatArray:
        """Theta phase that a unit prefers at each time, radians."""
        if not unit.place_cell:
            return np.full(len(self._position), unit.theta_phase)
        through = self.direction * (self._position - unit.place_center_cm) / unit.place_width_cm
        return unit.theta_phase + unit.precession_rad * np.clip(through, -0.5, 0.5)

    def replay_hz(self, unit: Any, sigma_cm: float, probe: int) -> FloatArray:
        """Rate that replay adds to a place cell, Hz."""
        rate = np.zeros(len(self._position))
        rng = stream(self._seed, f"shuffled {probe}", int(unit.unit))
        for event, bins, place in self._events:
            center, takes_part = (
                unit.place_center_cm,
                unit.place_direction * event.map_direction >= 0,
            )
            elsewhere = rng.uniform(EDGE_CM, self._track_cm - EDGE_CM)
            if event.content == "shuffled":
                center = elsewhere
            if takes_part:
                rate[bins] = REPLAY_PEAK_HZ * np.exp(-((place - center) ** 2) / (2 * sigma_cm**2))
        return rate
