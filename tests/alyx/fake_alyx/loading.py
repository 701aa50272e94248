"""Thousands of rows at once, for tests of scale; their JSON is made only when it is asked for."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from fake_alyx.editing import Editing
from fake_alyx.missing import USER
from fake_alyx.models import Dataset, Insertion, Session

AP = "_spikeglx_ephysData_g0_t0.imec0"
PROBE_FILES = (
    f"{AP}.ap.cbin",
    f"{AP}.ap.ch",
    f"{AP}.ap.meta",
    f"{AP}.lf.cbin",
    f"{AP}.lf.ch",
    f"{AP}.lf.meta",
    f"{AP}.sync.npy",
    f"{AP}.timestamps.npy",
    f"{AP}.wiring.json",
    "_spikeglx_sync.channels.npy",
)
"""Files of a probe: 10."""
SESSION_FILES = (
    "raw_video_data/_iblrig_leftCamera.times.npy",
    "raw_ephys_data/_spikeglx_sync.times.npy",
    "raw_ephys_data/_spikeglx_sync.polarities.npy",
    "alf/licks.times.npy",
    "alf/probes.description.json",
)
"""Files of no probe: 5; with two probes, 25 datasets a session."""


class Loading(Editing):
    """Bulk loading."""

    def load(
        self,
        n_sessions: int,
        *,
        n_probes: int = 2,
        probe_files: Iterable[str] = PROBE_FILES,
        session_files: Iterable[str] = SESSION_FILES,
        project: str = "load",
        lab: str = "lab",
        n_subjects: int = 400,
        days: float = 1500.0,
        repositories: Iterable[str] = ("lab_server", "central"),
        exists: Iterable[str] = ("lab_server", "central"),
        hours_to_register: float = 20.0,
    ) -> list[str]:
        """Add sessions with insertions and datasets.

        Sessions spread evenly over the `days` before the server's clock less two days; a session
        and all that hangs on it were last modified `hours_to_register` after its start. So a
        cursor of the last hours finds none of them.

        Parameters
        ----------
        repositories, exists : iterable of str
            Where each dataset has a file record (`lab_server` is made personal), and where it is.

        Returns
        -------
        list of str
            Ids of the sessions, oldest first.
        """
        with self.lock, _no_collection():
            places = self._load_places(lab, tuple(repositories), set(exists))
            probes = [f"probe{number:02d}" for number in range(n_probes)]
            paths = [f"raw_ephys_data/{probe}/{name}" for probe in probes for name in probe_files]
            kinds = [self._load_kind(path) for path in (*paths, *session_files)]
            last = self.local_now() - timedelta(days=2)
            step = timedelta(days=days) / max(n_sessions, 1)
            out = []
            for number in range(n_sessions):
                start = (last - step * (n_sessions - 1 - number)).replace(microsecond=0)
                subject = f"L{number % n_subjects:04d}"
                modified = start + timedelta(hours=hours_to_register)
                session = self._load_session(subject, lab, project, start, modified)
                self._load_probes(session, probes, modified)
                self._load_datasets(session, kinds, places, modified)
                out.append(session.id)
            loaded = [self.tables.sessions.rows[eid] for eid in out]
            self._index(loaded)
            return out

    def _load_places(self, lab: str, names: tuple[str, ...], exists: set[str]) -> Any:
        row = self._lab(lab)
        self._give_repositories(row, names)
        for name in names:
            self._repository(name).globus_is_personal = name == "lab_server"
        return tuple((self._repository(name), name in exists) for name in sorted(names))

    def _load_kind(self, path: str) -> tuple[str, str, Any, Any]:
        collection, _, name = path.rpartition("/")
        return collection, name, self._dataset_type(name, None), self._data_format(name)

    def _load_session(
        self, nickname: str, lab: str, project: str, start: datetime, modified: datetime
    ) -> Session:
        subject = self._subject(nickname, lab, ())
        row = Session(self.tables.new_id(), subject, subject.lab, 1, start, modified)
        row.seq = next(self.tables.sequence)
        row.projects, row.users = [self._project(project)], [self._user(USER)]
        row.type, row.end_time = "Experiment", start + timedelta(hours=1)
        row.task_protocol = "_iblrig_tasks_ephysChoiceWorld8.2.1"
        subject.sessions[row.id] = row
        self.tables.sessions.rows[row.id] = row
        return row

    def _load_probes(self, session: Session, names: list[str], modified: datetime) -> None:
        model = self._named(self.tables.models, "3B2")
        for name in names:
            row = Insertion(self.tables.new_id(), session, name, modified)
            row.seq, row.model = next(self.tables.sequence), model
            session.insertions[row.id] = row
            self.tables.insertions.rows[row.id] = row

    def _load_datasets(
        self, session: Session, kinds: list[Any], places: Any, modified: datetime
    ) -> None:
        tables, user = self.tables, session.users[0]
        rows, held, bits = tables.datasets.rows, session.datasets, tables.random.getrandbits
        probes = {row.name: row.datasets for row in session.insertions.values()}
        for collection, name, kind, form in kinds:
            row = Dataset(
                tables.new_id(), name, session, collection, kind, form, modified, modified
            )
            row.seq, row.created_by = next(tables.sequence), user
            row.hash, row.file_size = f"{bits(128):032x}", bits(30)
            row.version, row.records = "3.4.0", places
            held[row.id] = rows[row.id] = row
            probe = probes.get(collection.rpartition("/")[2])
            if probe is not None:
                probe.append(row)

    def _index(self, sessions: list[Session]) -> None:
        tables = self.tables
        tables.sessions.load(sessions)
        tables.insertions.load(row for found in sessions for row in found.insertions.values())
        tables.datasets.load(row for found in sessions for row in found.datasets.values())
        tables.version += 1


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage while a million objects are made, none of which is any."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
