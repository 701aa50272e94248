"""What the browser shows of the configuration in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.definitions.reconstruct import (
    ReconstructableRepository,
    initialize_repository_def_from_pointer,
)

from neuro_assets.config import CONFIG_VARIABLE
from neuro_assets.definitions import build_defs
from neuro_assets.executors.frozen_config import LOADED_VARIABLE, ConfigText

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


REPOSITORY = ReconstructableRepository.for_module("neuro_assets.definitions", "defs")
Load = Callable[[str], dg.RepositoryDefinition]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load the definitions as the code server does after `lab.yaml` was written."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(LOADED_VARIABLE, str(tmp_path / "home" / "loaded.json"))
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "lab.yaml"))

    def reload(text: str) -> dg.RepositoryDefinition:
        (tmp_path / "lab.yaml").write_text(text)
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)
        return initialize_repository_def_from_pointer(REPOSITORY.pointer)

    return reload


def shown(loaded: dg.RepositoryDefinition) -> Mapping[str, Any]:
    """What the browser shows of `lab_configuration`."""
    return loaded.asset_graph.get(dg.AssetKey("lab_configuration")).metadata


def changes(loaded: dg.RepositoryDefinition) -> list[tuple[str, str, str]]:
    records = shown(loaded)["latest_change"].records
    return [tuple(record.data[name] for name in ("field", "old", "new")) for record in records]


def test_what_is_shown_is_what_is_loaded_and_what_changed_against_the_load_before(
    load: Load,
) -> None:
    first = load("lab: one\ncompute: {cores: 8}\n")
    assert changes(first) == [] and shown(first)["latest_change_at"] == "-"
    second = load("lab: two\ncompute: {cores: 4}\n")
    assert changes(second) == [("lab", '"one"', '"two"'), ("compute.cores", "8", "4")]
    assert "lab: two" in shown(second)["lab_yaml"].value
    assert second.metadata["lab"].value == "two", "the definitions are of the same text"
    assert shown(second)["latest_change_at"] == shown(second)["loaded_at"] != "-"
    assert shown(second)["refused"] == "no"


def test_a_refused_file_is_shown_beside_what_stays_loaded(load: Load) -> None:
    load("lab: one\n")
    refused = load("labb: two\n")
    assert "did you mean" in shown(refused)["refused"]
    assert "lab: one" in shown(refused)["lab_yaml"].value
    assert refused.metadata["lab"].value == "one"
    assert changes(refused) == [], "nothing was loaded anew"


def test_a_step_of_a_run_in_progress_sees_the_file_of_its_start(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start = load("lab: one\n").repository_load_data
    load("lab: two\n")
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)
    in_step = REPOSITORY.with_repository_load_data(at_start).get_definition()
    assert in_step.metadata["lab"].value == "one"
    assert "lab: one" in shown(in_step)["lab_yaml"].value
