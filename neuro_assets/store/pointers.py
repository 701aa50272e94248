"""Writing the pointers of a key: which attempt counts, what a run made, what failed last."""

from __future__ import annotations

import secrets

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.model import MANIFEST, Manifest, Pointer, checked_name, now
from neuro_assets.store.stored import Stored


def new_attempt_id() -> str:
    """Make a name that sorts by time and that no other try has."""
    return f"{now():%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"


def adopt(store: StoreFiles, stored: Stored, run_id: str | None) -> None:
    """See `Store.adopt`."""
    pointer = Pointer(version=stored.version, attempt=stored.attempt, outcome=stored.outcome)
    home = f"{stored.asset}/{stored.key}"
    if run_id:
        path = f"{home}/runs/{checked_name(run_id, 'run id')}.json"
        store.backend.write(path, pointer.to_json())
    store.backend.write(f"{home}/current.json", pointer.to_json())


def fail(store: StoreFiles, manifest: Manifest) -> None:
    """See `Store.fail`."""
    if manifest.outcome is not Outcome.FAILED:
        raise PermanentFailure(f"{manifest.outcome.value} is not a failure: commit it instead")
    attempt = new_attempt_id()
    home = f"{manifest.asset}/{manifest.key}"
    filled = manifest.model_copy(update={"attempt": attempt, "files": []})
    path = f"{home}/{manifest.version}/{attempt}/{MANIFEST}"
    store.backend.write(path, filled.to_json())
    pointer = Pointer(version=manifest.version, attempt=attempt, outcome=Outcome.FAILED)
    store.backend.write(f"{home}/failure.json", pointer.to_json())
