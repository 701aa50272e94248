"""ONE's own client against the Alyx test server: an implementation that is not ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import requests
from fake_alyx.server import PASSWORD, AlyxServer
from one.alf.path import add_uuid_string
from one.webclient import AlyxClient

AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ONE writes its parameter files under the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def alyx(server: AlyxServer, home: Path) -> AlyxClient:
    client = AlyxClient(
        base_url=server.url,
        username="admin",
        token=server.token,
        silent=True,
        cache_dir=home / "cache",
        cache_rest=None,
    )
    client._par = client._par.set("HTTP_DATA_SERVER", f"{server.url}/data")
    return client


@pytest.fixture
def eid(server: AlyxServer) -> str:
    return server.add_session("M1", "2026-01-15", 1, projects=["p"], lab="lab")["id"]


def test_one_logs_in_with_a_password(server: AlyxServer, home: Path) -> None:
    client = AlyxClient(
        base_url=server.url, username="admin", password=PASSWORD, silent=True, cache_dir=home
    )
    assert client.is_logged_in
    assert server.log == [("POST", "/auth-token")]
    with pytest.raises(requests.HTTPError, match="authentication failed"):
        AlyxClient(
            base_url=server.url, username="admin", password="no", silent=True, cache_dir=home
        )


def test_one_needs_the_user_of_a_token(server: AlyxServer, home: Path) -> None:
    """Alyx 3.6.1 has no `/me` to ask."""
    for token in (server.token, "no"):
        with pytest.raises(ValueError, match="recent enough to serve /me"):
            AlyxClient(base_url=server.url, token=token, silent=True, cache_dir=home)


def test_one_finds_every_endpoint_and_action_in_the_schema(alyx: AlyxClient) -> None:
    endpoints = alyx.rest_schemes.endpoints
    assert {"sessions", "datasets", "register-file", "data-repository", "tasks"} <= set(endpoints)
    assert alyx.rest_schemes.actions("sessions") == [
        "create",
        "delete",
        "list",
        "partial_update",
        "read",
        "update",
    ]
    assert alyx.rest_schemes.url("subjects", "read") == "/subjects/{nickname}"
    assert "extended_qc" in alyx.rest_schemes.field_names("sessions", "partial_update")


def test_one_lists_reads_creates_and_changes_sessions(alyx: AlyxClient, eid: str) -> None:
    new = {"subject": "M1", "number": 2, "projects": ["p"], "start_time": "2026-01-15T12:00:00"}
    made = alyx.rest("sessions", "create", data=new)
    rows = alyx.rest("sessions", "list", subject="m1", date_range=["2026-01-15", "2026-01-15"])
    assert [row["number"] for row in rows] == [2, 1]
    assert alyx.rest("sessions", "read", id=made["id"]) == made
    changed = alyx.rest("sessions", "partial_update", id=made["id"], data={"qc": "FAIL"})
    assert {**made, "qc": "FAIL"} == changed
    assert [row["id"] for row in alyx.rest("sessions", "list", qc="FAIL")] == [made["id"]]
    alyx.rest("sessions", "delete", id=made["id"])
    with pytest.raises(requests.HTTPError, match="404"):
        alyx.rest("sessions", "read", id=made["id"])
    assert [row["id"] for row in alyx.rest("sessions", "list", id=eid)] == [eid]


def test_one_lists_and_changes_insertions_datasets_and_trajectories(
    server: AlyxServer, alyx: AlyxClient, eid: str
) -> None:
    probe = alyx.rest("insertions", "create", data={"session": eid, "name": "probe00"})
    server.add_dataset(eid, AP, hash="a", size=9, exists=["central"])
    (dataset,) = alyx.rest("datasets", "list", session=eid, dataset_type="ephysData.raw.ap")
    assert alyx.rest("insertions", "list", session=eid)[0]["datasets"] == [dataset["url"][-36:]]
    (nested,) = alyx.rest("insertions", "read", id=probe["id"])["datasets"]
    assert (nested["name"], nested["qc"]) == (Path(AP).name, 0)
    changed = alyx.rest("datasets", "partial_update", id=dataset["url"], data={"qc": "PASS"})
    assert changed["qc"] == "PASS"
    server.add_trajectory(probe["id"], "Planned", x=1000.0, depth=4000.0)
    server.add_trajectory(probe["id"], x=1100.0)
    for query in ({"probe_insertion": probe["id"]}, {"django": f"probe_insertion__session,{eid}"}):
        found = {row["provenance"]: row for row in alyx.rest("trajectories", "list", **query)}
        assert found["Planned"]["x"] == 1000.0
        assert found["Ephys aligned histology track"]["coordinate_system"] == "IBL-Allen"
    fields = {
        "probe_insertion",
        "x",
        "y",
        "z",
        "depth",
        "theta",
        "phi",
        "roll",
        "provenance",
        "coordinate_system",
        "datetime",
        "json",
        "id",
    }
    assert fields <= found["Planned"].keys()
    assert alyx.rest("trajectories", "list", provenance="planned")[0]["x"] == 1000.0


def test_one_walks_pages_of_more_than_250_rows(server: AlyxServer, alyx: AlyxClient) -> None:
    eids = server.load(1203, n_probes=0, session_files=[])
    rows = alyx.rest("sessions", "list", project="load")
    assert len(rows) == 1203
    assert [row["id"] for row in rows] == eids[::-1]
    queries = [path for _, path in server.log if path.startswith("/sessions")]
    assert queries[0] == "/sessions?project=load"
    assert queries[1] == "/sessions?limit=250&offset=250&project=load"
    assert len(queries) == 5


def test_one_merges_json_fields(alyx: AlyxClient, eid: str) -> None:
    alyx.json_field_write("sessions", eid, "extended_qc", {"task": "PASS", "old": 1})
    merged = alyx.json_field_update("sessions", eid, "extended_qc", {"old": 2, "new": 0.97})
    assert merged == {"task": "PASS", "old": 2, "new": 0.97}
    found = alyx.rest("sessions", "list", extended_qc="new__gte,0.9,task,PASS")
    assert [row["id"] for row in found] == [eid]
    alyx.json_field_remove_key("sessions", eid, "extended_qc", "old")
    assert alyx.rest("sessions", "read", id=eid)["extended_qc"] == {"task": "PASS", "new": 0.97}
    alyx.json_field_delete("sessions", eid, "extended_qc")
    assert alyx.rest("sessions", "read", id=eid)["extended_qc"] is None


def test_one_reads_alyx_s_refusals(alyx: AlyxClient, eid: str) -> None:
    with pytest.raises(requests.HTTPError, match="Object with nickname=nobody does not exist"):
        alyx.rest("sessions", "create", data={"subject": "nobody"})
    with pytest.raises(requests.HTTPError, match="Cannot resolve keyword"):
        alyx.rest("sessions", "list", django="no_such_field,1")
    with pytest.raises(requests.HTTPError, match="Select a valid choice"):
        # A choice field of django-filter: not an empty list.
        alyx.rest("datasets", "list", session="00000000-0000-4000-8000-000000000000")


def test_one_waits_and_tries_again_when_it_is_throttled(
    server: AlyxServer, alyx: AlyxClient, eid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alyx.rest("sessions", "read", id=eid)
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        server.advance(60)

    monkeypatch.setattr("one.webclient.sleep", sleep)
    server.throttle(1)
    for _ in range(3):
        assert alyx.rest("sessions", "read", id=eid)["id"] == eid
    assert len(waits) == 2
    assert all(seconds >= 1 for seconds in waits)


# files -------------------------------------------------------------------------------------------


@pytest.fixture
def stored(server: AlyxServer, eid: str, tmp_path: Path) -> dict[str, Any]:
    """A dataset whose file lies on the central server, with its id in the name, as there."""
    server.add_repository("central", lab="lab", folder=tmp_path / "central")
    dataset = server.add_dataset(
        eid, "alf/spikes.times.npy", exists=["central"], revision="2026-01-20"
    )
    (record,) = dataset["file_records"]
    path = add_uuid_string(record["relative_path"], dataset["url"][-36:])
    file = tmp_path / "central" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(range(200)))
    return record


def test_one_downloads_a_file_by_its_data_url(
    alyx: AlyxClient, stored: dict[str, Any], tmp_path: Path
) -> None:
    assert "%23" not in stored["data_url"]
    file = alyx.download_file(stored["data_url"], target_dir=tmp_path / "here", silent=True)
    assert file.read_bytes() == bytes(range(200))
    part = alyx.download_file(
        stored["data_url"], target_dir=tmp_path / "part", silent=True, chunks=(10, 5)
    )
    assert part.read_bytes() == bytes(range(10, 15))


def test_a_lab_s_server_has_the_file_without_the_id_in_its_name(
    server: AlyxServer, alyx: AlyxClient, stored: dict[str, Any], tmp_path: Path
) -> None:
    plain = tmp_path / "central" / stored["relative_path"]
    next(plain.parent.iterdir()).rename(plain)
    file = alyx.download_file(stored["data_url"], target_dir=tmp_path / "here", silent=True)
    assert file.read_bytes() == bytes(range(200))


def test_a_file_that_is_not_there_or_outside_the_folder_is_not_found(
    server: AlyxServer, alyx: AlyxClient, stored: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "secret.npy").write_bytes(b"x")
    for path in ("central/M1/none.npy", "nowhere/x.npy", "central/..%2Fsecret.npy"):
        assert requests.get(f"{server.url}/data/{path}", timeout=10).status_code == 404
    with pytest.raises(HTTPError):
        alyx.download_file(f"{server.url}/data/central/none.npy", target_dir=tmp_path)


def test_a_cut_download_ends_before_its_announced_length(
    server: AlyxServer, stored: dict[str, Any]
) -> None:
    url = stored["data_url"].replace("#", "%23")
    server.cut_downloads(1, 50)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="50 bytes read, 150 more"):
        requests.get(url, timeout=10)
    rest = requests.get(url, headers={"Range": "bytes=50-"}, timeout=10)
    assert (rest.status_code, rest.content) == (206, bytes(range(50, 200)))
    assert rest.headers["Content-Range"] == "bytes 50-199/200"
    assert requests.get(url, headers={"Range": "bytes=200-"}, timeout=10).status_code == 416


# registration ------------------------------------------------------------------------------------


@pytest.fixture
def session_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "lab" / "Subjects" / "M1" / "2026-01-15" / "001"
    for name, content in (
        ("alf/spikes.times.npy", b"times"),
        ("alf/probe00/spikes.amps.npy", b"amplitudes"),
        (AP, b"raw"),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


@pytest.fixture
def registration(server: AlyxServer, alyx: AlyxClient, home: Path) -> Any:
    from one.api import ONE
    from one.registration import RegistrationClient

    one = ONE(
        base_url=server.url,
        username="admin",
        password=PASSWORD,
        silent=True,
        cache_rest=None,
        cache_dir=home / "cache",
    )
    return RegistrationClient(one)


def test_one_registers_the_files_of_a_session(
    server: AlyxServer, registration: Any, eid: str, session_folder: Path
) -> None:
    server.add_repository("lab_server", lab="lab", personal=True)
    server.add_repository("central", lab="lab")
    before = server.session(eid)["auto_datetime"]
    files = sorted(path for path in session_folder.rglob("*") if path.is_file())
    records = registration.register_files(files, repository="lab_server", versions="1.0")
    rows = {f"{row['collection']}/{row['name']}": row for row in server.datasets(eid)}
    assert rows.keys() == {path.relative_to(session_folder).as_posix() for path in files}
    assert [record["session"] for record in records] == [eid] * 3
    row = rows["alf/probe00/spikes.amps.npy"]
    assert (row["hash"], row["file_size"], row["version"]) == (
        hashlib.md5(b"amplitudes").hexdigest(),
        10,
        "1.0",
    )
    exists = {record["data_repository"]: record["exists"] for record in row["file_records"]}
    assert exists == {"lab_server": True, "central": False}
    assert server.session(eid)["auto_datetime"] == before


def test_one_moves_a_protected_file_into_a_new_revision(
    server: AlyxServer, registration: Any, eid: str, session_folder: Path
) -> None:
    server.add_repository("lab_server", lab="lab", personal=True)
    file = session_folder / "alf" / "spikes.times.npy"
    first = registration.register_files(file, repository="lab_server")
    server.tag_dataset(first["id"], "release")
    file.write_bytes(b"better times")
    second = registration.register_files(file, repository="lab_server")
    assert second["id"] != first["id"]
    assert second["revision"]
    flags = {row["revision"]: row["default_dataset"] for row in server.datasets(eid)}
    assert flags == {"": False, second["revision"]: True}


def test_one_s_register_session_puts_on_the_session_it_finds(
    server: AlyxServer, registration: Any, eid: str, session_folder: Path
) -> None:
    before = server.patch_session(eid, narrative="kept")
    server.advance(1)
    session, _ = registration.register_session(
        session_folder, file_list=False, end_time="2026-01-15T11:30:00", n_trials=400
    )
    assert session["id"] == eid
    assert ("PUT", f"/sessions/{eid}") in server.log
    after = server.session(eid)
    # Without start_time, ONE sends midnight.
    assert after["start_time"] == "2026-01-15T00:00:00"
    assert (after["end_time"], after["n_trials"]) == ("2026-01-15T11:30:00", 400)
    assert (after["narrative"], after["projects"]) == ("kept", ["p"])
    assert after["auto_datetime"] > before["auto_datetime"]
    again, _ = registration.register_session(session_folder.with_name("002"), file_list=False)
    assert again["id"] != eid
