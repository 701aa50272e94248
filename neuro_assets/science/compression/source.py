"""Reading raw recordings block by block, in bounded memory, without trusting the disk.

Recordings of the field's binary formats come as memory maps. A map of a file that shrinks or
whose mount vanishes kills the process with SIGBUS, and its pages count as memory of the process;
so where a block turns out to be a piece of a map it is read from the file instead. How the bytes
are compressed does not belong here.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


@dataclass(frozen=True)
class Part:
    """A run of samples that one file (or one segment of a reader) holds."""

    recording: BaseRecording
    segment: int
    n_samples: int


def parts_of(recording: BaseRecording, segment: int = 0) -> list[Part]:
    """Find the pieces that a (perhaps concatenated) segment is made of.

    Parameters
    ----------
    recording : BaseRecording
        Any SpikeInterface recording.
    segment : int
        Segment index.

    Returns
    -------
    list of Part
        In time order. A recording concatenated by SpikeInterface gives one part a member
        segment, so that each file can be read and hashed by itself.
    """
    from spikeinterface.core import ConcatenateSegmentRecording

    if not isinstance(recording, ConcatenateSegmentRecording):
        return [Part(recording, segment, int(recording.get_num_samples(segment)))]
    return [
        part
        for member in recording._kwargs["recording_list"]
        for index in range(member.get_num_segments())
        for part in parts_of(member, index)
    ]


def read_block(part: Part, start: int, stop: int) -> np.ndarray:
    """Read all channels of a part's samples, interleaved.

    Parameters
    ----------
    part : Part
        Where to read.
    start, stop : int
        First sample, and one after the last, within the part.

    Returns
    -------
    ndarray, shape (stop - start, n_channels), C-contiguous
        A copy that no file backs.

    Raises
    ------
    PermanentFailure
        When the file has become shorter or has gone.
    """
    flat = _flat_file_of(part)
    if flat is not None:
        path, offset = flat
        row = part.recording.get_num_channels() * part.recording.get_dtype().itemsize
        shape = (stop - start, part.recording.get_num_channels())
        return _read_from_file(path, offset + start * row, shape, part.recording.get_dtype())
    traces = part.recording.get_traces(
        segment_index=part.segment, start_frame=start, end_frame=stop
    )
    root = _memory_map_of(traces)
    if root is not None and traces.flags.c_contiguous:
        address, base = (a.__array_interface__["data"][0] for a in (traces, root))
        path, offset = Path(str(root.filename)), root.offset + address - base
        return _read_from_file(path, offset, traces.shape, traces.dtype)
    if len(traces) != stop - start:
        raise PermanentFailure(
            f"The raw data ends early: {len(traces)} samples where {stop - start} were promised "
            f"from sample {start}; copy the recording again from the rig"
        )
    return np.array(traces, order="C")


def _flat_file_of(part: Part) -> tuple[Path, int] | None:
    """Find the flat, interleaved file behind SpikeInterface's own binary reader, and its offset."""
    if not part.recording.is_binary_compatible():
        return None
    description = part.recording.get_binary_description()
    if description["time_axis"] != 0:
        return None
    return Path(description["file_paths"][part.segment]), int(description["file_offset"])


def _memory_map_of(traces: np.ndarray) -> np.memmap | None:
    """Find the memory map that an array is a piece of, if it is one."""
    array: Any = traces
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            return array if array.filename else None
        array = array.base
    return None


def _read_from_file(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read so many values at an offset, or say that the file has become shorter."""
    count = int(np.prod(shape))
    with path.open("rb") as file:
        values = np.fromfile(file, dtype=dtype, count=count, offset=offset)
    if values.size != count:
        raise PermanentFailure(
            f"{path.name} has become shorter since it was opened ({path.stat().st_size} bytes "
            "now): copy the recording again from the rig"
        )
    return values.reshape(shape)


class Interleaved:
    """Blocks of one segment in file order, and the SHA-1 of each part as a by-product.

    Parameters
    ----------
    recording : BaseRecording
        All saved channels in file order.
    segment : int
        Segment index.
    hashed : bool
        Whether to compute the SHA-1; it costs about a sixth of the whole pass.
    """

    def __init__(self, recording: BaseRecording, segment: int = 0, *, hashed: bool = True) -> None:
        self.hashed = hashed
        self.parts = parts_of(recording, segment)
        self.n_samples = sum(part.n_samples for part in self.parts)
        self.sha1: list[str] = []

    def blocks(self, length: int) -> Iterator[tuple[int, np.ndarray]]:
        """Read the segment once, from its first sample to its last.

        Parameters
        ----------
        length : int
            Samples in a block; the last one is as long as its data.

        Yields
        ------
        start : int
            Index of the block's first sample.
        block : ndarray, shape (n, n_channels)
            Interleaved samples. After the last one `sha1` has one digest a part.
        """
        self.sha1 = []
        waiting: list[np.ndarray] = []
        start = 0
        for part in self.parts:
            digest = hashlib.sha1(usedforsecurity=False)
            position = 0
            while position < part.n_samples:
                room = length - sum(len(piece) for piece in waiting)
                stop = min(position + room, part.n_samples)
                piece = read_block(part, position, stop)
                if self.hashed:
                    digest.update(piece.data)
                waiting.append(piece)
                position = stop
                if sum(len(piece) for piece in waiting) == length:
                    yield start, _joined(waiting)
                    start, waiting = start + length, []
            if self.hashed:
                self.sha1.append(digest.hexdigest())
        if waiting:
            yield start, _joined(waiting)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@contextmanager
def clear_errors(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into one line that says what to do.

    Parameters
    ----------
    doing : str
        What was being done, for the message: `compressing ap`.

    Raises
    ------
    PermanentFailure
        For a full disk or quota, a read-only place, a missing or unreadable file, a read error.
    """
    try:
        yield
    except OSError as error:
        raise PermanentFailure(f"{doing}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of the store is full{where}: free space and run again"
    if error.errno == errno.ENOENT:
        return f"a file has gone{where}: bring the raw data (or the mount) back and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{where}: {error.strerror}; correct it and run again"
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN):
        return f"the disk or mount fails{where}: {error.strerror}; check it and run again"
    return f"{error.strerror or error}{where}"
