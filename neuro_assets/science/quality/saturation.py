"""Saturated intervals, found on every raw sample, and the range that decides.

A sample is saturated where more than a fifth of the channels are near the end of the range, or
jump from one sample to the next, as in ibldsp.voltage.saturation. What is done about the
intervals (bridged, masked) is decided by the steps that read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.science.ordered import in_order

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

BLOCK_S = 1.0
"""Seconds read at a time: the length of a stored chunk, so that each is decoded once."""


@dataclass(frozen=True)
class Limits:
    """Limits in the recording's own numbers, per channel.

    Parameters
    ----------
    low, high : ndarray, shape (n_channels,)
        Samples below or above saturate.
    jump : ndarray, shape (n_channels,), or None
        Smallest difference of neighbouring samples that saturates.
    channels : float
        Fraction of channels that must be exceeded.
    range_uv : float
        Range that was used, uV (NaN without gains).
    """

    low: np.ndarray
    high: np.ndarray
    jump: np.ndarray | None
    channels: float
    range_uv: float


def limits_of(
    recording: BaseRecording, parameters: RecordingQualityParameters, *, slope: bool
) -> Limits:
    """Express the limits in the recording's own numbers.

    Parameters
    ----------
    recording : BaseRecording
        Raw neural channels with gains and offsets (uV).
    parameters : RecordingQualityParameters
        Fractions, and a range that overrides the probe's.
    slope : bool
        Look at jumps as well (spike band only: LFP is larger than its limit).

    Returns
    -------
    Limits
        From the given range, else the annotation `saturation_threshold_uV`, else the probe's
        annotations (`adc_range_vpp` and gain), else the range of an integer type.
    """
    gains = np.asarray(recording.get_channel_gains(), float)
    offsets = np.asarray(recording.get_channel_offsets(), float)
    range_uv = parameters.saturation_range_uv or _range_of(recording)
    edge = parameters.saturation_fraction_of_range * range_uv
    ends = np.stack([(-edge - offsets) / gains, (edge - offsets) / gains])
    jump = None
    if slope and parameters.saturation_slope_uv is not None:
        jump = parameters.saturation_slope_uv / np.abs(gains)
    low, high = ends.min(axis=0), ends.max(axis=0)
    return Limits(low, high, jump, parameters.saturation_channels, float(range_uv))


def _range_of(recording: BaseRecording) -> float:
    """Range of the amplifier, uV: half of what it takes from peak to peak."""
    known = recording.get_annotation("saturation_threshold_uV")
    if known:
        return float(known)
    gains = np.abs(np.asarray(recording.get_channel_gains(), float))
    if recording.has_probe():
        annotations = recording.get_probegroup().probes[0].annotations
        vpp, gain = annotations.get("adc_range_vpp"), annotations.get("ap_gain")
        if vpp and gain:
            return float(vpp) / 2 / float(gain) * 1e6
    dtype = np.dtype(recording.get_dtype())
    return float(np.iinfo(dtype).max * gains.max()) if dtype.kind in "iu" else float("inf")


@dataclass(frozen=True)
class _Block:
    """What one block says: two flags a sample, and its rows at both ends."""

    clipped: np.ndarray
    jumping: np.ndarray
    first: np.ndarray
    last: np.ndarray


def flag_block(traces: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Flag the saturated samples of a block.

    Parameters
    ----------
    traces : ndarray, shape (n_samples, n_channels)
        Raw numbers.
    limits : Limits
        In the same numbers.

    Returns
    -------
    clipped, jumping : ndarray of bool, shape (n_samples,)
        More than the fraction of channels are beyond the range, or jump to the next sample. The
        last sample never jumps here: its successor is not in the block.
    """
    n_samples, n_channels = traces.shape
    clipped, jumping = np.zeros(n_samples, bool), np.zeros(n_samples, bool)
    lowest, highest = traces.min(axis=0), traces.max(axis=0)
    # Most blocks are settled by their extremes: a sample needs a fifth of the channels.
    if np.mean((lowest < limits.low) | (highest > limits.high)) > limits.channels:
        beyond = (traces < limits.low) | (traces > limits.high)
        clipped = np.count_nonzero(beyond, axis=1) > limits.channels * n_channels
    if limits.jump is None or n_samples < 2:
        return clipped, jumping
    spans = highest.astype(np.float64) - lowest
    able = np.flatnonzero(spans >= limits.jump)
    if len(able) > limits.channels * n_channels:
        count = _jumps(traces, able, limits)
        jumping[:-1] = count > limits.channels * n_channels
    return clipped, jumping


def _jumps(traces: np.ndarray, columns: np.ndarray, limits: Limits) -> np.ndarray:
    """Count the channels that jump after each sample."""
    assert limits.jump is not None
    wide = np.int32 if traces.dtype.kind in "iu" and traces.dtype.itemsize <= 2 else np.float64
    count = np.zeros(len(traces) - 1, np.int32)
    for column in columns:
        values = traces[:, column].astype(wide)
        count += np.abs(np.diff(values)) >= limits.jump[column]
    return count


def find_saturation(
    recording: BaseRecording,
    limits: Limits,
    *,
    gap_samples: int,
    n_jobs: int,
    watch: Callable[[float], None],
) -> tuple[pd.DataFrame, int]:
    """Look at every raw sample of a recording.

    Parameters
    ----------
    recording : BaseRecording
        Raw neural channels, one segment.
    limits : Limits
        From `limits_of`.
    gap_samples : int
        Pauses up to this length do not end an interval.
    n_jobs : int
        Threads that read and compare.
    watch : callable
        Told the fraction done.

    Returns
    -------
    intervals : DataFrame
        `start_sample`, `stop_sample` (one past the last), `duration_s`, `n_saturated` (flagged
        samples), `clipped`, `jumping` (which criterion was met).
    n_saturated : int
        Samples flagged in the whole recording.
    """
    n_samples = int(recording.get_num_samples())
    length = max(1, round(BLOCK_S * recording.sampling_frequency))

    def look(start: int) -> tuple[int, _Block]:
        traces = recording.get_traces(start_frame=start, end_frame=min(start + length, n_samples))
        clipped, jumping = flag_block(traces, limits)
        return start, _Block(clipped, jumping, traces[0].copy(), traces[-1].copy())

    clipped, jumping = np.zeros(n_samples, bool), np.zeros(n_samples, bool)
    previous: np.ndarray | None = None
    for start, block in in_order(look, ((s,) for s in range(0, n_samples, length)), n_jobs):
        stop = start + len(block.clipped)
        clipped[start:stop], jumping[start:stop] = block.clipped, block.jumping
        if previous is not None:
            jumping[start - 1] = flag_block(np.stack([previous, block.first]), limits)[1][0]
        previous = block.last
        watch(stop / n_samples)
    bounds = timeline_of(recording).bounds
    jumping[bounds - 1] = False  # what lies between two samples on either side of a gap is unknown
    table = _intervals(clipped, jumping, gap_samples, recording.sampling_frequency, bounds)
    return table, int(np.count_nonzero(clipped | jumping))


def _intervals(
    clipped: np.ndarray, jumping: np.ndarray, gap_samples: int, fs: float, bounds: np.ndarray
) -> pd.DataFrame:
    """Join flagged samples to intervals, none of them across a gap in time."""
    flagged = np.flatnonzero(clipped | jumping)
    pieces = np.searchsorted(bounds, flagged, "right")
    apart = np.diff(flagged, prepend=flagged[:1]) > gap_samples + 1
    apart |= np.diff(pieces, prepend=pieces[:1]) > 0
    samples = pd.DataFrame(
        {"sample": flagged, "clipped": clipped[flagged], "jumping": jumping[flagged]}
    )
    table = samples.groupby(np.cumsum(apart)).agg(
        start_sample=("sample", "min"),
        stop_sample=("sample", "max"),
        n_saturated=("sample", "size"),
        clipped=("clipped", "any"),
        jumping=("jumping", "any"),
    )
    table["stop_sample"] += 1
    table.insert(2, "duration_s", (table["stop_sample"] - table["start_sample"]) / fs)
    return table.reset_index(drop=True)
