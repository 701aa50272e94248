"""From dataset rows to places: which copy of a file is used, and what keeps one from being used.

Nothing here touches a file or a server. What is done with the places is in `repositories`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuro_assets.alyx.files.paths import (
    OddPath,
    download_url,
    session_and_file,
    with_uuid,
)
from neuro_assets.alyx.rows import DatasetRow, FileRecord
from neuro_assets.config.alyx import DOWNLOAD
from neuro_assets.formats.model import Problem
from neuro_assets.formats.names import parse_spikeglx_name
from neuro_assets.registry.metadata import RemoteFile

_MD5_DIGITS = set("0123456789abcdef")


@dataclass(frozen=True)
class Located:
    """A dataset's copy that is used.

    Parameters
    ----------
    dataset : DatasetRow
        Its row.
    record : FileRecord
        The copy.
    place : str
        Of its repository in the configuration: a folder, `s3://...`, `download`.
    session : str
        Session folder below the repository.
    path : str
        Path below the session folder, without a dataset's id in the name.
    """

    dataset: DatasetRow
    record: FileRecord
    place: str
    session: str
    path: str

    @property
    def repository(self) -> str:
        """Name of the repository."""
        return self.record.data_repository

    @property
    def is_remote(self) -> bool:
        """Whether it has to be fetched."""
        return self.place == DOWNLOAD or "://" in self.place

    @property
    def candidates(self) -> list[Path]:
        """Where it may be on a folder repository: with the id in its name, which is no other's."""
        path = Path(self.place, self.record.relative_path)
        names = [self.path.rpartition("/")[2], path.name]
        named = with_uuid(names[0], self.dataset.id)
        return [path.with_name(name) for name in dict.fromkeys((named, *names))]

    @property
    def source(self) -> str:
        """Address of a remote one."""
        if self.place == DOWNLOAD:
            return download_url(self.record.data_url) or ""
        return f"{self.place.rstrip('/')}/{self.record.relative_path}"

    @property
    def is_data(self) -> bool:
        """Whether it is a binary file of SpikeGLX, for which the session is read."""
        name = parse_spikeglx_name(self.path.rpartition("/")[2])
        return name is not None and name.extension in ("bin", "cbin")

    def remote_file(self) -> RemoteFile | None:
        """Describe it for fetching.

        Returns
        -------
        RemoteFile or None
            None where its size is not registered.
        """
        if self.dataset.file_size is None:
            return None
        return RemoteFile(
            path=self.path,
            repository=self.repository,
            source=self.source,
            size=self.dataset.file_size,
            md5=md5_of(self.dataset.hash),
            dataset_id=self.dataset.id,
        )

    def problem(self, kind: str, detail: str) -> Problem:
        """Say something of it."""
        return Problem(kind=kind, path=self.path, detail=detail)


def md5_of(text: str | None) -> str | None:
    """Read the hash of a row.

    Parameters
    ----------
    text : str or None
        As registered; old databases have the form of a UUID.

    Returns
    -------
    str or None
        32 hexadecimal digits; None for what can be no MD5, with which nothing could agree.
    """
    digits = (text or "").replace("-", "").strip().lower()
    return digits if len(digits) == 32 and set(digits) <= _MD5_DIGITS else None


def locate(dataset: DatasetRow, places: Mapping[str, str]) -> tuple[Located | None, list[Problem]]:
    """Choose the copy of a dataset that is used.

    Parameters
    ----------
    dataset : DatasetRow
        Its row.
    places : mapping
        Place of each repository, the preferred ones first.

    Returns
    -------
    located : Located or None
        The copy on the first repository that has one; of several there (a renumbered session) the
        one of the highest path.
    problems : list of Problem
        Copies that exist, and are left out.
    """
    problems: list[Problem] = []
    for name, place in places.items():
        found = []
        for record in dataset.file_records:
            if record.data_repository != name or not record.exists:
                continue
            located = _located(dataset, record, place)
            if isinstance(located, Located):
                found.append(located)
            else:
                problems.append(located)
        if found:
            return max(found, key=lambda located: located.record.relative_path), problems
    return None, problems


def _located(dataset: DatasetRow, record: FileRecord, place: str) -> Located | Problem:
    try:
        session, path = session_and_file(record.relative_path)
    except OddPath as error:
        return Problem(
            kind="odd_path",
            path=ascii(record.relative_path)[1:-1][:200],
            detail=f"the path of dataset {dataset.id} on {record.data_repository} is not used: "
            f"{error}; correct its file record in Alyx",
        )
    located = Located(dataset, record, place, session, path)
    if place == DOWNLOAD and not located.source:
        return located.problem(
            "no_link",
            f"{record.data_repository} has no http address for it (data_url); give the repository "
            "one in Alyx, or a folder or s3:// prefix in lab.yaml",
        )
    return located


def locate_all(
    datasets: Iterable[DatasetRow], places: Mapping[str, str]
) -> tuple[list[Located], list[Problem]]:
    """Locate the default datasets of a session, each path once.

    Parameters
    ----------
    datasets : iterable of DatasetRow
        Rows of one session.
    places : mapping
        As in `locate`.

    Returns
    -------
    located : list of Located
        Where two datasets claim one path, the newer row.
    problems : list of Problem
        What is left out.
    """
    found: dict[tuple[str, str, str], Located] = {}
    problems: list[Problem] = []
    for dataset in sorted(datasets, key=_age):
        if not dataset.default_dataset:
            continue
        located, odd = locate(dataset, places)
        problems += odd
        if located is None:
            continue
        key = (located.repository, located.session, located.path)
        if key in found:
            detail = (
                f"datasets {found[key].dataset.id} and {dataset.id} have one path on "
                f"{located.repository}, the second is used; delete one of them in Alyx"
            )
            problems.append(located.problem("duplicate_dataset", detail))
        found[key] = located
    return list(found.values()), problems


def _age(dataset: DatasetRow) -> tuple[str, str]:
    return dataset.auto_datetime.isoformat() if dataset.auto_datetime else "", dataset.id


def choose(located: Sequence[Located]) -> tuple[list[Located], list[Problem]]:
    """Choose the files that can be read as one session folder.

    All remote ones can, since they meet in the cache; files on a folder repository are read in
    place, so that those elsewhere cannot be read with them.

    Parameters
    ----------
    located : sequence of Located
        Of one session, those of preferred repositories first.

    Returns
    -------
    chosen : list of Located
        The place with the most data files, then the most files.
    problems : list of Problem
        A line for each folder with data files elsewhere.
    """
    groups: dict[tuple[str, str], list[Located]] = defaultdict(list)
    for each in located:
        groups[("", "") if each.is_remote else (each.repository, each.session)].append(each)
    if not groups:
        return [], []
    best = max(groups, key=lambda g: (sum(each.is_data for each in groups[g]), len(groups[g])))
    chosen = groups.pop(best)
    home = home_of(chosen)
    problems = []
    for group in groups.values():
        folders = Counter(str(PurePosixPath(each.path).parent) for each in group if each.is_data)
        for folder, count in folders.items():
            detail = (
                f"{count} data files of it are in {group[0].session} on {group[0].repository}, and "
                f"most of the session in {home.session} on {home.repository}, which is read; copy "
                "them there and register them"
            )
            problems.append(Problem(kind="other_repository", path=folder, detail=detail))
    return chosen, problems


def home_of(chosen: Sequence[Located]) -> Located:
    """Give the file after which the session folder is named: of the most frequent place."""
    counts = Counter((each.repository, each.session) for each in chosen)
    most = max(counts, key=lambda key: counts[key])
    return next(each for each in chosen if (each.repository, each.session) == most)
