"""The animal and its brain on session time: laps, position, theta, ripples and population bursts.

Everything that several probes and the video share. Nothing here knows of channels or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuro_assets.simulation.clocks import Timeline
from neuro_assets.simulation.network import with_content
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.rng import FloatArray, overlap, rows, spread_events, stream, without

GRID_HZ = 500.0
TRACK_MARGIN_CM = 3.0
RUN_S = (5.0, 8.0)
PAUSE_S = (3.0, 9.0)
FIRST_PAUSE_S = (2.0, 4.0)
STILL_CM_S = 4.0
BURST_RATE_HZ = 0.1
BURST_S = (0.060, 0.200)
EVENT_GAP_S = 0.35


@dataclass(frozen=True)
class World:
    """Animal and brain state.

    Parameters
    ----------
    times : ndarray
        Grid of session time, s.
    position_cm, speed_cm_s : ndarray
        On the grid.
    theta_phase : ndarray
        Unwrapped phase on the grid, radians; 0 at the peak in the upper layers.
    theta_amplitude : ndarray
        0..1 on the grid.
    runs : DataFrame
        One row a traversal: start_s, stop_s, from_cm, to_cm, direction (+1, -1), lap.
    still : list of tuple
        Intervals without locomotion, s.
    ripples, bursts : DataFrame
        start_s, peak_s, stop_s, duration_s; ripples have frequency_hz and peak_sd too, and with
        network levels what `network.with_content` adds.
    """

    times: FloatArray
    position_cm: FloatArray
    speed_cm_s: FloatArray
    theta_phase: FloatArray
    theta_amplitude: FloatArray
    runs: pd.DataFrame
    still: list[tuple[float, float]]
    ripples: pd.DataFrame
    bursts: pd.DataFrame

    def position(self, times: FloatArray) -> FloatArray:
        """Position on the track at session times, cm."""
        return np.interp(times, self.times, self.position_cm)

    def speed(self, times: FloatArray) -> FloatArray:
        """Speed at session times, cm/s."""
        return np.interp(times, self.times, self.speed_cm_s)


def make_world(timeline: Timeline, plans: list[ProbePlan]) -> World:
    """Let the animal run and its brain fire.

    Parameters
    ----------
    timeline : Timeline
        Gates.
    plans : list of ProbePlan
        Ripples and bursts happen only where every probe records, and none saturates.

    Returns
    -------
    World
        Behaviour and brain state over the whole session.
    """
    levels, seed = plans[0].levels, plans[0].seed
    runs = _make_runs(timeline.stop, levels.track_cm, seed)
    times = np.arange(0, timeline.stop + 1 / GRID_HZ, 1 / GRID_HZ)
    position = _positions(times, runs)
    speed = np.abs(np.gradient(position, 1 / GRID_HZ))
    phase, amplitude = _theta(times, speed, seed)
    pauses = _pauses(runs, timeline.stop)
    ripples, bursts = _events(pauses, plans)
    return World(times, position, speed, phase, amplitude, runs, pauses, ripples, bursts)


def _make_runs(stop: float, track_cm: float, seed: int) -> pd.DataFrame:
    """Traversals back and forth; out and back never takes more than 34 s."""
    rng = stream(seed, "runs")
    low, high = TRACK_MARGIN_CM, track_cm - TRACK_MARGIN_CM
    found: list[tuple[float, ...]] = []
    start = rng.uniform(*FIRST_PAUSE_S)
    while start < stop:
        number = len(found)
        end = start + rng.uniform(*RUN_S)
        there, back = (low, high) if number % 2 == 0 else (high, low)
        found.append((start, end, there, back, 1 if number % 2 == 0 else -1, number // 2))
        start = end + rng.uniform(*PAUSE_S)
    columns = ["start_s", "stop_s", "from_cm", "to_cm", "direction", "lap"]
    return pd.DataFrame(found, columns=columns)


def _positions(times: FloatArray, runs: pd.DataFrame) -> FloatArray:
    """Minimum-jerk runs between the ends, standing still in between."""
    position = np.full(len(times), TRACK_MARGIN_CM)
    for run in rows(runs):
        part = np.clip((times - run.start_s) / (run.stop_s - run.start_s), 0, 1)
        smooth = part**3 * (10 - 15 * part + 6 * part**2)
        later = times >= run.start_s
        position[later] = (run.from_cm + (run.to_cm - run.from_cm) * smooth)[later]
    return position


def _pauses(runs: pd.DataFrame, stop: float) -> list[tuple[float, float]]:
    starts = [0.0, *runs["stop_s"]]
    stops = [*runs["start_s"], stop]
    return [(a, min(b, stop)) for a, b in zip(starts, stops, strict=True) if a < stop and b > a]


def _theta(times: FloatArray, speed: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Phase and amplitude: faster and larger while running, with a wandering frequency."""
    from scipy.ndimage import gaussian_filter1d

    rng = stream(seed, "theta")
    wander = gaussian_filter1d(rng.standard_normal(len(times)), 0.5 * GRID_HZ)
    wander *= 0.3 / max(float(np.std(wander)), 1e-9)
    frequency = 7.3 + 1.2 * np.clip(speed / 40, 0, 1) + wander
    phase = np.cumsum(2 * np.pi * frequency / GRID_HZ) + rng.uniform(0, 2 * np.pi)
    moving = 1 / (1 + np.exp(-(speed - 2 * STILL_CM_S) / 2))
    amplitude = gaussian_filter1d(0.15 + 0.85 * moving, 0.1 * GRID_HZ)
    return phase, amplitude


def _usable(pauses: list[tuple[float, float]], plans: list[ProbePlan]) -> list[tuple[float, float]]:
    """Intervals of standing still that every probe records cleanly."""
    free = [(a + 0.3, b - 0.3) for a, b in pauses]
    for plan in plans:
        free = overlap(free, plan.clock.recorded(margin_s=0.3))
    length = plans[0].levels.saturation_s
    holes = [(s - 0.4, s + length + 0.4) for plan in plans for s in plan.saturation]
    return without([(a, b) for a, b in free if b > a], holes)


def _events(
    pauses: list[tuple[float, float]], plans: list[ProbePlan]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ripples and bursts, at their rates over all recorded standing still."""
    levels, usable = plans[0].levels, _usable(pauses, plans)
    rng = stream(plans[0].seed, "events")
    recorded = overlap(pauses, plans[0].clock.recorded())
    still_s = sum(b - a for a, b in recorded)
    n_ripples = round(levels.ripple_rate_hz * still_s)
    peaks = spread_events(rng, n_ripples, usable, EVENT_GAP_S)
    ripples = _event_table(peaks, rng.uniform(*levels.ripple_duration_s, len(peaks)))
    ripples["frequency_hz"] = rng.uniform(170, 225, len(peaks))
    ripples["peak_sd"] = rng.uniform(*levels.ripple_sd, len(peaks))
    ripples = with_content(ripples, levels, plans[0].seed)
    others = spread_events(rng, round(BURST_RATE_HZ * still_s), usable, EVENT_GAP_S, peaks)
    bursts = _event_table(others, rng.uniform(*BURST_S, len(others)))
    return ripples, bursts


def _event_table(peaks: FloatArray, durations: FloatArray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "start_s": peaks - durations / 2,
            "peak_s": peaks,
            "stop_s": peaks + durations / 2,
            "duration_s": durations,
        }
    )
