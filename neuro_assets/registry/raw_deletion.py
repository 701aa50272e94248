"""Which raw files may be deleted: those whose every sample is in the store, checked again now.

Nothing here deletes; that is a command of its own, off unless a lab turns it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.registry.registry import Registry
from neuro_assets.store import Store

COMPRESSED_RECORDING = "compressed_recording"


def deletable_files(
    store: Store, registry: Registry, key: str, roots: Mapping[str, str]
) -> list[Path]:
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
    list of Path
        Data files; metadata files are never among them.

    Raises
    ------
    PermanentFailure
        When the recording is unknown, has no complete copy of the raw data as they are now, a
        stored file is not as it was committed, or a sample differs.
    """
    from neuro_assets.formats.opening import open_raw
    from neuro_assets.formats.versions import raw_version
    from neuro_assets.science.compression import raw_files_safe_to_delete

    record = registry.get(key)
    if record is None:
        raise PermanentFailure(f"{key} is not in the registry; `neuro-assets status` lists what is")
    if not record.session.root:
        raise PermanentFailure(
            f"{record.session.path} is below no source of lab.yaml, so nobody can tell whether its "
            "files are this store's to delete; add it under `sources` and let it be found there"
        )
    folder = record.session.folder(roots)
    stored = store.current(COMPRESSED_RECORDING, key)
    if stored is None or stored.outcome is not Outcome.COMPLETE:
        raise PermanentFailure(f"{key} has no complete {COMPRESSED_RECORDING}; make it first")
    used = {ref.asset: ref.version for ref in stored.manifest.inputs}.get("raw_recording")
    if used not in {
        raw_version(record.raw, folder),
        raw_version(record.raw, folder, use_file_hash=True),
    }:
        raise PermanentFailure(
            f"the raw data of {key} changed after they were compressed; run it again first"
        )
    if defects := store.verify(COMPRESSED_RECORDING, key):
        raise PermanentFailure(f"the stored copy of {key} is damaged: {defects[0]}")
    streams = open_raw(record.raw, folder)
    files = {name: [folder / file for file in record.raw.streams[name].files] for name in streams}
    return raw_files_safe_to_delete(stored.local(), streams, files)
