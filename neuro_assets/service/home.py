"""The folder that Dagster calls its home: what is written there, and who may hold it.

Only files and locks; processes are the supervisor's business.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from neuro_assets.config.machine import usable_cores
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service.storage import make_databases, preparing

HOME_NAME = ".dagster_home"
HOME_VARIABLE = "DAGSTER_HOME"
UP_LOCK = "up.lock"
READ_ONLY_LOCK = "up-read-only.lock"
RUN_LOCK = "run.lock"
LOADED_CONFIG = "loaded_config.json"
"""What the code server has loaded, see `executors.frozen_config`."""

_TEMPLATES = Path(__file__).parents[1] / "templates"
_MAX_SOCKET_BYTES = 100
"""A Unix socket's path must fit into 108 bytes on Linux, 104 on macOS."""
_HEADER = "# Written by neuro-assets, and renewed by it until you change anything below. sha256 "
_RUNS_LINE = re.compile(r"^(\s+max_concurrent_runs: )\d+", flags=re.MULTILINE)
_CORES_PER_RUN = 8
_MAX_LOG_BYTES = 10_000_000
_TAIL_LINES = 15
_CAN_QUERY = hasattr(fcntl, "F_OFD_GETLK")
"""Linux; elsewhere a lock can only be asked about by trying to take it."""
_LOCK_FORMAT = "hhqqi4x"
_WHOLE_FILE = struct.pack(_LOCK_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""The kernel's `struct flock` (fcntl(2)): kind, origin, start, length, process."""


@dataclass(frozen=True)
class CodeLocation:
    """The module that holds the definitions.

    Parameters
    ----------
    module : str
        Importable name.
    attribute : str
        Name of the definitions in it.
    name : str
        Name of the code location in Dagster.
    """

    module: str = "neuro_assets.definitions"
    attribute: str = "defs"
    name: str = "neuro_assets"


def home_path(workdir: Path) -> Path:
    """Return where the home of a lab's Dagster is, or would be.

    Parameters
    ----------
    workdir : Path
        The lab's folder.

    Returns
    -------
    Path
        `DAGSTER_HOME` where it is set, else `.dagster_home` in the folder; absolute.
    """
    return Path(os.environ.get(HOME_VARIABLE) or workdir / HOME_NAME).expanduser().resolve()


def prepare_home(workdir: Path, *, cores: int | None = None) -> Path:
    """Make the home folder of a lab's Dagster, its `dagster.yaml` and its databases.

    A new home is closed to other users unless `store.private` of `lab.yaml` is false. An existing
    file that a person has written or changed is left alone; one that we wrote and nobody
    changed is renewed.

    Parameters
    ----------
    workdir : Path
        The lab's folder; the home is `.dagster_home` in it unless `DAGSTER_HOME` names another.
    cores : int, optional
        Cores to fit the number of concurrent runs to; the usable ones when None.

    Returns
    -------
    Path
        The home, absolute.

    Raises
    ------
    PermanentFailure
        When Dagster cannot make its databases there.
    """
    home = home_path(workdir)
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700 if _is_private(workdir) else 0o777, exist_ok=True)
    path = home / "dagster.yaml"
    with preparing(home):
        if not path.exists() or _is_ours(path.read_text(encoding="utf-8")):
            write_text(path, _signed(instance_yaml(cores or usable_cores())))
        make_databases(home)
    return home


def _is_private(workdir: Path) -> bool:
    """Whether the lab wants its folders closed; also where its file is not usable (yet)."""
    from neuro_assets.config import config_path, read_config

    try:
        return read_config(config_path(workdir)).store.private
    except PermanentFailure:
        return True


def child_environment(home: Path) -> dict[str, str]:
    """Return the environment of a process that works with a home.

    Parameters
    ----------
    home : Path
        From `prepare_home`.

    Returns
    -------
    dict of str to str
        This process's own, without the working folder among the places to import from: a stray
        `gql.py` in it would be taken for a library.
    """
    return {
        **os.environ,
        HOME_VARIABLE: str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONSAFEPATH": "1",
        # Dagster takes the first folder of the path for that of a script, and drops it: not one
        # that somebody needs.
        "PYTHONPATH": os.pathsep.join([str(home), *_import_folders()]),
    }


def _import_folders() -> list[str]:
    """Return PYTHONPATH without empty entries (`export PYTHONPATH=x:`), each the working folder."""
    return [f for f in os.environ.get("PYTHONPATH", "").split(os.pathsep) if f]


def instance_yaml(cores: int) -> str:
    """Return the template of `dagster.yaml`, fitted to a number of cores.

    Parameters
    ----------
    cores : int
        One run at a time for every eight of them, at least one.

    Returns
    -------
    str
        YAML.
    """
    template = (_TEMPLATES / "dagster.yaml").read_text(encoding="utf-8")
    return _RUNS_LINE.sub(rf"\g<1>{max(1, cores // _CORES_PER_RUN)}", template)


def write_workspace(
    home: Path, location: CodeLocation, socket: Path, name: str = "workspace.yaml"
) -> Path:
    """Write the workspace file that lets all processes share one code server.

    Parameters
    ----------
    home : Path
        Where to write it.
    location : CodeLocation
        Its name is the one of the packaged `workspace.yaml`, so that histories stay.
    socket : Path
        Where the code server listens.
    name : str
        Name of the file.

    Returns
    -------
    Path
        The file.
    """
    server = {"socket": str(socket), "location_name": location.name}
    path = home / name
    # JSON is YAML, and quotes whatever the path holds.
    write_text(path, json.dumps({"load_from": [{"grpc_server": server}]}, indent=1) + "\n")
    return path


def socket_path(home: Path, name: str = "code") -> Path:
    """Return where the code server of a home listens.

    A Unix socket and not a port: whoever reaches a code server can run code as its user.

    Parameters
    ----------
    home : Path
        The home; when its path is too long, a private folder in the system's temporary one.
    name : str
        Of the code server: one that only shows things has another than the one that runs them.

    Returns
    -------
    Path
        The path of the socket.
    """
    path = home / f"{name}.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
        return path
    return Path(tempfile.mkdtemp(prefix="neuro-assets-")) / f"{name}.sock"


def write_text(path: Path, text: str) -> None:
    """Replace a file whole.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its new content.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


@contextmanager
def hold(path: Path) -> Iterator[TextIO | None]:
    """Hold a lock that the system frees when this process ends, however it ends.

    Parameters
    ----------
    path : Path
        The lock file; its content belongs to the holder.

    Yields
    ------
    file or None
        The open file, or None when another process holds it. A process that inherits the file
        holds the lock too.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            if _CAN_QUERY:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            yield None
            return
        yield file


def is_held(path: Path) -> bool:
    """Tell whether some process holds a lock, without taking it.

    Parameters
    ----------
    path : Path
        The lock file.

    Returns
    -------
    bool
        False when it does not exist.
    """
    if not path.exists():
        return False
    if not _CAN_QUERY:
        with hold(path) as file:
            return file is None
    with path.open("rb") as file:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    return bool(struct.unpack(_LOCK_FORMAT, answer)[0] != fcntl.F_UNLCK)


def read_state(path: Path) -> dict[str, Any]:
    """Return what the holder of a lock has written into it.

    Parameters
    ----------
    path : Path
        The lock file.

    Returns
    -------
    dict
        Empty when nothing (readable) is there.
    """
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def write_state(file: TextIO, state: dict[str, Any]) -> None:
    """Write into a held lock what others may know.

    Parameters
    ----------
    file : file
        From `hold`.
    state : dict
        Anything that JSON holds.
    """
    file.seek(0)
    file.truncate()
    json.dump(state, file)
    file.flush()


def log_file(home: Path, name: str) -> Path:
    """Return the log of a process, and put its content aside when it has grown too large.

    Copied and emptied, not renamed: the process may be writing to it.

    Parameters
    ----------
    home : Path
        The home.
    name : str
        Name of the process.

    Returns
    -------
    Path
        `logs/<name>.log` in the home; its folder exists.
    """
    path = home / "logs" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
    return path


def tail(path: Path) -> str:
    """Return the last lines of a log.

    Parameters
    ----------
    path : Path
        The log.

    Returns
    -------
    str
        At most 15 lines.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _signed(body: str) -> str:
    return f"{_HEADER}{_digest(body)}\n{body}"


def _is_ours(text: str) -> bool:
    """Whether we wrote this text and nobody changed it since."""
    header, _, body = text.partition("\n")
    return header == _HEADER + _digest(body)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
