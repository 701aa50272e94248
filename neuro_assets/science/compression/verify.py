"""Comparing a stored copy with its source again, and the list of raw files that may go.

Reading only: nothing here writes or deletes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression.source import Interleaved, clear_errors
from neuro_assets.science.compression.stored import StoredStream
from neuro_assets.science.ordered import in_order

if TYPE_CHECKING:
    from neuro_assets.formats.stream import RawStream


def raw_files_safe_to_delete(
    folder: Path, streams: Mapping[str, RawStream], files: Mapping[str, Sequence[Path]]
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

    Returns
    -------
    list of Path
        Data files whose every sample is in the store.

    Raises
    ------
    PermanentFailure
        When any stream differs from its copy: then nothing is safe.
    """
    unsafe = []
    for name, stream in streams.items():
        with clear_errors(f"verifying {name}"):
            if reason := why_unsafe(folder, name, stream):
                unsafe.append(f"{name} ({reason})")
    if unsafe:
        raise PermanentFailure(
            f"No raw file may be deleted: {', '.join(unsafe)}; compress the recording again"
        )
    return [path for name in streams for path in files.get(name, ()) if path.is_file()]


def is_nothing_but_samples(path: Path, folder: Path, name: str, stream: RawStream) -> bool:
    """Tell whether a file holds the stored samples of a stream, one after another, and no more.

    Parameters
    ----------
    path : Path
        A data file of a format that may keep more in it, or beside it.
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    stream : RawStream
        As the format's reader opens it.

    Returns
    -------
    bool
        False for a header, for other signals, and for several segments in one file.
    """
    from spikeinterface.core import BinaryRecordingExtractor

    whole = stream.recording
    frame = whole.get_num_channels() * whole.get_dtype().itemsize
    if path.stat().st_size != frame * whole.get_total_samples():
        return False
    plain = BinaryRecordingExtractor(
        path,
        whole.get_sampling_frequency(),
        whole.get_dtype(),
        num_channels=whole.get_num_channels(),
        channel_ids=whole.channel_ids,
    )
    return not why_unsafe(folder, name, replace(stream, recording=plain))


def why_unsafe(folder: Path, name: str, stream: RawStream) -> str:
    """Compare every stored sample of a stream with the raw data, bit by bit.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    stream : RawStream
        The raw data, opened again.

    Returns
    -------
    str
        Why the copy cannot replace them; empty where it can.
    """
    from neuro_assets.science.compression.run import sha1_matches

    segments = range(stream.recording.get_num_segments())
    try:
        stored = StoredStream(folder, name)
    except PermanentFailure:
        return "differs from sample 0"
    same_channels = stored.channel_ids == stream.recording.channel_ids.tolist()
    lengths = [int(stream.recording.get_num_samples(s)) for s in segments]
    if not (stored.is_complete and same_channels and stored.n_samples == lengths):
        return "differs from sample 0"
    digests: list[str] = []
    different: list[int] = []
    for segment in segments:
        source = Interleaved(stream.recording, segment, hashed=bool(stream.sha1))
        different += [sum(lengths[:segment]) + start for start in _differ(source, stored, segment)]
        digests += source.sha1
    if different:
        return f"differs from sample {different[0]}"
    if sha1_matches(digests, stream.sha1) is False:
        return "the raw file is not what its metadata records"
    return ""


def _differ(source: Interleaved, stored: StoredStream, segment: int) -> list[int]:
    """First samples of the blocks that differ; the whole source is read either way."""

    def compare(start: int, block: np.ndarray) -> tuple[int, bool]:
        copy = stored.read(segment, start, start + len(block))
        return start, copy.tobytes() == block.tobytes()

    blocks = in_order(compare, source.blocks(stored.chunk), 1)
    return [start for start, equal in blocks if not equal]
