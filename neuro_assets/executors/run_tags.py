"""Which run tags may act: whoever launches a run may add any, and some size, force or mount.

Tags without a `/` are notes and act on nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ANY = r"(?s).*"
_DAGSTER = (
    *("partition", "partition_set", "backfill", "parent_backfill_id", "root_backfill_id"),
    *("asset_partition_range_start", "asset_partition_range_end", "parent_run_id", "root_run_id"),
    *("is_resume_retry", "is_asset_resume_retry", "step_selection", "solid_selection", "run_key"),
    *("code_location", "schedule_name", "sensor_name", "tick", "reporting_user", "failure_reason"),
    *("will_retry", "auto_retry_run_id", "auto_materialize", "from_automation_condition"),
    *("asset_evaluation_id", "auto_observe", "compute_kind", "from_ui", "git_commit_hash"),
)
"""What Dagster notes of a run; the names that place, isolate or mount it are not among them."""

_ALLOWED = {
    **{f"dagster/{name}": _ANY for name in _DAGSTER},
    "dagster/priority": r"-?\d{1,4}",
    "dagster/max_retries": r"\d{1,3}",
    "dagster/retry_number": r"\d{1,3}",
    "dagster/retry_strategy": "FROM_FAILURE|ALL_STEPS",
    "dagster/retry_on_asset_or_op_failure": "true|false",
    "dagster/max_runtime": r"\d{1,6}",
    "neuro/force": "true|false",
    "neuro/session": _ANY,
    "neuro/raw_version": _ANY,
    "neuro/duration_s": r"\d{1,7}",
    "neuro/channels": r"\d{1,5}",
}


def refused_tags(tags: Mapping[str, str]) -> list[str]:
    """Find the tags of a run that nobody may set.

    Parameters
    ----------
    tags : mapping of str to str
        All tags of the run.

    Returns
    -------
    list of str
        `name=value`, sorted; empty when the run may start. Dagster's hidden tags (`.dagster/`) are
        written by the platform itself over whatever was there.
    """
    return sorted(
        f"{name}={value[:40]}"
        for name, value in tags.items()
        if "/" in name
        and not name.startswith(".dagster/")
        and not re.fullmatch(_ALLOWED.get(name, "(?!)"), value)
    )
