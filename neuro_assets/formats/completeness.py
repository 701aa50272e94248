"""Whether a recording's files are all there: what a copy in progress looks like.

How long nothing may have changed is decided by who looks again and again (the session source).
Modification times are not trusted: copy programs keep the original's, and preallocate.
"""

from __future__ import annotations

from pathlib import Path

from neuro_assets.formats import known_formats
from neuro_assets.formats.broken import Broken, file_failure
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.walk import Listing, name_when_copied

FLAG = "raw_session.flag"
"""IBL's acquisition computers touch this last."""

_FEWEST_FRAMES = 1000
"""Samples of a channel that are looked at where there are many channels."""

TAIL = 1 << 16
"""Bytes at the end of a file that may not all be zero."""


def has_flag(listing: Listing) -> bool:
    """Tell whether somebody declared the session complete.

    Parameters
    ----------
    listing : Listing
        Files of the session.

    Returns
    -------
    bool
        True with `raw_session.flag` at the top.
    """
    return any(found.path == FLAG for found in listing.files)


def partial_copies(listing: Listing) -> list[str]:
    """Find files that copy programs rename when they are done.

    Parameters
    ----------
    listing : Listing
        Files of the session.

    Returns
    -------
    list of str
        Relative paths.
    """
    return [found.path for found in listing.files if name_when_copied(found.name)]


def what_is_missing(recording: RawRecording, folder: Path) -> tuple[str, ...]:
    """Say what keeps a recording's files from being complete.

    Parameters
    ----------
    recording : RawRecording
        As found by `scan_session`.
    folder : Path
        The session folder.

    Returns
    -------
    tuple of str
        One line each; empty when sizes, metas and the ends of the files agree.
    """
    reasons: list[str] = []
    check = known_formats.length_check(recording.format)
    for name, stream in recording.streams.items():
        reasons += check(stream, folder)
        if recording.format == "reader" and len(stream.files) > 1:
            reasons += _zeros_of_reader(recording, stream, folder)
        elif name in ("ap", "lf", "wideband"):
            reasons += [
                f"{file} ends in zeros: space was reserved but the copy is not finished"
                for file in stream.files
                if _ends_in_zeros(folder / file)
            ]
    return tuple(reasons)


def _zeros_of_reader(recording: RawRecording, stream: Stream, folder: Path) -> list[str]:
    """Look at the last samples: beside them may lie files that end in zeros (a digital input)."""
    try:
        opened = known_formats.opener(recording.format)(recording, stream, folder).recording
    except Broken as broken:
        return [broken.detail]
    n_frames = max(TAIL // (stream.n_channels * opened.get_dtype().itemsize), _FEWEST_FRAMES)
    tail = opened.get_traces(start_frame=max(stream.n_samples - n_frames, 0))
    zero = [str(name) for name in opened.channel_ids[~tail.any(axis=0)]]
    if len(zero) == stream.n_channels:
        ends = f"the samples of {stream.files[0]} end in zeros"
        return [f"{ends}: space was reserved but the copy is not finished"]
    if zero and len(stream.files) > stream.n_channels:  # a file for each channel
        names = f"{', '.join(zero[:3])}{f' and {len(zero) - 3} more' if len(zero) > 3 else ''}"
        return [
            f"the files of channel {names} end in zeros, which no amplifier gives: copy them "
            f"again; or create {FLAG}, which takes them as they are"
        ]
    return []


def _ends_in_zeros(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(end - TAIL, 0))
            tail = file.read(TAIL)
    except (FileNotFoundError, PermissionError):
        return False  # said elsewhere, by name
    except OSError as error:
        raise file_failure(error, path, path.parent) from error
    return bool(tail) and not any(tail)
