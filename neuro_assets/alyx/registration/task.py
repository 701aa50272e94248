"""Our entries in Alyx's list of tasks: found, created once, moved.

Which status a recording has is decided in `writing_desired`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.registration.changes import PutTask
from neuro_assets.alyx.registration.model import TaskRow, TaskState
from neuro_assets.alyx.responses import AlyxRefused
from neuro_assets.alyx.rows import parse

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx

_MOST_TASKS = 5_000
_GRAPH = "neuro_assets"


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
    there = _there(client, eid, task)
    if there is not None and there.status == task.status:
        return f"task {task.name} is {task.status} already"
    change = PutTask(
        eid=eid, task=task, id=there.id if there else None, old=there.status if there else ""
    )
    if not write:
        return f"would {change}"
    put_task(client, eid, task, change.id)
    return str(change)


def put_task(client: Alyx, eid: str, task: TaskState, id: str | None = None) -> None:
    """Create a task or move it; one that somebody created meanwhile is moved.

    Parameters
    ----------
    client : Alyx
        The database.
    eid : str
        The session.
    task : TaskState
        What it shall be.
    id : str, optional
        Its id, where it is known.

    Raises
    ------
    AlyxRefused
        Alyx takes no such task.
    """
    state = {"status": task.status, "version": task.version}
    if task.log:
        state["log"] = task.log
    if id is None and (there := _there(client, eid, task)) is not None:
        id = there.id
    if id is not None:
        client.update("tasks", id, state)
        return
    # Never `Waiting`: lab servers take waiting tasks to be theirs and run the executable.
    new = {
        **state,
        "name": task.name,
        "session": eid,
        "arguments": task.arguments,
        "executable": task.name.rsplit("_", 1)[0],
        "graph": _GRAPH,
    }
    try:
        client.create("tasks", new)
    except AlyxRefused as refused:
        if refused.status != 400 or "unique set" not in str(refused.body):
            raise
        there = _there(client, eid, task)
        if there is None:
            raise
        client.update("tasks", there.id, state)


def _there(client: Alyx, eid: str, task: TaskState) -> TaskRow | None:
    rows = client.rows("tasks", most=_MOST_TASKS, session=eid)
    return find_task(parse(TaskRow, rows), task.name, task.arguments)


def find_task(tasks: Iterable[TaskRow], name: str, arguments: Any) -> TaskRow | None:
    """Find our task; one of the name with other arguments is somebody else's."""
    ours = (task for task in tasks if task.name == name and task.arguments == arguments)
    return next(ours, None)
