"""Parameters of the motion estimate; the estimate is `neuro_assets.science.motion`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.parameters.preprocessing import SpikeBand


class MotionParameters(StepParameters):
    """How the drift of the probe against the tissue is estimated.

    Attributes
    ----------
    preset
        SpikeInterface's name of the method.
    bin_s, window_step_um, window_scale_um
        Resolution in time and depth.
    """

    step: ClassVar[str] = "motion"
    algorithm_version: ClassVar[str] = "3"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(source="SpikeInterface 0.105.3, preset dredge_fast"),
        "spikeinterface": NamedSet(source="SpikeInterface 0.105.3, preset dredge_fast"),
        "aind": NamedSet(
            source="aind-ephys-pipeline e85fb1f (1.3.1): dredge_fast, windows a tenth of the span",
            values={"window_step_span": 0.1, "window_scale_span": 0.1},
        ),
        "ibl": NamedSet(
            source="ibl-sorter 8f06406: DREDge, windows every 400 um with a scale of 450 um",
            values={"preset": "dredge", "window_step_um": 400.0, "window_scale_um": 450.0},
        ),
    }

    preset: Literal[
        "dredge",
        "dredge_fast",
        "nonrigid_accurate",
        "nonrigid_fast_and_accurate",
        "rigid_fast",
        "kilosort_like",
    ] = "dredge_fast"
    """SpikeInterface's motion preset"""
    min_channels: int = Field(96, ge=2)
    """Fewer good channels: skipped (too_few_channels)"""
    min_duration_s: float = Field(30.0, ge=0)
    """Shorter recordings: skipped (recording_too_short), seconds"""
    bin_s: float = Field(1.0, gt=0)
    """Temporal bin, seconds"""
    window_step_um: float = Field(400.0, gt=0)
    """Distance of depth windows, um"""
    window_scale_um: float = Field(400.0, gt=0)
    """Width of depth windows, um"""
    window_step_span: float | None = Field(None, gt=0, le=1)
    """Distance of windows as a fraction of the probe's span"""
    window_scale_span: float | None = Field(None, gt=0, le=1)
    """Width of windows as a fraction of the probe's span"""
    detect_threshold: float = Field(8.0, gt=0)
    """Peaks above this many noise levels (MAD) are used"""
    max_error_um: float = Field(2.0, gt=0)
    """Windows whose estimates from halves of the peaks give a larger error are not believed, um;
    the true error is larger: measured in docs/quality.md"""
    max_bin_error_um: float = Field(5.0, gt=0)
    """Time bins with a larger error are interpolated and no drift, um"""
    min_peaks_per_bin: float = Field(10.0, ge=0)
    """Windows with fewer peaks in the median time bin are not believed, count"""
    band: SpikeBand = SpikeBand()
    """The chain before the peaks are found"""
