"""The order of a key's runs: each takes the next turn, once, and no clock decides."""

from __future__ import annotations

from typing import Any

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store import Store
from neuro_assets.store.model import checked_name

_FOLDER = "registry/turns"
_MOST_TRIES = 100


def take_turn(store: Store, key: str, run_id: str) -> int:
    """Give a run its turn for a key.

    A turn is a file `registry/turns/<key>/<n>.json` that one run creates and no other can; where
    the place has no exclusive creation, the rule of the single writer holds. `run-<id>.json` says
    first from which number on the run looks for its own or a free one, so that it has one turn
    wherever it was killed, and then which it has.

    Parameters
    ----------
    store : Store
        The lab's store.
    key : str
        The recording, or another key of the store.
    run_id : str
        Dagster's run; its steps, in whatever processes, get the same turn.

    Returns
    -------
    int
        From 1; higher than that of every run that asked before.

    Raises
    ------
    TransientFailure
        When other runs take every turn that is tried.
    """
    folder = f"{_FOLDER}/{checked_name(key, 'key')}"
    own = f"{folder}/run-{checked_name(run_id, 'run id')}.json"
    known = _read(store, own)
    if "turn" in known:
        return int(known["turn"])
    last = _last(store, folder)
    if not known:
        # Of several steps of the run, all begin where the first does.
        store.create_json(own, {"from": max(last, 1)})
        known = _read(store, own)
        if "turn" in known:
            return int(known["turn"])
    for turn in range(int(known.get("from", 1)), last + _MOST_TRIES):
        mine = store.create_json(f"{folder}/{turn}.json", {"run_id": run_id})
        if mine or _read(store, f"{folder}/{turn}.json").get("run_id") == run_id:
            store.write_json_atomic(own, {"turn": turn})
            return turn
    raise TransientFailure(f"other runs take every turn of {key}: try again")


def copy_last_turn(store: Store, old: str, new: str) -> None:
    """Let the turns of a new key go on behind those of the old one.

    Parameters
    ----------
    store : Store
        The lab's store.
    old, new : str
        Keys of one recording; no run of either lives.
    """
    if last := _last(store, f"{_FOLDER}/{checked_name(old, 'key')}"):
        store.create_json(f"{_FOLDER}/{checked_name(new, 'key')}/{last}.json", {"renamed": old})


def _last(store: Store, folder: str) -> int:
    names = [name.removesuffix(".json") for name in store.backend.names(folder)]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def verify_turns(store: Store, *, repair: bool = False) -> list[str]:
    """Find files of turns that are damaged: they stop no run, but say nothing of theirs.

    Parameters
    ----------
    store : Store
        The lab's store.
    repair : bool
        Empty them: a number stays taken by its name.

    Returns
    -------
    list of str
        One line for each.
    """
    defects = []
    for key in store.backend.names(_FOLDER):
        for name in store.backend.names(f"{_FOLDER}/{key}"):
            path = f"{_FOLDER}/{key}/{name}"
            if _sound(store, path) is None:
                defects.append(f"{path} is damaged: nobody can tell which run had this turn")
                if repair and store.backend.entry(path) is not None:
                    store.write_json_atomic(path, {})
    return defects


def _read(store: Store, path: str) -> dict[str, Any]:
    """Read a file of a turn; a damaged one is nobody's, and its number is taken by its name."""
    return _sound(store, path) or {}


def _sound(store: Store, path: str) -> dict[str, Any] | None:
    try:
        found = store.read_json(path)
    except PermanentFailure:
        return None
    return found if isinstance(found, dict) else None
