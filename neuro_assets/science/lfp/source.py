"""Which stream the LFP is made from, on which clock, and which channel is which.

Decisions about the input only: filtering is in `lfp_filters`, storing in `lfp_store`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.formats.bands import OFFSET, shared_clock_rate
from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.science.geometry import channel_table
from neuro_assets.science.masking import BridgedPeriodsRecording, masked_periods
from neuro_assets.science.result import Applied

MAX_START_DIFFERENCE_S = 1.0
"""LF and AP of one probe start within a few samples; more, and they are not one recording."""


@dataclass(frozen=True)
class Source:
    """The stream that the LFP is made from.

    Parameters
    ----------
    name : str
        `lf`, or `wideband` when it is made from the stream that is sorted.
    recording : spikeinterface.BaseRecording
        Neural channels only.
    rate : float
        Rate of the recording on the probe's clock, Hz.
    delay : float
        Time of its first sample after the AP stream's first, in its own samples.
    shifts : ndarray
        Sampling time of each channel within a sample, in samples; zeros where unknown.
    shift_source : str or None
        Where the shifts come from; None: no alignment.
    """

    name: Literal["lf", "wideband"]
    recording: Any
    rate: float
    delay: float
    shifts: NDArray[np.float64]
    shift_source: str | None


def choose_source(ap: Any | None, lf: Any | None, parameters: LfpParameters) -> Source:
    """Choose the stream, and put it on the clock that begins at the AP stream's first sample.

    Parameters
    ----------
    ap, lf : spikeinterface.BaseRecording or None
        Neural channels of the AP (or wide-band) stream and of the LF stream.
    parameters : LfpParameters
        Band and rate wanted.

    Returns
    -------
    Source
        LF where it exists, else the wide band.

    Raises
    ------
    Skipped
        `no_lfp_band` when no stream holds the band.
    PermanentFailure
        When the streams do not belong together, or hold several segments.
    """
    source = _from_wideband(ap, parameters) if lf is None else _from_lf(ap, lf, parameters)
    if source.recording.get_num_segments() != 1:
        raise PermanentFailure(
            f"the {source.name} stream has {source.recording.get_num_segments()} segments; "
            "concatenate them first, the LFP needs one clock"
        )
    if (
        source.rate < 2 * parameters.stop_hz
        or source.rate < 0.99 * parameters.sampling_frequency_hz
    ):
        raise Skipped(
            SkipReason.NO_LFP_BAND,
            f"the {source.name} stream is sampled at {source.rate:g} Hz: too slow for a pass band "
            f"to {parameters.lowpass_hz:g} Hz at {parameters.sampling_frequency_hz:g} Hz",
        )
    if source.recording.get_num_samples(0) == 0:
        raise PermanentFailure(f"the {source.name} stream has no samples; check the raw files")
    return source


def _from_wideband(ap: Any | None, parameters: LfpParameters) -> Source:
    if ap is None:
        raise Skipped(SkipReason.NO_LFP_BAND, "the recording has neither an LF nor a wide band")
    if not reaches_lfp_band(ap):
        raise Skipped(
            SkipReason.NO_LFP_BAND,
            "no LF stream, and the AP stream is high-passed (a two-band probe, or filtered before)",
        )
    shifts, shift_source = _shifts(ap, None, parameters)
    rate = float(ap.get_sampling_frequency())
    return Source("wideband", ap, rate, 0.0, shifts, shift_source)


def _from_lf(ap: Any | None, lf: Any, parameters: LfpParameters) -> Source:
    rate = float(lf.get_sampling_frequency())
    start_s = 0.0
    if ap is not None:
        rate = shared_clock_rate(float(ap.get_sampling_frequency()), rate)
        start_s = float(lf.get_start_time()) - float(ap.get_start_time())
        start_s += float(lf.get_annotation(OFFSET) or 0.0) / rate
    if abs(start_s) > MAX_START_DIFFERENCE_S:
        raise PermanentFailure(
            f"the LF stream begins {start_s:.3f} s after the AP stream: not one recording; "
            "check that both files have the same gate and trigger"
        )
    shifts, shift_source = _shifts(lf, ap, parameters)
    # A rounding error of the start times is no delay.
    delay = round(start_s * rate, 6)
    return Source("lf", lf, rate, delay, shifts, shift_source)


def bridge_saturation(
    source: Source, ap: Any | None, saturation: pd.DataFrame | None
) -> tuple[Source, list[Applied]]:
    """Bridge saturated periods, which the filters would spread far beyond themselves.

    Parameters
    ----------
    source : Source
        As `choose_source` gives it.
    ap : spikeinterface.BaseRecording or None
        The stream whose samples `saturation` counts.
    saturation : DataFrame or None
        `start_sample`, and `stop_sample`, one past the last.

    Returns
    -------
    Source
        With straight lines there, padded as for the spikes (`SpikeBand`).
    list of Applied
        What was done; empty where nothing was.
    """
    if ap is None or saturation is None or saturation.empty:
        return source, []
    band, recording = SpikeBand(), source.recording
    samples = saturation[["start_sample", "stop_sample"]].to_numpy() - [0, 1]
    clock = (timeline_of(ap).on_clock(samples) + [0, 1]) / float(ap.get_sampling_frequency())
    places = timeline_of(recording).from_clock(clock * source.rate - source.delay)
    bounds = {"start_sample": np.floor(places[:, 0]), "stop_sample": np.ceil(places[:, 1])}
    pad, edge = (
        max(1, round(ms * source.rate / 1000)) for ms in (band.mask_pad_ms, band.mask_edge_ms)
    )
    periods = masked_periods(pd.DataFrame(bounds), int(recording.get_num_samples()), pad)
    if not len(periods):
        return source, []
    starts, stops = periods.T.tolist()
    bridged = BridgedPeriodsRecording(recording, starts, stops, edge)
    numbers = {"n_periods": len(periods), "total_s": float(np.diff(periods).sum() / source.rate)}
    numbers |= {"pad_ms": band.mask_pad_ms, "edge_ms": band.mask_edge_ms}
    return replace(source, recording=bridged), [Applied("bridge_saturated_periods", numbers)]


def reaches_lfp_band(ap: Any) -> bool:
    """Whether a recording's hardware lets low frequencies through.

    Probes with two bands (Neuropixels 1.0 and its relatives) have a 300 Hz high-pass in the AP
    path, unless it was switched off for every channel; their probe description names the rate of
    an LF band. Probes with one band (Neuropixels 2.0) and unknown ones are wide-band.
    """
    if ap.get_annotation("is_filtered"):
        return False
    if not ap.has_probe():
        return True
    probe = ap.get_probegroup().probes[0]
    if not float(probe.annotations.get("lf_sample_frequency_hz") or 0.0) > 0:
        return True
    filters = probe.contact_annotations.get("ap_hp_filters")
    return filters is not None and not np.asarray(filters, dtype=float).any()


def _shifts(
    recording: Any, other: Any | None, parameters: LfpParameters
) -> tuple[NDArray[np.float64], str | None]:
    n = recording.get_num_channels()
    if not parameters.phase_shift:
        return np.zeros(n), None
    own = recording.get_property("inter_sample_shift")
    if own is not None:
        return np.asarray(own, dtype=np.float64), "recording"
    if other is not None and other.get_num_channels() == n:
        theirs = other.get_property("inter_sample_shift")
        if theirs is not None:
            # The converter visits the channels of both bands in one order (IBL does the same).
            return np.asarray(theirs, dtype=np.float64), "ap"
    return np.zeros(n), None


def match_channels(source: Any, ap: Any | None, channels: pd.DataFrame | None) -> pd.DataFrame:
    """Give each channel of the source its label, by id or, for the LF band, by position.

    Parameters
    ----------
    source : spikeinterface.BaseRecording
        The stream that the LFP is made from.
    ap : spikeinterface.BaseRecording or None
        The stream whose channels were labelled.
    channels : DataFrame or None
        Columns `channel_id` and `label`; None: every label is `unknown`.

    Returns
    -------
    DataFrame
        One row a channel in the source's order: `channel_id`, `ap_channel_id`, `label`, `x_um`,
        `y_um`, `shank`.

    Raises
    ------
    PermanentFailure
        When the table knows other channels than the recording.
    """
    ids = [str(channel) for channel in source.get_channel_ids()]
    ap_ids = ids
    if ap is not None and ap.get_num_channels() == len(ids):
        ap_ids = [str(channel) for channel in ap.get_channel_ids()]
    table = pd.DataFrame({"channel_id": ids, "ap_channel_id": ap_ids})
    table["label"] = _labels(ids, ap_ids, channels)
    holder = probe_holder(source, ap)
    places = channel_table(source if holder is None else holder)
    return table.join(places[["x_um", "y_um", "shank"]])


def _labels(ids: list[str], ap_ids: list[str], channels: pd.DataFrame | None) -> list[str]:
    if channels is None or channels.empty:
        return ["unknown"] * len(ids)
    known = dict(
        zip(channels["channel_id"].astype(str), channels["label"].astype(str), strict=True)
    )
    for candidates in (ids, ap_ids):
        if all(channel in known for channel in candidates):
            return [known[channel] for channel in candidates]
    raise PermanentFailure(
        f"the channel labels know {len(known)} channels ({next(iter(known))}, ...), but not all of "
        f"the {len(ids)} of the LFP's source ({ids[0]}, ...); make bad_channels again"
    )


def probe_holder(source: Any, ap: Any | None) -> Any | None:
    """Return the recording whose probe describes the source's channels, if any does."""
    if source.has_probe():
        return source
    if ap is not None and ap.has_probe() and ap.get_num_channels() == source.get_num_channels():
        return ap
    return None
