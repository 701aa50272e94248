"""Numbers and the picture that tell whether an LFP is usable.

They are computed from the stored LFP, so that they describe what a reader gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import signal

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.science.drawings import field_picture
from neuro_assets.science.result import Picture

SEGMENT_S = 2.0
N_SEGMENTS = 20
LINE_HALF_WIDTH_HZ = 1.0
LINE_NEIGHBOUR_HZ = (2.0, 6.0)


def channel_spectra(recording: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power spectral density of each channel, averaged over parts spread over the recording.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        The LFP.

    Returns
    -------
    frequencies : ndarray
        Hz, shape (n_frequencies,).
    power : ndarray
        uV^2/Hz (or squared units of the converter where gains are unknown), shape
        (n_frequencies, n_channels); NaN below eight samples.
    """
    rate, n = recording.get_sampling_frequency(), recording.get_num_samples(0)
    timeline = timeline_of(recording)
    length = min(timeline.longest(n), round(SEGMENT_S * rate))
    if length < 8:
        return np.zeros(1), np.full((1, recording.get_num_channels()), np.nan)
    wanted = np.linspace(0, n - length, N_SEGMENTS).astype(int)
    starts = np.unique([timeline.inside(int(start), length, n) for start in wanted])
    total = 0.0
    for start in starts:
        traces = read_scaled(recording, int(start), int(start) + length)
        frequencies, power = signal.welch(
            traces, rate, nperseg=min(length, round(rate)), axis=0, detrend="constant"
        )
        total = total + power
    return frequencies, np.asarray(total / len(starts))


def read_scaled(recording: Any, start: int, stop: int) -> NDArray[np.float32]:
    """Traces in microvolts, or as they are where gains are unknown."""
    scaled = recording.has_scaleable_traces()
    return np.asarray(
        recording.get_traces(start_frame=start, end_frame=stop, return_in_uV=scaled), np.float32
    )


def line_noise_ratio(
    frequencies: NDArray[np.float64], power: NDArray[np.float64], lines_hz: tuple[float, ...]
) -> NDArray[np.float64]:
    """Power density at the mains frequency over that beside it; the worst of several mains.

    Parameters
    ----------
    frequencies : ndarray
        Hz.
    power : ndarray
        Shape (n_frequencies, n_channels).
    lines_hz : tuple of float
        Mains frequencies, Hz.

    Returns
    -------
    ndarray
        1 without line noise, NaN where there is no power or no resolution; shape (n_channels,).
    """
    ratios = [np.full(power.shape[1], np.nan)]
    for line in lines_hz:
        distance = np.abs(frequencies - line)
        at = distance <= LINE_HALF_WIDTH_HZ
        beside = (distance >= LINE_NEIGHBOUR_HZ[0]) & (distance <= LINE_NEIGHBOUR_HZ[1])
        if at.any() and beside.any():
            floor = np.median(power[beside], axis=0)
            peak = power[at].max(axis=0)
            ratios.append(np.divide(peak, floor, out=np.full_like(peak, np.nan), where=floor > 0))
    return np.fmax.reduce(ratios)


def band_table(frequencies: NDArray[np.float64], power: NDArray[np.float64]) -> pd.DataFrame:
    """Median spectrum over the given channels, one row a frequency."""
    return pd.DataFrame(
        {
            "frequency_hz": frequencies.astype(np.float64),
            "power_median": np.median(power, axis=1) if power.shape[1] else np.nan,
        }
    )


def picture(
    recording: Any,
    channels: pd.DataFrame,
    frequencies: NDArray[np.float64],
    power: NDArray[Any],
    limits_uv: Mapping[str, float],
) -> Picture:
    """Draw one second in the middle of the LFP, its spectrum and its size, over depth.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        The LFP.
    channels : DataFrame
        With `shank`, `y_um` and `rms_uv`.
    frequencies, power : ndarray
        As `channel_spectra`.
    limits_uv : mapping of str to float
        Limits of the median RMS, uV, by the verdict beyond them.

    Returns
    -------
    Picture
        Of `drawings.field_picture`.
    """
    rate, n = recording.get_sampling_frequency(), recording.get_num_samples(0)
    timeline = timeline_of(recording)
    length = min(timeline.longest(n), round(rate))
    start = timeline.inside((n - length) // 2, length, n)
    traces = read_scaled(recording, start, start + length)
    begin = float(timeline.seconds(start, rate))
    return field_picture(traces, begin, rate, channels, frequencies, power, limits_uv)
