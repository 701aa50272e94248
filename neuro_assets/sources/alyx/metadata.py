"""What Alyx has of a session, its animal and its insertions, as metadata of recordings.

Two requests a session at most. A part that cannot be had is left out and reported, since results
do not depend on it; only a server that does not answer fails.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from neuro_assets.alyx.responses import AlyxRefused, NotAlyx, TokenRefused, is_uuid
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
from neuro_assets.sources.alyx.expected_probes import ExpectedProbe
from neuro_assets.sources.alyx.experiment import Experiment
from neuro_assets.sources.alyx.metadata_insertion import (
    TrajectoryRow,
    insertion_metadata,
    known_qc,
)
from neuro_assets.sources.alyx.metadata_subject import SubjectRow, subject_metadata

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx

_MAX_TRAJECTORIES = 1000
_NOT_FOUND = 404

T = TypeVar("T")


@dataclass(frozen=True)
class SessionFacts:
    """What Alyx has of a session; makes the metadata of each of its recordings.

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
            The recording's own serial number, where it has one.

        Returns
        -------
        RecordingMetadata
            Without an insertion where the probe has none.
        """
        problems = list(self.problems)
        insertion = None
        if probe is not None and probe.insertion is not None:
            row = probe.insertion
            trajectories = self.trajectories.get(row.id, ())
            insertion = insertion_metadata(row, probe.probe, trajectories, problems)
            if problem := probe.serial_problem(serial, probe.label):
                problems.append(problem)
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
) -> SessionFacts:
    """Get from Alyx what it has of a session beyond its own page.

    Parameters
    ----------
    client : Alyx
        The server.
    session : SessionDetail
        The session's page.
    tasks : sequence of TaskCollection
        Its tasks.
    experiment : Experiment or None
        Its description: procedures where the page has none.
    subjects : mutable mapping, optional
        Rows of subjects, for the sessions of one scan; filled here.

    Returns
    -------
    SessionFacts
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
    facts = _session(client.url, session, tasks, experiment)
    return SessionFacts(facts, subject, trajectories, tuple(problems))


def _session(
    url: str, row: SessionDetail, tasks: Sequence[TaskCollection], experiment: Experiment | None
) -> SessionMetadata:
    same = ("lab", "subject", "number", "start_time", "end_time", "projects", "users")
    return SessionMetadata(
        **{name: getattr(row, name) for name in (*same, "task_protocol", "narrative")},
        eid=row.id,
        row_token=row.token,
        link=f"{url}/admin/actions/session/{row.id}/change",
        procedures=row.procedures or (experiment.procedures if experiment else ()),
        qc=known_qc(row.qc),
        tasks=tuple(tasks),
    )


def _optional(
    read: Callable[[], T], kind: str, path: str, consequence: str, problems: list[Problem]
) -> T | None:
    """Read a part; a refusal that concerns only this part becomes a problem."""
    try:
        return read()
    except TokenRefused:
        raise
    except PermanentFailure as refused:
        # An older Alyx without the endpoint answers with a page; every other page is a stranger's.
        if isinstance(refused, NotAlyx) and refused.status != _NOT_FOUND:
            raise
        status = f" ({refused.status})" if isinstance(refused, AlyxRefused) else ""
        detail = f"{consequence}{status}: {refused}"
        problems.append(Problem(kind=kind, path=path, detail=detail[:500]))
        return None


def _subject(
    client: Alyx, session: SessionDetail, known: MutableMapping[str, Any], problems: list[Problem]
) -> SubjectMetadata | None:
    name, kind = session.subject, "subject_missing"
    if not name.strip("."):
        return None
    if name not in known:
        consequence = "Alyx does not give the subject; results lack species, sex and age"
        found = _optional(
            lambda: client.read("subjects", name) or {}, kind, name, consequence, problems
        )
        if found is None:
            return None
        known[name] = found
    if not known[name]:
        detail = (
            f"Alyx has no subject {name!a} (any more); results lack species, sex and age: restore "
            "it, or correct the session's subject"
        )
        problems.append(Problem(kind=kind, path=name, detail=detail))
        return None
    row = _optional(
        lambda: SubjectRow.of(known[name]), "subject_odd", name, "the subject is left out", problems
    )
    return subject_metadata(row, name, session.date) if row is not None else None


def _trajectories(
    client: Alyx, session: SessionDetail, problems: list[Problem]
) -> dict[str, tuple[Trajectory, ...]]:
    ours = {row.id for row in session.probe_insertion}
    if not ours or not is_uuid(session.id):
        return {}

    def read() -> list[TrajectoryRow]:
        query = f"probe_insertion__session,{session.id}"
        return parse(
            TrajectoryRow, client.rows("trajectories", most=_MAX_TRAJECTORIES, django=query)
        )

    consequence = "Alyx does not give the trajectories of its probes"
    rows = _optional(read, "trajectories_missing", session.id, consequence, problems) or []
    # The best provenance first, then the newest.
    rows.sort(key=lambda row: (row.place, row.when or datetime.min), reverse=True)
    return {
        pid: tuple(row.trajectory() for row in rows if row.probe_insertion == pid) for pid in ours
    }
