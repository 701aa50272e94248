"""Which raw files may be deleted: those whose every sample is in the store, checked again now.

Deleting is a command of its own, off unless a lab turns it on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from neuro_assets.formats.model import RawFiles
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import RecordingRecord, Registry
from neuro_assets.store import Store, Stored
from neuro_assets.store.model import checked_name

COMPRESSED_RECORDING = "compressed_recording"
HOLD_MORE = ("nwb", "reader")
"""Formats whose files may hold other things than the samples of one recording."""

_FOLDER = "registry/raw_deletion"
"""What is being deleted, by key; a file stays there only where the deletion was cut."""

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class RawFile:
    """A raw file as it was before it was compared.

    Parameters
    ----------
    path : Path
        The file itself, no link on the way below the source's folder.
    stamp : tuple of int
        Device, inode, size and time of the last change.
    attempt : str
        The stored copy that it was compared with.
    """

    path: Path
    stamp: _Stamp
    attempt: str = ""


def deletable_files(
    store: Store, registry: Registry, key: str, roots: Mapping[str, str]
) -> list[RawFile]:
    """Compare the stored copy with the raw files, sample by sample, and list those files.

    Of a deletion that was cut, the rest is listed: files that are as they were when they were
    compared, with a copy that is still the same and intact.

    Parameters
    ----------
    store : Store
        The lab's store.
    registry : Registry
        The lab's registry.
    key : str
        The recording.
    roots : mapping of str to str
        As in `LabConfig.roots`: where the raw data of this lab are.

    Returns
    -------
    list of RawFile
        Data files; metadata files are never among them.

    Raises
    ------
    PermanentFailure
        When the recording is unknown or of another place than this lab's sources, a file is
        reached through a link, this or another recording that needs a file has no complete copy
        of the raw data as they are now, a stored file is not as it was committed, or a sample
        differs.
    """
    record = registry.get(key)
    if record is None:
        raise PermanentFailure(f"{key} is not in the registry; `neuro-assets status` lists what is")
    rest = _rest_of_cut_deletion(store, key)
    if rest is not None:
        _check_rest(store, registry, record, rest, roots)
        return rest
    paths = _data_files(record, roots)
    if gone := [path for path in paths if not os.path.lexists(path)]:
        raise PermanentFailure(
            f"{gone[0]} is not there (any more), and no note says that its deletion was cut, so "
            f"what is left cannot be compared: copy it back, or see that `neuro-assets verify` "
            f"finds nothing wrong with {key} and remove the rest by hand"
        )
    files = {path: RawFile(path, _stamp(path)) for path in paths}
    for path in files:
        _refuse_links(path, Path(roots[record.session.root]))
    others = _sharing(registry, record, {each.stamp[:2] for each in files.values()}, roots)
    attempt, safe = _compared(store, record, roots)
    for other in others:
        try:
            _compared(store, other, roots)
        except PermanentFailure as error:
            raise PermanentFailure(
                f"{other.key} needs files of {key} too, and they would be lost for it: {error}"
            ) from error
    return [replace(files[path], attempt=attempt) for path in safe]


def delete_files(store: Store, key: str, files: list[RawFile]) -> None:
    """Delete raw files, if none changed since it was compared; cut, it can be called again.

    Parameters
    ----------
    store : Store
        The lab's store.
    key : str
        The recording.
    files : list of RawFile
        From `deletable_files`.

    Raises
    ------
    PermanentFailure
        When one is another file now: then none is deleted.
    """
    for file in files:
        if _stamp(file.path) != file.stamp:
            raise PermanentFailure(
                f"{file.path} changed while it was compared; nothing was deleted: try again"
            )
    path = f"{_FOLDER}/{checked_name(key, 'key')}.json"
    rows = [{**asdict(f), "path": str(f.path), "stamp": list(f.stamp)} for f in files]
    noted = (store.read_json(path) or {}).get("files", [])
    if not all(row in noted for row in rows):  # else it is cut already, and may be cut again
        store.write_json_atomic(path, {"files": rows})
    for file in files:
        file.path.unlink(missing_ok=True)
    store.backend.remove(path)


def copy_note(store: Store, old: str, new: str) -> None:
    """Let a deletion that was cut be finished under another key of the recording.

    Parameters
    ----------
    store : Store
        The lab's store.
    old, new : str
        Keys.
    """
    if (noted := store.read_json(f"{_FOLDER}/{old}.json")) is not None:
        store.write_json_atomic(f"{_FOLDER}/{checked_name(new, 'key')}.json", noted)


def remove_note(store: Store, key: str) -> None:
    """Remove the note of a key that its recording has no more.

    Parameters
    ----------
    store : Store
        The lab's store.
    key : str
        After `copy_note`.
    """
    store.backend.remove(f"{_FOLDER}/{key}.json")


def _rest_of_cut_deletion(store: Store, key: str) -> list[RawFile] | None:
    """Find what is left to delete; None where nothing was cut, or a file left is another now."""
    noted = store.read_json(f"{_FOLDER}/{key}.json")
    if noted is None:
        return None
    files = [RawFile(Path(row["path"]), (*row["stamp"],), row["attempt"]) for row in noted["files"]]
    rest = [file for file in files if os.path.lexists(file.path)]
    is_cut = 0 < len(rest) < len(files) and all(_stamp(file.path) == file.stamp for file in rest)
    return rest if is_cut else None


def _check_rest(
    store: Store,
    registry: Registry,
    record: RecordingRecord,
    rest: list[RawFile],
    roots: Mapping[str, str],
) -> None:
    """Refuse to go on with a deletion where what made it safe is so no more."""
    _folder(record, roots)
    for file in rest:
        _refuse_links(file.path, Path(roots[record.session.root]))
    if others := _sharing(registry, record, {file.stamp[:2] for file in rest}, roots):
        raise PermanentFailure(
            f"the deletion of {record.key} was cut, and {others[0].key} needs a file that is left, "
            f"which cannot be compared alone: {rest[0].path}"
        )
    if {file.attempt for file in rest} - {_intact_copy(store, record.key).attempt}:
        raise PermanentFailure(
            f"the deletion of {record.key} was cut, and another copy counts now than the one that "
            f"was compared: {rest[0].path} stays"
        )


def _intact_copy(store: Store, key: str) -> Stored:
    stored = store.current(COMPRESSED_RECORDING, key)
    if stored is None or stored.outcome is not Outcome.COMPLETE:
        raise PermanentFailure(f"{key} has no complete {COMPRESSED_RECORDING}; make it first")
    if defects := store.verify(COMPRESSED_RECORDING, key):
        raise PermanentFailure(f"the stored copy of {key} is damaged: {defects[0]}")
    return stored


def _compared(
    store: Store, record: RecordingRecord, roots: Mapping[str, str]
) -> tuple[str, list[Path]]:
    """Compare a recording with its copy; the attempt, and the data files that it can replace."""
    from neuro_assets.formats.opening import open_raw
    from neuro_assets.formats.raw_versions import raw_version
    from neuro_assets.science.compression.verify import (
        is_nothing_but_samples,
        raw_files_safe_to_delete,
    )

    folder = _folder(record, roots)
    stored = _intact_copy(store, record.key)
    used = {ref.asset: ref.version for ref in stored.manifest.inputs}.get("raw_recording")
    now = {raw_version(record.raw, folder, use_file_hash=by_hash) for by_hash in (False, True)}
    if record.version_alias in now:
        now.add(record.raw_version)
    if used not in now:
        raise PermanentFailure(
            f"the raw data of {record.key} changed after they were compressed; run it again first"
        )
    streams = open_raw(record.raw, folder)
    files = {name: [folder / file for file in record.raw.streams[name].files] for name in streams}
    safe = raw_files_safe_to_delete(stored.local(), streams, files)
    if record.raw.format not in HOLD_MORE:
        return stored.attempt, safe
    alone = [
        path
        for name, stream in streams.items()
        for path in files[name]
        if is_nothing_but_samples(path, stored.local(), name, stream)
    ]
    if not alone:
        raise PermanentFailure(
            f"no file of {record.key} holds its samples and nothing else: what is beside them "
            "(a header, other signals) is not in the store, so nothing can be deleted"
        )
    return stored.attempt, alone


def _folder(record: RecordingRecord, roots: Mapping[str, str]) -> Path:
    """Where a session is for this lab: a copied store does not know the original's folders."""
    if not record.session.root:
        raise PermanentFailure(
            f"{record.session.path} is below no source of lab.yaml, so nobody can tell whether its "
            "files are this store's to delete; add it under `sources` and let it be found there"
        )
    return record.session.folder(roots)


def _data_files(record: RecordingRecord, roots: Mapping[str, str]) -> list[Path]:
    folder = _folder(record, roots)
    return [folder / file for stream in record.raw.streams.values() for file in stream.files]


def _sharing(
    registry: Registry,
    record: RecordingRecord,
    wanted: set[tuple[int, ...]],
    roots: Mapping[str, str],
) -> list[RecordingRecord]:
    """Find the other recordings that read one of the files, under whatever name."""
    found = []
    records = registry.all()
    if registry.damaged:
        raise PermanentFailure(
            f"the records of {', '.join(registry.damaged)} cannot be read, so nobody can tell "
            "whether they need the files: mend them first (neuro-assets verify)"
        )
    for other in records.values():
        folder = other.session.folder(roots)
        for name, data in other.modalities.items():
            if isinstance(data.item, RawFiles) and _any_of(folder, data.item.files, wanted):
                raise PermanentFailure(f"{other.key} reads one of the files as {name}, from there")
        streams = other.recording.streams.values() if other.recording else ()
        names = [file for stream in streams for file in stream.files]
        if other.key != record.key and _any_of(folder, names, wanted):
            found.append(other)
    return found


def _any_of(folder: Path, names: Iterable[str], wanted: set[tuple[int, ...]]) -> bool:
    """Whether one of the names is one of the files, by device and inode."""
    paths = (folder / name for name in names)
    return any(_stamp(path)[:2] in wanted for path in paths if path.exists())


def _refuse_links(path: Path, root: Path) -> None:
    """Refuse what is reached through a link: it is kept elsewhere, perhaps for others."""
    steps = [path, *path.parents]
    below = steps[: steps.index(root)] if root in steps else None
    if below is None or any(step.is_symlink() for step in below) or ".." in path.parts:
        raise PermanentFailure(
            f"{path} is a link, or below one, or outside {root}: no link is followed for deleting"
        )


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise PermanentFailure(f"{path} is not there (any more)") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
