"""The analyzer: what it holds, that it opens anywhere without us, and that duplicates are gone."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
import zarr
from spikeinterface.core import template_tools

from neuro_assets.outcomes import Outcome, PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.analyzer import METRICS, PCA_METRICS, AnalyzerParameters
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.science.analyzer import analyze_sorting, open_analyzer, shared_fraction
from neuro_assets.store.digest import content_digest
from neuro_assets.store.model import Manifest

FS = 30_000.0
EXTENSIONS = {
    "random_spikes",
    "waveforms",
    "templates",
    "noise_levels",
    "spike_amplitudes",
    "spike_locations",
    "unit_locations",
    "correlograms",
    "isi_histograms",
    "template_similarity",
    "template_metrics",
    "quality_metrics",
}


def with_a_duplicate(truth: si.BaseSorting) -> si.NumpySorting:
    """Units 0..n-1, and unit 50: unit 0 again, 4 samples later and without every 20th spike."""
    units = {i: truth.get_unit_spike_train(u) for i, u in enumerate(truth.unit_ids)}
    again = np.delete(units[0], np.arange(0, len(units[0]), 20)) + 4
    units[50] = again[again < 12 * FS]
    return si.NumpySorting.from_unit_dict([units], FS)


def inputs() -> tuple[si.BaseRecording, si.NumpySorting, pd.DataFrame, si.BaseSorting]:
    raw, truth = si.generate_ground_truth_recording(
        durations=[12.0], num_channels=16, num_units=4, seed=3, sampling_frequency=FS
    )
    sorting = with_a_duplicate(truth)
    channels = pd.DataFrame(
        {"channel_id": raw.channel_ids.astype(str), "label": ["good"] * 15 + ["dead"]}
    )
    # A sorter that saw all channels names the dead one: SpikeInterface would trust it.
    sorting.set_property("main_channel_id", np.repeat(raw.channel_ids[-1:], 5))
    return raw, sorting, channels, truth


PARAMETERS = AnalyzerParameters(
    band=SpikeBand(reference="none"),
    max_spikes_per_unit=100,
    principal_components=3,
    cache_limit_bytes=0,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("analyzer")
    raw, sorting, channels, truth = inputs()
    raw = raw.save(folder=tmp_path_factory.mktemp("raw") / "raw", verbose=False)  # has a path
    said: list[float] = []
    result = analyze_sorting(
        raw,
        sorting,
        channels,
        folder,
        PARAMETERS,
        progress=lambda fraction, words: said.append(fraction),
    )
    return {"folder": folder, "result": result, "truth": truth, "raw": raw, "progress": said}


@pytest.mark.integration
def test_plain_spikeinterface_opens_it_with_every_extension(made: dict[str, Any]) -> None:
    analyzer = si.load_sorting_analyzer(made["folder"] / "analyzer.zarr")
    assert set(analyzer.get_loaded_extension_names()) == EXTENSIONS | {"principal_components"}
    assert analyzer.is_sparse()
    assert analyzer.get_num_channels() == 15
    assert made["progress"] == sorted(made["progress"])


@pytest.mark.integration
def test_a_moved_analyzer_opens_and_gives_the_same(made: dict[str, Any], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "analyzer.zarr"
    shutil.copytree(made["folder"] / "analyzer.zarr", moved)
    analyzer, original = si.load_sorting_analyzer(moved), open_analyzer(made["folder"])
    assert not analyzer.has_recording()
    np.testing.assert_array_equal(
        analyzer.get_extension("templates").get_data(),
        original.get_extension("templates").get_data(),
    )
    assert analyzer.get_extension("principal_components").get_some_projections()[0].size > 0


@pytest.mark.integration
def test_it_holds_no_path_and_no_pickle(made: dict[str, Any]) -> None:
    for file in (made["folder"] / "analyzer.zarr").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert b"pickle" not in content, file
            assert str(made["folder"].parent).encode() not in content, file
    root = zarr.open(made["folder"] / "analyzer.zarr", mode="r")
    assert "recording" not in root  # compressed, so that its path would not be found above
    assert root["sorting"].attrs["provenance"] is None
    assert {p.name for p in made["folder"].iterdir()} == {"analyzer.zarr"}


@pytest.mark.integration
def test_made_twice_it_is_the_same_and_the_global_generator_is_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {"amplitude_scalings": True, "metrics": METRICS + PCA_METRICS}
    parameters = PARAMETERS.model_copy(update=everything)
    fresh, seeds = np.random.default_rng, []
    monkeypatch.setattr(
        np.random, "default_rng", lambda seed=None: seeds.append(seed) or fresh(seed)
    )
    importlib.import_module("scipy.stats")  # draws for its own documentation
    raw, sorting, channels, _ = inputs()
    seeds.clear()
    before = repr(np.random.get_state())  # noqa: NPY002 - the global one is meant
    for name in "ab":
        (tmp_path / name).mkdir()
        analyze_sorting(raw, sorting, channels, tmp_path / name, parameters)
    assert None not in seeds
    assert repr(np.random.get_state()) == before  # noqa: NPY002
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    metrics = open_analyzer(tmp_path / "a").get_extension("quality_metrics").get_data()
    assert metrics["sd_ratio"].notna().all()


def digest(folder: Path) -> str:
    manifest = Manifest(asset="a", key="k", version="v", outcome=Outcome.COMPLETE)
    return content_digest(folder, manifest, {})


@pytest.mark.integration
def test_the_duplicate_is_removed_and_recorded(made: dict[str, Any]) -> None:
    analyzer = open_analyzer(made["folder"])
    duplicates = made["result"].tables["duplicates"]
    assert analyzer.get_num_units() == 4
    assert len(duplicates) == 1
    row = duplicates.iloc[0]
    assert {row["removed_unit_id"], row["kept_unit_id"]} == {0, 50}
    assert row["shared_fraction"] == pytest.approx(1.0, abs=0.01)
    assert row["kept_unit_id"] in analyzer.unit_ids
    assert made["result"].metrics["duplicate_units"] == 1
    assert made["result"].metrics["n_units"] == 4


@pytest.mark.integration
def test_waveforms_are_in_microvolts_around_the_true_spikes(made: dict[str, Any]) -> None:
    analyzer = open_analyzer(made["folder"])
    extension = analyzer.get_extension("templates")
    traces = made["raw"].get_traces(return_in_uV=True)
    unit = 1
    samples = made["truth"].get_unit_spike_train(made["truth"].unit_ids[unit])
    samples = samples[(samples > 100) & (samples < len(traces) - 100)]
    window = np.arange(-extension.nbefore, extension.nafter)
    expected = traces[samples[:, None] + window].mean(axis=0)
    main = analyzer.get_main_channels(outputs="index", with_dict=True)[unit]
    got = extension.get_unit_template(unit)[:, main]
    assert np.corrcoef(got, expected[:, main])[0, 1] > 0.97
    assert np.min(got) == pytest.approx(np.min(expected[:, main]), rel=0.2)


@pytest.mark.integration
def test_a_units_channels_are_those_within_the_radius_of_its_main_one(
    made: dict[str, Any],
) -> None:
    analyzer = open_analyzer(made["folder"])
    locations = analyzer.get_channel_locations()
    main = analyzer.get_main_channels(outputs="index", with_dict=True)
    for i, unit in enumerate(analyzer.unit_ids):
        distance = np.linalg.norm(locations - locations[main[unit]], axis=1)
        np.testing.assert_array_equal(analyzer.sparsity.mask[i], distance <= 100.0)


@pytest.mark.integration
def test_main_channels_are_those_of_the_templates_however_the_analyzer_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if few spikes had been drawn: the first guess is a channel beside the true one.
    guess = template_tools.estimate_main_channel_from_recording
    monkeypatch.setattr(
        template_tools, "estimate_main_channel_from_recording",
        lambda *args, **options: np.asarray(guess(*args, **options)) ^ 1,
    )  # fmt: skip
    raw, sorting, channels, _ = inputs()
    channels["label"] = "good"
    analyze_sorting(raw, sorting, channels, tmp_path, PARAMETERS)
    plain, ours = si.load_sorting_analyzer(tmp_path / "analyzer.zarr"), open_analyzer(tmp_path)
    heights = np.abs(plain.get_extension("templates").get_data()).max(axis=1)
    stored = plain.channel_ids_to_indices(plain.get_sorting_property("main_channel_id"))
    for found in (stored, plain.get_main_channels(), ours.get_main_channels()):
        np.testing.assert_array_equal(found, heights.argmax(axis=1))


@pytest.mark.integration
def test_what_was_done_is_recorded(made: dict[str, Any]) -> None:
    names = [step.name for step in made["result"].applied]
    assert names == ["remove_bad_channels", "highpass_filter", "sorting_analyzer"]
    extensions = made["result"].applied[-1].parameters
    assert set(extensions) | {"sparsity"} > EXTENSIONS
    assert extensions["quality_metrics"]["metric_params"]["presence_ratio"] == {
        "bin_duration_s": 60.0
    }
    json.dumps(extensions)


def test_a_sorting_of_another_recording_is_refused(tmp_path: Path) -> None:
    raw, sorting, channels, _ = inputs()
    with pytest.raises(PermanentFailure, match="not of this recording"):
        analyze_sorting(
            raw.frame_slice(0, 30_000), sorting, channels, tmp_path, AnalyzerParameters()
        )


def test_a_sorting_without_units_is_a_skip(tmp_path: Path) -> None:
    raw, sorting, channels, _ = inputs()
    with pytest.raises(Skipped) as skip:
        analyze_sorting(raw, sorting.select_units([]), channels, tmp_path, AnalyzerParameters())
    assert skip.value.reason is SkipReason.NO_UNITS_FOUND


def test_the_shared_fraction_forgives_a_constant_shift() -> None:
    train = np.array([100, 500, 900, 2000])
    assert shared_fraction(train, train + 30, 12) == 1.0
    assert shared_fraction(np.array([103, 503, 1500]), np.append(train, 9000), 12) == pytest.approx(
        2 / 3
    )
    assert shared_fraction(np.array([], dtype=int), train, 12) == 0.0


@pytest.mark.parametrize("name", list(AnalyzerParameters.sets))
def test_every_set_has_a_source(name: str) -> None:
    assert AnalyzerParameters.sets[name].source
    AnalyzerParameters.resolve(name)
