"""What Alyx says of a session, its animal and its insertions, as metadata of recordings.

Two requests a session at most. A part that cannot be had is left out and said, since results do
not depend on it; only a server that does not answer fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from neuro_assets.alyx.responses import AlyxRefused, NotAlyx, TokenRefused
from neuro_assets.alyx.rows import SessionDetail, parse
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.metadata import (
    RecordingMetadata,
    SessionMetadata,
    SubjectMetadata,
    TaskCollection,
    Trajectory,
)
from neuro_assets.sources.alyx.expected_probes import ExpectedProbe, bare_serial
from neuro_assets.sources.alyx.experiment_file import Experiment
from neuro_assets.sources.alyx.metadata_insertion import (
    TrajectoryRow,
    insertion_metadata,
    known_qc,
)
from neuro_assets.sources.alyx.metadata_subject import (
    SubjectRow,
    subject_info,
    subject_metadata,
)

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx

__all__ = ["SessionSaid", "read_metadata", "subject_info"]

_MOST_TRAJECTORIES = 1000
_NOT_FOUND = 404

T = TypeVar("T")


@dataclass(frozen=True)
class SessionSaid:
    """What Alyx says of a session; makes the metadata of each of its recordings.

    Parameters
    ----------
    session : SessionMetadata
        The session.
    subject : SubjectMetadata or None
        The animal.
    trajectories : dict of str to tuple of Trajectory
        By insertion.
    problems : tuple of Problem
        What could not be had.
    """

    session: SessionMetadata
    subject: SubjectMetadata | None
    trajectories: dict[str, tuple[Trajectory, ...]]
    problems: tuple[Problem, ...]

    def of(self, probe: ExpectedProbe | None, serial: str = "") -> RecordingMetadata:
        """Make the metadata of a recording.

        Parameters
        ----------
        probe : ExpectedProbe or None
            Its probe; None where nothing is known of it.
        serial : str
            Serial number that the recording says of itself, where it does.

        Returns
        -------
        RecordingMetadata
            Without an insertion where the probe has none.
        """
        problems = list(self.problems)
        insertion = None
        if probe is not None and probe.insertion is not None:
            row = probe.insertion
            found = self.trajectories.get(row.id, ())
            insertion = insertion_metadata(row, probe.probe, found, problems)
            known = {bare_serial(row.serial) for row in probe.insertions} - {""}
            if bare_serial(serial) and known and bare_serial(serial) not in known:
                problems.append(
                    Problem(
                        kind="probe_serial",
                        path=probe.label,
                        detail=f"the recording has serial number {serial}, its insertion in Alyx "
                        f"{', '.join(sorted(known))}: correct the insertion, or its name",
                    )
                )
        return RecordingMetadata(
            session=self.session,
            subject=self.subject,
            insertion=insertion,
            problems=tuple(problems),
        )


def read_metadata(
    client: Alyx,
    session: SessionDetail,
    tasks: Sequence[TaskCollection],
    experiment: Experiment | None = None,
    *,
    subjects: MutableMapping[str, Any] | None = None,
) -> SessionSaid:
    """Ask Alyx for what it knows of a session beyond its own page.

    Parameters
    ----------
    client : Alyx
        The server.
    session : SessionDetail
        The session's page.
    tasks : sequence of TaskCollection
        Its tasks.
    experiment : Experiment or None
        Its description: procedures and projects where the page has none.
    subjects : mutable mapping, optional
        Answers about subjects, for the sessions of one look; filled here.

    Returns
    -------
    SessionSaid
        Makes the metadata of each recording. A subject or list that Alyx does not have, or does
        not give, is left out with a problem (`subject_missing`, `trajectories_missing`).

    Raises
    ------
    TransientFailure
        The server does not answer.
    PermanentFailure
        It refuses the token, or is no Alyx.
    """
    problems: list[Problem] = []
    subject = _subject(client, session, {} if subjects is None else subjects, problems)
    trajectories = _trajectories(client, session, problems)
    return SessionSaid(
        _session(client.url, session, tasks, experiment), subject, trajectories, tuple(problems)
    )


def _session(
    url: str, row: SessionDetail, tasks: Sequence[TaskCollection], experiment: Experiment | None
) -> SessionMetadata:
    return SessionMetadata(
        eid=row.id,
        row_token=row.token,
        link=f"{url}/admin/actions/session/{row.id}/change",
        lab=row.lab,
        subject=row.subject,
        number=row.number,
        start_time=row.start_time,
        end_time=row.end_time,
        projects=row.projects,
        users=row.users,
        procedures=row.procedures or (experiment.procedures if experiment else ()),
        task_protocol=row.task_protocol,
        narrative=row.narrative,
        qc=known_qc(row.qc),
        tasks=tuple(tasks),
    )


def _if_there(
    ask: Callable[[], T], kind: str, path: str, words: str, problems: list[Problem]
) -> T | None:
    """Ask; a refusal that concerns only this part becomes a problem."""
    try:
        return ask()
    except TokenRefused:
        raise
    except PermanentFailure as refused:
        # An older Alyx without the endpoint answers with a page; every other page is a stranger's.
        if isinstance(refused, NotAlyx) and refused.status != _NOT_FOUND:
            raise
        status = f" ({refused.status})" if isinstance(refused, AlyxRefused) else ""
        said = f"{words}{status}: {refused}"
        problems.append(Problem(kind=kind, path=path, detail=said[:500]))
        return None


def _subject(
    client: Alyx, session: SessionDetail, known: MutableMapping[str, Any], problems: list[Problem]
) -> SubjectMetadata | None:
    name = session.subject
    if not name.strip("."):
        return None
    found = known.get(name)
    if found is None:
        found = _if_there(
            lambda: client.read("subjects", name) or {},
            "subject_missing",
            name,
            "Alyx does not give the subject; results lack species, sex and age",
            problems,
        )
        if found is None:
            return None
        known[name] = found
    if not found:
        problems.append(
            Problem(
                kind="subject_missing",
                path=name,
                detail=f"Alyx has no subject {name!a} (any more); results lack species, sex and "
                "age: restore it, or correct the session's subject",
            )
        )
        return None
    row = _if_there(
        lambda: SubjectRow.of(found), "subject_odd", name, "the subject is left out", problems
    )
    return subject_metadata(row, name, session.date) if row is not None else None


def _trajectories(
    client: Alyx, session: SessionDetail, problems: list[Problem]
) -> dict[str, tuple[Trajectory, ...]]:
    ours = {row.id for row in session.probe_insertion}
    if not ours or not _is_uuid(session.id):
        return {}
    rows = _if_there(
        lambda: _trajectory_rows(client, session.id),
        "trajectories_missing",
        session.id,
        "Alyx does not give the trajectories of its probes",
        problems,
    )
    # The best provenance first, then the newest.
    rows = sorted(rows or (), key=lambda r: (r.place, r.when or datetime.min), reverse=True)
    return {pid: tuple(_of_insertion(rows, pid)) for pid in ours}


def _trajectory_rows(client: Alyx, eid: str) -> list[TrajectoryRow]:
    found = client.rows(
        "trajectories", most=_MOST_TRAJECTORIES, django=f"probe_insertion__session,{eid}"
    )
    return parse(TrajectoryRow, found)


def _of_insertion(rows: Iterable[TrajectoryRow], pid: str) -> list[Trajectory]:
    return [row.trajectory() for row in rows if row.probe_insertion == pid]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
