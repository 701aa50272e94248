"""Fetching of files until each is here, whole and the registered one, or it is known why not.

Bytes are moved by `files_transfer`, room is made by `files_room`; which files a recording needs
is decided by `files`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from neuro_assets.alyx.files.cache import Cache, Hold
from neuro_assets.alyx.files.cache_eviction import SMALL_BYTES, Room
from neuro_assets.alyx.files.paths import OddPath, checked, with_uuid, without_uuid
from neuro_assets.alyx.files.transfer import N_THREADS, Gone, TooLong, Transfers
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.metadata import RemoteFile
from neuro_assets.store.errors import explained

TRIES = 3
"""Of one file, after transfers that broke off."""

T = TypeVar("T")

Progress = Callable[[int, int, str], None]
"""Gets bytes done, bytes in all, and the file that is on the way."""


@dataclass(frozen=True)
class FetchReport:
    """What was done.

    Parameters
    ----------
    fetched : tuple of str
        Paths that came now; the others were here.
    n_bytes : int
        Their bytes.
    unchecked : tuple of str
        Paths of which the database has no hash: only their size was checked.
    problems : tuple of Problem
        Files that cannot be had (`not_fetched`), where that is no failure of all.
    """

    fetched: tuple[str, ...] = ()
    n_bytes: int = 0
    unchecked: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass
class Fetching:
    """Fetches files of one session into the cache.

    Parameters
    ----------
    cache, room, transfers
        Where to, how much fits, and by whom.
    hold : Hold
        On the session folder.
    patience_s : float
        Seconds in which something of a file must arrive.
    retry_s : float
        Wait before a second try, seconds; doubled before a third.
    progress : callable, optional
        See `Progress`; called from several threads, one at a time.
    is_strict : bool
        Whether all files are needed; else one that cannot be had becomes a problem.
    """

    cache: Cache
    room: Room
    transfers: Transfers
    hold: Hold
    patience_s: float
    retry_s: float
    progress: Progress | None = None
    is_strict: bool = True
    _problems: list[Problem] = field(default_factory=list)
    _done: dict[str, int] = field(default_factory=dict)
    _total: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        """Session folder."""
        return self.hold.folder

    def run(self, files: Sequence[RemoteFile]) -> FetchReport:
        """Make all of some files present.

        Parameters
        ----------
        files : sequence of RemoteFile
            Of one session.

        Returns
        -------
        FetchReport
            What came.

        Raises
        ------
        PermanentFailure
            A file is not what is registered, or cannot be had, or there is no room.
        TransientFailure
            A transfer broke off, several times.
        """
        with explained(str(self.cache.root)):
            return self._run(list({file.path: file for file in files}.values()))

    def _run(self, files: Sequence[RemoteFile]) -> FetchReport:
        _check_paths(files)
        self.room.check(sum(file.size for file in files))
        self._total = sum(file.size for file in self._missing(files))
        needed = {file.path for file in files}
        came: list[RemoteFile] = []
        # Small files have a lock of their own: who looks into a session for its meta files must
        # not wait for hours until somebody has fetched another probe's samples.
        for name, part in (
            ("small", [file for file in files if file.size <= SMALL_BYTES]),
            ("large", [file for file in files if file.size > SMALL_BYTES]),
        ):
            if self._missing(part):
                with self.cache.alone(self.folder, name):
                    came += self._bring(self._missing(part), needed)
        return FetchReport(
            tuple(file.path for file in came),
            sum(file.size for file in came),
            tuple(file.path for file in files if file.md5 is None),
            tuple(self._problems),
        )

    def _missing(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        return [file for file in files if not self.cache.has(self.folder, file)]

    def _bring(self, files: list[RemoteFile], needed: set[str]) -> list[RemoteFile]:
        files = self._of_right_size(files)
        if not files:
            return files
        sizes = {file.path: file.size for file in files}
        with (
            self.room.reserve(self.hold, sizes, needed) as reserved,
            ThreadPoolExecutor(N_THREADS) as pool,
        ):
            try:
                futures = []
                for i, file in enumerate(files):
                    target = reserved.incoming / str(i)
                    target.mkdir()
                    futures.append(pool.submit(self._fetch_or_say, file, target))
                wait(futures, return_when=FIRST_EXCEPTION)
                self._raise_first(futures)
            except BaseException:
                # Also for an interrupt: what is on the way would be waited for.
                self._over.set()
                self.transfers.close()
                pool.shutdown(cancel_futures=True)
                raise
        failed = {problem.path for problem in self._problems}
        return [file for file in files if file.path not in failed]

    def _raise_first(self, futures: Sequence[Future[None]]) -> None:
        """Raise what failed; what cannot be mended by trying again goes before other failures."""
        errors = [error for each in futures if each.done() and (error := each.exception())]
        for error in sorted(errors, key=lambda error: not isinstance(error, PermanentFailure)):
            raise error

    def _of_right_size(self, files: list[RemoteFile]) -> list[RemoteFile]:
        """Ask for the sizes of large files before anything of them is fetched.

        A file that was refused before is fetched again only if its size is right by now: nobody
        downloads it for ever because a database is wrong.
        """
        doubted = [
            file
            for file in files
            if file.size > SMALL_BYTES or self.cache.refusals.found(file) is not None
        ]
        with ThreadPoolExecutor(N_THREADS) as pool:
            found = zip(doubted, pool.map(self._disagreement, doubted), strict=True)
            lines = {file.path: line for file, line in found if line}
        if lines and self.is_strict:
            raise PermanentFailure("; ".join(lines.values()))
        for path, line in lines.items():
            self._say(path, line)
        return [file for file in files if file.path not in lines]

    def _disagreement(self, file: RemoteFile) -> str | None:
        """Say that a file is not the registered one; None when it may be."""
        known = self.cache.refusals.found(file)
        try:
            found = self._size(file)
        except PermanentFailure as error:
            return str(error)
        if found == file.size:
            return None
        if found is not None:
            return self._refused(file, f"{found} bytes")
        return _refusal(file, known) if known is not None else None

    def _say(self, path: str, detail: str) -> None:
        with self._guard:
            self._problems.append(Problem(kind="not_fetched", path=path, detail=detail[:500]))

    def _fetch_or_say(self, file: RemoteFile, target: Path) -> None:
        try:
            self._fetch(file, target)
        except PermanentFailure as error:
            if self.is_strict:
                raise
            self._say(file.path, str(error))

    def _fetch(self, file: RemoteFile, target: Path) -> None:
        faults = 0
        for attempt in range(TRIES):
            if self._over.wait(self.retry_s * 2 ** (attempt - 1) if attempt else 0):
                return
            try:
                path, md5 = self._get(file, target)
                fault = self._fault(file, path.stat().st_size, md5)
            except TransientFailure:
                if attempt == TRIES - 1:
                    raise
                continue
            if fault is None:
                self.cache.keep(self.folder, file, path, md5)
                self._tell(file, file.size)
                return
            faults += 1
            if faults == 2:
                if (size := path.stat().st_size) != file.size:
                    self._refused(file, f"{size} bytes")
                raise PermanentFailure(fault)
        raise TransientFailure(f"{_named(file)} came in another state each time: try again later")

    def _fault(self, file: RemoteFile, size: int, md5: str) -> str | None:
        """Say what is wrong with what came; None when nothing is."""
        if size != file.size:
            found = self._size(file)
            if found == file.size:
                # The connection ended early, which urllib does not tell.
                raise TransientFailure(f"{_named(file)} came with {size} of {file.size} bytes")
            if found is None:
                return _refusal(file, f"{size} bytes")
            raise PermanentFailure(self._refused(file, f"{found} bytes"))
        if file.md5 is not None and md5 != file.md5:
            return (
                f"{_named(file)} has MD5 {md5} there, and {file.md5} is registered: copy it there "
                "again, or register it again if it is the right file"
            )
        return None

    def _refused(self, file: RemoteFile, found: str) -> str:
        self.cache.refusals.add(file, found)
        return _refusal(file, found)

    def _get(self, file: RemoteFile, target: Path) -> tuple[Path, str]:
        def tell(n_bytes: int) -> None:
            self._tell(file, n_bytes)

        def get(source: str) -> tuple[Path, str]:
            return self.transfers.get(
                source, target, most=file.size, patience_s=self.patience_s, progress=tell
            )

        for left in target.iterdir():
            left.unlink()
        try:
            return _by_any_name(file, get)
        except TooLong as error:
            raise PermanentFailure(self._refused(file, str(error))) from error

    def _size(self, file: RemoteFile) -> int | None:
        for attempt in range(TRIES - 1):
            try:
                return _by_any_name(file, self.transfers.size)
            except TransientFailure:
                if self._over.wait(self.retry_s * 2**attempt):
                    raise
        return _by_any_name(file, self.transfers.size)

    def _tell(self, file: RemoteFile, n_bytes: int) -> None:
        if self.progress is None:
            return
        with self._guard:
            self._done[file.path] = n_bytes
            self.progress(sum(self._done.values()), self._total, file.path)


def _by_any_name(file: RemoteFile, ask: Callable[[str], T]) -> T:
    """Ask for a file under its name, then with or without the dataset's id in it."""
    other = without_uuid(file.source)
    if other == file.source:
        other = with_uuid(file.source, file.dataset_id)
    try:
        return ask(file.source)
    except Gone as gone:
        with suppress(Gone):
            return ask(other)
        raise PermanentFailure(
            f"{_named(file)} is registered as existing there and is not ({gone}): copy it there, "
            "or set `exists` of its file record to false in Alyx"
        ) from gone


def _check_paths(files: Sequence[RemoteFile]) -> None:
    for file in files:
        try:
            checked(file.path)
        except OddPath as error:
            raise PermanentFailure(
                f"the path {file.path!r} of dataset {file.dataset_id} is not used: {error}; "
                "correct it in Alyx"
            ) from error


def _named(file: RemoteFile) -> str:
    return f"{file.path} (dataset {file.dataset_id}) on {file.repository}"


def _refusal(file: RemoteFile, found: str) -> str:
    return (
        f"{_named(file)} is registered with {file.size} bytes and has {found}: register it again, "
        "or copy the right file there; it is not downloaded before one of them changes"
    )
