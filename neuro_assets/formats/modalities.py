"""The raw modalities: what rigs write, one descriptor each. A new one is an entry of `MODALITIES`.

`recording` gives the partition keys. The others (video, behaviour) are found once a session and
stand on the keys of all its recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_assets.formats.auxiliary import (
    auxiliary_version,
    boards_of,
    missing_of_boards,
    open_boards,
    scan_auxiliary,
    shown_of_boards,
)
from neuro_assets.formats.completeness import what_is_missing
from neuro_assets.formats.model import Problem, RawFiles, RawRecording, Stream
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.raw_versions import raw_version
from neuro_assets.formats.scan import scan_listing
from neuro_assets.formats.walk import Listing

RECORDING = "recording"
AUXILIARY = "auxiliary"


Item = RawRecording | RawFiles


@dataclass(frozen=True)
class Found:
    """What one modality's scan found in a session folder.

    Parameters
    ----------
    items : tuple
        Recordings with distinct labels, or at most one `RawFiles`.
    problems : tuple of Problem
        What looks like such data and is none.
    """

    items: tuple[Any, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Modality:
    """One kind of raw data.

    Parameters
    ----------
    name : str
        `recording`, `video`, ...; its external asset is `raw_<name>`.
    description : str
        Of the asset, for people.
    kinds : frozenset of str
        Of the asset in the user interface.
    scan : callable
        `scan(folder, listing, readers) -> Found`; reads headers, never samples.
    identify : callable
        `identify(item) -> object`: equal for the same data wherever they are.
    version : callable
        `version(item, folder, use_file_hash=False) -> str`: changes when the data do.
    ready : callable
        `ready(item, folder) -> tuple of str`: what is missing, one line each.
    files : callable
        `files(item) -> tuple of str`: relative paths to fetch before it can be opened.
    open : callable
        `open(item, folder, **options)`: what the steps get.
    shown : callable
        `shown(item) -> dict`: figures for the user interface.
    streams : callable or None
        `streams(item) -> mapping`: what it holds, by name, where files may be joined or compressed
        with nothing lost; None where each file counts.
    """

    name: str
    description: str
    kinds: frozenset[str]
    scan: Callable[[Path, Listing, Sequence[ReaderEntry]], Found]
    identify: Callable[[Any], Any]
    version: Callable[..., str]
    ready: Callable[[Any, Path], tuple[str, ...]]
    files: Callable[[Any], tuple[str, ...]]
    open: Callable[..., Any]
    shown: Callable[[Any], dict[str, Any]]
    streams: Callable[[Any], Mapping[str, Stream]] | None = None

    @property
    def asset(self) -> str:
        """Name of its external asset."""
        return f"raw_{self.name}"

    @property
    def copy(self) -> str:
        """Name of the asset that is its lossless copy."""
        return f"compressed_{self.name}"


def of_session() -> list[Modality]:
    """List the modalities that are found once a session.

    Returns
    -------
    list of Modality
        All but the recording.
    """
    return [each for each in MODALITIES.values() if each.name != RECORDING]


def _scan_recordings(folder: Path, listing: Listing, readers: Sequence[ReaderEntry]) -> Found:
    scan = scan_listing(folder, listing, readers)
    return Found(scan.recordings, scan.problems)


def _scan_auxiliary(folder: Path, listing: Listing, readers: Sequence[ReaderEntry]) -> Found:
    item, problems = scan_auxiliary(folder, listing)
    return Found(() if item is None else (item,), problems)


def _files_of_recording(item: RawRecording) -> tuple[str, ...]:
    every = [p for s in item.streams.values() for p in (*s.files, *s.metas, *s.sample_numbers)]
    # mtscomp's table of chunks stands beside the compressed file.
    every += [f"{p.removesuffix('.cbin')}.ch" for p in every if p.endswith(".cbin")]
    return tuple(dict.fromkeys(every))


def _shown_of_recording(item: RawRecording) -> dict[str, Any]:
    return {
        "format": item.format,
        "probe_model": item.probe_model or "unknown",
        "duration_s": item.duration_s,
        "channels": item.main.n_channels,
        "size_bytes": item.identity.size_bytes,
        "streams": ", ".join(item.streams),
    }


MODALITIES: dict[str, Modality] = {
    RECORDING: Modality(
        name=RECORDING,
        description="One recording of one probe as the rig wrote it (SpikeGLX, Open Ephys, NWB or "
        "any SpikeInterface reader). Its data version comes from the files' sizes and hashes.",
        kinds=frozenset({"binary"}),
        scan=_scan_recordings,
        identify=lambda item: item.identity,
        version=raw_version,
        ready=what_is_missing,
        files=_files_of_recording,
        streams=lambda item: item.streams,
        open=open_raw,
        shown=_shown_of_recording,
    ),
    AUXILIARY: Modality(
        name=AUXILIARY,
        description="What auxiliary boards recorded beside the probes of the session (NI-DAQ, "
        "OneBox ADC, analogue inputs), once for all of them. Its data version comes from the "
        "files' sizes and hashes.",
        kinds=frozenset({"binary"}),
        scan=_scan_auxiliary,
        identify=lambda item: (item.files, item.sizes),
        version=auxiliary_version,
        ready=missing_of_boards,
        files=lambda item: item.files,
        streams=lambda item: {board.stream.name: board.stream for board in boards_of(item)},
        open=open_boards,
        shown=shown_of_boards,
    ),
}
"""By name. Sources, registry, events, `status` and the IO managers read this, and nothing else."""
