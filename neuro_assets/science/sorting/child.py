"""The process in which one sorter runs; started by `process`, never imported by anything else.

A sorter may leak, crash the interpreter or be killed for memory: here it takes nothing with it.
The answer is `answer.json` in the job's folder; no answer means that the process was killed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

MEMORY_ERRORS = (
    "MemoryError",
    "ArrayMemoryError",
    "OutOfMemoryError",
    "BrokenProcessPool",
    "TerminatedWorkerError",
)
"""Last words of a traceback when memory ran out, here or in a worker of this process."""

NOTHING_FOUND = re.compile(
    r"no (spikes|templates|peaks|clusters|units)\b|wall is empty|"
    r"prototype should have a negative peak",
    re.IGNORECASE,
)
"""Errors with which sorters give up because there is nothing to sort: Kilosort 4 (`No spikes
detected`, `Wall is empty`), Spyking Circus 2 (the prototype of no peak at all)."""

COUNTED_NOTHING = re.compile(
    r"(?<!\d)0 (peaks|spikes|clusters?|templates) (found|in total)|Kept 0 "
)
"""What a sorter says in its log before it trips over it: an error after this is no error."""

SEED = 42
"""Of generators that a sorter's parameters do not reach."""


def main(folder: Path) -> None:
    """Run the job in `folder/job.json` and write `folder/answer.json`.

    Parameters
    ----------
    folder : Path
        The job's folder; everything is written below it.
    """
    job = json.loads((folder / "job.json").read_text())
    _die_with(job["parent"])
    try:
        answer = _run(folder, job)
    except BaseException:  # the last words must reach the parent, whatever they are
        traceback.print_exc()
        answer = describe_failure(folder, traceback.format_exc())
    answer |= _resources()
    (folder / "answer.json").write_text(json.dumps(answer))


def _run(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    import spikeinterface as si
    from spikeinterface.sorters import run_sorter

    from neuro_assets.science.compiled import SORTER_KERNELS, keep_compiled

    if job["sorter"] in ("spykingcircus2", "tridesclous2", "lupin"):
        keep_compiled(SORTER_KERNELS)
    seed_generators(SEED)
    sum_templates_in_order()
    si.set_global_job_kwargs(n_jobs=job["n_jobs"], chunk_duration="1s", progress_bar=False)
    recording = si.load(folder / job["recording"])
    sorting = run_sorter(
        job["sorter"],
        recording,
        folder=folder / "sorter",
        remove_existing_folder=True,
        verbose=True,
        raise_error=True,
        **job["parameters"],
    )
    if sorting.has_recording():
        sorting._recording = None  # it would be saved with the path of the scratch folder
    sorting.save(folder=folder / "result", format="numpy_folder")
    return {"status": "done", "message": ""}


def seed_generators(seed: int) -> None:
    """Seed every random generator that nobody else seeds, in this process and its forked workers.

    tridesclous2 draws peaks and the pieces for its whitening from generators that take no seed
    from its parameters, so that its own `seed` does not make it repeatable.

    Parameters
    ----------
    seed : int
        For the global generators, and for new ones that are asked for without a seed.
    """
    import random
    from functools import partial

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generators of others are meant
    fresh = np.random.default_rng
    np.random.default_rng = partial(_seeded, fresh, seed)  # type: ignore[assignment]


def _seeded(fresh: Any, default: int, seed: Any = None) -> Any:
    return fresh(default if seed is None else seed)


def sum_templates_in_order() -> None:
    """Let one worker sum the waveforms of templates, in the order of the recording.

    Of several workers each sums, in float32, the chunks that it happens to get; the templates
    differ in their last bits from run to run, and with them, now and then, a spike.
    """
    from spikeinterface.core import waveform_tools

    executor = waveform_tools.TimeSeriesChunkExecutor

    def in_order(*args: Any, need_worker_index: bool = False, **options: Any) -> Any:
        if need_worker_index:
            options["n_jobs"] = 1
        return executor(*args, need_worker_index=need_worker_index, **options)

    waveform_tools.TimeSeriesChunkExecutor = in_order


def describe_failure(folder: Path, trace: str) -> dict[str, Any]:
    """Say what kind of failure a traceback is.

    Parameters
    ----------
    folder : Path
        The job's folder, with `sorter.log`; SpikeInterface keeps the sorter's own traceback below.
    trace : str
        Traceback of this process.

    Returns
    -------
    dict
        `status` (`memory`, `nothing` or `error`) and `message`, one line.
    """
    log = folder / "sorter" / "spikeinterface_log.json"
    lines = trace.splitlines()
    if log.exists():
        lines = json.loads(log.read_text()).get("error_trace") or lines
    lines = [line.strip() for line in lines if line.strip()]
    last = next((line for line in reversed(lines) if _is_error(line)), lines[-1])
    kind = last.split(":")[0].rsplit(".", 1)[-1].lstrip("_")
    if kind in MEMORY_ERRORS:
        return {"status": "memory", "message": last}
    words = folder / "sorter.log"
    said = words.read_text(errors="replace") if words.exists() else ""
    if NOTHING_FOUND.search(last) or COUNTED_NOTHING.search(said):
        return {"status": "nothing", "message": last}
    return {"status": "error", "message": last}


def _is_error(line: str) -> bool:
    """Whether a line of a traceback looks like `package.SomeError: words`."""
    name = line.split(":")[0]
    return " " not in name and name.rsplit(".", 1)[-1].endswith(
        ("Error", "Exception", "Exit", "Interrupt", "BrokenProcessPool", "Timeout")
    )


def _resources() -> dict[str, float]:
    """CPU seconds and peak memory of this process and its finished children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_memory_bytes": max(own.ru_maxrss, children.ru_maxrss) * unit,
    }


def _die_with(parent: int) -> None:
    """Kill this process group when the parent is gone, however and whenever it went."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
