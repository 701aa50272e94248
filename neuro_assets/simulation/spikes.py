"""Spike trains: rates that follow the animal and the brain, exact counts, no refractory violation.

Trains are drawn on session time, where the behaviour lives, and then counted in samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.simulation.clocks import AP_HZ
from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.network import Network
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.rng import FloatArray, rows, stream
from neuro_assets.simulation.units import PLACE_LEVEL
from neuro_assets.simulation.world import World

BIN_S = 0.001
STILL_LEVEL = 0.15
OUT_OF_FIELD = 0.05
BURST_ISI_S = (0.003, 0.006)
BURST_EVENT_GAP_S = 0.040
FOLLOWERS_MAX = 4
GATE_MARGIN_S = 0.05
AMPLITUDE_JITTER = 0.05
BURST_DECREMENT = 0.88


def make_spikes(units: pd.DataFrame, world: World, plan: ProbePlan) -> pd.DataFrame:
    """Draw all spikes of a probe.

    Parameters
    ----------
    units : DataFrame
        From `make_units`.
    world : World
        Behaviour and brain state.
    plan : ProbePlan
        What was recorded, and in which samples; refractory time.

    Returns
    -------
    DataFrame
        Sorted by sample: sample (running count), unit, factor (of the unit's amplitude).
    """
    times = np.arange(BIN_S / 2, world.times[-1], BIN_S)
    state = _State(times, world, plan)
    parts = []
    for unit in rows(units):
        rng = stream(plan.seed, f"spikes {plan.number}", int(unit.unit))
        n = round(unit.rate_hz * state.recorded_s)
        train, order = _train(rng, state.cumulative(unit), n, bool(unit.bursty), plan.levels)
        samples = plan.clock.samples(train)
        spread = getattr(unit, "amplitude_sd", AMPLITUDE_JITTER)
        jitter = 1 + spread * np.clip(rng.standard_normal(len(train)), -3, 3)
        factor = jitter * BURST_DECREMENT**order
        parts.append(pd.DataFrame({"sample": samples, "unit": unit.unit, "factor": factor}))
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values(["sample", "unit"], ignore_index=True, kind="stable")


class _State:
    """What all units' rates depend on, on one grid of session time."""

    def __init__(self, times: FloatArray, world: World, plan: ProbePlan) -> None:
        self.times, self.probe, clock = times, plan.number, plan.clock
        self.position = world.position(times)
        self.running = world.speed(times) > 4.0
        self.theta_phase = np.interp(times, world.times, world.theta_phase)
        self.theta_amplitude = np.interp(times, world.times, world.theta_amplitude)
        self.ripple = inside(times, world.ripples)
        self.burst = inside(times, world.bursts)
        self.recorded_s = sum(b - a for a, b in clock.recorded())
        self.recorded = np.zeros(len(times), dtype=bool)
        for start, stop in clock.recorded(GATE_MARGIN_S):
            self.recorded |= (times >= start) & (times < stop)
        self.network = None
        if plan.levels.network:
            track_cm = plan.levels.track_cm
            self.network = Network(
                times, self.position, world.ripples, world.runs, track_cm, plan.seed
            )

    def cumulative(self, unit: Any) -> FloatArray:
        """Cumulative probability of a unit's spikes at the right edges of the bins."""
        rate = self._base(unit)
        preferred = self.network.preferred_phase(unit) if self.network else unit.theta_phase
        rate *= 1 + unit.theta_depth * self.theta_amplitude * np.cos(self.theta_phase - preferred)
        rate *= self.recorded
        rate /= max(float(rate[self.recorded].mean()), 1e-12) if self.recorded.any() else 1.0
        if self.network and unit.place_cell:
            sigma = field_sigma(unit.place_width_cm)
            rate += self.network.replay_hz(unit, sigma, self.probe) / unit.rate_hz
        else:
            rate += unit.ripple_gain * self.ripple
        rate += unit.burst_gain * self.burst
        total = np.cumsum(rate * self.recorded)
        return total / max(float(total[-1]), 1e-12)

    def _base(self, unit: Any) -> FloatArray:
        if not unit.place_cell:
            return np.where(self.running, 1.2, 1.0)
        center, width = unit.place_center_cm, unit.place_width_cm
        sigma = field_sigma(width)
        field = np.exp(-((self.position - center) ** 2) / (2 * sigma**2))
        if self.network:
            field = field * self.network.active(unit)
        return (OUT_OF_FIELD + field) * np.where(self.running, 1.0, STILL_LEVEL)


def field_sigma(width_cm: float) -> float:
    """Find the standard deviation of a field that exceeds 20 % of its peak over a width, cm."""
    return float(width_cm / (2 * np.sqrt(2 * np.log(1 / PLACE_LEVEL))))


def inside(times: FloatArray, events: pd.DataFrame) -> np.ndarray:
    """Which times lie inside events with start_s and stop_s."""
    starts, stops = np.sort(events["start_s"]), np.sort(events["stop_s"])
    before = np.searchsorted(starts, times, side="right")
    return before > np.searchsorted(stops, times, side="right")


def _train(
    rng: np.random.Generator, cumulative: FloatArray, n: int, bursty: bool, levels: Levels
) -> tuple[FloatArray, np.ndarray]:
    """Spike times of one unit, and each spike's place in its burst (0 for single spikes)."""
    # Half a sample more than the refractory time, so that it holds after counting in samples.
    gap = levels.refractory_ms / 1000 + 1 / AP_HZ
    if not bursty:
        train = _separated(rng, cumulative, n, gap)
        return train, np.zeros(len(train), dtype=np.int64)
    followers = _followers(rng, n)
    heads = _separated(rng, cumulative, len(followers), BURST_EVENT_GAP_S)
    followers = followers[: len(heads)]
    times, order = [heads], [np.zeros(len(heads), dtype=np.int64)]
    offset = np.zeros(len(heads))
    for place in range(1, FOLLOWERS_MAX + 1):
        offset = offset + rng.uniform(*BURST_ISI_S, len(heads))
        has = followers >= place
        times.append((heads + offset)[has])
        order.append(np.full(int(has.sum()), place))
    train = np.concatenate(times)
    by_time = np.argsort(train, kind="stable")
    return train[by_time], np.concatenate(order)[by_time]


def _followers(rng: np.random.Generator, n: int) -> np.ndarray:
    """Numbers of spikes that follow the first of each burst; all spikes together are n."""
    counts = np.minimum(rng.geometric(0.5, n) - 1, FOLLOWERS_MAX)
    total = np.cumsum(counts + 1)
    kept = int(np.searchsorted(total, n, side="left")) + 1 if n else 0
    counts = counts[:kept]
    if kept:
        counts[-1] -= max(int(total[kept - 1]) - n, 0)
    return rng.permutation(counts)


def _separated(rng: np.random.Generator, cumulative: FloatArray, n: int, gap: float) -> FloatArray:
    """N times from a density, redrawn where two are closer than a gap; dropped as a last resort."""
    times = np.sort(_draw(rng, cumulative, n))
    for _ in range(60):
        close = np.flatnonzero(np.diff(times) < gap) + 1
        if not len(close):
            return times
        times[close] = _draw(rng, cumulative, len(close))
        times = np.sort(times)
    while len(close := np.flatnonzero(np.diff(times) < gap)):
        times = np.delete(times, close[0] + 1)
    return times


def _draw(rng: np.random.Generator, cumulative: FloatArray, n: int) -> FloatArray:
    bins = np.searchsorted(cumulative, rng.random(n), side="right")
    bins = np.minimum(bins, len(cumulative) - 1)
    return (bins + rng.random(n)) * BIN_S
