"""What a probe is and where its faults are, before anything is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro_assets.simulation.clocks import ProbeClock, Timeline, make_clock
from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.probes import SimulatedProbe, make_probe
from neuro_assets.simulation.rng import FloatArray, IntArray, stream
from neuro_assets.simulation.tissue import Drift, make_drift


@dataclass(frozen=True)
class ProbePlan:
    """One probe of a session.

    Parameters
    ----------
    number, seed : int
        Number of the probe, and seed of the session.
    levels : Levels
        Difficulty.
    probe : SimulatedProbe
        Geometry.
    clock : ProbeClock
        Its clock.
    dead, noisy : ndarray
        Bad channels.
    saturation : ndarray
        Starts of the saturation events, session time, s.
    drift : Drift
        Movement of the tissue.
    """

    number: int
    seed: int
    levels: Levels
    probe: SimulatedProbe
    clock: ProbeClock
    dead: IntArray
    noisy: IntArray
    saturation: FloatArray
    drift: Drift

    @property
    def bad(self) -> IntArray:
        """Dead and noisy channels."""
        return np.union1d(self.dead, self.noisy)

    def rng(self, purpose: str) -> np.random.Generator:
        """Random generator of one purpose; see `rng.stream`."""
        return stream(self.seed, purpose, self.number)


def plan_probe(
    model: str, n_channels: int, timeline: Timeline, levels: Levels, seed: int, number: int
) -> ProbePlan:
    """Draw a probe's clock and faults.

    Parameters
    ----------
    model : str
        Probe model.
    n_channels : int
        Saved neural channels.
    timeline : Timeline
        Gates.
    levels : Levels
        Difficulty.
    seed, number : int
        Seed of the session and number of the probe.

    Returns
    -------
    ProbePlan
        The plan.
    """
    probe = make_probe(model, n_channels)
    clock = make_clock(timeline, levels, seed, number)
    rng = stream(seed, "bad channels", number)
    n_dead = _count(levels.dead_fraction, n_channels)
    n_noisy = _count(levels.noisy_fraction, n_channels)
    bad = rng.permutation(n_channels)[: n_dead + n_noisy]
    return ProbePlan(
        number=number,
        seed=seed,
        levels=levels,
        probe=probe,
        clock=clock,
        dead=np.sort(bad[:n_dead]),
        noisy=np.sort(bad[n_dead:]),
        saturation=saturation_times(clock, levels, seed, number),
        drift=make_drift(timeline.stop, levels, seed, number),
    )


def _count(fraction: float, n_channels: int) -> int:
    """Channels of a fraction: at least one from 16 channels on, none below."""
    return max(1, round(fraction * n_channels)) if n_channels >= 16 else 0


def saturation_times(clock: ProbeClock, levels: Levels, seed: int, probe: int) -> FloatArray:
    """Draw the starts of one probe's saturation events, one in each equal part, s.

    Parameters
    ----------
    clock : ProbeClock
        The probe's clock.
    levels : Levels
        Number and length of the events.
    seed, probe : int
        Seed of the session and number of the probe.

    Returns
    -------
    ndarray
        Sorted session times; fewer than asked for where the recording is too short to hold them
        at most a tenth of the time.
    """
    rng = stream(seed, "saturation", probe)
    spans = [(a, b - levels.saturation_s) for a, b in clock.recorded(margin_s=0.3)]
    spans = [(a, b) for a, b in spans if b > a]
    total = sum(b - a for a, b in spans)
    n = min(levels.saturation_events, int(total * 0.1 / levels.saturation_s))
    starts = []
    for number in range(n):
        place = (number + rng.uniform(0.2, 0.8)) / n * total
        for a, b in spans:
            if place <= b - a:
                starts.append(a + place)
                break
            place -= b - a
    return np.array(starts)
