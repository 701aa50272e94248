"""Names that Dagster and people see: groups, pools, jobs, assets. Each is spelled here only."""

from __future__ import annotations

RAW = "raw"
RECORDING = "recording"
SORTING = "sorting"
LFP = "lfp"
EXPORT = "export"
TABLES = "tables"

GPU_POOL = "gpu"
HEAVY_POOL = "heavy"

PROCESS_JOB = "process"
PUBLISH_JOB = "publish"
TABLES_JOB = "tables"

RAW_RECORDING = "raw_recording"
RAW_AUXILIARY = "raw_auxiliary"
RECORDING_METADATA = "recording_metadata"

PARTITION_TAG = "dagster/partition"
"""Run tag of Dagster: the key of the recording."""

EVERY_RESULT = "*"
"""As a need: every asset of `process`, each optional."""

COMPRESSED_RECORDING = "compressed_recording"
COMPRESSED_AUXILIARY = "compressed_auxiliary"
RECORDING_QUALITY = "recording_quality"
BAD_CHANNELS = "bad_channels"
MOTION = "motion"
UNITS = "units"
LFP_ASSET = "lfp"
NWB = "nwb"
UNITS_TABLE = "units_table"
INSERTIONS = "insertions"


def sorting(sorter: str) -> str:
    """Name of the sorting asset of a sorter set."""
    return f"sorting_{sorter}"


def analyzer(sorter: str) -> str:
    """Name of the analyzer asset of a sorter set."""
    return f"analyzer_{sorter}"


def unit_quality(sorter: str) -> str:
    """Name of the unit quality asset of a sorter set."""
    return f"unit_quality_{sorter}"
