"""Traces of an NWB file, written piece by piece from a SpikeInterface recording.

Only ElectricalSeries are made here; where they go in the file is decided in `nwb`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hdmf.data_utils import GenericDataChunkIterator
from numpy.typing import NDArray

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.science.result import Progress

MAX_CHUNK_CHANNELS = 64
TIMES_PER_CHUNK = 1 << 18


class TraceIterator(GenericDataChunkIterator):
    """Reads a recording in pieces of whole chunks.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        One segment.
    microvolts : bool
        Whether float32 microvolts are read instead of the stored numbers.
    chunk_mb, buffer_mb : float
        Sizes, MB.
    report : callable, optional
        Called with the fraction done.
    """

    def __init__(
        self,
        recording: Any,
        *,
        microvolts: bool,
        chunk_mb: float,
        buffer_mb: float,
        report: Callable[[float], None] | None = None,
    ) -> None:
        self.recording, self.microvolts, self.report = recording, microvolts, report
        shape, item = self._get_maxshape(), self._get_dtype().itemsize
        channels = min(shape[1], MAX_CHUNK_CHANNELS)
        samples = int(np.clip(chunk_mb * 1e6 // (channels * item), 1, shape[0]))
        rows = max(1, int(buffer_mb * 1e6 // (samples * shape[1] * item)))
        super().__init__(
            chunk_shape=(samples, channels),
            buffer_shape=(min(shape[0], rows * samples), shape[1]),
            display_progress=False,
        )

    def _get_data(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        samples, channels = selection
        if self.report is not None:
            self.report(samples.stop / self._get_maxshape()[0])
        traces = self.recording.get_traces(
            start_frame=samples.start, end_frame=samples.stop, return_in_uV=self.microvolts
        )
        return np.asarray(traces[:, channels], dtype=self._get_dtype())

    def _get_maxshape(self) -> tuple[int, int]:
        return self.recording.get_num_samples(0), self.recording.get_num_channels()

    def _get_dtype(self) -> np.dtype[Any]:
        return np.dtype("float32") if self.microvolts else np.dtype(self.recording.get_dtype())


class TimeIterator(GenericDataChunkIterator):
    """Times of a recording with gaps, s on the clock `probe`, in pieces."""

    def __init__(self, recording: Any) -> None:
        self.timeline, self.rate = timeline_of(recording), recording.get_sampling_frequency()
        self.n_samples = int(recording.get_num_samples(0))
        chunk = min(self.n_samples, TIMES_PER_CHUNK)
        super().__init__(chunk_shape=(chunk,), buffer_shape=(chunk,), display_progress=False)

    def _get_data(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        samples = np.arange(selection[0].start, selection[0].stop)
        return self.timeline.seconds(samples, self.rate)

    def _get_maxshape(self) -> tuple[int]:
        return (self.n_samples,)

    def _get_dtype(self) -> np.dtype[Any]:
        return np.dtype("float64")


def scaling(recording: Any) -> tuple[bool, float, NDArray[np.float64] | None, float]:
    """Say how stored numbers become volts.

    NWB computes `data * conversion * channel_conversion + offset` with one offset for all
    channels: where offsets differ, microvolts are written instead of the stored numbers.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        With gains and offsets.

    Returns
    -------
    microvolts : bool
        Whether microvolts have to be written.
    conversion : float
        V per step.
    channel_conversion : ndarray or None
        Further factor a channel, None when all gains are equal.
    offset : float
        V.
    """
    gains = np.asarray(recording.get_channel_gains(), dtype=np.float64)
    offsets = np.asarray(recording.get_channel_offsets(), dtype=np.float64)
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all()):
        raise PermanentFailure(
            "channel gains or offsets are NaN; give gain_uv and offset_uv in lab.yaml"
        )
    if np.ptp(offsets) > 0:
        return True, 1e-6, None, 0.0
    offset = float(offsets[0]) * 1e-6
    if np.ptp(gains) > 0:
        return False, 1e-6, gains, offset
    return False, float(gains[0]) * 1e-6, None, offset


def electrical_series(
    name: str,
    description: str,
    recording: Any,
    electrodes: Any,
    parameters: NwbParameters,
    wrap: Callable[[Any], Any],
    progress: Progress,
    *,
    filtering: str | None = None,
) -> Any:
    """Make an ElectricalSeries that reads the recording while it is written.

    Parameters
    ----------
    name, description : str
        Of the series.
    recording : spikeinterface.BaseRecording
        On the clock `probe`, with gains.
    electrodes : hdmf.common.DynamicTableRegion
        One row a channel, in the recording's order.
    parameters : NwbParameters
        Chunk and buffer sizes.
    wrap : callable
        Adds compression.
    progress : callable
        Told the fraction done.
    filtering : str, optional
        What filters were applied.

    Returns
    -------
    pynwb.ecephys.ElectricalSeries
        With `starting_time` and `rate`, or `timestamps` when the recording has gaps or times.
    """
    from pynwb.ecephys import ElectricalSeries

    microvolts, conversion, channel_conversion, offset = scaling(recording)
    iterator = TraceIterator(
        recording,
        microvolts=microvolts,
        chunk_mb=parameters.chunk_mb,
        buffer_mb=parameters.buffer_mb,
        report=lambda done: progress(done, f"writing {name}"),
    )
    return ElectricalSeries(
        name=name,
        description=description,
        data=wrap(iterator),
        electrodes=electrodes,
        conversion=conversion,
        channel_conversion=channel_conversion,
        offset=offset,
        filtering=filtering,
        **_clock(recording, wrap),
    )


def _clock(recording: Any, wrap: Callable[[Any], Any]) -> dict[str, Any]:
    if timeline_of(recording).has_gaps:
        return {"timestamps": wrap(TimeIterator(recording))}
    if recording.has_time_vector():
        return {"timestamps": wrap(np.asarray(recording.get_times(), dtype=np.float64))}
    # The clock `probe` begins at the first sample, whatever start the acquisition counted from.
    return {"starting_time": 0.0, "rate": float(recording.get_sampling_frequency())}
