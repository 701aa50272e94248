"""Gives the outputs of a store of format 1, which hung on input versions, today's versions.

What was committed is neither copied, changed nor computed again: beside it comes a manifest with
the digest of its content and the version of today, which says where the files are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuro_assets.assets.step import StepSpec
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.registry.registry import Registry
from neuro_assets.sources.raw_input import externals
from neuro_assets.store import InputRef, Manifest, Store, Stored
from neuro_assets.store.digest import content_digest
from neuro_assets.store.json_values import jsonable
from neuro_assets.store.model import CURRENT, FAILURE, MANIFEST

Progress = Callable[[str], None]


@dataclass
class Adopted:
    """What became of the outputs that counted.

    Parameters
    ----------
    n_outputs : int
        Adopted now.
    problems : list of str
        One line for each output that could not be; it will be made again.
    """

    n_outputs: int = 0
    problems: list[str] = field(default_factory=list)


def adopt_outputs(store: Store, steps: Sequence[StepSpec], progress: Progress) -> Adopted:
    """Give every output that counts a digest and a version of today; harmless when done twice.

    Parameters
    ----------
    store : Store
        May be of format 1.
    steps : sequence of StepSpec
        Needs first.
    progress : callable
        Called with the output that is looked at: digests are made of everything stored.

    Returns
    -------
    Adopted
        How many, and which not.
    """
    result = Adopted()
    digests: dict[tuple[str, str, str], str] = {}
    for step in steps:
        for key in store.keys(step.name):
            progress(f"{step.name} {key}")
            try:
                result.n_outputs += _adopt(store, step, key, digests)
            except PermanentFailure as error:
                result.problems.append(str(error))
    return result


def _adopt(
    store: Store, step: StepSpec, key: str, digests: dict[tuple[str, str, str], str]
) -> bool:
    pointer = store.read_pointer(step.name, key, CURRENT)
    if pointer is None or pointer.digest:
        return False
    old = store.stored(step.name, key, pointer.version, pointer.attempt)
    digest = content_digest(old.local(), old.manifest, {})
    digests[(step.name, key, pointer.attempt)] = digest
    refs = [_with_digest(store, key, ref, digests) for ref in old.manifest.inputs]
    values = _values(old.manifest, step, Registry(store).get(key))
    version = _version(old.manifest, step, values, refs)
    manifest = old.manifest.model_copy(
        update={
            "version": version,
            "parameters": jsonable(values),
            "inputs": refs,
            "digest": digest,
            "stored_in": old.path,
        }
    )
    home = f"{step.name}/{key}"
    store.backend.write(f"{home}/{version}/{pointer.attempt}/{MANIFEST}", manifest.to_json())
    failed = store.read_pointer(step.name, key, FAILURE)
    if failed is not None and failed.at < pointer.at:
        store.backend.remove(f"{home}/{FAILURE}")  # only clocks ordered the two
    # A run that goes on after the upgrade takes what counts.
    store.backend.remove_tree(f"{home}/runs")
    update = {"version": version, "digest": digest}
    store.backend.write(f"{home}/{CURRENT}", pointer.model_copy(update=update).to_json())
    return True


def _with_digest(
    store: Store, key: str, ref: InputRef, digests: dict[tuple[str, str, str], str]
) -> InputRef:
    """Find the digest of a recorded input: made already, external, or of an older attempt."""
    if ref.asset in externals():
        digest = "" if ref.version == "missing" else ref.version
        return ref.model_copy(update={"digest": digest})
    if not ref.attempt:
        return ref
    place = (ref.asset, key, ref.attempt)
    if place not in digests:
        old: Stored = store.stored(ref.asset, key, ref.version, ref.attempt)
        digests[place] = content_digest(old.local(), old.manifest, {})
    return ref.model_copy(update={"digest": digests[place]})


def _values(manifest: Manifest, step: StepSpec, record: RecordingRecord | None) -> dict[str, Any]:
    """Give the configuration that it was made with; values that were not recorded are today's."""
    values = step.values(manifest.key, record)
    return values | {name: old for name, old in manifest.parameters.items() if name in values}


def _version(
    manifest: Manifest, step: StepSpec, values: dict[str, Any], refs: Sequence[InputRef]
) -> str:
    algorithm = manifest.code_version.split("-")[0]
    packages = {name: manifest.packages.get(name, "") for name in step.releases}
    return step.version_with(algorithm, values, refs, packages, manifest.key)
