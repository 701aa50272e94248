"""What whoever launches a run may decide: nothing of place or machine."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from neuro_assets.config import LabConfig, StoreConfig
from neuro_assets.definitions import build_defs

KEY = "M1_20240512_1_probe00"
LAUNCHES: list[dict[str, Any]] = [
    {"resources": {"store": {"config": {"url": "ELSEWHERE"}}}},
    {"resources": {"parquet_io": {"config": {"store": {"url": "ELSEWHERE"}}}}},
    {"resources": {"io_manager": {"config": {"base_dir": "ELSEWHERE"}}}},
    {"execution": {"config": {"max_concurrent": 64}}},
    {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["evil"]}}}}},
    {"execution": {"config": {"multiprocess": {"max_concurrent": 64}}}},
    {"execution": {"config": {"in_process": {}}}},
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LabConfig:
    return LabConfig(store=StoreConfig(url=str(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def job(config: LabConfig) -> dg.JobDefinition:
    return build_defs(config=config).resolve_job_def("process")


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_a_launch_changes_neither_store_nor_executor(
    config: LabConfig, job: dg.JobDefinition, launch: dict[str, Any]
) -> None:
    """Either the configuration is refused, or the objects behind it are the lab's all the same."""
    try:
        resolved = dg.validate_run_config(job, launch)
    except dg.DagsterInvalidConfigError:
        return
    assert "execution" not in launch or resolved["execution"] == _as_built(job)
    for name, definition in job.resource_defs.items():
        given = resolved["resources"].get(name)
        made = dg.build_resources({name: definition}, resource_config={name: given or {}})
        with made as resources:
            found = getattr(resources, name)
            place = found.url if name == "store" else found.store.url
            assert place == config.store.url


def _as_built(job: dg.JobDefinition) -> Any:
    return dg.validate_run_config(job, {})["execution"]
