"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuro_assets.config import ComputeConfig, machine
from neuro_assets.config.changes import changed_fields
from neuro_assets.config.lab import LabConfig


@pytest.mark.parametrize(
    ("quota", "pinned", "cores"),
    [
        (None, 3, 3),
        ("max 100000", 3, 3),
        ("200000 100000", 16, 2),
        ("150000 100000", 16, 2),
        ("10000 100000", 16, 1),
        ("800000 100000", 2, 2),
    ],
)
def test_pinning_and_shares_of_a_container_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, pinned: int, cores: int
) -> None:
    path = tmp_path / "cpu.max"
    if quota is not None:
        path.write_text(f"{quota}\n")
    monkeypatch.setattr(machine, "_CGROUP_QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(pinned)), raising=False)
    assert machine.usable_cores() == cores
    assert ComputeConfig(cores=None).n_cores == cores
    assert ComputeConfig(cores=5).n_cores == 5


def test_changes_name_the_field_with_what_it_was_and_is() -> None:
    old = LabConfig.model_validate({"sorters": [{"name": "kilosort4"}]})
    new = LabConfig.model_validate(
        {
            "lab": "mine",
            "sorters": [{"name": "tridesclous2"}, {"name": "kilosort4", "probes": ["a"]}],
        }
    )
    changes = {c["field"]: (c["old"], c["new"]) for c in changed_fields(old, new)}
    assert changes["lab"][1] == '"mine"'
    assert changes["sorters[tridesclous2].name"] == ("-", '"tridesclous2"')
    assert changes["sorters[kilosort4].probes"][1] == '["a"]'
    assert not [field for field in changes if field.startswith("sorters[kilosort4].name")]
    assert changed_fields(old, old) == []
