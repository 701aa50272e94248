"""Which recordings exist: the records as the transaction log gives them, and changing them.

A key is for people. What a recording is, it says itself (`Identity`); that is how a renamed
folder or subject keeps its key. `registry.parquet` is derived from the records and never read
here.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import ValidationError

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.index import RecordIndex, Records
from neuro_assets.registry.log import FOLDER, Document, TransactionLog, merged
from neuro_assets.registry.records import RecordingRecord, SessionInfo
from neuro_assets.registry.table import as_table
from neuro_assets.registry.turns import verify_turns
from neuro_assets.store import Store
from neuro_assets.store.model import checked_name, now
from neuro_assets.store.opening import lab_memory
from neuro_assets.store.store_identity import StoreIdentity, establish, only_writer, read_identity

__all__ = ["RecordIndex", "RecordingRecord", "Registry", "SessionInfo"]

log = logging.getLogger(__name__)
T = TypeVar("T")

INDEX = "registry.parquet"
SNAPSHOT_EVERY = 64
"""Transactions; a reader that starts reads the last snapshot and at most about so many files."""

_THREADS = 8
_MOST_TRIES = 50


class Registry:
    """The records of a store. Reads only what is new since the last call; safe for many writers.

    Parameters
    ----------
    store : Store
        The lab's store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._log = TransactionLog(store)
        self._index = RecordIndex()
        self._number: int | None = None
        self._known_identity: StoreIdentity | None = None

    def get(self, key: str) -> RecordingRecord | None:
        """Read one record, without the others.

        Parameters
        ----------
        key : str
            Partition key.

        Returns
        -------
        RecordingRecord or None
            None where the key is not registered.

        Raises
        ------
        PermanentFailure
            When its record is damaged here and in the log.
        """
        checked_name(key, "key")
        if self._number is None and (line := self._line(key)) is not None:
            try:
                return _parsed(key, line)
            except ValueError:
                log.warning("registry/%s.json is damaged; the log is read instead", key)
        index = self.refresh()
        if key in index.damaged:
            raise self._damaged(key)
        return index.records.get(key)

    def all(self) -> Records:
        """Give all records that can be read; see `damaged` for the others.

        Returns
        -------
        Records
            By key, sorted; a record is parsed when it is asked for. Without keys that a person
            renamed, which `get` has.
        """
        return self.refresh().recordings()

    @property
    def damaged(self) -> dict[str, str]:
        """Keys whose record cannot be read, with the reason, as of the last reading."""
        return dict(self._index.damaged)

    def refresh(self) -> RecordIndex:
        """Read the transactions that are new.

        Returns
        -------
        RecordIndex
            Of all records. Its owner is the registry: change it in `transact` only.
        """
        if self._number is None:
            snapshot = self._log.snapshot()
            self._apply(snapshot)
        assert self._number is not None
        while (document := self._log.read(self._number + 1)) is not None:
            self._apply(document)
        return self._index

    def transact(
        self, change: Callable[[RecordIndex], T], identity: StoreIdentity | None = None
    ) -> T:
        """Change any number of records at once, or none.

        Parameters
        ----------
        change : callable
            Puts records into the index that it gets. Called again, on the records as they are
            then, when another writer was faster; must have no other effect.
        identity : StoreIdentity, optional
            Of a store in which it does not stand yet.

        Returns
        -------
        Any
            What the last call returned.

        Raises
        ------
        TransientFailure
            When others were faster again and again.
        PermanentFailure
            When another lab is the only writer of this store.
        """
        identity = identity or self._identity()
        with only_writer(self.store, identity, lab_memory()):
            for turn in range(_MOST_TRIES):
                index = self.refresh()
                try:
                    result = change(index)
                finally:
                    changes = index.rollback()
                lines = {k: _line_of(old, new) for k, (old, new) in changes.items()}
                if not lines or self._commit(lines, exclusive=identity.exclusive_creation):
                    return result
                time.sleep(random.uniform(0, 0.01 * turn))
        raise TransientFailure(
            "others change the registry all the time; nothing was changed, try again"
        )

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
            As it is now.

        Raises
        ------
        PermanentFailure
            When the key is not registered.
        """

        def apply(index: RecordIndex) -> None:
            before = index.records.get(key)
            if before is None:
                raise PermanentFailure(f"{key} is not in the registry")
            index.put(RecordingRecord.model_validate({**dict(before), **change(before)}))

        self.transact(apply)
        return self._index.records[key]

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

    def verify(self, *, repair: bool = False) -> list[str]:
        """Compare the derived records with the log.

        Parameters
        ----------
        repair : bool
            Write those that differ anew.

        Returns
        -------
        list of str
            One line for each defect.
        """
        defects = []
        for key in list(self.refresh().records.lines):
            if not self._is_derived(key):
                defects.append(f"registry/{key}.json differs from the registry's log")
                if repair:
                    self._derive_again(key)
        names = self._log.record_keys()
        index = self.refresh()  # what was registered meanwhile is listed, too
        known = index.records.lines.keys() | index.damaged.keys()
        damaged = [f"record of {key}: {why}" for key, why in index.damaged.items()]
        extra = (key for key in names if key not in known)
        foreign = [f"registry/{key}.json is in no transaction of the log" for key in extra]
        return damaged + defects + foreign + verify_turns(self.store, repair=repair)

    def _is_derived(self, key: str) -> bool:
        """Compare a derived record, again where another writer changes the registry meanwhile."""
        found = self._log.record(key)
        while (line := self._index.records.lines.get(key)) is not None:
            if found is not None and _is_same(key, found, line):
                return True
            number = self._number
            self.refresh()
            if self._number == number:
                return False
            found = self._line(key)
        return True  # damaged by now

    def _derive_again(self, key: str) -> None:
        """Write a derived record as the log has it now; who changes it waits to derive."""
        with self.store.backend.lock(FOLDER):
            if (line := self.refresh().records.lines.get(key)) is not None:
                self._log.write_record(key, line)

    def _identity(self) -> StoreIdentity:
        if self._known_identity is None:
            found = read_identity(self.store)
            self._known_identity = found or establish(self.store, lab_memory())
        return self._known_identity

    def _commit(self, lines: Mapping[str, bytes], *, exclusive: bool) -> bool:
        assert self._number is not None
        document = Document(self._number + 1, lines)
        if not self._log.append(document, exclusive=exclusive):
            return False
        self._apply(document)
        self._derive()
        if self._number % SNAPSHOT_EVERY == 0:
            index = self._index
            lines = {**index.records.lines, **index.damaged_lines}
            # Listed, so that the key of a record that cannot be read is never given to another.
            lost = tuple(key for key in index.damaged if key not in lines)
            self._log.write_snapshot(self._number, lines, lost)
        return True

    def _apply(self, document: Document) -> None:
        """Take over a transaction; what is damaged in it is looked for in the derived records."""
        for key, line in document.lines.items():
            why = self._take(key, line)
            if why and not self._heal(key, document.number):
                self._index.damage(key, why, line)
        for key in document.lost:
            if not self._heal(key, document.number):
                self._index.damage(key, "its line in the log is damaged")
        if document.is_damaged:
            log.error("transaction %s of the registry is damaged", document.number)
            self._take_derived()
        self._number = document.number

    def _heal(self, key: str, number: int) -> bool:
        """Take the derived record, unless it may be older than the damaged line."""
        derived = self._log.record(key) if self._log.head() >= number else None
        healed = derived is not None and not self._take(key, derived)
        if healed:
            log.warning("the log's line of %s is damaged; registry/%s.json is read", key, key)
        return healed

    def _take_derived(self) -> None:
        for key in self._log.record_keys():
            derived = self._log.record(key)
            if derived is not None and (why := self._take(key, derived, is_older=True)):
                self._index.damage(key, why)

    def _take(self, key: str, line: bytes, *, is_older: bool = False) -> str:
        """Load a record; say why it cannot be read."""
        try:
            record = _parsed(key, line)
        except ValueError as error:
            return str(error).splitlines()[0]
        known = self._index.records.get(key) if is_older else None
        if known is None or known.updated < record.updated:
            self._index.load(record, None if b"\n" in line else line)
        return ""

    def _derive(self) -> None:
        """Bring the derived records up to date, also with what a killed writer left."""
        with self.store.backend.lock(FOLDER):
            number = self._log.head()
            while True:
                documents = []
                while (found := self._log.read(number + 1)) is not None:
                    documents.append(found)
                    number += 1
                if not documents:
                    return
                lines = merged(documents)
                with ThreadPoolExecutor(_THREADS) as pool:
                    list(pool.map(self._log.write_record, lines, lines.values()))
                self._log.write_head(number)

    def _line(self, key: str) -> bytes | None:
        """Find a record through the derived ones and what is newer than they are."""
        number, line = self._log.head(), self._log.record(key)
        while (document := self._log.read(number + 1)) is not None:
            line = document.lines.get(key, line)
            number += 1
        return line

    def _damaged(self, key: str) -> PermanentFailure:
        return PermanentFailure(
            f"the record of {key} in the store {self.store.url} is damaged "
            f"({self._index.damaged[key]}): restore registry/{key}.json from a backup"
        )


def _parsed(key: str, line: bytes) -> RecordingRecord:
    """Read a record; `ValueError` where it is damaged or another key's."""
    try:
        record = RecordingRecord.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} fields are wrong") from error
    if record.key != key:
        raise ValueError(f"it holds the record of {record.key}")
    return record


def _is_same(key: str, found: bytes, line: bytes) -> bool:
    try:
        return _parsed(key, found) == _parsed(key, line)
    except ValueError:
        return False


def _line_of(before: RecordingRecord | None, after: RecordingRecord) -> bytes:
    """Render a record; a raw version that changed goes into the history."""
    history = list(after.raw_history)
    if before is not None and before.raw_version not in ("", after.raw_version):
        history.append({"version": before.raw_version, "until": now().isoformat()})
    update = {"updated": now(), "raw_history": history}
    return after.model_copy(update=update).model_dump_json().encode()
