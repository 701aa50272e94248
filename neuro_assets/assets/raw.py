"""Raw data: where the lab keeps it, observed and never made by us."""

from __future__ import annotations

import dagster as dg

from neuro_assets.assets import names
from neuro_assets.partitions import SESSION_PROBE


def raw_recording() -> dg.AssetSpec:
    """One recording of one probe as the rig wrote it; reported by the sensors."""
    return dg.AssetSpec(
        names.RAW_RECORDING,
        description=(
            "One recording of one probe as the rig wrote it (SpikeGLX, Open Ephys, NWB or any "
            "SpikeInterface reader). Its data version comes from the files' sizes and hashes."
        ),
        group_name=names.RAW,
        kinds={"binary"},
        owners=["team:neuro_assets"],
        partitions_def=SESSION_PROBE,
    )
