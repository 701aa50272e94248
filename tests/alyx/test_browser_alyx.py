"""What a person sees of sessions that are in Alyx: link, lab, subject, projects, quality."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import service_tools as tools
from alyx_lab import LOCAL, AlyxLab
from fake_alyx.server import TOKEN, AlyxServer
from test_browser import NEURO_ASSETS, page, pictures

__all__ = ["page", "pictures"]

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.slow]

DAY = (datetime.now(UTC) - timedelta(days=1)).date()
HELD, WAITS = f"M1_{DAY:%Y%m%d}_1_probe00", f"M2_{DAY:%Y%m%d}_1_probe00"


@pytest.fixture(scope="module")
def eid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Folder of a lab whose Alyx has one session of bad quality and one without data."""
    folder = tmp_path_factory.mktemp("alyx_lab")
    with AlyxServer(now=None, zone="UTC") as server:
        lab = AlyxLab(folder, server, more="timezone: UTC")
        held, _, _ = lab.recorded("M1", str(DAY), projects=["p", "brainwide"], qc="CRITICAL")
        lab.insertion(lab.session("M2", str(DAY)))
        text = lab.lab.text.replace(f"lab_server: {LOCAL}", "lab_server: repository")
        (folder / "lab.yaml").write_text(text)
        yield folder, held


@pytest.fixture(scope="module")
def url(eid: tuple[Path, str]) -> Iterator[str]:
    folder, _ = eid
    port = tools.free_port()
    env = {k: v for k, v in tools.environment(folder).items() if k != "NEURO_ASSETS_LAB"}
    env["ALYX_TOKEN"] = TOKEN
    with (folder / "up.log").open("ab") as log:
        up = subprocess.Popen(
            [*NEURO_ASSETS, "up", "--port", str(port)], cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        tools.until(lambda: "is up" in tools.log(folder, "up.log") or up.poll(), "up", 600)
        assert up.poll() is None, tools.log(folder, "up.log")
        yield f"http://127.0.0.1:{port}"
        up.send_signal(signal.SIGINT)
        assert up.wait() == 0
    finally:
        tools.kill_family(up.pid)
        up.wait()


def test_each_key_shows_what_alyx_says_of_it(
    page: Any, url: str, eid: tuple[Path, str], pictures: Path
) -> None:
    page.goto(f"{url}/assets/raw_recording?view=partitions&partition={HELD}")
    link = page.get_by_text(f"/admin/actions/session/{eid[1]}/change").first
    link.wait_for()
    text = page.inner_text("body")
    for words in ("CRITICAL", "p, brainwide", "M1", "held", "its quality is CRITICAL in Alyx"):
        assert words in text, words
    page.screenshot(path=str(pictures / "alyx_held.png"))


def test_what_is_waited_for_is_shown(page: Any, url: str, pictures: Path) -> None:
    page.goto(f"{url}/assets/recording_metadata?view=partitions&partition={WAITS}")
    page.get_by_text("ephysData.raw.ap is not registered").first.wait_for()
    text = page.inner_text("body")
    for words in ("not_ready", "NOT_SET", "/admin/actions/session/"):
        assert words in text, words
    page.screenshot(path=str(pictures / "alyx_waits.png"))
    page.goto(f"{url}/assets/raw_recording?view=events")
    page.get_by_text(WAITS).first.click()
    page.get_by_text("ephysData.raw.ap is not registered").first.wait_for()


def test_the_token_is_nowhere(url: str, eid: tuple[Path, str]) -> None:
    folder, _ = eid
    for path in folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
