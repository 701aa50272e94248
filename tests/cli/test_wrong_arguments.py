"""Wrong arguments and impossible places: one line that says what to do, exit code 1 or 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import call
from labs import SmallLab
from places import read_only
from spikeglx_files import write

from neuro_assets.config import nearest
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import Outcome
from neuro_assets.registry.findings import update_findings
from neuro_assets.store import Manifest

SHORT = ("--duration", "1", "--channels", "4", "--no-video")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("simulate", "x", "--date", "2026-13-45"), 2, "2026-13-45"),
        (("simulate", "x", "--duration", "nan", "--no-video"), 2, "--duration"),
        (("simulate", "x", "--subject", "a" * 300, *SHORT), 1, "choose a shorter"),
        (("simulate", "file/x", *SHORT), 1, "choose another folder"),
        (("init", "file/x"), 1, "choose another folder"),
        (("demo", "file/x"), 1, "choose another folder"),
        (("demo", "x", "--channels", "0"), 2, "--channels"),
        (("up", "--port", "99999"), 2, "65535"),
        (("up", "--port", "0"), 2, "--port"),
        (("gc", "--older-than-h", "nan"), 1, "nan is no age"),
        (("gc", "--older-than-h", "-3"), 1, "-3.0 is no age"),
        (("run", "/data/typo"), 1, "/data/typo: no such folder"),
        (("run", "file"), 1, "file: not a folder"),
        (("run", "no such"), 1, "neither a folder nor a registered recording"),
        (("--lab", "/typo", "status"), 1, "no such folder: /typo"),
        (("--lab", "/typo", "doctor"), 1, "no such folder: /typo"),
        (("run", "full", "--store", "file/x"), 1, "file/x"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path: Path, words, code, expected) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    done = call(*words, folder=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe\x00lab", "is not text in UTF-8"),
        (b"[" * 5000, "nested too deep"),
        (b"store: " + b"{a: " * 3000, "nested too deep"),
        (b"a: [", "not valid YAML"),
    ],
)
@pytest.mark.parametrize("words", [("status",), ("up",), ("run", ".", "--store", "there")])
def test_a_lab_yaml_that_cannot_be_read_is_one_line(tmp_path: Path, content, expected, words):
    (tmp_path / "lab.yaml").write_bytes(content)
    done = call(*words, folder=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_store_in_an_impossible_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "lab.yaml").write_text("store: {url: file/store}\n")
    (tmp_path / "in").mkdir()
    for words in (("run", "in"), ("status",), ("verify",), ("gc",)):
        done = call(*words, folder=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (words, done)
        assert "file/store" in done.stderr


def test_verify_names_the_nearest_recording(tmp_path: Path, monkeypatch) -> None:
    lab = SmallLab(tmp_path)
    (tmp_path / "lab.yaml").write_text(lab.text)
    assert "there is none yet" in call("verify", "M1_20260101_1_probe01", folder=tmp_path).stderr
    made = Manifest(asset="lfp", key="M1_20260101_1_probe00", version="aa",
                    outcome=Outcome.COMPLETE)  # fmt: skip
    with lab.store.attempt("lfp", made.key, "aa") as attempt:
        attempt.commit(made)
    done = call("verify", "M1_20260101_1_probe01", folder=tmp_path)
    assert done.returncode == 1 and f"did you mean '{made.key}'?" in done.stderr


def test_a_store_that_can_only_be_read_is_refused_before_any_work(tmp_path: Path) -> None:
    """Looking at it works; what would write says so in one line."""
    lab = SmallLab(tmp_path)
    (tmp_path / "lab.yaml").write_text(lab.text + "raw_deletion: {enabled: true}\n")
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    (key,) = lab.register(tmp_path / "raw")
    cut = Problem(kind="truncated", path="a.bin", detail="cut")
    update_findings(lab.store, "rig", {"session": (cut,)})  # a file of the store's own: no defect
    with read_only(tmp_path / "store"):
        for words in (("status",), ("verify",), ("gc",), ("status", key, "--json")):
            done = call(*words, folder=tmp_path)
            assert done.returncode == 0 and not done.stderr, (words, done)
        for words in (
            ("run", key), ("run", "raw"), ("up", "--port", "1"), ("gc", "--yes"),
            ("delete-raw", key, "--yes"), ("verify", "--repair"), ("upgrade-store",),
            ("rename", key, "M9_20260101_1_probe00", "--yes"),
        ):  # fmt: skip
            done = call(*words, folder=tmp_path)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, (words, done)
            assert "read-only" in done.stderr or "no permission" in done.stderr, (words, done)
            assert "registered" not in done.stdout


def test_a_long_list_of_choices_is_cut() -> None:
    names = [f"AAA{n}" for n in range(1000)]
    assert nearest("zzz", names).endswith("and 970 more") and nearest("z", []).endswith("none yet")


def test_doctor_knows_the_parameters_of_the_sorter(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "sorters: [{name: tridesclous2, parameters: {sorter_parameters: {detect_treshold: 5}}}]\n"
    )
    done = call("doctor", folder=tmp_path)
    assert done.returncode == 1
    assert "tridesclous2 has no parameter 'detect_treshold'" in " ".join(done.stdout.split())
