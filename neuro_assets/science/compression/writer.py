"""One streaming pass: read a block, compress it on a thread, read it back, compare every bit.

The pipeline only; what the bytes look like is `codec`, what the folder looks like is `layout`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression import codec as coding
from neuro_assets.science.compression import layout
from neuro_assets.science.compression.source import Interleaved, read_block
from neuro_assets.science.fingerprint import block_fingerprint, block_length, traces_digest
from neuro_assets.science.ordered import in_order

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

MEMORY_LIMIT = 768 << 20
"""Bytes that blocks in flight may take together; fewer threads are used where it is tight."""

COPIES_PER_BLOCK = 6
"""Block, channel-major copy, decoded copy, compressed bytes twice, pcodec's own buffers."""

SYNC_CHUNK_BLOCKS = 64
"""Sync channels compress a hundredfold: so many blocks make one chunk, not one file each."""


@dataclass
class Target:
    """One Zarr folder that some of the stream's channels go into.

    Parameters
    ----------
    recording : BaseRecording
        The channels stored here.
    path : Path
        Folder to make.
    columns : ndarray of int
        Their columns in the interleaved block.
    blocks_per_chunk : int
        Blocks of the pass that make one chunk.

    Attributes
    ----------
    digests : dict of str to str
        Fingerprint of each segment's samples by the name of its array; filled in.
    """

    recording: BaseRecording
    path: Path
    columns: np.ndarray
    blocks_per_chunk: int = 1
    stored_bytes: int = 0
    delta: str = ""
    codec: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def selection(self) -> slice | np.ndarray:
        """The columns, as a slice where they are neighbours (a view costs nothing)."""
        first = int(self.columns[0])
        if np.array_equal(self.columns, np.arange(first, first + len(self.columns))):
            return slice(first, first + len(self.columns))
        return self.columns


def write_targets(
    recording: BaseRecording,
    targets: Sequence[Target],
    *,
    chunk_duration_s: float,
    level: int,
    delta: str,
    n_jobs: int,
    watch: Callable[[int], None],
    hashed: bool = True,
) -> list[str]:
    """Store every channel of a stream, verified bit by bit.

    Parameters
    ----------
    recording : BaseRecording
        All saved channels in file order.
    targets : sequence of Target
        Together they hold every column once; their sizes and codecs are filled in.
    chunk_duration_s : float
        Seconds in a block.
    level, delta : int, str
        For the codec; `sample` chooses on a sample of the data.
    n_jobs : int
        Threads that compress.
    watch : callable
        Told the samples done so far.
    hashed : bool
        Whether to compute the SHA-1 of the source on the way.

    Returns
    -------
    list of str
        SHA-1 of the interleaved bytes of each source file (or segment), in time order; empty
        where it was not asked for.

    Raises
    ------
    PermanentFailure
        When the source or the disk fails, or a stored sample differs from its source.
    """
    roots = [layout.create(target.recording, target.path, target.columns) for target in targets]
    digests: list[str] = []
    done = 0
    for segment in range(recording.get_num_segments()):
        source = Interleaved(recording, segment, hashed=hashed)
        length = min(round(chunk_duration_s * recording.sampling_frequency), source.n_samples)
        if length == 0:
            raise PermanentFailure("The recording has no samples: nothing to compress")
        writers = []
        for root, target in zip(roots, targets, strict=True):
            if not target.delta:
                target.delta = _delta_for(source, target, level, delta)
            writers.append(_ArrayWriter(root, segment, target, level, source.n_samples, length))
        _stream(source, writers, length, n_jobs, watch, done)
        for target, writer in zip(targets, writers, strict=True):
            target.digests |= writer.digests()
        digests += source.sha1
        done += source.n_samples
    for root, target in zip(roots, targets, strict=True):
        layout.consolidate(root)
        files = (file for file in target.path.rglob("*") if file.is_file())
        target.stored_bytes = sum(file.stat().st_size for file in files)
    return digests


def _delta_for(source: Interleaved, target: Target, level: int, delta: str) -> str:
    """Take what was asked for, or the best on a sample of half a megabyte."""
    if delta != "sample":
        return delta
    columns = target.columns[:: max(1, len(target.columns) // 16)]
    pieces = []
    for part in source.parts[:3]:
        start = max(0, part.n_samples // 2 - 8_000)
        pieces.append(read_block(part, start, min(part.n_samples, start + 16_000))[:, columns])
    return coding.choose_delta(np.ascontiguousarray(np.concatenate(pieces).T), level)


class _ArrayWriter:
    """Turns blocks into stored, verified chunks of one array; chunks may run on threads."""

    def __init__(
        self,
        root: Any,
        segment: int,
        target: Target,
        level: int,
        n_samples: int,
        length: int,
    ) -> None:
        dtype = target.recording.get_dtype()
        self.chunk = min(length * target.blocks_per_chunk, n_samples)
        self.codec = coding.make_codec(dtype, level, target.delta, self.chunk)
        target.codec = self.codec.get_config()
        shape = (n_samples, len(target.columns))
        self.array = layout.add_traces(root, segment, shape, dtype, self.chunk, self.codec)
        self.selection = target.selection
        self.per_chunk = target.blocks_per_chunk
        self._waiting: list[np.ndarray] = []
        self._index = 0
        self._buffers = threading.local()
        self._block = block_length(target.recording.sampling_frequency)
        self._prints: dict[int, list[bytes]] = {}

    def chunk_of(self, block: np.ndarray, is_last: bool) -> tuple[int, np.ndarray] | None:
        """Collect a block; give the chunk it completes, with its index, else None."""
        columns = block[:, self.selection]
        if self.per_chunk == 1:
            return self._next(columns)
        self._waiting.append(np.ascontiguousarray(columns))
        if len(self._waiting) < self.per_chunk and not is_last:
            return None
        columns, self._waiting = np.concatenate(self._waiting), []
        return self._next(columns)

    def _next(self, columns: np.ndarray) -> tuple[int, np.ndarray]:
        self._index += 1
        return self._index - 1, columns

    def store(self, index: int, columns: np.ndarray) -> None:
        """Compress a chunk, write it, read it back and compare every bit with its source."""
        planar, decoded = self._scratch(columns)
        coding.to_planar(columns, planar)
        layout.put_chunk(self.array, index, coding.encode_planar(self.codec, planar, len(columns)))
        self.codec.decode(layout.get_chunk(self.array, index), decoded.reshape(-1))
        if not coding.is_planar_of(columns, decoded):
            raise PermanentFailure(
                f"Chunk {index} of {self.array.path} does not read back as its source: "
                "the disk or memory of this machine is faulty; nothing was kept"
            )

        if self._has_prints:
            self._prints[index] = [
                block_fingerprint(planar[:, start : min(start + self._block, len(columns))])
                for start in range(0, len(columns), self._block)
            ]

    @property
    def _has_prints(self) -> bool:
        """Whether chunks hold whole blocks; of other chunks the fingerprint is taken later."""
        return self.chunk % self._block == 0 or self.chunk == self.array.shape[0]

    def digests(self) -> dict[str, str]:
        """Fingerprint of all samples by the array's name; empty where chunks cut blocks."""
        if not self._has_prints:
            return {}
        blocks = [block for index in sorted(self._prints) for block in self._prints[index]]
        return {self.array.basename: traces_digest(self.array.shape, self.array.dtype, blocks)}

    def _scratch(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two buffers a thread, reused: fresh pages cost a tenth of the time."""
        shape = (columns.shape[1], self.chunk)
        if not hasattr(self._buffers, "pair"):
            self._buffers.pair = tuple(np.zeros(shape, columns.dtype) for _ in range(2))
        return self._buffers.pair


def _stream(
    source: Interleaved,
    writers: Sequence[_ArrayWriter],
    length: int,
    n_jobs: int,
    watch: Callable[[int], None],
    done: int,
) -> None:
    """Run the pass with a bounded number of blocks in flight."""
    row = sum(w.array.shape[1] * w.array.dtype.itemsize for w in writers)
    threads = max(1, min(n_jobs, MEMORY_LIMIT // (COPIES_PER_BLOCK * length * row)))

    def chunks() -> Iterator[tuple[_ArrayWriter, int, int, np.ndarray]]:
        for start, block in source.blocks(length):
            stop = start + len(block)
            for writer in writers:
                chunk = writer.chunk_of(block, stop == source.n_samples)
                if chunk is not None:
                    yield writer, stop, *chunk

    def store(writer: _ArrayWriter, stop: int, index: int, columns: np.ndarray) -> int:
        writer.store(index, columns)
        return stop

    for stop in in_order(store, chunks(), threads):
        watch(done + stop)
