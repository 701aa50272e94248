"""The motion estimate against a movement that is known, and when it is not made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from probeinterface import Probe
from spikeinterface.core import recording_tools
from spikeinterface.core.motion import Motion

from neuro_assets.outcomes import Skipped, SkipReason
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.science.motion import (
    _metrics,
    estimate_motion,
    load_motion,
    motion_table,
)
from neuro_assets.science.motion_evidence import pair_residual, supported, without_bins

FS = 10_000.0
N_CHANNELS = 100
SECONDS = 40


def moved_um(times_s: np.ndarray) -> np.ndarray:
    """Return the true movement: slowly by 20 um, and a jump of 20 um in the middle."""
    return 20 * times_s / SECONDS + 20 * (times_s > SECONDS / 2)


def moving_recording(lowest_um: float = 0.0) -> si.BaseRecording:
    """100 contacts over 1 mm, 60 cells whose spikes fade with a Gaussian of 30 um; 10 kHz."""
    rng = np.random.default_rng(0)
    depth = np.repeat(np.arange(N_CHANNELS // 2) * 20.0, 2)
    traces = rng.normal(0, 10, (int(SECONDS * FS), N_CHANNELS)).astype(np.float32)
    shape = -np.exp(-(((np.arange(20) - 8) / 2.0) ** 2)) + 0.3 * np.exp(
        -(((np.arange(20) - 13) / 3.0) ** 2)
    )
    for cell_depth in rng.uniform(lowest_um, 980, 60):
        amplitude = rng.uniform(100, 400)
        samples = rng.integers(20, len(traces) - 40, size=SECONDS * 8)
        where = cell_depth + moved_um(samples / FS)
        fall = amplitude * np.exp(-((depth - where[:, None]) ** 2) / (2 * 30.0**2))
        for sample, profile in zip(samples, fall, strict=True):
            traces[sample : sample + 20] += shape[:, None] * profile
    made = si.NumpyRecording([traces.astype(np.int16)], FS)
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(np.stack([np.tile([0.0, 32.0], N_CHANNELS // 2), depth], axis=1))
    probe.set_device_channel_indices(np.arange(N_CHANNELS))
    made.set_probe(probe)
    made.set_channel_gains(1.0)
    made.set_channel_offsets(0.0)
    return made


def good(recording: si.BaseRecording, n_bad: int = 0) -> pd.DataFrame:
    labels = ["dead"] * n_bad + ["good"] * (recording.get_num_channels() - n_bad)
    return pd.DataFrame({"channel_id": recording.channel_ids.astype(str), "label": labels})


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("motion")
    recording = moving_recording()
    result = estimate_motion(recording, good(recording), folder, MotionParameters())
    return {"folder": folder, "result": result}


@pytest.mark.integration
def test_a_known_movement_is_found_to_a_few_micrometres(estimated: dict[str, Any]) -> None:
    table = estimated["result"].tables["motion"]
    truth = moved_um(table["sample_index"].to_numpy() / FS)
    away = np.abs(table["sample_index"] / FS - SECONDS / 2) > 1.5  # not in the bin of the jump
    error = (table["displacement_um"] - truth)[away]
    error -= error.median()  # where zero is, is arbitrary
    assert error.abs().median() < 3
    assert error.abs().max() < 12
    metrics = estimated["result"].metrics
    assert metrics["drift_ptp_um"] == pytest.approx(40, abs=8)
    assert metrics["max_jump_um"] == pytest.approx(20, abs=8)
    assert metrics["n_peaks"] > 5000


@pytest.mark.integration
def test_windows_without_spikes_are_no_drift_and_follow_those_with_evidence(
    estimated: dict[str, Any], tmp_path: Path
) -> None:
    everywhere = estimated["result"].tables["windows"]
    assert everywhere["confident"].all() and (everywhere["error_um"] < 3).all()
    recording = moving_recording(lowest_um=600)
    narrow = MotionParameters(window_step_um=200.0, window_scale_um=200.0)
    result = estimate_motion(recording, good(recording), tmp_path, narrow)
    windows, table = result.tables["windows"], result.tables["motion"]
    assert not windows.loc[windows["depth_um"] < 350, "confident"].any()
    assert windows.loc[windows["depth_um"].between(700, 900), "confident"].all()
    assert result.metrics["n_confident_windows"] == windows["confident"].sum() < len(windows)
    assert result.metrics["max_jump_um"] == pytest.approx(20, abs=8)
    # Their displacement is that of the tissue where it could be seen, and so near the truth.
    truth = moved_um(table["sample_index"].to_numpy() / FS)
    away = np.abs(table["sample_index"] / FS - SECONDS / 2) > 1.5
    error = (table["displacement_um"] - truth)[away & ~table["confident"]]
    assert (error - error.median()).abs().max() < 12


def test_a_probe_without_any_evidence_has_no_drift_to_report() -> None:
    depths, none = np.array([100.0, 200.0]), np.array([False, False])
    assert not supported(np.ones((3, 2)), depths, none).any()
    motion = Motion([np.zeros((3, 2))], [np.arange(3.0)], depths)
    assert np.isnan(_metrics(motion, np.zeros((3, 2), bool))["drift_rms_um"])
    one = supported(np.array([[5.0, 99.0]]), depths, np.array([True, False]))
    assert one.tolist() == [[5.0, 5.0]]


def test_a_bin_that_the_others_contradict_is_no_drift_and_no_jump() -> None:
    bins = np.arange(30)
    true = 0.5 * bins + 20.0 * (bins >= 20)  # a slow drift, and one step that is real
    pairs = np.subtract.outer(true, true)[np.newaxis]
    weights = (np.abs(np.subtract.outer(bins, bins)) <= 12).astype(float)[np.newaxis]
    pairs = np.where(weights > 0, pairs, 0.0)  # as DREDge leaves what it did not compare
    found = true[:, np.newaxis].copy()
    found[8] += 12.0  # least squares, pulled away by a few of its pairs
    residual = pair_residual(found, pairs, weights)
    sure = residual <= MotionParameters().max_bin_error_um
    assert np.flatnonzero(~sure[:, 0]).tolist() == [8]
    motion = Motion([without_bins(found, sure)], [bins.astype(float)], np.array([0.0]))
    np.testing.assert_allclose(motion.displacement[0][:, 0], true)
    metrics = _metrics(motion, sure)
    assert metrics["drift_ptp_um"] == pytest.approx(np.ptp(true))
    assert metrics["max_jump_um"] == pytest.approx(20.5)
    assert metrics["doubtful_bin_fraction"] == pytest.approx(1 / 30)
    weights[0, 3] = 0
    assert np.isinf(pair_residual(found, pairs, weights)[3, 0])


@pytest.mark.integration
def test_plain_spikeinterface_opens_what_is_stored(estimated: dict[str, Any]) -> None:
    motion = Motion.load(estimated["folder"] / "motion")
    assert motion == load_motion(estimated["folder"])
    table = estimated["result"].tables["motion"]
    np.testing.assert_allclose(
        table["displacement_um"].to_numpy().reshape(motion.displacement[0].shape),
        motion.displacement[0],
    )
    assert not list(estimated["folder"].rglob("*.pkl"))


@pytest.mark.integration
def test_what_was_done_is_recorded(estimated: dict[str, Any]) -> None:
    applied = estimated["result"].applied
    assert [s.name for s in applied] == [
        "highpass_filter",
        "common_reference",
        "estimate_motion:dredge_fast",
    ]
    assert applied[-1].parameters["estimate"]["method"] == "dredge_ap"
    assert estimated["result"].picture is not None
    assert len(estimated["result"].picture.png) < 100_000


def test_samples_count_from_the_recordings_first_one() -> None:
    motion = Motion(
        np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([100.5, 101.5]), np.array([0.0, 9.0])
    )
    recording = si.NumpyRecording([np.zeros((30_000, 1))], FS, t_starts=[100.0])
    table = motion_table(motion, recording)
    assert table["sample_index"].tolist() == [5000, 5000, 15_000, 15_000]
    assert table["depth_um"].tolist() == [0.0, 9.0, 0.0, 9.0]
    assert table["displacement_um"].tolist() == [1.0, 2.0, 3.0, 4.0]


def silent(n_samples: int = 400_000) -> si.BaseRecording:
    rng = np.random.default_rng(1)
    made = si.NumpyRecording([rng.normal(0, 10, (n_samples, N_CHANNELS)).astype(np.int16)], FS)
    depths = np.arange(N_CHANNELS) * 10.0
    made.set_dummy_probe_from_locations(np.stack([np.zeros(N_CHANNELS), depths], axis=1))
    return made


@pytest.mark.parametrize(
    ("n_samples", "n_bad", "reason"),
    [
        (400_000, 5, SkipReason.TOO_FEW_CHANNELS),
        (200_000, 0, SkipReason.RECORDING_TOO_SHORT),
    ],
)
def test_too_little_is_a_skip_with_its_reason(
    tmp_path: Path, n_samples: int, n_bad: int, reason: SkipReason
) -> None:
    recording = silent(n_samples)
    with pytest.raises(Skipped) as skip:
        estimate_motion(recording, good(recording, n_bad), tmp_path, MotionParameters())
    assert skip.value.reason is reason


@pytest.mark.integration
def test_a_silent_probe_is_a_skip(tmp_path: Path) -> None:
    recording = silent(50_000)
    with pytest.raises(Skipped) as skip:
        estimate_motion(recording, good(recording), tmp_path, MotionParameters(min_duration_s=1))
    assert skip.value.reason is SkipReason.NO_UNITS_FOUND
    assert "peaks" in skip.value.detail


def test_noise_levels_are_drawn_with_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, draw = [], recording_tools.get_random_sample_slices

    def spy(*args: Any, **options: Any) -> Any:
        seeds.append(options.get("seed"))
        return draw(*args, **options)

    monkeypatch.setattr(recording_tools, "get_random_sample_slices", spy)
    recording = silent(50_000)
    with pytest.raises(Skipped):
        estimate_motion(recording, good(recording), tmp_path, MotionParameters(min_duration_s=1))
    assert seeds == [0]


@pytest.mark.parametrize("name", list(MotionParameters.sets))
def test_every_set_has_a_source(name: str) -> None:
    assert MotionParameters.sets[name].source
    MotionParameters.resolve(name)
