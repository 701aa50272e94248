"""Which folders below a root are sessions: by their place alone, without reading any file.

What a session holds, and whether it is ready, is the business of `sessions_local`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neuro_assets.formats.model import Problem
from neuro_assets.formats.scan import DATA_SUFFIXES, is_data_like
from neuro_assets.formats.session_fields import (
    NamedFields,
    SessionFields,
    find_day,
    one_fields,
    parse_day,
)
from neuro_assets.formats.walk import UnreadableFolder, list_files, natural_key, scan_folder
from neuro_assets.outcomes import TransientFailure

SUBJECTS = "Subjects"
_DANGLES = "the link's target is not there; mount its disk or remove the link"
RAWDATA = "rawdata"
_SUBJECT = re.compile(r"sub-[^_/]")
_SESSION = re.compile(r"ses-[^_/]")
_NUMBER = re.compile(r"[0-9]{1,3}")
_NO_RAW = frozenset({"derivatives", "code", "docs", "phenotype"})
"""Folders that BIDS and NeuroBlueprint have beside raw data."""
_MOST_LEVELS = 3


@dataclass(frozen=True)
class FoundSession:
    """A folder that is one session.

    Parameters
    ----------
    session_id : str
        Path below the root, with `/`; `.` for the root itself.
    folder : Path
        Absolute path.
    fields : SessionFields or None
        From ONE's layout; None for a folder that does not say all of them.
    named : NamedFields
        What a BIDS or NeuroBlueprint tree says of it.
    """

    session_id: str
    folder: Path
    fields: SessionFields | None
    named: NamedFields = NamedFields()


@dataclass
class Sweep:
    """What one pass over a tree found.

    Parameters
    ----------
    sessions : list of FoundSession
        In natural order of their ids.
    problems : list of Problem
        Folders that may not be read or are named wrongly.
    unread : list of str
        Places that could not be read: nothing is known of the sessions there.
    """

    sessions: list[FoundSession] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def lose(self, place: str, kind: str, detail: str) -> None:
        """Remember that nothing is known of a place, and report it.

        Parameters
        ----------
        place : str
            Relative to the root.
        kind, detail : str
            As in `Problem`.
        """
        self.unread.append(place)
        self.problems.append(Problem(kind=kind, path=place, detail=detail))


def find_sessions(root: Path, *, bare_root: bool = False) -> Sweep:
    """Find session folders by their place alone.

    Parameters
    ----------
    root : Path
        Top folder, absolute.
    bare_root : bool
        Whether a root without ONE layout is one bare session by itself.

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
    own = one_fields(PurePosixPath(root.as_posix()))
    if own is not None:
        sweep.sessions.append(FoundSession(".", root, own))
        return sweep
    if _by_its_own_name(sweep, root):
        return sweep
    is_bids = any(_SUBJECT.match(entry.name) or entry.name == RAWDATA for entry in top)
    bare: list[FoundSession] = []
    for entry in top:
        if is_bids and entry.name.lower() in _NO_RAW:
            continue
        bare += _entry(sweep, root, entry, bare_root=bare_root)
    if bare_root:
        bare = [] if sweep.sessions else [FoundSession(".", root, None)]
    sweep.sessions += bare
    sweep.sessions.sort(key=lambda session: natural_key(session.session_id))
    return sweep


def _entry(
    sweep: Sweep, root: Path, entry: os.DirEntry[str], *, bare_root: bool
) -> list[FoundSession]:
    """Sort one entry of a root; what is no tree is a bare session."""
    if _dangles(entry):
        sweep.lose(entry.name, "dangling_link", "the link's target is not there; mount its disk")
    elif not _is_dir(entry):
        if not bare_root and PurePosixPath(entry.name).suffix.lower() in DATA_SUFFIXES:
            sweep.problems.append(_loose(entry.name))
    elif entry.name == SUBJECTS:
        _subjects(sweep, root / SUBJECTS, SUBJECTS, "")
    elif not _tree(sweep, root / entry.name, entry.name):
        return [FoundSession(entry.name, root / entry.name, None)]
    return []


def _by_its_own_name(sweep: Sweep, root: Path) -> bool:
    """Find the sessions of a root that is itself part of a tree: a person named it, or a source."""
    if root.name == SUBJECTS:
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
        _bids_session(sweep, root, "", root.parent.name)
    else:
        return False
    return True


def _tree(sweep: Sweep, folder: Path, below: str, depth: int = 0) -> bool:
    """Add the sessions of a folder that is a tree of subjects; False for any other folder."""
    if _SUBJECT.match(folder.name):
        _bids_subject(sweep, folder, below)
        return True
    try:
        names = {entry.name for entry in scan_folder(folder) if _is_dir(entry)}
    except OSError:
        return False  # it will be listed as a bare folder, and reported there
    if SUBJECTS in names:
        _subjects(sweep, folder / SUBJECTS, f"{below}/{SUBJECTS}", folder.name)
        return True
    if any(_is_subject_of_one(folder / name) for name in names):
        _subjects(sweep, folder, below, folder.name)
        return True
    if _is_subject_of_one(folder):
        _days(sweep, folder, below, "", folder.name)
        return True
    bids = [name for name in names if _SUBJECT.match(name) or name == RAWDATA]
    if not bids or depth > _MOST_LEVELS:
        return False
    for name in sorted(bids, key=natural_key):
        _tree(sweep, folder / name, f"{below}/{name}", depth + 1)
    _others(sweep, folder, below, names - set(bids))
    return True


def _others(sweep: Sweep, folder: Path, below: str, names: Iterable[str]) -> None:
    """Add folders beside a tree's own as bare ones, but for what is derived from raw data."""
    for name in sorted(names, key=natural_key):
        if name.lower() not in _NO_RAW:
            sweep.sessions.append(FoundSession(_join(below, name), folder / name, None))


def _is_subject_of_one(folder: Path) -> bool:
    """Tell `<subject>/<yyyy-mm-dd>/<number>` by its dates that hold numbers."""
    try:
        days = [entry for entry in scan_folder(folder) if parse_day(entry.name) is not None]
        return any(
            _NUMBER.fullmatch(entry.name) and _is_dir(entry)
            for day in days
            if _is_dir(day)
            for entry in scan_folder(Path(day.path))
        )
    except OSError:
        return False


def _bids_subject(sweep: Sweep, folder: Path, below: str) -> None:
    """Add the sessions of `sub-<label>/ses-<label>`; what lies beside them is one of its own."""
    names = _folders(sweep, folder, below)
    sessions = [name for name in names if _SESSION.match(name)]
    for name in sessions:
        _bids_session(sweep, folder / name, _join(below, name), folder.name)
    subject = NamedFields(subject=_label(folder.name))
    if not sessions:
        sweep.sessions.append(FoundSession(below or ".", folder, None, subject))
        return
    for name in names:
        if name not in sessions and name.lower() not in _NO_RAW:
            place = FoundSession(_join(below, name), folder / name, None, subject)
            sweep.sessions.append(place)


def _bids_session(sweep: Sweep, folder: Path, below: str, subject: str) -> None:
    named = NamedFields(_label(subject), _label(folder.name), find_day(folder.name))
    sweep.sessions.append(FoundSession(below or ".", folder, None, named))


def _label(name: str) -> str:
    """Take the label of a BIDS entity: `001` of `ses-001_date-20240512`."""
    return name.partition("-")[2].partition("_")[0]


def list_root(root: Path) -> list[os.DirEntry[str]]:
    """List a root; whatever goes wrong there is no empty list.

    Parameters
    ----------
    root : Path
        Top folder of a source.

    Returns
    -------
    list of os.DirEntry
        Its entries.

    Raises
    ------
    TransientFailure
        For every error.
    """
    try:
        return scan_folder(root)
    except OSError as error:
        raise TransientFailure(
            f"cannot list {root} ({error.strerror or error}); is its disk mounted, and may this "
            "user read it?"
        ) from error


def _subjects(sweep: Sweep, folder: Path, below: str, lab: str) -> None:
    """Add the sessions of `<subject>/<date>/<number>` below a folder of subjects."""
    for subject in _folders(sweep, folder, below):
        _days(sweep, folder / subject, _join(below, subject), lab, subject)


def _days(sweep: Sweep, folder: Path, below: str, lab: str, subject: str) -> None:
    for day in _folders(sweep, folder, below):
        if parse_day(day) is None:
            _report_odd(sweep, folder / day, _join(below, day), "a date, yyyy-mm-dd")
            continue
        _numbers(sweep, folder / day, _join(below, day), lab, subject)


def _numbers(sweep: Sweep, folder: Path, below: str, lab: str, subject: str) -> None:
    when = parse_day(folder.name)
    for number in _folders(sweep, folder, below):
        place = _join(below, number)
        if when is None or not _NUMBER.fullmatch(number):
            _report_odd(sweep, folder / number, place, "a number of 1 to 3 digits")
            continue
        fields = SessionFields(lab, subject, when, number)
        sweep.sessions.append(FoundSession(place, folder / number, fields))


def _folders(sweep: Sweep, folder: Path, below: str) -> list[str]:
    """Names of the folders in a folder; one that may not be read is reported and remembered."""
    try:
        entries = scan_folder(folder)
    except PermissionError:
        sweep.lose(below, "unreadable", f"no permission to list {folder}; grant it")
        return []
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed since its parent was listed: its sessions have vanished
    for entry in entries:
        if _dangles(entry):
            sweep.lose(_join(below, entry.name), "dangling_link", _DANGLES)
    return [entry.name for entry in entries if _is_dir(entry)]


def _report_odd(sweep: Sweep, folder: Path, place: str, wanted: str) -> None:
    """Report what was meant to be a session, or holds data; other folders are left alone."""
    if folder.name[:1].isdigit() or _holds_data(folder):
        sweep.problems.append(
            Problem(
                kind="odd_folder",
                path=place,
                detail=f"the folder's name is not {wanted}; rename it to have it processed",
            )
        )


def _holds_data(folder: Path) -> bool:
    try:
        return any(is_data_like(found) for found in list_files(folder).files)
    except UnreadableFolder:
        return False  # reported where it is listed


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a loop of links


def _dangles(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def _join(below: str, name: str) -> str:
    return f"{below}/{name}" if below else name


def lose_empty_mounts(root: Path, known: Iterable[str], sweep: Sweep) -> None:
    """Take a folder that held sessions and is suddenly empty for a mount point without its mount.

    Parameters
    ----------
    root : Path
        Top folder.
    known : iterable of str
        Ids of sessions that were there before.
    sweep : Sweep
        What was found now; such folders are added to its unread places.

    Raises
    ------
    TransientFailure
        When it is the root itself.
    """
    places = {"/".join(name.split("/")[:n]) for name in known for n in (0, 1, 2) if "/" in name}
    if any(known) and not any(os.scandir(root)):
        raise TransientFailure(
            f"{root} is empty but held sessions; is its disk mounted? If it was emptied on "
            "purpose, put any file in it"
        )
    for place in sorted(places - {""}):
        # Below the lab and its `Subjects` an empty folder is what deleting sessions leaves.
        is_high = "/" not in place or place.endswith(f"/{SUBJECTS}")
        if is_high and (root / place).is_dir() and not any(os.scandir(root / place)):
            what = "the folder is empty but held sessions; mount its disk, or put any file in it"
            sweep.lose(place, "empty_mount", what)


def is_below(name: str, places: Iterable[str]) -> bool:
    """Tell whether a session lies in one of some places.

    Parameters
    ----------
    name : str
        Session id.
    places : iterable of str
        Relative paths; the empty one is the root.

    Returns
    -------
    bool
        True for a place itself and everything below it.
    """
    return any(name == place or name.startswith(f"{place}/") or not place for place in places)


def _loose(name: str) -> Problem:
    detail = "a data file directly in the root belongs to no session; put it in a folder"
    return Problem(kind="loose_file", path=name, detail=detail)
