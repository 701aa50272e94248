"""Nothing dropped vanishes: what is no recording has a line, in the store and in the interface."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.cli.lab import Lab
from neuro_assets.cli.status import print_findings
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.findings import all_findings, read_findings, update_findings
from neuro_assets.sensors.discovery import look
from neuro_assets.service.session_registration import register_folder
from neuro_assets.sources.folders.source import LocalSessionSource

BIN = "_g0_t0.imec0.ap.bin"
TEXT = """
sources: [{name: rig, path: data, settle_minutes: 0}]
store: {url: store}
"""


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "data").mkdir()
    return SmallLab(tmp_path, TEXT)


class Ticks:
    """The discovery sensor, with the cursor of its last tick."""

    def __init__(self, lab):
        self.lab, self.cursor = lab, None

    def __call__(self):
        source = LocalSessionSource(self.lab.folder / "data", name="rig", settle_s=0)
        context = dg.build_sensor_context(self.lab.instance, cursor=self.cursor)
        result = look(context, self.lab.registry, self.lab.config, {"rig": source})
        self.cursor = result.cursor
        return [e for e in result.asset_events if "not_recordings" in e.metadata]


def lines(lab):
    return {row.path: row.kind for row in read_findings(lab.store, "rig").rows()}


def test_everything_that_looks_like_data_has_a_line_until_it_is_mended(lab, capsys):
    data = lab.folder / "data"
    write(data / "good/a_g0_t0.imec0.ap.bin")
    write(data / "alone/b_g0_t0.imec0.ap.bin", serial="2").with_suffix(".meta").unlink()
    (data / "plain").mkdir()
    (data / "plain/samples.dat").write_bytes(b"1234")
    others = ["a.rec", "100_CH1.continuous", "tank.tev", "tank_ch1.sev", "b.smrx", "c.ns4"]
    for name in others:
        (data / name.replace(".", "_")).mkdir()
        (data / name.replace(".", "_") / name).write_bytes(b"1234")
    (data / "loose.bin").write_bytes(b"1234")
    (data / "Subjects/s/histology").mkdir(parents=True)
    (data / "Subjects/s/ephys_old").mkdir()
    (data / "Subjects/s/ephys_old/x.bin").write_bytes(b"1234")
    (data / "notes").mkdir()
    (data / "notes/readme.txt").write_text("nothing")
    shutil.copytree(data / "good", data / "good/again")
    tick = Ticks(lab)
    (event,) = tick()
    expected = {
        "alone/b_g0_t0.imec0.ap.bin": "meta_missing",
        "plain/samples.dat": "unrecognised",
        "loose.bin": "loose_file",
        "Subjects/s/ephys_old": "odd_folder",
        **{f"{name.replace('.', '_')}/{name}": "unrecognised" for name in others},
    }
    found = lines(lab)
    assert expected.items() <= found.items()
    assert len(found) == len(expected) + 1  # the copy, by either name
    assert event.metadata["not_recordings"].value == len(found)
    assert tick() == []  # nothing new to report
    print_findings(Lab(lab.folder / "lab.yaml", lab.config))
    shown = " ".join(capsys.readouterr().out.split())
    assert all(kind in shown for kind in expected.values())
    write(data / "alone/b_g0_t0.imec0.ap.bin", serial="2")
    shutil.rmtree(data / "plain")
    (data / "loose.bin").unlink()
    for name in others:
        shutil.rmtree(data / name.replace(".", "_"))
    tick()
    assert lines(lab).keys() & expected.keys() == {"Subjects/s/ephys_old"}


@pytest.mark.parametrize(("seed", "n_keys"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("old_form", [False, True])
def test_a_copy_of_what_waits_is_compared_again_when_that_is_there(lab, seed, n_keys, old_form):
    names = [lab.folder / f"data/Subjects/{m}/2024-05-12/001/a{BIN}" for m in ("M1", "M2")]
    write(names[0], 3000, seed=1, sha1="0").write_bytes(bytes(names[0].stat().st_size))
    write(names[1], 3000, seed=2, sha1="0")
    tick = Ticks(lab)
    tick()
    (waits,) = lab.registry.all().values()
    assert (waits.session.subject, waits.state) == ("M1", "not_ready")
    held = read_findings(lab.store, "rig").copies
    assert held.keys() == {"Subjects/M2/2024-05-12/001"}
    if old_form:
        found = lab.store.read_json("findings/rig.json")
        found["copies"] = {name: list(keys) for name, keys in found["copies"].items()}
        lab.store.write_json_atomic("findings/rig.json", found)
    write(names[0], 3000, seed=seed, sha1="0")
    for _ in range(3):
        tick()
    records = lab.registry.all()
    assert len(records) == n_keys
    assert records[waits.key].state == "ready"
    others = [r for key, r in records.items() if key != waits.key]
    assert all(r.state == "held" and "samples differ" in r.reason for r in others)
    after = read_findings(lab.store, "rig")
    assert bool(after.copies) == (n_keys == 1)
    assert after.to_compare(records) == []


def test_a_damaged_file_says_what_to_do(lab):
    lab.store.write_json_atomic("findings/rig.json", {"places": 3})
    with pytest.raises(PermanentFailure, match="remove it"):
        read_findings(lab.store, "rig")


def test_sources_are_kept_apart_and_sessions_merged(lab):
    problem = Problem(kind="empty_file", path="x.bin", detail="copy it again")
    assert update_findings(lab.store, "a", {"s1": [problem], "s2": []}) is not None
    assert update_findings(lab.store, "a", {"s1": [problem]}) is None
    update_findings(lab.store, "a", {"s3": [problem]})
    update_findings(lab.store, "b", {}, places=[problem])
    found = all_findings(lab.store)
    assert [row.path for row in found["a"].rows()] == ["s1/x.bin", "s3/x.bin"]
    assert [row.path for row in found["b"].rows()] == ["x.bin"]
    assert update_findings(lab.store, "a", {"s1": []}, gone=["s3"]).rows() == []


def test_a_folder_outside_every_source_is_registered_with_its_findings(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere") / "m1_20240512_g0"
    write(folder / "m1_20240512_g0_t0.imec0.ap.bin")
    write(folder / "b_g0_t0.imec0.ap.bin", serial="2").with_suffix(".meta").unlink()
    found = register_folder(lab.folder, lab.config, lab.registry, folder, use_hash=False)
    assert found.keys == ["m1_20240512_1_probe00"]
    assert [row.kind for rows in all_findings(lab.store).values() for row in rows.rows()]
