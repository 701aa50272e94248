"""Artefacts on all channels: movement, electrical pulses and mains hum, as functions of time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import RecordingLevels
from neuro_assets.simulation.rng import FloatArray, rows, spread_events, stream, without
from neuro_assets.simulation.world import World

ELECTRICAL_S = 0.004
ELECTRICAL_HZ = 400.0
EVENT_GAP_S = 0.5
HUM_HZ = 50.0
SLOW_HZ, MUSCLE_HZ = (2.0, 20.0), (60.0, 500.0)
MUSCLE_PART = 0.15


class Artefacts:
    """Artefacts of a session, the same on every probe.

    Parameters
    ----------
    world : World
        Movement artefacts come while the animal runs; electrical ones keep away from ripples.
    levels : RecordingLevels
        How many, how large.
    seed : int
        Seed of the session.

    Attributes
    ----------
    events : DataFrame
        kind (`movement`, `electrical`), start_s, stop_s (session time), peak_uv.
    """

    def __init__(self, world: World, levels: RecordingLevels, seed: int) -> None:
        self._seed, self._hum_uv, rng = seed, levels.hum_uv, stream(seed, "artefacts")
        stop = float(world.times[-1])
        running = [
            (r.start_s + 0.2, min(r.stop_s, stop) - levels.movement_s[1]) for r in rows(world.runs)
        ]
        seconds = sum(max(b - a, 0) for a, b in running)
        moved = spread_events(
            rng, round(levels.movement_hz * seconds), running, levels.movement_s[1]
        )
        busy = [(r.start_s - EVENT_GAP_S, r.stop_s + EVENT_GAP_S) for r in rows(world.ripples)]
        busy += [(t - EVENT_GAP_S, t + levels.movement_s[1]) for t in moved]
        shocks = spread_events(
            rng, round(levels.electrical_hz * stop), without([(0.5, stop - 0.5)], busy), EVENT_GAP_S
        )
        parts = [
            ("movement", moved, rng.uniform(*levels.movement_s, len(moved)), levels.movement_uv),
            ("electrical", shocks, np.full(len(shocks), ELECTRICAL_S), levels.electrical_uv),
        ]
        tables = [
            pd.DataFrame(
                {
                    "kind": kind,
                    "start_s": start,
                    "stop_s": start + length,
                    "peak_uv": rng.uniform(*limits, len(start)),
                }
            )
            for kind, start, length, limits in parts
        ]
        self.events = pd.concat(tables).sort_values("start_s", ignore_index=True)

    def at(self, times: FloatArray) -> FloatArray:
        """Artefacts and hum at sorted session times, uV on a channel that sees them in full."""
        harmonics = [np.cos(2 * np.pi * HUM_HZ * n * times + n) / 3 ** (n - 1) for n in (1, 2, 3)]
        trace = self._hum_uv * np.sum(harmonics, axis=0)
        for number, event in enumerate(rows(self.events)):
            first, last = np.searchsorted(times, [event.start_s, event.stop_s])
            if first < last:
                trace[first:last] += event.peak_uv * self._wave(number, event, times[first:last])
        return trace

    def _wave(self, number: int, event: object, times: FloatArray) -> FloatArray:
        """Wave of one event with a peak of 1."""
        start, stop = event.start_s, event.stop_s  # type: ignore[attr-defined]
        if event.kind == "electrical":  # type: ignore[attr-defined]
            away = times - (start + stop) / 2
            return _pulse(away) / _pulse(np.arange(-2e-3, 2e-3, 1e-6)).max()
        rng = stream(self._seed, "movement", number)
        frequency = np.concatenate([rng.uniform(*SLOW_HZ, 6), rng.uniform(*MUSCLE_HZ, 40)])
        size = np.repeat([1 / 6, MUSCLE_PART / 40**0.5], [6, 40])
        phase = rng.uniform(0, 2 * np.pi, len(frequency))

        def wave(at: FloatArray) -> FloatArray:
            window = np.sin(np.pi * (at - start) / (stop - start)) ** 2
            return window * (np.cos(2 * np.pi * at[:, None] * frequency + phase) @ size)

        return wave(times) / np.abs(wave(np.arange(start, stop, 1 / 5000))).max()


def _pulse(away: FloatArray) -> FloatArray:
    return np.exp(-((away / 0.001) ** 2)) * np.sin(2 * np.pi * ELECTRICAL_HZ * away)
