"""Why a partition was not made, said in Dagster's log of it and of each that waits for it.

Dagster's page of a partition without a value says only that a run failed. What a step logs before
it raises stands among the partition's events ("View all historical events"), and in the checks.
"""

from __future__ import annotations

from typing import Any

import dagster as dg


def log_reason(
    context: dg.AssetExecutionContext, asset: str, reason: str, *, outcome: str = "failed"
) -> None:
    """Log reason and next step for an asset, and for each that this run leaves out because of it.

    What is below several of them has the reasons of all in its newest observation.

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
    earlier = _logged_in(context)
    cause = f"{asset}, which {'failed:' if outcome == 'failed' else 'is'} {reason}"
    for name in left_out(context, asset):
        causes, waits_for = cause, asset
        if (before := earlier.get(name)) is not None:  # below another failed step too
            causes = f"{before.metadata['reason'].value}; and for {cause}"
            waits_for = f"{before.metadata['waits_for'].value}, {asset}"
        metadata = {"outcome": "waiting", "waits_for": waits_for, "reason": causes}
        message = f"not made: it waits for {causes}"
        _log(context, name, message, {**metadata, "next_step": next_step})
        _log_checks(context, name, causes)


def _logged_in(context: dg.AssetExecutionContext) -> dict[str, dg.AssetObservation]:
    """List what the run has logged of assets that it leaves out, the newest of each."""
    records = context.instance.get_records_for_run(
        context.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION
    ).records
    events = [record.event_log_entry.get_dagster_event() for record in records]
    logged = [event.asset_observation_data.asset_observation for event in events]
    return {
        each.asset_key.to_user_string(): each for each in logged if "waits_for" in each.metadata
    }


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


def _log_checks(context: dg.AssetExecutionContext, asset: str, causes: str) -> None:
    """Make the checks amber that the run planned: without a result Dagster shows them as failed."""
    graph = context.job_def.asset_layer.asset_graph
    for check in sorted(graph.get_check_keys_for_assets({dg.AssetKey(asset)})):
        evaluation: Any = dg.AssetCheckEvaluation(
            check.asset_key,
            check.name,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Nothing was judged: it waits for {causes}; an earlier value is kept",
            metadata={"outcome": "waiting"},
            partition=context.partition_key,
        )
        context.log_event(evaluation)  # it takes one, and its type does not say so
