"""What people, rigs and scripts add to Alyx behind a client's back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fake_alyx.missing import USER, Missing
from fake_alyx.models import (
    PROVENANCES,
    QC,
    Dataset,
    DatasetType,
    Insertion,
    Session,
    Trajectory,
)


class Adding(Missing):
    """Adds rows; missing labs, subjects, projects and repositories are made."""

    def add_lab(
        self, name: str, *, timezone: str | None = None, repositories: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Add a lab, or add repositories to one."""
        with self.lock:
            lab = self._lab(name)
            lab.timezone = timezone or lab.timezone
            self._give_repositories(lab, repositories)
            return self.api.rows.lab(lab)

    def add_project(self, name: str) -> dict[str, Any]:
        """Add a project."""
        with self.lock:
            return self.api.rows.project(self._project(name))

    def add_repository(
        self,
        name: str,
        *,
        lab: str | None = None,
        personal: bool = False,
        folder: Path | str | None = None,
        globus_path: str = "",
        hostname: str = "",
    ) -> dict[str, Any]:
        """Add a repository, or change it.

        Parameters
        ----------
        name : str
            Its files are under `<url>/data/<name>/`.
        lab : str, optional
            Lab whose new datasets get file records on it.
        personal : bool
            A lab's own server; else a central server.
        folder : Path, optional
            Where its files are: `<folder>/<relative_path>`, with or without the dataset's id in
            the name. Without it, every file is a 404.
        """
        with self.lock:
            row = self._repository(name)
            row.globus_is_personal, row.hostname = personal, hostname
            row.globus_path = globus_path or f"/{name}/Subjects/"
            row.folder = folder if folder is not None else row.folder
            if lab is not None:
                self._give_repositories(self._lab(lab), [name])
            return self.api.rows.repository(row)

    def add_user(self, name: str) -> None:
        """Add a user."""
        with self.lock:
            self._user(name)

    def add_subject(
        self, nickname: str, *, lab: str = "lab", projects: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Add a subject."""
        with self.lock:
            return self.api.rows.subject(self._subject(nickname, lab, projects))

    def add_session(
        self,
        subject: str,
        date: str | date | None,
        number: int | None = 1,
        *,
        projects: Iterable[str] = (),
        lab: str | None = None,
        start_time: str | datetime | None = None,
        end_time: str | datetime | None = None,
        task_protocol: str = "",
        procedures: Iterable[str] = (),
        users: Iterable[str] = (USER,),
        type: str | None = "Experiment",
        qc: str = "NOT_SET",
        n_trials: int | None = None,
        n_correct_trials: int | None = None,
        extended_qc: Any = None,
        json: Any = None,
        narrative: str = "",
        id: str | None = None,
    ) -> dict[str, Any]:
        """Add a session, as POST /sessions does; two of one subject, day and number are two rows.

        Parameters
        ----------
        date : str or date or None
            Day; the session starts at 10:00 of it unless `start_time` (naive, in the server's
            zone) says otherwise. None: a session without start time.
        projects : iterable of str
            None of them for a row whose projects come late: `attach_project` then.

        Returns
        -------
        dict
            The detail.
        """
        with self.lock:
            animal = self._subject(subject, lab or "lab", ())
            row = Session(
                id or self.tables.new_id(),
                animal,
                self._lab(lab) if lab else animal.lab,
                number,
                moment(start_time) or (None if date is None else moment(f"{date}T10:00:00")),
                self.local_now(),
                end_time=moment(end_time),
                projects=[self._project(name) for name in projects],
                users=[self._user(name) for name in users],
                procedures=[self._procedure(name) for name in procedures],
                type=type,
                task_protocol=task_protocol,
                narrative=narrative,
                n_trials=n_trials,
                n_correct_trials=n_correct_trials,
                extended_qc=extended_qc,
                qc=QC[qc],
                json=json,
            )
            animal.sessions[row.id] = row
            self.tables.save_session(row)
            return self.api.rows.session(row)

    def add_insertion(
        self,
        eid: str | None,
        name: str = "probe00",
        *,
        model: str | None = "3B2",
        serial: str = "",
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a probe insertion; also one without a session, as the admin pages do."""
        with self.lock:
            session = self._session(eid) if eid else None
            others = session.insertions if session else {}
            if any(row.name == name for row in others.values()):
                raise ValueError(f"{eid} has an insertion {name} already")
            kind = None if model is None else self._named(self.tables.models, model)
            row = Insertion(self.tables.new_id(), session, name, self.local_now())
            row.model, row.serial, row.json = kind, serial, json
            others[row.id] = row
            self.tables.save_insertion(row)
            return self.api.rows.insertion_listed(row)

    def add_trajectory(
        self,
        insertion: str,
        provenance: str = "Ephys aligned histology track",
        *,
        x: float | None = 0.0,
        y: float | None = 0.0,
        z: float | None = 0.0,
        depth: float | None = 3000.0,
        theta: float | None = 15.0,
        phi: float | None = 180.0,
        roll: float | None = 0.0,
        coordinate_system: str | None = "IBL-Allen",
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a trajectory of an insertion: micrometres and degrees."""
        with self.lock:
            probe = self.tables.insertions.rows[insertion]
            systems = self.tables.systems
            system = None if coordinate_system is None else self._named(systems, coordinate_system)
            row = Trajectory(self.tables.new_id(), probe, PROVENANCES[provenance], self.local_now())
            row.x, row.y, row.z, row.depth = x, y, z, depth
            row.theta, row.phi, row.roll, row.json = theta, phi, roll, json
            row.coordinate_system = system
            probe.trajectories[row.id] = row
            self.tables.trajectories.add(row)
            return self.api.rows.trajectory(row)

    def add_dataset(
        self,
        eid: str,
        path: str,
        *,
        hash: str = "",
        size: int | None = None,
        exists: Iterable[str] = (),
        revision: str = "",
        version: str = "",
        qc: str = "NOT_SET",
        dataset_type: str | None = None,
        default: bool = True,
        tags: Iterable[str] = (),
        json: Any = None,
    ) -> dict[str, Any]:
        """Add a dataset of a session.

        Parameters
        ----------
        path : str
            Collection and file name, without revision folder:
            `raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin`.
        exists : iterable of str
            Repositories where the file is. The lab's other repositories get records with `exists`
            false; unknown ones are made, as central servers.
        revision : str
            Becomes the default when `default`.
        dataset_type : str, optional
            By default of the name, made when Alyx's stock has none.

        Raises
        ------
        ValueError
            When the session has this file and revision, or another session's file record is on its
            path: use `register` for what a second registration does.
        """
        collection, _, name = path.rpartition("/")
        with self.lock:
            session = self._session(eid)
            places = self._places(session, exists)
            row = Dataset(
                self.tables.new_id(),
                name,
                session,
                collection,
                self._dataset_type(name, dataset_type),
                self._data_format(name),
                self.local_now(),
                self.local_now(),
                created_by=self._user(USER),
                file_size=size,
                hash=hash,
                version=version,
                revision=self._revision(revision) if revision else None,
                default_dataset=default,
                qc=QC[qc],
                tags=[self._tag(tag) for tag in tags],
                json=json,
                records=tuple(places.items()),
            )
            self._check_free(session, row)
            if default:
                self._take_default(session, row)
            session.datasets[row.id] = row
            self.tables.records(row)
            self.tables.save_dataset(row)
            return self.api.rows.dataset_listed(row)

    def add_tag(self, name: str, *, protected: bool = True) -> dict[str, Any]:
        """Add a tag: a protected one forbids changes of its datasets."""
        with self.lock:
            tag = self._tag(name)
            tag.protected = protected
            return self.api.rows.tag(tag)

    def add_dataset_type(self, name: str, pattern: str = "") -> dict[str, Any]:
        """Add a dataset type."""
        with self.lock:
            row = DatasetType(self.tables.new_id(), name, pattern.lower())
            return self.api.rows.dataset_type(self.tables.types.add(row))


def moment(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
