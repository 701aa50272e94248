"""Time and memory of the registry and of `status` with many recordings.

Run: python benchmarks/registry.py [--recordings 20000] [--folder DIR]

A store is made with that many records and, for every step, an output of each. Each measurement
runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuro_assets.assets.step import StepSpec
    from neuro_assets.store.model import Manifest

KEY_AT = 12_345


def make(folder: Path, n: int) -> None:
    """Write records through the registry, and outputs directly."""
    from neuro_assets.formats.model import Identity, RawRecording, Stream
    from neuro_assets.registry.records import RecordingRecord, SessionInfo
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.store import Store

    registry = Registry(Store(folder / "store"))
    stream = Stream(
        name="ap", files=("a.ap.bin",), n_channels=385, n_samples=10**8, sampling_frequency=30000.0
    )
    began, keys = time.perf_counter(), []
    for start in range(0, n, 1000):
        records = []
        for i in range(start, min(start + 1000, n)):
            subject, day = f"M{i // 200:04d}", date(2020, 1, 1) + timedelta(days=i % 200)
            identity = Identity(
                probe_serial=str(i),
                created=datetime(2020, 1, 1),
                first_sample=i,
                size_bytes=77 * 10**9,
            )
            recording = RawRecording(
                format="spikeglx", probe="probe00", streams={"ap": stream}, identity=identity
            )
            session = SessionInfo(
                subject=subject, date=day, number="1", root="rig", path=f"{subject}/{day}/001"
            )
            records.append(
                RecordingRecord(
                    key=f"{subject}_{day:%Y%m%d}_1_probe00",
                    session=session,
                    recording=recording,
                    raw_version=f"{i:016x}",
                    requested=f"{i:016x}",
                    reported=f"{i:016x}",
                )
            )
        registry.transact(lambda index, new=records: [index.put(record) for record in new])
        keys += [record.key for record in records]
    print(f"{n} records in batches of 1000: {time.perf_counter() - began:.1f} s")
    (folder / "keys.json").write_text(json.dumps(keys))


def outputs(folder: Path) -> None:
    """Write an output of every step for each record, as a lab has them.

    Of twenty recordings one has a skipped output, one has an output made with other parameters,
    and one waits after its first steps; of a hundred one failed.
    """
    from neuro_assets.assets.inventory import OutputState, _ref_now
    from neuro_assets.outcomes import Outcome
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.model import Manifest
    from neuro_assets.store.store import Store
    from neuro_assets.store.stored import Stored

    store, steps = Store(folder / "store"), lab_steps()
    began = time.perf_counter()
    for i, (key, record) in enumerate(Registry(store).all().items()):
        done: dict[str, OutputState] = {}
        for place, step in enumerate(steps):
            if i % 20 == 3 and place > 4:
                break
            refs = [_ref_now(need.asset, record, done) for need in step.needs]
            version = step.version(refs, step.home(record), record)
            outcome, values = Outcome.COMPLETE, step.values(key, record)
            if i % 20 == 1 and step.name == "lfp":
                outcome = Outcome.SKIPPED
            is_old = i % 20 == 2 and step.name == "motion"
            if is_old:
                values = {**values, "bin_s": -1.0}
            manifest = Manifest(
                asset=step.name, key=key, attempt="a", outcome=outcome, digest=version, turn=1,
                version=f"{i:016x}" if is_old else version,
                code_version=step.code_version, parameters=values, inputs=refs, clock=step.clock,
                packages=step.releases,
                skip={"reason": "no_lfp_band", "detail": "d"} if outcome is not Outcome.COMPLETE
                else None,
            )  # fmt: skip
            write(folder / "store" / step.name / key, manifest, "current.json")
            stored = Stored(store, step.name, key, manifest.version, "a", manifest)
            done[step.name] = OutputState(key, step.name, outcome, stored=stored)
        if i % 100 == 5:
            error = {"type": "PermanentFailure", "message": "the probe has no channel map"}
            update = {"outcome": Outcome.FAILED, "error": error, "turn": 2, "attempt": "b"}
            write(
                folder / "store" / step.name / key,
                manifest.model_copy(update=update), "failure.json",
            )  # fmt: skip
    print(f"outputs of {len(steps)} steps: {time.perf_counter() - began:.1f} s")


def write(home: Path, manifest: Manifest, name: str) -> None:
    """Write a pointer and, where `status` reads it, the manifest; as the store, without a sync."""
    from neuro_assets.store.model import MANIFEST, Pointer

    home.mkdir(parents=True, exist_ok=True)
    if manifest.version != manifest.digest or manifest.skip or manifest.error:
        attempt = home / manifest.version / manifest.attempt
        attempt.mkdir(parents=True)
        (attempt / MANIFEST).write_bytes(manifest.to_json())
    pointer = Pointer(
        version=manifest.version, attempt=manifest.attempt, outcome=manifest.outcome,
        digest=manifest.digest, turn=manifest.turn,
    )  # fmt: skip
    (home / name).write_bytes(pointer.to_json())


def lab_steps() -> list[StepSpec]:
    """List the steps of a lab with two sorter sets."""
    from neuro_assets.assets.catalog import all_steps
    from neuro_assets.config import LabConfig

    sorters = [{"name": "tridesclous2"}, {"name": "spykingcircus2"}]
    return all_steps(LabConfig.model_validate({"sorters": sorters}))


def measure(folder: Path, what: str) -> None:
    """Do one thing and print its time, with the peak of memory of this process."""
    from neuro_assets.assets.inventory import inventory
    from neuro_assets.assets.overview import Filter, line_of, summary
    from neuro_assets.assets.overview_lines import lines_of
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.store import Store

    store = Store(folder / "store")
    registry, steps = Registry(store), lab_steps()
    keys = json.loads((folder / "keys.json").read_text())
    key = keys[KEY_AT % len(keys)]
    if what in ("idle", "change"):
        registry.refresh()
    began, cpu = time.perf_counter(), time.process_time()
    if what == "one":
        record = registry.get(key)
        assert record is not None
        print(line_of(record, inventory(store, {key: record}, steps)).detail, end="; ")
    elif what == "records":
        print(len(registry.all()), end="; ")
    elif what == "idle":
        registry.refresh()
    elif what == "change":
        registry.update(key, lambda record: {"request": record.request + 1})
    elif what in ("cold", "warm"):
        lines = lines_of(store, registry.all(), steps, {}, Filter(), folder / "memory")
        print(summary(list(lines)), end="; ")
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {seconds:.3f} s, {cpu:.3f} s CPU, peak {peak:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", default="")
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure)
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="registry-"))
    make(folder, options.recordings)
    outputs(folder)
    print(f"load {os.getloadavg()[0]:.1f}")
    for what in ("one", "records", "idle", "change", "cold", "warm"):
        command = [sys.executable, __file__, "--folder", str(folder), "--measure", what]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
