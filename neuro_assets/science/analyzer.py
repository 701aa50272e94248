"""The SortingAnalyzer of one sorting: waveforms, templates, positions, metrics, without duplicates.

It is computed in memory and written once, as Zarr that plain SpikeInterface opens, wherever the
folder is moved to: it holds no path of a recording and no pickled object. Judging units is
`neuro_assets.science.unit_quality`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import (
    BaseRecording,
    BaseSorting,
    SortingAnalyzer,
    create_sorting_analyzer,
)

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.analyzer import PCA_METRICS, AnalyzerParameters
from neuro_assets.science.checksums import add_checksums
from neuro_assets.science.compiled import ANALYZER_KERNELS, keep_compiled
from neuro_assets.science.preprocessing import Chain, spike_band_chain
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.valid_time import measure_valid_time, without_masked

ANALYZER_NAME = "analyzer.zarr"
ONE_PASS = ("noise_levels", "spike_amplitudes", "spike_locations", "amplitude_scalings")
"""Extensions for which SpikeInterface reads the whole recording, once for all of them."""


def analyze_sorting(
    recording: BaseRecording,
    sorting: BaseSorting,
    channels: pd.DataFrame,
    folder: Path,
    parameters: AnalyzerParameters,
    *,
    saturation: pd.DataFrame | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Compute the analyzer of a sorting.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording, one segment.
    sorting : BaseSorting
        Spikes in samples of that recording.
    channels : DataFrame
        Columns `channel_id` and `label`; only `good` channels are in the analyzer.
    folder : Path
        Gets `analyzer.zarr`.
    parameters : AnalyzerParameters
        Which extensions, and how.
    saturation : DataFrame or None
        Saturated periods of the raw data, `start_sample` and `stop_sample`. Spikes in them are
        left out, and every metric with a duration or a rate in it is over the time that is left.
    n_jobs : int
        Worker threads.
    progress : Progress
        Called at least every half minute.

    Returns
    -------
    StepResult
        Table `duplicates`: `removed_unit_id`, `kept_unit_id`, `removed_spikes`, `kept_spikes`,
        `shared_fraction`. Metrics `n_units`, `n_spikes`, `duplicate_units`,
        `duplicate_fraction`, `n_channels`, `channels_per_unit`, `median_noise_uv`.

    Raises
    ------
    Skipped
        `no_units_found`, when the sorting is empty.
    PermanentFailure
        When sorting and recording do not belong together.
    """
    _check_belong_together(recording, sorting)
    keep_compiled(ANALYZER_KERNELS)
    chain = spike_band_chain(recording, channels, saturation, parameters.band)
    # Threads: the process may have threads already, which a fork would copy in any state.
    jobs = {
        "n_jobs": n_jobs,
        "pool_engine": "thread",
        "chunk_duration": "1s",
        "progress_bar": False,
    }
    progress(0.0, "preprocessing")
    _cache(chain, parameters, jobs)
    analyzer = _create(sorting, chain, parameters, jobs)
    progress(0.2, "waveforms and templates")
    analyzer.compute(_waveform_extensions(parameters), **jobs)
    _center_on_templates(analyzer)
    analyzer, duplicates = remove_duplicates(analyzer, parameters)
    progress(0.4, f"{len(duplicates)} duplicate units removed")
    extensions = _extensions(parameters, analyzer)
    together = {name: extensions[name] for name in ONE_PASS if name in extensions}
    _compute(analyzer, together, jobs)
    rest = {name: options for name, options in extensions.items() if name not in together}
    for i, (name, options) in enumerate(rest.items()):
        progress(0.5 + 0.4 * i / len(rest), name)
        _compute(analyzer, {name: options}, jobs)
    measure_valid_time(analyzer)
    progress(0.9, "writing")
    _write(analyzer, folder / ANALYZER_NAME)
    chain.applied.append(
        Applied(
            "sorting_analyzer",
            {"sparsity": {"method": "radius", "radius_um": parameters.radius_um}}
            | _waveform_extensions(parameters)
            | extensions,
        )
    )
    return StepResult(
        metrics=_metrics(analyzer, duplicates),
        tables={"duplicates": duplicates},
        applied=chain.applied,
    )


def open_analyzer(folder: Path) -> SortingAnalyzer:
    """Open what `analyze_sorting` wrote, as plain SpikeInterface does.

    Parameters
    ----------
    folder : Path
        The folder that was given to `analyze_sorting`.

    Returns
    -------
    SortingAnalyzer
        With all its extensions, without a recording.
    """
    from spikeinterface.core import load_sorting_analyzer

    analyzer = load_sorting_analyzer(folder / ANALYZER_NAME)
    # Without a recording SpikeInterface 0.105.3 finds them again, and warns of an old analyzer.
    stored = analyzer.get_sorting_property("main_channel_id")
    if stored is not None:
        analyzer._main_channel_indices = analyzer.channel_ids_to_indices(stored)
    return analyzer


def _check_belong_together(recording: BaseRecording, sorting: BaseSorting) -> None:
    if sorting.get_num_units() == 0:
        raise Skipped(SkipReason.NO_UNITS_FOUND, "the sorting has no units")
    last = int(sorting.to_spike_vector()["sample_index"].max(initial=0))
    if last >= recording.get_num_samples() or (
        sorting.get_sampling_frequency() != recording.get_sampling_frequency()
    ):
        raise PermanentFailure(
            f"The sorting (last spike at sample {last}, {sorting.get_sampling_frequency():g} Hz) "
            f"is not of this recording ({recording.get_num_samples()} samples, "
            f"{recording.get_sampling_frequency():g} Hz); sort it again"
        )


def _cache(chain: Chain, parameters: AnalyzerParameters, jobs: dict[str, Any]) -> None:
    """Keep the filtered traces in memory where they are small: they are read several times."""
    if chain.recording.get_total_memory_size() <= parameters.cache_limit_bytes:
        chain.recording = chain.recording.save(
            format="memory", sharedmem=False, verbose=False, **jobs
        )


def _create(
    sorting: BaseSorting, chain: Chain, parameters: AnalyzerParameters, jobs: dict[str, Any]
) -> SortingAnalyzer:
    """Create the analyzer in memory, with the channels within a radius of every unit."""
    own = without_masked(sorting, chain.masked)
    if "main_channel_id" in own.get_property_keys():
        own.delete_property("main_channel_id")  # may name a bad channel, and would be trusted
    return create_sorting_analyzer(
        own,
        chain.recording,
        format="memory",
        sparse=True,
        return_in_uV=True,
        seed=parameters.seed,
        sparsity_kwargs={"method": "radius", "radius_um": parameters.radius_um},
        num_spikes_for_main_channel=parameters.max_spikes_per_unit,
        job_kwargs=jobs,
    )


def _center_on_templates(analyzer: SortingAnalyzer) -> None:
    """Make each main channel that of the stored template; the first guess is of other spikes."""
    templates = analyzer.get_extension("templates").get_data(operator="average")
    main = np.abs(templates).max(axis=1).argmax(axis=1)
    analyzer.set_sorting_property("main_channel_id", analyzer.channel_ids[main])
    analyzer._main_channel_indices = main


def _waveform_extensions(parameters: AnalyzerParameters) -> dict[str, dict[str, Any]]:
    return {
        "random_spikes": {
            "method": "uniform",
            "max_spikes_per_unit": parameters.max_spikes_per_unit,
            "seed": parameters.seed,
        },
        "waveforms": {"ms_before": parameters.ms_before, "ms_after": parameters.ms_after},
        "templates": {},
    }


def _extensions(
    parameters: AnalyzerParameters, analyzer: SortingAnalyzer
) -> dict[str, dict[str, Any]]:
    """Extensions that follow the templates, in the order in which they are computed."""
    # The margins of monopolar triangulation have no meaning with hardly any contacts.
    few = analyzer.get_num_channels() < 8
    extensions: dict[str, dict[str, Any]] = {
        "noise_levels": {"random_slices_kwargs": {"seed": parameters.seed}},
        "spike_amplitudes": {},
        "spike_locations": {
            "method": "center_of_mass" if few else parameters.spike_locations,
            "seed": parameters.seed,
        },
        "unit_locations": {"method": "center_of_mass" if few else parameters.unit_locations},
        "correlograms": {
            "window_ms": parameters.correlogram_window_ms,
            "bin_ms": parameters.correlogram_bin_ms,
        },
        "isi_histograms": {
            "window_ms": parameters.isi_window_ms,
            "bin_ms": parameters.isi_bin_ms,
        },
        "template_similarity": {"method": parameters.template_similarity},
        "template_metrics": {},
    }
    if parameters.amplitude_scalings:
        extensions["amplitude_scalings"] = {}
    metrics = list(parameters.metrics)
    if parameters.principal_components:
        extensions["principal_components"] = {
            "n_components": parameters.principal_components,
            "mode": "by_channel_local",
            "whiten": True,
        }
    else:
        metrics = [name for name in metrics if name not in PCA_METRICS]
    extensions["quality_metrics"] = {
        "metric_names": metrics,
        "metric_params": _metric_parameters(parameters, metrics),
        "seed": parameters.seed,
    }
    return extensions


def _metric_parameters(
    parameters: AnalyzerParameters, metrics: list[str]
) -> dict[str, dict[str, Any]]:
    ours: dict[str, dict[str, Any]] = {
        "presence_ratio": {"bin_duration_s": parameters.presence_bin_s},
        "isi_violation": {"isi_threshold_ms": parameters.isi_threshold_ms, "min_isi_ms": 0},
        "rp_violation": {
            "refractory_period_ms": parameters.refractory_period_ms,
            "censored_period_ms": 0.0,
        },
        # Handed on to `get_noise_levels`, which else draws other pieces of noise each time.
        "sd_ratio": {"random_slices_kwargs": {"seed": parameters.seed}},
    }
    return {name: values for name, values in ours.items() if name in metrics}


def _compute(
    analyzer: SortingAnalyzer, extensions: dict[str, dict[str, Any]], jobs: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        # NaN where a unit has too few spikes is an answer, and is reported with the metrics.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        analyzer.compute(extensions, **jobs)


def remove_duplicates(
    analyzer: SortingAnalyzer, parameters: AnalyzerParameters
) -> tuple[SortingAnalyzer, pd.DataFrame]:
    """Remove one of any two units that share (nearly) all their spikes.

    Kept is the unit whose template peaks nearest to its spike times, then the larger one
    (SpikeInterface's `minimum_shift`, as in AIND's pipeline).

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With templates.
    parameters : AnalyzerParameters
        Threshold and window.

    Returns
    -------
    analyzer : SortingAnalyzer
        The same object where nothing was removed.
    duplicates : DataFrame
        One row a removed unit.
    """
    from spikeinterface.curation import remove_redundant_units

    clean, pairs = remove_redundant_units(
        analyzer,
        align=True,
        delta_time=parameters.duplicate_window_ms,
        agreement_threshold=0.2,
        duplicate_threshold=parameters.duplicate_threshold,
        remove_strategy="minimum_shift",
        extra_outputs=True,
    )
    table = _duplicates_table(analyzer.sorting, pairs, clean, parameters.duplicate_window_ms)
    if len(table) == 0:
        return analyzer, table
    return analyzer.select_units(clean.unit_ids, format="memory"), table


def _duplicates_table(
    sorting: BaseSorting, pairs: list[tuple[Any, Any]], clean: BaseSorting, window_ms: float
) -> pd.DataFrame:
    """One row a removed unit, with the first unit because of which it went."""
    kept = set(np.asarray(clean.unit_ids).tolist())
    window = round(window_ms * sorting.get_sampling_frequency() / 1000)
    rows: dict[Any, dict[str, Any]] = {}
    for pair in pairs:
        first, second = (int(unit) for unit in pair)
        removed, other = (first, second) if first not in kept else (second, first)
        if removed in rows:
            continue
        trains = [sorting.get_unit_spike_train(unit) for unit in (removed, other)]
        rows[removed] = {
            "removed_unit_id": removed,
            "kept_unit_id": other,
            "removed_spikes": len(trains[0]),
            "kept_spikes": len(trains[1]),
            "shared_fraction": shared_fraction(trains[0], trains[1], window),
        }
    columns = {
        "removed_unit_id": "int64",
        "kept_unit_id": "int64",
        "removed_spikes": "int64",
        "kept_spikes": "int64",
        "shared_fraction": "float64",
    }
    return pd.DataFrame(list(rows.values()), columns=list(columns)).astype(columns)


def shared_fraction(train: np.ndarray, other: np.ndarray, window: int) -> float:
    """Fraction of the smaller of two spike trains that coincides with the other.

    Parameters
    ----------
    train, other : ndarray of int64, shape (n_spikes,)
        Sample indices, sorted. A constant shift between the two is taken out first: it is how
        two sorters' templates of one unit differ.
    window : int
        Spikes coincide within this many samples.

    Returns
    -------
    float
        0..1.
    """
    small, large = (train, other) if len(train) <= len(other) else (other, train)
    if len(small) == 0:
        return 0.0
    right = np.clip(np.searchsorted(large, small), 0, len(large) - 1)
    left = np.maximum(right - 1, 0)
    to_right, to_left = large[right] - small, large[left] - small
    nearest = np.where(np.abs(to_right) < np.abs(to_left), to_right, to_left)
    return float(np.mean(np.abs(nearest - np.median(nearest)) <= window))


def _write(analyzer: SortingAnalyzer, path: Path) -> None:
    """Write the analyzer without a recording (its path would not survive a move) and pickles."""
    components = analyzer.get_extension("principal_components")
    if components is not None:
        for name in [name for name in components.data if name.startswith("pca_model")]:
            del components.data[name]  # could only be pickled; the projections stay
    analyzer._recording = None
    analyzer._temporary_recording = None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recording not provided")
        warnings.filterwarnings("ignore", message="The extractor is not serializable")
        analyzer.save_as(format="zarr", folder=path)
    add_checksums(path)


def _metrics(analyzer: SortingAnalyzer, duplicates: pd.DataFrame) -> dict[str, Any]:
    return {
        "n_units": analyzer.get_num_units(),
        "n_spikes": len(analyzer.sorting.to_spike_vector()),
        "duplicate_units": len(duplicates),
        "duplicate_fraction": len(duplicates) / (analyzer.get_num_units() + len(duplicates)),
        "n_channels": analyzer.get_num_channels(),
        "channels_per_unit": float(analyzer.sparsity.mask.sum(axis=1).mean()),
        "median_noise_uv": float(np.median(analyzer.get_extension("noise_levels").get_data())),
    }
