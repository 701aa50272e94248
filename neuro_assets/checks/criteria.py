"""Quality criteria as rows of data, by asset; nothing is computed here.

A criterion says which metric of a step's result is judged, by which limits, and where the limits
come from. `neuro_assets.checks.evaluate` turns the rows into verdicts and asset checks.
"""

from __future__ import annotations

from dataclasses import dataclass
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
