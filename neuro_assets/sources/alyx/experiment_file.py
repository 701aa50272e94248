"""The experiment description: a YAML file that IBL's rigs write at the top of a session folder.

Only what it says, with every mess that was met in it. What follows is in `experiment`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuro_assets.alyx.files.paths import OddPath, checked
from neuro_assets.formats.model import Frozen, Problem
from neuro_assets.outcomes import TransientFailure

FILE = "_ibl_experiment.description.yaml"
"""At the top of a session folder."""

_PATTERN = "_ibl_experiment.description*.yaml"
_MOST_BYTES = 1 << 20


class ExperimentTask(Frozen):
    """One task of the description.

    Parameters
    ----------
    protocol : str
        Its name.
    collection : str
        Where its raw data are.
    task_collection : str
        Where its results go; empty where the file does not say.
    number : int or None
        `protocol_number`.
    sync_label : str
        Device that its clock is tied to.
    extractors : tuple of str
        Names of extraction steps.
    """

    protocol: str
    collection: str = ""
    task_collection: str = ""
    number: int | None = None
    sync_label: str = ""
    extractors: tuple[str, ...] = ()


class ExperimentProbe(Frozen):
    """One probe of the description.

    Parameters
    ----------
    name : str
        As somebody typed it.
    collection : str
        Where its data are, or will be.
    """

    name: str
    collection: str = ""


class Experiment(Frozen):
    """The experiment description of a session.

    Parameters
    ----------
    version : str
        Of the format.
    tasks : tuple of ExperimentTask
        In order.
    probes : tuple of ExperimentProbe
        In the file's order.
    procedures, projects : tuple of str
        Names.
    problems : tuple of Problem
        What is broken, or left out.
    """

    version: str = ""
    tasks: tuple[ExperimentTask, ...] = ()
    probes: tuple[ExperimentProbe, ...] = ()
    procedures: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_experiment(source: Path | bytes) -> Experiment | None:
    """Read an experiment description.

    Parameters
    ----------
    source : Path or bytes
        A session folder, or the content of the file.

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
    found = sorted(source.glob(_PATTERN), key=lambda path: (path.name != FILE, path.name))
    if not found:
        return None
    try:
        with found[0].open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except PermissionError:
        return _broken(found[0].name, "no permission to read it; grant it")
    except OSError as error:
        raise TransientFailure(
            f"cannot read {found[0]} ({error.strerror or error}); is the disk mounted?"
        ) from error
    return _parsed(text, found[0].name)


def _parsed(text: bytes, name: str) -> Experiment:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MOST_BYTES:
        return _broken(name, "it has more than 1 MB and is no experiment description; replace it")
    yaml = YAML(typ="safe", pure=True)
    try:
        data = yaml.load(text.decode("utf-8"))
    except (YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        words = getattr(error, "problem", None) or type(error).__name__
        return _broken(name, f"not valid YAML{where} ({words}); correct the file")
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
        return Experiment(
            version=_text(data.get("version")),
            tasks=tuple(self._task(name, info) for name, info in tasks),
            probes=tuple(
                ExperimentProbe(name=name, collection=self._collection(info.get("collection")))
                for name, info in probes
            ),
            procedures=self._texts(data.get("procedures")),
            projects=self._texts(data.get("projects")),
            problems=tuple(self._problems),
        )

    def _task(self, name: str, info: Mapping[Any, Any]) -> ExperimentTask:
        number = _text(info.get("protocol_number"))
        return ExperimentTask(
            protocol=name,
            collection=self._collection(info.get("collection")),
            task_collection=self._collection(info.get("task_collection")),
            number=int(number) if re.fullmatch(r"\d{1,3}", number, re.ASCII) else None,
            sync_label=_text(info.get("sync_label")),
            extractors=self._texts(info.get("extractors")),
        )

    def _named(self, value: Any, where: str) -> list[tuple[str, Mapping[Any, Any]]]:
        """Names with what is said of each: a mapping (versions below 1), a list of them, names."""
        found: list[tuple[str, Mapping[Any, Any]]] = []
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                item = {item: None}
            for name, info in self._mapping(item, where).items():
                text = _text(name)
                if text:
                    found.append((text, self._mapping(info, f"{where}.{text}")))
        return found

    def _mapping(self, value: Any, where: str) -> Mapping[Any, Any]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._say(f"{where} holds no keys and values and is left out; correct the file")
        return {}

    def _texts(self, value: Any) -> tuple[str, ...]:
        items = value if isinstance(value, list) else [value]
        return tuple(text for item in items if (text := _text(item)))

    def _collection(self, value: Any) -> str:
        text = _text(value).replace("\\", "/").strip("/")
        if not text:
            return ""
        try:
            return checked(text)
        except OddPath as error:
            self._say(f"the collection {text!a} is left out: {error}; correct the file")
            return ""

    def _say(self, detail: str) -> None:
        self._problems.append(Problem(kind="experiment_odd", path=self._name, detail=detail[:300]))


def _text(value: Any) -> str:
    """Take a word or number; anything else is none, as are characters that JSON refuses."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()[:200].encode("utf-8", "replace").decode()
