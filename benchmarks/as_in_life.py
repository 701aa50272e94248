"""The simulation's noise beside a real recording's: spread, spectrum, correlation, kurtosis.

`python -m benchmarks.as_in_life --help`. The real files are half a second long: what needs more
time (units, drift, artefacts) they cannot show.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.simulation import simulate_recording

RESULTS = Path(__file__).parent / "results"
RATE_HZ = 30_000
LENGTH = RATE_HZ // 2
SPECTRUM_HZ = (10, 20, 100, 300, 3000, 10_000)
AWAY_UM = ((1, 20), (20, 40), (40, 60), (60, 100), (100, 150), (200, 300))


def measure(
    traces: np.ndarray, positions: np.ndarray, shanks: np.ndarray, rate_hz: float = RATE_HZ
) -> dict[str, float]:
    """Describe the noise of a short piece.

    Parameters
    ----------
    traces : ndarray
        uV, shape (n_samples, n_channels).
    positions : ndarray
        um, shape (n_channels, 2).
    shanks : ndarray
        Shank of each channel.
    rate_hz : float
        Samples per second.

    Returns
    -------
    dict of str to float
        Row of the table; channels far from the median noise are left out.
    """
    from scipy.signal import butter, sosfiltfilt, welch
    from scipy.stats import kurtosis

    sos = butter(3, 300, "highpass", fs=rate_hz, output="sos")
    filtered = sosfiltfilt(sos, traces.astype(float), axis=0)[300:-300]
    level = np.median(np.abs(filtered), axis=0) / 0.6745
    good = (level > np.median(level) / 2) & (level < 1.8 * np.median(level))
    traces, filtered, level = traces[:, good], filtered[:, good], level[good]
    low, middle, high = np.quantile(level, [0.16, 0.5, 0.84])
    tails = kurtosis(filtered, axis=0)
    row = {
        "noise after 300 Hz, uV": middle,
        "16-84 % of channels, +- %": 50 * np.log(high / low),
        "kurtosis, median": float(np.median(tails)),
        "kurtosis, 95 %": float(np.quantile(tails, 0.95)),
    }
    hz, power = welch(traces, rate_hz, nperseg=4096, axis=0)
    power = np.median(power, axis=1)
    at = np.interp(1000, hz, power)
    for wanted in SPECTRUM_HZ:
        row[f"{wanted} Hz against 1 kHz, dB"] = 10 * np.log10(np.interp(wanted, hz, power) / at)
    return row | _correlations(filtered, positions[good], shanks[good])


def _correlations(
    filtered: np.ndarray, positions: np.ndarray, shanks: np.ndarray
) -> dict[str, float]:
    """Mean correlation of channels on one shank by distance, and of channels on two shanks."""
    shared = np.corrcoef(filtered.T)
    away = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    same = shanks[:, None] == shanks
    row = {
        f"correlation, {low}-{high} um": float(shared[same & (away > low) & (away <= high)].mean())
        for low, high in AWAY_UM
    }
    return row | {"correlation, other shank": float(shared[~same].mean())}


def of_recording(recording: Any) -> dict[str, float]:
    """Measure the first half second in which hardly any sample is at the converter's limits."""
    full = recording.get_traces()
    top, bottom = int(full.max()), int(full.min())
    for start in range(0, len(full) - LENGTH + 1, LENGTH):
        piece = full[start : start + LENGTH]
        if ((piece >= top) | (piece <= bottom)).mean() < 0.01:
            break
    traces = recording.get_traces(start_frame=start, end_frame=start + LENGTH, return_in_uV=True)
    shanks = np.asarray(recording.get_channel_groups())
    return measure(traces, recording.get_channel_locations(), shanks)


def run(
    data: Path | None, difficulties: Sequence[Any], n_channels: int, seeds: Sequence[int]
) -> pd.DataFrame:
    """Measure the real runs and each difficulty (mean of the seeds); one column each."""
    columns = {}
    if data is not None:
        from spikeinterface.extractors import read_spikeglx

        for path in sorted(data.rglob("*.ap.bin")):
            columns[path.name.split("_g0")[0]] = of_recording(
                read_spikeglx(path.parent, stream_id="imec0.ap")
            )
    for difficulty in difficulties:
        rows = [
            of_recording(
                simulate_recording(
                    4.0, n_channels, seed, difficulty=difficulty, probe_model="NP2.4"
                )[0]
            )
            for seed in seeds
        ]
        columns[difficulty] = pd.DataFrame(rows).mean().to_dict()
    return pd.DataFrame(columns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep it as JSON."""
    found = os.environ.get("NEURO_ASSETS_REAL_DATA")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(found) if found else None)
    parser.add_argument("--difficulties", nargs="+", default=["standard", "hard", "realistic"])
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args(arguments)
    data = chosen.data / "spikeglx_np24_spikewrap" if chosen.data else None
    table = run(data, chosen.difficulties, chosen.channels, chosen.seeds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "as_in_life.json").write_text(table.to_json(indent=2))
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
