"""Listing folders: links, loops, places that cannot be read."""

from __future__ import annotations

import errno
import os

import pytest
from spikeglx_files import write

from neuro_assets.formats import scan_session, walk
from neuro_assets.formats.walk import UnreadableFolder, list_files
from neuro_assets.outcomes import TransientFailure


def paths(listing):
    return [found.path for found in listing.files]


def refuse(monkeypatch, folder, number):
    """Let the system answer with an error for one folder, whoever asks."""
    real = os.scandir

    def scandir(path):
        if not isinstance(path, int) and os.fspath(path) == os.fspath(folder):
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)


def test_files_are_listed_in_natural_order_with_sizes(tmp_path):
    for name in ("t10.bin", "t2.bin", "b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    listing = list_files(tmp_path)
    assert paths(listing) == ["b/x", "t2.bin", "t10.bin"]
    assert {found.size for found in listing.files} == {5}


def test_hidden_files_of_other_systems_are_left_out(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    (tmp_path / "._run_g0_t0.imec0.ap.bin").write_bytes(b"resource fork")
    (tmp_path / ".Trash").mkdir()
    write(tmp_path / ".Trash/old_g0_t0.imec0.ap.bin")
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert scan.problems == ()


def test_a_loop_of_links_ends(tmp_path):
    write(tmp_path / "run/run_g0_t0.imec0.ap.bin")
    (tmp_path / "run/again").symlink_to(tmp_path)
    (tmp_path / "run/self").symlink_to(tmp_path / "run/self")
    scan = scan_session(tmp_path)
    assert len(scan.recordings) == 1
    assert [problem.kind for problem in scan.problems] == ["dangling_link"]


def test_a_link_beside_its_target_is_not_a_second_recording(tmp_path):
    write(tmp_path / "z_run/run_g0_t0.imec0.ap.bin")
    (tmp_path / "a_latest").symlink_to("z_run")
    (tmp_path / "run_g0_t0.imec0.ap.bin").symlink_to("z_run/run_g0_t0.imec0.ap.bin")
    scan = scan_session(tmp_path)
    assert [r.main.files for r in scan.recordings] == [("z_run/run_g0_t0.imec0.ap.bin",)]
    assert scan.problems == ()


def test_data_behind_a_link_out_of_the_session_are_found(tmp_path):
    write(tmp_path / "disk2/run_g0_t0.imec0.ap.bin")
    (tmp_path / "session").mkdir()
    (tmp_path / "session/raw").symlink_to(tmp_path / "disk2")
    scan = scan_session(tmp_path / "session")
    assert scan.recordings[0].main.files == ("raw/run_g0_t0.imec0.ap.bin",)


def test_a_dangling_link_is_reported_and_hides_nothing(tmp_path):
    write(tmp_path / "run_g0_t0.imec1.ap.bin")
    (tmp_path / "run_g0_t0.imec0.ap.bin").symlink_to("/no/such/mount/x.bin")
    scan = scan_session(tmp_path)
    assert [r.label for r in scan.recordings] == ["probe01"]
    assert [problem.kind for problem in scan.problems] == ["dangling_link"]


def test_an_unreadable_folder_is_a_problem_by_name(tmp_path, monkeypatch):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    write(tmp_path / "b/run_g0_t0.imec1.ap.bin", serial="2")
    refuse(monkeypatch, tmp_path / "b", errno.EACCES)
    scan = scan_session(tmp_path)
    assert [r.label for r in scan.recordings] == ["probe00"]
    assert [(p.kind, p.path) for p in scan.problems] == [("unreadable", "b")]
    assert "permission" in scan.problems[0].detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_a_problem_by_name(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    (tmp_path / "b").mkdir(mode=0)
    assert [p.kind for p in scan_session(tmp_path).problems] == ["unreadable"]


def test_a_session_that_may_not_be_listed_is_no_empty_session(tmp_path, monkeypatch):
    refuse(monkeypatch, tmp_path, errno.EACCES)
    with pytest.raises(UnreadableFolder, match="permission"):
        list_files(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_mount_that_vanishes_below_the_session_is_a_transient_failure(
    tmp_path, monkeypatch, number
):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    refuse(monkeypatch, tmp_path / "a", number)
    with pytest.raises(TransientFailure, match="is the file server or disk there"):
        scan_session(tmp_path)


def test_a_session_folder_that_is_not_there_is_a_transient_failure(tmp_path):
    with pytest.raises(TransientFailure, match="mounted"):
        scan_session(tmp_path / "gone")


def test_a_name_that_is_not_utf8_is_reported(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.bin")).write_bytes(b"1")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    scan = scan_session(tmp_path)
    assert [problem.kind for problem in scan.problems] == ["odd_name"]
    assert scan.model_dump_json()


def test_folders_nested_without_end_are_reported(tmp_path):
    deep = tmp_path / "/".join("abcdefghijklmnopqrst")
    write(deep / "run_g0_t0.imec0.ap.bin")
    write(tmp_path / "run_g0_t0.imec1.ap.bin")
    scan = scan_session(tmp_path)
    assert [r.label for r in scan.recordings] == ["probe01"]
    assert [problem.kind for problem in scan.problems] == ["too_deep"]
