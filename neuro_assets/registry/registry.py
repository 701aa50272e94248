"""Which recordings exist: one record a key in the store, and which key a recording has.

A key is for people. What a recording is, it says itself (`Identity`); that is how a renamed
folder or subject keeps its key. `registry.parquet` is derived from the records and never read
here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from neuro_assets.formats.model import Identity, RawRecording
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.keys import Claim, RecordIndex, claim_key, find_same
from neuro_assets.registry.records import (
    RecordingRecord,
    SessionInfo,
    State,
    as_table,
)
from neuro_assets.store import Store
from neuro_assets.store.model import checked_name, now, pretty

__all__ = [
    "Claim",
    "RecordIndex",
    "RecordingRecord",
    "Registry",
    "SessionInfo",
    "State",
    "claim_key",
    "find_same",
]

log = logging.getLogger(__name__)

FOLDER = "registry"
INDEX = "registry.parquet"

_THREADS = 8
_MOST_TRIES = 20


@dataclass
class Registry:
    """The records, in a store; safe for several writers.

    In a folder, creating is exclusive and `update` is serialised by a lock. On S3 nothing is
    exclusive: of two creations or updates in the same moment the last one stays, each writer
    reads it back, and the sensors' next tick repairs what was lost.

    Parameters
    ----------
    store : Store
        Where `registry/<key>.json` are kept.
    """

    store: Store
    _cache: dict[str, tuple[str, RecordingRecord]] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> RecordingRecord | None:
        """Read one record.

        Parameters
        ----------
        key : str
            Partition key.

        Returns
        -------
        RecordingRecord or None
            None where the key is not registered.
        """
        return self._parse(key, self.store.read_json(_path(key)))

    def all(self) -> dict[str, RecordingRecord]:
        """Read all records; unchanged ones come from this object's memory.

        Returns
        -------
        dict
            By key, sorted.
        """
        entries = {
            name.removesuffix(".json"): entry.tag
            for name, entry in self.store.backend.entries(FOLDER).items()
            if name.endswith(".json") and "/" not in name
        }
        stale = [key for key, tag in entries.items() if self._cached(key, tag) is None]
        with ThreadPoolExecutor(_THREADS) as pool:
            for key, record in zip(stale, pool.map(self.get, stale), strict=True):
                if record is not None:
                    self._cache[key] = (entries[key], record)
        self._cache = {key: self._cache[key] for key in sorted(entries) if key in self._cache}
        return {key: record for key, (_, record) in self._cache.items()}

    def put_if_absent(self, record: RecordingRecord) -> bool:
        """Register a recording under a key that is free.

        Parameters
        ----------
        record : RecordingRecord
            The record.

        Returns
        -------
        bool
            False where the key was taken: ask `key_for` again.
        """
        return self.store.create_json(_path(record.key), record.model_dump(mode="json"))

    def replace(self, record: RecordingRecord) -> RecordingRecord:
        """Replace a record; a changed raw version goes into the history.

        Parameters
        ----------
        record : RecordingRecord
            The new content.

        Returns
        -------
        RecordingRecord
            As it was written, with a new `updated`.
        """
        return self._write(self.get(record.key), record)

    def update(
        self, key: str, change: Callable[[RecordingRecord], Mapping[str, Any]]
    ) -> RecordingRecord:
        """Change some fields of a record, without losing what another process changes.

        Parameters
        ----------
        key : str
            Partition key.
        change : callable
            Gets the record as it is now and gives the fields to set.

        Returns
        -------
        RecordingRecord
            As it was written; untouched where nothing changes.

        Raises
        ------
        PermanentFailure
            When the key is not registered.
        """
        with self.store.backend.lock(FOLDER):
            before = self.get(key)
            if before is None:
                raise PermanentFailure(f"{key} is not in the registry")
            values = change(before)
            after = RecordingRecord.model_validate({**dict(before), **values})
            return before if after == before else self._write(before, after)

    def find(self, identity: Identity) -> RecordingRecord | None:
        """Find a recording by what it says of itself; see `find_same`."""
        return find_same(RecordIndex(self.all()), identity)

    def claim(self, session: SessionInfo, recording: RawRecording) -> Claim:
        """Decide the key of a recording from the records as they are now; see `claim_key`."""
        claim = claim_key(RecordIndex(self.all()), session, recording)
        if claim.problem is not None:
            log.warning("%s", claim.problem.detail)
        return claim

    def key_for(self, session: SessionInfo, recording: RawRecording) -> str:
        """Give the key of a recording; see `claim`.

        Parameters
        ----------
        session : SessionInfo
            As its source names it.
        recording : RawRecording
            The recording.

        Returns
        -------
        str
            The key.
        """
        return self.claim(session, recording).key

    def register(
        self, session: SessionInfo, recording: RawRecording, raw_version: str, **more: Any
    ) -> RecordingRecord:
        """Make sure that a recording has a record, whoever else does the same right now.

        Parameters
        ----------
        session, recording, raw_version
            As in `RecordingRecord`.
        **more
            Further fields of the record.

        Returns
        -------
        RecordingRecord
            The new record, or the known one brought up to date.

        Raises
        ------
        TransientFailure
            When others were faster again and again.
        """
        values = {**more, "session": session, "recording": recording, "raw_version": raw_version}
        for _ in range(_MOST_TRIES):
            claim = self.claim(session, recording)
            if claim.known is not None:
                return self.update(claim.key, lambda known: _moved(known, values))
            problems = [*more.get("problems", ()), *([claim.problem] if claim.problem else [])]
            record = RecordingRecord(key=claim.key, **{**values, "problems": problems})
            if self.put_if_absent(record):
                return record
        raise TransientFailure(
            f"no key could be had for {session.subject} {session.date} {recording.probe}: others "
            "register at the same time; it is tried again at the sensor's next tick"
        )

    def rebuild_index(self) -> int:
        """Write `registry.parquet` anew from the records, for DuckDB and people.

        Returns
        -------
        int
            How many rows.
        """
        import io

        frame = as_table(self.all().values())
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        self.store.backend.write(INDEX, buffer.getvalue())
        return len(frame)

    def _cached(self, key: str, tag: str) -> RecordingRecord | None:
        found = self._cache.get(key)
        return found[1] if found is not None and found[0] == tag else None

    def _parse(self, key: str, value: Any) -> RecordingRecord | None:
        if value is None:
            return None
        try:
            record = RecordingRecord.model_validate(value)
        except ValidationError as error:
            raise PermanentFailure(
                f"{_path(key)} in the store {self.store.url} is damaged: restore it from a "
                "backup, or remove it and let the sensor find the recording again"
            ) from error
        if record.key != key:
            raise PermanentFailure(
                f"{_path(key)} in the store {self.store.url} holds the record of {record.key}: "
                "rename it back"
            )
        return record

    def _write(self, before: RecordingRecord | None, after: RecordingRecord) -> RecordingRecord:
        history = list(after.raw_history)
        if before is not None and before.raw_version != after.raw_version:
            history.append({"version": before.raw_version, "until": now().isoformat()})
        written = after.model_copy(update={"updated": now(), "raw_history": history})
        self.store.backend.write(_path(after.key), pretty(written.model_dump(mode="json")))
        return written


def _path(key: str) -> str:
    return f"{FOLDER}/{checked_name(key, 'key')}.json"


def _moved(known: RecordingRecord, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields to set in a known record; an old folder is remembered as an alias."""
    old, new = known.session.place, values["session"].place
    aliases = list(values.get("aliases", known.aliases))
    if old and old != new and old not in aliases:
        aliases.append(old)
    return {**values, "aliases": aliases}
