"""SpikeGLX: the streams of NI-DAQ boards and of the analogue inputs of OneBoxes in a session."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from neuro_assets.formats.copies import without_copies
from neuro_assets.formats.model import Board, Boards, Problem
from neuro_assets.formats.names import parse_spikeglx_name, place_texts
from neuro_assets.formats.spikeglx.files import (
    BOARDS,
    DataFile,
    absent_files,
    check_all,
    pair_files,
)
from neuro_assets.formats.spikeglx.recordings import (
    by_trigger,
    candidate,
    derivative,
    drop_conflicting,
    one_of,
    stream_of,
)
from neuro_assets.formats.spikeglx.triggers import order_triggers, places_known
from neuro_assets.formats.walk import Listing, natural_key

_UNUSABLE = ("conflicting_files", "first_sample_missing")
"""Problems of intact files that are not used."""

_Group = tuple[str, int, str]
"""Run, gate, device."""


def scan_boards(folder: Path, listing: Listing) -> Boards:
    """Find what auxiliary boards recorded, whatever became of the probes beside them.

    Parameters
    ----------
    folder : Path
        Session folder or bare run folder.
    listing : Listing
        Its files.

    Returns
    -------
    Boards
        A stream for each (run, gate, device), and one for each trigger that cannot be joined.
    """
    problems: list[Problem] = []
    files = pair_files(folder, listing, problems, boards=True)
    absent = [f for f in absent_files(listing, problems) if f.name.device.startswith(BOARDS)]
    intact, broken = check_all(folder, files, problems)
    intact = without_copies(folder, [candidate(file) for file in intact], problems)
    groups: dict[_Group, list[DataFile]] = defaultdict(list)
    for file in _without_derived(intact, problems):
        groups[_group(file)].append(file)
    drop_conflicting(folder, groups, problems)
    unusable = {file.path for file in (*broken, *absent)}
    boards: list[Board] = []
    places = place_texts(_places(listing))
    for run, gate, device in sorted(groups, key=lambda g: (natural_key(g[0]), *g[1:])):
        triggers = [one_of(folder, s, problems) for s in by_trigger(groups[run, gate, device])]
        if not places_known(triggers, triggers, problems):
            continue
        for piece in order_triggers(triggers, problems):
            later = f"t{piece[0].trigger}" if piece[0] is not triggers[0] else ""
            name = "-".join(part for part in (device, places[run, gate] + later) if part)
            kind = "cbin" if piece[0].name.extension == "cbin" else "spikeglx"
            stream = stream_of(name, piece)
            boards.append(Board(format=kind, stream=stream, acquisition=f"{run}_g{gate}"))
    unusable |= {problem.path for problem in problems if problem.kind in _UNUSABLE}
    return Boards(
        boards=tuple(boards),
        unusable=(
            *(problem for problem in problems if problem.path in unusable),
            *(_in_progress(file) for file in absent if file.path not in {p.path for p in problems}),
        ),
        problems=tuple(problems),
    )


def _device(file: DataFile) -> str:
    return file.name.device or file.meta.kind


def _group(file: DataFile) -> _Group:
    return file.name.run, file.name.gate or 0, _device(file)


def _without_derived(files: list[DataFile], problems: list[Problem]) -> list[DataFile]:
    """Leave out what CatGT or the viewer made of raw files that are in the session."""
    raw = [file for file in files if not file.name.derived]
    made = [f for f in files if f.name.derived and any(_is_of_one_board(f, r) for r in raw)]
    problems += [derivative(f, f"made ({f.name.derived}) from the raw files") for f in made]
    return [file for file in files if file not in made]


def _is_of_one_board(made: DataFile, raw: DataFile) -> bool:
    """Compare run, gate and device; where a run was renamed, what the metas say."""
    if _group(made) == _group(raw):
        return True
    own, other = ((_device(f), f.meta.created, f.meta.first_sample) for f in (made, raw))
    return None not in own and own == other


def _places(listing: Listing) -> set[tuple[str, int]]:
    """Give runs and gates of all files, so that boards are called as the probes beside them."""
    names = [parse_spikeglx_name(found.name) for found in listing.files]
    return {(n.run, n.gate or 0) for n in names if n and n.extension in ("bin", "cbin")}


def _in_progress(file: DataFile) -> Problem:
    return Problem(kind="partial_copy", path=file.path, detail="a copy in progress")
