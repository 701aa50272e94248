"""Spike sorting of one recording: from raw traces to a sorting whose samples are the recording's.

The sorter runs in a process of its own (`process`, `child`); how a sorter is set is
`neuro_assets.parameters.sorting`, what the traces pass through is
`neuro_assets.science.preprocessing`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseRecording, BaseSorting, NumpySorting, load

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.sorting import REPEATABLE, SortingParameters
from neuro_assets.science.checksums import add_checksums
from neuro_assets.science.preprocessing import (
    Chain,
    base_chain,
    correct_motion,
    filter_band,
    reference_band,
    whiten,
)
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.sorting.clean import clean_sorting
from neuro_assets.science.sorting.process import LOG_NAME, Job, require_programs, run_job

SORTING_NAME = "sorting.zarr"
SI_LOG_NAME = "spikeinterface_log.json"


def sort_recording(
    recording: BaseRecording,
    channels: pd.DataFrame,
    saturation: pd.DataFrame | None,
    folder: Path,
    scratch: Path,
    parameters: SortingParameters,
    *,
    motion: Any | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Sort one recording.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording, one segment.
    channels : DataFrame
        Columns `channel_id` and `label`; only `good` channels are sorted.
    saturation : DataFrame or None
        Saturated periods of the raw data, `start_sample` and `stop_sample`; they are bridged, and
        spikes in them are dropped.
    folder : Path
        Gets `sorting.zarr` (SpikeInterface), `sorter.log` and `spikeinterface_log.json`.
    scratch : Path
        Local folder for everything else; left as it was found.
    parameters : SortingParameters
        The sorter set.
    motion : spikeinterface.core.motion.Motion, optional
        The estimate, where `parameters.drift` is `ours`.
    n_jobs : int
        Worker processes and threads of the sorter.
    progress : Progress
        Called at least every half minute.

    Returns
    -------
    StepResult
        Metrics `n_units`, `n_spikes`, `spike_rate_hz`, `sorted_channels`, `duration_s`,
        `masked_s`, `spikes_outside`, `spikes_in_masked`, `repeated_spikes`, `sparse_units`,
        `sorter_cpu_s`, `sorter_peak_memory_bytes`, `sorter`, `sorter_version`. What was applied
        has the sorter's effective parameters.

    Raises
    ------
    Skipped
        `recording_too_short`, `too_few_good_channels` or `no_units_found`.
    PermanentFailure
        When the sorter raises, is not installed, or would need a GPU.
    TransientFailure
        When the sorter is killed, most likely for memory.
    """
    _check_can_run(recording, parameters)
    chain = sorter_chain(recording, channels, saturation, parameters, motion)
    effective = effective_parameters(parameters, chain.recording.get_num_channels())
    workplace = Path(tempfile.mkdtemp(prefix=f"{parameters.sorter}_", dir=scratch))
    try:
        job = Job(parameters.sorter, _overrides(parameters, effective), chain.recording, n_jobs)
        usage = run_job(job, workplace, progress)
        found = NumpySorting.from_sorting(
            load(workplace / "result"), with_metadata=True, copy_spike_vector=True
        )
        _keep_logs(workplace, folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    sorting, dropped = clean_sorting(
        found, recording.get_num_samples(), chain.masked, parameters.min_spikes
    )
    if sorting.get_num_units() == 0:
        raise Skipped(
            SkipReason.NO_UNITS_FOUND,
            f"{parameters.sorter} found {found.get_num_units()} units, none with "
            f"{parameters.min_spikes} spikes, in {recording.get_total_duration():.0f} s of "
            f"{chain.recording.get_num_channels()} channels",
        )
    timeline_of(recording).annotate(sorting)
    sorting.save(folder=folder / SORTING_NAME, format="zarr")
    add_checksums(folder / SORTING_NAME)
    progress(1.0, f"{sorting.get_num_units()} units")
    return _result(
        recording, sorting, chain, parameters, effective, {**usage, **dropped, "n_jobs": n_jobs}
    )


def open_sorting(folder: Path) -> BaseSorting:
    """Open what `sort_recording` wrote, as plain SpikeInterface does.

    Parameters
    ----------
    folder : Path
        The folder that was given to `sort_recording`.

    Returns
    -------
    BaseSorting
        Spikes in samples of the raw recording.
    """
    sorting: BaseSorting = load(folder / SORTING_NAME)
    return sorting


def _check_can_run(recording: BaseRecording, parameters: SortingParameters) -> None:
    """Refuse early what cannot work or would take days."""
    from spikeinterface.sorters import sorter_dict

    if parameters.sorter not in sorter_dict:
        known = ", ".join(sorted(sorter_dict))
        raise PermanentFailure(
            f"SpikeInterface has no sorter {parameters.sorter!r}; choose one of {known}"
        )
    if not sorter_dict[parameters.sorter].is_installed():
        raise PermanentFailure(
            f"The sorter {parameters.sorter} is not installed; install it (kilosort4: "
            "`pip install neuro-assets[kilosort]`) or choose another sorter in lab.yaml"
        )
    require_programs(parameters.sorter)
    duration = recording.get_total_duration()
    if duration < parameters.min_duration_s:
        raise Skipped(
            SkipReason.RECORDING_TOO_SHORT,
            f"{duration:.1f} s; sorting needs {parameters.min_duration_s:g} s",
        )
    if parameters.needs_gpu:
        _check_gpu(duration, parameters)


def _check_gpu(duration: float, parameters: SortingParameters) -> None:
    if parameters.force_cpu or duration <= parameters.max_cpu_duration_s or _uses_gpu(parameters):
        return
    raise PermanentFailure(
        f"{parameters.sorter} finds no GPU, and {duration:.0f} s on the CPU would take hours to "
        f"days (limit {parameters.max_cpu_duration_s:g} s); run it where there is a GPU, choose a "
        "CPU sorter such as tridesclous2, or set force_cpu"
    )


def _uses_gpu(parameters: SortingParameters) -> bool:
    device = parameters.sorter_parameters.get("torch_device", "auto")
    if device == "cpu":
        return False
    import torch

    return bool(torch.cuda.is_available())


def sorter_chain(
    recording: BaseRecording,
    channels: pd.DataFrame,
    saturation: pd.DataFrame | None,
    parameters: SortingParameters,
    motion: Any | None = None,
) -> Chain:
    """Build what the sorter reads, from the arguments of `sort_recording`: our steps only."""
    chain = base_chain(recording, channels, saturation, parameters.band)
    if parameters.filtering == "ours":
        filter_band(chain, parameters.band)
    if parameters.reference == "ours":
        reference_band(chain, parameters.band)
    if parameters.drift == "ours" and _corrects_drift(parameters, chain):
        if motion is None:
            raise PermanentFailure(
                "drift: ours needs the motion estimate, which is missing for this recording; make "
                "the asset motion, or say drift: sorter or drift: off"
            )
        correct_motion(chain, motion)
    if parameters.whitening == "ours":
        whiten(chain, parameters.whitening_radius_um)
    return chain


def _corrects_drift(parameters: SortingParameters, chain: Chain) -> bool:
    return chain.recording.get_num_channels() >= parameters.drift_min_channels


def effective_parameters(parameters: SortingParameters, n_channels: int) -> dict[str, Any]:
    """Merge the sorter's defaults, its switches and the overrides: what it will really use.

    Parameters
    ----------
    parameters : SortingParameters
        The sorter set.
    n_channels : int
        Good channels; too few turn the sorter's drift correction off.

    Returns
    -------
    dict
        JSON values only.
    """
    from spikeinterface.core.core_tools import check_json
    from spikeinterface.sorters import get_default_sorter_params

    defaults = get_default_sorter_params(parameters.sorter)
    unknown = sorted(set(parameters.sorter_parameters) - set(defaults))
    if unknown:
        raise PermanentFailure(
            f"{parameters.sorter} has no parameter {unknown[0]!r}; it knows "
            f"{', '.join(sorted(defaults))}"
        )
    effective = {**defaults, **parameters.switches, **parameters.sorter_parameters}
    for name, value in parameters.sorter_parameters.items():
        if isinstance(value, dict) and isinstance(defaults[name], dict):
            effective[name] = {**defaults[name], **value}
    if n_channels < parameters.drift_min_channels:
        effective |= _without_drift(parameters)
    return dict(check_json(effective))


def _without_drift(parameters: SortingParameters) -> dict[str, bool]:
    from neuro_assets.parameters.sorting import SWITCHES

    return {
        switch.parameter: switch.value(False)
        for switch in SWITCHES.get(parameters.sorter, ())
        if "drift" in switch.steps
    }


def _overrides(parameters: SortingParameters, effective: dict[str, Any]) -> dict[str, Any]:
    """Select what has to be handed to the sorter: job settings come from the process instead."""
    from spikeinterface.core.job_tools import job_keys

    keep = set(parameters.sorter_parameters)
    return {k: v for k, v in effective.items() if k in keep or k not in job_keys}


def _keep_logs(workplace: Path, folder: Path) -> None:
    """Keep the sorter's words, without the path of the scratch folder in them."""
    for source, name in (
        (workplace / LOG_NAME, LOG_NAME),
        (workplace / "sorter" / SI_LOG_NAME, SI_LOG_NAME),
    ):
        if source.exists():
            text = source.read_text(errors="replace")
            (folder / name).write_text(text.replace(str(workplace), "<scratch>"))


def _result(
    recording: BaseRecording,
    sorting: BaseSorting,
    chain: Chain,
    parameters: SortingParameters,
    effective: dict[str, Any],
    counts: dict[str, Any],
) -> StepResult:
    from spikeinterface.sorters import sorter_dict

    version = str(sorter_dict[parameters.sorter].get_sorter_version())
    duration = recording.get_total_duration()
    masked_s = float(np.diff(chain.masked).sum() / recording.sampling_frequency)
    n_spikes = len(sorting.to_spike_vector())
    who: dict[str, Any] = {
        step: getattr(parameters, step) for step in ("filtering", "reference", "whitening", "drift")
    }
    if not _corrects_drift(parameters, chain):
        who["drift"] = "off"
    few = chain.recording.get_num_channels() < parameters.band.min_reference_channels
    if few and parameters.reference == "ours":
        who["reference"] = "off"
    chain.applied.append(
        Applied(
            f"sort:{parameters.sorter}",
            {
                "version": version,
                "by": who,
                "n_jobs": counts["n_jobs"],
                "checked": parameters.is_checked,
                **effective,
            },
        )
    )
    return StepResult(
        metrics={
            "n_units": sorting.get_num_units(),
            "n_spikes": n_spikes,
            "spike_rate_hz": n_spikes / (duration - masked_s),
            "sorted_channels": chain.recording.get_num_channels(),
            "duration_s": duration,
            "masked_s": masked_s,
            "spikes_outside": counts["spikes_outside"],
            "spikes_in_masked": counts["spikes_in_masked"],
            "repeated_spikes": counts["repeated_spikes"],
            "sparse_units": counts["sparse_units"],
            "sorter": parameters.sorter,
            "sorter_version": version,
            "sorter_cpu_s": counts["cpu_s"],
            "sorter_peak_memory_bytes": counts["peak_memory_bytes"],
        },
        applied=chain.applied,
        repeatable=parameters.sorter in REPEATABLE,
    )
