"""The step that registers in Alyx what `process` made of a recording; only where Alyx is named.

What is compared and how it is sent lives in `neuro_assets.alyx.registration.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_assets import names
from neuro_assets.alyx.registration.outputs import Output, outputs_of
from neuro_assets.alyx.registration.target_state import target_state
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.config import LabConfig
from neuro_assets.executors.launcher import processing_run
from neuro_assets.outcomes import PermanentFailure, Skipped, SkipReason
from neuro_assets.parameters.alyx_registration import AlyxRegistrationParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult
from neuro_assets.sources.raw_input import externals

if TYPE_CHECKING:
    import pandas as pd

    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.apply import Applied
    from neuro_assets.alyx.registration.changes import Change
    from neuro_assets.alyx.registration.model import TargetState
    from neuro_assets.alyx.registration.repository import WriteRepository
    from neuro_assets.registry.registry import RecordingRecord
    from neuro_assets.store import Store

DIFFERENCES = "differences"
LEASE_S = 120.0
"""A registration takes a few seconds; one that was killed is waited for no longer than this."""

COLUMNS = ("action", "target", "detail", "before", "after")


def process_assets(steps: Sequence[StepSpec]) -> list[str]:
    """Name the assets whose outcomes and criteria are registered in Alyx.

    Not those of `publish`: they are made meanwhile, so that two comparisons would differ,
    and one that fails must not keep the others from being registered.
    """
    return [step.name for step in steps if step.job == names.PROCESS_JOB]


def registration_parameters(config: LabConfig) -> AlyxRegistrationParameters:
    """Resolve the parameters: what says where and whether it is sent comes from `alyx`."""
    chosen = config.step(AlyxRegistrationParameters)
    alyx = config.alyx
    return chosen.model_copy(
        update={
            "url": alyx.url or "",
            "repository": alyx.write_repository or "",
            "write": alyx.write,
            "place": alyx.repositories.get(alyx.write_repository or "", ""),
            "dagster_url": alyx.dagster_url or "",
        }
    )


def target_of(
    config: LabConfig,
    store: Store,
    record: RecordingRecord,
    assets: Sequence[str],
    folder: Path,
    processing: Callable[[str], str | None],
    inputs: Any = None,
) -> TargetState:
    """Make what Alyx should hold of a recording, for the step and the command alike.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.
    store : Store
        Its store.
    record : RecordingRecord
        The recording.
    assets : sequence of str
        See `process_assets`.
    folder : Path
        Empty folder for files that are made for Alyx.
    processing : callable
        Gives the id of a live run that makes results of a recording.
    inputs : mapping, optional
        Outputs that a step was given; else those that count now.

    Returns
    -------
    TargetState
        See `neuro_assets.alyx.registration.target_state.target_state`.

    Raises
    ------
    PermanentFailure
        Results are being made; what there is now belongs to different moments.
    """
    outputs = outputs_of(store, record.key, sorted(assets), inputs)
    run = processing(record.key)
    # What is the same before and after was there together in between, when no run lived.
    if run or any(_was_replaced(store, record.key, each) for each in outputs):
        raise PermanentFailure(
            f"results of {record.key} are being made{f' by run {run}' if run else ''}, so that "
            "nothing is registered; the run of `publish` that follows it does"
        )
    return target_state(record, config.alyx, registration_parameters(config), outputs, folder)


def _was_replaced(store: Store, key: str, output: Output) -> bool:
    if output.stored is None:
        return False
    now, then = store.current(output.asset, key), output.stored
    return now is None or (now.version, now.attempt) != (then.version, then.attempt)


def send(
    store: Store, client: Alyx, target: TargetState, repository: WriteRepository | None
) -> Applied:
    """Register, one recording of a session after the other.

    The probes of a session are published at the same time and write the same fields. What one
    overwrites of the other's is seen and sent again, as with any other writer; this makes it rare.

    Parameters
    ----------
    store : Store
        The lab's store, for the lease.
    client, target, repository
        See `neuro_assets.alyx.registration.register.register`.

    Returns
    -------
    Applied
        What was sent.

    Raises
    ------
    TransientFailure
        Another process registers for this session all the time.
    """
    from neuro_assets.alyx.registration.register import register

    with store.lease(f"alyx-{target.eid}", LEASE_S):
        return register(client, target, repository)


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step that registers in Alyx; none where `alyx.url` is not set."""
    return [_registration(config)] if config.alyx.url else []


def _registration(config: LabConfig) -> StepSpec:
    @step(
        registration_parameters(config),
        group=names.EXPORT,
        kinds={"alyx", "parquet"},
        needs=[
            Need(names.RAW_RECORDING),
            # With it a recording that is found in Alyx later has another version than the skip.
            Need(names.RECORDING_METADATA, optional=True),
            Need(names.EVERY_RESULT),
        ],
        io_manager_key=PARQUET,
        job=names.PUBLISH_JOB,
    )
    def alyx_registration(step: Step) -> StepResult:
        """Register results in the lab's Alyx: files, quality, outcomes, task.

        The table `differences` has one row for each thing that Alyx did not hold yet, and whether
        it was sent. With `alyx.write: false` nothing is sent, and each line is in the log.

        What Alyx holds is no input of the version: what somebody changes or deletes there later is
        not seen by a run that finds this output stored. `neuro-assets alyx diff` compares again,
        and `neuro-assets alyx register` sends again.
        """
        from dagster import AssetExecutionContext

        from neuro_assets.alyx.client import connect
        from neuro_assets.alyx.registration.register import compare
        from neuro_assets.alyx.registration.remote_state import SessionGone
        from neuro_assets.alyx.registration.repository import write_repository

        record = step.raw.record
        if record.eid is None:
            raise Skipped(SkipReason.NOT_IN_ALYX, f"{step.key} has no session in Alyx")
        context = AssetExecutionContext.get()
        log, run_id = context.log, context.run_id
        client = connect(config.alyx)
        repository = write_repository(config)
        results = [asset for asset in step.inputs if asset not in externals()]
        processing = partial(processing_run, context.instance, besides=run_id)
        target = target_of(
            config, step.store, record, results, step.scratch, processing, step.inputs
        )
        try:
            if not config.alyx.write:
                changes = compare(client, target, repository)
                for change in changes:
                    log.info(f"would {change}")
                return _result(changes, sent=False)
            sent = send(step.store, client, target, repository).sent
        except SessionGone as gone:
            raise Skipped(SkipReason.NOT_IN_ALYX, str(gone)) from gone
        for change in sent:
            log.info(str(change))
        return _result(sent, sent=True)

    return alyx_registration


def _result(changes: Sequence[Change], *, sent: bool) -> StepResult:
    n_sent = len(changes) if sent else 0
    return StepResult(
        metrics={"n_changes": len(changes), "n_sent": n_sent, "dry_run": not sent},
        tables={DIFFERENCES: differences_table(changes, sent=sent)},
    )


def differences_table(changes: Sequence[Change], *, sent: bool) -> pd.DataFrame:
    """Put changes into a table.

    Parameters
    ----------
    changes : sequence of Change
        Any number, also none.
    sent : bool
        Whether they were carried out.

    Returns
    -------
    DataFrame
        Columns action, target, detail, before, after (text) and sent (bool).
    """
    import pandas as pd

    rows = [change.row(sent=sent) for change in changes]
    types: dict[str, Any] = {**dict.fromkeys(COLUMNS, "string"), "sent": "bool"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def require_writing(config: LabConfig) -> None:
    """Refuse to send where the lab has not said so.

    Raises
    ------
    PermanentFailure
        Says how to enable it.
    """
    if config.alyx.write:
        return
    raise PermanentFailure(
        "nothing is sent to Alyx, because alyx.write is false: look at `neuro-assets alyx diff`, "
        "then set write: true and write_repository in the alyx section of lab.yaml"
    )
