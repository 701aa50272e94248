"""What the browser shows of the configuration in force."""

from __future__ import annotations

import dagster as dg

from neuro_assets.definitions import build_defs
from neuro_assets.executors.frozen_config import ConfigText

CHANGE = {"field": "compute.cores", "old": "8", "new": "4"}


def test_the_browser_shows_what_is_loaded_and_what_changed_with_old_and_new() -> None:
    loaded = ConfigText("lab: mine\n", "line 3: no", "2026-01-02", [CHANGE], "2026-01-01")
    graph = build_defs(loaded=loaded).get_repository_def().asset_graph
    metadata = graph.get(dg.AssetKey("lab_configuration")).metadata
    assert [record.data for record in metadata["latest_change"].records] == [CHANGE]
    assert metadata["latest_change_at"] == "2026-01-01"
    assert metadata["loaded_at"] == "2026-01-02"
    assert metadata["refused"] == "line 3: no"
    assert "lab: mine" in metadata["lab_yaml"].value
