"""Recordings that a SpikeInterface reader named in `lab.yaml` opens.

Finding and describing them; the opening itself is shared with `generic_open`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.utils import glob_translate

from neuro_assets.formats.broken import Broken, contained
from neuro_assets.formats.companions import check_wideband
from neuro_assets.formats.copies import without_cut, without_equal
from neuro_assets.formats.generic_open import (
    call_reader,
    check_gains,
    known_readers,
    probe_for,
)
from neuro_assets.formats.model import Identity, Problem, RawRecording, Scan, Stream
from neuro_assets.formats.nwb import subject_beside
from neuro_assets.formats.opened_files import opened_files
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.timeline import refuse_jumps
from neuro_assets.formats.walk import FoundFile, Listing, natural_key

NWB = ("nwb", "nwbtimeseries")

HEAD_FRAMES = 1000
"""Samples of each channel that tell recordings apart: noise never repeats them."""

_SAME = (
    *("probe", "probe_model", "reader", "path_argument", "wiring"),
    *("gain_uv", "offset_uv", "sync_channels"),
)
"""Fields that the description takes over from the entry."""


def scan_readers(
    folder: Path, listing: Listing, entries: Sequence[ReaderEntry]
) -> tuple[Scan, set[str]]:
    """Describe what the reader entries match.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files and folders.
    entries : sequence of ReaderEntry
        From `lab.yaml`.

    Returns
    -------
    Scan
        A recording for each match and segment.
    set of str
        Files that an entry matched, or that its reader opened: the other formats leave them alone.
    """
    recordings: list[RawRecording] = []
    problems: list[Problem] = []
    used: set[str] = set()
    for entry in entries:
        matches = _matches(entry, listing)
        used.update(_files_of(matches, listing))
        if not matches:
            continue
        if entry.reader not in known_readers():
            near = difflib.get_close_matches(entry.reader, known_readers(), n=1)
            hint = f"; did you mean {near[0]!r}? If so," if near else ";"
            detail = f"SpikeInterface has no reader {entry.reader!r}{hint} correct lab.yaml"
            problems.append(Problem(kind="unknown_reader", path=matches[0], detail=detail))
            continue
        found: list[RawRecording] = []
        for match in matches:
            with contained(match, problems):
                found += _describe(folder, listing, entry, match)
        used.update(file for one in found for file in one.main.files)
        found = without_equal(folder, found, recordings, problems)
        recordings += _numbered(without_cut(folder, found, problems))
    return Scan(recordings=tuple(recordings), problems=tuple(problems)), used


def _matches(entry: ReaderEntry, listing: Listing) -> list[str]:
    """Files and folders that match, in natural order."""
    names = [found.path for found in listing.files] + listing.folders
    # `**` stands for folders only as a whole part; fsspec refuses it elsewhere.
    whole = re.sub(r"(?<=[^/])\*\*+|\*\*+(?=[^/])", "*", entry.glob)
    pattern = re.compile(glob_translate(whole))
    return sorted((name for name in names if pattern.match(name)), key=natural_key)


def _files_of(matches: list[str], listing: Listing) -> set[str]:
    return {
        found.path
        for found in listing.files
        for match in matches
        if found.path == match or found.path.startswith(match + "/")
    }


def _numbered(recordings: Sequence[RawRecording]) -> list[RawRecording]:
    """Tell the recordings of one entry apart by their place among them."""
    return [
        one.model_copy(update={"qualifier": f"t{number}" if number > 1 else ""})
        for number, one in enumerate(recordings, start=1)
    ]


def _describe(folder: Path, listing: Listing, entry: ReaderEntry, match: str) -> list[RawRecording]:
    files = [f for f in listing.files if f.path == match or f.path.startswith(match + "/")]
    _check_size(entry, files)
    with opened_files() as names:
        # Without its times NWB gives samples with pauses as if they followed each other.
        times = {"load_time_vector": True} if entry.reader in NWB else {}
        options = {**entry.options, **times}
        opened = call_reader(entry.reader, entry.path_argument, options, folder / match)
    named = [entry.glob, *(str(value) for value in entry.options.values())]
    check_wideband(opened, entry.reader, named)
    files += [found for found in _opened(folder, listing, names) if found not in files]
    _check_samples(opened, files)
    _check_times(opened, match)
    subject = ""
    if entry.reader in NWB and (folder / match).is_file():
        series = opened.electrical_series_path if entry.reader == "nwb" else opened.timeseries_path
        subject = subject_beside(folder / match, series)
    n_neural = opened.get_num_channels() - len(entry.sync_channels)
    probe_file = str(Path(entry.probe_file).expanduser().absolute()) if entry.probe_file else None
    probe_for(opened, probe_file, entry.wiring, n_neural)
    check_gains(opened, entry.gain_uv)
    size = sum(found.size for found in files)
    recordings = []
    for segment in range(opened.get_num_segments()):
        n_samples = int(opened.get_num_samples(segment))
        if n_samples == 0:
            continue
        recordings.append(
            RawRecording(
                format="reader",
                streams={
                    "wideband": Stream(
                        name="wideband",
                        files=tuple(found.path for found in files),
                        n_channels=opened.get_num_channels(),
                        n_samples=n_samples,
                        sampling_frequency=float(opened.get_sampling_frequency()),
                        sizes=tuple(found.size for found in files),
                    )
                },
                identity=Identity(size_bytes=size, head=_head(opened, segment, entry)),
                reader_options={"path": match, "options": dict(entry.options)},
                probe_file=probe_file,
                subject=subject,
                segment=segment,
                **{name: getattr(entry, name) for name in _SAME},
            )
        )
    if not recordings:
        raise Broken("empty_file", "the reader finds no samples; copy the file again or remove it")
    return recordings


def _head(opened: Any, segment: int, entry: ReaderEntry) -> str:
    """Name the first samples as the reader gives them, whatever its header says besides."""
    n_frames = min(opened.get_num_samples(segment), HEAD_FRAMES)
    traces = np.ascontiguousarray(opened.get_traces(segment, start_frame=0, end_frame=n_frames))
    if not np.ptp(traces, axis=0).any():
        return ""  # silence is the beginning of many
    # Entries may divide the channels of one file among probes.
    how = (entry.reader, sorted(entry.options.items()), entry.sync_channels, traces.dtype.str)
    return hashlib.sha256(f"{how} {traces.shape}".encode() + traces.tobytes()).hexdigest()[:16]


def _opened(folder: Path, listing: Listing, names: Collection[str]) -> list[FoundFile]:
    """Find the files of the session among those that were opened, under whatever path."""
    real = {os.path.realpath(name) for name in names}
    ends = {os.path.basename(name) for name in (*names, *real)}  # noqa: PTH119
    return [
        found
        for found in listing.files
        if found.name in ends and os.path.realpath(folder / found.path) in real
    ]


def _check_samples(opened: Any, files: Sequence[FoundFile]) -> None:
    """Refuse samples that lie elsewhere: nobody would see when they are replaced."""
    n_values = opened.get_num_channels() * opened.get_total_samples()
    size = sum(found.size for found in files)
    # No lossless compression of voltages gets below one bit a sample.
    if 8 * size < n_values:
        names = ", ".join(found.name for found in files[:3])
        raise Broken(
            "samples_elsewhere",
            f"{names} hold {size} bytes, too few for {n_values} samples: the reader takes them "
            "from files that cannot be told; let the glob in lab.yaml match the file or folder "
            "with the samples, and put them into the session's folder",
        )


def _check_times(opened: Any, match: str) -> None:
    for segment in range(opened.get_num_segments()):
        if opened.has_time_vector(segment):
            refuse_jumps(
                partial(opened.get_times, segment),
                opened.get_num_samples(segment),
                1 / opened.get_sampling_frequency(),
                match,
            )


def _check_size(entry: ReaderEntry, files: Sequence[FoundFile]) -> None:
    """SpikeInterface's binary reader drops a cut last sample without a word."""
    if not files or all(found.size == 0 for found in files):
        raise Broken("empty_file", "there is no data; copy it again or remove it")
    if entry.reader != "binary":
        return
    options = entry.options
    if not {"num_channels", "dtype", "sampling_frequency"} <= options.keys():
        raise Broken(
            "bad_options",
            "a binary reader entry needs sampling_frequency, num_channels and dtype in its "
            "options; add them in lab.yaml",
        )
    frame = int(str(options["num_channels"])) * np.dtype(str(options["dtype"])).itemsize
    for found in files:
        extra = (found.size - int(str(options.get("file_offset", 0)))) % frame
        if extra:
            raise Broken(
                "truncated",
                f"{found.size} bytes are not a whole number of samples of "
                f"{options['num_channels']} channels ({extra} bytes too many); copy the file "
                "again, or correct the entry in lab.yaml",
            )
