"""One recording has one key: copies, other names for its folder, and what only looks the same."""

from __future__ import annotations

import os
import shutil

import dagster as dg
import numpy as np
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.formats import scan_session
from neuro_assets.registry.findings import read_findings
from neuro_assets.registry.renaming import reserve, switch
from neuro_assets.sensors.discovery import look
from neuro_assets.service.session_registration import register_folder, sources_of

BIN = "a_g0_t0.imec0.ap.bin"
KEY = "m1_20240512_1_probe00"
READERS = """
readers:
  - glob: "**/*.raw"
    reader: binary
    options: {sampling_frequency: 15000, num_channels: 4, dtype: int16}
    gain_uv: 0.1
    probe: tetrode1
    wiring: {positions_um: [[0, 0], [25, 0], [0, 25], [25, 25]]}
"""


def lab_of(folder, *sources):
    rows = [f"{{name: {name}, path: {name}, settle_minutes: 0}}" for name in sources]
    for name in sources:
        (folder / name).mkdir(exist_ok=True)
    text = f"store: {{url: store}}\nsources: [{', '.join(rows)}]\n{READERS}"
    return SmallLab(folder, text)


class Ticks:
    """The discovery sensor, with the cursor of its last tick."""

    def __init__(self, lab):
        self.lab, self.cursor = lab, None

    def __call__(self, anew=False):
        self.cursor = None if anew else self.cursor
        context = dg.build_sensor_context(self.lab.instance, cursor=self.cursor)
        result = look(context, self.lab.registry, self.lab.config, sources_of(self.lab.config))
        self.cursor = result.cursor
        return self.lab.registry.all()


def raw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).integers(1, 9, (3000, 4), "int16").tobytes())


def lines(lab, source):
    return {row.path: row for row in read_findings(lab.store, source).rows()}


@pytest.mark.parametrize("serial", ["1", "0"])
@pytest.mark.parametrize("places", [("rig", "rig"), ("rig", "old")])
def test_a_copied_session_has_a_line_and_takes_over_when_the_original_is_gone(
    tmp_path, serial, places
):
    lab = lab_of(tmp_path, "rig", "old")
    tick = Ticks(lab)
    original = tmp_path / places[0] / "m1_20240512"
    copy = tmp_path / places[1] / "z copy of m1"
    write(original / BIN, serial=serial, sha1="0")
    assert list(tick()) == [KEY]
    (original.parent / "so that it is not empty").touch()
    shutil.copytree(original, copy)
    assert list(tick()) == [KEY]
    row = lines(lab, places[1])[copy.name]
    assert row.kind == "copy" and KEY in row.detail
    shutil.rmtree(original)
    assert tick()[KEY].state in ("vanished", "ready")
    (record,) = tick().values()
    assert (record.state, record.session.path, record.key) == ("ready", copy.name, KEY)
    assert record.raw_history == []
    assert lines(lab, places[1]) == {}


def test_the_same_header_over_other_samples_is_no_copy(tmp_path):
    lab = lab_of(tmp_path, "rig")
    for n in (1, 2):
        write(tmp_path / f"rig/m{n}_20240512/{BIN}", seed=n, sha1="0")
    tick, other = Ticks(lab), "m2_20240512_1_probe00"
    for anew in (False, True):  # nor does a second look free it
        records = tick(anew)
        assert {key: r.state for key, r in records.items()} == {KEY: "ready", other: "held"}
        assert KEY in records[other].reason
    shutil.rmtree(tmp_path / "rig/m1_20240512")
    tick()
    assert {key: r.state for key, r in tick(anew=True).items()} == {KEY: "vanished", other: "ready"}


@pytest.mark.parametrize("same", [True, False])
def test_two_sources_without_serials_are_compared_by_their_samples(tmp_path, same):
    lab = lab_of(tmp_path, "a", "b")
    raw(tmp_path / "a/m1_2024-05-12_1/x.raw", 1)
    raw(tmp_path / "b/m1_2024-05-12_1/x.raw", 1 if same else 2)
    tick, key = Ticks(lab), "m1_20240512_1_tetrode1"
    other = {} if same else {f"{key}-x2": "held"}
    for anew in (False, True):
        assert {k: r.state for k, r in tick(anew).items()} == {key: "ready", **other}
    assert [row.kind for row in lines(lab, "b").values()] == (["copy"] if same else [])


def test_a_file_that_sorts_first_does_not_take_the_key_of_another(tmp_path):
    lab = lab_of(tmp_path, "rig")
    tick, folder = Ticks(lab), tmp_path / "rig/m1_20240512"
    raw(folder / "b.raw", 1)
    (before,) = tick().values()
    raw(folder / "a.raw", 2)
    after = tick()
    assert after[before.key].raw.main.files == ("b.raw",)
    assert after[before.key].raw_version == before.raw_version
    assert sorted(r.raw.main.files[0] for r in after.values()) == ["a.raw", "b.raw"]


def test_other_samples_in_a_file_of_another_name_do_not_take_the_key_and_its_results(tmp_path):
    lab = lab_of(tmp_path, "rig")
    tick, folder = Ticks(lab), tmp_path / "rig/m1_20240512"
    raw(folder / "b.raw", 1)
    (before,) = tick().values()
    (folder / "b.raw").rename(folder / "c.raw")
    (renamed,) = tick().values()
    assert (renamed.key, renamed.raw.main.files) == (before.key, ("c.raw",))
    (folder / "c.raw").unlink()
    raw(folder / "a.raw", 2)
    after = tick()
    assert after[before.key].state == "vanished"
    assert after[before.key].raw.main.files == ("c.raw",)
    (other,) = after.keys() - {before.key}
    assert after[other].state == "ready"
    (why,) = [p.detail for p in after[other].problems if p.kind == "key_collision"]
    assert "c.raw" in why and other in why
    (folder / "a.raw").unlink()
    raw(folder / "c.raw", 1)
    assert {key: r.state for key, r in tick().items()} == {before.key: "ready", other: "vanished"}


def test_a_cut_copy_of_a_reader_in_another_session_gets_no_key_and_the_whole_one_waits_for_it(
    tmp_path,
):
    lab = lab_of(tmp_path, "rig")
    tick, whole = Ticks(lab), tmp_path / "rig/m1_20240512/x.raw"
    raw(whole, 1)
    (key,) = tick()
    copy = tmp_path / "rig/m2_20240513/y.raw"
    copy.parent.mkdir()
    copy.write_bytes(whole.read_bytes()[: 2000 * 8])
    assert list(tick()) == [key]
    row = lines(lab, "rig")[copy.parent.name]
    assert row.kind == "copy" and "holds a part of the same recording" in row.detail
    # The part first: the whole is held until it is gone.
    raw(tmp_path / "rig/m3_20240514/z.raw", 3)
    part = tmp_path / "rig/m4_20240515/z.raw"
    before = set(tick())
    part.parent.mkdir()
    content = (tmp_path / "rig/m3_20240514/z.raw").read_bytes()
    part.write_bytes(content + content[:800])
    after = tick()
    (longer,) = after.keys() - before
    assert after[longer].state == "held"
    assert "holds a part of it" in after[longer].reason


def test_a_recording_that_only_begins_with_silence_as_another_is_one_of_its_own(tmp_path):
    lab = lab_of(tmp_path, "rig")
    for n in (1, 2):
        path = tmp_path / f"rig/m{n}_20240512/x.raw"
        raw(path, n)
        path.write_bytes(bytes(1000 * 8) + path.read_bytes()[: n * 9000])
    assert {record.state for record in Ticks(lab)().values()} == {"ready"}
    assert len(lab.registry.all()) == 2


@pytest.mark.parametrize("serial", ["1", "0"])
def test_a_folder_that_was_run_first_keeps_its_key_in_a_source(tmp_path, serial):
    path = write(tmp_path / f"rig/m1_20240512/{BIN}", serial=serial)
    none = SmallLab(tmp_path, "store: {url: store}\n")
    found = register_folder(tmp_path, none.config, none.registry, path.parent, use_hash=False)
    assert found.keys == [KEY]
    lab = lab_of(tmp_path, "rig")
    tick = Ticks(lab)
    (record,) = tick().values()
    assert (record.key, record.session.root, record.session.path) == (KEY, "rig", "m1_20240512")
    write(path, 400, seed=3, serial=serial)
    (record,) = tick().values()
    assert (record.key, record.raw.main.n_samples) == (KEY, 400)


@pytest.mark.parametrize("left", ["", "notes.txt"])
def test_a_renamed_folder_that_is_run_before_the_sensor_looks_keeps_its_key(tmp_path, left):
    lab, old = lab_of(tmp_path, "rig"), tmp_path / "rig/Subjects/m1/2024-05-12/001"
    write(old / BIN)
    write(old / BIN.replace("imec0", "imec1"), serial="2", seed=2)
    write(tmp_path / f"rig/Subjects/m2/2024-05-12/001/{BIN}", serial="3", seed=3)
    tick = Ticks(lab)
    before = tick()
    new = tmp_path / "rig/Subjects/m1x"
    old.parents[1].rename(new)
    if left:
        old.mkdir(parents=True)
        (old / left).touch()
    found = register_folder(tmp_path, lab.config, lab.registry, new, use_hash=False)
    assert sorted(found.keys) == [KEY, KEY.replace("probe00", "probe01")]
    for records in (lab.registry.all(), tick()):
        assert {r.state for r in records.values()} == {"ready"} and records.keys() == before.keys()
        assert records[KEY].session.subject == "m1x"
    assert lines(lab, "rig") == {}


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_key_that_a_person_gave_is_kept_when_an_animal_of_that_name_arrives(tmp_path, is_moved):
    lab, new = lab_of(tmp_path, "rig"), "m9_20240513_7_probe00"
    folder = tmp_path / "rig/Subjects/m1"
    write(folder / "2024-05-12/001" / BIN)
    tick = Ticks(lab)
    tick()
    reserve(lab.registry, KEY, new)
    switch(lab.registry, KEY, new, "me")
    write(tmp_path / f"rig/Subjects/m9/2024-05-13/007/{BIN}", serial="2", seed=2,
          created="2024-05-13T10:00:00")  # fmt: skip
    if is_moved:  # to another animal, and the one of its key is there
        folder.rename(tmp_path / "rig/Subjects/m2")
    states = {new: "held" if is_moved else "ready", f"{new}-x2": "ready"}
    assert {key: record.state for key, record in tick().items()} == states
    (problem,) = lab.registry.all()[f"{new}-x2"].problems
    assert problem.kind == "key_collision" and new in problem.detail
    assert {key: record.state for key, record in tick(anew=True).items()} == states


@pytest.mark.parametrize("gone", ["copy", "unmounted", "away", "link"])
def test_a_copy_that_is_run_takes_no_key_of_an_original_that_may_be_there(tmp_path, gone):
    lab = lab_of(tmp_path, "rig", "old")
    original = tmp_path / "rig/disk/Subjects/m1/2024-05-12/001"
    write(original / BIN)
    tick, copy = Ticks(lab), tmp_path / "old/Subjects/m1x"
    tick()
    shutil.copytree(original.parents[1], copy)
    mount = tmp_path / "rig" if gone == "away" else tmp_path / "rig/disk"
    if gone != "copy":
        mount.rename(tmp_path / "elsewhere")
    if gone == "unmounted":
        mount.mkdir()
    if gone == "link":
        mount.symlink_to(tmp_path / "not there")
    found = register_folder(tmp_path, lab.config, lab.registry, copy, use_hash=False)
    assert found.keys == [] and "holds the same recording" in found.lines[-1]
    (record,) = lab.registry.all().values()
    assert (record.state, record.session.source) == ("ready", "rig")


def test_a_folder_that_is_run_through_a_link_keeps_its_key(tmp_path):
    lab = lab_of(tmp_path, "rig")
    write(tmp_path / f"rig/m1_20240512/{BIN}")
    write(tmp_path / f"disk/m2_20240512/{BIN}", serial="2", seed=2)
    (tmp_path / "link").symlink_to(tmp_path / "rig")
    (tmp_path / "rig/m2_20240512").symlink_to(tmp_path / "disk/m2_20240512")
    for folder in ("link/m1_20240512", "rig/m2_20240512"):
        register_folder(tmp_path, lab.config, lab.registry, tmp_path / folder, use_hash=False)
    places = {r.session.source + ":" + r.session.path for r in lab.registry.all().values()}
    assert places == {"rig:m1_20240512", "rig:m2_20240512"}


def test_the_first_trigger_may_arrive_after_the_second_one(tmp_path):
    lab = lab_of(tmp_path, "rig")
    lab = lab.with_text(lab.text.replace("settle_minutes: 0", "settle_minutes: 10"))
    tick, folder = Ticks(lab), tmp_path / "rig/m1_20240512"
    write(folder / "a_g0_t1.imec0.ap.bin", seed=1, first_sample=1300)
    assert {key: r.state for key, r in tick().items()} == {KEY: "not_ready"}
    write(folder / BIN, first_sample=1000)
    (record,) = tick().values()
    assert (record.key, len(record.raw.main.files)) == (KEY, 2)


def test_what_is_away_has_no_conflict_of_before(tmp_path):
    lab = lab_of(tmp_path, "rig")
    for n in (1, 2):
        write(tmp_path / f"rig/m{n}_20240512/{BIN}", seed=n, sha1="0")
    tick = Ticks(lab)
    tick()
    shutil.rmtree(tmp_path / "rig/m2_20240512")
    record = tick()["m2_20240512_1_probe00"]
    assert record.state == "vanished" and "no longer at" in record.reason


@pytest.mark.parametrize("serial", ["1", "0"])
def test_a_copy_that_was_cut_short_is_no_second_recording(tmp_path, serial):
    path = write(tmp_path / BIN, serial=serial, sha1="0")
    copy = tmp_path / "a_g0_t0.imec0.ap - Copy.bin"
    copy.write_bytes(path.read_bytes()[:1800])
    shutil.copy(path.with_suffix(".meta"), copy.with_suffix(".meta"))
    scan = scan_session(tmp_path)
    assert [r.main.files for r in scan.recordings] == [(BIN,)]
    assert [(p.kind, p.path) for p in scan.problems] == [("copy", copy.name)]
    assert "cut short" in scan.problems[0].detail


@pytest.mark.parametrize(("n", "advice"), [(300, "remove one"), (200, "cannot be compared")])
def test_removing_is_advised_only_where_the_contents_were_compared(tmp_path, n, advice):
    write(tmp_path / f"a/{BIN}", sha1="0")
    write(tmp_path / f"b/{BIN}", n, sha1="0")
    (problem,) = scan_session(tmp_path).problems
    assert problem.kind == "duplicate_stream"
    assert advice in problem.detail


def test_a_supercat_file_is_compared_too(tmp_path):
    for n, name in enumerate(("supercat_x", "supercat_y")):
        write(tmp_path / f"{name}/run_g0_tcat.imec0.ap.bin", seed=n)
    scan = scan_session(tmp_path)
    assert [p.kind for p in scan.problems] == ["conflicting_files"] * 2
    shutil.rmtree(tmp_path / "supercat_y")
    write(tmp_path / "catgt_y/run_g0_tcat.imec0.ap.bin", seed=4)
    (problem,) = scan_session(tmp_path).problems
    assert "supercat's file of several runs" in problem.detail


@pytest.mark.parametrize("serials", ["12", "00"])
@pytest.mark.parametrize(
    ("swap", "back"),
    [
        ("M1>away M2>M1 away>M2", "M1>away M2>M1 away>M2"),
        ("M1>away,M2>M1 away>M2", "M2>away M1>M2 away>M1"),
        ("M1>M2b M2>M1 M2b>M2", "M1>away M2>M1 away>M2"),
        ("M1>M2b M2>M1b", "M2b>M1 M1b>M2"),
    ],
)
def test_swapped_animals_are_held_in_whichever_looks_the_halves_are_seen(
    tmp_path, serials, swap, back
):
    day = "rig/Subjects/{}/2024-05-12/001"
    places = {each: tmp_path / day.format(each) for each in ("M1", "M2")}
    places |= {f"{each}b": place.with_name("002") for each, place in places.items()}
    places["away"] = tmp_path / "away"
    lab = lab_of(tmp_path, "rig")
    tick = Ticks(lab)
    for n in (1, 2):
        created = f"2024-05-12T1{n}:00:00"
        write(places[f"M{n}"] / BIN, seed=n, serial=serials[n - 1], created=created)
    before = tick()
    assert {r.state for r in before.values()} == {"ready"}

    def move(steps):
        for moves in steps.split():
            for one in moves.split(","):
                start, end = (places[each] for each in one.split(">"))
                start.rename(end)
            after = tick()
            assert all(r.requested == before[r.key].raw_version for r in after.values())
        return after

    swapped = move(swap)
    assert {r.state for r in swapped.values()} == {"held"}
    assert all(f"is one of another animal, {k[:2]};" in r.reason for k, r in swapped.items())
    after = move(back)
    assert {k: (r.state, r.request, r.session.subject) for k, r in after.items()} == {
        f"M{n}_20240512_1_probe00": ("ready", 1, f"M{n}") for n in (1, 2)
    }


AP, LF, SECOND = (f"x_g0_{end}.bin" for end in ("t0.imec0.ap", "t0.imec0.lf", "t1.imec0.ap"))


def two_triggers(folder):
    write(folder / AP, seed=1)
    write(folder / LF, 25, seed=2)
    later = "2024-05-12T10:00:01"
    write(folder / SECOND, seed=3, first_sample=1300, created=later)
    write(folder / SECOND.replace(".ap", ".lf"), 25, seed=4, first_sample=108, created=later)


def lab_that_reprocesses(tmp_path):
    lab = lab_of(tmp_path, "rig")
    return lab.with_text(f"{lab.text}processing: {{reprocess_changed: true}}\n")


@pytest.mark.parametrize("gone", ["*.lf.bin", "*.lf.*", "*_t1.*"])
def test_a_recording_that_lost_files_is_not_processed_again_until_a_person_says_so(tmp_path, gone):
    folder, lab = tmp_path / "rig/m1_20240512", lab_that_reprocesses(tmp_path)
    two_triggers(folder)
    tick = Ticks(lab)
    before = tick()[KEY]
    (away := tmp_path / "away").mkdir()
    lost = [each.rename(away / each.name) for each in sorted(folder.glob(gone))]
    for anew in (False, True, False):
        (after,) = tick(anew).values()
        assert (after.state, after.request, after.raw) == ("not_ready", 1, before.raw)
        assert sorted(each.name for each in lost if each.suffix == ".bin")[0] in after.reason
        assert after.raw_version == before.raw_version
    for each in lost:
        each.rename(folder / each.name)
    assert tick()[KEY].model_copy(update={"updated": before.updated}) == before
    for each in lost:
        (folder / each.name).unlink()
    assert tick()[KEY].state == "not_ready"
    register_folder(tmp_path, lab.config, lab.registry, folder, use_hash=False)
    (after,) = tick().values()
    assert (after.state, after.request) == ("ready", 2)
    assert not {each.name for each in lost} & {*after.raw.main.files, *after.raw.streams}


@pytest.mark.parametrize("gone", ["*.bin", "*_t0.imec0.ap.bin", "*_t1.imec0.ap.bin"])
def test_of_data_whose_metas_are_left_status_says_so(tmp_path, gone):
    folder, lab = tmp_path / "rig/m1_20240512", lab_that_reprocesses(tmp_path)
    two_triggers(folder)
    tick = Ticks(lab)
    tick()
    for each in folder.glob(gone):
        each.unlink()
    for anew in (False, True):
        (record,) = tick(anew).values()
        assert (record.key, record.state, record.request) == (KEY, "vanished", 1)
        assert "data_missing: the meta is there without its .bin" in record.reason


@pytest.mark.parametrize("out", ["first", "sha1", "option"])
def test_a_file_that_is_replaced_under_its_old_hash_is_held(tmp_path, out):
    lab, path = lab_of(tmp_path, "rig"), tmp_path / "rig/m1_20240512" / BIN
    plain = lab.text
    lab = lab.with_text(plain.replace("path: rig,", "path: rig, use_file_hash: true,"))
    tick, meta = Ticks(lab), path.with_suffix(".meta")
    write(path)
    before = tick()[KEY]
    first, text = path.read_bytes(), meta.read_bytes()
    os.utime(path, ns=(1, 1))
    assert tick()[KEY].state == "ready"
    write(path, seed=1)
    meta.write_bytes(text)
    for anew in (False, True, True):
        record = tick(anew)[KEY]
        assert (record.state, record.raw_version) == ("held", before.raw_version)
        assert f"the samples of {BIN} are not those that were registered" in record.reason
    if out == "first":
        path.write_bytes(first)
    elif out == "sha1":
        write(path, seed=1)
    else:
        tick.lab = lab.with_text(plain)
    record = tick(anew=True)[KEY]
    is_same = record.raw_version == before.raw_version
    assert (record.state, record.request, is_same) == (
        ("ready", 1, True) if out == "first" else ("ready", 2, False)
    )


def catgt(path, **more):
    """What CatGT writes: no hash, and when it ran as the time of creation."""
    extra = {"catGTCmdline0": "<CatGT -apfilter=butter,12,300,9000>"}
    extra["fileCreateTime_original"] = "2024-05-12T10:00:00"
    write(path, seed=9, sha1="0", created="2024-07-01T10:00:00", extra=extra, **more)


TCAT = "M1_20240512_g0_tcat.imec0.ap.bin"
RAW = f"M1_20240512_g0/{TCAT.replace('tcat', 't0')}"
OF_M1 = "M1_20240512_1_probe00"


@pytest.mark.parametrize("place", ["rig", "sorted"])
@pytest.mark.parametrize("n", [300, 250, 400])
def test_the_output_of_catgt_elsewhere_is_no_second_recording(tmp_path, place, n):
    lab = lab_of(tmp_path, "rig", "sorted")
    write(tmp_path / "rig" / RAW)
    tick, output = Ticks(lab), f"catgt_{RAW.partition('/')[0]}"
    assert list(tick()) == [OF_M1]
    catgt(tmp_path / place / output / TCAT, n=n)
    for anew in (False, True):
        assert list(tick(anew)) == [OF_M1]
    row = lines(lab, place)[output]
    assert row.kind == "copy" and "or output: M1_20240512_1_probe00" in row.detail
    shutil.rmtree(tmp_path / "rig/M1_20240512_g0")
    (tmp_path / "rig/so that it is not empty").touch()
    tick()
    for anew in (False, True):
        states = {key: (r.state, r.request) for key, r in tick(anew).items()}
        assert states == {OF_M1: ("vanished", 1), f"{OF_M1}-x2": ("held", 0)}


def test_the_output_of_catgt_alone_has_the_animal_and_the_day_of_its_recording(tmp_path):
    catgt(tmp_path / "rig/catgt_M1_20240512_g0" / TCAT)
    catgt(tmp_path / f"rig/Subjects/M2/2024-05-12/001/{TCAT}", serial="2")
    states = {key: r.state for key, r in Ticks(lab_of(tmp_path, "rig"))().items()}
    assert states == {OF_M1: "ready", "M2_20240512_1_probe00": "ready"}


def test_the_output_of_catgt_does_not_take_the_place_of_raw_data_that_are_gone(tmp_path):
    folder = tmp_path / "rig/Subjects/M1/2024-05-12/001"
    write(folder / RAW)
    catgt(folder / "catgt_M1_20240512_g0" / TCAT)
    tick = Ticks(lab_that_reprocesses(tmp_path))
    before = tick()[OF_M1]
    (folder / RAW).rename(tmp_path / "away")
    for anew in (False, True):
        (record,) = tick(anew).values()
        assert (record.state, record.request, record.raw) == ("not_ready", 1, before.raw)
        assert f"{RAW} of it cannot be read" in record.reason
    (tmp_path / "away").rename(folder / RAW)
    assert tick()[OF_M1].state == "ready"


def test_a_header_that_is_corrected_keeps_the_key_of_results(tmp_path):
    path = write(tmp_path / "rig/m1_20240512" / BIN)
    tick = Ticks(lab_of(tmp_path, "rig"))
    assert {key: r.request for key, r in tick().items()} == {KEY: 1}
    write(path, serial="77")
    (record,) = tick().values()
    assert (record.key, record.identity.probe_serial) == (KEY, "77")


def test_an_accent_of_one_character_or_two_is_one_animal(tmp_path):
    for n, name in enumerate(("Ren\u00e9", "Rene\u0301")):
        folder = tmp_path / f"rig/Subjects/{name}/2024-05-1{n}/001"
        write(folder / BIN, seed=n, serial=str(n + 1), created=f"2024-05-1{n}T10:00:00")
    keys = list(Ticks(lab_of(tmp_path, "rig"))())
    assert keys == ["Ren-_20240510_1_probe00", "Ren-_20240511_1_probe00"]


@pytest.mark.parametrize("name", ["#recycle", "$RECYCLE.BIN", "#snapshot", "@eaDir"])
def test_what_a_server_keeps_of_deleted_files_is_not_there(tmp_path, name):
    tick = Ticks(lab_of(tmp_path, "rig"))
    for n in (1, 2):
        folder = tmp_path / f"rig/Subjects/M{n}/2024-05-12/001"
        write(folder / BIN, seed=n, serial=str(n))
    tick()
    (tmp_path / "rig" / name).mkdir()
    (tmp_path / "rig/Subjects/M1").rename(tmp_path / "rig" / name / "M1")
    shutil.copytree(tmp_path / "rig/Subjects/M2", tmp_path / "rig" / name / "M2")
    for anew in (False, True):
        states = {key: r.state for key, r in tick(anew).items()}
        assert states == {OF_M1: "vanished", "M2_20240512_1_probe00": "ready"}
