"""What a run records for a recording that a person gave another key after the run began.

Whoever renames moves every pointer that was written before the renaming's transaction. Who writes
one reads the registry afterwards and finds the transaction, or was moved: nothing is left out.
"""

from __future__ import annotations

from neuro_assets.registry.registry import Registry
from neuro_assets.store import Manifest, Store, Stored
from neuro_assets.store.renaming import move_pointers


def follow_output(store: Store, stored: Stored, key: str, run_id: str, turn: int) -> str:
    """Let an output that was adopted for a key count for its recording, whatever that is named.

    Parameters
    ----------
    store : Store
        The lab's store.
    stored : Stored
        What counts.
    key : str
        For which it was adopted.
    run_id : str
        Of which run.
    turn : int
        Of that run.

    Returns
    -------
    str
        The key for which it counts.
    """
    while new := _renamed_to(store, key):
        store.adopt(stored, run_id, turn, new)
        move_pointers(store, key, new, stored.asset)
        key = new
    return key


def fail(store: Store, manifest: Manifest) -> None:
    """Record a failure for a recording, whatever that is named by now; see `Store.fail`.

    Parameters
    ----------
    store : Store
        The lab's store.
    manifest : Manifest
        Of the failure, with the key that the recording had.
    """
    store.fail(manifest)
    while new := _renamed_to(store, manifest.key):
        old, manifest = manifest.key, manifest.model_copy(update={"key": new})
        store.fail(manifest)
        move_pointers(store, old, new, manifest.asset)


def _renamed_to(store: Store, key: str) -> str:
    record = Registry(store).get(key)
    return record.alias_of if record else ""
