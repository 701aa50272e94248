"""Several processes change one registry: one key a recording, and nobody reverts another."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from datetime import date, datetime
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
from records import register

from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.registry.actions import Requests, Seen
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.planning import plan
from neuro_assets.registry.registry import Registry, SessionInfo
from neuro_assets.service.session_registration import register_sessions
from neuro_assets.store import Store

CONTEXT = multiprocessing.get_context("spawn")


def recording(serial: int) -> RawRecording:
    ap = Stream(name="ap", files=("a.bin",), n_channels=4, n_samples=300, sampling_frequency=30.0)
    identity = Identity(
        probe_serial=str(serial),
        created=datetime(2024, 5, 12, 10),
        first_sample=0,
        size_bytes=1000,
    )
    return RawRecording(format="spikeglx", probe="probe00", streams={"ap": ap}, identity=identity)


def description(serial: int, subject: str = "M1") -> SessionDescription:
    return SessionDescription(
        subject=subject,
        date=date(2024, 5, 12),
        number="1",
        session_id=f"{subject}-{serial}",
        source="rig",
        folder=f"/data/{subject}/{serial}",
        recordings=(recording(serial),),
        versions={"probe00": "v1"},
        ready=True,
    )


def add_all(url: str, options: Any, barrier: Any, serials: list[int]) -> None:
    registry = Registry(Store(url, storage_options=options))
    barrier.wait()
    for serial in serials:
        register_sessions(registry, [description(serial)])


def count_up(url: str, options: Any, barrier: Any, key: str, n: int) -> None:
    registry = Registry(Store(url, storage_options=options))
    barrier.wait()
    for _ in range(n):
        registry.update(key, lambda record: {"request": record.request + 1})


def run_all(target: Any, url: str, options: Any, arguments: list[tuple[Any, ...]]) -> None:
    barrier = CONTEXT.Barrier(len(arguments))
    children = [CONTEXT.Process(target=target, args=(url, options, barrier, *a)) for a in arguments]
    for child in children:
        child.start()
    waiting = {child.sentinel: child for child in children}
    while waiting:
        for sentinel in wait(list(waiting)):
            child = waiting.pop(sentinel)
            child.join()
            if child.exitcode:
                barrier.abort()  # the others would wait for it
    assert [child.exitcode for child in children] == [0] * len(children)


def race(url: str, options: Any, n: int = 3) -> None:
    """Let processes register the same recordings in different orders, then count together."""
    serials = list(range(1, 7))
    run_all(add_all, url, options, [(serials[i:] + serials[:i],) for i in range(n)])
    registry = Registry(Store(url, storage_options=options))
    records = registry.all()
    assert Counter(r.identity.probe_serial for r in records.values()) == Counter(map(str, serials))
    assert {r.request for r in records.values()} == {1}, "one request each, whoever was first"
    key = next(iter(records))
    run_all(count_up, url, options, [(key, 5)] * n)
    fresh = Registry(Store(url, storage_options=options))
    assert fresh.get(key).request == fresh.all()[key].request == 1 + 5 * n
    assert fresh.verify() == []


@pytest.mark.integration
def test_processes_in_a_folder_give_each_recording_one_key_and_lose_no_change(tmp_path):
    race(str(tmp_path / "store"), None)


@pytest.mark.parametrize("path", ["/data/M1/1", "/data/moved"])
def test_a_tick_does_not_revert_what_was_changed_meanwhile(tmp_path: Path, path: str):
    store = Store(tmp_path)
    tick, command = Registry(store), Registry(store)
    place = {"source": "rig", "session_id": "M1-1", "path": "/data/M1/1"}
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1", **place)
    made = register(tick, session, recording(1), "v1", requested="v1")
    moved = description(1).model_copy(update={"folder": path})
    seen = [Seen(moved, {"probe00": "v1"})]
    interrupted = []

    def planned(index):
        actions = plan(index, seen, [], datetime.now().astimezone(), requests=Requests(most=0))
        if not interrupted:
            interrupted.append(1)
            command.update(made.key, lambda record: {"requested": None, "pid": "p"})
        return actions

    tick.transact(planned)
    after = command.get(made.key)
    assert (after.requested, after.pid, after.session.path) == (None, "p", path)


def test_who_loses_a_number_plans_again_on_what_the_other_wrote(tmp_path: Path):
    one, two = Registry(Store(tmp_path)), Registry(Store(tmp_path))
    before = two.refresh
    register_sessions(one, [description(1)])
    calls = []

    def late() -> Any:
        index = before()
        if not calls:
            calls.append(1)
            register_sessions(one, [description(3)])
        return index

    two.refresh = late  # type: ignore[method-assign]
    register_sessions(two, [description(2)])
    records = Registry(Store(tmp_path)).all()
    assert {r.identity.probe_serial for r in records.values()} == {"1", "2", "3"}
    assert sorted(records) == [f"M1_20240512_1_probe00{x}" for x in ("", "-x2", "-x3")]


@pytest.mark.parametrize("repair", [False, True])
def test_a_record_that_changes_during_verify_is_no_defect_and_is_not_reverted(
    tmp_path: Path, repair: bool
):
    looking, other = Registry(Store(tmp_path)), Registry(Store(tmp_path))
    register_sessions(other, [description(1)])
    (key,) = looking.all()
    read = looking._log.record
    late: list[int] = []

    def record(name: str) -> Any:
        if not late:
            late.append(1)
            other.update(key, lambda _: {"state": "vanished"})
            register_sessions(other, [description(2)])
        return read(name)

    looking._log.record = record  # type: ignore[method-assign]
    assert looking.verify(repair=repair) == []
    fresh = Registry(Store(tmp_path))
    assert fresh.get(key).state == fresh.all()[key].state == "vanished"


def test_a_record_that_changes_while_it_is_repaired_keeps_the_change(tmp_path: Path):
    looking, other = Registry(Store(tmp_path)), Registry(Store(tmp_path))
    register_sessions(other, [description(1)])
    (key,) = looking.all()
    (tmp_path / "registry" / f"{key}.json").write_text("{")
    lock = looking.store.backend.lock

    def late(folder: str) -> Any:
        other.update(key, lambda _: {"state": "vanished"})
        return lock(folder)

    looking.store.backend.lock = late  # type: ignore[method-assign]
    assert len(looking.verify(repair=True)) == 1
    assert Registry(Store(tmp_path)).get(key).state == "vanished"
