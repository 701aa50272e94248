"""register-file of the Alyx test server: what it finds, makes and resets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fake_alyx.lookups import NotModelled
from fake_alyx.server import AlyxServer, Refused
from places import SAMPLES


def summary(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())["summary"]


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer(zone="UTC") as made:
        yield made


class Registered:
    """A session with one registered dataset on a lab's and on a central server."""

    folder = "M1/2026-11-20/001/alf"
    file = "spikes.times.npy"

    def __init__(self, server: AlyxServer) -> None:
        self.server = server
        server.add_repository("lab_server", lab="lab", personal=True)
        server.add_repository("central", lab="lab")
        self.eid = server.add_session("M1", "2026-11-20", 1, lab="lab")["id"]
        self.id = self.again(hashes="abc123", qc="PASS")["id"]
        for name in ("lab_server", "central"):
            server.set_exists(self.id, name, True)

    def again(self, folder: str = folder, **more: Any) -> dict[str, Any]:
        self.server.advance(1)
        return self.server.register(folder, [self.file], name="lab_server", **more)[0]

    def exists(self) -> dict[str, bool]:
        records = self.server.dataset(self.id)["file_records"]
        return {row["data_repository"]: row["exists"] for row in records}


@pytest.fixture
def registered(server: AlyxServer) -> Registered:
    return Registered(server)


def test_the_same_hash_again_keeps_exists_resets_qc_and_moves_the_time(
    registered: Registered,
) -> None:
    before = registered.server.dataset(registered.id)
    again = registered.again(hashes="abc123")
    after = registered.server.dataset(registered.id)
    assert again["id"] == registered.id
    assert (before["qc"], after["qc"]) == ("PASS", "NOT_SET")
    assert registered.exists() == {"lab_server": True, "central": True}
    assert after["auto_datetime"] > before["auto_datetime"]
    assert after["created_datetime"] == before["created_datetime"]
    if SAMPLES.is_dir():
        found = summary("110-findings-reregistration-etc")["re-register identical hash"]
        assert (found["qc_before"], found["qc_after"]) == ("PASS", "NOT_SET")
        assert sorted(found["exists_after"]) == sorted(found["exists_before"])
        assert found["dataset_auto_datetime_moves"] and found["created_datetime_same"]


def test_a_new_hash_makes_exists_false_on_the_central_server(registered: Registered) -> None:
    again = registered.again(hashes="NEWHASH")
    assert again["id"] == registered.id
    assert registered.server.dataset(registered.id)["hash"] == "NEWHASH"
    assert registered.exists() == {"lab_server": True, "central": False}
    if SAMPLES.is_dir():
        found = summary("110-findings-reregistration-etc")["re-register new hash"]
        assert found["id_same"] and dict(found["exists_after"])["flatiron_mainenlab"] is False


def test_without_a_hash_a_dataset_counts_as_changed(registered: Registered) -> None:
    registered.again()
    assert registered.server.dataset(registered.id)["hash"] == "abc123"
    assert registered.exists() == {"lab_server": True, "central": False}


def test_without_a_repository_name_a_file_exists_nowhere(server: AlyxServer) -> None:
    server.add_repository("central", lab="lab")
    server.add_session("M1", "2026-11-20", 1, lab="lab")
    made = server.register("M1/2026-11-20/001/alf", ["spikes.times.npy"], exists=True)
    assert [row["exists"] for row in made[0]["file_records"]] == [False]


def test_a_revision_is_a_new_dataset_and_takes_the_default(registered: Registered) -> None:
    second = registered.again(registered.folder + "/#2026-11-21#", hashes="h2")
    flags = {
        row["revision"]: row["default_dataset"]
        for row in registered.server.datasets(registered.eid)
    }
    assert second["id"] != registered.id
    assert flags == {"": False, "2026-11-21": True}
    assert second["file_records"][0]["relative_path"].endswith("/alf/#2026-11-21#/spikes.times.npy")


def test_a_revision_that_is_not_to_be_the_default_is_none(registered: Registered) -> None:
    registered.again(registered.folder + "/#2026-11-21#", hashes="h2", default=False)
    rows = registered.server.datasets(registered.eid)
    assert {row["revision"]: row["default_dataset"] for row in rows} == {
        "": True,
        "2026-11-21": False,
    }


def test_a_refused_registration_of_a_protected_dataset_still_resets_its_qc(
    registered: Registered,
) -> None:
    """Alyx saves the row before it looks at the tag, and has no transaction (read in its code)."""
    registered.server.tag_dataset(registered.id, "2026_Q4_release")
    with pytest.raises(Refused, match="is protected, cannot patch") as refused:
        registered.again(hashes="other")
    assert refused.value.status == 403
    after = registered.server.dataset(registered.id)
    assert (after["qc"], after["hash"]) == ("NOT_SET", "abc123")


def test_files_before_one_of_unknown_type_stay_registered(registered: Registered) -> None:
    folder, files = registered.folder, ["spikes.amps.npy", "nobody.knows.npy", "spikes.depths.npy"]
    answer = requests.post(
        f"{registered.server.url}/register-file",
        json={"path": folder, "filenames": files, "name": "lab_server"},
        headers={"Authorization": f"Token {registered.server.token}"},
        timeout=10,
    )
    assert answer.status_code == 500
    assert answer.json()["detail"] == 'No dataset type found for filename "nobody.knows.npy"'
    names = {row["name"] for row in registered.server.datasets(registered.eid)}
    assert names == {"spikes.times.npy", "spikes.amps.npy"}


def test_the_first_file_of_a_day_s_second_session_gives_it_its_parent(
    registered: Registered,
) -> None:
    server = registered.server
    second = server.add_session("M1", "2026-11-20", 2, lab="lab")
    first = server.session(registered.eid)
    registered.again("M1/2026-11-20/002/alf")
    after = server.session(second["id"])
    assert after["parent_session"] == first["url"]
    assert after["auto_datetime"] > second["auto_datetime"]
    assert server.session(registered.eid)["auto_datetime"] == first["auto_datetime"]
    moved = after["auto_datetime"]
    registered.again("M1/2026-11-20/002/alf", hashes="x")
    assert server.session(second["id"])["auto_datetime"] == moved
    if SAMPLES.is_dir():
        found = summary("110-findings-reregistration-etc")["register-file on session 002 same day"]
        assert found["auto_datetime_moved"] and found["parent_session"]


def test_the_user_who_registers_becomes_a_user_of_the_session(registered: Registered) -> None:
    server = registered.server
    server.add_user("anna")
    before = server.session(registered.eid)
    registered.again(created_by="anna", hashes="abc123")
    after = server.session(registered.eid)
    assert after["users"] == ["admin", "anna"]
    assert after["auto_datetime"] > before["auto_datetime"]


def test_renumbering_leaves_the_files_on_the_old_path(registered: Registered) -> None:
    """110-findings: old path 400, new path a second set of records of the same dataset."""
    server = registered.server
    server.patch_session(registered.eid, number=3)
    paths = [row["relative_path"] for row in server.dataset(registered.id)["file_records"]]
    assert paths == ["M1/2026-11-20/001/alf/spikes.times.npy"] * 2
    with pytest.raises(Refused, match="A session for M1/1 on 2026-11-20 does not exist"):
        registered.again(hashes="abc123")
    again = registered.again("M1/2026-11-20/003/alf", hashes="abc123")
    assert again["id"] == registered.id
    paths = [row["relative_path"][:18] for row in again["file_records"]]
    assert sorted(paths) == ["M1/2026-11-20/001/"] * 2 + ["M1/2026-11-20/003/"] * 2
    if SAMPLES.is_dir():
        found = summary("110-findings-reregistration-etc")
        assert found["patch number 2->3"]["relative_path_still"].split("/")[2] == "002"
        assert len(found["register on new path after renumber"]["body"]) == len(paths)


@pytest.mark.parametrize(
    ("folder", "collection"),
    [("a/Record Node 101/b", "a"), ("alf/a#b", "alf"), ("alf/##", "alf"), ("alf//x", "alf/x")],
)
def test_a_path_is_cut_at_the_first_folder_that_alyx_does_not_take(server, folder, collection):
    server.add_session("M1", "2026-01-15", 1, lab="lab")
    server.add_repository("central", lab="lab")
    path = f"M1/2026-01-15/001/{folder}"
    [row] = server.register(path, ["spikes.times.npy"], name="central")
    [record] = row["file_records"]
    assert row["collection"] == collection
    assert record["relative_path"] == f"M1/2026-01-15/001/{collection}/spikes.times.npy"


def test_a_revision_is_the_last_folder(server):
    server.add_session("M1", "2026-01-15", 1, lab="lab")
    with pytest.raises(Refused) as refused:
        server.register("M1/2026-01-15/001/alf/#2026-01-01#/sub", ["spikes.times.npy"])
    assert refused.value.status == 400 and "only 1 revision" in refused.value.body["detail"]


def test_a_path_that_another_session_s_file_holds_is_refused(registered: Registered) -> None:
    server = registered.server
    server.patch_session(registered.eid, number=3)
    server.add_session("M1", "2026-11-20", 1, lab="lab")
    with pytest.raises(Refused, match="already exists on repository") as refused:
        registered.again(hashes="abc123")
    assert refused.value.status == 400


def test_deleting_a_session_takes_all_that_hangs_on_it(registered: Registered) -> None:
    server, tables = registered.server, registered.server.tables
    probe = server.add_insertion(registered.eid)["id"]
    server.add_trajectory(probe)
    server.api.create("tasks", {"name": "t", "session": registered.eid, "status": "Waiting"})
    server.tag_dataset(registered.id, "2026_Q4_release")
    with pytest.raises(Refused, match="Failed to delete dataset spikes.times.npy due to protected"):
        server.delete_dataset(registered.id)
    server.delete_session(registered.eid)
    left = [
        len(table)
        for table in (
            tables.sessions,
            tables.datasets,
            tables.insertions,
            tables.trajectories,
            tables.tasks,
        )
    ]
    assert left == [0] * 5
    second = server.add_session("M1", "2026-11-20", 1, lab="lab")["id"]
    assert registered.again(hashes="abc123")["session"] == second


def test_the_day_s_first_session_can_be_that_of_the_smallest_id(server: AlyxServer) -> None:
    """What Alyx's SQL does; else it is the one that was made first."""
    server.api.registrar.first_by_id = True
    late = server.add_session("M1", "2026-11-20", 1, id="ffffffff-0000-4000-a000-000000000000")
    base = server.add_session("M1", "2026-11-20", 2, id="00000000-0000-4000-a000-000000000001")
    server.register("M1/2026-11-20/001/alf", ["spikes.times.npy"])
    assert server.session(late["id"])["parent_session"] == base["url"]


def test_what_the_indices_do_not_follow_is_refused(registered: Registered) -> None:
    server = registered.server
    with pytest.raises(ValueError, match="does not change subject"):
        server.sql("sessions", registered.eid, subject="M2")
    other = server.add_session("M1", "2026-11-21", 1)
    with pytest.raises(NotModelled, match="does not change session"):
        server.patch_dataset(registered.id, session=other["url"])
    with pytest.raises(NotModelled, match="deletes nothing"):
        server.api.writes.delete("labs", server.tables.labs.by_key["lab"])
