"""Quality criteria as rows of data, and the verdicts that follow from them.

A criterion says which metric of a step's result is judged, by which limits, and where the limits
come from. The rows of an asset stand with its step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from math import isnan
from typing import Any


class Verdict(IntEnum):
    """Alyx's scale: the worst wins. NOT_SET means that the metric could not be computed."""

    NOT_SET = 0
    PASS = 10
    WARNING = 30
    FAIL = 40
    CRITICAL = 50


@dataclass(frozen=True)
class Criterion:
    """One row.

    Parameters
    ----------
    metric : str
        Name in the metrics of the step's result.
    family : str
        The asset check that shows it: rows of one family are one check.
    unit : str
        Unit of the metric and the limits.
    warning, fail, critical : float or None
        Limits; a value beyond one gets its verdict.
    above : bool
        True: values above the limits are bad. False: values below them are.
    source : str
        Where the limits come from.
    """

    metric: str
    family: str
    unit: str
    warning: float | None = None
    fail: float | None = None
    critical: float | None = None
    above: bool = True
    source: str = "neuro_assets"

    def judge(self, value: Any) -> Verdict:
        """Judge a value; None and NaN are NOT_SET, a bool counts as 0 or 1."""
        if value is None or isinstance(value, str) or isnan(float(value)):
            return Verdict.NOT_SET
        for limit, verdict in (
            (self.critical, Verdict.CRITICAL),
            (self.fail, Verdict.FAIL),
            (self.warning, Verdict.WARNING),
        ):
            if limit is not None and (value > limit if self.above else value < limit):
                return verdict
        return Verdict.PASS


def limits_of(criteria: Sequence[Criterion], metric: str) -> dict[str, float]:
    """Limits of one metric by the name of the verdict beyond them, for the picture that has it."""
    rows = (row for row in criteria if row.metric == metric)
    found = {name: getattr(row, name) for row in rows for name in ("warning", "fail", "critical")}
    return {name: limit for name, limit in found.items() if limit is not None}


@dataclass(frozen=True)
class Judged:
    """A criterion, the value it was applied to, and the verdict.

    `measured` is false for an output that was made before there was such a metric: NOT_SET then
    means that nobody looked.
    """

    criterion: Criterion
    value: float | None
    verdict: Verdict
    measured: bool = True

    def row(self) -> dict[str, Any]:
        """Flat form for the manifest and for tables."""
        row = {**asdict(self.criterion), "value": self.value, "verdict": self.verdict.name}
        return row if self.measured else {**row, "measured": False}


def criteria_version(criteria: Sequence[Criterion]) -> str:
    """Hash the rows: stored outputs are judged anew when it changes, and nothing is computed."""
    rows = json.dumps([asdict(criterion) for criterion in criteria], sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()[:8]


def judge(
    criteria: Sequence[Criterion], metrics: Mapping[str, Any], *, stored: bool = False
) -> list[Judged]:
    """Apply every criterion to its metric.

    Parameters
    ----------
    criteria : sequence of Criterion
        Rows of one asset.
    metrics : mapping
        Metrics of the step's result.
    stored : bool
        Whether they are those of an output that was made earlier, perhaps before a criterion was.

    Returns
    -------
    list of Judged
        One a criterion, in the same order.

    Raises
    ------
    LookupError
        When a step does not report a metric that a criterion needs: a metric that cannot be
        computed must be reported as NaN, so that a misspelt name is not taken for one.
    """
    judged = []
    for criterion in criteria:
        if criterion.metric not in metrics and stored:
            judged.append(Judged(criterion, None, Verdict.NOT_SET, measured=False))
            continue
        if criterion.metric not in metrics:
            raise LookupError(
                f"criterion {criterion.metric!r} has no such metric; "
                f"the step reports {', '.join(sorted(metrics))}"
            )
        value = metrics[criterion.metric]
        verdict = criterion.judge(value)
        number = None if verdict is Verdict.NOT_SET else float(value)
        judged.append(Judged(criterion, number, verdict))
    return judged
