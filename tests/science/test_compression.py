from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import spikeinterface.core as si
from places import NO_NP24, NP24
from probeinterface import generate_linear_probe

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.science.compression import codec as coding
from neuro_assets.science.compression.cbin import write_cbin
from neuro_assets.science.compression.run import compress_recording, open_compressed
from neuro_assets.science.compression.stored import StoredStream
from neuro_assets.science.compression.verify import (
    raw_files_safe_to_delete,
    why_unsafe,
)

FS = 3000.0


def file_bytes(folder: Path) -> bytes:
    """Put the stored samples back into the order of the raw file."""
    stored = StoredStream(folder, "ap")
    return b"".join(stored.read(k, 0, n).tobytes() for k, n in enumerate(stored.n_samples))


@dataclass(frozen=True)
class Stream:
    """Stand-in with the fields of science.recording.RawStream."""

    name: str
    recording: si.BaseRecording
    neural: si.BaseRecording
    sync_channel_ids: list = field(default_factory=list)
    sha1: tuple[str, ...] = ()


def samples(n_samples: int, n_channels: int = 9, dtype: str = "int16", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=20, size=(n_samples, n_channels))
    values = np.cumsum(steps, axis=0) * 0.1 + rng.normal(scale=30, size=steps.shape)
    values[:, -1] = (np.arange(n_samples) // 500 % 2) * 64  # a sync line
    return values.astype(dtype)


def write_raw(folder: Path, values: np.ndarray, name: str = "raw.bin") -> Path:
    path = folder / name
    path.write_bytes(np.ascontiguousarray(values).tobytes())
    return path


def open_stream(path: Path, n_channels: int = 9, dtype: str = "int16", **kwargs) -> Stream:
    ids = [f"AP{i}" for i in range(n_channels - 1)] + ["SY0"]
    recording = si.read_binary(
        path,
        sampling_frequency=FS,
        dtype=dtype,
        num_channels=n_channels,
        channel_ids=ids,
        gain_to_uV=2.34,
        offset_to_uV=-1.5,
    )
    neural = recording.select_channels(ids[:-1])
    probe = generate_linear_probe(n_channels - 1, ypitch=20)
    probe.set_device_channel_indices(np.arange(n_channels - 1))
    neural.set_probe(probe)
    neural.set_property("inter_sample_shift", np.arange(n_channels - 1) / 13)
    return Stream("ap", recording, neural, ["SY0"], **kwargs)


PARAMETERS = CompressionParameters()


@pytest.mark.parametrize("n_samples", [1, 2999, 3000, 3001, 7777])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_every_sample_comes_back_whatever_the_length(tmp_path, n_samples, n_jobs):
    values = samples(n_samples)
    stream = open_stream(write_raw(tmp_path, values))
    out = tmp_path / "out"
    out.mkdir()
    result = compress_recording({"ap": stream}, out, PARAMETERS, n_jobs=n_jobs)
    np.testing.assert_array_equal(si.read_zarr(out / "ap.zarr").get_traces(), values[:, :-1])
    np.testing.assert_array_equal(si.read_zarr(out / "ap_sync.zarr").get_traces(), values[:, -1:])
    assert result.metrics["n_samples"] == n_samples
    assert result.metrics["verified"] == 1
    assert result.metrics["raw_bytes"] == values.nbytes


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "uint8", ">i2"])
def test_the_type_of_the_samples_is_kept(tmp_path, dtype):
    values = np.abs(samples(4000)).astype(dtype)
    stream = open_stream(write_raw(tmp_path, values), dtype=dtype)
    compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    stored = open_compressed(tmp_path)
    assert stored.get_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(stored.get_traces(), values[:, :-1])


def test_probe_gains_shifts_ids_and_start_time_survive(tmp_path):
    stream = open_stream(write_raw(tmp_path, samples(4000)))
    stream.neural.shift_times(12.5)
    compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    stored = open_compressed(tmp_path)
    assert stored.channel_ids.tolist() == stream.neural.channel_ids.tolist()
    np.testing.assert_array_equal(stored.get_channel_gains(), 2.34)
    np.testing.assert_array_equal(stored.get_channel_offsets(), -1.5)
    np.testing.assert_array_equal(
        stored.get_property("inter_sample_shift"), stream.neural.get_property("inter_sample_shift")
    )
    np.testing.assert_array_equal(
        stored.get_channel_locations(), stream.neural.get_channel_locations()
    )
    assert stored.get_start_time() == 12.5
    assert stored.sampling_frequency == FS
    assert str(tmp_path) not in (tmp_path / "ap.zarr" / ".zattrs").read_text()


def test_explicit_times_survive(tmp_path):
    stream = open_stream(write_raw(tmp_path, samples(4000)))
    times = np.sort(np.random.default_rng(1).uniform(0, 9, 4000))
    stream.neural.set_times(times)
    compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    np.testing.assert_array_equal(open_compressed(tmp_path).get_times(), times)


def test_neural_channels_that_are_not_the_first_columns_are_stored_in_their_own_order(tmp_path):
    values = samples(4000)
    stream = open_stream(write_raw(tmp_path, values))
    ids = [f"AP{i}" for i in (5, 0, 3)]
    stream = Stream("ap", stream.recording, stream.recording.select_channels(ids))
    compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    np.testing.assert_array_equal(open_compressed(tmp_path).get_traces(), values[:, [5, 0, 3]])
    others = open_compressed(tmp_path, "ap_sync")
    assert others.channel_ids.tolist() == ["AP1", "AP2", "AP4", "AP6", "AP7", "SY0"]
    assert why_unsafe(tmp_path, "ap", stream) == ""


@pytest.mark.parametrize("n_valid", [1, 7_000, 15_000, 29_999])
def test_padding_the_last_chunk_costs_next_to_nothing(n_valid):
    values = np.ascontiguousarray(samples(30_000, 6)[:, :5].T)
    codec = coding.make_codec(values.dtype, 7, "consecutive1", 30_000)
    padded = values.copy()
    padded[:, n_valid:] = 0
    stored = coding.encode_planar(codec, padded, n_valid)
    decoded = np.asarray(codec.decode(stored)).reshape(values.shape)
    np.testing.assert_array_equal(decoded[:, :n_valid], values[:, :n_valid])
    alone = len(coding.encode_planar(codec, np.ascontiguousarray(values[:, :n_valid]), n_valid))
    assert len(stored) < alone * 1.03 + 5 * 60


def test_chunks_are_channel_major_and_read_by_the_stock_codec(tmp_path):
    import zarr

    values = samples(3000)
    compress_recording({"ap": open_stream(write_raw(tmp_path, values))}, tmp_path, PARAMETERS)
    array = zarr.open_consolidated(str(tmp_path / "ap.zarr"))["traces_seg0"]
    assert array.order == "F"
    assert array.chunks == (3000, 8)
    [codec] = array.filters
    assert codec.codec_id == "pcodec"
    raw = (tmp_path / "ap.zarr" / "traces_seg0" / "0.0").read_bytes()
    coded = array.compressor.decode(raw)
    np.testing.assert_array_equal(np.asarray(codec.decode(coded)).reshape(8, 3000), values[:, :8].T)


@pytest.mark.parametrize("name", ["traces_seg0/0.0", "channel_ids/0"])
def test_a_flipped_bit_of_a_chunk_is_noticed_by_any_reader(tmp_path, name):
    import spikeinterface as si

    raw = write_raw(tmp_path, samples(3000))
    compress_recording({"ap": open_stream(raw)}, tmp_path, PARAMETERS)
    chunk = tmp_path / "ap.zarr" / name
    whole = chunk.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        chunk.write_bytes(damaged)
        with pytest.raises((RuntimeError, ValueError)):  # of zstd: frame or checksum
            si.read_zarr(tmp_path / "ap.zarr").get_traces()


def test_the_delta_follows_the_data():
    rng = np.random.default_rng(0)
    white = rng.normal(scale=50, size=(4, 20000)).astype(np.int16)
    walk = np.cumsum(rng.integers(-3, 4, size=(4, 20000)), axis=1).astype(np.int16)
    assert coding.choose_delta(white, 7) == "none"
    assert coding.choose_delta(walk, 7) == "consecutive1"


def test_the_sha1_of_the_stored_samples_is_that_of_the_file(tmp_path):
    path = write_raw(tmp_path, samples(7001))
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    stream = open_stream(path, sha1=(sha1.upper(),))
    result = compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    assert result.metrics["sha1_matches"] == 1
    assert file_bytes(tmp_path) == path.read_bytes()


def test_a_file_that_is_not_what_its_metadata_says_is_refused_or_reported(tmp_path):
    stream = open_stream(write_raw(tmp_path, samples(3000)), sha1=("0" * 40,))
    with pytest.raises(PermanentFailure, match="SHA-1"):
        compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    kept = CompressionParameters(on_sha1_mismatch="report")
    out = tmp_path / "kept"
    out.mkdir()
    assert compress_recording({"ap": stream}, out, kept).metrics["sha1_matches"] == 0


def test_each_file_of_a_concatenated_recording_is_hashed_by_itself(tmp_path):
    paths = [write_raw(tmp_path, samples(n, seed=n), f"t{n}.bin") for n in (3500, 2700)]
    parts = [open_stream(path) for path in paths]
    recording = si.concatenate_recordings([p.recording for p in parts])
    sha1 = tuple(hashlib.sha1(path.read_bytes()).hexdigest() for path in paths)
    neural = recording.select_channels(recording.channel_ids[:-1])
    stream = Stream("ap", recording, neural, ["SY0"], sha1)
    assert compress_recording({"ap": stream}, tmp_path, PARAMETERS).metrics["sha1_matches"] == 1
    expected = np.concatenate([samples(n, seed=n) for n in (3500, 2700)])
    np.testing.assert_array_equal(open_compressed(tmp_path).get_traces(), expected[:, :-1])


def test_a_file_cut_short_after_it_was_opened_is_one_clear_failure(tmp_path):
    path = write_raw(tmp_path, samples(9000))
    stream = open_stream(path)
    os.truncate(path, 5000 * 9 * 2)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PermanentFailure, match="shorter"):
        compress_recording({"ap": stream}, out, PARAMETERS)


def test_a_file_that_goes_away_is_one_clear_failure(tmp_path):
    path = write_raw(tmp_path, samples(9000))
    stream = open_stream(path)
    path.unlink()
    with pytest.raises(PermanentFailure, match="has gone"):
        compress_recording({"ap": stream}, tmp_path, PARAMETERS)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "full"), (errno.EROFS, "no permission")]
)
def test_a_store_that_cannot_be_written_is_one_clear_failure(tmp_path, monkeypatch, number, words):
    from neuro_assets.science.compression import layout

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(layout, "put_chunk", refuse)
    stream = open_stream(write_raw(tmp_path, samples(9000)))
    with pytest.raises(PermanentFailure, match=words) as caught:
        compress_recording({"ap": stream}, tmp_path, PARAMETERS, n_jobs=2)
    assert "\n" not in str(caught.value)


def test_a_bit_that_flips_on_the_way_to_the_disk_is_found(tmp_path, monkeypatch):
    from neuro_assets.science.compression import layout

    honest = layout.put_chunk

    def flip(array, index, data):
        damaged = bytearray(data)
        if index == 1 and array.shape[1] > 1:
            damaged[-40] ^= 1
        honest(array, index, bytes(damaged))

    monkeypatch.setattr(layout, "put_chunk", flip)
    stream = open_stream(write_raw(tmp_path, samples(9000)))
    with pytest.raises((PermanentFailure, RuntimeError)):
        compress_recording({"ap": stream}, tmp_path, PARAMETERS)


def test_filtered_traces_are_not_taken_for_raw_data(tmp_path):
    from spikeinterface.preprocessing import scale

    stream = open_stream(write_raw(tmp_path, samples(3000)))
    changed = Stream("ap", stream.recording, scale(stream.neural, gain=2, dtype="int16"))
    with pytest.raises(PermanentFailure, match="raw data only"):
        compress_recording({"ap": changed}, tmp_path, PARAMETERS)


def test_a_nan_in_the_first_samples_is_a_sample_like_any_other(tmp_path):
    values = samples(3000, dtype="float32")
    values[3, 1] = np.nan
    stream = open_stream(write_raw(tmp_path, values), dtype="float32")
    compress_recording({"ap": stream}, tmp_path, PARAMETERS)
    stored = si.read_zarr(tmp_path / "ap.zarr").get_traces()
    assert stored.tobytes() == np.ascontiguousarray(values[:, : stored.shape[1]]).tobytes()


def test_only_files_whose_every_sample_is_stored_may_be_deleted(tmp_path):
    values = samples(9000)
    path = write_raw(tmp_path, values)
    compress_recording({"ap": open_stream(path)}, tmp_path, PARAMETERS)
    streams = {"ap": open_stream(path)}
    assert raw_files_safe_to_delete(tmp_path, streams, {"ap": [path]}) == [path]
    values[6500, 3] ^= 1
    write_raw(tmp_path, values)
    with pytest.raises(PermanentFailure, match="sample 6000"):
        raw_files_safe_to_delete(tmp_path, streams, {"ap": [path]})
    write_raw(tmp_path, values[:8000])
    with pytest.raises(PermanentFailure):
        raw_files_safe_to_delete(tmp_path, {"ap": open_stream(path)}, {"ap": [path]})
    assert path.exists()


def test_the_copy_alone_gives_the_raw_file_byte_for_byte(tmp_path):
    path = write_raw(tmp_path, samples(7001))
    stream = open_stream(path)
    mixed = stream.neural.select_channels([f"AP{i}" for i in (5, 0, 3)])
    compress_recording({"ap": Stream("ap", stream.recording, mixed)}, tmp_path, PARAMETERS)
    original = path.read_bytes()
    path.unlink()
    assert file_bytes(tmp_path) == original


def test_cbin_is_read_by_mtscomp_and_by_spikeinterface(tmp_path):
    import mtscomp

    values = samples(7001)
    path = write_raw(tmp_path, values)
    parameters = CompressionParameters(write_cbin=True)
    result = compress_recording({"ap": open_stream(path)}, tmp_path, parameters, n_jobs=2)
    reader = mtscomp.decompress(tmp_path / "ap.cbin", tmp_path / "ap.ch")
    np.testing.assert_array_equal(reader[:], values)
    assert reader.cmeta["sha1_uncompressed"] == hashlib.sha1(path.read_bytes()).hexdigest()
    assert result.metrics["ap_cbin_bytes"] == sum(
        (tmp_path / name).stat().st_size for name in ("ap.cbin", "ap.ch")
    )


def test_write_cbin_of_several_segments_is_refused(tmp_path):
    stream = open_stream(write_raw(tmp_path, samples(3000)))
    two = si.append_recordings([stream.recording, stream.recording])
    with pytest.raises(PermanentFailure, match="one segment"):
        write_cbin(Stream("ap", two, two), tmp_path)


def test_several_streams_and_segments_are_stored_and_summed(tmp_path):
    ap = open_stream(write_raw(tmp_path, samples(6000)))
    lf = open_stream(write_raw(tmp_path, samples(500, seed=3), "lf.bin"))
    two = si.append_recordings([ap.recording, ap.recording])
    streams = {
        "ap": Stream("ap", two, two.select_channels(two.channel_ids[:-1])),
        "lf": Stream("lf", lf.recording, lf.neural),
    }
    seen: list[float] = []
    result = compress_recording(
        streams, tmp_path, PARAMETERS, n_jobs=2, progress=lambda f, w: seen.append(f)
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
    assert result.metrics["n_samples"] == 12000
    assert result.metrics["raw_bytes"] == 12500 * 9 * 2
    assert result.tables["streams"]["stream"].tolist() == ["ap", "lf"]
    stored = open_compressed(tmp_path)
    assert stored.get_num_segments() == 2
    np.testing.assert_array_equal(stored.get_traces(segment_index=1), samples(6000)[:, :-1])
    assert not any(why_unsafe(tmp_path, name, stream) for name, stream in streams.items())


def test_an_unknown_stream_is_named_with_those_that_exist(tmp_path):
    compress_recording({"ap": open_stream(write_raw(tmp_path, samples(30)))}, tmp_path, PARAMETERS)
    with pytest.raises(PermanentFailure, match="ap, ap_sync"):
        open_compressed(tmp_path, "lf")


MEMORY_PROBE = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent / "support")]
from test_compression import compress_recording, open_stream, PARAMETERS
folder = Path(sys.argv[2])
compress_recording({"ap": open_stream(folder / "raw.bin", 385)}, folder, PARAMETERS, n_jobs=2)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for seconds in (4, 44):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        second = np.random.default_rng(0).integers(-9, 9, (int(FS), 385), dtype=np.int16)
        with (folder / "raw.bin").open("wb") as file:
            for _ in range(seconds):
                file.write(second.tobytes())
        command = [sys.executable, "-c", MEMORY_PROBE, str(Path(__file__).parent), str(folder)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(int(answer.stdout.split()[-1]) * 1024)
    # Keeping the data, or a map of it, would add the 92 MB by which the second file is longer.
    assert peaks[1] - peaks[0] < 40 * FS * 385 * 2 * 0.4


@pytest.mark.real
def test_real_neuropixels_are_stored_exactly_and_small(tmp_path):
    runs = sorted(NP24.rglob("*.ap.bin"))
    if not runs:
        pytest.skip(NO_NP24)
    for path in runs:
        meta = path.with_suffix(".meta").read_text()
        sha1 = next(line[9:] for line in meta.splitlines() if line.startswith("fileSHA1="))
        recording = si.read_binary(path, 30000.0, "int16", 385)
        neural = recording.select_channels(recording.channel_ids[:384])
        out = tmp_path / path.stem
        out.mkdir()
        stream = Stream("ap", recording, neural, [], (sha1,))
        result = compress_recording({"ap": stream}, out, PARAMETERS, n_jobs=2)
        assert result.metrics["sha1_matches"] == 1
        assert hashlib.sha1(file_bytes(out)).hexdigest() == sha1.lower()
        assert result.metrics["compression_ratio"] > 2.3
