"""In 80 columns nothing is cut, so that no two rows look alike; a reason stands once."""

from __future__ import annotations

import io
from pathlib import Path

from commands import call
from labs import SmallLab
from rich.console import Console, RenderableType
from spikeglx_files import write

from neuro_assets.assets.inventory import OutputState, _change
from neuro_assets.assets.steps.nwb import CRITERIA
from neuro_assets.checks.criteria import judge
from neuro_assets.cli import demonstration
from neuro_assets.cli.demonstration import Recovered
from neuro_assets.cli.lab import Lab
from neuro_assets.cli.status import states_table
from neuro_assets.outcomes import Outcome
from neuro_assets.store import Manifest

KEY = "a_long_subject-of_project_20260101_12_probe00-g1"


def shown(table: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_the_demonstration_names_each_recording_whole(tmp_path: Path, monkeypatch) -> None:
    found = Recovered(20, 19, 33, 0.91)
    monkeypatch.setattr(demonstration, "recovered", lambda *args: found)
    lab = Lab(tmp_path / "lab.yaml", SmallLab(tmp_path).config)
    lines = shown(demonstration._truth_table(lab, KEY, tmp_path))
    assert not any("…" in line for line in lines)
    assert KEY in lines[0] and any("tridesclous2 " in line for line in lines)
    monkeypatch.setattr(demonstration, "output_states", lambda *args: [])
    assert demonstration._check_line(lab, KEY).startswith(f"Quality criteria of {KEY}: 0 passed")


def test_defects_and_leftovers_are_lines_with_whole_paths(tmp_path: Path) -> None:
    lab = SmallLab(tmp_path)
    (tmp_path / "lab.yaml").write_text(lab.text)
    made = Manifest(asset="lfp", key=KEY, version="aa", outcome=Outcome.COMPLETE)
    with lab.store.attempt("lfp", KEY, "aa") as attempt:
        stored = attempt.commit(made)
    (tmp_path / "store" / stored.path / "a_file_that_nobody_committed.bin").write_text("x")
    done = call("verify", folder=tmp_path)
    (line,) = [each for each in done.stdout.splitlines() if "nobody_committed" in each]
    assert line.startswith(f"lfp {KEY} a_file_that_nobody_committed.bin: extra: ")


def test_a_reason_stands_where_it_arose_and_an_asset_is_never_cut(tmp_path: Path) -> None:
    detail = "3 good channels are left of 384, sorting needs 8 of them to tell units apart"
    store, states = SmallLab(tmp_path).store, []
    for asset, reason, origin in (
        ("sorting_tridesclous2", "too_few_good_channels", None),
        ("analyzer_tridesclous2", "skipped_upstream", "sorting_tridesclous2"),
        ("unit_quality_tridesclous2", "skipped_upstream", "sorting_tridesclous2"),
    ):
        skip = {"reason": reason, "detail": detail, "origin": origin}
        made = Manifest(asset=asset, key="K", version="a", outcome=Outcome.SKIPPED, skip=skip)
        with store.attempt(asset, "K", "a") as attempt:
            stored = attempt.commit(made)
        state = OutputState("K", asset, Outcome.SKIPPED, f"{reason}: {detail}", (), stored)
        states.append(state)
    lines = shown(states_table("K", states))
    text = " ".join(" ".join(lines).split())
    assert text.count("good channels are") == 1
    for asset in ("sorting_tridesclous2", "analyzer_tridesclous2", "unit_quality_tridesclous2"):
        assert any(line.strip().startswith(asset + " ") for line in lines)
    assert "skipped_upstream: see" in text


def test_an_output_that_fails_a_criterion_says_so(tmp_path: Path) -> None:
    lab = SmallLab(tmp_path)
    criteria = [row for row in CRITERIA if row.metric == "n_unmade_inputs"]
    rows = [row.row() for row in judge(criteria, {"n_unmade_inputs": 2})]
    made = Manifest(asset="nwb", key="K", version="a", outcome=Outcome.COMPLETE, checks=rows)
    with lab.store.attempt("nwb", "K", "a") as attempt:
        stored = attempt.commit(made)
    text = "".join(
        shown(states_table("K", [OutputState("K", "nwb", made.outcome, "", (), stored)]))
    )
    assert "WARNING: n_unmade_inputs 2" in text


def test_a_long_reason_has_the_whole_width_and_stands_once_for_all_that_share_it() -> None:
    why = "the sorter has no such parameter; it knows " + ", ".join(f"name_{n}" for n in range(20))
    states = [OutputState("K", name, Outcome.FAILED, why) for name in ("sorting_a", "sorting_b")]
    lines = shown(states_table("K", states))
    (line,) = [line for line in lines if "no such parameter" in line]
    assert line.startswith("  sorting_a, sorting_b: the sorter has") and len(line) > 60


def test_what_waits_names_what_is_not_made_and_nothing_in_between(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "M1_g0" / "M1_g0_t0.imec0.ap.bin", n=3000, seed=0)
    lab = SmallLab(tmp_path)
    (key,) = lab.register(tmp_path / "raw")
    states = lab.states(key)
    assert states["compressed_recording"].detail == "a run"
    assert states["units"].detail == "compressed_recording (waiting)"
    lab.store.fail(Manifest(asset="compressed_recording", key=key, version="a", outcome="failed"))
    details = {name: each.detail for name, each in lab.states(key).items()}
    assert details["units"] == details["lfp"] == "compressed_recording (failed)"


def test_a_table_of_limits_that_changed_is_named_and_not_printed() -> None:
    limits = {f"criterion_{n}": [n, None] for n in range(30)}
    assert _change("good", {"snr": 1, "isi": 2}, {"snr": 1, "isi": 3}) == "good.isi from 2 to 3"
    assert _change("set", None, "aind") == "set from None to aind"
    text = _change("noise", None, {"one": limits, "two": limits})
    assert text == "noise (one, two)"
