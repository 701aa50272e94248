"""The same store on S3: two different servers, wrong keys, broken connections, deletions."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from records import register
from s3_servers import BUCKET, SECRET, Proxy, Server, client, moto_server, rclone_server
from s3_servers import KEY as LAB_KEY
from store_writer import ASSET, KEY, VERSIONS, check_whole, race, write_for_ever, write_once
from test_io_managers import (
    FRAME,
    K1,
    asset_of,
    execute,
    metadata_of,
    tables,
    write_nwb,
    write_recording,
    write_sorting_and_analyzer,
)
from test_races import race as race_for_keys

from neuro_assets.config import StoreConfig
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.registry.registry import Registry, SessionInfo
from neuro_assets.resources.io_managers import (
    NWB_FILE,
    PARQUET,
    ZARR_ANALYZER,
    ZARR_RECORDING,
    StoreResource,
)
from neuro_assets.service.renaming import rename
from neuro_assets.store import Manifest, Store, Stored
from neuro_assets.store.store_identity import LabMemory, admit, read_identity

RECORDING = RawRecording(
    format="spikeglx",
    probe="probe00",
    streams={
        "ap": Stream(name="ap", files=("a",), n_channels=1, n_samples=1, sampling_frequency=1.0)
    },
    identity=Identity(size_bytes=2),
)

pytestmark = [pytest.mark.s3, pytest.mark.integration]


@pytest.fixture(scope="module")
def moto() -> Iterator[Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory) -> Iterator[Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def server(request) -> Server:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


_prefixes = iter(range(1000))


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/lab{next(_prefixes)}"


@pytest.fixture
def store(server, url, tmp_path) -> Store:
    return Store(url, storage_options=server.options(), scratch=tmp_path / "scratch")


def objects(server: Server, store: Store) -> dict[str, int]:
    """What is in the bucket, by boto3."""
    prefix = store.url.removeprefix(f"s3://{BUCKET}/") + "/"
    pages = client(server).get_paginator("list_objects_v2")
    found = {}
    for page in pages.paginate(Bucket=BUCKET, Prefix=prefix):
        for item in page.get("Contents", ()):
            found[item["Key"].removeprefix(prefix)] = item["Size"]
    return found


def delete(server: Server, store: Store, path: str) -> None:
    prefix = store.url.removeprefix(f"s3://{BUCKET}/")
    client(server).delete_object(Bucket=BUCKET, Key=f"{prefix}/{path}")


def overwrite(server: Server, store: Store, path: str, data: bytes) -> None:
    prefix = store.url.removeprefix(f"s3://{BUCKET}/")
    client(server).put_object(Bucket=BUCKET, Key=f"{prefix}/{path}", Body=data)


def put(store: Store, files: dict[str, bytes], version=VERSIONS[0], **more) -> Stored:
    with store.attempt(ASSET, KEY, version) as attempt:
        for name, data in files.items():
            path = attempt.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        made = Manifest(asset=ASSET, key=KEY, version=version, outcome="complete", **more)
        return attempt.commit(made)


def test_an_output_is_committed_found_and_read_back(server, store):
    stored = put(store, {"a b/ü.bin": b"1" * 1000, "log.txt": b"x"}, run_id="r1")
    fresh = pickle.loads(pickle.dumps(store))
    assert fresh.current(ASSET, KEY) == stored
    assert fresh.committed(ASSET, KEY, VERSIONS[0]) == stored
    assert fresh.produced_by("r1", ASSET, KEY) == stored
    assert fresh.current(ASSET, "M9_20240512_1_probe00") is None
    assert fresh.assets() == [ASSET] and fresh.keys(ASSET) == [KEY]
    folder = fresh.current(ASSET, KEY).local()
    assert (folder / "a b/ü.bin").read_bytes() == b"1" * 1000
    assert stored.file("log.txt").read_bytes() == b"x"
    assert str(stored.file("log.txt")).startswith("s3://")
    assert set(objects(server, store)) == {
        f"units/{KEY}/current.json",
        f"units/{KEY}/runs/r1.json",
        f"{stored.path}/a b/ü.bin",
        f"{stored.path}/log.txt",
        f"{stored.path}/manifest.json",
    }
    assert store.verify() == []


def test_nothing_is_left_on_the_local_disk_but_what_was_asked_for(store):
    stored = put(store, {"f": b"1"})
    scratch = Path(store.scratch)
    assert [p for p in scratch.rglob("*") if p.is_file()] == []
    folder = stored.local()
    assert folder.is_relative_to(scratch)
    assert stored.local() == folder


def test_a_download_happens_once_a_process_and_goes_with_it(server, store, tmp_path):
    stored = put(store, {"f": b"1"})
    first = store.current(ASSET, KEY).local()
    delete(server, store, f"{stored.path}/f")
    assert store.current(ASSET, KEY).local() == first, "not fetched twice"
    overwrite(server, store, f"{stored.path}/f", b"1")
    code = (
        "import pickle, sys\n"
        "stored = pickle.loads(sys.stdin.buffer.read())\n"
        "print(stored.local())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(stored), capture_output=True, check=True
    )
    theirs = Path(done.stdout.decode().strip())
    assert theirs != first and theirs.is_relative_to(tmp_path)
    assert not theirs.exists() and first.exists()


def test_a_download_that_does_not_fit_is_refused_before_it_starts(store, monkeypatch):
    import shutil
    from collections import namedtuple

    stored = put(store, {"f": b"1"})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(PermanentFailure, match="scratch folder with more space"):
        stored.local()


def test_tables_open_without_a_download(store, tmp_path):
    frame = pd.DataFrame({"unit": range(1000)})
    with store.attempt(ASSET, KEY, VERSIONS[0]) as attempt:
        frame.to_parquet(attempt.folder / "units.parquet")
        made = Manifest(asset=ASSET, key=KEY, version=VERSIONS[0], outcome="complete")
        stored = attempt.commit(made)
    pd.testing.assert_frame_equal(stored.table("units"), frame)
    assert list((tmp_path / "scratch").glob("*/downloads")) == []


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(store):
    data = random.Random(0).randbytes(1 << 20) * 34
    stored = put(store, {"big.bin": data, "small": b"1"})
    assert (stored.local() / "big.bin").read_bytes() == data
    assert store.verify() == []


def test_many_small_files_are_listed_beyond_one_page(rclone, url, tmp_path):
    store = Store(url, storage_options=rclone.options(), scratch=tmp_path)
    stored = put(store, {f"z.zarr/{i // 100}/{i}": b"%d" % i for i in range(1100)})
    assert store.current(ASSET, KEY).is_intact()
    delete(rclone, store, f"{stored.path}/z.zarr/10/1099")
    assert not store.current(ASSET, KEY).is_intact()


def test_skips_failures_and_reuse_work_as_in_a_folder(store):
    good = put(store, {"f": b"1"})
    error = {"type": "E", "message": "m"}
    store.fail(Manifest(asset=ASSET, key=KEY, version=VERSIONS[1], outcome="failed", error=error))
    assert store.current(ASSET, KEY) == good
    assert store.failure(ASSET, KEY).error == error
    with store.attempt(ASSET, KEY, VERSIONS[1]) as attempt:
        skip = {"reason": "no_units_found", "detail": "", "origin": None}
        made = Manifest(asset=ASSET, key=KEY, version=VERSIONS[1], outcome="skipped", skip=skip)
        skipped = attempt.commit(made)
    assert store.failure(ASSET, KEY) is None
    assert store.current(ASSET, KEY) == skipped and skipped.outcome is Outcome.SKIPPED
    store.adopt(good, run_id="r2")
    assert store.produced_by("r2", ASSET, KEY) == good == store.current(ASSET, KEY)


@pytest.mark.parametrize("how", ["delete", "cut"])
def test_an_object_changed_behind_the_back_is_one_named_permanent_failure(server, store, how):
    stored = put(store, {"a.zarr/0": b"12345", "b": b"1"})
    path = f"{stored.path}/a.zarr/0"
    if how == "delete":
        delete(server, store, path)
    else:
        overwrite(server, store, path, b"123")
    stored = store.current(ASSET, KEY)
    for use in (stored.local, lambda: stored.file("a.zarr"), lambda: stored.file("a.zarr/0")):
        with pytest.raises(PermanentFailure) as caught:
            use()
        text = str(caught.value)
        assert "\n" not in text and ASSET in text and KEY in text and "a.zarr/0" in text
    assert store.committed(ASSET, KEY, VERSIONS[0]) is None
    assert [d.kind for d in store.verify()] == ["missing" if how == "delete" else "size"]


def test_verify_finds_a_changed_byte(server, store):
    stored = put(store, {"a": b"12345"})
    overwrite(server, store, f"{stored.path}/a", b"12346")
    assert [(d.path, d.kind) for d in store.verify()] == [("a", "checksum")]


def test_the_registry_and_leases_live_there_too(store):
    registry = Registry(store)
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1", folder="/d")
    made = register(registry, session, RECORDING, "v1")
    assert Registry(store).all() == {made.key: made}
    registry.update(made.key, lambda record: {"state": "held"})
    assert registry.get(made.key).state == "held"
    assert registry.rebuild_index() == 1
    assert store.assets() == []
    assert store.lease("x", 60).acquire()
    assert not store.lease("x", 60).acquire()


def test_a_renamed_recording_keeps_its_outputs_in_place(server, store):
    registry = Registry(store)
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1", folder="/d")
    assert register(registry, session, RECORDING, "v1").key == KEY
    made = write_once(store, VERSIONS[0])
    error = {"type": "PermanentFailure", "message": "broken"}
    store.fail(Manifest(asset="lfp", key=KEY, version="v", outcome="failed", error=error))
    before = {name for name in objects(server, store) if "traces" in name}
    new = KEY.replace("_1_", "_2_")
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            rename(Registry(store), instance, KEY, new, [])
    assert list(Registry(store).all()) == [new]
    found = store.current(ASSET, new)
    assert (found.path, found.digest) == (made.path, made.digest)
    assert store.failure("lfp", new).error == error
    assert store.current(ASSET, KEY) is None and store.failure("lfp", KEY) is None
    check_whole(found)
    assert {name for name in objects(server, store) if "traces" in name} == before
    assert store.verify() == [] and store.gc(older_than_h=0) == []


def test_exclusive_creation_is_tried_and_noted(server, store):
    made = admit(store)
    assert made.exclusive_creation is (server.name == "moto")
    assert bool(made.writer) is (server.name == "rclone")
    assert read_identity(store) == made == admit(store)
    assert sorted(objects(server, store)) == ["store.json"]
    with pytest.raises(PermanentFailure, match="this lab uses other"):
        admit(store, expected="other")


@pytest.mark.parametrize("after", ["the work", "the upload", "the manifest", "the run's pointer"])
def test_another_store_behind_the_same_address_is_not_written_to(server, store, monkeypatch, after):
    made = admit(store)
    other = made.model_copy(update={"id": "another"}).model_dump_json().encode()
    names = {"the manifest": "manifest.json", "the run's pointer": "runs/R1.json"}
    upload, write = store.backend.upload, store.backend.write

    def swap() -> None:
        overwrite(server, store, "store.json", other)

    def uploaded(*arguments):
        upload(*arguments)
        if after == "the upload":
            swap()

    def written(path, data):
        write(path, data)
        if after in names and path.endswith(names[after]):
            swap()

    monkeypatch.setattr(store.backend, "upload", uploaded)
    monkeypatch.setattr(store.backend, "write", written)
    attempt = store.attempt(ASSET, KEY, VERSIONS[0])
    fields = {"asset": ASSET, "key": KEY, "version": VERSIONS[0], "run_id": "R1"}
    with pytest.raises(PermanentFailure, match="was the store"), attempt:
        (attempt.folder / "f").write_bytes(b"1")
        if after == "the work":
            swap()
        attempt.commit(Manifest(**fields, outcome="complete"))
    order = ["the work", "the upload", "the manifest", "the run's pointer"]
    for use in (
        lambda: put(store, {"f": b"1"}),
        lambda: store.fail(Manifest(**fields, outcome="failed", error={"type": "x"})),
        lambda: store.create_json("registry/log/1.json", {}),
    ):
        with pytest.raises(PermanentFailure, match="was the store"):
            use()
    there = {name.rpartition("/")[2] for name in objects(server, store)}
    assert there == {"store.json", *["f", "manifest.json", "R1.json"][: order.index(after)]}


def test_processes_that_race_give_each_recording_one_key_on_servers_of_both_kinds(server, url):
    race_for_keys(url, server.options())


def test_without_exclusive_creation_another_lab_may_read_and_not_register(rclone, url, tmp_path):
    store = Store(url, storage_options=rclone.options(), scratch=tmp_path)
    admit(store, memory=LabMemory(tmp_path / "lab" / ".neuro_assets"))
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1", folder="/d")
    with pytest.raises(PermanentFailure, match="only .* may register recordings there"):
        register(Registry(store), session, RECORDING, "v1")
    assert Registry(store).all() == {}


def test_gc_removes_a_broken_off_upload_and_nothing_else(server, store):
    kept = put(store, {"f": b"1"})
    overwrite(
        server,
        store,
        f"{ASSET}/{KEY}/{VERSIONS[1]}/20200101T000000000000-deadbeef/half.zarr/0",
        b"123",
    )
    assert store.gc(older_than_h=1) == [], "too young"
    garbage = store.gc(older_than_h=0, dry_run=False)
    assert [(g.kind, g.size_bytes, g.n_files) for g in garbage] == [("uncommitted", 3, 1)]
    assert not [path for path in objects(server, store) if "dead" in path]
    assert store.verify() == [] and store.current(ASSET, KEY) == kept


def test_gc_ends_multipart_uploads_that_nobody_finished(moto, url, tmp_path):
    store = Store(url, storage_options=moto.options(), scratch=tmp_path)
    boto = client(moto)
    name = f"{store.url.removeprefix(f's3://{BUCKET}/')}/units/k/v/a/big"
    boto.create_multipart_upload(Bucket=BUCKET, Key=name)  # moto dates it back to 2010
    assert [(g.kind, g.path) for g in store.gc(older_than_h=0, dry_run=False)] == [
        ("upload", "units/k/v/a/big")
    ]
    assert not boto.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


# -- refusals -------------------------------------------------------------------------------------


def uses(store: Store):
    """Every kind of request, as a step or a person would cause it."""
    return {
        "current": lambda: store.current(ASSET, KEY),
        "assets": store.assets,
        "verify": store.verify,
        "gc": store.gc,
        "commit": lambda: write_once(store, VERSIONS[0]),
        "fail": lambda: store.fail(
            Manifest(asset=ASSET, key=KEY, version=VERSIONS[0], outcome="failed")
        ),
        "registry": lambda: Registry(store).all(),
        "lease": lambda: store.lease("x", 1).acquire(),
    }


def test_a_wrong_secret_key_is_one_permanent_line_everywhere(rclone, url, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    options = rclone.options(secret="a-wrong-secret")
    store = Store(url, storage_options=options, scratch=tmp_path)
    for name, use in uses(store).items():
        with pytest.raises(PermanentFailure) as caught:
            use()
        text = str(caught.value)
        assert "\n" not in text, name
        assert "access key" in text and url in text, name
        assert "a-wrong-secret" not in text
    assert "a-wrong-secret" not in caplog.text and SECRET not in caplog.text
    assert "a-wrong-secret" not in repr(store) + repr(store.backend)
    assert "a-wrong-secret" not in repr(store.backend.locate("x")) + str(store.backend.locate("x"))


def test_a_bucket_that_does_not_exist_is_not_an_empty_store(server, tmp_path):
    store = Store("s3://no-such-bucket/x", storage_options=server.options(), scratch=tmp_path)
    for name, use in uses(store).items():
        with pytest.raises(PermanentFailure, match="bucket.*does not exist") as caught:
            use()
        assert "\n" not in str(caught.value), name


def test_no_credentials_at_all_says_which_to_set(rclone, url, tmp_path):
    options = {"endpoint_url": rclone.endpoint, "max_attempts": 1}
    store = Store(url, storage_options=options, scratch=tmp_path)
    with pytest.raises(PermanentFailure, match="AWS_ACCESS_KEY_ID"):
        store.current(ASSET, KEY)


def test_a_server_that_is_down_is_transient(url, tmp_path):
    options = Server("none", "http://127.0.0.1:9").options()
    store = Store(url, storage_options=options, scratch=tmp_path)
    for name, use in uses(store).items():
        with pytest.raises(TransientFailure) as caught:
            use()
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("bad", ["s3://", "s3:///x", "s3://b/../c", "s3://b//c"])
def test_an_address_that_is_none_is_refused(bad):
    with pytest.raises(PermanentFailure, match="lab.yaml"):
        Store(bad)


# -- broken connections ---------------------------------------------------------------------------


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    made = Proxy(server.endpoint)
    yield made
    made.close()


@pytest.mark.parametrize("size", [400_000, 33 << 20], ids=["one PUT", "in parts"])
def test_a_connection_that_drops_in_mid_upload_shows_nothing_and_loses_nothing(
    server, proxy, store, tmp_path, size
):
    kept = put(store, {"f": b"1"})
    options = Server("proxy", proxy.endpoint).options()
    through = Store(store.url, storage_options=options, scratch=tmp_path / "scratch")
    proxy.limit = 200_000
    files = {"a": b"small", "big": b"x" * size}
    with pytest.raises(TransientFailure) as caught:
        put(through, files, version=VERSIONS[1])
    assert "\n" not in str(caught.value)
    assert proxy.cuts >= 2, "it was tried again"
    assert store.current(ASSET, KEY) == kept
    assert store.committed(ASSET, KEY, VERSIONS[1]) is None
    assert store.attempts(ASSET, KEY, VERSIONS[1]) == []
    assert kept.is_intact() and store.verify() == []
    assert [p for p in (tmp_path / "scratch").rglob("*") if p.is_file()] == []

    proxy.limit = None
    again = put(through, files, version=VERSIONS[1])
    assert store.current(ASSET, KEY) == again and again.is_intact()
    store.gc(older_than_h=0, dry_run=False)
    left = {path for path in objects(server, store) if VERSIONS[1] in path}
    assert left == {f"{again.path}/{name}" for name in ("a", "big", "manifest.json")}


def test_a_connection_that_drops_once_is_only_a_delay(server, proxy, url, tmp_path):
    options = Server("proxy", proxy.endpoint).options(max_attempts=5)
    store = Store(url, storage_options=options, scratch=tmp_path)
    proxy.limit, proxy.most_cuts = 200_000, 1
    stored = put(store, {"big": b"x" * 400_000})
    assert proxy.cuts == 1
    assert stored.is_intact()


def test_a_connection_that_drops_at_the_manifest_leaves_only_garbage(
    server, proxy, store, tmp_path, monkeypatch
):
    kept = put(store, {"f": b"1"})
    options = Server("proxy", proxy.endpoint).options()
    through = Store(store.url, storage_options=options, scratch=tmp_path / "scratch")
    real = through.backend.write

    def write(path, data):
        proxy.limit = 0
        real(path, data)

    monkeypatch.setattr(through.backend, "write", write)
    with pytest.raises(TransientFailure):
        put(through, {"g": b"22"}, version=VERSIONS[1])
    assert store.current(ASSET, KEY) == kept
    assert store.attempts(ASSET, KEY, VERSIONS[1]) == []
    assert [g.kind for g in store.gc(older_than_h=0)] == ["uncommitted"]


# -- several processes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "neuro_assets.store.s3", "s3fs"])
    return context


def test_two_processes_at_once_end_in_one_committed_attempt(server, store, tmp_path, processes):
    barrier, answers = processes.Barrier(2), processes.Queue()
    children = [
        processes.Process(
            target=race,
            args=(
                store.url,
                str(tmp_path / who),
                who,
                barrier,
                answers,
                False,
                server.options(),
            ),
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
    assert stored.attempt == winner and stored.is_intact()
    assert {entry.path for entry in stored.manifest.files} == {f"{name}-{i}" for i in range(10)}
    below = [path for path in objects(server, store) if path.startswith(f"{stored.path}/")]
    assert len(below) == 11, "no file of the other in it"
    store.gc(older_than_h=0, dry_run=False)
    assert not [path for path in objects(server, store) if "/two-" in path and name == "one"]
    assert store.verify() == []


def test_kills_in_the_middle_of_uploads_show_no_half_output_and_lose_none(
    rclone, url, tmp_path, processes
):
    store = Store(url, storage_options=rclone.options(), scratch=tmp_path / "scratch")
    rng = random.Random(2)
    done: set[tuple[str, str]] = set()
    for _ in range(6):
        ready = processes.Event()
        child = processes.Process(
            target=write_for_ever,
            args=(store.url, str(tmp_path / "theirs"), ready, rclone.options()),
        )
        child.start()
        assert ready.wait(120)
        time.sleep(rng.uniform(0.3, 0.9))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        after = {(v, a) for v in VERSIONS for a in store.attempts(ASSET, KEY, v)}
        assert done <= after
        for version, attempt in after - done:
            check_whole(store.stored(ASSET, KEY, version, attempt))
        done = after
    assert done, "the writer never got to write: the test proves nothing"
    check_whole(store.current(ASSET, KEY))
    for version in VERSIONS:
        check_whole(write_once(store, version))
    store.gc(older_than_h=0, dry_run=False)
    assert store.verify() == []
    check_whole(store.current(ASSET, KEY))


# -- through Dagster ------------------------------------------------------------------------------


def test_every_format_goes_to_s3_through_dagster_and_opens_from_there(
    moto, url, tmp_path, monkeypatch
):
    import spikeinterface as si

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LAB_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    config = StoreConfig(url=url, endpoint_url=moto.endpoint, region="us-east-1")
    resource = StoreResource(config, str(tmp_path))
    seen: dict = {}
    assets = [
        asset_of("units", PARQUET, tables(units=FRAME)),
        asset_of("recording", ZARR_RECORDING, write_recording),
        asset_of("sorting", ZARR_ANALYZER, write_sorting_and_analyzer),
        asset_of("nwb", NWB_FILE, write_nwb),
        asset_of("last", PARQUET, tables(a=FRAME), ins=["units", "recording"], see=seen.update),
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("session_probe", [K1])
        result = execute(resource, instance, assets)
    shown = metadata_of(result, "recording")
    assert shown["path"].startswith(f"{url}/recording/{K1}/")
    assert SECRET not in str(result.all_events)
    pd.testing.assert_frame_equal(seen["units"].table("units"), FRAME)
    store = resource.store()
    traces = si.read_zarr(store.current("recording", K1).local() / "ap.zarr").get_traces()
    options = {"endpoint_url": moto.endpoint, "key": LAB_KEY, "secret": SECRET}
    there = store.current("recording", K1).file("ap.zarr")
    far = si.read_zarr(str(there), storage_options=options)
    assert (far.get_traces() == traces).all()
    analyzer = store.current("sorting", K1).local() / "analyzer.zarr"
    assert si.load_sorting_analyzer(analyzer, load_extensions=False).get_num_units() == 3
    assert store.current("nwb", K1).file(f"{K1}.nwb").stat().st_size > 1000
    assert store.verify() == []
