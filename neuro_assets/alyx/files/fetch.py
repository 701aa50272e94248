"""Fetching of files until each is here, whole and the registered one, or it is known why not.

Which files a recording needs is decided by `repositories`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from neuro_assets.alyx.files.cache import SMALL_BYTES, Cache
from neuro_assets.alyx.files.paths import OddPath, checked, with_uuid, without_uuid
from neuro_assets.alyx.files.transfer import N_THREADS, Gone, Transfer
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
    problems : tuple of Problem
        Files that cannot be had (`not_fetched`), where that is no failure of all.
    """

    fetched: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Different(PermanentFailure):
    """What came is not the registered file; it may just have been written there."""


@dataclass
class Fetching:
    """Fetches files of one session into the cache, once.

    Parameters
    ----------
    cache : Cache
        Where to.
    transfer : Transfer
        Connections; closed at the end.
    folder : Path
        Session folder.
    use : int
        Lock on it, from `Cache.hold`.
    retry_s : float
        Wait before a second try, seconds; doubled before a third.
    progress : callable, optional
        See `Progress`; called from several threads, one at a time.
    is_strict : bool
        Whether all files are needed; else one that cannot be had becomes a problem.
    """

    cache: Cache
    transfer: Transfer
    folder: Path
    use: int
    retry_s: float
    progress: Progress | None = None
    is_strict: bool = True
    _problems: list[Problem] = field(default_factory=list)
    _done: dict[str, int] = field(default_factory=dict)
    _total: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

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
        try:
            with explained(str(self.cache.root)):
                return self._run(list({file.path: file for file in files}.values()))
        finally:
            self._over.set()
            self.transfer.close()

    def _run(self, files: Sequence[RemoteFile]) -> FetchReport:
        _check_paths(files)
        self.cache.check_fits(sum(file.size for file in files))
        self._total = sum(file.size for file in self._missing(files))
        needed = {file.path for file in files}
        fetched: list[str] = []
        # Small files have a lock of their own: who looks into a session for its meta files must
        # not wait for hours until somebody has fetched another probe's samples.
        for kind in ("small", "large"):
            part = [file for file in files if (file.size > SMALL_BYTES) == (kind == "large")]
            if self._missing(part):
                with self.cache.alone(self.folder, kind):
                    part = self._of_right_size(self._missing(part))
                    fetched += self._bring(kind, part, needed)
        return FetchReport(tuple(fetched), tuple(self._problems))

    def _missing(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        return [file for file in files if not self.cache.has(self.folder, file)]

    def _of_right_size(self, files: list[RemoteFile]) -> list[RemoteFile]:
        """Leave out what a server says to have another size, before anything large is fetched."""
        doubted = [f for f in files if f.size > SMALL_BYTES or self.cache.refused(f) is not None]
        lines = self._in_parallel(self._difference, [(file,) for file in doubted])
        wrong = {file.path: line for file, line in zip(doubted, lines, strict=True) if line}
        if wrong and self.is_strict:
            raise PermanentFailure("; ".join(wrong.values()))
        for path, line in wrong.items():
            self._add_problem(path, line)
        return [file for file in files if file.path not in wrong]

    def _difference(self, file: RemoteFile) -> str | None:
        """Describe why a file is not the registered one; None when it may be."""
        known = self.cache.refused(file)
        try:
            found = self._retried(lambda: _by_any_name(file, self.transfer.size))
        except PermanentFailure as error:
            return str(error)
        if found is None:
            return _refusal(file, known) if known is not None else None
        return None if found == file.size else self._refused(file, f"{found} bytes")

    def _bring(self, kind: str, files: list[RemoteFile], needed: set[str]) -> list[str]:
        """Fetch files together; gives the paths of those that came."""
        if not files:
            return []
        with self.cache.reserve(self.use, self.folder, kind, files, needed) as folders:
            self._in_parallel(self._fetch_or_report, list(zip(files, folders, strict=True)))
        failed = {problem.path for problem in self._problems}
        return [file.path for file in files if file.path not in failed]

    def _in_parallel(self, call: Callable[..., T], arguments: Sequence[tuple]) -> list[T]:
        """Call something for many; a failure that no second try mends goes before the others."""
        pool = ThreadPoolExecutor(N_THREADS)
        try:
            futures: list[Future[T]] = [pool.submit(call, *each) for each in arguments]
            wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for each in futures if each.done() and (error := each.exception())]
            for error in sorted(errors, key=lambda error: not isinstance(error, PermanentFailure)):
                raise error
            return [each.result() for each in futures]
        except BaseException:
            # Also for an interrupt: what is on the way would be waited for.
            self._over.set()
            self.transfer.close()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch_or_report(self, file: RemoteFile, target: Path) -> None:
        try:
            try:
                self._retried(lambda: self._fetch(file, target))
            except _Different:
                self._retried(lambda: self._fetch(file, target))
        except PermanentFailure as error:
            if self.is_strict:
                raise
            self._add_problem(file.path, str(error))

    def _retried(self, call: Callable[[], T]) -> T:
        for attempt in range(TRIES - 1):
            try:
                return call()
            except TransientFailure:
                if self._over.wait(self.retry_s * 2**attempt):
                    raise
        return call()

    def _fetch(self, file: RemoteFile, target: Path) -> None:
        arrived = target / "file"
        md5, n_bytes = _by_any_name(file, lambda source: self._receive(file, source, arrived))
        if n_bytes != file.size:
            size = _by_any_name(file, self.transfer.size)
            if size == file.size:
                raise TransientFailure(f"{_named(file)} came with {n_bytes} of {size} bytes")
            if size is not None:
                raise PermanentFailure(self._refused(file, f"{size} bytes"))
            found = "more" if n_bytes > file.size else f"{n_bytes} bytes"
            raise _Different(self._refused(file, found))
        if file.md5 not in (None, md5):
            raise _Different(
                f"{_named(file)} has MD5 {md5} there, and {file.md5} is registered: copy it there "
                "again, or register it again if it is the right file"
            )
        self.cache.keep(self.folder, file, arrived, md5)

    def _receive(self, file: RemoteFile, source: str, arrived: Path) -> tuple[str, int]:
        """Write what comes; give its MD5 and bytes."""
        md5, n_bytes = hashlib.md5(), 0
        with arrived.open("wb") as written:
            for part in self.transfer.read(source):
                n_bytes += len(part)
                if self._over.is_set():
                    raise TransientFailure(f"{_named(file)} was broken off")
                if n_bytes > file.size:
                    break
                written.write(part)
                md5.update(part)
                self._report(file, n_bytes)
        return md5.hexdigest(), n_bytes

    def _refused(self, file: RemoteFile, found: str) -> str:
        self.cache.refuse(file, found)
        return _refusal(file, found)

    def _add_problem(self, path: str, detail: str) -> None:
        with self._guard:
            self._problems.append(Problem(kind="not_fetched", path=path, detail=detail[:500]))

    def _report(self, file: RemoteFile, n_bytes: int) -> None:
        if self.progress is None:
            return
        with self._guard:
            self._done[file.path] = n_bytes
            self.progress(sum(self._done.values()), self._total, file.path)


def _by_any_name(file: RemoteFile, call: Callable[[str], T]) -> T:
    """Try a file under its name, then with or without the dataset's id in it."""
    other = without_uuid(file.source)
    if other == file.source:
        other = with_uuid(file.source, file.dataset_id)
    try:
        return call(file.source)
    except Gone as gone:
        with suppress(Gone):
            return call(other)
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
