"""Metrics over valid time, against formulas written out here and truth that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si

from neuro_assets.formats.timeline import Timeline
from neuro_assets.outcomes import Skipped
from neuro_assets.parameters.analyzer import AnalyzerParameters
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.parameters.unit_quality import UnitQualityParameters
from neuro_assets.science.analyzer import analyze_sorting, open_analyzer
from neuro_assets.science.unit_quality import unit_quality
from neuro_assets.science.valid_time import masked_of, valid_periods, without_masked

FS = 30_000.0
SECONDS = 30
MASKED = [(100_000, 190_000), (400_000, 460_000), (700_000, 700_600)]
N_VALID = int(SECONDS * FS) - 150_600
METRICS = (
    "num_spikes",
    "firing_rate",
    "presence_ratio",
    "isi_violation",
    "rp_violation",
    "sliding_rp_violation",
    "firing_range",
    "amplitude_cv",
    "drift",
    "amplitude_cutoff",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An analyzer of which a sixth is masked; unit 0 has violations, and spikes about each cut."""
    folder = tmp_path_factory.mktemp("analyzer")
    raw, truth = si.generate_ground_truth_recording(
        durations=[float(SECONDS)], num_channels=8, num_units=3, seed=1, sampling_frequency=FS
    )
    trains = {i: truth.get_unit_spike_train(unit) for i, unit in enumerate(truth.unit_ids)}
    edges = np.ravel([(start - 10, stop + 10) for start, stop in MASKED])
    near = trains[0][::40] + 20
    trains[0] = np.unique(np.r_[trains[0], near, edges])
    trains = {unit: train[train < SECONDS * FS - 100] for unit, train in trains.items()}
    saturation = pd.DataFrame(MASKED, columns=["start_sample", "stop_sample"])
    channels = pd.DataFrame({"channel_id": raw.channel_ids.astype(str), "label": "good"})
    analyze_sorting(
        raw,
        si.NumpySorting.from_unit_dict([trains], FS),
        channels,
        folder,
        AnalyzerParameters(
            band=SpikeBand(reference="none", mask_pad_ms=0.0),
            max_spikes_per_unit=100,
            metrics=METRICS,
            presence_bin_s=3.0,
            isi_threshold_ms=1.5,
            refractory_period_ms=1.0,
        ),
        saturation=saturation,
    )
    inside = {
        unit: np.any([(train >= a) & (train < b) for a, b in MASKED], axis=0)
        for unit, train in trains.items()
    }
    analyzer = open_analyzer(folder)
    return {
        "analyzer": analyzer,
        "metrics": analyzer.get_extension("quality_metrics").get_data(),
        "trains": {unit: train[~inside[unit]] for unit, train in trains.items()},
        "folder": folder,
    }


def cut(train: np.ndarray) -> np.ndarray:
    """Sample indices with the masked periods removed, one spike at a time."""
    return np.array([s - sum(b - a for a, b in MASKED if b <= s) for s in train])


@pytest.mark.integration
def test_spikes_in_masked_periods_are_in_no_consumers_train(made: dict[str, Any]) -> None:
    assert masked_of(made["analyzer"]).tolist() == [list(period) for period in MASKED]
    for unit, train in made["trains"].items():
        np.testing.assert_array_equal(made["analyzer"].sorting.get_unit_spike_train(unit), train)


@pytest.mark.integration
def test_ratios_of_violations_are_over_valid_time(made: dict[str, Any]) -> None:
    duration = N_VALID / FS
    for unit, train in made["trains"].items():
        row, n = made["metrics"].loc[unit], len(train)
        intervals = np.diff(train)
        short = int((intervals / FS < 0.0015).sum())
        assert row["isi_violations_count"] == short
        assert row["isi_violations_ratio"] == pytest.approx(short * duration / (2 * n**2 * 0.0015))
        pairs = sum(
            int(((train[i + 1 :] - train[i]) < 30).sum()) for i in range(n)
        )  # Llobet and Wyngaard 2022, no censored period, 1 ms
        assert row["rp_violations"] == pairs
        inside = 1 - pairs * N_VALID / (n**2 * 30)
        expected = 1 - np.sqrt(inside) if inside >= 0 else 1.0
        assert row["rp_contamination"] == pytest.approx(expected)
        assert row["firing_rate"] == pytest.approx(n / duration)
    assert made["metrics"].loc[0, "isi_violations_count"] > 0
    assert np.isfinite(made["metrics"].loc[1:, "sliding_rp_violation"]).any()


@pytest.mark.integration
def test_the_sliding_test_of_spikeinterface_is_over_valid_time(made: dict[str, Any]) -> None:
    from scipy.stats import poisson

    for unit, train in made["trains"].items():
        n, duration = len(train), N_VALID / FS
        distances = np.concatenate([train[i + 1 :] - train[i] for i in range(n)])
        bins = np.arange(0, 0.010 + 1e-9, 0.00025)
        counts, _ = np.histogram(distances[distances <= 300] / FS, bins=bins)
        centres = bins[:-1] + 0.000125
        best = np.nan
        for contamination in np.arange(0.5, 35.5, 0.5) / 100:
            bad, own = n * contamination, n * (1 - contamination)
            expected = 2 * centres / duration * bad * (own + (bad - 1) / 2)
            sure = 1 - poisson.cdf(np.cumsum(counts), expected)
            if (sure[centres > 0.0005] > 0.9).any():
                best = contamination
                break
        got = made["metrics"].loc[unit, "sliding_rp_violation"]
        assert got == pytest.approx(best, abs=0.0101, nan_ok=True)


@pytest.mark.integration
def test_bins_are_of_valid_time(made: dict[str, Any]) -> None:
    for unit, train in made["trains"].items():
        row, times = made["metrics"].loc[unit], cut(train) / FS
        whole = int(N_VALID / FS // 3)
        filled = {int(time // 3) for time in times} & set(range(whole))
        assert row["presence_ratio"] == pytest.approx(len(filled) / whole)
        counts = [((times >= 5 * k) & (times < 5 * k + 5)).sum() / 5 for k in range(4)]
        expected = np.percentile(counts, 95) - np.percentile(counts, 5)
        # SpikeInterface's last bin has both its edges.
        assert row["firing_range"] == pytest.approx(expected, abs=0.2)


@pytest.mark.integration
def test_the_judgement_of_units_takes_the_same_time(made: dict[str, Any], tmp_path: Path) -> None:
    parameters = UnitQualityParameters(presence_bin_s=3.0, noise={})  # without snr
    result = unit_quality(made["analyzer"], tmp_path, parameters)
    table = result.tables["unit_quality"].set_index("unit_id")
    assert result.metrics["valid_s"] == pytest.approx(N_VALID / FS)
    for column in ("firing_rate", "presence_ratio", "isi_violations_ratio", "rp_contamination"):
        np.testing.assert_allclose(
            table[column], made["metrics"].loc[table.index, column].astype(float)
        )


def test_valid_periods_are_the_rest_and_end_at_gaps() -> None:
    timeline = Timeline((0, 50), (0, 80), (0, 0))
    masked = np.array([[10, 20], [90, 100]])
    assert valid_periods(masked, timeline, 100).tolist() == [[0, 10], [20, 50], [50, 90]]
    assert valid_periods(np.zeros((0, 2)), Timeline(), 100).tolist() == [[0, 100]]


def test_a_sorting_with_all_spikes_in_masked_periods_is_a_skip() -> None:
    sorting = si.NumpySorting.from_unit_dict([{0: np.array([5, 6])}], FS)
    with pytest.raises(Skipped, match="masked"):
        without_masked(sorting, np.array([[0, 10]]))
