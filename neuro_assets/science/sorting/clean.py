"""What a sorter found, cleaned: which spikes are kept, and how units are named."""

from __future__ import annotations

import numpy as np
from spikeinterface.core import BaseSorting, NumpySorting

from neuro_assets.science.spike_metrics import in_periods


def clean_sorting(
    sorting: BaseSorting, n_samples: int, masked: np.ndarray, min_spikes: int = 1
) -> tuple[NumpySorting, dict[str, int]]:
    """Keep the spikes that are in the recording and outside masked periods, in integer units.

    A spike that a unit repeats at the very same sample is kept once: no neuron fires twice in one
    sample, and an interval of 0 is a violation of every refractory period. Spikes that are merely
    near each other are kept. Whether two spikes within a censored period are one spike or
    contamination is the sorter's knowledge (kilosort4 removes those within its
    `duplicate_spike_ms`); SpikeInterface does not remove them unasked
    (`curation.remove_duplicated_spikes`, 0.3 ms), and IBL's sliding test leaves out what is below
    0.5 ms.

    The property `main_channel_id` goes: it may name a channel that an analyzer does not have, and
    SpikeInterface trusts it. Unit ids that are not integers become 0, 1, ...; the sorter's name
    stays as the property `sorter_unit_id`. Nothing of the recording (and its path) is kept.

    Parameters
    ----------
    sorting : BaseSorting
        What the sorter found, one segment.
    n_samples : int
        Samples of the recording.
    masked : ndarray of int64, shape (n_periods, 2)
        Masked periods: first sample, and one past the last one.
    min_spikes : int
        Units with fewer spikes left are dropped.

    Returns
    -------
    sorting : NumpySorting
        Spikes in time order.
    dropped : dict
        `spikes_outside`, `spikes_in_masked`, `repeated_spikes`, `sparse_units`: how many.
    """
    spikes = sorting.to_spike_vector()
    samples = spikes["sample_index"]
    inside = (samples >= 0) & (samples < n_samples)
    bridged = inside & in_periods(samples, masked)
    kept = spikes[inside & ~bridged]
    kept = kept[np.lexsort((kept["unit_index"], kept["sample_index"]))]
    repeated = np.zeros(len(kept), dtype=bool)
    repeated[1:] = (np.diff(kept["sample_index"]) == 0) & (np.diff(kept["unit_index"]) == 0)
    kept = kept[~repeated]
    counts = np.bincount(kept["unit_index"], minlength=sorting.get_num_units())
    present = np.flatnonzero(counts >= max(1, min_spikes))
    kept = kept[np.isin(kept["unit_index"], present)]
    clean = NumpySorting.from_samples_and_labels(
        kept["sample_index"],
        kept["unit_index"],
        sorting.get_sampling_frequency(),
        unit_ids=present,
    )
    names = np.asarray(sorting.unit_ids)[present]
    if np.issubdtype(names.dtype, np.integer):
        clean = clean.rename_units(names.astype(np.int64))
    else:
        clean = clean.rename_units(np.arange(len(names), dtype=np.int64))
        clean.set_property("sorter_unit_id", names.astype(str))
    _copy_properties(sorting, clean, present)
    clean = NumpySorting.from_sorting(clean, with_metadata=True, copy_spike_vector=True)
    dropped = {
        "spikes_outside": int((~inside).sum()),
        "spikes_in_masked": int(bridged.sum()),
        "repeated_spikes": int(repeated.sum()),
        "sparse_units": int(sorting.get_num_units() - len(present)),
    }
    return clean, dropped


def _copy_properties(source: BaseSorting, target: BaseSorting, rows: np.ndarray) -> None:
    """Copy numbers and text that a sorter says of its units; objects would have to be pickled."""
    for key in source.get_property_keys():
        values = np.asarray(source.get_property(key))[rows]
        if key != "main_channel_id" and values.dtype.kind in "biufU":
            target.set_property(key, values)
