"""Pictures of channels, noise, motion and LFP: the numbers drawn, and beside which limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.science import pictures
from neuro_assets.science.pictures import BLUE, GREY, ORANGE, VERMILION, few_ticks, tidy
from neuro_assets.science.result import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_LIMITS: Mapping[str, float] = {}


def channels_picture(channels: pd.DataFrame, parameters: BadChannelsParameters) -> Picture:
    """Draw what each channel was judged by, over depth, with the limits.

    Parameters
    ----------
    channels : DataFrame
        Table `channels` of `bad_channels`.
    parameters : BadChannelsParameters
        The limits.

    Returns
    -------
    Picture
        Similarity and power near the Nyquist frequency; the spread where that was the measure.
    """
    if (channels["method"] == "mad").all():
        return _spread_picture(channels, parameters)
    labels = ["similarity", "high frequency (µV²/Hz)"]
    figure, (similar, power), _ = pictures.shank_panels(channels, labels)
    y, _ = pictures.places(channels)
    judged = channels["method"] != "mad"
    trend = channels["similarity_trend"].where(judged)
    dead, noisy = parameters.dead_channel_threshold, parameters.noisy_channel_threshold
    out = 1 + parameters.outside_channel_threshold
    ticks = {
        f"dead: below trend {dead:+g}": (trend + dead, "black"),
        f"noise: above trend {noisy:+g}": (trend + noisy, VERMILION),
    }
    for axes, rows in similar:
        for name, (limit, colour) in ticks.items():
            axes.plot(limit[rows], y[rows], "|", ms=5, color=colour, alpha=0.5, label=name)
        axes.plot(trend[rows], y[rows], ".", ms=3, color=ORANGE, label="trend")
        axes.plot(channels["similarity"][rows], y[rows], ".", ms=4, color=BLUE, label="channel")
        pictures.mark_bad(axes, channels["similarity"], y, channels["label"], rows)
        axes.axvline(out, color="black", ls="--", lw=1, label=f"out: trend below {out:g}")
        few_ticks(axes.xaxis)
    loud = {"noise": parameters.psd_hf_threshold}
    for axes, rows in power:
        least = pictures.log_scale(axes, channels["psd_hf_uv2_hz"], loud.values())
        x = channels["psd_hf_uv2_hz"].clip(lower=least)
        axes.plot(x[rows], y[rows], ".", ms=4, color=BLUE)
        pictures.mark_bad(axes, x, y, channels["label"], rows)
        pictures.limit_lines(axes, loud, "µV²/Hz", styles=(":",))
    pictures.legend(figure, *(axes for axes, _ in similar + power))
    return pictures.to_picture("Similarity and noise of each channel by depth", figure)


def _spread_picture(channels: pd.DataFrame, parameters: BadChannelsParameters) -> Picture:
    figure, (panels,), _ = pictures.shank_panels(channels, ["spread (µV or counts)"])
    y, _ = pictures.places(channels)
    spread, factor = channels["spread_uv"], parameters.mad_factor
    shanks = channels["shank"].astype(str)
    for axes, rows in panels:
        typical = spread[rows].groupby(shanks[rows]).transform("median")
        x = spread.clip(
            lower=pictures.log_scale(axes, spread, [*(typical / factor), *(typical * factor)])
        )
        dead, noise = f"dead: below median / {factor:g}", f"noise: above median x {factor:g}"
        axes.plot(typical / factor, y[rows], "|", ms=8, color="black", label=dead)
        axes.plot(typical * factor, y[rows], "|", ms=8, color=VERMILION, label=noise)
        axes.plot(x[rows], y[rows], ".", color=BLUE, label="channel")
        pictures.mark_bad(axes, x, y, channels["label"], rows)
    pictures.legend(figure, *(axes for axes, _ in panels))
    return pictures.to_picture("Spread of each channel by depth", figure)


def noise_picture(
    quality: pd.DataFrame, spectra: pd.DataFrame, limits_uv: Mapping[str, float] = NO_LIMITS
) -> Picture:
    """Draw the noise of each channel over depth, and the spectrum of the median one.

    Parameters
    ----------
    quality, spectra : DataFrame
        Tables `channel_quality` and `spectrum` of `recording_quality`.
    limits_uv : mapping of str to float
        Limits of the median RMS after destriping, uV, by the verdict beyond them.

    Returns
    -------
    Picture
        Spectra with the deciles of the channels around the median.
    """
    columns = {"rms_raw_uv": ("raw", ORANGE), "rms_destriped_uv": ("destriped", BLUE)}
    figure, (panels,), (right,) = pictures.shank_panels(quality, ["RMS (µV)"], ["frequency (Hz)"])
    y, _ = pictures.places(quality)
    for axes, rows in panels:
        least = pictures.log_scale(axes, quality[list(columns)], limits_uv.values())
        shown = quality[list(columns)].clip(lower=least)
        for column, (label, colour) in columns.items():
            axes.plot(shown[column][rows], y[rows], ".", ms=4, color=colour, label=label)
        pictures.mark_bad(axes, shown["rms_destriped_uv"], y, quality["label"], rows)
        pictures.limit_lines(axes, limits_uv, "µV", "median above")
    tidy(right, ylabel="power (µV²/Hz)")
    power = spectra[(spectra["frequency_hz"] > 0) & (spectra["power_uv2_hz"] > 0)]
    for stream, table in power.groupby("stream"):
        by_channel = table.pivot_table("power_uv2_hz", "channel_index", "frequency_hz")
        hz = by_channel.columns.to_numpy()
        low, middle, high = np.nanquantile(by_channel.to_numpy(float), [0.1, 0.5, 0.9], axis=0)
        colour = "black" if stream == "ap" else GREY
        right.plot(hz, middle, color=colour, label=f"{stream}: median, 10-90 %")
        right.fill_between(hz, low, high, color=colour, alpha=0.25, lw=0)
    if len(power):
        right.set(xscale="log", yscale="log")
    else:
        pictures.note(right, "no power in any channel")
    pictures.legend(figure, *(axes for axes, _ in panels), right)
    return pictures.to_picture("Noise by depth and power spectrum", figure)


def motion_picture(
    times_s: NDArray[Any],
    displacement: NDArray[Any],
    confident: NDArray[np.bool_],
    windows: pd.DataFrame,
    parameters: MotionParameters,
    limits_um: Mapping[str, float] = NO_LIMITS,
) -> Picture:
    """Draw the displacement of each depth window that is believed, and why the others are not.

    Parameters
    ----------
    times_s : ndarray, shape (n_bins,)
        Clock `probe`, s.
    displacement : ndarray, shape (n_bins, n_windows)
        um.
    confident : ndarray of bool, shape (n_bins, n_windows)
        Which bins are believed; the others are interpolated.
    windows : DataFrame
        Of `window_evidence`.
    parameters : MotionParameters
        Limits of the evidence.
    limits_um : mapping of str to float
        Limits of the RMS of the displacement, um, by the verdict beyond them.

    Returns
    -------
    Picture
        About each window's median: where zero is, is arbitrary.
    """
    from matplotlib import colormaps

    sure = windows["confident"].to_numpy(bool)
    figure = pictures.new_figure()
    grid: dict[str, Axes] = figure.subplot_mosaic(
        [["motion", "error", "peaks"]], width_ratios=[3, 1, 1]
    )
    left, error, peaks = grid["motion"], grid["error"], grid["peaks"]
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(windows)))
    tidy(left, xlabel="time (s, probe clock)", ylabel="displacement about the median (µm)")
    few_ticks(left.xaxis, 5)
    if len(times_s):
        left.set_xlim(pictures.with_room(pd.Series(times_s)))
    moved = displacement - np.median(displacement, axis=0) if len(displacement) else displacement
    for window in np.flatnonzero(sure):
        left.plot(*pictures.thinned(times_s, moved[:, window]), lw=1, color=colours[window])
    bins, which = np.nonzero(~confident & sure)
    if len(bins):
        name = f"bin interpolated: error above {parameters.max_bin_error_um:g} µm"
        left.plot(
            times_s[bins], moved[bins, which], "o", ms=4, mfc="none", color=VERMILION, label=name
        )
    if not moved[:, sure].size:
        pictures.note(left, "no depth window has enough evidence")
    largest = np.abs(moved[:, sure]).max(initial=0.0)
    # A limit far beyond the motion would press it flat; the least one shows the scale.
    reach = max(largest, min(limits_um.values(), default=0.0))
    shown = [(name, um) for name, um in limits_um.items() if um <= reach]
    for (name, um), style in zip(shown, ("--", ":"), strict=False):
        for side, label in ((um, f"{name}: RMS above {um:g} µm"), (-um, None)):
            left.axhline(side, color="black", ls=style, lw=1, label=label)
    least, most = parameters.min_peaks_per_bin, parameters.max_error_um
    depth = windows["depth_um"]
    for axes, column, name, limit, text in (
        (error, "error_um", "error (µm)", most, f"error: at most {most:g} µm"),
        (peaks, "peaks_per_bin", "peaks / bin", least, f"peaks a bin: at least {least:g}"),
    ):
        tidy(axes, xlabel=name, ylim=pictures.with_room(depth))
        few_ticks(axes.yaxis, 6)
        x = windows[column].clip(lower=pictures.log_scale(axes, windows[column], [limit]))
        axes.scatter(x[sure], depth[sure], 30, colours[sure])
        axes.scatter(x[~sure], depth[~sure], 30, fc="none", ec=GREY)
        axes.axvline(limit, color=VERMILION, ls="-" if axes is error else "-.", lw=1, label=text)
    tidy(error, ylabel="depth of the window (µm)")
    peaks.tick_params(labelleft=False)
    error.plot([], [], "o", color=colormaps["viridis"](0.5), label="believed (colour: depth)")
    error.plot([], [], "o", mfc="none", color=GREY, label="not believed, not drawn over time")
    pictures.legend(figure, left, error, peaks)
    return pictures.to_picture("Estimated motion of the probe", figure)


def field_picture(
    traces: NDArray[Any],
    begin_s: float,
    rate_hz: float,
    channels: pd.DataFrame,
    frequencies: NDArray[Any],
    power: NDArray[Any],
    limits_uv: Mapping[str, float] = NO_LIMITS,
) -> Picture:
    """Draw a second of the field potential, its spectrum and its size, over depth.

    Parameters
    ----------
    traces : ndarray, shape (n_samples, n_channels)
        uV (or units of the converter).
    begin_s, rate_hz : float
        Start on the clock `probe`, s; samples per second.
    channels : DataFrame
        `shank` and `y_um`, the order from tip to surface, and `rms_uv`.
    frequencies : ndarray, shape (n_frequencies,)
        Hz.
    power : ndarray, shape (n_frequencies, n_channels)
        uV^2/Hz.
    limits_uv : mapping of str to float
        Limits of the median RMS, uV, by the verdict beyond them.

    Returns
    -------
    Picture
        Neighbouring channels are averaged where there are more than 96, time and frequency also.
    """
    order = channels.sort_values(["shank", "y_um"], kind="stable").index.to_numpy()
    n, unit = len(order), "µV" if channels["rms_uv"].notna().any() else "counts"
    figure = pictures.new_figure(3.8)
    grid: dict[str, Axes] = figure.subplot_mosaic(
        [["time", "spectrum", "rms"]], width_ratios=[3, 3, 2]
    )
    left, middle, right = grid["time"], grid["spectrum"], grid["rms"]
    edges = np.linspace(0, n, min(n, 96) + 1)
    image = pictures.pooled(traces[:, order].T, 96, 200)
    limit = float(np.percentile(np.abs(image), 99)) if image.size else 1.0
    limit = limit or 1.0
    ms = np.linspace(0, 1000 * len(traces) / rate_hz, image.shape[1] + 1)
    drawn = left.pcolormesh(ms, edges, image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    _bar(figure, drawn, left, unit)
    after = f"ms after {begin_s:.3f} s (probe clock)"
    tidy(left, xlabel=after, ylabel="channel, tip to surface")
    few_ticks(left.xaxis, 4)
    positive = (frequencies > 0) & np.isfinite(power).any(axis=1)
    if positive.sum() > 1:
        hz, decibel = frequencies[positive], 10 * np.log10(np.maximum(power[positive], 1e-6))
        image = pictures.pooled(decibel[:, order].T, 96, len(hz))
        drawn = middle.pcolormesh(hz, edges[:-1] + np.diff(edges) / 2, image, cmap="viridis")
        middle.set(xscale="log", ylim=(0, n))
        middle.xaxis.set_major_formatter("{x:g}")
        _bar(figure, drawn, middle, f"dB ({unit}²/Hz)")
    else:
        pictures.note(middle, "too short for a spectrum")
    tidy(middle, xlabel="frequency (Hz)")
    rms = channels["rms_uv"].to_numpy(float)[order]
    least = pictures.log_scale(right, rms, limits_uv.values() if unit == "µV" else ())
    right.plot(rms.clip(least), np.arange(n) + 0.5, ".", ms=3, color=BLUE, label="channel")
    pictures.limit_lines(right, limits_uv if unit == "µV" else {}, unit, "median above")
    tidy(right, xlabel=f"RMS ({unit})", ylim=(0, max(n, 1)))
    shanks = channels["shank"].astype(str).to_numpy()[order]
    bounds = np.flatnonzero(shanks[1:] != shanks[:-1]) + 1
    for axes in (left, middle, right):
        few_ticks(axes.yaxis, 6, whole=True)
        for bound in bounds if len(bounds) < 8 else ():
            label = "between shanks" if axes is right else None
            axes.axhline(float(bound), color="black", lw=1, label=label)
    for axes in (middle, right):
        axes.tick_params(labelleft=False)
    pictures.legend(figure, right)
    return pictures.to_picture("LFP over depth: one second, its spectrum and its size", figure)


def _bar(figure: Figure, drawn: Any, axes: Axes, label: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, location="top", aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    few_ticks(bar.ax.xaxis, 4)
    bar.set_label(label, size=8)
