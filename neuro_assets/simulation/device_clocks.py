"""Clocks of the devices that are neither probe nor NIDQ: Bpod, wheel encoder, cameras, tracker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.rng import FloatArray, stream

MICROSECONDS_WRAP_S = 2**32 / 1e6
CAMERA_WRAP_S = 128.0
WRAPS_S = {
    "bpod": MICROSECONDS_WRAP_S,
    "encoder": MICROSECONDS_WRAP_S,
    "left_camera": CAMERA_WRAP_S,
    "tracker": MICROSECONDS_WRAP_S,
    "right_camera": CAMERA_WRAP_S,
}


@dataclass(frozen=True)
class DeviceClock:
    """How a device counts time; without arguments, as the session does.

    Parameters
    ----------
    offset_s : float
        What it shows when the session begins, s.
    ppm : float
        Rate error, parts per million.
    jitter_s : float
        Standard deviation of what it shows about what it should, s.
    wrap_s : float
        It begins at 0 again after so long, s.
    seed : int
        Seed of the jitter.
    device : str
        Its name.
    """

    offset_s: float = 0.0
    ppm: float = 0.0
    jitter_s: float = 0.0
    wrap_s: float = np.inf
    seed: int = 0
    device: str = ""

    def running(self, session_s: FloatArray, event: str) -> FloatArray:
        """Time of sorted events as if the clock never wrapped.

        Parameters
        ----------
        session_s : ndarray
            Sorted session times, s.
        event : str
            What happened: each kind of event jitters for itself.

        Returns
        -------
        ndarray
            Never decreasing, s.
        """
        if not self.device:
            return np.asarray(session_s, dtype=float)
        jitter = stream(self.seed, f"jitter {self.device} {event}").standard_normal(len(session_s))
        exact = np.asarray(session_s) * (1 + self.ppm * 1e-6) + self.offset_s
        return np.maximum.accumulate(exact + self.jitter_s * np.clip(jitter, -4, 4))

    def shown(self, session_s: FloatArray, event: str) -> FloatArray:
        """Time of sorted events as the device writes it, wrapped; see `running`.

        Parameters
        ----------
        session_s : ndarray
            Sorted session times, s.
        event : str
            What happened.

        Returns
        -------
        ndarray
            At least 0 and less than `wrap_s`, s.
        """
        return np.mod(self.running(session_s, event), self.wrap_s)


def make_device_clocks(levels: Levels, stop_s: float, seed: int) -> dict[str, DeviceClock]:
    """Draw the devices' clocks; each wraps once between 30 % and 70 % of the session, or more.

    Parameters
    ----------
    levels : Levels
        Without `clocks`, every device shows session time.
    stop_s : float
        End of the session, s.
    seed : int
        Seed of the session.

    Returns
    -------
    dict of str to DeviceClock
        By device.
    """
    if levels.clocks is None:
        return {device: DeviceClock() for device in WRAPS_S}
    clocks = {}
    for number, (device, wrap_s) in enumerate(WRAPS_S.items()):
        if device == "right_camera" and levels.face is None:
            continue
        rng = stream(seed, "device clock", number)
        ppm = float(rng.uniform(*levels.clocks.ppm) * rng.choice([-1, 1]))
        jitter_s = float(rng.uniform(*levels.clocks.jitter_s))
        offset_s = float(wrap_s - np.mod(rng.uniform(0.3, 0.7) * stop_s, wrap_s))
        clocks[device] = DeviceClock(offset_s, ppm, jitter_s, wrap_s, seed, device)
    return clocks


def clock_table(clocks: dict[str, DeviceClock]) -> pd.DataFrame:
    """Lay the true maps out, one row a device.

    Parameters
    ----------
    clocks : dict
        From `make_device_clocks`.

    Returns
    -------
    DataFrame
        device, offset_s, ppm, jitter_s, wrap_s: a device shows
        (session_s * (1 + ppm / 1e6) + offset_s) modulo wrap_s, and jitters about it.
    """
    columns = ["device", "offset_s", "ppm", "jitter_s", "wrap_s"]
    return pd.DataFrame([{c: getattr(clock, c) for c in columns} for clock in clocks.values()])
