"""One row a unit: metrics, IBL's three criteria, AIND's default, and good, bad, noise or unknown.

SpikeInterface's metrics keep their names, IBL's begin with `ibl_`: `ibl_presence_ratio` has bins
of its own. The metrics themselves are computed in
`neuro_assets.science.analyzer` and `neuro_assets.science.spike_metrics`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import SortingAnalyzer

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.unit_quality import (
    AIND_DEFAULT_QC,
    IBL_GOOD,
    IBL_LIMITS,
    UnitQualityParameters,
)
from neuro_assets.science import spike_metrics
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.template_shape import (
    far_amplitude_ratio,
    peak_to_peak_scale,
    second_trough_ratio,
)
from neuro_assets.science.units_picture import units_picture
from neuro_assets.science.valid_time import masked_of
from neuro_assets.science.verdicts import (
    count_passed,
    count_verdicts,
    fulfils,
    joined_reasons,
    labels,
    noise_reasons,
)

PROVEN_P = 0.01
"""Below this probability the violations of a unit prove its contamination, however few spikes."""


def unit_quality(
    analyzer: SortingAnalyzer,
    folder: Path,
    parameters: UnitQualityParameters,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """Judge the units of an analyzer.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With templates, spike_amplitudes, quality_metrics and unit_locations, and the masked
        periods: rates and presence are over valid time, as all metrics of the analyzer.
    folder : Path
        Not written to.
    parameters : UnitQualityParameters
        Limits of the criteria.
    progress : Progress
        Called unit by unit.

    Returns
    -------
    StepResult
        Table `unit_quality`, one row a unit; `good` is NA where `good_reason` says why the unit
        could not be judged. Metrics: `n_units`, those of `count_verdicts`, those of `count_passed`
        of `ibl` and `aind`, `median_snr`, `median_firing_rate_hz`, `max_firing_rate_hz`,
        `median_amplitude_uv`, `median_presence_ratio`, `median_rp_contamination`, `valid_s`,
        `units_per_channel`. A picture of depth, amplitude and label.

    Raises
    ------
    PermanentFailure
        When the analyzer lacks an extension, or does not say what was masked.
    """
    _require(analyzer)
    fs = analyzer.sampling_frequency
    masked = masked_of(analyzer)
    valid_samples = analyzer.get_total_samples() - int(np.diff(masked).sum())
    ours = _spike_rows(analyzer, masked, valid_samples, parameters, progress)
    theirs = _spikeinterface_metrics(analyzer)
    table = _identity(analyzer).join([ours, theirs[theirs.columns.difference(ours.columns)]])
    table["far_amplitude_ratio"] = far_amplitude_ratio(analyzer)
    if analyzer.has_extension("template_metrics"):
        table["second_trough_ratio"] = second_trough_ratio(analyzer)
    if {"sd_ratio", "snr"} <= set(table):
        # What noise (1 SD) does not explain of the spikes' spread, in parts of the amplitude.
        spread = table["sd_ratio"] * table.pop("bulk_spread")
        table["amplitude_excess_cv"] = (spread**2 - 1).clip(lower=0) ** 0.5 / table["snr"]
    add_ibl_label(table)
    reasons = unknown_reasons(table, valid_samples / fs, parameters)
    table["presence_ratio_reason"] = reasons["presence_ratio"]
    ibl = fulfils(table, IBL_GOOD, reasons)
    aind = fulfils(table, AIND_DEFAULT_QC, reasons)
    table["aind_default_qc"], reasons["aind_default_qc"] = aind
    table["noise_reason"] = noise_reasons(table, parameters.noise)
    noise = table["noise_reason"] != ""
    table["good"], table["good_reason"] = fulfils(table, parameters.good, reasons, noise)
    table["label"] = labels(table["good"], table["noise_reason"])
    table = _ordered(table.reset_index())
    return StepResult(
        metrics={
            **_metrics(table, analyzer, valid_samples / fs),
            **count_passed("ibl", *ibl),
            **count_passed("aind", *aind),
        },
        tables={"unit_quality": table},
        applied=[Applied("unit_quality", parameters.model_dump(mode="json"))],
        picture=units_picture(table, parameters),
    )


def _require(analyzer: SortingAnalyzer) -> None:
    for name in ("templates", "spike_amplitudes", "quality_metrics", "unit_locations"):
        if not analyzer.has_extension(name):
            raise PermanentFailure(f"The analyzer has no extension {name}; make it again")


def _identity(analyzer: SortingAnalyzer) -> pd.DataFrame:
    """Name the units, their main channels and positions."""
    main = analyzer.get_main_channels(outputs="id", with_dict=True)
    locations = analyzer.get_extension("unit_locations").get_data()
    groups = analyzer.get_recording_property("group")
    shanks = np.zeros(analyzer.get_num_channels()) if groups is None else np.asarray(groups)
    indices = analyzer.get_main_channels(outputs="index")
    return pd.DataFrame(
        {
            "main_channel_id": [str(main[unit]) for unit in analyzer.unit_ids],
            "shank": [str(shanks[index]) for index in indices],
            "x_um": locations[:, 0],
            "y_um": locations[:, 1],
        },
        index=pd.Index(np.asarray(analyzer.unit_ids), name="unit_id"),
    )


def _spikeinterface_metrics(analyzer: SortingAnalyzer) -> pd.DataFrame:
    """SpikeInterface's quality and template metrics, under their own names, as numbers."""
    frames = [
        analyzer.get_extension(name).get_data().add_prefix("")
        for name in ("quality_metrics", "template_metrics")
        if analyzer.has_extension(name)
    ]
    table = pd.concat(frames, axis=1).apply(pd.to_numeric, errors="coerce")
    table.index = pd.Index(np.asarray(analyzer.unit_ids), name="unit_id")
    return table


def _spike_rows(
    analyzer: SortingAnalyzer,
    masked: np.ndarray,
    n_valid: int,
    parameters: UnitQualityParameters,
    progress: Progress,
) -> pd.DataFrame:
    """Metrics of spike times and amplitudes, over valid time."""
    fs = analyzer.sampling_frequency
    amplitudes = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0]
    scales, timeline = peak_to_peak_scale(analyzer), timeline_of(analyzer.sorting)
    rows = []
    for i, unit in enumerate(analyzer.unit_ids):
        samples = analyzer.sorting.get_unit_spike_train(unit, segment_index=0)
        heights = np.abs(amplitudes[unit]) * scales[i]
        valid = spike_metrics.valid_samples(samples, masked)
        test = spike_metrics.sliding_rp(
            timeline.on_clock(samples),
            fs,
            parameters.ibl_contamination_percent,
        )
        rows.append(
            {
                "firing_rate": len(samples) * fs / n_valid,
                "presence_ratio": spike_metrics.presence_ratio(
                    valid, n_valid, int(parameters.presence_bin_s * fs)
                ),
                "central_span": spike_metrics.central_span(valid, n_valid),
                "bulk_spread": spike_metrics.bulk_spread(amplitudes[unit]),
                "ibl_presence_ratio": spike_metrics.presence_ratio(
                    valid, n_valid, int(parameters.ibl_presence_bin_s * fs)
                ),
                "ibl_max_confidence": test.max_confidence,
                "ibl_min_contamination": test.min_contamination,
                "ibl_reachable_confidence": test.reachable_confidence,
                "contamination_p": test.contamination_p,
                "ibl_noise_cutoff": spike_metrics.noise_cutoff(
                    heights, parameters.noise_cutoff_quantile, parameters.noise_cutoff_bins
                ),
                "ibl_amp_median_uv": spike_metrics.geometric_median(heights),
            }
        )
        progress((i + 1) / len(analyzer.unit_ids), f"unit {unit}")
    return pd.DataFrame(rows, index=pd.Index(np.asarray(analyzer.unit_ids), name="unit_id"))


def unknown_reasons(
    table: pd.DataFrame, valid_s: float, parameters: UnitQualityParameters
) -> pd.DataFrame:
    """Say which values of which units are no ground for a verdict, and why.

    A presence ratio needs one bin of valid time: SpikeInterface gives NaN (and warns) on shorter
    recordings, and so do we. The sliding refractory period test can be confident only of units
    with many spikes: where a clean unit need not pass it, none is called bad for failing it.

    Parameters
    ----------
    table : DataFrame
        Metrics and IBL's label, one row a unit.
    valid_s : float
        Valid time, seconds.
    parameters : UnitQualityParameters
        Bins and least confidence.

    Returns
    -------
    DataFrame of str
        Same rows and number columns; empty where the value is a ground.
    """
    spikes = table["num_spikes"] if "num_spikes" in table else pd.Series(0, index=table.index)
    few = pd.Series(
        [f"cannot be computed of {n:.0f} spikes in {valid_s:.1f} s" for n in spikes], table.index
    )
    numbers = table.select_dtypes("number")
    reasons = pd.DataFrame("", index=table.index, columns=numbers.columns, dtype=object)
    for column in numbers.columns:
        reasons[column] = few.where(numbers[column].isna(), "")
    if valid_s < parameters.presence_bin_s:
        reasons["presence_ratio"] = (
            f"{valid_s:.1f} s of valid time hold no bin of {parameters.presence_bin_s:g} s"
        )
    low = table["central_span"] < (parameters.good.get("central_span", (None, None))[0] or 0)
    if valid_s < parameters.span_min_s:
        paused = f"{valid_s:.1f} s of valid time are too short to tell a piece from"
    else:
        low &= table["central_span"] >= parameters.span_bad
        paused = "may be a piece of a cell, or"
    reasons["central_span"] = reasons["central_span"].mask(low, f"{paused} a cell that paused")
    sure = parameters.good.get("ibl_max_confidence", (None, None))[0]
    computed = reasons["ibl_max_confidence"]
    limit = IBL_LIMITS["ibl_max_confidence"]
    by_ibl = reasons[list(IBL_LIMITS)].assign(
        ibl_max_confidence=_unsure(table, limit, valid_s, computed)
    )
    reasons["ibl_max_confidence"] = _unsure(table, sure or 0.0, valid_s, computed)
    # IBL's label counts what is unknown as failed; it is no ground unless something else failed.
    unknown = (by_ibl != "").to_numpy() @ np.array([1, 2, 4])
    failed = table["ibl_bitwise_fail"].to_numpy()
    joined = by_ibl.apply(joined_reasons, axis=1).where((failed > 0) & (failed & ~unknown == 0), "")
    reasons["ibl_label"] = reasons["ibl_bitwise_fail"] = joined
    return reasons


def _unsure(table: pd.DataFrame, least: float, valid_s: float, otherwise: pd.Series) -> pd.Series:
    """Why a confidence below a limit is no ground; where it is one, the other reason."""
    reachable = table["ibl_reachable_confidence"]
    unsure = table["ibl_max_confidence"].lt(least) & ~reachable.ge(least)
    unsure &= ~table["contamination_p"].lt(PROVEN_P)
    spikes = table.get("num_spikes", pd.Series(0, table.index))
    texts = [
        f"{n:.0f} spikes in {valid_s:.1f} s give a clean unit {sure:.0f} % confidence, "
        f"not {least:g}"
        for n, sure in zip(spikes, reachable, strict=True)
    ]
    return otherwise.mask(unsure, pd.Series(texts, table.index, dtype=object))


def add_ibl_label(table: pd.DataFrame) -> None:
    """Add IBL's label and the bits of the criteria that failed.

    Parameters
    ----------
    table : DataFrame
        With the columns of `IBL_LIMITS`; gets `ibl_label` (mean of the three, 0..1) and
        `ibl_bitwise_fail` (bit 0: sliding RP, 1: noise cutoff, 2: amplitude). NaN fails.
    """
    confidence, cutoff, amplitude = (table[name].to_numpy(dtype=float) for name in IBL_LIMITS)
    sure, most, least = IBL_LIMITS.values()
    passed = np.stack([confidence >= sure, cutoff < most, amplitude > least], axis=1)
    table["ibl_label"] = passed.mean(axis=1)
    table["ibl_bitwise_fail"] = ((~passed) @ np.array([1, 2, 4])).astype(np.uint8)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    first = ["unit_id", "label", "good", "good_reason", "noise_reason"]
    first += ["ibl_label", "ibl_bitwise_fail", "aind_default_qc"]
    first += ["main_channel_id", "shank", "x_um", "y_um", "num_spikes", "firing_rate"]
    first += [name for name in ("presence_ratio", "presence_ratio_reason") if name in table]
    first = [name for name in first if name in table]
    return table[first + sorted(set(table.columns) - set(first))]


def _metrics(table: pd.DataFrame, analyzer: SortingAnalyzer, valid_s: float) -> dict[str, Any]:
    def median(column: str) -> float:
        return float(table[column].median()) if column in table else float("nan")

    n_units = len(table)
    return {
        "n_units": n_units,
        **count_verdicts(table),
        "median_snr": median("snr"),
        "median_firing_rate_hz": median("firing_rate"),
        "max_firing_rate_hz": float(table["firing_rate"].max()),
        "median_amplitude_uv": median("ibl_amp_median_uv"),
        "median_presence_ratio": median("presence_ratio"),
        "median_rp_contamination": median("rp_contamination"),
        "valid_s": valid_s,
        "units_per_channel": n_units / analyzer.get_num_channels(),
    }
