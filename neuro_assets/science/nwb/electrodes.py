"""Device, shanks and electrodes of an NWB file, and which of them a recording's channels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.nwb.inputs import NwbInputs


def add_electrodes(inputs: NwbInputs, nwbfile: Any) -> None:
    """Add device, groups (one a shank) and electrodes (one a channel).

    Parameters
    ----------
    inputs : NwbInputs
        Probe and channels.
    nwbfile : pynwb.NWBFile
        Is extended.
    """
    channels = inputs.channels
    model = nwbfile.create_device_model(
        name=inputs.probe_model or "unknown probe",
        manufacturer=inputs.probe_manufacturer or "unknown",
        description="model of the probe",
    )
    device = nwbfile.create_device(
        name=inputs.probe,
        description=f"silicon probe {inputs.probe_model}".strip(),
        serial_number=inputs.probe_serial or None,
        model=model,
    )
    shanks = _column(channels, "shank", "0").astype(str).to_numpy()
    names = {
        shank: inputs.probe if len(set(shanks)) == 1 else f"{inputs.probe}_shank{shank}"
        for shank in sorted(set(shanks))
    }
    groups = {
        shank: nwbfile.create_electrode_group(
            name=name,
            description=f"shank {shank} of {inputs.probe}",
            location="unknown",
            device=device,
        )
        for shank, name in names.items()
    }
    nwbfile.add_electrode_column("channel_name", "name of the channel in the raw recording")
    nwbfile.add_electrode_column(
        "label", "good, dead, noise (noisy), out (outside the brain) or unknown"
    )
    places = np.stack(
        [_column(channels, name, np.nan).to_numpy(float) for name in ("x_um", "y_um")]
    )
    labels = _column(channels, "label", "unknown").astype(str).to_numpy()
    regions = _column(channels, "location", "unknown").fillna("unknown").astype(str).to_numpy()
    for row, name in enumerate(channels["channel_id"]):
        nwbfile.add_electrode(
            location=regions[row],
            group=groups[shanks[row]],
            group_name=names[shanks[row]],
            rel_x=float(places[0, row]),
            rel_y=float(places[1, row]),
            channel_name=str(name),
            label=labels[row],
        )


def _column(table: pd.DataFrame, name: str, default: Any) -> pd.Series:
    return table[name] if name in table else pd.Series([default] * len(table), index=table.index)


def electrode_region(inputs: NwbInputs, recording: Any, nwbfile: Any) -> Any:
    """Find the electrodes of a recording's channels: by name, else by the AP channel there.

    Parameters
    ----------
    inputs : NwbInputs
        Channels.
    recording : spikeinterface.BaseRecording
        AP or LFP.
    nwbfile : pynwb.NWBFile
        With electrodes.

    Returns
    -------
    hdmf.common.DynamicTableRegion
        One row a channel.

    Raises
    ------
    PermanentFailure
        When the channels are not in the table.
    """
    row_of = {str(c): row for row, c in enumerate(inputs.channels["channel_id"])}
    candidates = [recording.get_channel_ids(), recording.get_property("ap_channel_id")]
    for names in candidates:
        if names is not None and all(str(name) in row_of for name in names):
            rows = [row_of[str(name)] for name in names]
            return nwbfile.create_electrode_table_region(rows, "electrodes of the channels")
    raise PermanentFailure(
        f"the traces' channels ({candidates[0][0]}, ...) are not in the channel table; "
        "make bad_channels and lfp again"
    )
