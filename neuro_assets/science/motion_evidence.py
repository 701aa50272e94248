"""How far a motion estimate can be believed, and what takes the place of what cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseRecording
from spikeinterface.core.motion import Motion

from neuro_assets.parameters.motion import MotionParameters


def window_evidence(
    recording: BaseRecording,
    peaks: np.ndarray,
    locations: np.ndarray,
    motion: Motion,
    options: dict[str, Any],
    parameters: MotionParameters,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Say how far each depth window, and each of its time bins, can be believed.

    The motion is estimated again from either half of the peaks (every second one). What two
    halves of the evidence say apart is not motion of the tissue; half of their difference is the
    error of the whole, whose variance is half of theirs. DREDge solves for the displacements by
    least squares from what each pair of bins says; where other cells fire than in most bins, some
    pairs are far wrong and pull a bin away. Of such a bin most pairs disagree with the solution.

    Parameters
    ----------
    recording : BaseRecording
        Filtered traces.
    peaks, locations : ndarray, shape (n_peaks,)
        Of SpikeInterface, in time order.
    motion : Motion
        The estimate from all of them.
    options : dict
        Of the estimate.
    parameters : MotionParameters
        Limits.

    Returns
    -------
    windows : DataFrame
        One row a window: `depth_um`, `peaks_per_bin` (median over time, within half a window's
        width), `error_um` (RMS over time; NaN where no half could be estimated), `confident`.
    bin_error : ndarray, shape (n_bins, n_windows)
        um; half the difference of the halves, or the median disagreement with the pairs where
        that is larger (only DREDge has pairs).
    """
    from spikeinterface.sortingcomponents.motion import estimate_motion as estimate

    times, depths = motion.temporal_bins_s[0], motion.spatial_bins_um
    halves = []
    for first in (0, 1):
        half = estimate(recording, peaks[first::2], locations[first::2], **options)
        place = np.interp(times, half.temporal_bins_s[0], np.arange(len(half.temporal_bins_s[0])))
        moved = half.displacement[0][np.round(place).astype(int)]
        halves.append(moved - np.median(moved, axis=0))
    apart = np.abs(halves[0] - halves[1]) / 2
    error = np.sqrt(np.mean(apart**2, axis=0))
    _, extra = estimate(recording, peaks, locations, **options, extra_outputs=True)
    if "D" in extra:
        apart = np.maximum(apart, pair_residual(motion.displacement[0], extra["D"], extra["S"]))
    reach = options.get("win_scale_um", np.inf) / 2
    bins = np.searchsorted(
        times[1:] - parameters.bin_s / 2, peaks["sample_index"] / recording.sampling_frequency
    )
    counts = [
        np.bincount(bins[np.abs(locations["y"] - depth) <= reach], minlength=len(times))
        for depth in depths
    ]
    table = pd.DataFrame(
        {
            "depth_um": depths.astype(float),
            "peaks_per_bin": np.median(counts, axis=1).astype(float),
            "error_um": error.astype(float),
        }
    )
    table["confident"] = (
        (table["error_um"] <= parameters.max_error_um)
        & (table["peaks_per_bin"] >= parameters.min_peaks_per_bin)
        & (np.median(apart, axis=0) <= parameters.max_bin_error_um)
    )
    return table, apart


def pair_residual(displacement: np.ndarray, pairs: Any, weights: Any) -> np.ndarray:
    """Measure how far each time bin is from what the other bins say of it.

    Parameters
    ----------
    displacement : ndarray, shape (n_bins, n_windows)
        The solution, um.
    pairs : ndarray, shape (n_windows, n_bins, n_bins)
        Displacement of the first bin against the second, from these two only, um.
    weights : ndarray, shape (n_windows, n_bins, n_bins)
        0 where two bins were not compared, as beyond DREDge's `time_horizon_s`.

    Returns
    -------
    ndarray, shape (n_bins, n_windows)
        Median over the bins that it was compared with, um; infinite without any.
    """
    residual = np.full(displacement.shape, np.inf)
    for bin_, window in np.ndindex(displacement.shape):
        used = np.asarray(weights[window][bin_]) > 0
        used[bin_] = False
        if used.any():
            expected = displacement[bin_, window] - displacement[used, window]
            away = np.asarray(pairs[window][bin_])[used] - expected
            residual[bin_, window] = np.median(np.abs(away))
    return residual


def without_bins(displacement: np.ndarray, confident: np.ndarray) -> np.ndarray:
    """Replace bins without evidence by what the bins around them say.

    Parameters
    ----------
    displacement : ndarray, shape (n_bins, n_windows)
        Micrometres.
    confident : ndarray of bool, shape (n_bins, n_windows)
        Which have evidence.

    Returns
    -------
    ndarray
        Interpolated over time; a window without any evidence is as it was.
    """
    bridged, bins = displacement.copy(), np.arange(len(displacement))
    for window in np.flatnonzero(confident.any(axis=0)):
        sure = confident[:, window]
        bridged[:, window] = np.interp(bins, bins[sure], displacement[sure, window])
    return bridged


def supported(displacement: np.ndarray, depths: np.ndarray, confident: np.ndarray) -> np.ndarray:
    """Replace windows without evidence by what the nearest ones with evidence say.

    Parameters
    ----------
    displacement : ndarray, shape (n_bins, n_windows)
        Micrometres.
    depths : ndarray, shape (n_windows,)
        Ascending, micrometres.
    confident : ndarray of bool, shape (n_windows,)
        Which have evidence.

    Returns
    -------
    ndarray
        Interpolated over depth; 0 where no window has evidence.
    """
    if not confident.any():
        return np.zeros_like(displacement)
    rows = [np.interp(depths, depths[confident], row[confident]) for row in displacement]
    return np.asarray(rows, dtype=displacement.dtype)
