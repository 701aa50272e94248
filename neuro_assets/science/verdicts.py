"""Labels of units (good, bad, noise, unknown) by criteria, the reasons, and the counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.unit_quality import Limits

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def within(table: pd.DataFrame, limits: Mapping[str, Limits], purpose: str) -> pd.DataFrame:
    """Say which values are within their limits.

    Parameters
    ----------
    table : DataFrame
        Metrics.
    limits : mapping of str to (float or None, float or None)
        Least and greatest value of each column, inclusive.
    purpose : str
        The parameter that has these limits, for the error.

    Returns
    -------
    DataFrame of bool
        A column a limit; false where the value is NaN.

    Raises
    ------
    PermanentFailure
        When a column is not there.
    """
    found = pd.DataFrame(index=table.index)
    for column, (least, greatest) in limits.items():
        if column not in table:
            raise PermanentFailure(
                f"There is no metric {column!r} to judge units by; compute it in the analyzer or "
                f"take it out of unit_quality.{purpose}"
            )
        low, high = -np.inf if least is None else least, np.inf if greatest is None else greatest
        numbers = table[column].astype("Float64").to_numpy(float, na_value=np.nan)
        found[column] = (numbers >= low) & (numbers <= high)
    return found


def joined_reasons(reasons: pd.Series) -> str:
    """Put the reasons of one row together, each with its column's name.

    Parameters
    ----------
    reasons : Series of str
        Empty where there is none.

    Returns
    -------
    str
        `name: reason` joined by `; `.
    """
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)


def fulfils(
    table: pd.DataFrame,
    limits: Mapping[str, Limits],
    reasons: pd.DataFrame,
    noise: pd.Series | None = None,
) -> tuple[pd.Series, pd.Series]:
    """Say which units are within all limits.

    Parameters
    ----------
    table : DataFrame
        Metrics.
    limits : mapping of str to (float or None, float or None)
        Least and greatest allowed value of each column, inclusive.
    reasons : DataFrame of str
        Of `unknown_reasons`.
    noise : Series of bool, optional
        Units that fulfil nothing.

    Returns
    -------
    verdict : Series of boolean
        False for noise, and where a value is out of its limits; else NA where one is no ground
        for a verdict.
    reason : Series of str
        Why it is NA; empty where it is not.
    """
    verdict = pd.Series(True, index=table.index, dtype="boolean")
    for column, inside in within(table, limits, "good").astype("boolean").items():
        verdict &= inside.mask(reasons[column] != "")
    if noise is not None:
        verdict &= ~noise.astype("boolean")
    why = reasons[list(limits)].apply(joined_reasons, axis=1) if limits else ""
    return verdict, pd.Series(why, index=table.index, dtype=object).where(verdict.isna(), "")


def noise_reasons(table: pd.DataFrame, criteria: Mapping[str, Mapping[str, Limits]]) -> pd.Series:
    """Name the criteria by which units are noise.

    Parameters
    ----------
    table : DataFrame
        Metrics.
    criteria : mapping of str to mapping of str to (float or None, float or None)
        A unit within all ranges of one is noise. What could not be computed makes no noise, and
        a criterion without a range is switched off.

    Returns
    -------
    Series of str
        Names joined by `, `; empty where the unit is no noise.
    """
    met = pd.DataFrame(
        {
            name: within(table, ranges, "noise").all(axis=1)
            for name, ranges in criteria.items()
            if ranges
        },
        index=table.index,
    )
    names = [", ".join(met.columns[row]) for row in met.to_numpy(dtype=bool)]
    return pd.Series(names, index=table.index, dtype=object)


def labels(good: pd.Series, noise: pd.Series) -> pd.Series:
    """Give each unit one word.

    Parameters
    ----------
    good : Series of boolean
        NA: unknown.
    noise : Series of str
        Of `noise_reasons`.

    Returns
    -------
    Series of str
        `noise`, `good`, `bad` or `unknown`.
    """
    words = good.astype("boolean").map({True: "good", False: "bad"}).astype(object)
    return words.where(good.notna(), "unknown").mask(noise != "", "noise")


def count_verdicts(table: pd.DataFrame) -> dict[str, Any]:
    """Count good, bad, noise and unknown units.

    Parameters
    ----------
    table : DataFrame
        `good` (boolean, NA: unknown); `label`, `good_reason` and `noise_reason` where it has them.

    Returns
    -------
    dict
        `n_units_good`, `n_units_bad` (noise is not among them), `n_units_noise`,
        `n_units_unknown`, `good_fraction_judged` (of the good and the bad; NaN where there are
        none), `unknown_because`, the commonest kind of reason, with the ranges of its numbers and
        how many units it is of, and `noise_because`, how many units each criterion met.
    """
    good = table["good"].astype("boolean")
    n_good, n_unknown = int(good.sum()), int(good.isna().sum())
    noise = table.get("noise_reason", pd.Series(dtype=str))
    n_noise = int((noise != "").sum())
    judged = len(table) - n_unknown - n_noise
    said = table.loc[good.isna(), "good_reason"] if "good_reason" in table else pd.Series(dtype=str)
    met = noise[noise != ""].str.split(", ").explode().value_counts()
    return {
        "n_units_good": n_good,
        "n_units_bad": judged - n_good,
        "n_units_noise": n_noise,
        "n_units_unknown": n_unknown,
        "good_fraction_judged": n_good / judged if judged else float("nan"),
        "unknown_because": _commonest(said.astype(str).tolist()),
        "noise_because": ", ".join(f"{name} {n}" for name, n in met.items()),
    }


def count_passed(name: str, verdict: pd.Series, reason: pd.Series) -> dict[str, Any]:
    """Count the units that pass somebody's criteria, where any could.

    Parameters
    ----------
    name : str
        Whose they are.
    verdict, reason : Series
        Of `fulfils`.

    Returns
    -------
    dict
        `n_units_<name>_pass`, `<name>_yield` (of all units) and `<name>_unknown_because`. Where
        every unit that did not fail is unknown the numbers are NaN, not 0: none could pass.
    """
    none_could = verdict.isna().any() and not verdict.any()
    passed = float("nan") if none_could else int(verdict.sum())
    return {
        f"n_units_{name}_pass": passed,
        f"{name}_yield": passed / len(verdict),
        f"{name}_unknown_because": _commonest(reason[verdict.isna()].tolist()),
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
