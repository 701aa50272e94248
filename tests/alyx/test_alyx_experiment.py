"""Tasks and probes of a session: what was planned, what people typed, what is registered."""

import itertools
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_assets.alyx.rows import DatasetRow, InsertionRow
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.formats.names import parse_probe_name, parse_spikeglx_name
from neuro_assets.formats.spikeglx.files import DataFile
from neuro_assets.formats.walk import FoundFile
from neuro_assets.outcomes import TransientFailure
from neuro_assets.sources.alyx.expected_probes import (
    ExpectedProbe,
    expected_probes,
    probe_of,
    serial_problems,
)
from neuro_assets.sources.alyx.experiment import (
    Experiment,
    read_experiment,
    task_collections,
)

DESCRIPTION = {
    "version": "1.0.0",
    "devices": {
        "cameras": {"left": {"collection": "raw_video_data", "sync_label": "audio"}},
        "neuropixel": {
            "probe00": {"collection": "raw_ephys_data/probe00", "sync_label": "imec_sync"},
            "probe01": {"collection": "raw_ephys_data/probe01", "sync_label": "imec_sync"},
        },
    },
    "procedures": ["Ephys recording with acute probe(s)"],
    "projects": ["psychedelics"],
    "sync": {"nidq": {"collection": "raw_ephys_data", "extension": "bin"}},
    "tasks": [
        {"passiveChoiceWorld": {"collection": "raw_task_data_00", "sync_label": "bpod"}},
        {
            "passiveChoiceWorld": {
                "collection": "raw_task_data_01",
                "sync_label": "bpod",
                "extractors": ["TrialRegisterRaw", "PassiveTask"],
            }
        },
    ],
}
"""As ibllib's documentation of `session_params` has it, version 1.0.0."""


def read(data: Any) -> Experiment:
    text = data if isinstance(data, bytes) else yaml.safe_dump(data).encode()
    found = read_experiment(text)
    assert found is not None
    return found


def dataset(path: str) -> DatasetRow:
    collection, _, name = path.rpartition("/")
    return DatasetRow.of({"url": f"x/{uuid4()}", "name": name, "collection": collection})


def insertion(name: str, **more: Any) -> InsertionRow:
    return InsertionRow.of({"id": str(uuid4()), "session": "e", "name": name, **more})


def raw(probe: str) -> DatasetRow:
    return dataset(f"raw_ephys_data/{probe}/_spikeglx_ephysData_g0_t0.imec0.ap.cbin")


# The file


def test_the_description_of_a_session_is_read(tmp_path):
    (tmp_path / "_ibl_experiment.description.yaml").write_text(yaml.safe_dump(DESCRIPTION))
    for part in ("_behavior", ".7cff3f44-723d-457c-96bd-e750644e487f"):
        (tmp_path / f"_ibl_experiment.description{part}.yaml").write_text("tasks: []")
    found = read_experiment(tmp_path, [p.name for p in tmp_path.iterdir()])
    assert found is not None and found.problems == ()
    assert found.version == "1.0.0"
    assert [(t.protocol, t.collection) for t in found.tasks] == [
        ("passiveChoiceWorld", "raw_task_data_00"),
        ("passiveChoiceWorld", "raw_task_data_01"),
    ]
    assert found.probes == ("probe00", "probe01")


def test_a_session_without_a_description_has_none_and_one_of_a_single_rig_is_used(tmp_path):
    assert read_experiment(tmp_path, [p.name for p in tmp_path.iterdir()]) is None
    name = "_ibl_experiment.description.7cff3f44-723d-457c-96bd-e750644e487f.yaml"
    (tmp_path / name).write_text("version: 1.0.0")
    found = read_experiment(tmp_path, [p.name for p in tmp_path.iterdir()])
    assert found is not None and found.version == "1.0.0"


@pytest.mark.parametrize(
    "tasks",
    [
        {"a": {"collection": "raw_task_data_00"}, "b": {"collection": "raw_task_data_01"}},
        [{"a": {"collection": "raw_task_data_00"}, "b": {"collection": "raw_task_data_01"}}],
        ["a", {"b": {"collection": "raw_task_data_01"}}],
        [{"a": None}, {"b": {"collection": "raw_task_data_01/"}}],
        [{"a": None}, {"b": {"collection": "raw_task_data_01", "protocol_number": 1}}],
    ],
)
def test_tasks_are_read_in_every_form_that_versions_had(tasks):
    found = task_collections([], read({"version": "0.1.0", "tasks": tasks}), "")
    assert [(t.number, t.protocol) for t in found] == [(0, "a"), (1, "b")]
    assert found[1].raw_collection == "raw_task_data_01"


@pytest.mark.parametrize(
    "text",
    [
        b"version: 1\nversion: 2",
        b"tasks: [a: {", b"\xff\xfe\x00", b"- 1\n- 2", b"just words", b"a: 2020-99-99", b"{" * 3000,
        b"x: &a [*a]\ny: !!python/object:os.system {}", b"a: '" + b"b" * (1 << 20) + b"'",
    ],
)  # fmt: skip
def test_a_broken_description_is_a_problem_and_not_an_error(text):
    found = read(text)
    assert [problem.kind for problem in found.problems] == ["experiment_broken"]
    assert found == Experiment(problems=found.problems)


def test_a_mark_of_byte_order_is_no_part_of_the_first_key():
    text = b"\xef\xbb\xbfversion: 1.0.0"
    assert read(text).version == yaml.safe_load(text)["version"] == "1.0.0"
    assert read({"version": True}).version == ""


def test_an_empty_description_says_nothing_and_is_not_broken():
    assert read(b"") == Experiment()


def test_what_is_not_understood_is_left_out_and_said():
    found = read(
        {
            "devices": {"neuropixel": {"probe00": 3}},
            "tasks": [{"a": {"collection": "../../etc"}}, {"b": ["x"]}, 7],
            "procedures": "one",
        }
    )
    assert {problem.kind for problem in found.problems} == {"experiment_odd"}
    assert len(found.problems) == 4
    assert [task.collection for task in found.tasks] == ["", ""]
    assert found.procedures == ("one",)


def test_a_collection_with_the_slashes_of_windows_is_one():
    tasks = [{"a": {"collection": "raw_task_data_00\\"}}]
    found = read({"tasks": tasks})
    assert found.tasks[0].collection == "raw_task_data_00" and not found.problems


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates())
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["devices", "neuropixel", "tasks", "collection", "extractors"]),
                st.text(max_size=5),
                st.integers(),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@pytest.mark.property
@settings(deadline=None)
@given(TREES)
def test_any_tree_is_read_and_can_be_kept_as_json(tree):
    found = read(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))
    assert Experiment.model_validate_json(found.model_dump_json()) == found
    task_collections([], found, "a/b")
    expected_probes([], found, [])


@pytest.mark.property
@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read(text):
    read(text)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(5, "I/O error")])
def test_a_description_that_cannot_be_read_is_a_problem_or_worth_another_try(
    tmp_path, monkeypatch, error
):
    (tmp_path / "_ibl_experiment.description.yaml").write_text("version: 1")

    def refuse(*args: Any) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    if isinstance(error, PermissionError):
        found = read_experiment(tmp_path, [p.name for p in tmp_path.iterdir()])
        assert found is not None and "permission" in found.problems[0].detail
    else:
        with pytest.raises(TransientFailure, match="mounted"):
            read_experiment(tmp_path, [p.name for p in tmp_path.iterdir()])


# Tasks


def collections(*paths: str, protocol: str = "", experiment: Experiment | None = None) -> list:
    found = task_collections([dataset(path) for path in paths], experiment, protocol)
    return [(t.number, t.protocol, t.raw_collection, t.collection) for t in found]


def test_tasks_without_a_description_are_the_protocols_of_the_session_in_order():
    assert collections(
        "raw_task_data_00/_iblrig_taskData.raw.jsonable",
        "raw_task_data_01/_iblrig_taskData.raw.jsonable",
        "alf/task_01/_ibl_trials.table.pqt",
        "alf/_ibl_leftCamera.times.npy",
        protocol="_iblrig_tasks_passiveChoiceWorld8.2.1/ephysChoiceWorld",
    ) == [
        (0, "_iblrig_tasks_passiveChoiceWorld8.2.1", "raw_task_data_00", "alf/task_00"),
        (1, "ephysChoiceWorld", "raw_task_data_01", "alf/task_01"),
    ]


def test_the_second_task_that_came_first_keeps_its_protocol():
    assert collections("raw_task_data_01/x.jsonable", protocol="a/b") == [
        (1, "b", "raw_task_data_01", "alf/task_01")
    ]


def test_old_sessions_have_one_task_without_a_number():
    assert collections("raw_behavior_data/x.raw.jsonable", protocol="old") == [
        (0, "old", "raw_behavior_data", "alf")
    ]
    assert collections("alf/_ibl_trials.table.pqt", protocol="old") == [(0, "old", "", "alf")]
    assert collections(
        "raw_task_data_00/x.jsonable", "alf/_ibl_trials.table.pqt", protocol="a"
    ) == [(0, "a", "raw_task_data_00", "alf")]


def test_of_several_numbered_tasks_none_has_the_results_of_an_old_one():
    assert collections(
        "raw_behavior_data/x.jsonable",
        "raw_task_data_00/x.jsonable",
        "raw_task_data_01/x.jsonable",
        "alf/_ibl_trials.table.pqt",
    ) == [
        (0, "", "raw_task_data_00", "alf/task_00"),
        (1, "", "raw_task_data_01", "alf/task_01"),
    ]


def test_the_description_goes_before_names_of_protocols_and_the_rest_follows():
    assert collections(
        "raw_task_data_02/x.jsonable",
        "alf/task_00/x.npy",
        protocol="x/y/z",
        experiment=read(DESCRIPTION),
    ) == [
        (0, "passiveChoiceWorld", "raw_task_data_00", "alf/task_00"),
        (1, "passiveChoiceWorld", "raw_task_data_01", "alf/task_01"),
        (2, "z", "raw_task_data_02", "alf/task_02"),
    ]


def test_a_described_place_of_results_is_taken():
    task = {"a": {"collection": "raw_task_data_00", "task_collection": "alf/special"}}
    assert collections(experiment=read({"tasks": [task]})) == [
        (0, "a", "raw_task_data_00", "alf/special")
    ]


def test_two_described_tasks_in_one_folder_are_two_tasks():
    tasks = [{"a": {"collection": "raw_task_data_00"}}, {"b": {"collection": "raw_task_data_00"}}]
    assert [task[:2] for task in collections(experiment=read({"tasks": tasks}))] == [
        (0, "a"),
        (1, "b"),
    ]


def test_protocols_without_data_are_tasks_without_collections():
    assert collections(protocol=" a / /b") == [(0, "a", "", ""), (1, "b", "", "")]
    assert collections("alf/_ibl_leftCamera.times.npy") == []


# Probes

SPELLINGS = [
    "imec",
    "imec0",
    "imec00",
    "probe00",
    "probe0",
    "Probe00",
    "probe_00",
    "probe00a",
    " probe00",
]


@pytest.mark.property
@settings(deadline=None)
@given(st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS))
def test_every_spelling_of_a_probe_is_reconciled_silently(typed, folder, described):
    experiment = read({"devices": {"neuropixel": {described: None}}})
    row = insertion(typed)
    data = raw(folder.strip())
    (probe,), problems = expected_probes([row], experiment, [data])
    assert (probe.probe, probe.label) == ("probe00", "probe00")
    assert probe.insertion == row and probe.collections == (data.collection,)
    assert probe.owns(data) and not problems


def test_probes_in_one_flat_folder_are_told_apart_by_their_file_names():
    rows = [
        dataset(f"raw_ephys_data/_spikeglx_ephysData_g0_t0.{device}.cbin")
        for device in ("imec0.ap", "imec1.ap", "nidq")
    ]
    found, problems = expected_probes([insertion("probe00"), insertion("imec01")], None, rows)
    assert [(p.probe, p.collections) for p in found] == [
        ("probe00", ("raw_ephys_data",)),
        ("probe01", ("raw_ephys_data",)),
    ]
    assert [[p.owns(row) for row in rows] for p in found] == [
        [True, False, False],
        [False, True, False],
    ]
    assert not problems


def test_a_folder_named_by_people_goes_before_the_device_in_the_file_name():
    rows = [
        dataset("raw_ephys_data/probe01/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"),
        dataset("raw_ephys_data/run_g0/run_g0_imec2/run_g0_t0.imec2.ap.bin"),
        dataset("raw_ephys_data/probe01/_spikeglx_sync.times.probe01.npy"),
    ]
    found, _ = expected_probes([], None, rows)
    assert [p.probe for p in found] == ["probe01", "probe02"]
    assert len(found[0].dataset_ids) == 2


@pytest.mark.property
@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["probe01", "probe02a", "run_g0", "run_g0_imec3", "imec4", "x"])),
    st.sampled_from(["imec0", "imec5", "imec"]),
)
def test_a_dataset_is_of_the_probe_that_a_scan_of_the_folder_finds(folders, device):
    name = f"run_g0_t0.{device}.ap.bin"
    row = dataset("/".join(["raw_ephys_data", *folders, name]))
    parsed = parse_spikeglx_name(name)
    assert parsed is not None
    scanned = DataFile(FoundFile(row.path, 1, 0), parsed, None)
    assert probe_of(row) == scanned.probe


def test_data_elsewhere_and_of_other_boards_are_no_raw_data_of_a_probe():
    for path in (
        "alf/probe00/spikes.times.npy",
        "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.nidq.cbin",
    ):
        assert expected_probes([], None, [dataset(path)]) == ((), ())


@pytest.mark.parametrize("order", itertools.permutations(range(2)))
def test_two_insertions_of_one_probe_are_reported_and_one_is_used_always_the_same(order):
    rows = [insertion("imec0"), insertion("probe00")]
    (probe,), problems = expected_probes([rows[i] for i in order], None, [raw("probe00")])
    assert probe.insertion == rows[0]
    assert [problem.kind for problem in problems] == ["probe_name"]
    assert all(row.id in problems[0].detail for row in rows)


def test_a_name_that_is_no_probes_is_reported():
    experiment = read({"devices": {"neuropixel": ["left one"]}})
    found, problems = expected_probes([insertion("hippocampus")], experiment, [raw("probe00")])
    assert [p.insertion for p in found] == [None]
    assert [(p.kind, p.path) for p in problems] == [
        ("probe_name", "hippocampus"),
        ("probe_name", "left one"),
        ("data_without_insertion", "raw_ephys_data/probe00"),
    ]


def test_an_insertion_without_data_is_a_disagreement_only_when_another_probe_has_some():
    rows = [insertion("probe00"), insertion("probe01")]
    found, problems = expected_probes(rows, None, [])
    assert [p.collections for p in found] == [(), ()] and not problems
    found, problems = expected_probes(rows, None, [raw("probe01")])
    assert [p.kind for p in problems] == ["insertion_without_data"]
    assert rows[0].id in problems[0].detail and "another probe" in problems[0].detail


def test_a_described_probe_without_data_is_waited_for():
    found, problems = expected_probes([], read(DESCRIPTION), [])
    assert [(p.probe, p.collections) for p in found] == [("probe00", ()), ("probe01", ())]
    assert not problems


def test_shanks_with_data_of_their_own_are_kept_apart():
    rows = [insertion("probe00a"), insertion("probe00b"), insertion("probe01")]
    data = [raw("probe00a"), raw("probe00b"), raw("probe01")]
    found, problems = expected_probes(rows, None, data)
    assert [(p.label, p.probe, p.insertion) for p in found] == [
        ("probe00-s0", "probe00", rows[0]),
        ("probe00-s1", "probe00", rows[1]),
        ("probe01", "probe01", rows[2]),
    ]
    assert not problems


def test_a_shank_whose_data_came_first_has_the_name_that_it_keeps():
    rows = [insertion("probe00a"), insertion("probe00b")]
    first = expected_probes(rows, None, [raw("probe00a")])[0]
    both = expected_probes(rows, None, [raw("probe00a"), raw("probe00b")])[0]
    assert [p.label for p in first] == [p.label for p in both]


def test_one_insertion_stands_for_shanks_that_were_split_afterwards():
    whole = insertion("probe00")
    found, problems = expected_probes([whole], None, [raw("probe00a"), raw("probe00b")])
    assert [(p.label, p.insertion) for p in found] == [("probe00-s0", whole), ("probe00-s1", whole)]
    assert not problems


def test_insertions_of_shanks_that_were_recorded_as_one_are_one_probe():
    rows = [insertion(f"probe00{letter}") for letter in "abcd"]
    (probe,), problems = expected_probes(rows, None, [raw("probe00")])
    assert (probe.label, probe.insertions, probe.insertion) == ("probe00", tuple(rows), rows[0])
    assert not problems
    data = [raw("probe00"), raw("probe00a"), raw("probe00b")]
    (probe,), _ = expected_probes(rows, None, data)
    assert probe.label == "probe00", "as a scan does, which reads the whole probe's files"
    assert probe.dataset_ids == {row.id for row in data}


@pytest.mark.property
@settings(deadline=None)
@given(st.lists(st.text(max_size=12)), st.lists(st.text(max_size=30)), st.lists(st.text()))
def test_any_names_are_matched_each_once(typed, folders, described):
    rows = [insertion(name) for name in typed]
    data = [dataset(f"raw_ephys_data/{name}/x.imec0.ap.cbin") for name in folders]
    experiment = Experiment(probes=tuple(described))
    found, problems = expected_probes(rows, experiment, data)
    assert len({p.label for p in found}) == len(found)
    owned = [identity for p in found for identity in p.dataset_ids]
    assert sorted(owned) == sorted(row.id for row in data), "each has the device, so a probe"
    used = {row.id for p in found for row in p.insertions}
    said = "".join(problem.detail for problem in problems)
    for row in rows:
        assert row.id in used or row.id in said
        assert (parse_probe_name(row.name.strip()) is None) <= (row.id not in used)
    for problem in problems:
        problem.model_dump_json()


def recording(serial: str | None, probe: str = "probe00") -> RawRecording:
    stream = Stream(name="ap", files=("a.bin",), n_channels=2, n_samples=1, sampling_frequency=1)
    identity = Identity(probe_serial=serial, size_bytes=4)
    return RawRecording(format="spikeglx", probe=probe, streams={"ap": stream}, identity=identity)


@pytest.mark.parametrize(
    ("typed", "meta", "n"),
    [
        ("18005122641", "18005122641", 0),
        (" 018005122641", "18005122641", 0),
        ("", "18005122641", 0),
        ("18005122641", None, 0),
        ("18005122642", "18005122641", 1),
    ],
)
def test_a_serial_number_that_differs_from_the_files_is_reported(typed, meta, n):
    probes = [
        ExpectedProbe(probe="probe00", label="probe00", insertions=(insertion("x", serial=typed),))
    ]
    found = serial_problems(probes, [recording(meta), recording("5", "probe07")])
    assert [problem.kind for problem in found] == ["probe_serial"] * n
    assert not n or (typed in found[0].detail and str(meta) in found[0].detail)
