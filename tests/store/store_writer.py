"""What the child processes of the hostile store tests do; imported once by the fork server."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import signal
from pathlib import Path

from neuro_assets.store import Manifest, Store, Stored

ASSET, KEY = "units", "M1_20240512_1_probe00"
VERSIONS = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc")


def content(seed: str, name: str, size: int) -> bytes:
    """Bytes that tell which attempt and file they belong to."""
    block = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return (block * (size // 32 + 1))[:size]


def write_once(
    store: Store, version: str, *, force: bool = False, files: int | None = None
) -> Stored:
    """One run of a step: reuse what is committed, else write and commit."""
    if not force and (done := store.committed(ASSET, KEY, version)):
        store.adopt(done)
        return done
    with store.attempt(ASSET, KEY, version) as attempt:
        rng = random.Random(attempt.id)
        for index in range(files or rng.randint(3, 8)):
            path = attempt.folder / f"traces.zarr/{index % 3}/{index}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(attempt.id, str(index), rng.randint(1, 60_000)))
        made = Manifest(asset=ASSET, key=KEY, version=version, outcome="complete")
        return attempt.commit(made)


def check_whole(stored: Stored) -> None:
    """Every file is there and is of this attempt."""
    folder = stored.local()
    for entry in stored.manifest.files:
        data = (folder / entry.path).read_bytes()
        name = Path(entry.path).name
        assert data == content(stored.attempt, name, entry.size), entry.path
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {entry.path for entry in stored.manifest.files} | {"manifest.json"}


def write_for_ever(url: str, scratch: str, ready, options: dict | None = None) -> None:
    """Commit over and over, every time another version, until killed."""
    store = Store(url, scratch=Path(scratch), storage_options=options)
    store.current(ASSET, KEY)
    ready.set()
    index = random.randrange(3)
    while True:
        write_once(store, VERSIONS[index % 3], force=True)
        index += 1


def write_and_die(url: str, scratch: str, at_call: int) -> None:
    """Die by SIGKILL just before the nth durable operation of one commit."""
    calls = [0]

    def counted(real):
        def call(*args, **more):
            calls[0] += 1
            if calls[0] == at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.mkdir = counted(Path.mkdir)  # type: ignore[method-assign]
    # The same number of files each time, so that the nth operation is always the same one.
    write_once(Store(url, scratch=Path(scratch)), VERSIONS[0], force=True, files=5)


def race(url: str, scratch: str, who: str, barrier, answers, locks: bool, options=None) -> None:
    """Write the same version as another process, at the same moment."""
    if not locks:

        def no_lock(*_):
            raise OSError(errno.ENOLCK, "no locks available")

        fcntl.flock = no_lock
    store = Store(url, scratch=Path(scratch), storage_options=options)
    with store.attempt(ASSET, KEY, VERSIONS[0]) as attempt:
        for index in range(10):
            (attempt.folder / f"{who}-{index}").write_bytes(who.encode() * 100)
        barrier.wait(60)
        made = Manifest(
            asset=ASSET, key=KEY, version=VERSIONS[0], outcome="complete", run_id=f"run-{who}"
        )
        answers.put((who, attempt.id, attempt.commit(made).attempt))


def leave_scratch(url: str, scratch: str) -> None:
    """End in the ordinary way with something in the scratch folder."""
    attempt = Store(url, scratch=Path(scratch)).attempt(ASSET, KEY, VERSIONS[0]).__enter__()
    (attempt.scratch / "big").write_bytes(b"x")
