"""One session of Alyx as the platform describes sessions: rows and files become a description.

What is expected comes from the database, what a recording is from its own files: the same scan
reads both a folder and a session that Alyx knows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.files.paths import without_uuid
from neuro_assets.alyx.files.repositories import Repositories, SessionPlace
from neuro_assets.alyx.rows import DatasetRow, SessionDetail, parse
from neuro_assets.alyx.sessions import duplicates
from neuro_assets.formats.modalities import MODALITIES, RECORDING, of_session
from neuro_assets.formats.model import Problem, RawFiles, RawRecording
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.walk import Listing
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.metadata import RecordingMetadata, RemoteFile
from neuro_assets.sources.alyx.exclusion import exclusion_reason
from neuro_assets.sources.alyx.expected_probes import (
    ExpectedProbe,
    expected_probes,
    serial_problems,
)
from neuro_assets.sources.alyx.experiment import Experiment, read_experiment, task_collections
from neuro_assets.sources.alyx.metadata import read_metadata
from neuro_assets.sources.alyx.readiness import (
    raw_rows,
    raw_version,
    settle_token,
    what_is_missing,
)

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.config import AlyxConfig, LabConfig

MAX_DATASETS = 20_000
"""Of one session; IBL's have 25 to 200, and a list of all means that the filter was ignored."""

SENSOR_TIMEOUT_S = 5.0
"""Longest silence of a data server while a tick waits; a step waits as long as `timeout_s` says."""

CRITICAL = "its quality is CRITICAL in Alyx"


@dataclass(frozen=True)
class SessionResult:
    """What became of one session.

    Parameters
    ----------
    description : SessionDescription or None
        None where the lab does not want it.
    exclusion_reason : str
        Why not.
    duplicates : tuple of str
        Other sessions with its subject, date and number.
    """

    description: SessionDescription | None
    exclusion_reason: str = ""
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionReader:
    """Reads and describes sessions of one server.

    Parameters
    ----------
    client : Alyx
        The server.
    config : AlyxConfig
        What the lab wants, and where data repositories are.
    repositories : Repositories
        Those, opened.
    readers : tuple of ReaderEntry
        Recordings that no format describes.
    subjects : dict
        Rows of animals that were read already; a reader lives for one tick.
    """

    client: Alyx
    config: AlyxConfig
    repositories: Repositories
    readers: tuple[ReaderEntry, ...] = ()
    subjects: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, client: Alyx, config: LabConfig) -> SessionReader:
        """Make it of a configuration; nothing is connected yet."""
        return cls(
            client,
            config.alyx,
            Repositories.of(config, timeout_s=SENSOR_TIMEOUT_S),
            tuple(config.readers),
        )

    def read(self, eid: str, today: datetime) -> SessionResult | None:
        """Describe a session as it is now.

        Parameters
        ----------
        eid : str
            Its id.
        today : datetime
            The server's time, in its zone.

        Returns
        -------
        SessionResult or None
            None when there is no such session. Four or five requests.

        Raises
        ------
        TransientFailure, PermanentFailure
            When server or repository could not be read.
        """
        row = self.client.read("sessions", eid)
        if row is None:
            return None
        detail = SessionDetail.of(row)
        if reason := exclusion_reason(detail, self.config, today.date()):
            return SessionResult(None, reason)
        datasets = parse(DatasetRow, self.client.rows("datasets", most=MAX_DATASETS, session=eid))
        place = self.repositories.session_folder(datasets)
        day = detail.date or _day_of(place)
        if day is None:
            return SessionResult(None, "it has no start time; set one in Alyx")
        others = duplicates(self.client, detail)
        found = _DescriptionBuilder(self, detail, datasets, place, day, others).build()
        return SessionResult(found, duplicates=others)


@dataclass
class _DescriptionBuilder:
    """The description of one session in the making."""

    reader: SessionReader
    detail: SessionDetail
    datasets: list[DatasetRow]
    place: SessionPlace | None
    day: date
    duplicates: tuple[str, ...]
    probes: tuple[ExpectedProbe, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    lacking: list[Problem] = field(default_factory=list)

    def build(self) -> SessionDescription:
        detail = self.detail
        experiment = self._experiment()
        self.probes, odd = expected_probes(detail.probe_insertion, experiment, self.datasets)
        self.problems += odd
        missing = {probe.label: self._missing(probe) for probe in self.probes}
        complete = {label for label, lines in missing.items() if not lines}
        recordings, waiting = self._recordings(complete)
        found = {self._probe_label(recording) for recording in recordings}
        metadata = self._metadata(recordings, experiment)
        modalities = self._modalities(waiting) if complete else {}
        folder = str(self.place.folder) if self.place else ""
        root, path = self.reader.config.below_root(folder)
        inserted = {p.probe: p.insertion for p in self.probes if p.insertion is not None}
        return SessionDescription(
            lab=detail.lab,
            subject=detail.subject,
            date=self.day,
            number=str(detail.number or 0),
            session_id=detail.id,
            source=self.reader.config.name,
            folder=folder,
            root=root,
            path=path,
            recordings=tuple(recordings),
            modalities=modalities,
            ready=False,
            missing=("a second look has to confirm its datasets",),
            settled=False,
            waiting=waiting,
            problems=tuple(dict.fromkeys(self.problems)),
            eid=detail.id,
            pids={name: insertion.id for name, insertion in inserted.items()},
            expected={
                probe.label: missing[probe.label] or self._not_found(probe)
                for probe in self.probes
                if probe.label not in found
            },
            serials={name: insertion.serial for name, insertion in inserted.items()},
            versions={r.label: raw_version(self._rows_at(_files_of(r))) for r in recordings}
            | {name: raw_version(self._rows_at(item.files)) for name, item in modalities.items()},
            remote_files={r.label: self._remote_files(_files_of(r)) for r in recordings}
            | {
                each.name: self._remote_files(set(each.files(modalities[each.name])))
                for each in of_session()
                if each.name in modalities
            },
            metadata=metadata,
            hold=self._hold(),
            holds=_holds(metadata),
            source_token=settle_token(self.datasets),
        )

    def _hold(self) -> str:
        if self.duplicates:
            others = ", ".join(self.duplicates)
            return (
                f"{len(self.duplicates) + 1} sessions of Alyx are {self.detail.subject} {self.day} "
                f"{self.detail.number} (also {others}): delete or renumber all but one"
            )
        return CRITICAL if self.detail.qc == "CRITICAL" else ""

    def _experiment(self) -> Experiment | None:
        """Read the description of the experiment, where the session has one that is here."""
        if self.place is None:
            return None
        if not any("_ibl_experiment.description" in each.path for each in self.place.files):
            return None
        with self.reader.repositories.hold(self.place.folder):
            self.problems += self.reader.repositories.fetch_small(self.place).problems
            names = [file.path for file in self._listing.files]
            experiment = read_experiment(self.place.folder, names)
        self.problems += experiment.problems if experiment else ()
        return experiment

    def _missing(self, probe: ExpectedProbe) -> tuple[str, ...]:
        config = self.reader.config
        return what_is_missing(self._raw(probe), config.expected, list(config.repositories))

    def _raw(self, probe: ExpectedProbe) -> list[DatasetRow]:
        return raw_rows(row for row in self.datasets if probe.owns(row))

    def _recordings(
        self, complete: set[str]
    ) -> tuple[list[RawRecording], dict[str, tuple[str, ...]]]:
        """Find what the files of complete probes are; and what each still waits for."""
        if self.place is None or not complete:
            return [], {}
        repositories = self.reader.repositories
        raw = [row for probe in self.probes if probe.label in complete for row in self._raw(probe)]
        self.lacking = repositories.check(raw)
        with repositories.hold(self.place.folder):
            self.problems += repositories.fetch_small(self.place).problems
            scan = MODALITIES[RECORDING].scan(self.place.folder, self._listing, self.reader.readers)
            recordings = [r for r in scan.items if self._probe_label(r) in complete]
            waiting = {r.label: self._waits_for(r) for r in recordings}
        self.problems += scan.problems
        self.problems += serial_problems(self.probes, recordings)
        expected = {probe.probe for probe in self.probes}
        self.problems += [
            self._unknown(name) for name in sorted({r.probe for r in scan.items} - expected)
        ]
        if self.lacking and not recordings:
            self.problems += self.lacking
        return recordings, {label: lines for label, lines in waiting.items() if lines}

    def _probe_label(self, recording: RawRecording) -> str:
        """Label of the expected probe that a recording is of."""
        labels = {probe.label for probe in self.probes}
        for part in recording.qualifier.split("-"):
            if f"{recording.probe}-{part}" in labels:
                return f"{recording.probe}-{part}"
        return recording.probe

    def _waits_for(self, recording: RawRecording) -> tuple[str, ...]:
        own = _files_of(recording)
        lines = [problem.detail for problem in self.lacking if problem.path in own]
        lines += [
            f"{path} is read with the recording and is no default dataset of the session in Alyx: "
            "register it"
            for path in sorted(own - set(self._paths.values()))
        ]
        if self.place is not None and not self.place.is_remote:
            lines += MODALITIES[RECORDING].ready(recording, self.place.folder)
        return tuple(dict.fromkeys(lines))

    def _not_found(self, probe: ExpectedProbe) -> tuple[str, ...]:
        """Find why a probe that the database calls complete is no recording."""
        own = {self._paths.get(row.id, row.path) for row in self._raw(probe)}
        problems = [*self.problems, *self.lacking]
        details = list(dict.fromkeys(p.detail for p in problems if without_uuid(p.path) in own))
        folder = self.place.folder if self.place else "its data repository"
        details = details or [f"no recording of {probe.label} was found in {folder}"]
        return (*details, "only files that are default datasets in Alyx are read: register them")

    def _unknown(self, probe: str) -> Problem:
        return Problem(
            kind="not_in_alyx",
            path=probe,
            detail=f"{probe} is in the session's folder and Alyx has no insertion of it; create it",
        )

    @property
    def _paths(self) -> dict[str, str]:
        """Paths below the session folder, without a dataset's id in the name, by dataset id."""
        return {each.dataset.id: each.path for each in self.place.files} if self.place else {}

    @cached_property
    def _listing(self) -> Listing:
        return self.reader.repositories.listing(self.place) if self.place else Listing()

    def _rows_at(self, files: Collection[str]) -> list[DatasetRow]:
        """Give the default datasets that some files are registered as."""
        wanted = {without_uuid(path) for path in files}
        registered = self.place.files if self.place else ()
        return [each.dataset for each in registered if each.path in wanted]

    def _modalities(self, waiting: dict[str, tuple[str, ...]]) -> dict[str, RawFiles]:
        """Find what the session holds of the other modalities, among its registered files."""
        place, found = self.place, {}
        if place is None or not of_session():
            return {}
        repositories = self.reader.repositories
        with repositories.hold(place.folder):
            for modality in of_session():
                scan = modality.scan(place.folder, self._listing, self.reader.readers)
                self.problems += scan.problems
                for item in scan.items:
                    found[modality.name] = item
                    missing = () if place.is_remote else modality.ready(item, place.folder)
                    waiting.update({modality.name: missing} if missing else {})
        return found

    def _remote_files(self, files: set[str]) -> tuple[RemoteFile, ...]:
        if self.place is None or not self.place.is_remote:
            return ()
        return self.reader.repositories.remote_files(self.place, files)

    def _metadata(
        self, recordings: list[RawRecording], experiment: Experiment | None
    ) -> dict[str, RecordingMetadata]:
        tasks = task_collections(self.datasets, experiment, self.detail.task_protocol)
        reader = self.reader
        facts = read_metadata(
            reader.client, self.detail, tasks, experiment, subjects=reader.subjects
        )
        serials = {r.probe: r.identity.probe_serial or "" for r in recordings}
        return {p.probe: facts.of(p, serials.get(p.probe, "")) for p in self.probes}


def _holds(metadata: dict[str, RecordingMetadata]) -> dict[str, str]:
    return {
        name: f"quality of the insertion {name} is CRITICAL in Alyx"
        for name, known in metadata.items()
        if known.insertion is not None and known.insertion.qc == "CRITICAL"
    }


def _files_of(recording: RawRecording) -> set[str]:
    """Give a recording's files as they are registered: without a dataset's id in their names."""
    return {without_uuid(path) for path in MODALITIES[RECORDING].files(recording)}


def _day_of(place: SessionPlace | None) -> date | None:
    """Read the day out of the path of a session's files."""
    parts = place.folder.parts if place else ()
    for part in reversed(parts):
        try:
            return date.fromisoformat(part)
        except ValueError:
            continue
    return None
