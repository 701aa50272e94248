"""What is to be done so that Alyx holds what it should: a pure comparison, empty when nothing is.

Never an overwrite: other content goes into a new revision. Never a needless registration: it would
reset the quality of the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from string import ascii_lowercase

from neuro_assets.alyx.registration import changes
from neuro_assets.alyx.registration.changes import Change
from neuro_assets.alyx.registration.merge import raised
from neuro_assets.alyx.registration.model import (
    DatasetTypeRow,
    OutgoingFile,
    RemoteState,
    TargetState,
)
from neuro_assets.alyx.rows import DatasetRow
from neuro_assets.outcomes import PermanentFailure

_FILE_ORDER = ("copy", "register", "mark", "raise qc of")


def difference(target: TargetState, remote: RemoteState) -> list[Change]:
    """Compare.

    Parameters
    ----------
    target : TargetState
        What Alyx should hold.
    remote : RemoteState
        What it holds.

    Returns
    -------
    list of Change
        In the order in which they are carried out: types, copies, registrations, quality, texts
        about it, and the task last, so that what is called complete is complete.

    Raises
    ------
    PermanentFailure
        Nothing can be written: two sessions have one path, or a session has none; a file name
        fits two dataset types; a field holds what cannot be merged.
    """
    path = _session_path(remote)
    return [
        *_type_changes(target.files, remote.types),
        *file_changes(target, remote, path),
        *_quality_changes(target, remote),
        *_task_changes(target, remote),
    ]


def _session_path(remote: RemoteState) -> str:
    """Give the folder from which register-file finds the session, and no other one."""
    session = remote.session
    if session.date is None or session.number is None:
        raise PermanentFailure(
            f"session {session.id} has no start time or no number in Alyx, so that nothing can be "
            "registered for it: enter them in Alyx"
        )
    path = f"{session.subject}/{session.date}/{session.number:03d}"
    if remote.duplicates:
        others = ", ".join(remote.duplicates)
        raise PermanentFailure(
            f"Alyx has two sessions {path}, {session.id} and {others}, and would register files "
            "for either of them: renumber or delete the wrong one"
        )
    return path


def _quality_changes(target: TargetState, remote: RemoteState) -> Iterator[Change]:
    session = remote.session
    if remote.insertion:
        yield from changes.merge_insertion(remote.insertion, target)
    yield from changes.merge_extended_qc(session, target)
    yield from changes.merge_summary(session, target)
    named = f"session {session.id}"
    yield from changes.raise_qc("sessions", session.id, named, session.qc, target.qc)


def _task_changes(target: TargetState, remote: RemoteState) -> Iterator[Change]:
    task = target.task
    if task is None:
        return
    found = next((row for row in remote.tasks if row.is_of(task)), None)
    # By the status only: version and link are those of the run that brought it about.
    if found is None or found.status != task.status:
        yield changes.put_task(target.eid, task, found)


def file_changes(target: TargetState, remote: RemoteState, path: str) -> list[Change]:
    """Compare the files with the datasets.

    Parameters
    ----------
    target : TargetState
        With the files.
    remote : RemoteState
        With the datasets.
    path : str
        `<subject>/<date>/<number>`.

    Returns
    -------
    list of Change
        All copies first: Alyx must never name a file that is not there.
    """
    found = [
        change for file in target.files for change in _File(target, remote, path, file).changes()
    ]
    return sorted(found, key=lambda change: _FILE_ORDER.index(change.action))


@dataclass(frozen=True)
class _File:
    """One file, compared with the datasets of its collection and name."""

    target: TargetState
    remote: RemoteState
    path: str
    file: OutgoingFile

    def changes(self) -> Iterator[Change]:
        name = (self.file.collection, self.file.name)
        rows = [row for row in self.remote.datasets if (row.collection, row.name) == name]
        content = (self.file.md5, self.file.size)
        same = [row for row in rows if (row.hash, row.file_size) == content]
        default = next((row for row in rows if row.default_dataset), None)
        if default is not None and default in same:
            yield from self._registered(default)
        elif not rows:
            yield from self._register("", "new")
        elif (begun := self._begun(rows, same, default)) is not None:
            yield from self._register(begun.revision, "again, it broke off", begun.qc)
        else:
            is_protected = default is not None and default.protected
            reason = (
                "the registered one is protected" if is_protected else "the content is another one"
            )
            revision = next_revision(self.target.today, (row.revision for row in rows))
            yield from self._register(revision, f"new revision, {reason}")

    def _begun(
        self, rows: list[DatasetRow], same: list[DatasetRow], default: DatasetRow | None
    ) -> DatasetRow | None:
        """Find a dataset that a registration of ours began and did not end.

        It has our content and a later revision, but is not the default (without this, a default
        that does not move would get a new revision at every try); or it has no content yet.
        """
        begun = [row for row in same if default is None or row.revision > default.revision]
        begun += [
            row
            for row in rows
            if not (row.hash or row.file_size) and not any(r.exists for r in row.file_records)
        ]
        free = [row for row in begun if not row.protected]
        return max(free, key=lambda row: row.revision, default=None)

    def _register(self, revision: str, why: str, qc: str = "NOT_SET") -> Iterator[Change]:
        repository = self.target.repository
        if repository:
            yield self._copy(f"{self.path}/{self.file.path(revision)}")
        qc = str(raised(qc, self.file.qc))
        size, version = changes.size_text(self.file.size), self.file.version
        yield changes.RegisterFile(
            action="register",
            target=self.file.path(revision),
            detail=f"{size}, {why}, version {version}, qc {qc}",
            session_path=self.path,
            lab=self.remote.session.lab,
            repository=repository,
            file=self.file,
            qc=qc,
        )

    def _copy(self, path: str) -> Change:
        return changes.copy_file(self.target.repository, path, self.file)

    def _registered(self, row: DatasetRow) -> Iterator[Change]:
        """Compare the rest where the content is the registered one."""
        if row.version != self.file.version and not row.protected:
            why = f"again, its version was {row.version or 'unknown'}"
            yield from self._register(row.revision, why, row.qc)
            return
        yield from changes.raise_qc("datasets", row.id, row.path, row.qc, self.file.qc)
        if self.target.repository:
            yield from self._presence(row)

    def _presence(self, row: DatasetRow) -> Iterator[Change]:
        """Mend a copy that is nowhere, or that Alyx believes to be where it is not."""
        repository, place = self.target.repository, f"{self.path}/{row.path}"
        ours = [r for r in row.file_records if r.data_repository == repository]
        believed = next((record for record in ours if record.exists), None)
        if believed is not None:
            if self.remote.copies.get(believed.relative_path) != self.file.size:
                yield self._copy(believed.relative_path)
            return
        if any(record.exists for record in row.file_records):
            return  # it was moved to another repository, on purpose
        record = next((record for record in ours if record.relative_path == place), None)
        if record is not None:
            yield self._copy(place)
            yield changes.mark_present(record.id, repository, place)
        elif not row.protected:
            # The same content again adds the record that is missing, as one that exists.
            yield from self._register(row.revision, "again, no repository has it", row.qc)


def next_revision(today: date, taken: Iterable[str]) -> str:
    """Name a revision: the day, then the day with a letter.

    Parameters
    ----------
    today : date
        The day.
    taken : iterable of str
        Names that are in use.

    Returns
    -------
    str
        `2026-11-21`, then `2026-11-21a`, `2026-11-21b`, ...

    Raises
    ------
    PermanentFailure
        All are in use.
    """
    used = set(taken)
    for letter in ("", *ascii_lowercase):
        if f"{today}{letter}" not in used:
            return f"{today}{letter}"
    raise PermanentFailure(
        f"{len(ascii_lowercase) + 1} revisions of {today} are in use: something registers again "
        "and again; look at the datasets of this session in Alyx"
    )


def _type_changes(
    files: Iterable[OutgoingFile], types: Iterable[DatasetTypeRow]
) -> Iterator[Change]:
    """Find the dataset types that are missing.

    A new type is named by object and attribute, and its pattern is as narrow as the file's name
    allows: a file of somebody else that fits two types cannot be registered any more.
    """
    from one.alf.path import filename_parts

    known = list(types)
    for file in files:
        fitting = [row.name for row in known if fits(row, file.name)]
        if len(fitting) == 1:
            continue
        if fitting:
            raise PermanentFailure(
                f"{file.name} fits the dataset types {', '.join(fitting)} of this Alyx, which "
                "registers it only when it fits one: narrow their filename patterns there"
            )
        parts = filename_parts(file.name, as_dict=True)
        name = f"{parts['object']}.{parts['attribute']}"
        if name in {row.name for row in known}:
            raise PermanentFailure(
                f"the filename pattern of dataset type {name} in this Alyx does not fit "
                f"{file.name}: widen it there"
            )
        pattern = ".".join(file.name.split(".")[:2]) + "*"
        known.append(DatasetTypeRow(name=name, filename_pattern=pattern))
        yield changes.create_type(name, pattern)


def fits(row: DatasetTypeRow, name: str) -> bool:
    """Tell whether a dataset type takes a file, by the function that Alyx itself uses.

    Parameters
    ----------
    row : DatasetTypeRow
        The type.
    name : str
        Of the file.

    Returns
    -------
    bool
        Alyx registers a file that exactly one of its types takes.
    """
    from one.registration import get_dataset_type

    try:
        get_dataset_type(name, [{"name": row.name, "filename_pattern": row.filename_pattern or ""}])
    except ValueError:  # it does not
        return False
    return True
