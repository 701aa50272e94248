"""The Alyx test server against what was recorded of Alyx 3.6.1, and against ONE's own client."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from alyx_server import PASSWORD, AlyxServer, Refused
from alyx_server_endpoints import ENDPOINTS
from alyx_server_filters import UNMODELLED
from alyx_server_replay import Comparison, Differs, clock_of, load, target

SAMPLES = Path(
    os.environ.get(
        "NEURO_ASSETS_ALYX_SAMPLES", Path(__file__).parents[2] / "shared" / "alyx-samples"
    )
)
recorded = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"no recorded answers of Alyx in {SAMPLES}"
)
AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as made:
        yield made


def call(server: AlyxServer, method: str, path: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Token {server.token}"}
    return requests.request(method, server.url + path, headers=headers, timeout=10, **more)


def get(server: AlyxServer, path: str, **query: Any) -> Any:
    answer = call(server, "GET", path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row.get("id") or row["url"].rpartition("/")[2] for row in rows]


# the record --------------------------------------------------------------------------------------


class Replay:
    """One Alyx, driven by the recorded requests; what was done unrecorded is done here."""

    def __init__(self, server: AlyxServer) -> None:
        self.server, self.comparison = server, Comparison(server.url)
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
            body["results"] = [self._listed(row) for row in answer["body"]["results"]]
        self.comparison.unordered_results = path.startswith("/datasets?")
        expected = answer["body"]
        if isinstance(expected, dict) and "token" in expected:
            expected = {"token": self.server.token}
        try:
            self.comparison.compare(expected, body)
        except Differs as difference:
            raise AssertionError(f"{name} {request['method']} {path}: {difference}") from None

    def _listed(self, row: dict[str, Any]) -> dict[str, Any]:
        dataset = self.comparison.ids[row["url"].rpartition("/")[2]]
        return get(self.server, "/datasets", id=dataset)["results"][0]

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


def every_sample() -> list[tuple[str, dict[str, Any]]]:
    return [(name, sample) for name, sample in load(SAMPLES) if "exchanges" in sample]


@recorded
def test_every_recorded_exchange_is_answered_as_alyx_answered_it() -> None:
    start = datetime(2026, 11, 20, 21, 49, tzinfo=UTC)
    with AlyxServer(zone="UTC", now=start) as server:
        replay = Replay(server)
        done = []
        for name, sample in every_sample():
            replay.run(name, sample)
            done.append(name)
    assert len(done) > 85, "samples are missing"
