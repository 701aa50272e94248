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
from neuro_assets.science.motion_evidence import supported, window_evidence, without_bins
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
        probe), `confident` (the window and the bin). Table `windows`, of `window_evidence`.
        Windows that are not confident have the displacement of the nearest ones that are (none at
        all: 0), bins that are not that of the bins around them, and neither are drift: metrics
        `drift_ptp_um`, `drift_rms_um`, `max_jump_um` (from one confident bin to the next) are of
        the others, NaN without any; `n_depth_windows`, `n_confident_windows`,
        `confident_fraction`, `n_time_bins`, `doubtful_bin_fraction` (of the confident windows),
        `n_peaks`, `peak_rate_hz`. A picture.

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
    motion, n_peaks, evidence, error = _compute(chain, parameters, n_jobs)
    progress(0.9, "writing")
    windows = evidence["confident"].to_numpy()
    sure = (error <= parameters.max_bin_error_um) & windows
    bridged = without_bins(motion.displacement[0], sure)
    motion.displacement[0] = supported(bridged, motion.spatial_bins_um, windows)
    table = motion_table(motion, recording)
    table["confident"] = sure.ravel()
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
            motion.temporal_bins_s[0], motion.displacement[0], sure, evidence, parameters, limits_um
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
) -> tuple[Motion, int, pd.DataFrame, np.ndarray]:
    """Find and locate peaks, and estimate; adds what was done to the chain."""
    from spikeinterface.core import get_noise_levels
    from spikeinterface.core.core_tools import check_json
    from spikeinterface.preprocessing import compute_motion, get_motion_parameters_preset

    options = _options(chain.recording, parameters)
    # Kept as a property, which `compute_motion` finds; it would draw other pieces each time.
    get_noise_levels(
        chain.recording, return_in_uV=False, random_slices_kwargs={"seed": 0}, progress_bar=False
    )
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
    evidence, error = window_evidence(
        chain.recording, info["peaks"], info["peak_locations"], motion, estimate, parameters
    )
    return motion, n_peaks, evidence, error


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
    windows = np.asarray(confident.any(axis=0))
    counts = {
        "n_depth_windows": len(windows),
        "n_confident_windows": int(windows.sum()),
        "confident_fraction": float(windows.mean()),
        "n_time_bins": len(confident),
    }
    if not windows.any():
        unknown = ("drift_ptp_um", "drift_rms_um", "max_jump_um", "doubtful_bin_fraction")
        return dict.fromkeys(unknown, float("nan")) | counts
    kept = [motion.displacement[0][confident[:, k], k] for k in np.flatnonzero(windows)]
    centred = np.concatenate([moved - np.median(moved) for moved in kept])
    jumps = np.abs(np.concatenate([np.diff(moved) for moved in kept]))
    return {
        "drift_ptp_um": float(max(np.ptp(moved) for moved in kept)),
        "drift_rms_um": float(np.sqrt(np.mean(centred**2))),
        "max_jump_um": float(jumps.max(initial=0.0)),
        "doubtful_bin_fraction": float((~confident[:, windows]).mean()),
        **counts,
    }
