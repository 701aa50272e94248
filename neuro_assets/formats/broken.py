"""The one exception of the format modules: something on disk that cannot become a recording.

While scanning it becomes a `Problem`; while opening it is a permanent failure as it stands.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure, TransientFailure

log = logging.getLogger(__name__)


class Broken(PermanentFailure):
    """A file that is not what it should be.

    Parameters
    ----------
    kind : str
        Short type, as in `Problem.kind`.
    detail : str
        One line that says what is wrong and what to do.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail

    def at(self, path: str) -> Problem:
        """Make the problem that is reported for a path.

        Parameters
        ----------
        path : str
            Relative to the session folder.

        Returns
        -------
        Problem
            The same, as data.
        """
        return Problem(kind=self.kind, path=path, detail=self.detail)


@contextmanager
def contained(path: str, problems: list[Problem]) -> Iterator[None]:
    """Make whatever is wrong with one file a problem of that file: others are read all the same.

    Parameters
    ----------
    path : str
        The file, relative to the session folder.
    problems : list of Problem
        What is wrong is added here, also what nobody foresaw of a hostile header.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    TransientFailure
        A disk or server that does not answer is no fault of the file.
    """
    try:
        yield
    except TransientFailure:
        raise
    except Broken as broken:
        problems.append(broken.at(path))
    except Exception as error:
        log.warning("%s cannot be read", path, exc_info=True)
        detail = f"it cannot be read ({type(error).__name__}: {short(error)}); copy it again"
        problems.append(Problem(kind="meta_broken", path=path, detail=detail))


def short(value: object) -> str:
    """Cut a value out of a file to what fits in a line.

    Parameters
    ----------
    value : object
        Anything with a text.

    Returns
    -------
    str
        80 printable characters at most.
    """
    text = ascii(str(value)[:200])[1:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_text(path: Path, most: int) -> str:
    """Read a small text file that a rig wrote.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes beyond which it is not what its name says.

    Returns
    -------
    str
        Its text; bytes that are no UTF-8 are replaced.

    Raises
    ------
    Broken
        `meta_missing`, `unreadable`, or `meta_broken` for what is too large or no plain file (a
        pipe would never end).
    """
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise Broken("meta_broken", f"{path.name} is no plain file; remove it")
        if stat.st_size > most:
            raise Broken("meta_broken", f"{path.name} is too large ({stat.st_size} bytes) to be it")
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise Broken("meta_missing", f"{path.name} is not there; copy it from the rig") from None
    except PermissionError:
        raise Broken("unreadable", f"no permission to read {path.name}; grant it") from None


def file_failure(error: OSError, path: Path, folder: Path) -> PermanentFailure | TransientFailure:
    """Say what it means that a described file cannot be read.

    Parameters
    ----------
    error : OSError
        What the system said.
    path : Path
        The file.
    folder : Path
        The session folder, to tell a vanished mount from a missing file.

    Returns
    -------
    PermanentFailure or TransientFailure
        To be raised.
    """
    if isinstance(error, PermissionError):
        return PermanentFailure(f"no permission to read {path}; grant it")
    if not isinstance(error, FileNotFoundError):
        return TransientFailure(
            f"cannot read {path} ({error.strerror or error}); is the disk mounted?"
        )
    if folder.is_dir():
        return PermanentFailure(f"{path} is missing; restore it, or remove the session")
    return TransientFailure(
        f"{folder} is not there; is its disk mounted? If it was moved, let it be discovered again"
    )
