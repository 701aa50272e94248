"""How a step's picture looks: width, colours, limits, legend and size; nothing of a single step.

Drawn without pyplot, so without a display and without global state. SpikeInterface's widgets are
not used: they go through pyplot, draw no limits, and have no bound on the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from neuro_assets.science.result import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, DPI = 7.0, 100
"""Dagster shows Markdown some 700 pixels wide."""
MAX_BYTES = 75_000
"""100 kB as base64: the picture lies in Dagster's event log, which is sent whole to the browser."""
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#777777",
)  # fmt: skip
"""Colours that the colour-blind tell apart (Okabe and Ito 2008)."""
LABEL_MARKERS = {"dead": ("s", "black"), "noise": ("^", VERMILION), "out": ("o", PURPLE)}
MAX_SHANK_PANELS = 4


def new_figure(height_in: float = 4.2) -> Figure:
    """Make an empty figure of the common width, whose parts make room for one another."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    return figure


def to_picture(title: str, figure: Figure) -> Picture:
    """Render a figure as PNG of at most `MAX_BYTES`, with as many colours as that allows.

    Parameters
    ----------
    title : str
        What the picture shows.
    figure : matplotlib.figure.Figure
        Of `new_figure`.

    Returns
    -------
    Picture
        `WIDTH_IN` * `DPI` pixels wide.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    for image in (drawn, *(drawn.quantize(colours) for colours in (128, 32, 8))):
        buffer = BytesIO()
        image.save(buffer, format="png", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return Picture(title, buffer.getvalue())


def tidy(axes: Axes, **labels: Any) -> None:
    """Give axes their labels, small ticks, and no frame where nothing is."""
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.title.set_fontsize(9)


def few_ticks(axis: Any, most: int = 4, *, whole: bool = False) -> None:
    """Put at most so many steps between round (or whole) numbers on a linear axis."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=whole))


def log_scale(axes: Axes, values: ArrayLike, limits: Iterable[float] = ()) -> float:
    """Make x logarithmic around positive values and limits; least value that can be drawn."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    shown = np.concatenate([np.ravel(np.asarray(values, float)), list(limits)])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    low, high = (shown.min(), shown.max()) if len(shown) else (1.0, 10.0)
    # Three decades: a flat channel's rounding noise does not squeeze all others.
    low = max(low, high / 1000)
    room = max(1.4, np.sqrt(12 * low / high))
    low, high = low / room, high * room
    narrow = axes.get_position().width < 0.3
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    few, many = (60.0, (1.0, 3.0)) if narrow else (200.0, (1.0, 2.0, 5.0))
    subs = (1.0,) if high / low > few else many
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    return float(low * 1.1)


def legend(figure: Figure, *axes: Axes) -> None:
    """Put one legend for all axes below them, each name once, where it hides no data."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    # A letter of 8 points takes some 6 pixels, what stands before a name some 45.
    widest = 45 + 6.2 * max(map(len, found), default=0)
    if found:
        figure.legend(
            list(found.values()), list(found), loc="outside lower center", fontsize=8,
            ncols=max(1, min(4, int((WIDTH_IN * DPI - 20) / widest))), frameon=False,
        )  # fmt: skip


def note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why nothing is drawn."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8)


def thinned(
    times: NDArray[Any], values: NDArray[Any], blocks: int = 350
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep what a line of a few hundred pixels can show: least and greatest value of each block.

    Parameters
    ----------
    times : ndarray, shape (n_times,)
        Ascending.
    values : ndarray, shape (n_times,)
        A line over them.
    blocks : int
        Blocks of equal count.

    Returns
    -------
    times, values : ndarray
        At most two points a block, in the order of time, and NaN where times jump (a gap).
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    if len(times) > 2:
        jumps = np.flatnonzero(np.diff(times) > 1.5 * np.median(np.diff(times))) + 1
        times = np.insert(times, jumps, times[jumps - 1])
        values = np.insert(values, jumps, np.nan)
    if len(times) <= 2 * blocks:
        return times, values
    keep = []
    for rows in np.array_split(np.arange(len(times)), blocks):
        whole = rows[np.isfinite(values[rows])]
        broken = rows[~np.isfinite(values[rows])][:1]
        ends = whole[[values[whole].argmin(), values[whole].argmax()]] if len(whole) else whole
        keep.append(np.unique(np.concatenate([ends, broken])))
    rows = np.concatenate(keep)
    return times[rows], values[rows]


def pooled(image: NDArray[Any], rows: int, columns: int) -> NDArray[np.float64]:
    """Average neighbouring cells until there are at most so many rows and columns.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        NaN cells count for nothing.
    rows, columns : int
        At most so many.

    Returns
    -------
    ndarray
        At most (rows, columns); NaN where all cells are.
    """
    image = np.asarray(image, float)
    for axis, most in ((0, rows), (1, columns)):
        size = image.shape[axis]
        if size > most:
            starts = np.linspace(0, size, most + 1).astype(int)[:-1]
            total = np.add.reduceat(np.nan_to_num(image), starts, axis)
            count = np.add.reduceat(np.isfinite(image).astype(float), starts, axis)
            image = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return image


Panels = list[tuple["Axes", NDArray[np.bool_]]]


def shank_panels(
    table: pd.DataFrame, by_shank: Sequence[str], others: Sequence[str] = ()
) -> tuple[Figure, list[Panels], list[Axes]]:
    """Make panels over depth for each shank, and panels of the whole probe.

    Parameters
    ----------
    table : DataFrame
        `y_um`, and `shank` where there are several; one row a channel or unit.
    by_shank : sequence of str
        What is drawn over depth: the label of x. One panel each, and each shank; beyond four
        shanks they share one.
    others : sequence of str
        What is drawn of the whole probe: the label of x.

    Returns
    -------
    figure : Figure
        Panels stand side by side; those of several shanks each in a row.
    panels : list of list of (Axes, ndarray of bool)
        For each of `by_shank`, its panels and which rows of the table are in them.
    others : list of Axes
        In the order given.
    """
    shanks = table["shank"].astype(str) if "shank" in table else pd.Series("0", table.index)
    names = sorted(set(shanks))
    names = names if 1 < len(names) <= MAX_SHANK_PANELS else [""]
    rows = [[f"{label} {name}" for name in names] for label in by_shank]
    rows += [[label] * len(names) for label in others]
    several = len(names) > 1
    figure = new_figure(2.7 * len(rows) if several else 4.2)
    grid: dict[str, Axes] = figure.subplot_mosaic(rows if several else [[row[0] for row in rows]])
    y, y_label = places(table)
    panels = []
    for label, row in zip(by_shank, rows, strict=False):
        first, found = grid[row[0]], []
        for name, key in zip(names, row, strict=True):
            axes = grid[key]
            tidy(axes, xlabel=label, title=f"shank {name}" if several else "")
            few_ticks(axes.yaxis, 6)
            axes.set_ylim(*with_room(y))
            if table.empty:
                note(axes, "none")
            if axes is not first:
                axes.sharex(first)
                axes.tick_params(labelleft=False)
            found.append((axes, np.asarray((shanks == name) | (not several), bool)))
        tidy(first, ylabel=y_label)
        panels.append(found)
    for label in others:
        tidy(grid[label], xlabel=label)
    return figure, panels, [grid[label] for label in others]


def with_room(values: pd.Series) -> tuple[float, float]:
    """Range of an axis, with a little room at both ends."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.03 * (high - low) or 10.0
    return low - room, high + room


def places(table: pd.DataFrame) -> tuple[pd.Series, str]:
    """Depth of each row and the axis' label; where any is unknown, channels are numbered."""
    if len(table) and table["y_um"].notna().all():
        return table["y_um"].astype(float), "depth (µm)"
    return pd.Series(np.arange(len(table), dtype=float), table.index), "channel"


def mark_bad(
    axes: Axes, x: pd.Series, y: pd.Series, labels: pd.Series, rows: NDArray[np.bool_]
) -> None:
    """Ring those of the rows that are not good, each label by a shape of its own."""
    for label, (marker, colour) in LABEL_MARKERS.items():
        mask = rows & (labels == label).to_numpy()
        if mask.any():
            axes.plot(x[mask], y[mask], marker, mfc="none", mec=colour, ms=7, label=label)


def limit_lines(
    axes: Axes,
    limits: Mapping[str, float],
    unit: str,
    beyond: str = "above",
    styles: Sequence[str] = ("--", ":"),
) -> None:
    """Draw upright lines at upper limits; name and number stand in the legend, where they fit."""
    for (name, value), style in zip(limits.items(), styles, strict=False):
        label = f"{name}: {beyond} {value:g} {unit}"
        axes.axvline(value, color="black", ls=style, lw=1, label=label)
