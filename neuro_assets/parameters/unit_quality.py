"""Parameters of the judgement of units; it is made in `neuro_assets.science.unit_quality`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator

from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.parameters.unit_columns import DESCRIPTIONS, WITHOUT_NUMBER

Limits = tuple[float | None, float | None]
"""Least and greatest allowed value, both inclusive; None: no limit."""

AIND_DEFAULT_QC: dict[str, Limits] = {
    "rp_contamination": (None, 0.5),
    "presence_ratio": (0.8, None),
    "amplitude_cutoff": (None, 0.1),
}
"""aind-ephys-pipeline e85fb1f (1.3.1), curation.qc_thresholds; limits inclusive.

A value that cannot be computed fails there; here the unit is unknown."""

IBL_LIMITS = {"ibl_max_confidence": 90.0, "ibl_noise_cutoff": 5.0, "ibl_amp_median_uv": 50.0}
"""ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units: at least, below, above.

In the order of the bits of `ibl_bitwise_fail`, least significant first. IBL's label is always by
these; another limit for a good unit stands in `good`."""

IBL_GOOD: dict[str, Limits] = {"ibl_label": (1.0, None)}
"""ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units: all three criteria."""

NOISE: dict[str, dict[str, Limits]] = {
    "many_peaks": {"num_positive_peaks": (3, None)},
    "many_troughs": {"num_negative_peaks": (2, None), "second_trough_ratio": (0.1, None)},
    "too_fast": {"peak_to_trough_duration": (None, 0.0001)},
    "too_slow": {"peak_to_trough_duration": (0.00115, None)},
    "uneven_baseline": {"waveform_baseline_flatness": (0.5, None)},
    "large_after_peak": {"peak_after_to_trough_ratio": (0.8, None)},
    "no_spike": {"snr": (None, 1.0)},
    "noise_shape": {"trough_half_width": (None, 0.00015), "snr": (None, 4.0)},
    "mixed_amplitudes": {"amplitude_excess_cv": (0.35, None)},
    "widespread": {"far_amplitude_ratio": (0.6, None)},
}
"""Names, and the range of each column within which (of all) a unit is noise.

The first six are bombcell's (845f8ff, as in SpikeInterface 0.105.3, `bombcell_label_units`), the
depth of a second trough and the others are measured (docs/benchmarks.md). Durations in seconds."""


def _checked(limits: Mapping[str, Limits], where: str = "") -> None:
    """Refuse ranges that no value is in, that all are in, and columns that hold no number."""
    for column, (least, greatest) in limits.items():
        name = f"{where}{column}"
        if column not in DESCRIPTIONS or column in WITHOUT_NUMBER:
            raise ValueError(
                f"{name}: no number of this name is computed of units; see the table unit_quality"
            )
        if least is None and greatest is None:
            raise ValueError(f"{name}: neither a least nor a greatest value; leave it out")
        if least is not None and greatest is not None and not least <= greatest:
            raise ValueError(f"{name}: no value is from {least:g} to {greatest:g}; swap them")


class UnitQualityParameters(StepParameters):
    """Limits of the criteria.

    Attributes
    ----------
    good
        What a unit that is no noise has to fulfil to be called good.
    noise
        What makes a unit noise: each criterion by its name.
    """

    step: ClassVar[str] = "unit_quality"
    algorithm_version: ClassVar[str] = "3"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units, without its limit of "
            "amplitude; span and noise: see NOISE and docs/benchmarks.md"
        ),
        "ibl": NamedSet(
            source="ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units; noise as by default",
            values={"good": IBL_GOOD},
        ),
        "aind": NamedSet(
            source="aind-ephys-pipeline e85fb1f (1.3.1), curation.qc_thresholds",
            values={"good": AIND_DEFAULT_QC},
        ),
        "spikeinterface": NamedSet(
            source="SpikeInterface's guide 'Analyze Neuropixels datasets'",
            values={
                "good": {
                    "amplitude_cutoff": (None, 0.1),
                    "isi_violations_ratio": (None, 1.0),
                    "presence_ratio": (0.9, None),
                }
            },
        ),
    }

    presence_bin_s: float = Field(60.0, gt=0)
    """Bin of presence_ratio, seconds"""
    ibl_presence_bin_s: float = Field(10.0, gt=0)
    """Bin of ibl_presence_ratio, seconds"""
    ibl_contamination_percent: float = Field(10.0, gt=0, lt=35)
    """Contamination that the sliding RP test allows, percent"""
    noise_cutoff_quantile: float = Field(0.25, gt=0, lt=0.5)
    """IBL's quantile of the amplitude distribution"""
    noise_cutoff_bins: int = Field(100, ge=10)
    """Bin edges of IBL's histogram"""
    span_min_s: float = Field(50.0, ge=0)
    """In less valid time a low central_span makes no unit bad, seconds"""
    span_bad: float = Field(0.4, ge=0, le=1)
    """A central_span below its limit in `good`, but not below this one, makes a unit unknown"""
    good: dict[str, Limits] = {
        "ibl_max_confidence": (90.0, None),
        "ibl_noise_cutoff": (None, 5.0),
        "central_span": (0.55, None),
    }
    """Columns and their least and greatest allowed values, inclusive"""
    noise: dict[str, dict[str, Limits]] = NOISE
    """Criteria and the ranges of columns, inclusive: within all of one's, a unit is noise. Those
    that are named replace or are added to the default's, `{}` switches one off; empty: none"""

    @field_validator("good")
    @classmethod
    def _good(cls, good: dict[str, Limits]) -> dict[str, Limits]:
        _checked(good)
        return good

    @field_validator("noise")
    @classmethod
    def _noise(cls, noise: dict[str, dict[str, Limits]]) -> dict[str, dict[str, Limits]]:
        for name, ranges in noise.items():
            if "," in name:
                raise ValueError(f"{name!r}: the name of a criterion has no comma")
            _checked(ranges, f"{name}.")
        return NOISE | noise if noise else noise
