"""A recording's new key in the store: its pointers are written anew, its outputs stay in place."""

from __future__ import annotations

from collections.abc import Iterator

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.model import CURRENT, FAILURE, MANIFEST, RENAMED, Pointer
from neuro_assets.store.pointers import advance, is_foreign
from neuro_assets.store.reader import StoreReader
from neuro_assets.store.verify import attempts_of


def pointers_of(store: StoreReader, key: str, only: str = "") -> Iterator[tuple[str, str, Pointer]]:
    """Read every pointer of a key.

    Parameters
    ----------
    store : StoreReader
        The lab's store.
    key : str
        The recording.
    only : str
        Of this asset; of all where empty.

    Yields
    ------
    asset, name : str
        Whose, and the file below `<asset>/<key>`.
    pointer : Pointer
        What it says; not of copies that somebody made.

    Raises
    ------
    PermanentFailure
        When one is damaged.
    """
    for asset in [only] if only else store.assets():
        runs = store.backend.names(f"{asset}/{key}/runs")
        for name in [*(f"runs/{run}" for run in runs if run.endswith(".json")), FAILURE, CURRENT]:
            found = store.read_pointer(asset, key, name)
            if found is not None and not is_foreign(store, asset, key, found):
                yield asset, name, found


def copy_pointers(store: StoreReader, old: str, new: str, only: str = "") -> None:
    """Let everything that counts for a key count for another; done twice it is the same.

    Parameters
    ----------
    store : StoreReader
        The lab's store.
    old, new : str
        Keys; what counts for the new one with a higher turn goes on to do so.
    only : str
        Of this asset; of all where empty.
    """
    # Failures last: they cite what counts.
    pointers = pointers_of(store, old, only)
    found = sorted(pointers, key=lambda each: each[2].outcome is Outcome.FAILED)
    for asset, name, pointer in found:
        update = {"owner": f"{asset}/{new}", "key": pointer.key or old}
        if pointer.outcome is Outcome.FAILED:  # stands under the key whose run it was
            update["key"] = ""
            place = f"{pointer.version}/{pointer.attempt}"
            manifest = store.read_manifest(asset, old, pointer.version, pointer.attempt)
            if manifest is None:
                continue
            moved = manifest.model_copy(update={"key": new})
            store.backend.write(f"{asset}/{new}/{place}/{MANIFEST}", moved.to_json())
        with store.backend.lock(f"{asset}/{new}"):
            advance(store, asset, new, pointer.model_copy(update=update), name)


def remove_copies(store: StoreReader, new: str) -> None:
    """Take back `copy_pointers`; outputs are never removed.

    Parameters
    ----------
    store : StoreReader
        The lab's store.
    new : str
        A key that no recording has or had.

    Raises
    ------
    PermanentFailure
        When somebody put outputs there; of that asset nothing is removed.
    """
    for asset in store.assets():
        for stored in attempts_of(store, asset, new):
            if stored.manifest.outcome is not Outcome.FAILED or stored.manifest.files:
                raise PermanentFailure(
                    f"{asset}/{new} in the store {store.url} holds an output that no renaming put "
                    "there: see what it is, move it away and try again"
                )
        if new in store.keys(asset):
            store.backend.remove_tree(f"{asset}/{new}")


def move_pointers(store: StoreReader, old: str, new: str, only: str = "") -> None:
    """Leave under a renamed key what the pointers of the new one name, and say so.

    Parameters
    ----------
    store : StoreReader
        The lab's store.
    old, new : str
        Keys. What was written below the old one since `copy_pointers` goes along.
    only : str
        Of this asset; of all where empty.
    """
    copy_pointers(store, old, new, only)
    for asset in [only] if only else store.assets():
        if old in store.keys(asset):
            store.write_json_atomic(f"{asset}/{old}/{RENAMED}", {"renamed_to": new})
        for name in (CURRENT, FAILURE):
            store.backend.remove(f"{asset}/{old}/{name}")
        store.backend.remove_tree(f"{asset}/{old}/runs")
