"""How the tissue moves under a probe over time, in um."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.rng import FloatArray, stream


@dataclass(frozen=True)
class Drift:
    """Rigid movement of the tissue along the shank.

    Parameters
    ----------
    slow_um : float
        Signed slow movement from start to stop, um.
    jump_um : float
        Signed sudden movement, um.
    jump_s : float
        When it jumps, session time, s.
    stop_s : float
        End of the session, s.
    """

    slow_um: float
    jump_um: float
    jump_s: float
    stop_s: float

    def at(self, times: FloatArray) -> FloatArray:
        """Displacement at session times, um upwards, 0 at the session's start."""
        part = np.clip(times / self.stop_s, 0, 1)
        # A slow creep that eases in and out, monotonic, so that its span is exactly slow_um.
        eased = part - np.sin(2 * np.pi * part) / (2 * np.pi) * 0.8
        return self.slow_um * eased + self.jump_um * (times >= self.jump_s)


def make_drift(stop_s: float, levels: Levels, seed: int, probe: int) -> Drift:
    """Draw the drift of one probe.

    Parameters
    ----------
    stop_s : float
        End of the session, s.
    levels : Levels
        How far.
    seed, probe : int
        Seed of the session and number of the probe.

    Returns
    -------
    Drift
        Both movements go the same way.
    """
    rng = stream(seed, "drift", probe)
    sign = float(rng.choice([-1.0, 1.0]))
    jump_s = float(rng.uniform(0.3, 0.7) * stop_s)
    return Drift(sign * levels.drift_um, sign * levels.jump_um, jump_s, stop_s)
