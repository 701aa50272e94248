"""Copies of one data file within a session: equal identity and equal content; the first stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_assets.formats.model import Problem, RawRecording
from neuro_assets.formats.raw_versions import content_of, sampled_hash
from neuro_assets.outcomes import NeuroAssetsError

HEAD = 1 << 12
"""Bytes at the beginning of a file that tell most recordings apart."""


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


def without_equal(
    folder: Path,
    found: Sequence[RawRecording],
    earlier: Sequence[RawRecording],
    problems: list[Problem],
) -> list[RawRecording]:
    """Leave out recordings with the samples of another, which say too little to have two keys.

    Parameters
    ----------
    folder : Path
        The session folder.
    found : sequence of RawRecording
        In the order in which they are numbered.
    earlier : sequence of RawRecording
        Others of the session.
    problems : list of Problem
        Of kind `copy`, or `matched_twice` where it is the same files.

    Returns
    -------
    list of RawRecording
        Those of `found` that stay: of equal ones that with the shortest path.
    """
    groups: dict[Hashable, list[RawRecording]] = defaultdict(list)
    for one in (*earlier, *sorted(found, key=lambda one: len(one.main.files[0]))):
        if not one.identity.is_strong:
            groups[one.format, one.identity.size_bytes, one.main.n_samples, one.segment].append(one)
    copies: list[RawRecording] = []
    for group in groups.values():
        originals: dict[str, RawRecording] = {}
        for one in group if len(group) > 1 else ():
            first = originals.setdefault(_content(folder, one), one)
            if first is not one:
                copies.append(one)
                problems.append(_named_twice(one, first))
    return [one for one in found if not any(one is copy for copy in copies)]


def without_cut(
    folder: Path, found: Sequence[RawRecording], problems: list[Problem]
) -> list[RawRecording]:
    """Leave out recordings of one file that is the beginning of another's.

    Parameters
    ----------
    folder : Path
        The session folder.
    found : sequence of RawRecording
        Of one pattern, so opened in one way.
    problems : list of Problem
        Of kind `copy`, for what is left out.

    Returns
    -------
    list of RawRecording
        Those of `found` that stay, in the order given.
    """
    if len(found) < 2:
        return list(found)
    candidates = [
        Candidate(
            item=one,
            path=one.main.files[0],
            size=one.identity.size_bytes,
            identity=_head(folder, one),
            slot=one.main.files[0],
        )
        for one in found
    ]
    return without_copies(folder, candidates, problems)


def _head(folder: Path, recording: RawRecording) -> Hashable | None:
    """Name what a recording of one file begins with: only equal ones are compared further."""
    if len(recording.main.files) > 1 or recording.identity.is_strong:
        return None
    path, size = folder / recording.main.files[0], min(recording.identity.size_bytes, HEAD)
    try:
        return sampled_hash(path, size, folder), recording.segment, recording.main.n_channels
    except NeuroAssetsError:
        return None


def _content(folder: Path, recording: RawRecording) -> str:
    """Name the samples whichever file the pattern matched; what cannot be read is like no other."""
    files = tuple(sorted(recording.main.files))
    stream = recording.main.model_copy(update={"files": files})
    try:
        return content_of(recording.model_copy(update={"streams": {stream.name: stream}}), folder)
    except NeuroAssetsError:
        return f"{files} {recording.segment}"


def _named_twice(one: RawRecording, first: RawRecording) -> Problem:
    path, used = one.main.files[0], first.main.files[0]
    if set(one.main.files) == set(first.main.files):
        detail = f"the same recording as {used}; let only one pattern in lab.yaml match it"
        return Problem(kind="matched_twice", path=path, detail=detail)
    return Problem(kind="copy", path=path, detail=f"a copy of {used}, which is used; remove it")
