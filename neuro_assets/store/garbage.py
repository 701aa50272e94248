"""Removing garbage (`gc`): what no reader can see or need."""

from __future__ import annotations

import logging
import math
import re
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.backend import Entry
from neuro_assets.store.local import TEMPORARY
from neuro_assets.store.locks import is_held
from neuro_assets.store.model import CURRENT, MANIFEST, WHOLE_LAB, Manifest
from neuro_assets.store.pointers import is_attempt_id, is_foreign, is_shared, readable_pointer
from neuro_assets.store.reader import RESERVED, StoreReader
from neuro_assets.store.scratch import abandoned_folders
from neuro_assets.store.stored import is_copied
from neuro_assets.store.verify import is_complete, is_readable

log = logging.getLogger(__name__)

_VERSION = re.compile(r"[0-9a-f]+|unresolved")
_TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{12}}{re.escape(TEMPORARY)}")
_RUN_S = 30 * 86_400.0
"""How long what a run made or reused is kept for its later steps and retries."""
_LONGEST_RUN_S = 4 * 86_400.0
"""Age of a try that surely is dead, where no lock tells: a day more than a run may take."""


@dataclass(frozen=True)
class Garbage:
    """Something that no reader can see or need.

    Parameters
    ----------
    path : str
        Relative to the store; a local folder's full path for scratch.
    kind : str
        `uncommitted` (a broken-off try), `duplicate` (the same version committed twice),
        `snapshot` (an old version of a table of the whole lab),
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


@dataclass
class _Folder:
    """An attempt's folder as the listing shows it."""

    size: int = 0
    count: int = 0
    modified: float = 0.0
    committed: bool = False
    holds_others: bool = False

    def add(self, path: str, entry: Entry) -> None:
        self.size += entry.size
        self.count += 1
        self.modified = max(self.modified, entry.modified)
        self.committed |= path == MANIFEST
        self.holds_others |= path.endswith(f"/{MANIFEST}")


def collect_garbage(
    store: StoreReader, age_h: float, *, snapshots_d: float, dry_run: bool
) -> list[Garbage]:
    """Find, and if asked remove, garbage; see `Store.gc`.

    Parameters
    ----------
    store : StoreReader
        The store.
    age_h : float
        Younger things are left alone, hours.
    snapshots_d : float
        Days for which earlier versions of a table of the whole lab are kept.
    dry_run : bool
        Only list.

    Returns
    -------
    list of Garbage
        What is (or was) there.

    Raises
    ------
    PermanentFailure
        When an age is no number of hours or days.
    """
    now = time.time()
    damage = _Damage(store)
    before = now - 3600 * _checked_age(age_h, "hours")
    folders, found = _survey(store, before)
    duplicates = _duplicates(store, folders)
    seen = {path for path, folder in folders.items() if folder.committed}
    snapshots = _snapshots(store, folders, now - 86_400 * _checked_age(snapshots_d, "days"))
    for path, folder in sorted(folders.items()):
        if folder.modified >= before or _is_linked(store, path):
            continue
        kind = "duplicate" if path in duplicates else "snapshot" if path in snapshots else ""
        if not folder.committed and not folder.holds_others and _is_named_by_us(path):
            kind = "" if _is_in_use(store, path, before) else "uncommitted"
        if kind and not damage.concerns(path):
            found.append(Garbage(path, kind, folder.size, folder.count))
    if not dry_run:
        found = [item for item in found if _remove(store, item, before, seen)]
    found += [
        Garbage(path, "upload", 0, 0)
        for path in store.backend.abandoned_uploads(3600 * age_h, remove=not dry_run)
    ]
    return found + _scratch_garbage(store, before, dry_run=dry_run)


def _checked_age(age: float, unit: str) -> float:
    if math.isfinite(age) and age >= 0:
        return age
    raise PermanentFailure(f"{age} is no age: give a number of {unit}, 0 or more")


def _survey(store: StoreReader, before: float) -> tuple[dict[str, _Folder], list[Garbage]]:
    """List every attempt's folder, and the old temporary files."""
    folders: dict[str, _Folder] = {}
    temporary: list[Garbage] = []
    for top in store.backend.names(""):
        if _is_linked(store, top):
            continue
        for path, entry in store.backend.entries(top).items():
            parts = path.split("/")
            if _TEMPORARY.fullmatch(parts[-1]):
                if entry.modified < before:
                    temporary.append(Garbage(f"{top}/{path}", "temporary", entry.size, 1))
            elif len(parts) > 3 and top not in RESERVED:
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
            if name in folders or not _is_named_by_us(name) or _is_linked(store, name):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # a try of another writer, discarded meanwhile
                continue
            if stat.S_ISDIR(status.st_mode) and status.st_mtime < before:
                yield name


def _is_named_by_us(path: str) -> bool:
    """Tell whether a folder is named as an attempt's is; a backup or notes may lie as deep."""
    version, attempt = path.split("/")[2:]
    return _VERSION.fullmatch(version) is not None and is_attempt_id(attempt)


def _is_linked(store: StoreReader, path: str) -> bool:
    """Tell whether any part of a path is a link: what is behind it is not ours to remove."""
    root = store.backend.local_root
    places = [] if root is None else [root / path, *(root / path).parents]
    return any(place.is_symlink() for place in places[: path.count("/") + 1])


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
            unused = {path for path in group if path.rsplit("/", 1)[1] not in used}
            found |= unused.intersection(_redundant(store, sorted(group)) if unused else ())
    return found


def _redundant(store: StoreReader, group: list[str]) -> list[str]:
    """All complete attempts of a version but the one that `Store.committed` would give."""
    asset, key, version, _ = group[0].split("/")
    kept = store.committed(asset, key, version)
    if kept is None or not is_complete(kept):
        return []  # another one of them may be the intact copy: `verify --repair` finds out
    others = (path for path in group if path != kept.path)
    return [path for path in others if _is_done(store, path) and _is_own(store, path)]


def _is_done(store: StoreReader, path: str) -> bool:
    manifest = _manifest(store, path)
    return manifest is not None and manifest.outcome is not Outcome.FAILED


def _is_own(store: StoreReader, path: str) -> bool:
    """Tell whether a manifest was committed where it lies; a copy is somebody's."""
    manifest = _manifest(store, path)
    return manifest is not None and not is_copied(manifest, *path.split("/"))


def _referenced(store: StoreReader, folders: dict[str, _Folder]) -> set[str]:
    """Ids of the attempts that a committed output names as its input, or that count.

    Ids are unique in the whole store, so a table over all keys needs no keys in its inputs.
    """
    used: set[str] = set()
    for path, folder in folders.items():
        try:
            manifest = _manifest(store, path) if folder.committed else None
        except PermanentFailure as error:  # it may have been made from any of them
            log.warning("gc removes no committed attempt: %s", error)
            return {each.rpartition("/")[2] for each in folders}
        if manifest is not None:
            used |= {ref.attempt for ref in manifest.inputs}
            used.add(manifest.stored_in.rpartition("/")[2])
    # A recording may have no folder here: what is made once a session stands under another key.
    return used.union(
        *(_pointed_at(store, asset, key) for asset in store.assets() for key in store.keys(asset))
    )


def _pointed_at(store: StoreReader, asset: str, key: str) -> set[str]:
    """Ids of the attempts that count for a key, or that a run of the last weeks uses."""
    runs = store.backend.entries(f"{asset}/{key}/runs")
    after = time.time() - _RUN_S
    names = [f"runs/{name}" for name, entry in runs.items() if entry.modified >= after]
    names = [name for name in names if name.endswith(".json")]
    pointers = (readable_pointer(store, f"{asset}/{key}/{name}") for name in [CURRENT, *names])
    return {pointer.attempt for pointer in pointers if pointer is not None}


class _Damage:
    """Outputs of which a pointer is damaged: whatever they hold may be what it pointed at."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store
        self._known: dict[tuple[str, str], bool] = {}

    def concerns(self, path: str) -> bool:
        """Tell whether an attempt's folder belongs to such an output."""
        asset, key = path.split("/")[:2]
        keys = self._store.keys(asset) if is_shared(self._store, asset, key) else [key]
        return any(self._is_damaged(asset, each) for each in keys)

    def _is_damaged(self, asset: str, key: str) -> bool:
        if (asset, key) not in self._known:
            runs = (f"runs/{name}" for name in self._store.backend.names(f"{asset}/{key}/runs"))
            pointers = [CURRENT, *(name for name in runs if name.endswith(".json"))]
            damaged = [name for name in pointers if not self._is_sound(asset, key, name)]
            self._known[asset, key] = bool(damaged)
            for name in damaged:
                log.warning(
                    "%s/%s/%s is damaged: gc keeps all of this output until `neuro-assets verify "
                    "--repair` was run", asset, key, name,
                )  # fmt: skip
        return self._known[asset, key]

    def _is_sound(self, asset: str, key: str, name: str) -> bool:
        path = f"{asset}/{key}/{name}"
        if not is_readable(self._store, path):
            return False
        return not is_foreign(self._store, asset, key, readable_pointer(self._store, path))


def _is_used(store: StoreReader, path: str, seen: set[str]) -> bool:
    """Tell whether something refers by now to what nothing referred to at the survey."""
    asset, key, _, attempt = path.split("/")
    # What is made once a session counts for, and is read by, its recordings.
    if _Damage(store).concerns(path):
        return True
    of_session = readable_pointer(store, f"{asset}/{key}/{CURRENT}") is None
    for name in store.assets():
        keys = store.keys(name) if of_session else [key, WHOLE_LAB]
        for each in keys:
            if name == asset and attempt in _pointed_at(store, name, each):
                return True
            if _is_cited(store, f"{name}/{each}", attempt, seen):
                return True
    return False


def _is_cited(store: StoreReader, folder: str, attempt: str, seen: set[str]) -> bool:
    manifests = (
        _manifest(store, path)
        for version in store.versions(*folder.split("/"))
        for name in store.backend.names(f"{folder}/{version}")
        if (path := f"{folder}/{version}/{name}") not in seen
    )
    return any(ref.attempt == attempt for found in manifests if found for ref in found.inputs)


def _is_in_use(store: StoreReader, path: str, before: float) -> bool:
    """Tell whether a try lives: its process holds its folder, or by its name it is young."""
    root = store.backend.local_root
    held = is_held(root / path) if root is not None else False
    if held:
        return True
    if held is None:
        before = min(before, time.time() - _LONGEST_RUN_S)
    begun = path.rpartition("/")[2].partition("-")[0]
    try:
        when = datetime.strptime(begun, "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:  # nothing that we named
        return False
    return when.timestamp() >= before


def _manifest(store: StoreReader, path: str) -> Manifest | None:
    asset, key, version, attempt = path.split("/")
    return store.read_manifest(asset, key, version, attempt)


def _snapshots(store: StoreReader, folders: dict[str, _Folder], before: float) -> set[str]:
    """Find old versions of tables of the whole lab; each refresh makes one."""
    old = {
        path
        for path, folder in folders.items()
        if folder.committed and folder.modified < before and path.split("/")[1] == WHOLE_LAB
    }
    if not old:
        return set()
    used = _referenced(store, folders)
    unused = {path for path in old if path.rsplit("/", 1)[1] not in used}
    for asset in {path.split("/")[0] for path in unused}:
        if readable_pointer(store, f"{asset}/{WHOLE_LAB}/{CURRENT}") is None:
            unused.discard(_newest(store, asset, folders))
    return {path for path in unused if _is_own(store, path)}


def _newest(store: StoreReader, asset: str, folders: dict[str, _Folder]) -> str:
    """Find the attempt that `verify --repair` may let count where the pointer is lost."""
    ours = (path for path in folders if path.startswith(f"{asset}/{WHOLE_LAB}/"))
    done = (path for path in ours if _is_done(store, path) and _is_own(store, path))
    return max(done, key=lambda path: path.rsplit("/", 1)[1], default="")


def _remove(store: StoreReader, item: Garbage, before: float, seen: set[str]) -> bool:
    """Remove what is still garbage now; manifest first, so that half a removal is invisible."""
    if _is_linked(store, item.path):
        return False
    if item.kind == "temporary":
        store.backend.remove(item.path)
        return True
    asset, key, _, _ = item.path.split("/")
    with store.backend.lock(f"{asset}/{key}"):
        entries = store.backend.entries(item.path)
        if any(entry.modified >= before for entry in entries.values()):
            return False
        if item.kind == "uncommitted":
            if any(f"/{name}".endswith(f"/{MANIFEST}") for name in entries):
                return False
            if _is_in_use(store, item.path, before):
                return False
        elif _is_used(store, item.path, seen):
            return False
        store.backend.remove(f"{item.path}/{MANIFEST}")
        store.backend.remove_tree(item.path)
    return True


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
