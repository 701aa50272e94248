"""A simulated session through all assets, in process: what is stored, reused, skipped, told."""

from __future__ import annotations

import json
import subprocess
import sys

import dagster as dg
import pandas as pd
import pytest
from labs import SHORT, SmallLab

from neuro_assets.outcomes import Outcome
from neuro_assets.science.checksums import checksum
from neuro_assets.simulation import simulate_session

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> SmallLab:
    """A lab whose one session (16 s, 32 channels) was processed and published."""
    lab = SmallLab(tmp_path_factory.mktemp("lab"))
    simulate_session(lab.folder / "sessions", duration_s=16, n_channels=32, video=False, seed=7)
    (lab.key,) = lab.register(lab.folder / "sessions" / "simlab")
    lab.processed = lab.run("process", lab.key)
    lab.published = lab.run("publish", lab.key)
    lab.tabled = lab.run("tables")
    return lab


def test_every_output_is_complete_or_skipped_with_a_typed_reason(lab):
    assert lab.processed.success and lab.published.success and lab.tabled.success
    outcomes = lab.outcomes(lab.key)
    assert outcomes.pop("motion") == "skipped"
    assert set(outcomes.values()) == {"complete"}
    assert lab.states(lab.key)["motion"].detail.startswith("too_few_channels: ")


def test_all_declared_checks_were_emitted_with_the_partition(lab):
    declared = {
        (spec.asset_key.to_user_string(), spec.name)
        for job in ("process", "publish")
        for spec in (
            lab.defs.get_repository_def().asset_graph.get_check_spec(key)
            for key in lab.defs.get_job_def(job).asset_layer.asset_graph.asset_check_keys
        )
    }
    emitted = lab.checks(lab.processed) | lab.checks(lab.published)
    assert set(emitted) == declared
    assert {check.partition for check in emitted.values()} == {lab.key}


def test_the_store_opens_with_the_fields_own_tools_alone(lab):
    """In a process that cannot import this package."""
    paths = {
        name: str(lab.store.current(name, lab.key).local())
        for name in ("compressed_recording", "sorting_tridesclous2", "analyzer_tridesclous2",
                     "units", "lfp", "nwb")
    }  # fmt: skip
    code = f"""
import sys
sys.modules["neuro_assets"] = None
import pandas, pynwb, spikeinterface as si
p = {paths!r}
ap = si.read_zarr(p["compressed_recording"] + "/ap.zarr")
assert ap.get_num_channels() == 32 and ap.get_probe() is not None
assert ap.get_traces(end_frame=10, return_in_uV=True).shape == (10, 32)
sorting = si.read_zarr(p["sorting_tridesclous2"] + "/sorting.zarr")
analyzer = si.load_sorting_analyzer(p["analyzer_tridesclous2"] + "/analyzer.zarr")
assert analyzer.get_extension("templates") is not None
units = pandas.read_parquet(p["units"] + "/units.parquet")
assert set(units["unit_id"]) == set(analyzer.unit_ids)
lfp = si.read_zarr(p["lfp"] + "/lfp.zarr")
assert lfp.sampling_frequency == 1000
nwb = pynwb.read_nwb(p["nwb"] + "/{lab.key}.nwb")
assert len(nwb.units) == len(units) and len(nwb.electrodes) == 32
assert set(units["label"]) <= {{"good", "bad", "noise", "unknown"}}
assert list(nwb.units["label"][:]) == list(units["label"])
assert list(nwb.units["noise_reason"][:]) == list(units["noise_reason"])
assert [d.model.manufacturer for d in nwb.devices.values()] == ["imec"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_units_found_are_true_ones(lab):
    """Against the simulation's truth, by SpikeInterface's comparison."""
    from neuro_assets.cli.demonstration import recovered
    from neuro_assets.cli.lab import Lab

    truth = next((lab.folder / "sessions" / "truth").iterdir())
    found = recovered(Lab(lab.folder / "lab.yaml", lab.config), lab.key, "tridesclous2", truth)
    assert found.n_true == 11
    assert found.n_found >= 2


def test_the_manifest_says_what_was_read_and_with_what(lab):
    manifest = lab.store.current("sorting_tridesclous2", lab.key).manifest
    inputs = {ref.asset: ref for ref in manifest.inputs}
    recorded = lab.store.current("compressed_recording", lab.key)
    assert inputs["compressed_recording"] == recorded.ref
    assert manifest.packages["spikeinterface"]
    assert manifest.clock == "probe"
    assert any(step["name"].startswith("sort:") for step in manifest.applied)


def test_the_units_uuid_hangs_on_the_content_of_the_sorting(lab):
    from uuid import UUID

    from neuro_assets.science.units import unit_uuid

    units = lab.store.current("units", lab.key).table("units")
    assert units["uuid"].is_unique
    assert {UUID(text).version for text in units["uuid"]} == {5}
    digest = lab.store.current("sorting_tridesclous2", lab.key).digest
    assert units["uuid"][0] == unit_uuid(digest, units["unit_id"][0])


def test_tables_hold_the_recording(lab):
    insertions = lab.store.current("insertions", "lab").table("insertions")
    units = lab.store.current("units_table", "lab").table("units_table")
    assert list(insertions["key"]) == [lab.key]
    assert insertions["motion__outcome"].tolist() == ["skipped"]
    assert set(units["key"]) == {lab.key}


def test_a_second_run_computes_nothing(lab):
    before = {name: state.stored.ref for name, state in lab.states(lab.key).items()}
    again = lab.run("process", lab.key)
    assert again.success
    after = {name: state.stored.ref for name, state in lab.states(lab.key).items()}
    assert after == before
    events = again.all_events
    made = [
        e.step_materialization_data.materialization for e in events if e.is_step_materialization
    ]
    assert made and all(m.metadata["reused"].value for m in made)


def test_force_computes_again_under_the_same_version(lab):
    before = lab.store.current("bad_channels", lab.key)
    result = lab.run("process", lab.key, tags={"neuro/force": "true"}, only=["bad_channels"])
    assert result.success
    after = lab.store.current("bad_channels", lab.key)
    assert (after.version, after.attempt == before.attempt) == (before.version, False)


def test_a_changed_parameter_shows_as_out_of_date_with_the_field(lab):
    text = SHORT.replace("steps:", "steps:\n  lfp: {parameters: {lowpass_hz: 250}}")
    edited = lab.with_text(text)
    states = edited.states(lab.key)
    assert states["lfp"].outcome is Outcome.COMPLETE
    assert states["lfp"].out_of_date == ("parameters: lowpass_hz from 300.0 to 250.0",)
    assert states["nwb"].out_of_date == ("through: lfp",)
    assert states["sorting_tridesclous2"].out_of_date == ()


def test_what_stands_on_an_out_of_date_output_says_through_which(lab):
    edited = lab.with_text(
        SHORT.replace("bad_channels: {set: demo}",
                      "bad_channels: {set: demo, parameters: {n_chunks: 29}}")
    )  # fmt: skip
    states = edited.states(lab.key)
    assert states["bad_channels"].out_of_date == ("parameters: n_chunks from 30 to 29",)
    assert states["sorting_tridesclous2"].out_of_date == (
        "through: bad_channels", "through: recording_quality",
    )  # fmt: skip
    assert "through: sorting_tridesclous2" in states["analyzer_tridesclous2"].out_of_date
    assert "through: units" in states["nwb"].out_of_date
    assert states["compressed_recording"].out_of_date == ()
    assert edited.run("process", lab.key, only=["bad_channels"]).success
    states = edited.states(lab.key)
    assert states["bad_channels"].out_of_date == ()
    assert "input: bad_channels" in states["sorting_tridesclous2"].out_of_date
    # Back to the first parameters: the committed version is taken again, nothing is computed.
    assert lab.run("process", lab.key, only=["bad_channels"]).success
    assert lab.states(lab.key)["sorting_tridesclous2"].out_of_date == ()


def test_a_new_release_of_a_declared_package_is_a_reason(lab, monkeypatch):
    from neuro_assets.store import packages

    installed = packages.installed_packages()
    release = installed["spikeinterface"]
    newer = {**installed, "spikeinterface": "99.0", "dagster": "99.0"}
    monkeypatch.setattr(packages, "installed_packages", lambda: newer)
    states = lab.with_text(SHORT).states(lab.key)
    assert states["unit_quality_tridesclous2"].out_of_date[0] == (
        f"packages: spikeinterface {release} -> 99.0"
    )
    assert states["compressed_recording"].out_of_date == ()
    assert "through: unit_quality_tridesclous2" in states["units"].out_of_date


def test_the_probes_of_a_sorter_set_are_part_of_its_version(lab):
    edited = lab.with_text(SHORT.replace("set: default}", 'set: default, probes: ["imec9"]}'))
    assert edited.states(lab.key)["sorting_tridesclous2"].out_of_date == (
        "parameters: selected from True to False",
    )


def test_the_same_content_again_leaves_everything_after_it_fresh_and_other_content_does_not(
    lab, monkeypatch
):
    from neuro_assets.science import bad_channels as module

    before = lab.store.current("bad_channels", lab.key)
    again = ["bad_channels"]
    assert lab.run("process", lab.key, tags={"neuro/force": "true"}, only=again).success
    same = lab.store.current("bad_channels", lab.key)
    assert (same.version, same.digest) == (before.version, before.digest)
    assert same.attempt != before.attempt
    assert lab.states(lab.key)["recording_quality"].out_of_date == ()

    real = module.detect_bad_channels

    def other(*args, **more):
        result = real(*args, **more)
        result.tables["channels"].loc[0, "label"] = "noise"
        return result

    monkeypatch.setattr(module, "detect_bad_channels", other)
    assert lab.run("process", lab.key, tags={"neuro/force": "true"}, only=again).success
    changed = lab.store.current("bad_channels", lab.key)
    assert changed.version == before.version and changed.digest != before.digest
    states = lab.states(lab.key)
    assert states["recording_quality"].out_of_date == ("input: bad_channels",)
    assert "through: recording_quality" in states["sorting_tridesclous2"].out_of_date
    monkeypatch.undo()
    assert lab.run("process", lab.key, tags={"neuro/force": "true"}, only=again).success
    assert lab.states(lab.key)["recording_quality"].out_of_date == ()


def test_a_deleted_object_is_one_permanent_named_error(lab):
    stored = lab.store.current("unit_quality_tridesclous2", lab.key)
    path = stored.local() / "unit_quality.parquet"
    kept = path.read_bytes()
    path.unlink()
    try:
        result = lab.run("process", lab.key, tags={"neuro/force": "true"}, only=["units"])
        assert not result.success
        error = lab.store.failure("units", lab.key).error["message"]
        assert "unit_quality.parquet" in error and lab.key in error
        assert lab.outcomes(lab.key)["units"] == "failed"
    finally:
        path.write_bytes(kept)
    assert lab.run("process", lab.key, only=["units"], tags={"neuro/force": "true"}).success
    assert lab.outcomes(lab.key)["units"] == "complete"


def test_a_failed_step_stops_only_what_needs_it_and_the_file_says_so(lab, monkeypatch):
    from neuro_assets.science.lfp import extract as module

    def broken(*_, **__):
        raise RuntimeError("a bug in the filter")

    monkeypatch.setattr(module, "extract_lfp", broken)
    result = lab.run("process", lab.key, tags={"neuro/force": "true"}, only=["lfp", "units"])
    assert not result.success
    check = lab.checks(result)[("lfp", "outcome")]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "a bug in the filter" in lab.store.failure("lfp", lab.key).error["message"]
    assert lab.outcomes(lab.key)["units"] == "complete"


def test_no_pickle_is_in_the_store(lab):
    root = lab.folder / "store"
    assert [p for p in root.rglob("*") if p.suffix in {".pkl", ".pickle"}] == []
    heads = (p.open("rb").read(2) for p in root.rglob("*") if p.is_file())
    assert b"\x80\x04" not in set(heads)
    assert b"\x80\x05" not in set(heads)


def test_every_zarr_chunk_in_the_store_has_a_checksum(lab):
    arrays = list((lab.folder / "store").rglob("*.zarr/**/.zarray"))
    folders = {part for path in arrays for part in path.parts if part.endswith(".zarr")}
    assert folders >= {"ap.zarr", "sorting.zarr", "analyzer.zarr", "lfp.zarr"}
    for path in arrays:
        assert json.loads(path.read_text())["compressor"] == checksum().get_config(), path


def test_units_can_be_joined_with_their_spikes(lab):
    stored = lab.store.current("units", lab.key)
    units, spikes = stored.table("units"), stored.table("spikes")
    counted = spikes.groupby("unit_index").size()
    joined = units.set_index("unit_index")["unit_id"].index
    assert set(counted.index) <= set(joined)
    assert pd.api.types.is_integer_dtype(spikes["sample_index"])


def test_everything_made_twice_has_the_same_digests(lab, tmp_path):
    """Another store, folder, day and key; the sorter is one that repeats itself."""
    from datetime import date

    other = SmallLab(tmp_path)
    day = date(2025, 2, 17)
    simulate_session(
        tmp_path / "sessions", duration_s=16, n_channels=32, video=False, seed=7, date=day
    )
    (key,) = other.register(tmp_path / "sessions" / "simlab")
    assert key != lab.key
    assert other.run("process", key).success and other.run("publish", key).success
    first, second = lab.states(lab.key), other.states(key)
    digests = {name: state.stored.digest for name, state in first.items()}
    again = {name: state.stored.digest for name, state in second.items()}
    assert again.pop("nwb") != digests.pop("nwb"), "it holds the day of the session"
    assert again == digests


def test_the_nwb_file_of_one_session_made_twice_has_the_same_digest(lab):
    before = lab.store.current("nwb", lab.key)
    force = {"neuro/force": "true"}
    assert lab.run("publish", lab.key, tags=force, only=["nwb"]).success
    after = lab.store.current("nwb", lab.key)
    assert after.attempt != before.attempt
    assert (after.version, after.digest) == (before.version, before.digest)
