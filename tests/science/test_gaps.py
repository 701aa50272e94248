"""Events at known true times, through every output of a recording with gaps."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import spikeinterface as si
from places import REAL
from scipy import signal
from spikeglx_files import N_NEURAL, write
from spikeinterface.preprocessing import highpass_filter

from neuro_assets.assets.steps.recording_quality import CRITERIA
from neuro_assets.checks.criteria import Verdict, judge
from neuro_assets.formats import scan_session
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.timeline import Timeline, timeline_of
from neuro_assets.parameters.analyzer import AnalyzerParameters
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.parameters.preprocessing import SpikeBand
from neuro_assets.parameters.recording_quality import RecordingQualityParameters
from neuro_assets.parameters.sorting import SortingParameters
from neuro_assets.parameters.unit_quality import UnitQualityParameters
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.science import sorting as sorting_module
from neuro_assets.science.analyzer import analyze_sorting, open_analyzer
from neuro_assets.science.bad_channels import detect_bad_channels
from neuro_assets.science.compression.run import (
    compress_recording,
    open_compressed,
    open_recordings,
)
from neuro_assets.science.gaps import LevelledPiecesRecording, per_piece, retimed
from neuro_assets.science.lfp import metrics as lfp_metrics
from neuro_assets.science.lfp.extract import extract_lfp, open_lfp
from neuro_assets.science.masking import masked_periods
from neuro_assets.science.nwb.check import open_nwb
from neuro_assets.science.nwb.inputs import NwbInputs, channels_of, trains_from_tables
from neuro_assets.science.nwb.write import write_nwb
from neuro_assets.science.preprocessing import base_chain, filter_band
from neuro_assets.science.quality.recording import recording_quality
from neuro_assets.science.sorting import open_sorting, sort_recording
from neuro_assets.science.unit_quality import unit_quality
from neuro_assets.science.units import choose_units

FS = 30_000
SPANS = [(0, 45_000), (60_000, 99_000), (120_030, 180_030)]
"""What was recorded, in true samples: 1.5 s, 1.3 s and 2 s; 0.5 s and 0.701 s are missing."""

BUMPS = np.array([0.7, 2.6, 5.0])
"""Peaks of slow waves, true seconds."""

OE = REAL / "openephys_aind_v06_npx2probes"


def true_spikes():
    """Spikes every 25 ms, where something is recorded and neither an edge nor a wave is near."""
    times = np.arange(600, 180_000, 750)
    inside = np.any([(times > a + 200) & (times < b - 200) for a, b in SPANS], axis=0)
    far = np.min(np.abs(times[:, None] - BUMPS * FS), axis=1) > 2000
    return times[inside & far]


def true_traces(n_channels):
    """Noise, spikes of one cell near channel 3, and slow waves on every channel."""
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 3, (SPANS[-1][1], n_channels))
    shape = signal.windows.gaussian(31, 1.5)
    fall = np.exp(-np.abs(np.arange(n_channels) - 3) / 1.5)
    for spike in true_spikes():
        traces[spike - 15 : spike + 16] -= 200 * shape[:, None] * fall
    when = np.arange(len(traces)) / FS
    for bump in BUMPS:
        traces += 600 * np.exp(-0.5 * ((when - bump) / 0.005) ** 2)[:, None]
    return traces.round().astype(np.int16)


def triggers(folder):
    """Three SpikeGLX triggers of a Neuropixels 2.0."""
    truth = true_traces(N_NEURAL + 1)
    for number, (start, stop) in enumerate(SPANS):
        path = folder / f"run_g0_t{number}.imec0.ap.bin"
        write(path, data=truth[start:stop].copy(), first_sample=7_000 + start, np2=True)


def jumps(folder):
    """One Open Ephys file whose sample numbers jump, made from a real recording's description."""
    source = next(OE.iterdir()) / "Record Node 101"
    node = folder / "2022-05-03_10-52-24" / "Record Node 101"
    place = node / "experiment1/recording1/continuous/Neuropix-PXI-100.ProbeB"
    place.mkdir(parents=True)
    shutil.copy(source / "settings.xml", node)
    text = (source / "experiment1/recording1/structure.oebin").read_text()
    described = json.loads(text)
    described["continuous"] = described["continuous"][:1]
    (place.parent.parent / "structure.oebin").write_text(json.dumps(described))
    truth = true_traces(384)
    kept = np.concatenate([np.arange(start, stop) for start, stop in SPANS])
    truth[kept].tofile(place / "continuous.dat")
    np.save(place / "sample_numbers.npy", kept + 7_000)


def detect(job, folder, progress):
    """Stand for a sorter: troughs of one channel, as one unit."""
    trace = job.recording.get_traces()[:, 3].astype(float)
    sos = signal.butter(3, 300, "highpass", fs=FS, output="sos")
    found, _ = signal.find_peaks(-signal.sosfiltfilt(sos, trace), height=80, distance=100)
    sorting = si.NumpySorting.from_unit_dict([{0: found}], FS)
    sorting.save(folder=folder / "result")
    return {"cpu_s": 0.0, "peak_memory_bytes": 0}


class Made:
    """Every output of one recording."""

    def __init__(self, folder, monkeypatch):
        (recording,) = scan_session(folder / "raw").recordings
        out = {name: folder / name for name in ("compressed", "lfp", "sorting", "analyzer", "nwb")}
        for path in out.values():
            path.mkdir()
        streams = open_raw(recording, folder / "raw")
        self.folder = out
        self.compressed = compress_recording(streams, out["compressed"], CompressionParameters())
        self.raw = open_compressed(out["compressed"])
        self.timeline = timeline_of(self.raw)
        labels = ["good" if k < N_NEURAL else "dead" for k in range(self.raw.get_num_channels())]
        channels = pd.DataFrame({"channel_id": self.raw.channel_ids.astype(str), "label": labels})
        monkeypatch.setattr(sorting_module, "run_job", detect)
        parameters = SortingParameters.for_sorter(
            "tridesclous2", overrides={"min_duration_s": 1.0, "band": {"reference": "none"}}
        )
        self.sorted = sort_recording(self.raw, channels, None, out["sorting"], folder, parameters)
        band = SpikeBand(reference="none")
        fast = AnalyzerParameters(band=band, spike_locations="center_of_mass")
        sorting = open_sorting(out["sorting"])
        analyze_sorting(self.raw, sorting, channels, out["analyzer"], fast)
        analyzer = open_analyzer(out["analyzer"])
        quality = unit_quality(analyzer, folder, UnitQualityParameters())
        self.units = choose_units(
            {"s": quality.tables["unit_quality"]},
            {"s": "v"},
            folder,
            UnitsParameters(),
            open_source=lambda name: analyzer,
        )
        monkeypatch.setattr(lfp_metrics, "picture", lambda *given: None)
        self.lfp_result = extract_lfp(self.raw, None, channels, out["lfp"], LfpParameters())
        self.lfp = open_lfp(out["lfp"])
        self.nwb = self._write_nwb(channels, recording)

    def _write_nwb(self, channels, recording):
        tables = self.units.tables
        inputs = NwbInputs(
            key="M1_20240512_1_probe00",
            lab="lab",
            subject="M1",
            date=dt.date(2024, 5, 12),
            number="1",
            sampling_frequency=recording.main.sampling_frequency,
            n_samples=recording.main.n_samples,
            channels=channels_of(self.raw, channels),
            units=tables["units"],
            spikes=trains_from_tables(tables["units"], tables["spikes"]),
            lfp=self.lfp,
            raw=self.raw,
            timeline=self.timeline,
        )
        parameters = NwbParameters(raw_traces=len(channels) < 100)  # gzip of 110 MB takes long
        result = write_nwb(inputs, self.folder["nwb"], parameters)
        assert result.metrics["n_validation_errors"] == 0
        assert result.metrics["n_critical_file"] == 0
        return self.folder["nwb"] / "M1_20240512_1_probe00.nwb"


@pytest.fixture(
    scope="module",
    params=[
        triggers,
        pytest.param(
            jumps,
            marks=[
                pytest.mark.real,
                pytest.mark.skipif(not OE.is_dir(), reason=f"no real Open Ephys data in {OE}"),
            ],
        ),
    ],
    ids=["triggers", "jumps"],
)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    (folder / "raw").mkdir()
    request.param(folder / "raw")
    with pytest.MonkeyPatch.context() as patch:
        yield Made(folder, patch)


def test_the_compressed_copy_knows_its_gaps_with_and_without_this_package(made):
    within = made.timeline.files == (0, 0, 0)
    assert made.timeline.starts == (0, 45_000, 84_000)
    assert made.timeline.clock == (0, 60_000, 120_030)
    gaps = made.compressed.tables["gaps"]
    ours = gaps[gaps["stream"] == gaps["stream"].iloc[0]]
    assert ours["missing_samples"].tolist() == [15_000, 21_030]
    assert ours["within_file"].tolist() == [within, within]
    name = "ap" if (made.folder["compressed"] / "ap.zarr").is_dir() else "wideband"
    plain = si.read_zarr(made.folder["compressed"] / f"{name}.zarr")
    kept = np.concatenate([np.arange(start, stop) for start, stop in SPANS])
    np.testing.assert_array_equal(plain.get_times(), kept / FS)
    assert made.raw.get_total_duration() == len(kept) / FS  # what was recorded, without gaps


def test_spikes_come_out_at_their_true_times(made):
    truth = true_spikes()
    spikes = made.units.tables["spikes"]
    np.testing.assert_array_equal(spikes["probe_time_s"], truth / FS)
    np.testing.assert_array_equal(made.timeline.on_clock(spikes["sample_index"]), truth)
    for extractor in (
        open_sorting(made.folder["sorting"]),
        open_analyzer(made.folder["analyzer"]).sorting,
    ):
        assert timeline_of(extractor) == made.timeline
    (levelled,) = [step for step in made.sorted.applied if step.name == "level_pieces"]
    assert levelled.parameters["gaps_at_samples"] == [45_000, 84_000]


def test_slow_waves_come_out_at_their_true_times_in_the_lfp(made):
    timeline, rate = timeline_of(made.lfp), made.lfp.sampling_frequency
    traces = made.lfp.get_traces()[:, 0].astype(float)
    times = timeline.seconds(np.arange(len(traces)), rate)
    np.testing.assert_allclose(made.lfp.get_times(), times, rtol=0, atol=1e-12)
    np.testing.assert_allclose(times * rate, np.round(times * rate), rtol=0, atol=1e-6)
    for bump in BUMPS:
        near = np.abs(times - bump) < 0.2
        peak = times[near][np.argmax(traces[near])]
        assert peak == pytest.approx(bump, abs=0.5 / rate)
    # Every output lies in what was recorded, and no output that fits is missing.
    inside = [(times * FS >= a - 1e-6) & (times * FS <= b - 1 + 1e-6) for a, b in SPANS]
    assert np.any(inside, axis=0).all()
    expected = [np.floor((b - 1) * rate / FS) - np.ceil(a * rate / FS) + 1 for a, b in SPANS]
    assert [int(one.sum()) for one in inside] == expected


def test_a_piece_of_the_lfp_is_what_it_would_be_alone(made, tmp_path):
    alone = made.raw.frame_slice(84_000, 144_000)
    alone._annotations.pop("pieces")
    extract_lfp(alone, None, None, tmp_path, LfpParameters())
    theirs = open_lfp(tmp_path).get_traces().astype(int)
    ours = made.lfp.get_traces()[timeline_of(made.lfp).starts[2] :].astype(int)
    # The piece begins at 4.001 s: both lie on whole milliseconds.
    assert np.abs(ours - theirs[: len(ours)]).max() <= 1


def test_nwb_has_true_times_of_samples_spikes_and_lfp(made):
    io, nwb = open_nwb(made.nwb)
    try:
        np.testing.assert_array_equal(nwb.units["spike_times"].target.data[:], true_spikes() / FS)
        kept = np.concatenate([np.arange(start, stop) for start, stop in SPANS])
        for raw in nwb.acquisition.values():
            assert raw.rate is None
            np.testing.assert_array_equal(raw.timestamps[:], kept / FS)
        lfp = nwb.processing["ecephys"]["LFP"]["ElectricalSeriesLFP"]
        np.testing.assert_allclose(lfp.timestamps[:], made.lfp.get_times(), rtol=0, atol=1e-12)
        seen = np.array(nwb.units["obs_intervals"][0])
        np.testing.assert_allclose(seen, np.array(SPANS) / FS, rtol=0, atol=1e-9)
        assert "without its gaps" in nwb.units["obs_intervals"].target.description
        clock = "0 at the recording's first sample, running on through gaps"
        assert clock in nwb.units["spike_times"].target.description
        assert clock in nwb.session_description
        assert "content digest" in nwb.units["uuid"].description
        gaps = nwb.invalid_times.to_dataframe()
        gaps = gaps[[tags[0] == "gap" for tags in gaps["tags"]]]
        np.testing.assert_allclose(gaps["start_time"], [1.5, 3.3], atol=1e-9)
        np.testing.assert_allclose(gaps["stop_time"], [2.0, 4.001], atol=1e-9)
        why = "lost samples" if made.timeline.files == (0, 0, 0) else "pause between files"
        assert [list(tags) for tags in gaps["tags"]] == [["gap", why]] * 2
    finally:
        io.close()


def test_lost_samples_are_a_metric_and_pauses_are_none(made, tmp_path):
    (recording,) = open_recordings(made.folder["compressed"]).values()
    streams = {"ap": recording.select_channels(recording.channel_ids[:8])}
    labels = pd.DataFrame({"channel_id": made.raw.channel_ids.astype(str), "label": "good"})
    fast = RecordingQualityParameters(min_pieces=3)
    metrics = recording_quality(streams, tmp_path, fast, channels=labels).metrics
    assert metrics["n_gaps"] == 2
    assert metrics["gap_s"] == pytest.approx(36_030 / FS)
    lost = 36_030 if made.timeline.files == (0, 0, 0) else 0
    assert metrics["dropped_samples"] == lost
    assert metrics["dropped_fraction"] == lost / (lost + 144_000)
    (judged,) = [j for j in judge(CRITERIA, metrics) if j.criterion.metric == "dropped_fraction"]
    assert judged.verdict is (Verdict.FAIL if lost else Verdict.PASS)


def test_samples_that_only_the_lf_stream_lost_are_judged(tmp_path):
    rng = np.random.default_rng(1)
    ap, lf = (
        si.NumpyRecording([rng.normal(0, 20, (n, 8)).round().astype(np.int16)], rate)
        for n, rate in ((60_000, 30_000.0), (4_500, 2_500.0))
    )
    for recording in (ap, lf):
        recording.set_channel_gains(2.0)
        recording.set_channel_offsets(0.0)
        recording.set_dummy_probe_from_locations(np.c_[np.zeros(8), 20.0 * np.arange(8)])
    Timeline((0, 2_000), (0, 2_500), (0, 0)).annotate(lf)
    labels = pd.DataFrame({"channel_id": ap.channel_ids.astype(str), "label": "good"})
    fast = RecordingQualityParameters(min_pieces=3)
    metrics = recording_quality({"ap": ap, "lf": lf}, tmp_path, fast, channels=labels).metrics
    assert (metrics["n_gaps"], metrics["dropped_samples"]) == (0, 0)
    assert (metrics["lf_n_gaps"], metrics["lf_gap_s"], metrics["lf_dropped_samples"]) == (
        1,
        0.2,
        500,
    )
    assert metrics["dropped_fraction"] == 0.1
    (judged,) = [j for j in judge(CRITERIA, metrics) if j.criterion.metric == "dropped_fraction"]
    assert judged.verdict is Verdict.FAIL


def stepped(bounds=(6_000, 9_000)):
    """Noise whose level jumps at each gap by 1000."""
    rng = np.random.default_rng(1)
    traces = rng.normal(0, 5, (15_000, N_NEURAL))
    for bound in bounds:
        traces[bound:] += 1000
    ids = [str(k) for k in range(N_NEURAL)]
    recording = si.NumpyRecording([traces.astype(np.int16)], FS, channel_ids=ids)
    depths = np.arange(N_NEURAL) * 20.0
    recording.set_dummy_probe_from_locations(np.stack([np.zeros(N_NEURAL), depths], axis=1))
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    starts = (0, *bounds)
    clock = tuple(start + 30_000 * k for k, start in enumerate(starts))
    Timeline(starts, clock, (0,) * len(starts)).annotate(recording)
    channels = pd.DataFrame({"channel_id": recording.channel_ids.astype(str), "label": "good"})
    return recording, channels


def test_a_filter_begins_anew_after_a_gap():
    recording, _ = stepped()
    options = {"freq_min": 300.0, "dtype": "float32"}
    filtered = per_piece(recording, highpass_filter, **options)
    alone = recording.frame_slice(6_000, 9_000)
    alone._annotations.pop("pieces")
    expected = highpass_filter(alone, add_reflect_padding=True, **options).get_traces()
    for start, stop in [(6_000, 9_000), (5_000, 10_000), (7_000, 8_000)]:
        ours = filtered.get_traces(start_frame=start, end_frame=stop)
        inside = slice(max(start, 6_000), min(stop, 9_000))
        np.testing.assert_allclose(
            ours[inside.start - start : inside.stop - start],
            expected[inside.start - 6_000 : inside.stop - 6_000],
            atol=0.1,  # numbers of this size, and SpikeInterface's margin of 5 ms
        )


@pytest.mark.parametrize("whose", ["ours", "a sorter's"])
def test_a_jump_of_the_level_at_a_gap_makes_no_spikes(whose):
    recording, channels = stepped()
    for with_gaps in (True, False):
        if not with_gaps:
            recording._annotations.pop("pieces")
        chain = base_chain(recording, channels, None, SpikeBand())
        if whose == "ours":
            filter_band(chain, SpikeBand())
        else:
            chain.recording = highpass_filter(chain.recording, freq_min=300.0, dtype="float32")
        largest = np.abs(chain.recording.get_traces()).max()
        assert (largest < 40) == with_gaps


def test_levelled_pieces_are_the_same_wherever_a_read_begins():
    recording, _ = stepped((3_000, 6_000, 9_000))
    levelled = LevelledPiecesRecording(recording, 30)
    whole = levelled.get_traces().astype(int)
    assert np.abs(whole.mean(axis=0)).max() < 20  # three steps of 1000 are gone
    for start, stop in [(0, 100), (2_990, 3_010), (3_000, 6_000), (5_999, 9_001), (14_990, 15_000)]:
        part = levelled.get_traces(start_frame=start, end_frame=stop, channel_ids=["2", "5"])
        np.testing.assert_array_equal(part, whole[start:stop, [2, 5]])
    again = si.load(levelled.to_dict(), base_folder=None)
    np.testing.assert_array_equal(
        again.get_traces(start_frame=8_000, end_frame=10_000), whole[8_000:10_000]
    )


def test_pieces_of_a_few_samples_do_no_harm(tmp_path):
    recording, channels = stepped((3, 4, 40, 7_000))
    chain = base_chain(recording, channels, None, SpikeBand())
    filter_band(chain, SpikeBand())
    assert np.isfinite(chain.recording.get_traces()).all()
    extract_lfp(recording, None, None, tmp_path, LfpParameters())
    timeline = timeline_of(open_lfp(tmp_path))
    # Pieces without a whole millisecond in them are in no output.
    assert timeline.clock[0] == 0 and len(timeline.starts) < 5
    found = detect_bad_channels(
        recording, tmp_path, BadChannelsParameters(chunk_duration_s=0.2, n_chunks=5)
    )
    assert len(found.tables["channels"]) == N_NEURAL


def test_saturation_is_not_joined_across_a_gap(tmp_path):
    recording, channels = stepped()
    traces = recording.get_traces().copy()
    traces[5_990:6_010] = 30_000
    clipped = si.NumpyRecording([traces], FS, channel_ids=recording.channel_ids)
    recording.copy_metadata(clipped)
    result = recording_quality(
        {"ap": clipped},
        tmp_path,
        RecordingQualityParameters(saturation_range_uv=20_000),
        channels=channels,
    )
    found = result.tables["saturation"]
    both = found[["start_sample", "stop_sample"]].to_numpy().tolist()
    assert [5_989, 6_000] in both and [6_000, 6_010] in both
    # The jump of the level at the other gap is no saturation: time passed there.
    assert not ((found["start_sample"] <= 9_000) & (found["stop_sample"] >= 8_999)).any()


def test_surroundings_of_gaps_are_masked():
    assert masked_periods(None, 1000, 30, np.array([500])).tolist() == [[470, 530]]
    saturation = pd.DataFrame({"start_sample": [520], "stop_sample": [540]})
    assert masked_periods(saturation, 1000, 30, np.array([500])).tolist() == [[470, 570]]


def test_a_motion_estimate_is_on_the_probes_clock_and_is_applied_in_samples():
    from spikeinterface.core.motion import Motion

    timeline = Timeline((0, 30_000), (0, 90_000), (0, 1))
    bins = np.array([0.5, 1.5, 2.5])
    motion = Motion(np.zeros((3, 1)), bins, np.zeros(1))
    moved = retimed(motion, timeline, lambda times: timeline.seconds(times * FS, FS))
    assert moved.temporal_bins_s[0].tolist() == [0.5, 3.5, 4.5]
    back = retimed(moved, timeline, lambda times: timeline.from_clock(times * FS) / FS)
    assert back.temporal_bins_s[0].tolist() == bins.tolist()


def lf_and_ap(folder, lf_first):
    """One trigger from 1.0 s on; its LF file has a wave 2.5 s into the acquisition."""
    quiet = np.random.default_rng(1).normal(0, 2, (90_000, N_NEURAL + 1)).round().astype(np.int16)
    write(folder / "run_g0_t0.imec0.ap.bin", data=quiet, first_sample=30_000)
    times = (lf_first + np.arange(7_000)) / 2500
    wave = 300 * np.exp(-0.5 * ((times - 2.5) / 0.005) ** 2)
    lf = (quiet[:7_000] + wave[:, None]).round().astype(np.int16)
    write(folder / "run_g0_t0.imec0.lf.bin", data=lf, first_sample=lf_first)
    return scan_session(folder)


@pytest.mark.parametrize(("lf_first", "kinds"), [(2750, ["lf_offset"]), (2500, [])])
def test_an_lf_stream_that_begins_after_its_ap_stream_keeps_its_time(tmp_path, lf_first, kinds):
    scan = lf_and_ap(tmp_path / "raw", lf_first)
    assert [problem.kind for problem in scan.problems] == kinds
    (recording,) = scan.recordings
    for name in ("compressed", "lfp"):
        (tmp_path / name).mkdir()
    streams = open_raw(recording, tmp_path / "raw")
    compress_recording(streams, tmp_path / "compressed", CompressionParameters())
    stored = open_recordings(tmp_path / "compressed")
    assert bool(stored["lf"].get_annotation("offset_samples")) == bool(kinds)
    extract_lfp(stored["ap"], stored["lf"], None, tmp_path / "lfp", LfpParameters.resolve())
    lfp = open_lfp(tmp_path / "lfp")
    trace = lfp.get_traces(return_in_uV=True)[:, 3]
    assert lfp.get_times()[np.argmax(trace)] == pytest.approx(1.5, abs=0.0015)


def test_an_lf_file_that_begins_a_sample_early_makes_no_output_twice(tmp_path):
    """Rounded counts of joined LF files: the second begins on the last sample of the first."""
    recording = si.NumpyRecording([np.ones((5000, 4), np.int16)], 1000.0)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    Timeline((0, 2500), (0, 2499), (0, 1)).annotate(recording)
    extract_lfp(None, recording, None, tmp_path, LfpParameters.resolve())
    times = open_lfp(tmp_path).get_times()
    np.testing.assert_allclose(np.diff(times), 1e-3)
    assert len(times) == 4999
