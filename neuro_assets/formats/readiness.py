"""Whether a recording's files are all there: what a copy in progress looks like.

How long nothing may have changed is decided by who looks again and again (the session source).
Modification times are not trusted: copy programs keep the original's, and preallocate.
"""

from __future__ import annotations

import re
from pathlib import Path

from neuro_assets.formats.broken import Broken, file_failure
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta
from neuro_assets.formats.walk import Listing

FLAG = "raw_session.flag"
"""IBL's acquisition computers touch this last."""

TAIL = 1 << 16
"""Bytes at the end of a file that may not all be zero."""

_PARTIAL = re.compile(r"\.(part|partial|filepart|crdownload|tmp|rsync-partial)$", re.IGNORECASE)


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
    return [found.path for found in listing.files if _PARTIAL.search(found.name)]


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
    for name, stream in recording.streams.items():
        if recording.format in ("spikeglx", "cbin"):
            reasons += _disagreements(recording, stream, folder)
        if name in ("ap", "lf", "wideband"):
            reasons += [
                f"{file} ends in zeros: space was reserved but the copy is not finished"
                for file in stream.files
                if _ends_in_zeros(folder / file)
            ]
    return tuple(reasons)


def _disagreements(recording: RawRecording, stream: Stream, folder: Path) -> list[str]:
    """`fileSizeBytes`, `fileTimeSecs` and the samples found must tell the same length."""
    reasons = []
    n_samples = 0
    for meta_name in stream.metas:
        try:
            meta = SpikeGLXMeta.read(folder / meta_name)
        except Broken as broken:
            return [f"{meta_name}: {broken.detail}"]
        if meta.file_size is None or meta.file_time is None:
            return [f"{meta_name} has no fileSizeBytes and fileTimeSecs: still acquiring"]
        expected = meta.file_size // (2 * meta.n_channels)
        n_samples += expected
        by_time = meta.file_time * meta.sampling_frequency
        if abs(expected - by_time) > max(2.0, 1e-5 * expected):
            reasons.append(
                f"{meta_name}: fileSizeBytes means {expected} samples, fileTimeSecs {by_time:.0f}"
            )
    if n_samples != stream.n_samples:
        reasons.append(
            f"{stream.files[0]}: {stream.n_samples} samples are there, the meta says {n_samples}"
        )
    return reasons


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
