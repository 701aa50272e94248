"""The single things that registration does to Alyx: each is a line for people, and a request.

What is to be done is decided in `diff`; that all of it arrived is found out in `register`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.merge import (
    JSON_KEY,
    merged_insertion,
    merged_keys,
    merged_summary,
    own_prefix,
    raised,
)
from neuro_assets.alyx.registration.model import OutgoingFile, TargetState, TaskRow, TaskState
from neuro_assets.alyx.responses import AlyxRefused
from neuro_assets.alyx.rows import InsertionRow, SessionDetail, parse
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository

    Send = Callable[[Alyx, WriteRepository | None], object]

_MERGES = 5
"""Writers that change one field at the same moment are few; more of them are a loop."""

MAX_TASKS = 5_000
"""Of one session; a longer list was not filtered."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to do.

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
    send : callable, optional
        Does it, with a client and the write repository.
    """

    action: str
    target: str
    detail: str = ""
    before: str = ""
    after: str = ""
    send: Send | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        is_shown = self.before or self.after
        change = f": {self.before or 'nothing'} -> {self.after}" if is_shown else ""
        return f"{self.action} {self.target}{detail}{change}"

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
        names = ("action", "target", "detail", "before", "after")
        return {**{name: getattr(self, name) for name in names}, "sent": sent}


@dataclass(frozen=True, kw_only=True)
class RegisterFile(Change):
    """Register a file: new, as a new revision, or its old content once more.

    Sent together with others of its session, by `apply`.

    Parameters
    ----------
    session_path : str
        `<subject>/<date>/<number>`, from which Alyx finds the session.
    lab : str
        Lab of the session, whose repositories get records.
    repository : str
        Where it exists.
    file : OutgoingFile
        What it is; `target` is its path below the session folder, with the revision.
    qc : str
        As registered.
    """

    session_path: str
    lab: str
    repository: str
    file: OutgoingFile
    qc: str


def create_type(name: str, pattern: str) -> Change:
    """Create a dataset type, without which register-file fails half-way."""
    row = {
        "name": name,
        "filename_pattern": pattern,
        "description": "Made by neuro_assets, which registers files of this type",
    }

    def send(client: Alyx, _: object) -> None:
        try:
            client.create("dataset-types", row)
        except AlyxRefused as refused:
            # Somebody was faster: whether it is the right one is seen when all is compared again.
            if refused.status != 400 or "already exists" not in str(refused.body):
                raise

    return Change(action="create dataset type", target=name, detail=f"files {pattern}", send=send)


def copy_file(repository: str, path: str, file: OutgoingFile) -> Change:
    """Put a file into the write repository; `path` is below its root."""

    def send(_: object, to: WriteRepository | None) -> None:
        required(to).put(file.source, path, file.size, file.md5)

    detail = size_text(file.size)
    return Change(action="copy", target=f"{repository}:{path}", detail=detail, send=send)


def mark_present(record: str, repository: str, path: str) -> Change:
    """Mark a copy as existing, after it was put there and checked.

    Registering the same content again leaves `exists` as it is, so that this is the only way.
    """

    def send(client: Alyx, _: object) -> None:
        client.update("files", record, {"exists": True})

    target = f"{repository}:{path}"
    return Change(action="mark", target=target, before="absent", after="present", send=send)


def raise_qc(endpoint: str, id: str, target: str, old: str, qc: str) -> Iterator[Change]:
    """Raise the quality of a dataset or session, where it is better than ours."""
    merge = partial(raised, ours=qc)
    if merge(old) != old:
        send = _merging(endpoint, id, "qc", merge)
        yield Change(action="raise qc of", target=target, before=old, after=qc, send=send)


def merge_extended_qc(session: SessionDetail, target: TargetState) -> Iterator[Change]:
    """Put our keys into a session's `extended_qc`, where they differ."""
    old, prefix = session.extended_qc, own_prefix(target.label)
    merge = partial(merged_keys, ours=target.extended_qc, prefix=prefix)
    if merge(old) != old:
        yield Change(
            action="merge extended_qc of session",
            target=session.id,
            **_differing(_ours(old, prefix), target.extended_qc),
            send=_merging("sessions", session.id, "extended_qc", merge),
        )


def merge_summary(session: SessionDetail, target: TargetState) -> Iterator[Change]:
    """Put our part into a session's `json`, where it differs."""
    merge = partial(merged_summary, label=target.label, ours=target.summary)
    if target.summary and merge(session.info) != session.info:
        section = (session.info or {}).get(JSON_KEY)
        yield Change(
            action="merge json of session",
            target=session.id,
            detail=f"{JSON_KEY}.{target.label}",
            before=_as_text(section.get(target.label) if isinstance(section, dict) else None),
            after=_as_text(target.summary),
            send=_merging("sessions", session.id, "json", merge),
        )


def merge_insertion(insertion: InsertionRow, target: TargetState) -> Iterator[Change]:
    """Put quality and our keys into the `json` of an insertion, where they differ."""
    prefix = own_prefix(target.label)
    merge = partial(merged_insertion, qc=target.qc, extended=target.extended_qc, prefix=prefix)
    if merge(insertion.info) != insertion.info:
        old = insertion.info or {}
        shown = _differing(
            {"qc": old.get("qc"), **_ours(old.get("extended_qc"), prefix)},
            {"qc": raised(old.get("qc"), target.qc), **target.extended_qc},
        )
        send = _merging("insertions", insertion.id, "json", merge)
        yield Change(action="merge json of insertion", target=insertion.id, **shown, send=send)


def put_task(eid: str, task: TaskState, found: TaskRow | None) -> Change:
    """Create a task, or move the one that was found to another status."""
    return Change(
        action="move task" if found else "create task",
        target=task.name,
        detail=task.log or "",
        before=found.status if found else "",
        after=task.status,
        send=lambda client, _: send_task(client, eid, task),
    )


def find_task(client: Alyx, eid: str, task: TaskState) -> TaskRow | None:
    """Look for our task among those of a session."""
    rows = parse(TaskRow, client.rows("tasks", most=MAX_TASKS, session=eid))
    return next((row for row in rows if row.is_of(task)), None)


def move_task(client: Alyx, eid: str, task: TaskState, *, write: bool) -> str:
    """Bring one task to a status, while a job runs.

    Parameters
    ----------
    client : Alyx
        The database.
    eid : str
        The session.
    task : TaskState
        What it shall be.
    write : bool
        When false nothing is sent.

    Returns
    -------
    str
        One line: what was done, or would be.

    Raises
    ------
    AlyxRefused
        Alyx takes no such task.
    TransientFailure
        Alyx does not answer.
    """
    found = find_task(client, eid, task)
    if found is not None and found.status == task.status:
        return f"task {task.name} is {task.status} already"
    change = put_task(eid, task, found)
    if not write:
        return f"would {change}"
    send_task(client, eid, task)
    return str(change)


def send_task(client: Alyx, eid: str, task: TaskState) -> None:
    """Create a task or move it; one that somebody created meanwhile is moved.

    Parameters
    ----------
    client : Alyx
        The database.
    eid : str
        The session.
    task : TaskState
        What it shall be.

    Raises
    ------
    AlyxRefused
        Alyx takes no such task.
    """
    state = {"status": task.status, "version": task.version}
    if task.log:
        state["log"] = task.log
    # Never `Waiting`: lab servers take waiting tasks to be theirs and run the executable.
    new = {
        **state,
        "name": task.name,
        "session": eid,
        "arguments": task.arguments,
        "executable": task.name.rsplit("_", 1)[0],
        "graph": "neuro_assets",
    }
    found = find_task(client, eid, task)
    if found is None:
        try:
            client.create("tasks", new)
            return
        except AlyxRefused as refused:
            if refused.status != 400 or "unique set" not in str(refused.body):
                raise
            if (found := find_task(client, eid, task)) is None:
                raise
    client.update("tasks", found.id, state)


def settle(client: Alyx, endpoint: str, name: str, field: str, merge: Callable[[Any], Any]) -> None:
    """Bring a field that others write too to what a merge makes of it.

    Alyx has no conditional writes: the field is read right before it is sent, and read again
    afterwards, until the merge has nothing more to change.

    Parameters
    ----------
    client : Alyx
        The database.
    endpoint, name, field : str
        Which field of which row.
    merge : callable
        From the field as it is to what it should be; the same object where nothing is to do.

    Raises
    ------
    PermanentFailure
        The row is gone, or another writer undoes the change every time.
    """
    for _ in range(_MERGES):
        row = client.read(endpoint, name)
        if row is None:
            raise PermanentFailure(f"{endpoint} {name} vanished from Alyx: was it deleted?")
        merged = merge(row.get(field))
        if merged == row.get(field):
            return
        client.update(endpoint, name, {field: merged})
    raise PermanentFailure(
        f"{field} of {endpoint} {name} in Alyx is changed by another writer each time that it is "
        "written: find out who writes there, and register again"
    )


def required(repository: WriteRepository | None) -> WriteRepository:
    """Let a repository pass; without one nothing can be registered."""
    if repository is None:
        raise PermanentFailure(
            "no data repository is named to which results go: set alyx.write_repository in "
            "lab.yaml, and its place under alyx.repositories"
        )
    return repository


def size_text(size: int) -> str:
    """Give a size in decimal units: `1.2 MB`; `size` in bytes."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {unit}"
    return f"{size} B"


def _merging(endpoint: str, name: str, field: str, merge: Callable[[Any], Any]) -> Send:
    return lambda client, _: settle(client, endpoint, name, field, merge)


def _ours(field: Any, prefix: str) -> dict[str, Any]:
    return {key: value for key, value in (field or {}).items() if key.startswith(prefix)}


def _as_text(value: Any) -> str:
    return "" if value is None or value == {} else json.dumps(value, sort_keys=True, default=str)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Describe how two flat dictionaries differ: their number, before and after."""
    absent = object()
    names = sorted(old.keys() | new.keys())
    differing = [name for name in names if old.get(name, absent) != new.get(name, absent)]
    return {
        "detail": f"{len(differing)} key{'' if len(differing) == 1 else 's'}",
        "before": _as_text({name: old[name] for name in differing if name in old}),
        "after": _as_text({name: new[name] for name in differing if name in new}) or "nothing",
    }
