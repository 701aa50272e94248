"""The file server beside Alyx: /data/<repository>/<path>, out of a folder for each repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID


def download(alyx: Any, path: str, asked: str) -> tuple[int, dict[str, str], bytes, int]:
    """Answer to a request of a file.

    Parameters
    ----------
    alyx : AlyxServer
        Gives the repositories and the faults.
    path : str
        Of the address, without escapes.
    asked : str
        Range header, or empty.

    Returns
    -------
    tuple
        Status, headers, bytes to send, and the length to announce: more than what is sent where a
        fault cuts the download.
    """
    file = _found(alyx, path)
    if file is None:
        return 404, {"Content-Type": "text/html"}, b"", 0
    content = file.read_bytes()
    status, headers = 200, {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if asked.startswith("bytes=") and "," not in asked:
        first, last = _span(asked[6:], len(content))
        if first >= len(content):
            return 416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b"", 0
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
        status, content = 206, content[first:last]
    return status, headers, content[: alyx.faults.take_cut()], len(content)


def _found(alyx: Any, path: str) -> Path | None:
    _, _, name, *rest = path.split("/")
    repository = alyx.tables.repositories.by_key.get(name)
    if repository is None or repository.folder is None:
        return None
    root = Path(repository.folder).resolve()
    asked = (root / "/".join(rest)).resolve()
    for file in (asked, asked.with_name(without_id(asked.name))):
        if file.is_file() and root in file.parents:
            return file
    return None


def without_id(name: str) -> str:
    """File name without the dataset's id before the extension."""
    stem, dot, extension = name.rpartition(".")
    bare, _, last = stem.rpartition(".")
    try:
        return f"{bare}{dot}{extension}" if str(UUID(last)) == last else name
    except ValueError:
        return name


def _span(text: str, size: int) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
