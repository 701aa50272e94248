"""Seeded randomness for the simulation: one independent stream per purpose, and even draws.

A stream of its own per purpose keeps one part's draws from moving another's.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Random generator of one purpose.

    Parameters
    ----------
    seed : int
        Seed of the session.
    purpose : str
        What it is for.
    index : int
        Which probe, gate, ... it is for.

    Returns
    -------
    numpy.random.Generator
        The same for the same arguments, on every machine.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def rows(table: pd.DataFrame) -> list[Any]:
    """Rows of a table as named tuples; their fields have no static type.

    Parameters
    ----------
    table : DataFrame
        Any table.

    Returns
    -------
    list
        Named tuples.
    """
    return list(table.itertuples())


def even_quantiles(rng: np.random.Generator, n: int) -> FloatArray:
    """Probabilities that fill (0, 1) evenly, one in each of n equal strata, in random order.

    Few units then still have the distribution's median and spread, on any seed.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n : int
        How many.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    return (rng.permutation(n) + rng.uniform(0.25, 0.75, n)) / max(n, 1)


def split_lognormal(quantile: FloatArray, low: float, median: float, high: float) -> FloatArray:
    """Log-normal values with separate spreads below and above the median.

    Parameters
    ----------
    quantile : ndarray
        Probabilities.
    low, median, high : float
        Values at 16 %, 50 % and 84 %.

    Returns
    -------
    ndarray
        Values, shaped as `quantile`.
    """
    from scipy.stats import norm

    z = norm.ppf(quantile) / norm.ppf(0.84)
    spread = np.where(z < 0, np.log(median / low), np.log(high / median))
    return median * np.exp(z * spread)


def spread_events(
    rng: np.random.Generator,
    n: int,
    allowed: list[tuple[float, float]],
    separation_s: float,
    taken: FloatArray | None = None,
) -> FloatArray:
    """Random event times inside allowed intervals, never closer than a separation.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n : int
        How many are wanted; fewer come back when they do not fit.
    allowed : list of tuple
        (start, stop) of intervals, s.
    separation_s : float
        Least distance between any two, s.
    taken : ndarray, optional
        Times to keep away from as well, s.

    Returns
    -------
    ndarray
        Sorted times, s.
    """
    spans = [(a, b) for a, b in allowed if b > a]
    if not spans or n <= 0:
        return np.zeros(0)
    lengths = np.array([b - a for a, b in spans])
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    chosen: list[float] = []
    others = np.zeros(0) if taken is None else np.asarray(taken, dtype=float)
    for _ in range(200 * n):
        if len(chosen) == n:
            break
        place = rng.uniform(0, edges[-1])
        span = min(int(np.searchsorted(edges, place, side="right")) - 1, len(spans) - 1)
        time = spans[span][0] + place - edges[span]
        near = np.concatenate([others, chosen])
        if near.size and np.min(np.abs(near - time)) < separation_s:
            continue
        chosen.append(time)
    return np.sort(np.array(chosen, dtype=float))


def without(
    intervals: list[tuple[float, float]], holes: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Intervals less what holes cover.

    Parameters
    ----------
    intervals, holes : list of tuple
        (start, stop).

    Returns
    -------
    list of tuple
        What is left, in order.
    """
    left = sorted(intervals)
    for low, high in sorted(holes):
        pieces = []
        for start, stop in left:
            if high <= start or low >= stop:
                pieces.append((start, stop))
                continue
            pieces += [(a, b) for a, b in ((start, low), (high, stop)) if b > a]
        left = pieces
    return left


def overlap(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Parts that two lists of intervals share.

    Parameters
    ----------
    first, second : list of tuple
        (start, stop).

    Returns
    -------
    list of tuple
        Shared parts, in order.
    """
    shared = [(max(a, c), min(b, d)) for a, b in first for c, d in second]
    return sorted((a, b) for a, b in shared if b > a)
