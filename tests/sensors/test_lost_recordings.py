"""What the sensors ask the store and Dagster about a recording that may have been lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets import names
from neuro_assets.sensors.reconciliation import LOST_AFTER, _has_run, _may_be_lost
from neuro_assets.service.events import RAW_VERSION_TAG
from neuro_assets.service.session_registration import _is_unfinished


@pytest.mark.parametrize("name", ["current.json", "failure.json"])
def test_a_damaged_pointer_ends_no_tick(tmp_path: Path, name: str) -> None:
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    lab = SmallLab(tmp_path, "lab: l\nstore: {url: store}")
    [key] = lab.register(tmp_path / "raw")
    at = datetime.now(UTC) - LOST_AFTER - timedelta(hours=1)
    record = lab.registry.get(key).model_copy(update={"requested": None, "requested_at": at})
    assert _may_be_lost(lab.registry, record, datetime.now(UTC))
    damaged = Path(lab.store.url) / names.COMPRESSED_RECORDING / key / name
    damaged.mkdir(parents=True)
    (Path(lab.store.url) / "Thumbs.db").write_bytes(b"x")
    assert not _may_be_lost(lab.registry, record, datetime.now(UTC)), "it left a trace"
    assert _is_unfinished(lab.store, key)


@pytest.mark.parametrize(
    ("under", "status", "counts"),
    [("old", "FAILURE", False), ("old", "SUCCESS", True), ("new", "FAILURE", True)],
)
def test_a_run_that_was_refused_under_an_earlier_key_is_asked_for_again(
    tmp_path: Path, under: str, status: str, counts: bool
) -> None:
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    lab = SmallLab(tmp_path, "lab: l\nstore: {url: store}")
    [key] = lab.register(tmp_path / "raw")
    record = lab.registry.get(key).model_copy(
        update={"aliases": ["earlier_key"], "requested_by": "rename"}
    )
    tags = {
        names.PARTITION_TAG: key if under == "new" else "earlier_key",
        RAW_VERSION_TAG: record.raw_version,
    }
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun(job_name="process", tags=tags, status=dg.DagsterRunStatus[status])
        instance.add_run(run)
        assert _has_run(instance, record) is counts
