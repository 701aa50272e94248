"""The files of a simulated session: other people's readers must find in them what truth says."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.simulation import simulate_recording, simulate_session

GAINS = {"NP1": (2.34375, 512), "NP2": (3.02734375, 2048), "NP2.4": (3.02734375, 2048)}


def truth(made, name: str) -> pd.DataFrame:
    return pd.read_parquet(made.truth / f"{name}.parquet")


def read_meta(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def rising(level: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(level.astype(int)) == 1) + 1


def tree_hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two NP1 probes, 6 s, with a video."""
    out = tmp_path_factory.mktemp("session")
    return simulate_session(out, duration_s=6, n_channels=12, n_probes=2, seed=5)


@pytest.fixture(scope="module", params=["NP1", "NP2", "NP2.4"])
def probe_session(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("probe")
    made = simulate_session(
        out, duration_s=1, n_channels=20, seed=2, probe_model=request.param, video=False
    )
    return request.param, made


def test_the_session_lies_in_a_one_tree_and_its_flag_is_the_last_file_written(session):
    parts = session.session.parts[-5:]
    assert parts == ("simlab", "Subjects", "SIM-001", "2025-01-15", "001")
    files = [path for path in session.session.rglob("*") if path.is_file()]
    flag = session.session / "raw_session.flag"
    assert flag in files
    assert all(path.stat().st_mtime_ns <= flag.stat().st_mtime_ns for path in files)
    folders = {path.parent.relative_to(session.session).as_posix() for path in files}
    assert folders == {
        ".",
        "raw_behavior_data",
        "raw_ephys_data",
        "raw_ephys_data/probe00",
        "raw_ephys_data/probe01",
        "raw_video_data",
    }


def test_the_truth_is_beside_the_lab_in_parquet_and_json_only(session):
    assert session.session not in session.truth.parents
    assert session.truth.name == "SIM-001_2025-01-15_001"
    assert {path.suffix for path in session.truth.iterdir()} == {".parquet", ".json"}
    about = json.loads((session.truth / "session.json").read_text())
    assert about["seed"] == 5
    assert about["clock"] == "session"


def test_every_meta_states_size_length_and_sha1_of_its_binary(session):
    metas = sorted(session.session.rglob("*.meta"))
    assert len(metas) == 5
    for path in metas:
        meta, data = read_meta(path), path.with_suffix(".bin").read_bytes()
        rate = float(meta.get("imSampRate") or meta["niSampRate"])
        assert int(meta["fileSizeBytes"]) == len(data)
        assert meta["fileSHA1"] == hashlib.sha1(data).hexdigest().upper()
        samples = len(data) / 2 / int(meta["nSavedChans"])
        assert float(meta["fileTimeSecs"]) == pytest.approx(samples / rate)
        assert meta["fileName"].endswith(path.with_suffix(".bin").name)


def test_probes_have_their_own_serials_clocks_and_data(session):
    metas = [read_meta(path) for path in sorted(session.session.rglob("*.ap.meta"))]
    for key in ("imDatPrb_sn", "fileSHA1", "firstSample"):
        assert metas[0][key] != metas[1][key]
    pieces = truth(session, "sync_map")
    assert pieces["ppm"].nunique() == 2
    counts = [int(meta["firstSample"]) for meta in metas]
    assert pieces["first_sample"].tolist() == counts


def test_spikeinterface_reads_channels_gains_probe_and_sampling_moments(probe_session):
    from spikeinterface.extractors import read_spikeglx

    model, made = probe_session
    folder = made.session / "raw_ephys_data" / "probe00"
    recording = read_spikeglx(folder, stream_id="imec0.ap")
    assert recording.get_num_channels() == 20
    assert recording.get_num_samples() == 30000
    np.testing.assert_allclose(recording.get_channel_gains(), GAINS[model][0])
    channels = truth(made, "channels")
    assert list(recording.channel_ids) == channels["channel_id"].tolist()
    locations = channels[["x_um", "y_um"]].to_numpy()
    np.testing.assert_allclose(recording.get_channel_locations(), locations)
    memory, _ = simulate_recording(1, 20, seed=2, probe_model=model)
    shifts = recording.get_property("inter_sample_shift")
    np.testing.assert_allclose(memory.get_property("inter_sample_shift"), shifts)
    groups = 4 if model == "NP2.4" else 1
    assert len(set(recording.get_channel_groups())) == groups


def test_a_np1_lf_file_is_read_with_its_own_gain_and_the_ap_files_sync(probe_session):
    from spikeinterface.extractors import read_spikeglx

    model, made = probe_session
    folder = made.session / "raw_ephys_data" / "probe00"
    if model != "NP1":
        assert not list(folder.glob("*.lf.*"))
        return
    lf = read_spikeglx(folder, stream_id="imec0.lf")
    assert lf.get_num_samples() == 2500
    np.testing.assert_allclose(lf.get_channel_gains(), 4.6875)
    sync = [
        read_spikeglx(folder, stream_id=f"imec0.{band}-SYNC").get_traces() for band in ("ap", "lf")
    ]
    np.testing.assert_array_equal(sync[0][::12], sync[1])


def test_a_recording_in_memory_is_the_sessions_ap_file(probe_session):
    model, made = probe_session
    path = next(made.session.rglob("*.ap.bin"))
    written = np.fromfile(path, "<i2").reshape(-1, 21)[:, :-1]
    recording, sorting = simulate_recording(1, 20, seed=2, probe_model=model)
    np.testing.assert_array_equal(recording.get_traces(), written)
    spikes = truth(made, "spikes")
    vector = sorting.to_spike_vector()
    assert sorted(vector["sample_index"]) == sorted(spikes["sample_index"])


def test_ibl_neuropixel_reads_the_files_and_confirms_their_hashes(probe_session):
    spikeglx = pytest.importorskip("spikeglx")
    model, made = probe_session
    path = next(made.session.rglob("*.ap.bin"))
    with spikeglx.Reader(path) as reader:
        assert reader.verify_hash()
        assert reader.nc == 21
        assert reader.version == {"NP1": "3B2", "NP2": "NP2.1", "NP2.4": "NP2.4"}[model]
        np.testing.assert_allclose(reader.sample2volts[:-1], GAINS[model][0] * 1e-6)
        shanks = {0.0} if model != "NP2.4" else {0.0, 1.0, 2.0, 3.0}
        assert set(reader.geometry["shank"].tolist()) == shanks


def test_samples_never_leave_the_converters_range(probe_session):
    model, made = probe_session
    limit = GAINS[model][1]
    traces = np.fromfile(next(made.session.rglob("*.ap.bin")), "<i2").reshape(-1, 21)[:, :-1]
    assert traces.max() <= limit - 1
    assert traces.min() >= -limit


def test_all_384_channels_of_a_four_shank_probe_are_read_back(tmp_path):
    import probeinterface

    made = simulate_session(
        tmp_path, duration_s=0.5, n_channels=384, seed=0, probe_model="NP2.4", video=False
    )
    probe = probeinterface.read_spikeglx(next(made.session.rglob("*.ap.meta")))
    assert probe.get_contact_count() == 384
    assert [int((probe.shank_ids == str(s)).sum()) for s in range(4)] == [96] * 4
    locations = truth(made, "channels")[["x_um", "y_um"]].to_numpy()
    np.testing.assert_allclose(probe.contact_positions, locations)


def test_the_nidq_carries_pulses_frames_trials_and_wheel_on_their_lines(session):
    from spikeinterface.extractors import read_spikeglx

    folder = session.session / "raw_ephys_data"
    nidq = read_spikeglx(folder, stream_id="nidq")
    word = nidq.get_traces()[:, 2]
    frames = truth(session, "frames")["session_s"].to_numpy()
    np.testing.assert_allclose(rising(word & 1) / 30000, frames, atol=1 / 30000)
    pulses = truth(session, "pulses").query("probe == 'probe00' and status != 'extra'")
    found = rising(word >> 3 & 1) / 30000
    np.testing.assert_allclose(found, pulses["session_s"].to_numpy(), atol=1 / 30000)
    volts = nidq.get_traces(channel_ids=[nidq.channel_ids[1]])[:, 0].astype(float) * 5 / 32768
    np.testing.assert_array_equal(rising(volts > 1.1) / 30000, found)
    cues = truth(session, "trials")["goCue_times"].to_numpy()
    np.testing.assert_allclose(rising(word >> 7 & 1) / 30000, cues, atol=1 / 30000)


def test_the_wheels_quadrature_gives_the_position_back(session):
    nidq = np.fromfile(next(session.session.rglob("*.nidq.bin")), "<i2").reshape(-1, 3)
    line_a, line_b = nidq[:, 2] >> 5 & 1, nidq[:, 2] >> 6 & 1
    # Gray code of the four states, in order of a positive turn.
    state = np.array([[0, 3], [1, 2]])[line_a, line_b]
    step = (np.diff(state) + 1) % 4 - 1
    assert set(np.unique(step)) <= {-1, 0, 1}
    moved_cm = np.cumsum(step) * 2 * np.pi * 3.1 / 4096
    position = truth(session, "position")
    row = np.minimum((position["session_s"] * 30000).astype(int), len(moved_cm) - 1)
    expected = position["position_cm"] - position["position_cm"][0]
    assert expected.abs().max() > 20
    assert np.abs(moved_cm[row] - expected).max() < 0.1
    lines = (session.session / "raw_behavior_data" / "_iblrig_encoderPositions.raw.ssv").read_text()
    last = lines.splitlines()[-200].split()
    seconds, turns = int(last[0]) / 1000, int(last[1]) / 1024
    at = np.interp(seconds, position["session_s"], expected)
    assert abs(turns * 2 * np.pi * 3.1 - at) < 0.2


def test_the_video_holds_the_saved_frames_and_shows_the_keypoints(session):
    import cv2

    path = next(session.session.rglob("_iblrig_leftCamera.raw.mp4"))
    film = cv2.VideoCapture(str(path))
    frames, keypoints = truth(session, "frames"), truth(session, "keypoints")
    images = []
    while (grabbed := film.read())[0]:
        images.append(grabbed[1])
    saved = frames[frames["frame"] >= 0]
    assert len(images) == len(saved) == keypoints["frame"].nunique()
    assert len(frames) - len(saved) == max(1, round(0.002 * len(frames)))
    assert images[0].shape == (192, 256, 3)
    assert film.get(cv2.CAP_PROP_FPS) == 60
    counter = np.fromfile(path.with_name("_iblrig_leftCamera.frame_counter.bin"))
    np.testing.assert_array_equal(counter, saved["exposure"])
    stamps = path.with_name("_iblrig_leftCamera.timestamps.ssv").read_text().splitlines()
    assert len(stamps) == len(saved)
    nose = keypoints.query("keypoint == 'nose' and visible and frame % 20 == 0")
    # The nose is the only red thing: more red than blue, nowhere else on the track as much.
    for row in nose.itertuples():
        image = images[row.frame].astype(int)
        red = image[:, :, 2] - image[:, :, 0]
        y, x = np.unravel_index(
            np.argmax(cv2.GaussianBlur(red.astype(np.float32), (5, 5), 0)), red.shape
        )
        assert np.hypot(x - row.x_px, y - row.y_px) < 3


def test_trials_and_settings_are_written_as_a_rig_writes_them(session):
    folder = session.session / "raw_behavior_data"
    settings = json.loads((folder / "_iblrig_taskSettings.raw.json").read_text())
    assert settings["SUBJECT"] == "SIM-001"
    lines = (folder / "_iblrig_taskData.raw.jsable").read_text().splitlines()
    trials = truth(session, "trials")
    assert len(lines) == len(trials)
    for line, trial in zip(lines, trials.itertuples(), strict=True):
        data = json.loads(line)["behavior_data"]
        reward = data["States timestamps"]["reward"][0][0] + data["Trial start timestamp"]
        assert reward == pytest.approx(trial.feedback_times, abs=2e-4)


def small(out: Path, **options):
    defaults = {"duration_s": 4, "n_channels": 6, "seed": 9, "probe_model": "NP1", "video": False}
    return simulate_session(out, **{**defaults, **options})


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    options = {"duration_s": 1.5, "video": True}
    first = small(tmp_path / "a", **options)
    second = small(tmp_path / "b", **options)
    other = small(tmp_path / "c", seed=10, **options)
    assert tree_hashes(first.session) == tree_hashes(second.session)
    assert tree_hashes(first.truth) == tree_hashes(second.truth)
    same, changed = tree_hashes(first.session), tree_hashes(other.session)
    different = {name for name in same if same[name] != changed[name]}
    assert {Path(name).suffix for name in different} >= {".bin", ".meta", ".mp4"}


def test_triggers_cut_one_recording_without_changing_a_sample(tmp_path):
    whole = small(tmp_path / "a")
    cut = small(tmp_path / "b", triggers=3)
    for stream in ("imec0.ap", "imec0.lf", "nidq"):
        one = next(whole.session.rglob(f"*_t0.{stream}.bin")).read_bytes()
        parts = sorted(cut.session.rglob(f"*.{stream}.bin"))
        assert [path.name.split(".")[0][-6:] for path in parts] == ["_g0_t0", "_g0_t1", "_g0_t2"]
        assert b"".join(path.read_bytes() for path in parts) == one
    metas = [read_meta(path) for path in sorted(cut.session.rglob("*.ap.meta"))]
    for meta, later in zip(metas, metas[1:], strict=False):
        samples = int(meta["fileSizeBytes"]) // 2 // int(meta["nSavedChans"])
        assert int(meta["firstSample"]) + samples == int(later["firstSample"])


def test_a_trigger_may_end_where_a_chunk_of_the_simulation_ends(tmp_path):
    from neuro_assets.simulation.traces import CHUNK

    made = small(tmp_path, triggers=2, duration_s=4 * CHUNK / 30_000)
    for stream in ("ap", "lf"):
        parts = sorted(made.session.rglob(f"*imec0.{stream}.bin"))
        assert len(parts) == 2 and len({path.stat().st_size for path in parts}) == 1


def test_gates_are_separate_recordings_of_one_clock_and_the_same_units(tmp_path):
    made = small(tmp_path, gates=2, n_probes=2, duration_s=5)
    names = sorted(path.name for path in made.session.rglob("*.ap.bin"))
    assert names == [
        f"_spikeglx_ephysData_g{gate}_t0.imec{probe}.ap.bin" for gate in (0, 1) for probe in (0, 1)
    ]
    pieces = truth(made, "sync_map").query("probe == 'probe01'")
    metas = [read_meta(path) for path in sorted(made.session.rglob("*.imec1.ap.meta"))]
    counts = np.array([int(meta["firstSample"]) for meta in metas])
    assert pieces["first_sample"].tolist() == counts.tolist()
    # The count goes on through the pause, to the coarse grid on which files begin.
    seconds = np.diff(pieces["session_s"])[0]
    assert np.diff(counts)[0] / 30000 == pytest.approx(seconds, abs=0.001)
    assert metas[0]["imDatPrb_sn"] == metas[1]["imDatPrb_sn"]
    assert metas[0]["fileCreateTime"] < metas[1]["fileCreateTime"]
    spikes = truth(made, "spikes").query("probe == 'probe01'")
    assert set(spikes["gate"]) == {0, 1}
    assert spikes["sample_index"].max() < 2.5 * 30000
    assert len(list(made.session.rglob("*.nidq.bin"))) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_channels": 385}, "1 to 384"),
        ({"n_channels": 0}, "1 to 384"),
        ({"probe_model": "NP9"}, "no probe model"),
        ({"difficulty": "easy"}, "no difficulty"),
        ({"subject": "../../x"}, "cannot name a folder"),
        ({"lab": ".."}, "cannot name a folder"),
        ({"gates": 0}, "at least 1"),
        ({"duration_s": 1, "triggers": 4}, "longer session"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(tmp_path, options, words):
    with pytest.raises(PermanentFailure, match=words):
        small(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_existing_session_is_never_overwritten(tmp_path):
    made = small(tmp_path, duration_s=1)
    before = tree_hashes(made.session)
    with pytest.raises(PermanentFailure, match="exists"):
        small(tmp_path, duration_s=1, seed=77)
    assert tree_hashes(made.session) == before
    again = small(tmp_path, duration_s=1, number=2, date=date(2025, 1, 15))
    assert again.session.name == "002"


def test_names_with_spaces_and_other_scripts_are_kept(tmp_path):
    made = small(tmp_path, duration_s=0.5, subject="Mäuschen 7")
    assert made.session.parent.parent.name == "Mäuschen 7"
    assert "Mäuschen 7" in next(made.session.rglob("*.ap.meta")).read_text(encoding="utf-8")


def test_progress_ends_at_one_and_never_goes_back(tmp_path):
    seen = []
    small(
        tmp_path, duration_s=1, video=True, progress=lambda fraction, words: seen.append(fraction)
    )
    assert seen[-1] == 1
    assert seen == sorted(seen)
