"""From verdicts to asset checks: the one wrapper that always emits all of them.

Each asset has the check `outcome`, the blocking check `usable`, and one check for each family of
its criteria. Names of checks are spelled here and in the criteria, nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster_shared.utils.warnings import PreviewWarning

from neuro_assets.checks.criteria import Criterion, Judged, Verdict
from neuro_assets.outcomes import Outcome

OUTCOME_CHECK = "outcome"
USABLE_CHECK = "usable"


def check_specs(
    asset: str, criteria: Sequence[Criterion], partitions_def: dg.PartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    """Declare the checks of an asset."""
    described = {
        OUTCOME_CHECK: "How the step ended: complete, skipped (amber, with the reason) or failed",
        USABLE_CHECK: "Red when a criterion is CRITICAL: such data must not be used further",
        **{
            family: f"Criteria: {', '.join(c.metric for c in rows)}"
            for family, rows in _families(criteria).items()
        },
    }
    with warnings.catch_warnings():
        # Partitioned checks are in preview; tests/test_dagster_contract.py holds what we need of
        # them, and a page of warnings at every start helps nobody.
        warnings.simplefilter("ignore", PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name,
                asset=asset,
                description=words,
                blocking=name == USABLE_CHECK,
                partitions_def=partitions_def,
            )
            for name, words in described.items()
        ]


def complete_results(criteria: Sequence[Criterion], judged: list[Judged]) -> Iterator[Any]:
    """Yield all checks of a step that was done."""
    yield _result(OUTCOME_CHECK, Verdict.PASS, {"outcome": Outcome.COMPLETE.value})
    critical = [j for j in judged if j.verdict is Verdict.CRITICAL]
    yield dg.AssetCheckResult(
        check_name=USABLE_CHECK,
        passed=not critical,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(_words(j) for j in critical) or "No criterion is CRITICAL",
        metadata={"critical_criteria": len(critical)},
    )
    for family in _families(criteria):
        rows = [j for j in judged if j.criterion.family == family]
        worst = max((j.verdict for j in rows), default=Verdict.NOT_SET)
        if not all(j.measured for j in rows):
            worst = max(worst, Verdict.WARNING)
        yield _result(family, worst, _family_metadata(rows), "; ".join(_words(j) for j in rows))


def skipped_results(
    criteria: Sequence[Criterion], reason: str, detail: str, origin: str | None
) -> Iterator[Any]:
    """Yield all checks of a step that was rightly not done: `outcome` is amber."""
    metadata = {"outcome": Outcome.SKIPPED.value, "reason": reason, "detail": detail}
    if origin:
        metadata["origin"] = origin
    yield _result(OUTCOME_CHECK, Verdict.WARNING, metadata, f"Skipped: {reason}. {detail}")
    for name in (USABLE_CHECK, *_families(criteria)):
        yield dg.AssetCheckResult(
            check_name=name,
            passed=True,
            description=f"Nothing to judge: the step was skipped ({reason})",
            metadata={"outcome": Outcome.SKIPPED.value},
        )


def failed_results(criteria: Sequence[Criterion], error: BaseException) -> Iterator[Any]:
    """Yield all checks of a step that failed, before its error is raised: none stays green."""
    yield dg.AssetCheckResult(
        check_name=OUTCOME_CHECK,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(error) or type(error).__name__,
        metadata={"outcome": Outcome.FAILED.value, "error": type(error).__name__},
    )
    for name in (USABLE_CHECK, *_families(criteria)):
        yield dg.AssetCheckResult(
            check_name=name,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="Nothing was judged: the step failed",
            metadata={"outcome": Outcome.FAILED.value},
        )


def _families(criteria: Sequence[Criterion]) -> dict[str, list[Criterion]]:
    families: dict[str, list[Criterion]] = {}
    for criterion in criteria:
        families.setdefault(criterion.family, []).append(criterion)
    return families


def _result(
    name: str, verdict: Verdict, metadata: dict[str, Any], words: str = ""
) -> dg.AssetCheckResult:
    """PASS and NOT_SET are green, WARNING amber, FAIL and CRITICAL red; never blocking."""
    red = verdict >= Verdict.FAIL
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict < Verdict.WARNING,
        severity=dg.AssetCheckSeverity.ERROR if red else dg.AssetCheckSeverity.WARN,
        description=words or None,
        metadata={"verdict": verdict.name, **metadata},
    )


def _family_metadata(rows: list[Judged]) -> dict[str, Any]:
    values = {j.criterion.metric: float(f"{j.value:.6g}") for j in rows if j.value is not None}
    table = dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "metric": j.criterion.metric,
                    "value": _shown(j),
                    "limits": _limits(j.criterion),
                    "verdict": j.verdict.name,
                    "source": j.criterion.source,
                }
            )
            for j in rows
        ]
    )
    return {**values, "criteria": table}


def _shown(judged: Judged) -> str:
    if judged.value is not None:
        return f"{judged.value:.4g}"
    return "not computed" if judged.measured else "not measured"


def _limits(criterion: Criterion) -> str:
    sign = ">" if criterion.above else "<"
    named = (
        ("WARNING", criterion.warning),
        ("FAIL", criterion.fail),
        ("CRITICAL", criterion.critical),
    )
    limits = ", ".join(f"{n} {sign} {v:g}" for n, v in named if v is not None)
    return f"{limits} {_unit(criterion)}".strip() if limits else ""


def _unit(criterion: Criterion) -> str:
    """Give the unit to show; a ratio has none."""
    return "" if criterion.unit == "1" else criterion.unit


def _words(judged: Judged) -> str:
    metric = judged.criterion.metric
    if not judged.measured:
        return (
            f"{metric} not measured: the output is older than this criterion; "
            "`neuro-assets run KEY --only ASSET --force` makes it again"
        )
    if judged.value is None:
        return f"{metric} not computed"
    value = f"{judged.value:.4g} {_unit(judged.criterion)}".strip()
    return f"{metric} {value}" + (f": {judged.verdict.name}" if _limits(judged.criterion) else "")
