"""Which store it is: written once, remembered by the lab, every other place refused."""

from __future__ import annotations

import errno
import fcntl
import json
import pickle
import shutil
from pathlib import Path

import pytest

from neuro_assets.config import StoreConfig
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store import Manifest, Store, store_identity
from neuro_assets.store.opening import open_store
from neuro_assets.store.store_identity import (
    FORMAT,
    LabMemory,
    StoreIdentity,
    admit,
    only_writer,
    read_identity,
)


@pytest.fixture
def memory(tmp_path) -> LabMemory:
    return LabMemory(tmp_path / "lab" / ".neuro_assets")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "disk" / "store")


def test_a_new_store_gets_its_identity_once_and_holds_exclusive_creation(store, memory):
    made = admit(store, memory=memory)
    assert (made.format, made.exclusive_creation, made.writer) == (FORMAT, True, "")
    assert admit(Store(store.url), memory=memory) == made == read_identity(store)
    assert store.backend.names("leases") == []


def test_a_place_that_is_only_looked_at_stays_empty(store, memory):
    assert admit(store, memory=memory, create=False) is None
    assert not Path(store.url).exists()


def test_a_first_use_that_was_overtaken_takes_the_store_of_the_other(store, memory, monkeypatch):
    """The other writes its identity, and a record, between the two looks of this one."""
    real, made = store_identity.read_identity, []

    def overtaken(place):
        if made:
            return real(place)
        made.append(None)
        other = Store(store.url)
        made[0] = admit(other)
        other.write_json_atomic("registry/head.json", {"number": 0})
        return None

    monkeypatch.setattr(store_identity, "read_identity", overtaken)
    assert admit(store, memory=memory) == made[0]
    assert memory.expected(store.url) == made[0].id and store.backend.guarded


@pytest.mark.parametrize("content", [(), ("lost+found",), ("leases",)])
def test_a_place_without_a_store_is_not_upgraded_into_one(store, memory, content):
    for name in content:
        Path(store.url, name).mkdir(parents=True)
    with pytest.raises(PermanentFailure, match="no store at .* mount it"):
        admit(store, memory=memory, create=False, any_format=True)
    assert not Path(store.url, "store.json").exists()


def test_an_unmounted_store_is_refused_and_never_made_anew(store, memory):
    admit(store, memory=memory)
    shutil.rmtree(store.url)
    for there in (False, True):
        if there:
            Path(store.url).mkdir()
        with pytest.raises(PermanentFailure, match="is not this lab's store .*Mount it"):
            admit(Store(store.url), memory=memory)
    assert list(Path(store.url).iterdir()) == []


def test_another_store_that_is_mounted_under_a_running_platform_is_not_written_to(
    store, memory, tmp_path
):
    admit(store, memory=memory)
    other = Store(tmp_path / "other")
    admit(other)
    later = pickle.loads(pickle.dumps(store))
    later.write_json_atomic("a.json", 1)
    with pytest.raises(PermanentFailure, match="was the store"), begun(later) as attempt:
        exchange(store, other, tmp_path)
        # Even where the step finds its folder again.
        attempt.folder.mkdir(parents=True)
        (attempt.folder / "f").write_bytes(b"1")
        before = files_of(store)
        attempt.commit(made("k"))
    for use in (
        lambda: later.write_json_atomic("a.json", 2),
        lambda: later.create_json("b.json", 1),
        lambda: later.backend.remove("store.json"),
        lambda: later.backend.remove_tree("leases"),
        lambda: begun(later).__enter__(),
        lambda: later.fail(made("k", outcome="failed")),
        lambda: later.gc(dry_run=False),
    ):
        with pytest.raises(PermanentFailure, match="was the store .* mount the right one"):
            use()
    assert files_of(store) < before
    exchange(store, other, tmp_path)
    with begun(later) as attempt:
        attempt.commit(made("k"))
    assert later.read_json("a.json") == 1, "as soon as the right one is back"


def test_the_identity_is_read_again_only_when_its_file_is_another_one(store, memory, monkeypatch):
    from neuro_assets.store import local

    admit(store, memory=memory)
    store.write_json_atomic("a.json", 1)
    monkeypatch.setattr(local, "require_identity", None)
    store.write_json_atomic("a.json", 2)


def test_a_lab_without_locks_writes_no_store_that_cannot_keep_two_writers_apart(
    store, memory, monkeypatch
):
    admitted = admit(store, memory=memory)
    alone = admitted.model_copy(
        update={"exclusive_creation": False, "writer": store_identity.writer_name(memory)}
    )
    with only_writer(store, alone, memory):
        pass

    def no_lock(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    with (
        pytest.raises(PermanentFailure, match=r"put lab\.yaml on a disk with locks"),
        only_writer(store, alone, memory),
    ):
        pass


def made(key: str, outcome: str = "complete") -> Manifest:
    return Manifest(asset="units", key=key, version="aa", outcome=outcome)


def begun(store: Store):
    return store.attempt("units", "k", "aa")


def files_of(store: Store) -> set[Path]:
    return {path for path in Path(store.url).rglob("*") if path.is_file()}


def exchange(one: Store, other: Store, tmp_path: Path) -> None:
    Path(one.url).rename(tmp_path / "away")
    Path(other.url).rename(one.url)
    Path(tmp_path / "away").rename(other.url)


def test_a_store_that_goes_away_under_a_running_platform_is_not_written_to(store, memory, tmp_path):
    admit(store, memory=memory)
    later = pickle.loads(pickle.dumps(store))
    Path(store.url).rename(tmp_path / "unmounted")
    for use in (
        lambda: later.write_json_atomic("a.json", 1),
        lambda: later.create_json("a.json", 1),
        lambda: later.read_json("registry/x.json"),
        lambda: later.attempt("units", "k", "v").__enter__(),
        later.assets,
    ):
        with pytest.raises(PermanentFailure, match="not there any more"):
            use()
    assert not Path(store.url).exists()


def test_another_store_in_the_place_is_refused(store, memory, tmp_path):
    admit(store, memory=memory)
    shutil.rmtree(store.url)
    admit(Store(store.url))
    with pytest.raises(PermanentFailure, match="is the store .* and this lab uses"):
        admit(Store(store.url), memory=memory)
    with pytest.raises(PermanentFailure, match="this lab uses 1234"):
        open_store(StoreConfig(url=store.url, id="1234"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("photos/a.jpg", "is no store and holds other files"), ("registry/k.json", "upgrade-store")],
)
def test_a_folder_with_other_content_is_refused(store, name, message):
    path = Path(store.url) / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(PermanentFailure, match=message):
        admit(store)
    assert read_identity(store) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": FORMAT + 1}, "install a newer"), ({"format": FORMAT - 1}, "upgrade-store")],
)
def test_other_formats_are_refused_with_what_to_do(store, change, message):
    made = admit(store).model_dump(mode="json")
    path = Path(store.url) / "store.json"
    path.write_text(json.dumps({**made, **change}))
    with pytest.raises(PermanentFailure, match=message):
        admit(Store(store.url))
    assert admit(Store(store.url), any_format=True) is not None
    path.write_text("{")
    with pytest.raises(PermanentFailure, match="damaged"):
        admit(Store(store.url))


def test_a_lab_of_its_own_remembers_beside_lab_yaml(store, tmp_path, monkeypatch):
    (tmp_path / "lab.yaml").write_text("")
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    made = open_store(StoreConfig(url=store.url))
    said = json.loads((tmp_path / ".neuro_assets" / "stores.json").read_text())
    assert said["stores"] == {store.url: read_identity(made).id}


def test_without_exclusive_creation_only_the_named_lab_writes(store, memory, tmp_path):
    made = admit(store, memory=memory)
    one = StoreIdentity(
        **{**dict(made), "exclusive_creation": False, "writer": f"{memory.home} here:/lab"}
    )
    with only_writer(store, one, memory):
        pass
    other = LabMemory(tmp_path / "other")
    with pytest.raises(PermanentFailure, match="only .* here:/lab may register"):
        only_writer(store, one, other).__enter__()
