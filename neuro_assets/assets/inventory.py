"""What exists of each recording, what would be made now, and why they differ.

Reads the store and the registry only; who is running comes from the caller. This is where "for
each probe each expected output is exactly one of six states" is decided, in one function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from neuro_assets.assets.step import StepSpec
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import RecordingRecord
from neuro_assets.sources.raw_input import externals
from neuro_assets.store import InputRef, Manifest, Store, Stored
from neuro_assets.store.json_values import jsonable

A_RUN = "a run"
"""What an output waits for whose inputs are all there."""


@dataclass(frozen=True)
class OutputState:
    """State of one expected output.

    Parameters
    ----------
    key, asset : str
        Which output.
    outcome : Outcome
        Exactly one of the six states.
    detail : str
        Reason of a skip, error of a failure, what is waited on; else empty.
    out_of_date : tuple of str
        Why the stored version is not what would be made now; empty when it is.
    stored : Stored or None
        The output that counts at present, if any.
    repaired : bool
        Whether it failed on raw data that changed since.
    damaged : bool
        Whether what the store holds of it cannot be used; `detail` says why.
    """

    key: str
    asset: str
    outcome: Outcome
    detail: str = ""
    out_of_date: tuple[str, ...] = ()
    stored: Stored | None = None
    repaired: bool = False
    damaged: bool = False

    def readable(self) -> OutputState:
        """Read the manifest; where that fails, give the state of a damaged output."""
        try:
            if self.stored is not None:
                _ = self.stored.manifest
        except PermanentFailure as error:
            return _damaged(self.key, self.asset, error)
        return self

    def row(self) -> dict[str, Any]:
        """Flat form for tables and JSON."""
        manifest = self.stored.manifest if self.stored else None
        return {
            "key": self.key,
            "asset": self.asset,
            "outcome": self.outcome.value,
            "detail": self.detail,
            "out_of_date": list(self.out_of_date),
            "version": manifest.version if manifest else None,
            "repeatable": manifest.repeatable if manifest else None,
            "size_bytes": manifest.size_bytes if manifest else None,
            "duration_s": manifest.duration_s if manifest else None,
            "finished": _finished(manifest),
            "path": self.stored.path if self.stored else None,
        }


def inventory(
    store: Store,
    records: Mapping[str, RecordingRecord],
    steps: Sequence[StepSpec],
    running: Mapping[str, Collection[str]] | None = None,
) -> list[OutputState]:
    """List every expected output of every recording with its state.

    Parameters
    ----------
    store : Store
        The lab's store.
    records : mapping of str to RecordingRecord
        Recordings by key.
    steps : sequence of StepSpec
        Steps in an order in which needs come first.
    running : mapping of str to collection of str, optional
        Assets that a live run is making now, by key.

    Returns
    -------
    list of OutputState
        One for each pair of key and step.
    """
    states: list[OutputState] = []
    for key, record in records.items():
        done: dict[str, OutputState] = {}
        for step in steps:
            try:
                done[step.name] = _state(store, record, step, done, (running or {}).get(key, ()))
            except PermanentFailure as error:
                store.backend.require()
                done[step.name] = _damaged(key, step.name, error)
        states += done.values()
    return states


def _damaged(key: str, asset: str, error: PermanentFailure) -> OutputState:
    return OutputState(key, asset, Outcome.FAILED, str(error), damaged=True)


def _state(
    store: Store,
    record: RecordingRecord,
    step: StepSpec,
    done: Mapping[str, OutputState],
    running: Collection[str],
) -> OutputState:
    key = record.key
    current = store.current(step.name, key)
    reasons = () if current is None else tuple(_differences(current, record, step, done))
    if step.name in running:
        return OutputState(key, step.name, Outcome.RUNNING, "", reasons, current)
    failure = store.failure(step.name, key)
    if failure is not None and not _is_repaired(failure, record, step, done):
        error = failure.error or {}
        detail = f"{error.get('type')}: {error.get('message')}"
        return OutputState(key, step.name, Outcome.FAILED, detail, reasons, current)
    if current is not None:
        detail = _skip_detail(current) if current.outcome is Outcome.SKIPPED else ""
        return OutputState(key, step.name, current.outcome, detail, reasons, current)
    if record.state == "vanished":
        return OutputState(key, step.name, Outcome.RAW_DATA_MISSING, record.reason)
    if record.recording is None:
        return OutputState(key, step.name, Outcome.RAW_DATA_MISSING, f"waits: {record.reason}")
    waits = _waits_on(record, step, done)
    return OutputState(key, step.name, Outcome.WAITING, waits, repaired=failure is not None)


def _is_repaired(
    failure: Manifest, record: RecordingRecord, step: StepSpec, done: Mapping[str, OutputState]
) -> bool:
    """Tell whether raw data changed since a failure, of this step or of one that it stands on."""
    used = {ref.asset: ref.version for ref in failure.inputs}
    raw = [need.asset for need in step.needs if need.asset in used and need.asset not in done]
    if any(used[name] not in (_ref_now(name, record, done).version, "missing") for name in raw):
        return True
    needed = [done[need.asset] for need in step.needs if need.asset in done]
    ended = {Outcome.COMPLETE, Outcome.SKIPPED}
    return any(s.repaired or (s.out_of_date and s.outcome in ended) for s in needed)


def _skip_detail(stored: Stored) -> str:
    skip = stored.manifest.skip or {}
    return f"{skip.get('reason')}: {skip.get('detail')}"


def _waits_on(record: RecordingRecord, step: StepSpec, done: Mapping[str, OutputState]) -> str:
    if record.state != "ready":
        return f"raw data: {record.reason}"
    origins: dict[str, None] = {}  # the first that is not made, not all in between
    for need in step.needs:
        state = done.get(need.asset)
        if state is None or state.outcome in (Outcome.COMPLETE, Outcome.SKIPPED):
            continue
        passed_on = state.outcome is Outcome.WAITING and state.detail != A_RUN
        found = state.detail.split(", ") if passed_on else [f"{need.asset} ({state.outcome.value})"]
        origins |= dict.fromkeys(found)
    return ", ".join(origins) or A_RUN


def _differences(
    current: Stored,
    record: RecordingRecord,
    step: StepSpec,
    done: Mapping[str, OutputState],
) -> Iterator[str]:
    """Say why making it now would give another version, or through which input it may."""
    refs = [_ref_now(need.asset, record, done) for need in step.needs]
    home = step.home(record)
    version = step.version(refs, home, record)
    if version != current.version:
        found = list(_direct_differences(current.manifest, step.values(home, record), step, refs))
        yield from found or [f"version: {current.version} to {version}"]
    for need in step.needs:
        if need.asset in done and done[need.asset].out_of_date:
            yield f"through: {need.asset}"


def _direct_differences(
    manifest: Manifest, values: Mapping[str, Any], step: StepSpec, refs: Sequence[InputRef]
) -> Iterator[str]:
    before, after = manifest.code_version.split("-")[0], step.parameters.algorithm_version
    if before != after:
        yield f"code: {before} to {after}"
    if step.clock != manifest.clock:
        yield f"clock: {manifest.clock} to {step.clock}"
    for field in sorted(values.keys() | manifest.parameters.keys()):
        old, new = manifest.parameters.get(field), jsonable(values.get(field))
        if old != new:
            yield f"parameters: {_change(field, old, new)}"
    for name, release in step.releases.items():
        recorded = manifest.packages.get(name, "")
        if recorded != release:
            yield f"packages: {name} {recorded or 'none'} -> {release or 'none'}"
    used = {ref.asset: ref.digest for ref in manifest.inputs}
    today = {ref.asset: ref.digest for ref in refs}
    for asset in sorted(used.keys() | today.keys()):
        if asset not in today:
            yield f"input: {asset} is no longer used"
        elif used.get(asset, "") != today[asset]:
            yield f"input: {asset}"


def _change(field: str, old: Any, new: Any) -> str:
    """Give both values of a field; of a table of limits only the names of what differs in it."""
    tables = [value or {} for value in (old, new) if isinstance(value or {}, dict)]
    if len(tables) < 2 or not any(tables):
        return f"{field} from {old} to {new}"
    before, after = tables
    names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    if len(names) == 1:
        return _change(f"{field}.{names[0]}", before.get(names[0]), after.get(names[0]))
    return f"{field} ({', '.join(names)})"


def _ref_now(asset: str, record: RecordingRecord, done: Mapping[str, OutputState]) -> InputRef:
    if (state := done.get(asset)) is not None:
        return state.stored.ref if state.stored else InputRef(asset=asset, version="missing")
    external = externals().get(asset)
    version = external.version(record) if external else ""
    return InputRef(asset=asset, version=version or "missing", digest=version)


def _finished(manifest: Manifest | None) -> datetime | None:
    if manifest is None:
        return None
    return manifest.started + timedelta(seconds=manifest.duration_s)
