"""The Alyx test server against what was recorded of Alyx 3.6.1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from fake_alyx.endpoints import ENDPOINTS
from fake_alyx.filters import UNMODELLED
from fake_alyx.replay import Comparison, Differs, clock_of, load, mutations, target
from fake_alyx.server import PASSWORD, AlyxServer
from places import SAMPLES

recorded = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"no recorded answers of Alyx in {SAMPLES}"
)


def summary(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())["summary"]


def listed(server: AlyxServer, path: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Token {server.token}"}
    answer = requests.get(server.url + path, headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


class Replay:
    """One Alyx, driven by the recorded requests; what was done unrecorded is done here."""

    def __init__(self, server: AlyxServer) -> None:
        self.server, self.comparison = server, Comparison(server.url)
        self.check_mutations = False
        self.before: dict[str, Callable[[], None]] = {
            "16-sessions-patch-projects": self._project,
            "101-patch-session-number": self._second_session,
            "104-error-403-protected": self._release,
            "107-error-database-down": lambda: setattr(server, "down", True),
        }

    def _project(self) -> None:
        self.server.add_project("ibl_neuropixel_brainwide_01")

    def _second_session(self) -> None:
        session = self.server.add_session(
            "ZFM-06048",
            "2026-11-20",
            2,
            start_time="2026-11-20T15:00:00",
            type=None,
            projects=["psychedelics"],
        )
        self.comparison.learn("f3039c11-4794-4e02-80cb-e79892b82cab", session["id"])
        folder = "ZFM-06048/2026-11-20/002/alf"
        self.server.register(folder, ["_ibl_trials.table.pqt"], name="mainen_lab_SR", hashes="x")

    def _release(self) -> None:
        dataset = self.comparison.ids["9bb8a891-214d-4cbb-93c2-ff02cfe08289"]
        self.server.add_tag("2026_Q4_release", protected=True)
        self.server.tag_dataset(dataset, "2026_Q4_release")

    def run(self, name: str, sample: dict[str, Any]) -> None:
        if step := self.before.get(name):
            step()
        for exchange in sample.get("exchanges", ()):
            self._exchange(name, exchange)
        self.server.down = False

    def _exchange(self, name: str, exchange: dict[str, Any]) -> None:
        request, answer = exchange["request"], exchange["response"]
        self.server.now = clock_of(exchange, self.server.now)
        if name == "72-no-start-time":
            self.server.now = datetime.fromisoformat(answer["body"]["start_time"] + "+00:00")
        ours = self._send(name, request)
        assert ours.status_code == answer["status"], f"{name}: {ours.text}"
        for header in ("Content-Type", "Vary", "Allow"):
            assert ours.headers.get(header) == answer["headers"].get(header), (name, header)
        body = ours.json() if "json" in ours.headers.get("Content-Type", "") else ours.text
        path = target(request["url"])
        if name == "41-datasets-lim":
            # Which row lies second is chance: compare the recorded row with ours of that id.
            body["results"] = [self._row(row) for row in answer["body"]["results"]]
        self.comparison.unordered_results = path.startswith("/datasets?")
        expected = answer["body"]
        if isinstance(expected, dict) and "token" in expected:
            expected = {"token": self.server.token}
        self._compare(f"{name} {request['method']} {path}", expected, body)

    def _compare(self, what: str, expected: Any, body: Any) -> None:
        if self.check_mutations:
            for how, changed in mutations(expected):
                before = self.comparison.learned()
                with pytest.raises(Differs):
                    self.comparison.compare(changed, body)
                    pytest.fail(f"{what}: unnoticed that {how}")
                self.comparison.restore(before)
        try:
            self.comparison.compare(expected, body)
        except Differs as difference:
            raise AssertionError(f"{what}: {difference}") from None

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        dataset = self.comparison.ids[row["url"].rpartition("/")[2]]
        return listed(self.server, f"/datasets?id={dataset}")[0]

    def _send(self, name: str, request: dict[str, Any]) -> requests.Response:
        headers, body = dict(request["headers"]), request["body"]
        if "Authorization" in headers:
            token = "0" * 40 if "bad-token" in name else self.server.token
            headers["Authorization"] = f"Token {token}"
        data = body if isinstance(body, str) else None
        if "/auth-token" in request["url"]:
            password = "wrong" if "bad-password" in name else PASSWORD
            credentials = {"username": "admin", "password": password}
            form = "form" in headers["Content-Type"]
            data = f"username=admin&password={password}" if form else json.dumps(credentials)
        elif body is not None and data is None:
            data = json.dumps(self.comparison.translate(body))
        url = self.server.url + target(self.comparison.translate(request["url"]))
        return requests.request(request["method"], url, headers=headers, data=data, timeout=10)


@pytest.fixture
def replay() -> Iterator[Replay]:
    start = datetime(2026, 11, 20, 21, 49, tzinfo=UTC)
    with AlyxServer(zone="UTC", now=start) as server:
        yield Replay(server)


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer(zone="UTC") as made:
        yield made


# exchanges ---------------------------------------------------------------------------------------


@recorded
def test_every_recorded_exchange_is_answered_as_alyx_answered_it(replay: Replay) -> None:
    samples = [(name, sample) for name, sample in load(SAMPLES) if "exchanges" in sample]
    assert len(samples) == 110, "samples are missing, or new ones are not replayed"
    for name, sample in samples:
        replay.run(name, sample)


@recorded
def test_the_replay_notices_any_value_or_field_that_differs_from_the_record(
    replay: Replay,
) -> None:
    replay.check_mutations = True
    for name, sample in load(SAMPLES):
        replay.run(name, sample)


def test_the_replay_notices_a_time_that_moves_although_it_stood_in_the_record() -> None:
    comparison = Comparison("http://here")
    row = {"id": "a", "auto_datetime": "2026-01-01T00:00:00"}
    comparison.compare(row, row)
    with pytest.raises(Differs, match="before, now"):
        comparison.compare(row, {"id": "a", "auto_datetime": "2026-01-01T00:00:01"})
    with pytest.raises(Differs, match="moved in the record"):
        comparison.compare({"id": "a", "auto_datetime": "2026-01-01T00:00:09"}, row)


def test_the_replay_notices_two_rows_of_ours_for_one_of_the_record() -> None:
    one, two = (f"{number}bcdef01-0000-4000-8000-000000000000" for number in (1, 2))
    comparison = Comparison("http://here")
    comparison.compare({"id": one}, {"id": two})
    with pytest.raises(Differs, match="not the row"):
        comparison.compare({"id": two}, {"id": two})
    with pytest.raises(Differs, match="not the row"):
        comparison.compare({"id": one}, {"id": one})


# summaries ---------------------------------------------------------------------------------------


@recorded
@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints_have_the_methods_and_parameters_that_alyx_documents(name: str) -> None:
    paths, endpoint = summary("02-endpoints-and-query-params"), ENDPOINTS[name]
    documented = {method.upper() for method in paths[f"/{name}"]}
    # Users are made by the test, not by clients.
    assert set(endpoint.methods) == documented - ({"POST"} if name == "users" else set())
    if "GET" in endpoint.methods:
        ours = {*endpoint.parameters, *UNMODELLED.get(name, "").split(), "limit", "offset"}
        assert ours == set(paths[f"/{name}"]["get"])
    if endpoint.row_methods and name != "users":
        row = paths[f"/{name}/{{{endpoint.key}}}"]
        assert {method.upper() for method in row} == set(endpoint.row_methods)


def test_each_call_moves_the_session_s_time_or_not_as_it_was_measured(server: AlyxServer) -> None:
    """24-what-moves-session-auto_datetime, in its order."""
    server.add_repository("mainen_lab_SR", lab="mainenlab", personal=True)
    server.add_repository("flatiron_mainenlab", lab="mainenlab")
    eid = server.add_session("ZFM-06048", "2026-11-20", 1, lab="mainenlab")["id"]
    probe = server.add_insertion(eid)["id"]
    server.add_dataset_type("trials.table", "*trials.table*")
    server.add_project("more")
    alf = "ZFM-06048/2026-11-20/001/alf"
    table, raw = ["_ibl_trials.table.pqt"], ["raw_ephys_data/probe00/a_ephysData.imec0.ap.meta"]
    named = {"name": "mainen_lab_SR", "hashes": "aaa", "filesizes": "9"}
    headers = {"Authorization": f"Token {server.token}"}

    def send(method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, server.url + path, json=body, headers=headers, timeout=10)

    def post(files: list[str], path: str = alf, **more: Any) -> requests.Response:
        return send("POST", "/register-file", {"path": path, "filenames": files, **more})

    def dataset() -> str:
        rows = server.datasets(eid)
        return next(row for row in rows if row["name"] == table[0])["url"].rpartition("/")[2]

    def record() -> str:
        return server.dataset(dataset())["file_records"][0]["id"]

    def task(**more: Any) -> requests.Response:
        body = {"name": "t", "session": eid, "arguments": {"a": 1}, "status": "Waiting", **more}
        return send("POST", "/tasks", body)

    tasks: list[str] = []
    calls: dict[str, Callable[[], Any]] = {
        "register_files(RegistrationClient)": lambda: post(raw, alf[:-4], hashes=["x"]),
        "register-file: 2 files, the 1st has an unknown type": lambda: post(
            ["_ibl_trials.choice.npy", *table], **named
        ),
        "register-file exists": lambda: post(table, **named),
        "register-file same again (idempotent?)": lambda: post(table, **named),
        "datasets read": lambda: send("GET", f"/datasets/{dataset()}"),
        "datasets patch qc": lambda: send("PATCH", f"/datasets/{dataset()}", {"qc": "PASS"}),
        "files patch exists": lambda: send("PATCH", f"/files/{record()}", {"exists": True}),
        "sessions patch qc": lambda: send("PATCH", f"/sessions/{eid}", {"qc": "WARNING"}),
        "sessions patch projects (m2m)": lambda: send(
            "PATCH", f"/sessions/{eid}", {"projects": ["more"]}
        ),
        "json_field_update extended_qc": lambda: send(
            "PATCH", f"/sessions/{eid}", {"extended_qc": {"a": 1}}
        ),
        "json_field_write json": lambda: send("PATCH", f"/sessions/{eid}", {"json": {}}),
        "insertion patch json": lambda: send("PATCH", f"/insertions/{probe}", {"json": {}}),
        "tasks create": lambda: tasks.append(task().json()["id"]),
        "tasks patch Started": lambda: send("PATCH", f"/tasks/{tasks[0]}", {"status": "Started"}),
        "tasks create duplicate": task,
        "notes create": lambda: send(
            "POST",
            "/notes",
            {"user": "admin", "content_type": "session", "object_id": eid, "text": "x"},
        ),
        "patch no change": lambda: send("PATCH", f"/sessions/{eid}", {"qc": "WARNING"}),
    }
    moving = {name for name in calls if name.startswith(("sessions patch", "json_field", "patch"))}
    seen = {}
    for name, act in calls.items():
        before = server.session(eid)["auto_datetime"]
        server.advance(1)
        act()
        seen[name] = server.session(eid)["auto_datetime"] != before
    assert {name for name, moved in seen.items() if moved} == moving
    if SAMPLES.is_dir():
        measured = summary("24-what-moves-session-auto_datetime")
        # A list there is a count of datasets, not a call.
        rows = {name: row for name, row in measured.items() if isinstance(row, dict)}
        assert seen == {name: row["session_auto_datetime_changed"] for name, row in rows.items()}
