"""The criteria of every asset: what is judged, by which limits, from which source.

Rows of one family are one asset check; with `outcome` and `usable` an asset has at most four.
"""

from __future__ import annotations

from neuro_assets.checks.criteria import Criterion

IBL_RAW = "IBL ibllib qc, ephysqc.py"
AIND = "AIND ephys pipeline 1.3.1, default_params.json"
OURS = "neuro_assets"

CRITERIA: dict[str, tuple[Criterion, ...]] = {
    "compressed_recording": (
        Criterion(
            "verified", "integrity", "1", critical=0.5, above=False,
            source="every sample compared with the raw file",
        ),
        Criterion(
            "sha1_matches", "integrity", "1", critical=0.5, above=False,
            source="SpikeGLX fileSHA1 in the metadata",
        ),
        Criterion(
            "duration_s", "length", "s", warning=120, above=False,
            source=f"{AIND}: shorter recordings are not sorted",
        ),
    ),
    "recording_quality": (
        Criterion(
            "rms_destriped_uv_median", "noise", "uV", warning=20, fail=40,
            source=f"{OURS}: two and four times the 10 uV of the simulation",
        ),
        Criterion(
            "line_noise_db", "noise", "dB", warning=10, fail=20,
            source="neuro_assets: power at 50 or 60 Hz over its neighbourhood",
        ),
        Criterion(
            "saturated_fraction", "saturation", "1", warning=0.001, fail=0.05, critical=0.5,
            source=f"{OURS}: saturation as in {IBL_RAW}, more than 20 % of the channels",
        ),
    ),
    "bad_channels": (
        Criterion(
            "bad_fraction", "channels", "1", warning=0.1, fail=0.5,
            source=f"FAIL from {AIND}: fraction 0.5; here without those out of the brain",
        ),
    ),
    "motion": (
        Criterion(
            "drift_rms_um", "drift", "um", warning=20, fail=50,
            source="neuro_assets: one and two and a half contact pitches of Neuropixels",
        ),
        Criterion(
            "max_jump_um", "drift", "um", warning=20,
            source="neuro_assets: jumps beyond one contact pitch break rigid correction",
        ),
    ),
    "sorting": (
        Criterion(
            "n_units", "yield", "units", warning=5, above=False,
            source="neuro_assets: fewer are hardly enough for any analysis of a population",
        ),
    ),
    "analyzer": (
        Criterion(
            "duplicate_fraction", "duplicates", "1", warning=0.2, fail=0.5,
            source=f"{OURS}: many duplicates mean an over-split sorting",
        ),
    ),
    "unit_quality": (
        Criterion(
            "n_units_ibl_pass", "yield", "units", warning=1, above=False,
            source=f"{OURS}: at least one unit passes IBL's three criteria",
        ),
        Criterion(
            "median_snr", "isolation", "1", warning=3, above=False,
            source=f"{OURS}: peaks of fewer than three SD of the noise are hardly units",
        ),
    ),
    "units": (
        Criterion(
            "n_units", "yield", "units", warning=5, above=False,
            source="neuro_assets: fewer are hardly enough for any analysis of a population",
        ),
    ),
    "lfp": (
        Criterion(
            "lfp_rms_uv_median", "amplitude", "uV", warning=1000, fail=5000,
            source=f"{OURS}: far above a field potential; movement or no reference",
        ),
        Criterion(
            "n_missing_samples", "integrity", "samples", warning=0, fail=1000,
            source="neuro_assets: NaN in the source",
        ),
    ),
    "nwb": (
        Criterion(
            "n_validation_errors", "validity", "errors", fail=0, source="pynwb.validate",
        ),
        Criterion(
            "n_critical", "validity", "messages", fail=0, source="nwbinspector, CRITICAL",
        ),
        Criterion(
            "n_best_practice_violations", "validity", "messages", warning=0,
            source="nwbinspector, BEST_PRACTICE_VIOLATION that the data can satisfy",
        ),
    ),
}  # fmt: skip


def criteria(asset: str) -> tuple[Criterion, ...]:
    """Criteria of an asset, or of a kind of assets (`sorting` for every sorter set)."""
    return CRITERIA[asset]
