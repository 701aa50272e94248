"""NWB files with raw traces: one recording for each probe's ElectricalSeries in `acquisition`.

Series in processing modules are results, not raw data, and are left alone. Only HDF5 files are
read; samples are opened through SpikeInterface in `generic_open`.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.formats.broken import Broken, contained
from neuro_assets.formats.copies import Candidate, without_copies
from neuro_assets.formats.model import Identity, Problem, RawRecording, Scan, Stream
from neuro_assets.formats.names import ProbeName, parse_probe_name
from neuro_assets.formats.timeline import refuse_jumps
from neuro_assets.formats.walk import FoundFile, Listing, natural_key
from neuro_assets.outcomes import TransientFailure

LFP_BELOW_HZ = 5000.0
"""A series slower than this is an LFP band."""

_HASHED_SAMPLES = 1000
"""At the start, the middle and the end of a series."""

_PROBE = re.compile(r"(?:probe|imec)[_ -]?(?:\d{1,3}[a-f]?|[a-z](?![a-z]))", re.IGNORECASE)


@dataclass
class Series:
    """One ElectricalSeries as it is in the file."""

    path: str
    shape: tuple[int, int]
    itemsize: int
    rate: float
    start: float
    devices: tuple[str, ...]
    groups: tuple[str, ...]
    has_geometry: bool
    hash: str
    probe: ProbeName | None = None

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def is_lf(self) -> bool:
        """Whether this is the LFP band of a probe."""
        return self.rate < LFP_BELOW_HZ


def scan_nwb(folder: Path, listing: Listing) -> Scan:
    """Find recordings in the NWB files of a session.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.

    Returns
    -------
    Scan
        One recording for each probe and file; recordings of later files get `n2`, `n3`.
    """
    recordings: list[RawRecording] = []
    problems: list[Problem] = []
    files: list[Candidate] = []
    for found in listing.files:
        if not found.name.lower().endswith(".nwb"):
            continue
        with contained(found.path, problems):
            files.append(_candidate(_read_file(folder, found)))
    n_files = 0
    for file in without_copies(folder, files, problems):
        made = _recordings(file, n_files, problems)
        n_files += bool(made)
        recordings += made
    for name in listing.folders:
        if name.lower().endswith((".nwb", ".nwb.zarr")):
            detail = (
                "an NWB folder (Zarr) is not found by itself; describe it with a reader entry "
                "`nwb` in lab.yaml"
            )
            problems.append(Problem(kind="unsupported_backend", path=name, detail=detail))
    return Scan(recordings=tuple(recordings), problems=tuple(problems))


@dataclass(frozen=True)
class _File:
    """One NWB file and what is in it."""

    found: FoundFile
    series: list[Series]
    created: datetime | None
    identifier: str
    subject: str


def _candidate(file: _File) -> Candidate:
    """Say what makes a file a copy: the same series with the same samples."""
    says = (file.identifier, file.created, tuple((one.path, one.shape) for one in file.series))
    return Candidate(
        item=file,
        path=file.found.path,
        size=file.found.size,
        identity=says if file.series else None,
        slot=file.found.path,
        sha1="-".join(one.hash for one in file.series),
    )


def _read_file(folder: Path, found: FoundFile) -> _File:
    import h5py

    if found.size == 0:
        raise Broken("empty_file", "the file is empty; copy it again or remove it")
    try:
        with h5py.File(folder / found.path, "r", locking=False) as file:
            series = [
                _read_series(file, item)
                for item in file.get("acquisition", {}).values()
                if _type_of(item) == "ElectricalSeries"
            ]
            return _File(
                found, series, _created(file), _text(file.get("identifier")), _subject(file)
            )
    except PermissionError:
        raise Broken("unreadable", "no permission to read the file; grant it") from None
    except FileNotFoundError:
        raise TransientFailure(f"{folder / found.path} vanished while it was read") from None
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise Broken(
            "meta_broken",
            f"no NWB file that can be read ({type(error).__name__}: {error}); copy it again",
        ) from error


def _type_of(item: Any) -> str:
    kind = item.attrs.get("neurodata_type", "")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _read_series(file: Any, item: Any) -> Series:
    """Shape, rate, devices and geometry of one series."""
    data = item["data"]
    _refuse_linked(file, data)
    if data.ndim != 2:
        raise Broken("channel_count", f"{item.name} is not samples by channels; describe it anew")
    rate, start = _timing(item)
    table = file[item["electrodes"].attrs["table"]]
    rows = np.asarray(item["electrodes"][:], dtype=int)
    if rows.size != data.shape[1]:
        raise Broken(
            "channel_count",
            f"{item.name} has {data.shape[1]} channels but {rows.size} electrodes; correct it",
        )
    references = [table["group"][int(row)] for row in rows] if "group" in table else []
    groups = [file[reference] for reference in references]
    devices = [group["device"].name if "device" in group else "" for group in groups]
    devices = [name.rsplit("/", 1)[-1] for name in devices]
    return Series(
        path=item.name.lstrip("/"),
        shape=(int(data.shape[0]), int(data.shape[1])),
        itemsize=data.dtype.itemsize,
        rate=rate,
        start=start,
        devices=tuple(dict.fromkeys(devices)),
        groups=tuple(dict.fromkeys(group.name.rsplit("/", 1)[-1] for group in groups)),
        has_geometry=_has_geometry(table, rows),
        hash=_sampled_hash(data),
    )


def subject_beside(path: Path, series: str) -> str:
    """Read whose a series is, and refuse samples that HDF5 takes from other files.

    Nobody would see when those are replaced.

    Parameters
    ----------
    path : Path
        NWB file (HDF5).
    series : str
        Path of the series in it.

    Returns
    -------
    str
        The file's `subject_id`; empty without one.

    Raises
    ------
    Broken
        `linked_samples`.
    """
    import h5py

    # Locked as the reader does that has it open.
    with h5py.File(path, "r") as file:
        _refuse_linked(file, file[series]["data"])
        return _subject(file)


def _refuse_linked(file: Any, data: Any) -> None:
    if data.file.filename != file.filename or data.is_virtual or data.external:
        raise Broken(
            "linked_samples",
            f"the samples of {data.name} are in another file than {Path(file.filename).name}; "
            "write them into it (link_data=False in pynwb)",
        )


def _sampled_hash(data: Any) -> str:
    """Hash samples spread over a series: what is added to the file later leaves it as it is."""
    digest = hashlib.sha256(str((data.shape, data.dtype.str)).encode())
    last = max(len(data) - _HASHED_SAMPLES, 0)
    for start in sorted({0, last // 2, last}):
        digest.update(np.ascontiguousarray(data[start : start + _HASHED_SAMPLES]).tobytes())
    return digest.hexdigest()


def _timing(item: Any) -> tuple[float, float]:
    """Read sampling rate and start, from `starting_time` or from the first timestamps."""
    if "starting_time" in item:
        rate = float(item["starting_time"].attrs["rate"])
        start = float(item["starting_time"][()])
    else:
        times = np.asarray(item["timestamps"][:1000], dtype=float)
        step = float(np.median(np.diff(times))) if times.size > 1 else float("nan")
        rate = 1.0 / step if step > 0 else float("nan")
        start = float(times[0]) if times.size else 0.0
        stored = item["timestamps"]
        refuse_jumps(lambda first, end: stored[first:end], len(stored), step, item.name)
    if not np.isfinite(rate) or rate <= 0:
        raise Broken("meta_broken", f"{item.name} has no sampling rate; correct the file")
    return rate, start


def _has_geometry(table: Any, rows: Any) -> bool:
    if "rel_x" not in table or "rel_y" not in table:
        return False
    x, y = np.asarray(table["rel_x"][:])[rows], np.asarray(table["rel_y"][:])[rows]
    places = np.column_stack([x, y]).astype(float)
    return bool(np.isfinite(places).all())


def _created(file: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(file.get("session_start_time"))).replace(tzinfo=None)
    except ValueError:
        return None


def _subject(file: Any) -> str:
    return _text(file.get("general/subject/subject_id"))


def _text(dataset: Any) -> str:
    if dataset is None:
        return ""
    value = dataset[()]
    return value.decode() if isinstance(value, bytes) else str(value)


def _recordings(file: _File, earlier: int, problems: list[Problem]) -> list[RawRecording]:
    """Join the bands of each probe of one file."""
    by_probe: dict[int, list[Series]] = defaultdict(list)
    _name_probes(file.series)
    for one in file.series:
        if one.probe is not None:
            by_probe[one.probe.number].append(one)
    recordings = []
    for number in sorted(by_probe):
        wide = [one for one in by_probe[number] if not one.is_lf]
        lf = [one for one in by_probe[number] if one.is_lf]
        reason = _unusable(wide)
        if reason is not None:
            problems.append(reason.at(file.found.path))
            continue
        bands = {"wideband": wide[0]} | ({"lf": lf[0]} if len(lf) == 1 else {})
        recordings.append(
            RawRecording(
                format="nwb",
                probe=str(ProbeName(number)),
                qualifier=f"n{earlier + 1}" if earlier else "",
                streams={name: _stream(name, file.found, one) for name, one in bands.items()},
                identity=Identity(
                    probe_serial=f"{file.identifier}/{wide[0].name}" if file.identifier else None,
                    created=file.created,
                    first_sample=round(wide[0].start * wide[0].rate),
                    size_bytes=wide[0].shape[0] * wide[0].shape[1] * wide[0].itemsize,
                    stream="/".join((*wide[0].devices, *wide[0].groups)),
                    hash=wide[0].hash,
                ),
                probe_model=wide[0].devices[0] if wide[0].devices else "",
                subject=file.subject,
                reader="nwb",
                reader_options={name: one.path for name, one in bands.items()},
            )
        )
    return recordings


def _unusable(wide: list[Series]) -> Broken | None:
    if not wide:
        return Broken("ap_missing", "only an LFP band in acquisition, nothing to sort")
    if len(wide) > 1:
        return Broken(
            "duplicate_stream",
            f"several series of one probe ({', '.join(one.name for one in wide)}); describe the "
            "one to use with a reader entry `nwb` in lab.yaml",
        )
    if wide[0].shape[0] == 0:
        return Broken("empty_file", f"{wide[0].path} has no samples")
    if not wide[0].has_geometry:
        return Broken(
            "unknown_probe",
            f"the electrodes of {wide[0].path} have no rel_x and rel_y; add them, or give a wiring "
            "in a reader entry `nwb` in lab.yaml",
        )
    return None


def _name_probes(series: list[Series]) -> None:
    """Give probes the number in a device, group or series name, and others the free ones."""
    unnamed: dict[tuple[str, ...], list[Series]] = defaultdict(list)
    taken: set[int] = set()
    for one in series:
        for text in (*one.devices, *one.groups, one.name):
            match = _PROBE.search(text)
            one.probe = parse_probe_name(match.group()) if match else None
            if one.probe is not None:
                taken.add(one.probe.number)
                break
        else:
            unnamed[one.devices or one.groups].append(one)
    for names in sorted(unnamed, key=lambda names: [natural_key(name) for name in names]):
        free = next(n for n in range(len(series) + len(taken)) if n not in taken)
        taken.add(free)
        for one in unnamed[names]:
            one.probe = ProbeName(free)


def _stream(name: str, found: FoundFile, series: Series) -> Stream:
    return Stream(
        name=name,
        files=(found.path,),
        n_channels=series.shape[1],
        n_samples=series.shape[0],
        sampling_frequency=series.rate,
        sizes=(found.size,),
        first_samples=(round(series.start * series.rate),),
    )
