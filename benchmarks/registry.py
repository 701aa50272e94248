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
    """Write the pointer of an output that is up to date, for every record and step."""
    from neuro_assets.assets.catalog import all_steps
    from neuro_assets.assets.inventory import OutputState, _ref_now
    from neuro_assets.config import LabConfig
    from neuro_assets.outcomes import Outcome
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.model import Pointer
    from neuro_assets.store.store import Store
    from neuro_assets.store.stored import Stored

    store, steps = Store(folder / "store"), all_steps(LabConfig())
    began = time.perf_counter()
    for key, record in Registry(store).all().items():
        done: dict[str, OutputState] = {}
        for step in steps:
            version = step.version([_ref_now(need.asset, record, done) for need in step.needs], key)
            pointer = Pointer(
                version=version, attempt="a", outcome=Outcome.COMPLETE, digest=version
            )
            stored = Stored(store, step.name, key, version, "a", pointer=pointer)
            done[step.name] = OutputState(key, step.name, Outcome.COMPLETE, stored=stored)
            home = folder / "store" / step.name / key
            home.mkdir(parents=True)
            (home / "current.json").write_bytes(pointer.to_json())
    print(f"outputs of {len(steps)} steps: {time.perf_counter() - began:.1f} s")


def measure(folder: Path, what: str) -> None:
    """Do one thing and print its time, with the peak of memory of this process."""
    from neuro_assets.assets.catalog import all_steps
    from neuro_assets.cli.overview import Filter, lines_of, summary
    from neuro_assets.config import LabConfig
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.store import Store

    store = Store(folder / "store")
    registry, steps = Registry(store), all_steps(LabConfig())
    keys = json.loads((folder / "keys.json").read_text())
    key = keys[KEY_AT % len(keys)]
    if what in ("idle", "change"):
        registry.refresh()
    began, cpu = time.perf_counter(), time.process_time()
    if what == "one":
        record = registry.get(key)
        assert record is not None
        print(list(lines_of(store, {key: record}, steps, {}, Filter()))[0].detail, end="; ")
    elif what == "records":
        print(len(registry.all()), end="; ")
    elif what == "idle":
        registry.refresh()
    elif what == "change":
        registry.update(key, lambda record: {"request": record.request + 1})
    elif what == "all":
        print(summary(list(lines_of(store, registry.all(), steps, {}, Filter()))), end="; ")
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
    for what in ("one", "records", "idle", "change", "all"):
        command = [sys.executable, __file__, "--folder", str(folder), "--measure", what]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
