"""The step `recording_quality`: noise, spectrum, line noise, spikes and saturation of a recording.

Puts the measures together; each is in its own module (`spectral`, `quality_destripe`,
`quality_saturation`). Whether a number is good is judged by criteria elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.science.drawings import NO_LIMITS, noise_picture
from neuro_assets.science.geometry import channel_labels, channel_table
from neuro_assets.science.quality.destripe import Destriper
from neuro_assets.science.quality.saturation import find_saturation, limits_of
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.spectral import line_noise_db, power_spectrum

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

MAIN_STREAMS = ("ap", "wideband")
LINES_HZ = (50, 60)
LINE_RESOLUTION_HZ = 1.0
_LINE_COLUMNS = [f"line_noise_{line}hz_db" for line in LINES_HZ]


def recording_quality(
    recordings: Mapping[str, BaseRecording],
    folder: Path,
    parameters: RecordingQualityParameters,
    *,
    channels: pd.DataFrame,
    limits_uv: Mapping[str, float] = NO_LIMITS,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Measure a recording: pieces of 1 s for noise and spectrum, every sample for saturation.

    Definitions are IBL's (ibllib ephysqc.py, ibldsp voltage.py): RMS of raw and of destriped
    traces, Welch spectra, spikes below -50 uV after destriping, saturation on raw data. One
    piece every 300 s from 40 s; short recordings are sampled evenly, half a second included.
    What was applied is in order: `measure_raw_pieces` (with the start of each piece, s) and
    `measure` name the numbers that were taken after the steps before them.

    Parameters
    ----------
    recordings : mapping of str to BaseRecording
        `ap` or `wideband`, and `lf` where it exists; raw neural channels with gains.
    folder : Path
        Not used: the tables are small.
    parameters : RecordingQualityParameters
        Pieces, filters and limits.
    channels : DataFrame
        Table of `bad_channels`.
    limits_uv : mapping of str to float
        Limits of the median `rms_destriped_uv` by the verdict beyond them; the picture has them.
    n_jobs : int
        Threads that look for saturation.
    progress : callable
        Told the fraction done.

    Returns
    -------
    StepResult
        Tables `channel_quality` (one row a channel), `spectrum` (stream, channel, frequency) and
        `saturation` (intervals of the main stream, sample indices, `stop_sample` one past the
        last).

    Raises
    ------
    PermanentFailure
        Without a main stream, without gains, or with gains that are not numbers.
    """
    main = next((recordings[name] for name in MAIN_STREAMS if name in recordings), None)
    if main is None:
        raise PermanentFailure("The recording has neither an AP nor a wide-band stream to measure")
    for name, recording in recordings.items():
        _check_units(name, recording)
    table = channel_table(main).assign(label=channel_labels(main, channels))
    result = StepResult()
    pieces = _pieces(main, parameters)
    quality, spectra = _measure_main(main, table, pieces, parameters, result, progress)
    lf = recordings.get("lf")
    if lf is not None:
        quality, spectra = _add_lf(lf, quality, spectra, parameters, result)
        progress(0.4, "LF measured")
    limits = limits_of(main, parameters, slope=True)
    saturation, n_saturated = find_saturation(
        main,
        limits,
        gap_samples=parameters.saturation_gap_samples,
        n_jobs=n_jobs,
        watch=lambda fraction: progress(0.4 + 0.6 * fraction, "looking for saturation"),
    )
    result.applied.append(
        Applied(
            "find_saturation",
            {
                "range_uv": limits.range_uv,
                "fraction_of_range": parameters.saturation_fraction_of_range,
                "slope_uv": parameters.saturation_slope_uv,
                "channels": parameters.saturation_channels,
            },
        )
    )
    result.tables |= {"channel_quality": quality, "spectrum": spectra, "saturation": saturation}
    result.metrics |= _metrics(quality, main, saturation, n_saturated, limits.range_uv)
    result.metrics |= _continuity(recordings, main)
    result.metrics["examined_s"] = sum(b - a for a, b in pieces) / main.sampling_frequency
    result.picture = noise_picture(quality, spectra, limits_uv)
    return result


def _check_units(name: str, recording: BaseRecording) -> None:
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    if gains is None or offsets is None:
        raise PermanentFailure(
            f"The stream {name} has no gains, so that nothing can be said in microvolts: give "
            "gain_uv for its reader in lab.yaml"
        )
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all() and np.all(gains)):
        raise PermanentFailure(
            f"The stream {name} has gains or offsets that are no numbers (or zero): correct the "
            "probe's metadata, or give gain_uv in lab.yaml"
        )


def _pieces(
    recording: BaseRecording, parameters: RecordingQualityParameters
) -> list[tuple[int, int]]:
    """Places of the examined pieces: IBL's for long recordings, evenly spread for short ones."""
    fs = recording.sampling_frequency
    n_samples = int(recording.get_num_samples())
    if n_samples == 0:
        raise PermanentFailure("The recording has no samples: nothing can be measured")
    timeline = timeline_of(recording)
    length = min(timeline.longest(n_samples), round(parameters.piece_s * fs))
    last = n_samples - length
    first, step = round(parameters.first_piece_s * fs), round(parameters.piece_interval_s * fs)
    starts = np.arange(first, last + 1, step)
    if len(starts) < parameters.min_pieces:
        n_pieces = min(parameters.min_pieces, n_samples // length)
        gaps = (n_samples - n_pieces * length) / (n_pieces + 1)
        starts = np.floor(gaps + np.arange(n_pieces) * (length + gaps)).astype(int)
    places = [timeline.inside(int(start), length, n_samples) for start in starts]
    return [(place, place + length) for place in places]


def _measure_main(
    main: BaseRecording,
    table: pd.DataFrame,
    pieces: list[tuple[int, int]],
    parameters: RecordingQualityParameters,
    result: StepResult,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the pieces of the spike band; medians over pieces, as IBL."""
    destriper = Destriper(main, table, parameters)
    highpass, *destripe = destriper.applied
    result.applied += [
        _measured("main", main, pieces, ["rms_raw_uv", "spectrum", *_LINE_COLUMNS]),
        highpass,
        Applied("measure", {"numbers": ["spike_band_power_uv2"]}),
        *destripe,
        Applied("measure", {"numbers": ["rms_destriped_uv", "spike_rate_hz"]}),
    ]
    fs = main.sampling_frequency
    rows, powers, lines = [], [], []
    for number, (start, stop) in enumerate(pieces):
        raw = main.get_traces(start_frame=start, end_frame=stop, return_in_uV=True)
        raw = np.asarray(raw, dtype=np.float32)
        band = destriper.highpassed.get_traces(start_frame=start, end_frame=stop)
        clean = destriper.traces(start, stop)
        rows.append(
            {
                "rms_raw_uv": raw.std(axis=0),
                "spike_band_power_uv2": band.var(axis=0),
                "rms_destriped_uv": np.sqrt(np.mean(clean**2, axis=0)),
                "spike_rate_hz": spike_counts(clean, parameters.spike_threshold_uv)
                / (len(clean) / fs),
            }
        )
        powers.append(power_spectrum(raw, fs, parameters.welch_samples))
        lines.append(_line_levels(raw, fs))
        progress(0.35 * (number + 1) / len(pieces), f"piece {number + 1} of {len(pieces)}")
    quality = table.assign(
        **{
            name: np.mean([row[name] for row in rows], axis=0)
            if name == "spike_rate_hz"
            else np.median([row[name] for row in rows], axis=0)
            for name in rows[0]
        },
        **_mean_lines(lines, parameters),
    )
    return quality, _spectrum_table(main, powers)


def _measured(
    stream: str, recording: BaseRecording, pieces: list[tuple[int, int]], numbers: list[str]
) -> Applied:
    """Say which numbers are of the raw traces, and when their pieces begin on the clock `probe`."""
    fs = recording.sampling_frequency
    starts = timeline_of(recording).seconds([start for start, _ in pieces], fs)
    return Applied(
        "measure_raw_pieces",
        {
            "stream": stream,
            "numbers": numbers,
            "start_s": [round(float(start), 6) for start in starts],
            "length_s": (pieces[0][1] - pieces[0][0]) / fs,
        },
    )


def spike_counts(clean: np.ndarray, threshold_uv: float) -> np.ndarray:
    """Count the spikes of each channel: local minima below a threshold.

    Parameters
    ----------
    clean : ndarray, shape (n_samples, n_channels)
        Destriped traces, uV.
    threshold_uv : float
        Negative.

    Returns
    -------
    ndarray of int, shape (n_channels,)
        Excursions below the threshold; one excursion is one spike, however many samples it has.
    """
    below = clean < threshold_uv
    return np.count_nonzero(below[1:] & ~below[:-1], axis=0) + below[0]


def _line_levels(raw: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum that resolves the mains."""
    return power_spectrum(raw, fs, round(fs / LINE_RESOLUTION_HZ))


def _mean_lines(
    spectra: list[tuple[np.ndarray, np.ndarray]], parameters: RecordingQualityParameters
) -> dict[str, np.ndarray]:
    """Line noise of the mean spectrum: single windows scatter by 5 dB."""
    frequencies, power = spectra[0][0], np.mean([power for _, power in spectra], axis=0)
    return {
        f"line_noise_{line}hz_db": line_noise_db(
            frequencies, power, line, parameters.line_harmonics
        )
        for line in LINES_HZ
    }


def _spectrum_table(
    recording: BaseRecording, powers: list[tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """Mean power of each channel and frequency, in long form."""
    frequencies, power = powers[0][0], np.mean([power for _, power in powers], axis=0)
    n_channels = power.shape[1]
    return pd.DataFrame(
        {
            "stream": "lf" if recording.sampling_frequency <= 2600 else "ap",
            "channel_index": np.repeat(np.arange(n_channels), len(frequencies)),
            "frequency_hz": np.tile(frequencies, n_channels),
            "power_uv2_hz": power.T.ravel().astype(np.float32),
        }
    )


def _add_lf(
    lf: BaseRecording,
    quality: pd.DataFrame,
    spectra: pd.DataFrame,
    parameters: RecordingQualityParameters,
    result: StepResult,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the LF band; columns join the main stream's where the channels are the same."""
    fs = lf.sampling_frequency
    rms, powers, lines = [], [], []
    pieces = _pieces(lf, parameters)
    numbers = ["rms_lf_uv", "spectrum", *(f"lf_{name}" for name in _LINE_COLUMNS)]
    result.applied.append(_measured("lf", lf, pieces, numbers))
    for start, stop in pieces:
        raw = lf.get_traces(start_frame=start, end_frame=stop, return_in_uV=True)
        raw = np.asarray(raw, dtype=np.float32)
        rms.append(raw.std(axis=0))
        powers.append(power_spectrum(raw, fs, parameters.welch_samples))
        lines.append(_line_levels(raw, fs))
    measured = {"rms_lf_uv": np.median(rms, axis=0)}
    measured |= {f"lf_{name}": level for name, level in _mean_lines(lines, parameters).items()}
    columns = pd.DataFrame(measured)
    same = len(columns) == len(quality)
    counted = columns[_counted(quality).to_numpy()] if same else columns
    table = _spectrum_table(lf, powers).assign(stream="lf")
    result.metrics["rms_lf_uv_median"] = float(counted["rms_lf_uv"].median())
    result.metrics["lf_line_noise_db"] = _worst_line(counted, "lf_")
    if same:
        quality = quality.assign(**measured)
    return quality, pd.concat([spectra, table], ignore_index=True)


def _counted(quality: pd.DataFrame) -> pd.Series:
    """Which channels count: neither dead nor outside the brain; those outside where no other is."""
    alive = quality["label"] != "dead"
    inside = alive & (quality["label"] != "out")
    return inside if inside.any() else alive


def _worst_line(columns: pd.DataFrame, prefix: str = "") -> float:
    """Median channel's line noise, of 50 and 60 Hz the stronger; NaN where none has any."""
    return float(columns[[f"{prefix}{name}" for name in _LINE_COLUMNS]].median().max())


def _metrics(
    quality: pd.DataFrame,
    main: BaseRecording,
    saturation: pd.DataFrame,
    n_saturated: int,
    range_uv: float,
) -> dict[str, Any]:
    """Flat numbers; medians and deciles over the channels that count and have the number."""
    inside = quality[_counted(quality)]
    numbers: dict[str, Any] = {}
    for name in ("rms_raw_uv", "rms_destriped_uv"):
        low, middle, high = inside[name].quantile([0.1, 0.5, 0.9])
        numbers |= {f"{name}_median": middle, f"{name}_p10": low, f"{name}_p90": high}
    for name in ("spike_band_power_uv2", "spike_rate_hz"):
        numbers[f"{name}_median"] = inside[name].median()
    numbers |= {name: inside[name].median() for name in _LINE_COLUMNS}
    numbers |= {
        "line_noise_db": _worst_line(inside),
        "saturated_fraction": n_saturated / int(main.get_num_samples()),
        "n_saturation_events": len(saturation),
        "saturated_s": n_saturated / main.sampling_frequency,
        "saturation_range_uv": range_uv,
        "duration_s": int(main.get_num_samples()) / main.sampling_frequency,
        "n_channels": len(quality),
    }
    return {name: float(v) if isinstance(v, np.floating) else v for name, v in numbers.items()}


def _continuity(recordings: Mapping[str, BaseRecording], main: BaseRecording) -> dict[str, Any]:
    """Gaps of the main stream, of the others by their names, and the worst loss of any."""
    numbers: dict[str, Any] = {}
    fractions = []
    for name, recording in recordings.items():
        # Only gaps within a file are lost data: pauses between triggers are meant.
        timeline, n_samples = timeline_of(recording), int(recording.get_num_samples())
        dropped, prefix = int(timeline.dropped.sum()), "" if recording is main else f"{name}_"
        numbers |= {
            f"{prefix}n_gaps": len(timeline.missing),
            f"{prefix}gap_s": float(timeline.missing.sum() / recording.sampling_frequency),
            f"{prefix}dropped_samples": dropped,
        }
        fractions.append(dropped / max(1, dropped + n_samples))
    return {**numbers, "dropped_fraction": max(fractions)}
