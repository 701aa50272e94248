"""What is to be done so that Alyx says what it should: a pure comparison, empty when nothing is.

The part about files is in `writing_files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neuro_assets.alyx.registration.changes import (
    Change,
    MergeExtendedQC,
    MergeInsertion,
    MergeSummary,
    PutTask,
    RaiseSessionQC,
)
from neuro_assets.alyx.registration.file_diff import file_changes, type_changes
from neuro_assets.alyx.registration.merge import (
    JSON_KEY,
    merged_insertion,
    merged_keys,
    merged_summary,
    own_prefix,
    raised,
)
from neuro_assets.alyx.registration.model import Desired, Observed
from neuro_assets.alyx.registration.task import find_task
from neuro_assets.outcomes import PermanentFailure


def difference(desired: Desired, observed: Observed) -> list[Change]:
    """Compare.

    Parameters
    ----------
    desired : Desired
        What Alyx should say.
    observed : Observed
        What it says.

    Returns
    -------
    list of Change
        In the order in which they are carried out: types, copies, registrations, quality, words
        about it, and the task last, so that what is called complete is complete.

    Raises
    ------
    PermanentFailure
        Nothing can be written: two sessions have one path, or a session has none; a file name
        fits two dataset types; a field holds what cannot be merged.
    """
    path = session_path(observed)
    _refuse_two_ids(path, observed)
    return [
        *type_changes(desired.files, observed.types),
        *file_changes(desired, observed, path),
        *_insertion(desired, observed),
        *_session(desired, observed),
        *_task(desired, observed),
    ]


def session_path(observed: Observed) -> str:
    """Give the folder from which register-file finds the session.

    Parameters
    ----------
    observed : Observed
        With the session as it is numbered now.

    Returns
    -------
    str
        `<subject>/<yyyy-mm-dd>/<001>`.

    Raises
    ------
    PermanentFailure
        The session has no day or no number.
    """
    session = observed.session
    if session.date is None or session.number is None:
        raise PermanentFailure(
            f"session {session.id} has no start time or no number in Alyx, so that nothing can be "
            "registered for it: enter them in Alyx"
        )
    return f"{session.subject}/{session.date}/{session.number:03d}"


def _refuse_two_ids(path: str, observed: Observed) -> None:
    others = [eid for eid in observed.same_path if eid != observed.session.id]
    if others:
        raise PermanentFailure(
            f"Alyx has two sessions {path}, {observed.session.id} and {', '.join(others)}, and "
            "would register files for either of them: renumber or delete the wrong one"
        )


def _insertion(desired: Desired, observed: Observed) -> Iterator[MergeInsertion]:
    insertion, prefix = observed.insertion, own_prefix(desired.label)
    if insertion is None:
        return
    if merged_insertion(insertion.info, desired.qc, desired.extended_qc, prefix) == insertion.info:
        return
    old = insertion.info or {}
    yield MergeInsertion(
        pid=insertion.id,
        prefix=prefix,
        old_qc=old.get("qc"),
        qc=desired.qc,
        old=_ours(old.get("extended_qc"), prefix),
        keys=desired.extended_qc,
    )


def _session(desired: Desired, observed: Observed) -> Iterator[Change]:
    session, prefix = observed.session, own_prefix(desired.label)
    if merged_keys(session.extended_qc, desired.extended_qc, prefix) != session.extended_qc:
        old = _ours(session.extended_qc, prefix)
        yield MergeExtendedQC(eid=session.id, prefix=prefix, old=old, keys=desired.extended_qc)
    if desired.summary:
        summary = merged_summary(session.info, desired.label, desired.summary)
        if summary != session.info:
            section = (session.info or {}).get(JSON_KEY)
            said = section.get(desired.label) if isinstance(section, dict) else None
            yield MergeSummary(
                eid=session.id, label=desired.label, old=said, summary=desired.summary
            )
    if raised(session.qc, desired.qc) != session.qc:
        yield RaiseSessionQC(eid=session.id, old=session.qc, qc=desired.qc)


def _ours(field: Any, prefix: str) -> dict[str, Any]:
    return {key: value for key, value in (field or {}).items() if key.startswith(prefix)}


def _task(desired: Desired, observed: Observed) -> Iterator[PutTask]:
    if desired.task is None:
        return
    found = find_task(observed.tasks, desired.task.name, desired.task.arguments)
    # By the status only: version and link are those of the run that brought it about.
    if found is None or found.status != desired.task.status:
        yield PutTask(
            eid=desired.eid,
            task=desired.task,
            id=found.id if found else None,
            old=found.status if found else "",
        )
