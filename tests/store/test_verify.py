"""`verify` sees every way in which a store can differ from what was committed; `--repair` mends."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.store import WHOLE_LAB, InputRef, Manifest, Store, Stored
from neuro_assets.store import attempt as attempt_module
from neuro_assets.store import garbage as garbage_module
from neuro_assets.store import local as local_module
from neuro_assets.store import repair as repair_module
from neuro_assets.store.judgement import judgement, keep_judgement

KEY, ASSET = "M1_20240512_1_probe00", "units"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), scratch=tmp_path / "scratch")


def put(
    store: Store, content: bytes = b"1234", *, asset: str = ASSET, key: str = KEY,
    version: str = "aa", inputs: list[InputRef] | None = None, turn: int = 0,
    run_id: str | None = None, counts_for: str = "",
) -> Stored:  # fmt: skip
    """Commit one file; of one version several attempts, as forced runs make them."""
    with store.attempt(asset, key, version, counts_for) as attempt:
        (attempt.folder / "a").write_bytes(content)
        manifest = Manifest(
            asset=asset, key=key, version=version, outcome=Outcome.COMPLETE, inputs=inputs or [],
            turn=turn, run_id=run_id,
        )  # fmt: skip
        return attempt.commit(manifest)


def place(store: Store, stored: Stored) -> Path:
    return Path(store.url) / stored.path


def kinds(store: Store) -> list[tuple[str, str]]:
    return [(each.kind, each.path) for each in store.verify()]


def test_an_untouched_store_has_no_defect(store: Store) -> None:
    first = put(store)
    put(store, asset="lfp", inputs=[first.ref, InputRef(asset="raw_recording", version="v")])
    store.write_json_atomic("registry/x.json", {})
    assert store.verify() == []


@pytest.mark.parametrize("field", ["parameters", "files", "inputs", "outcome"])
def test_a_manifest_that_was_edited_is_a_defect(store: Store, field: str) -> None:
    path = place(store, put(store)) / "manifest.json"
    content = json.loads(path.read_text())
    edited = {"parameters": {"x": 1}, "files": [], "inputs": [], "outcome": "skipped"}[field]
    content[field] = edited if content[field] != edited else [{"asset": "b", "version": "c"}]
    path.write_text(json.dumps(content))
    assert ("manifest", "manifest.json") in kinds(store)


def test_a_manifest_that_cannot_be_read_is_a_defect(store: Store) -> None:
    (place(store, put(store)) / "manifest.json").write_text("{")
    assert kinds(store) == [("manifest", "manifest.json")]


def test_a_manifest_of_an_older_release_without_a_checksum_is_none(store: Store) -> None:
    path = place(store, put(store)) / "manifest.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    assert store.verify() == []


def test_a_file_that_nobody_committed_is_a_defect(store: Store) -> None:
    (place(store, put(store)) / "planted.npy").write_bytes(b"1")
    assert kinds(store) == [("extra", "planted.npy")]


def test_an_input_that_is_gone_is_a_defect(store: Store) -> None:
    first = put(store)
    put(store, asset="lfp", inputs=[first.ref])
    lab_wide = InputRef(asset=f"{ASSET}:{KEY}", version=first.version, attempt=first.attempt)
    put(store, asset="table", key=WHOLE_LAB, inputs=[lab_wide])
    (place(store, first) / "manifest.json").unlink()
    found = [(each.asset, each.kind) for each in store.verify()]
    assert found == [("lfp", "input"), ("table", "input"), (ASSET, "pointer")]


def test_a_pointer_that_cannot_be_read_is_a_defect(store: Store) -> None:
    put(store)
    (Path(store.url) / ASSET / KEY / "current.json").write_text('{"version": 3}')
    assert kinds(store) == [("pointer", "current.json")]


def test_a_damaged_file_of_the_registry_is_a_defect(store: Store) -> None:
    put(store)
    store.write_json_atomic("registry/good.json", {})
    store.backend.write("registry/log/3.json", b"{")
    assert kinds(store) == [("registry", "log/3.json")]


def test_unknown_names_are_errors_that_name_the_nearest(store: Store) -> None:
    put(store)
    with pytest.raises(PermanentFailure, match="nothing of 'unit'; did you mean 'units'"):
        store.verify("unit")
    with pytest.raises(PermanentFailure, match=f"did you mean '{KEY}'"):
        store.verify(key=KEY[:-1])


def forced(store: Store, content: bytes) -> Stored:
    """Another attempt of the same version."""
    time.sleep(0.001)
    return put(store, content)


def test_repair_lets_an_intact_attempt_count(store: Store) -> None:
    first, second = put(store), forced(store, b"1234")
    assert store.current(ASSET, KEY) == second
    (place(store, second) / "a").write_bytes(b"9999")
    [done] = store.repair(store.verify())
    assert (done.attempt, done.error) == (first.attempt, "")
    assert store.current(ASSET, KEY) == first
    assert store.repair(store.verify()) == [], "what does not count is left to gc"


def test_repair_says_where_nothing_is_intact(store: Store) -> None:
    stored = put(store)
    (place(store, stored) / "a").unlink()
    [done] = store.repair(store.verify())
    assert done.attempt == ""
    assert store.current(ASSET, KEY) == stored


def test_repair_writes_a_damaged_pointer_anew(store: Store) -> None:
    stored = put(store)
    (Path(store.url) / ASSET / KEY / "current.json").write_text("{")
    [done] = store.repair(store.verify())
    assert done.attempt == stored.attempt
    assert store.current(ASSET, KEY) == stored
    assert store.verify() == []


def damage(store: Store, stored: Stored) -> None:
    (place(store, stored) / "a").write_bytes(b"9999")


def test_repair_leaves_what_was_committed_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, turn=1)
    damage(store, put(store, b"5678", turn=2))
    defects = store.verify()
    newer = put(store, version="bb", turn=5)
    assert store.repair(defects) == []
    assert store.current(ASSET, KEY) == newer
    held = []
    real = repair_module.readable_pointer

    def pointer(*arguments):
        folder = Path(store.url) / ASSET / KEY
        with (folder / ".lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
        return real(*arguments)

    monkeypatch.setattr(repair_module, "readable_pointer", pointer)
    damage(store, newer)
    store.repair(store.verify())
    assert held, "the pointer is read where nobody else writes it"


def test_a_stray_file_takes_no_output_its_place(store: Store) -> None:
    put(store, turn=1)
    counting = put(store, b"5678", turn=2)
    (place(store, counting) / "Thumbs.db").write_bytes(b"x")
    assert kinds(store) == [("extra", "Thumbs.db")]
    assert store.repair(store.verify()) == []
    assert store.current(ASSET, KEY) == counting


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("name", ["current.json", "failure.json", "runs/r1.json"])
def test_a_damaged_pointer_stops_no_writer(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, locks: bool
) -> None:
    put(store, turn=1, run_id="r1")
    (Path(store.url) / ASSET / KEY / name).write_bytes(b"")
    if not locks:
        monkeypatch.setattr(local_module, "try_lock", lambda _: False)
    newer = put(store, b"5678", version="bb", turn=2, run_id="r2")
    assert store.current(ASSET, KEY) == newer
    error = {"type": "x", "message": "y"}
    store.fail(
        Manifest(asset=ASSET, key=KEY, version="cc", outcome=Outcome.FAILED, turn=3, error=error)
    )
    assert store.failure(ASSET, KEY).error == error


def test_folders_that_go_while_they_are_listed_are_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place(store, put(store)).joinpath("gone").mkdir()
    empty = place(store, put(store, version="bb")).parent / "20200101T000000000000-deadbeef"
    empty.mkdir()
    age(empty)
    real = os.scandir

    def scandir(path):
        if Path(path).name == "gone":
            Path(path).rmdir()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert kinds(store) == []
    real_stat = Path.stat

    def stat(path: Path, **options):
        found = real_stat(path, **options)
        if path == empty:
            path.rename(tmp_path / "discarded")
        return found

    monkeypatch.setattr(Path, "stat", stat)
    store.gc()


def test_repair_takes_back_no_commit_where_there_are_no_locks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "try_lock", lambda _: False)
    put(store, turn=1, run_id="r1")
    damage(store, put(store, b"5678", turn=2, run_id="r2"))
    defects, made, real = store.verify(), [], store.backend.write

    def write(path: str, data: bytes) -> None:
        if path.endswith("current.json") and not made:
            other = Store(store.url, scratch=store.scratch)
            made.append(put(other, b"later", version="cc", turn=3, run_id="r3"))
        real(path, data)

    monkeypatch.setattr(store.backend, "write", write)
    [done] = store.repair(defects)
    assert store.current(ASSET, KEY) == made[0]
    assert done.attempt == made[0].attempt


def test_repair_without_locks_lets_no_damaged_attempt_count_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "try_lock", lambda _: False)
    first = put(store, turn=1, run_id="r1")
    damage(store, put(store, b"5678", turn=2, run_id="r2"))
    (Path(store.url) / ASSET / KEY / "current.json").write_bytes(b"")
    store.repair(store.verify())
    assert store.current(ASSET, KEY) == first


@pytest.mark.parametrize("name", ["failure.json", "judgement.json", "runs/r1.json"])
def test_a_small_file_that_is_damaged_is_a_defect_and_goes(store: Store, name: str) -> None:
    stored = put(store, turn=1, run_id="r1")
    (Path(store.url) / ASSET / KEY / name).write_bytes(b"")
    assert kinds(store) == [("pointer", name)]
    assert store.repair(store.verify()) == []
    assert store.verify() == store.gc() == []
    assert store.current(ASSET, KEY) == stored


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_an_output_whose_judgement_is_damaged_is_judged_again(store: Store, content: bytes) -> None:
    stored = put(store)
    path = Path(store.url) / ASSET / KEY / "judgement.json"
    path.write_bytes(content)
    assert judgement(stored) == []
    keep_judgement(store, stored, "c2", [])
    assert json.loads(path.read_text())["attempt"] == stored.attempt


def test_a_lost_pointer_is_a_defect_and_is_written_anew(store: Store) -> None:
    stored = put(store)
    put(store, key="session-1", counts_for="M2_20240512_1_probe00")
    (Path(store.url) / ASSET / KEY / "current.json").unlink()
    assert kinds(store) == [("pointer", "current.json")]
    assert [each.attempt for each in store.repair(store.verify())] == [stored.attempt]
    assert store.current(ASSET, KEY) == stored


def test_repair_makes_nothing_for_a_copied_folder(store: Store) -> None:
    stored = put(store)
    shutil.copytree(Path(store.url) / ASSET / KEY, Path(store.url) / ASSET / "backup")
    damage(store, stored)
    assert [(each.key, each.attempt) for each in store.repair(store.verify())] == [(KEY, "")]


def test_repair_of_a_damaged_pointer_follows_the_turns(store: Store) -> None:
    newer = put(store, version="bb", turn=5, run_id="B")
    forced(store, b"ends later")
    path = Path(store.url) / ASSET / KEY / "current.json"
    before = json.loads(path.read_text())
    path.write_text("{")
    [done] = store.repair(store.verify())
    assert done.attempt == newer.attempt
    after = json.loads(path.read_text())
    assert {**after, "at": ""} == {**before, "at": ""}


def test_repair_writes_the_digest_of_what_counts_then(store: Store) -> None:
    first, second = put(store, turn=1), put(store, b"other", turn=2)
    (place(store, second) / "a").unlink()
    store.repair(store.verify())
    assert store.current(ASSET, KEY).digest == first.manifest.digest != second.manifest.digest
    assert store.read_pointer(ASSET, KEY, "current.json").turn == 2


def test_a_pointer_with_another_digest_is_a_defect_and_mended(store: Store) -> None:
    stored = put(store)
    path = Path(store.url) / ASSET / KEY / "current.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "f" * 64}))
    assert kinds(store) == [("pointer", "current.json")]
    assert [each.attempt for each in store.repair(store.verify())] == [stored.attempt]
    assert store.verify() == []


def test_what_counts_from_under_its_session_is_verified_and_repaired(store: Store) -> None:
    first = put(store, key="session-1", counts_for=KEY)
    second = put(store, b"5678", key="session-1", counts_for=KEY)
    assert store.verify() == []
    damage(store, second)
    [done] = store.repair(store.verify())
    assert (done.key, done.attempt) == (KEY, first.attempt)
    assert store.current(ASSET, KEY) == first
    assert not (Path(store.url) / ASSET / "session-1" / "current.json").exists()


# -- readers --------------------------------------------------------------------------------------


def test_a_table_that_is_read_whole_is_compared_with_its_checksum(store: Store) -> None:
    with store.attempt(ASSET, KEY, "aa") as attempt:
        pd.DataFrame({"x": range(3)}).to_parquet(attempt.folder / "t.parquet")
        made = Manifest(asset=ASSET, key=KEY, version="aa", outcome=Outcome.COMPLETE)
        stored = attempt.commit(made)
    assert list(stored.table("t")["x"]) == [0, 1, 2]
    path = place(store, stored) / "t.parquet"
    size = path.stat().st_size
    pd.DataFrame({"x": [0, 1, 7]}).to_parquet(path)
    assert path.stat().st_size == size
    with pytest.raises(PermanentFailure, match="its checksum differs"):
        store.current(ASSET, KEY).table("t")


# -- gc -------------------------------------------------------------------------------------------


def age(path: Path, hours: float = 48) -> None:
    then = time.time() - hours * 3600
    for each in [path, *path.rglob("*")]:
        os.utime(each, (then, then), follow_symlinks=False)


@pytest.mark.parametrize("value", [-1, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["older_than_h", "snapshots_d"])
def test_an_age_is_a_number_of_hours_or_days(store: Store, name: str, value: float) -> None:
    with pytest.raises(PermanentFailure, match="is no age"):
        store.gc(**{name: value})


def test_what_is_committed_after_the_survey_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow step commits between the listing and the removal."""
    stored = put(store)
    manifest = place(store, stored) / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    (Path(store.url) / ASSET / KEY / "current.json").unlink()
    age(place(store, stored))
    real = garbage_module._survey

    def survey(*arguments):
        found = real(*arguments)
        manifest.write_bytes(content)
        age(place(store, stored))
        return found

    monkeypatch.setattr(garbage_module, "_survey", survey)
    assert store.gc(dry_run=False) == []
    assert store.committed(ASSET, KEY, "aa") == stored


def test_a_duplicate_of_a_damaged_copy_stays(store: Store) -> None:
    first, second = put(store), forced(store, b"1234")
    (place(store, second) / "a").write_bytes(b"9999")
    for each in (first, second):
        age(place(store, each))
    assert store.gc(dry_run=False) == []
    (place(store, second) / "a").write_bytes(b"1234")
    age(place(store, second))
    assert [each.path for each in store.gc(dry_run=False)] == [first.path]


def test_what_became_current_after_the_survey_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(store), forced(store, b"1234")
    for each in (first, second):
        age(place(store, each))
    real_duplicates = garbage_module._duplicates

    def duplicates(*arguments):
        found = real_duplicates(*arguments)
        store.adopt(first)
        return found

    monkeypatch.setattr(garbage_module, "_duplicates", duplicates)
    assert store.gc(dry_run=False) == []
    assert store.current(ASSET, KEY) == first
    assert first.is_intact()


def test_gc_follows_no_link(store: Store, tmp_path: Path) -> None:
    put(store)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_bytes(b"1")
    home = Path(store.url) / ASSET / KEY / "bb"
    home.mkdir()
    (home / "linked").symlink_to(precious)
    broken_off = home / "20200101T000000000000-deadbeef"
    broken_off.mkdir()
    (broken_off / "inner").symlink_to(precious)
    age(home)
    age(precious)
    store.gc(dry_run=False)
    assert (precious / "data").read_bytes() == b"1"
    assert not broken_off.exists()


def test_old_snapshots_of_a_table_go_and_the_one_that_counts_stays(store: Store) -> None:
    made = [put(store, key=WHOLE_LAB, version=f"v{n}") for n in range(3)]
    for stored, days in zip(made, (40, 20, 60), strict=True):
        age(place(store, stored), hours=24 * days)
    garbage = store.gc(dry_run=False)
    assert [(each.kind, each.path) for each in garbage] == [("snapshot", made[0].path)]
    assert store.current(ASSET, WHOLE_LAB) == made[2]
    of_a_recording = put(store)
    put(store, version="bb")
    age(place(store, of_a_recording), hours=24 * 400)
    assert store.gc() == []


def test_the_newest_snapshot_stays_where_the_pointer_is_lost(store: Store) -> None:
    made = [put(store, key=WHOLE_LAB, version=version) for version in ("aa", "bb")]
    for stored in made:
        age(place(store, stored), hours=24 * 40)
    (Path(store.url) / ASSET / WHOLE_LAB / "current.json").unlink()
    assert [each.path for each in store.gc(dry_run=False)] == [made[0].path]


def test_gc_leaves_a_try_that_lives_however_old_it_looks(store: Store) -> None:
    with store.attempt(ASSET, KEY, "aa") as attempt:
        age(attempt.folder)
        assert store.gc(older_than_h=0, dry_run=False) == []
        assert attempt.folder.is_dir()


def test_a_young_try_stays_where_the_clock_of_the_files_is_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage_module, "is_held", lambda _: False)
    with store.attempt(ASSET, KEY, "aa") as attempt:
        age(attempt.folder)
        assert store.gc(dry_run=False) == []


def test_what_is_removed_during_a_commit_is_not_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = put(store)
    real = attempt_module.content_digest

    def digest(folder, *arguments):
        found = real(folder, *arguments)
        (folder / "a").unlink()
        return found

    monkeypatch.setattr(attempt_module, "content_digest", digest)
    with pytest.raises(TransientFailure, match="removed"):
        put(store, version="bb")
    assert store.current(ASSET, KEY) == good


def test_gc_keeps_what_a_run_in_progress_uses(store: Store) -> None:
    first = put(store)
    store.adopt(first, "R1", 2)
    second = put(store, b"5678", turn=3)
    for each in (first, second):
        age(place(store, each))
    assert store.gc(dry_run=False) == []
    run = Path(store.url) / ASSET / KEY / "runs" / "R1.json"
    age(run, hours=24 * 40)
    assert [each.path for each in store.gc(dry_run=False)] == [first.path]


@pytest.mark.parametrize("key", [KEY, "session-1"])
def test_what_is_cited_after_the_survey_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    counts_for = "" if key == KEY else KEY
    first, second = (put(store, key=key, counts_for=counts_for, turn=n) for n in (1, 2))
    for each in (first, second):
        age(place(store, each))
    real = garbage_module._remove

    def remove(*arguments):
        put(store, asset="nwb", inputs=[first.ref])
        return real(*arguments)

    monkeypatch.setattr(garbage_module, "_remove", remove)
    assert store.gc(dry_run=False) == []
    assert first.is_intact()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def as_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def of_another_key(path: Path) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "owner": f"{ASSET}/M2_20240512_1_probe00"}))


def out_of_the_store(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "version": "../.."}))


@pytest.mark.parametrize("spoil", [cut, as_binary, of_another_key, out_of_the_store])
@pytest.mark.parametrize("home", [KEY, WHOLE_LAB, "session-1"])
def test_a_damaged_pointer_costs_its_own_output_only(
    store: Store, caplog: pytest.LogCaptureFixture, home: str, spoil: Callable[[Path], None]
) -> None:
    key = KEY if home == "session-1" else home
    counts_for = key if home == "session-1" else ""
    first, second = (put(store, key=home, turn=n, counts_for=counts_for) for n in (1, 2))
    broken_off = place(store, second).parent / "20200101T000000000000-deadbeef"
    broken_off.mkdir()
    others = [put(store, b"5678", key="M2_20240512_1_probe00", turn=n) for n in (1, 2)]
    spoil(Path(store.url) / ASSET / key / "current.json")
    for each in [first, second, *others]:
        age(place(store, each), hours=24 * 40)
    age(broken_off)
    garbage = store.gc(dry_run=False)
    assert [(each.kind, each.path) for each in garbage] == [("duplicate", others[0].path)]
    assert first.is_intact() and second.is_intact() and broken_off.is_dir()
    assert f"{ASSET}/{key}/current.json is damaged: gc keeps" in caplog.text
    with pytest.raises(PermanentFailure, match="`neuro-assets verify --repair`"):
        getattr(store.current(ASSET, key), "manifest")  # noqa: B009
    assert store.committed(ASSET, home, "aa") == second, "made again or reused by the next run"
    if home != "session-1":  # what counts from elsewhere the next run finds again
        store.repair(store.verify())
        assert store.current(ASSET, key) == second and second.is_intact()
        assert [each.path for each in store.gc()][-1] == first.path


def test_a_pointer_that_is_damaged_after_the_survey_keeps_its_output(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(store, turn=1), forced(store, b"1234")
    for each in (first, second):
        age(place(store, each))
    real = garbage_module._remove

    def remove(*arguments):
        cut(Path(store.url) / ASSET / KEY / "current.json")
        return real(*arguments)

    monkeypatch.setattr(garbage_module, "_remove", remove)
    assert store.gc(dry_run=False) == []
    assert first.is_intact()


def test_a_damaged_manifest_keeps_what_was_committed_and_ends_no_gc(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = put(store), forced(store, b"1234")
    made = put(store, asset="nwb", inputs=[first.ref])
    cut(place(store, made) / "manifest.json")
    broken_off = place(store, second).parent / "20200101T000000000000-deadbeef"
    broken_off.mkdir()
    for each in (place(store, first), place(store, second), place(store, made), broken_off):
        age(each)
    assert [each.kind for each in store.gc(dry_run=False)] == ["uncommitted"]
    assert first.is_intact()
    assert "gc removes no committed attempt" in caplog.text and "--repair" in caplog.text
