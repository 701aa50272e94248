"""mtscomp files (`.cbin` with `.ch`) for ONE users, written from any opened stream.

Only for people who need IBL's own format; the platform itself reads the Zarr folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression.source import parts_of, read_block
from neuro_assets.science.result import Progress, no_progress

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

    from neuro_assets.formats.stream import RawStream


def write_cbin(
    stream: RawStream, folder: Path, *, n_jobs: int = 1, progress: Progress = no_progress
) -> int:
    """Write a stream, sync channel included, as mtscomp does, and verify it bit by bit.

    Parameters
    ----------
    stream : RawStream
        The stream; one segment.
    folder : Path
        Receives `<stream>.cbin` and `<stream>.ch`.
    n_jobs : int
        Threads.
    progress : callable
        Told the fraction verified.

    Returns
    -------
    int
        Bytes written, both files.

    Raises
    ------
    PermanentFailure
        For several segments, or when the file does not read back as its source.
    """
    import mtscomp

    if stream.recording.get_num_segments() != 1:
        raise PermanentFailure("mtscomp files hold one segment: concatenate the segments first")
    data, meta = folder / f"{stream.name}.cbin", folder / f"{stream.name}.ch"
    writer = mtscomp.Writer(n_threads=max(1, n_jobs), quiet=True, check_after_compress=False)
    _attach(writer, stream.recording)
    progress(0.0, f"writing {data.name}")
    writer.write(data, meta)
    _verify(data, meta, writer.data, progress)
    return data.stat().st_size + meta.stat().st_size


class _Samples:
    """What mtscomp asks of an array: slices of samples, shape and type."""

    def __init__(self, recording: BaseRecording) -> None:
        self.parts = parts_of(recording)
        self.shape = (sum(p.n_samples for p in self.parts), recording.get_num_channels())
        self.dtype = recording.get_dtype()

    def __getitem__(self, item: Any) -> np.ndarray:
        rows = item[0] if isinstance(item, tuple) else item
        pieces = []
        offset = 0
        for part in self.parts:
            start, stop = max(rows.start - offset, 0), min(rows.stop - offset, part.n_samples)
            if start < stop:
                pieces.append(read_block(part, start, stop))
            offset += part.n_samples
        return np.concatenate(pieces)


def _attach(writer: Any, recording: BaseRecording) -> None:
    """Do what `mtscomp.Writer.open` does, with a recording in place of a flat file."""
    import hashlib

    writer.data = _Samples(recording)
    writer.shape = writer.data.shape
    writer.n_samples, writer.n_channels = writer.shape
    writer.dtype = np.dtype(writer.data.dtype)
    writer.sample_rate = float(recording.sampling_frequency)
    writer.file_size = writer.n_samples * writer.n_channels * writer.dtype.itemsize
    writer._compute_chunk_bounds()
    writer.sha1_compressed = hashlib.sha1(usedforsecurity=False)
    writer.sha1_uncompressed = hashlib.sha1(usedforsecurity=False)


def _verify(data: Path, meta: Path, source: _Samples, progress: Progress) -> None:
    """Read every chunk back and compare it with the source."""
    import mtscomp

    reader = mtscomp.Reader(cache_size=1)
    reader.open(data, meta)
    try:
        for index, start, length in reader.iter_chunks():
            first, last = reader.chunk_bounds[index], reader.chunk_bounds[index + 1]
            if reader.read_chunk(index, start, length).tobytes() != source[first:last].tobytes():
                raise PermanentFailure(
                    f"{data.name} does not read back as its source from sample {first}: "
                    "the disk or memory of this machine is faulty; nothing was kept"
                )
            progress(last / source.shape[0], f"verifying {data.name}")
    finally:
        reader.close()
