"""Auxiliary boards as one raw modality of the session: NI-DAQ, OneBox ADC, analogue inputs.

They are recorded once for all probes, so they are found, versioned, waited for and opened once;
what a board looks like on disk is each format's business.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from neuro_assets.formats import known_formats
from neuro_assets.formats.model import Board, Problem, RawFiles
from neuro_assets.formats.opening import check_files
from neuro_assets.formats.raw_versions import add_stream
from neuro_assets.formats.stream import RawStream
from neuro_assets.formats.walk import Listing


def scan_auxiliary(folder: Path, listing: Listing) -> tuple[RawFiles | None, tuple[Problem, ...]]:
    """Find the streams of auxiliary boards in a session.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.

    Returns
    -------
    item : RawFiles or None
        None without a board. One that is there and cannot be read is part of it, and waited for.
    problems : tuple of Problem
        What is odd about them.
    """
    scans = [each.boards(folder, listing) for each in known_formats.FORMATS]
    boards = [board for scan in scans for board in scan.boards]
    unusable = [problem for scan in scans for problem in scan.unusable]
    problems = tuple(problem for scan in scans for problem in scan.problems)
    if not boards and not unusable:
        return None, problems
    streams = [board.stream for board in boards]
    sizes = {path: size for s in streams for path, size in zip(s.files, s.sizes, strict=True)}
    item = RawFiles(
        format="auxiliary",
        files=tuple(dict.fromkeys(path for stream in streams for path in _files(stream))),
        sizes=tuple(sizes.values()),
        details={
            "boards": [board.model_dump(mode="json") for board in boards],
            "unusable": [problem.model_dump(mode="json") for problem in unusable],
        },
    )
    return item, problems


def boards_of(item: RawFiles) -> list[Board]:
    """Read the streams that a session's boards left.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.

    Returns
    -------
    list of Board
        In the order in which they were found.
    """
    return [Board.model_validate(each) for each in _listed(item, "boards")]


def unusable_of(item: RawFiles) -> list[str]:
    """Say which files of boards are in no stream, and why.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.

    Returns
    -------
    list of str
        One line each.
    """
    found = [Problem.model_validate(each) for each in _listed(item, "unusable")]
    return [f"{problem.path}: {problem.detail}" for problem in found]


def _listed(item: RawFiles, name: str) -> list[Any]:
    found = item.details[name]
    return found if isinstance(found, list) else []


def auxiliary_version(item: RawFiles, folder: Path, *, use_file_hash: bool = False) -> str:
    """Version of what the boards of a session recorded; arguments and errors as `raw_version`.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.
    folder : Path
        The session folder.
    use_file_hash : bool
        Take SpikeGLX's `fileSHA1` where every file of a stream has one.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for board in boards_of(item):
        add_stream(digest, board.stream, folder, use_file_hash=use_file_hash)
        digest.update(board.acquisition.encode())
    for line in unusable_of(item):
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def missing_of_boards(item: RawFiles, folder: Path) -> tuple[str, ...]:
    """Say what keeps the files of the boards from being complete.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.
    folder : Path
        The session folder.

    Returns
    -------
    tuple of str
        One line each; files that cannot be read among them.
    """
    lines = unusable_of(item)
    for board in boards_of(item):
        lines += known_formats.length_check(board.format)(board.stream, folder)
    return tuple(lines)


def open_boards(item: RawFiles, folder: Path) -> dict[str, RawStream]:
    """Open every stream of a session's boards.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.
    folder : Path
        The session folder.

    Returns
    -------
    dict of str to RawStream
        By name: `nidq`, `obx0`, `nidq-g1`, ...

    Raises
    ------
    PermanentFailure
        When a file is missing, or is not what was described, naming it.
    """
    opened = {}
    for board in boards_of(item):
        check_files(board.stream, folder)
        opened[board.stream.name] = known_formats.opener(board.format)(None, board.stream, folder)
    return opened


def shown_of_boards(item: RawFiles) -> dict[str, Any]:
    """Give the figures for the user interface.

    Parameters
    ----------
    item : RawFiles
        From `scan_auxiliary`.

    Returns
    -------
    dict
        Streams, their size, and files that cannot be read.
    """
    return {
        "boards": ", ".join(board.stream.name for board in boards_of(item)) or "none",
        "size_bytes": sum(item.sizes),
        "unusable_files": len(_listed(item, "unusable")),
    }


def _files(stream: Any) -> tuple[str, ...]:
    # mtscomp's table of chunks stands beside the compressed file.
    tables = tuple(f"{f.removesuffix('.cbin')}.ch" for f in stream.files if f.endswith(".cbin"))
    return (*stream.files, *stream.metas, *stream.sample_numbers, *tables)
