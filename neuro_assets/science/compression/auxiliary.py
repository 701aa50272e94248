"""The step `compressed_auxiliary`: the streams of a session's boards, as those of a probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuro_assets.formats.auxiliary import boards_of, open_boards, unusable_of
from neuro_assets.formats.model import RawFiles
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.science.compression.run import compress_recording
from neuro_assets.science.result import Progress, StepResult, no_progress


def compress_auxiliary(
    item: RawFiles,
    session: Path,
    folder: Path,
    parameters: CompressionParameters,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> StepResult:
    """Store every stream of a session's boards losslessly, verified bit by bit.

    Analogue channels are `<stream>.zarr`, with gains and offsets in uV and the physical unit V;
    digital words are `<stream>_sync.zarr`, integers as they were written. Both open with
    SpikeInterface's `read_zarr` and as plain Zarr (`traces_seg0`: samples x channels).

    Parameters
    ----------
    item : RawFiles
        What boards recorded, from `scan_auxiliary`.
    session : Path
        The session folder.
    folder : Path
        Existing folder that receives the Zarr folders.
    parameters : CompressionParameters
        As of `compress_recording`.
    n_jobs : int
        Threads that compress.
    progress : callable
        Told the fraction done and the stream.

    Returns
    -------
    StepResult
        As of `compress_recording`. Table `streams` also has `acquisition` (what was recorded with
        the stream), `first_sample` (of the stream's own count, NaN where the format says none) and
        the numbers of analogue and digital channels; metric `n_unusable` counts files that are in
        no stream.

    Raises
    ------
    PermanentFailure
        When no file can be read; otherwise as `compress_recording`.
    """
    boards = {board.stream.name: board for board in boards_of(item)}
    left_out = unusable_of(item)
    if not boards:
        raise PermanentFailure(f"no file of an auxiliary board can be read: {'; '.join(left_out)}")
    streams = open_boards(item, session)
    result = compress_recording(streams, folder, parameters, n_jobs=n_jobs, progress=progress)
    table = result.tables["streams"]
    firsts = [boards[name].stream.first_samples for name in table["stream"]]
    result.tables["streams"] = table.assign(
        acquisition=[boards[name].acquisition for name in table["stream"]],
        first_sample=[float(first[0]) if first else np.nan for first in firsts],
        n_analogue=[streams[name].neural.get_num_channels() for name in table["stream"]],
        n_digital=[len(streams[name].sync_channel_ids) for name in table["stream"]],
    )
    result.metrics |= {"n_streams": len(boards), "n_unusable": len(left_out)}
    return result
