"""Lossless compression of raw recordings, verified bit by bit, and what depends on its being so.

Public functions only; the parts are `source` (reading), `codec` (bytes), `layout` (the folder),
`writer` (the pass), `stored` (reading back), `verify` (comparison with the source), `cbin`
(mtscomp files). Deleting raw data is not here: a command does that, on a person's order.
"""

from neuro_assets.science.compression.cbin import write_cbin
from neuro_assets.science.compression.run import (
    compress_recording,
    open_compressed,
    open_recordings,
)
from neuro_assets.science.compression.verify import (
    StreamVerdict,
    raw_files_safe_to_delete,
    verify_against_source,
)

__all__ = [
    "StreamVerdict",
    "compress_recording",
    "open_compressed",
    "open_recordings",
    "raw_files_safe_to_delete",
    "verify_against_source",
    "write_cbin",
]
