"""Which units are noise: each criterion on a unit of known kind, and where the label goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.unit_quality import NOISE, UnitQualityParameters
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.science import spike_metrics
from neuro_assets.science.unit_quality import unit_quality
from neuro_assets.science.units import choose_units
from neuro_assets.science.verdicts import count_passed, count_verdicts, labels, noise_reasons

FS, SECONDS, NOISE_UV = 30_000, 30, 10.0
N_SPIKES, BEFORE, AFTER = 300, 30, 60

SPIKE = {
    "num_positive_peaks": 1,
    "num_negative_peaks": 1,
    "second_trough_ratio": 0.2,
    "peak_to_trough_duration": 0.0005,
    "waveform_baseline_flatness": 0.1,
    "peak_after_to_trough_ratio": 0.4,
    "trough_half_width": 0.0002,
    "snr": 6.0,
    "amplitude_excess_cv": 0.15,
    "far_amplitude_ratio": 0.1,
}
"""A neuron's values."""


@pytest.mark.parametrize(
    ("name", "values", "not_yet"),
    [
        ("many_peaks", {"num_positive_peaks": 3}, {"num_positive_peaks": 2}),
        ("many_troughs", {"num_negative_peaks": 2}, {"num_negative_peaks": 1}),
        (
            "many_troughs",
            {"num_negative_peaks": 2},
            {"num_negative_peaks": 2, "second_trough_ratio": -0.03},
        ),
        ("too_fast", {"peak_to_trough_duration": 9e-5}, {"peak_to_trough_duration": 1.1e-4}),
        ("too_slow", {"peak_to_trough_duration": 1.2e-3}, {"peak_to_trough_duration": 1.1e-3}),
        ("uneven_baseline", {"waveform_baseline_flatness": 0.6}, {"snr": 5.0}),
        ("large_after_peak", {"peak_after_to_trough_ratio": 0.9}, {"snr": 5.0}),
        ("no_spike", {"snr": 0.9}, {"snr": 1.1}),
        ("noise_shape", {"trough_half_width": 1.2e-4, "snr": 3.0}, {"trough_half_width": 1.2e-4}),
        ("noise_shape", {"trough_half_width": 1.2e-4, "snr": 3.0}, {"snr": 3.0}),
        ("mixed_amplitudes", {"amplitude_excess_cv": 0.5}, {"amplitude_excess_cv": 0.25}),
        ("widespread", {"far_amplitude_ratio": 0.9}, {"far_amplitude_ratio": 0.5}),
    ],
)
def test_each_criterion_makes_a_unit_noise_alone_and_by_its_name(
    name: str, values: dict[str, float], not_yet: dict[str, float]
) -> None:
    table = pd.DataFrame([SPIKE | values, SPIKE | not_yet])
    assert noise_reasons(table, NOISE).tolist() == [name, ""]
    without = {other: ranges for other, ranges in NOISE.items() if other != name}
    assert noise_reasons(table, without).tolist() == ["", ""]


def test_what_could_not_be_computed_makes_no_noise_and_what_is_not_there_is_named() -> None:
    blank = pd.DataFrame([dict.fromkeys(SPIKE, np.nan)])
    assert noise_reasons(blank, NOISE).tolist() == [""]
    with pytest.raises(PermanentFailure, match=r"'snr'.*unit_quality.noise"):
        noise_reasons(pd.DataFrame([SPIKE]).drop(columns="snr"), NOISE)


def test_an_empty_criterion_is_switched_off_and_the_others_stay() -> None:
    table = pd.DataFrame([SPIKE, SPIKE | {"trough_half_width": 1e-4, "snr": 3.0}])
    off = UnitQualityParameters(noise={"noise_shape": {}})
    assert noise_reasons(table, off.noise).tolist() == ["", ""]
    assert noise_reasons(table.assign(num_positive_peaks=3), off.noise).tolist() == (
        ["many_peaks"] * 2
    )
    assert UnitQualityParameters(**off.model_dump()) == off
    assert UnitQualityParameters(noise={}).noise == {}


def test_two_spikes_under_others_do_not_make_a_unit_a_mixture() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(100, 10, 54)
    mixed = clean * rng.choice([0.3, 1.7], 54)
    collided = clean.copy()
    collided[[10, 30]] = 300.0
    spread = {
        name: np.std(np.diff(x)) / np.sqrt(2) / 10 * spike_metrics.bulk_spread(x)
        for name, x in (("clean", clean), ("mixed", mixed), ("collided", collided))
    }
    assert np.std(np.diff(collided)) / np.sqrt(2) > 35
    assert spread["clean"] < 1.2 and spread["collided"] < 1.5 and spread["mixed"] > 4
    assert spike_metrics.bulk_spread(np.ones(2)) == 1.0 == spike_metrics.bulk_spread(np.ones(9))


def test_a_unit_has_one_label_and_noise_is_counted_apart_from_bad() -> None:
    good = pd.Series([True, False, False, None], dtype="boolean")
    noise = pd.Series(["", "", "many_peaks, no_spike", ""])
    assert labels(good, noise).tolist() == ["good", "bad", "noise", "unknown"]
    counted = count_verdicts(
        pd.DataFrame({"good": good, "noise_reason": noise, "good_reason": ["", "", "", "few"]})
    )
    numbers = [counted[f"n_units_{label}"] for label in ("good", "bad", "noise", "unknown")]
    assert numbers == [1, 1, 1, 1]
    assert counted["good_fraction_judged"] == 0.5
    assert counted["noise_because"] == "many_peaks 1, no_spike 1"


def test_nothing_passes_where_nothing_could_be_judged_and_that_is_not_zero() -> None:
    def passes(*verdicts: bool | None) -> dict[str, Any]:
        known = pd.Series(verdicts, dtype="boolean")
        return count_passed("aind", known, pd.Series(["few spikes"] * len(known)))

    for none_could in (passes(None, None), passes(None, False)):
        assert np.isnan(none_could["n_units_aind_pass"]) and np.isnan(none_could["aind_yield"])
        assert none_could["aind_unknown_because"].startswith("few spikes")
    assert passes(False, False)["n_units_aind_pass"] == 0
    some = passes(True, None, False, False)
    assert (some["n_units_aind_pass"], some["aind_yield"]) == (1, 0.25)


def test_the_middle_of_a_units_spikes_tells_a_piece_from_a_whole() -> None:
    even = np.arange(0, 1000, 10)
    assert spike_metrics.central_span(even, 1000) == pytest.approx(0.8, abs=0.02)
    piece = np.r_[even[:40], 999]  # one late spike makes it no whole
    assert spike_metrics.central_span(piece, 1000) < 0.4
    assert np.isnan(spike_metrics.central_span(even[:9], 1000))


# --- units of known kind, through the analyzer -----------------------------------------------


def shapes() -> dict[str, np.ndarray]:
    """Waveforms (time, channel) in uV on 16 contacts 20 um apart, the largest in the middle."""
    ms = (np.arange(BEFORE + AFTER) - BEFORE) / FS * 1000

    def bump(at_ms: float, width_ms: float) -> np.ndarray:
        return np.exp(-0.5 * ((ms - at_ms) / width_ms) ** 2)

    near = np.exp(-np.abs(np.arange(16) - 8) * 20 / 25.0)
    spike = -bump(0, 0.1) + 0.35 * bump(0.45, 0.2)
    return {
        "neuron": 100 * np.outer(spike, near),
        "dented": 100 * np.outer(0.5 * (bump(0.35, 0.09) + bump(0.85, 0.09)) - bump(0, 0.1), near),
        "axon": 100 * np.outer(0.6 * bump(-0.25, 0.08) + spike, near),
        "oscillation": 100 * np.outer(-np.cos(2 * np.pi * 2.5 * ms) * bump(0, 0.6), near),
        "nothing": np.zeros((len(ms), 16)),
        "everywhere": 100 * np.outer(spike, np.ones(16)),
        "crossings": 28 * np.outer(0.5 * bump(0.25, 0.1) - bump(0, 0.045), near),
        "mixture": 100 * np.outer(spike, near),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    traces = rng.normal(0, NOISE_UV, (SECONDS * FS, 16)).astype(np.float32)
    made = shapes()
    slots = rng.permutation(np.arange(100, SECONDS * FS - 200, 120))[: N_SPIKES * len(made)]
    slots = slots + rng.integers(0, 20, len(slots))
    trains: dict[str, np.ndarray] = {}
    for name, mine in zip(made, slots.reshape(len(made), -1), strict=True):
        trains[name] = np.sort(mine)
        sizes = rng.choice([0.3, 1.7], N_SPIKES) if name == "mixture" else np.ones(N_SPIKES)
        for sample, size in zip(trains[name], sizes, strict=True):
            traces[sample - BEFORE : sample + AFTER] += size * made[name]
    recording = si.NumpyRecording([traces], FS)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    recording.set_dummy_probe_from_locations(np.c_[np.zeros(16), 20.0 * np.arange(16)])
    sorting = si.NumpySorting.from_unit_dict(trains, FS)
    sorting.annotate(masked_periods=[])
    analyzer = si.create_sorting_analyzer(
        sorting, recording, format="memory", seed=0,
        sparsity_kwargs={"method": "radius", "radius_um": 100.0},
    )  # fmt: skip
    analyzer.compute(["random_spikes", "waveforms", "templates", "noise_levels"])
    analyzer.compute(["spike_amplitudes", "template_metrics"])
    analyzer.compute("unit_locations", method="center_of_mass")
    names = ["num_spikes", "snr", "sd_ratio", "rp_violation", "presence_ratio", "amplitude_cutoff"]
    analyzer.compute("quality_metrics", metric_names=names)
    folder = tmp_path_factory.mktemp("noise")
    result = unit_quality(analyzer, folder, UnitQualityParameters())
    assert result.metrics["n_units_noise"] == 5
    return result.tables["unit_quality"].set_index("unit_id")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("unit", "criterion"),
    [
        ("oscillation", "many_peaks"),
        ("oscillation", "many_troughs"),
        ("nothing", "no_spike"),
        ("everywhere", "widespread"),
        ("crossings", "noise_shape"),
        ("mixture", "mixed_amplitudes"),
        ("neuron", ""),
        ("dented", ""),
        ("axon", ""),
    ],
)
def test_units_of_known_kind_get_their_label_and_reason(
    table: pd.DataFrame, unit: str, criterion: str
) -> None:
    row = table.loc[unit]
    if unit == "dented":  # SpikeInterface counts the dent between two peaks
        assert row["num_negative_peaks"] == 2 and row["second_trough_ratio"] < 0.1
    if not criterion:
        assert row["noise_reason"] == "" and row["label"] != "noise"
        return
    assert criterion in row["noise_reason"].split(", ")
    assert row["label"] == "noise" and not row["good"] and row["good_reason"] == ""
    if unit not in ("nothing", "oscillation"):  # these meet several
        others = {name: ranges for name, ranges in NOISE.items() if name != criterion}
        assert noise_reasons(table.loc[[unit]], others).tolist() == [""]


@pytest.mark.integration
def test_only_good_leaves_noise_out_and_the_label_is_in_units(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    candidates = {"a": table.reset_index()}
    every = choose_units(candidates, {"a": "0"}, tmp_path, UnitsParameters())
    assert every.metrics["n_units_noise"] == 5
    assert set(every.tables["units"]["label"]) >= {"noise"}
    sure = table.assign(good=table["good"].fillna(True)).reset_index()
    some = choose_units({"a": sure}, {"a": "0"}, tmp_path, UnitsParameters(only_good=True))
    assert "noise" not in set(some.tables["units"]["label"])
    assert {"neuron", "axon", "dented"} == set(some.tables["units"]["unit_id"])
