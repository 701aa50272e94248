"""What was planned for a session: IBL's experiment description, and its tasks with their data.

The description is a YAML file that rigs write at the top of a session folder; every mess that was
met in one is handled. Probes are matched in `expected_probes`. Nothing here calls a server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from neuro_assets.alyx.files.paths import OddPath, checked
from neuro_assets.alyx.rows import DatasetRow
from neuro_assets.formats.model import Frozen, Problem
from neuro_assets.outcomes import TransientFailure
from neuro_assets.registry.metadata import TaskCollection

FILE = "_ibl_experiment.description.yaml"
"""At the top of a session folder."""

_PATTERN = "_ibl_experiment.description*.yaml"
_MOST_BYTES = 1 << 20

_RAW_TASK = re.compile(r"raw_task_data_(\d{1,3})", re.ASCII)
_TASK = re.compile(r"alf/task_(\d{1,3})", re.ASCII)
_OLD_RAW, _OLD = "raw_behavior_data", "alf"
_OF_TASK = ("_ibl_trials.", "_ibl_wheel", "_ibl_passive", "trials.", "wheel")


class ExperimentTask(Frozen):
    """One task of the description.

    Parameters
    ----------
    protocol : str
        Its name.
    collection : str
        Where its raw data are.
    task_collection : str
        Where its results go; empty where the file does not name it.
    number : int or None
        `protocol_number`.
    """

    protocol: str
    collection: str = ""
    task_collection: str = ""
    number: int | None = None


class Experiment(Frozen):
    """The experiment description of a session.

    Parameters
    ----------
    version : str
        Of the format.
    tasks : tuple of ExperimentTask
        In order.
    probes : tuple of str
        Names as somebody typed them, in the file's order.
    procedures : tuple of str
        Names.
    problems : tuple of Problem
        What is broken, or left out.
    """

    version: str = ""
    tasks: tuple[ExperimentTask, ...] = ()
    probes: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_experiment(source: Path | bytes, names: Collection[str] = ()) -> Experiment | None:
    """Read an experiment description.

    Parameters
    ----------
    source : Path or bytes
        A session folder, or the content of the file.
    names : collection of str
        Paths below the folder of which one may be read: those that are registered.

    Returns
    -------
    Experiment or None
        None where the folder has none. A broken one has nothing but a problem
        (`experiment_broken`); what is not understood is left out (`experiment_odd`).

    Raises
    ------
    TransientFailure
        The file system does not answer.
    """
    if isinstance(source, bytes):
        return _parsed(source, FILE)
    found = [name for name in names if "/" not in name and fnmatchcase(name, _PATTERN)]
    if not found:
        return None
    name = min(found, key=lambda name: (name != FILE, name))
    try:
        with (source / name).open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None  # could not be fetched, which is reported there
    except PermissionError:
        return _broken(name, "no permission to read it; grant it")
    except OSError as error:
        raise TransientFailure(
            f"cannot read {source / name} ({error.strerror or error}); is the disk mounted?"
        ) from error
    return _parsed(text, name)


def _parsed(text: bytes, name: str) -> Experiment:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MOST_BYTES:
        return _broken(name, "it has more than 1 MB and is no experiment description; replace it")
    try:
        data = YAML(typ="safe", pure=True).load(text.decode("utf-8"))
    except (YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        return _broken(name, f"not valid YAML{where} ({reason}); correct the file")
    if not isinstance(data, dict | None):
        return _broken(name, "it holds no keys and values; correct the file")
    return _Reader(name).read(data or {})


def _broken(name: str, detail: str) -> Experiment:
    problem = Problem(kind="experiment_broken", path=name, detail=detail[:300])
    return Experiment(problems=(problem,))


class _Reader:
    """Takes what is understood out of the file's content, and notes the rest."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: list[Problem] = []

    def read(self, data: Mapping[Any, Any]) -> Experiment:
        devices = self._mapping(data.get("devices"), "devices")
        probes = self._named(devices.get("neuropixel"), "devices.neuropixel")
        tasks = self._named(data.get("tasks"), "tasks")
        procedures = data.get("procedures")
        procedures = procedures if isinstance(procedures, list) else [procedures]
        return Experiment(
            version=_text(data.get("version")),
            tasks=tuple(self._task(name, info) for name, info in tasks),
            probes=tuple(name for name, _ in probes),
            procedures=tuple(text for item in procedures if (text := _text(item))),
            problems=tuple(self._problems),
        )

    def _task(self, name: str, info: Mapping[Any, Any]) -> ExperimentTask:
        number = _text(info.get("protocol_number"))
        return ExperimentTask(
            protocol=name,
            collection=self._collection(info.get("collection")),
            task_collection=self._collection(info.get("task_collection")),
            number=int(number) if re.fullmatch(r"\d{1,3}", number, re.ASCII) else None,
        )

    def _named(self, value: Any, where: str) -> list[tuple[str, Mapping[Any, Any]]]:
        """Names with their content: a mapping (versions below 1), a list of them, names."""
        found: list[tuple[str, Mapping[Any, Any]]] = []
        for item in value if isinstance(value, list) else [value]:
            named = {item: None} if isinstance(item, str) else self._mapping(item, where)
            for name, info in named.items():
                if text := _text(name):
                    found.append((text, self._mapping(info, f"{where}.{text}")))
        return found

    def _mapping(self, value: Any, where: str) -> Mapping[Any, Any]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._report(f"{where} holds no keys and values and is left out; correct the file")
        return {}

    def _collection(self, value: Any) -> str:
        text = _text(value).replace("\\", "/").strip("/")
        try:
            return checked(text) if text else ""
        except OddPath as error:
            self._report(f"the collection {text!a} is left out: {error}; correct the file")
            return ""

    def _report(self, detail: str) -> None:
        self._problems.append(Problem(kind="experiment_odd", path=self._name, detail=detail[:300]))


def _text(value: Any) -> str:
    """Take a text or number; anything else is none, as are characters that JSON refuses."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()[:200].encode("utf-8", "replace").decode()


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
    """Give the number of a described task: of its folder, else its own, else the next one."""
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
