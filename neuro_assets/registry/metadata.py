"""What a lab's database says of a recording: session, animal, insertion. Plain data.

Kept in the registry beside what the files say. Where it comes from is the source's business.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from neuro_assets.formats.model import Problem

AlignmentState = Literal["none", "traced", "aligned", "resolved"]
"""How far the position of a probe in the brain is known; IBL's ladder of histology."""


class Metadata(BaseModel):
    """Immutable; unknown fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RemoteFile(Metadata):
    """A raw file that is not on this machine and can be fetched.

    Parameters
    ----------
    path : str
        Below the session folder.
    repository : str
        Name of the data repository.
    source : str
        Its address there: `s3://...` or `https://...`, without credentials.
    size : int
        Bytes.
    md5 : str or None
        As registered; None where the database has none.
    dataset_id : str
        Id of the dataset.
    """

    path: str
    repository: str
    source: str
    size: int
    md5: str | None = None
    dataset_id: str = ""


class SubjectMetadata(Metadata):
    """The animal.

    Parameters
    ----------
    nickname : str
        Name in the database.
    species : str
        Latin binomial where it is known (`Mus musculus`), else as in the database.
    sex : str
        `M`, `F` or `U`.
    birth_date : date or None
        Day of birth.
    strain, line : str
        As in the database.
    genotype : str
        One text, `allele zygosity` joined by `; `.
    weight_g : float or None
        The last weighing up to the end of the session's day, g.
    weighed : datetime or None
        When that was, in the server's zone.
    """

    nickname: str
    species: str = ""
    sex: str = ""
    birth_date: date | None = None
    strain: str = ""
    line: str = ""
    genotype: str = ""
    description: str = ""
    weight_g: float | None = None
    weighed: datetime | None = None


class Trajectory(Metadata):
    """One estimate of where a probe went in.

    Parameters
    ----------
    provenance : str
        `Planned`, `Micro-manipulator`, `Histology track`, `Ephys aligned histology track`.
    x, y, z : float or None
        Entry point, um: right of the midline, anterior and dorsal of bregma.
    depth : float or None
        Along the probe, um.
    theta, phi, roll : float or None
        Polar angle from vertical, azimuth from right, and roll, degrees.
    """

    provenance: str
    x: float | None = None
    y: float | None = None
    z: float | None = None
    depth: float | None = None
    theta: float | None = None
    phi: float | None = None
    roll: float | None = None


class InsertionMetadata(Metadata):
    """The insertion of one probe.

    Parameters
    ----------
    pid : str
        Id in Alyx.
    name : str
        As somebody typed it.
    probe : str
        The same in our spelling, `probe00`.
    model, serial : str
        Of the probe, as registered.
    alignment : str
        How far its position is known.
    alignment_resolved_by : str
        Key of the alignment that was chosen; empty unless resolved.
    xyz_picks_um : tuple of (float, float, float)
        Points of the track in the brain, um.
    trajectories : tuple of Trajectory
        The best provenance first.
    """

    pid: str
    name: str
    probe: str
    model: str = ""
    serial: str = ""
    qc: str = "NOT_SET"
    alignment: AlignmentState = "none"
    alignment_resolved_by: str = ""
    xyz_picks_um: tuple[tuple[float, float, float], ...] = ()
    trajectories: tuple[Trajectory, ...] = ()


class TaskCollection(Metadata):
    """One task of a session.

    Parameters
    ----------
    number : int
        Order in the session, from 0.
    protocol : str
        Name of the task, as registered.
    raw_collection : str
        Where its raw data are: `raw_task_data_00`, or `raw_behavior_data` in old sessions.
    collection : str
        Where its results go: `alf/task_00`, or `alf`.
    """

    number: int
    protocol: str = ""
    raw_collection: str = ""
    collection: str = ""


class SessionMetadata(Metadata):
    """The session.

    Parameters
    ----------
    eid : str
        Id in Alyx.
    link : str
        Its page, for people.
    qc : str
        Aggregate on Alyx's scale.
    row_token : str
        Token of what the database's list of sessions showed, to find edits that leave no trace.
    """

    eid: str
    row_token: str = ""
    link: str = ""
    lab: str = ""
    subject: str = ""
    number: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    projects: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()
    task_protocol: str = ""
    narrative: str = ""
    qc: str = "NOT_SET"
    tasks: tuple[TaskCollection, ...] = ()


class RecordingMetadata(Metadata):
    """All of it for one recording.

    Parameters
    ----------
    session : SessionMetadata
        Of the recording.
    subject : SubjectMetadata or None
        None where it could not be had.
    insertion : InsertionMetadata or None
        None where the database has no insertion for the probe.
    problems : tuple of Problem
        Where database and files disagree.
    """

    session: SessionMetadata
    subject: SubjectMetadata | None = None
    insertion: InsertionMetadata | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def version(self) -> str:
        """Hash of what results are made of: quality, projects and links are not in it.

        They change with every judgement, also our own that is written back, and nothing that
        was computed depends on them.
        """
        import hashlib

        session = self.session.model_copy(
            update={"qc": "NOT_SET", "projects": (), "link": "", "row_token": ""}
        )
        insertion = self.insertion and self.insertion.model_copy(update={"qc": "NOT_SET"})
        parts = self.model_copy(update={"session": session, "insertion": insertion, "problems": ()})
        return hashlib.sha256(parts.model_dump_json().encode()).hexdigest()[:16]
