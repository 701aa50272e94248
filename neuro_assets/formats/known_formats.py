"""The file formats of recordings. A new one is its module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from neuro_assets.formats.model import Boards, Scan, Stream
from neuro_assets.formats.nwb import scan_nwb
from neuro_assets.formats.openephys import boards as openephys_boards
from neuro_assets.formats.openephys.recordings import scan_openephys
from neuro_assets.formats.spikeglx import boards as spikeglx_boards
from neuro_assets.formats.spikeglx.lengths import compare_lengths
from neuro_assets.formats.spikeglx.recordings import scan_spikeglx
from neuro_assets.formats.walk import Listing

GENERIC = "neuro_assets.formats.generic_open"
"""Opens what a SpikeInterface reader reads."""


LengthCheck = Callable[[Stream, Path], list[str]]


def _no_boards(folder: Path, listing: Listing) -> Boards:
    return Boards()


def _says_no_length(stream: Stream, folder: Path) -> list[str]:
    return []


@dataclass(frozen=True)
class FileFormat:
    """One file format.

    Parameters
    ----------
    names : tuple of str
        Values of `RawRecording.format`.
    scan : callable
        `scan(folder, listing) -> Scan`.
    opener : str
        Module with `open_stream(recording, stream, folder)`, imported when it is needed.
    acquired : bool
        Whether a rig writes it; others may be copies of what a rig wrote.
    length_check : callable
        `length_check(stream, folder) -> list of str`: where the files of a stream are not as long
        as their metadata say, one line each; nothing for formats that say no length.
    boards : callable
        `boards(folder, listing) -> Boards`: what auxiliary boards left beside the probes.
    """

    names: tuple[str, ...]
    scan: Callable[[Path, Listing], Scan]
    opener: str
    acquired: bool = True
    length_check: LengthCheck = _says_no_length
    boards: Callable[[Path, Listing], Boards] = _no_boards


FORMATS = (
    FileFormat(
        ("spikeglx", "cbin"),
        scan_spikeglx,
        "neuro_assets.formats.spikeglx.opening",
        length_check=compare_lengths,
        boards=spikeglx_boards.scan_boards,
    ),
    FileFormat(
        ("openephys",),
        scan_openephys,
        "neuro_assets.formats.openephys.opening",
        boards=openephys_boards.scan_boards,
    ),
    FileFormat(("nwb",), scan_nwb, GENERIC, acquired=False),
)


def opener(name: str) -> Callable[..., Any]:
    """Import only the opener that is needed.

    Parameters
    ----------
    name : str
        As in `RawRecording.format`.

    Returns
    -------
    callable
        `open_stream` of its module; the one for readers by name where no format is called so.
    """
    modules = (each.opener for each in FORMATS if name in each.names)
    found: Callable[..., Any] = import_module(next(modules, GENERIC)).open_stream
    return found


def length_check(name: str) -> LengthCheck:
    """Give what compares the files of a stream with their metadata.

    Parameters
    ----------
    name : str
        As in `RawRecording.format`.

    Returns
    -------
    callable
        As in `FileFormat`.
    """
    return next((each.length_check for each in FORMATS if name in each.names), _says_no_length)
