"""Run tags that size, force or mount are an allow-list; the launcher refuses the rest."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from instances import watched_instance
from places import REPOSITORY

from neuro_assets.executors.run_tags import refused_tags


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dagster-k8s/config", '{"container_config": {"volume_mounts": []}}'),
        ("dagster-docker/image", "evil"),
        ("dagster/image", "evil"),
        ("dagster/isolation", "disabled"),
        ("dagster/concurrency_key", "heavy"),
        ("dagster/max_runtime", "99999999999"),
        ("dagster/max_runtime", "1e99"),
        ("dagster/max_retries", "100000"),
        ("dagster/priority", "1; rm"),
        ("ecs/cpu", "4096"),
        ("slurm/mem", "1T"),
        ("neuro/force", "yes"),
        ("neuro/duration_s", "-1"),
        ("neuro/channels", "999999"),
        ("neuro/made_up", "1"),
    ],
)
def test_what_sizes_forces_or_mounts_is_refused(name: str, value: str) -> None:
    assert refused_tags({name: value, "note": "for a person"}) == [f"{name}={value[:40]}"]


def test_notes_and_what_the_platform_itself_writes_are_allowed() -> None:
    tags = {
        **{"note": "again, please", "user": "me", ".dagster/grpc_info": "{}"},
        **{"neuro/force": "true", "neuro/duration_s": "3600", "neuro/channels": "385"},
        **{"dagster/partition": "M1_20240512_1_probe00", "dagster/max_retries": "12"},
        **{"dagster/max_runtime": "86400", "dagster/retry_strategy": "FROM_FAILURE"},
    }
    assert refused_tags(tags) == []


def test_every_tag_of_ours_in_the_package_is_known() -> None:
    """A new tag is added to the allow-list, or the runs that carry it would be refused."""
    found: set[str] = set()
    for path in (REPOSITORY / "neuro_assets").rglob("*.py"):
        found |= set(re.findall(r"\"(neuro/[a-z_]+)\"", path.read_text()))
    assert "neuro/force" in found
    for name in found:
        assert any(not refused_tags({name: value}) for value in ("true", "1", "text")), name


def test_the_launcher_ends_a_refused_run_before_it_has_a_process() -> None:
    with watched_instance() as instance:
        run = instance.create_run_for_job(
            dg.GraphDefinition(name="nothing").to_job(),
            status=dg.DagsterRunStatus.STARTING,
            tags={"dagster-k8s/config": "{}"},
        )
        # Without a workspace: whatever started a process would fail on it.
        context: Any = SimpleNamespace(dagster_run=run)
        instance.run_launcher.launch_run(context)
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
        assert ended.tags["dagster/max_retries"] == "0"
        messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("dagster-k8s/config={}" in message for message in messages)
