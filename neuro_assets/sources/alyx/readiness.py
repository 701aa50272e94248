"""Whether the raw data of a probe are all there, as far as the database says; pure functions.

The rule is that of iblrig, ibllib and iblscripts: every expected dataset in its default revision,
with hash and size, existing on a repository that this machine reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from neuro_assets.alyx.rows import DatasetRow, token_of

RAW = "ephysData.raw"
"""Beginning of the names of IBL's dataset types of raw electrophysiology."""


def raw_rows(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """Choose the raw data among the datasets of a probe, in the revisions that count.

    Parameters
    ----------
    rows : iterable of DatasetRow
        Datasets of the probe.

    Returns
    -------
    list of DatasetRow
        Sorted by path.
    """
    found = [row for row in rows if row.dataset_type.startswith(RAW) and row.default_dataset]
    return sorted(found, key=lambda row: row.path)


def what_is_missing(
    rows: Sequence[DatasetRow], expected: Sequence[str], repositories: Sequence[str]
) -> tuple[str, ...]:
    """List what keeps the raw data of a probe from being complete.

    Parameters
    ----------
    rows : sequence of DatasetRow
        Raw data of the probe; see `raw_rows`.
    expected : sequence of str
        Dataset types that there must be.
    repositories : sequence of str
        Data repositories that this machine reads.

    Returns
    -------
    tuple of str
        One line each; empty when they are complete.
    """
    types = {row.dataset_type for row in rows}
    wanted = list(expected)
    if any(row.name.endswith(".cbin") for row in rows):
        wanted.append(f"{RAW}.ch")  # without it nobody can open the compressed file
    missing = [f"{name} is not registered" for name in dict.fromkeys(wanted) if name not in types]
    for row in rows:
        missing += _lacking(row, repositories)
    return tuple(missing)


def _lacking(row: DatasetRow, repositories: Sequence[str]) -> list[str]:
    if not row.hash:
        return [f"{row.name} has no hash in Alyx"]
    if not row.file_size:
        return [f"{row.name} has no size in Alyx"]
    if row.copy_on(repositories) is None:
        where = ", ".join(repositories) or "none: name one under alyx.repositories"
        return [f"{row.name} is not yet on a repository that is read here ({where})"]
    return []


def settle_token(rows: Iterable[DatasetRow]) -> str:
    """Token of the set (dataset id, hash, size, copies), the same twice when settled."""
    return token_of(
        sorted(
            (row.id, row.hash, row.file_size, row.revision, _copies(row))
            for row in rows
            if row.dataset_type.startswith(RAW) and row.default_dataset
        )
    )


def _copies(row: DatasetRow) -> list[tuple[str, str]]:
    return sorted((f.data_repository, f.relative_path) for f in row.file_records if f.exists)


def raw_version(rows: Iterable[DatasetRow]) -> str:
    """Version of raw data from the hashes in the database.

    The same hashes registered again, under another id or name, are the same data. A new default
    revision is another version even of equal content, because somebody declared it one.

    Parameters
    ----------
    rows : iterable of DatasetRow
        Raw data of one recording, in their default revisions.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for line in sorted(f"{r.dataset_type}\0{r.hash}\0{r.file_size}\0{r.revision}" for r in rows):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]
