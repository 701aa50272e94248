"""What may be deleted of the raw data: each guard holds alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from header_folders import intan, neuroscope
from spikeglx_files import samples, write

from neuro_assets.formats.modalities import RawFiles
from neuro_assets.formats.model import Wiring
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.raw_versions import raw_version
from neuro_assets.formats.scan import scan_session
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.registry import raw_deletion
from neuro_assets.registry.raw_deletion import (
    COMPRESSED_RECORDING,
    deletable_files,
    delete_files,
)
from neuro_assets.registry.records import RawData, RecordingRecord, SessionInfo
from neuro_assets.science.compression.run import compress_recording
from neuro_assets.store import InputRef, Manifest, Store

KEY, OTHER = "M1_20240512_1_probe00", "M1_20240512_1_probe01"
NAME = "run_g0/run_g0_t0.imec0.ap.bin"


@dataclass
class Case:
    """A source with one session, its registry and its store."""

    root: Path
    store: Store
    records: dict[str, RecordingRecord]
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.root / "M1" / NAME

    def ask(self, key: str = KEY, **roots: str) -> list[Any]:
        registry: Any = SimpleNamespace(
            get=self.records.get, all=lambda: self.records, damaged=self.damaged
        )
        return deletable_files(self.store, registry, key, roots or {"local": str(self.root)})

    def commit(self, key: str = KEY, version: str | None = None) -> Any:
        record = self.records[key]
        folder = record.session.folder({"local": str(self.root)})
        with self.store.attempt(COMPRESSED_RECORDING, key, "aa") as attempt:
            compress_recording(
                open_raw(record.raw, folder), attempt.folder, CompressionParameters()
            )
            raw = InputRef(
                asset="raw_recording", version=version or raw_version(record.raw, folder)
            )
            return attempt.commit(
                Manifest(
                    asset=COMPRESSED_RECORDING, key=key, version="aa", inputs=[raw],
                    outcome=Outcome.COMPLETE,
                )
            )  # fmt: skip

    def add(self, key: str, **changes: Any) -> None:
        self.records[key] = self.records[KEY].model_copy(update={"key": key, **changes})


@pytest.fixture
def case(tmp_path: Path) -> Case:
    root = tmp_path / "sessions"
    write(root / "M1" / NAME, 3000)
    [recording] = scan_session(root / "M1").recordings
    session = SessionInfo(
        subject="M1", date=date(2024, 5, 12), number="1", source="local", root="local", path="M1"
    )
    record = RecordingRecord(key=KEY, session=session, recording=recording)
    return Case(root, Store(str(tmp_path / "store"), scratch=tmp_path / "scratch"), {KEY: record})


def test_a_file_whose_every_sample_is_stored_may_go(case: Case) -> None:
    case.commit()
    files = case.ask()
    assert [each.path for each in files] == [case.file]
    assert case.file.exists()
    delete_files(case.store, KEY, files)
    assert not case.file.exists()
    assert case.file.with_suffix(".meta").exists()


@pytest.mark.parametrize(
    ("program", "options", "reader", "may_go"),
    [
        (neuroscope, {}, "neuroscope", ["amp.dat"]),
        (intan, {"stream_name": "RHD2000 amplifier channel"}, "intan", ["amplifier.dat"]),
    ],
)
def test_what_lies_beside_the_samples_of_a_reader_stays(
    case: Case, program: Any, options: Any, reader: str, may_go: list[str]
) -> None:
    header = program(case.root / "M2", samples(3000, 1, 4))
    # As long as the samples, and in no copy.
    (case.root / "M2/auxiliary.dat").write_bytes(samples(3000, 2, 4).tobytes())
    entry = ReaderEntry(
        glob=header.name,
        reader=reader,
        options=options,
        wiring=Wiring(positions_um=((0, 0), (25, 0), (0, 25), (25, 25))),
    )
    [recording] = scan_session(case.root / "M2", [entry]).recordings
    files = (*recording.main.files, "auxiliary.dat")
    wide = recording.main.model_copy(update={"files": files, "sizes": ()})
    recording = recording.model_copy(update={"streams": {"wideband": wide}})
    session = case.records[KEY].session.model_copy(update={"path": "M2"})
    case.add(OTHER, recording=recording, session=session)
    case.commit(OTHER)
    assert [each.path.name for each in case.ask(OTHER)] == may_go


def test_of_a_file_that_holds_more_than_the_samples_nothing_goes(case: Case) -> None:
    (case.root / "M2").mkdir()
    (case.root / "M2/a.raw").write_bytes(b"noted" + bytes(3) + samples(3000, 1, 4).tobytes())
    options = {"sampling_frequency": 15000.0, "num_channels": 4, "dtype": "int16"}
    entry = ReaderEntry(
        glob="*.raw",
        reader="binary",
        options={**options, "file_offset": 8},
        gain_uv=1.0,
        wiring=Wiring(positions_um=((0, 0), (25, 0), (0, 25), (25, 25))),
    )
    [recording] = scan_session(case.root / "M2", [entry]).recordings
    session = case.records[KEY].session.model_copy(update={"path": "M2"})
    case.add(OTHER, recording=recording, session=session)
    case.commit(OTHER)
    with pytest.raises(PermanentFailure, match="nothing can be deleted"):
        case.ask(OTHER)


class Cut(Exception):
    """The process was killed here."""


@pytest.fixture
def cut(case: Case, monkeypatch: pytest.MonkeyPatch) -> tuple[Case, list[Path]]:
    """A deletion of two files that was killed after the first."""
    case.commit()
    second = case.file.with_name("more.bin")
    second.write_bytes(b"more")
    [first] = case.ask()
    more = replace(first, path=second, stamp=raw_deletion._stamp(second))
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path == second:
            raise Cut
        unlink(path, missing_ok)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Path, "unlink", killed)
        delete_files(case.store, KEY, [first, more])
    assert second.exists() and not case.file.exists()
    return case, [second]


def test_a_deletion_that_was_cut_can_be_finished(
    cut: tuple[Case, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, left = cut
    files = case.ask()
    assert [file.path for file in files] == left
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Path, "unlink", Mock(side_effect=Cut))
        delete_files(case.store, KEY, files)
    assert case.ask() == files, "cut again"
    delete_files(case.store, KEY, files)
    assert not left[0].exists()
    with pytest.raises(PermanentFailure, match="is not there"):
        case.ask()


@pytest.mark.parametrize("what", ["changed", "copy", "damaged", "shared"])
def test_what_made_a_cut_deletion_safe_must_still_be_so(
    cut: tuple[Case, list[Path]], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, left = cut
    stored = case.store.current(COMPRESSED_RECORDING, KEY)
    assert stored is not None
    match = {"changed": "is not there", "copy": "another copy counts now",
             "damaged": "is damaged", "shared": "needs a file that is left"}[what]  # fmt: skip
    if what == "changed":
        left[0].write_bytes(b"other data")
    elif what == "copy":
        with case.store.attempt(COMPRESSED_RECORDING, KEY, "bb") as attempt:
            (attempt.folder / "a").write_bytes(b"a")
            attempt.commit(
                Manifest(asset=COMPRESSED_RECORDING, key=KEY, version="bb",
                         outcome=Outcome.COMPLETE, turn=1)
            )  # fmt: skip
    elif what == "damaged":
        next(path for path in stored.local().rglob("*") if path.is_file()
             and path.name != "manifest.json").write_bytes(b"x")  # fmt: skip
    else:
        other = case.records[KEY]
        monkeypatch.setattr(raw_deletion, "_sharing", lambda *_: [other])
    with pytest.raises(PermanentFailure, match=match):
        case.ask()
    assert left[0].exists()


def test_files_that_are_gone_without_a_note_have_a_line_that_says_what_to_do(case: Case) -> None:
    case.commit()
    case.file.unlink()
    with pytest.raises(PermanentFailure, match=r"is not there .*copy it back, or see that `neuro"):
        case.ask()


def test_an_unknown_recording_is_refused(case: Case) -> None:
    with pytest.raises(PermanentFailure, match="not in the registry"):
        case.ask("nobody")


def test_without_a_complete_copy_nothing_goes(case: Case) -> None:
    with pytest.raises(PermanentFailure, match="no complete compressed_recording"):
        case.ask()
    skip = {"reason": "recording_too_short", "detail": "", "origin": None}
    with case.store.attempt(COMPRESSED_RECORDING, KEY, "bb") as attempt:
        attempt.commit(
            Manifest(
                asset=COMPRESSED_RECORDING,
                key=KEY,
                version="bb",
                outcome=Outcome.SKIPPED,
                skip=skip,
            )
        )
    with pytest.raises(PermanentFailure, match="no complete compressed_recording"):
        case.ask()


def test_a_copy_of_other_raw_data_is_not_enough(case: Case) -> None:
    case.commit(version="0123456789abcdef")
    with pytest.raises(PermanentFailure, match="changed after they were compressed"):
        case.ask()


def test_a_damaged_copy_is_not_enough(case: Case) -> None:
    stored = case.commit()
    [chunk] = (stored.local() / "ap.zarr" / "traces_seg0").glob("0.0")
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(PermanentFailure, match="is damaged"):
        case.ask()


def test_a_copy_with_one_other_sample_is_not_enough(case: Case) -> None:
    """Copy and manifest agree with each other, and with the version, but not with the file."""
    values = samples(3000)
    values[2500, 1] ^= 1
    true = case.file.read_bytes()
    meta = case.file.with_suffix(".meta").read_text()
    case.file.write_bytes(values.tobytes())
    folder = case.root / "M1"
    version = None
    with case.store.attempt(COMPRESSED_RECORDING, KEY, "aa") as attempt:
        streams = open_raw(case.records[KEY].raw, folder)
        streams = {name: replace(each, sha1=()) for name, each in streams.items()}
        compress_recording(streams, attempt.folder, CompressionParameters())
        case.file.write_bytes(true)
        assert case.file.with_suffix(".meta").read_text() == meta
        version = raw_version(case.records[KEY].raw, folder)
        attempt.commit(
            Manifest(
                asset=COMPRESSED_RECORDING, key=KEY, version="aa", outcome=Outcome.COMPLETE,
                inputs=[InputRef(asset="raw_recording", version=version)],
            )
        )  # fmt: skip
    with pytest.raises(PermanentFailure, match="differs from sample"):
        case.ask()


def test_a_file_that_another_recording_has_no_copy_of_stays(case: Case) -> None:
    """Two probes in one file (NWB): the copy of the first has nothing of the second."""
    case.commit()
    case.add(OTHER)
    with pytest.raises(PermanentFailure, match=rf"{OTHER} needs files of {KEY} too"):
        case.ask()
    case.commit(OTHER)
    assert [each.path for each in case.ask()] == [case.file]


def test_while_a_record_cannot_be_read_nothing_goes(case: Case) -> None:
    case.commit()
    case.damaged[OTHER] = "cut short"
    with pytest.raises(PermanentFailure, match=f"records of {OTHER} cannot be read"):
        case.ask()


def test_a_hard_link_under_another_name_is_the_same_file(case: Case) -> None:
    case.commit()
    twin = case.root / "M2" / NAME
    twin.parent.mkdir(parents=True)
    os.link(case.file, twin)
    os.link(case.file.with_suffix(".meta"), twin.with_suffix(".meta"))
    session = case.records[KEY].session.model_copy(update={"path": "M2", "subject": "M2"})
    case.add(OTHER, session=session)
    with pytest.raises(PermanentFailure, match=f"{OTHER} needs files"):
        case.ask()


def test_a_file_that_another_modality_reads_stays(case: Case) -> None:
    case.commit()
    item = RawFiles(format="task", files=(NAME,))
    case.add(KEY, modalities={"behavior": RawData(item=item, version="v")})
    with pytest.raises(PermanentFailure, match="reads one of the files as behavior"):
        case.ask()


@pytest.mark.parametrize("level", ["file", "folder", "session"])
def test_no_link_is_followed(case: Case, tmp_path: Path, level: str) -> None:
    case.commit()
    place = {"file": case.file, "folder": case.file.parent, "session": case.root / "M1"}[level]
    archive = tmp_path / "archive"
    place.rename(archive)
    place.symlink_to(archive)
    with pytest.raises(PermanentFailure, match="no link is followed"):
        case.ask()


def test_a_source_that_is_itself_a_link_is_the_labs_own_choice(case: Case, tmp_path: Path) -> None:
    case.commit()
    mount = tmp_path / "mount"
    mount.symlink_to(case.root)
    assert [each.path for each in case.ask(local=str(mount))] == [mount / "M1" / NAME]


def test_a_copied_store_finds_the_files_of_its_own_lab_only(case: Case, tmp_path: Path) -> None:
    case.commit()
    with pytest.raises(PermanentFailure, match="lab.yaml names no source 'local'"):
        case.ask(elsewhere=str(case.root))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PermanentFailure, match="is not there"):
        case.ask(local=str(empty))
    session = case.records[KEY].session.model_copy(
        update={"root": "", "path": str(case.root / "M1")}
    )
    case.add(KEY, session=session)
    with pytest.raises(PermanentFailure, match="below no source of lab.yaml"):
        case.ask()


def test_a_file_that_changes_while_it_is_compared_stays(case: Case) -> None:
    case.commit()
    files = case.ask()
    values = np.frombuffer(case.file.read_bytes(), np.int16).copy()
    values[7] ^= 1
    case.file.write_bytes(values.tobytes())
    with pytest.raises(PermanentFailure, match="changed while it was compared"):
        delete_files(case.store, KEY, files)
    assert case.file.exists()
