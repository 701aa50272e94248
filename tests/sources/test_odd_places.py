"""Names, links and places that a sweep cannot use cost themselves alone, and have a line."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.outcomes import TransientFailure
from neuro_assets.registry.findings import read_findings
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.planning import plan
from neuro_assets.sensors.discovery import look
from neuro_assets.service.session_registration import seen, sources_of
from neuro_assets.sources.folders.source import LocalSessionSource

BIN = "_g0_t0.imec0.ap.bin"
NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
GOOD = "m1_20240512_1_probe00"


def two_sources(folder):
    write(folder / f"a/m1_20240512/a{BIN}")
    write(folder / f"b/m2_20240512/b{BIN}", serial="2", seed=2)
    rows = "{name: a, path: a, settle_minutes: 0}, {name: b, path: b, settle_minutes: 0}"
    return SmallLab(folder, f"store: {{url: store}}\nsources: [{rows}]\n")


def tick(lab):
    look(dg.build_sensor_context(lab.instance), lab.registry, lab.config, sources_of(lab.config))
    return {key: record.state for key, record in lab.registry.all().items()}


@pytest.mark.parametrize(
    "name", ["x\udcff.bin", "m\udcfc_20240512/x.bin", "Subjects/m\udcfc/2024-05-12/001/x.bin"]
)
def test_a_name_that_is_not_utf8_costs_itself_alone(tmp_path, name):
    lab = two_sources(tmp_path)
    odd = tmp_path / "a" / name
    odd.parent.mkdir(parents=True, exist_ok=True)
    odd.touch()
    assert tick(lab) == {GOOD: "ready", "m2_20240512_1_probe00": "ready"}
    (row,) = read_findings(lab.store, "a").rows()
    assert row.kind == "odd_name" and r"\udc" in row.path and "rename" in row.detail


def test_a_link_that_no_stat_reads_is_a_link_without_a_target(tmp_path):
    write(tmp_path / f"m1_20240512/a{BIN}")
    (tmp_path / "long").symlink_to("/" + "x" * 300)
    changes = LocalSessionSource(tmp_path).changes()
    assert changes.seen == ("m1_20240512",)
    assert [(each.kind, each.path) for each in changes.problems] == [("dangling_link", "long")]


def test_a_defect_at_one_source_is_reported_and_the_others_are_served(tmp_path, monkeypatch):
    lab = two_sources(tmp_path)
    changes = LocalSessionSource.changes

    def broken(self, *args, **kwargs):
        if self.name in bad:
            raise ZeroDivisionError("a defect")
        return changes(self, *args, **kwargs)

    monkeypatch.setattr(LocalSessionSource, "changes", broken)
    bad = {"a"}
    assert tick(lab) == {"m2_20240512_1_probe00": "ready"}
    bad = {"a", "b"}
    with pytest.raises(TransientFailure, match="a: ZeroDivisionError: a defect"):
        tick(lab)


def test_a_record_that_json_refuses_leaves_the_index_as_it_was(tmp_path):
    write(tmp_path / f"m1_20240512/a{BIN}")
    source = LocalSessionSource(tmp_path, settle_s=0)
    (found,) = (seen(one, use_hash=False) for one in source.changes().changed)
    (action,) = plan({}, [found], [], NOW)
    index = RecordIndex({GOOD: action.record})
    odd = action.record.session.model_copy(update={"path": "m\udcfc"})
    for key in (GOOD, "m2_20240512_1_probe00"):
        with pytest.raises(ValueError, match="surrogates"):
            index.put(action.record.model_copy(update={"key": key, "session": odd}))
    assert index.rollback() == {}
    assert dict(index.records) == {GOOD: action.record}
    assert [each.key for each in index.at("local", "m1_20240512")] == [GOOD]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_to_folders_above_are_not_entered(tmp_path, target):
    write(tmp_path / f"x/lab/Subjects/M1/2024-05-12/001/a{BIN}")
    (tmp_path / "x/beside").mkdir()
    for name in ("a", "b"):
        (tmp_path / "x/lab" / name).symlink_to(target)
    changes = LocalSessionSource(tmp_path / "x").changes()
    assert changes.seen == ("lab/Subjects/M1/2024-05-12/001",)


def test_links_to_each_other_are_followed_to_a_depth_only(tmp_path):
    for lab, other in (("a", "b"), ("b", "a")):
        write(tmp_path / f"{lab}/Subjects/M1/2024-05-12/001/{lab}{BIN}")
        for name in "xy":
            (tmp_path / lab / name).symlink_to(tmp_path / other)
    seen_now = LocalSessionSource(tmp_path).changes().seen
    assert max(name.count("/") for name in seen_now) < 16
