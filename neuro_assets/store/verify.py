"""Reading everything again: what is stored is compared with what was committed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from neuro_assets.config.base import nearest
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.backend import Entry
from neuro_assets.store.errors import NotAFileError, explained
from neuro_assets.store.json_values import parsed
from neuro_assets.store.judgement import JUDGEMENT
from neuro_assets.store.local import TEMPORARY
from neuro_assets.store.model import (
    CURRENT,
    FAILURE,
    MANIFEST,
    RENAMED,
    FileEntry,
    InputRef,
    Manifest,
    Pointer,
    is_safe_name,
    is_sealed,
)
from neuro_assets.store.pointers import is_shared, readable_pointer
from neuro_assets.store.reader import RESERVED, StoreReader
from neuro_assets.store.renamed_keys import home_of, left_out
from neuro_assets.store.stored import Stored, is_copied

_OF_A_KEY = {"runs", CURRENT, FAILURE, JUDGEMENT, RENAMED}
_PIECE = 4 << 20
_REPORT_S = 5.0

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Defect:
    """Something committed that is not as it was written.

    Parameters
    ----------
    asset, key, version, attempt : str
        Of which output; a file of the registry has the asset `registry` only.
    path : str
        The file, relative to the attempt, or to the key for a pointer.
    kind : str
        `missing`, `size`, `checksum`, `extra` (nobody committed it), `manifest`, `pointer` (also
        another small file of a key), `input` (what it was made from is gone), `copy` (of another
        output), `unreadable` or `registry`.
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


def find_defects(
    store: StoreReader, asset: str | None, key: str | None, progress: Progress | None
) -> list[Defect]:
    """Compare every committed file with its manifest; see `Store.verify`.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str or None
        Only these; the registry is read where both are None.
    progress : callable or None
        Called with the fraction done and a few words, at least twice a minute.

    Returns
    -------
    list of Defect
        In the order of the store.

    Raises
    ------
    PermanentFailure
        When the store has nothing of that name.
    """
    homes = _homes(store, asset, key)
    defects: list[Defect] = []
    report = _Reporter(progress)
    noted = {home for home in homes if store.backend.entry("/".join([*home, RENAMED])) is not None}
    renamed = {each: name for name, each in noted}
    for index, (name, each) in enumerate(homes):
        report.fraction = index / len(homes)
        report(f"{name} {each}")
        defects += _defects_of_key(store, name, each, report)
        if each in renamed:
            source = name if (name, each) in noted else renamed[each]
            found = _defects_of_name(store, name, each, source)
            defects += _contained(store, (name, each, "", ""), RENAMED, found)
    for name in sorted({name for name, _ in homes} if key is None else ()):
        defects += _odd_entries(store, (name, "", "", ""))
    if asset is None and key is None:
        defects += _odd_entries(store, ("", "", "", ""), RESERVED)
        defects += _defects_of_registry(store)
    if progress:
        progress(1.0, f"{len(homes)} outputs, {len(defects)} defects")
    return defects


def is_outdated(store: StoreReader, asset: str, key: str, pointer: Pointer) -> bool:
    """Tell whether a pointer's digest is not that of what it points at.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        Whose pointer.
    pointer : Pointer
        As read.

    Returns
    -------
    bool
        False where that has no manifest that can be read.
    """
    place = (asset, pointer.key or key, pointer.version, pointer.attempt)
    try:
        manifest = store.read_manifest(*place)
    except PermanentFailure:
        return False
    return manifest is not None and manifest.digest != pointer.digest


def _homes(store: StoreReader, asset: str | None, key: str | None) -> list[tuple[str, str]]:
    """Which outputs are read; a name that the store does not have is a mistake."""
    assets = store.assets()
    if asset is not None and asset not in assets:
        raise PermanentFailure(f"the store has nothing of {asset!r}{nearest(asset, assets)}")
    every = [(name, each) for name in ([asset] if asset else assets) for each in store.keys(name)]
    homes = [home for home in every if key in (None, home[1])]
    if key is not None:  # what counts for a key may stand under another
        pointers = (readable_pointer(store, f"{name}/{key}/{CURRENT}") for name in assets)
        first = {pointer.key for pointer in pointers if pointer and pointer.key}
        homes += [home for home in every if home[1] in first]
    if key is not None and not homes:
        keys = {each for _, each in every}
        raise PermanentFailure(f"the store has nothing of {key!r}{nearest(key, keys)}")
    return homes


class _Reporter:
    """Reports at most once in five seconds, however often it is called."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._last = 0.0
        self.fraction = 0.0

    def __call__(self, message: str) -> None:
        if self._progress and time.monotonic() - self._last > _REPORT_S:
            self._last = time.monotonic()
            self._progress(self.fraction, message)


def is_readable(store: StoreReader, path: str) -> bool:
    """Tell whether a small file of a key is as the store writes it.

    Parameters
    ----------
    store : StoreReader
        The store.
    path : str
        Of a pointer or a judgement, relative to the store.

    Returns
    -------
    bool
        True also where there is none.
    """
    try:
        if path.endswith((f"/{JUDGEMENT}", f"/{RENAMED}")):
            return isinstance(parsed(store.backend.read(path)), dict)
        Pointer.model_validate_json(store.backend.read(path))
    except FileNotFoundError:
        return True
    except (ValueError, NotAFileError):
        return False
    return True


def attempts_of(store: StoreReader, asset: str, key: str, only: str = "") -> Iterator[Stored]:
    """Give the attempts of an output, committed or not.

    Parameters
    ----------
    store : StoreReader
        The store.
    asset, key : str
        Which output.
    only : str
        Of this version; of all where empty.

    Yields
    ------
    Stored
        By version, then by attempt.
    """
    for version in [only] if only else store.versions(asset, key):
        for attempt in store.attempts(asset, key, version):
            yield store.stored(asset, key, version, attempt)


def _defects_of_key(
    store: StoreReader, asset: str, key: str, report: _Reporter
) -> Iterator[Defect]:
    yield from _odd_entries(store, (asset, key, "", ""), _OF_A_KEY)
    for version in store.versions(asset, key):
        yield from _odd_entries(store, (asset, key, version, ""))
    for stored in attempts_of(store, asset, key):
        report(stored.path)
        where = (asset, key, stored.version, stored.attempt)
        yield from _contained(store, where, MANIFEST, _defects_of_attempt(store, stored, report))
    for name in (CURRENT, FAILURE):
        found = _defects_of_pointer(store, asset, key, name)
        yield from _contained(store, (asset, key, "", ""), name, found)
    runs = store.backend.names(f"{asset}/{key}/runs")
    for name in [JUDGEMENT, *(f"runs/{run}" for run in runs if run.endswith(".json"))]:
        found = _defects_of_reading(store, asset, key, name)
        yield from _contained(store, (asset, key, "", ""), name, found)


def _defects_of_name(store: StoreReader, asset: str, key: str, source: str) -> Iterator[Defect]:
    for where, path, detail in left_out(store, asset, key, source):
        yield Defect(asset, where, "", "", path, "pointer", detail)


def _contained(
    store: StoreReader, where: tuple[str, str, str, str], path: str, found: Iterable[Defect]
) -> Iterator[Defect]:
    """Go on behind one entry that cannot be read, unless the whole store is gone."""
    try:
        yield from found
    except (PermanentFailure, OSError, ValueError) as error:
        store.backend.require()
        detail = str(error) or type(error).__name__
        yield Defect(*where, path, "unreadable", detail.partition("\n")[0])


def _odd_entries(
    store: StoreReader, where: tuple[str, str, str, str], own: Iterable[str] = ()
) -> Iterator[Defect]:
    """Find what the store never makes in one of its folders: files, and names that it refuses."""
    folder = "/".join(filter(None, where))
    root = store.backend.local_root
    for name in store.backend.names(folder):
        path = f"{folder}/{name}" if folder else name
        is_folder = root is None or (root / path).is_dir()
        if name not in own and not (is_folder and is_safe_name(name)):
            shown = path.encode("utf-8", "backslashreplace").decode()
            yield Defect(*where, shown, "extra", "nothing of the store's: move it away")


def _defects_of_attempt(store: StoreReader, stored: Stored, report: _Reporter) -> Iterator[Defect]:
    try:
        content = parsed(store.backend.read(f"{stored.path}/{MANIFEST}"))
        manifest = Manifest.model_validate(content)
    except (ValueError, FileNotFoundError, NotAFileError) as error:
        yield _defect(stored, MANIFEST, "manifest", f"cannot be read: {type(error).__name__}")
        return
    if is_copied(manifest, *stored.path.split("/")):
        origin = f"{manifest.asset}/{manifest.key}/{manifest.version}/{manifest.attempt}"
        detail = f"is a copy of {origin}, or that was renamed: move it away"
        yield _defect(stored, MANIFEST, "copy", detail)
        return
    if not is_sealed(content):
        yield _defect(stored, MANIFEST, "manifest", "is not as it was written")
    sizes = store.backend.entries(manifest.stored_in or stored.path)
    for entry in manifest.files:
        report(f"{stored.path}/{entry.path}")
        yield from _defects_of_file(stored, entry, sizes.pop(entry.path, None))
    sizes.pop(MANIFEST, None)
    for name in sizes:
        if not name.endswith(TEMPORARY):
            yield _defect(stored, name, "extra", "nobody committed this file")
    for ref in manifest.inputs:
        yield from _defects_of_input(store, stored, ref)


def _defects_of_file(stored: Stored, entry: FileEntry, found: Entry | None) -> Iterator[Defect]:
    if found is None:
        yield _defect(stored, entry.path, "missing", "the file is not in the store")
        return
    if found.size != entry.size:
        yield _defect(stored, entry.path, "size", f"{found.size} bytes instead of {entry.size}")
        return
    digest = hashlib.sha256()
    store = stored.store
    with explained(store.url), store.backend.open(f"{stored.files_path}/{entry.path}") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        detail = f"SHA-256 {digest.hexdigest()[:16]}... instead of {entry.sha256[:16]}..."
        yield _defect(stored, entry.path, "checksum", detail)


def _defects_of_input(store: StoreReader, stored: Stored, ref: InputRef) -> Iterator[Defect]:
    """Whether what an output was made from is still there; raw data have no attempt."""
    asset, _, key = ref.asset.partition(":")
    key = key or stored.key
    place = f"{ref.version}/{ref.attempt}/{MANIFEST}"
    own = (f"{asset}/{each}/{place}" for each in dict.fromkeys([key, home_of(store, asset, key)]))
    if not ref.attempt or any(store.backend.entry(path) is not None for path in own):
        return
    for each in store.keys(asset):
        found = store.backend.entry(f"{asset}/{each}/{place}") is not None
        if found and is_shared(store, asset, each):
            return
    path = f"{asset}/{key}/{ref.version}/{ref.attempt}"
    yield _defect(stored, MANIFEST, "input", f"was made from {path}, which is gone")


def _defects_of_pointer(store: StoreReader, asset: str, key: str, name: str) -> Iterator[Defect]:
    path = f"{asset}/{key}/{name}"
    try:
        pointer = Pointer.model_validate_json(store.backend.read(path))
    except FileNotFoundError:
        if name == CURRENT and _has_output(store, asset, key):
            yield Defect(asset, key, "", "", name, "pointer", "is gone: nothing counts")
        return
    except (ValidationError, NotAFileError):
        yield Defect(asset, key, "", "", name, "pointer", "cannot be read")
        return
    if pointer.owner not in ("", f"{asset}/{key}"):
        kind = "pointer" if name == CURRENT and _has_output(store, asset, key) else "copy"
        yield Defect(asset, key, "", "", name, kind, f"is a copy of {pointer.owner}'s")
        return
    target = f"{asset}/{pointer.key or key}/{pointer.version}/{pointer.attempt}"
    if is_outdated(store, asset, key, pointer):
        yield Defect(asset, key, "", "", name, "pointer", "its digest is not the output's")
    if store.backend.entry(f"{target}/{MANIFEST}") is None:
        where = (asset, key, pointer.version, pointer.attempt)
        yield Defect(*where, name, "pointer", "points at a removed output")


def _has_output(store: StoreReader, asset: str, key: str) -> bool:
    """Tell whether something may count here; outputs of a session count elsewhere."""
    if is_shared(store, asset, key):
        return False
    return any(stored.is_intact() for stored in attempts_of(store, asset, key))


def _defects_of_reading(store: StoreReader, asset: str, key: str, name: str) -> Iterator[Defect]:
    if not is_readable(store, f"{asset}/{key}/{name}"):
        yield Defect(asset, key, "", "", name, "pointer", "cannot be read")


def _defects_of_registry(store: StoreReader) -> Iterator[Defect]:
    places, root = set(store.backend.entries("registry")), store.backend.local_root
    if root is not None:  # folders in the place of files too
        top = root / "registry"
        places |= {path.relative_to(top).as_posix() for path in top.rglob("*.json")}
    for name in sorted(places):
        if name.endswith(".json"):
            try:
                parsed(store.backend.read(f"registry/{name}"))
            except (ValueError, FileNotFoundError, NotAFileError):
                key = name.rpartition("/")[2].removesuffix(".json")
                yield Defect("registry", key, "", "", name, "registry", "is not JSON")


def _defect(stored: Stored, path: str, kind: str, detail: str) -> Defect:
    return Defect(stored.asset, stored.key, stored.version, stored.attempt, path, kind, detail)


def is_complete(stored: Stored) -> bool:
    """Tell whether an output is committed with every byte of its files.

    Parameters
    ----------
    stored : Stored
        Any attempt.

    Returns
    -------
    bool
        False for a failure.
    """
    if not stored.is_intact() or stored.outcome is Outcome.FAILED:
        return False
    sizes = stored.store.backend.entries(stored.files_path)
    files = stored.manifest.files
    return not any(defect for f in files for defect in _defects_of_file(stored, f, sizes[f.path]))
