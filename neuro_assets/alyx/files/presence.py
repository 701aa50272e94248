"""Whether what is registered on a folder repository is there; no file is opened."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

from neuro_assets.alyx.files.placement import Located
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import TransientFailure


def check_root(root: Path) -> None:
    """Tell a repository whose disk is not mounted from one without files.

    Parameters
    ----------
    root : Path
        Its folder.

    Raises
    ------
    TransientFailure
        It is not there, or empty.
    """
    try:
        is_there = any(root.iterdir())
    except OSError as error:
        raise TransientFailure(
            f"the data repository {root} cannot be listed ({error.strerror or error}): is its disk "
            "mounted?"
        ) from error
    if not is_there:
        raise TransientFailure(f"the data repository {root} is empty: is its disk mounted?")


def find_file(located: Located) -> tuple[Path, os.stat_result] | Problem:
    """Find one file of a folder repository, by a `stat`.

    Parameters
    ----------
    located : Located
        Where it should be, with the dataset's id in its name or without.

    Returns
    -------
    tuple of (Path, os.stat_result) or Problem
        `registered_but_missing`, `not_a_file`, `unreadable`.

    Raises
    ------
    TransientFailure
        The file system does not answer.
    """
    for path in located.candidates:
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            return located.problem("unreadable", f"no permission to read {path}; grant it")
        except OSError as error:
            raise TransientFailure(
                f"cannot read {path} ({error.strerror or error}); is the file server there?"
            ) from error
        if S_ISREG(stat.st_mode):
            return path, stat
        # Reading a pipe waits for ever.
        return located.problem("not_a_file", f"{path} is no file; copy the file there")
    return located.problem(
        "registered_but_missing",
        f"{path} is not there although dataset {located.dataset.id} is registered as existing on "
        f"{located.repository}; copy it there, or set `exists` to false in Alyx",
    )


def check_file(located: Located) -> Problem | None:
    """Compare one file of a folder repository with its row.

    Parameters
    ----------
    located : Located
        Where it should be.

    Returns
    -------
    Problem or None
        That of `find_file`, or `wrong_size`.
    """
    found = find_file(located)
    if isinstance(found, Problem):
        return found
    path, size, registered = found[0], found[1].st_size, located.dataset.file_size
    if registered in (None, size):
        return None
    return located.problem(
        "wrong_size",
        f"{path} has {size} bytes and is registered with {registered}; register it again, or "
        "copy it again if it was cut",
    )
