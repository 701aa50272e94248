"""Mending what `verify` found: which intact attempt counts where the one that counts is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.model import CURRENT, RENAMED, Pointer
from neuro_assets.store.pointers import is_foreign, readable_pointer, settle
from neuro_assets.store.reader import StoreReader
from neuro_assets.store.renamed_keys import earlier_keys, names_of
from neuro_assets.store.renaming import move_pointers
from neuro_assets.store.verify import Defect, attempts_of, is_outdated, is_readable

_SOUND = {"input", "copy", "extra"}
"""Kinds of defects that leave the attempt of that id intact where it was made."""


@dataclass(frozen=True)
class Repair:
    """What became of a damaged output that counts.

    Parameters
    ----------
    asset, key : str
        Which one.
    attempt : str
        The intact attempt that counts now; empty where there is none.
    error : str
        Why it is not even known which attempt may count; nothing else is held up by it.
    """

    asset: str
    key: str
    attempt: str
    error: str = ""


def repair(store: StoreReader, defects: list[Defect]) -> list[Repair]:
    """Let an intact attempt count where the one that counts is damaged; no output is removed.

    Parameters
    ----------
    store : StoreReader
        The store.
    defects : list of Defect
        From `find_defects`.

    Returns
    -------
    list of Repair
        One for each output whose counting attempt is damaged, or that cannot be mended.
    """
    found: list[Repair] = []
    damaged = {each.attempt for each in defects if each.kind not in _SOUND} - {""}
    homes = set()
    for each in (each for each in defects if each.kind == "pointer"):
        if each.path == RENAMED:
            continue  # a person has to tell which key it has
        if each.path == CURRENT:
            homes.add((each.asset, each.key))
        else:
            found += _contained(
                store, each.asset, each.key, partial(_remove_unreadable, store, each)
            )
    for asset in {each.asset for each in defects if each.attempt in damaged}:
        # The output of a session stands under a key of its own and counts for its recordings.
        for key in store.keys(asset):
            pointer = readable_pointer(store, f"{asset}/{key}/{CURRENT}")
            if pointer is None or pointer.owner not in ("", f"{asset}/{key}"):
                continue  # of another output, in a folder that somebody copied
            if pointer.attempt in damaged:
                homes.add((asset, key))
    for home in sorted(homes):
        found += _contained(store, *home, partial(_repair_key, store, *home, damaged))
    return found


def _contained(
    store: StoreReader, asset: str, key: str, mend: Callable[[], Repair | None]
) -> list[Repair]:
    """Go on behind one output that a person has to look at first."""
    try:
        done = mend()
    except PermanentFailure as error:
        store.backend.require()
        return [Repair(asset, key, "", str(error))]
    return [done] if done else []


def _remove_unreadable(store: StoreReader, defect: Defect) -> None:
    """Remove what stops its readers and tells nothing: a failure, a run's pointer, a judgement."""
    path = f"{defect.asset}/{defect.key}/{defect.path}"
    with store.backend.lock(f"{defect.asset}/{defect.key}"):
        if not is_readable(store, path):
            store.backend.remove(path)


def _repair_key(store: StoreReader, asset: str, key: str, damaged: set[str]) -> Repair | None:
    if (new := _renamed_to(store, key)) != key:
        move_pointers(store, key, new, asset)
        return _repair_key(store, asset, new, damaged) or _counting(store, asset, new)
    path = f"{asset}/{key}/{CURRENT}"
    with store.backend.lock(f"{asset}/{key}") as locked:
        pointer = readable_pointer(store, path)
        if is_foreign(store, asset, key, pointer):
            pointer = None  # a copy of another output's; with a folder of copies nothing is intact
        sound = pointer is not None and pointer.attempt not in damaged
        if sound and pointer and not is_outdated(store, asset, key, pointer):
            return None
        for found in _candidates(store, asset, key, pointer):
            stored = store.stored(asset, found.key or key, found.version, found.attempt)
            if stored.attempt in damaged or not stored.is_intact():
                continue
            values = {"outcome": stored.outcome, "digest": stored.manifest.digest}
            store.backend.write(path, found.model_copy(update=values).to_json())
            if not locked:
                settle(store, asset, key, without=damaged)
            counts = readable_pointer(store, path) or found
            return Repair(asset, key, counts.attempt)
    return Repair(asset, key, "")


def _renamed_to(store: StoreReader, key: str) -> str:
    """Follow a renaming that any asset tells of."""
    names = [names_of(store, asset, key) for asset in store.assets()]
    return next((each[-1] for each in names if len(set(each)) == len(each) > 1), key)


def _counting(store: StoreReader, asset: str, key: str) -> Repair:
    counts = readable_pointer(store, f"{asset}/{key}/{CURRENT}")
    return Repair(asset, key, counts.attempt if counts else "")


def _candidates(store: StoreReader, asset: str, key: str, pointer: Pointer | None) -> list[Pointer]:
    """List what may count: other attempts of that version; of a lost pointer all, by turn."""
    homes = [pointer.key or key] if pointer else [key, *earlier_keys(store, asset, key)]
    only = pointer.version if pointer else ""
    found = []
    for stored in (each for home in homes for each in attempts_of(store, asset, home, only)):
        if stored.is_intact():
            made = Pointer(
                version=stored.version,
                attempt=stored.attempt,
                outcome=stored.outcome,
                turn=pointer.turn if pointer else stored.manifest.turn,
                key=stored.key if stored.key != key else "",
                owner=f"{asset}/{key}",
            )
            found.append(made)
    if pointer is None:
        runs = store.backend.names(f"{asset}/{key}/runs")
        pointers = (readable_pointer(store, f"{asset}/{key}/runs/{name}") for name in runs)
        found += [each for each in pointers if each and each.owner in ("", f"{asset}/{key}")]
    same = pointer.attempt if pointer else ""
    return sorted(found, key=lambda one: (one.attempt == same, one.turn, one.attempt), reverse=True)
