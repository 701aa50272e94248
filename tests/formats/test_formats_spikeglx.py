"""SpikeGLX folders as they are met: every mess by name."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from places import REAL
from spikeglx_files import N_NEURAL, imro_np1, meta_text, samples, write, write_board, write_cbin

from neuro_assets.formats import scan_session
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.completeness import FLAG
from neuro_assets.formats.neuropixels import describe_probe, shifts_from_mux
from neuro_assets.formats.spikeglx.boards import scan_boards
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta
from neuro_assets.formats.walk import list_files
from neuro_assets.parameters.compression import CompressionParameters

METAS = sorted((REAL / "spikeglx_meta").rglob("*.meta"))
UUID = "01234567-89ab-cdef-0123-456789abcdef"


def labels(scan):
    return sorted(recording.label for recording in scan.recordings)


def kinds(scan):
    return sorted(problem.kind for problem in scan.problems)


def by_label(scan, label="probe00"):
    return next(r for r in scan.recordings if r.label == label)


def assert_details_help(scan):
    for problem in scan.problems:
        assert "\n" not in problem.detail
        assert len(problem.detail) > 20
        assert problem.path


# --- layouts ---------------------------------------------------------------------------------


def test_a_folder_per_probe_gives_one_recording_a_probe_and_never_reads_the_parent(tmp_path):
    for i in range(3):
        for band in ("ap", "lf"):
            write(
                tmp_path / f"run_g0/run_g0_imec{i}/run_g0_t0.imec{i}.{band}.bin",
                300,
                serial=f"1{i}",
            )
    scan = scan_session(tmp_path / "run_g0")
    assert labels(scan) == ["probe00", "probe01", "probe02"]
    assert scan.problems == ()
    for recording in scan.recordings:
        assert set(recording.streams) == {"ap", "lf"}
        assert recording.main.n_samples == 300
        assert all(len(stream.files) == 1 for stream in recording.streams.values())
    # The same from any level above.
    assert labels(scan_session(tmp_path)) == labels(scan)


def test_a_flat_folder_gives_the_same(tmp_path):
    for i in range(2):
        write(tmp_path / f"run_g0_t0.imec{i}.ap.bin", serial=f"1{i}")
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe01"]
    assert by_label(scan, "probe01").main.files == ("run_g0_t0.imec1.ap.bin",)


def test_a_one_session_names_its_probes_by_folder(tmp_path):
    for i, name in enumerate(("probe00", "probe01")):
        write(
            tmp_path / f"raw_ephys_data/{name}/_spikeglx_ephysData_g0_t0.imec{1 - i}.ap.bin",
            serial=f"1{i}",
        )
    scan = scan_session(tmp_path)
    assert by_label(scan, "probe00").identity.probe_serial == "10"


@pytest.mark.parametrize(
    "path",
    [
        "run_g0_t0.imec.ap.bin",
        "run_g0_t0.imec0.ap.bin",
        "run_g0_t0.imec00.ap.bin",
        "probe00/run_g0_t0.imec.ap.bin",
        "probe00a/run_g0_t0.imec0.ap.bin",
        "run_g0_imec0/run_g0_t0.imec0.ap.bin",
    ],
)
def test_every_spelling_of_a_probe_is_probe00(tmp_path, path):
    write(tmp_path / path)
    assert labels(scan_session(tmp_path)) == ["probe00"]


def test_alf_names_with_a_uuid_are_paired_with_their_meta(tmp_path):
    write(tmp_path / "a_g0_t0.imec0.ap.bin")
    (tmp_path / "a_g0_t0.imec0.ap.bin").rename(tmp_path / f"a_g0_t0.imec0.ap.{UUID}.bin")
    other = UUID.replace("0", "f")
    (tmp_path / "a_g0_t0.imec0.ap.meta").rename(tmp_path / f"a_g0_t0.imec0.ap.{other}.meta")
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00"]
    assert scan.problems == ()


def test_gate_and_device_come_from_the_file_name_not_from_the_meta(tmp_path):
    write(tmp_path / "renamed_g0_t0.imec1.ap.bin", file_name="D:/old_g3_t2.imec7.ap.bin")
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]


def test_a_file_renamed_without_gate_and_trigger_is_still_a_recording(tmp_path):
    write(tmp_path / "mouse 5.imec0.ap.bin")
    write(tmp_path / "other/plain.bin", serial="2")
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 2
    assert {r.identity.probe_serial for r in scan.recordings} == {"19000000001", "2"}


def test_a_binary_file_of_another_program_is_no_recording_and_is_mentioned(tmp_path):
    (tmp_path / "firmware.bin").write_bytes(b"\x01" * 100)
    (tmp_path / "other.bin").write_bytes(b"\x01" * 100)
    (tmp_path / "other.meta").write_text("author=me\n")
    assert scan_session(tmp_path) == scan_session(tmp_path / ".")
    assert scan_session(tmp_path).recordings == ()
    (problem,) = scan_session(tmp_path).problems
    assert (problem.kind, problem.path) == ("unrecognised", "firmware.bin")
    assert "2 data files" in problem.detail


@pytest.mark.parametrize("name", ["leftCamera.frame_counter", "bodyCamera.GPIO"])
def test_what_cameras_count_is_no_forgotten_recording(tmp_path, name):
    (tmp_path / "raw_video_data").mkdir()
    (tmp_path / f"raw_video_data/_iblrig_{name}.bin").write_bytes(b"12345678")
    assert scan_session(tmp_path).problems == ()


def test_names_with_spaces_and_non_ascii_letters_are_kept(tmp_path):
    path = "Mäuse – Größe_g0/Mäuse – Größe_g0_t0.imec0.ap.bin"
    write(tmp_path / path)
    assert by_label(scan_session(tmp_path)).main.files == (path,)


def test_neuropixels_2_without_lf_has_an_ap_stream_only(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", np2=True)
    scan = scan_session(tmp_path)
    assert set(by_label(scan).streams) == {"ap"}
    assert scan.problems == ()
    assert by_label(scan).probe_model == "NP2010"


# --- gates, triggers, runs --------------------------------------------------------------------


def test_each_gate_is_a_recording_and_the_first_needs_no_qualifier(tmp_path):
    for gate in (0, 1, 10, 2):
        write(
            tmp_path / f"run_g{gate}/run_g{gate}_t0.imec0.ap.bin",
            first_sample=1000 + gate * 10_000,
        )
    assert labels(scan_session(tmp_path)) == ["probe00", "probe00-g1", "probe00-g10", "probe00-g2"]


def test_a_probe_in_one_gate_only_is_found_with_its_gate(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    write(tmp_path / "run_g1_t0.imec0.ap.bin", first_sample=5000)
    write(tmp_path / "run_g1_t0.imec1.ap.bin", serial="2")
    assert labels(scan_session(tmp_path)) == ["probe00", "probe00-g1", "probe01-g1"]


def test_triggers_are_joined_in_numeric_order(tmp_path):
    for trigger in range(12):
        first = 1000 + trigger * 100
        write(tmp_path / f"run_g0_t{trigger}.imec0.ap.bin", 100, first_sample=first, seed=trigger)
    scan = scan_session(tmp_path)
    stream = by_label(scan).main
    assert stream.files == tuple(f"run_g0_t{t}.imec0.ap.bin" for t in range(12))
    assert stream.n_samples == 1200
    assert stream.first_samples == tuple(1000 + 100 * t for t in range(12))
    assert len(stream.sha1) == 12
    assert scan.problems == ()


def test_a_gap_between_triggers_is_reported_with_its_length(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", 100, first_sample=1000)
    write(tmp_path / "run_g0_t1.imec0.ap.bin", 100, first_sample=1150, seed=1)
    scan = scan_session(tmp_path)
    assert by_label(scan).main.n_samples == 200
    assert kinds(scan) == ["trigger_gap"]
    assert "50 samples" in scan.problems[0].detail


def test_a_trigger_that_is_a_copy_of_another_does_not_double_the_data(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", 100)
    for suffix in (".bin", ".meta"):
        shutil.copy(
            tmp_path / f"run_g0_t0.imec0.ap{suffix}", tmp_path / f"run_g0_t1.imec0.ap{suffix}"
        )
    scan = scan_session(tmp_path)
    assert by_label(scan).main.n_samples == 100
    assert kinds(scan) == ["copy"]


def test_triggers_of_two_starts_are_recordings_of_their_own(tmp_path):
    write(tmp_path / "am/run_g0_t0.imec0.ap.bin", created="2024-05-12T09:00:00", first_sample=0)
    write(
        tmp_path / "pm/run_g0_t1.imec0.ap.bin",
        seed=1,
        created="2024-05-12T15:00:00",
        first_sample=5000,
    )
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe00-t1"]
    assert kinds(scan) == ["trigger_mismatch"]


def test_triggers_that_overlap_are_recordings_of_their_own(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", 100, first_sample=1000)
    write(tmp_path / "run_g0_t1.imec0.ap.bin", 100, first_sample=1050, seed=1)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe00-t1"]
    assert kinds(scan) == ["trigger_overlap"]


def test_triggers_with_other_channels_are_not_joined(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", 100, first_sample=1000)
    write(
        tmp_path / "run_g0_t1.imec0.ap.bin",
        100,
        first_sample=1100,
        extra={"snsSaveChanSubset": "1:8,768"},
    )
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe00-t1"]
    assert kinds(scan) == ["trigger_mismatch"]


def test_a_broken_trigger_holds_its_recording_back(tmp_path):
    for trigger in range(3):
        first = 1000 + trigger * 100
        write(tmp_path / f"run_g0_t{trigger}.imec0.ap.bin", 100, first_sample=first, seed=trigger)
    write(tmp_path / "run_g0_t0.imec1.ap.bin", serial="2")
    (tmp_path / "run_g0_t1.imec0.ap.bin").write_bytes(b"\x01" * 33)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]
    assert kinds(scan) == ["trigger_broken", "trigger_broken", "truncated"]
    assert_details_help(scan)


@pytest.mark.parametrize("left", ["run_g0_t1.imec0.ap.meta", "run_g0_t1.imec0.ap.bin.part"])
def test_a_trigger_that_is_not_yet_there_holds_its_recording_back(tmp_path, left):
    for trigger in range(2):
        first = 1000 + trigger * 100
        write(tmp_path / f"run_g0_t{trigger}.imec0.ap.bin", 100, first_sample=first, seed=trigger)
    write(tmp_path / "run_g0_t0.imec1.ap.bin", serial="2")
    late = tmp_path / "run_g0_t1.imec0.ap.bin"
    data, meta = late.read_bytes(), late.with_suffix(".meta").read_text()
    late.unlink()
    late.with_suffix(".meta").unlink()
    (tmp_path / left).write_text(meta)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]
    reported = "data_missing" if left.endswith("meta") else "partial_copy"
    assert sorted(kinds(scan)) == sorted([reported, "trigger_broken"])
    assert_details_help(scan)
    (tmp_path / left).unlink()
    late.write_bytes(data)
    late.with_suffix(".meta").write_text(meta)
    assert labels(scan_session(tmp_path)) == ["probe00", "probe01"]


def test_an_old_partial_copy_beside_the_whole_file_holds_nothing_back(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    for name in ("run_g0_t0.imec0.ap.bin.filepart", "run_g0_t1.nidq.bin.part"):
        (tmp_path / name).write_bytes(b"1")
    scan = scan_session(tmp_path)
    assert (labels(scan), kinds(scan)) == (["probe00"], ["partial_copy", "partial_copy"])


def test_metas_kept_of_removed_raw_files_do_not_hold_catgt_output_back(tmp_path):
    write(tmp_path / "run_g0_tcat.imec0.ap.bin")
    write(tmp_path / "run_g0_t1.imec0.ap.bin", seed=1).unlink()
    assert labels(scan_session(tmp_path)) == ["probe00"]


@pytest.mark.parametrize("unplaced", [0, 1, 2])
def test_triggers_of_which_one_has_no_first_sample_are_not_joined_without_gaps(tmp_path, unplaced):
    for trigger in range(3):
        extra = {"firstSample": None} if trigger == unplaced else {}
        path = tmp_path / f"run_g0_t{trigger}.imec0.ap.bin"
        write(path, 100, first_sample=1000 + trigger * 5000, seed=trigger, extra=extra)
    write(tmp_path / "run_g0_t0.imec1.ap.bin", serial="2", extra={"firstSample": None})
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]  # a single file has no pauses
    assert kinds(scan) == ["first_sample_missing"] * 3
    assert f"t{unplaced}.imec0.ap.bin has no firstSample" in scan.problems[0].detail
    assert_details_help(scan)


def test_a_board_of_which_one_trigger_has_no_first_sample_is_left_out_by_name(tmp_path):
    for trigger in range(2):
        first = 1000 + trigger * 5000
        write(tmp_path / f"run_g0_t{trigger}.imec0.ap.bin", 100, first_sample=first, seed=trigger)
        board = write_board(tmp_path / f"run_g0_t{trigger}.nidq.bin", 80, first_sample=first)
    meta = board.with_suffix(".meta")
    meta.write_text(meta.read_text().replace("firstSample", "firstSimple"))
    scan = scan_session(tmp_path)
    assert set(by_label(scan).streams) == {"ap"}
    assert kinds(scan) == ["trigger_gap"]
    boards = scan_boards(tmp_path, list_files(tmp_path))
    assert boards.boards == ()
    assert [problem.kind for problem in boards.unusable] == ["first_sample_missing"] * 2


def test_lf_files_of_some_triggers_only_are_not_used(tmp_path):
    for trigger in range(2):
        write(tmp_path / f"r_g0_t{trigger}.imec0.ap.bin", 100, first_sample=1000 + trigger * 100)
    write(tmp_path / "r_g0_t0.imec0.lf.bin", 10, first_sample=84)
    scan = scan_session(tmp_path)
    assert set(by_label(scan).streams) == {"ap"}
    assert "lf_incomplete" in kinds(scan)


def test_runs_in_one_folder_are_told_apart(tmp_path):
    write(tmp_path / "run-10_g0_t0.imec0.ap.bin", created="2024-05-12T09:00:00")
    write(tmp_path / "run-9_g0_t0.imec0.ap.bin")
    write(tmp_path / "run-9_g1_t0.imec0.ap.bin", first_sample=9000)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe00-g1", "probe00-r2"]
    assert "run-10" in by_label(scan, "probe00-r2").main.files[0]


# --- derivatives and copies -------------------------------------------------------------------


def test_catgt_output_is_a_derivative_of_its_raw_and_never_a_segment(tmp_path):
    write(tmp_path / "run_g0/run_g0_imec0/run_g0_t0.imec0.ap.bin")
    write(tmp_path / "catgt_run_g0/run_g0_imec0/run_g0_tcat.imec0.ap.bin", 500, seed=1)
    write(tmp_path / "supercat_run_g0/run_g0_imec0/run_g0_tcat.imec0.ap.bin", 600, seed=2)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00"]
    assert by_label(scan).main.n_samples == 300
    assert kinds(scan) == ["derivative", "derivative"]
    assert all("tcat" in problem.path for problem in scan.problems)


def test_catgt_output_is_used_where_the_raw_is_not_there_and_says_so(tmp_path):
    write(
        tmp_path / "some/longer/path/catgt_run_g0/run_g0_tcat.imec0.ap.bin",
        extra={"catGTCmdline0": "<CatGT -run=run -apfilter=butter,12,300,9000>"},
    )
    write(tmp_path / "supercat_run_g0/run_g0_tcat.imec0.ap.bin", 600, seed=2)
    scan = scan_session(tmp_path)
    assert by_label(scan).main.files == ("some/longer/path/catgt_run_g0/run_g0_tcat.imec0.ap.bin",)
    assert "apfilter" in by_label(scan).processed
    assert "duplicate_stream" in kinds(scan)


def test_catgt_output_of_another_gate_or_run_is_the_only_copy_of_its_data(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    write(tmp_path / "run_g1_tcat.imec0.ap.bin", seed=1, created="2024-05-12T11:00:00")
    write(tmp_path / "two_g0_tcat.imec0.ap.bin", seed=2, first_sample=90000)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe00-g1", "probe00-r2"]
    assert by_label(scan, "probe00-g1").main.files == ("run_g1_tcat.imec0.ap.bin",)
    assert scan.problems == ()


def test_catgt_output_of_a_run_that_was_renamed_is_known_by_its_meta(tmp_path):
    write(tmp_path / "_spikeglx_ephysData_g0_t0.imec0.ap.bin")
    ran = {"fileCreateTime_original": "2024-05-12T10:00:00"}
    made = tmp_path / "run_g0_tcat.imec0.ap.bin"
    write(made, 200, seed=1, created="2025-01-01T00:00:00", extra=ran)
    scan = scan_session(tmp_path)
    assert (labels(scan), kinds(scan)) == (["probe00"], ["derivative"])


@pytest.mark.parametrize(("np2", "kind"), [(True, "derivative"), (False, "lf_incomplete")])
def test_lf_output_of_catgt_is_in_the_raw_files_only_of_a_probe_of_full_band(tmp_path, np2, kind):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", np2=np2)
    saved = {"snsSaveChanSubset": f"0:{N_NEURAL}"}
    write(tmp_path / "run_g0_tcat.imec0.lf.bin", 25, np2=np2, extra=saved)
    scan = scan_session(tmp_path)
    assert (set(by_label(scan).streams), kinds(scan)) == ({"ap"}, [kind])


@pytest.mark.parametrize(("triggers", "streams"), [(1, {"ap", "lf"}), (2, {"ap"})])
def test_catgt_output_whose_raw_ap_files_are_gone_is_kept_beside_raw_lf_files(
    tmp_path, triggers, streams
):
    write(tmp_path / "run_g0_tcat.imec0.ap.bin")
    for trigger in range(triggers):
        write(tmp_path / f"run_g0_t{trigger}.imec0.lf.bin", 25, seed=trigger)
    scan = scan_session(tmp_path)
    assert set(by_label(scan).streams) == streams
    assert ("lf_incomplete" in kinds(scan)) is (triggers == 2)


def test_a_broken_raw_is_not_quietly_replaced_by_its_derivative(tmp_path):
    (write(tmp_path / "run_g0_t0.imec0.ap.bin")).write_bytes(b"\x01" * 35)
    write(tmp_path / "catgt_run_g0/run_g0_tcat.imec0.ap.bin", 500, seed=1)
    scan = scan_session(tmp_path)
    assert scan.recordings == ()
    assert kinds(scan) == ["derivative", "truncated"]


def test_an_exported_piece_is_a_derivative(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    write(tmp_path / "run_g0_t0.exported.imec0.ap.bin", 50)
    scan = scan_session(tmp_path)
    assert by_label(scan).main.n_samples == 300
    assert kinds(scan) == ["derivative"]


def test_shanks_split_by_ibl_are_recordings_where_the_whole_is_gone(tmp_path):
    for shank, letter in enumerate("ab"):
        write(
            tmp_path / f"probe00{letter}/_spikeglx_ephysData_g0_t0.imec0.ap.bin",
            np2=True,
            extra={
                "NP2.4_shank": str(shank),
                "snsSaveChanSubset_orig": f"{shank * 96}:{shank * 96 + 7},384",
            },
        )
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00-s0", "probe00-s1"]
    identities = {recording.identity.probe_serial for recording in scan.recordings}
    assert identities == {"19000000001-s0", "19000000001-s1"}
    write(tmp_path / "probe00/_spikeglx_ephysData_g0_t0.imec0.ap.bin", np2=True)
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00"]
    assert kinds(scan) == ["derivative", "derivative"]


def test_bin_and_cbin_of_one_recording_are_not_read_twice(tmp_path):
    write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin")
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert by_label(scan).main.files == ("run_g0_t0.imec0.ap.bin",)
    assert kinds(scan) == ["duplicate_stream"]


def test_a_half_decompressed_bin_does_not_win_over_its_cbin(tmp_path):
    write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin")
    (tmp_path / "run_g0_t0.imec0.ap.bin").write_bytes(samples(100).tobytes())
    scan = scan_session(tmp_path)
    assert by_label(scan).main.files == ("run_g0_t0.imec0.ap.cbin",)


def test_the_same_file_in_two_folders_is_read_once(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    shutil.copytree(tmp_path / "a", tmp_path / "backup copy")
    scan = scan_session(tmp_path)
    assert by_label(scan).main.files == ("a/run_g0_t0.imec0.ap.bin",)
    assert kinds(scan) == ["duplicate_stream"]


def test_two_probes_of_phase_3a_with_one_name_are_two_probes(tmp_path):
    write(tmp_path / "left/run_g0_t0.imec.ap.bin", serial="1")
    write(tmp_path / "right/run_g0_t0.imec.ap.bin", serial="2")
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe01"]
    assert kinds(scan) == ["probe_name_clash"]
    assert {r.identity.probe_serial for r in scan.recordings} == {"1", "2"}


# --- auxiliary boards -------------------------------------------------------------------------


def test_an_obx_alone_is_no_probe_and_has_a_line(tmp_path):
    write_board(tmp_path / "run_g0_t0.obx0.obx.bin", kind="obx")
    scan = scan_session(tmp_path)
    assert scan.recordings == ()
    assert kinds(scan) == ["no_probe"]


# --- broken files -----------------------------------------------------------------------------


def broken_session(tmp_path):
    """A good probe01, and probe00 to be broken."""
    write(tmp_path / "run_g0_t0.imec1.ap.bin", serial="2")
    return write(tmp_path / "run_g0_t0.imec0.ap.bin")


def assert_only_the_good_probe(tmp_path, kind):
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]
    assert kinds(scan) == [kind]
    assert "imec0" in scan.problems[0].path
    assert_details_help(scan)


def test_a_truncated_bin_is_reported_and_not_read(tmp_path):
    path = broken_session(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    assert_only_the_good_probe(tmp_path, "truncated")


def test_an_empty_bin_is_reported(tmp_path):
    broken_session(tmp_path).write_bytes(b"")
    assert_only_the_good_probe(tmp_path, "empty_file")


def test_a_missing_meta_is_reported(tmp_path):
    broken_session(tmp_path).with_suffix(".meta").unlink()
    assert_only_the_good_probe(tmp_path, "meta_missing")


@pytest.mark.parametrize("text", ["", "typeThis=imec\n", "\x00" * 500, "nonsense"])
def test_a_damaged_meta_is_reported(tmp_path, text):
    broken_session(tmp_path).with_suffix(".meta").write_text(text)
    assert_only_the_good_probe(tmp_path, "meta_broken")


def test_a_meta_with_another_channel_count_is_reported(tmp_path):
    path = broken_session(tmp_path)
    text = meta_text(path.stat().st_size)
    text = text.replace(f"nSavedChans={N_NEURAL + 1}", "nSavedChans=5")
    text = text.replace(f"snsApLfSy={N_NEURAL},0,1", "snsApLfSy=4,0,1").replace(
        "0:7,768", "0:3,768"
    )
    path.with_suffix(".meta").write_text(text)
    assert_only_the_good_probe(tmp_path, "channel_count")


def test_another_channel_count_is_seen_without_a_duration_too(tmp_path):
    path = broken_session(tmp_path)
    text = meta_text(path.stat().st_size, extra={"fileTimeSecs": None})
    text = text.replace(f"nSavedChans={N_NEURAL + 1}", "nSavedChans=8")
    text = text.replace(f"snsApLfSy={N_NEURAL},0,1", "snsApLfSy=7,0,1").replace(
        "0:7,768", "0:6,768"
    )
    path.write_bytes(path.read_bytes()[:-18])
    path.with_suffix(".meta").write_text(text.replace("=5400", f"={path.stat().st_size}"))
    assert_only_the_good_probe(tmp_path, "channel_count")


def test_a_meta_that_contradicts_itself_about_channels_is_reported(tmp_path):
    path = broken_session(tmp_path)
    path.with_suffix(".meta").write_text(
        meta_text(path.stat().st_size, extra={"nSavedChans": "385"})
    )
    assert_only_the_good_probe(tmp_path, "channel_count")


def test_more_saved_channels_than_the_probe_table_has_are_reported(tmp_path):
    path = broken_session(tmp_path)
    extra = {"~imroTbl": "(0,4)" + "".join(f"({i} 0 0 500 250 1)" for i in range(4))}
    path.with_suffix(".meta").write_text(meta_text(path.stat().st_size, extra=extra))
    assert_only_the_good_probe(tmp_path, "channel_count")


@pytest.mark.parametrize(
    "extra",
    [
        {"imAiRangeMax": "nan"},
        {"imAiRangeMax": None},
        {"imMaxInt": "NaN"},
        {"imMaxInt": "0"},
        {"~imroTbl": imro_np1(ap_gain=0)},
    ],
)
def test_a_gain_that_is_no_number_is_reported(tmp_path, extra):
    path = broken_session(tmp_path)
    path.with_suffix(".meta").write_text(meta_text(path.stat().st_size, extra=extra))
    assert_only_the_good_probe(tmp_path, "bad_gain")


def test_an_unknown_probe_is_reported_with_what_to_do(tmp_path):
    path = broken_session(tmp_path)
    extra = {"imDatPrb_pn": "NP9999"}
    path.with_suffix(".meta").write_text(meta_text(path.stat().st_size, extra=extra))
    assert_only_the_good_probe(tmp_path, "unknown_probe")


def test_a_probe_newer_than_the_table_takes_its_geometry_from_the_meta(tmp_path):
    contacts = [f"({i % 2}:{27 + 32 * (i % 3)}:{15 * i}:1)" for i in range(8)]
    geometry = "(NP9999,2,250,70)" + "".join(contacts)
    extra = {"imDatPrb_pn": "NP9999", "~snsGeomMap": geometry, "imChan0apGain": "100"}
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin", extra=extra)
    assert labels(scan_session(tmp_path)) == ["probe00"]
    probe = describe_probe(SpikeGLXMeta.read(path.with_suffix(".meta"))).probe
    assert probe.contact_positions[1].tolist() == [27 + 32 + 250, 15]


def test_a_meta_without_size_is_reported_as_still_growing_and_a_short_file_as_mismatch(tmp_path):
    path = broken_session(tmp_path)
    path.with_suffix(".meta").write_text(
        meta_text(0, extra={"fileSizeBytes": None, "fileTimeSecs": None})
    )
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe01"]
    assert kinds(scan) == ["still_growing"]
    path.with_suffix(".meta").write_text(meta_text(path.stat().st_size * 2))
    assert kinds(scan_session(tmp_path)) == ["size_mismatch"]


def test_a_short_file_says_what_is_missing_and_what_each_choice_does(tmp_path):
    """With the flag alone the copy would fail on its SHA-1."""
    path = broken_session(tmp_path)
    size = path.stat().st_size
    for extra in ({}, {"fileSHA1": "AB" * 20}):
        path.with_suffix(".meta").write_text(meta_text(size * 3 // 2, extra=extra))
        (problem,) = scan_session(tmp_path).problems
        assert problem.kind == "size_mismatch"
        assert "the last 33% are missing" in problem.detail and FLAG in problem.detail
        named = re.findall(r"compressed_recording\.parameters\.(\w+): (\w+)", problem.detail)
        assert bool(named) == bool(extra)
        if extra:
            ((field, value),) = named
            assert getattr(CompressionParameters(**{field: value}), field) == value
    path.with_suffix(".meta").write_text(meta_text(size // 2))
    (problem,) = scan_session(tmp_path).problems
    assert "it is 100% longer" in problem.detail


def test_a_meta_without_data_is_reported(tmp_path):
    broken_session(tmp_path).unlink()
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe01"]
    assert kinds(scan) == ["data_missing"]


def test_an_lf_file_without_its_ap_file_is_reported(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.lf.bin")
    scan = scan_session(tmp_path)
    assert scan.recordings == ()
    assert kinds(scan) == ["ap_missing"]


def test_a_broken_lf_does_not_hide_its_ap(tmp_path):
    broken_session(tmp_path)
    (write(tmp_path / "run_g0_t0.imec0.lf.bin")).write_bytes(b"")
    scan = scan_session(tmp_path)
    assert labels(scan) == ["probe00", "probe01"]
    assert kinds(scan) == ["empty_file"]


def test_a_cbin_without_or_with_a_damaged_chunk_table_is_reported(tmp_path):
    write(tmp_path / "run_g0_t0.imec1.ap.bin", serial="2")
    path = write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin")
    assert labels(scan_session(tmp_path)) == ["probe00", "probe01"]
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    assert_only_the_good_probe(tmp_path, "truncated")
    path.write_bytes(data)
    path.with_suffix(".ch").write_text("{")
    assert_only_the_good_probe(tmp_path, "ch_broken")
    path.with_suffix(".ch").unlink()
    assert_only_the_good_probe(tmp_path, "ch_missing")


# --- identity ---------------------------------------------------------------------------------


def test_identity_comes_from_the_meta_and_survives_a_rename(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin", first_sample=77)
    before = by_label(scan_session(tmp_path / "a")).identity
    (tmp_path / "a").rename(tmp_path / "b c")
    after = by_label(scan_session(tmp_path / "b c")).identity
    assert before == after
    assert before.is_strong
    assert (before.probe_serial, before.first_sample) == ("19000000001", 77)
    assert before.size_bytes == 300 * (N_NEURAL + 1) * 2


def test_a_cbin_has_the_identity_of_its_bin(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    write_cbin(tmp_path / "b/run_g0_t0.imec0.ap.cbin")
    a, b = by_label(scan_session(tmp_path / "a")), by_label(scan_session(tmp_path / "b"))
    assert a.identity == b.identity
    assert (a.format, b.format) == ("spikeglx", "cbin")


# --- real metas -------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(not METAS, reason=f"no real metas in {REAL / 'spikeglx_meta'}")
@pytest.mark.parametrize("path", METAS, ids=lambda path: f"{path.parent.name}-{path.name[:40]}")
def test_every_real_meta_gives_a_probe_or_a_typed_reason(path):
    meta = SpikeGLXMeta.read(path)
    try:
        description = describe_probe(meta)
    except Broken as broken:
        assert broken.kind in ("unknown_probe", "channel_count", "bad_gain")
        return
    n = meta.n_channels - meta.n_sync
    assert description.probe.get_contact_count() == n
    assert np.isfinite(description.probe.contact_positions).all()
    assert len({tuple(xy) for xy in description.probe.contact_positions}) == n
    assert (description.gains_uv > 0.3).all()
    assert (description.gains_uv < 50).all()
    assert description.sample_shifts is not None
    assert len(meta.channel_names()) == meta.n_channels


@pytest.mark.real
@pytest.mark.skipif(not METAS, reason=f"no real metas in {REAL / 'spikeglx_meta'}")
@pytest.mark.parametrize("path", METAS, ids=lambda path: f"{path.parent.name}-{path.name[:40]}")
def test_every_real_meta_beside_a_small_file_is_found_or_reported(tmp_path, path):
    meta = SpikeGLXMeta.read(path)
    band = meta.band
    shutil.copy(path, tmp_path / f"run_g0_t0.imec0.{band}.meta")
    data = np.ones((50, meta.n_channels), dtype=np.int16)
    (tmp_path / f"run_g0_t0.imec0.{band}.bin").write_bytes(data.tobytes())
    scan = scan_session(tmp_path)
    if band == "ap":
        assert labels(scan) == ["probe00"]
        assert by_label(scan).identity.probe_serial
        assert kinds(scan) in (["size_mismatch"], ["still_growing"])
    else:
        assert "ap_missing" in kinds(scan)
    assert_details_help(scan)


@pytest.mark.real
@pytest.mark.skipif(not METAS, reason=f"no real metas in {REAL / 'spikeglx_meta'}")
def test_gains_channels_and_probes_agree_with_the_ibl_reader():
    """ibl-neuropixel reads metas by itself; it knows fewer probes and gives volts.

    It takes a gain of 100 for the prototype of type 21, which SpikeGLX, neo and the manufacturer's
    probe table give as 80: left out.
    """
    import spikeglx

    compared = 0
    for path in METAS:
        meta = SpikeGLXMeta.read(path)
        md = spikeglx.read_meta_data(path)
        if spikeglx._get_neuropixel_version_from_meta(md) is None:
            continue
        if meta.fields.get("imDatPrb_type") == "21":
            assert describe_probe(meta).gains_uv[0] == pytest.approx(0.5 / 8192 / 80 * 1e6)
            continue
        factor = spikeglx._conversion_sample2v_from_meta(md)[meta.band]
        description = describe_probe(meta)
        expected = factor[: len(description.gains_uv)] * 1e6
        np.testing.assert_allclose(description.gains_uv, expected, rtol=1e-6)
        compared += 1
    assert compared >= 15


@pytest.mark.real
@pytest.mark.skipif(not METAS, reason=f"no real metas in {REAL / 'spikeglx_meta'}")
def test_sampling_shifts_agree_with_the_multiplexer_table_of_the_meta():
    compared = 0
    for path in METAS:
        meta = SpikeGLXMeta.read(path)
        n = meta.n_channels - meta.n_sync
        mux = shifts_from_mux(meta, np.arange(n))
        if mux is not None:
            np.testing.assert_allclose(describe_probe(meta).sample_shifts, mux)
            compared += 1
    assert compared >= 7
