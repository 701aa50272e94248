"""Opening a described recording: every stream as SpikeInterface recordings, read lazily.

Which files belong to a recording was decided by `neuro_assets.formats`; this module
checks that they are still what they were, and hands each format to its own opener.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuro_assets.formats import known_formats
from neuro_assets.formats.bands import OFFSET
from neuro_assets.formats.broken import file_failure
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.stream import RawStream
from neuro_assets.outcomes import PermanentFailure

BOARDS = ("nidq", "obx")
"""Streams that records of earlier releases name; they are of the session and stored with it."""


def open_raw(
    recording: RawRecording, folder: Path, *, streams: Sequence[str] | None = None
) -> dict[str, RawStream]:
    """Open the streams of a recording for reading.

    Parameters
    ----------
    recording : RawRecording
        As found by `scan_session`.
    folder : Path
        The session folder.
    streams : sequence of str, optional
        Names of the streams to open; by default all of the probe.

    Returns
    -------
    dict of str to RawStream
        By stream name. Files of several triggers are joined to one segment.

    Raises
    ------
    PermanentFailure
        When a file is missing, or is not what was described, naming it.
    TransientFailure
        When the session folder itself is not there (a mount that vanished).
    """
    wanted = list(streams or [name for name in recording.streams if name not in BOARDS])
    absent = [name for name in wanted if name not in recording.streams]
    if absent:
        raise PermanentFailure(
            f"{recording.label} has no stream {', '.join(absent)}; it has "
            f"{', '.join(recording.streams)}"
        )
    for name in wanted:
        check_files(recording.streams[name], folder)
    opener = known_formats.opener(recording.format)
    opened = {name: opener(recording, recording.streams[name], folder) for name in wanted}
    if "lf" in opened and recording.lf_offset:
        for extractor in (opened["lf"].recording, opened["lf"].neural):
            extractor.annotate(**{OFFSET: recording.lf_offset})
    return opened


def check_files(stream: Stream, folder: Path) -> None:
    """Make sure that a stream's files are there and as long as when they were described.

    Parameters
    ----------
    stream : Stream
        Description.
    folder : Path
        The session folder.

    Raises
    ------
    PermanentFailure
        When a file is missing or has another size.
    TransientFailure
        When the folder is not there or the file system answers with an error.
    """
    for i, name in enumerate((*stream.files, *stream.metas)):
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise file_failure(error, folder / name, folder) from error
        if i < len(stream.sizes) and size != stream.sizes[i]:
            raise PermanentFailure(
                f"{folder / name} was changed: it has {size} bytes and had {stream.sizes[i]} when "
                "it was registered; restore it, or let the session be discovered again"
            )
