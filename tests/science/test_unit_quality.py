"""Metrics of single units by hand, by brute force and by other code; criteria; the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.unit_columns import DESCRIPTIONS, SOURCES
from neuro_assets.parameters.unit_quality import AIND_DEFAULT_QC, UnitQualityParameters
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.science import spike_metrics
from neuro_assets.science.nwb.units import OWN_COLUMNS
from neuro_assets.science.template_shape import peak_to_peak_scale
from neuro_assets.science.unit_quality import (
    add_ibl_label,
    fulfils,
    unit_quality,
    unknown_reasons,
)
from neuro_assets.science.units import choose_units
from neuro_assets.science.verdicts import count_verdicts

FS = 30_000.0
WITHOUT_UNIT = {
    *("aind_default_qc", "good", "good_reason", "ibl_bitwise_fail", "label", "main_channel_id"),
    *("noise_reason", "presence_ratio_reason", "shank", "source", "unit_index"),
}
"""Columns that hold words, ids or yes and no."""


# --- sliding refractory period --------------------------------------------------------------


def train(seed: int) -> np.ndarray:
    """Deterministic train of 30 kHz samples: exponential intervals, some with contamination."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(0.1 + 0.05 * seed, size=3000) + 0.002 * (seed % 3))
    if seed >= 3:
        times = np.sort(np.r_[times, rng.uniform(0, times[-1], size=100 * seed)])
    return np.unique((times * FS).astype(np.int64))


@pytest.mark.parametrize(
    ("seed", "confidence", "contamination"),
    # Computed once with the package slidingRP 1.1.1 (slidingRP_all, sampleRate 30000).
    [
        (0, 4.121145669166992e-06, np.nan),
        (1, 99.97011115108135, 3.0),
        (2, 99.99946138515405, 2.0),
        (3, 0.001311678341597844, np.nan),
        (4, 97.64749900843695, 7.0),
        (5, 21.56113355213244, 19.5),
    ],
)
def test_the_sliding_rp_test_agrees_with_its_authors_package(
    seed: int, confidence: float, contamination: float
) -> None:
    got = spike_metrics.sliding_rp(train(seed), FS)
    assert got.max_confidence == pytest.approx(confidence, rel=1e-6)
    assert got.min_contamination == pytest.approx(contamination, nan_ok=True)


def test_the_sliding_rp_test_by_hand() -> None:
    # 1000 spikes 0.2 s apart: no violation; each spike sees 5 others from 1 to under 2 s after it,
    # except the last ones. The longest period, 10 ms, is the most convincing one.
    samples = np.arange(1000) * 6000
    rate = sum(min(5, max(0, 999 - i - 4)) for i in range(1000)) / 1000
    expected = 100 * (1 - poisson.pmf(0, 0.10 * rate * 0.010 * 2 * 1000))
    assert spike_metrics.sliding_rp(samples, FS).max_confidence == pytest.approx(expected)


def test_the_sampling_frequency_does_not_change_the_test() -> None:
    samples = train(4)
    slow = spike_metrics.sliding_rp(samples * 2, 2 * FS)
    assert slow.max_confidence == pytest.approx(
        spike_metrics.sliding_rp(samples, FS).max_confidence
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=80))
@pytest.mark.property
def test_short_intervals_are_counted_between_all_pairs(ticks: list[int]) -> None:
    times = np.sort(np.array(ticks))
    expected = np.zeros(300, dtype=int)
    for i in range(len(times)):
        for j in range(i + 1, len(times)):
            if 0 < times[j] - times[i] < 300:
                expected[times[j] - times[i]] += 1
    np.testing.assert_array_equal(spike_metrics.short_intervals(times, 300), expected)


def test_a_unit_without_spikes_has_no_confidence() -> None:
    assert np.isnan(spike_metrics.sliding_rp(np.array([], dtype=np.int64), FS).max_confidence)


# --- amplitudes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "cut", "expected"),
    # Computed once with brainbox.metrics.single_units.noise_cutoff of ibllib 4.0.0.
    [
        (0, False, -0.40871688050647215),
        (1, True, 48.94321924104932),
        (2, False, -0.47810491546245343),
        (3, True, 19.474078099831964),
        (4, False, -1.0780169896816372),
        (5, True, 20.089665620513742),
    ],
)
def test_the_noise_cutoff_agrees_with_brainbox(seed: int, cut: bool, expected: float) -> None:
    rng = np.random.default_rng(seed)
    rng.exponential(0.1 + 0.05 * seed, size=3000)  # the draws before the amplitudes
    if seed >= 3:
        rng.uniform(0, 1, size=100 * seed)
    amplitudes = rng.lognormal(4, 0.3, size=2000)
    if cut:
        amplitudes = amplitudes[amplitudes > 50]
    assert spike_metrics.noise_cutoff(amplitudes) == pytest.approx(expected)


def test_the_noise_cutoff_by_hand() -> None:
    # Four filled bins of a histogram with edges 0, 1, ..., 10: counts 5 (bin 4), 9 (bin 5, the
    # peak), 4 (bin 7), 2 (bin 9). Filled from the peak on, without the last bin: 2, half of them
    # is 1, so that the tail starts at bin 6: 4 and 2, mean 3, SD 1. Second filled bin: 9.
    amplitudes = np.repeat([4.5, 5.5, 7.5, 10.0], [5, 9, 4, 2])
    assert spike_metrics.noise_cutoff(amplitudes, n_edges=11) == pytest.approx((9 - 3) / 1)


@pytest.mark.parametrize("amplitudes", [[], [3.0], [2.0, 2.0], [0.0, 0.0]])
def test_a_noise_cutoff_that_cannot_be_computed_is_nan(amplitudes: list[float]) -> None:
    assert np.isnan(spike_metrics.noise_cutoff(np.array(amplitudes)))


def test_the_geometric_median_is_that_of_the_logarithms() -> None:
    assert spike_metrics.geometric_median(np.array([10.0, 1000.0])) == pytest.approx(100.0)
    assert spike_metrics.geometric_median(np.array([1.0, 7.0, 900.0])) == pytest.approx(7.0)
    assert np.isnan(spike_metrics.geometric_median(np.array([0.0])))


# --- valid time -----------------------------------------------------------------------------


def test_presence_counts_whole_bins_of_valid_time() -> None:
    assert spike_metrics.presence_ratio(np.array([0, 5, 25, 39]), 39, 10) == pytest.approx(2 / 3)
    assert np.isnan(spike_metrics.presence_ratio(np.array([0]), 9, 10))


def test_masked_periods_are_cut_out_of_time() -> None:
    masked = np.array([[10, 20], [30, 31]])
    samples = np.array([0, 9, 20, 29, 31, 100])
    assert spike_metrics.valid_samples(samples, masked).tolist() == [0, 9, 10, 19, 20, 89]
    inside = spike_metrics.in_periods(np.array([9, 10, 19, 20, 30, 31]), masked)
    assert inside.tolist() == [False, True, True, False, True, False]


# --- labels ---------------------------------------------------------------------------------


def judged(confidence: float, cutoff: float, amplitude: float) -> tuple[float, int]:
    table = pd.DataFrame(
        {
            "ibl_max_confidence": [confidence],
            "ibl_noise_cutoff": [cutoff],
            "ibl_amp_median_uv": [amplitude],
        }
    )
    add_ibl_label(table)
    return table["ibl_label"][0], int(table["ibl_bitwise_fail"][0])


@pytest.mark.parametrize(
    ("values", "label", "bits"),
    [
        ((90.0, 4.99, 50.01), 1.0, 0b000),
        ((89.9, 4.99, 50.01), 2 / 3, 0b001),
        ((90.0, 5.0, 50.01), 2 / 3, 0b010),
        ((90.0, 4.99, 50.0), 2 / 3, 0b100),
        ((10.0, 9.0, 20.0), 0.0, 0b111),
        ((np.nan, np.nan, np.nan), 0.0, 0b111),
        ((95.0, np.nan, 80.0), 2 / 3, 0b010),
    ],
)
def test_ibls_label_is_the_mean_of_three_criteria_and_nan_fails(
    values: tuple[float, float, float], label: float, bits: int
) -> None:
    got_label, got_bits = judged(*values)
    assert got_label == pytest.approx(label)
    assert got_bits == bits


def metrics_row(**values: Any) -> pd.DataFrame:
    row = {"rp_contamination": 0.5, "presence_ratio": 0.8, "amplitude_cutoff": 0.1}
    row |= {"ibl_max_confidence": 95.0, "ibl_reachable_confidence": 99.0, "num_spikes": 200}
    row |= {"contamination_p": 1.0, "central_span": 0.8}
    row |= {"ibl_noise_cutoff": 1.0, "ibl_amp_median_uv": 80.0}
    table = pd.DataFrame([row | values])
    add_ibl_label(table)
    return table


def verdict(
    limits: dict[str, Any] = AIND_DEFAULT_QC, valid_s: float = 600.0, **values: Any
) -> tuple[Any, str]:
    table = metrics_row(**values)
    parameters = UnitQualityParameters(good=limits)
    good, reason = fulfils(table, parameters.good, unknown_reasons(table, valid_s, parameters))
    return good[0], reason[0]


def test_ainds_limits_are_inclusive() -> None:
    assert verdict() == (True, "")
    for name, bad in (("rp_contamination", 0.51), ("presence_ratio", 0.79)):
        assert verdict(**{name: bad}) == (False, "")


def test_what_could_not_be_judged_is_unknown_with_its_reason_and_never_bad() -> None:
    good, reason = verdict(amplitude_cutoff=np.nan)
    assert good is pd.NA
    assert reason == "amplitude_cutoff: cannot be computed of 200 spikes in 600.0 s"
    good, reason = verdict(valid_s=40.0, presence_ratio=np.nan)
    assert good is pd.NA
    assert reason == "presence_ratio: 40.0 s of valid time hold no bin of 60 s"
    assert verdict(valid_s=40.0, presence_ratio=np.nan, rp_contamination=0.9) == (False, "")


def test_ibls_label_is_no_ground_where_nobody_could_be_confident() -> None:
    label: dict[str, Any] = {"ibl_label": (1.0, None)}
    good, reason = verdict(label, ibl_max_confidence=70.0, ibl_reachable_confidence=70.0)
    assert good is pd.NA
    assert reason == (
        "ibl_label: ibl_max_confidence: 200 spikes in 600.0 s give a clean unit 70 % confidence, "
        "not 90"
    )
    assert verdict(label, ibl_max_confidence=70.0) == (False, "")  # 99 % were possible
    silent = {"ibl_max_confidence": 70.0, "ibl_reachable_confidence": 70.0}
    assert verdict(label, **silent, ibl_amp_median_uv=20.0) == (False, "")
    assert verdict(label) == (True, "")


def test_by_default_a_piece_of_a_unit_is_bad_and_a_small_unit_is_not() -> None:
    default, ibl = (UnitQualityParameters.resolve(name).good for name in ("default", "ibl"))
    assert verdict(default, central_span=0.8) == (True, "")
    assert verdict(default, central_span=0.39) == (False, "")
    paused = verdict(default, central_span=0.45)  # as some whole cells that fire in places do
    assert paused[0] is pd.NA and paused[1].startswith("central_span: may be a piece")
    assert verdict(default, central_span=0.45, ibl_noise_cutoff=6.0) == (False, "")
    short = verdict(default, 40.0, central_span=0.39)
    assert short[0] is pd.NA and short[1].startswith("central_span: 40.0 s of valid time")
    assert verdict(default, 40.0, central_span=0.8) == (True, "")
    few = verdict(default, central_span=np.nan)
    assert few[0] is pd.NA and few[1].startswith("central_span: cannot be computed of 200 spikes")
    assert verdict(default, central_span=0.8, ibl_noise_cutoff=6.0) == (False, "")
    assert verdict(default, central_span=0.8, ibl_max_confidence=50.0) == (False, "")
    small = {"central_span": 0.8, "ibl_amp_median_uv": 30.0}
    assert verdict(default, **small) == (True, "")
    assert verdict(ibl, **small) == (False, "")


def test_the_least_confidence_of_a_good_unit_stands_in_one_place() -> None:
    sure = {"ibl_max_confidence": 83.0, "ibl_reachable_confidence": 83.0}
    assert verdict({"ibl_max_confidence": (80.0, None)}, **sure) == (True, "")
    good, reason = verdict({"ibl_max_confidence": (90.0, None)}, **sure)
    assert good is pd.NA and reason.endswith("83 % confidence, not 90")
    low = {"ibl_max_confidence": 70.0, "ibl_reachable_confidence": 83.0}
    assert verdict({"ibl_max_confidence": (80.0, None)}, **low) == (False, "")
    good, reason = verdict({"ibl_max_confidence": (85.0, None)}, **low)
    assert good is pd.NA and reason.endswith("not 85")


def test_ibls_bits_are_no_ground_where_its_label_is_none() -> None:
    bits: dict[str, Any] = {"ibl_bitwise_fail": (None, 0.0)}
    silent = {"ibl_max_confidence": 70.0, "ibl_reachable_confidence": 70.0}
    assert verdict(bits, **silent)[0] is pd.NA
    assert verdict(bits, **silent, ibl_amp_median_uv=20.0) == (False, "")
    assert verdict(bits) == (True, "")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"noise": {"x": {"snr": (5.0, 1.0)}}}, "x.snr: no value is from 5 to 1"),
        ({"noise": {"x": {"snr": (None, None)}}}, "x.snr: neither a least nor a greatest"),
        ({"noise": {"x": {"main_channel_id": (0.0, None)}}}, "x.main_channel_id: no number"),
        ({"noise": {"a, b": {"snr": (None, 1.0)}}}, "no comma"),
        ({"good": {"no_such": (1.0, None)}}, "no_such: no number of this name"),
        ({"good": {"label": (1.0, None)}}, "label: no number of this name"),
        ({"good": {"snr": (float("nan"), 3.0)}}, "snr: no value is from nan to 3"),
    ],
)
def test_criteria_that_can_judge_nothing_are_refused_when_they_are_read(
    written: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        UnitQualityParameters(**written)


def of_sliding_test(train_s: np.ndarray, seconds: float) -> Any:
    samples = np.unique((train_s[train_s < seconds] * FS).astype(np.int64))
    test = spike_metrics.sliding_rp(samples, FS)
    found = {"ibl_max_confidence": test.max_confidence}
    found["ibl_reachable_confidence"] = test.reachable_confidence
    found["contamination_p"] = test.contamination_p
    return verdict({"ibl_label": (1.0, None)}, seconds, **found)[0]


def test_perfect_units_are_never_bad_and_contaminated_ones_never_good() -> None:
    rng = np.random.default_rng(0)
    short, long, dirty = [], [], []
    for rate in np.geomspace(0.5, 40, 20):
        train = np.cumsum(0.002 + rng.exponential(1 / rate, 80_000))
        short.append(of_sliding_test(train, 60.0))
        long.append(of_sliding_test(train, 1800.0))
        other = rng.uniform(0, 1800, int(rate * 1800 / 2))
        dirty.append(of_sliding_test(np.sort(np.r_[train, other]), 1800.0))
    unknown = [v is pd.NA for v in short]
    assert 10 <= sum(unknown) < 20
    assert all(v for v in short if v is not pd.NA)
    assert sum(v is not pd.NA and bool(v) for v in long) >= 14
    assert all(v is pd.NA or v for v in long)
    assert not any(v for v in dirty if v is not pd.NA)
    assert sum(v is not pd.NA for v in dirty) >= 14


def test_verdicts_are_counted() -> None:
    good = pd.array([True, False, None, None, None], dtype="boolean")
    table = pd.DataFrame({"good": good, "good_reason": ["", "", "b", "a", "b"]})
    assert count_verdicts(table) == {
        "n_units_good": 1,
        "n_units_bad": 1,
        "n_units_noise": 0,
        "n_units_unknown": 3,
        "good_fraction_judged": 0.5,
        "unknown_because": "b (2 of 3 units)",
        "noise_because": "",
    }
    assert np.isnan(count_verdicts(table[2:])["good_fraction_judged"])


def test_the_commonest_reason_is_that_of_most_whatever_their_numbers() -> None:
    said = [
        "amplitude_cutoff: cannot be computed of 9 spikes in 60.0 s",
        "amplitude_cutoff: cannot be computed of 120 spikes in 60.0 s",
        "a_1: 7 spikes",
    ]
    table = pd.DataFrame({"good": pd.array([None] * 3, dtype="boolean"), "good_reason": said})
    assert count_verdicts(table)["unknown_because"] == (
        "amplitude_cutoff: cannot be computed of 9-120 spikes in 60.0 s (2 of 3 units)"
    )


def of_short_train(n_violations: int) -> Any:
    train_s = np.cumsum(0.005 + np.random.default_rng(8).exponential(0.4, 140))
    return of_sliding_test(np.sort(np.r_[train_s, train_s[: 3 * n_violations : 3] + 0.0007]), 60.0)


def test_violations_that_prove_contamination_make_a_unit_bad_however_few_its_spikes() -> None:
    proven = of_short_train(40)
    assert proven is not pd.NA and not proven
    assert of_short_train(0) is pd.NA
    assert of_short_train(1) is pd.NA  # may be one spike that was found twice


def test_contamination_at_the_limit_is_hardly_ever_called_proven() -> None:
    rng, p = np.random.default_rng(3), []
    for _ in range(300):
        other = rng.uniform(0, 60, 60)
        clean = np.cumsum(0.002 + rng.exponential(1 / 9, 540))
        samples = np.unique((np.sort(np.r_[clean, other]) * FS).astype(np.int64))
        p.append(spike_metrics.sliding_rp(samples, FS).contamination_p)
    assert np.mean(np.array(p) < 0.01) <= 0.03


def test_a_limit_on_a_metric_that_is_not_there_is_named() -> None:
    with pytest.raises(PermanentFailure, match="'isolation_distance'"):
        verdict({"isolation_distance": (20.0, None)})


# --- the table of a real analyzer -----------------------------------------------------------


@pytest.fixture(scope="module")
def analyzer() -> si.SortingAnalyzer:
    raw, truth = si.generate_ground_truth_recording(
        durations=[20.0], num_channels=6, num_units=3, seed=4, sampling_frequency=FS
    )
    truth.annotate(masked_periods=[])
    made = si.create_sorting_analyzer(
        truth, raw, format="memory", sparse=False, peak_sign="neg", seed=0
    )
    made.compute(["random_spikes", "waveforms", "templates", "noise_levels"])
    made.compute(["spike_amplitudes", "template_metrics"])
    made.compute("unit_locations", method="center_of_mass")
    names = ["num_spikes", "firing_rate", "presence_ratio", "snr", "sd_ratio", "rp_violation"]
    presence = {"presence_ratio": {"bin_duration_s": 3.0}}
    made.compute(
        "quality_metrics", metric_names=[*names, "amplitude_cutoff"], metric_params=presence
    )
    return made


@pytest.mark.integration
def test_without_masked_periods_rates_and_presence_are_spikeinterfaces(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    parameters = UnitQualityParameters(presence_bin_s=3.0)
    table = unit_quality(analyzer, tmp_path, parameters).tables["unit_quality"]
    theirs = analyzer.get_extension("quality_metrics").get_data()
    np.testing.assert_allclose(table["firing_rate"], theirs["firing_rate"].astype(float))
    np.testing.assert_allclose(table["presence_ratio"], theirs["presence_ratio"].astype(float))
    assert (table["presence_ratio_reason"] == "").all()
    assert table["unit_id"].tolist() == analyzer.unit_ids.tolist()


@pytest.mark.integration
def test_rates_are_over_valid_time(analyzer: si.SortingAnalyzer, tmp_path: Path) -> None:
    masked = analyzer.copy()
    masked.sorting.annotate(masked_periods=[[150_000, 300_000]])
    result = unit_quality(masked, tmp_path, UnitQualityParameters())
    unit = analyzer.unit_ids[0]
    assert result.metrics["valid_s"] == pytest.approx(15.0)
    spikes = len(analyzer.sorting.get_unit_spike_train(unit))
    assert result.tables["unit_quality"]["firing_rate"][0] == pytest.approx(spikes / 15.0)


@pytest.mark.integration
def test_an_analyzer_that_does_not_say_what_was_masked_is_refused(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    silent = analyzer.copy()
    silent.sorting._annotations.pop("masked_periods")
    with pytest.raises(PermanentFailure, match="masked; make it again"):
        unit_quality(silent, tmp_path, UnitQualityParameters())


@pytest.mark.integration
def test_a_short_recording_says_why_presence_is_unknown(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    table = unit_quality(analyzer, tmp_path, UnitQualityParameters()).tables["unit_quality"]
    assert table["presence_ratio"].isna().all()
    assert table["presence_ratio_reason"].str.contains("20.0 s .* 60 s").all()
    assert (table["ibl_presence_ratio"] == 1.0).all()  # 10 s bins


@pytest.mark.integration
def test_ibls_amplitudes_are_peak_to_peak(analyzer: si.SortingAnalyzer, tmp_path: Path) -> None:
    result = unit_quality(analyzer, tmp_path, UnitQualityParameters())
    templates = analyzer.get_extension("templates").get_data()
    expected = np.ptp(templates, axis=1).max(axis=1)
    got = result.tables["unit_quality"]["ibl_amp_median_uv"]
    np.testing.assert_allclose(got, expected, rtol=0.12)
    assert (peak_to_peak_scale(analyzer) > 1).all()


@pytest.mark.integration
def test_the_result_has_its_numbers_and_a_small_picture(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    result = unit_quality(analyzer, tmp_path, UnitQualityParameters())
    table = result.tables["unit_quality"]
    assert result.metrics["n_units"] == 3
    passed = (table["ibl_label"] == 1).sum()
    assert passed > 0
    assert result.metrics["n_units_ibl_pass"] == passed
    assert result.metrics["ibl_yield"] == passed / 3
    assert result.picture is not None
    assert result.picture.png.startswith(b"\x89PNG") and len(result.picture.png) < 100_000
    table.to_parquet(tmp_path / "unit_quality.parquet")
    again = pd.read_parquet(tmp_path / "unit_quality.parquet")
    assert again["good"].dtype == "boolean"


@pytest.mark.integration
def test_aind_s_verdict_can_be_what_is_good(analyzer: si.SortingAnalyzer, tmp_path: Path) -> None:
    parameters = UnitQualityParameters(good={"aind_default_qc": (1.0, None)})
    table = unit_quality(analyzer, tmp_path, parameters).tables["unit_quality"]
    assert table["aind_default_qc"].isna().any()
    judged = table["noise_reason"] == ""
    pd.testing.assert_series_equal(
        table["good"][judged], table["aind_default_qc"][judged], check_names=False
    )


@pytest.mark.integration
def test_a_missing_extension_is_named(analyzer: si.SortingAnalyzer, tmp_path: Path) -> None:
    bare = analyzer.copy()
    bare.delete_extension("unit_locations")
    with pytest.raises(PermanentFailure, match="unit_locations"):
        unit_quality(bare, tmp_path, UnitQualityParameters())


@pytest.mark.parametrize("name", list(UnitQualityParameters.sets))
def test_every_set_has_a_source(name: str) -> None:
    assert UnitQualityParameters.sets[name].source
    UnitQualityParameters.resolve(name)


def test_every_column_of_the_table_has_a_description_with_unit_and_source(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    quality = unit_quality(analyzer, tmp_path, UnitQualityParameters()).tables["unit_quality"]
    chosen = choose_units({"a": quality}, {"a": "b"}, tmp_path, UnitsParameters())
    columns = set(chosen.tables["units"]) - OWN_COLUMNS
    assert columns >= {"snr", "peak_to_trough_duration", "ibl_label", "label"}
    assert sorted(columns - DESCRIPTIONS.keys()) == []


def test_every_metric_of_spikeinterface_has_a_description_with_unit_and_source() -> None:
    from spikeinterface.metrics.quality import ComputeQualityMetrics
    from spikeinterface.metrics.template import ComputeTemplateMetrics

    lists = (ComputeQualityMetrics.metric_list, ComputeTemplateMetrics.metric_list)
    names = {name for metrics in lists for metric in metrics for name in metric.metric_columns}
    assert len(names) > 40
    assert sorted(names - DESCRIPTIONS.keys()) == []


@pytest.mark.parametrize(
    ("column", "parameter"),
    [
        ("ibl_presence_ratio", "ibl_presence_bin_s"),
        ("ibl_max_confidence", "ibl_contamination_percent"),
    ],
)
def test_a_description_names_the_parameter_and_not_its_default(column: str, parameter: str) -> None:
    default = UnitQualityParameters.model_fields[parameter].default
    assert parameter in DESCRIPTIONS[column]
    assert f"{default:g}" not in DESCRIPTIONS[column]


def by_description(analyzer: si.SortingAnalyzer, unit: Any) -> tuple[float, float]:
    """`sd_ratio` and `amplitude_excess_cv` as their descriptions have it."""
    amplitudes = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0][unit]
    samples, kept = analyzer.sorting.get_unit_spike_train(unit, segment_index=0), [0]
    for i in range(1, len(samples)):
        if samples[i] - samples[kept[-1]] > 0.004 * FS:
            kept.append(i)
    main = analyzer.get_main_channels(outputs="index", with_dict=True)[unit]
    waveform = analyzer.get_extension("templates").get_unit_template(unit)[:, main]
    traces = analyzer.recording.get_traces(return_in_uV=True)[:, main]
    own = np.zeros(len(traces))
    own[: len(samples) * len(waveform)] = np.tile(waveform, len(samples))
    ratio = np.std(np.diff(amplitudes[kept])) / np.sqrt(2 * (traces.var() - own.var()))
    level = analyzer.get_extension("noise_levels").get_data()[main]
    return ratio, np.sqrt(max(ratio**2 - 1, 0)) / (np.abs(waveform).max() / level)


@pytest.mark.integration
def test_amplitude_spread_is_what_its_descriptions_say(
    analyzer: si.SortingAnalyzer, tmp_path: Path
) -> None:
    table = unit_quality(analyzer, tmp_path, UnitQualityParameters()).tables["unit_quality"]
    for row in table.itertuples():
        ratio, excess = by_description(analyzer, row.unit_id)
        assert row.sd_ratio == pytest.approx(ratio, rel=0.1)
        assert row.amplitude_excess_cv == pytest.approx(excess, rel=0.2, abs=0.02)
    for words in ("successive", "sqrt(2)", "4 ms"):
        assert words in DESCRIPTIONS["sd_ratio"]
    assert "mean waveform" in DESCRIPTIONS["amplitude_excess_cv"]


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_a_description_of_a_number_names_its_unit_or_range(name: str) -> None:
    text, _, source = DESCRIPTIONS[name].partition("; source: ")
    assert source in SOURCES
    if name not in WITHOUT_UNIT:
        unit = r"\((uV|uV/s|s|Hz|um|um/ms|1/um|SD|.*no unit)\)$|-?\d to [\d.]+$|percent$|^number of"
        assert re.search(unit, text), text
