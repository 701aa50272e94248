"""Compression of real Neuropixels 2.0 data against mtscomp and WavPack, in pairs of one run.

`python -m benchmarks.compression --help`. Two real runs of half a second, one after the other,
make one second; that second is repeated, and every codec gets chunks of 1 s on its borders (one
run repeated inside a chunk would give zlib a trick of its own). Sizes are of all stored bytes,
sync channel and metadata included. Every codec writes as its users do: ours verifies bit by bit,
mtscomp checks as by default, WavPack's Zarr codec does neither.

WavPack is measured where `wavpack_numcodecs` can be imported (`--extra-path` names a folder that
holds it); it is not a dependency.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

FS = 30_000
N_CHANNELS = 385
HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = Path(os.environ.get("NEURO_ASSETS_REAL_DATA", HERE.parents[1] / "shared" / "data"))
WANTED = {
    "ratio_over_mtscomp": (1.30, "at least"),
    "ratio_over_wavpack": (1.0, "at least"),
    "write_over_mtscomp": (10.0, "at least"),
    "read_over_mtscomp": (8.0, "at least"),
    "realtime_factor": (3.0, "at least"),
    "peak_memory_gb": (1.5, "at most"),
}
"""What the figures have to reach."""


def real_runs() -> list[Path]:
    """List run 1 and run 2, where they are on this machine."""
    return sorted((DATA / "spikeglx_np24_spikewrap").rglob("*.ap.bin"))[:2]


def real_second() -> np.ndarray:
    """Read run 1 followed by run 2: one second, samples x 385."""
    runs = [np.fromfile(path, np.int16).reshape(-1, N_CHANNELS) for path in real_runs()]
    return np.concatenate(runs)


def write_raw(second: np.ndarray, seconds: int, path: Path) -> int:
    """Repeat the second; bytes written."""
    with path.open("wb") as file:
        for _ in range(seconds):
            file.write(second.tobytes())
    return path.stat().st_size


def open_stream(path: Path) -> Any:
    """Open the repeated file as the platform opens the real one: same ids, gains and probe."""
    from spikeinterface.core import read_binary

    from neuro_assets.formats import scan_session
    from neuro_assets.formats.opening import open_raw
    from neuro_assets.formats.stream import RawStream

    real = real_runs()[0].parents[1]
    template = open_raw(scan_session(real).recordings[0], real)["ap"]
    ids = template.recording.channel_ids
    recording = read_binary(path, float(FS), "int16", N_CHANNELS, channel_ids=ids)
    template.recording.copy_metadata(recording)
    neural = recording.select_channels(template.neural.channel_ids)
    template.neural.copy_metadata(neural)
    return RawStream("ap", recording, neural, template.sync_channel_ids)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Codec:
    """One way to store the raw file."""

    name = ""

    def __init__(self, raw: Path, folder: Path, threads: int) -> None:
        self.raw, self.folder, self.threads = raw, folder, threads
        self.seconds = raw.stat().st_size // (2 * N_CHANNELS * FS)

    def write(self) -> None:
        """Write the whole raw file into the folder."""
        raise NotImplementedError

    def second(self, index: int) -> int:
        """Read one second of all neural channels; bytes decoded."""
        raise NotImplementedError

    def open(self) -> None:
        """Prepare reading."""

    def read(self) -> int:
        """Read everything, a second at a time, on as many threads; bytes decoded."""
        self.open()
        with ThreadPoolExecutor(self.threads) as pool:
            return sum(pool.map(self.second, range(self.seconds)))


class Ours(Codec):
    """The platform's own pass, verification included."""

    name = "neuro_assets"

    def write(self) -> None:  # noqa: D102
        from neuro_assets.parameters.compression import CompressionParameters
        from neuro_assets.science.compression.run import compress_recording

        stream = open_stream(self.raw)
        parameters = CompressionParameters()
        compress_recording({"ap": stream}, self.folder, parameters, n_jobs=self.threads)

    def open(self) -> None:  # noqa: D102
        from neuro_assets.science.compression.run import open_compressed

        self.recording = open_compressed(self.folder)

    def second(self, index: int) -> int:  # noqa: D102
        start = index * FS
        return self.recording.get_traces(start_frame=start, end_frame=start + FS).nbytes


class Mtscomp(Codec):
    """IBL's format, with its own check as by default."""

    name = "mtscomp"

    def write(self) -> None:  # noqa: D102
        import mtscomp

        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            mtscomp.compress(
                self.raw,
                self.folder / "raw.cbin",
                self.folder / "raw.ch",
                sample_rate=float(FS),
                n_channels=N_CHANNELS,
                dtype="int16",
                n_threads=self.threads,
                quiet=True,
            )

    def open(self) -> None:  # noqa: D102
        import mtscomp

        self.reader = mtscomp.Reader(n_threads=self.threads, cache_size=1)
        self.reader.open(self.folder / "raw.cbin", self.folder / "raw.ch")

    def second(self, index: int) -> int:  # noqa: D102
        start = index * FS
        return self.reader[start : start + FS].nbytes


class WavPack(Codec):
    """WavPack's Zarr codec with its defaults; nothing is checked."""

    name = "WavPack"

    def write(self) -> None:  # noqa: D102
        import zarr
        from wavpack_numcodecs import WavPack as Coder

        array = zarr.open(
            str(self.folder / "raw.zarr"),
            mode="w",
            shape=(self.seconds * FS, N_CHANNELS),
            chunks=(FS, N_CHANNELS),
            dtype="int16",
            compressor=Coder(),
        )
        raw = np.memmap(self.raw, np.int16, "r").reshape(-1, N_CHANNELS)

        def put(index: int) -> None:
            array[index * FS : (index + 1) * FS] = raw[index * FS : (index + 1) * FS]

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(put, range(self.seconds)))

    def open(self) -> None:  # noqa: D102
        import zarr

        self.array = zarr.open(str(self.folder / "raw.zarr"), mode="r")

    def second(self, index: int) -> int:  # noqa: D102
        return self.array[index * FS : (index + 1) * FS].nbytes


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run something; its result, wall seconds, CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(codec: type[Codec], raw: Path, scratch: Path, threads: int) -> dict[str, float]:
    """Write and read once."""
    folder = scratch / codec.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    one = codec(raw, folder, threads)
    megabytes = raw.stat().st_size / 1e6
    _, write_s, write_cpu = timed(one.write)
    n_bytes, read_s, read_cpu = timed(one.read)
    return {
        "ratio": raw.stat().st_size / folder_bytes(folder),
        "write_mb_s": megabytes / write_s,
        "write_mb_cpu_s": megabytes / write_cpu,
        "read_mb_s": n_bytes / 1e6 / read_s,
        "read_mb_cpu_s": n_bytes / 1e6 / read_cpu,
    }


def pairs(
    codecs: list[type[Codec]], raw: Path, scratch: Path, threads: int, repeats: int
) -> dict[str, list[dict[str, float]]]:
    """Measure every codec once a round, in turning order, so that a disturbance hits all."""
    rounds: dict[str, list[dict[str, float]]] = {codec.name: [] for codec in codecs}
    for number in range(repeats):
        turn = number % len(codecs)
        for codec in [*codecs[turn:], *codecs[:turn]]:
            rounds[codec.name].append(measure(codec, raw, scratch, threads))
    return rounds


def whole_asset(raw: Path, scratch: Path, threads: int) -> float:
    """Seconds of recording a second for read, compress, verify and hash as a commit does."""
    folder = scratch / "asset"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    one = Ours(raw, folder, threads)

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def work() -> None:
        one.write()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(digest, [path for path in folder.rglob("*") if path.is_file()]))

    return one.seconds / timed(work)[1]


def own_peak() -> int:
    """Peak resident bytes of this process since it began.

    `ru_maxrss` will not do on Linux: a child begins with its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_memory_gb(second: np.ndarray, scratch: Path, threads: int, seconds: int) -> float:
    """Peak resident memory of a process that compresses so many seconds."""
    raw, folder = scratch / f"long{seconds}.bin", scratch / f"memory{seconds}"
    write_raw(second, seconds, raw)
    folder.mkdir()
    code = (
        "import sys; from pathlib import Path; from benchmarks.compression import Ours, own_peak;"
        "Ours(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).write(); print(own_peak())"
    )
    command = [sys.executable, "-c", code, str(raw), str(folder), str(threads)]
    answer = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
    raw.unlink()
    shutil.rmtree(folder)
    return int(answer.stdout.split()[-1]) / 1e9


def figures(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of the ratios of each round: both sides of a ratio saw the same machine."""
    ours = rounds[Ours.name]
    result: dict[str, Any] = {}
    for name, title in ((Mtscomp.name, "mtscomp"), (WavPack.name, "wavpack")):
        for key, short in (
            ("ratio", "ratio"),
            ("write_mb_s", "write"),
            ("write_mb_cpu_s", "write_cpu"),
            ("read_mb_s", "read"),
            ("read_mb_cpu_s", "read_cpu"),
        ):
            if name in rounds:
                values = [a[key] / b[key] for a, b in zip(ours, rounds[name], strict=True)]
                result[f"{short}_over_{title}"] = statistics.median(values)
                result[f"{short}_over_{title}_range"] = [min(values), max(values)]
    return result


def table(rounds: dict[str, list[dict[str, float]]], result: dict[str, Any]) -> str:
    """Put the measured numbers, and what they had to reach, into text."""
    lines = [f"{'codec':14}{'ratio':>8}{'write MB/s':>12}{'read MB/s':>12}"]
    for name, values in rounds.items():
        ratio, write, read = (
            statistics.median(v[key] for v in values)
            for key in ("ratio", "write_mb_s", "read_mb_s")
        )
        lines.append(f"{name:14}{ratio:8.3f}{write:12.1f}{read:12.1f}")
    if WavPack.name not in rounds:
        lines.append(f"{WavPack.name:14}    not installed here (wavpack_numcodecs)")
    lines.append("")
    for key, (limit, how) in WANTED.items():
        if key not in result:
            lines.append(f"{key:22}     absent")
            continue
        met = result[key] >= limit if how == "at least" else result[key] <= limit
        span = result.get(f"{key}_range")
        spread = f"  ({span[0]:.2f} to {span[1]:.2f})" if span else ""
        word = "met" if met else "NOT MET"
        lines.append(f"{key:22}{result[key]:9.3f}  {how} {limit:g}: {word}{spread}")
    return "\n".join(lines)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-seconds", type=int, nargs=2, default=[10, 40])
    parser.add_argument("--extra-path", type=Path, help="folder with wavpack_numcodecs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep everything as JSON."""
    chosen = _arguments(arguments)
    if chosen.extra_path:
        sys.path.append(str(chosen.extra_path))
    if len(real_runs()) < 2:
        print(f"skipped: the real Neuropixels 2.0 runs are not in {DATA}")
        return
    second = real_second()
    codecs: list[type[Codec]] = [Ours, Mtscomp]
    with contextlib.suppress(ImportError, RuntimeError):
        import wavpack_numcodecs  # noqa: F401

        codecs.append(WavPack)
    with tempfile.TemporaryDirectory(prefix="bench_compression_") as name:
        scratch = Path(name)
        raw = scratch / "raw.bin"
        write_raw(second, chosen.seconds, raw)
        # The first round pays for imports and cold pages; it is not counted.
        pairs(codecs, raw, scratch, chosen.threads, 1)
        rounds = pairs(codecs, raw, scratch, chosen.threads, chosen.repeats)
        result = figures(rounds)
        factors = [whole_asset(raw, scratch, chosen.threads) for _ in range(chosen.repeats)]
        result["realtime_factor"] = statistics.median(factors)
        result["realtime_factor_range"] = [min(factors), max(factors)]
        peaks = [peak_memory_gb(second, scratch, chosen.threads, n) for n in chosen.memory_seconds]
        result["peak_memory_gb"] = max(peaks)
    result |= {
        "peak_memory_gb_by_seconds": dict(zip(chosen.memory_seconds, peaks, strict=True)),
        "rounds": rounds,
        "seconds": chosen.seconds,
        "threads": chosen.threads,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    text = table(rounds, result)
    (RESULTS / "compression.json").write_text(json.dumps(result, indent=2))
    (RESULTS / "compression.txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
