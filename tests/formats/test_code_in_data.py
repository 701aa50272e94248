"""Poisoned data: each would run a program when it is opened, and none does."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import spikeinterface as si
import zarr

from neuro_assets.formats.broken import Broken
from neuro_assets.formats.code_in_data import SAFE_CODECS, refuse_code
from neuro_assets.formats.generic_open import call_reader
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store import FileEntry, Manifest, Store
from neuro_assets.store.output_files import check_opens


class Poison:
    """Unpickled, it makes a folder: the proof that something ran."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.proof,)


def small() -> Any:
    return si.generate_recording(num_channels=4, durations=[0.1], sampling_frequency=30_000.0)


def zarr_recording(folder: Path) -> Path:
    path = folder / "ap.zarr"
    small().save(format="zarr", folder=path, verbose=False, n_jobs=1, progress_bar=False)
    return path


def zarr_property(folder: Path, proof: Path) -> Path:
    """A property with numcodecs' object codec `pickle`, as SpikeInterface reads it."""
    path = zarr_recording(folder)
    values = np.array([Poison(proof)] * 4, dtype=object)
    zarr.open_group(str(path), mode="a")["properties"].create_dataset(
        "poison", data=values, object_codec=numcodecs.Pickle()
    )
    zarr.consolidate_metadata(str(path))
    return path


def zarr_hidden_in_consolidated(folder: Path, proof: Path) -> Path:
    """The array's own metadata are harmless; the consolidated ones are what is read."""
    path = zarr_property(folder, proof)
    own = path / "properties" / "poison" / ".zarray"
    own.write_text(json.dumps({**json.loads(own.read_text()), "filters": [{"id": "json2"}]}))
    return path


def binary_folder(folder: Path, proof: Path) -> Path:
    """A SpikeInterface folder with a pickled property."""
    path = folder / "saved"
    recording = small()
    recording.save(format="binary", folder=path, verbose=False, n_jobs=1, progress_bar=False)
    (path / "properties").mkdir(exist_ok=True)
    values = np.array([Poison(proof)] * 4, dtype=object)
    np.save(path / "properties" / "poison.npy", values, allow_pickle=True)
    return path


def bare_pickle_as_npy(folder: Path, proof: Path) -> Path:
    """NumPy takes a file without its header for a pickle."""
    path = binary_folder(folder, proof)
    (path / "properties" / "poison.npy").write_bytes(pickle.dumps(Poison(proof)))
    return path


OPENED: list[tuple[Callable[[Path, Path], Path], str]] = [
    (zarr_property, "zarr"),
    (zarr_hidden_in_consolidated, "zarr"),
    (binary_folder, "binaryfolder"),
    (bare_pickle_as_npy, "binaryfolder"),
]


@pytest.mark.parametrize(
    ("make", "reader"), OPENED, ids=lambda each: getattr(each, "__name__", each)
)
def test_raw_data_that_hold_a_program_are_refused_and_it_does_not_run(
    tmp_path: Path, make: Callable[[Path, Path], Path], reader: str
) -> None:
    proof = tmp_path / "ran"
    path = make(tmp_path, proof)
    with pytest.raises(Broken, match="would run code from the file") as caught:
        call_reader(reader, None, {}, path)
    assert caught.value.kind == "runs_code"
    assert not proof.exists()


def test_the_poison_works_where_nobody_looks(tmp_path: Path) -> None:
    """Else the tests here would prove nothing."""
    proof = tmp_path / "ran"
    si.load(binary_folder(tmp_path, proof))
    assert proof.exists()


@pytest.mark.parametrize("make", [each for each, _ in OPENED], ids=lambda each: each.__name__)
def test_a_step_cannot_commit_a_program(tmp_path: Path, make: Callable[[Path, Path], Path]) -> None:
    proof, folder = tmp_path / "ran", tmp_path / "output"
    folder.mkdir()
    make(folder, proof)
    with pytest.raises(PermanentFailure, match="would run code"):
        check_opens(folder, ".zarr", "asset")
    assert not proof.exists()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), scratch=tmp_path / "scratch")


@pytest.mark.parametrize("make", [each for each, _ in OPENED], ids=lambda each: each.__name__)
def test_a_poisoned_store_runs_nothing(
    tmp_path: Path, store: Store, make: Callable[[Path, Path], Path]
) -> None:
    """Whoever can write into the store replaces files and manifest; the reader runs none."""
    proof = tmp_path / "ran"
    with store.attempt("asset", "key", "aa") as attempt:
        (attempt.folder / "harmless").write_bytes(b"1")
        manifest = Manifest(asset="asset", key="key", version="aa", outcome=Outcome.COMPLETE)
        folder = attempt.commit(manifest).local()
    name = make(folder, proof).name
    files = [
        FileEntry(path=str(each.relative_to(folder)), size=each.stat().st_size, sha256="0" * 64)
        for each in folder.rglob("*")
        if each.is_file() and each.name != "manifest.json"
    ]
    stored = store.current("asset", "key")
    assert stored is not None
    forged = stored.manifest.model_copy(update={"files": files})
    (folder / "manifest.json").write_bytes(forged.to_json())
    stored = store.stored("asset", "key", stored.version, stored.attempt)
    for read in (stored.local, lambda: stored.file(name)):
        with pytest.raises(PermanentFailure, match="would run code"):
            read()
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.zarr/x/.zarray", b"{not json", "is not JSON"),
        (
            "a.zarr/.zattrs",
            b'{"zarr_class_info": {"class": "subprocess.Popen"}}',
            "names the class",
        ),
        ("a/si_folder.json", b'{"class": "os.system", "kwargs": {}}', "names the class"),
        (
            "a.zarr/recording/.zarray",
            b'{"dtype": "|O", "filters": [{"id": "json2"}]}',
            "as a Python",
        ),
        ("a.zarr/x/.zarray", b'{"compressor": {"id": "own_codec"}}', "names the codec"),
        ("a.zarr/.zgroup", b"{}", None),
        ("a/meta.json", b"{not json", None),
        ("a.zarr/.zattrs", b'{"class": "spikeinterface.core.BinaryFolderRecording"}', None),
        ("a.zarr/.zattrs", b'{"unit": {"id": "pickle"}}', None),
    ],
)
def test_what_is_refused_by_its_metadata(
    tmp_path: Path, name: str, content: bytes, fault: str | None
) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if fault is None:
        refuse_code(tmp_path / "data")
        return
    with pytest.raises(PermanentFailure, match=fault):
        refuse_code(tmp_path / "data")


def test_every_codec_of_numcodecs_but_the_one_that_runs_code_is_read() -> None:
    assert set(numcodecs.registry.codec_registry) - SAFE_CODECS <= {"pickle", "n5_wrapper"}


def test_pickles_count_where_a_reader_might_take_them(tmp_path: Path) -> None:
    (tmp_path / "analysis.pkl").write_bytes(b"notes of a person beside the raw data")
    np.savez(tmp_path / "plain.npz", a=np.arange(3))
    refuse_code(tmp_path)
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(PermanentFailure, match=r"objects\.npz .*Python objects"):
        refuse_code(tmp_path)
    (tmp_path / "objects.npz").unlink()
    shutil.copytree(zarr_recording(tmp_path), tmp_path / "b.zarr")
    with pytest.raises(PermanentFailure, match=r"analysis\.pkl is a pickle"):
        refuse_code(tmp_path)
