"""Labels of units on simulated truth: which of the true and the false ones are good, bad, noise.

`python -m benchmarks.unit_labels --help`. The seeds by default are those on which no limit of
`neuro_assets.parameters.unit_quality` was chosen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.sorters import RESULTS, single_and_background, sort_and_judge
from neuro_assets.parameters.sorting import SortingParameters
from neuro_assets.simulation.memory import simulate_recording

HELD_OUT = ("hard:81", "hard:82", "standard:83")
LABELS = ("good", "unknown", "bad", "noise")
WINDOW_MS = 0.4


def explained(found: Any, truth: Any, duration_s: float) -> pd.Series:
    """Part of each found unit's spikes that coincide with true ones, beyond what chance makes."""
    from spikeinterface.comparison import compare_two_sorters

    matches = compare_two_sorters(truth, found, delta_time=WINDOW_MS).match_event_count
    by_chance = len(truth.to_spike_vector()) / duration_s * 2 * WINDOW_MS / 1000
    return matches.sum() / pd.Series(found.count_num_spikes_per_unit()) - by_chance


def classes_of(found: Any, truth: Any, duration_s: float) -> pd.DataFrame:
    """Class of each found unit, and its greatest agreement with a true single unit.

    `true`: at least 0.8; `partial`: 0.2 to 0.8; else `background` when half of its spikes or
    more are those of the true multi-unit background; else `false`.
    """
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    single, background = single_and_background(truth)
    compared = compare_sorter_to_ground_truth(single, found, delta_time=WINDOW_MS)
    table = pd.DataFrame({"agreement": compared.agreement_scores.max()})
    table["class"] = pd.cut(
        table["agreement"], [-1, 0.2, 0.8, 2], right=False, labels=["false", "partial", "true"]
    ).astype(str)
    if background is not None:
        of_background = explained(found, background, duration_s) >= 0.5
        table.loc[(table["class"] == "false") & of_background, "class"] = "background"
    return table


def measure(difficulty: Any, seed: int, duration_s: float, n_channels: int, jobs: int) -> Any:
    """Units of one simulated recording, with class, label and reason."""
    recording, truth = simulate_recording(duration_s, n_channels, seed, difficulty=difficulty)
    with tempfile.TemporaryDirectory() as folder:
        saved = recording.save(folder=Path(folder) / "raw", n_jobs=1, progress_bar=False)
        sorter = SortingParameters.resolve().sorter
        analyzer, quality, _ = sort_and_judge(saved, sorter, Path(folder), jobs, {})
        classes = classes_of(analyzer.sorting, truth, duration_s)
    table = classes.join(quality.tables["unit_quality"].set_index("unit_id"))
    return table.assign(difficulty=difficulty, seed=seed)


def counted(units: pd.DataFrame) -> pd.DataFrame:
    """Units of each class by label, one row a difficulty and class."""
    rows = [units["difficulty"], units["class"]]
    return pd.crosstab(rows, units["label"]).reindex(columns=list(LABELS), fill_value=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the counts and the mistakes, and keep every unit as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=HELD_OUT, help="difficulty:seed")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args(arguments)
    tables = []
    for case in chosen.cases:
        difficulty, _, seed = case.partition(":")
        one = measure(difficulty, int(seed), chosen.duration, chosen.channels, chosen.jobs)
        print(f"{case}\n{counted(one)}", flush=True)
        tables.append(one.reset_index(names="unit_id"))
    units = pd.concat(tables, ignore_index=True)
    refused = units["label"].isin(["bad", "noise"])
    wrong = ((units["class"] == "true") & refused) | ((units["class"] == "false") & ~refused)
    shown = ["difficulty", "seed", "unit_id", "class", "agreement", "label", "noise_reason"]
    print(counted(units), units.loc[wrong, [*shown, "num_spikes", "snr"]].to_string(), sep="\n\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "unit_labels.json").write_text(units.to_json(orient="records", indent=1))


if __name__ == "__main__":
    main()
