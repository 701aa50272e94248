"""Opening a described recording: every stream as SpikeInterface recordings, read lazily.

Which files belong to a recording was decided by `neuro_assets.science.formats`; this module
checks that they are still what they were, and hands each format to its own opener.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.science.formats.model import RawRecording, Stream

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

AUXILIARY = ("nidq", "obx")
"""Boards that were recorded beside the probe; opened only when they are asked for."""


@dataclass(frozen=True)
class RawStream:
    """One opened stream.

    Parameters
    ----------
    name : str
        `ap`, `lf`, `wideband`, or `nidq`, `obx` where asked for.
    recording : BaseRecording
        All saved channels in file order, sync included, in the file's own integers; one segment.
    neural : BaseRecording
        The neural channels with probe, gains and offsets (uV) and, where known, the property
        `inter_sample_shift` (fraction of a sample). For an auxiliary board the analogue channels.
    sync_channel_ids : list
        Channel ids of `recording` that are digital words.
    sha1 : tuple of str
        SHA-1 of each uncompressed data file, where the format recorded it.
    """

    name: str
    recording: BaseRecording
    neural: BaseRecording
    sync_channel_ids: list[Any] = field(default_factory=list)
    sha1: tuple[str, ...] = ()


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
        Names of the streams to open; by default all of the probe, without auxiliary boards.

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
    wanted = list(streams or [name for name in recording.streams if name not in AUXILIARY])
    absent = [name for name in wanted if name not in recording.streams]
    if absent:
        raise PermanentFailure(
            f"{recording.label} has no stream {', '.join(absent)}; it has "
            f"{', '.join(recording.streams)}"
        )
    for name in wanted:
        check_files(recording.streams[name], folder)
    opener = _opener(recording.format)
    return {name: opener(recording, recording.streams[name], folder) for name in wanted}


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
        size = _size(folder, name)
        if i < len(stream.sizes) and size != stream.sizes[i]:
            raise PermanentFailure(
                f"{folder / name} was changed: it has {size} bytes and had {stream.sizes[i]} when "
                "it was registered; restore it, or let the session be discovered again"
            )


def _size(folder: Path, name: str) -> int:
    try:
        return (folder / name).stat().st_size
    except FileNotFoundError:
        if not folder.is_dir():
            raise TransientFailure(
                f"{folder} is not there; is its disk mounted? If it was moved, let it be "
                "discovered again"
            ) from None
        raise PermanentFailure(
            f"{folder / name} is missing; restore it, or remove the session"
        ) from None
    except PermissionError:
        raise PermanentFailure(f"no permission to read {folder / name}; grant it") from None
    except OSError as error:
        raise TransientFailure(
            f"cannot read {folder / name} ({error.strerror or error}); is the file server there?"
        ) from error


def _opener(name: str) -> Any:
    """Import only the opener that is needed."""
    if name in ("spikeglx", "cbin"):
        from neuro_assets.science.formats import spikeglx_open

        return spikeglx_open.open_stream
    if name == "openephys":
        from neuro_assets.science.formats import openephys_open

        return openephys_open.open_stream
    from neuro_assets.science.formats import generic_open

    return generic_open.open_stream
