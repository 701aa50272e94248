"""What the sensors ask the store about a recording, where the store's answer is damaged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets import names
from neuro_assets.sensors.reconciliation import LOST_AFTER, _may_be_lost
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
