"""Paths as a database says them: made safe, and parted into session and file.

Whoever may write to the database chooses these texts, so that nothing of them reaches a file
system unchecked. Nothing here touches a file.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from neuro_assets.formats.names import strip_uuid

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_BYTES = 255
"""Of one name, on every common file system."""

_KEPT = re.compile(r"[^A-Za-z0-9_.-]")


class OddPath(ValueError):
    """A path that is not used; the message says why, as the end of a sentence."""


def checked(path: str) -> str:
    """Let a path pass that stays below whatever folder it is joined to.

    Parameters
    ----------
    path : str
        Relative, with `/`.

    Returns
    -------
    str
        The same.

    Raises
    ------
    OddPath
        It is absolute, climbs (`..`), has a backslash, a hidden, empty, or too long part, or
        characters that no file name has.
    """
    if not path or path.startswith("/"):
        raise OddPath("it is empty or not relative")
    if "\\" in path:
        raise OddPath("it has a backslash")
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise OddPath("it has a control character")
    for part in path.split("/"):
        # A leading dot covers `.` and `..`, and what the cache keeps for itself.
        if not part or part.startswith("."):
            raise OddPath("a part of it is empty or begins with a dot")
        if _DRIVE.fullmatch(part):
            raise OddPath("it has a drive's letter")
        if len(_encoded(part)) > _MOST_BYTES:
            raise OddPath(f"a name in it has more than {_MOST_BYTES} bytes")
    return path


def _encoded(part: str) -> bytes:
    try:
        return part.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OddPath("it is not valid Unicode") from error


def session_and_file(relative_path: str) -> tuple[str, str]:
    """Part the path of a file record into its session folder and what is below.

    Parameters
    ----------
    relative_path : str
        `ZFM-06048/2026-11-20/001/alf/spikes.times.npy`, below the repository; folders above the
        subject (`mainenlab/Subjects/`) are allowed.

    Returns
    -------
    session, path : str
        `ZFM-06048/2026-11-20/001` and `alf/spikes.times.npy`, without a dataset's id in the name.

    Raises
    ------
    OddPath
        It is not safe, or not below `<subject>/<date>/<number>/`.
    """
    parts = checked(relative_path).split("/")
    for i in range(1, len(parts) - 2):
        if _DATE.fullmatch(parts[i]) and _NUMBER.fullmatch(parts[i + 1]):
            below = [*parts[i + 2 : -1], strip_uuid(parts[-1])]
            return "/".join(parts[: i + 2]), "/".join(below)
    raise OddPath("it is not below <subject>/<date>/<number>/")


def with_uuid(path: str, dataset_id: str) -> str:
    """Put a dataset's id before the extension, as the public servers have their files.

    Parameters
    ----------
    path : str
        Path or address.
    dataset_id : str
        The id.

    Returns
    -------
    str
        `alf/spikes.times.<id>.npy` for `alf/spikes.times.npy`.
    """
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = strip_uuid(name).rpartition(".")
    named = f"{stem}.{dataset_id}.{extension}" if dot else f"{extension}.{dataset_id}"
    return f"{folder}{slash}{named}"


def without_uuid(path: str) -> str:
    """Take a dataset's id out of the name; see `with_uuid`."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{strip_uuid(name)}"


def download_url(text: str | None) -> str | None:
    """Check a link that the database gives, and take a user and password out of it.

    Parameters
    ----------
    text : str or None
        `data_url` of a file record.

    Returns
    -------
    str or None
        None for anything but http and https: `file:///etc/passwd` can be opened as well.
    """
    try:
        parts = urlsplit(text or "", allow_fragments=False)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "\\" in (text or ""):
        return None
    if any(ord(char) < 32 or ord(char) == 127 for char in text or ""):
        return None
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=place))


def folder_name(repository: str) -> str:
    """Make a folder's name of a repository's, whatever characters that has.

    Parameters
    ----------
    repository : str
        Name in Alyx.

    Returns
    -------
    str
        Never hidden, never empty.
    """
    return _KEPT.sub("-", repository).lstrip(".") or "repository"


def parents(path: str) -> list[str]:
    """List the folders above a file, the highest first.

    Parameters
    ----------
    path : str
        Relative, with `/`.

    Returns
    -------
    list of str
        `a`, `a/b` for `a/b/c.txt`.
    """
    return [str(folder) for folder in reversed(PurePosixPath(path).parents) if str(folder) != "."]
