"""Band limiting and resampling of a recording as a stream, with zero phase and exact times.

Two linear-phase filters follow each other, and neither depends on where chunks begin:

1. A Kaiser-windowed sinc, evaluated at the *true* distance between each output time and each
   channel's sampling times. Low-pass, rational resampling, the delay of the multiplexed
   converter (`inter_sample_shift`) and the start of the LF band against the AP band are one and
   the same sum. It runs as matrix products over blocks of outputs.
2. A Gaussian high-pass: the signal minus its Gaussian average. A Gaussian does not ring, its
   support is short (5 sigma, 2.5 s for 0.5 Hz), and its weights are positive, so at the ends of
   a recording they are simply renormalised over the samples that exist.

Storing, labels and metrics are not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from neuro_assets.science.ordered import in_order

Floats = NDArray[np.float32]

GAUSS_SUPPORT = 5.0
"""Half length of the Gaussian in standard deviations: what is cut off is below 1e-6."""

STEP_LEFT = 0.01
"""What may be left of the high-pass's answer to a step where its edge is said to end: with as much
of the average missing, the LFP is wrong by at most twice of it, 2 % of the largest value."""

LEAST_SUPPORT = 0.25
"""Smallest part of the low-pass weights that must lie on existing samples, else 0 is written.
At the ends of a recording about one half does."""

PIECE_BYTES = 48 * 2**20
"""Size of one piece of input as float32: bounds the memory, whatever the recording's length."""


def rational_ratio(rate_in: float, rate_out: float, tolerance: float) -> tuple[int, int]:
    """Find the smallest integers whose ratio brings one rate near another.

    Parameters
    ----------
    rate_in, rate_out : float
        Hz.
    tolerance : float
        Largest relative difference allowed.

    Returns
    -------
    tuple of int
        `up, down`: the rate made is `rate_in * up / down`.

    Raises
    ------
    ValueError
        When no `up` below 1000 is good enough.
    """
    for up in range(1, 1000):
        down = round(up * rate_in / rate_out)
        if down >= 1 and abs(rate_in * up / down / rate_out - 1) <= tolerance:
            divisor = math.gcd(up, down)
            return up // divisor, down // divisor
    raise ValueError(f"no ratio of small integers leads from {rate_in} Hz to {rate_out} Hz")


def count_outputs(n_in: int, delay: float, up: int, down: int) -> int:
    """Count the outputs, the first at time 0, that lie before the last of `n_in` samples."""
    return max(0, math.floor((n_in - 1 + delay) * up / down + 1e-9) + 1)


@dataclass(frozen=True)
class Lowpass:
    """Kaiser-windowed sinc as a function of continuous time.

    Parameters
    ----------
    rate : float
        Rate of the input, Hz.
    pass_hz, stop_hz : float
        Edges of the transition, Hz.
    stopband_db : float
        Attenuation beyond `stop_hz`, dB.
    """

    rate: float
    pass_hz: float
    stop_hz: float
    stopband_db: float

    @property
    def half_length(self) -> float:
        """Half of the support, input samples (Kaiser's formula, as scipy.signal.kaiserord)."""
        width = (self.stop_hz - self.pass_hz) / (0.5 * self.rate)
        return 0.5 * (self.stopband_db - 7.95) / (2.285 * math.pi * width)

    def __call__(self, tau: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights at distances `tau` (input samples)."""
        cut = (self.pass_hz + self.stop_hz) / self.rate
        beta = signal.kaiser_beta(self.stopband_db)
        inside = 1 - (tau / self.half_length) ** 2
        window = np.where(inside >= 0, np.i0(beta * np.sqrt(np.maximum(inside, 0))), 0.0)
        return cut * np.sinc(cut * tau) * window / np.i0(beta)


class Resampler:
    """Low-pass and resample any range of outputs of a recording.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        One segment, any number type.
    lowpass : Lowpass
        The filter.
    up, down : int
        The output's rate is the recording's times `up / down`.
    shifts : ndarray
        Sampling time of each channel after the sample's nominal time, in samples of the input;
        shape (n_channels,).
    delay : float
        Time of the recording's first sample on the output's clock, in samples of the input; may
        be negative, down to one output.
    """

    def __init__(
        self,
        recording: Any,
        lowpass: Lowpass,
        up: int,
        down: int,
        shifts: NDArray[np.float64],
        delay: float = 0.0,
    ) -> None:
        self.recording = recording
        self.up, self.down = up, down
        self.n_in = int(recording.get_num_samples(0))
        self.n_channels = int(recording.get_num_channels())
        self.n_out = count_outputs(self.n_in, delay, up, down)
        self.whole_delay = math.floor(delay)
        self.margin = math.ceil(lowpass.half_length) + 2
        # About as many outputs in a block as one output has weights: half of each matrix is full.
        wanted = max(1, round(2 * lowpass.half_length / down))
        self.block = wanted * up
        self.block_in = wanted * down
        # Channels of one sampling time lie side by side while filtering: no copy for each time.
        rounded = np.round(shifts, 6)
        self._order = np.argsort(rounded, kind="stable")
        self._matrices = self._make_matrices(
            lowpass, rounded[self._order], delay - self.whole_delay
        )
        self.baseline = self._baseline()

    def _make_matrices(
        self, lowpass: Lowpass, shifts: NDArray[np.float64], fraction: float
    ) -> list[tuple[slice, Floats]]:
        wanted = np.arange(self.block) * self.down / self.up - fraction
        samples = np.arange(-self.margin, self.block_in + self.margin)
        matrices = []
        for shift in np.unique(shifts):
            weights = lowpass(wanted[:, None] - samples[None, :] - shift)
            weights /= weights.sum(axis=1, keepdims=True)
            first, last = np.searchsorted(shifts, [shift, shift + 5e-7])
            matrices.append((slice(int(first), int(last)), weights.astype(np.float32)))
        return matrices

    def _baseline(self) -> Floats:
        """Median of the first second: a constant taken off to keep float32 exact."""
        n = min(self.n_in, max(1, int(self.recording.get_sampling_frequency())))
        traces = self.recording.get_traces(start_frame=0, end_frame=n)
        traces = np.array(traces[:: max(1, n // 2000)], dtype=np.float64)
        traces[~np.isfinite(traces)] = np.nan
        empty = np.isnan(traces).all(axis=0)
        traces[:, empty] = 0.0
        return np.nanmedian(traces, axis=0).astype(np.float32)

    @property
    def piece(self) -> int:
        """Outputs in one piece of work."""
        per_block = self.block_in * self.n_channels * 4
        return self.block * max(1, PIECE_BYTES // per_block)

    def read(self, start: int, stop: int) -> tuple[Floats, int]:
        """Make outputs `start` (a multiple of `block`) to `stop`, baseline taken off.

        Returns
        -------
        ndarray
            Shape (stop - start, n_channels), in the recording's units.
        int
            Number of input values that were not finite in the piece proper, margins left out.
        """
        n_blocks = -(-(stop - start) // self.block)
        first = start // self.block * self.block_in - self.whole_delay - self.margin
        traces, weights = self._traces(first, n_blocks * self.block_in + 2 * self.margin)
        n_missing = 0
        if weights is not None and weights.shape[1] > 1:
            n_missing = int((weights[self.margin : -self.margin] < 0).sum())
            np.maximum(weights, 0, out=weights)
        ordered = np.empty((n_blocks * self.block, self.n_channels), dtype=np.float32)
        for chosen, matrix in self._matrices:
            values = self._apply(matrix, traces[:, chosen], n_blocks)
            if weights is not None:
                seen = weights if weights.shape[1] == 1 else weights[:, chosen]
                support = np.broadcast_to(self._apply(matrix, seen, n_blocks), values.shape)
                values = np.divide(
                    values, support, out=np.zeros_like(values), where=support > LEAST_SUPPORT
                )
            ordered[:, chosen] = values
        out = np.empty((stop - start, self.n_channels), dtype=np.float32)
        out[:, self._order] = ordered[: stop - start]
        return out, n_missing

    def _traces(self, first: int, length: int) -> tuple[Floats, Floats | None]:
        """Read samples, channels in filtering order.

        Returns
        -------
        traces : ndarray
            Zero where there is no sample, or none that is finite.
        weights : ndarray or None
            1 where there is a sample, 0 beyond the ends of the recording, -1 where a sample is
            not finite; one column when all channels are alike; None when all is there.
        """
        begin, end = max(0, first), min(self.n_in, first + length)
        traces = np.zeros((length, self.n_channels), dtype=np.float32)
        raw = self.recording.get_traces(start_frame=begin, end_frame=max(begin, end))
        here = slice(begin - first, max(begin, end) - first)
        np.subtract(
            raw[:, self._order], self.baseline[self._order], out=traces[here], casting="unsafe"
        )
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            missing = ~np.isfinite(traces)
            weights = np.where(missing, np.float32(-1), np.float32(1))
            weights[: here.start] = weights[here.stop :] = 0
            traces[missing] = 0.0
            return traces, weights
        if end - begin == length:
            return traces, None
        column = np.zeros((length, 1), dtype=np.float32)
        column[here] = 1
        return traces, column

    def _apply(self, matrix: Floats, traces: Floats, n_blocks: int) -> Floats:
        row, column = traces.strides
        blocks = np.lib.stride_tricks.as_strided(
            traces,
            shape=(n_blocks, matrix.shape[1], traces.shape[1]),
            strides=(self.block_in * row, row, column),
            writeable=False,
        )
        return np.matmul(matrix, blocks).reshape(n_blocks * self.block, -1)


class GaussianHighpass:
    """Signal minus its Gaussian average, renormalised at the ends of the recording.

    Parameters
    ----------
    rate : float
        Hz.
    cutoff_hz : float
        Where the amplitude is 1/sqrt(2), Hz.
    n_samples : int
        Length of the whole signal, samples.
    """

    def __init__(self, rate: float, cutoff_hz: float, n_samples: int) -> None:
        self.sigma_s = gaussian_sigma_s(cutoff_hz)
        self.margin = math.ceil(GAUSS_SUPPORT * self.sigma_s * rate)
        lag = np.arange(-self.margin, self.margin + 1) / (self.sigma_s * rate)
        kernel = np.exp(-0.5 * lag**2)
        self.kernel = kernel / kernel.sum()
        self._cumulated = np.concatenate([[0.0], np.cumsum(self.kernel)])
        self.n_samples = n_samples

    def __call__(self, padded: Floats, start: int, stop: int) -> Floats:
        """Filter outputs `start` to `stop`.

        Parameters
        ----------
        padded : ndarray
            Samples `start - margin` to `stop + margin`, zero where there are none; shape
            (stop - start + 2 margin, n_channels).
        start, stop : int
            Range in the whole signal.

        Returns
        -------
        ndarray
            Shape (stop - start, n_channels).
        """
        kernel = self.kernel.astype(np.float32)[:, None]
        slow = signal.fftconvolve(padded, kernel, mode="valid", axes=0)
        index = np.arange(start, stop)
        before = self.margin - np.minimum(index, self.margin)
        after = self.margin + np.minimum(self.n_samples - 1 - index, self.margin) + 1
        norm = self._cumulated[after] - self._cumulated[before]
        inner = padded[self.margin : self.margin + stop - start]
        return inner - slow / norm[:, None].astype(np.float32)


def gaussian_sigma_s(cutoff_hz: float) -> float:
    """Return the standard deviation (s) of the average whose complement is -3 dB there."""
    return math.sqrt(-math.log(1 - math.sqrt(0.5)) / 2) / (math.pi * cutoff_hz)


def step_reach_s(cutoff_hz: float) -> float:
    """Return how far (s) from a step the Gaussian high-pass's answer to it is above `STEP_LEFT`."""
    from scipy.special import ndtri

    return gaussian_sigma_s(cutoff_hz) * float(-ndtri(STEP_LEFT))


@dataclass
class Block:
    """One piece of the finished stream."""

    start: int
    traces: Floats
    n_missing: int


def resampled_pieces(resampler: Resampler, n_jobs: int) -> Iterator[tuple[Floats, int]]:
    """Yield the resampled signal piece by piece, in order, computed by a few threads."""
    step = resampler.piece
    ranges = [(k, min(k + step, resampler.n_out)) for k in range(0, resampler.n_out, step)]
    return in_order(resampler.read, ranges, n_jobs)


def stream(
    resampler: Resampler,
    chunk: int,
    highpass: GaussianHighpass | None,
    *,
    n_jobs: int = 1,
    report: Callable[[float], None] = lambda fraction: None,
) -> Iterator[Block]:
    """Yield the filtered signal in chunks of a fixed length.

    Parameters
    ----------
    resampler : Resampler
        Source of the resampled signal.
    chunk : int
        Samples in each block but the last.
    highpass : GaussianHighpass or None
        Applied across the whole signal; without it the baseline is put back.
    n_jobs : int
        Threads that read and resample.
    report : callable
        Called with the fraction done after every piece.

    Yields
    ------
    Block
        In order, in the recording's units.
    """
    margin = highpass.margin if highpass else 0
    n, ready, missing, emitted = resampler.n_out, 0, 0, 0
    # The buffer always begins `margin` samples before the next output; zeros stand for nothing.
    buffer = np.zeros((margin, resampler.n_channels), dtype=np.float32)
    for values, n_missing in resampled_pieces(resampler, n_jobs):
        buffer = np.concatenate([buffer, values])
        ready += len(values)
        missing += n_missing
        report(ready / n)
        if ready == n:
            buffer = np.concatenate([buffer, np.zeros((margin, buffer.shape[1]), np.float32)])
        while emitted < n and (ready == n or ready >= emitted + chunk + margin):
            stop = min(emitted + chunk, n)
            padded = buffer[: stop - emitted + 2 * margin]
            out = highpass(padded, emitted, stop) if highpass else padded + resampler.baseline
            yield Block(emitted, out, missing)
            buffer, emitted, missing = buffer[stop - emitted :], stop, 0
