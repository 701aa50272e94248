"""Valid time: what is left of a recording without its masked periods, for every consumer of spikes.

The analyzer carries its masked periods as an annotation, so that metrics, units and NWB agree on
one valid time. What is masked is decided in `neuro_assets.science.masking`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseSorting, NumpySorting, SortingAnalyzer

from neuro_assets.formats.timeline import Timeline, timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.science.spike_metrics import in_periods, valid_samples

ANNOTATION = "masked_periods"
"""Annotation of an analyzer's sorting: first sample and one past the last, a pair a period."""

ON_THE_CLOCK = ("firing_rate", "isi_violation", "rp_violation", "sliding_rp_violation")
"""SpikeInterface's metrics of intervals: spikes at their true distances, duration the valid time.

A cut-out period would bring two spikes together that never were.
"""

IN_BINS = ("presence_ratio", "firing_range", "amplitude_cv", "drift")
"""Those that count in bins of time: bins of valid time, which lie across masked periods."""


def without_masked(sorting: BaseSorting, masked: np.ndarray) -> NumpySorting:
    """Copy a sorting without spikes in masked periods, and let it carry the periods.

    Parameters
    ----------
    sorting : BaseSorting
        One segment.
    masked : ndarray of int64, shape (n_periods, 2)
        Sorted, separate periods: first sample, and one past the last one.

    Returns
    -------
    NumpySorting
        Without the units that have no spikes left.

    Raises
    ------
    Skipped
        `no_units_found`, when no spike is left.
    """
    spikes = sorting.to_spike_vector()
    kept = spikes[~in_periods(spikes["sample_index"], masked)]
    own = NumpySorting(kept, sorting.get_sampling_frequency(), sorting.unit_ids)
    sorting.copy_metadata(own)
    own = own.remove_empty_units()
    if own.get_num_units() == 0:
        raise Skipped(SkipReason.NO_UNITS_FOUND, "all spikes lie in masked periods")
    own = NumpySorting.from_sorting(own, with_metadata=True, copy_spike_vector=True)
    own.annotate(**{ANNOTATION: np.asarray(masked).tolist()})
    return own


def masked_of(analyzer: SortingAnalyzer) -> np.ndarray:
    """Read the masked periods that an analyzer carries.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        Made by `neuro_assets.science.analyzer`.

    Returns
    -------
    ndarray of int64, shape (n_periods, 2)
        First sample, and one past the last one.

    Raises
    ------
    PermanentFailure
        When it does not say what was masked.
    """
    periods = analyzer.sorting.get_annotation(ANNOTATION)
    if periods is None:
        raise PermanentFailure("The analyzer does not say which periods were masked; make it again")
    return np.asarray(periods, dtype=np.int64).reshape(-1, 2)


def valid_periods(masked: np.ndarray, timeline: Timeline, n_samples: int) -> np.ndarray:
    """Give the stretches between masked periods, ended at gaps.

    Parameters
    ----------
    masked : ndarray of int64, shape (n_periods, 2)
        Sorted, separate periods: first sample, and one past the last one.
    timeline : Timeline
        Of the recording.
    n_samples : int
        Its length.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        First sample, and one past the last one.
    """
    edges = np.concatenate([[0], np.asarray(masked, dtype=np.int64).ravel(), [n_samples]])
    return split_at(edges.reshape(-1, 2), timeline.bounds)


def split_at(periods: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Cut sorted periods (n, 2) where time jumps, so that each lies within one piece."""
    pieces = [
        (start, stop)
        for first, last in np.asarray(periods, dtype=np.int64).tolist()
        for start, stop in _cut(first, last, bounds)
        if stop > start
    ]
    return np.asarray(pieces, dtype=np.int64).reshape(-1, 2)


def _cut(first: int, last: int, bounds: np.ndarray) -> list[tuple[int, int]]:
    edges = [first, *bounds[(bounds > first) & (bounds < last)].tolist(), last]
    return list(zip(edges[:-1], edges[1:], strict=True))


def measure_valid_time(analyzer: SortingAnalyzer) -> None:
    """Take SpikeInterface's metrics that have a duration or a rate in them over valid time.

    They are computed by SpikeInterface's own functions. The others (amplitudes, templates,
    synchrony, principal components) have no time in them; `sd_ratio` compares with noise that is
    sampled from the whole recording, and so keeps the whole of it.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With quality metrics of the whole recording, which are replaced.
    """
    masked, timeline = masked_of(analyzer), timeline_of(analyzer.sorting)
    if len(masked) == 0 and not timeline.has_gaps:
        return
    samples = analyzer.sorting.to_spike_vector()["sample_index"]
    n_valid = analyzer.get_total_samples() - int(np.diff(masked).sum())
    extension = analyzer.get_extension("quality_metrics")
    for names, at in (
        (ON_THE_CLOCK, timeline.on_clock(samples)),
        (IN_BINS, valid_samples(samples, masked)),
    ):
        view = _View(analyzer, at, n_valid)
        for name in set(names) & set(extension.params["metric_names"]):
            _replace(extension, name, view)


def _replace(extension: Any, name: str, view: _View) -> None:
    metric, table = extension.get_metric_by_name(name), extension.data["metrics"]
    parameters = extension.params["metric_params"].get(name, {})
    found = metric.compute(view, list(view.unit_ids), parameters, {}, {})
    one = next(iter(metric.metric_columns))
    columns = found._asdict() if hasattr(found, "_asdict") else {one: found}
    for column, values in columns.items():
        table[column] = pd.Series(values).reindex(table.index).astype(table[column].dtype)


class _View:
    """An analyzer for SpikeInterface's metrics, with its spikes and its length on another clock."""

    def __init__(self, analyzer: SortingAnalyzer, samples: np.ndarray, n_samples: int) -> None:
        spikes = analyzer.sorting.to_spike_vector().copy()
        spikes["sample_index"] = samples
        self.sorting = NumpySorting(spikes, analyzer.sampling_frequency, analyzer.unit_ids)
        self.analyzer, self.n_samples = analyzer, n_samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self.analyzer, name)

    def get_num_samples(self, segment_index: int | None = None) -> int:
        return self.n_samples

    def get_total_samples(self) -> int:
        return self.n_samples
