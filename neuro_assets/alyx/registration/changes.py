"""The single things that write-back does to Alyx, as data: each is a line, and a row of a table.

What is to be done is decided in `writing_difference`, and done in `writing_apply`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neuro_assets.alyx.registration.merge import JSON_KEY, raised
from neuro_assets.alyx.registration.model import Frozen, TaskState


class Words(NamedTuple):
    """What a change is, for people.

    Parameters
    ----------
    action : str
        A word or two.
    target : str
        What it is done to.
    detail : str
        What else is worth knowing.
    before, after : str
        What Alyx has and will have; empty for nothing.
    """

    action: str
    target: str
    detail: str = ""
    before: str = ""
    after: str = ""


class Change(Frozen):
    """One thing to do; subclasses say what."""

    @property
    def words(self) -> Words:
        """What it is, for people."""
        raise NotImplementedError

    def __str__(self) -> str:
        said = self.words
        detail = f" ({said.detail})" if said.detail else ""
        change = (
            f": {said.before or 'nothing'} -> {said.after}" if said.before or said.after else ""
        )
        return f"{said.action} {said.target}{detail}{change}"

    def row(self, *, sent: bool) -> dict[str, Any]:
        """Flat form for tables.

        Parameters
        ----------
        sent : bool
            Whether it was carried out.

        Returns
        -------
        dict
            Columns action, target, detail, before, after, sent.
        """
        return {**self.words._asdict(), "sent": sent}


class CreateType(Change):
    """A dataset type is missing, without which register-file fails half-way."""

    name: str
    pattern: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        return Words("create dataset type", self.name, f"files {self.pattern}")


class CopyFile(Change):
    """Put a file into the write repository; `path` is below its root."""

    repository: str
    path: str
    source: Path
    size: int
    md5: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        return Words("copy", f"{self.repository}:{self.path}", size_text(self.size))


class RegisterFile(Change):
    """Register a file: new, as a new revision, or its old content once more.

    Parameters
    ----------
    session_path : str
        `<subject>/<date>/<number>`, from which Alyx finds the session.
    lab : str
        Lab of the session, whose repositories get records.
    repository : str
        Where it exists.
    path : str
        Below the session folder, with the revision.
    size, md5, version, qc
        As registered.
    why : str
        `new`, or why it is registered again.
    """

    session_path: str
    lab: str
    repository: str
    path: str
    size: int
    md5: str
    version: str
    qc: str
    why: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        detail = f"{size_text(self.size)}, {self.why}, version {self.version}, qc {self.qc}"
        return Words("register", self.path, detail)


class MarkPresent(Change):
    """Say of a copy that it is there, after it was put there and checked.

    Registering the same content again leaves `exists` as it is, so that this is the only way.
    """

    record: str
    repository: str
    path: str
    size: int
    md5: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        return Words("mark", f"{self.repository}:{self.path}", "", "absent", "present")


class RaiseDatasetQC(Change):
    """Quality of one dataset."""

    id: str
    path: str
    old: str
    qc: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        return Words("raise qc of", self.path, "", self.old, self.qc)


class MergeExtendedQC(Change):
    """Our keys of a session's `extended_qc`."""

    eid: str
    prefix: str
    old: dict[str, Any]
    keys: dict[str, Any]

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        n, before, after = keys_text(self.old, self.keys)
        return Words("merge extended_qc of session", self.eid, n, before, after)


class MergeSummary(Change):
    """Our part of a session's `json`."""

    eid: str
    label: str
    old: Any
    summary: dict[str, Any]

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        place, before = f"{JSON_KEY}.{self.label}", as_text(self.old)
        return Words("merge json of session", self.eid, place, before, as_text(self.summary))


class RaiseSessionQC(Change):
    """Aggregate quality of a session."""

    eid: str
    old: str
    qc: str

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        return Words("raise qc of session", self.eid, "", self.old, self.qc)


class MergeInsertion(Change):
    """Quality and our keys in the `json` of an insertion."""

    pid: str
    prefix: str
    old_qc: Any
    qc: str
    old: dict[str, Any]
    keys: dict[str, Any]

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        old = {"qc": self.old_qc, **self.old}
        new = {"qc": raised(self.old_qc, self.qc), **self.keys}
        return Words("merge json of insertion", self.pid, *keys_text(old, new))


class PutTask(Change):
    """Create a task, or move it to another status."""

    eid: str
    task: TaskState
    id: str | None = None
    old: str = ""

    @property
    def words(self) -> Words:
        """See `Change.words`."""
        action = "move task" if self.id else "create task"
        return Words(action, self.task.name, self.task.log or "", self.old, self.task.status)


def size_text(size: int) -> str:
    """Give a size in decimal units.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    str
        `1.2 MB`.
    """
    if size < 1000:
        return f"{size} B"
    for power, unit in ((1, "kB"), (2, "MB")):
        if size < 1000 ** (power + 1):
            return f"{size / 1000**power:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"


def as_text(value: Any) -> str:
    """Give the one JSON text of a value; empty for nothing."""
    return "" if value is None or value == {} else json.dumps(value, sort_keys=True, default=str)


def keys_text(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str, str]:
    """Say how two dictionaries differ.

    Parameters
    ----------
    old, new : mapping
        Flat dictionaries.

    Returns
    -------
    tuple of str
        `3 keys`, and the entries that differ as JSON, before and after.
    """
    absent = object()
    names = sorted(old.keys() | new.keys())
    differing = [name for name in names if old.get(name, absent) != new.get(name, absent)]
    before = {name: old[name] for name in differing if name in old}
    after = {name: new[name] for name in differing if name in new}
    words = f"{len(differing)} key{'' if len(differing) == 1 else 's'}"
    return words, as_text(before), as_text(after) or "nothing"
