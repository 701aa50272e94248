"""Listing the files of a session folder: symbolic links, loops, unreadable places, odd names.

What the files mean is the business of the modules beside this one.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import TransientFailure

MAX_DEPTH = 16
"""Folders below the session: deeper than any layout known, and a last guard against loops."""

_PARTIAL = re.compile(r"\.(part|partial|filepart|crdownload|tmp|rsync-partial)$", re.IGNORECASE)
"""What copy programs put behind a name until they are done."""

_OF_SYSTEM = frozenset(
    {
        "$recycle.bin", "#recycle", "@recycle", "system volume information", "lost+found",
        "#snapshot", "~snapshot", "@recently-snapshot", "@eadir",
    }
)  # fmt: skip
"""Folders in which servers and disks keep what people deleted, or all of it once more."""

_GONE = {errno.ENOENT, errno.ENOTDIR}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def name_when_copied(name: str) -> str:
    """Give the name that a file will have when a copy program is done with it.

    Parameters
    ----------
    name : str
        Of any file.

    Returns
    -------
    str
        Empty for a file that is no copy in progress.
    """
    found = _PARTIAL.search(name)
    return name[: found.start()] if found else ""


class UnreadableFolder(TransientFailure):
    """The folder is there, but this user may not list it."""


@dataclass(frozen=True)
class FoundFile:
    """One file, with what a `stat` tells.

    Parameters
    ----------
    path : str
        Relative to the folder that was listed, with `/`.
    size : int
        Bytes.
    mtime_ns : int
        Modification time, ns.
    """

    path: str
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> str:
        """Folder, relative; empty for the top."""
        parent = str(PurePosixPath(self.path).parent)
        return "" if parent == "." else parent


@dataclass
class Listing:
    """Files below a folder in natural order, and what could not be read."""

    files: list[FoundFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def list_files(folder: Path, within: Path | None = None) -> Listing:
    """List every file below a folder, following symbolic links once.

    A file or folder that is reachable twice (a link beside its target) is listed once, at its
    real place where that is inside the folder. Hidden entries are left out.

    Parameters
    ----------
    folder : Path
        Folder to list.
    within : Path, optional
        Root of the source, which holds other sessions: links to places in it (or above it) that
        are not in the folder are not followed. Links to other disks are.

    Returns
    -------
    Listing
        Files and folders sorted by path; problems of kind `unreadable`, `dangling_link`,
        `link_out`, `odd_name`.

    Raises
    ------
    UnreadableFolder
        When the folder itself may not be listed.
    TransientFailure
        When the folder is not there, or the file system answers with an error other
        than a missing permission (a mount that vanished).
    """
    walk = _Walk(folder, within.expanduser().resolve() if within else None)
    walk.below("", 0)
    # Links come last so that a real path is preferred to one through a link.
    while walk.links:
        walk.follow(*walk.links.pop(0))
    listing = walk.listing
    listing.files.sort(key=lambda found: natural_key(found.path))
    listing.folders.sort(key=natural_key)
    return listing


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which `t2` comes before `t10`.

    Parameters
    ----------
    text : str
        A name or path.

    Returns
    -------
    tuple
        Alternating text and numbers.
    """
    # Every second part is a number. The end comes behind all numbers: `t1` before `t`.
    parts = re.split("([0-9]+)", text + "\0")
    return tuple((0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts))


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List one folder by name, with errors that say whether trying again may help.

    Parameters
    ----------
    folder : Path
        Folder to list.

    Returns
    -------
    list of os.DirEntry
        Sorted by name, without hidden ones and the bins and snapshots that servers keep.

    Raises
    ------
    PermissionError, FileNotFoundError, NotADirectoryError
        As the system says.
    TransientFailure
        Any other error of the file system.
    """
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if e.name[:1] != "." and e.name.lower() not in _OF_SYSTEM]
    except OSError as error:
        if error.errno in _GONE | _FORBIDDEN:
            raise
        raise TransientFailure(
            f"cannot list {folder} ({error.strerror or error}); is the file server or disk there?"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


@dataclass
class _Walk:
    """What was found so far below one folder; symbolic links are only noted."""

    root: Path
    within: Path | None = None
    listing: Listing = field(default_factory=Listing)
    seen: set[tuple[int, int]] = field(default_factory=set)
    links: list[tuple[str, int]] = field(default_factory=list)

    def below(self, folder: str, depth: int) -> None:
        for entry in self._entries(folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not _is_writable_as_json(entry.name):
                shown = path.encode("utf-8", "backslashreplace").decode()
                self._report("odd_name", shown, "the name is not valid UTF-8; rename the file")
            elif entry.is_symlink():
                self.links.append((path, depth))
            elif entry.is_dir(follow_symlinks=False):
                self._enter(path, depth + 1, _stat(entry))
            else:
                self._add_file(path, _stat(entry))

    def follow(self, path: str, depth: int) -> None:
        """List what a symbolic link points to, unless that was listed already."""
        target = self.root / path
        stat, top = _stat(target), _stat(self.root)
        if stat is None:
            detail = "the link's target is not there; mount its disk or remove the link"
            self._report("dangling_link", path, detail)
        elif top is not None and _inode(stat) == _inode(top):
            return
        elif self._leads_out(target):
            detail = (
                "the link leads to files of the source outside this session and is not followed; "
                "put the files here in its place, or remove it"
            )
            self._report("link_out", path, detail)
        elif target.is_dir():
            self._enter(path, depth + 1, stat)
        elif _inode(stat) not in self.seen:
            self._add_file(path, stat)

    def _leads_out(self, target: Path) -> bool:
        """Tell a link to another session of the source, or to a folder that holds this one."""
        real, own = target.resolve(), self.root.resolve()
        if self.within is None or real.is_relative_to(own):
            return False
        return real.is_relative_to(self.within) or own.is_relative_to(real)

    def _enter(self, path: str, depth: int, stat: os.stat_result | None) -> None:
        """Go into a folder that was not seen before."""
        if stat is None or _inode(stat) in self.seen:
            return
        if depth > MAX_DEPTH:
            detail = f"more than {MAX_DEPTH} folders deep; move the recording up"
            self._report("too_deep", path, detail)
            return
        self.seen.add(_inode(stat))
        self.listing.folders.append(path)
        self.below(path, depth)

    def _add_file(self, path: str, stat: os.stat_result | None) -> None:
        if stat is None:
            return  # removed between listing and stat: as if it had never been there
        self.seen.add(_inode(stat))
        if S_ISREG(stat.st_mode):
            self.listing.files.append(FoundFile(path, stat.st_size, stat.st_mtime_ns))
        else:
            # Reading a pipe waits for ever, a device has no end.
            self._report("not_a_file", path, "a pipe, socket or device; remove it")

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Entries of a folder; none, and a problem, where it may not be read."""
        try:
            return scan_folder(self.root / folder)
        except PermissionError:
            if not folder:
                raise UnreadableFolder(
                    f"no permission to list {self.root}; grant it, then retry"
                ) from None
            detail = "no permission to list the folder; grant it to the user of this service"
            self._report("unreadable", folder, detail)
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                raise TransientFailure(
                    f"{self.root} is not there or not a folder; is its disk mounted?"
                ) from None
        return []

    def _report(self, kind: str, path: str, detail: str) -> None:
        self.listing.problems.append(Problem(kind=kind, path=path, detail=detail))


def _inode(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _stat(path: Path | os.DirEntry[str]) -> os.stat_result | None:
    """Stat through links; None where there is nothing (or a loop of links)."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in _GONE | _FORBIDDEN | {errno.ELOOP}:
            return None
        raise TransientFailure(
            f"cannot read {os.fspath(path)} ({error.strerror or error}); is the file server or "
            "disk there?"
        ) from error


def _is_writable_as_json(name: str) -> bool:
    """Names with bytes that are not UTF-8 come as lone surrogates, which JSON refuses."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
