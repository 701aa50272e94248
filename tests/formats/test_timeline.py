"""Gaps of raw recordings: found in the files, carried by what is opened, and turned into times."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import spikeinterface as si
from places import REAL
from spikeglx_files import RATE, write, write_cbin

from neuro_assets.formats import scan_session
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.opening import open_raw
from neuro_assets.formats.raw_versions import raw_version
from neuro_assets.formats.timeline import (
    BLOCK,
    Timeline,
    timeline_of,
    timeline_of_files,
    timeline_of_numbers,
)

OE = REAL / "openephys_aind_v06_npx2probes"


def three_triggers(folder, writer=write):
    """300, 200 and 250 samples; 1000 are missing after the first, 7000 after the second file."""
    for trigger, (n, first) in enumerate([(300, 1000), (200, 2300), (250, 9500)]):
        suffix = "cbin" if writer is write_cbin else "bin"
        path = folder / f"run_g0_t{trigger}.imec0.ap.{suffix}"
        writer(path, n, first_sample=first, seed=trigger)
    return scan_session(folder)


@pytest.mark.parametrize("writer", [write, write_cbin])
def test_triggers_with_gaps_open_with_their_places_in_time(tmp_path, writer):
    scan = three_triggers(tmp_path, writer)
    (recording,) = scan.recordings
    assert recording.main.n_missing == 8000
    stream = open_raw(recording, tmp_path)["ap"]
    for extractor in (stream.recording, stream.neural):
        timeline = timeline_of(extractor)
        assert timeline == Timeline((0, 300, 500), (0, 1300, 8500), (0, 1, 2))
    assert timeline.seconds([0, 299, 300, 749], RATE).tolist() == [
        0.0,
        299 / RATE,
        1300 / RATE,
        8749 / RATE,
    ]
    assert timeline.dropped.sum() == 0  # pauses between triggers are no lost data
    assert timeline.missing.tolist() == [1000, 7000]


def test_triggers_without_gaps_carry_nothing(tmp_path):
    write(tmp_path / "run_g0_t0.imec0.ap.bin", 100, first_sample=1000)
    write(tmp_path / "run_g0_t1.imec0.ap.bin", 100, first_sample=1100, seed=1)
    (recording,) = scan_session(tmp_path).recordings
    stream = open_raw(recording, tmp_path)["ap"]
    assert stream.recording.get_annotation("pieces") is None
    assert recording.main.n_missing == 0


def test_gaps_make_another_raw_version_because_older_outputs_ignored_them(tmp_path):
    (recording,) = three_triggers(tmp_path).recordings
    ignored = recording.main.model_copy(update={"n_missing": 0})
    before = recording.model_copy(update={"streams": {"ap": ignored}})
    assert raw_version(recording, tmp_path) != raw_version(before, tmp_path)


def test_numbers_are_compared_across_blocks():
    numbers = np.arange(BLOCK + 10, dtype=np.int64)
    numbers[BLOCK:] += 5  # exactly where one block ends
    assert timeline_of_numbers(numbers) == Timeline((0, BLOCK), (0, BLOCK + 5), (0, 0))
    numbers[BLOCK + 3 :] += 1
    timeline = timeline_of_numbers(numbers)
    assert timeline.starts == (0, BLOCK, BLOCK + 3)
    assert timeline.dropped.tolist() == [5, 1]


@pytest.mark.parametrize("numbers", [[5, 6, 6, 7], [5, 6, 2, 3]])
def test_numbers_that_do_not_rise_are_refused(numbers):
    with pytest.raises(Broken, match="do not rise after sample 1"):
        timeline_of_numbers(np.array(numbers))


def test_numbers_that_jump_all_the_time_are_no_clock():
    with pytest.raises(Broken, match="no clock"):
        timeline_of_numbers(np.arange(0, 50_000, 2))


def test_places_on_the_clock_and_back():
    timeline = timeline_of_files([100, 150, 400], [50, 100, 20])
    assert timeline == Timeline((0, 150), (0, 300), (0, 2))  # the first two follow each other
    samples = np.arange(170)
    np.testing.assert_array_equal(timeline.from_clock(timeline.on_clock(samples)), samples)
    assert timeline.from_clock([200.0, 300.5]).tolist() == [150.0, 150.5]  # in the gap; after it


def counts_of_lf(first, length):
    """An LF stream that has every twelfth sample of the acquisition's count."""
    begin = -(-first // 12)
    return begin, -(-(first + length) // 12) - begin


def rounded(first, length):
    """One whose beginnings and lengths are rounded each by itself."""
    return first // 12, round(length / 12)


def cut_off(first, length):
    """One that loses the rest of each file."""
    return first // 12, length // 12


def begun_anew(first, length):
    """One that has a sample more in each file."""
    return first // 12, -(-length // 12)


@pytest.mark.parametrize("counting", [counts_of_lf, rounded, cut_off, begun_anew])
@pytest.mark.parametrize("pause", [0, 7, 9000])
def test_the_lf_band_stays_within_a_sample_of_the_ap_band_over_many_triggers(counting, pause):
    rng = np.random.default_rng(3)
    lengths = rng.integers(3000, 4000, 400)
    firsts = 12_345 + np.concatenate([[0], np.cumsum(lengths + pause)[:-1]])
    lf = [counting(int(f), int(n)) for f, n in zip(firsts, lengths, strict=True)]
    lf_firsts, lf_lengths = zip(*lf, strict=True)
    timeline = timeline_of_files(lf_firsts, lf_lengths, leader=firsts.tolist(), ratio=12.0)
    begins = np.cumsum((0, *lf_lengths))[:-1]
    apart = timeline.on_clock(begins) - (firsts - firsts[0]) / 12
    assert np.abs(apart).max() < 1
    if counting is counts_of_lf and not pause:
        assert not timeline.has_gaps
    assert np.all(np.diff(timeline.clock) > 0)
    assert timeline.missing.min(initial=0) >= 0


def test_rounded_counts_without_a_leader_do_not_add_up():
    lengths = [100] * 300
    firsts = [100 * i + i % 2 for i in range(300)]  # a sample late every other time
    timeline = timeline_of_files(firsts, lengths)
    assert timeline.on_clock(299 * 100) <= firsts[-1]


def test_an_lf_stream_opens_on_the_time_of_its_ap_stream(tmp_path):
    first = 12_000
    for trigger in range(60):
        n = 1201 + trigger % 11
        write(tmp_path / f"r_g0_t{trigger}.imec0.ap.bin", n, first_sample=first, seed=trigger)
        lf = tmp_path / f"r_g0_t{trigger}.imec0.lf.bin"
        extra = {"firstSample": None} if trigger == 5 else {}
        write(lf, n // 12, first_sample=first // 12, seed=trigger, extra=extra)
        first += n
    (recording,) = scan_session(tmp_path).recordings
    streams = open_raw(recording, tmp_path)
    assert not timeline_of(streams["ap"].recording).has_gaps
    timeline = timeline_of(streams["lf"].recording)
    n_lf = streams["lf"].recording.get_num_samples()
    ap_end = streams["ap"].recording.get_num_samples() / 12
    assert abs(timeline.on_clock(n_lf - 1) + 1 - ap_end) < 2
    assert recording.streams["lf"].n_missing == timeline.missing.sum() > 20


def test_stretches_are_moved_out_of_gaps():
    timeline = Timeline((0, 100, 130), (0, 500, 1000), (0, 0, 0))
    assert timeline.inside(20, 40, 1000) == 20
    assert timeline.inside(80, 40, 1000) == 60
    assert timeline.inside(110, 40, 1000) == 130
    assert timeline.longest(1000) == 870


def test_the_annotation_survives_selection_and_json():
    recording = si.generate_recording(num_channels=4, durations=[0.01])
    Timeline((0, 100), (0, 150), (0, 0)).annotate(recording)
    part = recording.select_channels(recording.channel_ids[:2])
    assert timeline_of(part) == Timeline((0, 100), (0, 150), (0, 0))
    assert json.loads(json.dumps(part.get_annotation("pieces")))["probe_sample"] == [0, 150]


@pytest.fixture
def openephys(tmp_path):
    """Copy of a real recording; gives its session folder and the streams' sample numbers."""
    source = next(OE.iterdir()) / "Record Node 101"
    target = tmp_path / "2022-05-03_10-52-24" / "Record Node 101"
    shutil.copytree(source / "experiment1", target / "experiment1")
    shutil.copy(source / "settings.xml", target)
    return tmp_path, sorted(target.glob("experiment1/recording1/continuous/*/sample_numbers.npy"))


def first_probe(folder):
    scan = scan_session(folder)
    return next(one for one in scan.recordings if one.label == "probe01"), scan.problems


@pytest.mark.real
@pytest.mark.skipif(not OE.is_dir(), reason=f"no real Open Ephys data in {OE}")
class TestOpenEphys:
    def test_the_real_recording_has_no_gaps(self, openephys):
        recording, problems = first_probe(openephys[0])
        assert recording.main.n_missing == 0 and not problems
        stream = open_raw(recording, openephys[0])["wideband"]
        assert stream.recording.get_annotation("pieces") is None

    def test_jumps_inside_a_file_are_found_reported_and_kept(self, openephys):
        folder, paths = openephys
        for path in paths:
            numbers = np.load(path)
            numbers[40:] += 3
            numbers[70:] += 30_000
            np.save(path, numbers)
        recording, problems = first_probe(folder)
        assert {problem.kind for problem in problems} == {"sample_gap"}
        assert "30003 samples" in problems[0].detail
        assert recording.main.n_missing == 30_003
        timeline = timeline_of(open_raw(recording, folder)["wideband"].neural)
        assert timeline == Timeline((0, 40, 70), (0, 43, 30_073), (0, 0, 0))
        assert timeline.dropped.sum() == 30_003

    def test_a_jump_that_is_taken_back_is_refused_at_opening(self, openephys):
        folder, paths = openephys
        for path in paths:
            numbers = np.load(path)
            numbers[40:60] += 100  # ends where it should
            np.save(path, numbers)
        recording, _ = first_probe(folder)
        with pytest.raises(Broken, match="do not rise"):
            open_raw(recording, folder)

    def test_numbers_that_end_before_they_should_are_refused_when_scanned(self, openephys):
        folder, paths = openephys
        for path in paths:
            numbers = np.load(path)
            numbers[60:] -= 1000
            np.save(path, numbers)
        scan = scan_session(folder)
        assert scan.recordings == ()
        assert "sample_numbers" in {problem.kind for problem in scan.problems}
