"""The store against kills, races, full disks and read-only folders."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from store_writer import (
    ASSET,
    KEY,
    VERSIONS,
    check_whole,
    leave_scratch,
    race,
    write_and_die,
    write_for_ever,
    write_once,
)

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store import Manifest, Store, Stored
from neuro_assets.store import attempt as store_attempt
from neuro_assets.store import local as local_module

KILLS = 30


@pytest.fixture(scope="module")
def processes():
    """Quick children: a fork server that has imported the store already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "numpy", "neuro_assets.store.store"])
    return context


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", scratch=tmp_path / "scratch")


def committed_attempts(store: Store) -> set[tuple[str, str]]:
    return {
        (version, attempt)
        for version in VERSIONS
        for attempt in store.attempts(ASSET, KEY, version)
    }


def check_store(store: Store, before: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All that was committed is still whole, and what counts is whole."""
    after = committed_attempts(store)
    assert before <= after, "a committed output was lost"
    current = store.current(ASSET, KEY)
    if current is not None:
        check_whole(current)
        assert (current.version, current.attempt) in after
    for version, attempt in after - before:
        check_whole(store.stored(ASSET, KEY, version, attempt))
    return after


def test_a_kill_at_any_moment_shows_no_half_output_and_loses_none(store, tmp_path, processes):
    rng = random.Random(1)
    done: set[tuple[str, str]] = set()
    for _ in range(KILLS):
        ready = processes.Event()
        child = processes.Process(
            target=write_for_ever, args=(store.url, str(tmp_path / "scratch"), ready)
        )
        child.start()
        assert ready.wait(120)
        end = time.monotonic() + rng.uniform(0.02, 0.35)
        while time.monotonic() < end:  # a reader at work meanwhile
            if (current := store.current(ASSET, KEY)) is not None:
                check_whole(current)
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        done = check_store(store, done)
    assert len(done) > KILLS / 3, "the writer hardly got to write: the test proves nothing"
    for version in VERSIONS:
        check_whole(write_once(store, version))
    assert store.verify() == []


def test_a_kill_before_each_single_durable_operation_of_a_commit(store, tmp_path, processes):
    """Deterministic: between any two steps of the commit, from the first folder to the pointer."""
    first = write_once(store, VERSIONS[1])
    done = check_store(store, set())
    survived = False
    for at_call in range(1, 200):
        child = processes.Process(
            target=write_and_die, args=(store.url, str(tmp_path / "scratch"), at_call)
        )
        child.start()
        child.join()
        done = check_store(store, done)
        if child.exitcode == 0:
            survived = True
            break
        assert child.exitcode == -signal.SIGKILL
    assert survived and at_call > 15
    assert store.stored(ASSET, KEY, first.version, first.attempt).is_intact()
    # A kill between manifest and pointer leaves a committed output: the rerun only adopts it.
    assert len(store.attempts(ASSET, KEY, VERSIONS[0])) > 1
    check_whole(write_once(store, VERSIONS[0]))
    garbage = store.gc(older_than_h=0, dry_run=False)
    assert {item.kind for item in garbage} >= {"uncommitted", "scratch"}
    assert store.verify() == []
    assert store.gc(older_than_h=0) == []
    check_whole(store.current(ASSET, KEY))
    check_whole(first)


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without locks"])
def test_two_processes_at_once_end_in_one_attempt_without_a_file_of_the_other(
    tmp_path, processes, locks
):
    for turn in range(4 if locks else 2):
        store = Store(tmp_path / f"store{turn}")
        barrier, answers = processes.Barrier(2), processes.Queue()
        children = [
            processes.Process(
                target=race,
                args=(store.url, str(tmp_path / "scratch"), who, barrier, answers, locks),
            )
            for who in ("one", "two")
        ]
        for child in children:
            child.start()
        got = [answers.get(timeout=120) for _ in children]
        for child in children:
            child.join()
        [winner] = {adopted for _, _, adopted in got}
        [name] = [who for who, mine, adopted in got if mine == adopted]
        assert store.attempts(ASSET, KEY, VERSIONS[0]) == [winner]
        stored = store.current(ASSET, KEY)
        assert stored.attempt == winner
        folder = stored.local()
        assert {p.name for p in folder.iterdir()} == {
            "manifest.json",
            *(f"{name}-{index}" for index in range(10)),
        }
        for who in ("one", "two"):
            assert store.produced_by(f"run-{who}", ASSET, KEY) == stored
        versions = [p for p in folder.parent.iterdir() if p.is_dir()]
        assert versions == [folder], "the loser's folder is gone"


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])
def test_scratch_goes_with_its_process_however_that_was_started(store, tmp_path, processes, how):
    context = processes if how == "forkserver" else multiprocessing.get_context(how)
    with store.attempt(ASSET, KEY, VERSIONS[1]) as mine:
        child = context.Process(target=leave_scratch, args=(store.url, str(tmp_path / "scratch")))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        assert mine.scratch.is_dir(), "a child does not remove its parent's"


def without_locks(store: Store, monkeypatch) -> None:
    """Behave like a place that has no locks, and do not wait long for the other."""
    monkeypatch.setattr(store.backend, "lock", lambda folder: nullcontext(False))
    monkeypatch.setattr(store_attempt, "_SETTLE_S", 0.3)


def commit_while(store: Store, who: str, monkeypatch, *, before=None, after=None) -> Stored:
    """Commit; do something just before or just after the manifest is written."""
    real = store.backend.write

    def write(path, data):
        if before is not None and path.endswith("manifest.json"):
            before()
        real(path, data)
        if after is not None and path.endswith("manifest.json"):
            after()

    monkeypatch.setattr(store.backend, "write", write)
    with store.attempt(ASSET, KEY, VERSIONS[0]) as attempt:
        (attempt.folder / who).write_text(who)
        made = Manifest(asset=ASSET, key=KEY, version=VERSIONS[0], outcome="complete")
        return attempt.commit(made)


def test_without_locks_two_that_saw_each_other_agree_on_one(store, monkeypatch):
    twin = Store(store.url, scratch=store.scratch)
    both_checked, both_written = threading.Barrier(2, timeout=60), threading.Barrier(2, timeout=60)
    for each in (store, twin):
        without_locks(each, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        one, two = (
            pool.submit(
                commit_while,
                each,
                who,
                monkeypatch,
                before=both_checked.wait,
                after=both_written.wait,
            )
            for each, who in ((store, "one"), (twin, "two"))
        )
        assert one.result() == two.result()
    assert store.attempts(ASSET, KEY, VERSIONS[0]) == [one.result().attempt]
    assert store.current(ASSET, KEY) == one.result()
    assert one.result().is_intact()


def test_without_locks_the_later_one_gives_way_to_one_that_never_saw_it(store, monkeypatch):
    twin = Store(store.url, scratch=store.scratch)
    without_locks(store, monkeypatch)
    without_locks(twin, monkeypatch)
    first = []

    def meanwhile():
        first.append(commit_while(twin, "first", monkeypatch))

    assert commit_while(store, "later", monkeypatch, before=meanwhile) == first[0]
    assert store.attempts(ASSET, KEY, VERSIONS[0]) == [first[0].attempt]
    assert store.current(ASSET, KEY) == first[0]


# -- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB of our own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and text
    return text


def test_a_full_disk_is_a_permanent_failure_and_what_was_committed_stays(small_disk, tmp_path):
    store = Store(small_disk / "store", scratch=tmp_path / "scratch")
    kept = write_once(store, VERSIONS[0])
    with pytest.raises(PermanentFailure) as caught, store.attempt(ASSET, KEY, VERSIONS[1]) as big:
        (big.folder / "big").write_bytes(b"x" * (2 << 20))
    assert "no space left" in one_line(caught.value) and "gc" in str(caught.value)
    assert not big.folder.exists(), "the half file does not go on filling the disk"
    check_whole(kept)
    assert store.current(ASSET, KEY) == kept
    check_whole(write_once(store, VERSIONS[1]))  # space is free again


def test_a_disk_that_is_full_at_the_commit_itself_shows_nothing_half(small_disk, tmp_path):
    store = Store(small_disk / "store", scratch=tmp_path / "scratch")
    kept = write_once(store, VERSIONS[0])
    made = Manifest(asset=ASSET, key=KEY, version=VERSIONS[1], outcome="complete")
    filler = small_disk / "filler"
    with (
        pytest.raises(PermanentFailure, match="no space left"),
        store.attempt(ASSET, KEY, VERSIONS[1]) as attempt,
    ):
        (attempt.folder / "small").write_bytes(b"x")
        with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        attempt.commit(made)
    assert store.current(ASSET, KEY) == kept
    assert store.committed(ASSET, KEY, VERSIONS[1]) is None
    assert store.verify() == []
    filler.unlink()
    check_whole(write_once(store, VERSIONS[1]))


def test_a_scratch_disk_that_is_full_is_named(small_disk, tmp_path):
    store = Store(tmp_path / "store", scratch=small_disk)
    with (
        pytest.raises(PermanentFailure, match=str(small_disk)),
        store.attempt(ASSET, KEY, VERSIONS[0]) as attempt,
    ):
        (attempt.scratch / "big").write_bytes(b"x" * (2 << 20))


def test_running_out_of_file_size_is_a_permanent_failure(store):
    """The same path without root: a limit on the size of files."""
    kept = write_once(store, VERSIONS[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with (
            pytest.raises(PermanentFailure, match="too large") as caught,
            store.attempt(ASSET, KEY, VERSIONS[1]) as attempt,
        ):
            (attempt.folder / "big").write_bytes(b"x" * 200_000)
        one_line(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.current(ASSET, KEY) == kept
    assert not attempt.folder.exists()


@pytest.mark.parametrize("hidden", ["text", "cause"])
def test_a_full_disk_is_said_also_where_a_library_hides_it(store, hidden):
    full = OSError(errno.ENOSPC, "No space left on device")
    text = "Disable slist on flush dest failure failed (file write failed: errno = 28, buf = 0x5)"
    with (
        pytest.raises(PermanentFailure, match="no space left") as caught,
        store.attempt(ASSET, KEY, VERSIONS[1]),
    ):
        raise RuntimeError(text) if hidden == "text" else ValueError("chunk") from full
    assert "0x5" not in one_line(caught.value)


def test_a_disk_that_fails_at_each_single_sync_loses_and_shows_nothing_wrong(store, monkeypatch):
    first = write_once(store, VERSIONS[1])
    done = check_store(store, set())
    real, countdown = os.fsync, [0]

    def fsync(handle):
        countdown[0] -= 1
        if countdown[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    failures = 0
    for at_call in range(1, 200):
        countdown[0] = at_call
        try:
            write_once(store, VERSIONS[0], force=True)
        except PermanentFailure as error:
            assert "no space left" in one_line(error)
            failures += 1
        if countdown[0] > 0:
            break
        done = check_store(store, done)
    assert failures > 10
    assert countdown[0] > 0, "a commit in which nothing failed ended the loop"
    assert first.is_intact() and store.verify() == []
    names = {p.name for p in Path(store.url).rglob("*") if p.name.endswith(".tmp")}
    assert names == set()


@pytest.fixture
def read_only_store(tmp_path):
    """A store with one output that cannot be written any more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() == 0:  # root may write everywhere but on a read-only mount
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("this machine allows no mounts, and root is not stopped by permissions")
    store = Store(folder / "store", scratch=tmp_path / "scratch")
    write_once(store, VERSIONS[0])
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    yield store
    if os.geteuid() == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


def test_a_read_only_store_is_readable_and_says_that_it_cannot_be_written(read_only_store):
    store = read_only_store
    stored = store.current(ASSET, KEY)
    check_whole(stored)
    assert store.verify() == []
    failed = Manifest(asset=ASSET, key=KEY, version=VERSIONS[1], outcome="failed")
    for use in (
        lambda: write_once(store, VERSIONS[1]),
        lambda: store.adopt(stored),
        lambda: store.fail(failed),
        lambda: store.create_json("registry/a.json", 1),
        lambda: store.lease("a", 1).acquire(),
    ):
        with pytest.raises(PermanentFailure, match="read-only|no permission") as caught:
            use()
        one_line(caught.value)
    assert list(store.scratch.glob("*/scratch-*")) == []


def test_a_mount_that_stops_answering_is_transient(store, monkeypatch):
    write_once(store, VERSIONS[0])

    def stale(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(local_module, "read_regular", stale)
    with pytest.raises(TransientFailure, match="does not answer") as caught:
        store.current(ASSET, KEY)
    one_line(caught.value)


def test_a_step_that_cannot_read_its_raw_data_is_not_blamed_on_the_store(store, tmp_path):
    with pytest.raises(FileNotFoundError), store.attempt(ASSET, KEY, VERSIONS[0]):
        (tmp_path / "nowhere").read_bytes()
    with (
        pytest.raises(PermanentFailure, match=r"no permission in /lab/raw\.bin"),
        store.attempt(ASSET, KEY, VERSIONS[0]),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/lab/raw.bin")


def test_a_store_whose_address_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(PermanentFailure, match="is a file"):
        write_once(Store(tmp_path / "file"), VERSIONS[0])
