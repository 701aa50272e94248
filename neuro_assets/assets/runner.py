"""The life of every step: reuse, compute, commit, checks, retries; one wrapper for all.

What a step is, and what its function gets, is in `neuro_assets.assets.step`. No science, no
formats and no store paths.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from neuro_assets import names
from neuro_assets.assets.checks import (
    check_specs,
    complete_results,
    failed_results,
    skipped_results,
)
from neuro_assets.assets.dagster_metadata import output, picture_markdown, plotted, stored_metadata
from neuro_assets.assets.failure_reasons import log_reason
from neuro_assets.assets.step import Input, Step, StepSpec
from neuro_assets.assets.step_inputs import gone_raw_data, input_ref, is_without, require
from neuro_assets.checks.criteria import Verdict, criteria_version, judge
from neuro_assets.config import LabConfig
from neuro_assets.executors.retries import run_first_tried
from neuro_assets.outcomes import (
    Outcome,
    PermanentFailure,
    Skipped,
    TransientFailure,
)
from neuro_assets.parent_watchdog import end_with_parent
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.registry import late_results
from neuro_assets.registry.registry import Registry
from neuro_assets.registry.turns import take_turn
from neuro_assets.resources.io_managers import REQUIRED
from neuro_assets.resources.store import StoreResource
from neuro_assets.science.result import Progress, StepResult
from neuro_assets.sources.raw_input import RawInput
from neuro_assets.store import Attempt, Manifest, Store, Stored
from neuro_assets.store.judgement import keep_judgement
from neuro_assets.store.output_files import commit_result
from neuro_assets.store.packages import installed_packages

FORCE_TAG = "neuro/force"
"""Run tag: `true` computes again although the version is in the store."""

SILENCE_S = 60.0
"""After this, another run of the session takes over from one that was killed."""

RETRIES = dg.RetryPolicy(
    # A busy server is mostly free after a minute or two; permanent failures never come here.
    max_retries=2,
    delay=20,
    backoff=dg.Backoff.EXPONENTIAL,
    jitter=dg.Jitter.PLUS_MINUS,
)

UNRESOLVED = "unresolved"
"""Version of a failure that came before its inputs could be read."""


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
        code_version=spec.code_version,
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
        manifest = self._blank(context)
        try:
            # First: a turn that is taken before a renaming goes before those of the new key.
            turn = take_turn(store, key, run_first_tried(context.instance, context.run))
            manifest = _with(manifest, turn=turn)
            home = self._home(store, key)
            manifest = self._identified(_with(manifest, key=home), inputs)
            counts_for = key if home != key else ""
            with self._alone(store, home):
                place = manifest.asset, home, manifest.version
                done = self._kept(store, key, inputs)
                if done is None and not _is_forced(context):
                    done = store.committed(*place)
                if done is not None:
                    context.log.info(f"{done.path} is stored; reused")
                    store.adopt(done, context.run_id, turn, counts_for)
                    yield from self._emit(context, store, done, turn, {}, reused=True)
                    return
                with store.attempt(*place, counts_for) as attempt:
                    made, picture = self._produce(context, store, inputs, manifest, attempt)
                    reused = made.attempt != attempt.id
                    yield from self._emit(context, store, made, turn, picture, reused=reused)
        except dg.Failure:
            raise
        except Exception as error:  # all are recorded and shown, bugs of ours too
            yield from self._fail(context, store, _with(manifest, key=key), error)

    def _home(self, store: Store, key: str) -> str:
        """Key under which the output stands: the session's, or the recording's first one."""
        record = Registry(store).get(key)
        if record is None and self.spec.scope == "recording":
            return key
        if record is None:
            raise PermanentFailure(f"{key} is not in the registry")
        if other := record.alias_of or record.renaming_to:
            # No failure is recorded under a key that is only a name.
            raise dg.Failure(f"{key} is renamed to {other}: run that", allow_retries=False)
        return self.spec.home(record)

    def _alone(self, store: Store, home: str) -> AbstractContextManager[object]:
        """Let the runs of one session's recordings wait for the first of them."""
        if self.spec.scope == "recording":
            return nullcontext()
        return store.lease(f"{self.spec.name}-{home}", SILENCE_S, timeout_s=math.inf)

    def _kept(self, store: Store, key: str, inputs: Mapping[str, Input]) -> Stored | None:
        """Find what was made of raw data that are gone: no skip or failure takes its place."""
        gone = gone_raw_data(inputs)
        current = store.current(self.spec.name, key) if gone else None
        if current is None or current.outcome is not Outcome.COMPLETE:
            return None
        versions = {ref.version for ref in current.manifest.inputs} | {"missing"}
        return current if all(ref.version in versions for ref in gone) else None

    def _produce(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        inputs: Mapping[str, Input],
        manifest: Manifest,
        attempt: Attempt,
    ) -> tuple[Stored, dict[str, Any]]:
        began = time.monotonic()
        required = REQUIRED[self.spec.io_manager_key]
        try:
            self._require(inputs)
            result = self.spec.compute(self._step(context, store, inputs, manifest, attempt))
        except Skipped as skip:
            why = {"reason": skip.reason.value, "detail": skip.detail, "origin": skip.origin}
            manifest = _with(manifest, outcome=Outcome.SKIPPED, skip=why, **_measured(began))
            return commit_result(attempt, manifest, required), {}
        manifest = _with(
            manifest,
            outcome=Outcome.COMPLETE,
            metrics=result.metrics,
            applied=[asdict(step) for step in result.applied],
            criteria=criteria_version(self.spec.criteria),
            checks=[row.row() for row in judge(self.spec.criteria, result.metrics)],
            repeatable=result.repeatable,
            **_measured(began),
        )
        stored = commit_result(attempt, manifest, required, result.tables, result.digests)
        return stored, _picture(result)

    def _step(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        inputs: Mapping[str, Input],
        manifest: Manifest,
        attempt: Attempt,
    ) -> Step:
        of_session = self.spec.scope == "session"
        return Step(
            key=manifest.key if of_session else context.partition_key,
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

    def _emit(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        stored: Stored,
        turn: int,
        picture: Mapping[str, Any],
        *,
        reused: bool,
    ) -> Iterator[Any]:
        """Give Dagster the output and all its checks."""
        key = context.partition_key
        present = late_results.follow_output(store, stored, key, context.run_id, turn)
        if present != key:
            context.log.warning(f"{key} is renamed to {present}: {stored.asset} counts for that")
        manifest, criteria = stored.manifest, self.spec.criteria
        metadata = stored_metadata(stored, reused=reused, partition=True)
        yield output(stored, {**plotted(manifest.metrics), **picture, **metadata})
        if manifest.skip is not None:
            skip = manifest.skip
            yield from skipped_results(criteria, skip["reason"], skip["detail"], skip["origin"])
            return
        judged = judge(criteria, manifest.metrics, stored=reused)
        if reused:
            rows = [row.row() for row in judged]
            keep_judgement(store, stored, criteria_version(criteria), rows)
        critical = [row.criterion.metric for row in judged if row.verdict is Verdict.CRITICAL]
        if critical:  # the check `usable` stops what is below
            reason = f"CRITICAL, not usable: {', '.join(critical)}"
            log_reason(context, self.spec.name, reason, outcome="not usable")
        yield from complete_results(criteria, judged)

    def _fail(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        manifest: Manifest,
        error: Exception,
    ) -> Iterator[Any]:
        record_failure(store, manifest, error)
        description = str(error) or type(error).__name__
        is_transient = isinstance(error, TRANSIENT)
        if not is_transient or context.retry_number >= RETRIES.max_retries:
            log_reason(context, self.spec.name, description)
        # Afterwards: Dagster writes what was logged at the next yield, not when a step raises.
        yield from failed_results(self.spec.criteria, error)
        if is_transient:
            raise error
        raise dg.Failure(description=description, allow_retries=False) from error

    def _require(self, inputs: Mapping[str, Input]) -> None:
        for need in self.spec.needs:
            if not need.optional:
                require(need.asset, inputs[need.asset])

    def _blank(self, context: dg.AssetExecutionContext) -> Manifest:
        """Describe the step before anything is read: enough to record a failure."""
        return Manifest(
            asset=self.spec.name,
            key=context.partition_key,
            version=UNRESOLVED,
            outcome=Outcome.FAILED,
            code_version=self.spec.code_version,
            parameters=self.spec.values(context.partition_key),
            packages=installed_packages(),
            clock=self.spec.clock,
            started=datetime.now(UTC),
            run_id=context.run_id,
        )

    def _identified(self, manifest: Manifest, inputs: Mapping[str, Input]) -> Manifest:
        refs = [input_ref(asset, found) for asset, found in sorted(inputs.items())]
        raw = inputs.get(names.RAW_RECORDING)
        record = raw.record if isinstance(raw, RawInput) else None
        return _with(
            manifest,
            version=self.spec.version(refs, manifest.key, record),
            parameters=self.spec.values(manifest.key, record),
            inputs=refs,
            inputs_missing=sorted(a for a, found in inputs.items() if is_without(found)),
        )


TRANSIENT = (TransientFailure, MemoryError, ConnectionError, TimeoutError)
"""Errors after which the step is tried again, as `RETRIES` says."""


def record_failure(store: Store, manifest: Manifest, error: Exception) -> None:
    """Record in the store that something failed; whatever comes of it, the error is reported.

    Parameters
    ----------
    store : Store
        The lab's store.
    manifest : Manifest
        What was being made.
    error : Exception
        Gets a note where the store could not be written: it may be what failed.
    """
    described = {"type": type(error).__name__, "message": str(error)}
    try:
        late_results.fail(store, _with(manifest, outcome=Outcome.FAILED, error=described))
    except Exception as second:
        error.add_note(f"The failure could not be recorded in the store: {second}")


def _with(manifest: Manifest, **changes: Any) -> Manifest:
    return Manifest.model_validate({**dict(manifest), **changes})


def _is_forced(context: dg.AssetExecutionContext) -> bool:
    return bool(context.run.tags.get(FORCE_TAG) == "true")


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


def _picture(result: StepResult) -> dict[str, Any]:
    if result.picture is None:
        return {}
    return {result.picture.title: picture_markdown(result.picture.title, result.picture.png)}
