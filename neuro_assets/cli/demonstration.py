"""The command `demo`: a simulated session from raw files to NWB, compared with its truth."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neuro_assets import names
from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Lab, console, new_table, size_words, time_words
from neuro_assets.cli.process import process_keys, registered_keys
from neuro_assets.cli.progress import progress_of
from neuro_assets.cli.status import output_states, states_table
from neuro_assets.config import CONFIG_NAME, CONFIG_VARIABLE, read_config
from neuro_assets.outcomes import Outcome
from neuro_assets.recording_key import RecordingKey
from neuro_assets.store.judgement import judgement

if TYPE_CHECKING:
    from spikeinterface.core import BaseSorting

AGREEMENT = 0.8
"""A true unit is found when a sorted one agrees on at least this part of the spikes: the threshold
of SpikeInterface's `well_detected_score`."""

VERDICTS = {
    "PASS": "passed", "WARNING": "warning", "FAIL": "failed", "CRITICAL": "critical",
    "NOT_SET": "not judged",
}  # fmt: skip

LAB_YAML = """\
# The demonstration lab, written by `neuro-assets demo`. `neuro-assets init` writes a commented one.
lab: simlab
store: {url: store}
sources:
  - {name: local, path: sessions, settle_minutes: 0.2}
steps:
  bad_channels: {set: demo}   # a recording of a minute is worth sorting here
sorters:
  - {name: tridesclous2}
  - {name: spykingcircus2, probes: [probe00]}
"""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demonstration lab")] = Path(
        "demo_lab"
    ),
    duration: Annotated[float, typer.Option(help="Length, seconds", min=20)] = 60.0,
    channels: Annotated[int, typer.Option(help="Channels of each probe", min=4, max=384)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the simulation")] = 0,
) -> None:
    """Simulate a session with two probes, process it, and compare with the truth."""
    if not demonstrate(folder.resolve(), duration=duration, channels=channels, seed=seed):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Recovered:
    """How many true units a sorting found."""

    n_true: int
    n_found: int
    n_sorted: int
    mean_accuracy: float


def demonstrate(folder: Path, *, duration: float, channels: int, seed: int) -> bool:
    """Simulate, process, print; True when nothing failed.

    Parameters
    ----------
    folder : Path
        Folder of the demonstration lab; kept, so that `neuro-assets up` can show it.
    duration : float
        Seconds.
    channels : int
        Channels of each of the two probes.
    seed : int
        Seed of the simulation.

    Returns
    -------
    bool
        Whether every expected output is complete or rightly skipped.
    """
    from neuro_assets.service import prepared_worker

    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG_NAME
    if not path.exists():
        path.write_text(LAB_YAML, encoding="utf-8")
    os.environ[CONFIG_VARIABLE] = str(path)
    lab = Lab(path, read_config(path))
    session, truth = _session(folder, duration, channels, seed)
    with prepared_worker(folder) as worker:
        keys = registered_keys(lab, [str(session)])
        ok = process_keys(lab, keys, [], worker=worker)
    for key in keys:
        console.print(states_table(key, output_states(lab, key)))
    for key in keys:
        console.print(_truth_table(lab, key, truth))
    for key in keys:
        console.print(_check_line(lab, key))
    console.print(_how_to_load(lab, keys[0]), soft_wrap=True, markup=False)
    console.print(f"\nTook {time_words(time.monotonic() - began)}. Files are below {folder}")
    console.print("See it in the browser with `make up`.")
    states = [state for key in keys for state in output_states(lab, key)]
    return ok and all(s.outcome in (Outcome.COMPLETE, Outcome.SKIPPED) for s in states)


def _session(folder: Path, duration: float, channels: int, seed: int) -> tuple[Path, Path]:
    from neuro_assets.simulation import simulate_session

    sessions = folder / "sessions"
    flag = next(sessions.glob("*/Subjects/*/*/*/raw_session.flag"), None)
    truth = next(sessions.glob("truth/*"), None)
    if flag is not None and truth is not None:
        console.print(f"{flag.parent} is there already; remove {folder} for another one")
        return flag.parent, truth
    began = time.monotonic()
    console.print(f"Simulating {duration:g} s of two probes with {channels} channels ...")
    with progress_of("simulating") as progress:
        simulated = simulate_session(
            sessions,
            duration_s=duration,
            n_channels=channels,
            n_probes=2,
            seed=seed,
            progress=progress,
        )
    size = sum(file.stat().st_size for file in simulated.session.rglob("*") if file.is_file())
    console.print(f"  {size_words(size)} in {time_words(time.monotonic() - began)}")
    return simulated.session, simulated.truth


def _truth_table(lab: Lab, key: str, truth: Path) -> Table:
    counts = ("true units", "found", "sorted units", "mean accuracy")
    table = new_table(f"Truth recovered of {key}", "sorter", *counts, right=counts)
    for sorter in lab.config.sorters:
        found = recovered(lab, key, sorter.name, truth)
        if found is not None:
            table.add_row(
                sorter.name, str(found.n_true), str(found.n_found), str(found.n_sorted),
                f"{found.mean_accuracy:.2f}",
            )  # fmt: skip
    table.caption = f"found: at least {AGREEMENT:g} agreement of the spikes (within 0.4 ms)"
    return table


def recovered(lab: Lab, key: str, sorter: str, truth: Path) -> Recovered | None:
    """Compare a sorting with the simulated spikes; None where there is no sorting.

    Parameters
    ----------
    lab : Lab
        The lab.
    key : str
        The recording.
    sorter : str
        Name of the sorter set.
    truth : Path
        Folder of the truth that the simulation wrote.

    Returns
    -------
    Recovered or None
        Counts.
    """
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    from neuro_assets.science.sorting import open_sorting

    stored = lab.store().current(names.sorting(sorter), key)
    if stored is None or stored.outcome is not Outcome.COMPLETE:
        return None
    found = open_sorting(stored.local())
    true = true_sorting(truth, RecordingKey.parse(key).probe, found.sampling_frequency)
    compared = compare_sorter_to_ground_truth(true, found, exhaustive_gt=True, delta_time=0.4)
    accuracy = compared.get_performance()["accuracy"].astype(float)
    return Recovered(
        len(accuracy),
        int((accuracy >= AGREEMENT).sum()),
        len(found.unit_ids),
        float(accuracy.mean()),
    )


def true_sorting(truth: Path, probe: str, sampling_frequency: float) -> BaseSorting:
    """Read the simulated spikes of a probe as a SpikeInterface sorting."""
    import pandas as pd
    from spikeinterface.core import NumpySorting

    spikes = pd.read_parquet(truth / "spikes.parquet")
    spikes = spikes[spikes["probe"] == probe].sort_values("sample_index")
    samples, units = spikes["sample_index"].to_numpy(), spikes["unit"].to_numpy()
    return NumpySorting.from_samples_and_labels([samples], [units], sampling_frequency)


def _check_line(lab: Lab, key: str) -> str:
    counts: Counter[str] = Counter()
    for state in output_states(lab, key):
        rows = judgement(state.stored) if state.stored else []
        counts.update(row["verdict"] for row in rows)
    shown = ", ".join(f"{counts[verdict]} {name}" for verdict, name in VERDICTS.items())
    return f"Quality criteria of {key}: {shown}"


def _how_to_load(lab: Lab, key: str) -> str:
    from neuro_assets.assets.steps.units import unit_sources

    store = lab.store()
    lines = ["\nLoad it, with the field's own tools:"]
    units = store.current(names.UNITS, key)
    analyzer = store.current(names.analyzer(unit_sources(lab.config)[0]), key)
    nwb = store.current(names.NWB, key)
    if units:
        lines.append(f'  units = pandas.read_parquet("{units.file("units.parquet")}")')
    if analyzer:
        path = analyzer.file("analyzer.zarr")
        lines.append(f'  analyzer = spikeinterface.load_sorting_analyzer("{path}")')
    if nwb:
        path = nwb.file(f"{key}.nwb")
        lines.append(f'  nwb = pynwb.read_nwb("{path}")')
    return "\n".join(lines)
