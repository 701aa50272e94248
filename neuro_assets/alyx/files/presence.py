"""Whether what is registered on a folder repository is there; no file is opened."""

from __future__ import annotations

from pathlib import Path

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


def check_file(located: Located) -> Problem | None:
    """Compare one file of a folder repository with its row, by a `stat`.

    Parameters
    ----------
    located : Located
        Where it should be.

    Returns
    -------
    Problem or None
        `registered_but_missing`, `wrong_size`, `unreadable`.

    Raises
    ------
    TransientFailure
        The file system does not answer.
    """
    for path in located.candidates:
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            return located.problem("unreadable", f"no permission to read {path}; grant it")
        except OSError as error:
            raise TransientFailure(
                f"cannot read {path} ({error.strerror or error}); is the file server there?"
            ) from error
        registered = located.dataset.file_size
        if registered in (None, size):
            return None
        return located.problem(
            "wrong_size",
            f"{path} has {size} bytes and is registered with {registered}; register it again, or "
            "copy it again if it was cut",
        )
    return located.problem(
        "registered_but_missing",
        f"{located.candidates[0]} is not there although dataset {located.dataset.id} is registered "
        f"as existing on {located.repository}; copy it there, or set `exists` to false in Alyx",
    )
