"""Every chunk of a Zarr folder carries a checksum that plain readers compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spikeinterface as si
import zarr
from numcodecs import JSON, Delta

from neuro_assets.science.checksums import add_checksums

VALUES = {
    "floats": np.linspace(0, 1, 1000).reshape(10, 100),
    "counts": np.arange(5000, dtype=np.int64),
    "plain": np.arange(30, dtype=np.int16),
    "texts": np.array(["a", "bc"]),
    "mask": np.array([[True, False]]),
    "inner/scalar": np.array(3.5),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = zarr.open_group(str(tmp_path / "some.zarr"), mode="w")
    for name, values in VALUES.items():
        options = {"plain": {"compressor": None}, "counts": {"filters": [Delta("i8")]}}
        root.create_dataset(name, data=values, **options.get(name, {}))
    objects = root.create_dataset("objects", shape=1, dtype=object, object_codec=JSON())
    objects[0] = {"window": 3}
    zarr.consolidate_metadata(str(tmp_path / "some.zarr"))
    add_checksums(tmp_path / "some.zarr")
    return tmp_path / "some.zarr"


@pytest.mark.parametrize("opened", [zarr.open_group, zarr.open_consolidated])
def test_values_are_what_they_were(folder: Path, opened) -> None:
    root = opened(str(folder), mode="r")
    for name, values in VALUES.items():
        np.testing.assert_array_equal(root[name][()], values)
        assert root[name].dtype == values.dtype
    assert root["objects"][0] == {"window": 3}


def test_twice_is_as_once(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    add_checksums(folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*VALUES, "objects"])
def test_a_flipped_bit_is_noticed_by_any_reader(folder: Path, name: str) -> None:
    (chunk, *_) = [p for p in (folder / name).iterdir() if not p.name.startswith(".")]
    whole = chunk.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 20)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        chunk.write_bytes(damaged)
        with pytest.raises((RuntimeError, ValueError)):  # of zstd: frame or checksum
            zarr.open_group(str(folder), mode="r")[name][()]


def test_spikeinterfaces_own_zarr_reads_back(tmp_path: Path) -> None:
    _, sorting = si.generate_ground_truth_recording(durations=[5.0], num_units=4, seed=0)
    sorting.set_property("quality", ["good", "mua", "good", "good"])
    sorting.save(folder=tmp_path / "sorting.zarr", format="zarr")
    add_checksums(tmp_path / "sorting.zarr")
    back = si.read_zarr(tmp_path / "sorting.zarr")
    np.testing.assert_array_equal(back.to_spike_vector(), sorting.to_spike_vector())
    assert back.get_property("quality").tolist() == ["good", "mua", "good", "good"]
