"""The step `compressed_recording`: all streams of a recording into one folder, and opening it.

Decides which channels go where and what is reported; the pass itself is `writer`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.science.compression.cbin import write_cbin
from neuro_assets.science.compression.source import Part, clear_errors, read_block
from neuro_assets.science.compression.writer import SYNC_CHUNK_BLOCKS, Target, write_targets
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

    from neuro_assets.formats.stream import RawStream


def compress_recording(
    streams: Mapping[str, RawStream],
    folder: Path,
    parameters: CompressionParameters,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Store every stream of a recording losslessly, verified bit by bit before it returns.

    Each stream becomes `<stream>.zarr` (neural channels with probe, gains, offsets, properties)
    and `<stream>_sync.zarr` (all other saved channels); both open with SpikeInterface's
    `read_zarr`. Chunks are 1 s x all channels, channel-major, coded by pcodec with a difference
    along time. One pass reads each source byte once; memory does not grow with the length.

    Parameters
    ----------
    streams : mapping of str to RawStream
        By stream name.
    folder : Path
        Existing folder that receives the Zarr folders.
    parameters : CompressionParameters
        Chunk length, level, delta, what to do about a wrong SHA-1.
    n_jobs : int
        Threads that compress (pcodec releases the interpreter lock).
    progress : callable
        Told the fraction done and the stream.

    Returns
    -------
    StepResult
        Metrics over all streams and, with the stream's name before them, of each; table
        `streams`; table `gaps` where time jumps: `start_sample` is the first sample after a gap,
        `probe_sample` its place on the clock.

    Raises
    ------
    PermanentFailure
        When the source is truncated or has gone, differs from its own SHA-1, or a disk is full.
    """
    result = StepResult()
    rows = []
    total = sum(_n_samples(s.recording) * s.recording.get_num_channels() for s in streams.values())
    done = 0
    for name, stream in streams.items():
        width = stream.recording.get_num_channels()

        def watch(n: int, base: int = done, width: int = width, name: str = name) -> None:
            progress((base + n * width) / max(total, 1), f"compressing {name}")

        with clear_errors(f"compressing {name}"):
            rows.append(_compress_stream(name, stream, folder, parameters, n_jobs, watch, result))
        done += _n_samples(stream.recording) * width
    result.tables["streams"] = pd.DataFrame(rows)
    gaps = pd.concat([_gaps(name, stream) for name, stream in streams.items()])
    if len(gaps):
        result.tables["gaps"] = gaps.reset_index(drop=True)
    result.metrics.update(_summary(rows))
    result.applied.append(Applied("verify_every_sample", {"against": "source", "equal": True}))
    if parameters.write_cbin:
        for name, stream in streams.items():
            with clear_errors(f"writing {name}.cbin"):
                result.metrics[f"{name}_cbin_bytes"] = write_cbin(
                    stream, folder, n_jobs=n_jobs, progress=progress
                )
        result.applied.append(Applied("write_cbin", {"format": "mtscomp 1.0"}))
    return result


def open_compressed(folder: Path, stream: str = "ap") -> BaseRecording:
    """Open a compressed stream with SpikeInterface.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    stream : str
        `ap` (falls back to `wideband`), `wideband`, `lf`, or one of these with `_sync`.

    Returns
    -------
    BaseRecording
        Lazy recording, its samples side by side; where it has gaps, `timeline_of` tells the time
        of a sample (plain `read_zarr` gives times as well, one number a sample).

    Raises
    ------
    PermanentFailure
        When the folder has no such stream.
    """
    from spikeinterface.core import read_zarr

    for name in (stream, stream.replace("ap", "wideband", 1)):
        if (folder / f"{name}.zarr").is_dir():
            recording = read_zarr(folder / f"{name}.zarr")
            if timeline_of(recording).has_gaps:
                recording.reset_times()
            return recording
    present = ", ".join(sorted(path.stem for path in folder.glob("*.zarr"))) or "none"
    raise PermanentFailure(f"No stream {stream!r} in the compressed recording (streams: {present})")


def open_recordings(folder: Path) -> dict[str, BaseRecording]:
    """Open all neural streams of a compressed recording.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.

    Returns
    -------
    dict of str to BaseRecording
        Lazy recordings by stream (`ap`, `lf`, `wideband`), without the sync channels.
    """
    names = (path.stem for path in sorted(folder.glob("*.zarr")))
    return {name: open_compressed(folder, name) for name in names if not name.endswith("_sync")}


def _compress_stream(
    name: str,
    stream: RawStream,
    folder: Path,
    parameters: CompressionParameters,
    n_jobs: int,
    watch: Any,
    result: StepResult,
) -> dict[str, Any]:
    """Compress one stream and give its row of the table."""
    started = time.perf_counter()
    targets = split_channels(name, stream, folder)
    digests = write_targets(
        stream.recording,
        targets,
        chunk_duration_s=parameters.chunk_duration_s,
        level=parameters.level,
        delta=parameters.delta,
        n_jobs=n_jobs,
        watch=watch,
        # Every sample is compared anyway: the hash only tells whether the file is the rig's.
        hashed=bool(stream.sha1),
    )
    matches = sha1_matches(digests, stream.sha1)
    if matches is False and parameters.on_sha1_mismatch == "fail":
        raise PermanentFailure(
            f"The raw data of {name} is not what its metadata says (SHA-1 "
            f"{', '.join(digests)}, recorded {', '.join(stream.sha1)}): copy it again from the "
            "rig, or set on_sha1_mismatch to report to keep it as it is"
        )
    for target in targets:
        result.digests |= {f"{target.path.name}/{k}": v for k, v in target.digests.items()}
        result.applied.append(
            Applied(
                "compress",
                {"store": target.path.name, "delta": target.delta, "codec": target.codec},
            )
        )
    n_samples = _n_samples(stream.recording)
    raw_bytes = n_samples * stream.recording.get_num_channels()
    raw_bytes *= stream.recording.get_dtype().itemsize
    stored_bytes = sum(target.stored_bytes for target in targets)
    return {
        "stream": name,
        "n_samples": n_samples,
        "n_channels": stream.recording.get_num_channels(),
        "sampling_frequency_hz": float(stream.recording.sampling_frequency),
        "duration_s": n_samples / float(stream.recording.sampling_frequency),
        "raw_bytes": raw_bytes,
        "stored_bytes": stored_bytes,
        "compression_ratio": raw_bytes / stored_bytes,
        "delta": targets[0].delta,
        "codec": str(targets[0].codec.get("id")),
        "verified": True,
        "sha1": " ".join(digests),
        "sha1_matches": matches,
        "seconds": time.perf_counter() - started,
    }


def _gaps(name: str, stream: RawStream) -> pd.DataFrame:
    """List the gaps of a stream: where, how long, and whether the rig lost data within a file."""
    timeline = timeline_of(stream.recording)
    return pd.DataFrame(
        {
            "stream": name,
            "start_sample": timeline.bounds,
            "probe_sample": np.asarray(timeline.clock[1:], np.int64),
            "missing_samples": timeline.missing.astype(np.int64),
            "within_file": np.diff(timeline.files) == 0,
        }
    )


def split_channels(name: str, stream: RawStream, folder: Path) -> list[Target]:
    """Decide which columns of a stream go into which Zarr folder.

    Parameters
    ----------
    name : str
        Stream name.
    stream : RawStream
        The stream.
    folder : Path
        Where the Zarr folders are made.

    Returns
    -------
    list of Target
        The neural (or analogue) channels, and all others, where there are any. Every column is in
        exactly one.

    Raises
    ------
    PermanentFailure
        When the neural channels are not columns of the stream's own samples.
    """
    everything = stream.recording
    neural = everything if stream.neural is None else stream.neural
    columns = np.asarray(everything.ids_to_indices(neural.channel_ids))
    if len(columns):
        _check_same_samples(everything, neural, columns)
    targets = [Target(neural, folder / f"{name}.zarr", columns)] if len(columns) else []
    rest = np.setdiff1d(np.arange(everything.get_num_channels()), columns)
    if len(rest):
        others = everything.select_channels(everything.channel_ids[rest])
        targets.append(Target(others, folder / f"{name}_sync.zarr", rest, SYNC_CHUNK_BLOCKS))
    return targets


def sha1_matches(digests: list[str], recorded: tuple[str, ...]) -> bool | None:
    """Compare digests with the recorded ones; None where none is recorded for each file."""
    if not recorded or len(recorded) != len(digests):
        return None
    return [d.lower() for d in digests] == [r.lower() for r in recorded]


def _check_same_samples(
    everything: BaseRecording, neural: BaseRecording, columns: np.ndarray
) -> None:
    """Make sure that the neural channels are columns of the file, not something computed."""
    stop = min(32, int(everything.get_num_samples(0)))
    block = read_block(Part(everything, 0, stop), 0, stop)[:, columns]
    same = read_block(Part(neural, 0, stop), 0, stop)
    # As bytes, so that a NaN equals itself.
    if (block.dtype, block.tobytes()) != (same.dtype, same.tobytes()):
        raise PermanentFailure(
            "The neural channels are not the file's own samples (a filter or offset was applied "
            "when it was opened): compression keeps raw data only"
        )


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Flat metrics: totals, the main stream's size, and each stream's own numbers."""
    main = next((row for row in rows if row["stream"] in ("ap", "wideband")), rows[0])
    known = [row["sha1_matches"] for row in rows if row["sha1_matches"] is not None]
    raw, stored = (sum(row[key] for row in rows) for key in ("raw_bytes", "stored_bytes"))
    metrics: dict[str, Any] = {key: main[key] for key in ("n_samples", "n_channels", "duration_s")}
    metrics |= {
        "raw_bytes": raw,
        "stored_bytes": stored,
        "compression_ratio": raw / stored,
        "verified": int(all(row["verified"] for row in rows)),
        "sha1_matches": int(all(known)) if known else float("nan"),
        "realtime_factor": main["duration_s"] / sum(row["seconds"] for row in rows),
    }
    names = ("raw_bytes", "stored_bytes", "compression_ratio", "delta", "codec", "sha1")
    for row in rows:
        metrics |= {f"{row['stream']}_{name}": row[name] for name in names}
    return metrics


def _n_samples(recording: BaseRecording) -> int:
    return sum(int(recording.get_num_samples(s)) for s in range(recording.get_num_segments()))
