"""What one pass over a folder tree finds, and the listing that reports what is no session.

Which folders are sessions is the business of the module `tree`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from neuro_assets.formats.model import Problem
from neuro_assets.formats.scan import is_data_like
from neuro_assets.formats.session_fields import NamedFields, SessionFields
from neuro_assets.formats.walk import natural_key, scan_folder
from neuro_assets.outcomes import TransientFailure

SUBJECTS = "Subjects"
_NOT_UTF8 = "the name is not valid UTF-8; rename it"
_DANGLES = "the link's target is not there; mount its disk or remove the link"
_MOST_LOOKED_AT = 2000
"""Names in a folder that is no session: one with more is taken to hold data."""


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
    is_tree : bool
        Whether the root is, or holds, a tree of subjects or a part of one.
    """

    sessions: list[FoundSession] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    is_tree: bool = False

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that the tree names."""
        named = ((s.fields and s.fields.subject) or s.named.subject for s in self.sessions)
        return frozenset(name for name in named if name)

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


def is_related(one: Path, other: Path) -> bool:
    """Tell whether one folder is, or is in, the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)


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


def folders_in(sweep: Sweep, folder: Path, below: str) -> list[str]:
    """Names of the folders in a folder of a tree, in natural order.

    What else is there is reported: data files that belong to no session, links without a target,
    names that no record could hold, and the folder itself where it may not be read.
    """
    try:
        entries = _writable(sweep, scan_folder(folder), below)
    except PermissionError:
        sweep.lose(below, "unreadable", f"no permission to list {folder}; grant it")
        return []
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed since its parent was listed: its sessions have vanished
    loose = []
    for entry in entries:
        if _dangles(entry):
            sweep.lose(join(below, entry.name), "dangling_link", _DANGLES)
        elif is_data_like(entry.name) and not is_folder(entry):
            loose.append(join(below, entry.name))
    if loose:
        detail = (
            f"{len(loose)} data file{'s' * (len(loose) > 1)} directly in this folder belong to no "
            "session; put them in the folder of one"
        )
        sweep.problems.append(Problem(kind="loose_file", path=loose[0], detail=detail))
    return sorted((entry.name for entry in entries if is_folder(entry)), key=natural_key)


def _writable(
    sweep: Sweep, entries: Iterable[os.DirEntry[str]], below: str
) -> list[os.DirEntry[str]]:
    """Leave out, and report, names whose bytes are not UTF-8: JSON refuses them."""
    kept = []
    for entry in entries:
        shown = entry.name.encode("utf-8", "backslashreplace").decode()
        if shown == entry.name:
            kept.append(entry)
        else:
            odd = Problem(kind="odd_name", path=join(below, shown), detail=_NOT_UTF8)
            sweep.problems.append(odd)
    return kept


def holds_data(folder: Path) -> bool:
    """Tell whether a file looks like data, or the folder is too large to look through each time."""
    names = _names_below(folder)
    for _, name in zip(range(_MOST_LOOKED_AT), names, strict=False):
        if is_data_like(name):
            return True
    return next(names, None) is not None


def _names_below(folder: Path) -> Iterator[str]:
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (name for name in files if not name.startswith("."))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell a folder, also behind a link."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # a loop of links


def _dangles(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def join(below: str, name: str) -> str:
    """Put a name behind a place; the root's is empty."""
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
        is_there = is_high and os.path.isdir(root / place)  # noqa: PTH112
        if is_there and not any(os.scandir(root / place)):
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
