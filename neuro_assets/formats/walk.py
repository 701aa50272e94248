"""Listing the files of a session folder: symbolic links, loops, unreadable places, odd names.

What the files mean is the business of the modules beside this one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import TransientFailure

MAX_DEPTH = 16
"""Folders below the session: deeper than any layout known, and a last guard against loops."""

_GONE = {errno.ENOENT, errno.ENOTDIR}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


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


def list_files(folder: Path) -> Listing:
    """List every file below a folder, following symbolic links once.

    A file or folder that is reachable twice (a link beside its target) is listed once, at its
    real place where that is inside the folder. Hidden entries are left out.

    Parameters
    ----------
    folder : Path
        Folder to list.

    Returns
    -------
    Listing
        Files and folders sorted by path; problems of kind `unreadable`, `dangling_link`,
        `odd_name`.

    Raises
    ------
    UnreadableFolder
        When the folder itself may not be listed.
    TransientFailure
        When the folder is not there, or the file system answers with an error other
        than a missing permission (a mount that vanished).
    """
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    links: list[tuple[str, int]] = []
    _walk(folder, "", 0, listing, seen, links)
    # Links come last so that a real path is preferred to one through a link.
    while links:
        path, depth = links.pop(0)
        _follow(folder, path, depth, listing, seen, links)
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
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for char in text + "\0":
        if char.isascii() and char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, char))
    return tuple(parts)


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List one folder by name, with errors that say whether trying again may help.

    Parameters
    ----------
    folder : Path
        Folder to list.

    Returns
    -------
    list of os.DirEntry
        Sorted by name, hidden ones left out.

    Raises
    ------
    PermissionError, FileNotFoundError, NotADirectoryError
        As the system says.
    TransientFailure
        Any other error of the file system.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if error.errno in _GONE | _FORBIDDEN:
            raise
        raise TransientFailure(
            f"cannot list {folder} ({error.strerror or error}); is the file server or disk there?"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


def _walk(
    root: Path,
    below: str,
    depth: int,
    listing: Listing,
    seen: set[tuple[int, int]],
    links: list[tuple[str, int]],
) -> None:
    """List one folder and those below it; symbolic links are only noted."""
    entries = _entries(root, below, listing)
    if entries is None:
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if not _is_writable_as_json(entry.name):
            listing.problems.append(
                Problem(
                    kind="odd_name",
                    path=path.encode("utf-8", "backslashreplace").decode(),
                    detail="the name is not valid UTF-8; rename the file",
                )
            )
        elif entry.is_symlink():
            links.append((path, depth))
        elif entry.is_dir(follow_symlinks=False):
            _enter(root, path, depth + 1, listing, seen, links, _stat(entry))
        else:
            _add_file(path, _stat(entry), listing, seen)


def _enter(
    root: Path,
    path: str,
    depth: int,
    listing: Listing,
    seen: set[tuple[int, int]],
    links: list[tuple[str, int]],
    stat: os.stat_result | None,
) -> None:
    """Go into a folder that was not seen before."""
    if stat is None or (stat.st_dev, stat.st_ino) in seen:
        return
    if depth > MAX_DEPTH:
        listing.problems.append(
            Problem(
                kind="too_deep",
                path=path,
                detail=f"more than {MAX_DEPTH} folders deep; move the recording up",
            )
        )
        return
    seen.add((stat.st_dev, stat.st_ino))
    listing.folders.append(path)
    _walk(root, path, depth, listing, seen, links)


def _follow(
    root: Path,
    path: str,
    depth: int,
    listing: Listing,
    seen: set[tuple[int, int]],
    links: list[tuple[str, int]],
) -> None:
    """List what a symbolic link points to, unless that was listed already."""
    target = root / path
    stat = _stat(target)
    if stat is None:
        listing.problems.append(
            Problem(
                kind="dangling_link",
                path=path,
                detail="the link's target is not there; mount its disk or remove the link",
            )
        )
        return
    top = _stat(root)
    if top is not None and (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino):
        return
    if target.is_dir():
        _enter(root, path, depth + 1, listing, seen, links, stat)
    elif (stat.st_dev, stat.st_ino) not in seen:
        _add_file(path, stat, listing, seen)


def _add_file(
    path: str, stat: os.stat_result | None, listing: Listing, seen: set[tuple[int, int]]
) -> None:
    if stat is None:
        return  # removed between listing and stat: as if it had never been there
    seen.add((stat.st_dev, stat.st_ino))
    if not S_ISREG(stat.st_mode):
        # Reading a pipe waits for ever, a device has no end.
        listing.problems.append(
            Problem(kind="not_a_file", path=path, detail="a pipe, socket or device; remove it")
        )
        return
    listing.files.append(FoundFile(path, stat.st_size, stat.st_mtime_ns))


def _entries(root: Path, below: str, listing: Listing) -> list[os.DirEntry[str]] | None:
    """Entries of a folder; None, and a problem, where it may not be read."""
    try:
        return scan_folder(root / below)
    except PermissionError:
        if not below:
            raise UnreadableFolder(f"no permission to list {root}; grant it, then retry") from None
        listing.problems.append(
            Problem(
                kind="unreadable",
                path=below,
                detail="no permission to list the folder; grant it to the user of this service",
            )
        )
    except (FileNotFoundError, NotADirectoryError):
        if not below:
            raise TransientFailure(
                f"{root} is not there or not a folder; is its disk mounted?"
            ) from None
    return None


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


def parts_upwards(path: str) -> Iterator[str]:
    """Names of the folders above a file, the nearest first.

    Parameters
    ----------
    path : str
        Relative path with `/`.

    Yields
    ------
    str
        Folder names.
    """
    for part in reversed(PurePosixPath(path).parent.parts):
        if part != ".":
            yield part
