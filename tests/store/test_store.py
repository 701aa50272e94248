"""The store on a folder: commit, reuse, races, failures, verify, gc, leases."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.recording_key import safe_name
from neuro_assets.store import InputRef, Manifest, Store, Stored, version_of
from neuro_assets.store.json_values import canonical, jsonable
from neuro_assets.store.model import checked_name, checked_path

KEY = "M1_20240512_1_probe00"
V1, V2 = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", scratch=tmp_path / "scratch")


def manifest(asset="units", key=KEY, version=V1, **more) -> Manifest:
    return Manifest(asset=asset, key=key, version=version, **{"outcome": "complete", **more})


def put(store: Store, files: dict[str, bytes], **more) -> Stored:
    made = manifest(**more)
    with store.attempt(made.asset, made.key, made.version) as attempt:
        for name, data in files.items():
            path = attempt.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return attempt.commit(made)


def everything(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


# -- commit ---------------------------------------------------------------------------------------


def test_a_committed_output_is_found_by_asset_key_version_and_run(store):
    stored = put(store, {"a.zarr/0.0": b"x" * 10, "log.txt": b"hello"}, run_id="run-1")
    for found in (
        store.current("units", KEY),
        store.committed("units", KEY, V1),
        store.produced_by("run-1", "units", KEY),
    ):
        assert found == stored
        assert found.outcome is Outcome.COMPLETE
    assert store.produced_by("run-2", "units", KEY) is None
    assert store.current("units", "M2_20240512_1_probe00") is None
    assert store.committed("units", KEY, V2) is None
    assert (stored.local() / "log.txt").read_bytes() == b"hello"
    assert stored.file("a.zarr").is_dir()
    assert store.assets() == ["units"]
    assert store.keys("units") == [KEY]
    digest = stored.manifest.digest
    assert len(digest) == 32
    assert stored.ref == InputRef(asset="units", version=V1, attempt=stored.attempt, digest=digest)


def test_the_manifest_lists_each_file_with_size_and_sha256(store):
    import hashlib

    stored = put(store, {"b/c.bin": b"\x00" * 1000})
    entry = store.current("units", KEY).manifest.files[0]
    assert (entry.path, entry.size) == ("b/c.bin", 1000)
    assert entry.sha256 == hashlib.sha256(b"\x00" * 1000).hexdigest()
    assert stored.manifest.size_bytes == 1000


def test_nan_and_infinity_in_metrics_are_kept_as_null(store):
    put(store, {}, metrics={"a": float("nan"), "b": np.float64("inf"), "c": np.int64(3)})
    path = store.current("units", KEY).path
    raw = json.loads(store.backend.read(f"{path}/manifest.json"))
    assert raw["metrics"] == {"a": None, "b": None, "c": 3}


def test_a_try_that_raises_leaves_nothing(store, tmp_path):
    with pytest.raises(ZeroDivisionError), store.attempt("units", KEY, V1) as attempt:
        (attempt.folder / "half.bin").write_bytes(b"x")
        (attempt.scratch / "big.tmp").write_bytes(b"x")
        1 / 0  # noqa: B018
    assert everything(tmp_path / "store") == []
    assert not attempt.folder.exists()
    assert not attempt.scratch.exists()
    assert store.current("units", KEY) is None


def test_the_scratch_folder_goes_after_a_commit_and_the_output_stays(store):
    with store.attempt("units", KEY, V1) as attempt:
        (attempt.folder / "f").write_bytes(b"x")
        attempt.commit(manifest())
    assert attempt.folder.is_dir()
    assert not attempt.scratch.exists()


def test_an_output_in_the_making_is_invisible(store):
    with store.attempt("units", KEY, V1) as attempt:
        (attempt.folder / "f").write_bytes(b"x")
        assert store.current("units", KEY) is None
        assert store.committed("units", KEY, V1) is None
        assert store.attempts("units", KEY, V1) == []
        attempt.commit(manifest())
    assert store.committed("units", KEY, V1) is not None


def test_a_skipped_output_is_a_manifest_with_the_reason_and_no_files(store):
    made = manifest(
        outcome="skipped", skip={"reason": "no_units_found", "detail": "0 of 3", "origin": None}
    )
    stored = put_files_and_commit(store, made)
    assert stored.outcome is Outcome.SKIPPED
    assert stored.manifest.skip == {"reason": "no_units_found", "detail": "0 of 3", "origin": None}
    assert os.listdir(stored.local()) == ["manifest.json"]  # noqa: PTH208
    assert store.committed("units", KEY, V1) == stored


def put_files_and_commit(store: Store, made: Manifest) -> Stored:
    with store.attempt(made.asset, made.key, made.version) as attempt:
        (attempt.folder / "half").mkdir()
        (attempt.folder / "half" / "f").write_bytes(b"x")
        return attempt.commit(made)


def test_a_newer_commit_counts_and_the_older_one_stays(store):
    first = put(store, {"f": b"1"}, version=V1)
    second = put(store, {"f": b"2"}, version=V2)
    assert store.current("units", KEY) == second
    assert store.committed("units", KEY, V1) == first
    assert (first.local() / "f").read_bytes() == b"1"


def test_adopting_an_older_version_makes_it_count_again_for_the_run(store):
    first = put(store, {"f": b"1"}, version=V1, run_id="r1")
    second = put(store, {"f": b"2"}, version=V2, run_id="r2")
    store.adopt(first, run_id="r3")
    assert store.current("units", KEY) == first
    assert store.produced_by("r3", "units", KEY) == first
    assert store.produced_by("r2", "units", KEY) == second


def test_forcing_a_version_again_makes_a_new_attempt_that_counts(store):
    first = put(store, {"f": b"1"})
    second = put(store, {"f": b"2"})
    assert first.attempt != second.attempt
    assert store.current("units", KEY) == second
    assert store.committed("units", KEY, V1) == second


def test_the_loser_of_a_race_gets_the_winners_output_and_leaves_no_file(store, tmp_path):
    with store.attempt("units", KEY, V1) as mine:
        (mine.folder / "mine").write_bytes(b"mine")
        theirs = put(Store(tmp_path / "store"), {"theirs": b"theirs"})
        assert mine.commit(manifest(run_id="late")) == theirs
    assert not mine.folder.exists()
    assert store.attempts("units", KEY, V1) == [theirs.attempt]
    assert store.produced_by("late", "units", KEY) == theirs


def test_a_broken_winner_is_not_adopted(store, tmp_path):
    with store.attempt("units", KEY, V1) as mine:
        (mine.folder / "mine").write_bytes(b"mine")
        theirs = put(Store(tmp_path / "store"), {"theirs": b"theirs"})
        (tmp_path / "store" / theirs.path / "theirs").unlink()
        assert mine.commit(manifest()).attempt == mine.id


@pytest.mark.parametrize(
    "bad",
    [
        {"asset": "other"},
        {"key": "M2_20240512_1_probe00"},
        {"version": V2},
        {"outcome": "failed"},
        {"outcome": "running"},
    ],
)
def test_a_manifest_that_does_not_fit_the_attempt_is_refused(store, bad):
    with pytest.raises(PermanentFailure), store.attempt("units", KEY, V1) as attempt:
        attempt.commit(manifest(**bad))
    assert store.current("units", KEY) is None


def test_links_and_a_file_named_like_the_manifest_are_refused(store, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    with pytest.raises(PermanentFailure, match="link"), store.attempt("units", KEY, V1) as attempt:
        (attempt.folder / "l").symlink_to(tmp_path / "secret")
        attempt.commit(manifest())
    with (
        pytest.raises(PermanentFailure, match="the store writes it"),
        store.attempt("units", KEY, V1) as attempt,
    ):
        (attempt.folder / "manifest.json").write_text("{}")
        attempt.commit(manifest())
    assert store.current("units", KEY) is None


def test_files_are_synced_before_the_manifest_and_the_manifest_before_the_pointer(
    store, monkeypatch
):
    """The order on which a power cut depends, seen at the system calls."""
    calls: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(handle):
        calls.append("sync " + Path(f"/proc/self/fd/{handle}").resolve().name)
        return real_sync(handle)

    def replace(path, target):
        calls.append("replace " + Path(target).name)
        return real_replace(path, target)

    with store.attempt("units", KEY, V1) as attempt:
        (attempt.folder / "sub").mkdir()
        (attempt.folder / "sub" / "data.bin").write_bytes(b"x")
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)
        attempt.commit(manifest())
    order = [
        calls.index("sync data.bin"),
        calls.index("sync sub"),
        calls.index("replace manifest.json"),
        calls.index(f"sync {attempt.id}", calls.index("replace manifest.json")),
        calls.index("replace current.json"),
        calls.index(f"sync {KEY}", calls.index("replace current.json")),
    ]
    assert order == sorted(order)
    assert calls.index(f"sync {attempt.id}") < calls.index("replace manifest.json")


def test_a_store_that_is_moved_still_opens(store, tmp_path):
    put(store, {"a/b": b"1"})
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    assert (moved.current("units", KEY).local() / "a/b").read_bytes() == b"1"
    assert moved.verify() == []
    for path in (tmp_path / "elsewhere").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_store_and_handles_survive_pickling(store):
    stored = put(store, {"f": b"1"})
    for each in (stored, store.current("units", KEY)):
        copy = pickle.loads(pickle.dumps(each))
        assert copy == each
        assert copy.manifest == stored.manifest
        assert (copy.local() / "f").read_bytes() == b"1"


def test_tables_are_read_by_name(store):
    frame = pd.DataFrame({"unit": [1, 2], "snr": [3.5, np.nan]})
    with store.attempt("units", KEY, V1) as attempt:
        frame.to_parquet(attempt.folder / "units.parquet")
        stored = attempt.commit(manifest())
    pd.testing.assert_frame_equal(stored.table("units"), frame)
    assert list(stored.table("units", columns=["snr"]).columns) == ["snr"]


# -- deleted behind the back ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["delete", "cut"])
def test_a_file_changed_behind_the_back_is_one_named_permanent_failure(store, tmp_path, how):
    stored = put(store, {"a.zarr/0": b"12345", "b": b"1"})
    victim = tmp_path / "store" / stored.path / "a.zarr/0"
    victim.unlink() if how == "delete" else victim.write_bytes(b"123")
    stored = store.current("units", KEY)
    for use in (stored.local, lambda: stored.file("a.zarr"), lambda: stored.file("a.zarr/0")):
        with pytest.raises(PermanentFailure) as caught:
            use()
        text = str(caught.value)
        assert "units" in text and KEY in text and "a.zarr/0" in text and "--force" in text
        assert "\n" not in text
    assert stored.file("b").read_bytes() == b"1"
    assert store.committed("units", KEY, V1) is None


def test_a_deleted_or_damaged_manifest_is_named(store, tmp_path):
    stored = put(store, {"b": b"1"})
    path = tmp_path / "store" / stored.path / "manifest.json"
    path.write_text("{")
    with pytest.raises(PermanentFailure, match=r"manifest\.json .*damaged"):
        _ = store.current("units", KEY).manifest
    path.unlink()
    with pytest.raises(PermanentFailure, match=r"manifest\.json is missing"):
        store.current("units", KEY).local()
    (tmp_path / "store/units" / KEY / "current.json").write_text("[]")
    with pytest.raises(PermanentFailure, match=r"current\.json .*damaged"):
        store.current("units", KEY)


def test_a_file_that_the_output_never_had_says_what_it_has(store):
    stored = put(store, {"a.zarr/0": b"1", "b": b"1"})
    with pytest.raises(PermanentFailure, match=r"no 'c\.parquet'; it has: a\.zarr, b"):
        stored.table("c")
    with pytest.raises(PermanentFailure):
        stored.file("../current.json")
    assert stored.has("a.zarr") and stored.has("a.zarr/0") and not stored.has("a")


# -- failures -------------------------------------------------------------------------------------


def test_a_failure_is_recorded_and_leaves_what_counted(store):
    good = put(store, {"f": b"1"})
    bad = manifest(version=V2, outcome="failed", error={"type": "ValueError", "message": "boom"})
    store.fail(bad)
    assert store.current("units", KEY) == good
    failure = store.failure("units", KEY)
    assert failure.error == {"type": "ValueError", "message": "boom"}
    assert failure.version == V2 and failure.attempt
    assert store.committed("units", KEY, V2) is None


def test_a_failure_is_over_once_something_newer_is_committed_or_adopted(store):
    good = put(store, {"f": b"1"})
    bad = manifest(version=V2, outcome="failed", error={"type": "E", "message": "m"})
    store.fail(bad)
    put(store, {"f": b"2"}, version=V2)
    assert store.failure("units", KEY) is None
    store.fail(bad)
    assert store.failure("units", KEY) is not None
    store.adopt(good)
    assert store.failure("units", KEY) is None


def test_a_failed_key_without_any_commit_is_listed(store):
    store.fail(manifest(outcome="failed", error={"type": "E", "message": "m"}))
    assert store.keys("units") == [KEY]
    assert store.current("units", KEY) is None
    assert store.failure("units", KEY).error["type"] == "E"
    assert store.committed("units", KEY, V1) is None


# -- versions and names ---------------------------------------------------------------------------


def ref(asset: str, digest: str, attempt: str = "a", version: str = "v") -> InputRef:
    return InputRef(asset=asset, version=version, attempt=attempt, digest=digest)


def test_the_version_depends_on_what_matters_and_on_nothing_else():
    values, refs = {"x": 1, "y": 2.5}, [ref("a", "1"), ref("b", "2")]
    packages = {"numpy": "1", "scipy": "2"}
    base = version_of("units", "1", values, refs, packages)
    again = [ref("b", "2", "z", "v9"), ref("a", "1", "y", "v8")]
    same = version_of("units", "1", {"y": 2.5, "x": 1}, again, {"scipy": "2", "numpy": "1"})
    assert base == same, "order, attempts and versions of inputs do not count"
    assert len(base) == 16 and int(base, 16) >= 0
    others = [
        version_of("unit", "1", values, refs, packages),
        version_of("units", "2", values, refs, packages),
        version_of("units", "1", {"x": 2, "y": 2.5}, refs, packages),
        version_of("units", "1", values, [ref("a", "2"), ref("b", "2")], packages),
        version_of("units", "1", values, [ref("a", "2"), ref("b", "1")], packages),
        version_of("units", "1", values, [ref("a", "1")], packages),
        version_of("units", "1", values, refs, {**packages, "numpy": "2"}),
        version_of("units", "1", values, refs),
        version_of("units", "1", values, refs, packages, key="k"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_missing_input_counts_like_an_absent_one():
    with_hole = version_of("nwb", "1", {}, [ref("a", "1"), ref("lfp", "", "", "missing")])
    assert with_hole == version_of("nwb", "1", {}, [ref("a", "1")])
    assert with_hole != version_of("nwb", "1", {}, [ref("a", "1"), ref("lfp", "2")])


def test_the_version_never_changes_between_releases():
    """Hash worked out by hand from the documented text; a change makes every output outdated."""
    import hashlib

    text = (
        '{"algorithm":"1","asset":"lfp","configuration":{"rate_hz":1000},'
        '"inputs":[["raw_recording","ff"]],"key":"","packages":{"scipy":"1.15"}}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    refs = [ref("raw_recording", "ff")]
    assert version_of("lfp", "1", {"rate_hz": 1000}, refs, {"scipy": "1.15"}) == expected


def test_what_json_cannot_hold_is_an_error_and_not_a_guess():
    with pytest.raises(TypeError):
        jsonable({"a": object()})
    assert jsonable({"a": (1, np.arange(2)), "b": {3, 1}, "c": Path("x/y")}) == {
        "a": [1, [0, 1]],
        "b": [1, 3],
        "c": "x/y",
    }
    assert canonical({"b": 1, "a": None}) == b'{"a":null,"b":1}'


@pytest.mark.property
@settings(deadline=None)
@given(st.text())
def test_no_name_can_leave_its_folder_or_hide(name):
    try:
        checked_name(name, "key")
    except PermanentFailure as error:
        assert "\n" not in str(error)
        return
    path = Path("/store/units") / name
    assert path.parent == Path("/store/units")
    assert os.path.normpath(path) == str(path)
    assert not name.startswith(".")
    assert name.isascii()


@pytest.mark.property
@settings(deadline=None)
@given(st.text(max_size=150))
def test_every_safe_name_is_a_name_for_the_store(text):
    assert checked_name(safe_name(text), "key") == safe_name(text)


@pytest.mark.property
@settings(deadline=None)
@given(st.text())
def test_no_file_path_of_a_manifest_can_leave_the_output(text):
    try:
        checked_path(text)
    except ValueError:
        return
    path = os.path.normpath(f"/store/units/{text}")
    assert path.startswith("/store/units/")
    assert path == f"/store/units/{text}"


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/b", "/a", ".hidden", "a\0", "a..b"])
def test_hostile_names_are_refused_everywhere(store, name):
    for use in (
        lambda: store.attempt(name, KEY, V1),
        lambda: store.attempt("units", name, V1),
        lambda: store.attempt("units", KEY, name),
        lambda: store.current("units", name),
        lambda: store.produced_by(name, "units", KEY),
        lambda: store.lease(name, 1),
    ):
        with pytest.raises(PermanentFailure, match="not a safe"):
            use()


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(PermanentFailure, match="neither a folder nor s3"):
        Store("http://server/x")


# -- verify and gc --------------------------------------------------------------------------------


def test_verify_names_a_flipped_byte_a_cut_file_and_a_missing_one(store, tmp_path):
    stored = put(store, {"a": b"1234", "b": b"1234", "c": b"1234", "d": b"1234"})
    folder = tmp_path / "store" / stored.path
    (folder / "a").write_bytes(b"1235")
    (folder / "b").write_bytes(b"123")
    (folder / "c").unlink()
    seen = []
    defects = store.verify(progress=lambda fraction, words: seen.append(fraction))
    assert [(d.path, d.kind) for d in defects] == [
        ("a", "checksum"),
        ("b", "size"),
        ("c", "missing"),
    ]
    assert {(d.asset, d.key, d.attempt) for d in defects} == {("units", KEY, stored.attempt)}
    assert seen[-1] == 1.0
    with pytest.raises(PermanentFailure, match="nothing of 'M2_20240512_1_probe00'"):
        store.verify("units", "M2_20240512_1_probe00")


def test_verify_reports_a_pointer_to_a_removed_output(store, tmp_path):
    stored = put(store, {"a": b"1"})
    (tmp_path / "store" / stored.path / "manifest.json").unlink()
    assert [d.kind for d in store.verify("units", KEY)] == ["pointer"]


def age(path: Path, hours: float = 48) -> None:
    then = time.time() - hours * 3600
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(each, (then, then))


def abandon(store: Store, asset="units", version=V1, files=("x.zarr/0", "y")) -> Path:
    """What a killed process leaves."""
    folder = Path(store.url) / asset / KEY / version / "20200101T000000000000-deadbeef"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_gc_removes_old_broken_off_tries_and_nothing_else(store):
    kept = put(store, {"f": b"1"})
    older = put(store, {"f": b"2"}, version=V2)
    store.adopt(kept)
    dead = abandon(store)
    empty = abandon(store, asset="lfp", files=())
    young = abandon(store, asset="motion")
    leftover = Path(store.url) / "registry" / ".x.json.0123456789ab.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"12345")
    for path in (dead, empty, leftover, Path(store.url) / kept.path, Path(store.url) / older.path):
        age(path)
    listed = store.gc(older_than_h=24)
    assert {(g.kind, g.size_bytes) for g in listed} == {("uncommitted", 4), ("uncommitted", 0),
                                                        ("temporary", 5)}  # fmt: skip
    assert dead.is_dir() and leftover.is_file()
    assert store.gc(older_than_h=24, dry_run=False) == listed
    assert not dead.exists() and not empty.exists() and not leftover.exists()
    assert young.is_dir()
    assert store.current("units", KEY) == kept
    assert store.committed("units", KEY, V2) == older
    assert store.verify() == []
    assert store.gc(older_than_h=24) == []


def test_gc_removes_a_duplicate_unless_it_counts_or_something_was_made_from_it(store):
    first = put(store, {"f": b"1"})
    second = put(store, {"f": b"22"})
    put(store, {"g": b"3"}, asset="lfp", inputs=[first.ref])
    for stored in (first, second):
        age(Path(store.url) / stored.path)
    assert store.gc(older_than_h=1) == [], "an input of lfp and the one that counts"
    third = put(store, {"f": b"333"})
    garbage = store.gc(older_than_h=1, dry_run=False)
    assert [(g.path, g.kind) for g in garbage] == [(second.path, "duplicate")]
    assert store.attempts("units", KEY, V1) == [first.attempt, third.attempt]
    assert store.current("units", KEY) == third


def test_gc_never_removes_the_last_intact_copy_of_a_version(store):
    first = put(store, {"f": b"1"})
    second = put(store, {"f": b"22"})
    put(store, {"f": b"0"}, version=V2)  # what counts is another version
    (Path(store.url) / second.path / "f").unlink()
    for stored in (first, second):
        age(Path(store.url) / stored.path)
    assert [g.path for g in store.gc(older_than_h=1, dry_run=False)] == [second.path]
    assert store.committed("units", KEY, V1) == first


def test_gc_removes_the_scratch_of_a_killed_process_and_not_of_a_living_one(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from neuro_assets.store import Store\n"
        "a = Store(sys.argv[1], scratch=sys.argv[2]).attempt('units', 'k', 'v').__enter__()\n"
        "(a.scratch / 'big').write_bytes(b'x' * 100)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "scratch")]
    assert subprocess.run(arguments, check=False).returncode == -9
    store = Store(tmp_path / "store", scratch=tmp_path / "scratch")
    with store.attempt("units", KEY, V1) as mine:
        (mine.scratch / "mine").write_bytes(b"x")
        found = [g for g in store.gc(older_than_h=0, dry_run=False) if g.kind == "scratch"]
        assert [(g.size_bytes, g.n_files) for g in found] == [(100, 1)]
        assert (mine.scratch / "mine").is_file()
    assert len(list((tmp_path / "scratch").iterdir())) == 1


# -- registry files and leases --------------------------------------------------------------------


def test_json_is_replaced_whole_and_created_only_once(store, tmp_path):
    assert store.read_json("registry/a.json") is None
    assert store.create_json("registry/a.json", {"n": 1})
    assert not store.create_json("registry/a.json", {"n": 2})
    assert store.read_json("registry/a.json") == {"n": 1}
    store.write_json_atomic("registry/a.json", {"n": 3})
    assert store.read_json("registry/a.json") == {"n": 3}
    assert everything(tmp_path / "store") == ["registry/a.json"]
    (tmp_path / "store/registry/a.json").write_text("{")
    with pytest.raises(PermanentFailure, match="damaged"):
        store.read_json("registry/a.json")


def test_files_of_the_store_are_readable_by_the_group(store, tmp_path):
    stored = put(store, {"f": b"1"})
    reference = tmp_path / "reference"
    reference.touch()
    for name in (f"{stored.path}/manifest.json", f"units/{KEY}/current.json"):
        assert (tmp_path / "store" / name).stat().st_mode == reference.stat().st_mode


def test_creation_is_exclusive_where_there_are_no_hard_links(store, monkeypatch):
    import errno

    def no_link(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    assert store.create_json("registry/a.json", 1)
    assert not store.create_json("registry/a.json", 2)
    assert store.read_json("registry/a.json") == 1
    seen = []
    real = Path.open

    def opened(path, mode="r", *more):
        if mode == "xb":
            seen.append((path.name, (Path(store.url) / "registry/b.json").exists()))
        return real(path, mode, *more)

    monkeypatch.setattr(Path, "open", opened)
    assert store.create_json("registry/b.json", 1)
    assert [name for name, _ in seen if not name.endswith(".tmp")] == [], "whole from the start"


def test_a_lease_is_held_by_one_until_released(store):
    first, second = store.lease("pose-S1", 60), store.lease("pose-S1", 60)
    assert first.acquire()
    assert not second.acquire()
    assert first.acquire(), "its holder may ask again"
    second.release()
    assert not second.acquire(), "only the holder gives it back"
    first.release()
    assert second.acquire()


@pytest.mark.parametrize(
    "left",
    [
        {"owner": "a", "seconds": 0.05, "count": 3},
        {"owner": "a", "expires": "2999-01-01T00:00:00Z"},
        {"owner": "a", "seconds": 1e12},
        {"owner": "a", "seconds": float("nan")},
        ["damaged"],
    ],
)
def test_a_dead_holder_is_followed_whatever_it_wrote(store, left):
    store.write_json_atomic("leases/x/4.json", left)
    with store.lease("x", 0.1, timeout_s=60) as lease:
        assert not store.lease("x", 60).acquire()
        assert lease.acquire()


def test_of_many_who_find_a_dead_holder_one_takes_over(store):
    store.write_json_atomic("leases/x/1.json", {"owner": "a", "seconds": 0})
    leases = [store.lease("x", 60) for _ in range(8)]
    assert not any(lease.acquire() for lease in leases), "nobody is dead at first sight"
    start = threading.Barrier(len(leases))

    def take(lease) -> bool:
        start.wait()
        return lease.acquire()

    with ThreadPoolExecutor(len(leases)) as pool:
        assert sum(pool.map(take, leases)) == 1


def test_a_holder_that_lives_keeps_its_lease_beyond_its_seconds(store):
    other = store.lease("x", 3)
    with store.lease("x", 3):
        while store.read_json("leases/x/1.json")["count"] < 5:
            assert not other.acquire()
            time.sleep(0.1)
    assert other.acquire()


def test_waiting_for_a_lease_in_vain_is_transient_and_names_the_holder(store):
    with (
        store.lease("x", 60),
        pytest.raises(TransientFailure, match=f"pid {os.getpid()}"),
        store.lease("x", 0.05),
    ):
        pass
    assert store.lease("x", 60).acquire()


def test_gc_keeps_what_counts_for_a_recording_though_it_stands_under_its_session(store):
    made = []
    for key in ("a", "b"):
        with store.attempt("pose", "session-1", V1, key) as attempt:
            (attempt.folder / "x").write_bytes(b"x")
            manifest = Manifest(asset="pose", key="session-1", version=V1, outcome="complete")
            made.append(attempt.commit(manifest))
    assert made[0].attempt != made[1].attempt
    assert [g for g in store.gc(older_than_h=0, dry_run=False) if g.kind == "duplicate"] == []
    assert store.current("pose", "a").is_intact() and store.current("pose", "b").is_intact()
