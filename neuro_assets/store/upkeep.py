"""Looking after a store: reading everything again (`verify`), and removing garbage (`gc`)."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.errors import explained
from neuro_assets.store.local import TEMPORARY
from neuro_assets.store.model import MANIFEST, FileEntry, Manifest
from neuro_assets.store.reader import StoreReader
from neuro_assets.store.scratch import abandoned_folders

if TYPE_CHECKING:
    from neuro_assets.store.backend import Entry
    from neuro_assets.store.stored import Stored

_PIECE = 4 << 20


@dataclass(frozen=True)
class Defect:
    """Something committed that is not as it was written.

    Parameters
    ----------
    asset, key, version, attempt : str
        Of which output.
    path : str
        The file, relative to the attempt.
    kind : str
        `missing`, `size`, `checksum`, `manifest` or `pointer`.
    detail : str
        One line.
    """

    asset: str
    key: str
    version: str
    attempt: str
    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Garbage:
    """Something that no reader can see or need.

    Parameters
    ----------
    path : str
        Relative to the store; a local folder's full path for scratch.
    kind : str
        `uncommitted` (a broken-off try), `duplicate` (the same version committed twice),
        `temporary` (a file that was being written), `upload` (an unfinished transfer), `scratch`
        (left on this machine by a killed process).
    size_bytes : int
        What it takes.
    n_files : int
        How many files.
    """

    path: str
    kind: str
    size_bytes: int
    n_files: int


def find_defects(
    store: StoreReader,
    asset: str | None,
    key: str | None,
    progress: Callable[[float, str], None] | None,
) -> list[Defect]:
    """Compare every committed file with its manifest; see `Store.verify`.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str or None
        Only these.
    progress : callable or None
        Called with the fraction done and a few words, at least twice a minute.

    Returns
    -------
    list of Defect
        In the order of the store.
    """
    homes = [
        (name, each)
        for name in ([asset] if asset else store.assets())
        for each in ([key] if key else store.keys(name))
    ]
    defects: list[Defect] = []
    tell = _Teller(progress)
    for index, (name, each) in enumerate(homes):
        tell(index / len(homes), f"{name} {each}")
        defects += _defects_of_key(store, name, each, tell, index / len(homes))
    if progress:
        progress(1.0, f"{len(homes)} outputs, {len(defects)} defects")
    return defects


class _Teller:
    """Reports at most once in five seconds, however often it is called."""

    def __init__(self, progress: Callable[[float, str], None] | None) -> None:
        self._progress = progress
        self._last = 0.0

    def __call__(self, fraction: float, words: str) -> None:
        if self._progress and time.monotonic() - self._last > 5:
            self._last = time.monotonic()
            self._progress(fraction, words)


def _defects_of_key(
    store: StoreReader, asset: str, key: str, tell: _Teller, fraction: float
) -> Iterator[Defect]:
    for version in _versions(store, asset, key):
        for attempt in store.attempts(asset, key, version):
            stored = store.stored(asset, key, version, attempt)
            tell(fraction, stored.path)
            try:
                files = stored.manifest.files
            except PermanentFailure as error:
                yield _defect(stored, MANIFEST, "manifest", str(error))
                continue
            sizes = store.backend.entries(stored.files_path)
            for entry in files:
                tell(fraction, f"{stored.path}/{entry.path}")
                yield from _defects_of_file(stored, entry, sizes)
    current = store.current(asset, key)
    if current is not None and not store.backend.entry(f"{current.path}/{MANIFEST}"):
        yield _defect(current, MANIFEST, "pointer", "current.json points at a removed output")


def _defects_of_file(stored: Stored, entry: FileEntry, sizes: dict[str, Entry]) -> Iterator[Defect]:
    found = sizes.get(entry.path)
    if found is None:
        yield _defect(stored, entry.path, "missing", "the file is not in the store")
        return
    if found.size != entry.size:
        detail = f"{found.size} bytes instead of {entry.size}"
        yield _defect(stored, entry.path, "size", detail)
        return
    digest = hashlib.sha256()
    store = stored.store
    with explained(store.url), store.backend.open(f"{stored.files_path}/{entry.path}") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        detail = f"SHA-256 {digest.hexdigest()[:16]}... instead of {entry.sha256[:16]}..."
        yield _defect(stored, entry.path, "checksum", detail)


def _defect(stored: Stored, path: str, kind: str, detail: str) -> Defect:
    return Defect(stored.asset, stored.key, stored.version, stored.attempt, path, kind, detail)


def _versions(store: StoreReader, asset: str, key: str) -> list[str]:
    names = store.backend.names(f"{asset}/{key}")
    return [name for name in names if name != "runs" and not name.endswith(".json")]


@dataclass
class _Folder:
    """An attempt's folder as the listing shows it."""

    size: int = 0
    count: int = 0
    modified: float = 0.0
    committed: bool = False

    def add(self, path: str, entry: Entry) -> None:
        self.size += entry.size
        self.count += 1
        self.modified = max(self.modified, entry.modified)
        self.committed |= path == MANIFEST


def collect_garbage(store: StoreReader, age: timedelta, *, dry_run: bool) -> list[Garbage]:
    """Find, and if asked remove, garbage; see `Store.gc`.

    Parameters
    ----------
    store : StoreReader
        The store.
    age : timedelta
        Younger things are left alone.
    dry_run : bool
        Only list.

    Returns
    -------
    list of Garbage
        What is (or was) there.
    """
    before = time.time() - age.total_seconds()
    folders, temporary = _survey(store, before)
    found = list(temporary)
    duplicates = _duplicates(store, folders)
    for path, folder in sorted(folders.items()):
        if folder.modified >= before:
            continue
        if not folder.committed:
            found.append(Garbage(path, "uncommitted", folder.size, folder.count))
        elif path in duplicates:
            found.append(Garbage(path, "duplicate", folder.size, folder.count))
    if not dry_run:
        for item in found:
            _remove(store, item)
    found += [
        Garbage(path, "upload", 0, 0)
        for path in store.backend.abandoned_uploads(age.total_seconds(), remove=not dry_run)
    ]
    return found + _scratch_garbage(store, before, dry_run=dry_run)


def _survey(store: StoreReader, before: float) -> tuple[dict[str, _Folder], list[Garbage]]:
    """List every attempt's folder, and the old temporary files."""
    folders: dict[str, _Folder] = {}
    temporary: list[Garbage] = []
    for top in store.backend.names(""):
        for path, entry in store.backend.entries(top).items():
            parts = path.split("/")
            if parts[-1].endswith(TEMPORARY) and parts[-1].startswith("."):
                if entry.modified < before:
                    temporary.append(Garbage(f"{top}/{path}", "temporary", entry.size, 1))
            elif len(parts) > 3 and top in store.assets():
                name = "/".join([top, *parts[:3]])
                folders.setdefault(name, _Folder()).add("/".join(parts[3:]), entry)
    for name in _empty_attempts(store, folders, before):
        folders[name] = _Folder()
    return folders, temporary


def _empty_attempts(
    store: StoreReader, folders: dict[str, _Folder], before: float
) -> Iterator[str]:
    """Find folders of attempts that were killed before their first file."""
    root = store.backend.local_root
    if root is None:
        return
    for asset in store.assets():
        for path in root.glob(f"{asset}/*/*/*"):
            name = path.relative_to(root).as_posix()
            if path.is_dir() and name not in folders and path.stat().st_mtime < before:
                yield name


def _duplicates(store: StoreReader, folders: dict[str, _Folder]) -> set[str]:
    """Find committed attempts whose version has a better one, and that nothing refers to."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, folder in folders.items():
        if folder.committed:
            groups[path.rsplit("/", 1)[0]].append(path)
    if all(len(group) < 2 for group in groups.values()):
        return set()
    used = _referenced(store, folders)
    found: set[str] = set()
    for group in groups.values():
        if len(group) > 1:
            redundant = _redundant(store, sorted(group))
            found |= {path for path in redundant if path.rsplit("/", 1)[1] not in used}
    return found


def _redundant(store: StoreReader, group: list[str]) -> list[str]:
    """All complete attempts of a version but the one that `Store.committed` would give."""
    asset, key, version, _ = group[0].split("/")
    kept = store.committed(asset, key, version)
    if kept is None:
        return []
    return [path for path in group if path != kept.path and _is_done(store, path)]


def _is_done(store: StoreReader, path: str) -> bool:
    manifest = _manifest(store, path)
    return manifest is not None and manifest.outcome is not Outcome.FAILED


def _referenced(store: StoreReader, folders: dict[str, _Folder]) -> set[str]:
    """Ids of the attempts that a committed output names as its input, or that count.

    Ids are unique in the whole store, so a table over all keys needs no keys in its inputs.
    """
    used: set[str] = set()
    for path, folder in folders.items():
        asset, key, *_ = path.split("/")
        manifest = _manifest(store, path) if folder.committed else None
        used |= {ref.attempt for ref in manifest.inputs} if manifest else set()
        current = store.current(asset, key)
        if current is not None:
            used.add(current.attempt)
    return used


def _manifest(store: StoreReader, path: str) -> Manifest | None:
    asset, key, version, attempt = path.split("/")
    return store.read_manifest(asset, key, version, attempt)


def _remove(store: StoreReader, item: Garbage) -> None:
    """Remove the manifest first: what is left of a removal that is cut short is invisible."""
    if item.kind == "temporary":
        store.backend.remove(item.path)
        return
    store.backend.remove(f"{item.path}/{MANIFEST}")
    store.backend.remove_tree(item.path)


def _scratch_garbage(store: StoreReader, before: float, *, dry_run: bool) -> list[Garbage]:
    found = []
    for path in abandoned_folders(store.scratch):
        if path.stat().st_mtime >= before:
            continue
        files = [each.stat().st_size for each in path.rglob("*") if each.is_file()]
        found.append(Garbage(str(path), "scratch", sum(files), len(files)))
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True)
    return found
