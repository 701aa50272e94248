"""Parameters of the LFP: band, rate, what is done with bad channels, how it is stored.

The method itself lives in `neuro_assets.science.lfp.extract`; nothing here computes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from neuro_assets.parameters.base import NamedSet, StepParameters


class LfpParameters(StepParameters):
    """Parameters of step `lfp`."""

    step: ClassVar[str] = "lfp"
    algorithm_version: ClassVar[str] = "2"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="neuro_assets: IBL's band (ibl-neuropixel destripe_lfp, 0.5-300 Hz) at "
            "Spyglass's rate (1000 Hz); flat to 300 Hz, 80 dB down from 450 Hz, so nothing folds"
        ),
        "ibl": NamedSet(
            source="int-brain-lab/ibl-neuropixel voltage.destripe_lfp: 0.5-300 Hz, kept at the "
            "2500 Hz of the LF band (its spatial filter is not part of this step)",
            values={"sampling_frequency_hz": 2500.0},
        ),
        "aind": NamedSet(
            source="AllenNeuralDynamics/aind-ephys-pipeline 1.3.1 with aind-ecephys-nwb: "
            "0.5-500 Hz from wide band, 2500 Hz, then every second sample (1250 Hz); all "
            "channels are kept where that pipeline keeps every fourth",
            values={
                "sampling_frequency_hz": 1250.0,
                "lowpass_hz": 500.0,
                "lowpass_transition_hz": 125.0,
            },
        ),
        "spyglass": NamedSet(
            source="LorenFrankLab/spyglass FirFilterParameters 'LFP 0-400 Hz': pass to 400 Hz, "
            "stop from 425 Hz, 1000 Hz, no high-pass",
            values={"highpass_hz": None, "lowpass_hz": 400.0, "lowpass_transition_hz": 25.0},
        ),
    }

    sampling_frequency_hz: float = Field(1000.0, gt=0)
    """wanted rate of the LFP, Hz; the rate made is the recording's own rate times a ratio of small
    integers, so that sample k lies exactly at k / rate"""
    rate_tolerance: float = Field(1e-3, gt=0, le=0.05)
    """how far the rate made may be from the wanted one, as a fraction; calibrated probe clocks
    (30000.39 Hz) differ from nominal by some 1e-5"""
    highpass_hz: float | None = Field(0.5, gt=0)
    """frequency where the zero-phase Gaussian high-pass passes 70.7 % of the amplitude (-3 dB), Hz;
    none: the mean level is kept"""
    lowpass_hz: float = Field(300.0, gt=0)
    """highest frequency that passes unchanged (within 0.1 %), Hz"""
    lowpass_transition_hz: float = Field(150.0, gt=0)
    """width between pass band and stop band, Hz"""
    stopband_db: float = Field(80.0, ge=40, le=120)
    """attenuation in the stop band, dB"""
    phase_shift: bool = True
    """align the channels' sampling times where `inter_sample_shift` is known"""
    bad_channels: Literal["keep", "interpolate"] = "keep"
    """keep: every channel as it is, with its label; interpolate: dead and noisy channels are
    replaced by their neighbours (channels outside the brain never)"""
    interpolation_sigma_um: float = Field(20.0, gt=0)
    """distance scale of the interpolation's weights, um (IBL: 20)"""
    interpolation_p: float = Field(1.3, gt=0)
    """exponent of the interpolation's weights (IBL: 1.3), no unit"""
    dtype: Literal["int16", "float32"] = "int16"
    """stored number: int16 with a gain, or float32 in uV"""
    resolution_uv: float = Field(0.5, gt=0)
    """one step of the int16 numbers, uV: 0.5 adds 0.14 uV RMS and reaches +-16.4 mV, beyond the
    +-12 mV of Neuropixels 1.0 at its lowest gain"""
    chunk_s: float = Field(10.0, gt=0, le=120)
    """length of a stored chunk, s"""
    channels_per_chunk: int = Field(64, ge=1)
    """channels in a stored chunk"""
    compression_level: int = Field(8, ge=0, le=12)
    """level of pcodec, no unit"""
    line_frequencies_hz: tuple[float, ...] = (50.0, 60.0)
    """mains frequencies whose worse one is reported, Hz"""

    @model_validator(mode="after")
    def _band_fits_rate(self) -> Self:
        lowest = self.sampling_frequency_hz * (1 - self.rate_tolerance)
        if self.stop_hz > lowest / 2 * (1 + 2 * self.rate_tolerance):
            raise ValueError(
                f"lowpass_hz + lowpass_transition_hz = {self.stop_hz:g} Hz lies above half of "
                f"sampling_frequency_hz = {self.sampling_frequency_hz:g} Hz: it would fold back"
            )
        if self.highpass_hz is not None and self.highpass_hz >= self.lowpass_hz:
            raise ValueError("highpass_hz must be below lowpass_hz")
        return self

    @property
    def stop_hz(self) -> float:
        """Where the stop band begins, Hz."""
        return self.lowpass_hz + self.lowpass_transition_hz
