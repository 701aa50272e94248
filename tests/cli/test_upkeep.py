"""Commands that look after what is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from neuro_assets import service
from neuro_assets.cli import upkeep
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.repair import Repair

NEEDS = {"raw": (), "sorting": ("raw",), "units": ("sorting",), "lfp": ("raw",), "pose": ()}


@pytest.fixture
def repaired(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[tuple[str, str]], str]]:
    """Repair in a lab in which some steps fail; give what was made, in order, and the lines."""

    def run(repairs: list[Repair], **failing: str) -> tuple[list[tuple[str, str]], str]:
        made = []

        def process(lab, keys, assets, **options) -> bool:
            [key], [asset] = keys, assets
            if asset not in NEEDS:
                raise PermanentFailure(f"there is no asset {asset!r}")
            if failing.get(asset) == "broken off":
                raise TransientFailure("the connection failed")
            if asset not in failing:
                made.append((key, asset))
            return asset not in failing

        steps = [
            SimpleNamespace(name=name, needs=[SimpleNamespace(asset=need) for need in needs])
            for name, needs in NEEDS.items()
        ]
        monkeypatch.setattr(service, "prepared_worker", lambda folder: nullcontext())
        monkeypatch.setattr(upkeep, "process_keys", process)
        upkeep._repair(SimpleNamespace(folder="lab", steps=lambda: steps), repairs)
        return made, " ".join(capsys.readouterr().out.split())

    return run


def test_repair_goes_on_behind_what_cannot_be_made_again(repaired) -> None:
    lost = [Repair(asset, "K1", "") for asset in ("lfp", "pose", "left", "units", "raw")]
    made, shown = repaired([*lost, Repair("units", "K2", "")])
    assert made == [*(("K1", asset) for asset in ("raw", "units", "lfp", "pose")), ("K2", "units")]
    assert "left of K1: there is no asset 'left'" in shown
    assert "Not everything could be made again" in shown


@pytest.mark.parametrize("how", ["failed", "broken off"])
def test_what_needs_an_output_that_could_not_be_made_is_not_tried(repaired, how: str) -> None:
    lost = [Repair(asset, "K1", "") for asset in ("units", "sorting", "raw", "pose")]
    made, shown = repaired([*lost, Repair("units", "K2", "")], raw=how)
    assert made == [("K1", "pose"), ("K2", "units")]
    assert "raw of K1: " in shown
    assert "sorting of K1: not tried, because it needs raw" in shown
    assert "units of K1: not tried, because it needs sorting" in shown


def test_what_needs_an_output_that_a_person_must_look_at_is_not_tried(repaired) -> None:
    stuck = Repair("raw", "K1", "", error="raw/K1/current.json is no file: move it away")
    made, shown = repaired([stuck, Repair("lfp", "K1", ""), Repair("pose", "K1", "")])
    assert made == [("K1", "pose")]
    assert stuck.error in shown and "lfp of K1: not tried, because it needs raw" in shown


def test_all_that_was_lost_was_made_again(repaired) -> None:
    made, shown = repaired([Repair("units", "K1", ""), Repair("lfp", "K1", "A7")])
    assert made == [("K1", "units")]
    assert "lfp of K1: attempt A7 counts now" in shown and shown.endswith("Made again.")
