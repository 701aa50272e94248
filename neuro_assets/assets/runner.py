"""The life of every step: reuse, compute, commit, checks, retries; one wrapper for all.

What a step is, and what its function gets, is in `neuro_assets.assets.step`. No science, no
formats and no store paths.
"""

import resource
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata as package_metadata
from math import isfinite
from typing import Any

import dagster as dg

from neuro_assets.assets.checks import (
    check_specs,
    complete_results,
    failed_result,
    skipped_results,
)
from neuro_assets.assets.step import Input, Step, StepSpec
from neuro_assets.checks.criteria import criteria_version, judge
from neuro_assets.config import LabConfig
from neuro_assets.outcomes import (
    Outcome,
    PermanentFailure,
    Skipped,
    SkipReason,
    TransientFailure,
)
from neuro_assets.parent_watchdog import end_with_parent
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.resources.io_managers import (
    Missing,
    Production,
    StoreResource,
)
from neuro_assets.science.result import Progress, StepResult
from neuro_assets.store import Attempt, InputRef, Manifest, Store, Stored, version_of
from neuro_assets.store.judgement import keep_judgement

FORCE_TAG = "neuro/force"
"""Run tag: `true` computes again although the version is in the store."""

RETRIES = dg.RetryPolicy(
    # A busy server or a full machine is mostly gone after a minute or two; permanent failures
    # raise `Failure(allow_retries=False)` and never come here.
    max_retries=2,
    delay=20,
    backoff=dg.Backoff.EXPONENTIAL,
    jitter=dg.Jitter.PLUS_MINUS,
)

PACKAGES = (
    "neuro-assets", "spikeinterface", "probeinterface", "neo", "numpy", "scipy", "pandas",
    "pyarrow", "zarr", "numcodecs", "pcodec", "mtscomp", "torch", "kilosort", "pynwb", "hdmf",
    "numba", "scikit-learn", "hdbscan", "dagster",
)  # fmt: skip
"""Packages whose versions can change a result, recorded in every manifest."""


def step_asset(spec: StepSpec, config: LabConfig) -> dg.AssetsDefinition:
    """Make the Dagster asset of a step, partitioned by recording.

    Parameters
    ----------
    spec : StepSpec
        The step.
    config : LabConfig
        For the machine's resources.

    Returns
    -------
    AssetsDefinition
        With its checks.
    """
    runner = _Runner(spec, config)

    def run(
        context: dg.AssetExecutionContext, store: dg.ResourceParam[StoreResource], **inputs: Any
    ) -> Any:
        yield from runner.run(context, store.store(), inputs)

    return dg.asset(
        name=spec.name,
        description=spec.description,
        group_name=spec.group,
        kinds=set(spec.kinds),
        owners=["team:neuro_assets"],
        ins={
            need.asset: dg.AssetIn(need.asset, input_manager_key=spec.io_manager_key)
            for need in spec.needs
        },
        io_manager_key=spec.io_manager_key,
        partitions_def=SESSION_PROBE,
        check_specs=check_specs(spec.name, spec.criteria, SESSION_PROBE),
        code_version=spec.parameters.code_version,
        retry_policy=RETRIES,
        pool=spec.pool,
        metadata={"parameters": dg.MetadataValue.json(spec.parameters.model_dump(mode="json"))},
    )(run)


@dataclass(frozen=True)
class _Runner:
    """The life of one step: reuse, compute, commit, checks, and what happens when it fails."""

    spec: StepSpec
    config: LabConfig

    def run(
        self, context: dg.AssetExecutionContext, store: Store, inputs: Mapping[str, Input]
    ) -> Iterator[Any]:
        end_with_parent()
        key = context.partition_key
        manifest = self._manifest(key, inputs, context.run_id)
        if context.run.tags.get(FORCE_TAG) != "true":
            done = store.committed(self.spec.name, key, manifest.version)
            if done is not None:
                context.log.info(f"{self.spec.name}: version {manifest.version} is stored; reused")
                yield from self._reuse(store, done)
                return
        try:
            with store.attempt(self.spec.name, key, manifest.version) as attempt:
                yield from self._produce(context, store, inputs, manifest, attempt)
        except dg.Failure:
            raise
        except Exception as error:
            # Everything is recorded and shown, also a bug of ours or of a library.
            yield from self._fail(store, manifest, error)

    def _produce(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        inputs: Mapping[str, Input],
        manifest: Manifest,
        attempt: Attempt,
    ) -> Iterator[Any]:
        began = time.monotonic()
        criteria = self.spec.criteria
        try:
            self._require(inputs)
            result = self.spec.compute(self._step(context, store, inputs, manifest, attempt))
        except Skipped as skip:
            why = {"reason": skip.reason.value, "detail": skip.detail, "origin": skip.origin}
            manifest = _with(manifest, outcome=Outcome.SKIPPED, skip=why, **_measured(began))
            yield _output(manifest, Production(manifest, attempt, None, None), {})
            yield from skipped_results(criteria, skip.reason.value, skip.detail, skip.origin)
            return
        judged = judge(criteria, result.metrics)
        manifest = _with(
            manifest,
            outcome=Outcome.COMPLETE,
            metrics=result.metrics,
            applied=[asdict(step) for step in result.applied],
            criteria=criteria_version(criteria),
            checks=[row.row() for row in judged],
            **_measured(began),
        )
        yield _output(manifest, Production(manifest, attempt, result, None), _shown(result))
        yield from complete_results(criteria, judged)

    def _step(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        inputs: Mapping[str, Input],
        manifest: Manifest,
        attempt: Attempt,
    ) -> Step:
        return Step(
            key=manifest.key,
            version=manifest.version,
            parameters=self.spec.parameters,
            inputs=inputs,
            folder=attempt.folder,
            scratch=attempt.scratch,
            n_jobs=self._n_jobs,
            progress=_progress(context),
            store=store,
        )

    @property
    def _n_jobs(self) -> int:
        """All cores for a heavy step, because its pool lets one run at a time; else a share."""
        compute = self.config.compute
        return compute.n_cores if self.spec.pool else compute.n_jobs

    def _reuse(self, store: Store, done: Stored) -> Iterator[Any]:
        manifest, criteria = done.manifest, self.spec.criteria
        yield _output(manifest, Production(manifest, None, None, done), _numbers(manifest.metrics))
        if manifest.skip is not None:
            skip = manifest.skip
            yield from skipped_results(criteria, skip["reason"], skip["detail"], skip["origin"])
            return
        judged = judge(criteria, manifest.metrics, stored=True)
        keep_judgement(store, done, criteria_version(criteria), [row.row() for row in judged])
        yield from complete_results(criteria, judged)

    def _fail(self, store: Store, manifest: Manifest, error: Exception) -> Iterator[Any]:
        words = {"type": type(error).__name__, "message": str(error)}
        try:
            store.fail(_with(manifest, outcome=Outcome.FAILED, error=words))
        except Exception as second:
            # The store itself may be what failed: the first error is the one to report.
            error.add_note(f"The failure could not be recorded in the store: {second}")
        yield failed_result(error)
        if isinstance(error, TRANSIENT):
            raise error
        raise dg.Failure(description=str(error) or words["type"], allow_retries=False) from error

    def _require(self, inputs: Mapping[str, Input]) -> None:
        for need in self.spec.needs:
            if not need.optional:
                _require(need.asset, inputs[need.asset])

    def _manifest(self, key: str, inputs: Mapping[str, Input], run_id: str) -> Manifest:
        refs = [input_ref(asset, found) for asset, found in sorted(inputs.items())]
        values = self.spec.values(key)
        code = self.spec.parameters.code_version
        return Manifest(
            asset=self.spec.name,
            key=key,
            version=version_of(self.spec.name, code, values, refs, key=key),
            outcome=Outcome.FAILED,
            code_version=code,
            parameters=values,
            inputs=refs,
            inputs_missing=sorted(a for a, found in inputs.items() if _is_without(found)),
            packages=installed_packages(),
            clock=self.spec.clock,
            started=datetime.now(UTC),
            run_id=run_id,
        )


TRANSIENT = (TransientFailure, MemoryError, ConnectionError, TimeoutError)
"""Errors after which the step is tried again, as `RETRIES` says."""


def _with(manifest: Manifest, **changes: Any) -> Manifest:
    return Manifest.model_validate({**dict(manifest), **changes})


def _output(
    manifest: Manifest, production: Production, shown: dict[str, Any]
) -> dg.Output[Production]:
    return output(production, manifest.version, {"outcome": manifest.outcome.value, **shown})


def output(
    production: Production, version: str, metadata: Mapping[str, Any]
) -> dg.Output[Production]:
    """Make Dagster's output with our version as its data version."""
    with warnings.catch_warnings():
        # `data_version` is in beta; tests/test_dagster_contract.py holds what we need of it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(production, data_version=dg.DataVersion(version), metadata=dict(metadata))


def input_ref(asset: str, found: Input) -> InputRef:
    """How a manifest names an input; a missing one has the version `missing`."""
    if isinstance(found, Stored):
        return found.ref
    version = "missing" if isinstance(found, Missing) else found.version
    return InputRef(asset=asset, version=version, attempt="")


def _is_without(found: Input) -> bool:
    if isinstance(found, Stored):
        return found.outcome is not Outcome.COMPLETE
    return isinstance(found, Missing)


def _require(asset: str, found: Input) -> None:
    """Raise where a needed input is not there or was itself skipped."""
    if isinstance(found, Missing):
        raise PermanentFailure(f"{asset} of {found.key} is not in the store: {found.reason}")
    if not isinstance(found, Stored) or found.outcome is Outcome.COMPLETE:
        return
    skip = found.manifest.skip or {}
    if skip.get("origin"):
        raise Skipped(SkipReason.SKIPPED_UPSTREAM, skip["detail"], skip["origin"])
    words = f"{asset}: {skip.get('reason')}: {skip.get('detail')}"
    raise Skipped(SkipReason.SKIPPED_UPSTREAM, words, asset)


def _measured(began: float) -> dict[str, Any]:
    # Kilobytes on Linux, bytes on macOS; children count, since sorters run in one.
    unit = 1 if sys.platform == "darwin" else 1024
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return {
        "duration_s": round(time.monotonic() - began, 3),
        "peak_memory_bytes": max(resource.getrusage(who).ru_maxrss for who in usage) * unit,
    }


def _progress(context: dg.AssetExecutionContext) -> Progress:
    """Log progress, but not more often than every ten seconds: each line is a row somewhere."""
    last = [time.monotonic()]

    def report(fraction: float, words: str) -> None:
        now = time.monotonic()
        if now - last[0] >= 10:
            last[0] = now
            context.log.info(f"{fraction:.0%} {words}")

    return report


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics that the user interface can show: finite numbers, and words."""
    return {
        name: _rounded(value)
        for name, value in metrics.items()
        if isinstance(value, (str, bool)) or (value is not None and isfinite(value))
    }


def _rounded(value: Any) -> Any:
    """Six digits are more than any of these figures has, and all that fits a column."""
    plain = value.item() if hasattr(value, "item") else value
    return float(f"{plain:.6g}") if isinstance(plain, float) else plain


def _shown(result: StepResult) -> dict[str, Any]:
    shown = _numbers(result.metrics)
    if result.picture is not None:
        shown[result.picture.title] = picture_markdown(result.picture.title, result.picture.png)
    return shown


def picture_markdown(title: str, png: bytes) -> dg.MetadataValue:
    """Inline a small PNG; the page's content policy lets no linked picture load."""
    import base64

    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")


@cache
def installed_packages() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = package_metadata.version(name)
        except package_metadata.PackageNotFoundError:
            continue
    return versions
