"""What a person sees: `neuro-assets up` in a real browser, while a session folder is dropped.

The screenshots go to the folder named by NEURO_ASSETS_SCREENSHOTS, else to a temporary one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import service_tools as tools

CHROMIUM = Path(os.environ.get("NEURO_ASSETS_CHROMIUM", "/usr/bin/chromium"))
KEY = "SIM-001_20260115_1_probe00"
GROUPS = ("raw", "recording", "sorting", "lfp", "export", "tables")
WAIT_MS = 300_000
"""Keeps a broken page from hanging the test; a loaded machine needs a minute for the first."""

LAB_YAML = """\
lab: simlab
store: {url: store}
sources:
  - {name: local, path: sessions, settle_minutes: 0.05}
sorters:
  - {name: tridesclous2, set: tridesclous2}
"""
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.slow]

if not CHROMIUM.exists():
    REASON = f"no Chromium at {CHROMIUM} (NEURO_ASSETS_CHROMIUM names another)"
    if "browser" in os.environ.get("NEURO_ASSETS_REQUIRE", ""):
        pytest.fail(REASON, pytrace=False)
    pytest.skip(REASON, allow_module_level=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("NEURO_ASSETS_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tree of a simulated lab with one short session of one probe."""
    out = tmp_path_factory.mktemp("simulated")
    command = ["simulate", str(out), "--duration", "12", "--channels", "16", "--no-video"]
    subprocess.run([*NEURO_ASSETS, *command], check=True, env=tools.environment(out), cwd=out)
    return out / "simlab"


NEURO_ASSETS = (sys.executable, "-c", "from neuro_assets.cli import main; main()")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, session: Path) -> Iterator[str]:
    """Start the platform in an empty lab; the session is dropped by `finished`."""
    lab = tmp_path_factory.mktemp("lab")
    (lab / "lab.yaml").write_text(LAB_YAML)
    port = tools.free_port()
    env = {k: v for k, v in tools.environment(lab).items() if k != "NEURO_ASSETS_LAB"}
    with (lab / "up.log").open("ab") as log:
        up = subprocess.Popen(
            [*NEURO_ASSETS, "up", "--port", str(port)], cwd=lab, env=env, stdout=log, stderr=log
        )
    try:
        tools.until(lambda: "is up" in tools.log(lab, "up.log") or up.poll(), "up", 600)
        assert up.poll() is None, tools.log(lab, "up.log")
        # As a copy does it: data first, the flag that says "complete" last.
        shutil.copytree(
            session, lab / "sessions" / "simlab", ignore=shutil.ignore_patterns("*.flag")
        )
        for flag in session.rglob("*.flag"):
            shutil.copy(flag, lab / "sessions" / "simlab" / flag.relative_to(session))
        yield f"http://127.0.0.1:{port}"
        up.send_signal(signal.SIGINT)
        assert up.wait() == 0
    finally:
        tools.kill_family(up.pid)
        up.wait()


@pytest.fixture(scope="module")
def page(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    profile = str(tmp_path_factory.mktemp("profile"))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=str(CHROMIUM),
            args=list(ARGUMENTS),
            viewport={"width": 1500, "height": 1000},
        )
        context.set_default_timeout(WAIT_MS)
        context.set_default_navigation_timeout(WAIT_MS)
        yield context.pages[0]
        context.close()


@pytest.fixture(scope="module")
def finished(page: Any, url: str, pictures: Path) -> str:
    """Wait, looking at the page of runs, until the dropped session is processed and published."""
    page.goto(f"{url}/runs")
    for job in ("process", "publish", "tables"):
        row = page.locator("tr, [role=row], div[data-index]")
        for words in (job, "Success"):
            row = row.filter(has=page.get_by_text(words, exact=True))
        row.first.wait_for(timeout=3 * WAIT_MS)
    page.get_by_text(KEY).first.wait_for()
    page.screenshot(path=str(pictures / "runs.png"))
    return str(page.inner_text("body"))


def test_no_dialog_covers_the_first_page_and_the_graph_shows_the_groups(
    page: Any, url: str, pictures: Path
) -> None:
    page.goto(f"{url}/asset-groups")
    graph = page.locator("svg foreignObject, foreignObject")
    for group in GROUPS:
        graph.get_by_text(group, exact=True).first.wait_for()
    assert page.locator("[role=dialog]").count() == 0
    page.screenshot(path=str(pictures / "groups.png"))


def test_the_sensors_are_on(page: Any, url: str, pictures: Path) -> None:
    page.goto(f"{url}/automation")
    page.get_by_text("discovery", exact=True).wait_for()
    page.get_by_text("publish_after_success", exact=True).wait_for()
    page.screenshot(path=str(pictures / "sensors.png"))
    page.goto(f"{url}/locations/neuro_assets/sensors/discovery")
    page.get_by_text("Next tick").wait_for()
    assert page.locator("input[type=checkbox]").first.is_checked()
    page.screenshot(path=str(pictures / "discovery.png"))


def test_a_dropped_session_becomes_finished_runs(finished: str) -> None:
    assert "discovery" in finished
    assert "publish_after_success" in finished
    assert "Failure" not in finished


def test_the_checks_of_a_recording_are_listed_with_their_values(
    finished: str, page: Any, url: str, pictures: Path
) -> None:
    page.goto(f"{url}/assets/recording_quality?view=checks&checkDetail=saturation")
    page.get_by_text("Evaluation result").wait_for()
    for check in ("outcome", "usable", "noise", "saturation", "continuity"):
        page.get_by_text(check, exact=True).first.wait_for()
    page.get_by_text(KEY).first.wait_for()
    text = page.inner_text("body")
    # The value, the limits that it is held against, and the verdict, in one table.
    for words in ("saturated_fraction", "WARNING > ", "verdict"):
        assert words in text
    page.screenshot(path=str(pictures / "checks.png"))

    page.get_by_text("Partitions", exact=True).last.click()
    page.get_by_text("1 Partitions Selected").wait_for()
    page.screenshot(path=str(pictures / "check_partitions.png"))


def test_a_recording_shows_what_was_measured(
    finished: str, page: Any, url: str, pictures: Path
) -> None:
    page.goto(f"{url}/assets/recording_quality?view=partitions&partition={KEY}")
    page.get_by_text("rms_destriped_uv_median").first.wait_for()
    text = page.inner_text("body")
    assert "duration_s" in text
    assert "Materialized (1)" in text
    page.screenshot(path=str(pictures / "partition.png"))


def test_the_lineage_of_the_whole_recording_is_drawn(
    finished: str, page: Any, url: str, pictures: Path
) -> None:
    page.goto(f"{url}/assets/nwb?view=lineage&lineageScope=upstream&lineageDepth=10")
    # Longer names are cut in the middle.
    for asset in ("raw_recording", "bad_channels", "units", "lfp", "nwb"):
        page.get_by_text(asset, exact=True).last.wait_for()
    page.screenshot(path=str(pictures / "lineage.png"))
