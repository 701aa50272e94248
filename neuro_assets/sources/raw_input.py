"""The external assets: raw data and what a database says of them, as handles for the steps.

One entry for each raw modality and one for the metadata; IO managers, events, `status` and the
definitions read the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_assets.formats.modalities import MODALITIES, RECORDING, Item, Modality
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.metadata import RecordingMetadata, RemoteFile
from neuro_assets.registry.records import RecordingRecord

RECORDING_METADATA = "recording_metadata"


@dataclass(frozen=True)
class External:
    """An asset that is reported by the sensors and never made.

    Parameters
    ----------
    asset, description, kinds
        As Dagster shows them.
    modality : Modality or None
        None for what the database says.
    """

    asset: str
    description: str
    kinds: frozenset[str]
    modality: Modality | None = None

    def version(self, record: RecordingRecord) -> str:
        """Give the data version for a recording.

        Parameters
        ----------
        record : RecordingRecord
            Of the registry.

        Returns
        -------
        str
            Empty where there is nothing.
        """
        if self.modality is None:
            return record.metadata.version if record.metadata else ""
        data = record.raw_data(self.modality.name)
        return data.version if data is not None else ""

    def is_expected(self, record: RecordingRecord) -> bool:
        """Tell whether there is, or will be, something to read."""
        if self.modality is None or self.modality.name == RECORDING or record.reason:
            return True
        return self.modality.name in record.modalities

    def why_missing(self, record: RecordingRecord | None) -> str:
        """Say why there is nothing to read.

        Parameters
        ----------
        record : RecordingRecord or None
            Of the registry.

        Returns
        -------
        str
            One line; empty where there is something.
        """
        if record is None:
            return "the recording is not in the registry"
        if self.modality is None:
            return "" if record.metadata else "no database has said anything of it"
        data = record.raw_data(self.modality.name)
        if data is None:
            waits = record.reason or f"its session has no {self.modality.name}"
            return f"raw data are waited for: {waits}"
        # What the recording itself waits for is decided where its run is asked for.
        is_extra = self.modality.name in record.modalities
        return f"raw data are waited for: {'; '.join(data.missing)}" if (
            is_extra and data.missing
        ) else ""  # fmt: skip


def externals() -> dict[str, External]:
    """List the external assets.

    Returns
    -------
    dict of str to External
        By the asset's name, the recording first.
    """
    raw = [External(m.asset, m.description, m.kinds, m) for m in MODALITIES.values()]
    said = External(
        RECORDING_METADATA,
        "What the lab's Alyx says of session, animal and probe insertion. Its data version comes "
        "from what results are made of: quality, projects and links are not in it.",
        frozenset({"alyx"}),
    )
    return {each.asset: each for each in (*raw, said)}


@dataclass(frozen=True)
class RawInput:
    """An external asset of a recording, where the lab keeps it.

    Parameters
    ----------
    key : str
        Partition key.
    record : RecordingRecord
        The registry's record.
    version : str
        Data version.
    external : External
        Which asset.
    roots : mapping of str to str
        As in `LabConfig.roots`.
    """

    key: str
    record: RecordingRecord
    version: str
    external: External
    roots: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The session's folder as it is now."""
        return self.record.session.folder(self.roots)

    @property
    def item(self) -> Item:
        """How to open the raw data."""
        return self._data.item

    @property
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """Files that have to be fetched first."""
        return self._data.remote_files

    @property
    def lost(self) -> str:
        """Which of its files are gone though it is registered with them; empty without any."""
        return self._data.lost if self.external.modality is not None else ""

    @property
    def metadata(self) -> RecordingMetadata | None:
        """What the lab's database says."""
        return self.record.metadata

    @property
    def registered_versions(self) -> frozenset[str]:
        """Names of the registered version that files can be compared with.

        None where a database gave it: it has hashes of its own, and no times.
        """
        record = self.record
        if record.eid is not None and record.session.session_id == record.eid:
            return frozenset()
        alias = record.version_alias if self._modality.name == RECORDING else ""
        return frozenset({self.version, alias} - {""})

    def versions_now(self) -> frozenset[str]:
        """Compute the versions of the files as they are now.

        Returns
        -------
        frozenset of str
            By the files alone, and by the hashes in their metadata.

        Raises
        ------
        PermanentFailure
            When a file is missing.
        TransientFailure
            When the folder is not there.
        """
        version = self._modality.version
        return frozenset(
            version(self.item, self.folder, use_file_hash=by_hash) for by_hash in (False, True)
        )

    def open(self, **options: Any) -> Any:
        """Open for reading, as the modality does it.

        Parameters
        ----------
        **options
            Of the modality, such as `streams` of a recording.

        Returns
        -------
        object
            Such as streams by name.
        """
        return self._modality.open(self.item, self.folder, **options)

    @property
    def _modality(self) -> Modality:
        if self.external.modality is None:
            raise PermanentFailure(f"{self.external.asset} has no files to open")
        return self.external.modality

    @property
    def _data(self) -> Any:
        data = self.record.raw_data(self._modality.name)
        if data is None:
            raise PermanentFailure(f"{self.key}: {self.external.why_missing(self.record)}")
        return data
