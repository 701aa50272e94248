"""What Dagster costs: one recording through the job, against a plain script of the same science.

Both call the same functions in the same order with the same `n_jobs`, both after one warm-up that
fills the caches (compiled kernels, file cache). They run in turn, and the ratio of each pair is
quoted, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

LAB_YAML = """\
lab: simlab
store: {url: store}
sources: [{name: local, path: sessions}]
steps:
  bad_channels: {set: demo}
sorters:
  - {name: tridesclous2}
"""

LIMITS = {"command": 1.15, "run": 1.08}
"""Of the plain script's time: the whole command, and from the start to the end of its run."""

RESULTS = Path(__file__).parent / "results"
COMMAND = [sys.executable, "-c", "from neuro_assets.cli import main; main()"]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and return the figures.

    Parameters
    ----------
    arguments : list of str, optional
        Command line.

    Returns
    -------
    dict
        Seconds of both, their ratios pair by pair, the cold start, and the load of the machine.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), options.seconds, options.channels, options.repeats)


def measure(folder: Path, seconds: float, channels: int, repeats: int) -> dict[str, Any]:
    """Run both in turn in a folder."""
    from neuro_assets.simulation import simulate_session

    (folder / "lab.yaml").write_text(LAB_YAML)
    session = simulate_session(
        folder / "sessions", duration_s=seconds, n_channels=channels, video=False
    ).session
    run = [*COMMAND, "--lab", str(folder), "run", str(session), *_only(folder)]
    cold = _timed(run)
    commands, runs, plains, loads = [], [], [], []
    for _ in range(repeats):
        plains.append(_timed([sys.executable, "-m", "benchmarks.plain_script", str(folder)]))
        loads.append(os.getloadavg()[0])
        commands.append(_timed([*run, "--force"]))
        loads.append(os.getloadavg()[0])
        runs.append(_last_run_s(folder))
    figures: dict[str, Any] = {
        "recording": f"{seconds:g} s x {channels} channels",
        "cores": os.cpu_count(),
        "load_after_each": [round(load, 1) for load in loads],
        "cold_first_run_s": cold,
        "plain_script_s": plains,
        "command_s": commands,
        "run_s": runs,
    }
    for name, values in (("command", commands), ("run", runs)):
        ratios = [round(value / plain, 3) for value, plain in zip(values, plains, strict=True)]
        limit = LIMITS[name]
        figures[f"{name}_ratios"] = ratios
        figures[f"{name}_ratio_median"] = median(ratios)
        figures[f"{name}_limit"] = limit
        figures[f"{name}_met"] = median(ratios) <= limit
    return figures


def _last_run_s(folder: Path) -> float:
    """Seconds from the start to the end of the last run, as Dagster recorded them."""
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(folder / ".dagster_home")) as instance:
        (run,) = instance.get_run_records(limit=1)
        return round((run.end_time or 0.0) - (run.start_time or 0.0), 2)


def _only(folder: Path) -> list[str]:
    """Select the assets of the job `process`: NWB and tables are made by jobs of their own."""
    from neuro_assets import names
    from neuro_assets.assets.catalog import all_steps
    from neuro_assets.config import read_config

    steps = all_steps(read_config(folder / "lab.yaml"))
    made = [step.name for step in steps if step.job == names.PROCESS_JOB]
    return [word for name in made for word in ("--only", name)]


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[-3:]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return round(time.perf_counter() - began, 2)


if __name__ == "__main__":
    figures = main()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "orchestration.json").write_text(json.dumps(figures, indent=1))
    for name, value in figures.items():
        print(f"{name:<20} {value}")
