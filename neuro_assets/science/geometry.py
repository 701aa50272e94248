"""Where each channel sits, and its label: the one place that asks a recording for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuro_assets.outcomes import PermanentFailure

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


def channel_labels(recording: BaseRecording, channels: pd.DataFrame) -> list[str]:
    """Label of each channel of a recording, in its order.

    Parameters
    ----------
    recording : BaseRecording
        Any.
    channels : DataFrame
        Columns `channel_id` and `label` (`good`, `dead`, `noise`, `out`).

    Returns
    -------
    list of str
        Labels.

    Raises
    ------
    PermanentFailure
        When the table is not about this recording.
    """
    labels = dict(zip(channels["channel_id"].astype(str), channels["label"], strict=True))
    names = [str(channel) for channel in recording.channel_ids]
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise PermanentFailure(
            f"The table of bad channels does not know channel {unknown[0]} "
            f"({len(unknown)} of {len(names)} are unknown): it was made for another recording; "
            "make bad_channels again"
        )
    return [labels[name] for name in names]
