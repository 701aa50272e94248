"""Making the lines of the overview; those of last time are shown while nothing under them changed.

A line is made from the recording's record, some files of the store, the steps (parameters,
packages), the runs in progress and this package's code. All of it is compared before a line of
last time is shown again; files by modification, change, inode and size, since pointers are
replaced by a rename, which always brings another inode. A file that changed in the last seconds
is not relied upon: within one tick of the clock an edit in place could look like no change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import cast

import neuro_assets
from neuro_assets.assets.inventory import OutputState, inventory
from neuro_assets.assets.overview import Filter, Line, RecordingState, line_of
from neuro_assets.assets.step import StepSpec
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.registry.index import Records
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.store import Store
from neuro_assets.store.backend import Backend
from neuro_assets.store.json_values import canonical
from neuro_assets.store.listing import UNCERTAIN, ListedBackend, TracedBackend
from neuro_assets.store.local import LocalBackend
from neuro_assets.store.model import CURRENT, FAILURE, MANIFEST
from neuro_assets.store.store_identity import read_identity

SETTLED_S = 2.0
"""A file that is younger may change again without a trace."""

log = logging.getLogger(__name__)


def lines_of(
    store: Store,
    records: Records,
    steps: Sequence[StepSpec],
    running: Mapping[str, Collection[str]],
    wanted: Filter,
    folder: Path | None = None,
) -> Iterator[Line]:
    """Summarise recordings one after the other, so that a lab of any size fits into memory.

    Parameters
    ----------
    store, steps, running
        As in `neuro_assets.assets.inventory.inventory`.
    records : Records
        All of the registry.
    wanted : Filter
        Which recordings.
    folder : Path, optional
        Where the lines of a store in a folder are remembered on this machine, so that only what
        changed is made again.

    Yields
    ------
    Line
        In the order of the records.
    """
    reader, memory, trace = copy(store), None, None
    if store.is_local:
        trace = TracedBackend(store.backend)
        reader.backend = cast(Backend, trace)
        memory = OverviewMemory(folder, store, steps, trace)
    else:
        reader.backend = cast(Backend, ListedBackend(store.backend))
    for key, data in records.lines.items():
        if wanted.reads_records and not wanted.admits(records[key]):
            continue
        live = running.get(key, ())
        found = memory.find(key, data, live) if memory else None
        line = found or _line(reader, records[key], steps, running, trace)
        if trace:
            trace.require()  # what was not found is missing in the store, and not with it
        if memory and found is None and line.state is not RecordingState.DAMAGED:
            memory.keep(key, data, live, line)
        if wanted.state in (None, line.state):
            yield line
    if memory:
        memory.save(records)


def _line(
    reader: Store,
    record: RecordingRecord,
    steps: Sequence[StepSpec],
    running: Mapping[str, Collection[str]],
    trace: TracedBackend | None,
) -> Line:
    try:
        states = inventory(reader, {record.key: record}, steps, running)
        return line_of(record, [_with_manifest(each, trace) for each in states])
    except NeuroAssetsError as error:
        return Line(record.key, RecordingState.DAMAGED, str(error))


def _with_manifest(state: OutputState, trace: TracedBackend | None) -> OutputState:
    """Find an output damaged whose manifest is gone; on a server each would cost a request."""
    if state.stored is None or trace is None:
        return state
    found = trace.state(f"{state.stored.path}/{MANIFEST}")
    return state.readable() if found in (None, UNCERTAIN) else state


class OverviewMemory:
    """The lines of last time in a file; a damaged or foreign one is as good as none.

    Parameters
    ----------
    folder : Path or None
        Where the lab keeps such things; None to remember nothing.
    store : Store
        In a folder.
    steps : sequence of StepSpec
        The lab's steps.
    trace : TracedBackend
        Through which the store is read.
    """

    def __init__(
        self, folder: Path | None, store: Store, steps: Sequence[StepSpec], trace: TracedBackend
    ) -> None:
        self._folder = folder
        self._name = f"overview-{hashlib.sha256(store.url.encode()).hexdigest()[:8]}"
        self._steps = steps
        self._trace = trace
        self._is_private = cast(LocalBackend, store.backend).private
        self._fingerprint = _fingerprint(store, steps)
        self._before = time.time_ns() - int(SETTLED_S * 1e9)
        self._lines = self._load()
        self._is_changed = False

    def find(self, key: str, record: bytes, running: Collection[str]) -> Line | None:
        """Give the line of last time, if it would be the same now.

        Parameters
        ----------
        key : str
            The recording.
        record : bytes
            Its record.
        running : collection of str
            What live runs are making of it now.

        Returns
        -------
        Line or None
            None where it has to be made anew; the trace is empty then.
        """
        seen = self._trace.seen
        seen.clear()
        if line := self._lines.get(key):
            signature, state, detail, *others = json.loads(line)
            for path in [*self._pointers(key), *others]:
                self._trace.look(path)
            if signature == self._signature(key, record, running):
                return Line(key, RecordingState(state), detail)
            seen.clear()
        return None

    def keep(self, key: str, record: bytes, running: Collection[str], line: Line) -> None:
        """Remember a line that was just made, with the states that its files had before."""
        if self._folder is None:
            return
        pointers, seen = self._pointers(key), self._trace.seen
        others = sorted(seen.keys() - set(pointers))
        for path in pointers:
            if path not in seen:
                self._trace.look(path)
        self._is_changed = True
        if any(found and max(found[:2]) > self._before for found in seen.values()):
            self._lines.pop(key, None)
        else:
            signature = self._signature(key, record, running)
            self._lines[key] = json.dumps([signature, line.state, line.detail, *others]).encode()

    def save(self, keys: Iterable[str]) -> None:
        """Write the lines of these recordings for the next time, where any is new."""
        if self._folder is None or not self._is_changed:
            return
        lines = ((key.encode(), self._lines.get(key)) for key in keys)
        body = b"\n".join(key + b"\t" + line for key, line in lines if line)
        try:
            if self._is_private:  # the folder first: nobody may open the file before its chmod
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folder.chmod(0o700)
            LocalBackend(self._folder).write(self._name, self._seal(body) + b"\n" + body)
            if self._is_private:
                (self._folder / self._name).chmod(0o600)
        except (NeuroAssetsError, OSError) as error:
            log.warning("the overview is not remembered: %s", error)

    def _load(self) -> dict[str, bytes]:
        if self._folder is None:
            return {}
        try:
            seal, _, body = (self._folder / self._name).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            log.warning("the overview of last time cannot be read: %s", error)
            return {}
        if seal != self._seal(body):
            return {}
        parts = (line.partition(b"\t") for line in body.splitlines())
        return {key.decode(): line for key, _, line in parts}

    def _seal(self, body: bytes) -> bytes:
        return hashlib.sha256(self._fingerprint + body).hexdigest().encode()

    def _pointers(self, key: str) -> list[str]:
        return [f"{step.name}/{key}/{name}" for step in self._steps for name in (CURRENT, FAILURE)]

    def _signature(self, key: str, record: bytes, running: Collection[str]) -> str:
        settings = [step.settings(key) for step in self._steps]
        parts = repr((sorted(self._trace.seen.items()), sorted(running), settings))
        return hashlib.sha256(record + parts.encode()).hexdigest()[:32]


def _fingerprint(store: Store, steps: Sequence[StepSpec]) -> bytes:
    """Digest of what all lines depend on: the store, the steps, and the code that makes lines."""
    identity = read_identity(store)
    code = hashlib.sha256()
    for path in sorted(Path(neuro_assets.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    described = [
        [
            step.name, step.scope, step.clock, step.parameters.algorithm_version,
            step.parameters, step.releases, [[need.asset, need.optional] for need in step.needs],
        ]
        for step in steps
    ]  # fmt: skip
    where = [store.url, identity.id if identity else ""]
    return hashlib.sha256(canonical([where, code.hexdigest(), described])).digest()
