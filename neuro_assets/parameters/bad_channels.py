"""Parameters of bad channel detection and of the rule that says what is worth sorting."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters


class BadChannelsParameters(StepParameters):
    """How `bad_channels` labels channels, and what `sorting` needs of them."""

    step: ClassVar[str] = "bad_channels"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="SpikeInterface 0.105 detect_bad_channels (thresholds as in IBL's "
            "ibl-neuropixel), after phase shift as in aind-ephys-pipeline; 120 s as there"
        ),
        "aind": NamedSet(
            source="AllenNeuralDynamics/aind-ephys-pipeline 1.3.1 (e85fb1f), "
            "pipeline/default_params.json",
            values={"outside_channel_threshold": -0.3, "n_neighbors": 11},
        ),
        "ibl": NamedSet(
            source="int-brain-lab/ibl-neuropixel 2749be5 ibldsp.voltage.detect_bad_channels; "
            "order 3 high-pass, no phase shift, 1 s pieces every 300 s",
            values={
                "phase_shift": False,
                "highpass_order": 3,
                "chunk_duration_s": 1.0,
                "n_chunks": 25,
                "welch_window_ms": 256 / 30,
            },
        ),
        "spikeinterface": NamedSet(
            source="SpikeInterface a5f7dbb (0.105) detect_bad_channels defaults",
            values={"phase_shift": False},
        ),
        "demo": NamedSet(
            source="neuro_assets: as default, for recordings of a minute",
            values={"min_duration_s": 10.0, "n_chunks": 30},
        ),
    }

    method: Literal["coherence+psd", "mad"] = "coherence+psd"
    """`coherence+psd`, or `mad` (spread against the median spread). Shanks with fewer than
    `min_channels_coherence` channels always get `mad`. No unit."""
    min_channels_coherence: int = Field(12, ge=3)
    """Channels that a shank needs for coherence to mean anything, count."""
    dead_channel_threshold: float = -0.5
    """Similarity to the neighbours' below which a channel is dead."""
    noisy_channel_threshold: float = 1.0
    """Similarity above the neighbours' beyond which it is noisy."""
    outside_channel_threshold: float = -0.75
    """Smoothed similarity minus one below which the top end is out of the brain."""
    psd_hf_threshold: float = Field(0.02, gt=0)
    """Mean power above `nyquist_threshold` that makes a channel noisy, uV^2/Hz."""
    nyquist_threshold: float = Field(0.8, gt=0, lt=1)
    """Where high frequencies begin, fraction of Nyquist."""
    n_neighbors: int = Field(11, ge=3)
    """Channels of the median filter along depth, odd count."""
    outside_channels_location: Literal["top", "bottom", "both"] = "top"
    """Which end of a shank can be out of the brain. No unit."""
    chunk_duration_s: float = Field(0.3, gt=0)
    """Length of one examined piece, seconds."""
    n_chunks: int = Field(100, ge=1)
    """Pieces spread over the recording (fewer if short), count."""
    welch_window_ms: float = Field(10.0, gt=0)
    """Welch window, milliseconds."""
    highpass_hz: float = Field(300.0, gt=0)
    """High-pass cut-off, Hz."""
    highpass_order: int = Field(5, ge=1)
    """Order of the Butterworth filter."""
    phase_shift: bool = True
    """Undo the multiplexer's delays first, where they are known."""
    mad_factor: float = Field(5.0, gt=1)
    """For `mad`: spread more than this many times the median spread is noise, less than its inverse
    is dead (ratio). SpikeInterface's std_mad_threshold."""
    seed: int = 0
    """Seed of the places of the pieces. No unit."""
    min_duration_s: float = Field(120.0, ge=0)
    """Shorter recordings are not sorted, seconds."""
    min_good_channels: int = Field(32, ge=1)
    """Good channels that one unbroken stretch of a shank needs, count."""
    min_good_fraction: float = Field(0.5, gt=0, le=1)
    """For shanks with few channels: this fraction of them is enough."""
    max_gap_um: float = Field(100.0, gt=0)
    """Bad channels break a good stretch where they leave a longer gap, um."""
