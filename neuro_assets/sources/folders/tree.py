"""Which folders below a root are sessions: by their place alone, without reading any file.

What a session holds, and whether it is ready, is the business of the module `source`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from neuro_assets.formats.model import Problem
from neuro_assets.formats.names import parse_day, subject_label
from neuro_assets.formats.scan import is_data_like
from neuro_assets.formats.session_fields import (
    NamedFields,
    SessionFields,
    find_day,
    one_fields,
)
from neuro_assets.formats.walk import UnreadableFolder, list_files, natural_key, scan_folder
from neuro_assets.sources.folders.sweep import (
    SUBJECTS,
    FoundSession,
    Sweep,
    folders_in,
    holds_data,
    is_below,
    is_folder,
    is_related,
    join,
    list_root,
    lose_empty_mounts,
)

RAWDATA = "rawdata"
_SUBJECT = re.compile(r"sub-[^_/]")
_SESSION = re.compile(r"ses-[^_/]")
_NUMBER = re.compile(r"[0-9]{1,3}")
_NO_RAW = frozenset({"derivatives", "code", "docs", "phenotype"})
"""Folders that BIDS and NeuroBlueprint have beside raw data."""
_MOST_LEVELS = 3


def find_sessions(root: Path) -> Sweep:
    """Find session folders by their place alone.

    Parameters
    ----------
    root : Path
        Top folder, absolute.

    Returns
    -------
    Sweep
        Sessions in natural order of their ids.

    Raises
    ------
    TransientFailure
        When the root cannot be listed.
    """
    sweep = Sweep()
    top = list_root(root)
    if _by_its_own_name(sweep, root):
        sweep.is_tree = True
        return sweep
    if any(_SUBJECT.match(entry.name) or entry.name == RAWDATA for entry in top):
        sweep.is_tree = True
        _dataset(sweep, root, "", 0)
    else:
        for name in folders_in(sweep, root, ""):
            _sort(sweep, root / name, name)
    sweep.sessions.sort(key=lambda session: natural_key(session.session_id))
    return sweep


def gone_sessions(root: Path, session_ids: Collection[str]) -> list[str]:
    """Name the sessions that are not there any more, as the next sweep of the sensor would.

    Parameters
    ----------
    root : Path
        Top folder of a source.
    session_ids : collection of str
        Of sessions that were there before.

    Returns
    -------
    list of str
        Those without a folder, or whose folder holds no data; none of a place that cannot be read.

    Raises
    ------
    TransientFailure
        When the root cannot be listed, or is suddenly empty.
    """
    root = root.expanduser().absolute()
    sweep = find_sessions(root)
    lose_empty_mounts(root, session_ids, sweep)
    there = {s.session_id for s in sweep.sessions if s.session_id in session_ids and _has_data(s)}
    return [each for each in session_ids if each not in there and not is_below(each, sweep.unread)]


def _has_data(session: FoundSession) -> bool:
    try:
        return any(is_data_like(found.name) for found in list_files(session.folder).files)
    except UnreadableFolder:
        return True


def tree_around(folder: Path) -> Path | None:
    """Find the nearest folder that is a part of a tree by its name and holds a session of another.

    Parameters
    ----------
    folder : Path
        Any folder, absolute.

    Returns
    -------
    Path or None
        The folder itself, or one above it: a session, a day, a subject. None outside of trees.
    """
    for place in (folder, *folder.parents):
        sweep = Sweep()
        if _by_its_own_name(sweep, place) and any(
            is_related(session.folder, folder) for session in sweep.sessions
        ):
            return place
    return None


def _sort(sweep: Sweep, folder: Path, place: str, depth: int = 0) -> None:
    """Add the sessions of a folder that stands where a tree may begin; what is none is bare."""
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        return  # a link to a folder above it: all of it is found there
    if folder.name == SUBJECTS:
        sweep.is_tree = True
        _subjects(sweep, folder, place, folder.parent.name if "/" in place else "")
    elif _tree(sweep, folder, place, depth):
        sweep.is_tree = True
    else:
        sweep.sessions.append(FoundSession(place, folder, None))


def _by_its_own_name(sweep: Sweep, root: Path) -> bool:
    """Find the sessions of a root that is itself part of a tree: a person named it, or a source."""
    own = one_fields(PurePosixPath(root.as_posix()))
    if own is not None:
        sweep.sessions.append(FoundSession(".", root, own))
    elif root.name == SUBJECTS:
        _subjects(sweep, root, "", "")
    elif root.parent.name == SUBJECTS:
        _days(sweep, root, "", "", root.name)
    elif _NUMBER.fullmatch(root.name) and (day := parse_day(root.parent.name)) is not None:
        fields = SessionFields("", root.parent.parent.name, day, root.name)
        sweep.sessions.append(FoundSession(".", root, fields))
    elif parse_day(root.name) and (
        root.parent.parent.name == SUBJECTS or _is_subject_of_one(root.parent)
    ):
        _numbers(sweep, root, "", "", root.parent.name)
    elif _is_subject_of_one(root):
        _days(sweep, root, "", "", root.name)
    elif _SUBJECT.match(root.name):
        _bids_subject(sweep, root, "")
    elif _SUBJECT.match(root.parent.name) and _SESSION.match(root.name):
        _bids_session(sweep, root, "", root.parent)
    else:
        return False
    return True


def _tree(sweep: Sweep, folder: Path, below: str, depth: int = 0) -> bool:
    """Add the sessions of a folder that is a tree of subjects; False for any other folder."""
    if _SUBJECT.match(folder.name):
        _bids_subject(sweep, folder, below)
        return True
    try:
        names = {entry.name for entry in scan_folder(folder) if is_folder(entry)}
    except OSError:
        return False  # it will be listed as a bare folder, and reported there
    if SUBJECTS in names and depth <= _MOST_LEVELS:
        for name in folders_in(sweep, folder, below):
            _sort(sweep, folder / name, f"{below}/{name}", depth + 1)
    elif any(_is_subject_of_one(folder / name) for name in names):
        _subjects(sweep, folder, below, folder.name)
    elif _is_subject_of_one(folder):
        _days(sweep, folder, below, "", folder.name)
    elif depth <= _MOST_LEVELS and any(_SUBJECT.match(n) or n == RAWDATA for n in names):
        _dataset(sweep, folder, below, depth)
    else:
        return False
    return True


def _dataset(sweep: Sweep, folder: Path, below: str, depth: int) -> None:
    """Add the sessions of a BIDS dataset: its subjects, and every other folder as a bare one."""
    for name in folders_in(sweep, folder, below):
        place = join(below, name)
        if name == RAWDATA and depth <= _MOST_LEVELS:
            _dataset(sweep, folder / name, place, depth + 1)
        elif name.lower() in _NO_RAW:
            _report_derived(sweep, folder / name, place)
        else:
            _sort(sweep, folder / name, place, depth + 1)


def _is_subject_of_one(folder: Path) -> bool:
    """Tell `<subject>/<yyyy-mm-dd>/<number>` by its dates that hold numbers."""
    try:
        days = [entry for entry in scan_folder(folder) if parse_day(entry.name) is not None]
        return any(
            _NUMBER.fullmatch(entry.name) and is_folder(entry)
            for day in days
            if is_folder(day)
            for entry in scan_folder(Path(day.path))
        )
    except OSError:
        return False


def _bids_subject(sweep: Sweep, folder: Path, below: str) -> None:
    """Add the sessions of `sub-<label>/ses-<label>`; what lies beside them is one of its own."""
    subject = NamedFields(subject=subject_label(folder.name), dataset=_dataset_of(folder))
    if not any(_SESSION.match(entry.name) and is_folder(entry) for entry in _entries(folder)):
        sweep.sessions.append(FoundSession(below or ".", folder, None, subject))
        return
    for name in folders_in(sweep, folder, below):
        place = join(below, name)
        if _SESSION.match(name):
            _bids_session(sweep, folder / name, place, folder)
        elif name.lower() in _NO_RAW:
            _report_derived(sweep, folder / name, place)
        else:
            sweep.sessions.append(FoundSession(place, folder / name, None, subject))


def _bids_session(sweep: Sweep, folder: Path, below: str, subject: Path) -> None:
    named = NamedFields(
        subject_label(subject.name),
        _label(folder.name),
        find_day(folder.name),
        _dataset_of(subject),
    )
    sweep.sessions.append(FoundSession(below or ".", folder, None, named))


def _label(name: str) -> str:
    """Take the label of a session: `001` of `ses-001_date-20240512`."""
    return name.partition("-")[2].partition("_")[0]


def _dataset_of(subject: Path) -> str:
    """Name the dataset in which a label stands for one animal: the folder of `rawdata`, `sub-*`."""
    above = subject.parent
    return above.parent.name if above.name == RAWDATA else above.name


def _subjects(sweep: Sweep, folder: Path, below: str, lab: str) -> None:
    """Add the sessions of `<subject>/<date>/<number>` below a folder of subjects."""
    for subject in folders_in(sweep, folder, below):
        _days(sweep, folder / subject, join(below, subject), lab, subject)


def _days(sweep: Sweep, folder: Path, below: str, lab: str, subject: str) -> None:
    for day in folders_in(sweep, folder, below):
        if parse_day(day) is None:
            _report_odd(sweep, folder / day, join(below, day), "a date, yyyy-mm-dd")
            continue
        _numbers(sweep, folder / day, join(below, day), lab, subject)


def _numbers(sweep: Sweep, folder: Path, below: str, lab: str, subject: str) -> None:
    when = parse_day(folder.name)
    for number in folders_in(sweep, folder, below):
        place = join(below, number)
        if when is None or not _NUMBER.fullmatch(number):
            _report_odd(sweep, folder / number, place, "a number of 1 to 3 digits")
            continue
        fields = SessionFields(lab, subject, when, number)
        sweep.sessions.append(FoundSession(place, folder / number, fields))


def _report_odd(sweep: Sweep, folder: Path, place: str, wanted: str) -> None:
    """Report what was meant to be a session, or holds data; other folders are left alone."""
    if folder.name[:1].isdigit() or holds_data(folder):
        detail = f"the folder's name is not {wanted}; rename it to have it processed"
        sweep.problems.append(Problem(kind="odd_folder", path=place, detail=detail))


def _report_derived(sweep: Sweep, folder: Path, place: str) -> None:
    if holds_data(folder):
        detail = "taken for derived data by the folder's name and not read; move raw data out of it"
        sweep.problems.append(Problem(kind="derived_folder", path=place, detail=detail))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return scan_folder(folder)
    except OSError:
        return []  # reported by whoever lists it
