"""The LFP of one recording: from the LF band or from the wide band, on the probe's clock.

The step only; its parts are `lfp_source` (which stream), `lfp_filters` (how it is filtered),
`lfp_store` (how it is kept) and `lfp_metrics` (whether it is usable). What is derived from the
LFP (ripples, theta, current source density) has its own modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.formats.timeline import Timeline, timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.science.drawings import NO_LIMITS
from neuro_assets.science.lfp import metrics as lfp_metrics
from neuro_assets.science.lfp.filters import (
    GaussianHighpass,
    Lowpass,
    Resampler,
    count_outputs,
    rational_ratio,
    step_reach_s,
    stream,
)
from neuro_assets.science.lfp.output import LfpWriter, open_lfp
from neuro_assets.science.lfp.source import (
    Source,
    bridge_saturation,
    choose_source,
    match_channels,
    probe_holder,
)
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress

REPLACED_LABELS = ("dead", "noise")
"""Labels that interpolation replaces; a channel outside the brain has no neighbours inside."""


def extract_lfp(
    ap: Any | None,
    lf: Any | None,
    channels: pd.DataFrame | None,
    folder: Path,
    parameters: LfpParameters | None = None,
    *,
    saturation: pd.DataFrame | None = None,
    limits_uv: Mapping[str, float] = NO_LIMITS,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Make `folder/lfp.zarr`: band-limited, resampled, zero-phase, on the clock `probe`.

    Samples lie at multiples of 1 / rate after the AP stream's first sample, where rate = source
    rate x up / down (both in `applied`): sample k exactly at k / rate, or where `timeline_of` the
    result says if the source has gaps, each piece of which is filtered by itself. Within
    `filter_edge_s` (annotation and metric: half the low-pass's length, and what the high-pass needs
    to forget a step but for 1 %) of both ends of a piece the filters reach beyond the data and what
    is left of them is renormalised: amplitude, phase and stop band are not right. Memory does not
    grow with the recording.

    Parameters
    ----------
    ap : spikeinterface.BaseRecording or None
        Neural channels of the AP or wide-band stream.
    lf : spikeinterface.BaseRecording or None
        Neural channels of the LF stream; used where it exists.
    channels : DataFrame or None
        `channel_id` and `label` (`good`, `dead`, `noise`, `out`) of each AP channel.
    folder : Path
        Existing and empty.
    parameters : LfpParameters, optional
        The default set otherwise.
    saturation : DataFrame or None
        Saturated periods of the AP stream (`start_sample`, `stop_sample`), to be bridged.
    limits_uv : mapping of str to float
        Limits of `lfp_rms_uv_median` by the verdict beyond them; the picture has them.
    n_jobs : int
        Threads.
    progress : callable
        Told the fraction done.

    Returns
    -------
    StepResult
        Tables `channels` (one row a channel) and `spectrum`; metrics with `lfp_rms_uv_median`,
        `line_noise_ratio_median`, `n_bad_channels`, `duration_s`, ...

    Raises
    ------
    Skipped
        `no_lfp_band` when no stream holds the band.
    PermanentFailure
        When gains are not finite, or streams or labels do not belong together.
    """
    parameters = parameters or LfpParameters.resolve()
    source, bridged = bridge_saturation(choose_source(ap, lf, parameters), ap, saturation)
    scaling = _scaling(source, keep_level=parameters.highpass_hz is None)
    table = match_channels(source.recording, ap, channels)
    repair = _interpolation(table, parameters)
    table["interpolated"] = repair.replaced
    filtering = _filtering(source, parameters)
    pieces = _pieces(source, filtering["up"], filtering["down"])
    timeline = _timeline(pieces)
    n_out = sum(piece.n_out for piece in pieces)

    rate = filtering["rate_hz"]
    writer = LfpWriter(
        folder / "lfp.zarr", table, (n_out, len(table)), rate, parameters, scaled=scaling.known
    )
    sums = _Sums(len(table))
    for piece, first in zip(pieces, timeline.starts, strict=True):

        def report(done: float, first: int = first, piece: _Piece = piece) -> None:
            progress(0.95 * (first + done * piece.n_out) / n_out, "filtering the LFP")

        for block in stream(
            _resampler(source, piece, filtering, parameters),
            writer.chunk,
            _highpass(rate, piece.n_out, parameters),
            n_jobs=n_jobs,
            report=report,
        ):
            microvolts = repair.apply(block.traces * scaling.gains + scaling.level)
            sums.add(writer.write(first + block.start, microvolts), block.n_missing)

    holder = probe_holder(source.recording, ap)
    writer.finish(
        None if holder is None else holder.get_probegroup(),
        _annotations(source, parameters),
        timeline,
    )
    result = _describe(folder, table, sums, writer, source, parameters, limits_uv)
    result.applied = bridged + _applied(source, parameters, filtering, table)
    progress(1.0, "LFP written")
    return result


def _filtering(source: Source, parameters: LfpParameters) -> dict[str, Any]:
    """Decide the numbers that say what the resampler does."""
    up, down = rational_ratio(
        source.rate, parameters.sampling_frequency_hz, parameters.rate_tolerance
    )
    return {
        "source_stream": source.name,
        "source_rate_hz": source.rate,
        "up": up,
        "down": down,
        "rate_hz": source.rate * up / down,
        "pass_hz": parameters.lowpass_hz,
        "stop_hz": parameters.stop_hz,
        "stopband_db": parameters.stopband_db,
        "delay_samples": source.delay,
    }


@dataclass(frozen=True)
class _Piece:
    """A piece of the source without gaps, and the outputs that are made of it."""

    start: int
    stop: int
    delay: float
    first_output: int
    n_out: int
    file: int


def _pieces(source: Source, up: int, down: int) -> list[_Piece]:
    timeline = timeline_of(source.recording)
    pieces: list[_Piece] = []
    spans = timeline.spans(source.recording.get_num_samples())
    for (start, stop), place, file in zip(spans, timeline.clock, timeline.files, strict=True):
        # Outputs lie at multiples of down / up: the first one that is not before the piece.
        first = math.ceil((place + source.delay) * up / down - 1e-9) if place else 0
        if pieces:  # the counts of an LF file may begin a sample before the last one's end
            first = max(first, pieces[-1].first_output + pieces[-1].n_out)
        delay = source.delay + (place * up - first * down) / up
        n_out = count_outputs(stop - start, delay, up, down)
        if n_out or not place:
            pieces.append(_Piece(start, stop, delay, first, n_out, file))
    return pieces


def _timeline(pieces: list[_Piece]) -> Timeline:
    """Where the outputs are in time."""
    ends = np.cumsum([piece.n_out for piece in pieces]).tolist()
    clock = tuple(piece.first_output for piece in pieces)
    return Timeline((0, *ends[:-1]), clock, tuple(piece.file for piece in pieces))


def _resampler(
    source: Source, piece: _Piece, filtering: dict[str, Any], parameters: LfpParameters
) -> Resampler:
    recording = source.recording
    if timeline_of(recording).has_gaps:
        recording = recording.frame_slice(piece.start, piece.stop)
    return Resampler(
        recording,
        _lowpass(source, parameters),
        filtering["up"],
        filtering["down"],
        source.shifts,
        piece.delay,
    )


def _lowpass(source: Source, parameters: LfpParameters) -> Lowpass:
    return Lowpass(source.rate, parameters.lowpass_hz, parameters.stop_hz, parameters.stopband_db)


def _highpass(rate: float, n_samples: int, parameters: LfpParameters) -> GaussianHighpass | None:
    if parameters.highpass_hz is None:
        return None
    return GaussianHighpass(rate, parameters.highpass_hz, n_samples)


def _edge_s(source: Source, parameters: LfpParameters) -> float:
    """How far from an end of the data the filters are wrong by more than a little, s."""
    lowpass = _lowpass(source, parameters).half_length / source.rate
    highpass = parameters.highpass_hz
    return lowpass if highpass is None else lowpass + step_reach_s(highpass)


def _annotations(source: Source, parameters: LfpParameters) -> dict[str, Any]:
    return {
        "clock": "probe",
        "source_stream": source.name,
        "source_sampling_frequency": source.rate,
        "is_filtered": True,
        "pass_band_hz": [parameters.highpass_hz, parameters.lowpass_hz],
        "filter_edge_s": _edge_s(source, parameters),
    }


@dataclass(frozen=True)
class _Scaling:
    """Microvolts = traces x gains + level; not known for recordings without gains."""

    gains: NDArray[np.float32]
    level: NDArray[np.float32]
    known: bool


def _scaling(source: Source, *, keep_level: bool) -> _Scaling:
    recording = source.recording
    n = recording.get_num_channels()
    if not recording.has_scaleable_traces():
        return _Scaling(np.ones(n, np.float32), np.zeros(n, np.float32), False)
    gains = np.asarray(recording.get_channel_gains(), dtype=np.float32)
    offsets = np.asarray(recording.get_channel_offsets(), dtype=np.float32)
    wrong = ~(np.isfinite(gains) & np.isfinite(offsets)) | (gains == 0)
    if wrong.any():
        raise PermanentFailure(
            f"{int(wrong.sum())} of {n} channels of the {source.name} stream have no usable gain "
            "(NaN or 0); give gain_uv and offset_uv in the reader's entry of lab.yaml"
        )
    # A high-pass removes the level, and the converter's offset with it.
    return _Scaling(gains, offsets if keep_level else np.zeros_like(offsets), True)


@dataclass(frozen=True)
class _Interpolation:
    """Weights that replace some channels by others."""

    replaced: NDArray[np.bool_]
    weights: NDArray[np.float32] | None

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.weights is not None:
            values[:, self.replaced] = values @ self.weights
        return values


def _interpolation(table: pd.DataFrame, parameters: LfpParameters) -> _Interpolation:
    """Make the weights exp(-(distance / sigma) ** p) of IBL's `interpolate_bad_channels`."""
    nothing = np.zeros(len(table), dtype=bool)
    if parameters.bad_channels == "keep":
        return _Interpolation(nothing, None)
    bad = table["label"].isin(REPLACED_LABELS).to_numpy()
    good = table["label"].eq("good").to_numpy()
    if not bad.any():
        return _Interpolation(nothing, None)
    places = table[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    if not np.isfinite(places).all() or not good.any():
        raise PermanentFailure(
            "bad channels cannot be interpolated without a probe and good channels; "
            "give a probe file, or set lfp.bad_channels to keep"
        )
    distance = np.linalg.norm(places[:, None] - places[None, bad], axis=2)
    logarithm = -((distance / parameters.interpolation_sigma_um) ** parameters.interpolation_p)
    logarithm[~good] = -np.inf
    # The nearest good channel keeps weight even where all are far away.
    weights = np.exp(logarithm - logarithm.max(axis=0))
    return _Interpolation(bad, (weights / weights.sum(axis=0)).astype(np.float32))


class _Sums:
    """Running sums over the stored signal."""

    def __init__(self, n_channels: int) -> None:
        self.squares = np.zeros(n_channels)
        self.n_samples = 0
        self.n_missing = 0

    def add(self, stored: NDArray[np.float32], n_missing: int) -> None:
        self.squares += np.einsum("ij,ij->j", stored, stored, dtype=np.float64)
        self.n_samples += len(stored)
        self.n_missing += n_missing


def _applied(
    source: Source, parameters: LfpParameters, filtering: dict[str, Any], table: pd.DataFrame
) -> list[Applied]:
    steps = []
    if source.shift_source is not None:
        steps.append(Applied("phase_shift", {"inter_sample_shift_from": source.shift_source}))
    steps.append(Applied("lowpass_resample", filtering))
    if parameters.highpass_hz is not None:
        steps.append(Applied("gaussian_highpass", {"cutoff_hz": parameters.highpass_hz}))
    if table["interpolated"].any():
        replaced = table.loc[table["interpolated"], "channel_id"].tolist()
        steps.append(Applied("interpolate_bad_channels", {"channel_ids": replaced}))
    return steps


def _describe(
    folder: Path,
    table: pd.DataFrame,
    sums: _Sums,
    writer: LfpWriter,
    source: Source,
    parameters: LfpParameters,
    limits_uv: Mapping[str, float],
) -> StepResult:
    stored = open_lfp(folder)
    frequencies, power = lfp_metrics.channel_spectra(stored)
    rms = np.sqrt(sums.squares / max(1, sums.n_samples))
    table["rms_uv"] = rms if writer.scaled else np.nan
    table["is_flat"] = rms == 0
    table["line_noise_ratio"] = lfp_metrics.line_noise_ratio(
        frequencies, power, parameters.line_frequencies_hz
    )
    counted = (table["label"].isin(["good", "unknown"]) & ~table["is_flat"]).to_numpy()
    n, rate = stored.get_num_samples(0), stored.get_sampling_frequency()
    good = table[counted]
    metrics = {
        "lfp_rms_uv_median": float(good["rms_uv"].median()),
        "lfp_rms_uv_max": float(good["rms_uv"].max()),
        "line_noise_ratio_median": float(good["line_noise_ratio"].median()),
        "n_channels": len(table),
        "n_bad_channels": int((~table["label"].isin(["good", "unknown"])).sum()),
        "n_flat_channels": int(table["is_flat"].sum()),
        "n_interpolated_channels": int(table["interpolated"].sum()),
        "n_missing_samples": sums.n_missing,
        "n_clipped_samples": writer.n_clipped,
        "n_samples": int(n),
        "duration_s": float(n / rate),
        "sampling_frequency_hz": float(rate),
        "filter_edge_s": float(stored.get_annotation("filter_edge_s")),
        "source_stream": source.name,
        "size_bytes": writer.size_bytes,
    }
    return StepResult(
        metrics=metrics,
        tables={
            "channels": table,
            "spectrum": lfp_metrics.band_table(frequencies, power[:, counted]),
        },
        picture=lfp_metrics.picture(stored, table, frequencies, power, limits_uv),
    )
