"""Sorter sets, the process that sorts, its outcomes, and what is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import spikeinterface as si
from pydantic import ValidationError
from spikeinterface.curation import remove_duplicated_spikes

from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason, TransientFailure
from neuro_assets.parameters.sorting import SWITCHES, SortingParameters
from neuro_assets.science.sorting import (
    effective_parameters,
    open_sorting,
    process,
    sort_recording,
    sorter_chain,
)
from neuro_assets.science.sorting.child import describe_failure, sum_templates_in_order
from neuro_assets.science.sorting.clean import clean_sorting
from neuro_assets.science.sorting.process import Job, last_line, run_job


def good(recording: si.BaseRecording, **other: str) -> pd.DataFrame:
    ids = recording.channel_ids.astype(str)
    return pd.DataFrame({"channel_id": ids, "label": [other.get(name, "good") for name in ids]})


def quiet(n_samples: int = 30_000, n_channels: int = 4) -> si.BaseRecording:
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 10, (n_samples, n_channels)).astype(np.int16)
    made = si.NumpyRecording([traces], 30_000.0)
    depths = np.arange(n_channels) * 20.0
    made.set_dummy_probe_from_locations(np.stack([np.zeros(n_channels), depths], axis=1))
    return made


# --- who does what --------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SortingParameters.sets))
def test_every_named_set_has_a_source_and_each_step_once(name: str) -> None:
    assert SortingParameters.sets[name].source
    parameters = SortingParameters.resolve(name)
    for switch in SWITCHES[parameters.sorter]:
        by_sorter = {getattr(parameters, step) == "sorter" for step in switch.steps}
        assert len(by_sorter) == 1
        assert parameters.switches[switch.parameter] == switch.value(by_sorter.pop())


@pytest.mark.parametrize(
    ("sorter", "fields", "words"),
    [
        ("kilosort4", {"sorter_parameters": {"do_CAR": False}}, "reference.*never"),
        (
            "kilosort4",
            {
                "filtering": "ours",
                "reference": "ours",
                "whitening": "ours",
                "sorter_parameters": {"do_CAR": True},
            },
            "reference.*twice",
        ),
        ("kilosort4", {"filtering": "ours"}, "filtering, whitening together"),
        ("kilosort4", {"reference": "ours"}, "wrong order"),
        ("spykingcircus2", {"filtering": "ours"}, "filtering, reference together"),
        ("spykingcircus2", {"sorter_parameters": {"apply_whitening": False}}, "whitening.*never"),
        ("tridesclous2", {"filtering": "ours", "reference": "ours"}, "together"),
        (
            "tridesclous2",
            {"drift": "off", "sorter_parameters": {"apply_motion_correction": True}},
            "drift.*although it is off",
        ),
        ("tridesclous2", {"drift": "ours"}, "filtering: ours as well"),
        ("mountainsort5", {"reference": "sorter"}, "no reference of its own"),
    ],
)
def test_a_step_twice_or_never_is_refused(sorter: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SortingParameters.for_sorter(sorter, overrides=fields)


def test_a_named_set_of_another_sorter_is_refused() -> None:
    assert SortingParameters.for_sorter("kilosort4", "aind").sorter_parameters["nblocks"] == 5
    with pytest.raises(KeyError, match="for kilosort4, not for tridesclous2"):
        SortingParameters.for_sorter("tridesclous2", "aind")
    with pytest.raises(KeyError, match="no parameter set"):
        SortingParameters.for_sorter("tridesclous2", "nonsense")


def test_overrides_of_the_sorter_are_merged_with_those_of_the_set() -> None:
    parameters = SortingParameters.for_sorter(
        "tridesclous2", overrides={"sorter_parameters": {"detect_threshold": 6.0}}
    )
    assert parameters.sorter_parameters["seed"] == 42
    assert parameters.sorter_parameters["detect_threshold"] == 6.0


def test_effective_parameters_hold_the_defaults_and_what_follows_from_the_channels() -> None:
    parameters = SortingParameters.for_sorter(
        "spykingcircus2", overrides={"sorter_parameters": {"filtering": {"freq_min": 300}}}
    )
    effective = effective_parameters(parameters, n_channels=64)
    assert effective["apply_preprocessing"] is True
    assert effective["apply_motion_correction"] is False  # 64 < 96
    assert effective["matching"]["method"] == "circus-omp"  # a default
    assert effective["filtering"] == {
        "freq_min": 300,
        "freq_max": 7000,
        "ftype": "bessel",
        "filter_order": 2,
    }
    assert effective_parameters(parameters, n_channels=96)["apply_motion_correction"] is True
    json.dumps(effective)


def test_the_chain_holds_only_the_steps_that_are_ours() -> None:
    raw = quiet(n_channels=20)
    theirs = SortingParameters.for_sorter("kilosort4")
    assert sorter_chain(raw, good(raw), None, theirs).applied == []
    assert theirs.switches == {
        "skip_kilosort_preprocessing": False,
        "do_CAR": True,
        "do_correction": True,
    }
    ours = SortingParameters.for_sorter(
        "kilosort4", overrides={"filtering": "ours", "reference": "ours", "whitening": "ours"}
    )
    chain = sorter_chain(raw, good(raw), None, ours)
    assert [s.name for s in chain.applied] == ["highpass_filter", "common_reference", "whiten"]
    assert ours.switches["skip_kilosort_preprocessing"] is True
    assert ours.switches["do_CAR"] is False


def test_our_drift_correction_needs_the_estimate() -> None:
    raw = quiet(n_channels=20)
    ours = SortingParameters.for_sorter(
        "spykingcircus2",
        overrides={
            "filtering": "ours",
            "reference": "ours",
            "drift": "ours",
            "drift_min_channels": 4,
        },
    )
    with pytest.raises(PermanentFailure, match="motion"):
        sorter_chain(raw, good(raw), None, ours)


# --- refused before anything runs -----------------------------------------------------------


def refuse(tmp_path: Path, sorter: str = "tridesclous2", **fields: Any) -> None:
    raw = quiet()
    parameters = SortingParameters.for_sorter(sorter, overrides={"min_duration_s": 0, **fields})
    sort_recording(raw, good(raw), None, tmp_path, tmp_path, parameters)


def test_a_short_recording_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(Skipped) as skip:
        refuse(tmp_path, min_duration_s=10)
    assert skip.value.reason is SkipReason.RECORDING_TOO_SHORT
    assert "1.0 s" in skip.value.detail


def test_kilosort_without_a_gpu_refuses_a_long_recording(tmp_path: Path) -> None:
    pytest.importorskip("kilosort")
    own = {"torch_device": "cpu"}
    with pytest.raises(PermanentFailure, match="GPU.*force_cpu"):
        refuse(tmp_path, "kilosort4", max_cpu_duration_s=0.5, sorter_parameters=own)


def test_kilosort_without_ps_is_refused_before_it_starts(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("kilosort")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermanentFailure, match="calls the program ps.*apt-get install procps"):
        refuse(tmp_path, "kilosort4", sorter_parameters={"torch_device": "cpu"})


def test_an_unknown_sorter_or_parameter_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="no sorter 'kilosort5'"):
        refuse(tmp_path, "kilosort5")
    with pytest.raises(PermanentFailure, match="no parameter 'detect_treshold'"):
        refuse(tmp_path, sorter_parameters={"detect_treshold": 5})
    assert list(tmp_path.iterdir()) == []  # scratch is clean


# --- how a process ends ---------------------------------------------------------------------


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the sorter's process by a few lines of Python, with the job's folder as `folder`."""

    def install(code: str) -> Path:
        script = tmp_path / "pretend.py"
        head = "import os, sys, time, signal, json, pathlib\nfolder = pathlib.Path(sys.argv[1])\n"
        script.write_text(head + code)
        real = subprocess.Popen

        def popen(command: list[str], **options: Any) -> Any:
            return real([sys.executable, str(script), command[-1]], **options)

        monkeypatch.setattr(process.subprocess, "Popen", popen)
        monkeypatch.setattr(process, "HEARTBEAT_S", 0.1)
        folder = tmp_path / "job"
        folder.mkdir()
        return folder

    return install


def job() -> Job:
    return Job("tridesclous2", {}, quiet(300), 1)


def end(folder: Path) -> Any:
    return run_job(job(), folder, lambda fraction, words: None)


ANSWER = "(folder / 'answer.json').write_text(json.dumps(dict(status={!r}, message={!r})))"


def test_a_killed_sorter_is_transient_and_says_memory(pretend: Any) -> None:
    folder = pretend("print('fitting', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TransientFailure, match="killed.*memory.*fitting"):
        end(folder)


def test_a_shell_that_reports_137_is_the_same(pretend: Any) -> None:
    with pytest.raises(TransientFailure, match="memory"):
        end(pretend("sys.exit(137)"))


def test_a_crash_is_permanent_and_names_the_signal(pretend: Any) -> None:
    with pytest.raises(PermanentFailure, match="signal 11"):
        end(pretend("os.kill(os.getpid(), signal.SIGSEGV)"))


def test_a_sorter_that_raises_is_permanent_with_its_last_line(pretend: Any) -> None:
    with pytest.raises(PermanentFailure, match="ValueError: the probe is upside down"):
        end(pretend(ANSWER.format("error", "ValueError: the probe is upside down")))


def test_a_sorter_that_finds_nothing_is_a_skip(pretend: Any) -> None:
    with pytest.raises(Skipped) as skip:
        end(pretend(ANSWER.format("nothing", "ValueError: No spikes detected")))
    assert skip.value.reason is SkipReason.NO_UNITS_FOUND


def test_progress_is_reported_while_the_sorter_runs(pretend: Any) -> None:
    code = "print('clustering 40%\\rclustering 50%', flush=True)\ntime.sleep(1)\n"
    said: list[tuple[float, str]] = []
    run_job(
        job(),
        pretend(code + ANSWER.format("done", "")),
        lambda fraction, words: said.append((fraction, words)),
    )
    fractions = [fraction for fraction, _ in said]
    assert len(said) > 3
    assert fractions == sorted(fractions) and fractions[-1] < 1
    assert any("clustering 50%" in words for _, words in said)


def test_an_interrupted_step_leaves_no_process_behind(pretend: Any) -> None:
    folder = pretend(
        "import subprocess\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "(folder / 'pids').write_text(f'{os.getpid()} {worker.pid}')\ntime.sleep(60)"
    )

    def interrupt(fraction: float, words: str) -> None:
        if (folder / "pids").exists() and (folder / "pids").read_text().count(" "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(), folder, interrupt)
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert gone(pids)


def gone(pids: list[int]) -> bool:
    for _ in range(200):
        alive = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != "zombie"]
        if not alive:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("MemoryError", "memory"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 TiB", "memory"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "memory"),
        ("concurrent.futures.process.BrokenProcessPool: A process was terminated", "memory"),
        ("ValueError: No spikes detected, cannot continue sorting.", "nothing"),
        ("AssertionError: Prototype should have a negative peak", "nothing"),
        ("KeyError: 'contact_vector'", "error"),
        ("ZeroDivisionError: division by zero", "error"),
    ],
)
def test_the_sorters_own_traceback_decides_what_kind_of_failure_it_is(
    tmp_path: Path, error: str, status: str
) -> None:
    (tmp_path / "sorter").mkdir()
    trace = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', f"  {error}"]
    log = tmp_path / "sorter" / "spikeinterface_log.json"
    log.write_text(json.dumps({"error_trace": trace}))
    answer = describe_failure(tmp_path, "SpikeSortingError: Spike sorting failed.")
    assert answer == {"status": status, "message": error}


def test_an_error_after_nothing_was_found_is_not_the_sorters_fault(tmp_path: Path) -> None:
    (tmp_path / "sorter.log").write_text("detect_peaks(): 0 peaks found\n")
    trace = "Traceback (most recent call last):\n  ...\nZeroDivisionError: division by zero\n"
    assert describe_failure(tmp_path, trace)["status"] == "nothing"
    (tmp_path / "sorter.log").write_text("detect_peaks(): 130 peaks found\n")
    assert describe_failure(tmp_path, trace)["status"] == "error"


def test_the_last_line_of_a_progress_bar_is_its_last_state(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("start\n\r 10%|#\r 20%|##\n\n")
    assert last_line(log) == "20%|##"


@pytest.mark.integration
def test_the_sorter_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    quiet(30_000).save(folder=tmp_path / "raw", verbose=False)
    (tmp_path / "job").mkdir()
    code = (
        "import spikeinterface as si, pathlib\n"
        "from neuro_assets.science.sorting.process import Job, run_job\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "job = Job('tridesclous2', {}, si.load(root / 'raw'), 1)\n"
        "run_job(job, root / 'job', lambda f, w: print(w, flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert "started" in parent.stdout.readline()
    children: list[psutil.Process] = []
    while not any("sorting.child" in " ".join(c.cmdline()) for c in children):
        children = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone([child.pid for child in children])


# --- what is kept ---------------------------------------------------------------------------


def found(spikes: list[tuple[int, int]], unit_ids: list[Any]) -> si.BaseSorting:
    samples, units = (np.array(column) for column in zip(*spikes, strict=True))
    made = si.NumpySorting.from_samples_and_labels(
        samples, units, 30_000.0, unit_ids=np.arange(len(unit_ids))
    )
    return made.rename_units(unit_ids)


def test_spikes_outside_the_recording_and_in_masked_periods_are_dropped_and_counted() -> None:
    raw = found([(-3, 0), (5, 0), (10, 1), (19, 1), (20, 0), (99, 0), (100, 0), (15, 2)], [4, 7, 9])
    masked = np.array([[10, 20]])
    clean, dropped = clean_sorting(raw, n_samples=100, masked=masked)
    assert dropped == {
        "spikes_outside": 2, "spikes_in_masked": 3, "repeated_spikes": 0, "sparse_units": 2
    }  # fmt: skip
    assert clean.unit_ids.tolist() == [4]
    assert clean.get_unit_spike_train(4).tolist() == [5, 20, 99]


def test_a_spike_repeated_at_its_sample_is_kept_once_as_spikeinterface_would() -> None:
    rng = np.random.default_rng(3)
    train = np.sort(rng.choice(30_000, 200, replace=False))
    repeats = rng.choice(train, 40)
    spikes = [(int(s), 0) for s in np.r_[train, repeats, repeats[:5]]]
    spikes += [(int(s), 1) for s in train] + [(int(s) + 1, 1) for s in train[:10]]
    raw = found(spikes, [4, 7])
    clean, dropped = clean_sorting(raw, 30_001, np.zeros((0, 2), dtype=int))
    assert clean.get_unit_spike_train(4).tolist() == train.tolist()
    # One sample apart, and the same sample in another unit, are not repeats.
    expected = remove_duplicated_spikes(raw, censored_period_ms=0)
    for unit in (4, 7):
        np.testing.assert_array_equal(
            clean.get_unit_spike_train(unit), expected.get_unit_spike_train(unit)
        )
    assert dropped["repeated_spikes"] == 45


def test_units_with_hardly_any_spikes_are_dropped_and_counted() -> None:
    raw = found([(i, 0) for i in range(10)] + [(i, 1) for i in range(9)], [0, 1])
    clean, dropped = clean_sorting(raw, 100, np.zeros((0, 2), dtype=int), min_spikes=10)
    assert clean.unit_ids.tolist() == [0]
    assert dropped["sparse_units"] == 1


def test_names_that_are_not_numbers_become_numbers_and_are_kept_as_a_property() -> None:
    clean, _ = clean_sorting(found([(1, 0), (2, 1)], ["7-merged", "a"]), 100, np.zeros((0, 2), int))
    assert clean.unit_ids.tolist() == [0, 1]
    assert clean.get_property("sorter_unit_id").tolist() == ["7-merged", "a"]


def test_the_main_channel_and_objects_are_not_kept_of_the_sorters_properties() -> None:
    raw = found([(1, 0), (2, 1)], [3, 5])
    raw.set_property("main_channel_id", np.array(["AP1", "AP2"]))
    raw.set_property("KSLabel", np.array(["good", "mua"]))
    raw.set_property("history", np.array([{"a": 1}, None], dtype=object))
    clean, _ = clean_sorting(raw, 100, np.zeros((0, 2), dtype=int))
    assert set(clean.get_property_keys()) == {"KSLabel"}


@pytest.fixture(scope="module")
def sorted_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One real run: 17 channels of which one is dead, 12 s, one saturated period."""
    root = tmp_path_factory.mktemp("sorting")
    raw, truth = si.generate_ground_truth_recording(
        durations=[12.0], num_channels=17, num_units=5, seed=1, sampling_frequency=30_000.0
    )
    saturation = pd.DataFrame({"start_sample": [90_000], "stop_sample": [105_000]})
    (root / "out").mkdir()
    (root / "scratch").mkdir()
    result = sort_recording(
        raw,
        good(raw, **{"15": "dead"}),
        saturation,
        root / "out",
        root / "scratch",
        SortingParameters.for_sorter("tridesclous2"),
        n_jobs=1,
    )
    return {"root": root, "result": result, "truth": truth, "raw": raw}


@pytest.mark.integration
def test_found_spikes_are_samples_of_the_recording_whatever_was_masked(
    sorted_once: dict[str, Any],
) -> None:
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    sorting = open_sorting(sorted_once["root"] / "out")
    samples = sorting.to_spike_vector()["sample_index"]
    assert not np.any((samples >= 90_000 - 30) & (samples < 105_000 + 30))
    after = sorted_once["truth"].frame_slice(105_030, 360_000)
    comparison = compare_sorter_to_ground_truth(after, sorting.frame_slice(105_030, 360_000))
    assert comparison.count_well_detected_units(well_detected_score=0.8) >= 2
    assert sorted_once["result"].metrics["masked_s"] == pytest.approx(15_060 / 30_000)
    assert sorted_once["result"].metrics["n_units"] == sorting.get_num_units()


@pytest.mark.integration
def test_what_was_done_is_recorded_with_the_effective_parameters(
    sorted_once: dict[str, Any],
) -> None:
    applied = sorted_once["result"].applied
    assert [s.name for s in applied] == [
        "remove_bad_channels",
        "bridge_saturated_periods",
        "sort:tridesclous2",
    ]
    sorter = applied[-1].parameters
    assert sorter["by"] == {
        "filtering": "sorter",
        "reference": "sorter",
        "whitening": "sorter",
        "drift": "off",
    }
    assert sorter["detect_threshold"] == 5.0 and sorter["apply_motion_correction"] is False
    json.dumps(sorter)


@pytest.mark.integration
def test_scratch_is_empty_and_no_path_of_it_is_kept(sorted_once: dict[str, Any]) -> None:
    root = sorted_once["root"]
    assert list((root / "scratch").iterdir()) == []
    assert {p.name for p in (root / "out").iterdir()} == {
        "sorting.zarr",
        "sorter.log",
        "spikeinterface_log.json",
    }
    for file in (root / "out").rglob("*"):
        if file.is_file():
            assert str(root).encode() not in file.read_bytes(), file
    assert "tridesclous2 run time" in (root / "out" / "sorter.log").read_text()


@pytest.mark.integration
def test_a_moved_sorting_opens_with_plain_spikeinterface(
    sorted_once: dict[str, Any], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(sorted_once["root"] / "out" / "sorting.zarr", tmp_path / "moved.zarr")
    moved = si.load(tmp_path / "moved.zarr")
    assert moved.get_num_units() == sorted_once["result"].metrics["n_units"]
    assert moved.unit_ids.dtype == np.int64


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ps"), reason="kilosort4 calls ps: apt-get install procps")
def test_kilosort4_runs_on_the_cpu_for_a_very_short_recording(tmp_path: Path) -> None:
    pytest.importorskip("kilosort")
    raw, truth = si.generate_ground_truth_recording(
        durations=[10.0], num_channels=16, num_units=4, seed=2, sampling_frequency=30_000.0
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    parameters = SortingParameters.for_sorter(
        "kilosort4", overrides={"sorter_parameters": {"torch_device": "cpu"}}
    )
    result = sort_recording(
        raw, good(raw), None, tmp_path / "out", tmp_path / "scratch", parameters
    )
    assert result.metrics["n_units"] >= 1
    assert result.applied[-1].parameters["by"]["filtering"] == "sorter"
    assert result.applied[-1].parameters["do_correction"] is False
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ps"), reason="kilosort4 calls ps: apt-get install procps")
def test_kilosort4_finds_true_units_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("kilosort")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    from neuro_assets.simulation import simulate_recording

    raw, truth = simulate_recording(60.0, 64, seed=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    parameters = SortingParameters.for_sorter("kilosort4")
    sort_recording(raw, good(raw), None, tmp_path / "out", tmp_path / "scratch", parameters)
    found = open_sorting(tmp_path / "out")
    compared = compare_sorter_to_ground_truth(truth, found, exhaustive_gt=True)
    assert (compared.get_performance()["accuracy"].astype(float) >= 0.8).sum() >= 10


def test_templates_do_not_depend_on_which_worker_got_which_piece(monkeypatch):
    """Float32 sums of two workers differ in their last bits from the sums of one."""
    from spikeinterface.core import waveform_tools

    executor = waveform_tools.TimeSeriesChunkExecutor
    monkeypatch.setattr(waveform_tools, "TimeSeriesChunkExecutor", executor)
    recording, sorting = si.generate_ground_truth_recording(durations=[10], num_units=3, seed=1)
    spikes = sorting.to_spike_vector()

    def templates(n_jobs: int) -> np.ndarray:
        return waveform_tools.estimate_templates_with_accumulator(
            recording, spikes, sorting.unit_ids, 30, 30, n_jobs=n_jobs, chunk_duration="1s"
        )

    alone = templates(1)
    assert not np.array_equal(templates(2), alone)
    sum_templates_in_order()
    assert np.array_equal(templates(2), alone)
