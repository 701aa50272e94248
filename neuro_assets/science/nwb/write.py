"""One NWB file of one recording: built, written and handed to the checks.

The inputs are in `inputs`, the electrodes in `electrodes`, the units table in `units`, the traces
in `traces`, the checks in `check`. What goes into the file is decided by the caller; whatever is
absent is left out and named in the file.
"""

from __future__ import annotations

import uuid
import warnings
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from neuro_assets import __version__
from neuro_assets.formats.timeline import timeline_of
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.science.checksums import add_checksums
from neuro_assets.science.nwb.check import inspect_nwb
from neuro_assets.science.nwb.electrodes import add_electrodes, electrode_region
from neuro_assets.science.nwb.inputs import CLOCK, NwbInputs
from neuro_assets.science.result import Applied, Progress, StepResult, no_progress
from neuro_assets.science.valid_time import split_at

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "neuro_assets.nwb")
"""Identifiers are UUIDv5 in here: the same recording and version give the same one anywhere."""


def write_nwb(
    inputs: NwbInputs,
    folder: Path,
    parameters: NwbParameters | None = None,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """Write `folder/<key>.nwb` (a folder `<key>.nwb.zarr` for the Zarr backend) and check it.

    Parameters
    ----------
    inputs : NwbInputs
        What goes in.
    folder : Path
        Existing and empty.
    parameters : NwbParameters, optional
        The default set otherwise.
    progress : callable
        Told the fraction done.

    Returns
    -------
    StepResult
        Metrics of `inspect_nwb` and of what the file holds; table `inspector`, one row a message.

    Raises
    ------
    PermanentFailure
        When the inputs contradict each other.
    """
    parameters = parameters or NwbParameters.resolve()
    path = nwb_path(inputs.key, folder, parameters)
    missing = list(inputs.missing) + _left_out(inputs)
    nwbfile = build_nwb(inputs, parameters, missing, progress=progress)
    save_nwb(nwbfile, path, parameters)
    progress(0.85, "checking the NWB file")
    metrics, messages = inspect_nwb(path, inputs.subject_info)
    metrics |= _contents(inputs, nwbfile, path, parameters) | {
        "n_missing_inputs": len(missing),
        "n_unmade_inputs": sum(not _is_skip(line) for line in inputs.missing),
        **({"made_without": "; ".join(missing)} if missing else {}),
    }
    progress(1.0, "NWB written")
    applied = [Applied("write_nwb", {"file": path.name, "without": missing})]
    return StepResult(metrics=metrics, tables={"inspector": messages}, applied=applied)


def _is_skip(missing: str) -> bool:
    """Tell what was rightly left out from what failed or was never made."""
    return missing.partition(": ")[2].startswith("skipped,")


def nwb_path(key: str, folder: Path, parameters: NwbParameters) -> Path:
    """Return where the file of a recording goes."""
    if not key or key in {".", ".."} or "/" in key or "\\" in key:
        raise PermanentFailure(f"{key!r} cannot be a file's name; use the recording's key")
    return folder / (f"{key}.nwb" if parameters.backend == "hdf5" else f"{key}.nwb.zarr")


def _left_out(inputs: NwbInputs) -> list[str]:
    absent = []
    if inputs.start_time is None:
        absent.append("start time: unknown, midnight of the session's day is written")
    if inputs.lfp is not None and not inputs.lfp.has_scaleable_traces():
        absent.append("lfp: its gains are unknown, so it has no volts")
    if inputs.lfp is None and not _named(inputs.missing, "lfp"):
        absent.append("lfp")
    if not _has_units(inputs) and not _named(inputs.missing, "units"):
        absent.append("units")
    return absent


def _named(missing: list[str], what: str) -> bool:
    return any(entry.split(":")[0].strip() == what for entry in missing)


def _has_units(inputs: NwbInputs) -> bool:
    return inputs.units is not None and inputs.spikes is not None and len(inputs.units) > 0


def build_nwb(
    inputs: NwbInputs,
    parameters: NwbParameters,
    missing: list[str] | None = None,
    *,
    progress: Progress = no_progress,
) -> Any:
    """Make the file in memory; traces are read only when it is written.

    Parameters
    ----------
    inputs : NwbInputs
        What goes in.
    parameters : NwbParameters
        Options.
    missing : list of str, optional
        What the session description names as absent.
    progress : callable
        Told the fraction done while traces are written.

    Returns
    -------
    pynwb.NWBFile
        Complete.
    """
    from neuro_assets.science.nwb.units import units_table

    with warnings.catch_warnings():
        # Tables are complete before they join the file, where the electrodes already are.
        warnings.filterwarnings("ignore", message=".*does not share an ancestor")
        wrap = _compressor(parameters)
        nwbfile = _session(inputs, parameters, missing or [])
        nwbfile.subject = _subject(inputs, parameters)
        _add_invalid_times(inputs, nwbfile)
        add_electrodes(inputs, nwbfile)
        if _has_units(inputs):
            nwbfile.units = units_table(inputs, nwbfile, parameters, wrap)
        if inputs.lfp is not None and inputs.lfp.has_scaleable_traces():
            _add_lfp(inputs, nwbfile, parameters, wrap, progress)
        if parameters.raw_traces and inputs.raw is not None:
            _add_raw(inputs, nwbfile, parameters, wrap, progress)
    return nwbfile


def _start_time(inputs: NwbInputs, zone: ZoneInfo) -> datetime:
    start = inputs.start_time or datetime.combine(inputs.date, time(0), tzinfo=zone)
    return start if start.tzinfo is not None else start.replace(tzinfo=zone)


def _session(inputs: NwbInputs, parameters: NwbParameters, missing: list[str]) -> Any:
    from pynwb import NWBFile

    holds = [name for name, there in _holds(inputs).items() if there]
    description = (
        f"Recording {inputs.key} of {inputs.probe}: {', '.join(holds) or 'electrodes only'}. "
        f"Times are {CLOCK}."
    )
    if missing:
        description += f" Made without: {'; '.join(missing)}."
    if inputs.timeline.has_gaps:
        description += f" Times jump at {len(inputs.timeline.bounds)} gaps (see invalid_times)."
    if inputs.start_time is not None and inputs.start_time.tzinfo is None:
        description += f" The start time had no time zone; {parameters.timezone} is assumed."
    notes = "; ".join(f"{name}: {value}" for name, value in sorted(inputs.session_aliases.items()))
    return NWBFile(
        session_description=description,
        identifier=str(uuid.uuid5(NAMESPACE, f"{inputs.lab}/{inputs.key}/{inputs.version}")),
        session_start_time=_start_time(inputs, ZoneInfo(parameters.timezone)),
        session_id=f"{inputs.date.isoformat()}_{inputs.number}".replace("/", "-"),
        lab=inputs.lab or None,
        institution=parameters.institution,
        experimenter=list(inputs.experimenters or parameters.experimenters) or None,
        experiment_description=inputs.experiment_description,
        keywords=list(parameters.keywords) or None,
        notes=notes or None,
        was_generated_by=[["neuro_assets", __version__]],
    )


def _add_invalid_times(inputs: NwbInputs, nwbfile: Any) -> None:
    """List the gaps, in which nothing was recorded, and what is masked, each with its reason."""
    gaps, rate = inputs.timeline, inputs.sampling_frequency
    rows = []
    for start, length, between in zip(gaps.bounds, gaps.missing, np.diff(gaps.files), strict=True):
        stop = float(gaps.seconds(start, rate))
        reason = "pause between files" if between else "lost samples"
        rows.append((stop - int(length) / rate, stop, ["gap", reason]))
    reasons = () if inputs.masked is None else inputs.masked["reason"].tolist()
    for period, reason in zip(inputs.masked_samples, reasons, strict=True):
        for start, stop in split_at(period[np.newaxis], gaps.bounds):
            begin = float(gaps.seconds(start, rate))
            rows.append((begin, begin + int(stop - start) / rate, ["masked", reason]))
    rows += _filter_edges(inputs.lfp)
    for begin, end, tags in sorted(rows):
        nwbfile.add_invalid_time_interval(begin, end, tags=tags)


def _filter_edges(lfp: Any | None) -> list[tuple[float, float, list[str]]]:
    """Give the ends of each piece of the LFP, where its filter reached beyond the data."""
    edge = None if lfp is None else lfp.get_annotation("filter_edge_s")
    if lfp is None or edge is None:
        return []
    timeline, rate, rows = timeline_of(lfp), lfp.sampling_frequency, []
    for start, stop in timeline.spans(lfp.get_num_samples()):
        begin = float(timeline.seconds(start, rate))
        end = begin + (stop - start) / rate
        middle = (begin + end) / 2
        rows.append((begin, min(begin + edge, middle), ["LFP", "edge of its filter"]))
        rows.append((max(end - edge, middle), end, ["LFP", "edge of its filter"]))
    return rows


def _holds(inputs: NwbInputs) -> dict[str, bool]:
    return {"units": _has_units(inputs), "LFP": inputs.lfp is not None}


def _subject(inputs: NwbInputs, parameters: NwbParameters) -> Any:
    from pynwb.file import Subject

    info = inputs.subject_info
    birth = info.date_of_birth
    if birth is not None and birth.tzinfo is None:
        birth = birth.replace(tzinfo=ZoneInfo(parameters.timezone))
    return Subject(
        subject_id=inputs.subject.replace("/", "-"),
        species=info.species or parameters.species,
        sex=info.sex or "U",
        age=info.age,
        date_of_birth=birth,
        weight=info.weight,
        genotype=info.genotype,
        strain=info.strain,
        description=info.description,
    )


def _add_lfp(
    inputs: NwbInputs, nwbfile: Any, parameters: NwbParameters, wrap: Any, progress: Progress
) -> None:
    from pynwb.ecephys import LFP

    from neuro_assets.science.nwb.traces import electrical_series

    band = inputs.lfp.get_annotation("pass_band_hz") if inputs.lfp is not None else None
    filtering = None
    if band is not None:
        low = "none" if band[0] is None else f"{band[0]:g} Hz (-3 dB, zero-phase Gaussian)"
        filtering = f"high-pass: {low}; low-pass: {band[1]:g} Hz (zero-phase FIR)"
    series = electrical_series(
        "ElectricalSeriesLFP",
        f"local field potential; {CLOCK}",
        inputs.lfp,
        electrode_region(inputs, inputs.lfp, nwbfile),
        parameters,
        wrap,
        lambda done, words: progress(0.7 + 0.1 * done, words),
        filtering=filtering,
    )
    module = nwbfile.create_processing_module("ecephys", "processed extracellular recordings")
    module.add(LFP(electrical_series=series))


def _add_raw(
    inputs: NwbInputs, nwbfile: Any, parameters: NwbParameters, wrap: Any, progress: Progress
) -> None:
    from neuro_assets.science.nwb.traces import electrical_series

    nwbfile.add_acquisition(
        electrical_series(
            "ElectricalSeriesAP",
            f"raw traces; {CLOCK}",
            inputs.raw,
            electrode_region(inputs, inputs.raw, nwbfile),
            parameters,
            wrap,
            lambda done, words: progress(0.7 * done, words),
        )
    )


def _compressor(parameters: NwbParameters) -> Any:
    """Return what wraps an array, or an iterator over one, with the backend's compression."""
    if parameters.backend == "hdf5":
        from hdmf.backends.hdf5 import H5DataIO

        return lambda data: H5DataIO(
            data,
            compression="gzip",
            compression_opts=parameters.compression_level,
            shuffle=True,
            fletcher32=True,
            **_resizable(data),
        )
    from hdmf_zarr import ZarrDataIO
    from numcodecs import Blosc

    codec = Blosc(cname="zstd", clevel=parameters.compression_level, shuffle=Blosc.BITSHUFFLE)
    return lambda data: ZarrDataIO(data, compressor=codec)


def _resizable(data: Any) -> dict[str, Any]:
    # HDF5 cannot chunk an empty array that may not grow.
    if isinstance(data, np.ndarray) and data.size == 0:
        return {"maxshape": (None,) * data.ndim}
    return {}


def save_nwb(nwbfile: Any, path: Path, parameters: NwbParameters) -> None:
    """Write a file with the backend that the parameters name.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        As `build_nwb` makes it.
    path : Path
        As `nwb_path` says.
    parameters : NwbParameters
        Backend.
    """
    if parameters.backend == "hdf5":
        from pynwb import NWBHDF5IO

        _add_checksums_to_columns(nwbfile)
        with NWBHDF5IO(str(path), mode="w") as io:
            io.write(nwbfile)
        return
    import numcodecs
    from hdmf_zarr.backend import ZarrIO
    from pynwb import get_manager

    # NWBZarrIO would encode strings with pickle, and drops the option that says otherwise.
    with ZarrIO(
        str(path), manager=get_manager(), mode="w", object_codec_class=numcodecs.JSON
    ) as io:
        io.write(nwbfile)
    add_checksums(path)


def _add_checksums_to_columns(nwbfile: Any) -> None:
    """Let HDF5 keep a checksum of each chunk of the tables' numbers too; it knows none for text."""
    from hdmf.backends.hdf5 import H5DataIO
    from hdmf.container import Data
    from hdmf.data_utils import DataIO

    for held in nwbfile.objects.values():
        if not isinstance(held, Data) or isinstance(held.data, DataIO):
            continue
        values = np.asarray(held.data)
        if values.dtype.kind in "biuf":
            held.set_data_io(H5DataIO, {"fletcher32": True, **_resizable(values)})


def _contents(
    inputs: NwbInputs, nwbfile: Any, path: Path, parameters: NwbParameters
) -> dict[str, Any]:
    files = path.rglob("*") if path.is_dir() else [path]
    has_units = _has_units(inputs)
    return {
        "n_electrodes": len(inputs.channels),
        "n_units": 0 if not has_units or inputs.units is None else len(inputs.units),
        "n_spikes": len(nwbfile.units["spike_times"].target.data) if has_units else 0,
        "has_lfp": int("ecephys" in nwbfile.processing),
        "has_raw_traces": int("ElectricalSeriesAP" in nwbfile.acquisition),
        "duration_s": inputs.duration_s,
        "size_bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "backend": parameters.backend,
    }
