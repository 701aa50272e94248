"""The files of a session: read in place on a folder repository, or fetched into a cache.

From dataset rows to a session folder, its listing, and what must be fetched. Which copy is used
is decided in `placement`, how it is fetched in `fetch`; what recordings the files are is the
business of `neuro_assets.formats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.files.cache import SMALL_BYTES, Cache
from neuro_assets.alyx.files.fetch import Fetching, FetchReport, Progress
from neuro_assets.alyx.files.paths import folder_name, parents
from neuro_assets.alyx.files.placement import (
    Located,
    choose,
    home_of,
    locate_all,
)
from neuro_assets.alyx.files.presence import check_file, check_root, find_file
from neuro_assets.alyx.files.transfer import Transfer
from neuro_assets.alyx.rows import DatasetRow
from neuro_assets.formats.model import Problem
from neuro_assets.formats.walk import FoundFile, Listing, natural_key
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.metadata import RemoteFile

if TYPE_CHECKING:
    from neuro_assets.config import LabConfig

__all__ = ["FetchReport", "Located", "Progress", "Repositories", "SessionPlace"]

_READ_BY_SCAN = (".meta", ".ch", ".json", ".yaml", ".yml", ".oebin")
_PATIENCE_S = 600.0
"""With parts of 8 MB this breaks off transfers slower than 14 kB/s."""

_SMALL_PATIENCE_S = 120.0


@dataclass(frozen=True)
class SessionPlace:
    """Where a session is read.

    Parameters
    ----------
    folder : Path
        The session folder on this machine; in the cache it need not exist yet.
    is_remote : bool
        Whether its files have to be fetched.
    files : tuple of Located
        Its files.
    problems : tuple of Problem
        What is registered, and is not read.
    """

    folder: Path
    is_remote: bool
    files: tuple[Located, ...]
    problems: tuple[Problem, ...] = ()


class Repositories:
    """The data repositories that this machine reaches, and the cache for remote ones.

    Parameters
    ----------
    places : mapping
        By repository: a folder, `s3://bucket/prefix`, or `download`; the first that holds a file
        is read.
    cache : Path
        Local folder for files that are fetched.
    cache_bytes : int
        What it may hold.
    storage_options : dict, optional
        Options of `s3fs.S3FileSystem`, and our `max_attempts`.
    timeout_s : float
        Longest silence of a data server, seconds.
    patience_s : float
        Seconds in which 8 MB of a file must arrive.
    retry_s : float
        Wait before a broken transfer is tried again, seconds.
    """

    def __init__(
        self,
        places: Mapping[str, str],
        cache: Path,
        cache_bytes: int,
        storage_options: dict[str, Any] | None = None,
        *,
        timeout_s: float = 30.0,
        patience_s: float = _PATIENCE_S,
        retry_s: float = 1.0,
    ) -> None:
        self.places = dict(places)
        self.cache = Cache(cache, cache_bytes)
        self._options = storage_options or {}
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._retry_s = retry_s

    @classmethod
    def of(cls, config: LabConfig, *, timeout_s: float | None = None) -> Repositories:
        """Make them of a lab's configuration; for S3, endpoint and region are those of the store.

        Parameters
        ----------
        config : LabConfig
            Its `alyx` and `store` sections.
        timeout_s : float, optional
            Longest silence of a data server, seconds; that of the configuration by default.

        Returns
        -------
        Repositories
            Nothing is connected or made yet.
        """
        from neuro_assets.store.opening import S3_SCHEME, s3_options

        alyx = config.alyx
        remote = any(place.startswith(S3_SCHEME) for place in alyx.repositories.values())
        return cls(
            alyx.repositories,
            Path(alyx.cache),
            int(alyx.cache_gb * 1e9),
            s3_options(config.store) if remote else None,
            timeout_s=timeout_s or alyx.timeout_s,
        )

    def session_folder(self, datasets: Iterable[DatasetRow]) -> SessionPlace | None:
        """Find the folder that a session is read in.

        Parameters
        ----------
        datasets : iterable of DatasetRow
            Of one session; other than default revisions are left out.

        Returns
        -------
        SessionPlace or None
            As the datasets' own paths say, which keep the old one when a session is renumbered.
            None where nothing of it is on a repository of `places`.
        """
        located, _ = locate_all(datasets, self.places)
        order = {name: i for i, name in enumerate(self.places)}
        located.sort(key=lambda each: order[each.repository])
        chosen, problems = choose(located)
        if not chosen:
            return None
        home = home_of(chosen)
        root = (
            self.cache.root / folder_name(home.repository) if home.is_remote else Path(home.place)
        )
        return SessionPlace(root / home.session, home.is_remote, tuple(chosen), tuple(problems))

    def listing(self, place: SessionPlace) -> Listing:
        """List the registered files of a session for a scan; what lies beside them is not read.

        Parameters
        ----------
        place : SessionPlace
            From `session_folder`.

        Returns
        -------
        Listing
            Of a folder repository those that are there, by their names on disk; of a remote one
            all, with a constant modification time.

        Raises
        ------
        TransientFailure
            A folder repository cannot be read.
        """
        for root in {each.place for each in place.files if not each.is_remote}:
            check_root(Path(root))
        found = Listing()
        for each in place.files:
            file = _remote(each) if each.is_remote else _in_place(each, place.folder)
            if isinstance(file, FoundFile):
                found.files.append(file)
            elif each.is_remote:  # of one in place `check` says it, where it matters
                found.problems.append(file)
        found.files.sort(key=lambda file: natural_key(file.path))
        folders = {folder for file in found.files for folder in parents(file.path)}
        found.folders = sorted(folders, key=natural_key)
        return found

    def remote_files(
        self, place: SessionPlace, paths: Iterable[str] | None = None
    ) -> tuple[RemoteFile, ...]:
        """Describe what must be fetched, as data that can be kept.

        Parameters
        ----------
        place : SessionPlace
            From `session_folder`.
        paths : iterable of str, optional
            Paths below the session folder (of one recording); all when left out.

        Returns
        -------
        tuple of RemoteFile
            By path; empty for a folder repository.
        """
        if not place.is_remote:
            return ()
        wanted = None if paths is None else set(paths)
        found = [
            file
            for each in place.files
            if (wanted is None or each.path in wanted) and (file := each.remote_file()) is not None
        ]
        return tuple(sorted(found, key=lambda file: natural_key(file.path)))

    def check(self, datasets: Sequence[DatasetRow]) -> list[Problem]:
        """Compare what is registered with what is there, without reading a file.

        Parameters
        ----------
        datasets : sequence of DatasetRow
            Of one session.

        Returns
        -------
        list of Problem
            `odd_path`, `no_link`, `duplicate_dataset`, `other_repository`; on folder repositories
            also `registered_but_missing`, `wrong_size`, `unreadable`.

        Raises
        ------
        TransientFailure
            The folder of a repository is not there, or empty: a mount without its disk.
        """
        located, problems = locate_all(datasets, self.places)
        problems += choose(located)[1]
        in_place = [each for each in located if not each.is_remote]
        for root in {each.place for each in in_place}:
            check_root(Path(root))
        return problems + [found for each in in_place if (found := check_file(each))]

    @contextmanager
    def hold(self, folder: Path) -> Iterator[None]:
        """Keep a session folder of the cache from being removed while it is read.

        Parameters
        ----------
        folder : Path
            Session folder; one of a folder repository needs nothing.
        """
        with self.cache.hold(folder) if self.cache.has_place_for(folder) else nullcontext():
            yield

    @contextmanager
    def present(
        self, files: Sequence[RemoteFile], folder: Path, progress: Progress | None = None
    ) -> Iterator[FetchReport]:
        """Fetch files, and keep them while they are used.

        Parameters
        ----------
        files : sequence of RemoteFile
            Of one session; nothing is done without any.
        folder : Path
            Its folder in the cache.
        progress : callable, optional
            Gets bytes done, bytes in all, and a path; called from several threads, one at a time.

        Yields
        ------
        FetchReport
            What came.

        Raises
        ------
        PermanentFailure
            A file is not what is registered or cannot be had, or there is no room; before
            anything is downloaded where it can be known before.
        TransientFailure
            A server does not answer, or the cache is full of files in use.
        """
        if not files:
            yield FetchReport()
            return
        if not self.cache.has_place_for(folder):
            raise PermanentFailure(
                f"{folder} is not in the cache {self.cache.root}: `cache` in the alyx section of "
                "lab.yaml was changed; change it back, or wait for the next full reconciliation"
            )
        with self.cache.hold(folder) as use:
            yield self._fetching(folder, use, self._patience_s, progress).run(files)

    def fetch_small(self, place: SessionPlace) -> FetchReport:
        """Fetch what a scan reads: metas, chunk tables, JSON and YAML below 10 MB.

        `hold` the folder around this and the scan.

        Parameters
        ----------
        place : SessionPlace
            From `session_folder`.

        Returns
        -------
        FetchReport
            Nothing for a folder repository. One that cannot be had is among its problems
            (`not_fetched`) and keeps no other from coming.

        Raises
        ------
        PermanentFailure
            There is no room.
        TransientFailure
            A server does not answer.
        """
        wanted = [each.path for each in place.files if each.path.endswith(_READ_BY_SCAN)]
        files = [file for file in self.remote_files(place, wanted) if file.size < SMALL_BYTES]
        if not files:
            return FetchReport()
        with self.cache.hold(place.folder) as use:
            # A sensor waits for these.
            patience_s = min(self._patience_s, _SMALL_PATIENCE_S)
            fetching = self._fetching(place.folder, use, patience_s)
            fetching.is_strict = False
            return fetching.run(files)

    def _fetching(
        self, folder: Path, use: int, patience_s: float, progress: Progress | None = None
    ) -> Fetching:
        transfer = Transfer(self._options, self._timeout_s, patience_s)
        return Fetching(self.cache, transfer, folder, use, self._retry_s, progress)


def _remote(located: Located) -> FoundFile | Problem:
    size = located.dataset.file_size
    if size is not None:
        return FoundFile(located.path, size, 0)
    detail = "Alyx has no size of it, so it is not fetched; register it again"
    return located.problem("size_missing", detail)


def _in_place(located: Located, folder: Path) -> FoundFile | Problem:
    found = find_file(located)
    if isinstance(found, Problem):
        return found
    path, stat = found
    return FoundFile(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
