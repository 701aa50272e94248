"""Recordings with gaps in time: filtered piece by piece, levelled, motion put on their clock.

What gaps are is in `neuro_assets.formats.timeline`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, append_recordings, concatenate_recordings
from spikeinterface.preprocessing.basepreprocessor import BasePreprocessor, BasePreprocessorSegment

from neuro_assets.formats.timeline import Timeline, timeline_of


def per_piece(recording: BaseRecording, make: Callable[..., Any], **options: Any) -> Any:
    """Apply a filter of SpikeInterface to each piece of a recording by itself.

    Parameters
    ----------
    recording : BaseRecording
        One segment, with or without gaps.
    make : callable
        `highpass_filter` or one like it.
    **options
        Its arguments.

    Returns
    -------
    BaseRecording
        One segment, samples where they were; without gaps just `make(recording, **options)`.
    """
    timeline = timeline_of(recording)
    if not timeline.has_gaps:
        return make(recording, **options)
    spans = timeline.spans(recording.get_num_samples())
    pieces = append_recordings([recording.frame_slice(start, stop) for start, stop in spans])
    # Mirrored at their ends: a piece may be shorter than the filter.
    return concatenate_recordings([make(pieces, add_reflect_padding=True, **options)])


class LevelledPiecesRecording(BasePreprocessor):
    """Shifts each piece so that it begins at the level where the one before it ends.

    Where time jumps, so does the level of every channel, and a step rings in any filter that does
    not know of the gap (a sorter's own, or the phase shift). To a high-pass a constant is nothing.

    Parameters
    ----------
    recording : BaseRecording
        Raw traces with gaps, one segment.
    edge_samples : int
        Samples whose mean is the level at an end of a piece.
    """

    def __init__(self, recording: BaseRecording, edge_samples: int) -> None:
        super().__init__(recording)
        segment, timeline = recording.segments[0], timeline_of(recording)
        steps = [
            _level(segment, first, min(first + edge_samples, last))
            - _level(segment, max(first - edge_samples, before), first)
            for (before, _), (first, last) in pairwise(timeline.spans(segment.get_num_samples()))
        ]
        offsets = np.cumsum([np.zeros(recording.get_num_channels()), *steps], axis=0)
        starts = np.asarray(timeline.starts)
        self.add_recording_segment(_LevelledPiecesSegment(segment, starts, offsets))
        self._kwargs = {"recording": recording, "edge_samples": int(edge_samples)}


def _level(segment: Any, start: int, stop: int) -> np.ndarray:
    return np.asarray(segment.get_traces(start, stop, slice(None)).mean(axis=0))


class _LevelledPiecesSegment(BasePreprocessorSegment):
    def __init__(self, parent: Any, starts: np.ndarray, offsets: np.ndarray) -> None:
        super().__init__(parent)
        self.starts, self.offsets = starts, offsets

    def get_traces(
        self, start_frame: int, end_frame: int, channel_indices: Any = None
    ) -> np.ndarray:
        """Traces of a range, each piece at its level."""
        traces = self.parent_recording_segment.get_traces(start_frame, end_frame, channel_indices)
        first, last = (
            np.searchsorted(self.starts, [start_frame, max(start_frame, end_frame - 1)], "right")
            - 1
        )
        if last == 0:
            return traces
        columns = slice(None) if channel_indices is None else channel_indices
        values = traces.astype(np.float64 if traces.dtype.itemsize > 4 else np.float32)
        for piece in range(first, last + 1):
            begin = max(self.starts[piece], start_frame) - start_frame
            values[begin:] -= self.offsets[piece][columns] - (
                self.offsets[piece - 1][columns] if piece > first else 0
            )
        if not np.issubdtype(traces.dtype, np.integer):
            return values.astype(traces.dtype)
        limits = np.iinfo(traces.dtype)
        return np.clip(np.round(values), limits.min, limits.max).astype(traces.dtype)


def retimed(motion: Any, timeline: Timeline, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Put a motion estimate on another clock.

    Parameters
    ----------
    motion : spikeinterface.core.motion.Motion
        One segment.
    timeline : Timeline
        Of the recording; without gaps both clocks are the same.
    change : callable
        Turns times of bins (s) into those on the other clock.

    Returns
    -------
    Motion
        A new one, or `motion` itself without gaps.
    """
    if not timeline.has_gaps:
        return motion
    return type(motion)(
        motion.displacement,
        [change(times) for times in motion.temporal_bins_s],
        motion.spatial_bins_um,
        direction=motion.direction,
        interpolation_method=motion.interpolation_method,
    )
