"""Files of Alyx's sessions: in place, fetched, checked, and never trusted."""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from fake_alyx.file_server import FileServer, file_server
from fake_alyx.server import TOKEN, AlyxServer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from one.alf.path import add_uuid_string, remove_uuid_string
from places import REPOSITORY, SAMPLES
from s3_servers import BUCKET, client, moto_server
from spikeglx_files import write_cbin

from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.files import cache as files_cache
from neuro_assets.alyx.files import fetch as files_fetch
from neuro_assets.alyx.files import repositories as files
from neuro_assets.alyx.files import transfer
from neuro_assets.alyx.files.fetch import FetchReport
from neuro_assets.alyx.files.paths import (
    OddPath,
    checked,
    download_url,
    folder_name,
    session_and_file,
    with_uuid,
    without_uuid,
)
from neuro_assets.alyx.files.placement import locate
from neuro_assets.alyx.files.repositories import Repositories
from neuro_assets.alyx.rows import DatasetRow, parse
from neuro_assets.config import AlyxConfig, LabConfig
from neuro_assets.formats.scan import scan_listing
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.metadata import RemoteFile

SESSION = "M1/2026-11-20/001"
AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap"
LARGE = 1000
"""Bytes above which a file counts as large here."""


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def dataset_id(path: str) -> str:
    return str(UUID(md5(path.encode())))


def record(name: str, relative: str, *, exists: bool = True, url: str | None = None) -> dict:
    return {
        "id": str(uuid4()),
        "data_repository": name,
        "relative_path": relative,
        "data_url": url,
        "exists": exists,
    }


def row(
    path: str,
    content: bytes = b"content",
    *records: dict,
    session: str = SESSION,
    url: str = "",
    **more: Any,
) -> DatasetRow:
    """A dataset below the session; without records, one on the repository `lab`."""
    named = more.pop("id", dataset_id(path))
    collection, _, name = path.rpartition("/")
    link = with_uuid(f"{url}/lab/{session}/{path}", named) if url else None
    return DatasetRow.of(
        {
            "url": f"http://127.0.0.1:8000/datasets/{named}",
            "name": name,
            "collection": collection,
            "file_size": len(content),
            "hash": md5(content),
            "file_records": records or [record("lab", f"{session}/{path}", url=link)],
            **more,
        }
    )


def put(root: Path, path: str, content: bytes = b"content") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as found:
        yield found


def fetch(made: Repositories, *arguments: Any, **more: Any) -> FetchReport:
    with made.present(*arguments, **more) as report:
        return report


class Lab:
    """Datasets on the data server, and what the platform sees of them."""

    def __init__(self, server: FileServer, cache: Path, cache_bytes: int = 10**9) -> None:
        self.server = server
        self.repositories = Repositories(
            {"lab": "download"}, cache, cache_bytes, timeout_s=5, retry_s=0.01
        )

    def add(self, path: str, content: bytes, session: str = SESSION, **more: Any) -> DatasetRow:
        made = row(path, content, session=session, url=self.server.url, **more)
        self.server.files[self.address(made)] = content
        return made

    def address(self, made: DatasetRow) -> str:
        return str(made.file_records[0].data_url).removeprefix(self.server.url)

    def fetch(self, *rows: DatasetRow, **more: Any) -> Path:
        place = self.repositories.session_folder(rows)
        assert place is not None
        fetch(self.repositories, self.repositories.remote_files(place), place.folder, **more)
        return place.folder


@pytest.fixture
def lab(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for module in (files, files_fetch, files_cache):
        monkeypatch.setattr(module, "SMALL_BYTES", LARGE)
    for name in ("HTTP_DATA_SERVER", "HTTP_DATA_SERVER_LOGIN", "HTTP_DATA_SERVER_PWD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield Lab(server, tmp_path / "cache")


def sample(name: str) -> Any:
    if not SAMPLES.is_dir():
        pytest.skip(f"no recorded answers of Alyx at {SAMPLES}")
    return json.loads((SAMPLES / f"{name}.json").read_text())["exchanges"][0]["response"]["body"]


# Paths


PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "\\", "C:", "~", "a\\..\\b", "x\x00", "2026-11-20", "001", "/"]
    ),
    st.text(max_size=6),
)
PATHS = st.one_of(
    st.lists(PARTS, max_size=9).map("/".join),
    st.tuples(st.lists(PARTS, max_size=3), st.lists(PARTS, max_size=4)).map(
        lambda p: "/".join([*p[0], "S", "2026-11-20", "001", *p[1]])
    ),
)


@pytest.mark.property
@settings(deadline=None)
@given(PATHS)
@example("S/2026-11-20/001/../../../../etc/passwd")
@example("S/2026-11-20/001/..")
@example("S/2026-11-20/001/C:")
@example("//S/2026-11-20/001/x")
@example("S/2026-11-20/001/\ud800.npy")
@example("S/2026-11-20/001/" + "x" * 300)
@example("S/2026-11-20/001/..." + str(UUID(int=0)) + ".")
@example("S/2026-11-20/001/." + str(UUID(int=0)) + ".npy")
def test_whatever_a_path_says_it_stays_below_the_folder_it_is_joined_to(path):
    try:
        session, below = session_and_file(path)
    except OddPath:
        return
    for text in (path, session, below, f"{session}/{below}"):
        assert checked(text) == text
        normal = os.path.normpath(os.path.join("/root/place", text))  # noqa: PTH118
        assert normal == f"/root/place/{text}", "nothing in it climbs, doubles or starts anew"
        assert "\0" not in text and "\\" not in text
        os.fsencode(text)
    assert path.startswith(f"{session}/")
    assert PurePosixPath(session).parts[-2:] == tuple(session.split("/")[-2:])


@pytest.mark.property
@settings(deadline=None)
@given(
    st.from_regex(r"[a-zA-Z_]{1,8}\.[a-zA-Z]{1,8}\.[a-z]{1,4}", fullmatch=True), st.uuids(version=4)
)
def test_the_dataset_id_in_a_name_is_where_one_puts_it(name, uuid):
    named = with_uuid(f"alf/{name}", str(uuid))
    assert named == f"alf/{add_uuid_string(name, uuid)}"
    assert without_uuid(named) == f"alf/{remove_uuid_string(Path(named)).name}" == f"alf/{name}"


@pytest.mark.property
@settings(deadline=None)
@given(st.text(max_size=40))
@example("file:///etc/passwd")
@example("https://user:hush@host/x")
@example("http://a\\@b/x")
@example("ftp://host/x")
@example("http://[::1/x")
def test_a_link_is_http_and_carries_no_password(text):
    found = download_url(text)
    assert found is None or (found.startswith(("http://", "https://")) and "hush" not in found)
    assert download_url(f"http://me:hush@127.0.0.1:1/{found and 'a'}") in (
        "http://127.0.0.1:1/a",
        "http://127.0.0.1:1/None",
    )


@pytest.mark.property
@settings(deadline=None)
@given(st.text(max_size=20))
@example("../..")
@example(".state")
def test_a_repository_whatever_its_name_is_one_visible_folder(name):
    made = folder_name(name)
    assert made and not made.startswith(".") and "/" not in made


# Places


def test_the_recorded_dataset_is_found_where_it_exists_and_not_where_it_is_only_registered(
    tmp_path,
):
    found = DatasetRow.of(sample("12-datasets-read"))
    both = {"flatiron_mainenlab": "s3://bucket/data", "mainen_lab_SR": str(tmp_path / "SR")}
    located = locate(found, both)[0]
    assert located is not None
    assert (located.repository, located.session, located.path) == (
        "mainen_lab_SR",
        "ZFM-06048/2026-11-20/001",
        "alf/_ibl_trials.table.pqt",
    )
    assert locate(found, {"elsewhere": "/x"})[0] is None


def test_the_first_repository_of_the_configuration_that_has_a_file_is_read(tmp_path):
    path = f"{SESSION}/alf/spikes.times.npy"
    found = row("alf/spikes.times.npy", b"x", record("b", path), record("a", path))
    for names in (["a", "b"], ["b", "a"]):
        places = {name: str(tmp_path / name) for name in names}
        located = locate(found, places)[0]
        assert located is not None and located.repository == names[0]


@pytest.mark.parametrize(
    "bad", ["../../../etc/passwd", "/etc/passwd", "S/2026-11-20/001/../../x", "S\\2026-11-20\\1\\x"]
)
def test_a_hostile_path_is_reported_and_nothing_is_read(tmp_path, bad):
    secret = put(tmp_path, "etc/passwd")
    made = Repositories({"lab": str(tmp_path / "a/b/c")}, tmp_path / "cache", 10**9)
    hostile = row("x.npy", b"content", record("lab", bad))
    assert locate(hostile, made.places)[0] is None
    assert made.session_folder([hostile]) is None
    assert [problem.kind for problem in made.check([hostile])] == ["odd_path"]
    assert secret.exists()


def test_a_renumbered_session_is_read_at_its_old_path(tmp_path):
    body = sample("101-patch-session-number")
    assert body["number"] == 3
    put(tmp_path, f"ZFM-06048/2026-11-20/002/{AP}.cbin")
    old = row(f"{AP}.cbin", session="ZFM-06048/2026-11-20/002")
    place = Repositories({"lab": str(tmp_path)}, tmp_path / "cache", 1).session_folder([old])
    assert place is not None and place.folder == tmp_path / "ZFM-06048/2026-11-20/002"
    assert not place.is_remote
    assert [file.path for file in Repositories({}, tmp_path / "c", 1).listing(place).files] == [
        f"{AP}.cbin"
    ]


def test_of_two_records_on_one_repository_the_new_path_is_read(tmp_path):
    paths = [f"S/2026-11-20/{number}/alf/x.npy" for number in ("001", "003")]
    found = row("alf/x.npy", b"x", *(record("lab", path) for path in paths))
    located = locate(found, {"lab": str(tmp_path)})[0]
    assert located is not None and located.session == "S/2026-11-20/003"


def test_a_session_with_probes_on_two_repositories_is_read_from_one_and_says_so(tmp_path):
    rows = [row(f"raw_ephys_data/probe0{i}/r_g0_t0.imec{i}.ap.bin", b"x") for i in range(3)]
    far = [record("far", f"{SESSION}/{r.path}") for r in rows[2:]]
    rows[2] = rows[2].model_copy(update={"file_records": tuple(row("x", b"x", *far).file_records)})
    made = Repositories({"far": str(tmp_path / "far"), "lab": str(tmp_path)}, tmp_path / "c", 1)
    place = made.session_folder(rows)
    assert place is not None and place.folder == tmp_path / SESSION
    assert [(p.kind, p.path) for p in place.problems] == [
        ("other_repository", "raw_ephys_data/probe02")
    ]
    assert "far" in place.problems[0].detail


def test_probes_on_two_remote_repositories_meet_in_the_cache(lab):
    rows = [lab.add(f"raw_ephys_data/probe0{i}/r.imec{i}.ap.meta", b"x") for i in range(2)]
    other = rows[1].file_records[0].model_copy(update={"data_repository": "far"})
    rows[1] = rows[1].model_copy(update={"file_records": (other,)})
    lab.repositories.places["far"] = "download"
    place = lab.repositories.session_folder(rows)
    assert place is not None and place.problems == ()
    lab.fetch(*rows)
    assert all((place.folder / each.path).read_bytes() == b"x" for each in rows)


def test_of_two_equal_places_the_preferred_repository_is_read(tmp_path):
    rows = [
        row(path, b"x", record(name, f"{SESSION}/{path}"))
        for name, path in (("b", "probe00/x.imec0.ap.bin"), ("a", "probe01/x.imec1.ap.bin"))
    ]
    for names in (["a", "b"], ["b", "a"]):
        places = {name: str(tmp_path / name) for name in names}
        place = Repositories(places, tmp_path / "cache", 1).session_folder(rows)
        assert place is not None and place.folder == tmp_path / names[0] / SESSION


def test_other_than_default_revisions_are_left_out(lab):
    new = lab.add(f"{AP}.meta", b"new")
    old = lab.add(f"raw_ephys_data/probe00/#2020-01-01#/{AP}.meta", b"old", default_dataset=False)
    place = lab.repositories.session_folder([old, new])
    assert place is not None
    assert [file.path for file in lab.repositories.remote_files(place)] == [f"{AP}.meta"]


def test_two_datasets_with_one_path_are_reported_and_the_newer_is_used(lab):
    rows = [
        lab.add("x.npy", b"x", id=str(uuid4()), auto_datetime=f"2026-11-{day}T10:00:00")
        for day in (22, 21)
    ]
    newer = max(rows, key=lambda each: each.auto_datetime)
    place = lab.repositories.session_folder(rows)
    assert place is not None
    assert [f.dataset_id for f in lab.repositories.remote_files(place)] == [newer.id]
    assert [p.kind for p in lab.repositories.check(rows)] == ["duplicate_dataset"]


# In place


def test_a_file_is_found_on_disk_with_or_without_the_dataset_id_in_its_name(tmp_path):
    rows = [row(f"alf/{name}.npy") for name in ("a.times", "b.times", "c.times")]
    rows[0] = rows[0].model_copy(update={"file_size": None})
    put(tmp_path, f"{SESSION}/{rows[0].path}")
    put(tmp_path, with_uuid(f"{SESSION}/{rows[1].path}", rows[1].id))
    found = Repositories({"lab": str(tmp_path)}, tmp_path / "cache", 1).check(rows)
    assert [(problem.kind, problem.path) for problem in found] == [
        ("registered_but_missing", "alf/c.times.npy")
    ]


def test_a_file_with_the_id_in_its_name_is_read_and_not_the_stray_one_beside_it(tmp_path):
    made = row("alf/a.times.npy")
    put(tmp_path, f"{SESSION}/{made.path}", b"strayed")
    named = put(tmp_path, with_uuid(f"{SESSION}/{made.path}", made.id))
    here = Repositories({"lab": str(tmp_path)}, tmp_path / "cache", 1)
    place = here.session_folder([made])
    assert place is not None
    assert [place.folder / file.path for file in here.listing(place).files] == [named]


def test_a_wrong_size_in_the_database_is_reported_with_both_sizes(tmp_path):
    put(tmp_path, f"{SESSION}/alf/a.npy", b"x" * 138)
    found = Repositories({"lab": str(tmp_path)}, tmp_path / "cache", 1).check(
        [row("alf/a.npy", b"x" * 22)]
    )
    assert [problem.kind for problem in found] == ["wrong_size"]
    assert "138" in found[0].detail and "22" in found[0].detail
    assert "register it again" in found[0].detail


@pytest.mark.parametrize("is_there", [True, False])
def test_a_repository_without_its_disk_is_no_pile_of_missing_files(tmp_path, is_there):
    if is_there:
        (tmp_path / "mount").mkdir()
    made = Repositories({"lab": str(tmp_path / "mount")}, tmp_path / "cache", 1)
    with pytest.raises(TransientFailure, match="mounted"):
        made.check([row("alf/a.npy")])


def test_a_link_that_is_no_http_address_is_reported(lab):
    bad = row("x.npy", b"x", record("lab", f"{SESSION}/x.npy", url="file:///etc/passwd"))
    assert lab.repositories.session_folder([bad]) is None
    assert [problem.kind for problem in lab.repositories.check([bad])] == ["no_link"]


# Fetching


def test_a_scan_finds_remote_recordings_with_only_small_files_here(lab, tmp_path):
    write_cbin(tmp_path / "rig" / f"{AP}.cbin", 3000)
    rows = [
        lab.add(f"{AP}.{end}", (tmp_path / "rig" / f"{AP}.{end}").read_bytes())
        for end in ("cbin", "ch", "meta")
    ]
    rows.append(lab.add("alf/large.json", b" " * 20_000))
    files_cache.SMALL_BYTES = files.SMALL_BYTES = files_fetch.SMALL_BYTES = 10_000
    assert rows[0].file_size is not None and rows[0].file_size > 10_000
    place = lab.repositories.session_folder(rows)
    assert place is not None
    with lab.repositories.hold(place.folder):
        assert len(lab.repositories.fetch_small(place).fetched) == 2
        scan = scan_listing(place.folder, lab.repositories.listing(place))
    assert [found.label for found in scan.recordings] == ["probe00"] and not scan.problems
    assert scan.recordings[0].main.n_samples == 3000
    assert not (place.folder / f"{AP}.cbin").exists()
    assert lab.server.n_gets(lab.address(rows[0])) == 0


def test_a_small_file_that_cannot_be_had_keeps_no_other_from_coming(lab):
    gone, wrong = lab.add("a/gone.meta", b"a"), lab.add("b/wrong.meta", b"b", file_size=2)
    rows = [gone, wrong, lab.add("c/right.meta", b"c")]
    del lab.server.files[lab.address(gone)]
    place = lab.repositories.session_folder(rows)
    assert place is not None
    for fetched in (("c/right.meta",), ()):
        report = lab.repositories.fetch_small(place)
        assert report.fetched == fetched
        assert [(p.kind, p.path) for p in sorted(report.problems, key=lambda p: p.path)] == [
            ("not_fetched", "a/gone.meta"),
            ("not_fetched", "b/wrong.meta"),
        ]
    assert lab.server.n_gets(lab.address(wrong)) == 1
    del lab.server.files[lab.address(wrong)]
    assert len(lab.repositories.fetch_small(place).problems) == 2
    lab.server.status = {lab.address(gone): 503}
    with pytest.raises(TransientFailure):
        lab.repositories.fetch_small(place)


def test_a_server_that_fails_once_to_say_a_size_is_asked_again(lab):
    made = lab.add("a.npy", os.urandom(3000))
    lab.server.fail_heads = 2
    assert (lab.fetch(made) / "a.npy").exists()
    assert lab.server.n_gets() == 1


def test_files_arrive_whole_and_are_not_fetched_again(lab):
    content = {f"alf/{i}.npy": os.urandom(500 + 700 * i) for i in range(3)}
    rows = [lab.add(path, text) for path, text in content.items()]
    seen: list[tuple[int, int, str]] = []
    folder = lab.fetch(*rows, progress=lambda *said: seen.append(said))
    assert {path: (folder / path).read_bytes() for path in content} == content
    assert seen[-1][:2] == (sum(map(len, content.values())),) * 2
    n_requests = len(lab.server.log)
    lab.fetch(*rows)
    assert len(lab.server.log) == n_requests
    visible = [p for p in folder.rglob("*") if p.is_file() and ".fetched" not in p.parts]
    assert len(visible) == 3


def test_a_new_hash_is_fetched_and_a_file_that_was_touched_too(lab):
    folder = lab.fetch(lab.add("a.npy", b"old"))
    lab.fetch(new := lab.add("a.npy", b"new"))
    assert (folder / "a.npy").read_bytes() == b"new"
    (folder / "a.npy").write_bytes(b"bad")
    lab.fetch(new)
    assert (folder / "a.npy").read_bytes() == b"new"


def test_what_must_be_fetched_can_be_kept_as_json(lab):
    place = lab.repositories.session_folder([lab.add("a.npy", b"a")])
    assert place is not None
    (file,) = lab.repositories.remote_files(place)
    kept = RemoteFile.model_validate_json(file.model_dump_json())
    assert kept == file and (kept.size, kept.md5) == (1, md5(b"a"))
    assert lab.repositories.remote_files(place, ["other"]) == ()
    fetch(lab.repositories, [kept], place.folder)
    assert (place.folder / "a.npy").exists()


def test_a_dataset_without_a_size_is_a_problem_and_not_a_download(lab):
    unknown = lab.add("a.npy", b"a", file_size=None)
    place = lab.repositories.session_folder([unknown])
    assert place is not None
    assert [p.kind for p in lab.repositories.listing(place).problems] == ["size_missing"]
    assert lab.repositories.remote_files(place) == ()


@pytest.mark.parametrize("said", [None, "", "abc123", "z" * 32])
def test_without_a_usable_hash_the_size_is_checked(lab, said):
    place = lab.repositories.session_folder([lab.add("a.npy", b"a", hash=said)])
    assert place is not None
    report = fetch(lab.repositories, lab.repositories.remote_files(place), place.folder)
    assert report.fetched == ("a.npy",)


@pytest.mark.parametrize("size", [300, 3000])
def test_a_wrong_size_in_the_database_is_reported_and_not_downloaded_again(lab, size):
    wrong = lab.add("a.npy", os.urandom(size), file_size=size - 50)
    for n_gets in (1, 1) if size < LARGE else (0, 0):
        with pytest.raises(PermanentFailure, match="register it again") as caught:
            lab.fetch(wrong)
        assert lab.server.n_gets() == n_gets
        for part in (f" {size - 50} bytes", f" {size} bytes", wrong.id, "a.npy"):
            assert part in str(caught.value)
    right = lab.add("a.npy", lab.server.files[lab.address(wrong)])
    assert (lab.fetch(right) / "a.npy").stat().st_size == size


def test_a_refused_file_is_fetched_once_the_right_one_is_there(lab):
    wrong = lab.add("a.npy", b"x" * 30, file_size=20, hash=md5(b"y" * 20))
    with pytest.raises(PermanentFailure):
        lab.fetch(wrong)
    lab.server.files[lab.address(wrong)] = b"y" * 20
    assert (lab.fetch(wrong) / "a.npy").read_bytes() == b"y" * 20


def test_a_server_that_tells_no_sizes_cannot_make_us_download_for_ever(lab):
    lab.server.no_head = True
    wrong = lab.add("a.npy", b"x" * 2000, file_size=3000)
    with pytest.raises(PermanentFailure, match="2000 bytes"):
        lab.fetch(wrong)
    n_gets = lab.server.n_gets()
    assert n_gets == 2
    with pytest.raises(PermanentFailure, match="2000 bytes"):
        lab.fetch(wrong)
    assert lab.server.n_gets() == n_gets


def test_more_bytes_than_registered_are_not_written_for_ever(lab):
    lab.server.hang, lab.server.hang_at = True, 5_000_000
    endless = lab.add("a.npy", b"x" * 6_000_000, file_size=10)
    with pytest.raises(PermanentFailure, match="6000000 bytes"):
        lab.fetch(endless)
    with pytest.raises(PermanentFailure, match="6000000 bytes"):
        lab.fetch(endless)
    assert lab.server.n_gets() == 1


def test_a_wrong_hash_is_fetched_twice_and_then_given_up(lab):
    wrong = lab.add("a.npy", b"true content", hash=md5(b"what is said"))
    with pytest.raises(PermanentFailure, match=md5(b"true content")):
        lab.fetch(wrong)
    assert lab.server.n_gets() == 2
    assert not list(lab.repositories.cache.root.rglob("a.npy*"))
    assert not list(lab.repositories.cache.root.rglob(".incoming-*"))


def test_a_file_that_was_being_written_on_the_server_comes_on_the_second_try(lab):
    right = lab.add("a.npy", b"all there")
    lab.server.bodies[lab.address(right)] = [b"all the\0\0"]
    assert (lab.fetch(right) / "a.npy").read_bytes() == b"all there"


def test_a_connection_that_breaks_off_is_tried_again(lab):
    lab.server.cut = 2
    content = os.urandom(3000)
    assert (lab.fetch(lab.add("a.npy", content)) / "a.npy").read_bytes() == content
    assert lab.server.n_gets() == 3


def test_a_connection_that_always_breaks_off_is_no_wrong_size(lab):
    lab.server.cut = 3
    made = lab.add("a.npy", os.urandom(3000))
    with pytest.raises(TransientFailure, match="10 bytes read, 2990 more"):
        lab.fetch(made)
    assert lab.fetch(made).is_dir()


def test_a_server_that_hangs_is_left(lab):
    made = Repositories(
        {"lab": "download"}, lab.repositories.cache.root, 10**9, timeout_s=0.2, retry_s=0.01
    )
    lab.repositories = made
    lab.server.hang = True
    with pytest.raises(TransientFailure, match="hangs"):
        lab.fetch(lab.add("a.npy", b"x" * 100))


def test_a_server_that_sends_a_byte_now_and_then_is_left(lab):
    made = Repositories(
        {"lab": "download"}, lab.repositories.cache.root, 10**9, patience_s=0.2, retry_s=0.01
    )
    lab.repositories = made
    lab.server.drip = True
    with pytest.raises(TransientFailure, match="too little came"):
        lab.fetch(lab.add("a.npy", b"x" * 5000))


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, PermanentFailure, "registered as existing"),
        (403, PermanentFailure, "HTTP_DATA_SERVER_LOGIN"),
        (418, PermanentFailure, "418"),
        (503, TransientFailure, "503"),
    ],
)
def test_what_a_data_server_refuses_says_what_to_do(lab, status, kind, words):
    made = lab.add("a.npy", b"a")
    lab.server.status = {lab.address(made): status}
    with pytest.raises(kind, match=words):
        lab.fetch(made)


def test_a_data_server_that_is_not_there_is_worth_another_try(lab):
    lab.server.url = "http://127.0.0.1:9"
    with pytest.raises(TransientFailure, match="broke off"):
        lab.fetch(lab.add("a.npy", b"a"))


def test_a_file_without_the_id_in_its_name_is_found_on_the_server(lab):
    for content in (b"a", os.urandom(3000)):
        made = lab.add("#1#/a b.npy", content)
        lab.server.files = {f"/lab/{SESSION}/#1#/a b.npy": content}
        assert (lab.fetch(made) / "#1#/a b.npy").read_bytes() == content


def test_a_data_server_gets_the_login_of_the_environment_and_nobody_reads_it(
    lab, monkeypatch, caplog, capfd
):
    lab.server.login = ("lab", "hush-hush")
    monkeypatch.setenv("HTTP_DATA_SERVER", lab.server.url)
    monkeypatch.setenv("HTTP_DATA_SERVER_LOGIN", "lab")
    monkeypatch.setenv("HTTP_DATA_SERVER_PWD", "wrong-secret")
    made = [lab.add("a.npy", b"a"), lab.add("b.npy", b"b" * 3000)]
    with caplog.at_level(logging.DEBUG), pytest.raises(PermanentFailure, match="LOGIN") as caught:
        lab.fetch(*made)
    monkeypatch.setenv("HTTP_DATA_SERVER_PWD", "hush-hush")
    with caplog.at_level(logging.DEBUG):
        folder = lab.fetch(*made)
    assert (folder / "a.npy").read_bytes() == b"a"
    shown = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "hush" not in shown and "wrong-secret" not in shown
    written = b"".join(p.read_bytes() for p in lab.repositories.cache.root.rglob("*.json"))
    assert b"hush" not in written


@pytest.mark.parametrize("named", ["", "another port", "another name of the host", "another end"])
def test_only_the_named_data_server_gets_the_password(lab, monkeypatch, named):
    url = lab.server.url
    servers = {
        "another port": "http://127.0.0.1:9",
        "another name of the host": url.replace("127.0.0.1", "localhost"),
        "another end": url[:-1],
    }
    lab.server.login = ("lab", "hush-hush")
    monkeypatch.setenv("HTTP_DATA_SERVER", servers.get(named, ""))
    monkeypatch.setenv("HTTP_DATA_SERVER_LOGIN", "lab")
    monkeypatch.setenv("HTTP_DATA_SERVER_PWD", "hush-hush")
    with pytest.raises(PermanentFailure, match="HTTP_DATA_SERVER to the address"):
        lab.fetch(lab.add("a.npy", b"a"), lab.add("b.npy", b"b" * 3000))
    assert lab.server.passwords == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_redirected_to_does_not_get_the_password(lab, monkeypatch, host):
    lab.server.login = ("lab", "hush-hush")
    monkeypatch.setenv("HTTP_DATA_SERVER", lab.server.url)
    monkeypatch.setenv("HTTP_DATA_SERVER_LOGIN", "lab")
    monkeypatch.setenv("HTTP_DATA_SERVER_PWD", "hush-hush")
    made = [lab.add("a.npy", b"a"), lab.add("b.npy", b"b" * 3000)]
    with file_server() as other:
        other.login = ("lab", "hush-hush")
        for each in made:
            address = lab.address(each)
            other.files[address] = lab.server.files[address]
            lab.server.moved[address] = other.url.replace("127.0.0.1", host) + address
        with pytest.raises(PermanentFailure, match="HTTP_DATA_SERVER to the address"):
            lab.fetch(*made)
        assert other.passwords == [] and lab.server.passwords
        other.login = None
        assert (lab.fetch(*made) / "a.npy").read_bytes() == b"a"


def test_no_error_shows_the_query_of_a_signed_link():
    for error in (
        requests.ConnectionError("Max retries exceeded with url: /a?X-Amz-Signature=hush (x)"),
        requests.exceptions.InvalidURL("https://data.example.org/a?token=hush"),
    ):
        shown = str(transfer._failure(error, "https://data.example.org/a"))
        assert "hush" not in shown and "/a?..." in shown
    refused = requests.Response()
    refused.status_code, refused.url = 403, "https://cloud.example.org/a?X-Amz-Signature=hush"
    with pytest.raises(PermanentFailure, match=r"/a\?\.\.\.: the data server wants"):
        transfer._length(refused)


def test_a_stored_path_that_became_hostile_is_not_written(lab):
    place = lab.repositories.session_folder([lab.add("a.npy", b"a")])
    assert place is not None
    (file,) = lab.repositories.remote_files(place)
    for path in ("../../../x", "/tmp/x", ".fetched/x"):
        with pytest.raises(PermanentFailure, match="not used"):
            fetch(lab.repositories, [file.model_copy(update={"path": path})], place.folder)
    assert lab.server.log == []


def test_a_folder_outside_the_cache_is_never_written(lab, tmp_path):
    place = lab.repositories.session_folder([lab.add("a.npy", b"a")])
    assert place is not None
    with pytest.raises(PermanentFailure, match="cache"):
        fetch(lab.repositories, lab.repositories.remote_files(place), tmp_path / "elsewhere")


def test_files_on_a_folder_repository_are_neither_fetched_nor_locked(tmp_path):
    put(tmp_path, f"{SESSION}/a.npy")
    made = Repositories({"lab": str(tmp_path)}, tmp_path / "cache", 1)
    place = made.session_folder([row("a.npy")])
    assert place is not None and made.remote_files(place) == ()
    with made.hold(place.folder), made.present((), place.folder) as report:
        assert report.fetched == ()
    made.fetch_small(place)
    assert not (tmp_path / "cache").exists()


def test_the_configuration_makes_them(tmp_path):
    alyx = AlyxConfig(repositories={"lab": "download"}, cache=str(tmp_path), cache_gb=1.5)
    config = LabConfig(alyx=alyx)
    made = Repositories.of(config)
    assert made.cache.root == tmp_path and made.places == {"lab": "download"}
    with pytest.raises(PermanentFailure, match=r"1\.5 GB"):
        made.cache.check_fits(1_600_000_000)


# Room


def small_lab(lab: Lab, cache_bytes: int) -> Lab:
    return Lab(lab.server, lab.repositories.cache.root, cache_bytes)


def test_what_cannot_fit_is_said_with_sizes_before_anything_is_fetched(lab):
    tight = small_lab(lab, 5_000_000)
    with pytest.raises(PermanentFailure, match=r"0\.006 GB .* 0\.005 GB.*cache_gb"):
        tight.fetch(*(tight.add(f"{i}.npy", bytes(3_000_000)) for i in range(2)))
    assert lab.server.log == []


def test_the_session_that_nobody_used_for_longest_goes_first(lab):
    tight = small_lab(lab, 10_000)
    folders, rows = {}, {}
    for name in ("A", "B", "C"):
        rows[name] = tight.add("a.npy", os.urandom(3000), session=f"{name}/2026-11-20/001")
        folders[name] = tight.fetch(rows[name])
        os.utime(tight.repositories.cache.use_lock(folders[name]), (ord(name),) * 2)
    with tight.repositories.hold(folders["A"]):
        pass
    tight.fetch(tight.add("a.npy", os.urandom(3000), session="D/2026-11-20/001"))
    assert [name for name in folders if folders[name].exists()] == ["A", "C"]
    assert not (folders["B"].parents[1]).exists(), "empty folders go too"
    tight.fetch(rows["B"])


HOLD = """
import sys
from pathlib import Path
from neuro_assets.alyx.files.cache import Cache
with Cache(Path(sys.argv[1]), 5000).hold(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def run_python(code: str, *args: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_what_another_process_uses_is_never_removed(lab):
    tight = small_lab(lab, 5000)
    held = tight.fetch(tight.add("a.npy", os.urandom(3000)))
    wanted = tight.add("a.npy", os.urandom(3000), session="B/2026-11-20/001")
    other = run_python(HOLD, str(tight.repositories.cache.root), str(held))
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    n_gets = lab.server.n_gets()
    with pytest.raises(TransientFailure, match="in use"):
        tight.fetch(wanted)
    assert (held / "a.npy").exists() and lab.server.n_gets() == n_gets
    other.kill()
    other.wait()
    tight.fetch(wanted)
    assert not held.exists(), "a killed process holds nothing"


def test_another_probe_of_the_same_session_makes_room_unless_it_is_in_use(lab):
    tight = small_lab(lab, 6000)
    probes = [tight.add(f"raw_ephys_data/probe0{i}/x.ap.cbin", os.urandom(4000)) for i in range(2)]
    meta = tight.add("raw_ephys_data/probe00/x.ap.meta", b"meta")
    folder = tight.fetch(probes[0], meta)
    with tight.repositories.hold(folder), pytest.raises(TransientFailure, match="in use"):
        tight.fetch(probes[1])
    assert (folder / probes[0].path).exists()
    tight.fetch(probes[1])
    assert not (folder / probes[0].path).exists()
    assert (folder / meta.path).exists(), "what a scan reads stays"
    tight.fetch(probes[0])
    assert (folder / probes[0].path).exists()


def test_a_look_into_one_more_session_does_not_count_the_whole_cache_again(lab, monkeypatch):
    counts = []
    sessions = lab.repositories.cache.sessions
    monkeypatch.setattr(lab.repositories.cache, "sessions", lambda: counts.append(1) or sessions())
    for number in range(3):
        lab.fetch(lab.add("x.meta", b"x", session=f"A/2026-11-20/{number}"))
    assert len(counts) == 1
    full = shutil.disk_usage(lab.repositories.cache.root)._replace(free=1)
    with monkeypatch.context() as patch, pytest.raises(PermanentFailure, match="free space"):
        patch.setattr(shutil, "disk_usage", lambda path: full)
        lab.fetch(lab.add("x.meta", b"xx", session="A/2026-11-20/3"))
    tight = small_lab(lab, 3500)
    for number in range(4, 9):
        tight.fetch(tight.add("x.meta", bytes(900), session=f"A/2026-11-20/{number}"))
        stored = sum(p.stat().st_size for p in tight.repositories.cache.root.rglob("x.meta"))
        assert stored <= 3500


def test_files_of_one_request_do_not_push_each_other_out(lab):
    tight = small_lab(lab, 6500)
    first, other, second = (
        tight.add(f"{name}.ap.cbin", os.urandom(size))
        for name, size in (("a", 3000), ("b", 2000), ("c", 3000))
    )
    tight.fetch(first, other)
    folder = tight.fetch(first, second)
    assert sorted(path.name for path in folder.glob("*.cbin")) == ["a.ap.cbin", "c.ap.cbin"]


def test_a_file_that_is_replaced_needs_its_room_once(lab):
    tight = small_lab(lab, 5000)
    tight.fetch(tight.add("a.npy", os.urandom(3000)))
    new = tight.add("a.npy", os.urandom(3000))
    assert md5((tight.fetch(new) / "a.npy").read_bytes()) == new.hash


def test_a_full_disk_is_said_before_anything_is_fetched(lab, monkeypatch):
    usage = shutil.disk_usage(lab.repositories.cache.root.parent)._replace(free=1999)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PermanentFailure, match="free space"):
        lab.fetch(lab.add("a.npy", os.urandom(2000)))
    assert lab.server.n_gets() == 0


FETCH = """
import sys
from pathlib import Path
from neuro_assets.alyx.files import fetch as files_fetch
from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.files.repositories import Repositories
from neuro_assets.registry.metadata import RemoteFile
files_fetch.SMALL_BYTES = 1000
root, folder, limit, *wanted = sys.argv[1:]
if int(limit):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
made = Repositories({"lab": "download"}, Path(root), 10**9, retry_s=0.01)
print("begin", flush=True)
try:
    with made.present([RemoteFile.model_validate_json(each) for each in wanted], Path(folder)):
        pass
except Exception as error:
    print(type(error).__name__, error, flush=True)
else:
    print("done", flush=True)
"""


def fetch_elsewhere(lab: Lab, *rows: DatasetRow, limit: int = 0) -> tuple[subprocess.Popen, Path]:
    place = lab.repositories.session_folder(rows)
    assert place is not None
    wanted = [file.model_dump_json() for file in lab.repositories.remote_files(place)]
    root = str(lab.repositories.cache.root)
    process = run_python(FETCH, root, str(place.folder), str(limit), *wanted)
    assert process.stdout is not None and process.stdout.readline() == "begin\n"
    return process, place.folder


def test_a_file_that_the_disk_does_not_take_is_given_up_and_leaves_nothing(lab):
    process, folder = fetch_elsewhere(lab, lab.add("a.npy", os.urandom(300_000)), limit=100_000)
    said = rest_of(process)
    assert said.startswith("PermanentFailure") and "too large" in said
    assert not list(folder.glob("*")) or not (folder / "a.npy").exists()
    assert not list(folder.glob(".incoming-*"))


def test_two_processes_that_want_the_same_files_fetch_each_once(lab):
    rows = [lab.add(f"{i}.npy", os.urandom(3000)) for i in range(3)]
    others = [fetch_elsewhere(lab, *rows)[0] for _ in range(2)]
    folder = lab.fetch(*rows)
    assert [rest_of(other) for other in others] == ["done\n"] * 2
    assert lab.server.n_gets() == 3
    for made in rows:
        assert md5((folder / made.path).read_bytes()) == made.hash


def test_a_look_at_the_small_files_does_not_wait_for_a_large_download(lab):
    large, small = lab.add("x.ap.cbin", os.urandom(3000)), lab.add("x.ap.meta", b"meta")
    lab.server.hang = True
    process, _ = fetch_elsewhere(lab, large)
    assert lab.server.sent.wait(60)
    lab.server.hang = False
    place = lab.repositories.session_folder([large, small])
    assert place is not None
    assert lab.repositories.fetch_small(place).fetched == ("x.ap.meta",)
    lab.server.release.set()
    assert rest_of(process) == "done\n"


def test_a_download_that_was_killed_halfway_leaves_nothing_in_the_way(lab):
    made = lab.add("a.npy", os.urandom(5000))
    lab.server.hang = True
    process, folder = fetch_elsewhere(lab, made)
    assert lab.server.sent.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lab.server.hang = False
    assert list(folder.glob(".incoming-*")), "it was under way"
    assert md5((lab.fetch(made) / "a.npy").read_bytes()) == made.hash
    assert not list(folder.glob(".incoming-*"))


def rest_of(process: subprocess.Popen) -> str:
    """What it still says; `communicate` would lose what `readline` has read ahead."""
    assert process.stdout is not None
    said = process.stdout.read()
    process.wait()
    return said


def test_room_that_a_running_download_will_fill_is_not_given_twice(lab):
    tight = small_lab(lab, 5000)
    lab.server.hang = True
    process, _ = fetch_elsewhere(tight, tight.add("a.npy", os.urandom(3000)))
    assert lab.server.sent.wait(60)
    lab.server.hang = False
    with pytest.raises(TransientFailure, match="in use"):
        tight.fetch(tight.add("b.npy", os.urandom(3000), session="B/2026-11-20/001"))
    lab.server.release.set()
    assert rest_of(process) == "done\n"


def test_an_interrupt_ends_the_download_at_once(lab):
    root = lab.repositories.cache.root
    lab.repositories = Repositories({"lab": "download"}, root, 10**9, timeout_s=600)
    lab.server.hang = True
    made = lab.add("a.npy", os.urandom(3000))

    def interrupt() -> None:
        lab.server.sent.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    # A background job of a shell ignores interrupts, and so do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            lab.fetch(made)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not lab.server.hung.is_set(), "nobody waited for the server"
    assert not list(root.rglob(".incoming-*"))


def test_a_file_system_without_locks_is_named(lab, monkeypatch):
    def no_locks(*args: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files_cache.fcntl, "flock", no_locks)
    with pytest.raises(PermanentFailure, match="local disk"):
        lab.fetch(lab.add("a.npy", b"a"))


# Alyx's own links


@pytest.mark.integration
def test_rows_of_a_server_lead_to_its_files_by_link_and_in_place(lab, tmp_path):
    content = {f"{AP}.cbin": os.urandom(200_000), f"{AP}.meta": b"meta"}
    with AlyxServer() as alyx:
        alyx.add_repository("central", lab="lab", folder=tmp_path / "served")
        alyx.add_repository("rig", lab="lab", personal=True)
        eid = alyx.add_session("M1", "2026-11-20", lab="lab")["id"]
        for path, text in content.items():
            alyx.add_dataset(eid, path, hash=md5(text), size=len(text), exists=["central"])
            put(tmp_path / "served", f"{SESSION}/{path}", text)
        rows = parse(DatasetRow, Alyx(alyx.url, TOKEN).rows("datasets", most=10, session=eid))
        places = {"rig": str(tmp_path / "rig"), "central": "download"}
        far = Repositories(places, tmp_path / "cache", 10**9, timeout_s=5, retry_s=0.01)
        place = far.session_folder(rows)
        assert place is not None and place.is_remote and not far.check(rows)
        alyx.cut_downloads(1, 1000)
        with far.present(far.remote_files(place), place.folder) as report:
            assert sorted(report.fetched) == sorted(content)
            assert {p: (place.folder / p).read_bytes() for p in content} == content
        near = Repositories({"central": str(tmp_path / "served")}, tmp_path / "cache", 1)
        here = near.session_folder(rows)
        assert here is not None and here.folder == tmp_path / "served" / SESSION
        assert near.check(rows) == []
        assert [f.path for f in near.listing(here).files] == [
            f.path for f in far.listing(place).files
        ]


# S3


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with moto_server() as found:
        yield found


def on_s3(s3: Any, cache: Path, bucket: str = BUCKET) -> Repositories:
    return Repositories(
        {"lab": f"s3://{bucket}/data"}, cache, 10**9, s3.options(), timeout_s=5, retry_s=0.01
    )


@pytest.mark.s3
def test_files_are_fetched_from_s3_with_or_without_the_id_in_their_key(s3, tmp_path):
    content = {"#1#/a.npy": os.urandom(20_000_000), "b c.npy": b"b"}
    rows = [row(path, text) for path, text in content.items()]
    keys = [f"data/{SESSION}/{rows[0].path}", f"data/{SESSION}/{with_uuid('b c.npy', rows[1].id)}"]
    for key, text in zip(keys, content.values(), strict=True):
        client(s3).put_object(Bucket=BUCKET, Key=key, Body=text)
    made = on_s3(s3, tmp_path)
    place = made.session_folder(rows)
    assert place is not None
    fetch(made, made.remote_files(place), place.folder)
    assert {path: (place.folder / path).read_bytes() for path in content} == content
    wrong = row("#1#/a.npy", content["#1#/a.npy"], file_size=22_000_000)
    place = made.session_folder([wrong])
    assert place is not None
    with pytest.raises(PermanentFailure, match="22000000 bytes and has 20000000 bytes"):
        fetch(made, made.remote_files(place), place.folder)


@pytest.mark.s3
def test_a_missing_object_and_a_missing_bucket_are_told_apart(s3, tmp_path):
    for bucket, words in ((BUCKET, "registered as existing"), ("nowhere", "does not exist")):
        made = on_s3(s3, tmp_path, bucket)
        place = made.session_folder([row("none.npy")])
        assert place is not None
        with pytest.raises(PermanentFailure, match=words) as caught:
            fetch(made, made.remote_files(place), place.folder)
        assert s3.options()["secret"] not in str(caught.value)


@pytest.mark.s3
def test_an_s3_server_that_is_not_there_is_worth_another_try(s3, tmp_path):
    options = {**s3.options(), "endpoint_url": "http://127.0.0.1:9"}
    made = Repositories({"lab": "s3://b/data"}, tmp_path, 10**9, options, retry_s=0.01)
    place = made.session_folder([row("none.npy")])
    assert place is not None
    with pytest.raises(TransientFailure):
        fetch(made, made.remote_files(place), place.folder)
