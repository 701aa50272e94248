"""Never two animals in one subject, never two sessions in one; nothing under a source vanishes."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject
from spikeglx_files import write

from neuro_assets.cli.lab import Lab
from neuro_assets.cli.setup import _old_keys
from neuro_assets.config import parse_config
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.registry.keys import present_name, subject_by
from neuro_assets.registry.planning import plan
from neuro_assets.registry.registry import Registry
from neuro_assets.service.session_registration import describe_folder, register_sessions, seen
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import Store

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
BIN = "_g0_t0.imec0.ap.bin"


def two_animals(folder, serial="1"):
    write(folder / f"mouseA_g0/mouseA{BIN}", seed=1, serial=serial)
    write(folder / f"mouseB_g0/mouseB{BIN}", seed=2, serial=serial, created="2024-05-12T15:00:00")


def of_folder(folder, text=""):
    """What `neuro-assets run FOLDER` registers: subject, number and folder of each session."""
    sessions, _ = describe_folder(parse_config(text, base=folder), folder)
    return sorted((one.subject, one.number, one.session_id.split("/")[-1]) for one in sessions)


def states(source, known=None):
    found = [seen(one, use_hash=False) for one in source.changes().changed]
    return {a.record.key: a.record for a in plan(known or {}, found, [], NOW)}


def lookout(tmp_path, roots=("data",)):
    """The sensor's look: everything that is held or away is looked at again."""
    registry = Registry(Store(tmp_path / "store"))
    cursor = {}

    def look(*more, rename=False, **options):
        look.options |= options
        for root in roots:
            name = root.replace("/", "-")
            source = LocalSessionSource(tmp_path / root, name=name, settle_s=0, **look.options)
            again = [r.session.session_id for r in registry.all().values() if r.state != "ready"]
            found = source.changes(cursor.get(name), again=[*again, *more])
            cursor[name] = found.cursor
            gone = [(name, each) for each in found.vanished]
            done = register_sessions(registry, found.changed, gone, rename=rename)
            look.lines += [action.message for action in done]
        return {key: record.state for key, record in registry.all().items()}

    look.options = {}
    look.lines = []
    look.registry = registry
    return look


# --- bare folders -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "sources: [{name: rig, path: .}]"])
def test_a_root_of_bare_runs_is_as_many_sessions(tmp_path, text):
    two_animals(tmp_path / "runs")
    text = text.replace("path: .", f"path: {tmp_path}/runs")
    assert of_folder(tmp_path / "runs", text) == [
        ("mouseA", "1", "mouseA_g0"), ("mouseB", "1", "mouseB_g0"),
    ]  # fmt: skip


def test_a_run_with_gates_and_probes_apart_is_one_session(tmp_path):
    for gate, probe in ((0, 0), (0, 1), (1, 0)):
        name = f"M1_g{gate}/M1_g{gate}_imec{probe}/M1_g{gate}_t0.imec{probe}.ap.bin"
        write(tmp_path / "x" / name, serial=str(probe + 1), first_sample=gate, seed=gate + probe)
    (one,) = LocalSessionSource(tmp_path / "x", bare_root=True).survey()[0]
    assert sorted(r.label for r in one.recordings) == ["probe00", "probe00-g1", "probe01"]
    assert one.hold == ""


def test_undated_runs_side_by_side_in_one_folder_are_held(tmp_path):
    two_animals(tmp_path / "today")
    two_animals(tmp_path / "M7_2024-05-12", serial="2")
    held = {r.session.path: r.state for r in states(LocalSessionSource(tmp_path)).values()}
    assert held == {"today": "held", "M7_2024-05-12": "not_ready"}


@pytest.mark.parametrize("day", ["2024-05-12", "20240512", "2024-05-12_surgery"])
def test_two_animals_in_the_folder_of_a_day_are_held(tmp_path, day):
    two_animals(tmp_path / day)
    found = states(LocalSessionSource(tmp_path, settle_s=0))
    assert [(r.state, "mouseA_g0 and mouseB_g0" in r.reason) for r in found.values()] == [
        ("held", True), ("held", True),
    ]  # fmt: skip


@pytest.mark.parametrize("run", ["run", "_spikeglx_ephysData"])
@pytest.mark.parametrize("other", ["g0_t0.imec1", "g1_t0.imec0", "g0_t1.imec0"])
@pytest.mark.parametrize("outer", ["{}", "probe00/{}", "{}/probe00"])
def test_one_run_name_in_the_folders_of_two_animals_is_held(tmp_path, run, other, outer):
    for n, (animal, file) in enumerate((("mouseA", "g0_t0.imec0"), ("mouseB", other))):
        place = tmp_path / "today" / outer.format(animal)
        write(place / f"{run}_{file}.ap.bin", seed=n, first_sample=5000 * n, serial=str(n + 1))
    found = states(LocalSessionSource(tmp_path, settle_s=0)).values()
    assert {r.state for r in found} == {"held"}
    assert all("mouseA and mouseB" in r.reason for r in found)


@pytest.mark.parametrize("broken", ["A", "B"])
@pytest.mark.parametrize("how", ["meta", "empty"])
def test_a_hold_stays_while_one_of_the_two_cannot_be_read(tmp_path, broken, how):
    two_animals(tmp_path / "data/today")
    look = lookout(tmp_path)
    assert set(look().values()) == {"held"}
    file = tmp_path / f"data/today/mouse{broken}_g0/mouse{broken}{BIN}"
    hit = file.with_suffix(".meta") if how == "meta" else file
    whole = hit.read_bytes()
    hit.unlink() if how == "meta" else hit.write_bytes(b"")
    for _ in range(3):
        assert "ready" not in look().values()
    hit.write_bytes(whole)
    assert set(look().values()) == {"held"}
    shutil.rmtree(file.parent)
    assert sorted(look().values()) == ["ready", "vanished"]


def test_the_twin_of_what_cannot_be_read_stays_held(tmp_path):
    first = write(tmp_path / f"data/M1_20240512_g0/M1_20240512{BIN}", seed=1, sha1="")
    write(tmp_path / f"data/M9_20240512_g0/M9_20240512{BIN}", seed=2, sha1="")
    look = lookout(tmp_path)
    one, two = "M1_20240512_1_probe00", "M9_20240512_1_probe00"
    assert look() == {one: "ready", two: "held"}
    meta = first.with_suffix(".meta").rename(tmp_path / "away")
    for _ in range(2):
        assert look() == {one: "vanished", two: "held"}
    meta.rename(first.with_suffix(".meta"))
    assert look() == {one: "ready", two: "held"}
    first.with_suffix(".meta").rename(tmp_path / "away")
    look()
    first.unlink()
    look()
    assert look() == {one: "vanished", two: "ready"}


@pytest.mark.parametrize("n", [0, 1])
def test_one_trigger_of_a_recording_in_another_session_is_a_copy_of_a_part(tmp_path, n):
    whole, part = (tmp_path / f"data/Subjects/M1/2024-05-12/00{i}" for i in (1, 2))
    for i in range(2):
        created = f"2024-05-12T10:00:0{i}"
        write(
            whole / f"x_g0_t{i}.imec0.ap.bin", seed=i, first_sample=1000 + 300 * i, created=created
        )
    look = lookout(tmp_path)
    key = "M1_20240512_1_probe00"
    assert look() == {key: "ready"}
    part.mkdir()
    for end in ("bin", "meta"):
        shutil.copy(whole / f"x_g0_t{n}.imec0.ap.{end}", part)
    assert look() == {key: "ready"}
    assert "002 holds a part of the same recording" in look.lines[-1]
    shutil.rmtree(whole)
    (whole.parent / "notes.txt").touch()
    look.registry.update(key, lambda record: {"request": 1})
    look("Subjects/M1/2024-05-12/002")
    (other,) = [r for r in look.registry.all().values() if r.key != key]
    assert (other.state, "a part of M1_20240512_1_probe00" in other.reason) == ("held", True)


@pytest.mark.parametrize("n", [0, 1])
def test_the_whole_of_what_was_found_first_is_held_until_the_part_goes(tmp_path, n):
    part, whole = (tmp_path / f"data/Subjects/M1/2024-05-12/00{i}" for i in (1, 2))
    files = [
        write(tmp_path / f"rig/x_g0_t{i}.imec0.ap.bin", seed=i, first_sample=1000 + 300 * i,
              created=f"2024-05-12T10:00:0{i}")
        for i in range(2)
    ]  # fmt: skip
    shutil.copytree(tmp_path / "rig", part)
    for file in (files[1 - n], files[1 - n].with_suffix(".meta")):
        (part / file.name).unlink()
    look = lookout(tmp_path)
    one, two = "M1_20240512_1_probe00", "M1_20240512_2_probe00"
    assert look() == {one: "ready"}
    shutil.copytree(tmp_path / "rig", whole)
    for _ in range(2):
        assert look() == {one: "ready", two: "held"}
    assert f"{one} (data:Subjects/M1/2024-05-12/001) holds a part" in look.registry.get(two).reason
    shutil.rmtree(part)
    look()
    assert look() == {one: "vanished", two: "ready"}


def test_recordings_of_one_schedule_and_name_are_no_copies(tmp_path):
    for day in (12, 13):
        for i in range(2):
            path = f"data/Subjects/M1/2024-05-{day}/001/x_g0_t{i}.imec0.ap.bin"
            created = f"2024-05-{day}T10:00:0{i}"
            write(tmp_path / path, seed=day + i, first_sample=1000 + 300 * i, created=created)
    assert list(lookout(tmp_path)().values()) == ["ready", "ready"]


def test_undated_runs_in_one_folder_are_held(tmp_path):
    for n, animal in enumerate("AB"):
        write(tmp_path / f"today/mouse{animal}{BIN}", serial=str(n + 1), seed=n)
    found = states(LocalSessionSource(tmp_path, settle_s=0)).values()
    assert [(r.state, "mouseA and mouseB" in r.reason) for r in found] == [("held", True)] * 2


def test_gates_in_the_folder_of_a_day_are_one_session(tmp_path):
    for gate in range(2):
        write(tmp_path / f"2024-05-12/M1_g{gate}/M1_g{gate}_t0.imec0.ap.bin", first_sample=gate)
    found = states(LocalSessionSource(tmp_path, settle_s=0))
    assert [r.state for r in found.values()] == ["ready", "ready"]


def test_bare_runs_beside_a_tree_are_not_dropped(tmp_path):
    write(tmp_path / f"Subjects/M1/2024-05-12/001/x{BIN}", seed=1)
    write(tmp_path / f"M2_20240512_g0/M2_20240512{BIN}", serial="2", seed=2)
    assert [one[0] for one in of_folder(tmp_path)] == ["M1", "M2"]


# --- keys of what was in a wrong place ---------------------------------------------------------


def session_of_m2(tmp_path):
    path = tmp_path / f"data/Subjects/M2/2024-05-13/001/M2_20240513{BIN}"
    write(path, seed=2, created="2024-05-13T10:00:00", serial="2")


def misplaced(tmp_path):
    """M2's run in the folder of M1, and a session of M2."""
    session_of_m2(tmp_path)
    write(tmp_path / f"data/Subjects/M1/2024-05-12/001/M2_20240512{BIN}", seed=1)


def to_its_own(tmp_path):
    subjects = tmp_path / "data/Subjects"
    (subjects / "M2/2024-05-12").mkdir()
    (subjects / "M1/2024-05-12/001").rename(subjects / "M2/2024-05-12/001")


def test_what_was_held_in_a_wrong_place_gets_the_key_of_its_own(tmp_path):
    misplaced(tmp_path)
    look = lookout(tmp_path)
    wrong, right = "M1_20240512_1_probe00", "M2_20240512_1_probe00"
    assert look()[wrong] == "held"
    to_its_own(tmp_path)
    states = look()
    assert (states[wrong], states[right]) == ("vanished", "ready")
    assert f"{wrong}: its recording is {right} now; nothing was made under it" in look.lines
    assert look() == states
    # Nothing was made under the first key: M1's own session of that day has it.
    write(tmp_path / f"data/Subjects/M1/2024-05-12/001/x{BIN}", seed=9, serial="9")
    states = look()
    assert {states[wrong], states[right]} == {"ready"} and len(states) == 3
    assert look.registry.get(wrong).session.subject == "M1"
    assert look.registry.get(wrong).identity.probe_serial == "9"


@pytest.mark.parametrize("other", [True, False])
def test_results_under_the_key_of_another_animal_are_held_until_a_person_runs_it(tmp_path, other):
    write(tmp_path / f"data/Subjects/M1/2024-05-12/001/M2_20240512{BIN}", seed=1)
    if other:
        write(tmp_path / f"data/Subjects/M1/2024-05-20/001/x{BIN}", seed=3, serial="3",
              created="2024-05-20T10:00:00")  # fmt: skip
    look = lookout(tmp_path)
    wrong, right = "M1_20240512_1_probe00", "M2_20240512_1_probe00"
    assert look()[wrong] == "ready"
    session_of_m2(tmp_path)
    assert look()[wrong] == "held"  # the animal for which it is named has a folder now
    shutil.rmtree(tmp_path / "data/Subjects/M2")
    assert look()[wrong] == "held"
    session_of_m2(tmp_path)
    to_its_own(tmp_path)
    for _ in range(3):
        states = look()
        assert (states[wrong], states.get(right)) == ("held", None)
    assert "`neuro-assets run` with its folder" in look.registry.get(wrong).reason
    states = look(rename=True)
    assert (states[wrong], states[right]) == ("vanished", "ready")
    assert look.registry.get(wrong).raw.main.files == look.registry.get(right).raw.main.files
    assert look() == states


def test_a_renamed_animal_keeps_its_keys(tmp_path):
    for day in (12, 13):
        path = tmp_path / f"data/Subjects/M1/2024-05-{day}/001/x{BIN}"
        write(path, seed=day, created=f"2024-05-{day}T10:00:00")
    look = lookout(tmp_path)
    before = look()
    (tmp_path / "data/Subjects/M1").rename(tmp_path / "data/Subjects/M1b")
    assert look() == before and set(before.values()) == {"ready"}


def test_a_header_that_is_corrected_as_the_line_says_keeps_the_key(tmp_path):
    write(tmp_path / f"data/M1_20240512_g0/M1_20240512{BIN}", seed=1, sha1="")
    write(tmp_path / f"data/M9_20240512_g0/M9_20240512{BIN}", seed=2, sha1="")
    look = lookout(tmp_path)
    assert "held" in look().values()
    write(tmp_path / f"data/M9_20240512_g0/M9_20240512{BIN}", seed=2, sha1="", serial="22")
    assert look() == {"M1_20240512_1_probe00": "ready", "M9_20240512_1_probe00": "ready"}


def test_runs_of_one_animal_in_the_folder_of_a_day_are_freed_as_the_line_says(tmp_path):
    for n, run in enumerate(("base", "stim")):
        file = f"data/2024-05-12/{run}_g0/{run}{BIN}"
        write(tmp_path / file, seed=n, created=f"2024-05-12T1{n}:00:00")
    look = lookout(tmp_path)
    assert set(look().values()) == {"held"}
    assert "<subject>_<yyyy-mm-dd>" in next(iter(look.registry.all().values())).reason
    (tmp_path / "data/2024-05-12").rename(tmp_path / "data/M1_2024-05-12")
    ready = [key for key, state in look().items() if state == "ready"]
    assert ready == ["M1_20240512_1_probe00", "M1_20240512_1_probe00-r2"]


# --- parts of trees ---------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "ephys", "ephys/a_g0"])
@pytest.mark.parametrize("source", [True, False])
def test_a_part_of_a_session_is_that_session(tmp_path, part, source):
    folder = tmp_path / "rawdata/sub-001/ses-002"
    write(folder / f"ephys/a_g0/a{BIN}")
    text = f"sources: [{{name: rig, path: {tmp_path}}}]" if source else ""
    assert of_folder(folder / part, text) == [("001", "002", "ses-002")]


def test_a_part_of_a_one_session_is_that_session(tmp_path):
    folder = tmp_path / "lab/Subjects/M1/2024-05-12/003"
    write(folder / f"raw_ephys_data/probe00/x{BIN}")
    assert of_folder(folder / "raw_ephys_data") == [("M1", "003", "003")]


def test_labels_of_two_projects_are_two_animals(tmp_path):
    for n, project in enumerate(("p1", "p2")):
        folder = tmp_path / f"{project}/rawdata/sub-001/ses-00{n}/ephys"
        write(folder / f"a{BIN}", seed=n, created=f"2024-05-1{n}T10:00:00", serial=str(n + 1))
    write(tmp_path / f"p1/rawdata/sub-001/ses-007/ephys/a{BIN}", seed=5, serial="9")
    records = list(states(LocalSessionSource(tmp_path, settle_s=0)).values())
    by_path = {r.session.path.split("/")[0] + r.session.number: r for r in records}
    assert {name: r.state for name, r in by_path.items()} == {
        "p1000": "ready", "p1007": "ready", "p2001": "held",
    }  # fmt: skip
    assert "project_in_subject: true" in by_path["p2001"].reason
    # What is said in lab.yaml solves it.
    config = parse_config(f"sources: [{{path: {tmp_path}, project_in_subject: true}}]")
    found, _ = describe_folder(config, tmp_path)
    after = plan({}, [seen(one, use_hash=False) for one in found], [], NOW)
    assert {a.record.session.subject for a in after} == {"p1-001", "p2-001"}
    assert {a.record.state for a in after} == {"ready"}


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("places", [("anna", "ben"), ("all",)])
def test_projects_of_one_folder_name_are_told_apart(tmp_path, prefixed, places):
    for n, who in enumerate(("anna", "ben")):
        top = who if len(places) == 2 else f"all/{who}"
        (tmp_path / top / "Subjects").mkdir(parents=True)
        write(tmp_path / f"{top}/pilot/rawdata/sub-001/ses-00{n + 1}/ephys/a{BIN}", seed=n,
              created=f"2024-05-1{n}T10:00:00", serial=str(n + 1))  # fmt: skip
    look = lookout(tmp_path, places)
    for _ in range(2):
        assert list(look(project_in_subject=prefixed).values()) == ["ready", "held"]
    (held,) = [r for r in look.registry.all().values() if r.state == "held"]
    assert "one `project: NAME` at the source of each" in held.reason
    # A person says that both are one project.
    look(project="pilot")
    assert set(look().values()) == {"ready"}


@pytest.mark.parametrize(
    ("folders", "subjects", "n_held"),
    [
        (("sub-mouse_1", "sub-mouse_2"), ["mouse_1", "mouse_2"], 0),
        (("sub-001_id-A", "sub-001_id-B"), ["001", "001"], 1),
        (("sub-001", "sub-001_id-B"), ["001", "001"], 1),
        (("sub-M1_2024-05-12_g0", "sub-M2_20240512_g0_imec0"), ["M1", "M2"], 0),
        (("sub-001_id-A", "sub-001_id-A"), ["001", "001"], 0),
    ],
)
def test_two_folders_of_one_label_are_held(tmp_path, folders, subjects, n_held):
    for n, folder in enumerate(folders):
        path = f"data/P/rawdata/{folder}/ses-00{n}/ephys/x{BIN}"
        write(tmp_path / path, seed=n, serial=str(n + 1), created=f"2024-05-1{n}T10:00:00")
    look = lookout(tmp_path)
    for _ in range(2):
        states = look()
        assert list(states.values()).count("held") == n_held
    records = look.registry.all().values()
    assert sorted(r.session.subject for r in records) == subjects
    assert sorted(subject_by(r.session, "", in_subject=False) for r in records) == subjects
    for held in (r for r in records if r.state == "held"):
        assert all(folder in held.reason for folder in folders)
        assert "a label of its own" in held.reason


@pytest.mark.parametrize("roots", [("data",), ("data/one", "data/two")])
def test_one_name_in_two_labs_is_held_until_a_project_says_they_are_one(tmp_path, roots):
    for n, lab in enumerate("AB"):
        place = f"{roots[n % len(roots)]}/lab{lab}/Subjects"
        write(tmp_path / f"{place}/M1/2024-05-1{n}/001/x{BIN}", seed=n, serial=str(n + 1),
              created=f"2024-05-1{n}T10:00:00")  # fmt: skip
        path = f"{place}/M{lab}/2024-05-12/001/x{BIN}"
        write(tmp_path / path, seed=9 + n, serial=str(n + 5))
    look = lookout(tmp_path, roots)
    for _ in range(2):
        assert sorted(look().values()) == ["held", "ready", "ready", "ready"]
    (held,) = [r for r in look.registry.all().values() if r.state == "held"]
    assert "'M1' of 'labB'" in held.reason and "that of 'labA'" in held.reason
    look(project="ours")
    assert set(look().values()) == {"ready"}


ONE_001 = ["Subjects/001", "labA/Subjects/001", "001"]
LAYOUTS = [*(f"{top}/2024-05-12/001" for top in ONE_001), "001_20240512_g0"]


@pytest.mark.parametrize("first", ["plain", "label"])
@pytest.mark.parametrize("plain", LAYOUTS)
def test_a_label_and_a_subject_of_another_layout_are_held_until_a_person_says_which(
    tmp_path, plain, first
):
    places = {"plain": plain, "label": "p/rawdata/sub-001/ses-1"}
    files = {name: tmp_path / f"data/{place}/x{BIN}" for name, place in places.items()}
    look = lookout(tmp_path)
    for n, name in enumerate(sorted(places, key=lambda each: each != first)):
        created = f"2024-05-12T1{n}:00:00"
        write(files[name], seed=n, serial=str(n + 1), created=created)
        states = look()
    one, two = "001_20240512_1_probe00", "001_20240512_1_probe00-x2"
    assert states == look() == {one: "ready", two: "held"}
    reason = look.registry.get(two).reason
    assert places["plain"] in reason and places["label"] in reason
    assert "project_in_subject" in reason and "one `project: NAME`" in reason
    # One animal, says a person; its later sessions in either layout are, too.
    look(project="ours")
    assert set(look().values()) == {"ready"}
    more = tmp_path / "data/p/rawdata/sub-001/ses-2"
    write(more / f"y{BIN}", seed=7, serial="7", created="2024-05-13T10:00:00")
    assert set(look().values()) == {"ready"}


def test_a_label_that_is_named_with_its_project_is_another_animal(tmp_path):
    for n, place in enumerate(("Subjects/001/2024-05-12/001", "p/rawdata/sub-001/ses-1")):
        created = f"2024-05-12T1{n}:00:00"
        write(tmp_path / f"data/{place}/x{BIN}", seed=n, serial=str(n + 1), created=created)
    look = lookout(tmp_path)
    assert sorted(look().values()) == ["held", "ready"]
    states = look(project_in_subject=True)
    ready = [key for key, state in states.items() if state == "ready"]
    assert ready == ["001_20240512_1_probe00", "p-001_20240512_1_probe00"]


@pytest.mark.parametrize("beside", [True, False])
def test_an_animal_may_go_from_one_layout_to_another(tmp_path, beside):
    days = tmp_path / "data/Subjects/001"
    for n in range(2):
        created = f"2024-05-1{n}T10:00:00"
        write(days / f"2024-05-1{n}/001/x{BIN}", seed=n, serial=str(n + 1), created=created)
    look = lookout(tmp_path)
    before = look()
    for n in range(2):
        name = "001_2024051{}" if beside and n else "sub-001/ses-{}"
        place = tmp_path / "data/p/rawdata" / name.format(n)
        place.parent.mkdir(parents=True, exist_ok=True)
        (days / f"2024-05-1{n}/001").rename(place)
        assert look() == before
    assert set(before.values()) == {"ready"}


def test_one_lab_in_two_sources_is_one_lab(tmp_path):
    for n, root in enumerate(("one", "two")):
        path = f"{root}/labA/Subjects/M1/2024-05-1{n}/001/x{BIN}"
        write(tmp_path / path, seed=n, serial=str(n + 1), created=f"2024-05-1{n}T10:00:00")
    assert list(lookout(tmp_path, ("one", "two"))().values()) == ["ready", "ready"]


def test_changed_naming_of_projects_is_said_before_and_after(tmp_path):
    for n, project in enumerate(("p1", "p2")):
        path = f"data/{project}/rawdata/sub-001/ses-1/a{BIN}"
        write(tmp_path / path, seed=n, serial=str(n + 1), created=f"2024-05-1{n}T10:00:00")
    look = lookout(tmp_path)
    first, second = "001_20240510_1_probe00", "001_20240511_1_probe00"
    assert look() == {first: "ready", second: "held"}

    def lines(is_on):
        text = f"store: {{url: {tmp_path}/store}}\nsources: [{{name: data, path: {tmp_path}/data, "
        config = parse_config(f"{text}project_in_subject: {is_on}}}]")
        return [f.words for f in _old_keys(Lab(tmp_path / "lab.yaml", config))]

    assert lines("false") == []
    (line,) = lines("true")
    assert f"2 recordings have keys of other subjects ({first} is of 'p1-001')" in line.replace(
        " than `project_in_subject: true` gives", ""
    )
    look(project_in_subject=True)
    # Results were made of the first; the second was held.
    own = "p2-001_20240511_1_probe00"
    assert look() == {first: "ready", second: "vanished", own: "ready"}
    assert look.registry.get(first).problems == []
    assert present_name(look.registry.get(first)).startswith("now p1-001, 2024-05-10, ")
    (line,) = lines("true")
    assert line.startswith("1 recordings have keys")


def test_the_label_of_results_stays_taken_when_their_raw_data_are_archived(tmp_path):
    for n, project in enumerate(("p1", "p2")):
        folder = tmp_path / f"data/{project}/rawdata/sub-001/ses-1"
        write(folder / f"a{BIN}", seed=n, created=f"2024-05-1{n}T10:00:00", serial=str(n + 1))
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(tmp_path / "data", settle_s=0)
    first = source.changes()
    register_sessions(registry, first.changed)
    shutil.rmtree(tmp_path / "data/p1/rawdata/sub-001")
    (tmp_path / "data/p1/notes.txt").touch()
    later = source.changes(first.cursor, again=first.seen)
    register_sessions(registry, later.changed, [(source.name, name) for name in later.vanished])
    assert [r.state for r in registry.all().values()] == ["vanished", "held"]


@pytest.mark.parametrize(
    "target", ["../002", "../..", "../../../M2", "../../../../..", "../002/b_g0_t0.imec0.ap.bin"]
)
def test_a_link_to_another_session_is_not_followed_and_has_a_line(tmp_path, target):
    days = [tmp_path / f"data/Subjects/{day}" for day in ("M1/2024-05-12", "M2/2024-05-12")]
    for n, folder in enumerate((days[0] / "001", days[0] / "002", days[1] / "001")):
        name = "abc"[n]
        write(folder / f"{name}{BIN}", seed=n, created=f"2024-05-12T1{n}:00:00", serial=str(n + 1))
    write(tmp_path / f"disk/d{BIN}", seed=7, created="2024-05-12T10:00:00", serial="7")
    (days[0] / "001/other").symlink_to(target)
    (days[0] / "001/disk").symlink_to(tmp_path / "disk")
    found = {one.session_id: one for one in LocalSessionSource(tmp_path / "data").changes().changed}
    own = found["Subjects/M1/2024-05-12/001"]
    assert sorted(r.main.files[0] for r in own.recordings) == [f"a{BIN}", f"disk/d{BIN}"]
    assert [(p.kind, p.path) for p in own.problems] == [("link_out", "other")]
    assert [len(one.recordings) for one in found.values()] == [2, 1, 1]


# --- conflicts in ONE's layout ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ([("a", "2024-05-12T10:00:00")], ""),
        ([("a", "2024-06-12T10:00:00")], "date_conflict"),
        ([("a", "2024-05-12T01:00:00"), ("b", "2024-05-13T01:00:00")], "several_dates"),
        ([("sub-A", "2024-05-12T10:00:00")], "several_subjects"),
        ([("sub-M1", "2024-05-12T10:00:00")], ""),
        ([("M2_20240512", "2024-05-12T10:00:00")], "several_subjects"),
        ([("NP2_20240512", "2024-05-12T10:00:00")], ""),
    ],
)
def test_what_contradicts_the_place_in_the_tree_is_held(tmp_path, files, kind):
    for n, (run, created) in enumerate(files):
        path = tmp_path / f"Subjects/M1/2024-05-12/001/{run}/{run}{BIN}"
        write(path, created=created, serial=str(n + 1), seed=n)
    write(tmp_path / f"Subjects/M2/2024-05-12/001/x{BIN}", serial="7", seed=7)
    found = states(LocalSessionSource(tmp_path, settle_s=0))
    of_m1 = [r for r in found.values() if r.session.subject == "M1"]
    assert {r.state for r in of_m1} == {"held" if kind else "ready"}
    assert {p.kind for r in of_m1 for p in r.problems} == {kind} - {""}
    assert [r.state for r in found.values() if r.session.subject == "M2"] == ["ready"]


def test_the_case_of_a_file_name_says_nothing_of_whose_it_is(tmp_path):
    file = write(tmp_path / f"data/Subjects/M1/2024-05-12/001/M2_2024-05-12{BIN}", seed=1)
    for each in (file, file.with_suffix(".meta")):
        each.rename(each.with_suffix(each.suffix.upper()))
    look = lookout(tmp_path)
    assert set(look().values()) == {"ready"}
    session_of_m2(tmp_path)
    assert look()["M1_20240512_1_probe00"] == "held"


def nwb_file(path, subject):
    path.parent.mkdir(parents=True, exist_ok=True)
    started = datetime(2024, 5, 12, 10, len(path.name), tzinfo=UTC)
    nwb = NWBFile("x", str(path), started, subject=Subject(subject_id=subject))
    for name in ("rel_x", "rel_y"):
        nwb.add_electrode_column(name, "um")
    device = nwb.create_device("Probe00")
    group = nwb.create_electrode_group("Probe00", description="-", location="-", device=device)
    for i in range(2):
        nwb.add_electrode(group=group, location="-", rel_x=0.0, rel_y=15.0 * i)
    samples = np.random.default_rng(len(path.name)).integers(-99, 99, (500, 2), dtype=np.int16)
    table = nwb.create_electrode_table_region([0, 1], "-")
    nwb.add_acquisition(ElectricalSeries("AP", samples, table, rate=30000.0, starting_time=0.0))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)


@pytest.mark.parametrize("entry", [False, True])
@pytest.mark.parametrize(
    ("place", "subjects", "names"),
    [
        ("Subjects/M1/2024-05-12/001", ["M2"], "M1, M2"),
        ("Subjects/M1/2024-05-12/001", ["sub-m1"], ""),
        ("M1_2024-05-12", ["M2"], "M1, M2"),
        ("dandi", ["M1", "M2"], "M1, M2"),
        ("dandi", ["M1"], ""),
        ("P/sub-mouse_1/ses-1", ["mouse_1"], ""),
    ],
)
def test_what_a_file_says_of_its_animal_is_heard(tmp_path, place, subjects, names, entry):
    label = place.split("/")[1] if "sub-" in place else ""
    for n, subject in enumerate(subjects):
        nwb_file(tmp_path / place / f"{label or 'x'}_ses-{'1' * (n + 1)}.nwb", subject)
    readers = (ReaderEntry(glob="**/*.nwb", reader="nwb"),) if entry else ()
    found = LocalSessionSource(tmp_path, settle_s=0, readers=readers).changes().changed
    assert [len(one.recordings) for one in found] == [len(subjects)], found
    assert (names in found[0].hold) if names else found[0].hold == ""


@pytest.mark.parametrize(
    ("place", "files", "is_held"),
    [
        ("exp", ["M1_2024-05-12", "M2_2024-05-12"], True),
        ("exp", ["probe0_2024-05-12", "probe1_2024-05-12"], False),
        ("exp", ["M1_2024-05-12_1", "M1_2024-05-12_2"], False),
        ("Subjects/M1/2024-05-12/001", ["M2_2024-05-12"], True),
        ("Subjects/M1/2024-05-12/001", ["left_2024-05-12", "right_2024-05-12"], False),
    ],
)
def test_readers_files_that_are_named_for_other_animals_are_held(tmp_path, place, files, is_held):
    for n, name in enumerate(files):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{place}/{name}.raw").write_bytes(bytes(range(n, n + 80)))
    if "Subjects" in place:
        write(tmp_path / f"Subjects/M2/2024-05-12/001/x{BIN}")
    options = {"sampling_frequency": 15000, "num_channels": 2, "dtype": "int16"}
    wiring = {"positions_um": [[0, 0], [25, 0]]}
    entry = {"glob": "**/*.raw", "reader": "binary", "options": options, "gain_uv": 0.1}
    readers = (ReaderEntry.model_validate(entry | {"wiring": wiring}),)
    found = LocalSessionSource(tmp_path, settle_s=0, readers=readers).changes().changed
    assert len(found[0].recordings) == len(files)
    assert bool(found[0].hold) == is_held


# --- nothing vanishes ---------------------------------------------------------------------------


def test_every_folder_of_a_tree_that_holds_data_has_a_line_or_is_a_session(tmp_path):
    loose = [
        "top.bin",
        "Subjects/a.bin",
        "Subjects/M1/b.bin",
        "Subjects/M1/2024-05-12/c.bin",
        "p/d.dat",
        "p/rawdata/e.dat",
        "p/rawdata/sub-1/f.dat",
        "lab/g.bin",
        "lab/Subjects/M2/2024-05-12/h.bin",
    ]
    sessions = [
        "Subjects/M1/2024-05-12/001",
        "p/other",
        "p/rawdata/odd",
        "p/rawdata/sub-1/ses-1",
        "p/rawdata/sub-1/more",
        "lab/beside_g0",
        "lab/Subjects/M2/2024-05-12/001",
        "q/rawdata/run_g0",
    ]
    for n, folder in enumerate(sessions):
        write(tmp_path / folder / f"x{BIN}", serial=str(n + 1), seed=n)
    (tmp_path / "p/derivatives/x").mkdir(parents=True)
    for name in (*loose, "p/derivatives/x/recording.dat"):
        (tmp_path / name).write_bytes(b"12")
    changes = LocalSessionSource(tmp_path).changes()
    assert sorted(changes.seen) == sorted(sessions)
    lines = {(problem.kind, problem.path) for problem in changes.problems}
    assert lines == {("loose_file", name) for name in loose} | {("derived_folder", "p/derivatives")}


def test_the_animal_of_what_is_alone_in_rawdata_is_its_own(tmp_path):
    write(tmp_path / f"q/rawdata/M3_20240512_g0/M3_20240512{BIN}")
    (one,) = LocalSessionSource(tmp_path).changes().changed
    assert (one.subject, one.date) == ("M3", date(2024, 5, 12))


def test_a_probe_that_leaves_a_living_session_is_not_ready_and_comes_back(tmp_path):
    folder = tmp_path / "data/m1_20240512"
    for probe in (0, 1):
        write(folder / f"p{probe}/a_g0_t0.imec{probe}.ap.bin", serial=str(probe + 1), seed=probe)
    registry = Registry(Store(tmp_path / "store"))
    source = LocalSessionSource(tmp_path / "data", settle_s=0)

    def look():
        register_sessions(registry, source.changes().changed)
        return {key: record.state for key, record in registry.all().items()}

    one, two = "m1_20240512_1_probe00", "m1_20240512_1_probe01"
    assert look() == {one: "ready", two: "ready"}
    shutil.move(folder / "p1", tmp_path / "away")
    assert look() == {one: "ready", two: "vanished"}
    assert "holds no probe01" in registry.get(two).reason
    shutil.move(tmp_path / "away", folder / "p1")
    assert look() == {one: "ready", two: "ready"}
    (folder / "p1/a_g0_t0.imec1.ap.meta").unlink()
    assert look() == {one: "ready", two: "vanished"}
    assert "meta_missing" in registry.get(two).reason
