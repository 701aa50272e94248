"""Open Ephys: the streams of analogue inputs in a session."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from neuro_assets.formats.model import Board, Boards, Problem
from neuro_assets.formats.openephys.streams import (
    intact_streams,
    place_of,
    place_texts,
    stream_of,
)
from neuro_assets.formats.walk import Listing, natural_key

_USED = ("duplicate_stream", "copy", "sample_gap")
"""Problems of files whose samples are in a stream."""


def scan_boards(folder: Path, listing: Listing) -> Boards:
    """Find what analogue inputs recorded, whatever became of the probes beside them.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.

    Returns
    -------
    Boards
        Streams `nidq`; further ones of one recording are `nidq2`, ... in the order of their names.
    """
    problems: list[Problem] = []
    streams = intact_streams(folder, listing, problems, boards=True)
    found = [each.path for each in listing.files if each.name == "structure.oebin"]
    # Boards are called as the probes beside them, which may be in more recordings.
    qualifiers = place_texts(place_of(path)[0] for path in found)
    numbers: Counter[tuple[str, int, int]] = Counter()
    boards: list[Board] = []
    for stream in sorted(streams, key=lambda s: (s.place, natural_key(s.folder_name))):
        numbers[stream.place] += 1
        number = str(numbers[stream.place]) if numbers[stream.place] > 1 else ""
        name = "-".join(part for part in (f"nidq{number}", qualifiers[stream.place]) if part)
        place = f"{stream.base}/experiment{stream.experiment}/recording{stream.recording}"
        boards.append(
            Board(
                format="openephys",
                stream=stream_of(name, stream),
                acquisition=place.removeprefix("/"),
            )
        )
    return Boards(
        boards=tuple(boards),
        unusable=tuple(problem for problem in problems if problem.kind not in _USED),
        problems=tuple(problems),
    )
