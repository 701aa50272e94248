"""The order of runs: by turns, whatever the clocks and the order of their ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neuro_assets.outcomes import Outcome
from neuro_assets.registry.registry import Registry
from neuro_assets.registry.turns import take_turn
from neuro_assets.store import Manifest, Pointer, Store, Stored, pointers

KEY = "M1_20240512_1_probe00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", scratch=tmp_path / "scratch")


def commit(store: Store, turn: int, version: str = "v", run: str | None = None) -> Stored:
    with store.attempt("units", KEY, version) as attempt:
        (attempt.folder / "a.txt").write_text(f"{turn}")
        return attempt.commit(
            Manifest(
                asset="units", key=KEY, version=version, outcome="complete", turn=turn,
                run_id=run or f"run-{turn}",
            )
        )  # fmt: skip


def fail(store: Store, turn: int) -> None:
    store.fail(
        Manifest(
            asset="units", key=KEY, version="v", outcome="failed", turn=turn,
            error={"type": "E", "message": f"turn {turn}"},
        )
    )  # fmt: skip


def test_each_run_has_one_turn_and_later_ones_are_higher(store):
    assert [take_turn(store, KEY, run) for run in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
    assert take_turn(store, "other", "c") == 1


@pytest.mark.parametrize("content", [b"", b'{"run_', b"[]"])
def test_a_damaged_turn_stops_no_run_and_verify_reports_and_mends_it(store, content):
    assert [take_turn(store, KEY, run) for run in ("a", "b")] == [1, 2]
    store.backend.write(f"registry/turns/{KEY}/2.json", content)
    store.backend.write(f"registry/turns/{KEY}/run-a.json", content)
    assert [take_turn(store, KEY, run) for run in ("c", "a", "b")] == [3, 1, 2]
    (line,) = Registry(store).verify(repair=True)
    assert line.startswith(f"registry/turns/{KEY}/2.json is damaged")
    assert Registry(store).verify() == []
    assert take_turn(store, KEY, "d") == 4


@pytest.mark.parametrize("name", ["failure.json", "current.json"])
def test_a_copied_pointer_of_another_key_hides_no_failure(store, name):
    pointer = Pointer(version="v", attempt="a", outcome="failed", turn=50, owner="units/other")
    store.backend.write(f"units/{KEY}/{name}", pointer.to_json())
    fail(store, 2)
    found = store.failure("units", KEY)
    assert found is not None and found.error["message"] == "turn 2"


def test_many_at_once_get_a_turn_each_and_the_steps_of_one_run_the_same(store):
    runs = [f"run-{n % 10}" for n in range(60)]
    with ThreadPoolExecutor(12) as pool:
        turns = list(pool.map(lambda run: take_turn(store, KEY, run), runs))
    by_run = {run: {t for r, t in zip(runs, turns, strict=True) if r == run} for run in runs}
    assert all(len(found) == 1 for found in by_run.values())
    assert sorted(t for found in by_run.values() for t in found) == list(range(1, 11))


def test_a_run_killed_before_it_noted_its_turn_keeps_it(store):
    store.create_json(f"registry/turns/{KEY}/1.json", {"run_id": "a"})
    assert take_turn(store, KEY, "a") == 1
    assert take_turn(store, KEY, "b") == 2


@pytest.mark.parametrize("rivals", [1, 3])
def test_a_run_killed_after_it_took_its_turn_keeps_it_when_others_came_since(
    store, monkeypatch, rivals
):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    take_turn(store, KEY, "first")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_json_atomic", kill)
        with pytest.raises(Killed):
            take_turn(store, KEY, "a")
    for n in range(rivals):
        assert take_turn(store, KEY, f"b{n}") == 3 + n
    assert [take_turn(store, KEY, "a") for _ in range(2)] == [2, 2]


def test_an_older_run_that_ends_later_does_not_take_it_back(store):
    newer = commit(store, 2, "v2")
    older = commit(store, 1, "v1")
    assert store.current("units", KEY) == newer
    assert store.produced_by("run-1", "units", KEY) == older, "its own later steps read its own"
    store.adopt(older, "run-3", turn=3)
    assert store.current("units", KEY) == older


def test_failures_and_successes_are_ordered_by_turn_and_not_by_clock(store, monkeypatch):
    monkeypatch.setattr("neuro_assets.store.model.now", lambda: datetime(2999, 1, 1, tzinfo=UTC))
    fail(store, 1)
    monkeypatch.undo()
    commit(store, 2)
    assert store.failure("units", KEY) is None, "a failure from the future hides no success"
    fail(store, 1)
    assert store.failure("units", KEY) is None, "an older run that fails later"
    fail(store, 3)
    assert store.failure("units", KEY).error["message"] == "turn 3"
    fail(store, 2)
    assert store.failure("units", KEY).error["message"] == "turn 3"
    commit(store, 2, "v2b")
    assert store.failure("units", KEY) is not None, "an older run that ends later hides none"
    commit(store, 3, "v3")
    assert store.failure("units", KEY) is None, "the retry of a step in the same run"
    fail(store, 3)
    assert store.failure("units", KEY) is not None


def test_racing_writers_leave_the_highest_turn(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: commit(store, turn, f"v{turn}"), range(1, 25)))
    assert store.current("units", KEY).version == "v24"


@pytest.mark.parametrize("behind", range(1, 4))
def test_without_locks_a_writer_that_was_overtaken_puts_the_higher_turn_back(
    store, monkeypatch, behind
):
    """One that read before and writes after another, as on S3."""
    high = commit(store, 9, "v9")
    real, reads = store.read_pointer, []

    def stale(asset, key, name):
        found = real(asset, key, name)
        if name == pointers.CURRENT and len(reads) < behind:
            reads.append(name)
            return Pointer(version="v0", attempt="a", outcome=Outcome.COMPLETE, turn=0)
        return found

    monkeypatch.setattr(store, "read_pointer", stale)
    monkeypatch.setattr("neuro_assets.store.local.try_lock", lambda handle: False)
    commit(store, 1, "v1")
    monkeypatch.undo()
    assert store.current("units", KEY) == high
