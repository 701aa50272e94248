"""Error of the motion estimate against the simulated drift, in windows that are believed or not.

`python -m benchmarks.motion --help`. The limits of `neuro_assets.parameters.motion` rest on it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.sorters import saturated_periods
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.science.motion import estimate_motion
from neuro_assets.science.motion_evidence import supported
from neuro_assets.simulation.clocks import lay_out
from neuro_assets.simulation.levels import NAMED
from neuro_assets.simulation.memory import simulate_recording
from neuro_assets.simulation.plan import plan_probe

RESULTS = Path(__file__).parent / "results"
DRIFTS_UM = {"none": (0.0, 0.0), "slow": (30.0, 0.0), "jump": (0.0, 20.0)}
"""Slow movement over the recording, and one jump."""


def measure(
    difficulty: str,
    drift: str,
    seed: int,
    n_channels: int,
    duration_s: float,
    windows_um: list[float],
) -> pd.DataFrame:
    """Simulate once, and estimate with each size of the windows.

    Returns
    -------
    DataFrame
        One row a depth window: its evidence, whether it is believed, and the error of its own
        estimate about its median: RMS, 95 % and largest magnitude over time bins; and the RMS of
        what it is given in the end (that of its neighbours where it is not believed), um.
    """
    slow, jump = DRIFTS_UM[drift]
    levels = replace(NAMED[difficulty], drift_um=slow, jump_um=jump)
    recording, _ = simulate_recording(duration_s, n_channels, seed, difficulty=levels)
    plan = plan_probe("NP1", n_channels, lay_out(duration_s, 1, 1, levels), levels, seed, 0)
    labels = np.where(recording.get_property("truth_label") == "good", "good", "noise")
    channels = pd.DataFrame({"channel_id": recording.channel_ids.astype(str), "label": labels})
    saturation, limits, rows = saturated_periods(recording), MotionParameters(), []
    for window_um in windows_um:
        # Without limits, so that every window keeps its own estimate.
        parameters = MotionParameters(
            window_step_um=window_um, window_scale_um=window_um, max_error_um=1e9,
            min_peaks_per_bin=0,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            result = estimate_motion(
                recording, channels, Path(folder), parameters, saturation=saturation, n_jobs=2
            )
        table = result.tables["motion"].pivot_table("displacement_um", "sample_index", "depth_um")
        windows, moved = result.tables["windows"], table.to_numpy()
        believed = (windows["error_um"] <= limits.max_error_um) & (
            windows["peaks_per_bin"] >= limits.min_peaks_per_bin
        )
        true = plan.drift.at(plan.clock.times(table.index.to_numpy()))
        own = _error(moved, true)
        given = _error(supported(moved, table.columns.to_numpy(), believed.to_numpy()), true)
        rows.append(
            windows.assign(
                difficulty=difficulty, drift=drift, seed=seed, window_um=window_um,
                confident=believed, own_rms_um=np.sqrt(np.mean(own**2, axis=0)),
                own_95_um=np.quantile(np.abs(own), 0.95, axis=0),
                own_max_um=np.abs(own).max(axis=0),
                given_rms_um=np.sqrt(np.mean(given**2, axis=0)),
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def _error(moved: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distance from the truth, about its median: where zero is, is arbitrary."""
    error = moved - true[:, None]
    return np.asarray(error - np.median(error, axis=0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the windows, and keep them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--difficulties", nargs="+", default=["standard", "hard", "realistic"])
    parser.add_argument("--drifts", nargs="+", choices=list(DRIFTS_UM), default=list(DRIFTS_UM))
    parser.add_argument("--seeds", type=int, nargs="+", default=[12])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--duration", type=float, default=60.0)
    parser.add_argument("--windows", type=float, nargs="+", default=[400.0, 200.0])
    chosen = parser.parse_args(arguments)
    rows = [
        measure(difficulty, drift, seed, chosen.channels, chosen.duration, chosen.windows)
        for seed in chosen.seeds
        for difficulty in chosen.difficulties
        for drift in chosen.drifts
    ]
    table = pd.concat(rows, ignore_index=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "motion.json").write_text(table.to_json(indent=2))
    print(table.round(1).to_string())


if __name__ == "__main__":
    main()
