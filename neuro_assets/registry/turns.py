"""The order of a key's runs: each takes the next turn, once, and no clock decides."""

from __future__ import annotations

from neuro_assets.outcomes import TransientFailure
from neuro_assets.store import Store
from neuro_assets.store.model import checked_name

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
    folder = f"registry/turns/{checked_name(key, 'key')}"
    own = f"{folder}/run-{checked_name(run_id, 'run id')}.json"
    known = store.read_json(own)
    if known is not None and "turn" in known:
        return int(known["turn"])
    names = [name.removesuffix(".json") for name in store.backend.names(folder)]
    last = max((int(name) for name in names if name.isdecimal()), default=0)
    if known is None:
        # Of several steps of the run, all begin where the first does.
        store.create_json(own, {"from": max(last, 1)})
        known = store.read_json(own) or {}
        if "turn" in known:
            return int(known["turn"])
    for turn in range(int(known.get("from", 1)), last + _MOST_TRIES):
        mine = store.create_json(f"{folder}/{turn}.json", {"run_id": run_id})
        if mine or (store.read_json(f"{folder}/{turn}.json") or {}).get("run_id") == run_id:
            store.write_json_atomic(own, {"turn": turn})
            return turn
    raise TransientFailure(f"other runs take every turn of {key}: try again")
