"""What each column of a units table means: its words, its unit, and who computes it so."""

from __future__ import annotations

from collections.abc import Mapping

SPIKEINTERFACE_QUALITY = {
    "num_spikes": "number of spikes",
    "snr": "largest absolute value of the mean waveform on its main channel over the noise level "
    "(no unit)",
    "isi_violations_ratio": "rate of refractory violations over the unit's rate (Hill), in valid "
    "time (no unit)",
    "isi_violations_count": "number of interspike intervals below the refractory period",
    "rp_contamination": "contamination from refractory violations in valid time (Llobet), 0 to 1",
    "rp_violations": "number of refractory violations",
    "sliding_rp_violation": "lowest contamination rejected by violations in valid time, 0 to 1",
    "amplitude_cutoff": "estimated fraction of spikes below the detection threshold, 0 to 0.5",
    "amplitude_median": "median spike amplitude (uV)",
    "amplitude_cv_median": "median coefficient of variation of the amplitude in bins of valid time "
    "(no unit)",
    "amplitude_cv_range": "range of the coefficient of variation of the amplitude in bins of valid "
    "time (no unit)",
    "noise_cutoff": "how far the low end of the amplitudes is from a full distribution (SD)",
    "noise_ratio": "height of the lowest amplitude bins over the highest (no unit)",
    "sync_spike_2": "fraction of spikes synchronous with at least one other unit, 0 to 1",
    "sync_spike_4": "fraction of spikes synchronous with at least three other units, 0 to 1",
    "sync_spike_8": "fraction of spikes synchronous with at least seven other units, 0 to 1",
    "firing_range": "5 to 95 % range of the firing rate in bins of valid time (Hz)",
    "drift_ptp": "peak-to-peak drift of the unit's position over valid time (um)",
    "drift_std": "standard deviation of the unit's position over valid time (um)",
    "drift_mad": "median absolute deviation of the unit's position over valid time (um)",
    "sd_ratio": "standard deviation of the differences between successive spike amplitudes, over "
    "sqrt(2) and over that of the traces without the unit's own spikes; spikes within 4 ms of the "
    "last one that counts are left out (no unit)",
    "isolation_distance": "isolation distance in principal component space (squared Mahalanobis "
    "distance, no unit)",
    "l_ratio": "L-ratio in principal component space (no unit)",
    "d_prime": "d' between the unit and the others in principal component space (SD)",
    "silhouette": "silhouette score in principal component space, -1 to 1",
    "nn_hit_rate": "fraction of nearest neighbours that belong to the unit, 0 to 1",
    "nn_miss_rate": "fraction of other spikes whose nearest neighbours belong to the unit, 0 to 1",
    "nn_isolation": "isolation by nearest neighbours in principal component space, 0 to 1",
    "nn_noise_overlap": "overlap with noise by nearest neighbours in principal component space, "
    "0 to 1",
}
SPIKEINTERFACE_TEMPLATE = {
    "peak_to_trough_duration": "time from the trough of the template to the next peak (s)",
    "trough_half_width": "width of the template's trough at half its amplitude (s)",
    "peak_half_width": "width of the template's peak at half its amplitude (s)",
    "repolarization_slope": "slope of the template from its trough back to baseline (uV/s)",
    "recovery_slope": "slope of the template after its peak, back to baseline (uV/s)",
    "num_positive_peaks": "number of peaks of the template",
    "num_negative_peaks": "number of troughs of the template",
    "main_to_next_extremum_duration": "time from the template's main extremum to the next (s)",
    "peak_before_to_trough_ratio": "amplitude of the peak before the trough over the trough's "
    "(no unit)",
    "peak_after_to_trough_ratio": "amplitude of the peak after the trough over the trough's "
    "(no unit)",
    "peak_before_to_peak_after_ratio": "amplitude of the peak before the trough over that of the "
    "peak after it (no unit)",
    "main_peak_to_trough_ratio": "amplitude of the template's main peak over the trough's "
    "(no unit)",
    "trough_width": "width of the template's main trough (s)",
    "peak_before_width": "width of the main peak before the trough (s)",
    "peak_after_width": "width of the main peak after the trough (s)",
    "waveform_baseline_flatness": "largest amplitude of the template's baseline over that of the "
    "template (no unit)",
    "velocity_above": "velocity of the spike above the main channel (um/ms)",
    "velocity_below": "velocity of the spike below the main channel (um/ms)",
    "exp_decay": "decay of the template's amplitude with distance from the main channel (1/um)",
    "spread": "distance between the channels on which the template exceeds a threshold (um)",
}
OWN = {
    "firing_rate": "spikes per second of valid time (Hz)",
    "presence_ratio": "fraction of bins of valid time in which the unit fires, 0 to 1",
    "presence_ratio_reason": "why the presence ratio is unknown; empty where it is known",
    "central_span": "part of valid time between the 10 and 90 % quantiles of its spikes, 0 to 1",
    "amplitude_excess_cv": "spread of the amplitude that noise does not explain, over the largest "
    "absolute value of the mean waveform: sqrt(sd_ratio^2 - 1) / snr, with the lesser of sd_ratio "
    "and its like of the bulk of the spikes (no unit)",
    "second_trough_ratio": "depth of the template's second trough over that of the first (no unit)",
    "far_amplitude_ratio": "median amplitude beyond 60 um over that on the main channel (no unit)",
    "contamination_p": "probability of its violations at the allowed contamination, 0 to 1",
    "main_channel_id": "channel of the mean waveform's largest absolute value",
    "x_um": "estimated position along the probe's width (um)",
    "y_um": "estimated position along the probe, from the tip (um)",
    "shank": "shank of the main channel",
    "good": "whether the unit fulfils the lab's criteria; NaN where it could not be judged",
    "good_reason": "why the unit could not be judged; empty where it could",
    "label": "good, bad, noise or unknown",
    "noise_reason": "criteria by which the unit is noise; empty where it is not",
    "source": "sorter set that the unit comes from",
    "unit_index": "row of the unit in the stored table of units",
}
IBL = {
    "ibl_label": "fraction of the three IBL criteria that the unit passes, 0 to 1",
    "ibl_bitwise_fail": "IBL criteria failed: bit 0 sliding RP, 1 noise cutoff, 2 amplitude",
    "ibl_presence_ratio": "fraction of bins of valid time (ibl_presence_bin_s) in which the unit "
    "fires, 0 to 1",
    "ibl_max_confidence": "confidence that contamination is below ibl_contamination_percent "
    "(sliding RP), percent",
    "ibl_reachable_confidence": "least ibl_max_confidence of a clean unit with its spikes, percent",
    "ibl_min_contamination": "lowest contamination that the sliding RP rejects, percent",
    "ibl_noise_cutoff": "noise cutoff of the amplitudes (SD)",
    "ibl_amp_median_uv": "geometric median of peak-to-peak spike amplitudes (uV)",
}
AIND = {
    "aind_default_qc": "whether the unit passes AIND's default criteria; NaN where unknown",
}

SOURCES: Mapping[str, Mapping[str, str]] = {
    "SpikeInterface quality metrics": SPIKEINTERFACE_QUALITY,
    "SpikeInterface template metrics": SPIKEINTERFACE_TEMPLATE,
    "neuro_assets": OWN,
    "IBL, ibllib brainbox metrics": IBL,
    "AIND ephys pipeline": AIND,
}

DESCRIPTIONS = {
    name: f"{text}; source: {source}"
    for source, columns in SOURCES.items()
    for name, text in columns.items()
}
"""By column: what it is, with its unit, and who computes it so."""

WITHOUT_NUMBER = frozenset(
    {
        *("good", "good_reason", "label", "main_channel_id", "noise_reason"),
        *("presence_ratio_reason", "shank", "source", "unit_index"),
    }
)
"""Columns by which no unit can be judged."""


def description_of(column: str) -> str:
    """Describe a column of a units table.

    Parameters
    ----------
    column : str
        Its name.

    Returns
    -------
    str
        One line; of a column that is not ours to know, that nobody described it.
    """
    return DESCRIPTIONS.get(column, "not described: no part of neuro_assets or SpikeInterface")
