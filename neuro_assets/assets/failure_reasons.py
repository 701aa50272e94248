"""Why a partition was not made, said in Dagster's log of it and of each that waits for it.

Dagster's page of a partition without a value says only that a run failed. What a step logs before
it raises stands among the partition's events ("View all historical events").
"""

from __future__ import annotations

import dagster as dg


def log_reason(
    context: dg.AssetExecutionContext, asset: str, reason: str, *, outcome: str = "failed"
) -> None:
    """Log reason and next step for an asset, and for each that this run leaves out because of it.

    Parameters
    ----------
    context : AssetExecutionContext
        Of the step that fails, or whose output must not be used further.
    asset : str
        Its asset.
    reason : str
        One sentence.
    outcome : str
        "not usable" of an output that is stored.
    """
    key = context.partition_key
    next_step = (
        f"mend the cause, then re-execute this run from its failure, or `neuro-assets run {key}`"
    )
    _log(context, asset, reason, {"outcome": outcome, "reason": reason, "next_step": next_step})
    for name in left_out(context, asset):
        metadata = {"outcome": "waiting", "waits_for": asset, "reason": reason}
        state = "failed:" if outcome == "failed" else "is"
        message = f"not made: it waits for {asset}, which {state} {reason}"
        _log(context, name, message, {**metadata, "next_step": next_step})


def left_out(context: dg.AssetExecutionContext, asset: str) -> list[str]:
    """List the assets of a run that are below one of them: Dagster skips them when it fails.

    Parameters
    ----------
    context : AssetExecutionContext
        Of a step of the run.
    asset : str
        The asset.

    Returns
    -------
    list of str
        Sorted.
    """
    layer = context.job_def.asset_layer
    found: set[dg.AssetKey] = set()
    front = {dg.AssetKey(asset)}
    while front:
        below = {child for key in front for child in layer.asset_graph.get(key).child_keys}
        front = (below & set(layer.selected_asset_keys)) - found
        found |= front
    return sorted(key.to_user_string() for key in found)


def _log(
    context: dg.AssetExecutionContext, asset: str, message: str, metadata: dict[str, str]
) -> None:
    context.log_event(
        dg.AssetObservation(
            asset, partition=context.partition_key, description=message, metadata=metadata
        )
    )
