"""Comparing a stored copy with its source again, and the list of raw files that may go.

Reading only: nothing here writes or deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression.source import Interleaved, clear_errors
from neuro_assets.science.compression.stored import StoredStream
from neuro_assets.science.ordered import in_order
from neuro_assets.science.result import Progress, no_progress

if TYPE_CHECKING:
    from neuro_assets.formats.stream import RawStream


@dataclass(frozen=True)
class StreamVerdict:
    """What a comparison of one stream with its source gave.

    Parameters
    ----------
    stream : str
        Stream name.
    n_samples : int
        Samples per channel of the source.
    equal : bool
        Every bit of every channel is equal.
    first_difference : int or None
        First sample of the first block that differs.
    sha1 : tuple of str
        SHA-1 of the source's interleaved bytes, one a file.
    sha1_matches : bool or None
        They are those that the metadata records; None where it records none.
    """

    stream: str
    n_samples: int
    equal: bool
    first_difference: int | None
    sha1: tuple[str, ...]
    sha1_matches: bool | None

    @property
    def is_safe(self) -> bool:
        """The stored copy can replace the source."""
        return self.equal and self.sha1_matches is not False


def verify_against_source(
    folder: Path,
    streams: Mapping[str, RawStream],
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> list[StreamVerdict]:
    """Compare every stored sample with the raw data, bit by bit.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    streams : mapping of str to RawStream
        The raw data, opened again.
    n_jobs : int
        Threads that decode.
    progress : callable
        Told the fraction done.

    Returns
    -------
    list of StreamVerdict
        One a stream. A stream that is not stored is not equal.

    Raises
    ------
    PermanentFailure
        When the source cannot be read.
    """
    verdicts = []
    for position, (name, stream) in enumerate(streams.items()):

        def watch(fraction: float, base: int = position, name: str = name) -> None:
            progress((base + fraction) / len(streams), f"verifying {name}")

        with clear_errors(f"verifying {name}"):
            verdicts.append(_verify_stream(folder, name, stream, n_jobs, watch))
    return verdicts


def raw_files_safe_to_delete(
    folder: Path,
    streams: Mapping[str, RawStream],
    files: Mapping[str, Sequence[Path]],
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> list[Path]:
    """Re-verify a stored copy and list the raw files that it can replace.

    Nothing is deleted here. Metadata files are never listed: they are small, and what the copy
    was made from can be checked only with them.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to, in the store.
    streams : mapping of str to RawStream
        The raw data, opened again from `files`.
    files : mapping of str to sequence of Path
        The data files of each stream.
    n_jobs : int
        Threads that decode.
    progress : callable
        Told the fraction done.

    Returns
    -------
    list of Path
        Data files whose every sample is in the store.

    Raises
    ------
    PermanentFailure
        When any stream differs from its copy: then nothing is safe.
    """
    verdicts = verify_against_source(folder, streams, n_jobs=n_jobs, progress=progress)
    unsafe = [v for v in verdicts if not v.is_safe]
    if unsafe:
        words = ", ".join(
            f"{v.stream} (differs from sample {v.first_difference})"
            if not v.equal
            else f"{v.stream} (the raw file is not what its metadata records)"
            for v in unsafe
        )
        raise PermanentFailure(f"No raw file may be deleted: {words}; compress the recording again")
    return [path for name in streams for path in files.get(name, ()) if path.is_file()]


def _verify_stream(
    folder: Path, name: str, stream: RawStream, n_jobs: int, watch: Callable[[float], None]
) -> StreamVerdict:
    """Read source and copy side by side."""
    from neuro_assets.science.compression.run import sha1_matches

    segments = range(stream.recording.get_num_segments())
    lengths = [int(stream.recording.get_num_samples(s)) for s in segments]
    if not (folder / f"{name}.zarr").is_dir():
        return StreamVerdict(name, sum(lengths), False, 0, (), None)
    stored = StoredStream(folder, name)
    same_channels = stored.channel_ids == stream.recording.channel_ids.tolist()
    if not (stored.is_complete and same_channels and stored.n_samples == lengths):
        return StreamVerdict(name, sum(lengths), False, 0, (), None)
    digests: list[str] = []
    first: int | None = None
    offset = 0
    for segment in segments:
        source = Interleaved(stream.recording, segment, hashed=bool(stream.sha1))
        different = _first_difference(source, stored, segment, n_jobs, watch)
        if first is None and different is not None:
            first = offset + different
        digests += source.sha1
        offset += source.n_samples
    matches = sha1_matches(digests, stream.sha1)
    return StreamVerdict(name, offset, first is None, first, tuple(digests), matches)


def _first_difference(
    source: Interleaved,
    stored: StoredStream,
    segment: int,
    n_jobs: int,
    watch: Callable[[float], None],
) -> int | None:
    """First sample of the first block that differs; the whole source is read either way."""

    def compare(start: int, block: np.ndarray) -> tuple[int, int, bool]:
        stop = start + len(block)
        return start, stop, stored.read(segment, start, stop).tobytes() == block.tobytes()

    first = None
    for start, stop, equal in in_order(compare, source.blocks(stored.chunk), n_jobs):
        if first is None and not equal:
            first = start
        watch(stop / source.n_samples)
    return first
