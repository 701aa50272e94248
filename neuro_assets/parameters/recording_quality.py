"""Parameters of the quality measures of a recording, and their named sets."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters


class RecordingQualityParameters(StepParameters):
    """How `recording_quality` samples, destripes and judges a recording."""

    step: ClassVar[str] = "recording_quality"
    algorithm_version: ClassVar[str] = "2"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="int-brain-lab/ibllib 0ca9305 ephysqc.py (1 s every 300 s from 40 s, Welch "
            "1024, spikes at -50 uV) and ibl-neuropixel 2749be5 voltage.py (saturation); common "
            "median reference as in aind-ephys-pipeline 1.3.1"
        ),
        "ibl": NamedSet(
            source="int-brain-lab/ibl-neuropixel 2749be5 ibldsp.voltage.destripe",
            values={"spatial_filter": "kfilt"},
        ),
        "aind": NamedSet(
            source="AllenNeuralDynamics/aind-ephys-pipeline 1.3.1 (e85fb1f): highpass 300 Hz, "
            "phase shift, global median; saturation by range only (aind-ephys-processing-qc)",
            values={"saturation_slope_uv": None},
        ),
    }

    piece_s: float = Field(1.0, gt=0)
    """Length of one examined piece, seconds."""
    first_piece_s: float = Field(40.0, ge=0)
    """Start of the first piece of long recordings, seconds."""
    piece_interval_s: float = Field(300.0, gt=0)
    """From one piece's start to the next one's, seconds."""
    min_pieces: int = Field(5, ge=1)
    """Where that gives fewer pieces, so many are spread evenly (or all), count."""
    highpass_hz: float = Field(300.0, gt=0)
    """High-pass cut-off, Hz."""
    highpass_order: int = Field(3, ge=1)
    """Order of the Butterworth filter."""
    spatial_filter: Literal["car", "kfilt"] = "car"
    """Common median of each shank, or IBL's spatial high-pass (`kfilt`: 60 mirrored channels, gain
    control over 0.1 s, order 3, 0.01 of Nyquist). No unit."""
    min_reference_channels: int = Field(16, ge=2)
    """Over fewer channels of a shank the median is of all shanks; over fewer of all there is none:
    it would subtract the spikes themselves."""
    spike_threshold_uv: float = Field(-50.0, lt=0)
    """Threshold of the spike rate after destriping, uV."""
    welch_samples: int = Field(1024, ge=16)
    """Window of the power spectrum, samples."""
    line_harmonics: int = Field(4, ge=1)
    """Harmonics of 50 and 60 Hz that are looked at, count."""
    saturation_fraction_of_range: float = Field(0.96, gt=0, le=1)
    """Part of the range beyond which a sample clips."""
    saturation_range_uv: float | None = None
    """Range of the amplifier, uV; by default what the probe says (1200 for Neuropixels 1.0 at gain
    500, 6250 or 6200 for 2.0), else the range of the data type."""
    saturation_slope_uv: float | None = 300.0
    """Jump from one sample to the next that counts as saturation (spike band only), uV; IBL's 1e-8
    V/s-unit at 30 kHz. None: not looked at."""
    saturation_channels: float = Field(0.2, gt=0, lt=1)
    """Fraction of channels that must saturate together."""
    saturation_gap_samples: int = Field(7, ge=0)
    """Shorter pauses do not end a saturated interval, samples (IBL's mute window)."""
