"""Raw data and what a database says of them: where the lab keeps both, observed, never made."""

from __future__ import annotations

import dagster as dg

from neuro_assets import names
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


def recording_metadata() -> dg.AssetSpec:
    """Session, animal and insertion as the lab's Alyx has them; reported by the sensors."""
    return dg.AssetSpec(
        names.RECORDING_METADATA,
        description=(
            "What the lab's Alyx says of session, animal and probe insertion. Its data version "
            "comes from what results are made of: quality, projects and links are not in it."
        ),
        group_name=names.RAW,
        kinds={"alyx"},
        owners=["team:neuro_assets"],
        partitions_def=SESSION_PROBE,
    )
