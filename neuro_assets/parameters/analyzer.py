"""Parameters of the sorting analyzer; it is computed in `neuro_assets.science.analyzer`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.parameters.preprocessing import IBL_DESTRIPE, SpikeBand

METRICS: tuple[str, ...] = (
    "num_spikes",
    "firing_rate",
    "presence_ratio",
    "snr",
    "isi_violation",
    "rp_violation",
    "sliding_rp_violation",
    "amplitude_cutoff",
    "amplitude_median",
    "amplitude_cv",
    "noise_cutoff",
    "synchrony",
    "firing_range",
    "drift",
    "sd_ratio",
)
"""SpikeInterface's quality metrics that need no principal components."""

PCA_METRICS: tuple[str, ...] = ("mahalanobis", "d_prime", "nearest_neighbor", "silhouette")
"""SpikeInterface's quality metrics on principal components."""

UnitLocations = Literal["monopolar_triangulation", "grid_convolution", "center_of_mass"]


class AnalyzerParameters(StepParameters):
    """Which extensions are computed, and how.

    Attributes
    ----------
    radius_um
        Sparsity: channels of a unit.
    duplicate_threshold
        Above it one of two units with the same spikes is removed.
    """

    step: ClassVar[str] = "analyzer"
    algorithm_version: ClassVar[str] = "3"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(
            source="aind-ephys-pipeline e85fb1f (1.3.1) without principal components and amplitude "
            "scalings, which none of the criteria here needs; waveforms -1/+2 ms"
        ),
        "aind": NamedSet(
            source="aind-ephys-pipeline e85fb1f (1.3.1), pipeline/default_params.json",
            values={
                "ms_before": 2.0,
                "ms_after": 3.0,
                "unit_locations": "monopolar_triangulation",
                "amplitude_scalings": True,
                "principal_components": 5,
                "metrics": METRICS + PCA_METRICS,
                "band": {"phase_shift_margin_ms": 100.0},
            },
        ),
        "ibl": NamedSet(
            source="ibl-sorter 8f06406: destripe, 256 waveforms a unit, 128 samples of 30 kHz with "
            "the trough at 42",
            values={
                "max_spikes_per_unit": 256,
                "ms_before": 1.4,
                "ms_after": 2.86,
                "band": IBL_DESTRIPE,
            },
        ),
        "spikeinterface": NamedSet(
            source="SpikeInterface 0.105.3 defaults",
            values={"duplicate_threshold": 0.8, "unit_locations": "monopolar_triangulation"},
        ),
    }

    radius_um: float = Field(100.0, gt=0)
    """Channels within this distance of a unit's main channel, um"""
    max_spikes_per_unit: int = Field(500, ge=50)
    """Spikes of a unit whose waveforms are kept"""
    ms_before: float = Field(1.0, gt=0)
    """Start of a waveform before its spike, ms"""
    ms_after: float = Field(2.0, gt=0)
    """End of a waveform after its spike, ms"""
    duplicate_threshold: float = Field(0.9, gt=0, le=1)
    """A unit goes when more than this fraction of either's spikes coincide"""
    duplicate_window_ms: float = Field(0.4, gt=0)
    """Spikes of two units coincide within this time, milliseconds"""
    unit_locations: Literal["monopolar_triangulation", "grid_convolution", "center_of_mass"] = (
        "monopolar_triangulation"
    )
    """Method for the position of a unit"""
    spike_locations: Literal["grid_convolution", "center_of_mass"] = "grid_convolution"
    """Method for the position of a spike"""
    template_similarity: Literal["l1", "l2", "cosine"] = "l1"
    """Distance between two templates"""
    correlogram_window_ms: float = Field(50.0, gt=0)
    """Width of correlograms, ms"""
    correlogram_bin_ms: float = Field(1.0, gt=0)
    """Bin of correlograms, ms"""
    isi_window_ms: float = Field(100.0, gt=0)
    """Longest interval in histograms, ms"""
    isi_bin_ms: float = Field(1.0, gt=0)
    """Bin of interval histograms, ms"""
    amplitude_scalings: bool = False
    """Fit every spike with its template"""
    principal_components: int = Field(0, ge=0, le=10)
    """Principal components a channel; 0: none"""
    metrics: tuple[str, ...] = METRICS
    """SpikeInterface's quality metrics"""
    presence_bin_s: float = Field(60.0, gt=0)
    """Bin of presence_ratio, seconds"""
    isi_threshold_ms: float = Field(1.5, gt=0)
    """Shortest allowed interval, ms"""
    refractory_period_ms: float = Field(1.0, gt=0)
    """Refractory period of rp_contamination, ms"""
    seed: int = Field(0, ge=0)
    """Of the choice of spikes and noise snippets"""
    cache_limit_bytes: int = Field(2_000_000_000, ge=0)
    """Filtered traces are kept in memory up to this size, bytes; else read again"""
    band: SpikeBand = SpikeBand()
    """The chain before waveforms are taken"""
