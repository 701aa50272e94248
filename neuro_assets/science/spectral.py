"""Power spectra and what is read from them: line noise. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

LINE_HALF_WIDTH_HZ = 1.5
"""Mains frequency wanders by less than 0.2 Hz; a Hann window of 1 s spreads a line over 3 Hz."""

NEIGHBOUR_HZ = (4.0, 12.0)
"""Distance from the line at which the background is taken."""


def power_spectrum(traces: np.ndarray, fs: float, n_window: int) -> tuple[np.ndarray, np.ndarray]:
    """Welch power spectral density of every channel.

    Parameters
    ----------
    traces : ndarray, shape (n_samples, n_channels)
        uV.
    fs : float
        Hz.
    n_window : int
        Samples in a Hann window (half overlapping); shortened to the traces.

    Returns
    -------
    frequencies : ndarray, shape (n_frequencies,)
        Hz.
    power : ndarray, shape (n_frequencies, n_channels)
        uV^2/Hz.
    """
    from scipy.signal import welch

    return welch(traces, fs=fs, window="hann", nperseg=min(n_window, len(traces)), axis=0)


def line_noise_db(
    frequencies: np.ndarray, power: np.ndarray, line_hz: float, n_harmonics: int
) -> np.ndarray:
    """Power of a mains line over its neighbourhood, the strongest of its harmonics.

    Parameters
    ----------
    frequencies : ndarray, shape (n_frequencies,)
        Hz, evenly spaced, a resolution of 2 Hz or better.
    power : ndarray, shape (n_frequencies, n_channels)
        Any unit.
    line_hz : float
        50 or 60.
    n_harmonics : int
        Harmonics to look at, the line itself being the first.

    Returns
    -------
    ndarray, shape (n_channels,)
        dB; 0 where the line does not stand out. NaN where the resolution is too coarse.
    """
    if len(frequencies) < 2 or frequencies[1] - frequencies[0] > 2.0:
        return np.full(power.shape[1], np.nan)
    levels = []
    for centre in line_hz * np.arange(1, n_harmonics + 1):
        distance = np.abs(frequencies - centre)
        line = distance <= LINE_HALF_WIDTH_HZ
        around = (distance >= NEIGHBOUR_HZ[0]) & (distance <= NEIGHBOUR_HZ[1])
        if line.any() and around.any() and centre < frequencies[-1]:
            background = power[around].mean(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                levels.append(10 * np.log10(power[line].mean(axis=0) / background))
    if not levels:
        return np.full(power.shape[1], np.nan)
    return np.max(levels, axis=0)
