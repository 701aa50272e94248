"""Lazy chains from raw traces to what a sorter or an analyzer reads, in the one right order.

Saturated periods are bridged on the raw traces, then channels are phase shifted; both are done
channel by channel, before anything that mixes channels. Then come the filter, the reference, the
whitening and the motion correction. Bad channels leave first of all: what is done channel by
channel commutes with that, and it is cheaper. No step changes the number of samples or their
indices. Which step is whose decision is not made here (`neuro_assets.parameters.sorting`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseRecording

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.science.gaps import LevelledPiecesRecording, per_piece, retimed
from neuro_assets.science.geometry import channel_labels
from neuro_assets.science.masking import BridgedPeriodsRecording, masked_periods
from neuro_assets.science.result import Applied

GOOD = "good"
"""Label of the channels that are kept."""


@dataclass
class Chain:
    """A recording and the steps that were really put in front of it.

    Parameters
    ----------
    recording : BaseRecording
        Lazy; as many samples as the raw recording.
    applied : list of Applied
        In the order in which the traces pass through them.
    masked : ndarray of int64, shape (n_periods, 2)
        Periods that are no signal (saturation, and the surroundings of gaps), padding included:
        first sample, and one past the last one.
    """

    recording: BaseRecording
    applied: list[Applied] = field(default_factory=list)
    masked: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    def add(self, recording: BaseRecording, name: str, **parameters: Any) -> None:
        """Put one more step at the end."""
        self.recording = recording
        self.applied.append(Applied(name, parameters))


def good_channels(recording: BaseRecording, channels: pd.DataFrame) -> list[Any]:
    """Ids of the recording's channels that are labelled good, in the recording's order.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording.
    channels : DataFrame
        Columns `channel_id` and `label` (`good`, `dead`, `noise`, `out`).

    Returns
    -------
    list
        Channel ids.

    Raises
    ------
    PermanentFailure
        When the table is not about this recording.
    Skipped
        `too_few_good_channels`, when there is none.
    """
    labels = channel_labels(recording, channels)
    good = [c for c, label in zip(recording.channel_ids, labels, strict=True) if label == GOOD]
    if not good:
        raise Skipped(
            SkipReason.TOO_FEW_GOOD_CHANNELS,
            f"none of {recording.get_num_channels()} channels is labelled good",
        )
    return good


def base_chain(
    recording: BaseRecording,
    channels: pd.DataFrame,
    saturation: pd.DataFrame | None,
    band: SpikeBand,
) -> Chain:
    """Do what is done to every recording, whoever filters it: the steps channel by channel.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording, one segment.
    channels : DataFrame
        See `good_channels`.
    saturation : DataFrame or None
        Saturated periods, found on raw data (`start_sample`, `stop_sample`).
    band : SpikeBand
        Lengths of the padding and margins.

    Returns
    -------
    Chain
        Good channels, saturated periods bridged, phase shifted where the shifts are known.
    """
    if recording.get_num_segments() != 1:
        raise PermanentFailure(
            f"The recording has {recording.get_num_segments()} segments; concatenate them, so that "
            "sample indices count through"
        )
    good = good_channels(recording, channels)
    chain = Chain(recording)
    if len(good) < recording.get_num_channels():
        removed = [str(c) for c in recording.channel_ids if c not in set(good)]
        chain.add(recording.select_channels(good), "remove_bad_channels", channel_ids=removed)
    _bridge(chain, saturation, band)
    _shift_phase(chain, band)
    return chain


def _bridge(chain: Chain, saturation: pd.DataFrame | None, band: SpikeBand) -> None:
    """Bridge saturated periods, level the pieces between gaps, and say where both are."""
    fs, n_samples = chain.recording.sampling_frequency, chain.recording.get_num_samples()
    pad = round(band.mask_pad_ms * fs / 1000)
    edge = max(1, round(band.mask_edge_ms * fs / 1000))
    bounds = timeline_of(chain.recording).bounds
    chain.masked = masked_periods(saturation, n_samples, pad, bounds)
    bridged = masked_periods(saturation, n_samples, pad)
    if len(bridged):
        starts, stops = bridged.T.tolist()
        chain.add(
            BridgedPeriodsRecording(chain.recording, starts, stops, edge),
            "bridge_saturated_periods",
            n_periods=len(starts),
            total_s=float(np.diff(bridged).sum() / fs),
            pad_ms=band.mask_pad_ms,
            edge_ms=band.mask_edge_ms,
        )
    if len(bounds):
        chain.add(
            LevelledPiecesRecording(chain.recording, edge),
            "level_pieces",
            gaps_at_samples=bounds.tolist(),
            edge_ms=band.mask_edge_ms,
            masked_ms=band.mask_pad_ms,
        )


def _shift_phase(chain: Chain, band: SpikeBand) -> None:
    from spikeinterface.preprocessing import phase_shift

    shifts = chain.recording.get_property("inter_sample_shift")
    if shifts is None or not np.any(shifts):
        return
    margin = min(
        band.phase_shift_margin_ms,
        1000 * chain.recording.get_num_samples() / chain.recording.sampling_frequency,
    )
    # Given by hand, because a property set in memory does not survive the way to a child process.
    shifted = phase_shift(
        chain.recording, margin_ms=margin, inter_sample_shift=np.asarray(shifts, float).tolist()
    )
    chain.add(shifted, "phase_shift", margin_ms=margin)


def filter_band(chain: Chain, band: SpikeBand) -> None:
    """Add the zero-phase filter, in float32; it begins anew after a gap.

    Parameters
    ----------
    chain : Chain
        Is extended.
    band : SpikeBand
        Corners and order.
    """
    from spikeinterface.preprocessing import bandpass_filter, highpass_filter

    common = {"filter_order": band.filter_order, "ftype": "butter", "dtype": "float32"}
    corners, make, name = {"freq_min": band.highpass_hz}, highpass_filter, "highpass_filter"
    if band.lowpass_hz is not None:
        corners["freq_max"] = band.lowpass_hz
        make, name = bandpass_filter, "bandpass_filter"
    chain.add(per_piece(chain.recording, make, **corners, **common), name, **corners, **common)


def shank_groups(recording: BaseRecording, minimum: int) -> list[list[Any]] | None:
    """Channel ids by shank, or None where a shank is too small (or there is only one).

    Parameters
    ----------
    recording : BaseRecording
        With the property `group`, which is the shank.
    minimum : int
        Least number of channels in every group.

    Returns
    -------
    list of list, or None
        Groups; None means: all channels together.
    """
    groups = np.asarray(recording.get_channel_groups())
    members = [recording.channel_ids[groups == group].tolist() for group in np.unique(groups)]
    if len(members) < 2 or min(map(len, members)) < minimum:
        return None
    return members


def reference_band(chain: Chain, band: SpikeBand) -> None:
    """Add what is subtracted across channels, shank by shank where every shank has enough.

    Parameters
    ----------
    chain : Chain
        Is extended, or left alone where `band` says `none` or the channels are too few.
    band : SpikeBand
        Kind of reference.
    """
    from spikeinterface.preprocessing import common_reference, highpass_spatial_filter

    n_channels = chain.recording.get_num_channels()
    if band.reference == "none" or n_channels < band.min_reference_channels:
        return
    if band.reference in ("global", "local"):
        common = {"reference": band.reference, "operator": "median"}
        if band.reference == "global":
            groups = shank_groups(chain.recording, band.min_reference_channels)
            options: dict[str, Any] = {"groups": groups}
            noted: dict[str, Any] = {
                "groups": len(groups) if groups else 1,
                "n_channels": n_channels,
            }
        else:
            options = {"local_radius": band.local_radius_um}
            noted = {"local_radius_um": list(band.local_radius_um)}
        referenced = common_reference(chain.recording, **common, **options)
        chain.add(referenced, "common_reference", **common, **noted)
        return
    pad = min(60, n_channels // 2)
    chain.add(
        highpass_spatial_filter(chain.recording, n_channel_pad=pad),
        "highpass_spatial_filter",
        n_channel_pad=pad,
    )


def whiten(chain: Chain, radius_um: float) -> None:
    """Add a local whitening.

    Parameters
    ----------
    chain : Chain
        Is extended.
    radius_um : float
        Neighbourhood of each channel, um.
    """
    from spikeinterface.preprocessing import whiten as si_whiten

    # The seed is of the choice of the snippets from which the covariance is estimated.
    options = {"seed": 0, "mode": "local", "radius_um": radius_um, "dtype": "float32"}
    chain.add(si_whiten(chain.recording, **options), "whiten", **options)


def correct_motion(chain: Chain, motion: Any) -> None:
    """Add the interpolation that undoes an estimated motion.

    Parameters
    ----------
    chain : Chain
        Is extended; filtered already.
    motion : spikeinterface.core.motion.Motion
        The estimate; its times are on the clock `probe`.
    """
    timeline, rate = timeline_of(chain.recording), chain.recording.sampling_frequency
    motion = retimed(motion, timeline, lambda times: timeline.from_clock(times * rate) / rate)
    from spikeinterface.sortingcomponents.motion import InterpolateMotionRecording

    options = {
        "border_mode": "force_extrapolate",
        "spatial_interpolation_method": "kriging",
        "sigma_um": 20.0,
        "p": 2,
    }
    chain.add(
        InterpolateMotionRecording(chain.recording, motion, **options),
        "interpolate_motion",
        **options,
    )


def spike_band_chain(
    recording: BaseRecording,
    channels: pd.DataFrame,
    saturation: pd.DataFrame | None,
    band: SpikeBand,
) -> Chain:
    """Do the whole chain up to the reference: what an analyzer and a motion estimate read.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording, one segment.
    channels : DataFrame
        See `good_channels`.
    saturation : DataFrame or None
        Saturated periods.
    band : SpikeBand
        Its parameters.

    Returns
    -------
    Chain
        Filtered and referenced, float32, not whitened.
    """
    chain = base_chain(recording, channels, saturation, band)
    filter_band(chain, band)
    reference_band(chain, band)
    return chain
