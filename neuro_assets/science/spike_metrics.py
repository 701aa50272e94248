"""Metrics of one unit's spike times and amplitudes, as IBL defines them. Numbers in, numbers out.

Written from the published definitions: Roth et al. (sliding refractory period), International
Brain Laboratory, "Spike sorting pipeline for the IBL" (doi 10.6084/m9.figshare.19705522), and
checked against slidingRP 1.1.1. Tables and criteria are in `neuro_assets.science.unit_quality`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRID_HZ = 30_000
"""The sliding RP test counts intervals in bins of 1/30000 s, whatever the sampling frequency."""

MAX_RP_S = 0.010
MIN_RP_S = 0.0005
"""Refractory periods that are tested, seconds; the lower end is excluded."""

CLEAN_RP_S = 0.0015
"""Refractory period that every neuron is granted, seconds (brainbox.metrics.single_units)."""

MIN_VIOLATIONS = 2
"""Fewer short intervals prove no contamination: one may be a single spike that was found twice."""

CONTAMINATIONS = np.arange(0.5, 35, 0.5)
"""Contaminations that are tested, percent."""


@dataclass(frozen=True)
class SlidingRP:
    """Result of the sliding refractory period test.

    Parameters
    ----------
    max_confidence : float
        Confidence, percent, that contamination is at most the allowed one, at the refractory
        period that suits the unit best.
    min_contamination : float
        Least contamination, percent, of which one is 90 % confident; NaN where there is none.
    reachable_confidence : float
        What `max_confidence` is at least for a clean unit with as many spikes at that rate and a
        refractory period of `CLEAN_RP_S`. Where it is too low, the recording is too short (or the
        unit too silent) to tell a contaminated unit from a clean one.
    contamination_p : float
        Probability of at least as many intervals below `CLEAN_RP_S` as were seen, were the
        contamination the allowed one; 1 with fewer than `MIN_VIOLATIONS`, or without a rate.
    """

    max_confidence: float
    min_contamination: float
    reachable_confidence: float
    contamination_p: float


def short_intervals(ticks: np.ndarray, n_bins: int) -> np.ndarray:
    """Count pairs of spikes by their distance.

    Parameters
    ----------
    ticks : ndarray of int64, shape (n_spikes,)
        Spike times in units of one bin, sorted.
    n_bins : int
        Distances 1 .. n_bins - 1 are counted; distance 0 is the same spike counted twice.

    Returns
    -------
    ndarray of int64, shape (n_bins,)
        All pairs, not only neighbours. Entry 0 is 0.
    """
    counts = np.zeros(n_bins, dtype=np.int64)
    for shift in range(1, len(ticks)):
        distance = ticks[shift:] - ticks[:-shift]
        distance = distance[distance < n_bins]
        if distance.size == 0:
            break
        counts += np.bincount(distance, minlength=n_bins)
    counts[0] = 0
    return counts


def sliding_rp(
    samples: np.ndarray,
    sampling_frequency: float,
    contamination_percent: float = 10.0,
    confidence_percent: float = 90.0,
) -> SlidingRP:
    """Test whether a unit is contaminated without knowing its refractory period.

    For every refractory period between 0.5 and 10 ms, the violations seen are compared with a
    Poisson number of those that a contamination would cause; the period that gives the greatest
    confidence counts.

    Parameters
    ----------
    samples : ndarray of int64, shape (n_spikes,)
        Spike times in samples, sorted.
    sampling_frequency : float
        Hz.
    contamination_percent : float
        Allowed contamination.
    confidence_percent : float
        Confidence at which `min_contamination` is read.

    Returns
    -------
    SlidingRP
        NaN for all without spikes.
    """
    from scipy.stats import poisson

    n_spikes = len(samples)
    if n_spikes == 0:
        return SlidingRP(np.nan, np.nan, np.nan, np.nan)
    ticks = np.round(np.asarray(samples, dtype=np.float64) * (GRID_HZ / sampling_frequency))
    ticks = ticks.astype(np.int64)
    # The rate is that of the autocorrelogram between 1 and 2 s: what a spike's surroundings hold.
    later = np.searchsorted(ticks, ticks + 2 * GRID_HZ) - np.searchsorted(ticks, ticks + GRID_HZ)
    rate_hz = later.sum() / n_spikes
    n_bins = int(round(MAX_RP_S * GRID_HZ))
    violations = np.cumsum(short_intervals(ticks, n_bins))
    upper_s = (np.arange(n_bins) + 1) / GRID_HZ
    tested = (np.arange(n_bins) + 0.5) / GRID_HZ > MIN_RP_S
    expected = CONTAMINATIONS[:, np.newaxis] / 100 * rate_hz * upper_s[np.newaxis, :] * 2 * n_spikes
    confidence = 100 * poisson.sf(violations[np.newaxis, :], expected)[:, tested]
    allowed = int(np.flatnonzero(contamination_percent <= CONTAMINATIONS)[0])
    clean = round(CLEAN_RP_S * GRID_HZ) - 1
    # A unit that fires in bursts meets its contamination there: of both rates the higher.
    near = np.searchsorted(ticks, ticks + GRID_HZ // 5) - np.searchsorted(ticks, ticks + n_bins)
    near_hz = near.sum() / n_spikes / (0.2 - MAX_RP_S)
    likely = contamination_percent / 100 * max(rate_hz, near_hz) * upper_s[clean] * 2 * n_spikes
    testable = likely > 0 and violations[clean] >= MIN_VIOLATIONS
    sure = np.flatnonzero((confidence >= confidence_percent).any(axis=1))
    return SlidingRP(
        max_confidence=float(confidence[allowed].max()),
        min_contamination=float(CONTAMINATIONS[sure[0]]) if len(sure) else float("nan"),
        reachable_confidence=float(100 * poisson.sf(0, expected[allowed, clean])),
        contamination_p=float(poisson.sf(violations[clean] - 1, likely)) if testable else 1.0,
    )


def noise_cutoff(amplitudes: np.ndarray, quantile: float = 0.25, n_edges: int = 100) -> float:
    """Tell how far the low end of an amplitude distribution is above its high end.

    A distribution that is cut off by the detection threshold has many spikes in its lowest bins;
    one that is complete has as few there as in its upper tail.

    Parameters
    ----------
    amplitudes : ndarray, shape (n_spikes,)
        Positive, any unit.
    quantile : float
        The upper tail begins at twice this fraction of the filled bins above the peak.
    n_edges : int
        Edges of the histogram between 0 and the maximum.

    Returns
    -------
    float
        Second lowest filled bin minus the mean of the upper tail's bins, in standard deviations
        of those; NaN where it cannot be computed.
    """
    if len(amplitudes) < 2 or not np.max(amplitudes) > 0:
        return float("nan")
    counts, _ = np.histogram(amplitudes, bins=np.linspace(0, np.max(amplitudes), n_edges))
    peak = int(np.argmax(counts))
    filled_above = np.count_nonzero(counts[peak:-1])
    tail = counts[int(np.ceil(2 * quantile * filled_above + peak)) :]
    tail = tail[tail > 0]
    filled = counts[counts > 0]
    if len(tail) == 0 or len(filled) < 2 or np.std(tail) == 0:
        return float("nan")
    return float((filled[1] - np.mean(tail)) / np.std(tail))


def geometric_median(amplitudes: np.ndarray) -> float:
    """Median on a logarithmic scale, as IBL takes it of spike amplitudes.

    Parameters
    ----------
    amplitudes : ndarray, shape (n_spikes,)
        Positive values.

    Returns
    -------
    float
        In the unit of the amplitudes; NaN without a positive amplitude.
    """
    positive = amplitudes[amplitudes > 0]
    if len(positive) == 0:
        return float("nan")
    return float(np.exp(np.median(np.log(positive))))


def bulk_spread(amplitudes: np.ndarray) -> float:
    """Spread of a unit's amplitudes without the tails, in parts of their standard deviation.

    Both are of differences between following spikes, as in SpikeInterface's `sd_ratio`. One or two
    spikes on which another cell's lie can double the standard deviation of some fifty.

    Parameters
    ----------
    amplitudes : ndarray, shape (n_spikes,)
        In the order of the spikes, any unit.

    Returns
    -------
    float
        At most 1: the 90 % quantile of the differences as that of a normal distribution; 1 with
        fewer than 3 spikes.
    """
    steps = np.abs(np.diff(amplitudes))
    size = np.sqrt(np.mean(steps**2)) if len(steps) > 1 else 0.0
    return min(1.0, float(np.quantile(steps, 0.9) / 1.645 / size)) if size > 0 else 1.0


def in_periods(samples: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Say which samples lie in one of some periods.

    Parameters
    ----------
    samples : ndarray of int64, shape (n,)
        Sample indices.
    periods : ndarray of int64, shape (n_periods, 2)
        Sorted, separate periods: first sample, and one past the last one.

    Returns
    -------
    ndarray of bool, shape (n,)
        True inside.
    """
    if len(periods) == 0:
        return np.zeros(len(samples), dtype=bool)
    last_begun = np.searchsorted(periods[:, 0], samples, side="right") - 1
    return (last_begun >= 0) & (samples < periods[np.maximum(last_begun, 0), 1])


def valid_samples(samples: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Count samples as if masked periods had been cut out.

    Parameters
    ----------
    samples : ndarray of int64, shape (n,)
        Sample indices outside masked periods.
    masked : ndarray of int64, shape (n_periods, 2)
        Sorted, separate periods: first sample, and one past the last one.

    Returns
    -------
    ndarray of int64, shape (n,)
        How many valid samples precede each.
    """
    if len(masked) == 0:
        return np.asarray(samples, dtype=np.int64)
    removed = np.concatenate([[0], np.cumsum(masked[:, 1] - masked[:, 0])])
    return (
        np.asarray(samples, dtype=np.int64)
        - removed[np.searchsorted(masked[:, 1], samples, side="right")]
    )


def presence_ratio(samples: np.ndarray, n_samples: int, bin_samples: int) -> float:
    """Fraction of whole bins in which a unit has a spike.

    Parameters
    ----------
    samples : ndarray of int64, shape (n_spikes,)
        Spike times in samples of valid time.
    n_samples : int
        Samples of valid time.
    bin_samples : int
        Samples of a bin.

    Returns
    -------
    float
        0..1; NaN when there is no whole bin.
    """
    n_bins = n_samples // bin_samples
    if n_bins == 0:
        return float("nan")
    bins = np.unique(np.asarray(samples) // bin_samples)
    return float(np.count_nonzero(bins < n_bins) / n_bins)


def central_span(samples: np.ndarray, n_samples: int) -> float:
    """Part of the time in which the middle eight tenths of a unit's spikes lie.

    Parameters
    ----------
    samples : ndarray of int64, shape (n_spikes,)
        Spike times in samples of valid time.
    n_samples : int
        Samples of valid time.

    Returns
    -------
    float
        0.8 of a unit that fires evenly, much less of a piece of one that drift cut up; NaN with
        fewer than 10 spikes.
    """
    if len(samples) < 10:
        return float("nan")
    first, last = np.quantile(samples, (0.1, 0.9))
    return float((last - first) / n_samples)
