"""Triggers of one SpikeGLX gate in time: which files follow each other, gaps, overlaps."""

from __future__ import annotations

from collections.abc import Sequence

from neuro_assets.formats.model import Problem, Stream
from neuro_assets.formats.spikeglx.files import DataFile
from neuro_assets.formats.timeline import Timeline, timeline_of_files

_CLOCKS_AGREE_S = 60.0
"""Files are made a few seconds late when the disk is busy; two starts are minutes apart."""


def order_triggers(files: Sequence[DataFile], problems: list[Problem]) -> list[list[DataFile]]:
    """Part the trigger files of one stream in pieces that can be joined.

    Files are joined in the order of their trigger number. A gap (by `firstSample`) is reported
    and joined over: `Stream.first_samples` keeps where the time jumps. A file that begins before
    the one before it ends would hold the same samples twice: it begins a piece of its own. A file
    with another channel count or sampling rate cannot be joined either.

    Parameters
    ----------
    files : sequence of DataFile
        One for each trigger; `places_known`.
    problems : list of Problem
        Reports are added here: `trigger_gap`, `trigger_overlap`, `trigger_mismatch`.

    Returns
    -------
    list of list of DataFile
        Pieces in time order; usually one.
    """
    pieces: list[list[DataFile]] = []
    for file in sorted(files, key=lambda file: file.trigger):
        if pieces and _joins(pieces[-1][-1], file, problems):
            pieces[-1].append(file)
        else:
            pieces.append([file])
    return pieces


def _joins(before: DataFile, file: DataFile, problems: list[Problem]) -> bool:
    """Whether a file may follow another in one recording."""
    if (before.meta.n_channels, before.meta.saved_channels()) != (
        file.meta.n_channels,
        file.meta.saved_channels(),
    ) or abs(before.meta.sampling_frequency - file.meta.sampling_frequency) > 1:
        problems.append(
            Problem(
                kind="trigger_mismatch",
                path=file.path,
                detail="other channels or sampling rate than the trigger before it, so it is a "
                "recording of its own",
            )
        )
        return False
    if _of_another_start(before, file):
        problems.append(
            Problem(
                kind="trigger_mismatch",
                path=file.path,
                detail=f"made at {file.meta.created}, which its first sample does not fit: not "
                f"the same start of the program as {before.path}, so it is a recording of its own",
            )
        )
        return False
    gap = (file.meta.first_sample or 0) - ((before.meta.first_sample or 0) + before.n_samples)
    if gap < 0:
        problems.append(
            Problem(
                kind="trigger_overlap",
                path=file.path,
                detail=f"begins {-gap} samples before the trigger before it ends, so it is a "
                "recording of its own",
            )
        )
        return False
    if gap > 0:
        problems.append(
            Problem(
                kind="trigger_gap",
                path=file.path,
                detail=f"begins {gap} samples ({gap / file.meta.sampling_frequency:.3f} s) after "
                "the trigger before it; joined, times after it jump",
            )
        )
    return True


def timeline_of_stream(
    stream: Stream, lengths: Sequence[int], leader: Stream | None = None
) -> Timeline:
    """Pieces of a stream without gaps inside.

    Parameters
    ----------
    stream : Stream
        Of one file a trigger.
    lengths : sequence of int
        Samples in each file.
    leader : Stream, optional
        The AP stream of an LF stream.

    Returns
    -------
    Timeline
        On the stream's own samples.
    """
    if leader is None:
        return timeline_of_files(stream.first_samples, lengths)
    return timeline_of_files(
        stream.first_samples,
        lengths,
        leader=leader.first_samples,
        ratio=stream.ratio_to(leader),
    )


def places_known(
    triggers: Sequence[DataFile], files: Sequence[DataFile], problems: list[Problem]
) -> bool:
    """Tell whether each of several triggers says where it lies in time.

    Joined all the same they would seem to follow each other without a pause.

    Parameters
    ----------
    triggers : sequence of DataFile
        One for each trigger of a stream.
    files : sequence of DataFile
        What is left out when one does not say it.
    problems : list of Problem
        Reports are added here: `first_sample_missing`, one for each file that is left out.

    Returns
    -------
    bool
        Also True for a single file, which has no pauses.
    """
    unplaced = [file for file in triggers if file.meta.first_sample is None]
    if len(triggers) < 2 or not unplaced:
        return True
    detail = (
        f"the meta of {unplaced[0].path} has no firstSample, so nobody knows the pauses between "
        f"the {len(triggers)} triggers, and none is used: restore the meta from the rig, or put "
        "each trigger into a session folder of its own"
    )
    kind = "first_sample_missing"
    problems += [Problem(kind=kind, path=file.path, detail=detail) for file in files]
    return False


def _of_another_start(before: DataFile, file: DataFile) -> bool:
    """Whether the clock and the count of samples disagree about the time between two files."""
    one, other = before.meta, file.meta
    if one.created is None or other.created is None:
        return False
    samples = (other.first_sample or 0) - (one.first_sample or 0)
    elapsed = (other.created - one.created).total_seconds()
    return abs(elapsed - samples / other.sampling_frequency) > _CLOCKS_AGREE_S
