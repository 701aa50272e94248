"""When what was recorded: gates, each probe's own clock, and the sync pulses that tie them.

Session time is the time of the NIDQ device, zero at its first sample, in seconds. Nothing here
knows of signals or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.rng import FloatArray, IntArray, spread_events, stream

AP_HZ = 30_000
LF_HZ = 2_500
NIDQ_HZ = 30_000
LF_STEP = AP_HZ // LF_HZ
GATE_PAUSE_S = 2.0
PULSE_HIGH_S = 0.5


@dataclass(frozen=True)
class Timeline:
    """Gates of a session on session time.

    Parameters
    ----------
    starts : tuple of float
        Start of each gate, s.
    gate_s : float
        Recorded length of each gate in each probe, s.
    tail_s : float
        How much longer the NIDQ records in each gate, s.
    triggers : int
        Files into which each gate is cut.
    """

    starts: tuple[float, ...]
    gate_s: float
    tail_s: float
    triggers: int

    @property
    def stop(self) -> float:
        """End of the session, s."""
        return self.starts[-1] + self.gate_s + self.tail_s

    @property
    def samples_per_gate(self) -> int:
        """Samples of a probe's AP file per gate: whole LF samples in whole trigger files."""
        step = LF_STEP
        return int(self.gate_s * AP_HZ) // step * step

    def trigger_bounds(self, n_samples: int, step: int) -> list[int]:
        """Sample bounds of the trigger files of a gate with n samples, multiples of step."""
        cuts = np.linspace(0, n_samples // step, self.triggers + 1).astype(int) * step
        return [*(int(cut) for cut in cuts[:-1]), n_samples]


def lay_out(duration_s: float, gates: int, triggers: int, levels: Levels) -> Timeline:
    """Place the gates.

    Parameters
    ----------
    duration_s : float
        Recorded time of all gates together, s.
    gates, triggers : int
        Number of gates, and of trigger files in each.
    levels : Levels
        A restart needs a longer tail.

    Returns
    -------
    Timeline
        The gates.
    """
    gate_s = duration_s / gates
    tail = 1.5 if levels.restart else 0.5
    step = gate_s + tail + GATE_PAUSE_S
    return Timeline(tuple(gate * step for gate in range(gates)), gate_s, tail, triggers)


@dataclass(frozen=True)
class Piece:
    """Samples that follow one another without a gap in time.

    Parameters
    ----------
    gate : int
        Gate of the piece.
    start, stop : int
        Samples of the gate's recording, stop excluded.
    time : float
        Session time of sample `start`, s.
    rate : float
        True samples per second of session time.
    """

    gate: int
    start: int
    stop: int
    time: float
    rate: float

    @property
    def stop_time(self) -> float:
        """Session time just after the last sample, s."""
        return self.time + (self.stop - self.start) / self.rate


@dataclass(frozen=True)
class ProbeClock:
    """Mapping between a probe's samples and session time.

    Samples of all gates follow one another in the count that the methods use; sample `i` of gate
    `g` is number `g * samples_per_gate + i`.

    Parameters
    ----------
    pieces : tuple of Piece
        In order.
    samples_per_gate : int
        Samples of each gate.
    first_samples : tuple of int
        The acquisition's count at the first sample of each gate, as in `firstSample`.
    ppm : float
        Rate error, parts per million.
    """

    pieces: tuple[Piece, ...]
    samples_per_gate: int
    first_samples: tuple[int, ...]
    ppm: float

    @property
    def n_samples(self) -> int:
        """Samples of all gates."""
        return self.samples_per_gate * len(self.first_samples)

    def times(self, samples: IntArray) -> FloatArray:
        """Session times of samples of the running count, s."""
        starts = np.array([self._offset(piece) + piece.start for piece in self.pieces])
        which = np.clip(np.searchsorted(starts, samples, side="right") - 1, 0, None)
        times = np.array([piece.time for piece in self.pieces])[which]
        rates = np.array([piece.rate for piece in self.pieces])[which]
        return times + (samples - starts[which]) / rates

    def samples(self, times: FloatArray) -> IntArray:
        """First sample at or after each session time, -1 where nothing was recorded."""
        found = np.full(len(times), -1, dtype=np.int64)
        for piece in self.pieces:
            index = np.ceil((times - piece.time) * piece.rate - 1e-6).astype(np.int64)
            inside = (index >= 0) & (index < piece.stop - piece.start)
            found[inside] = index[inside] + piece.start + self._offset(piece)
        return found

    def recorded(self, margin_s: float = 0.0) -> list[tuple[float, float]]:
        """Intervals of session time that were recorded, less a margin at both ends, s."""
        return [(p.time + margin_s, p.stop_time - margin_s) for p in self.pieces]

    def _offset(self, piece: Piece) -> int:
        return piece.gate * self.samples_per_gate


def make_clock(timeline: Timeline, levels: Levels, seed: int, probe: int) -> ProbeClock:
    """Draw one probe's clock.

    The files of all devices start within half a second of one another; what differs by up to half
    a minute is the devices' sample counts (`firstSample`). A restart costs less than a second.

    Parameters
    ----------
    timeline : Timeline
        Gates.
    levels : Levels
        Ranges of offset and rate.
    seed, probe : int
        Seed of the session and number of the probe.

    Returns
    -------
    ProbeClock
        The probe's clock.
    """
    rng = stream(seed, f"clock {levels.number}" if levels.number else "clock", probe)
    ppm = rng.uniform(*levels.clock_ppm) * rng.choice([-1, 1])
    offset_s = rng.uniform(*levels.clock_offset_s)
    n = timeline.samples_per_gate
    restart_gate = len(timeline.starts) // 2 if levels.restart else -1
    rate = AP_HZ * (1 + ppm * 1e-6)
    pieces, first_samples = [], []
    for gate, start in enumerate(timeline.starts):
        time = start + rng.uniform(0.02, 0.45)
        count = int((time + offset_s) * AP_HZ) // LF_STEP * LF_STEP
        first_samples.append(count)
        if gate != restart_gate:
            pieces.append(Piece(gate, 0, n, time, rate))
            continue
        cut = int(rng.uniform(0.4, 0.6) * n) // LF_STEP * LF_STEP
        again = time + cut / rate + rng.uniform(0.2, 0.9)
        pieces += [Piece(gate, 0, cut, time, rate), Piece(gate, cut, n, again, rate)]
    return ProbeClock(tuple(pieces), n, tuple(first_samples), float(ppm))


def true_pulses(timeline: Timeline, seed: int) -> FloatArray:
    """Rising edges of the 1 Hz sync square wave, session time, s."""
    phase = stream(seed, "pulses").uniform(0.05, 0.95)
    return np.arange(phase, timeline.stop, 1.0)


def probe_pulses(
    pulses: FloatArray, clock: ProbeClock, levels: Levels, seed: int, probe: int
) -> pd.DataFrame:
    """Choose what one probe sees of the sync pulses.

    Parameters
    ----------
    pulses : ndarray
        True rising edges, s.
    clock : ProbeClock
        The probe's clock.
    levels : Levels
        How many are lost and extra; none where the probe sees fewer than six.
    seed, probe : int
        Seed of the session and number of the probe.

    Returns
    -------
    DataFrame
        One row a pulse: rise_s, fall_s (session time), status (`seen`, `lost`, `extra`),
        sample (running count, -1 where not recorded).
    """
    rng = stream(seed, "probe pulses", probe)
    table = pd.DataFrame({"rise_s": pulses, "fall_s": pulses + PULSE_HIGH_S, "status": "seen"})
    table["sample"] = clock.samples(pulses)
    seen = np.flatnonzero(table["sample"].to_numpy() >= 0)
    if len(seen) < 6:
        return table
    lost = rng.choice(seen[2:-2], min(levels.pulses_lost, len(seen) - 4), replace=False)
    table.loc[lost, "status"] = "lost"
    inside = [(float(pulses[i]) + 0.55, float(pulses[i]) + 0.85) for i in seen[2:-2]]
    covered = clock.recorded(margin_s=0.2)
    fits = [s for s in inside if any(a < s[0] and s[1] < b for a, b in covered)]
    rise = spread_events(rng, levels.pulses_extra, fits, 1.0)
    extra = pd.DataFrame(
        {"rise_s": rise, "fall_s": rise + rng.uniform(0.02, 0.1, len(rise)), "status": "extra"}
    )
    extra["sample"] = clock.samples(rise)
    return pd.concat([table, extra]).sort_values("rise_s", ignore_index=True)


def levels_at(edges: IntArray, start: int, stop: int, step: int = 1) -> IntArray:
    """Level (0 or 1) of a line that toggles at edges, for samples start, start + step, ... < stop.

    Parameters
    ----------
    edges : ndarray
        Sorted samples at which the line toggles, beginning low.
    start, stop, step : int
        Samples wanted.

    Returns
    -------
    ndarray
        0 or 1 per sample.
    """
    samples = np.arange(start, stop, step)
    return np.searchsorted(edges, samples, side="right") % 2


def toggles(table: pd.DataFrame, clock: ProbeClock) -> IntArray:
    """Find the samples (running count) at which a probe's sync line toggles.

    An edge that falls into a gap shows at the first sample after it.
    """
    seen = table[table["status"] != "lost"]
    times = np.sort(seen[["rise_s", "fall_s"]].to_numpy().ravel())
    ends = np.array([piece.stop_time for piece in clock.pieces])
    starts = np.array([piece.time for piece in clock.pieces])
    which = np.searchsorted(ends, times, side="right")
    kept = which < len(ends)
    times, which = times[kept], which[kept]
    return clock.samples(np.maximum(times, starts[which]))
