"""The object store: what is written, made visible, found again and removed, on a folder or S3.

Outputs are written by this package, records below `registry/` by the registry. The layout::

    <asset>/<key>/<version>/<attempt>/...files...
    <asset>/<key>/<version>/<attempt>/manifest.json   written last
    <asset>/<key>/current.json                        which version and attempt count
    <asset>/<key>/failure.json                        the last failure, where nothing newer exists
    <asset>/<key>/runs/<run>.json                     what a run made
    <asset>/<key>/judgement.json                      verdicts by newer criteria
    <asset>/session-<id>/<version>/<attempt>/...      made once for all recordings of a session
    registry/...    leases/<name>/<n>.json

A committed folder is never written again. Nothing here imports dagster.
"""

from neuro_assets.store.attempt import Attempt
from neuro_assets.store.garbage import Garbage
from neuro_assets.store.lease import Lease
from neuro_assets.store.model import WHOLE_LAB, FileEntry, InputRef, Manifest, Pointer, version_of
from neuro_assets.store.store import Store
from neuro_assets.store.stored import Stored
from neuro_assets.store.verify import Defect

__all__ = [
    "WHOLE_LAB",
    "Attempt",
    "Defect",
    "FileEntry",
    "Garbage",
    "InputRef",
    "Lease",
    "Manifest",
    "Pointer",
    "Store",
    "Stored",
    "version_of",
]
