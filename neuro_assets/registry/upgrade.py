"""Taking the records of a store of the first format, which had no log, into the log."""

from __future__ import annotations

from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.log import TransactionLog
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.registry.registry import Registry


def adopt_records(registry: Registry) -> int:
    """Put the records that are in no transaction yet into one.

    Parameters
    ----------
    registry : Registry
        Of a store whose `registry/<key>.json` were written by the first release.

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

    return registry.transact(adopt)
