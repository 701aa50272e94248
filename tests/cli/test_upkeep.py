"""Commands that look after what is stored."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from neuro_assets import service
from neuro_assets.cli import upkeep
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.repair import Repair


def test_repair_goes_on_behind_what_cannot_be_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def process(lab, keys, assets, **options) -> bool:
        if assets == ["left"]:
            raise PermanentFailure("there is no asset 'left'")
        made.append((keys, assets))
        return True

    monkeypatch.setattr(service, "prepared_worker", lambda folder: nullcontext())
    monkeypatch.setattr(upkeep, "process_keys", process)
    lost = [Repair("left", "K1", "", ""), Repair("units", "K2", "", "")]
    upkeep._repair(SimpleNamespace(folder="lab"), lost)
    assert made == [(["K2"], ["units"])]
    shown = " ".join(capsys.readouterr().out.split())
    assert "left of K1: there is no asset 'left'" in shown
    assert "Not everything could be made again" in shown
