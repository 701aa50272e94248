"""The choice of units, their lasting names, and their spikes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.science.units import choose_units, unit_uuid


def quality(unit_ids: list[int], good: list[bool]) -> pd.DataFrame:
    return pd.DataFrame({"unit_id": unit_ids, "good": pd.array(good, dtype="boolean")})


CANDIDATES = {"ks4": quality([3, 8], [True, False]), "tdc2": quality([0, 1, 2], [True] * 3)}
VERSIONS = {"ks4": "aaaa", "tdc2": "bbbb"}


def choose(tmp_path: Path, **fields: Any) -> Any:
    return choose_units(CANDIDATES, VERSIONS, tmp_path, UnitsParameters(**fields))


def test_the_first_set_with_units_is_chosen(tmp_path: Path) -> None:
    assert choose(tmp_path).metrics["source"] == "ks4"
    empty = {"ks4": quality([], []), "tdc2": CANDIDATES["tdc2"]}
    chosen = choose_units(empty, VERSIONS, tmp_path, UnitsParameters())
    assert chosen.metrics["source"] == "tdc2"


def test_a_source_can_be_named_or_the_best_one_taken(tmp_path: Path) -> None:
    assert choose(tmp_path, source="tdc2").metrics["n_units"] == 3
    assert choose(tmp_path, rule="most_good").metrics["source"] == "tdc2"


def test_a_named_source_that_is_not_there_is_an_error_that_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="'ibl'.*ks4, tdc2"):
        choose(tmp_path, source="ibl")


def test_no_units_anywhere_is_a_skip(tmp_path: Path) -> None:
    for candidates in ({}, {"ks4": quality([], [])}):
        with pytest.raises(Skipped) as skip:
            choose_units(candidates, {"ks4": "a"}, tmp_path, UnitsParameters())
        assert skip.value.reason is SkipReason.NO_UNITS_FOUND


def test_only_good_units_on_request(tmp_path: Path) -> None:
    assert choose(tmp_path, only_good=True).tables["units"]["unit_id"].tolist() == [3]


def test_uuids_follow_from_the_version_of_the_sorting_and_the_unit() -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_DNS, "units.neuro-assets")
    assert unit_uuid("aaaa", 3) == str(uuid.uuid5(namespace, "aaaa/3"))
    assert uuid.UUID(unit_uuid("aaaa", 3)).version == 5
    names = {unit_uuid(v, u) for v in ("aaaa", "aaab") for u in (1, 11, 111)}
    assert len(names) == 6


def test_a_units_name_does_not_depend_on_the_other_units(tmp_path: Path) -> None:
    everything = choose(tmp_path).tables["units"]
    some = choose(tmp_path, only_good=True).tables["units"]
    assert some["uuid"][0] == everything.set_index("unit_id")["uuid"][3]


@pytest.fixture(scope="module")
def analyzer() -> si.SortingAnalyzer:
    raw, truth = si.generate_ground_truth_recording(
        durations=[3.0], num_channels=4, num_units=3, seed=0, sampling_frequency=30_000.0
    )
    truth = si.NumpySorting.from_sorting(truth).rename_units([5, 6, 9])
    made = si.create_sorting_analyzer(truth, raw, format="memory", sparse=False)
    made.compute(["random_spikes", "templates", "spike_amplitudes"])
    return made


@pytest.mark.integration
def test_spikes_are_samples_in_time_order_that_point_to_rows_of_units(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    candidates = {"ks4": quality([9, 5], [True, True])}
    result = choose_units(
        candidates, VERSIONS, tmp_path, UnitsParameters(), open_source=lambda name: analyzer
    )
    units, spikes = result.tables["units"], result.tables["spikes"]
    assert spikes["sample_index"].dtype == np.int64
    assert spikes["sample_index"].is_monotonic_increasing
    for row, unit in ((0, 9), (1, 5)):
        assert units["unit_index"][row] == row
        got = spikes.loc[spikes["unit_index"] == row, "sample_index"]
        assert got.tolist() == analyzer.sorting.get_unit_spike_train(unit).tolist()
    amplitudes = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0]
    np.testing.assert_allclose(
        spikes.loc[spikes["unit_index"] == 0, "amplitude_uv"], amplitudes[9], rtol=1e-6
    )
    assert "depth_um" not in spikes  # this analyzer has no spike locations
    assert result.metrics["n_spikes"] == len(spikes)
