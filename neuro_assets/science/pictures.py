"""Small PNG pictures of numbers by depth, drawn without a display and without global state.

Only drawing: what is drawn, and what it means, is the calling step's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuro_assets.science.result import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT_COLOURS = ("#7f7f7f", "#f4a6a6", "#e3d48f")
LABEL_COLOURS = {"dead": "#444444", "noise": "#d62728", "out": "#c9a227"}


def to_picture(title: str, figure: Figure) -> Picture:
    """Render a figure as PNG.

    Parameters
    ----------
    title : str
        What the picture shows.
    figure : matplotlib.figure.Figure
        Made without pyplot, so that nothing is left behind.

    Returns
    -------
    Picture
        About 20 to 60 kB at 100 dots per inch.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return Picture(title, buffer.getvalue())


def depth_picture(
    title: str,
    depths_um: pd.Series,
    values: Mapping[str, pd.Series],
    *,
    labels: pd.Series | None = None,
    limits: Mapping[str, pd.Series] | None = None,
) -> Picture:
    """Draw one or more measures of each channel against its depth.

    Parameters
    ----------
    title : str
        What the picture shows.
    depths_um : Series
        Depth of each channel, um; where unknown, channels are numbered instead.
    values : mapping of str to Series
        Measures by name.
    labels : Series, optional
        Bad-channel labels; channels that are not good are marked.
    limits : mapping of str to Series, optional
        Limits by name, for each channel.

    Returns
    -------
    Picture
        One panel, depth upwards.
    """
    from matplotlib.figure import Figure

    known = bool(depths_um.notna().all())
    y = depths_um.to_numpy(float) if known else np.arange(len(depths_um))
    figure = Figure(figsize=(4.5, 5.5))
    axes = figure.add_subplot()
    for name, series in values.items():
        axes.plot(series, y, ".", markersize=3, label=name)
    for (name, series), colour in zip((limits or {}).items(), LIMIT_COLOURS, strict=False):
        axes.plot(series, y, "|", markersize=4, color=colour, label=name)
    if labels is not None:
        first = next(iter(values.values()))
        for label, colour in LABEL_COLOURS.items():
            mask = (labels == label).to_numpy()
            if mask.any():
                axes.plot(first[mask], y[mask], "o", mfc="none", color=colour, label=label)
    axes.set_xlabel(", ".join(values))
    axes.set_ylabel("depth (µm)" if known else "channel")
    axes.set_title(title, fontsize=9)
    # Beside the axes, where it hides no channel.
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return to_picture(title, figure)
