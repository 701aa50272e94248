"""The doctor tells what is wrong with Alyx apart, and how to mend it."""

import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_alyx.server import AlyxServer
from scripted_http import TOKEN, hangs, html, lonely_home, says, scripted

from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.doctor import findings
from neuro_assets.config import AlyxConfig

Find = Callable[..., dict[str, tuple[bool, str]]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return lonely_home(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer(zone="Europe/Lisbon") as alyx:
        alyx.add_lab("mainenlab")
        alyx.add_lab("CORTEX")
        alyx.add_project("psychedelics")
        alyx.add_project("ibl_neuropixel_brainwide_01")
        alyx.add_repository("mainen_lab_SR", lab="mainenlab", personal=True)
        alyx.add_repository("flatiron_mainenlab", lab="mainenlab")
        yield alyx


def of_lab(files: Sequence[str] = (), **wanted: Any) -> tuple[AlyxConfig, Sequence[str]]:
    """What `lab.yaml` names; a zone that does not exist is refused when it is read."""
    return AlyxConfig().model_copy(update={"timezone": "Europe/Lisbon", **wanted}), files


@pytest.fixture
def find(server: AlyxServer) -> Find:
    def found(client: Alyx | None = None, **wanted: object) -> dict[str, tuple[bool, str]]:
        client = client or Alyx(server.url, server.token, tries=2)
        lines = list(findings(client, *of_lab(**wanted)))
        assert len({subject for subject, _, _ in lines}) == len(lines)
        assert not [words for _, _, words in lines if "\n" in words or server.token in words]
        return {subject: (is_well, words) for subject, is_well, words in lines}

    return found


def impatient(url: str, token: str = TOKEN) -> Alyx:
    return Alyx(url, token, timeout_s=1, deadline_s=30, tries=2, sleep=lambda seconds: None)


def test_all_is_well_where_everything_is_there(server, find, tmp_path):
    server.add_session("M1", "2026-11-20", 1, lab="mainenlab")
    (tmp_path / "data" / "lab").mkdir(parents=True)
    found = find(
        projects=["psychedelics"],
        labs=["mainenlab"],
        repositories={"mainen_lab_SR": str(tmp_path / "data"), "flatiron_mainenlab": "download"},
    )
    assert list(found) == [
        "alyx",
        "token",
        "project psychedelics",
        "lab mainenlab",
        "repository mainen_lab_SR",
        "repository flatiron_mainenlab",
        "timezone",
    ]
    assert all(is_well for is_well, _ in found.values()), found
    assert "has 1 sessions" in found["alyx"][1]
    assert len(server.log) == 6


def test_nothing_is_asked_for_that_nobody_named(server, find):
    assert list(find()) == ["alyx", "token", "timezone"]
    assert [path.partition("?")[0] for _, path in server.log] == [
        "/sessions",
        "/sessions",
        "/datasets",
    ]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (hangs, "hangs: silent for 1 s"),
        (html(404), "is not an Alyx"),
        (html(200), "Sign in to LabNet"),
        (says(200, {"version": 3}), "is not an Alyx"),
        (says(302, {}, Location="https://login.example.org/"), "https://login.example.org"),
        (html(502), "failed with 502"),
    ],
    ids=["hangs", "nothing there", "login page", "another API", "redirect", "bad gateway"],
)
def test_what_is_no_alyx_is_told_and_nothing_else_is_tried(find, act, words):
    with scripted() as other:
        other.acts[:] = [act]
        found = find(impatient(other.url), projects=["psychedelics"])
    assert list(found) == ["alyx"]
    is_well, said = found["alyx"]
    assert not is_well
    assert words in said
    assert other.url in said
    assert "lab.yaml" in said


def test_a_host_where_nothing_listens_and_one_that_does_not_exist_are_told_apart(find, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    refused = find(impatient(closed))

    def lookup(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    unknown = find(impatient("https://alix.example.org"))
    assert (list(refused), list(unknown)) == (["alyx"], ["alyx"])
    assert "nothing listens there" in refused["alyx"][1]
    assert "alix.example.org" in unknown["alyx"][1]
    assert "no such host" in unknown["alyx"][1]


@pytest.mark.parametrize("token", ["", "some-other-token"])
def test_a_wrong_token_is_not_a_wrong_address(server, find, token):
    found = find(impatient(server.url, token), projects=["psychedelics"])
    assert list(found) == ["alyx", "token"]
    assert found["alyx"] == (True, f"{server.url} is an Alyx")
    is_well, words = found["token"]
    assert not is_well
    assert "set ALYX_TOKEN" in words
    assert len(server.log) == 1


@pytest.mark.parametrize(
    ("wanted", "subject", "nearest"),
    [
        ({"projects": ["psychedelic"]}, "project psychedelic", "'psychedelics'"),
        ({"projects": ["Psychedelics"]}, "project Psychedelics", "'psychedelics'"),
        ({"labs": ["cortex"]}, "lab cortex", "'CORTEX'"),
        ({"labs": ["mainen_lab"]}, "lab mainen_lab", "'mainenlab'"),
        ({"repositories": {"mainen_SR": "/"}}, "repository mainen_SR", "'mainen_lab_SR'"),
        ({"labs": ["zzz"]}, "lab zzz", "CORTEX, mainenlab"),
    ],
)
def test_a_name_that_alyx_does_not_have_is_told_with_the_nearest(find, wanted, subject, nearest):
    is_well, words = find(**wanted)[subject]
    assert not is_well
    assert nearest in words
    assert "lab.yaml" in words


def test_one_wrong_name_does_not_hide_the_others(find):
    found = find(projects=["nope", "psychedelics"], labs=["nope"])
    wells = {subject: is_well for subject, (is_well, _) in found.items()}
    assert wells["project psychedelics"]
    assert not wells["project nope"]
    assert not wells["lab nope"]
    assert wells["timezone"]


def test_a_repository_is_looked_for_where_lab_yaml_says(find, tmp_path, monkeypatch):
    def place(where: object) -> tuple[bool, str]:
        return find(repositories={"mainen_lab_SR": str(where)})["repository mainen_lab_SR"]

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert place("s3://bucket/lab") == (True, "is in Alyx; files come from: s3://bucket/lab")
    assert place("download")[0]
    for wrong in (tmp_path / "file", tmp_path / "nowhere"):
        is_well, words = place(wrong)
        assert not is_well
        assert f"{wrong} is not a folder of this machine" in words
    assert place(tmp_path / "empty") == (True, f"{tmp_path / 'empty'} is empty: is it mounted?")

    def forbidden(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    is_well, words = place(tmp_path)
    assert not is_well
    assert "cannot be read (Permission denied)" in words


def test_a_server_in_a_zone_ahead_of_the_configured_one_is_seen_by_its_newest_rows(server, find):
    server.now = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    server.add_session("M1", "2026-07-01", 1)
    server.advance(20 * 60)
    is_well, words = find(timezone="UTC")["timezone"]
    assert not is_well
    assert "2026-07-01 12:20 in UTC" in words
    assert "lab.yaml" in words
    told = find(timezone="Europe/Lisbon")["timezone"]
    assert told == (True, "Europe/Lisbon: no row is newer than the server's clock")
    # Only the newest rows tell: two hours later none of them lies in the future any more.
    server.advance(2 * 3600)
    assert find(timezone="UTC")["timezone"][0]


def test_a_dataset_tells_the_zone_where_no_session_does(server, find):
    server.now = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    session = server.add_session("M1", "2026-07-01", 1)
    server.advance(2 * 3600)
    server.add_dataset(session["id"], "alf/_ibl_trials.table.pqt")
    is_well, words = find(timezone="UTC")["timezone"]
    assert not is_well
    assert "1 of its datasets" in words


def test_the_night_when_clocks_go_back_is_no_wrong_zone(server, find):
    server.now = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)  # 01:50 in Lisbon, for the first time
    server.add_session("M1", "2026-10-25", 1)
    server.advance(20 * 60)  # 01:10 there, for the second time
    is_well, words = find()["timezone"]
    assert is_well
    assert "clocks have just changed" in words


def test_a_zone_that_does_not_exist_is_told(find):
    is_well, words = find(timezone="Europe/Lisboa")["timezone"]
    assert not is_well
    assert "there is no zone 'Europe/Lisboa'" in words


def test_an_outage_in_the_middle_is_told_for_each_part(server):
    client = Alyx(server.url, server.token, tries=1)
    lines = findings(client, *of_lab(projects=["psychedelics"], labs=["lab"]))
    assert [next(lines)[0], next(lines)[0]] == ["alyx", "token"]
    server.down = True
    rest = list(lines)
    assert [subject for subject, _, _ in rest] == ["projects", "labs", "timezone"]
    assert not any(is_well for _, is_well, _ in rest)
    assert all("connection to server" in words for _, _, words in rest)


# What ONE lists, and what can be registered


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"globus_is_personal": True}, "ONE lists nothing"),
        ({"globus_is_personal": None}, "ONE lists nothing"),
        ({"data_url": None}, "no data_url"),
        ({}, "ONE lists what is there"),
    ],
)
def test_the_write_repository_is_one_that_one_lists(server, find, fields, words):
    server.add_repository("results", lab="mainenlab")
    row = next(row for row in server.tables.repositories if row.name == "results")
    for name, value in fields.items():
        setattr(row, name, value)
    is_well, said = find(write_repository="results")["write_repository results"]
    assert words in said and is_well == (not fields)


def test_files_that_no_dataset_type_takes_are_named(server, find):
    server.tables.types.rows.clear()
    server.tables.types.by_key.clear()
    server.add_dataset_type("ephysData.raw.ap", "*.ap.cbin")
    server.add_dataset_type("ephysData.raw.meta", "*.ap.meta")
    files = [f"run{n}_g0_t0.imec0.ap.{kind}" for n in (1, 2) for kind in ("bin", "cbin", "meta")]
    found = {s: line for s, line in find(files=files).items() if s.startswith("file ")}
    assert {subject: is_well for subject, (is_well, _) in found.items()} == {
        "file run1_g0_t0.imec0.ap.bin": False,
        "file run1_g0_t0.imec0.ap.cbin": True,
        "file run1_g0_t0.imec0.ap.meta": True,
    }
    assert "ONE's client then gives None" in found["file run1_g0_t0.imec0.ap.bin"][1]


@pytest.mark.parametrize("summer", [True, False])
@pytest.mark.parametrize("zone", ["Europe/Lisbon", "America/New_York", "Asia/Kolkata", "UTC"])
def test_the_zone_is_learned_from_the_answer_to_a_write_of_its_own(server, find, zone, summer):
    server.now = datetime(2026, 7 if summer else 1, 1, 12, 0, tzinfo=UTC)
    eid = server.add_session("M1", "2026-07-01", 1)["id"]
    client = Alyx(server.url, server.token, tries=2)
    server.advance(5 * 3600)  # no row lies in the future of any of these zones
    told = find(timezone=zone, write=True)["timezone"]
    assert "no row is newer" in told[1], "there is no task of our own yet"
    fields = {"session": eid, "status": "Complete"}
    client.create("tasks", {"name": "somebody_elses", **fields})
    client.create("tasks", {"name": "neuro_assets_process_probe00", **fields})
    server.advance(5 * 3600)
    n = len(server.log)
    is_well, words = find(timezone=zone, write=True)["timezone"]
    assert is_well == (zone == "Europe/Lisbon" or (zone == "UTC" and not summer))
    assert "by a write of our own (task neuro_assets_process_probe00" in words
    assert is_well or "set timezone in lab.yaml" in words
    assert [method for method, _ in server.log[n:]].count("PATCH") == 1
    n = len(server.log)
    find(timezone=zone)
    assert {method for method, _ in server.log[n:]} == {"GET"}, "nothing is sent without `write`"
