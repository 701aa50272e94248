"""Opening raw recordings: samples, gains, probes, shifts, joined triggers, changed files."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from places import NO_NP24, NP24, REAL
from spikeglx_files import N_NEURAL, imro_np1, samples, write, write_cbin

from neuro_assets.formats import scan_session
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.raw_versions import BLOCK, N_BLOCKS, raw_version, sampled_hash
from neuro_assets.outcomes import PermanentFailure, TransientFailure

METAS = REAL / "spikeglx_meta"


def only(folder):
    return scan_session(folder).recordings[0]


def test_samples_come_back_in_file_order_with_sync_apart(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    stream = open_raw(only(tmp_path), tmp_path)["ap"]
    assert np.array_equal(stream.recording.get_traces(), samples(300))
    assert np.array_equal(stream.neural.get_traces(), samples(300)[:, :-1])
    assert stream.recording.get_dtype() == np.int16
    assert stream.sync_channel_ids == ["imec0.ap#SY0"]
    assert stream.neural.channel_ids.tolist() == [f"imec0.ap#AP{i}" for i in range(N_NEURAL)]
    assert stream.recording.get_num_segments() == 1


def test_gains_of_np1_are_those_of_each_channels_row(tmp_path):
    rows = ["(0,384)"] + [f"({i} 0 0 {(250, 500)[i % 2]} 125 1)" for i in range(384)]
    extra = {"~imroTbl": "".join(rows)}
    write(tmp_path / "run_g0_t0.imec0.ap.bin", extra=extra)
    write(tmp_path / "run_g0_t0.imec0.lf.bin", 25, extra=extra)
    streams = open_raw(only(tmp_path), tmp_path)
    # 0.6 V over 512 steps, divided by the amplifier's gain.
    np.testing.assert_allclose(
        streams["ap"].neural.get_channel_gains(), [0.6 / 512 / g * 1e6 for g in (250, 500) * 4]
    )
    np.testing.assert_allclose(streams["lf"].neural.get_channel_gains(), 0.6 / 512 / 125 * 1e6)
    uv = streams["ap"].neural.get_traces(return_in_uV=True)
    np.testing.assert_allclose(uv[:, 0], samples(300)[:, 0] * 0.6 / 512 / 250 * 1e6, rtol=1e-6)


def test_gains_of_np2_are_80_or_what_the_meta_says(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin", np2=True)
    write(
        tmp_path / "b/run_g0_t0.imec0.ap.bin",
        np2=True,
        extra={"imChan0apGain": "100", "imMaxInt": "2048", "imAiRangeMax": "0.62"},
    )
    a = open_raw(only(tmp_path / "a"), tmp_path / "a")["ap"].neural
    b = open_raw(only(tmp_path / "b"), tmp_path / "b")["ap"].neural
    np.testing.assert_allclose(a.get_channel_gains(), 0.5 / 8192 / 80 * 1e6)
    np.testing.assert_allclose(b.get_channel_gains(), 0.62 / 2048 / 100 * 1e6)
    # FIELD: 6250 uV for the prototype, 6200 uV for the commercial probe.
    assert a.get_annotation("saturation_threshold_uV") == pytest.approx(6250)
    assert b.get_annotation("saturation_threshold_uV") == pytest.approx(6200)


def test_a_saved_subset_that_starts_late_has_the_contacts_and_gains_of_its_channels(tmp_path):
    rows = ["(0,384)"] + [f"({i} 0 0 {500 + 500 * (i >= 100)} 250 1)" for i in range(384)]
    extra = {"~imroTbl": "".join(rows), "snsSaveChanSubset": "98:101,200:203,768"}
    write(tmp_path / "run_g0_t0.imec0.ap.bin", extra=extra)
    neural = open_raw(only(tmp_path), tmp_path)["ap"].neural
    assert neural.channel_ids[0] == "imec0.ap#AP98"
    gains = [0.6 / 512 / g * 1e6 for g in (500, 500, 1000, 1000, 1000, 1000, 1000, 1000)]
    np.testing.assert_allclose(neural.get_channel_gains(), gains)
    # NP1000: two contacts a row, rows 20 um apart.
    assert neural.get_channel_locations()[:, 1].tolist() == [
        20.0 * (channel // 2) for channel in (98, 99, 100, 101, 200, 201, 202, 203)
    ]


def test_the_lf_stream_has_the_probe_of_the_ap_stream(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    write(tmp_path / "run_g0_t0.imec0.lf.bin", 25)
    streams = open_raw(only(tmp_path), tmp_path)
    ap, lf = streams["ap"].neural, streams["lf"].neural
    assert lf.channel_ids[0] == "imec0.lf#LF0"
    assert lf.get_sampling_frequency() == 2500
    np.testing.assert_array_equal(ap.get_channel_locations(), lf.get_channel_locations())
    assert lf.get_probe().get_contact_count() == N_NEURAL


def test_sampling_shifts_of_np1_and_np2_are_known_fractions(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    write(tmp_path / "b/run_g0_t0.imec0.ap.bin", np2=True)
    a = open_raw(only(tmp_path / "a"), tmp_path / "a")["ap"].neural
    b = open_raw(only(tmp_path / "b"), tmp_path / "b")["ap"].neural
    # Even and odd channels have a converter of their own, so pairs are sampled together; 13
    # cycles with an LF band, 16 without.
    steps = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(a.get_property("inter_sample_shift"), steps / 13)
    np.testing.assert_allclose(b.get_property("inter_sample_shift"), steps / 16)


def test_data_that_catgt_has_shifted_are_not_shifted_again(tmp_path):
    for name, command in (("a", "<CatGT -run=r>"), ("b", "<CatGT -run=r -no_tshift -apfilter=x>")):
        write(tmp_path / name / "run_g0_tcat.imec0.ap.bin", extra={"catGTCmdline0": command})
    a = open_raw(only(tmp_path / "a"), tmp_path / "a")["ap"].neural
    b = open_raw(only(tmp_path / "b"), tmp_path / "b")["ap"].neural
    assert a.get_property("inter_sample_shift") is None
    assert b.get_property("inter_sample_shift") is not None
    assert not a.get_annotation("is_filtered")
    assert b.get_annotation("is_filtered")


def test_triggers_are_one_segment_in_time_order(tmp_path):
    parts = []
    for trigger in (0, 1, 2, 10):
        n = 50 + trigger
        parts.append(samples(n, trigger))
        write(
            tmp_path / f"run_g0_t{trigger}.imec0.ap.bin",
            n,
            seed=trigger,
            first_sample=1000 + 100 * trigger,
        )
    stream = open_raw(only(tmp_path), tmp_path)["ap"]
    assert stream.recording.get_num_segments() == 1
    assert np.array_equal(stream.recording.get_traces(), np.concatenate(parts))
    assert np.array_equal(
        stream.neural.get_traces(start_frame=40, end_frame=120),
        np.concatenate(parts)[40:120, :-1],
    )
    assert stream.neural.get_property("inter_sample_shift") is not None
    assert stream.sha1 == tuple(hashlib.sha1(part.tobytes()).hexdigest() for part in parts)


def test_a_cbin_reads_as_its_bin(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin", 1000)
    write_cbin(tmp_path / "b/run_g0_t0.imec0.ap.cbin", 1000)
    a = open_raw(only(tmp_path / "a"), tmp_path / "a")["ap"]
    b = open_raw(only(tmp_path / "b"), tmp_path / "b")["ap"]
    assert np.array_equal(a.recording.get_traces(), b.recording.get_traces())
    for start, stop in ((0, 1), (119, 121), (240, 999), (999, 1000), (500, 500)):
        assert np.array_equal(
            a.neural.get_traces(start_frame=start, end_frame=stop),
            b.neural.get_traces(start_frame=start, end_frame=stop),
        )
    assert a.sha1 == b.sha1
    assert b.recording.channel_ids.tolist() == a.recording.channel_ids.tolist()
    np.testing.assert_array_equal(a.neural.get_channel_gains(), b.neural.get_channel_gains())


def test_opened_streams_travel_to_other_processes(tmp_path):
    from spikeinterface.core import load

    write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin", first_sample=1000)
    write_cbin(tmp_path / "run_g0_t1.imec0.ap.cbin", first_sample=1300, seed=1)
    neural = open_raw(only(tmp_path), tmp_path)["ap"].neural
    for copy in (pickle.loads(pickle.dumps(neural)), load(neural.to_dict(recursive=True))):
        assert np.array_equal(copy.get_traces(), neural.get_traces())
        np.testing.assert_array_equal(copy.get_channel_gains(), neural.get_channel_gains())
        np.testing.assert_array_equal(copy.get_channel_locations(), neural.get_channel_locations())


def test_a_cbin_with_uuid_names_is_opened(tmp_path):
    write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin")
    for i, extension in enumerate(("cbin", "ch", "meta")):
        uuid = f"0000000{i}-89ab-cdef-0123-456789abcdef"
        (tmp_path / f"run_g0_t0.imec0.ap.{extension}").rename(
            tmp_path / f"run_g0_t0.imec0.ap.{uuid}.{extension}"
        )
    stream = open_raw(only(tmp_path), tmp_path)["ap"]
    assert np.array_equal(stream.recording.get_traces(), samples(300))


def test_a_damaged_cbin_fails_by_name_when_it_is_read(tmp_path):
    path = write_cbin(tmp_path / "run_g0_t0.imec0.ap.cbin", 1000)
    one = only(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(Broken, match=r"imec0\.ap\.cbin cannot be decompressed"):
        open_raw(one, tmp_path)["ap"].recording.get_traces()


# --- files that change ------------------------------------------------------------------------


def test_a_missing_file_is_a_permanent_failure_by_name(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    one = only(tmp_path)
    path.unlink()
    with pytest.raises(PermanentFailure, match=r"run_g0_t0\.imec0\.ap\.bin is missing"):
        open_raw(one, tmp_path)


def test_a_missing_meta_is_a_permanent_failure_by_name(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    one = only(tmp_path)
    path.with_suffix(".meta").unlink()
    with pytest.raises(PermanentFailure, match=r"ap\.meta is missing"):
        open_raw(one, tmp_path)


def test_a_file_of_another_size_is_a_permanent_failure_by_name(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    one = only(tmp_path)
    path.write_bytes(path.read_bytes()[:-18])
    with pytest.raises(PermanentFailure, match=r"ap\.bin was changed: it has 5382 bytes"):
        open_raw(one, tmp_path)


def test_a_meta_that_changed_its_channels_is_a_permanent_failure(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    one = only(tmp_path)
    meta = tmp_path / "run_g0_t0.imec0.ap.meta"
    text = meta.read_text().replace("nSavedChans=9", "nSavedChans=5")
    meta.write_text(text.replace("snsApLfSy=8,0,1", "snsApLfSy=4,0,1"))
    with pytest.raises(PermanentFailure, match=r"ap\.meta was changed"):
        open_raw(one, tmp_path)


def test_a_vanished_mount_is_a_transient_failure(tmp_path):
    write(tmp_path / "mnt/run_g0_t0.imec0.ap.bin")
    one = only(tmp_path / "mnt")
    (tmp_path / "mnt").rename(tmp_path / "gone")
    with pytest.raises(TransientFailure, match="mounted"):
        open_raw(one, tmp_path / "mnt")


def test_a_stale_file_handle_is_a_transient_failure(tmp_path, monkeypatch):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    one = only(tmp_path)

    def stat(self, **_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(TransientFailure, match="Stale file handle"):
        open_raw(one, tmp_path)


# --- versions of raw data ---------------------------------------------------------------------


def version(folder, **options):
    return raw_version(only(folder), folder, **options)


def test_a_version_is_16_digits_and_stays(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    assert version(tmp_path) == version(tmp_path)
    assert len(version(tmp_path)) == 16
    int(version(tmp_path), 16)


def test_a_version_survives_a_new_name_and_place(tmp_path):
    write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    before = version(tmp_path / "a")
    (tmp_path / "b c").mkdir()
    for suffix in (".bin", ".meta"):
        (tmp_path / f"a/run_g0_t0.imec0.ap{suffix}").rename(
            tmp_path / f"b c/other_g0_t0.imec0.ap{suffix}"
        )
    assert version(tmp_path / "b c") == before


@pytest.mark.parametrize("byte", [0, 2_700, 5_399])
def test_a_changed_byte_changes_the_version_of_a_small_file(tmp_path, byte):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    before, stat = version(tmp_path), path.stat()
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert version(tmp_path) != before


def test_a_changed_meta_changes_the_version(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin")
    before = version(tmp_path), version(tmp_path, use_file_hash=True)
    meta = tmp_path / "run_g0_t0.imec0.ap.meta"
    meta.write_text(meta.read_text().replace(imro_np1(), imro_np1(ap_gain=1000)))
    after = version(tmp_path), version(tmp_path, use_file_hash=True)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_file_hash_survives_a_copy_and_sampling_does_not(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin")
    sampled, hashed = version(tmp_path), version(tmp_path, use_file_hash=True)
    os.utime(path, ns=(1, 1))
    assert version(tmp_path) != sampled
    assert version(tmp_path, use_file_hash=True) == hashed
    meta = path.with_suffix(".meta")
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    meta.write_text(meta.read_text().replace(sha1, "f" * 40))
    assert version(tmp_path, use_file_hash=True) != hashed


def test_without_a_file_hash_the_version_is_sampled(tmp_path):
    path = write(tmp_path / "run_g0_t0.imec0.ap.bin", sha1="0")
    before = version(tmp_path, use_file_hash=True)
    os.utime(path, ns=(1, 1))
    assert version(tmp_path, use_file_hash=True) != before


def test_the_sampled_hash_sees_both_ends_and_the_middle_of_a_large_file(tmp_path):
    path = tmp_path / "large"
    size = (N_BLOCKS + 20) * BLOCK
    with path.open("wb") as file:
        file.truncate(size)
    seen = {sampled_hash(path, size, tmp_path)}
    for at in (0, size - 1, 4 * (size - BLOCK) // (N_BLOCKS - 1)):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\x01")
        seen.add(sampled_hash(path, size, tmp_path))
    assert len(seen) == 4


def test_the_version_of_missing_data_is_a_named_failure(tmp_path):
    path = write(tmp_path / "a/run_g0_t0.imec0.ap.bin")
    one = only(tmp_path / "a")
    path.unlink()
    with pytest.raises(PermanentFailure, match=r"ap\.bin is missing"):
        raw_version(one, tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(TransientFailure, match="mounted"):
        raw_version(one, tmp_path / "a")


# --- real data --------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(not NP24.is_dir(), reason=NO_NP24)
def test_the_real_recordings_open_as_with_spikeinterfaces_own_reader():
    from spikeinterface.extractors import read_spikeglx

    scan = scan_session(NP24)
    assert [one.label for one in scan.recordings] == ["probe00", "probe00-r2"]
    assert scan.problems == ()
    for one in scan.recordings:
        stream = open_raw(one, NP24)["ap"]
        reference = read_spikeglx(NP24 / Path(one.main.files[0]).parent, stream_id="imec0.ap")
        assert np.array_equal(stream.neural.get_traces(), reference.get_traces())
        assert stream.neural.channel_ids.tolist() == reference.channel_ids.tolist()
        for name in ("gain_to_uV", "offset_to_uV", "inter_sample_shift", "group"):
            np.testing.assert_allclose(
                stream.neural.get_property(name), reference.get_property(name)
            )
        np.testing.assert_allclose(
            stream.neural.get_channel_locations(), reference.get_channel_locations()
        )
        assert stream.neural.get_annotation("saturation_threshold_uV") == pytest.approx(
            reference.get_annotation("saturation_threshold_uV")
        )
        sha1 = hashlib.sha1(stream.recording.get_traces().tobytes()).hexdigest()
        assert stream.sha1 == (sha1,)


@pytest.mark.real
@pytest.mark.skipif(not METAS.is_dir(), reason=f"no real metas in {METAS}")
def test_gains_and_geometry_of_real_metas_agree_with_spikeinterfaces_own_reader(tmp_path):
    from spikeinterface.extractors import read_spikeglx

    compared = 0
    for i, path in enumerate(sorted(METAS.rglob("*.ap.meta"))):
        folder = tmp_path / str(i)
        folder.mkdir()
        # neo takes the stream's name from the meta: give it the name that the file has.
        lines = path.read_text().splitlines()
        name = "run_g0_t0.imec0.ap"
        lines = [f"fileName={name}.bin" if x.startswith("fileName=") else x for x in lines]
        tables = ("imroTbl", "snsChanMap", "snsShankMap")
        lines = ["~" + x if x.startswith(tables) else x for x in lines]
        (folder / f"{name}.meta").write_text("\n".join(lines) + "\n")
        n = next(int(x.split("=")[1]) for x in lines if x.startswith("nSavedChans="))
        np.ones((20, n), np.int16).tofile(folder / f"{name}.bin")
        one = only(folder)
        neural = open_raw(one, folder)["ap"].neural
        try:
            reference = read_spikeglx(folder, stream_id="imec0.ap")
        except (ValueError, KeyError, IndexError):
            continue  # neo fails on NP1110
        if reference.get_num_channels() != neural.get_num_channels():
            continue  # neo counts four sync channels of quad base among the neural ones
        np.testing.assert_allclose(neural.get_channel_gains(), reference.get_channel_gains())
        np.testing.assert_allclose(
            neural.get_channel_locations(), reference.get_channel_locations()
        )
        compared += 1
    assert compared >= 13
