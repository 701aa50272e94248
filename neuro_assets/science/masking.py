"""Saturated periods: which samples they are, and how traces get over them.

Finding saturation is not done here; it is part of the recording's quality.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseRecording
from spikeinterface.preprocessing.basepreprocessor import BasePreprocessor, BasePreprocessorSegment


class BridgedPeriodsRecording(BasePreprocessor):
    """Replaces periods by a straight line between what is before and after, channel by channel.

    Zeros would leave a step wherever a channel has an offset or a slow wave, and a step rings in
    the high-pass that follows: sorters find spikes in that. A bridge has no step. Sample indices
    stay what they are.

    Parameters
    ----------
    recording : BaseRecording
        Raw traces, one segment.
    starts, stops : list of int
        First samples of the periods, and samples one past their ends; sorted, not overlapping.
    edge_samples : int
        Samples whose mean is the end point of the bridge, on either side.
    """

    def __init__(
        self, recording: BaseRecording, starts: list[int], stops: list[int], edge_samples: int
    ) -> None:
        super().__init__(recording)
        segment = recording.segments[0]
        n_samples = segment.get_num_samples()
        levels = [
            _edge_levels(segment, start, stop, edge_samples, n_samples)
            for start, stop in zip(starts, stops, strict=True)
        ]
        self.add_recording_segment(
            _BridgedPeriodsSegment(segment, np.asarray(starts), np.asarray(stops), levels)
        )
        self._kwargs = {
            "recording": recording,
            "starts": [int(start) for start in starts],
            "stops": [int(stop) for stop in stops],
            "edge_samples": int(edge_samples),
        }


class _BridgedPeriodsSegment(BasePreprocessorSegment):
    def __init__(
        self, parent: Any, starts: np.ndarray, stops: np.ndarray, levels: list[np.ndarray]
    ) -> None:
        super().__init__(parent)
        self.starts, self.stops, self.levels = starts, stops, levels

    def get_traces(
        self, start_frame: int, end_frame: int, channel_indices: Any = None
    ) -> np.ndarray:
        """Traces of a range, bridged where periods touch it."""
        traces = self.parent_recording_segment.get_traces(start_frame, end_frame, channel_indices)
        touched = np.flatnonzero((self.starts < end_frame) & (self.stops > start_frame))
        if touched.size == 0:
            return traces
        traces = traces.copy()
        columns = slice(None) if channel_indices is None else channel_indices
        for i in touched:
            first = max(self.starts[i], start_frame)
            last = min(self.stops[i], end_frame)
            before, after = self.levels[i][:, columns]
            where = (np.arange(first, last) - self.starts[i] + 1) / (
                self.stops[i] - self.starts[i] + 1
            )
            bridge = before + where[:, np.newaxis] * (after - before)
            if np.issubdtype(traces.dtype, np.integer):
                bridge = np.round(bridge)
            traces[first - start_frame : last - start_frame] = bridge.astype(traces.dtype)
        return traces


def _edge_levels(
    segment: Any, start: int, stop: int, edge_samples: int, n_samples: int
) -> np.ndarray:
    """Mean of every channel before and after a period, shape (2, n_channels)."""
    levels = [
        segment.get_traces(first, last, slice(None)).mean(axis=0) if last > first else None
        for first, last in (
            (max(0, start - edge_samples), start),
            (stop, min(n_samples, stop + edge_samples)),
        )
    ]
    before, after = levels
    known = before if before is not None else after
    if known is None:
        known = np.zeros(segment.get_traces(0, 1, slice(None)).shape[1])
    return np.stack([known if before is None else before, known if after is None else after])


def masked_periods(
    saturation: pd.DataFrame | None,
    n_samples: int,
    pad_samples: int,
    gaps: np.ndarray | tuple[int, ...] = (),
) -> np.ndarray:
    """Merge saturated periods and the surroundings of gaps into sorted, separate periods.

    Parameters
    ----------
    saturation : DataFrame or None
        Columns `start_sample` and `stop_sample` (one past the end).
    n_samples : int
        Samples of the recording; periods are cut to it.
    pad_samples : int
        Added to both ends.
    gaps : array of int
        First sample after each gap.

    Returns
    -------
    ndarray of int64, shape (n_periods, 2)
        First sample, and one past the last one.
    """
    periods = np.repeat(np.asarray(gaps, dtype=np.int64)[:, np.newaxis], 2, axis=1)
    if saturation is not None:
        saturated = saturation[["start_sample", "stop_sample"]].to_numpy(dtype=np.int64)
        periods = np.concatenate([saturated, periods])
    periods = periods[np.argsort(periods[:, 0])] + np.array([-pad_samples, pad_samples])
    periods = np.clip(periods, 0, n_samples)
    merged: list[list[int]] = []
    for start, stop in periods[periods[:, 1] > periods[:, 0]]:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], int(stop))
        else:
            merged.append([int(start), int(stop)])
    return np.asarray(merged, dtype=np.int64).reshape(-1, 2)


def masked_table(masked: np.ndarray, saturation: pd.DataFrame | None) -> pd.DataFrame:
    """Say of each masked period why it is masked.

    Parameters
    ----------
    masked : ndarray of int64, shape (n_periods, 2)
        As `masked_periods` gives them.
    saturation : DataFrame or None
        The saturated periods that went into them.

    Returns
    -------
    DataFrame
        `start_sample`, `stop_sample`, and `reason`: `saturation`, or `edge of a gap`.
    """
    table = pd.DataFrame(masked, columns=["start_sample", "stop_sample"], dtype=np.int64)
    starts = np.zeros(0) if saturation is None else np.sort(saturation["start_sample"].to_numpy())
    first, last = (np.searchsorted(starts, masked[:, side]) for side in (0, 1))
    table["reason"] = np.where(last > first, "saturation", "edge of a gap")
    return table
