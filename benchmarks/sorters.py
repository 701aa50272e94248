"""CPU sorters on simulated truth: accuracy, units found, false units, and what they cost.

`python -m benchmarks.sorters --help`. The default sorter of `neuro_assets.parameters.sorting` is
the one that this shows best for its cost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.parameters.analyzer import AnalyzerParameters
from neuro_assets.parameters.sorting import SortingParameters
from neuro_assets.parameters.unit_quality import UnitQualityParameters
from neuro_assets.science.analyzer import analyze_sorting, open_analyzer
from neuro_assets.science.result import StepResult
from neuro_assets.science.sorting import open_sorting, sort_recording
from neuro_assets.science.unit_quality import unit_quality
from neuro_assets.simulation.levels import NAMED
from neuro_assets.simulation.memory import simulate_recording

RESULTS = Path(__file__).parent / "results"


def saturated_periods(recording: Any) -> pd.DataFrame:
    """Where more than a fifth of the channels are within 4 % of the greatest value."""
    traces = recording.get_traces()
    limit = 0.96 * np.abs(traces).max()
    hit = np.flatnonzero((np.abs(traces) > limit).mean(axis=1) > 0.2)
    if hit.size == 0:
        return pd.DataFrame({"start_sample": [], "stop_sample": []}, dtype=np.int64)
    # Samples of one event that fall below the limit in between belong to it.
    first = np.concatenate([[0], np.flatnonzero(np.diff(hit) > 0.05 * 30_000) + 1])
    last = np.concatenate([first[1:] - 1, [len(hit) - 1]])
    return pd.DataFrame({"start_sample": hit[first], "stop_sample": hit[last] + 1})


def single_and_background(truth: Any) -> tuple[Any, Any]:
    """Split the truth into single units and the multi-unit background (None without one)."""
    label = truth.get_property("label")
    if label is None:
        return truth, None
    return tuple(
        truth.select_units(truth.unit_ids[label == kind]) for kind in ("single unit", "multi-unit")
    )


def compare(truth: Any, found: Any) -> dict[str, Any]:
    """Score found units against true ones."""
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    comparison = compare_sorter_to_ground_truth(truth, found, exhaustive_gt=True)
    performance = comparison.get_performance()
    return {
        "true_units": truth.get_num_units(),
        "units": found.get_num_units(),
        "accuracy": float(performance["accuracy"].mean()),
        "found": comparison.count_well_detected_units(well_detected_score=0.8),
        "false": comparison.count_false_positive_units(),
        "redundant": comparison.count_redundant_units(),
    }


def sort_and_judge(
    recording: Any, sorter: str, folder: Path, n_jobs: int, overrides: dict[str, Any]
) -> tuple[Any, StepResult, dict[str, Any]]:
    """Sort, analyze and judge once: the analyzer, the units' quality, and what it cost."""
    labels = np.where(recording.get_property("truth_label") == "good", "good", "noise")
    channels = pd.DataFrame({"channel_id": recording.channel_ids.astype(str), "label": labels})
    saturation = saturated_periods(recording)
    out, scratch = folder / sorter, folder / "scratch"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    parameters = SortingParameters.for_sorter(sorter, overrides=overrides)
    started = time.monotonic()
    sorted_ = sort_recording(
        recording, channels, saturation, out, scratch, parameters, n_jobs=n_jobs
    )
    sorted_at, cpu_at = time.monotonic(), time.process_time()
    analyze_sorting(
        recording,
        open_sorting(out),
        channels,
        out,
        AnalyzerParameters.resolve(),
        saturation=saturation,
        n_jobs=n_jobs,
    )
    analyzer = open_analyzer(out)
    costs = {
        "cpu_s": round(sorted_.metrics["sorter_cpu_s"], 1),
        "wall_s": round(sorted_at - started, 1),
        "peak_gb": round(sorted_.metrics["sorter_peak_memory_bytes"] / 1e9, 2),
        "analyzer_cpu_s": round(time.process_time() - cpu_at, 1),
        "analyzer_wall_s": round(time.monotonic() - sorted_at, 1),
    }
    return analyzer, unit_quality(analyzer, out, UnitQualityParameters.resolve()), costs


def run(
    sorters: Sequence[str] = ("tridesclous2", "spykingcircus2"),
    duration_s: float = 60.0,
    n_channels: int = 64,
    seeds: Sequence[int] = (0,),
    difficulty: Any = "standard",
    n_jobs: int = 1,
    overrides: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Measure every sorter on every seed, one after the other; one row each."""
    rows = []
    for seed in seeds:
        recording, truth = simulate_recording(duration_s, n_channels, seed, difficulty=difficulty)
        truth, _ = single_and_background(truth)
        with tempfile.TemporaryDirectory() as folder:
            saved = recording.save(folder=Path(folder) / "raw", n_jobs=1, progress_bar=False)
            for sorter in sorters:
                analyzer, quality, costs = sort_and_judge(
                    saved, sorter, Path(folder), n_jobs, overrides or {}
                )
                row = {"seed": seed, "difficulty": difficulty, "sorter": sorter}
                row |= compare(truth, analyzer.sorting)
                rows.append(row | {"ibl_pass": quality.metrics["n_units_ibl_pass"], **costs})
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sorters", nargs="+", default=["tridesclous2", "spykingcircus2"])
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--difficulty", choices=list(NAMED), default="standard")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--parameters", type=json.loads, default={}, help="overrides, as JSON")
    chosen = parser.parse_args(arguments)
    table = run(
        chosen.sorters,
        chosen.duration,
        chosen.channels,
        chosen.seeds,
        chosen.difficulty,
        chosen.jobs,
        chosen.parameters,
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sorters.json").write_text(table.to_json(orient="records", indent=2))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
