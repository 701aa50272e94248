"""Counts of good, bad and unknown units, and the commonest reason for not knowing."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def count_verdicts(table: pd.DataFrame) -> dict[str, Any]:
    """Count good, bad and unknown units.

    Parameters
    ----------
    table : DataFrame
        `good` (boolean, NA: unknown), and `good_reason`.

    Returns
    -------
    dict
        `n_units_good`, `n_units_bad`, `n_units_unknown`, `good_fraction_judged` (of those that
        could be judged; NaN where none could), and `unknown_because`, the commonest kind of
        reason, with the ranges of its numbers and how many units it is of.
    """
    good = table["good"].astype("boolean")
    n_good, n_unknown = int(good.sum()), int(good.isna().sum())
    judged = len(table) - n_unknown
    said = table.loc[good.isna(), "good_reason"] if "good_reason" in table else pd.Series(dtype=str)
    return {
        "n_units_good": n_good,
        "n_units_bad": judged - n_good,
        "n_units_unknown": n_unknown,
        "good_fraction_judged": n_good / judged if judged else float("nan"),
        "unknown_because": _commonest(said.astype(str).tolist()),
    }


def _commonest(reasons: list[str]) -> str:
    """Name the commonest reason, whatever its numbers, which become ranges."""
    if not reasons:
        return ""
    kinds: dict[str, list[list[str]]] = {}
    for reason in reasons:
        kinds.setdefault(_NUMBER.sub("{}", reason), []).append(_NUMBER.findall(reason))
    kind, found = max(kinds.items(), key=lambda item: len(item[1]))
    columns = [sorted(set(numbers), key=float) for numbers in zip(*found, strict=True)]
    ranges = ["-".join(dict.fromkeys((column[0], column[-1]))) for column in columns]
    return f"{kind.format(*ranges)} ({len(found)} of {len(reasons)} units)"
