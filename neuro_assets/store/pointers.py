"""Writing the pointers of a key: which attempt counts, what a run made, what failed last.

Of two writers the one with the higher turn wins, whenever it writes; no clock is asked.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection

from pydantic import ValidationError

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.errors import NotAFileError
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.model import (
    CURRENT,
    FAILURE,
    MANIFEST,
    RENAMED,
    SESSION_PREFIX,
    Manifest,
    Pointer,
    checked_name,
    now,
)
from neuro_assets.store.stored import Stored, is_copied

_ATTEMPT = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")


def new_attempt_id() -> str:
    """Make a name that sorts by time and that no other try has."""
    return f"{now():%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"


def is_attempt_id(name: str) -> bool:
    """Tell whether `new_attempt_id` may have made a name."""
    return _ATTEMPT.fullmatch(name) is not None


def readable_pointer(store: StoreFiles, path: str) -> Pointer | None:
    """Read a pointer for a writer, whom a damaged one must not stop.

    Parameters
    ----------
    store : StoreFiles
        The store.
    path : str
        Of the pointer, relative to the store.

    Returns
    -------
    Pointer or None
        None where there is none, or where it is damaged.
    """
    try:
        return Pointer.model_validate_json(store.backend.read(path))
    except (FileNotFoundError, ValidationError, NotAFileError):
        return None


def is_shared(store: StoreFiles, asset: str, key: str) -> bool:
    """Tell whether outputs of a key count for other keys: a session's, or a renamed recording's.

    Parameters
    ----------
    store : StoreFiles
        The store.
    asset, key : str
        Under which the outputs stand.

    Returns
    -------
    bool
        Their pointers are then below those other keys.
    """
    if key.startswith(SESSION_PREFIX):
        return True
    return store.backend.entry(f"{asset}/{key}/{RENAMED}") is not None


def adopt(
    store: StoreFiles, stored: Stored, run_id: str | None, turn: int, counts_for: str = ""
) -> None:
    """See `Store.adopt`."""
    asset, key = stored.asset, counts_for or stored.key
    pointer = Pointer(
        version=stored.version,
        attempt=stored.attempt,
        outcome=stored.outcome,
        digest=stored.digest,
        turn=turn,
        key=stored.key if counts_for else "",
        owner=f"{asset}/{key}",
    )
    if run_id:
        path = f"{asset}/{key}/runs/{checked_name(run_id, 'run id')}.json"
        store.backend.write(path, pointer.to_json())
    with store.backend.lock(f"{asset}/{key}") as locked:
        failed = readable_pointer(store, f"{asset}/{key}/{FAILURE}")
        if failed is not None and (failed.turn <= turn or is_foreign(store, asset, key, failed)):
            store.backend.remove(f"{asset}/{key}/{FAILURE}")
        advance(store, asset, key, pointer)
    if not locked:
        settle(store, asset, key)


def fail(store: StoreFiles, manifest: Manifest) -> None:
    """See `Store.fail`."""
    if manifest.outcome is not Outcome.FAILED:
        raise PermanentFailure(f"{manifest.outcome.value} is not a failure: commit it instead")
    attempt = new_attempt_id()
    asset, key = manifest.asset, manifest.key
    filled = manifest.model_copy(update={"attempt": attempt, "files": []})
    path = f"{asset}/{key}/{manifest.version}/{attempt}/{MANIFEST}"
    store.backend.write(path, filled.to_json())
    pointer = Pointer(
        version=manifest.version,
        attempt=attempt,
        outcome=Outcome.FAILED,
        turn=manifest.turn,
        owner=f"{asset}/{key}",
    )
    with store.backend.lock(f"{asset}/{key}"):
        advance(store, asset, key, pointer, FAILURE)


def advance(store: StoreFiles, asset: str, key: str, pointer: Pointer, name: str = CURRENT) -> None:
    """Write a pointer unless there is one of a higher turn.

    Parameters
    ----------
    store : StoreFiles
        The store, writable.
    asset, key : str
        Whose pointer.
    pointer : Pointer
        That one.
    name : str
        Of its file below `<asset>/<key>`.
    """
    before = readable_pointer(store, f"{asset}/{key}/{name}")
    higher = before is not None and before.turn > pointer.turn
    if not higher or is_foreign(store, asset, key, before):
        store.backend.write(f"{asset}/{key}/{name}", pointer.to_json())


def is_foreign(store: StoreFiles, asset: str, key: str, pointer: Pointer | None) -> bool:
    """Tell whether a pointer lies in a folder that somebody copied or renamed; its turn is void.

    Parameters
    ----------
    store : StoreFiles
        The store.
    asset, key : str
        In whose folder it lies.
    pointer : Pointer or None
        As read.

    Returns
    -------
    bool
        Of a pointer that does not name its owner, what its manifest says.
    """
    if pointer is None or pointer.owner:
        return pointer is not None and pointer.owner != f"{asset}/{key}"
    place = (asset, pointer.key or key, pointer.version, pointer.attempt)
    try:
        manifest = store.read_manifest(*place)
    except PermanentFailure:
        return False
    return manifest is not None and is_copied(manifest, *place)


def settle(
    store: StoreFiles, asset: str, key: str, *, without: Collection[str] = frozenset()
) -> None:
    """Where there are no locks: look again after each write, until the highest turn counts.

    A run's own pointer is written before `current.json`. Whoever writes `current.json` last sees
    the pointers of all runs that wrote before it, so the highest turn has the last word.

    Parameters
    ----------
    store : StoreFiles
        The store, writable.
    asset, key : str
        Whose pointer was written.
    without : collection of str
        Attempts that are damaged, and must not count again.
    """
    while True:
        names = store.backend.names(f"{asset}/{key}/runs")
        found = [readable_pointer(store, f"{asset}/{key}/runs/{name}") for name in names]
        sound = (p for p in found if p is not None and p.attempt not in without)
        highest = max(sound, key=lambda p: p.turn, default=None)
        current = readable_pointer(store, f"{asset}/{key}/{CURRENT}")
        if highest is None or current is None or highest.turn <= current.turn:
            return
        store.backend.write(f"{asset}/{key}/{CURRENT}", highest.to_json())
