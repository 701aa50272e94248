"""One configuration for the whole of a run; the last good one when the file is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import service_tools as tools
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext

from neuro_assets.config import parse_config
from neuro_assets.config.changes import changed_fields
from neuro_assets.executors.frozen_config import (
    LOADED_VARIABLE,
    ConfigText,
    frozen_config,
    last_good_path,
    load_config_text,
    loaded_config,
)
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service import loaded_configuration, prepare_home
from neuro_assets.service.home import LOADED_CONFIG, UP_LOCK, hold


def refuse_broken(text: str) -> None:
    if "broken" in text:
        raise PermanentFailure("line 3: unknown key 'sorterz', did you mean 'sorters'?")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    # A first load, whatever was loaded in this process before.
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)
    return tmp_path / "lab.yaml"


def test_a_good_file_is_returned_and_kept(lab: Path) -> None:
    lab.write_text("sorters: [a]\n")
    assert load_config_text(lab, refuse_broken) == ("sorters: [a]\n", None)
    assert (lab.parent / "home" / "lab.last_good.yaml").read_text() == "sorters: [a]\n"


@pytest.mark.parametrize("damage", ["broken", "missing", "binary"])
def test_a_file_that_became_unusable_leaves_the_last_good_one_in_force_and_says_why(
    lab: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    lab.write_text("good: 1\n")
    load_config_text(lab, refuse_broken)
    if damage == "missing":
        lab.unlink()
    else:
        lab.write_bytes(b"broken: 1\n" if damage == "broken" else b"\xff\xfe\x00")
    text, error = load_config_text(lab, refuse_broken)
    assert text == "good: 1\n"
    assert error is not None
    assert str(lab) in error
    assert "last good configuration" in caplog.text
    if damage == "broken":
        assert "did you mean 'sorters'" in error


def test_an_emptied_file_leaves_the_last_good_one_in_force(lab: Path) -> None:
    lab.write_text("sorters: [a]\n")
    load_config_text(lab, refuse_broken)
    lab.write_text("")
    text, error = load_config_text(lab, refuse_broken)
    assert text == "sorters: [a]\n"
    assert "the file is empty" in error
    assert (lab.parent / "home" / "lab.last_good.yaml").read_text() == "sorters: [a]\n"


def test_the_mended_file_counts_again(lab: Path) -> None:
    for text in ("good: 1\n", "broken\n", "good: 2\n"):
        lab.write_text(text)
        result = load_config_text(lab, refuse_broken)
    assert result == ("good: 2\n", None)


def test_without_a_last_good_text_the_error_is_raised(lab: Path) -> None:
    lab.write_text("broken")
    with pytest.raises(PermanentFailure, match="sorterz"):
        load_config_text(lab, refuse_broken)


def test_a_last_good_text_that_is_no_longer_good_is_not_used(lab: Path) -> None:
    lab.write_text("old: 1\n")
    load_config_text(lab, refuse_broken)

    def stricter(text: str) -> None:
        raise PermanentFailure(f"refused {text.strip()}")

    with pytest.raises(PermanentFailure, match="refused old"):
        load_config_text(lab, stricter)


def test_where_no_file_ever_was_the_empty_text_counts(lab: Path) -> None:
    assert load_config_text(lab, refuse_broken) == ("", None)


def test_without_a_home_nothing_is_kept(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    lab.write_text("good: 1\n")
    assert load_config_text(lab, refuse_broken) == ("good: 1\n", None)
    assert last_good_path(lab) is None
    assert [p.name for p in lab.parent.iterdir()] == ["lab.yaml"]


# --- what the code server has loaded ---------------------------------------------------------


def differ(old: str, new: str) -> list[dict[str, str]]:
    return [{"field": "text", "old": old, "new": new}]


def load(lab: Path, text: str) -> ConfigText:
    lab.write_text(text)
    return frozen_config(lab, refuse_broken, differ)


def test_the_code_server_records_what_it_loaded_and_what_changed_last(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = lab.parent / "loaded.json"
    monkeypatch.setenv(LOADED_VARIABLE, str(record))
    first = load(lab, "a: 1")
    assert (first.text, first.changes, first.changed_at) == ("a: 1", [], None)
    second = load(lab, "a: 2")
    assert second.changes == [{"field": "text", "old": "a: 1", "new": "a: 2"}]
    assert second.changed_at == second.loaded_at is not None
    # A restart with the same text, and a broken file, leave the latest change on show.
    assert load(lab, "a: 2").changes == second.changes
    refused = load(lab, "broken")
    assert (refused.text, refused.changes) == ("a: 2", second.changes)
    assert "sorterz" in str(refused.error)
    assert loaded_config(record) == refused


def test_others_than_the_code_server_record_nothing(lab: Path) -> None:
    load(lab, "a: 1")
    assert loaded_config(lab.parent / "loaded.json") is None


def test_status_says_whether_the_file_is_what_is_loaded(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = prepare_home(lab.parent)
    monkeypatch.setenv(LOADED_VARIABLE, str(home / LOADED_CONFIG))
    load(lab, "lab: one\n")
    assert loaded_configuration(lab.parent, lab) == []
    with hold(home / UP_LOCK):
        (line,) = loaded_configuration(lab.parent, lab)
        assert "is loaded as it is" in line
        lab.write_text("lab: two\nsorters: [{name: kilosort4}]\n")
        assert loaded_configuration(lab.parent, lab)[1:] == [
            '  lab: "one" -> "two"',
            *(f"  {c['field']}: {c['old']} -> {c['new']}" for c in sorter_changes()),
        ]
        lab.write_text("labb: two\n")
        assert "cannot be used" in loaded_configuration(lab.parent, lab)[1]


def sorter_changes() -> list[dict[str, str]]:
    old, new = parse_config("lab: two"), parse_config("lab: two\nsorters: [{name: kilosort4}]")
    return changed_fields(old, new)


@pytest.mark.integration
def test_every_step_keeps_the_text_that_the_run_began_with(tmp_path: Path) -> None:
    """Steps that are spawned; `test_service` has forked ones, and the run after the edit."""
    (tmp_path / "lab.yaml").write_text("number: 1\n")
    process = tools.start_execute(tmp_path, "'texts_spawned'", "run.log")
    tools.until(lambda: tools.lines(tmp_path, "text"), "first step")
    (tmp_path / "lab.yaml").write_text("number: 2\n")
    (tmp_path / "edited").touch()
    assert process.wait() == 0
    assert " SUCCESS " in tools.log(tmp_path, "run.log")
    seen = tools.lines(tmp_path, "text")
    assert [(s["step"], s["text"]) for s in seen] == [
        ("before", "number: 1\n"),
        ("after", "number: 1\n"),
    ]
    assert seen[0]["pid"] != seen[1]["pid"]
