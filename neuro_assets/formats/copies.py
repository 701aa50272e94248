"""Copies of one data file within a session: equal identity and equal content; the first stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_assets.formats.model import Problem
from neuro_assets.formats.raw_versions import sampled_hash
from neuro_assets.outcomes import NeuroAssetsError


@dataclass(frozen=True)
class Candidate:
    """A data file that may be a copy of another.

    Parameters
    ----------
    item : object
        What the format knows of it.
    path : str
        Relative to the session folder.
    size : int
        Bytes on disk.
    identity : hashable
        What it says of itself; None where it says too little.
    slot : hashable
        Its place in a recording (run, gate, probe, trigger): the format chooses within one slot.
    sha1 : str or None
        Stored hash of its samples.
    rank : tuple
        The lowest is the original.
    """

    item: Any
    path: str
    size: int
    identity: Hashable | None
    slot: Hashable
    sha1: str | None = None
    rank: tuple[Any, ...] = ()


def without_copies(
    folder: Path, candidates: Iterable[Candidate], problems: list[Problem]
) -> list[Any]:
    """Leave out copies, and report each once.

    Parameters
    ----------
    folder : Path
        The session folder.
    candidates : iterable of Candidate
        Data files.
    problems : list of Problem
        Of kind `copy`, for what is left out.

    Returns
    -------
    list
        Items that stay, in the order given.
    """
    candidates = list(candidates)
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for one in candidates:
        if one.identity is not None:
            groups[one.identity].append(one)
    copies: set[str] = set()
    for group in groups.values():
        originals: list[Candidate] = []
        # The longest first: of a copy that was cut short the whole one is used.
        order = sorted(group, key=lambda c: (*c.rank, -c.size, len(c.path), c.path))
        for one in order:
            first = next((each for each in originals if _is_copy(folder, one, each)), None)
            if first is None:
                originals.append(one)
                continue
            copies.add(one.path)
            cut = " that was cut short" if one.size < first.size else ""
            detail = f"a copy{cut} of {first.path}, which is used; remove it"
            # Whatever else is wrong with it does not matter any more.
            problems[:] = [each for each in problems if each.path != one.path]
            problems.append(Problem(kind="copy", path=one.path, detail=detail))
    return [one.item for one in candidates if one.path not in copies]


def _is_copy(folder: Path, one: Candidate, other: Candidate) -> bool:
    if one.slot == other.slot:
        return False
    same = same_content(folder, one, other)
    return same is True or (same is None and _begins(folder, one, other))


def _begins(folder: Path, one: Candidate, other: Candidate) -> bool:
    """Tell whether a file is the beginning of a longer one."""
    if one.size >= other.size or Path(one.path).suffix != Path(other.path).suffix:
        return False
    return _hashes(folder, one, other, one.size) == 1


def _hashes(folder: Path, one: Candidate, other: Candidate, size: int) -> int | None:
    """Count the contents of two files up to a size, bytes; None where one cannot be read."""
    try:
        return len({sampled_hash(folder / each.path, size, folder) for each in (one, other)})
    except NeuroAssetsError:
        return None  # not on this machine: nothing is known of its content


def same_content(folder: Path, one: Candidate, other: Candidate) -> bool | None:
    """Compare the samples of two data files by their stored hashes, or by parts of the files.

    Parameters
    ----------
    folder : Path
        The session folder.
    one, other : Candidate
        Data files.

    Returns
    -------
    bool or None
        None where it cannot be told: files of different lengths, or not on this machine.
    """
    if one.sha1 and other.sha1:
        return one.sha1 == other.sha1
    if one.size != other.size:
        return None
    n_contents = _hashes(folder, one, other, one.size)
    return None if n_contents is None else n_contents == 1
