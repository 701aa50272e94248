"""Parameters of the spike-band chain that motion, sorting and analyzer share.

Only values; the chain is built in `neuro_assets.science.preprocessing`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

IBL_DESTRIPE = {
    "highpass_hz": 300.0,
    "filter_order": 3,
    "reference": "destripe",
    "phase_shift_margin_ms": 100.0,
}
"""IBL's destripe as SpikeInterface offers it: order 3 at 300 Hz, then a spatial high-pass."""


class SpikeBand(BaseModel):
    """From raw traces to the band in which spikes are seen.

    Attributes
    ----------
    highpass_hz, lowpass_hz, filter_order
        The zero-phase Butterworth filter.
    reference, min_reference_channels
        What is subtracted across channels.
    mask_pad_ms, mask_edge_ms
        How saturated periods are bridged.
    phase_shift_margin_ms
        Context of the phase shift.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    highpass_hz: float = Field(300.0, gt=0)
    """Corner of the high-pass, Hz"""
    lowpass_hz: float | None = Field(None, gt=0)
    """Corner of a low-pass, Hz; none when empty"""
    filter_order: int = Field(5, ge=1, le=8)
    """Order of the Butterworth filter"""
    reference: Literal["global", "local", "destripe", "none"] = "global"
    """Median of all good channels of a shank, of an annulus around each channel, or a high-pass
    along the probe"""
    local_radius_um: tuple[float, float] = (30.0, 200.0)
    """Inner and outer radius of the annulus of `local`, um"""
    min_reference_channels: int = Field(16, ge=2)
    """A median over fewer channels would subtract the spikes themselves: then none"""
    mask_pad_ms: float = Field(1.0, ge=0)
    """Added to both ends of a saturated period, milliseconds"""
    mask_edge_ms: float = Field(1.0, gt=0)
    """Length of the means that a bridged period connects, milliseconds"""
    phase_shift_margin_ms: float = Field(40.0, ge=1)
    """Context on either side of a chunk for the phase shift, ms"""

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> SpikeBand:
        if self.lowpass_hz is not None and self.lowpass_hz <= self.highpass_hz:
            raise ValueError(
                f"lowpass_hz ({self.lowpass_hz:g} Hz) must be above highpass_hz "
                f"({self.highpass_hz:g} Hz)"
            )
        return self
