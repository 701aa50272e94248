"""Which channels are good, dead, noisy or out of the brain, and whether that is enough to sort.

The measures and rules are those of SpikeInterface's `coherence+psd` (IBL's method), applied to
each shank by itself and kept beside the labels; a test holds them to SpikeInterface's own labels.
What is done about bad channels (removed, interpolated) is decided by the steps that read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.science.drawings import channels_picture
from neuro_assets.science.gaps import per_piece
from neuro_assets.science.geometry import channel_table
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

LABELS = ("good", "dead", "noise", "out")
"""In the order of the method's codes 0, 1, 2, 3."""


def detect_bad_channels(
    recording: BaseRecording,
    folder: Path,
    parameters: BadChannelsParameters,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """Label every channel as good, dead, noise or out.

    Pieces of the phase-shifted, high-passed recording are labelled one by one and each channel
    gets its most frequent label, as in SpikeInterface 0.105 `detect_bad_channels`
    (`coherence+psd`, from International Brain Laboratory et al. 2022). Shanks are judged apart.
    Shanks with few channels, and recordings without gains or a probe, get `mad`.

    Uncorrelated noise (as some simulations have) makes coherence meaningless: good channels at
    the edge of a probe may then be flagged.

    Parameters
    ----------
    recording : BaseRecording
        Raw neural channels of the AP or wide band, any length.
    folder : Path
        Not used: the table is small.
    parameters : BadChannelsParameters
        Thresholds and pieces.
    progress : callable
        Told the fraction done.

    Returns
    -------
    StepResult
        Table `channels`: one row a channel, in the recording's order: `channel_id`,
        `channel_index`, `x_um`, `y_um`, `shank`, `label`, `method`, `agreement` (fraction of
        pieces with that label) and the medians over pieces of `similarity` (zero-lag regression
        on the shank's median trace), `similarity_trend`, `similarity_deviation`,
        `psd_hf_uv2_hz`, `spread_uv`.

    Raises
    ------
    PermanentFailure
        When a gain is not a number, or the recording has no samples.
    """
    table = channel_table(recording)
    scaled = _has_units(recording)
    filtered, applied = _prepared(recording, parameters)
    shanks = [group.index.to_numpy() for _, group in table.groupby("shank", sort=True)]
    methods = [_method_for(table.iloc[rows], scaled, parameters) for rows in shanks]
    pieces = _pieces(recording, parameters)
    codes = np.zeros((len(pieces), len(table)), dtype=int)
    measures: list[pd.DataFrame] = []
    for number, (start, stop) in enumerate(pieces):
        traces = filtered.get_traces(start_frame=start, end_frame=stop, return_in_uV=scaled)
        measured = []
        for rows, method in zip(shanks, methods, strict=True):
            frame = _measure(
                np.asarray(traces[:, rows], float), table.iloc[rows], recording, parameters
            )
            codes[number, rows] = _label(frame, method, parameters)
            measured.append(frame)
        measures.append(pd.concat(measured).sort_index())
        progress((number + 1) / len(pieces), f"piece {number + 1} of {len(pieces)}")
    channels = _channels(table, codes, measures)
    for rows, method in zip(shanks, methods, strict=True):
        channels.loc[rows, "method"] = method
    seconds = sum(stop - start for start, stop in pieces) / recording.sampling_frequency
    return StepResult(
        metrics=_metrics(channels, seconds, len(pieces), parameters),
        tables={"channels": channels},
        applied=[*applied, _detection(methods, parameters)],
        picture=channels_picture(channels, parameters),
    )


def check_sortable(
    channels: pd.DataFrame, duration_s: float, parameters: BadChannelsParameters
) -> dict[str, Any]:
    """Say whether a recording is worth sorting, or skip it with a typed reason.

    Good channels are counted per shank, in the longest stretch of depth that bad channels do
    not interrupt for more than `max_gap_um`: a shallow insertion with half of its channels out
    of the brain is sorted, and one whose few good channels lie scattered is not.

    Parameters
    ----------
    channels : DataFrame
        From `detect_bad_channels`.
    duration_s : float
        Length of the recording, seconds.
    parameters : BadChannelsParameters
        The thresholds.

    Returns
    -------
    dict
        Metrics of the best stretch: `good_stretch_channels`, `good_stretch_um`,
        `good_stretch_shank`.

    Raises
    ------
    Skipped
        `recording_too_short` or `too_few_good_channels`.
    """
    if duration_s < parameters.min_duration_s:
        raise Skipped(
            SkipReason.RECORDING_TOO_SHORT,
            f"{duration_s:.4g} s recorded, {parameters.min_duration_s:g} s are needed to sort",
        )
    stretches = _stretches(channels, parameters.max_gap_um)
    enough = [s for s in stretches if s["n"] >= _needed(s["of"], parameters)]
    best = max(enough or stretches, key=lambda s: s["n"])
    if not enough:
        raise Skipped(
            SkipReason.TOO_FEW_GOOD_CHANNELS,
            f"the longest stretch of good channels has {best['n']} (shank {best['shank']}), "
            f"{_needed(best['of'], parameters)} are needed",
        )
    return _stretch_metrics(best)


def _has_units(recording: BaseRecording) -> bool:
    """Say whether traces can be had in microvolts; refuse gains that are not numbers."""
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    if gains is None or offsets is None:
        return False
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all()):
        raise PermanentFailure(
            "Some channels have no number as gain or offset: correct the probe's metadata, or "
            "give gain_uv in lab.yaml"
        )
    return True


def _prepared(
    recording: BaseRecording, parameters: BadChannelsParameters
) -> tuple[BaseRecording, list[Applied]]:
    """Undo the multiplexer's delays, then high-pass; both lazily."""
    from spikeinterface.preprocessing import highpass_filter, phase_shift

    if recording.get_num_samples() == 0:
        raise PermanentFailure("The recording has no samples: no channel can be judged")
    applied = []
    if parameters.phase_shift and recording.get_property("inter_sample_shift") is not None:
        recording = phase_shift(recording, dtype="float32")
        applied.append(Applied("phase_shift", {}))
    values = {"freq_min": parameters.highpass_hz, "filter_order": parameters.highpass_order}
    applied.append(Applied("highpass_filter", values))
    return per_piece(recording, highpass_filter, dtype="float32", **values), applied


def _method_for(shank: pd.DataFrame, scaled: bool, parameters: BadChannelsParameters) -> str:
    """Choose the method that means something for this shank."""
    small = len(shank) < parameters.min_channels_coherence
    return "mad" if small or not scaled or shank["y_um"].isna().any() else parameters.method


def _pieces(recording: BaseRecording, parameters: BadChannelsParameters) -> list[tuple[int, int]]:
    """Places of the pieces: one at random in each of equal parts of the recording."""
    n_samples = int(recording.get_num_samples())
    fs = recording.sampling_frequency
    timeline = timeline_of(recording)
    length = min(timeline.longest(n_samples), round(parameters.chunk_duration_s * fs))
    n_pieces = max(1, min(parameters.n_chunks, n_samples // length))
    part = n_samples / n_pieces
    shift = np.random.default_rng(parameters.seed).uniform(0, part - length, n_pieces)
    starts = (np.arange(n_pieces) * part + shift).astype(int)
    starts = [timeline.inside(int(start), length, n_samples) for start in starts]
    return [(start, start + length) for start in starts]


def _measure(
    traces: np.ndarray,
    shank: pd.DataFrame,
    recording: BaseRecording,
    parameters: BadChannelsParameters,
) -> pd.DataFrame:
    """Measure one piece of one shank; rows keep the table's index.

    Parameters
    ----------
    traces : ndarray, shape (n_samples, n_channels)
        High-passed, uV where there are gains.
    """
    from scipy.signal import welch

    fs = recording.sampling_frequency
    order = np.lexsort((shank["x_um"], shank["y_um"]))
    raw = traces[:, order] - traces[:, order].mean(axis=0)
    nperseg = min(len(raw), int(parameters.welch_window_ms * fs / 1000))
    frequencies, psd = welch(raw, fs=fs, axis=0, window="hann", nperseg=nperseg)
    reference = np.median(raw, axis=1)
    reference -= reference.mean()
    energy = float(np.sum(reference**2))
    similarity = raw.T @ reference / energy if energy > 0 else np.zeros(raw.shape[1])
    # A median filter whose window shrinks at the ends.
    window = pd.Series(similarity).rolling(parameters.n_neighbors | 1, center=True, min_periods=1)
    trend = window.median().to_numpy()
    return pd.DataFrame(
        {
            "similarity": similarity,
            "similarity_trend": trend,
            "similarity_deviation": similarity - trend,
            "psd_hf_uv2_hz": psd[frequencies > fs / 2 * parameters.nyquist_threshold].mean(axis=0),
            "spread_uv": np.median(np.abs(raw - np.median(raw, axis=0)), axis=0) / 0.6745,
        },
        index=shank.index[order],
    )


def _label(frame: pd.DataFrame, method: str, parameters: BadChannelsParameters) -> np.ndarray:
    """Code of each channel, in the table's order (the frame comes in the order of depth)."""
    rule = _label_mad if method == "mad" else _label_coherence
    codes = pd.Series(rule(frame, parameters), index=frame.index)
    return codes.sort_index().to_numpy()


def _label_mad(frame: pd.DataFrame, parameters: BadChannelsParameters) -> np.ndarray:
    """Compare each channel's spread with the median channel's."""
    spread = frame["spread_uv"].to_numpy()
    typical = np.median(spread)
    codes = np.zeros(len(frame), dtype=int)
    codes[spread < typical / parameters.mad_factor] = 1
    codes[spread == 0] = 1
    codes[spread > typical * parameters.mad_factor] = 2
    return codes


def _label_coherence(frame: pd.DataFrame, parameters: BadChannelsParameters) -> np.ndarray:
    """Apply IBL's thresholds; out beats noise, noise beats dead."""
    deviation = frame["similarity_deviation"].to_numpy()
    codes = np.zeros(len(frame), dtype=int)
    codes[deviation < parameters.dead_channel_threshold] = 1
    loud = frame["psd_hf_uv2_hz"].to_numpy() > parameters.psd_hf_threshold
    codes[loud | (deviation > parameters.noisy_channel_threshold)] = 2
    inside = frame["similarity_trend"].to_numpy() >= parameters.outside_channel_threshold + 1
    ends = (np.argmax(inside), np.argmax(inside[::-1])) if inside.any() else (len(codes),) * 2
    if parameters.outside_channels_location in ("bottom", "both"):
        codes[: ends[0]] = 3
    if parameters.outside_channels_location in ("top", "both"):
        codes[len(codes) - ends[1] :] = 3
    return codes


def _channels(table: pd.DataFrame, codes: np.ndarray, measures: list[pd.DataFrame]) -> pd.DataFrame:
    """Most frequent label and median measures of each channel."""
    counts = np.stack([(codes == code).sum(axis=0) for code in range(len(LABELS))])
    winner = counts.argmax(axis=0)
    stacked = np.stack([frame.to_numpy() for frame in measures])
    medians = pd.DataFrame(np.median(stacked, axis=0), columns=measures[0].columns)
    table = table.assign(
        label=[LABELS[code] for code in winner],
        method="",
        agreement=counts.max(axis=0) / len(codes),
    )
    return pd.concat([table, medians], axis=1)


def _detection(methods: list[str], parameters: BadChannelsParameters) -> Applied:
    """Name the methods that were applied and the values that they used."""
    used = {
        "mad": {"mad_factor"},
        "coherence+psd": {
            "dead_channel_threshold",
            "noisy_channel_threshold",
            "outside_channel_threshold",
            "outside_channels_location",
            "psd_hf_threshold",
            "nyquist_threshold",
            "n_neighbors",
            "welch_window_ms",
        },
    }
    include = set().union(*(used[method] for method in methods))
    values = parameters.model_dump(include=include | {"chunk_duration_s", "n_chunks", "seed"})
    return Applied("detect_bad_channels", {"methods": sorted(set(methods)), **values})


def _needed(n_channels: int, parameters: BadChannelsParameters) -> int:
    """Good channels that a shank with so many channels needs."""
    few = int(np.ceil(parameters.min_good_fraction * n_channels))
    return max(1, min(parameters.min_good_channels, few))


def _stretches(channels: pd.DataFrame, max_gap_um: float) -> list[dict[str, Any]]:
    """Longest unbroken stretch of good channels of each shank."""
    found = []
    for shank, group in channels.groupby("shank", sort=True):
        depths = np.sort(group.loc[group["label"] == "good", "y_um"].to_numpy(float))
        breaks = np.flatnonzero(np.diff(depths) > max_gap_um) + 1
        runs = [run for run in np.split(depths, breaks) if len(run)]
        best = max(runs, key=len, default=np.zeros(0))
        span = float(best[-1] - best[0]) if len(best) else 0.0
        found.append({"shank": shank, "n": len(best), "um": span, "of": len(group)})
    return found


def _stretch_metrics(stretch: dict[str, Any]) -> dict[str, Any]:
    return {
        "good_stretch_channels": stretch["n"],
        "good_stretch_um": stretch["um"],
        "good_stretch_shank": str(stretch["shank"]),
    }


def _metrics(
    channels: pd.DataFrame, seconds: float, n_pieces: int, parameters: BadChannelsParameters
) -> dict[str, Any]:
    counts = {f"n_{label}_channels": int((channels["label"] == label).sum()) for label in LABELS}
    n_good, n_out = counts["n_good_channels"], counts["n_out_channels"]
    best = max(_stretches(channels, parameters.max_gap_um), key=lambda s: s["n"])
    return {
        "n_channels": len(channels),
        **counts,
        "bad_channel_fraction": 1 - n_good / len(channels),
        "bad_fraction": (len(channels) - n_good - n_out) / len(channels),
        **_stretch_metrics(best),
        "examined_s": seconds,
        "n_pieces": n_pieces,
    }
