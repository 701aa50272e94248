"""What people and other programs leave in a store: links, copies, pipes, notes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.log import Document, TransactionLog
from neuro_assets.store import Manifest, Store, Stored
from neuro_assets.store.listing import ListedBackend

ASSET, KEY, OTHER = "units", "M1_20240512_1_probe00", "M2_20240512_1_probe00"
VERSION, DEAD = "0123456789abcdef", "20200101T000000000000-deadbeef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), scratch=tmp_path / "scratch")


@pytest.fixture
def stored(store: Store) -> Stored:
    return put(store)


def put(
    store: Store, key: str = KEY, *, counts_for: str = "", turn: int = 0, version: str = VERSION
) -> Stored:
    with store.attempt(ASSET, key, version, counts_for) as attempt:
        (attempt.folder / "a").write_bytes(b"1234")
        outcome = Outcome.COMPLETE
        made = Manifest(asset=ASSET, key=key, version=version, outcome=outcome, turn=turn)
        return attempt.commit(made)


def top(store: Store) -> Path:
    return Path(store.url)


def age_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            os.utime(path, (1e9, 1e9))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def foreign_tree(folder: Path) -> Path:
    """Somebody's folder, as deep as the store's and with the names of tries."""
    deepest = folder / KEY / VERSION / DEAD
    deepest.mkdir(parents=True)
    for place in (deepest, *deepest.parents[:3]):
        (place / "thesis.txt").write_text("x")
    return folder


# -- gc ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("lfp", ""),
        (f"{ASSET}/{OTHER}", KEY),
        (f"{ASSET}/{KEY}/ff00", f"{KEY}/{VERSION}"),
        (f"{ASSET}/{KEY}/ff00/{DEAD}", f"{KEY}/{VERSION}/{DEAD}"),
    ],
)
def test_gc_removes_nothing_behind_a_link(
    store: Store, stored: Stored, tmp_path: Path, link: str, target: str
) -> None:
    outside = foreign_tree(tmp_path / "outside")
    (top(store) / link).parent.mkdir(exist_ok=True)
    (top(store) / link).symlink_to(outside / target)
    age_all(outside)
    age_all(top(store))
    before = files_below(outside)
    store.gc(dry_run=False)
    assert files_below(outside) == before
    assert stored.is_intact()


def test_gc_looks_again_for_links_before_it_removes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuro_assets.store import garbage

    put(store)
    outside = foreign_tree(tmp_path / "outside")
    home = top(store) / ASSET / OTHER
    shutil.copytree(outside / KEY, home)
    age_all(home)
    age_all(outside)
    snapshots = garbage._snapshots

    def replaced(*args: object) -> set[str]:
        shutil.rmtree(home)
        home.symlink_to(outside / KEY)
        return snapshots(*args)

    monkeypatch.setattr(garbage, "_snapshots", replaced)
    before = files_below(outside)
    store.gc(dry_run=False)
    assert files_below(outside) == before


def test_gc_keeps_what_a_link_to_the_own_folder_leads_to(store: Store, stored: Stored) -> None:
    (top(store) / ASSET / KEY / "ff00").symlink_to(".")
    age_all(top(store))
    store.gc(dry_run=False)
    assert stored.is_intact()


def test_gc_keeps_an_archive_that_is_linked_into_the_store(
    store: Store, stored: Stored, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(top(store) / ASSET, archive)
    (top(store) / ASSET / "archive").symlink_to(archive)
    age_all(archive)
    age_all(top(store))
    before = files_below(archive)
    store.gc(dry_run=False)
    assert files_below(archive) == before


@pytest.mark.parametrize("backup", ["backup/units", "units/backup", "a/b/c"])
def test_gc_keeps_a_copy_of_an_asset_inside_the_store(
    store: Store, stored: Stored, backup: str
) -> None:
    shutil.copytree(top(store) / ASSET, top(store).parent / "copy")
    shutil.copytree(top(store).parent / "copy", top(store) / backup)
    age_all(top(store))
    before = files_below(top(store) / backup)
    store.gc(dry_run=False)
    assert files_below(top(store) / backup) == before


@pytest.mark.parametrize("folder", ["notes/k/v/a", f"notes/k/v/{DEAD}", f"notes/k/{VERSION}/a"])
def test_gc_keeps_folders_that_no_try_is_named_like(store: Store, stored: Stored, folder: str):
    (top(store) / folder).mkdir(parents=True)
    (top(store) / folder / "thesis.txt").write_text("x")
    (top(store) / "k" / "l" / "m" / "empty").mkdir(parents=True)
    age_all(top(store))
    assert store.gc(dry_run=False) == []
    assert (top(store) / folder / "thesis.txt").is_file()
    assert (top(store) / "k" / "l" / "m" / "empty").is_dir()


def test_gc_keeps_a_folder_that_holds_committed_ones(store: Store, stored: Stored) -> None:
    moved = top(store) / ASSET / KEY / "ff00" / DEAD / "moved"
    shutil.copytree(top(store) / stored.path, moved)
    age_all(top(store))
    store.gc(dry_run=False)
    assert (moved / "a").is_file()


def test_gc_goes_on_beside_odd_entries(store: Store, stored: Stored) -> None:
    (top(store) / "my notes").mkdir()
    (top(store) / "Thumbs.db").write_text("x")
    (top(store) / ASSET / "Thumbs.db").write_text("x")
    dead = top(store) / ASSET / KEY / VERSION / DEAD
    dead.mkdir()
    age_all(top(store))
    assert [each.kind for each in store.gc(dry_run=False)] == ["uncommitted"]
    assert not dead.exists()
    assert (top(store) / ASSET / "Thumbs.db").is_file()


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)


@pytest.mark.parametrize(("days", "found"), [(2, []), (5, ["uncommitted"])])
def test_gc_leaves_a_try_that_may_still_run_where_no_lock_tells(
    store: Store, monkeypatch: pytest.MonkeyPatch, days: int, found: list[str]
) -> None:
    begun = datetime.now(UTC) - timedelta(days=days)
    folder = top(store) / ASSET / KEY / VERSION / f"{begun:%Y%m%dT%H%M%S%f}-deadbeef"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"1")
    age_all(top(store))
    without_locks(monkeypatch)
    assert [each.kind for each in store.gc(dry_run=False)] == found
    assert folder.exists() == (not found)


def test_a_store_without_hard_links_and_locks_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    without_locks(monkeypatch)
    assert store.create_json("a.json", 1)
    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(PermanentFailure, match="without hard links and locks"):
        store.create_json("b.json", 1)


# -- reading and verify -----------------------------------------------------------------------


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_deep_json(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)


BREAKS = [as_pipe, as_folder, as_deep_json]


@pytest.mark.parametrize("spoil", BREAKS)
def test_a_pointer_that_is_no_file_is_one_row_and_is_mended_or_told(
    store: Store, stored: Stored, spoil: Callable[[Path], None]
) -> None:
    other = put(store, OTHER)
    spoil(top(store) / ASSET / KEY / "current.json")
    with pytest.raises(PermanentFailure, match=r"current\.json"):
        store.current(ASSET, KEY)
    defects = store.verify()
    assert [(each.key, each.path, each.kind) for each in defects] == [
        (KEY, "current.json", "pointer")
    ]
    assert store.current(ASSET, OTHER) == other
    if spoil is as_folder:
        damage = top(store) / ASSET / OTHER / "current.json"
        damage.write_bytes(b"{")
        stuck, done = sorted(store.repair(store.verify()), key=lambda each: each.key != KEY)
        assert "move it away" in stuck.error
        assert done.attempt == other.attempt, "one that a person must look at holds up no other"
        return
    assert [each.attempt for each in store.repair(defects)] == [stored.attempt]
    assert store.current(ASSET, KEY) == stored


@pytest.mark.parametrize("spoil", [as_pipe, as_deep_json])
def test_a_manifest_that_is_no_file_is_one_row(
    store: Store, stored: Stored, spoil: Callable[[Path], None]
) -> None:
    put(store, OTHER)
    spoil(top(store) / stored.path / "manifest.json")
    assert [(each.key, each.kind) for each in store.verify()] == [(KEY, "manifest")]
    assert store.committed(ASSET, KEY, VERSION) is None


def test_a_pipe_in_place_of_a_file_of_an_output_is_a_row(store: Store, stored: Stored) -> None:
    as_pipe(top(store) / stored.path / "a")
    assert [(each.path, each.kind) for each in store.verify()] == [("a", "size")]
    with pytest.raises(PermanentFailure, match="is no file"):
        store.backend.open(f"{stored.path}/a")


def test_a_listing_does_not_wait_for_a_pipe(store: Store, stored: Stored) -> None:
    as_pipe(top(store) / ASSET / KEY / "current.json")
    with pytest.raises(PermanentFailure, match="is no file"):
        ListedBackend(store.backend).read(f"{ASSET}/{KEY}/current.json")


def test_odd_entries_are_rows_and_the_rest_is_still_read(store: Store, stored: Stored) -> None:
    put(store, OTHER)
    root = top(store)
    (root / "my notes").mkdir()
    for folder in ("", ASSET, f"{ASSET}/{KEY}", f"{ASSET}/{KEY}/{VERSION}"):
        (root / folder / "Thumbs.db").write_text("x")
    (root / ASSET / "stray").symlink_to(root / "nowhere")
    (root / ASSET / KEY / "loop").symlink_to("loop")
    (root / ASSET / "a b\nc").mkdir()
    (root / ASSET / KEY / os.fsdecode(b"\xff")).mkdir()
    (root / ASSET / OTHER / VERSION / put(store, OTHER).attempt / "a").write_bytes(b"4321")
    defects = store.verify()
    assert {each.path for each in defects if each.kind == "extra"} == {
        "my notes", "Thumbs.db", f"{ASSET}/Thumbs.db", f"{ASSET}/{KEY}/Thumbs.db",
        f"{ASSET}/{KEY}/{VERSION}/Thumbs.db", f"{ASSET}/stray", f"{ASSET}/{KEY}/loop",
        f"{ASSET}/a b\nc", f"{ASSET}/{KEY}/\\udcff",
    }  # fmt: skip
    assert [(each.key, each.kind) for each in defects if each.kind != "extra"] == [
        (OTHER, "checksum")
    ]


def test_one_entry_that_cannot_be_read_does_not_end_verify(
    store: Store, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, OTHER)
    entries = store.backend.entries

    def denied(folder: str) -> object:
        if folder.startswith(f"{ASSET}/{KEY}/"):
            raise PermanentFailure("no permission")
        return entries(folder)

    monkeypatch.setattr(store.backend, "entries", denied)
    assert [(each.key, each.kind, each.detail) for each in store.verify()] == [
        (KEY, "unreadable", "no permission")
    ]


# -- copies -----------------------------------------------------------------------------------


def test_a_copied_folder_of_a_key_serves_no_output(store: Store, stored: Stored) -> None:
    shutil.copytree(top(store) / ASSET / KEY, top(store) / ASSET / OTHER)
    found = store.current(ASSET, OTHER)
    assert found is not None
    for use in (lambda: found.file("a"), found.local, lambda: found.manifest):
        with pytest.raises(
            PermanentFailure, match=f"is a copy of {ASSET}/{KEY}, or that was renamed"
        ):
            use()
    assert not found.is_intact()
    assert store.committed(ASSET, OTHER, VERSION) is None
    defects = store.verify()
    assert [(each.key, each.kind) for each in defects] == [(OTHER, "copy")] * 2
    assert store.repair(defects) == [], "the original is whole"
    assert store.current(ASSET, KEY) == stored and stored.is_intact()


@pytest.mark.parametrize("is_old", [False, True])
def test_a_new_commit_takes_the_place_of_a_copy_of_a_higher_turn(
    store: Store, is_old: bool
) -> None:
    put(store, turn=7)
    shutil.copytree(top(store) / ASSET / KEY, top(store) / ASSET / OTHER)
    if is_old:
        without_owner(top(store) / ASSET / OTHER / "current.json")
    made = put(store, OTHER, turn=1)
    assert store.current(ASSET, OTHER) == made
    assert made.file("a").read_bytes() == b"1234"


def without_owner(path: Path) -> None:
    """Make a pointer one of an older release."""
    content = json.loads(path.read_bytes())
    del content["owner"]
    path.write_text(json.dumps(content))


def test_a_copied_pointer_of_an_older_release_serves_no_output(
    store: Store, stored: Stored
) -> None:
    shutil.copytree(top(store) / ASSET / KEY, top(store) / ASSET / OTHER)
    without_owner(top(store) / ASSET / OTHER / "current.json")
    found = store.current(ASSET, OTHER)
    assert found is not None and not found.is_intact()
    with pytest.raises(PermanentFailure, match="is a copy of"):
        found.table("t")
    assert [(each.key, each.kind) for each in store.verify()] == [(OTHER, "copy")]


@pytest.mark.parametrize("place", ["ff00", f"{VERSION}/{DEAD}"])
def test_a_copy_under_another_version_or_attempt_serves_nothing(
    store: Store, stored: Stored, place: str
) -> None:
    home = top(store) / ASSET / KEY
    origin = home / VERSION if place == "ff00" else home / VERSION / stored.attempt
    shutil.copytree(origin, home / place)
    version = place.partition("/")[0]
    [attempt] = {*store.attempts(ASSET, KEY, version)} - (
        set() if place == "ff00" else {stored.attempt}
    )
    assert not store.stored(ASSET, KEY, version, attempt).is_intact()
    assert store.committed(ASSET, KEY, version) == (None if place == "ff00" else stored)
    assert [each.kind for each in store.verify()] == ["copy"]


def test_a_copied_folder_of_a_session_output_and_a_copied_failure_are_refused(
    store: Store,
) -> None:
    put(store, "session-1", counts_for=KEY)
    store.fail(Manifest(asset=ASSET, key=KEY, version=VERSION, outcome=Outcome.FAILED, turn=9))
    shutil.copytree(top(store) / ASSET / KEY, top(store) / ASSET / OTHER)
    found = store.current(ASSET, OTHER)
    assert found is not None
    with pytest.raises(PermanentFailure, match="is a copy of"):
        _ = found.outcome
    assert store.failure(ASSET, KEY) is not None
    assert store.failure(ASSET, OTHER) is None


def test_gc_keeps_a_backup_of_the_tables_of_the_lab(store: Store) -> None:
    put(store, "lab", version="aa")
    put(store, "lab", turn=1)
    shutil.copytree(top(store) / ASSET, top(store) / "backup")
    age_all(top(store))
    before = files_below(top(store) / "backup")
    assert [each.kind for each in store.gc(snapshots_d=0, dry_run=False)] == ["snapshot"]
    assert files_below(top(store) / "backup") == before


def test_what_is_made_once_a_session_is_no_copy(store: Store) -> None:
    made = put(store, "session-1", counts_for=KEY)
    found = store.current(ASSET, KEY)
    assert found == made and found.file("a").read_bytes() == b"1234"
    assert store.verify() == []


# -- the registry's log -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_transaction_that_is_no_file_is_damaged_and_a_row(
    store: Store, make: Callable[[Path], None]
) -> None:
    log = TransactionLog(store)
    assert log.append(Document(1), exclusive=True)
    make(top(store) / "registry" / "log" / "0000000002.json")
    assert log.append(Document(3), exclusive=True)
    found = log.read(2)
    assert found is not None and found.is_damaged
    assert log.read(4) is None
    assert [(each.path, each.kind) for each in store.verify()] == [
        ("log/0000000002.json", "registry")
    ]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["head.json", f"turns/{KEY}/1.json", "recheck/local.json"])
def test_what_is_no_file_of_the_registry_is_a_row(
    store: Store, make: Callable[[Path], None], name: str
) -> None:
    path = top(store) / "registry" / name
    path.parent.mkdir(parents=True)
    make(path)
    assert [(each.path, each.kind) for each in store.verify()] == [(name, "registry")]


def test_a_transaction_that_is_nested_too_deeply_is_damaged(store: Store) -> None:
    store.backend.write("registry/log/0000000001.json", b"[" * 200_000)
    found = TransactionLog(store).read(1)
    assert found is not None and found.is_damaged
