"""Which files are to be copied and registered: a pure comparison.

Never an overwrite: other content goes into a new revision. Never a needless registration: it would
reset the quality of the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from string import ascii_lowercase

from neuro_assets.alyx.registration.changes import (
    Change,
    CopyFile,
    CreateType,
    MarkPresent,
    RaiseDatasetQC,
    RegisterFile,
)
from neuro_assets.alyx.registration.merge import raised
from neuro_assets.alyx.registration.model import (
    DatasetTypeRow,
    Desired,
    Observed,
    OutgoingFile,
)
from neuro_assets.alyx.rows import DatasetRow
from neuro_assets.outcomes import PermanentFailure

_ORDER = (CopyFile, RegisterFile, MarkPresent, RaiseDatasetQC)


def file_changes(desired: Desired, observed: Observed, path: str) -> list[Change]:
    """Compare the files with the datasets.

    Parameters
    ----------
    desired : Desired
        With the files.
    observed : Observed
        With the datasets.
    path : str
        `<subject>/<date>/<number>`.

    Returns
    -------
    list of Change
        All copies first: Alyx must never name a file that is not there.
    """
    changes: list[Change] = []
    for file in desired.files:
        changes += _OneFile(desired, observed, path, file).changes()
    return sorted(changes, key=lambda change: _ORDER.index(type(change)))


@dataclass(frozen=True)
class _OneFile:
    desired: Desired
    observed: Observed
    path: str
    file: OutgoingFile

    def changes(self) -> Iterator[Change]:
        """Compare one file with the datasets of its collection and name."""
        file = self.file
        rows = [
            row
            for row in self.observed.datasets
            if (row.collection, row.name) == (file.collection, file.name)
        ]
        same = [row for row in rows if (row.hash, row.file_size) == (file.md5, file.size)]
        default = next((row for row in rows if row.default_dataset), None)
        if default is not None and default in same:
            yield from self._of_registered(default)
        elif not rows:
            yield from self._register("", "new")
        elif (begun := self._begun(rows, same, default)) is not None:
            yield from self._register(begun.revision, "again, it broke off", begun.qc)
        else:
            revision = next_revision(self.desired.today, (row.revision for row in rows))
            yield from self._register(revision, f"new revision, {self._reason(default)}")

    def _reason(self, default: DatasetRow | None) -> str:
        is_protected = default is not None and self._is_protected(default)
        return "the registered one is protected" if is_protected else "the content is another one"

    def _is_protected(self, row: DatasetRow) -> bool:
        return row.protected or row.path in self.observed.protected

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
        free = [row for row in begun if not self._is_protected(row)]
        return max(free, key=lambda row: row.revision, default=None)

    def _register(self, revision: str, why: str, qc: str = "NOT_SET") -> Iterator[Change]:
        file, place = self.file, self.file.path(revision)
        if self.desired.repository:
            yield self._copy(f"{self.path}/{place}")
        yield RegisterFile(
            session_path=self.path,
            lab=self.observed.session.lab,
            repository=self.desired.repository,
            path=place,
            size=file.size,
            md5=file.md5,
            version=file.version,
            qc=str(raised(qc, file.qc)),
            why=why,
        )

    def _copy(self, path: str) -> CopyFile:
        file = self.file
        return CopyFile(
            repository=self.desired.repository,
            path=path,
            source=file.source,
            size=file.size,
            md5=file.md5,
        )

    def _of_registered(self, row: DatasetRow) -> Iterator[Change]:
        """Compare the rest where the content is the registered one."""
        if row.version != self.file.version and not self._is_protected(row):
            why = f"again, its version was {row.version or 'unknown'}"
            yield from self._register(row.revision, why, row.qc)
            return
        qc = raised(row.qc, self.file.qc)
        if qc != row.qc:
            yield RaiseDatasetQC(id=row.id, path=row.path, old=row.qc, qc=qc)
        if self.desired.repository:
            yield from self._presence(row)

    def _presence(self, row: DatasetRow) -> Iterator[Change]:
        """Mend a copy that is nowhere, or that Alyx believes to be where it is not."""
        repository, place = self.desired.repository, f"{self.path}/{row.path}"
        ours = [r for r in row.file_records if r.data_repository == repository]
        believed = next((record for record in ours if record.exists), None)
        if believed is not None:
            if self.observed.copies.get(believed.relative_path) != self.file.size:
                yield self._copy(believed.relative_path)
            return
        if any(record.exists for record in row.file_records):
            return  # it was moved to another repository, on purpose
        record = next((record for record in ours if record.relative_path == place), None)
        if record is not None:
            yield self._copy(place)
            yield MarkPresent(
                record=record.id,
                repository=repository,
                path=place,
                size=self.file.size,
                md5=self.file.md5,
            )
        elif not self._is_protected(row):
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


def type_changes(
    files: Iterable[OutgoingFile], types: Iterable[DatasetTypeRow]
) -> Iterator[CreateType]:
    """Find the dataset types that are missing.

    A new type is named by object and attribute, and its pattern is as narrow as the file's name
    allows: a file of somebody else that fits two types cannot be registered any more.

    Parameters
    ----------
    files : iterable of OutgoingFile
        What is to be registered.
    types : iterable of DatasetTypeRow
        All types.

    Yields
    ------
    CreateType
        `clusters.table` with the pattern `clusters.table*`.

    Raises
    ------
    PermanentFailure
        Alyx could not choose a type, and a person has to.
    """
    known = list(types)
    for file in files:
        fitting = [row.name for row in known if _fits(row, file)]
        if len(fitting) == 1:
            continue
        if fitting:
            raise PermanentFailure(
                f"{file.name} fits the dataset types {', '.join(fitting)} of this Alyx, which "
                "registers it only when it fits one: narrow their filename patterns there"
            )
        stem = ".".join(file.name.split(".")[:2])
        new = DatasetTypeRow(name=_object_attribute(file), filename_pattern=f"{stem}*")
        if new.name in {row.name for row in known}:
            raise PermanentFailure(
                f"the filename pattern of dataset type {new.name} in this Alyx does not fit "
                f"{file.name}: widen it there"
            )
        known.append(new)
        yield CreateType(name=new.name, pattern=f"{stem}*")


def _fits(row: DatasetTypeRow, file: OutgoingFile) -> bool:
    """Whether a dataset type takes a file, by the function that Alyx itself uses."""
    from one.registration import get_dataset_type

    try:
        get_dataset_type(
            file.name, [{"name": row.name, "filename_pattern": row.filename_pattern or ""}]
        )
    except ValueError:  # its word for no
        return False
    return True


def _object_attribute(file: OutgoingFile) -> str:
    from one.alf.path import filename_parts

    parts = filename_parts(file.name, as_dict=True)
    return f"{parts['object']}.{parts['attribute']}"
