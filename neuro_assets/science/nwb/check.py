"""NWB files opened, validated against the schema, and inspected for best practice.

Nothing here knows how the files were made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from neuro_assets.science.nwb.inputs import SubjectInfo

SUBJECT_CHECKS = {
    "check_subject_age": ("age", "date_of_birth"),
    "check_subject_species_exists": ("species",),
    "check_subject_sex": ("sex",),
}
"""Checks that only the lab can satisfy, and the fields that would."""

LOCATION_CHECK = "check_electrodes_location_allen_ccf"
"""Asks for brain regions, which exist once somebody traced the probe."""


def open_nwb(path: Path) -> tuple[Any, Any]:
    """Open a file of either backend with the field's own tools.

    Parameters
    ----------
    path : Path
        `.nwb` or `.nwb.zarr`.

    Returns
    -------
    io : object
        To be closed by the caller.
    nwbfile : pynwb.NWBFile
        Lazy.
    """
    if path.is_dir():
        from hdmf_zarr import NWBZarrIO

        io = NWBZarrIO(str(path), mode="r")
    else:
        from pynwb import NWBHDF5IO

        io = NWBHDF5IO(str(path), mode="r")
    return io, io.read()


def inspect_nwb(
    path: Path, subject_info: SubjectInfo | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Validate a file against the NWB schema and run nwbinspector's checks as DANDI does.

    Parameters
    ----------
    path : Path
        `.nwb` or `.nwb.zarr`.
    subject_info : SubjectInfo, optional
        What was known of the animal: a check that asks for what nobody gave is counted apart.

    Returns
    -------
    metrics : dict
        `n_validation_errors`; `n_critical`, all that DANDI refuses a file for, of which
        `n_critical_metadata` ask for what nobody gave (the animal's species, sex or age) and
        `n_critical_file` are the file's own; of the file's own `n_best_practice_violations`,
        `n_best_practice_suggestions`, `n_failed_checks` (nwbinspector's own errors, as on the
        spike times of a Zarr file), `n_missing_metadata`.
    messages : DataFrame
        `importance`, `check`, `object_type`, `object_name`, `location`, `message`,
        `missing_metadata`.
    """
    from nwbinspector import Importance, inspect_nwbfile_object, load_config

    rows = _validation_errors(path)
    io, nwbfile = open_nwb(path)
    try:
        found = inspect_nwbfile_object(
            nwbfile,
            config=load_config("dandi"),
            importance_threshold=Importance.BEST_PRACTICE_SUGGESTION,
        )
        rows += [
            (
                message.importance.name,
                message.check_function_name,
                message.object_type,
                message.object_name,
                message.location,
                message.message,
            )
            for message in found
            if message is not None
        ]
    finally:
        io.close()
    names = ["importance", "check", "object_type", "object_name", "location", "message"]
    table = pd.DataFrame(rows, columns=names).fillna("").astype(str)
    info = subject_info or SubjectInfo()
    table["missing_metadata"] = [
        _asks_for_the_unknown(check, message, info)
        for check, message in zip(table["check"], table["message"], strict=True)
    ]
    return _count(table), table


def _asks_for_the_unknown(check: str, message: str, info: SubjectInfo) -> bool:
    if check == LOCATION_CHECK:
        return "'unknown'" in message
    fields = SUBJECT_CHECKS.get(check, ())
    return bool(fields) and not any(getattr(info, name) for name in fields)


def _validation_errors(path: Path) -> list[tuple[Any, ...]]:
    import pynwb

    # pynwb validates a path of HDF5 only; of a Zarr folder it needs the open file.
    if path.is_dir():
        from hdmf_zarr import NWBZarrIO

        with NWBZarrIO(str(path), mode="r") as io:
            io.open()
            errors = pynwb.validate(io=io)
    else:
        errors = pynwb.validate(path=str(path))
    return [
        ("PYNWB_VALIDATION", "validate", "", error.name, error.location, error.reason)
        for error in errors
    ]


def _count(table: pd.DataFrame) -> dict[str, Any]:
    missing, critical = table["missing_metadata"].astype(bool), table["importance"] == "CRITICAL"
    ours = table[~missing]["importance"]
    return {
        "n_validation_errors": int((ours == "PYNWB_VALIDATION").sum()),
        "n_critical": int(critical.sum()),
        "n_critical_file": int((critical & ~missing).sum()),
        "n_critical_metadata": int((critical & missing).sum()),
        "n_best_practice_violations": int((ours == "BEST_PRACTICE_VIOLATION").sum()),
        "n_best_practice_suggestions": int((ours == "BEST_PRACTICE_SUGGESTION").sum()),
        "n_failed_checks": int((ours == "ERROR").sum()),
        "n_missing_metadata": int(missing.sum()),
    }
