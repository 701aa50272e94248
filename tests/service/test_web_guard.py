"""What reaches Dagster's web server: requests of its own pages, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from neuro_assets.config import parse_config
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.service.web_guard import local_hosts
from neuro_assets.service.web_server import _lab_hosts, guarded_app

PORT = 3999
HOST = f"127.0.0.1:{PORT}"
ASSET = "reported_from_outside"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home"))) as made:
        yield made


@pytest.fixture(scope="module")
def app(instance: dg.DagsterInstance) -> Iterator[Any]:
    """Dagster's whole application without a code location, behind the guard."""
    with WorkspaceProcessContext(instance, WorkspaceFileTarget([])) as context:
        yield guarded_app(context, local_hosts(PORT) | {"neuro.example.org"})


def ask(
    app: Any, method: str, path: str, body: bytes = b"", query: str = "", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Send one request; header names with `_` for `-`; `host` is ours unless given."""
    given = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        **{
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "http",
        },
        **{"method": method, "path": path, "raw_path": path.encode(), "root_path": ""},
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT)},
    }
    sent: list[dict[str, Any]] = []

    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    content = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], content, names


def socket_accepted(app: Any, **headers: str) -> bool:
    """Open a web socket as a browser does; whether it was let in."""
    given = {"host": HOST, **headers}
    scope = {
        **{
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
        },
        **{"scheme": "ws", "path": "/graphql", "raw_path": b"/graphql", "root_path": ""},
        **{"query_string": b"", "subprotocols": ["graphql-ws"]},
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT)},
    }
    received = iter([{"type": "websocket.connect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "websocket.disconnect", "code": 1000})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["type"] == "websocket.accept"


def post(app: Any, query: str = "{ version }", **headers: str) -> tuple[int, bytes]:
    body = json.dumps({"query": query}).encode()
    given = {"content_type": "application/json", **headers}
    return ask(app, "POST", "/graphql", body, **given)[:2]


def test_the_own_page_reads_and_changes(app: Any) -> None:
    own = {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"}
    status, body = post(app, **own)
    assert (status, list(json.loads(body)["data"])) == (200, ["version"])
    status, body = post(app, "mutation { setAutoMaterializePaused(paused: true) }", **own)
    assert (status, json.loads(body)["data"]) == (200, {"setAutoMaterializePaused": True})
    status, body, headers = ask(app, "GET", "/runs", accept="text/html", **own)
    assert status == 200
    assert b"<html" in body
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert socket_accepted(app, origin=f"http://{HOST}")
    assert post(app, content_type="application/json; charset=utf-8")[0] == 200


MALFORMED = [
    "http://[::1", "http://[", "http://]", "http://[v1.x]", "http://127.0.0.1:x", "http://", "://",
    "http:", "", " ", "null", "[", "http://\u2100@", "http://a\xe9\x00", "http://::1:3999",
    f"http://{HOST}/", f"http://{HOST}@evil.example", f"http://evil.example#{HOST}",
    f" http://{HOST}", "http://" + "9" * 10_000, "http://[fe80::1%25eth0]:3999",
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_origin_or_host_is_refused_and_no_error(app: Any, value: str) -> None:
    assert post(app, origin=value)[0] == 403
    assert post(app, host=value)[0] == 421
    assert not socket_accepted(app, origin=value)
    assert not socket_accepted(app, host=value)


@pytest.mark.parametrize("name", ["accept", "content_type", "sec_fetch_site", "sec_fetch_mode"])
def test_a_malformed_other_header_is_no_error(app: Any, name: str) -> None:
    for value in ("", ";", "\xff", ",,", "a" * 10_000):
        assert post(app, **{name: value})[0] in (200, 403, 415)


@pytest.mark.parametrize("host", ["localhost:3999", "[::1]:3999", "LOCALHOST:3999"])
def test_other_names_of_this_machine_are_served(app: Any, host: str) -> None:
    assert post(app, host=host)[0] == 200


def test_a_name_of_lab_yaml_is_served_through_its_proxy(app: Any) -> None:
    assert post(app, host="neuro.example.org", origin="https://neuro.example.org")[0] == 200
    assert parse_config("web: {allowed_hosts: [A.org]}").web.allowed_hosts == ["a.org"]
    for wrong in ("'https://a.org/'", "'*'", "''"):
        with pytest.raises(NeuroAssetsError, match="is not a host name"):
            parse_config(f"web: {{allowed_hosts: [{wrong}]}}")


@pytest.mark.parametrize("path", ["/", "/server_info", "/graphql", "/logs/a/b.out", "/favicon.png"])
@pytest.mark.parametrize("host", ["evil.example:3999", "127.0.0.1", "127.0.0.1:80", ""])
def test_a_foreign_host_is_refused_on_every_route(app: Any, path: str, host: str) -> None:
    # A name that its owner points at 127.0.0.1 makes a foreign page "same origin".
    assert ask(app, "GET", path, host=host)[0] == 421
    assert ask(app, "POST", path, host=host, content_type="application/json")[0] == 421
    assert not socket_accepted(app, host=host, origin=f"http://{host}")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:8000", "http://127.0.0.1", "file://", ""],
)
def test_a_foreign_or_null_origin_is_refused_on_every_route(app: Any, origin: str) -> None:
    assert post(app, origin=origin)[0] == 403
    assert ask(app, "GET", "/server_info", origin=origin)[0] == 403
    assert ask(app, "GET", "/runs", origin=origin)[0] == 403
    assert not socket_accepted(app, origin=origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_foreign_page_embeds_is_refused_and_a_link_from_it_works(
    app: Any, site: str
) -> None:
    assert ask(app, "GET", "/server_info", sec_fetch_site=site, sec_fetch_mode="no-cors")[0] == 403
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "accept": "text/html"}
    assert ask(app, "GET", "/runs", **link)[0] == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain; application/json", "application/graphql", "",
     "application/x-www-form-urlencoded", "multipart/form-data"],
)  # fmt: skip
def test_a_query_comes_as_json_only(app: Any, instance: dg.DagsterInstance, kind: str) -> None:
    pause = "mutation { setAutoMaterializePaused(paused: false) }"
    assert post(app, pause, content_type=kind)[0] == 415
    # Dagster takes the query from the address when it does not know the kind of the body.
    assert ask(app, "POST", "/graphql", query=f"query={pause}", content_type=kind)[0] == 415


def test_nothing_is_executed_by_get(app: Any) -> None:
    for query in ("query=mutation{setAutoMaterializePaused(paused:true)}", "query={version}"):
        assert ask(app, "GET", "/graphql", query=query)[0] == 405
        assert ask(app, "HEAD", "/graphql", query=query)[0] == 405
        # The page for queries by hand is served, and does not run what the address holds.
        status, body, _ = ask(app, "GET", "/graphql", query=query, accept="text/html")
        assert status == 200
        assert b"setAutoMaterializePaused" not in body


@pytest.mark.parametrize("kind", ["materialization", "check", "observation"])
def test_the_report_routes_are_off(app: Any, instance: dg.DagsterInstance, kind: str) -> None:
    for path in (f"/report_asset_{kind}/{ASSET}", f"/report_asset_{kind}/{ASSET}/"):
        for headers in ({}, {"content_type": "application/json"}):
            status, *_ = ask(app, "POST", path, b"{}", **headers)
            assert status == 405
    assert instance.get_latest_materialization_event(dg.AssetKey(ASSET)) is None


def test_names_are_read_of_the_lab_and_what_is_the_last_good_one_is_left_alone(
    tmp_path, monkeypatch
):
    good = tmp_path / "lab.last_good.yaml"
    good.write_text("web: {allowed_hosts: [old.example.org]}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    lab = tmp_path / "lab.yaml"
    lab.write_text("web: {allowed_hosts: [new.example.org]}\nsteps: {no_such_step: {}}")
    assert _lab_hosts() == {"new.example.org"}
    lab.write_text("web: [")
    assert _lab_hosts() == {"old.example.org"}
    assert "old.example.org" in good.read_text()
