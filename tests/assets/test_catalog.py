"""The list of steps: an order, a recorded shape, and what the layers of Dagster make of it."""

from __future__ import annotations

import pytest

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.step import StepSpec
from neuro_assets.config import parse_config
from neuro_assets.definitions import build_defs
from neuro_assets.store import packages

TWO = parse_config("sorters: [{name: tridesclous2}, {name: spykingcircus2}]")

GRAPH = {
    "compressed_recording": {"raw_recording"},
    "compressed_auxiliary": {"raw_auxiliary"},
    "bad_channels": {"compressed_recording"},
    "recording_quality": {"compressed_recording", "bad_channels"},
    "motion": {"compressed_recording", "bad_channels", "recording_quality"},
    "sorting_tridesclous2": {"compressed_recording", "bad_channels", "recording_quality"},
    "analyzer_tridesclous2": {
        "compressed_recording",
        "bad_channels",
        "recording_quality",
        "sorting_tridesclous2",
    },
    "unit_quality_tridesclous2": {"analyzer_tridesclous2"},
    "units": {"sorting_tridesclous2", "analyzer_tridesclous2", "unit_quality_tridesclous2"},
    "lfp": {"compressed_recording", "bad_channels", "recording_quality"},
    "nwb": {
        "raw_recording",
        "recording_metadata",
        "compressed_recording",
        "bad_channels",
        "recording_quality",
        "analyzer_tridesclous2",
        "units",
        "lfp",
    },
}


def test_the_graph_is_the_recorded_one():
    steps = {step.name: {need.asset for need in step.needs} for step in all_steps(parse_config(""))}
    assert steps == GRAPH


def test_what_a_step_needs_comes_before_it():
    known = {"raw_recording", "raw_auxiliary", "recording_metadata"}
    for step in all_steps(TWO):
        assert {need.asset for need in step.needs} <= known, step.name
        known.add(step.name)


def test_sorter_sets_are_siblings_and_units_does_not_wait_for_the_one_it_does_not_take():
    needs = {step.name: {need.asset for need in step.needs} for step in all_steps(TWO)}
    assert {"sorting_spykingcircus2", "sorting_tridesclous2"} <= needs.keys()
    assert not any("spykingcircus2" in asset for asset in needs["units"] | needs["nwb"])
    every = parse_config(
        "sorters: [{name: tridesclous2}, {name: spykingcircus2}]\nsteps: {units: {set: most_good}}"
    )
    units = next(step for step in all_steps(every) if step.name == "units")
    assert {n.asset for n in units.needs} >= {"unit_quality_spykingcircus2"}
    assert all(need.optional for need in units.needs)


def test_every_asset_has_group_kind_owner_description_and_code_version():
    graph = build_defs(config=TWO).get_repository_def().asset_graph
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.group_name and node.kinds and node.owners and node.description, key
        assert node.code_version, key


def test_heavy_steps_are_in_a_pool_and_kilosort_in_that_of_the_gpu():
    config = parse_config("sorters: [{name: ks4, sorter: kilosort4}, {name: tridesclous2}]")
    pools = {step.name: step.pool for step in all_steps(config)}
    assert pools["sorting_ks4"] == "gpu"
    assert pools["sorting_tridesclous2"] == "heavy"
    assert pools["units"] is None


def sorting_step(config=TWO) -> StepSpec:
    return next(step for step in all_steps(config) if step.name == "sorting_tridesclous2")


def test_what_a_step_reads_beside_its_parameters_is_in_its_version():
    key = "M1_20240512_1_probe00"
    chosen = parse_config("sorters: [{name: tridesclous2, probes: [probe00]}]")
    another = parse_config("sorters: [{name: tridesclous2, probes: [probe01]}]")
    version = sorting_step(chosen).version([], key)
    assert sorting_step().version([], key) == version
    assert sorting_step(another).version([], key) != version


def test_a_sorter_outside_the_table_is_versioned_with_its_own_package(monkeypatch):
    from importlib import metadata

    installed = metadata.version
    found = []
    for release in ("1.0", "2.0", None):

        def version(name, release=release):
            if name == "mountainsort4" and release:
                return release
            return installed(name)

        monkeypatch.setattr(metadata, "version", version)
        config = parse_config("sorters: [{name: mountainsort4}]")
        [step] = [s for s in all_steps(config) if s.name == "sorting_mountainsort4"]
        assert step.releases["mountainsort4"] == (release or "")
        assert step.releases["numba"] == installed("numba")
        found.append(step.version([], "M1_20240512_1_probe00"))
    assert len(set(found)) == 3


@pytest.mark.parametrize(("package", "changes"), [("spikeinterface", True), ("dagster", False)])
def test_a_new_release_of_a_declared_package_is_another_version(monkeypatch, package, changes):
    key, before = "M1_20240512_1_probe00", sorting_step()
    version, code = before.version([], key), before.code_version
    newer = {**packages.installed_packages(), package: "99.0"}
    monkeypatch.setattr(packages, "installed_packages", lambda: newer)
    after = sorting_step()
    assert (after.version([], key) != version) is changes
    assert (after.code_version != code) is changes
