"""Estimate of a probe's motion against the tissue; applying it is a sorter set's choice.

The chain before it is `neuro_assets.science.preprocessing`. Times are samples of the recording.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spikeinterface.core import BaseRecording
from spikeinterface.core.motion import Motion

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.science.compiled import PEAK_KERNELS, keep_compiled
from neuro_assets.science.drawings import NO_LIMITS, motion_picture
from neuro_assets.science.gaps import retimed
from neuro_assets.science.preprocessing import Chain, good_channels, spike_band_chain
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress

MOTION_NAME = "motion"
MIN_PEAKS = 200
"""With fewer peaks there is nothing to estimate a motion from."""


def estimate_motion(
    recording: BaseRecording,
    channels: pd.DataFrame,
    folder: Path,
    parameters: MotionParameters,
    *,
    saturation: pd.DataFrame | None = None,
    limits_um: Mapping[str, float] = NO_LIMITS,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Estimate the motion of a probe.

    Parameters
    ----------
    recording : BaseRecording
        Raw recording, one segment.
    channels : DataFrame
        Columns `channel_id` and `label`; only `good` channels are used.
    folder : Path
        Gets `motion/`, SpikeInterface's own format (`.npy` and JSON): `Motion.load` opens it; its
        times are on the clock `probe`.
    parameters : MotionParameters
        Method and resolution.
    saturation : DataFrame or None
        Saturated periods, `start_sample` and `stop_sample`.
    limits_um : mapping of str to float
        Limits of `drift_rms_um` by the verdict beyond them; the picture has them.
    n_jobs : int
        Worker threads.
    progress : Progress
        Called between the stages.

    Returns
    -------
    StepResult
        Table `motion`: `sample_index` (centre of the temporal bin), `probe_time_s` (on the clock
        `probe`), `depth_um` (centre of the window), `displacement_um` (of the tissue along the
        probe), `confident`. Table `windows`, of `window_evidence`. Windows that are not
        confident have the displacement of the nearest ones that are (none at all: 0), and are no
        drift: metrics `drift_ptp_um`, `drift_rms_um`, `max_jump_um` (between two bins) are of the
        confident ones, NaN without any; `n_depth_windows`, `n_confident_windows`,
        `confident_fraction`, `n_time_bins`, `n_peaks`, `peak_rate_hz`. A picture.

    Raises
    ------
    Skipped
        `too_few_channels`, `recording_too_short`, or `no_units_found` where there are no peaks.
    PermanentFailure
        When the method gives up.
    """
    _check_worth(recording, channels, parameters)
    keep_compiled(PEAK_KERNELS)
    chain = spike_band_chain(recording, channels, saturation, parameters.band)
    progress(0.05, f"peaks of {chain.recording.get_num_channels()} channels")
    motion, n_peaks, evidence = _compute(chain, parameters, n_jobs)
    progress(0.9, "writing")
    sure = evidence["confident"].to_numpy()
    motion.displacement[0] = supported(motion.displacement[0], motion.spatial_bins_um, sure)
    table = motion_table(motion, recording)
    table["confident"] = np.tile(sure, len(motion.temporal_bins_s[0]))
    timeline, rate = timeline_of(recording), recording.sampling_frequency
    motion = retimed(motion, timeline, lambda times: timeline.seconds(times * rate, rate))
    motion.save(folder / MOTION_NAME)
    duration = recording.get_total_duration()
    return StepResult(
        metrics=_metrics(motion, sure)
        | {"n_peaks": n_peaks, "peak_rate_hz": n_peaks / duration, "duration_s": duration},
        tables={"motion": table, "windows": evidence},
        applied=chain.applied,
        picture=motion_picture(
            motion.temporal_bins_s[0], motion.displacement[0], evidence, parameters, limits_um
        ),
    )


def load_motion(folder: Path) -> Motion:
    """Open what `estimate_motion` wrote, as plain SpikeInterface does.

    Parameters
    ----------
    folder : Path
        The folder that was given to `estimate_motion`.

    Returns
    -------
    Motion
        SpikeInterface's object.
    """
    return Motion.load(folder / MOTION_NAME)


def _check_worth(
    recording: BaseRecording, channels: pd.DataFrame, parameters: MotionParameters
) -> None:
    n_good = len(good_channels(recording, channels))
    if n_good < parameters.min_channels:
        raise Skipped(
            SkipReason.TOO_FEW_CHANNELS,
            f"{n_good} good channels; a motion estimate needs {parameters.min_channels}",
        )
    duration = recording.get_total_duration()
    if duration < parameters.min_duration_s:
        raise Skipped(
            SkipReason.RECORDING_TOO_SHORT,
            f"{duration:.1f} s; a motion estimate needs {parameters.min_duration_s:g} s",
        )


def _compute(
    chain: Chain, parameters: MotionParameters, n_jobs: int
) -> tuple[Motion, int, pd.DataFrame]:
    """Find and locate peaks, and estimate; adds what was done to the chain."""
    from spikeinterface.core import get_noise_levels
    from spikeinterface.core.core_tools import check_json
    from spikeinterface.preprocessing import compute_motion, get_motion_parameters_preset

    options = _options(chain.recording, parameters)
    # Kept as a property, which `compute_motion` finds; it would draw other pieces each time.
    get_noise_levels(chain.recording, random_slices_kwargs={"seed": 0}, progress_bar=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        motion, info = compute_motion(
            chain.recording,
            preset=parameters.preset,
            detect_kwargs={"detect_threshold": parameters.detect_threshold},
            estimate_motion_kwargs=options,
            output_motion_info=True,
            raise_error=False,
            n_jobs=n_jobs,
            pool_engine="thread",
            chunk_duration="1s",
            progress_bar=False,
        )
    n_peaks = len(info["peaks"])
    if n_peaks < MIN_PEAKS:
        raise Skipped(
            SkipReason.NO_UNITS_FOUND,
            f"{n_peaks} peaks above {parameters.detect_threshold:g} noise levels; a motion "
            f"estimate needs {MIN_PEAKS}",
        )
    if motion is None:
        raise PermanentFailure(
            f"{parameters.preset} could not estimate a motion from {n_peaks} peaks: "
            f"{caught[-1].message if caught else 'no reason given'}"
        )
    preset = get_motion_parameters_preset(parameters.preset)
    chain.applied.append(
        Applied(
            f"estimate_motion:{parameters.preset}",
            check_json(
                {
                    "detect": preset["detect_kwargs"]
                    | {"detect_threshold": parameters.detect_threshold},
                    "localize": preset["localize_peaks_kwargs"],
                    "estimate": preset["estimate_motion_kwargs"] | options,
                }
            ),
        )
    )
    estimate = preset["estimate_motion_kwargs"] | options
    evidence = window_evidence(
        chain.recording, info["peaks"], info["peak_locations"], motion, estimate, parameters
    )
    return motion, n_peaks, evidence


def window_evidence(
    recording: BaseRecording,
    peaks: np.ndarray,
    locations: np.ndarray,
    motion: Motion,
    options: dict[str, Any],
    parameters: MotionParameters,
) -> pd.DataFrame:
    """Say how far each depth window can be believed.

    The motion is estimated again from either half of the peaks (every second one). What two
    halves of the evidence say apart is not motion of the tissue; half of their difference is the
    error of the whole, whose variance is half of theirs.

    Parameters
    ----------
    recording : BaseRecording
        Filtered traces.
    peaks, locations : ndarray, shape (n_peaks,)
        Of SpikeInterface, in time order.
    motion : Motion
        The estimate from all of them.
    options : dict
        Of the estimate.
    parameters : MotionParameters
        Limits.

    Returns
    -------
    DataFrame
        One row a window: `depth_um`, `peaks_per_bin` (median over time, within half a window's
        width), `error_um` (RMS over time; NaN where no half could be estimated), `confident`.
    """
    from spikeinterface.sortingcomponents.motion import estimate_motion as estimate

    times, depths = motion.temporal_bins_s[0], motion.spatial_bins_um
    halves = []
    for first in (0, 1):
        half = estimate(recording, peaks[first::2], locations[first::2], **options)
        place = np.interp(times, half.temporal_bins_s[0], np.arange(len(half.temporal_bins_s[0])))
        moved = half.displacement[0][np.round(place).astype(int)]
        halves.append(moved - np.median(moved, axis=0))
    error = np.sqrt(np.mean((halves[0] - halves[1]) ** 2, axis=0)) / 2
    reach = options.get("win_scale_um", np.inf) / 2
    bins = np.searchsorted(
        times[1:] - parameters.bin_s / 2, peaks["sample_index"] / recording.sampling_frequency
    )
    counts = [
        np.bincount(bins[np.abs(locations["y"] - depth) <= reach], minlength=len(times))
        for depth in depths
    ]
    table = pd.DataFrame(
        {
            "depth_um": depths.astype(float),
            "peaks_per_bin": np.median(counts, axis=1).astype(float),
            "error_um": error.astype(float),
        }
    )
    table["confident"] = (table["error_um"] <= parameters.max_error_um) & (
        table["peaks_per_bin"] >= parameters.min_peaks_per_bin
    )
    return table


def supported(displacement: np.ndarray, depths: np.ndarray, confident: np.ndarray) -> np.ndarray:
    """Replace windows without evidence by what the nearest ones with evidence say.

    Parameters
    ----------
    displacement : ndarray, shape (n_bins, n_windows)
        Micrometres.
    depths : ndarray, shape (n_windows,)
        Ascending, micrometres.
    confident : ndarray of bool, shape (n_windows,)
        Which have evidence.

    Returns
    -------
    ndarray
        Interpolated over depth; 0 where no window has evidence.
    """
    if not confident.any():
        return np.zeros_like(displacement)
    rows = [np.interp(depths, depths[confident], row[confident]) for row in displacement]
    return np.asarray(rows, dtype=displacement.dtype)


def _options(recording: BaseRecording, parameters: MotionParameters) -> dict[str, Any]:
    """Resolution of the estimate in time and depth."""
    span = float(np.ptp(recording.get_channel_locations()[:, 1]))
    step, scale = parameters.window_step_um, parameters.window_scale_um
    if parameters.window_step_span is not None:
        step = parameters.window_step_span * span
    if parameters.window_scale_span is not None:
        scale = parameters.window_scale_span * span
    # One window over the whole probe is what SpikeInterface calls rigid.
    rigid = parameters.preset == "rigid_fast" or span < step
    options: dict[str, Any] = {"bin_s": parameters.bin_s, "rigid": rigid}
    if not rigid:
        options |= {"win_step_um": step, "win_scale_um": scale}
    return options


def motion_table(motion: Motion, recording: BaseRecording) -> pd.DataFrame:
    """Lay out a motion as rows of sample, depth and displacement.

    Parameters
    ----------
    motion : Motion
        One segment.
    recording : BaseRecording
        For the sampling frequency and the time of its first sample.

    Returns
    -------
    DataFrame
        `sample_index` (int64), `probe_time_s`, `depth_um`, `displacement_um`, in the order of
        time, then depth.
    """
    times, depths = motion.temporal_bins_s[0], motion.spatial_bins_um
    samples = np.round((times - recording.get_start_time(0)) * recording.sampling_frequency)
    return pd.DataFrame(
        {
            "sample_index": np.repeat(samples.astype(np.int64), len(depths)),
            "probe_time_s": np.repeat(
                timeline_of(recording).seconds(samples, recording.sampling_frequency), len(depths)
            ),
            "depth_um": np.tile(depths.astype(float), len(times)),
            "displacement_um": motion.displacement[0].astype(float).ravel(),
        }
    )


def _metrics(motion: Motion, confident: np.ndarray) -> dict[str, Any]:
    displacement = motion.displacement[0][:, confident]
    counts = {
        "n_depth_windows": len(confident),
        "n_confident_windows": int(confident.sum()),
        "confident_fraction": float(confident.mean()),
        "n_time_bins": len(displacement),
    }
    if not confident.any():
        unknown = ("drift_ptp_um", "drift_rms_um", "max_jump_um")
        return dict.fromkeys(unknown, float("nan")) | counts
    centred = displacement - np.median(displacement, axis=0)
    jumps = np.abs(np.diff(displacement, axis=0))
    return {
        "drift_ptp_um": float(np.ptp(displacement, axis=0).max()),
        "drift_rms_um": float(np.sqrt(np.mean(centred**2))),
        "max_jump_um": float(jumps.max()) if jumps.size else 0.0,
        **counts,
    }
