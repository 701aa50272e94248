"""Raw data and what a database says of them: where the lab keeps both, observed, never made."""

from __future__ import annotations

import dagster as dg

from neuro_assets import names
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.sources.raw_input import externals


def external_assets() -> list[dg.AssetSpec]:
    """Make the external assets; the sensors report their versions.

    Returns
    -------
    list of dagster.AssetSpec
        One for each raw modality, and one for what the lab's database says.
    """
    return [
        dg.AssetSpec(
            each.asset,
            description=each.description,
            group_name=names.RAW,
            kinds=set(each.kinds),
            owners=["team:neuro_assets"],
            partitions_def=SESSION_PROBE,
        )
        for each in externals().values()
    ]
