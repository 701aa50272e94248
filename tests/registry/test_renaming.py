"""A recording gets another key: everything that it has stays its own, wherever a rename is cut."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from itertools import count
from pathlib import Path

import commands
import dagster as dg
import pytest
from labs import SmallLab
from records import claim
from spikeglx_files import write

from neuro_assets.assets import steps
from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.checks import check_specs
from neuro_assets.formats.model import Identity
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.partitions import SESSION_PROBE, SET_NAME
from neuro_assets.registry import late_results
from neuro_assets.registry import renaming as in_registry
from neuro_assets.service import home, renaming
from neuro_assets.service.renaming import rename
from neuro_assets.store import attempt
from neuro_assets.store import store as store_module

pytestmark = pytest.mark.integration

TEXT = "store: {url: store}"

TOY = '''
"""One asset a recording, one a session and one that fails; each computation leaves a line."""

import os
from pathlib import Path
from typing import ClassVar

import pandas as pd

from neuro_assets import names
from neuro_assets.assets.step import Need, step
from neuro_assets.parameters.base import StepParameters
from neuro_assets.science.result import StepResult


class FirstParameters(StepParameters):
    step: ClassVar[str] = "toy"
    value: int = 1


class SharedParameters(StepParameters):
    step: ClassVar[str] = "toy_shared"


class SecondParameters(StepParameters):
    step: ClassVar[str] = "toy_child"


class BrokenParameters(StepParameters):
    step: ClassVar[str] = "broken_toy"


def note(step, name):
    with Path(os.environ["TOY_LOG"]).open("a") as log:
        log.write(f"{name} {step.key}\\n")


def specs(config):
    common = {"group": "behavior", "kinds": {"parquet"}, "io_manager_key": "parquet_io"}

    @step(config.step(FirstParameters), needs=[Need(names.RAW_RECORDING)], **common)
    def toy(step):
        """Made of each recording."""
        note(step, "toy")
        table = pd.DataFrame({"x": [step.parameters.value]})
        return StepResult(tables={"toy": table}, metrics={"n": 1})

    @step(config.step(SharedParameters), needs=[], scope="session", clock="session", **common)
    def toy_shared(step):
        """Made once a session."""
        note(step, "toy_shared")
        return StepResult(tables={"toy_shared": pd.DataFrame({"x": [2]})})

    @step(config.step(SecondParameters), needs=[Need("toy"), Need("toy_shared")], **common)
    def toy_child(step):
        """Made of both."""
        note(step, "toy_child")
        return StepResult(tables={"toy_child": step.stored("toy").table("toy")})

    @step(config.step(BrokenParameters), needs=[Need("toy")], **common)
    def broken_toy(step):
        """Fails."""
        raise RuntimeError("no camera")

    return [toy, toy_shared, toy_child, broken_toy]
'''
MADE = ("toy", "toy_shared", "toy_child")
TOYS = [*MADE, "broken_toy"]


@pytest.fixture
def lab(tmp_path, monkeypatch) -> SmallLab:
    """A session of two probes, one processed."""
    (tmp_path / "more_steps").mkdir()
    (tmp_path / "more_steps" / "toy.py").write_text(TOY)
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(tmp_path / "more_steps")])
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "computed"))
    for probe in range(2):
        path = tmp_path / "raw" / "M1_g0" / f"M1_g0_t0.imec{probe}.ap.bin"
        write(path, n=300, seed=probe, serial=f"1900000000{probe}")
    lab = SmallLab(tmp_path, TEXT)
    lab.key, lab.other = lab.register(tmp_path / "raw")
    lab.new = lab.key.replace("_1_", "_2_")
    lab.run("process", lab.key, only=TOYS)
    assert {lab.outcomes(lab.key)[name] for name in MADE} == {"complete"}
    yield lab
    sys.modules.pop(f"{steps.__name__}.toy", None)


def checks(lab: SmallLab) -> list[dg.AssetCheckKey]:
    found = [s for s in all_steps(lab.config) if s.name in TOYS]
    return [c.key for s in found for c in check_specs(s.name, s.criteria, SESSION_PROBE)]


def renamed(lab: SmallLab, old: str = "", new: str = "") -> None:
    rename(lab.registry, lab.instance, old or lab.key, new or lab.new, checks(lab))


def shown(lab: SmallLab, key: str) -> dict[str, tuple]:
    """What `status` and readers know of each toy output, without its key."""
    states = lab.states(key)
    return {
        name: (
            state.outcome,
            state.detail,
            state.out_of_date,
            state.stored and (state.stored.digest, state.stored.version, state.stored.attempt),
            state.stored and [ref.model_dump() for ref in state.stored.manifest.inputs],
        )
        for name, state in states.items()
        if name in TOYS
    }


def in_dagster(lab: SmallLab, key: str) -> dict[str, tuple]:
    """What Dagster shows of a partition: data versions, figures, checks."""
    found = {}
    for name in [*TOYS, "raw_recording"]:
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[key])
        made = lab.instance.fetch_materializations(wanted, limit=1).records
        event = made[0].asset_materialization if made else None
        found[name] = event and (dict(event.tags or {}), dict(event.metadata))
    latest = lab.instance.event_log_storage.get_latest_asset_check_execution_by_key
    for check, record in latest(checks(lab), renaming.PartitionKeyFilter(key=key)).items():
        event = record.event.dagster_event.event_specific_data
        found[check.to_user_string()] = (record.status, event.passed, event.metadata)
    return found


def computed(lab: SmallLab) -> list[str]:
    return (lab.folder / "computed").read_text().splitlines()


def intact(lab: SmallLab) -> None:
    assert lab.store.verify() == [] and lab.registry.verify() == []
    assert {each.kind for each in lab.store.gc(older_than_h=0)} <= {"scratch"}


def test_everything_is_the_same_under_the_new_key(lab):
    before, in_ui, lines = shown(lab, lab.key), in_dagster(lab, lab.key), computed(lab)
    assert in_ui["toy"] and in_ui["raw_recording"] and in_ui["toy:outcome"]
    renamed(lab)
    assert shown(lab, lab.new) == before
    assert before["broken_toy"][0].value == "failed"
    assert in_dagster(lab, lab.new) == in_ui
    assert set(lab.instance.get_dynamic_partitions(SET_NAME)) == {lab.new, lab.other}
    intact(lab)
    # Nothing is computed, whoever asks: not even what failed has lost its count of turns.
    lab.run("process", lab.new, only=TOYS)
    assert computed(lab) == lines
    assert shown(lab, lab.new) == before
    intact(lab)


def test_the_old_key_says_where_it_went_and_starts_nothing(lab):
    renamed(lab)
    assert set(lab.registry.all()) == {lab.new, lab.other}
    record = lab.registry.get(lab.key)
    assert record.alias_of == lab.new and record.reason.startswith(f"renamed to {lab.new} by ")
    assert lab.key in lab.registry.get(lab.new).aliases
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("toy"), asset_partitions=[lab.key])
    last = lab.instance.fetch_observations(wanted, limit=1).records[0].asset_observation
    assert last.metadata["renamed_to"].value == lab.new
    lab.instance.add_dynamic_partitions(SET_NAME, [lab.key])
    result = lab.run("process", lab.key, only=["toy"])
    assert not result.success
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    description = failure.step_failure_data.user_failure_data.description
    assert description == f"{lab.key} is renamed to {lab.new}: run that"
    assert not list((lab.folder / "store" / "toy" / lab.key).glob("failure.json"))


def test_new_results_of_a_renamed_recording_count_and_cite(lab):
    lab.run("process", lab.key, only=["toy"])  # the second turn
    renamed(lab)
    lines = len(computed(lab))
    changed = lab.with_text(TEXT + "\nsteps: {toy: {parameters: {value: 5}}}")
    assert changed.states(lab.new)["toy"].out_of_date == ("parameters: value from 1 to 5",)
    changed.run("process", lab.new, only=["toy", "toy_child"])
    assert [line.split()[0] for line in computed(lab)[lines:]] == ["toy", "toy_child"]
    assert computed(lab)[-1] == f"toy_child {lab.new}", "a step is told the key of today"
    assert changed.outcomes(lab.new)["toy_child"] == "complete"
    assert not changed.states(lab.new)["toy_child"].out_of_date
    # Back to what was made under the old key: it is found.
    lab.run("process", lab.new, only=["toy", "toy_child"])
    assert len(computed(lab)) == lines + 2
    assert not lab.states(lab.new)["toy_child"].out_of_date
    # A failure stands under the new key, and cites what stands under the old one.
    lab.run("process", lab.new, only=["broken_toy"])
    intact(lab)


def test_the_next_scan_finds_the_same_recording(lab):
    renamed(lab)
    assert sorted(lab.register(lab.folder / "raw")) == sorted([lab.new, lab.other])
    assert set(lab.registry.all()) == {lab.new, lab.other}
    of_session = lab.registry.refresh().of_session(lab.registry.get(lab.new).session)
    assert {record.key for record in of_session} == {lab.new, lab.other}
    # Another recording of the old names gets another key than the old one.
    there = {"path": "elsewhere", "session_id": "elsewhere"}
    session = lab.registry.get(lab.new).session.model_copy(update=there)
    stranger = lab.registry.get(lab.other).raw.model_copy(
        update={"probe": "probe00", "identity": Identity(probe_serial="S9", size_bytes=9)}
    )
    assert claim(lab.registry, session, stranger).key == f"{lab.key}-x2"


def cut(monkeypatch, module, name: str, calls: int) -> None:
    """Be killed at the n-th call of a function."""
    real, left = getattr(module, name), [calls]

    def killed(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, killed)


def test_killed_at_each_write_a_rename_is_finished_by_the_same_command(lab, monkeypatch):
    """Each durable step, in store, registry and Dagster: before it, then again."""
    before, in_ui, lines = shown(lab, lab.key), in_dagster(lab, lab.key), computed(lab)
    backend = type(lab.store.backend)
    instance = type(lab.instance)
    places = [
        (backend, "write"), (backend, "create_exclusively"), (backend, "remove"),
        (backend, "remove_tree"), (instance, "report_runless_asset_event"),
        (instance, "add_dynamic_partitions"), (instance, "delete_dynamic_partition"),
    ]  # fmt: skip
    names = (lab.key.replace("_1_", f"_{number}_") for number in count(2))
    old, new, n_cuts = lab.key, next(names), 0
    for module, name in places:
        calls = 0
        while True:
            with monkeypatch.context() as patched:
                cut(patched, module, name, calls)
                try:
                    renamed(lab, old, new)
                    break
                except KeyboardInterrupt:
                    n_cuts += 1
            # Old or new, whole.
            there = [key for key in (old, new) if key in lab.registry.all()]
            assert len(there) == 1
            assert shown(lab, there[0]) == before
            assert lab.store.verify() == []
            if calls % 5 == 4:  # now and then it is finished, and the next cut is another rename's
                renamed(lab, old, new)
                old, new = new, next(names)
            calls += 1
        old, new = new, next(names)
    assert n_cuts > 20
    key = next(key for key in lab.registry.all() if key != lab.other)
    assert shown(lab, key) == before
    assert in_dagster(lab, key) == in_ui
    assert set(lab.instance.get_dynamic_partitions(SET_NAME)) == {key, lab.other}
    assert not lab.registry.refresh().renaming
    lab.run("process", key, only=TOYS)
    assert computed(lab) == lines
    intact(lab)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("{other}", "never given to another"),
        ("nonsense", "is not a recording key"),
        ("raw_20240512_02_probe00", "is not written as keys are"),
        ("{wrong_probe}", "its new key has to name that probe"),
        ("{upper}", "never given to another"),
    ],
)
def test_a_key_that_cannot_be_given_is_refused(lab, new, why):
    probe = lab.new.rsplit("_", 1)[1]
    upper = lab.other.replace("raw", "RAW")
    name = new.format(other=lab.other, wrong_probe=lab.new.replace(probe, "probe77"), upper=upper)
    with pytest.raises(PermanentFailure, match=why):
        renamed(lab, new=name)
    assert lab.registry.get(lab.key).renaming_to == ""


def test_unknown_used_and_held_keys_are_refused(lab):
    with pytest.raises(PermanentFailure, match="no recording 'nosuch'"):
        renamed(lab, "nosuch")
    renamed(lab)
    third = lab.new.replace("_2_", "_3_")
    with pytest.raises(PermanentFailure, match=f"is {lab.new} now"):
        renamed(lab, lab.key, third)
    with pytest.raises(PermanentFailure, match="never given to another"):
        renamed(lab, lab.new, lab.key)
    lab.registry.update(lab.new, lambda _: {"state": "held", "hold": "QC is CRITICAL"})
    with pytest.raises(PermanentFailure, match="is held: QC is CRITICAL"):
        renamed(lab, lab.new, third)


def test_not_while_a_run_of_it_is_not_over(lab):
    job = lab.defs.get_job_def("process")
    run = lab.instance.create_run_for_job(
        job_def=job, tags={"dagster/partition": lab.key}, status=dg.DagsterRunStatus.NOT_STARTED
    )
    with pytest.raises(PermanentFailure, match=f"run {run.run_id} of .* is not over"):
        renamed(lab)
    assert lab.registry.get(lab.new) is None
    lab.instance.report_run_canceled(run)
    renamed(lab)


def test_a_run_that_begins_meanwhile_ends_the_rename(lab, monkeypatch):
    answers = iter([None, "run-1"])
    with monkeypatch.context() as patched:
        patched.setattr(renaming, "_run_to_come", lambda *_: next(answers))
        with pytest.raises(PermanentFailure, match="began meanwhile"):
            renamed(lab)
    assert lab.run("process", lab.key, only=["toy"]).success
    assert set(lab.registry.all()) == {lab.key, lab.other}
    renamed(lab)
    assert set(lab.registry.all()) == {lab.new, lab.other}


def before_the_first(monkeypatch, module, name: str, act) -> None:
    """Do something just before a function is called for the first time."""
    real, left = getattr(module, name), [act]

    def called(*args, **kwargs):
        while left:
            left.pop()()
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize(
    ("asset", "how", "n_before"),
    [
        ("toy", "made", 1), ("toy_shared", "made", 2), ("broken_toy", "made", 1),
        ("broken_toy", "made", 3), ("toy", "reused", 3), ("toy", "new", 3),
    ],
)  # fmt: skip
def test_what_another_labs_run_makes_meanwhile_counts_for_the_new_key(
    lab, monkeypatch, asset, how, n_before
):
    """Parts of the renaming happen before its pointer is written, the others just behind it."""
    other = SmallLab(lab.folder, TEXT)  # another Dagster on the store: nobody sees its runs
    other.instance.add_dynamic_partitions(SET_NAME, [lab.key])
    if how == "new":  # nothing stood under the old key
        for path in (lab.folder / "store").glob(f"toy/{lab.key}"):
            shutil.rmtree(path)
    before = lab.store.current(asset, lab.key)
    parts = [
        lambda: in_registry.reserve(lab.registry, lab.key, lab.new),
        lambda: in_registry.switch(lab.registry, lab.key, lab.new, "test"),
        lambda: in_registry.tidy(lab.registry, lab.key, lab.new),
    ]
    writer = {"broken_toy": (store_module, "fail")}.get(asset, (attempt, "adopt"))
    writer = (store_module, "adopt") if how == "reused" else writer
    before_the_first(monkeypatch, *writer, lambda: [part() for part in parts[:n_before]])
    before_the_first(
        monkeypatch, late_results, "_renamed_to", lambda: [part() for part in parts[n_before:]]
    )
    tags = {} if how == "reused" else {"neuro/force": "true"}
    result = other.run("process", lab.key, only=[asset], tags=tags)
    assert result.success is (asset != "broken_toy")
    current = lab.store.current(asset, lab.new)
    if asset == "broken_toy":
        assert lab.store.failure(asset, lab.new).run_id == result.run_id
    else:
        assert (current.attempt != before.attempt if before else current) or how == "reused"
        assert lab.store.read_pointer(asset, lab.new, "current.json").turn == 2
        assert lab.store.produced_by(result.run_id, asset, lab.new).attempt == current.attempt
    left = {path.name for path in (lab.folder / "store").glob(f"*/{lab.key}/*.json")}
    assert left == {"renamed.json"}
    assert lab.store.verify() == [] or how == "new"


def test_no_step_begins_between_the_reservation_and_the_switch(lab):
    in_registry.reserve(lab.registry, lab.key, lab.new)
    assert not lab.run("process", lab.key, only=["toy"]).success
    assert set(lab.registry.all()) == {lab.key, lab.other}
    assert lab.key not in lab.registry.refresh().due
    renamed(lab)
    assert lab.outcomes(lab.new)["toy"] == "complete"


def test_a_damaged_pointer_stops_it_before_anything_changed(lab):
    path = lab.folder / "store" / "toy" / lab.key / "current.json"
    path.write_text("{")
    with pytest.raises(PermanentFailure, match="verify --repair"):
        renamed(lab)
    assert lab.registry.get(lab.new) is None


def test_damage_of_a_file_is_found_and_mended_under_the_new_key(lab):
    renamed(lab)
    stored = lab.store.current("toy", lab.new)
    path = Path(str(stored.local())) / "toy.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for defects in (lab.store.verify(), lab.store.verify(key=lab.new)):
        assert [(each.asset, each.kind) for each in defects] == [("toy", "checksum")]
    (repair,) = lab.store.repair(lab.store.verify())
    assert (repair.asset, repair.key, repair.attempt) == ("toy", lab.new, "")
    lab.run("process", lab.new, only=["toy"], tags={"neuro/force": "true"})
    assert lab.store.current("toy", lab.new).attempt != stored.attempt
    assert lab.outcomes(lab.new)["toy"] == "complete"
    # What cites the damaged one keeps it.
    assert {each.kind for each in lab.store.gc(older_than_h=0, dry_run=False)} <= {"scratch"}
    assert [each.attempt for each in lab.store.verify()] == [stored.attempt]


@pytest.mark.parametrize("with_runs", [True, False])
def test_a_lost_pointer_of_the_new_key_is_found_and_mended(lab, with_runs):
    renamed(lab)
    folder, before = lab.folder / "store" / "toy" / lab.new, shown(lab, lab.new)
    if with_runs:
        (folder / "current.json").unlink()
    else:
        shutil.rmtree(folder)
    for defects in (lab.store.verify(), lab.store.verify(key=lab.new)):
        # What was made of it is not called damaged.
        assert [(d.asset, d.key, d.kind) for d in defects] == [("toy", lab.new, "pointer")]
    (repair,) = lab.store.repair(lab.store.verify(key=lab.new))
    assert (repair.key, repair.attempt) == (lab.new, lab.store.current("toy", lab.new).attempt)
    assert shown(lab, lab.new) == before
    intact(lab)


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_result_left_below_the_old_key_is_found_and_mended(lab, is_noted):
    """A run that was killed between its pointer and the look whether the key is another."""
    renamed(lab)
    folder = lab.folder / "store" / "toy"
    pointer = json.loads((folder / lab.new / "current.json").read_text())
    late = {**pointer, "turn": 9, "key": "", "owner": f"toy/{lab.key}"}
    (folder / lab.key / "current.json").write_text(json.dumps(late))
    shutil.rmtree(folder / lab.new)
    if not is_noted:  # nothing of that asset was there at the renaming
        (folder / lab.key / "renamed.json").unlink()
    (defect,) = [each for each in lab.store.verify() if each.kind == "pointer"]
    assert (defect.asset, defect.key, defect.path) == ("toy", lab.key, "current.json")
    assert defect.detail == f"counts for nobody: {lab.key} is renamed to {lab.new}"
    (repair,) = lab.store.repair([defect])
    assert (repair.key, repair.attempt) == (lab.new, pointer["attempt"])
    assert lab.store.read_pointer("toy", lab.new, "current.json").turn == 9
    assert not (folder / lab.key / "current.json").exists()
    intact(lab)


def test_names_that_lead_in_a_circle_are_one_defect(lab):
    renamed(lab)
    folder = lab.folder / "store" / "toy"
    (folder / lab.new / "renamed.json").write_text(json.dumps({"renamed_to": lab.key}))
    (folder / lab.new / "current.json").unlink()
    (defect,) = [d for d in lab.store.verify() if d.path == "renamed.json"]
    assert f"{lab.key} -> {lab.new} -> {lab.key}" in defect.detail
    lab.store.repair([defect])
    assert (folder / lab.new / "renamed.json").exists()


def test_an_unfinished_deletion_of_raw_files_goes_along(lab):
    note = lab.folder / "store" / "registry" / "raw_deletion"
    note.mkdir()
    (note / f"{lab.key}.json").write_text(json.dumps({"files": []}))
    renamed(lab)
    assert [path.name for path in note.iterdir()] == [f"{lab.new}.json"]


def test_the_command_checks_first_and_the_old_key_leads_to_the_new_one(lab):
    (lab.folder / "lab.yaml").write_text(lab.text)

    def call(*words: str) -> commands.Done:
        return commands.call(*words, folder=lab.folder)

    done = call("rename", lab.key, lab.new)
    assert (done.returncode, "add --yes" in done.stdout) == (0, True), done
    assert lab.registry.get(lab.new) is None
    before = json.loads(call("status", lab.key, "--json").stdout)
    assert call("rename", lab.key, lab.new, "--yes").returncode == 0
    done = call("status", lab.key, "--json")
    assert f"renamed to {lab.new} by " in done.stderr
    assert json.loads(done.stdout) == [{**row, "key": lab.new} for row in before]
    overview = call("status").stdout
    assert lab.new in overview and lab.key not in overview
    assert "Everything stored" in call("verify", lab.key).stdout
    assert "has that key already" in call("rename", lab.key, lab.new).stdout
    refused = call("rename", lab.other, lab.new)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1


def test_status_says_how_to_finish_a_rename_that_was_cut(lab):
    (lab.folder / "lab.yaml").write_text(lab.text)
    in_registry.reserve(lab.registry, lab.key, lab.new)
    finish = f"neuro-assets rename {lab.key} {lab.new} --yes"
    assert finish in commands.call("status", folder=lab.folder).stdout
    assert finish in commands.call("status", lab.key, folder=lab.folder).stderr
    with pytest.raises(PermanentFailure, match=finish):
        renamed(lab, new=lab.new.replace("_2_", "_3_"))
    renamed(lab)
    assert finish not in commands.call("status", folder=lab.folder).stdout


def cut_before_the_switch(lab: SmallLab) -> None:
    """All of a renaming that comes before its last transaction."""
    in_registry.reserve(lab.registry, lab.key, lab.new)
    in_registry.copy_pointers(lab.store, lab.key, lab.new)
    in_registry.copy_last_turn(lab.store, lab.key, lab.new)


def below(lab: SmallLab, key: str) -> dict[str, bytes]:
    """Every file of the store in a folder of a key."""
    store = lab.folder / "store"
    found = store.glob(f"[!r]*/{key}/**/*")
    return {str(path.relative_to(store)): path.read_bytes() for path in found if path.is_file()}


def test_a_renaming_that_was_cut_is_taken_back_the_other_way_round(lab, monkeypatch):
    before, kept = shown(lab, lab.key), below(lab, lab.key)
    cut_before_the_switch(lab)
    assert below(lab, lab.new)
    can = renaming.check_renaming(lab.registry, lab.instance, lab.new, lab.key)
    assert can == f"the renaming of {lab.key} to {lab.new} can be taken back"
    for other in (lab.key, lab.other):  # a reservation is no renaming that was finished
        with pytest.raises(PermanentFailure, match=f"is only reserved for {lab.key}"):
            in_registry.is_switched(lab.registry, lab.new, other)
    with monkeypatch.context() as patched:  # cut itself, it is done again
        cut(patched, type(lab.store.backend), "remove_tree", 1)
        with pytest.raises(KeyboardInterrupt):
            renamed(lab, lab.new, lab.key)
    with pytest.raises(PermanentFailure, match=f"rename {lab.new} {lab.key} --yes"):
        renamed(lab)
    renamed(lab, lab.new, lab.key)
    assert (shown(lab, lab.key), below(lab, lab.key)) == (before, kept)
    assert not below(lab, lab.new) and not lab.registry.refresh().renaming
    assert set(lab.registry.all()) == {lab.key, lab.other}
    assert set(lab.instance.get_dynamic_partitions(SET_NAME)) == {lab.key, lab.other}
    intact(lab)
    assert lab.run("process", lab.key, only=["toy"]).success
    renamed(lab)
    assert set(lab.registry.all()) == {lab.new, lab.other}
    intact(lab)
    with pytest.raises(PermanentFailure, match="never given to another"):
        renamed(lab, lab.new, lab.key)


def test_a_key_that_was_taken_back_is_free_for_another_recording(lab):
    stranger = lab.registry.get(lab.key).model_copy(update={"key": f"{lab.key}-x2"})
    lab.registry.transact(lambda index: index.put(stranger))
    in_registry.reserve(lab.registry, stranger.key, lab.new)
    with pytest.raises(PermanentFailure, match="never given to another"):
        renamed(lab)
    renamed(lab, lab.new, stranger.key)
    assert set(lab.registry.all()) == {lab.key, stranger.key, lab.other}
    renamed(lab)
    assert set(lab.registry.all()) == {lab.new, stranger.key, lab.other}
    assert lab.outcomes(lab.new)["toy"] == "complete"


def test_one_renaming_that_is_taken_back_while_it_lives_switches_no_more(lab, monkeypatch):
    before = shown(lab, lab.key)
    real = in_registry.copy_note

    def meanwhile(*args):
        in_registry.take_back(lab.registry, lab.key, lab.new)
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(in_registry, "copy_note", meanwhile)
        with pytest.raises(PermanentFailure, match="taken back meanwhile"):
            renamed(lab)
    assert shown(lab, lab.key) == before
    intact(lab)
    renamed(lab)
    with pytest.raises(PermanentFailure, match="already"):
        in_registry.take_back(lab.registry, lab.key, lab.new)
    assert shown(lab, lab.new) == before


def test_what_was_granted_is_not_asked_again(lab):
    """An animal of that name, or a hold, that came after the cut."""
    lab.new = lab.key.replace("raw", "M7")
    cut_before_the_switch(lab)
    other = lab.registry.get(lab.other)
    session = other.session.model_copy(update={"subject": "M7", "session_id": "x", "path": "x"})
    stranger = other.model_copy(
        update={"key": "M7_20260202_1_probe00", "session": session, "recording": None}
    )
    lab.registry.transact(lambda index: index.put(stranger))
    lab.registry.update(lab.key, lambda _: {"state": "held", "hold": "QC is CRITICAL"})
    renamed(lab)
    assert lab.new in lab.registry.all() and lab.key not in lab.registry.all()


def test_the_next_renaming_waits_until_the_last_one_is_finished(lab, monkeypatch):
    with monkeypatch.context() as patched:
        cut(patched, renaming, "tidy", 0)
        with pytest.raises(KeyboardInterrupt):
            renamed(lab)
    third = lab.new.replace("_2_", "_3_")
    with pytest.raises(PermanentFailure, match=f"rename {lab.key} {lab.new} --yes"):
        renamed(lab, lab.new, third)
    renamed(lab)
    renamed(lab, lab.new, third)
    intact(lab)


def test_a_second_renaming_at_once_says_so_and_changes_nothing(lab):
    (lab.folder / "lab.yaml").write_text(lab.text)
    done = commands.call("rename", lab.key, lab.new, folder=lab.folder)
    assert done.returncode == 0, done
    with home.hold(home.home_path(lab.folder) / "rename.lock"):
        done = commands.call("rename", lab.key, lab.new, "--yes", folder=lab.folder)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert "another process renames a recording" in done.stderr
    assert lab.registry.get(lab.new) is None
    lock = home.hold(Path(lab.instance.root_directory) / "rename.lock")
    with lock, pytest.raises(TransientFailure, match="another process"):
        renamed(lab)


def test_a_reservation_of_another_process_is_not_released(lab, monkeypatch):
    in_registry.reserve(lab.registry, lab.key, lab.new)
    answers = iter([None, "run-1"])
    with monkeypatch.context() as patched:
        patched.setattr(renaming, "_run_to_come", lambda *_: next(answers))
        with pytest.raises(PermanentFailure, match="began meanwhile"):
            renamed(lab)
    assert lab.registry.get(lab.key).renaming_to == lab.new
    renamed(lab)
    assert set(lab.registry.all()) == {lab.new, lab.other}


def test_outputs_that_no_renaming_made_are_not_taken_back(lab):
    cut_before_the_switch(lab)
    stored = lab.store.current("toy", lab.key)
    place = f"{stored.version}/{stored.attempt}"
    folder = lab.folder / "store" / "toy"
    shutil.copytree(folder / lab.key / place, folder / lab.new / place)
    with pytest.raises(PermanentFailure, match="is a copy of"):
        renamed(lab, lab.new, lab.key)
    manifest = folder / lab.new / place / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace(lab.key, lab.new))
    with pytest.raises(PermanentFailure, match="no renaming put there"):
        renamed(lab, lab.new, lab.key)
    assert (folder / lab.new / place / "toy.parquet").exists()
    assert lab.run("process", lab.key, only=["toy"]).success


def test_other_machines_on_a_store_in_a_folder_wait(lab, monkeypatch):
    def is_locked(*_):
        handle = os.open(lab.folder / "store" / "registry" / "turns" / ".lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)

    with monkeypatch.context() as patched:
        patched.setattr(renaming, "_run_to_come", is_locked)
        renamed(lab)
    assert lab.new in lab.registry.all()
