"""The tables of the lab: the last refresh that began counts, and a failed one is recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from labs import SmallLab
from spikeglx_files import write
from typer.testing import CliRunner

from neuro_assets import names
from neuro_assets.assets.tables import tables_out_of_date
from neuro_assets.cli import app
from neuro_assets.outcomes import Outcome
from neuro_assets.registry.index import Records
from neuro_assets.registry.judging import renamed
from neuro_assets.science import tables
from neuro_assets.store import WHOLE_LAB, Manifest
from neuro_assets.store.output_files import commit_result

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


def test_a_table_with_names_that_changed_in_the_registry_is_out_of_date(lab, monkeypatch):
    (key,) = lab.registry.all()
    assert tables_out_of_date(lab.store, lab.registry.all()) == {}, "none was made yet"
    assert lab.run("tables").success
    assert tables_out_of_date(lab.store, lab.registry.all()) == {}
    session = lab.registry.get(key).session
    renamed = session.model_copy(update={"subject": "M2", "lab": "other"})
    lab.registry.update(key, lambda record: {"session": renamed})
    # No recording has units: their table has no row with the old name.
    assert tables_out_of_date(lab.store, lab.registry.all()) == {
        names.INSERTIONS: "lab, subject in the registry"
    }
    (lab.folder / "lab.yaml").write_text(TEXT)
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(lab.folder))
    shown = CliRunner().invoke(app, ["status"]).output
    assert "insertions is out of date: lab, subject in the registry" in shown
    assert lab.run("tables").success
    assert tables_out_of_date(lab.store, lab.registry.all()) == {}
    (line,) = lab.registry.all().lines.values()
    records = Records({key: line, "x": line})
    assert tables_out_of_date(lab.store, records) == {
        names.INSERTIONS: "other recordings in the registry"
    }
    Path(lab.config.store.url, names.INSERTIONS, WHOLE_LAB, "current.json").write_text("{")
    assert "current.json" in tables_out_of_date(lab.store, records)[names.INSERTIONS]


def test_units_of_a_renamed_subject_are_out_of_date_in_the_units_table(lab):
    (key,) = lab.registry.all()
    manifest = Manifest(
        asset="units", key=key, version="v" * 16, outcome="complete", code_version="1-a",
        parameters={}, packages={}, clock="probe", turn=1,
    )  # fmt: skip
    with lab.store.attempt("units", key, manifest.version) as attempt:
        table = pd.DataFrame({"unit_id": ["1"], "uuid": ["u"]})
        commit_result(attempt, manifest, ".parquet", {"units": table})
    assert lab.run("tables", only=[names.UNITS_TABLE]).success
    assert tables_out_of_date(lab.store, lab.registry.all()) == {}
    session = lab.registry.get(key).session.model_copy(update={"subject": "M2"})
    lab.registry.update(key, lambda record: {"session": session})
    assert tables_out_of_date(lab.store, lab.registry.all()) == {
        names.UNITS_TABLE: "subject in the registry"
    }


def test_what_is_listed_under_another_key_is_in_no_table_twice(lab):
    (old,) = lab.registry.all()
    new = "M2_20240512_1_probe00"
    frame = pd.DataFrame({"unit_id": [1], "uuid": ["a"]})

    def have_units(key):
        manifest = Manifest(asset=names.UNITS, key=key, version="aa", outcome=Outcome.COMPLETE)
        with lab.store.attempt(names.UNITS, key, "aa") as attempt:
            commit_result(attempt, manifest, ".parquet", {"units": frame})

    def keys(name):
        return list(lab.store.current(name, WHOLE_LAB).table(name)["key"])

    def rename(index):
        record = index.records[old]
        index.put(renamed(record, new, is_unmade=False))
        index.put(record.model_copy(update={"key": new}))

    have_units(old)
    assert lab.run("tables").success
    lab.registry.transact(rename)
    both = {names.INSERTIONS, names.UNITS_TABLE}
    changed = dict.fromkeys(both, "other recordings in the registry")
    assert tables_out_of_date(lab.store, lab.registry.all()) == changed
    have_units(new)
    assert lab.run("tables").success
    assert {name: keys(name) for name in both} == dict.fromkeys(both, [new])
    assert tables_out_of_date(lab.store, lab.registry.all()) == {}


def test_a_damaged_output_costs_its_recording_only(lab, tmp_path):
    write(tmp_path / "more" / "M2_g0" / "M2_g0_t0.imec0.ap.bin", n=3000, seed=1, serial="190000077")
    [good] = lab.register(tmp_path / "more")
    [bad] = set(lab.registry.all()) - {good}
    frame = pd.DataFrame({"unit_id": [1, 2], "uuid": ["a", "b"]})
    manifest = Manifest(asset=names.UNITS, key=good, version="aa", outcome=Outcome.COMPLETE)
    with lab.store.attempt(names.UNITS, good, "aa") as attempt:
        commit_result(attempt, manifest, ".parquet", {"units": frame})
    units = Path(lab.store.url) / names.UNITS
    shutil.copytree(units / good, units / bad)
    (Path(lab.store.url) / names.LFP / bad / "current.json").mkdir(parents=True)
    assert lab.run("tables").success
    table = lab.store.current(names.UNITS_TABLE, WHOLE_LAB).table(names.UNITS_TABLE)
    assert list(table["key"]) == [good, good]
    rows = lab.store.current(names.INSERTIONS, WHOLE_LAB).table(names.INSERTIONS).set_index("key")
    assert rows.loc[bad, [f"{names.UNITS}__outcome", f"{names.LFP}__outcome"]].eq("failed").all()
    assert rows.loc[good, f"{names.UNITS}__outcome"] == "complete"
