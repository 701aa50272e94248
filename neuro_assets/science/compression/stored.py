"""A stored stream in the channel order of its raw file: read, hashed, or written out again.

Needs only the folder, never the raw data, so that a raw file that was deleted can be restored.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression.layout import RAW_COLUMN
from neuro_assets.science.compression.source import clear_errors
from neuro_assets.science.result import Progress, no_progress

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


class StoredStream:
    """All channels of a stored stream, in file order.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from spikeinterface.core import read_zarr

        paths = [folder / f"{name}.zarr", folder / f"{name}_sync.zarr"]
        self.recordings: list[BaseRecording] = [read_zarr(p) for p in paths if p.is_dir()]
        if not self.recordings:
            raise PermanentFailure(f"No stream {name!r} in the compressed recording")
        columns = np.concatenate([r.get_property(RAW_COLUMN) for r in self.recordings])
        self._order = np.argsort(columns)
        self.is_complete = np.array_equal(columns[self._order], np.arange(len(columns)))
        ids = np.concatenate([r.channel_ids for r in self.recordings])
        self.channel_ids: list[object] = ids[self._order].tolist()
        self.chunk = max(1, round(self.recordings[0].sampling_frequency))

    @property
    def n_samples(self) -> list[int]:
        """Samples of each segment."""
        first = self.recordings[0]
        return [int(first.get_num_samples(s)) for s in range(first.get_num_segments())]

    def read(self, segment: int, start: int, stop: int) -> np.ndarray:
        """Read samples x channels, C-contiguous, in file order."""
        pieces = [
            r.get_traces(segment_index=segment, start_frame=start, end_frame=stop)
            for r in self.recordings
        ]
        return np.ascontiguousarray(np.concatenate(pieces, axis=1)[:, self._order])

    def blocks(self, n_jobs: int) -> Iterator[np.ndarray]:
        """Read everything in order, some blocks ahead on threads."""
        places = (
            (segment, start, min(start + self.chunk, n_samples))
            for segment, n_samples in enumerate(self.n_samples)
            for start in range(0, n_samples, self.chunk)
        )
        pending: deque[Future[np.ndarray]] = deque()
        with ThreadPoolExecutor(n_jobs) as pool:
            for place in places:
                pending.append(pool.submit(self.read, *place))
                if len(pending) > n_jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


def interleaved_sha1(folder: Path, name: str, *, n_jobs: int = 1) -> str:
    """SHA-1 of the stored samples put back into the order of the raw file.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    n_jobs : int
        Threads that decode.

    Returns
    -------
    str
        Hexadecimal digest; equal to that of the raw file when nothing was lost.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    for block in StoredStream(folder, name).blocks(n_jobs):
        digest.update(block.data)
    return digest.hexdigest()


def restore_raw(
    folder: Path,
    name: str,
    path: Path,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> str:
    """Write the raw file again from the stored samples, byte for byte.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    path : Path
        File to write (`..._g0_t0.imec0.ap.bin`); must not exist. Files of several triggers come
        out as one.
    n_jobs : int
        Threads that decode.
    progress : callable
        Told the fraction done.

    Returns
    -------
    str
        SHA-1 of what was written.

    Raises
    ------
    PermanentFailure
        When the file exists, or the disk fails.
    """
    stored = StoredStream(folder, name)
    digest = hashlib.sha1(usedforsecurity=False)
    total, done = sum(stored.n_samples), 0
    with clear_errors(f"restoring {path.name}"), path.open("xb") as file:
        for block in stored.blocks(n_jobs):
            file.write(block.data)
            digest.update(block.data)
            done += len(block)
            progress(done / total, f"restoring {path.name}")
    return digest.hexdigest()
