"""Auxiliary boards: found once a session, stored bit by bit, never left out without a word."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from labs import SmallLab
from places import REAL
from spikeglx_files import write, write_board

from neuro_assets.formats.auxiliary import boards_of, scan_auxiliary
from neuro_assets.formats.modalities import AUXILIARY, MODALITIES
from neuro_assets.formats.model import RawFiles
from neuro_assets.formats.scan import scan_session
from neuro_assets.formats.walk import list_files
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.science.compression.auxiliary import compress_auxiliary
from neuro_assets.service.session_registration import register_sessions, seen
from neuro_assets.sources.folders.source import LocalSessionSource

MODALITY = MODALITIES[AUXILIARY]
COPY = "compressed_auxiliary"
OE = REAL / "openephys_aind_v06_npx2probes"
real = pytest.mark.skipif(not OE.is_dir(), reason=f"no real recordings at {OE}")
TEXT = "lab: l\nstore: {url: store}\n"


def scan(folder):
    return scan_auxiliary(folder, list_files(folder))


def names(folder):
    return [board.stream.name for board in boards_of(scan(folder)[0])]


def stored(folder, tmp_path):
    """Compress what a session's boards left; the folder and the result."""
    out = tmp_path / "out"
    out.mkdir()
    return out, compress_auxiliary(scan(folder)[0], folder, out, CompressionParameters())


# --- what is found ------------------------------------------------------------------------------


def test_boards_are_of_the_session_and_of_no_probe(tmp_path):
    for probe in range(2):
        write(tmp_path / f"run_g0_t0.imec{probe}.ap.bin", serial=str(probe + 1), seed=probe)
    write_board(tmp_path / "run_g0_t0.nidq.bin")
    for box in range(2):
        write_board(tmp_path / f"run_g0_t0.obx{box}.obx.bin", kind="obx", seed=box)
    found = scan_session(tmp_path)
    assert [set(one.streams) for one in found.recordings] == [{"ap"}, {"ap"}]
    assert found.problems == ()
    item, problems = scan(tmp_path)
    assert (names(tmp_path), problems) == (["nidq", "obx0", "obx1"], ())
    assert {board.acquisition for board in boards_of(item)} == {"run_g0"}
    assert len(item.files) == 6


def test_of_a_session_without_probes_the_line_says_why_it_has_no_key(tmp_path):
    board = write_board(tmp_path / "run_g0_t0.nidq.bin")
    (problem,) = scan_session(tmp_path).problems
    assert (problem.kind, problem.path) == ("no_probe", board.name)
    assert "copy the probes' files" in problem.detail
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    assert scan_session(tmp_path).problems == ()


def test_boards_are_called_as_the_recordings_beside_them(tmp_path):
    for run, gate in (("a", 0), ("a", 1), ("b", 0)):
        write(tmp_path / f"{run}_g{gate}_t0.imec0.ap.bin", seed=gate, first_sample=gate * 9999)
    write_board(tmp_path / "a_g1_t0.nidq.bin")
    write_board(tmp_path / "b_g0_t0.nidq.bin", seed=3)
    assert names(tmp_path) == ["nidq-g1", "nidq-r2"]


def test_triggers_are_joined_and_one_that_overlaps_is_a_stream_of_its_own(tmp_path):
    for trigger, first in enumerate((1000, 1400, 1500)):
        write_board(tmp_path / f"r_g0_t{trigger}.nidq.bin", first_sample=first, seed=trigger)
    one, other = boards_of(scan(tmp_path)[0])
    assert (one.stream.n_samples, one.stream.n_missing) == (600, 100)
    assert (other.stream.name, other.stream.n_samples) == ("nidq-t2", 300)


def test_a_meta_of_a_probe_beside_a_board_is_no_board(tmp_path):
    board = write_board(tmp_path / "run_g0_t0.nidq.bin")
    meta = write(tmp_path / "run_g0_t0.imec0.ap.bin").with_suffix(".meta")
    board.with_suffix(".meta").write_text(meta.read_text())
    item, problems = scan(tmp_path)
    assert boards_of(item) == []
    assert [p.kind for p in problems] == ["meta_broken"]


@pytest.mark.parametrize(
    ("made", "first", "stored"),
    [
        ("run_g0_tcat", 990, ["nidq"]),
        ("run_g1_tcat", 70990, ["nidq", "nidq-g1"]),
        ("runB_g0_tcat", 70990, ["nidq", "nidq-r2"]),
        ("renamed_g0_tcat", 990, ["nidq-r2"]),
    ],
)
def test_catgt_output_stands_for_no_board_but_its_own(tmp_path, made, first, stored):
    raw = write_board(tmp_path / "run_g0_t0.nidq.bin")
    write_board(tmp_path / f"{made}.nidq.bin", seed=3, first_sample=first)
    item, problems = scan(tmp_path)
    boards = boards_of(item)
    assert [board.stream.name for board in boards] == stored
    files = {file for board in boards for file in board.stream.files}
    assert raw.name in files
    dropped = [p.path for p in problems if p.kind == "derivative"]
    assert dropped == [] if len(stored) == 2 else [f"{made}.nidq.bin"]
    assert len(files) == len(stored)


@pytest.mark.parametrize("damage", ["truncated", "short", "no meta", "no data", "partial"])
def test_a_board_that_is_not_whole_is_waited_for_by_name(tmp_path, damage):
    board = write_board(tmp_path / "run_g0_t0.nidq.bin")
    match damage:
        case "truncated":
            board.write_bytes(board.read_bytes()[:-5])
        case "short":
            board.write_bytes(board.read_bytes()[:-60])
        case "no meta":
            board.with_suffix(".meta").unlink()
        case "no data":
            board.unlink()
        case "partial":
            board.rename(f"{board}.part")
    item, _ = scan(tmp_path)
    reasons = MODALITY.ready(item, tmp_path)
    assert reasons
    assert all("run_g0_t0.nidq" in reason for reason in reasons)


# --- what is stored -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "device"), [("nidq", "nidq"), ("obx", "obx0")])
def test_a_board_is_stored_bit_by_bit_with_its_scale_and_words(tmp_path, kind, device):
    from spikeinterface.core import read_zarr

    path = write_board(tmp_path / f"run_g0_t0.{device}{'.obx' * (kind == 'obx')}.bin", kind=kind)
    raw = np.fromfile(path, np.int16).reshape(300, -1)
    out, result = stored(tmp_path, tmp_path)
    analogue, words = (read_zarr(out / f"{device}{tail}.zarr") for tail in ("", "_sync"))
    for recording, columns in ((analogue, raw[:, :2]), (words, raw[:, 2:])):
        assert recording.get_dtype() == np.int16
        np.testing.assert_array_equal(recording.get_traces(), columns)
        assert recording.sampling_frequency == 25000
    assert list(analogue.channel_ids) == [f"{device}#XA0", f"{device}#XA1"]
    assert list(analogue.get_property("physical_unit")) == ["V", "V"]
    volts = analogue.get_property("gain_to_physical_unit")
    np.testing.assert_allclose(volts, 5 / 32768)
    np.testing.assert_allclose(analogue.get_channel_gains(), volts * 1e6)
    assert not analogue.get_property("offset_to_physical_unit").any()
    (row,) = result.tables["streams"].to_dict("records")
    assert (row["stream"], row["first_sample"], row["n_analogue"]) == (device, 990, 2)
    assert row["n_digital"] == (1 if kind == "nidq" else 2)
    assert row["verified"]


def test_a_stored_board_opens_as_plain_zarr(tmp_path):
    import zarr

    path = write_board(tmp_path / "run_g0_t0.nidq.bin")
    out, _ = stored(tmp_path, tmp_path)
    words = zarr.open(str(out / "nidq_sync.zarr"), mode="r")["traces_seg0"][:]
    np.testing.assert_array_equal(words[:, 0], np.fromfile(path, np.int16)[2::3])


def test_a_board_with_digital_words_only_is_stored(tmp_path):
    from spikeinterface.core import read_zarr

    path = write_board(tmp_path / "run_g0_t0.nidq.bin", analogue=0)
    out, result = stored(tmp_path, tmp_path)
    assert [each.name for each in out.iterdir()] == ["nidq_sync.zarr"]
    words = read_zarr(out / "nidq_sync.zarr").get_traces()[:, 0]
    np.testing.assert_array_equal(words, np.fromfile(path, np.int16))
    assert result.metrics["verified"] == 1


def test_what_the_sha1_of_a_board_contradicts_is_not_stored(tmp_path):
    meta = write_board(tmp_path / "run_g0_t0.nidq.bin").with_suffix(".meta")
    meta.write_text(f"{meta.read_text()}fileSHA1={'0' * 40}\n")
    with pytest.raises(PermanentFailure, match="not what its metadata says"):
        stored(tmp_path, tmp_path)


@real
def test_the_nidaq_of_a_real_open_ephys_session_is_stored_as_its_own_reader_reads_it(tmp_path):
    from spikeinterface.core import read_zarr
    from spikeinterface.extractors import read_openephys

    session = next(OE.iterdir())
    item, problems = scan(session)
    assert problems == ()
    assert [b.stream.name for b in boards_of(item)] == ["nidq", "nidq-e3r1", "nidq-e6r1"]
    out, result = stored(session, tmp_path)
    stream = "Record Node 101#NI-DAQmx-103.PXIe-6341"
    for name, experiment in (("nidq", "experiment1"), ("nidq-e6r1", "experiment6")):
        reference = read_openephys(session, experiment_name=experiment, stream_name=stream)
        copy = read_zarr(out / f"{name}.zarr")
        np.testing.assert_array_equal(copy.get_traces(), reference.get_traces())
        assert list(copy.channel_ids) == [f"AI{i}" for i in range(8)]
        # +-10 V over 16 bits.
        np.testing.assert_allclose(copy.get_property("gain_to_physical_unit"), 20 / 65535, 1e-4)
    assert list(result.tables["streams"]["acquisition"])[0] == "experiment1/recording1"


def onebox(tmp_path):
    """The real session, its NI-DAQ described as the ADC stream of a OneBox."""
    session = tmp_path / "session"
    shutil.copytree(next(OE.iterdir()), session)
    for path in session.rglob("structure.oebin"):
        content = json.loads(path.read_text())
        for entry in content["continuous"]:
            if "NI-DAQ" in entry["source_processor_name"]:
                entry["source_processor_name"] = "OneBox"
                for number, channel in enumerate(entry["channels"]):
                    channel |= {"channel_name": f"ADC{number}", "units": "V"}
        path.write_text(json.dumps(content))
    return session


@real
def test_the_adc_stream_of_a_onebox_is_a_board_and_no_probe(tmp_path):
    session = onebox(tmp_path)
    assert names(session) == ["nidq", "nidq-e3r1", "nidq-e6r1"]
    found = scan_session(session)
    assert len(found.recordings) == 6
    assert found.problems == ()


# --- from the session to its outputs ------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    for probe in range(2):
        write(
            tmp_path / f"data/M1/run_g0_t0.imec{probe}.ap.bin", 3000, seed=probe, serial=f"{probe}1"
        )
    write_board(tmp_path / "data/M1/run_g0_t0.nidq.bin")
    return SmallLab(tmp_path, TEXT)


def survey(lab):
    return lab.register(lab.folder / "data")


def rewrite(lab):
    write_board(lab.folder / "data/M1/run_g0_t0.nidq.bin", seed=10)


@pytest.mark.integration
def test_two_probes_share_one_copy_and_a_changed_board_leaves_the_probes_alone(lab):
    keys = survey(lab)
    assert len(keys) == 2
    for key in keys:
        assert lab.run("process", key, only=[COPY, "compressed_recording"]).success
    one, other = (lab.store.current(COPY, key) for key in keys)
    assert one.path == other.path
    assert "session-" in one.path
    assert one.manifest.clock == "board"
    recording = lab.store.current("compressed_recording", keys[0])
    assert recording.manifest.clock == "probe"
    rewrite(lab)
    survey(lab)
    for key in keys:
        states = lab.states(key)
        assert states[COPY].out_of_date == ("input: raw_auxiliary",)
        assert states["compressed_recording"].out_of_date == ()


@pytest.mark.integration
def test_a_session_without_a_board_is_skipped_with_its_reason(lab):
    (lab.folder / "data/M1/run_g0_t0.nidq.bin").unlink()
    (lab.folder / "data/M1/run_g0_t0.nidq.meta").unlink()
    key = survey(lab)[0]
    assert lab.run("process", key, only=[COPY]).success
    state = lab.states(key)[COPY]
    assert (state.outcome, state.detail.split(":")[0]) == (Outcome.SKIPPED, "no_auxiliary")


NIDQ = "data/M1/run_g0_t0.nidq.bin"


def copied(lab):
    """A lab whose board was copied for both probes; the keys, and the copy that counts."""
    keys = survey(lab)
    for key in keys:
        assert lab.run("process", key, only=[COPY]).success
    return keys, lab.store.current(COPY, keys[0])


def accept(lab):
    """Register as `neuro-assets run FOLDER` does: a person takes what is left."""
    source = LocalSessionSource(lab.folder / "data", settle_s=0, bare_root=True)
    register_sessions(lab.registry, source.survey()[0], rename=True)


@pytest.mark.integration
@pytest.mark.parametrize("gone", ["nidq.bin", "nidq.*"])
@pytest.mark.parametrize("person", [False, True])
def test_the_copy_of_a_board_whose_files_are_gone_goes_on_counting(lab, gone, person):
    keys, copy = copied(lab)
    before = lab.registry.all()
    away = lab.folder / "away"
    away.mkdir()
    lost = [f.rename(away / f.name) for f in (lab.folder / "data/M1").glob(f"run_g0_t0.{gone}")]
    for _ in range(2):
        accept(lab) if person else survey(lab)
    for key in keys:
        record = lab.registry.get(key)
        assert record.state == "ready"
        assert "run_g0_t0.nidq.bin is not there any more: its copy" in record.lost
        for tags in ({}, {"neuro/force": "true"}):
            assert lab.run("process", key, only=[COPY], tags=tags).success
            now = lab.store.current(COPY, key)
            assert (now.attempt, now.outcome) == (copy.attempt, Outcome.COMPLETE)
            assert lab.states(key)[COPY].out_of_date == ()
    for each in lost:
        each.rename(lab.folder / "data/M1" / each.name)
    survey(lab)
    for key, record in before.items():
        now = lab.registry.get(key)
        assert (now.modalities, now.request) == (record.modalities, record.request)


@pytest.mark.integration
def test_of_two_boards_the_copy_of_both_counts_when_one_is_gone(lab):
    write_board(lab.folder / "data/M1/run_g0_t0.obx0.obx.bin", kind="obx")
    keys, copy = copied(lab)
    (lab.folder / NIDQ).unlink()
    accept(lab)
    assert lab.run("process", keys[0], only=[COPY]).success
    assert lab.store.current(COPY, keys[0]).attempt == copy.attempt


def test_a_board_that_was_lost_before_it_was_copied_waits_until_a_person_takes_what_is_left(lab):
    key = survey(lab)[0]
    for end in ("bin", "meta"):
        (lab.folder / NIDQ).with_suffix(f".{end}").unlink()
    survey(lab)
    assert "`neuro-assets run` with its folder takes what is left" in lab.registry.get(key).lost
    assert not lab.run("process", key, only=[COPY]).success
    assert "run_g0_t0.nidq.bin" in lab.states(key)[COPY].detail
    accept(lab)
    assert lab.registry.get(key).modalities == {}
    assert lab.run("process", key, only=[COPY]).success
    assert lab.outcomes(key)[COPY] == "skipped"


def test_a_board_that_was_moved_or_renamed_with_its_session_is_not_lost(lab):
    key = survey(lab)[0]
    for end in ("bin", "meta"):
        old = (lab.folder / NIDQ).with_suffix(f".{end}")
        old.rename(old.with_name(old.name.replace("run_g0", "other_g0")))
    survey(lab)
    record = lab.registry.get(key)
    assert record.lost == ""
    assert [b.acquisition for b in boards_of(record.modalities[AUXILIARY].item)] == ["other_g0"]


@pytest.mark.parametrize("force", ["false", "true"])
def test_no_skip_replaces_a_complete_copy_of_a_registry_that_names_no_board(lab, force):
    keys, copy = copied(lab)
    record = lab.registry.get(keys[0])
    lab.registry.transact(lambda index: index.put(record.model_copy(update={"modalities": {}})))
    assert lab.registry.get(keys[0]).modalities == {}
    assert lab.run("process", keys[0], only=[COPY], tags={"neuro/force": force}).success
    assert lab.store.current(COPY, keys[0]).attempt == copy.attempt


def test_a_board_that_is_cut_is_not_skipped_for_a_session_that_had_none(lab):
    board = lab.folder / NIDQ
    whole, meta = board.read_bytes(), board.with_suffix(".meta").read_text()
    for end in ("bin", "meta"):
        board.with_suffix(f".{end}").unlink()
    key = survey(lab)[0]
    assert lab.run("process", key, only=[COPY]).success
    board.write_bytes(whole[: len(whole) // 3])
    board.with_suffix(".meta").write_text(meta)
    survey(lab)
    assert not lab.run("process", key, only=[COPY]).success
    assert "run_g0_t0.nidq.bin" in lab.states(key)[COPY].detail
    board.write_bytes(whole)
    survey(lab)
    assert lab.run("process", key, only=[COPY]).success
    assert lab.outcomes(key)[COPY] == "complete"


def test_a_board_that_cannot_be_read_is_waited_for_and_not_taken_for_none(lab):
    key = survey(lab)[0]
    (session,) = LocalSessionSource(lab.folder / "data", settle_s=0, bare_root=True).survey()[0]
    (lab.folder / NIDQ).unlink()  # after it was listed: its version cannot be computed
    assert AUXILIARY in seen(session, use_hash=False).description.modalities
    register_sessions(lab.registry, [session])
    assert not lab.run("process", key, only=[COPY]).success
    assert "run_g0_t0.nidq.bin" in lab.states(key)[COPY].detail


@pytest.mark.integration
def test_a_cut_board_fails_by_name_and_runs_by_itself_when_it_is_whole(lab):
    board = lab.folder / "data/M1/run_g0_t0.nidq.bin"
    whole = board.read_bytes()
    board.write_bytes(whole[:-5])
    key = survey(lab)[0]
    assert not lab.run("process", key, only=[COPY]).success
    state = lab.states(key)[COPY]
    assert state.outcome is Outcome.FAILED
    assert "run_g0_t0.nidq.bin" in state.detail
    before = lab.registry.get(key).request
    board.write_bytes(whole)
    survey(lab)
    assert lab.registry.get(key).request == before + 1
    assert lab.run("process", key, only=[COPY]).success


@pytest.mark.integration
def test_with_the_flag_a_cut_board_beside_a_whole_one_is_counted(lab):
    obx = write_board(lab.folder / "data/M1/run_g0_t0.obx0.obx.bin", kind="obx")
    obx.write_bytes(obx.read_bytes()[:-5])
    (lab.folder / "data/raw_session.flag").touch()
    key = survey(lab)[0]
    result = lab.run("process", key, only=[COPY])
    assert lab.store.current(COPY, key).manifest.metrics["n_unusable"] == 1
    assert not lab.checks(result)[COPY, "completeness"].passed


def test_raw_deletion_leaves_the_boards(lab):
    from neuro_assets.registry.raw_deletion import deletable_files

    key = survey(lab)[0]
    assert lab.run("process", key, only=["compressed_recording", COPY]).success
    files = deletable_files(lab.store, lab.registry, key, lab.config.roots)
    assert [file.path.name for file in files] == ["run_g0_t0.imec0.ap.bin"]


def test_a_record_that_named_boards_as_its_own_keeps_the_version_of_its_data(lab):
    """Of an earlier release: nothing that was made of the probe is out of date for that."""
    from neuro_assets.registry.judging import has_completed, lost_files, version_of_raw

    survey(lab)
    record = next(iter(lab.registry.all().values()))
    board = boards_of(record.modalities[AUXILIARY].item)[0].stream
    streams = {**record.recording.streams, "nidq": board}
    old = record.model_copy(
        update={
            "recording": record.recording.model_copy(update={"streams": streams}),
            "raw_version": "before",
            "modalities": {},
        }
    )
    kept = version_of_raw(old, record.session, record.recording, record.raw_version)
    assert kept == ("before", record.raw_version)
    assert not has_completed(old, record)
    assert lost_files(old.model_copy(update={"request": 1}), record.recording) == ""
    assert has_completed(old.model_copy(update={"recording": record.recording}), record)
    other = record.recording.model_copy(
        update={"identity": record.recording.identity.model_copy(update={"size_bytes": 2})}
    )
    assert version_of_raw(old, record.session, other, "new") == ("new", "")


def test_the_item_survives_the_registry(lab):
    survey(lab)
    item = next(iter(lab.registry.all().values())).modalities[AUXILIARY].item
    assert isinstance(item, RawFiles)
    assert [board.stream.name for board in boards_of(item)] == ["nidq"]
