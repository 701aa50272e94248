"""Where each channel sits: the one place that asks a recording for positions and shanks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


def channel_table(recording: BaseRecording) -> pd.DataFrame:
    """Identity and position of every channel.

    Parameters
    ----------
    recording : BaseRecording
        With or without a probe.

    Returns
    -------
    DataFrame
        One row a channel, in the recording's order: `channel_id` (text), `channel_index`,
        `x_um`, `y_um` (NaN without a probe), `shank` (text: the probe's own name of it, else 0).
    """
    ids = [str(channel) for channel in recording.channel_ids]
    table = pd.DataFrame({"channel_id": ids, "channel_index": np.arange(len(ids))})
    if not recording.has_probe():
        return table.assign(x_um=np.nan, y_um=np.nan, shank="0")
    locations = np.asarray(recording.get_channel_locations(), dtype=float)
    return table.assign(x_um=locations[:, 0], y_um=locations[:, 1], shank=_shank_names(recording))


def _shank_names(recording: BaseRecording) -> list[str]:
    """Name of each channel's shank, with its probe where there are several."""
    contacts = recording.get_probegroup().to_numpy(complete=True)
    order = np.argsort(contacts["device_channel_indices"])
    fields = contacts.dtype.names
    shanks = [str(contacts[i]["shank_ids"] if "shank_ids" in fields else "") or "0" for i in order]
    probes = [int(contacts[i]["probe_index"]) if "probe_index" in fields else 0 for i in order]
    if len(set(probes)) == 1:
        return shanks
    return [f"{probe}/{shank}" for probe, shank in zip(probes, shanks, strict=True)]
