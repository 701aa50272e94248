"""One session folder in, all its recordings and problems out: the formats are asked in turn.

What makes a recording in each format is the business of its own module.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from neuro_assets.formats import known_formats
from neuro_assets.formats.copies import without_equal
from neuro_assets.formats.model import Problem, RawRecording, Scan
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.spikeglx.files import pair_files
from neuro_assets.formats.walk import Listing, list_files, name_when_copied

CONTINUOUS = "continuous.dat"
DATA_SUFFIXES = frozenset(
    (".bin", ".cbin", ".dat", ".nwb", ".raw")
    + (".rhd", ".rhs", ".ns3", ".ns4", ".ns5", ".ns6")  # Intan, Blackrock
    + (".ncs", ".nrd", ".plx", ".pl2", ".rec", ".continuous")  # Neuralynx, Plexon, SpikeGadgets
    + (".tev", ".sev", ".smr", ".smrx", ".mcd", ".brw", ".xdat", ".lsx", ".mpx")  # TDT, CED, ...
)
"""Endings of files that rigs write samples into."""
_CAMERA_COUNTS = re.compile(r"_iblrig_\w*Camera\.(frame_counter|GPIO)\.bin")
"""Counts of frames and pins that IBL's cameras write: no recording."""


def scan_session(folder: Path, readers: Sequence[ReaderEntry] = ()) -> Scan:
    """Find every recording of one session.

    Parameters
    ----------
    folder : Path
        ONE session folder (`<subject>/<date>/<number>`) or the folder of a bare run.
    readers : sequence of ReaderEntry
        Recordings that no format describes, from `lab.yaml`; files that they match are left
        alone by the other formats.

    Returns
    -------
    Scan
        Recordings with distinct labels, and a problem for everything that looks like a recording
        and is none. A broken recording never keeps another from being found.

    Raises
    ------
    TransientFailure
        When the folder cannot be read at all: that is never an empty list.
    """
    return scan_listing(folder, list_files(folder), readers)


def scan_listing(folder: Path, listing: Listing, readers: Sequence[ReaderEntry] = ()) -> Scan:
    """Find the recordings among files that were listed already.

    Parameters
    ----------
    folder : Path
        The session folder.
    listing : Listing
        Its files.
    readers : sequence of ReaderEntry
        As in `scan_session`.

    Returns
    -------
    Scan
        As in `scan_session`.
    """
    recordings: list[RawRecording] = []
    problems = list(listing.problems)
    if readers:
        from neuro_assets.formats.readers import scan_readers

        scan, used = scan_readers(folder, listing, readers)
        recordings += scan.recordings
        problems += scan.problems
        listing = Listing([f for f in listing.files if f.path not in used], listing.folders)
    for file_format in known_formats.FORMATS:
        scan = file_format.scan(folder, listing)
        problems += scan.problems
        found = without_equal(folder, scan.recordings, (), problems)
        recordings += (
            found if file_format.acquired else _without_acquired(found, recordings, problems)
        )
    problems += _apart(recordings)
    boards = [file.path for file in pair_files(folder, listing, [], boards=True)]
    if boards and not recordings:
        problems.append(_no_probe(boards))
    problems += _left_over(listing, recordings, problems, boards)
    problems += _partial(listing)
    return Scan(recordings=tuple(_distinct(recordings, problems)), problems=tuple(problems))


def is_data_like(name: str) -> bool:
    """Tell a file that people take for a recording by its name.

    Parameters
    ----------
    name : str
        Of any file.

    Returns
    -------
    bool
        True by its ending, but for the counts of IBL's cameras.
    """
    is_data = PurePosixPath(name).suffix.lower() in DATA_SUFFIXES
    return is_data and _CAMERA_COUNTS.fullmatch(name) is None


def _left_over(
    listing: Listing,
    recordings: Sequence[RawRecording],
    problems: Sequence[Problem],
    boards: Iterable[str],
) -> list[Problem]:
    """Name the files that look like recordings, belong to none, and of which nothing is said."""
    known = {path for r in recordings for s in r.streams.values() for path in s.files}
    known |= set(boards)
    known |= {problem.path for problem in problems}
    by_folder: dict[str, list[str]] = defaultdict(list)
    for found in listing.files:
        # Open Ephys reports its own by `structure.oebin`.
        if is_data_like(found.name) and found.path not in known and found.name != CONTINUOUS:
            by_folder[found.parent].append(found.path)
    return [
        Problem(
            kind="unrecognised",
            path=paths[0],
            detail=f"{len(paths)} data file{'s' * (len(paths) > 1)} of this folder belong to no "
            "recording: copy the metadata that the rig wrote beside them (.meta, structure.oebin), "
            "or describe them with a reader entry in lab.yaml",
        )
        for paths in by_folder.values()
    ]


def _no_probe(boards: Sequence[str]) -> Problem:
    return Problem(
        kind="no_probe",
        path=boards[0],
        detail=f"{len(boards)} data file{'s' * (len(boards) > 1)} of auxiliary boards and no "
        "recording of a probe that can be read: a session gets its keys from its probes, so "
        "nothing of it is stored; copy the probes' files into it",
    )


def _partial(listing: Listing) -> list[Problem]:
    """Name the data files whose copy was begun and is not done."""
    detail = "a copy in progress, or one that stopped: let it end, or copy the file again"
    return [
        Problem(kind="partial_copy", path=found.path, detail=detail)
        for found in listing.files
        if is_data_like(name_when_copied(found.name))
    ]


def _apart(recordings: Sequence[RawRecording]) -> list[Problem]:
    """Report LF streams that do not begin with their AP stream."""
    return [
        Problem(
            kind="lf_offset",
            path=recording.streams["lf"].files[0],
            detail=f"begins {recording.lf_offset / recording.streams['lf'].sampling_frequency:.4f} "
            "s after the AP stream, by the acquisition's count; the LFP is put on the AP stream's "
            "time. Check that both are of one recording where this is long",
        )
        for recording in recordings
        if recording.lf_offset
    ]


def _without_acquired(
    found: Sequence[RawRecording], acquired: Sequence[RawRecording], problems: list[Problem]
) -> list[RawRecording]:
    """Leave out NWB copies of a probe whose acquisition files are in the session."""
    there = {recording.probe for recording in acquired if recording.format != "reader"}
    kept = []
    for recording in found:
        if recording.probe not in there:
            kept.append(recording)
            continue
        problems.append(
            Problem(
                kind="derivative",
                path=recording.main.files[0],
                detail=f"{recording.probe} is in this session as it was acquired, which is used; "
                "nothing to do",
            )
        )
    return kept


def _distinct(recordings: Sequence[RawRecording], problems: list[Problem]) -> list[RawRecording]:
    """Tell apart the recordings of two formats that would share a label."""
    labels: set[str] = set()
    distinct = []
    for recording in recordings:
        number, qualifier = 2, recording.qualifier
        while recording.label in labels:
            recording = recording.model_copy(update={"qualifier": f"{qualifier}x{number}"})
            number += 1
        if recording.qualifier != qualifier:
            problems.append(
                Problem(
                    kind="label_clash",
                    path=recording.main.files[0],
                    detail=f"another recording of {recording.probe} is in this session, so this "
                    f"one is {recording.label}; give the probe another name if they are two probes",
                )
            )
        labels.add(recording.label)
        distinct.append(recording)
    return distinct
