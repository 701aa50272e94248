"""Parameters of the judgement of units; it is made in `neuro_assets.science.unit_quality`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters

Limits = tuple[float | None, float | None]
"""Least and greatest allowed value, both inclusive; None: no limit."""

AIND_DEFAULT_QC: dict[str, Limits] = {
    "rp_contamination": (None, 0.5),
    "presence_ratio": (0.8, None),
    "amplitude_cutoff": (None, 0.1),
}
"""aind-ephys-pipeline e85fb1f (1.3.1), curation.qc_thresholds; limits inclusive.

A value that cannot be computed fails there; here the unit is unknown."""


class UnitQualityParameters(StepParameters):
    """Limits of the criteria.

    Attributes
    ----------
    good
        What a unit has to fulfil to be called good.
    """

    step: ClassVar[str] = "unit_quality"
    algorithm_version: ClassVar[str] = "2"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(source="ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units"),
        "ibl": NamedSet(source="ibllib 0ca9305 (4.0.0), brainbox.metrics.single_units"),
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
    ibl_min_confidence: float = Field(90.0, ge=0, le=100)
    """Least confidence of the sliding RP test, percent"""
    ibl_max_noise_cutoff: float = 5.0
    """noise_cutoff has to be below it, standard deviations"""
    ibl_min_amplitude_uv: float = Field(50.0, ge=0)
    """The median amplitude has to be above it, microvolts"""
    noise_cutoff_quantile: float = Field(0.25, gt=0, lt=0.5)
    """IBL's quantile of the amplitude distribution"""
    noise_cutoff_bins: int = Field(100, ge=10)
    """Bin edges of IBL's histogram"""
    good: dict[str, Limits] = {"ibl_label": (1.0, None)}
    """Columns and their least and greatest allowed values, inclusive"""
