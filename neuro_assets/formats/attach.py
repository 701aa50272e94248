"""Putting a probe, or the scale of an analogue board, on a recording in one way for all formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuro_assets.formats.broken import Broken


def attach_probe(
    neural: Any,
    probe: Any,
    *,
    sample_shifts: Any = None,
    saturation_uv: float | None = None,
    is_filtered: bool = False,
) -> None:
    """Set probe, groups, sampling shifts and annotations of the neural channels, in place.

    Parameters
    ----------
    neural : BaseRecording
        Neural channels, in the order of the probe's contacts.
    probe : probeinterface.Probe
        Contact i is channel i.
    sample_shifts : ndarray, (channels,), optional
        Becomes the property `inter_sample_shift`, fractions of a sample.
    saturation_uv : float, optional
        Becomes the annotation `saturation_threshold_uV`.
    is_filtered : bool
        Whether the data were filtered before they were saved.

    Raises
    ------
    Broken
        `channel_count` when the probe has another number of contacts than there are channels.
    """
    if probe.get_contact_count() != neural.get_num_channels():
        raise Broken(
            "channel_count",
            f"the probe has {probe.get_contact_count()} contacts but the stream has "
            f"{neural.get_num_channels()} neural channels; correct the probe or the meta file",
        )
    by_shank = probe.shank_ids is not None and len(np.unique(probe.shank_ids)) > 1
    if by_shank:
        neural.set_probe(probe, group_mode="by_shank")
    else:
        neural.set_probe(probe)
    if sample_shifts is not None:
        neural.set_property("inter_sample_shift", np.asarray(sample_shifts, dtype=np.float64))
    if saturation_uv is not None:
        neural.annotate(saturation_threshold_uV=float(saturation_uv))
    neural.annotate(is_filtered=is_filtered)


def set_volts(analogue: Any, gains_uv: np.ndarray) -> None:
    """Set the scale of a board's analogue channels, in place: uV, and volts as physical unit.

    Parameters
    ----------
    analogue : BaseRecording
        Its analogue channels; their offsets are zero.
    gains_uv : ndarray, (channels,)
        uV per bit.
    """
    n = analogue.get_num_channels()
    if n == 0:
        return
    analogue.set_channel_gains(gains_uv)
    analogue.set_channel_offsets(np.zeros(n))
    analogue.set_property("physical_unit", np.full(n, "V"))
    analogue.set_property("gain_to_physical_unit", np.asarray(gains_uv) / 1e6)
    analogue.set_property("offset_to_physical_unit", np.zeros(n))
