"""Which folders below a root are sessions: by their place alone, without reading any file.

What a session holds, and whether it is ready, is the business of `sessions_local`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neuro_assets.formats.model import Problem
from neuro_assets.formats.session_fields import SessionFields, one_fields, parse_day
from neuro_assets.formats.walk import natural_key, scan_folder
from neuro_assets.outcomes import TransientFailure

SUBJECTS = "Subjects"
_DANGLES = "the link's target is not there; mount its disk or remove the link"
_DATA = (".bin", ".cbin", ".dat", ".nwb")


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
        From ONE's layout; None for a bare folder.
    """

    session_id: str
    folder: Path
    fields: SessionFields | None


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
    if root.name == SUBJECTS:
        _subjects(sweep, root, "", "")
        return sweep
    bare: list[FoundSession] = []
    for entry in top:
        if _dangles(entry):
            sweep.lose(
                entry.name, "dangling_link", "the link's target is not there; mount its disk"
            )
        elif not _is_dir(entry):
            if not bare_root and entry.name.lower().endswith(_DATA):
                sweep.problems.append(_loose(entry.name))
        elif entry.name == SUBJECTS:
            _subjects(sweep, root / SUBJECTS, SUBJECTS, "")
        elif _has_subjects(root / entry.name):
            below = f"{entry.name}/{SUBJECTS}"
            _subjects(sweep, root / entry.name / SUBJECTS, below, entry.name)
        else:
            bare.append(FoundSession(entry.name, root / entry.name, None))
    if bare_root:
        bare = [] if sweep.sessions else [FoundSession(".", root, None)]
    sweep.sessions += bare
    sweep.sessions.sort(key=lambda session: natural_key(session.session_id))
    return sweep


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
        at_subject = _join(below, subject)
        for day in _folders(sweep, folder / subject, at_subject):
            when = parse_day(day)
            if when is None:
                _report_odd(sweep, at_subject, day, "a date, yyyy-mm-dd")
                continue
            for number in _folders(sweep, folder / subject / day, f"{at_subject}/{day}"):
                if not number.isascii() or not number.isdigit() or len(number) > 3:
                    _report_odd(sweep, f"{at_subject}/{day}", number, "a number of 1 to 3 digits")
                    continue
                sweep.sessions.append(
                    FoundSession(
                        f"{at_subject}/{day}/{number}",
                        folder / subject / day / number,
                        SessionFields(lab, subject, when, number),
                    )
                )


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


def _report_odd(sweep: Sweep, below: str, name: str, wanted: str) -> None:
    """Report what was meant to be a session; folders of other kinds are left alone."""
    if name[:1].isdigit():
        sweep.problems.append(
            Problem(
                kind="odd_folder",
                path=f"{below}/{name}",
                detail=f"the folder's name is not {wanted}; rename it to have it processed",
            )
        )


def _has_subjects(folder: Path) -> bool:
    try:
        return (folder / SUBJECTS).is_dir()
    except OSError:
        return False  # it will be listed as a bare folder, and reported there


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
    return Problem(
        kind="loose_file",
        path=name,
        detail="a data file directly in the root belongs to no session; put it in a folder",
    )
