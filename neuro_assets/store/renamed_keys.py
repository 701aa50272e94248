"""Keys that a person renamed, as the store's files tell: which one counts, what was left out."""

from __future__ import annotations

from collections.abc import Iterator

from neuro_assets.store.model import CURRENT, RENAMED
from neuro_assets.store.pointers import readable_pointer
from neuro_assets.store.reader import StoreReader


def names_of(store: StoreReader, asset: str, key: str) -> list[str]:
    """Follow what stands in the place of the pointers of a renamed key.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        Where to begin.

    Returns
    -------
    list of str
        That key, the next one and so on; in a circle the last one is there twice.

    Raises
    ------
    PermanentFailure
        When one of the files is damaged.
    """
    keys = [key]
    while len(set(keys)) == len(keys):
        path = f"{asset}/{keys[-1]}/{RENAMED}"
        if (found := store.read_json(path)) is None:
            break
        if not isinstance(found, dict) or not isinstance(found.get("renamed_to"), str):
            raise store.damaged(path)
        keys.append(found["renamed_to"])
    return keys


def home_of(store: StoreReader, asset: str, key: str) -> str:
    """Find the key under which what counts for another stands.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        For which it counts, or did.

    Returns
    -------
    str
        The last name of the key where nothing counts.
    """
    if (pointer := readable_pointer(store, f"{asset}/{key}/{CURRENT}")) is not None:
        return pointer.key or key
    last = names_of(store, asset, key)[-1]
    pointer = readable_pointer(store, f"{asset}/{last}/{CURRENT}")
    return pointer.key or last if pointer else last


def earlier_keys(store: StoreReader, asset: str, key: str) -> list[str]:
    """List the keys that a person renamed to one, of which an asset has anything stored.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        The key of today.

    Returns
    -------
    list of str
        Under the first of them its outputs stand.
    """
    others = (each for each in store.keys(asset) if each != key)
    return [each for each in others if names_of(store, asset, each)[-1] == key]


def left_out(
    store: StoreReader, asset: str, key: str, source: str
) -> Iterator[tuple[str, str, str]]:
    """Find results of a renamed key that nobody reads.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        Whose results.
    source : str
        An asset in which the renaming is noted; a run that was killed notes nothing in its own.

    Yields
    ------
    key, path, detail : str
        Of which key, which of its files, and what is wrong with it.
    """
    names = names_of(store, source, key)
    if (new := names[-1]) in names[:-1]:
        if key == min(names[names.index(new) :]):
            shown = " -> ".join(names)
            detail = f"leads in a circle, {shown}: remove that of the key of today"
            yield key, RENAMED, detail
        return
    own = readable_pointer(store, f"{asset}/{key}/{CURRENT}")
    counts = readable_pointer(store, f"{asset}/{new}/{CURRENT}")
    if own is None:
        is_lost = store.backend.entry(f"{asset}/{new}/{CURRENT}") is None
        if is_lost and any(
            store.stored(asset, key, version, attempt).is_intact()
            for version in store.versions(asset, key)
            for attempt in store.attempts(asset, key, version)
        ):
            yield new, CURRENT, "is gone: nothing counts"
    elif counts is None or (counts.attempt != own.attempt and counts.turn <= own.turn):
        yield key, CURRENT, f"counts for nobody: {key} is renamed to {new}"
