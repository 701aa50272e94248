"""A page of another origin, in a real browser, against the web server that `up` starts."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import service_tools as tools
from test_browser import ARGUMENTS, CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.integration]

EVIL = "evil.example"
ATTACK = """
async ([url, tag]) => {
  const mutation = 'mutation { setAutoMaterializePaused(paused: true) }';
  const graphql = url + '/graphql';
  const tries = {
    get: () => fetch(graphql + '?query=' + encodeURIComponent(mutation), {mode: 'no-cors'}),
    text: () => fetch(graphql, {method: 'POST', mode: 'no-cors',
      headers: {'Content-Type': 'text/plain'}, body: JSON.stringify({query: mutation})}),
    address: () => fetch(graphql + '?query=' + encodeURIComponent(mutation),
      {method: 'POST', mode: 'no-cors'}),
    json: () => fetch(graphql, {method: 'POST',
      headers: {'Content-Type': 'application/json'}, body: JSON.stringify({query: mutation})}),
    report: () => fetch(url + '/report_asset_materialization/from_' + tag,
      {method: 'POST', mode: 'no-cors'}),
    socket: () => new Promise((yes, no) => {
      const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-ws');
      socket.onopen = () => yes({type: 'open'}); socket.onerror = no;
    }),
    image: () => new Promise((yes, no) => {
      const image = new Image(); image.onload = () => yes({type: 'shown'}); image.onerror = no;
      image.src = url + '/favicon.png';
    }),
  };
  const outcomes = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try { const r = await attempt(); outcomes[name] = r.status ? String(r.status) : r.type; }
    catch (error) { outcomes[name] = 'refused'; }
  }
  return outcomes;
}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (folder / "workspace.yaml").write_text("load_from: []\n")
    return folder


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    port = tools.free_port()
    command = ["-P", "-m", "neuro_assets.service.web_server"]
    with (home / "web.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "-w", str(home / "workspace.yaml"), "-p", str(port)],
            cwd=home,
            env={**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"},
            stdout=log,
            stderr=log,
        )
    try:
        tools.until(lambda: tools.listens(port) or server.poll() is not None, "the web server")
        assert server.poll() is None, (home / "web.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def foreign() -> Iterator[int]:
    """Port of a web server with an empty page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><body>elsewhere</body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=str(CHROMIUM),
            args=[*ARGUMENTS, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"],
        )
        yield context.pages[0]
        context.close()


def paused(home: Path) -> bool:
    from dagster._daemon.asset_daemon import get_auto_materialize_paused

    with dg.DagsterInstance.from_config(str(home)) as instance:
        return get_auto_materialize_paused(instance)


def reported(home: Path) -> list[str]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [key.to_user_string() for key in instance.all_asset_keys()]


def test_no_page_of_another_origin_reads_or_changes_anything(
    home: Path, url: str, foreign: int, page: Any
) -> None:
    page.goto(f"{url}/server_info")
    own = page.evaluate(ATTACK.replace("paused: true", "paused: false"), [url, "own"])
    assert own["json"] == "200"
    assert own["socket"] == "open"
    assert own["image"] == "shown"
    # No page at all, ours included, changes anything in the ways that ask nobody first.
    assert (own["get"], own["text"], own["address"], own["report"]) == ("405", "415", "415", "405")
    assert not paused(home)

    sandbox = f"data:text/html,<iframe sandbox='allow-scripts' src='http://localhost:{foreign}'>"
    for place in (f"http://localhost:{foreign}", f"http://{EVIL}:{foreign}", sandbox):
        page.goto(place)
        frame = page.frames[-1]
        outcomes = frame.evaluate(ATTACK, [url, "outside"])
        # An opaque answer is one that the page may not look into; the server has refused it.
        assert outcomes.pop("json") == "refused"
        assert outcomes.pop("socket") == "refused"
        assert outcomes.pop("image") == "refused"
        assert set(outcomes.values()) <= {"opaque", "refused"}, (place, outcomes)
        assert not paused(home)
        assert reported(home) == []


def test_a_name_that_was_pointed_at_this_machine_is_not_served(
    home: Path, url: str, page: Any
) -> None:
    rebound = url.replace("127.0.0.1", EVIL)
    assert page.goto(f"{rebound}/server_info").status == 421
    outcomes = page.evaluate(ATTACK, [rebound, "rebound"])
    assert outcomes["json"] == "421"
    assert outcomes["socket"] == "refused"
    assert not paused(home)
    assert reported(home) == []


def test_a_form_and_a_frame_of_another_page_come_to_nothing(
    home: Path, url: str, foreign: int, page: Any
) -> None:
    query = "query=mutation{setAutoMaterializePaused(paused:true)}"
    page.goto(f"http://localhost:{foreign}")
    page.set_content(f"<form method=post action='{url}/graphql?{query}'><button>go</button></form>")
    with page.expect_navigation() as sent:
        page.click("button")
    assert sent.value.status == 403
    page.goto(f"http://localhost:{foreign}")
    page.set_content(f"<iframe src='{url}/runs'></iframe>")
    page.wait_for_timeout(500)
    assert "Dagster" not in page.frames[-1].content()
    assert not paused(home)
