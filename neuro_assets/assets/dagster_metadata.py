"""What Dagster shows of a stored output: numbers that it plots, and one picture."""

import base64
import math
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from neuro_assets.store import Stored


def output(stored: Stored, metadata: Mapping[str, Any]) -> dg.Output[Stored]:
    """Make Dagster's output with the digest of the content as its data version."""
    with warnings.catch_warnings():
        # `data_version` is in beta; tests/service/test_dagster_contract.py holds what we need.
        warnings.simplefilter("ignore", dg.BetaWarning)
        version = dg.DataVersion(stored.digest)
        return dg.Output(stored, data_version=version, metadata=dict(metadata))


def stored_metadata(stored: Stored, *, reused: bool, partition: bool) -> dict[str, Any]:
    """Say what is stored, in numbers that the user interface plots."""
    manifest = stored.manifest
    rows: dict[str, int] = manifest.extra.get("rows", {})
    shown: dict[str, Any] = {
        "outcome": stored.outcome.value,
        "version": stored.version,
        "repeatable": manifest.repeatable,
        "reused": reused,
        "size_bytes": manifest.size_bytes,
        "n_files": len(manifest.files),
        "step_duration_s": manifest.duration_s,
        "path": dg.MetadataValue.path(str(stored.store.backend.locate(stored.path))),
        **{f"rows_{name}": count for name, count in rows.items()},
    }
    if manifest.skip is not None:
        shown["reason"] = f"{manifest.skip['reason']}: {manifest.skip['detail']}"
    if manifest.peak_memory_bytes is not None:
        shown["peak_memory_mb"] = round(manifest.peak_memory_bytes / 1e6, 1)
    if rows:
        main = stored.asset if stored.asset in rows else next(iter(rows))
        shown[f"dagster/{'partition_row_count' if partition else 'row_count'}"] = rows[main]
    return shown


def plotted(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics that the user interface can show: finite numbers, and words."""
    return {
        name: _rounded(value)
        for name, value in metrics.items()
        if isinstance(value, (str, bool)) or (value is not None and math.isfinite(value))
    }


def _rounded(value: Any) -> Any:
    """Six digits are more than any of these figures has, and all that fits a column."""
    plain = value.item() if hasattr(value, "item") else value
    return float(f"{plain:.6g}") if isinstance(plain, float) else plain


def picture_markdown(title: str, png: bytes) -> dg.MetadataValue:
    """Inline a small PNG; the page's content policy lets no linked picture load."""
    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")
