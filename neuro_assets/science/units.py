"""The units of a recording: one sorter set is chosen, and every unit gets a lasting name.

Which units are good is decided before, in `neuro_assets.science.unit_quality`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import SortingAnalyzer

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.verdicts import count_verdicts

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "units.neuro-assets")
"""Namespace of the units' UUIDs. It must never change."""


def unit_uuid(digest: str, unit_id: Any) -> str:
    """Name a unit for ever: the same sorting gives the same names, another one never does.

    Parameters
    ----------
    digest : str
        Digest of the sorting's content.
    unit_id : int or str
        The unit in that sorting.

    Returns
    -------
    str
        UUIDv5.
    """
    return str(uuid.uuid5(NAMESPACE, f"{digest}/{unit_id}"))


def choose_units(
    candidates: Mapping[str, pd.DataFrame],
    digests: Mapping[str, str],
    folder: Path,
    parameters: UnitsParameters,
    *,
    open_source: Callable[[str], SortingAnalyzer] | None = None,
    progress: Progress = no_progress,
) -> StepResult:
    """Choose the sorter set whose units are the units of the recording.

    Parameters
    ----------
    candidates : mapping of str to DataFrame
        Table `unit_quality` of every sorter set that has one, in the order of preference.
    digests : mapping of str to str
        Content digest of every candidate's sorting.
    folder : Path
        Not written to.
    parameters : UnitsParameters
        The set, or how to choose it.
    open_source : callable, optional
        Opens the analyzer of a candidate; then there is a table of spikes as well.
    progress : Progress
        Called before the spikes are collected.

    Returns
    -------
    StepResult
        Table `units`: `uuid`, `unit_index`, `source`, and the columns of the quality table. Table
        `spikes`, in time order: `sample_index` (int64), `probe_time_s` (seconds on the clock
        `probe`, gaps included), `unit_index` (row of `units`), `amplitude_uv` and `depth_um`
        where the analyzer has them. Metrics `n_units`, those of `count_verdicts`, `n_spikes`,
        `n_candidates`, `source`, `sorting_digest`.

    Raises
    ------
    Skipped
        `no_units_found`, when no candidate has units.
    PermanentFailure
        When the configured source is not among the candidates.
    """
    source = chosen_source(candidates, parameters)
    quality = candidates[source]
    if parameters.only_good:
        quality = quality[quality["good"].fillna(False).astype(bool)]
    if len(quality) == 0:
        raise Skipped(SkipReason.NO_UNITS_FOUND, f"{source} has no good unit")
    digest = digests[source]
    units = quality.reset_index(drop=True)
    units.insert(0, "uuid", [unit_uuid(digest, unit) for unit in units["unit_id"]])
    units.insert(1, "unit_index", np.arange(len(units), dtype=np.int32))
    units.insert(2, "source", source)
    tables = {"units": units}
    if open_source is not None:
        progress(0.5, f"spikes of {source}")
        tables["spikes"] = spikes_table(open_source(source), units)
    metrics: dict[str, Any] = {
        "n_units": len(units),
        **count_verdicts(units),
        "n_candidates": len(candidates),
        "source": source,
        "sorting_digest": digest,
    }
    if "spikes" in tables:
        metrics["n_spikes"] = len(tables["spikes"])
    used = {**parameters.model_dump(mode="json"), "source": source}
    return StepResult(metrics=metrics, tables=tables, applied=[Applied("choose_units", used)])


def chosen_source(candidates: Mapping[str, pd.DataFrame], parameters: UnitsParameters) -> str:
    """Say which candidate it is.

    Parameters
    ----------
    candidates, parameters
        See `choose_units`.

    Returns
    -------
    str
        A key of `candidates`.
    """
    if parameters.source and parameters.source not in candidates:
        known = ", ".join(candidates) or "none"
        raise PermanentFailure(
            f"units are to come from {parameters.source!r}, which has no units for this recording "
            f"(there are: {known}); sort it with that set or choose another source"
        )
    with_units = [name for name, table in candidates.items() if len(table)]
    if parameters.source in with_units:
        return parameters.source
    if parameters.source or not with_units:
        raise Skipped(
            SkipReason.NO_UNITS_FOUND,
            f"no units in {parameters.source or ', '.join(candidates) or 'any set'}",
        )
    if parameters.rule == "first":
        return with_units[0]
    return max(with_units, key=lambda name: int(candidates[name]["good"].fillna(False).sum()))


def spikes_table(analyzer: SortingAnalyzer, units: pd.DataFrame) -> pd.DataFrame:
    """Collect the spikes of the chosen units, in time order.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        Of the chosen sorting.
    units : DataFrame
        Columns `unit_id` and `unit_index`.

    Returns
    -------
    DataFrame
        See `choose_units`. Samples are those of the raw recording.
    """
    spikes = analyzer.sorting.to_spike_vector()
    index_of = dict(zip(units["unit_id"], units["unit_index"], strict=True))
    rows = np.array([index_of.get(unit, -1) for unit in analyzer.unit_ids], dtype=np.int32)
    samples = spikes["sample_index"].astype(np.int64)
    times = timeline_of(analyzer.sorting).seconds(samples, analyzer.sampling_frequency)
    table = pd.DataFrame(
        {
            "sample_index": samples,
            "probe_time_s": times,
            "unit_index": rows[spikes["unit_index"]],
        }
    )
    if analyzer.has_extension("spike_amplitudes"):
        amplitudes = analyzer.get_extension("spike_amplitudes").get_data()
        table["amplitude_uv"] = np.asarray(amplitudes, dtype=np.float32)
    if analyzer.has_extension("spike_locations"):
        locations = analyzer.get_extension("spike_locations").get_data()
        table["depth_um"] = np.asarray(locations["y"], dtype=np.float32)
    return table[table["unit_index"] >= 0].reset_index(drop=True)
