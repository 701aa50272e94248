"""The tables of the lab: the last refresh that began counts, and a failed one is recorded."""

from __future__ import annotations

import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets import names
from neuro_assets.science import tables
from neuro_assets.store import WHOLE_LAB

TEXT = "lab: l\nstore: {url: store}"


@pytest.fixture
def lab(tmp_path) -> SmallLab:
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    lab = SmallLab(tmp_path, TEXT)
    assert len(lab.register(tmp_path / "raw")) == 1
    return lab


def test_a_refresh_that_read_less_does_not_replace_one_that_began_later(lab, monkeypatch):
    real, runs = tables.insertions, []

    def overtaken(*given, **more):
        table = real(*given, **more)
        if not runs:
            runs.append("first")
            runs.append(lab.run("tables", only=[names.INSERTIONS]).run_id)
        return table

    monkeypatch.setattr(tables, "insertions", overtaken)
    assert lab.run("tables", only=[names.INSERTIONS]).success
    assert lab.store.current(names.INSERTIONS, WHOLE_LAB).manifest.run_id == runs[1]


def test_a_refresh_that_fails_is_recorded_until_one_succeeds(lab, monkeypatch):
    def broken(*given, **more):
        raise ValueError("no such column")

    monkeypatch.setattr(tables, "insertions", broken)
    assert not lab.run("tables", only=[names.INSERTIONS]).success
    failure = lab.store.failure(names.INSERTIONS, WHOLE_LAB)
    assert failure is not None and failure.turn == 1
    assert failure.error == {"type": "ValueError", "message": "no such column"}
    monkeypatch.undo()
    assert lab.run("tables", only=[names.INSERTIONS]).success
    assert lab.store.failure(names.INSERTIONS, WHOLE_LAB) is None
