"""Which raw files may be deleted: those whose every sample is in the store, checked again now.

Deleting is a command of its own, off unless a lab turns it on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuro_assets.formats.modalities import RawFiles
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import RecordingRecord, Registry
from neuro_assets.store import Store

COMPRESSED_RECORDING = "compressed_recording"
HOLD_MORE = ("nwb", "reader")
"""Formats whose files may hold other things than the samples of one recording."""

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
    """

    path: Path
    stamp: _Stamp


def deletable_files(
    store: Store, registry: Registry, key: str, roots: Mapping[str, str]
) -> list[RawFile]:
    """Compare the stored copy with the raw files, sample by sample, and list those files.

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
    files = {path: RawFile(path, _stamp(path)) for path in _data_files(record, roots)}
    for path in files:
        _refuse_links(path, Path(roots[record.session.root]))
    others = _sharing(registry, record, {each.stamp[:2] for each in files.values()}, roots)
    safe = _compared(store, record, roots)
    for other in others:
        try:
            _compared(store, other, roots)
        except PermanentFailure as error:
            raise PermanentFailure(
                f"{other.key} needs files of {key} too, and they would be lost for it: {error}"
            ) from error
    return [files[path] for path in safe]


def delete_files(files: list[RawFile]) -> None:
    """Delete raw files, if none changed since it was compared.

    Parameters
    ----------
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
    for file in files:
        file.path.unlink()


def _compared(store: Store, record: RecordingRecord, roots: Mapping[str, str]) -> list[Path]:
    """Compare a recording with its copy; its data files, all of which the copy can replace."""
    from neuro_assets.formats.opening import open_raw
    from neuro_assets.formats.raw_versions import raw_version
    from neuro_assets.science.compression.verify import (
        is_nothing_but_samples,
        raw_files_safe_to_delete,
    )

    folder = _folder(record, roots)
    stored = store.current(COMPRESSED_RECORDING, record.key)
    if stored is None or stored.outcome is not Outcome.COMPLETE:
        raise PermanentFailure(
            f"{record.key} has no complete {COMPRESSED_RECORDING}; make it first"
        )
    used = {ref.asset: ref.version for ref in stored.manifest.inputs}.get("raw_recording")
    if used not in {
        raw_version(record.raw, folder),
        raw_version(record.raw, folder, use_file_hash=True),
    }:
        raise PermanentFailure(
            f"the raw data of {record.key} changed after they were compressed; run it again first"
        )
    if defects := store.verify(COMPRESSED_RECORDING, record.key):
        raise PermanentFailure(f"the stored copy of {record.key} is damaged: {defects[0]}")
    streams = open_raw(record.raw, folder)
    files = {name: [folder / file for file in record.raw.streams[name].files] for name in streams}
    safe = raw_files_safe_to_delete(stored.local(), streams, files)
    if record.raw.format not in HOLD_MORE:
        return safe
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
    return alone


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
