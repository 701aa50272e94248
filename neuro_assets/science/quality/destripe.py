"""IBL's destriping with SpikeInterface's steps, for measuring; sorters read their own chains.

High-pass (zero phase), undo the multiplexer's delays, replace dead and noisy channels by their
neighbours, then remove what all channels of a shank share. Channels out of the brain neither give
nor get that reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.science.gaps import per_piece
from neuro_assets.science.result import Applied

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


class Destriper:
    """Destriped traces of any stretch of a recording.

    Parameters
    ----------
    recording : BaseRecording
        Raw neural channels with gains.
    channels : DataFrame
        One row a channel in the recording's order: `shank`, `x_um`, `y_um`, `label`.
    parameters : RecordingQualityParameters
        Filter and reference.
    """

    def __init__(
        self,
        recording: BaseRecording,
        channels: pd.DataFrame,
        parameters: RecordingQualityParameters,
    ) -> None:
        from spikeinterface.preprocessing import highpass_filter, phase_shift, scale_to_uV

        self.applied: list[Applied] = []
        self._parameters = parameters
        self._channels = channels.reset_index(drop=True)
        values = {"freq_min": parameters.highpass_hz, "filter_order": parameters.highpass_order}
        # Half a second on both sides: the filter's and the shift's borders stay outside.
        chain = per_piece(
            scale_to_uV(recording), highpass_filter, dtype="float32", margin_ms=100.0, **values
        )
        self.applied.append(Applied("highpass_filter", values))
        self.highpassed = chain
        if recording.get_property("inter_sample_shift") is not None:
            chain = phase_shift(chain, dtype="float32")
            self.applied.append(Applied("phase_shift", {}))
        self._shifted = chain
        self._weights = _interpolation(self._channels)
        if self._weights is not None:
            replaced = self._channels["label"].isin(["dead", "noise"])
            ids = [str(i) for i in recording.channel_ids[replaced.to_numpy()]]
            self.applied.append(Applied("interpolate_bad_channels", {"channel_ids": ids}))
        self._groups = self._make_groups()
        if self._groups:
            used = {"method": parameters.spatial_filter, "groups": len(self._groups)}
            self.applied.append(Applied("spatial_filter", used))

    def traces(self, start: int, stop: int) -> np.ndarray:
        """Destripe a stretch.

        Parameters
        ----------
        start, stop : int
            First sample, and one after the last.

        Returns
        -------
        ndarray, shape (stop - start, n_channels)
            uV.
        """
        values = np.array(self._shifted.get_traces(start_frame=start, end_frame=stop))
        if self._weights is not None:
            values = values @ self._weights
        for rows in self._groups:
            values[:, rows] = self._reference(values[:, rows])
        return values

    def _make_groups(self) -> list[np.ndarray]:
        """Channels by depth, shank by shank; all together, or none, where they are too few."""
        inside = self._channels[self._channels["label"] != "out"]
        least = self._parameters.min_reference_channels
        shanks = [shank for _, shank in inside.groupby("shank")]
        if min(map(len, shanks), default=0) < least:
            shanks = [inside] if len(inside) >= least else []
        return [
            shank.index.to_numpy()[np.lexsort((shank["x_um"], shank["y_um"]))] for shank in shanks
        ]

    def _reference(self, values: np.ndarray) -> np.ndarray:
        """Remove what the channels of one shank (in the order of depth) share."""
        if self._parameters.spatial_filter == "car":
            return values - np.median(values, axis=1, keepdims=True)
        fs = self._shifted.sampling_frequency
        return spatial_highpass(values, gain_window=int(fs / 10))


def spatial_highpass(values: np.ndarray, gain_window: int, n_pad: int = 60) -> np.ndarray:
    """High-pass along the shank after automatic gain control: IBL's k-filter.

    Parameters
    ----------
    values : ndarray, shape (n_samples, n_channels)
        Channels in the order of depth, uV.
    gain_window : int
        Samples over which the gain is levelled.
    n_pad : int
        Mirrored channels on both sides.

    Returns
    -------
    ndarray, shape (n_samples, n_channels)
        uV.

    References
    ----------
    ibldsp.voltage.kfilt and agc (ibl-neuropixel 2749be5): order 3, 0.01 of Nyquist.
    """
    from scipy.signal import butter, fftconvolve, sosfiltfilt

    n_channels = values.shape[1]
    window = np.hanning(int(round(gain_window / 2) * 2 + 1))
    gain = fftconvolve(np.abs(values), (window / window.sum())[:, None], mode="same", axes=0)
    # The floor is IBL's: relative to the spread of all channels, against division by zero.
    floor = np.std(values - values.mean()) * 0.003
    live = gain.sum(axis=0) != 0
    levelled = np.where(live, values / np.maximum(gain, max(floor, 1e-12)), values)
    n_pad = min(n_pad, n_channels)
    padded = np.concatenate(
        [levelled[:, :n_pad][:, ::-1], levelled, levelled[:, -n_pad:][:, ::-1]], axis=1
    )
    sos = butter(3, 0.01, btype="highpass", output="sos")
    length = padded.shape[1]
    filtered = sosfiltfilt(sos, padded, axis=1, padlen=min(_default_padlen(sos), length - 1))
    return filtered[:, n_pad:-n_pad] * gain


def _default_padlen(sos: np.ndarray) -> int:
    """SciPy's own choice of the odd padding, as in `scipy.signal.sosfiltfilt`."""
    ntaps = 2 * len(sos) + 1
    return 3 * (ntaps - min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum())))


def _interpolation(channels: pd.DataFrame) -> np.ndarray | None:
    """Matrix that replaces dead and noisy channels by their neighbours; None where none are.

    Weights fall as exp(-(distance / 20 um) ^ 1.3), those below 0.005 are dropped
    (ibldsp.voltage.interpolate_bad_channels).
    """
    bad = channels["label"].isin(["dead", "noise"]).to_numpy()
    if not bad.any() or channels["y_um"].isna().any():
        return None
    matrix = np.eye(len(channels), dtype=np.float32)
    positions = channels["x_um"].to_numpy() + 1j * channels["y_um"].to_numpy()
    for column in np.flatnonzero(bad):
        weights = np.exp(-((np.abs(positions - positions[column]) / 20) ** 1.3))
        weights[bad | (weights < 0.005)] = 0
        total = weights.sum()
        weights = weights / total if total > 0 else weights
        weights[weights <= 0.005] = 0
        matrix[:, column] = weights
    return matrix
