"""The picture of units: amplitude, depth and label, beside the limits that made the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.parameters.unit_quality import (
    AIND_DEFAULT_QC,
    IBL_LIMITS,
    Limits,
    UnitQualityParameters,
)
from neuro_assets.science import pictures
from neuro_assets.science.pictures import BLUE, GREY, ORANGE, VERMILION, few_ticks, tidy
from neuro_assets.science.result import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


UNIT_MARKERS = {
    "noise": ("+", GREY, GREY),
    "bad": ("x", VERMILION, VERMILION),
    "unknown": ("s", ORANGE, "none"),
    "good": ("o", BLUE, BLUE),
}
"""Shape, colour and filling; the last lie on top."""
MAX_JUDGED = 3
"""Columns of `good` that are drawn beside the amplitude."""


def units_picture(table: pd.DataFrame, parameters: UnitQualityParameters) -> Picture:
    """Draw amplitude and depth of each unit by its label, and what `good` judges it by.

    Parameters
    ----------
    table : DataFrame
        Table `unit_quality`.
    parameters : UnitQualityParameters
        The limits.

    Returns
    -------
    Picture
        The limits of `good`, in the place of IBL's and AIND's verdicts those that they stand for;
        beside the amplitude at most `MAX_JUDGED` columns. A value far off lies at the edge, one
        that could not be computed beyond it, and the legend counts these.
    """
    limits = _limits_in_force(parameters.good)
    amplitude = "ibl_amp_median_uv"
    columns = [column for column in limits if column != amplitude]
    figure, (panels,), others = pictures.shank_panels(
        table, ["amplitude (µV)"], columns[:MAX_JUDGED]
    )
    y, y_label = pictures.places(table)
    for axes, rows in panels:
        pictures.log_scale(axes, table[amplitude], _numbers(limits.get(amplitude, ())))
        _limit_lines(axes, amplitude, limits.get(amplitude, (None, None)))
        _by_label(axes, table[amplitude], y, table["label"], rows)
    every = np.ones(len(table), bool)
    for axes, column in zip(others, columns, strict=False):
        tidy(axes, ylim=pictures.with_room(y), ylabel=y_label if len(panels) > 1 else "")
        few_ticks(axes.yaxis, 6)
        axes.tick_params(labelleft=len(panels) > 1)
        x = _placed(axes, table[column].astype("Float64"), limits[column])
        _limit_lines(axes, column, limits[column])
        if column == "central_span":
            _limit_lines(axes, "bad below", (parameters.span_bad, None), ":")
        _by_label(axes, x, y, table["label"], every)
    if columns[MAX_JUDGED:]:
        text = f"not drawn: {', '.join(columns[MAX_JUDGED:])}"
        panels[0][0].plot([], [], " ", label=text)
    pictures.legend(figure, *(axes for axes, _ in panels), *others)
    return pictures.to_picture("Depth, amplitude and label of units", figure)


def _limits_in_force(good: Mapping[str, Limits]) -> dict[str, Limits]:
    """Limits of numbers by which units are good: a verdict's are those that it stands for."""
    sure, most, least = IBL_LIMITS.values()
    ranges: tuple[Limits, ...] = ((sure, None), (None, most), (least, None))
    ibl = dict(zip(IBL_LIMITS, ranges, strict=True))
    stand_for = {"ibl_label": ibl, "ibl_bitwise_fail": ibl, "aind_default_qc": AIND_DEFAULT_QC}
    limits: dict[str, Limits] = {}
    for column, of_column in good.items():
        limits |= stand_for.get(column, {column: of_column})
    return limits


def _numbers(limits: Sequence[float | None]) -> list[float]:
    return [limit for limit in limits if limit is not None]


def _limit_lines(axes: Axes, name: str, limits: Limits, style: str = "--") -> None:
    """Draw upright lines at the limits that there are; name and number stand in the legend."""
    for limit, text in zip(limits, ("at least", "at most"), strict=True):
        if limit is not None:
            label = f"{name}: {text} {limit:g}" if style == "--" else f"{name} {limit:g}"
            axes.axvline(limit, color="black", ls=style, lw=1, label=label)


def _placed(axes: Axes, values: pd.Series, limits: Limits) -> pd.Series:
    """Make the axis hold the limits and most values; where each value is drawn."""
    numbers = pd.Series(values.to_numpy(float, na_value=np.nan), values.index)
    finite = numbers[np.isfinite(numbers)]
    shown = [*(finite.quantile([0.02, 0.98]) if len(finite) else ()), *_numbers(limits)]
    low, high = min(shown), max(shown)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
    missing = int(numbers.isna().sum())
    if missing:
        label = f"{axes.get_xlabel()}: not computed ({missing})"
        axes.axvspan(low - 2 * room, low - room, color=GREY, alpha=0.3, label=label)
    axes.set_xlim(low - (2 if missing else 0.5) * room, high + 0.5 * room)
    few_ticks(axes.xaxis, 4)
    return numbers.clip(low, high).fillna(low - 1.5 * room)


def _by_label(
    axes: Axes, x: pd.Series, y: pd.Series, labels: pd.Series, rows: NDArray[np.bool_]
) -> None:
    """Draw each label's units by a shape and a colour of their own, with how many there are."""
    for name, (marker, colour, fill) in UNIT_MARKERS.items():
        mask = (labels == name).to_numpy(bool)
        at, text = rows & mask, f"{name} ({int(mask.sum())})"
        axes.plot(x[at], y[at], marker, ms=5, color=colour, mfc=fill, alpha=0.8, label=text)
