"""What was planned for a session, beside what is registered: its tasks, and its probes.

The description is read in `experiment_file`, probes are matched in `expected_probes`; tasks are
matched here. Nothing here asks a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuro_assets.alyx.rows import DatasetRow
from neuro_assets.registry.metadata import TaskCollection
from neuro_assets.sources.alyx.expected_probes import (
    ExpectedProbe,
    expected_probes,
    serial_problems,
)
from neuro_assets.sources.alyx.experiment_file import (
    FILE,
    Experiment,
    ExperimentProbe,
    ExperimentTask,
    read_experiment,
)

__all__ = [
    "FILE",
    "ExpectedProbe",
    "Experiment",
    "ExperimentProbe",
    "ExperimentTask",
    "expected_probes",
    "read_experiment",
    "serial_problems",
    "task_collections",
]

_RAW_TASK = re.compile(r"raw_task_data_(\d{1,3})", re.ASCII)
_TASK = re.compile(r"alf/task_(\d{1,3})", re.ASCII)
_OLD_RAW, _OLD = "raw_behavior_data", "alf"
_OF_TASK = ("_ibl_trials.", "_ibl_wheel", "_ibl_passive", "trials.", "wheel")


def task_collections(
    datasets: Iterable[DatasetRow], experiment: Experiment | None, task_protocol: str
) -> tuple[TaskCollection, ...]:
    """List the tasks of a session with the places of their data.

    Parameters
    ----------
    datasets : iterable of DatasetRow
        Of the session.
    experiment : Experiment or None
        Its description.
    task_protocol : str
        Of the session: protocols in order, joined by `/`.

    Returns
    -------
    tuple of TaskCollection
        By number: as described, then what is only registered. Protocols without any data yet have
        no collections.
    """
    datasets = list(datasets)
    protocols = [part.strip() for part in task_protocol.split("/") if part.strip()]
    registered = _registered_tasks(datasets)
    found: dict[int, TaskCollection] = {}
    for task in experiment.tasks if experiment else ():
        number = _free_number(task, found)
        known = registered.pop(number, TaskCollection(number=number))
        raw = task.collection or known.raw_collection
        found[number] = TaskCollection(
            number=number,
            protocol=task.protocol,
            raw_collection=raw,
            collection=task.task_collection or known.collection or _results_of(raw),
        )
    for number, known in registered.items():
        protocol = protocols[number] if number < len(protocols) else ""
        collection = known.collection or _results_of(known.raw_collection)
        found[number] = known.model_copy(update={"protocol": protocol, "collection": collection})
    if not found:
        found = {i: TaskCollection(number=i, protocol=name) for i, name in enumerate(protocols)}
    return tuple(found[number] for number in sorted(found))


def _free_number(task: ExperimentTask, taken: Mapping[int, Any]) -> int:
    """Give the number of a described task: of its folder, else as said, else the next one."""
    of_folder = _RAW_TASK.fullmatch(task.collection)
    wanted = int(of_folder[1]) if of_folder else task.number
    if wanted is not None and wanted not in taken:
        return wanted
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _registered_tasks(datasets: Sequence[DatasetRow]) -> dict[int, TaskCollection]:
    """Tasks by the collections that are registered."""
    raw: dict[int, str] = {}
    results: dict[int, str] = {}
    for dataset in datasets:
        if match := _RAW_TASK.match(dataset.collection):
            raw[int(match[1])] = match[0]
        elif match := _TASK.match(dataset.collection):
            results[int(match[1])] = match[0]
    old_raw = any(dataset.collection == _OLD_RAW for dataset in datasets)
    # Sessions with numbered tasks have other things in `alf`, such as camera times.
    old = any(
        dataset.collection == _OLD and dataset.name.startswith(_OF_TASK) for dataset in datasets
    )
    if old_raw and not raw:
        raw[0] = _OLD_RAW
    if old and not results and len(raw) <= 1:
        results[next(iter(raw), 0)] = _OLD
    return {
        number: TaskCollection(
            number=number,
            raw_collection=raw.get(number, ""),
            collection=results.get(number, ""),
        )
        for number in sorted({*raw, *results})
    }


def _results_of(raw: str) -> str:
    """Where the results of a task will go."""
    numbered = _RAW_TASK.fullmatch(raw)
    if numbered:
        return f"alf/task_{int(numbered[1]):02d}"
    return _OLD if raw == _OLD_RAW else ""
