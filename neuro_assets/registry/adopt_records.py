"""Brings the records of a store of format 1, which had no log, into the log."""

from __future__ import annotations

from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.log import TransactionLog
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.registry.registry import Registry
from neuro_assets.store.opening import lab_memory
from neuro_assets.store.store_identity import new_identity, read_identity, write_identity


def adopt_records(registry: Registry) -> int:
    """Put the records that are in no transaction yet into one, and write the store's identity.

    Parameters
    ----------
    registry : Registry
        Of a store whose `registry/<key>.json` are of format 1.

    Returns
    -------
    int
        How many; those that cannot be read stay as they are and are named by `verify`.
    """
    files = TransactionLog(registry.store)

    def adopt(index: RecordIndex) -> int:
        found = 0
        for key in files.record_keys():
            line = None if index.is_taken(key) else files.record(key)
            try:
                record = RecordingRecord.model_validate_json(line or b"")
            except ValueError:
                continue
            if record.key == key:
                index.put(record)
                found += 1
        return found

    store, memory = registry.store, lab_memory()
    identity = read_identity(store) or new_identity(store, memory)
    n_records = registry.transact(adopt, identity)
    # Last: until it stands there, the store is one of format 1 for everybody.
    write_identity(store, identity)
    return n_records
