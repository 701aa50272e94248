"""Metrics of the units' mean waveforms that SpikeInterface does not have."""

from __future__ import annotations

import numpy as np
import pandas as pd
from spikeinterface.core import SortingAnalyzer

FAR_UM = 60.0
"""Beyond it a neuron's spike is much smaller; what moves all contacts is not, um."""

TROUGH_PARAMETERS = (
    "min_thresh_detect_peaks_troughs",
    "edge_exclusion_ms",
    "min_peak_trough_distance_ratio",
    "min_extremum_distance_samples",
)
"""Of SpikeInterface's template metrics: what counts as a trough."""


def peak_to_peak_scale(analyzer: SortingAnalyzer) -> np.ndarray:
    """Ratio of a template's peak-to-peak amplitude to the amplitude that its spikes are given.

    IBL's spike amplitudes are peak-to-peak on the template's largest channel; SpikeInterface's
    are the trace at the spike on the main channel.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With templates.

    Returns
    -------
    ndarray, shape (n_units,)
        Positive; NaN where the template is flat at its spike.
    """
    extension = analyzer.get_extension("templates")
    templates = extension.get_data(operator="average")
    main = analyzer.get_main_channels(outputs="index")
    units = np.arange(len(templates))
    waveforms = templates[units, :, main]
    at_spike = np.abs(waveforms[:, extension.nbefore])
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.ptp(waveforms, axis=1) / at_spike
    return np.where(np.isfinite(scale), scale, np.nan)


def far_amplitude_ratio(analyzer: SortingAnalyzer) -> np.ndarray:
    """Peak-to-peak amplitude away from a unit's main channel, in parts of the one on it.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With templates.

    Returns
    -------
    ndarray, shape (n_units,)
        Median over the unit's channels farther than `FAR_UM`; NaN where it has none.
    """
    heights = np.ptp(analyzer.get_extension("templates").get_data(operator="average"), axis=1)
    main = analyzer.get_main_channels(outputs="index")
    where = analyzer.get_channel_locations()
    far = np.linalg.norm(where[np.newaxis] - where[main][:, np.newaxis], axis=2) > FAR_UM
    if analyzer.sparsity is not None:
        far &= analyzer.sparsity.mask
    ratios = heights / heights[np.arange(len(main)), main][:, np.newaxis]
    return pd.DataFrame(np.where(far, ratios, np.nan)).median(axis=1).to_numpy()


def second_trough_ratio(analyzer: SortingAnalyzer) -> np.ndarray:
    """Depth of a template's second trough in parts of the deepest one.

    SpikeInterface counts a trough by its prominence, also where it is no more than a dent between
    two positive values: `num_negative_peaks` alone does not tell an oscillation from a spike.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With templates and template_metrics, by whose parameters troughs are found.

    Returns
    -------
    ndarray, shape (n_units,)
        Up to 1; negative where the second trough is above zero; 0 without a second one.
    """
    from scipy.signal import resample_poly
    from spikeinterface.metrics.template.metrics import get_trough_and_peak_idx

    chosen = analyzer.get_extension("template_metrics").params
    finer = chosen["upsampling_factor"]
    how = {name: chosen[name] for name in TROUGH_PARAMETERS}
    templates = analyzer.get_extension("templates").get_data(operator="average")
    main = analyzer.get_main_channels(outputs="index")
    ratios = np.zeros(len(main))
    for unit, channel in enumerate(main):
        fine = resample_poly(templates[unit, :, channel], finer, 1)
        found = get_trough_and_peak_idx(fine, finer * analyzer.sampling_frequency, **how)
        depths = np.sort(-fine[found["trough_sample_indices"]])
        if len(depths) > 1:
            ratios[unit] = depths[-2] / depths[-1]
    return ratios
