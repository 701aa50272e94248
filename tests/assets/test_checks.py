"""Criteria become verdicts, and verdicts become checks: always all of them."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import dagster as dg
import pytest

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.checks import (
    check_specs,
    complete_results,
    failed_results,
    skipped_results,
)
from neuro_assets.checks.criteria import Criterion, Verdict, criteria_version, judge
from neuro_assets.config import LabConfig
from neuro_assets.partitions import SESSION_PROBE

ROWS = (
    Criterion("rms_uv", "noise", "uV", warning=20, fail=30, critical=100),
    Criterion("yield", "units", "1", warning=0.5, fail=0.1, above=False),
    Criterion("line_db", "noise", "dB", warning=6),
)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (20, Verdict.PASS),
        (20.1, Verdict.WARNING),
        (31, Verdict.FAIL),
        (101, Verdict.CRITICAL),
        (nan, Verdict.NOT_SET),
        (None, Verdict.NOT_SET),
    ],
)
def test_a_limit_is_passed_when_it_is_met_and_the_worst_one_beyond_it_counts(value, verdict):
    assert ROWS[0].judge(value) is verdict


def test_a_criterion_from_below():
    assert ROWS[1].judge(0.6) is Verdict.PASS
    assert ROWS[1].judge(0.4) is Verdict.WARNING
    assert ROWS[1].judge(0.0) is Verdict.FAIL


def test_a_metric_that_the_step_does_not_report_is_a_bug_and_not_a_pass():
    with pytest.raises(LookupError, match="line_db"):
        judge(ROWS, {"rms_uv": 1.0, "yield": 1.0})


def test_an_output_that_is_older_than_a_criterion_is_amber_and_not_judged():
    judged = judge(ROWS, {"rms_uv": 1.0, "yield": 1.0}, stored=True)
    assert [row.verdict for row in judged] == [Verdict.PASS, Verdict.PASS, Verdict.NOT_SET]
    noise = next(r for r in complete_results(ROWS, judged) if r.check_name == "noise")
    assert (noise.passed, noise.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "line_db not measured" in noise.description and "run KEY" in noise.description


def test_the_criteria_have_a_version_that_every_limit_changes():
    other = (*ROWS[:2], replace(ROWS[2], warning=7))
    assert criteria_version(ROWS) == criteria_version(tuple(ROWS))
    assert len({criteria_version(rows) for rows in (ROWS, other, ROWS[:2])}) == 3


def names(results: list[dg.AssetCheckResult]) -> set[str | None]:
    return {result.check_name for result in results}


def test_every_declared_check_is_emitted_whatever_happened():
    declared = {spec.name for spec in check_specs("a", ROWS, SESSION_PROBE)}
    judged = judge(ROWS, {"rms_uv": 25.0, "yield": nan, "line_db": 1.0})
    assert names(list(complete_results(ROWS, judged))) == declared
    assert names(list(skipped_results(ROWS, "no_units_found", "0 units", None))) == declared
    assert declared == {"outcome", "usable", "noise", "units"}


def test_only_usable_blocks_and_only_a_critical_value_turns_it_red():
    specs = check_specs("a", ROWS, SESSION_PROBE)
    assert [spec.name for spec in specs if spec.blocking] == ["usable"]
    for rms, passed in ((50.0, True), (200.0, False)):
        judged = judge(ROWS, {"rms_uv": rms, "yield": 1.0, "line_db": 1.0})
        by_name = {r.check_name: r for r in complete_results(ROWS, judged)}
        assert by_name["usable"].passed is passed
        assert by_name["noise"].passed is False
        assert by_name["noise"].severity is dg.AssetCheckSeverity.ERROR


def test_a_warning_is_amber_and_its_values_are_in_the_metadata():
    judged = judge(ROWS, {"rms_uv": 25.0, "yield": 1.0, "line_db": 1.0})
    noise = next(r for r in complete_results(ROWS, judged) if r.check_name == "noise")
    assert (noise.passed, noise.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert noise.metadata["rms_uv"].value == 25.0
    assert noise.metadata["verdict"].value == "WARNING"


def test_a_skip_is_amber_with_its_reason_and_blocks_nothing():
    results = {r.check_name: r for r in skipped_results(ROWS, "no_units_found", "0 units", "x")}
    outcome = results["outcome"]
    assert (outcome.passed, outcome.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert outcome.metadata["reason"].value == "no_units_found"
    assert results["usable"].passed


def test_a_failure_is_red_and_says_what_failed():
    result, *others = failed_results(ROWS, ValueError("the file is empty"))
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert result.description == "the file is empty"
    assert {r.check_name for r in others} >= {"usable"} and not any(r.passed for r in others)


def test_no_asset_has_more_than_five_checks_and_every_row_has_a_source():
    for step in all_steps(LabConfig()):
        assert len(check_specs(step.name, step.criteria, SESSION_PROBE)) <= 5, step.name
        assert all(row.source and row.unit for row in step.criteria), step.name
