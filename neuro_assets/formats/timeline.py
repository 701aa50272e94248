"""Where the samples of a recording with gaps are in time; the samples themselves lie side by side.

Samples are stored without the gaps, in one segment, so that a sample index means the same in the
raw file and in every output. A small table of pieces (first sample, and its place on the clock
`probe`) travels with the recording as an annotation. Without gaps there is no annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuro_assets.formats.broken import Broken

ANNOTATION = "pieces"
"""Annotation of recordings and sortings: `start_sample`, `probe_sample` and `file` of each piece.

`probe_sample` counts samples from the recording's first one, those missing in gaps included.
"""

_COLUMNS = ("start_sample", "probe_sample", "file")

MAX_PIECES = 10_000
"""More than this are no clock but damage; a recording that loses data every 0.4 s for an hour."""

BLOCK = 1 << 22
"""Sample numbers compared at a time (32 MB)."""


@dataclass(frozen=True)
class Timeline:
    """Pieces of a recording without gaps inside.

    Parameters
    ----------
    starts : tuple of int
        First sample of each piece, in the recording; the first is 0.
    clock : tuple of int
        Its place on the clock, in samples since the recording's first one.
    files : tuple of int
        Which data file each piece is from: a gap within a file is lost data, one between two
        files is where the rig paused (triggers).
    """

    starts: tuple[int, ...] = (0,)
    clock: tuple[int, ...] = (0,)
    files: tuple[int, ...] = (0,)

    @property
    def has_gaps(self) -> bool:
        """Whether time jumps anywhere."""
        return len(self.starts) > 1

    @property
    def bounds(self) -> np.ndarray:
        """First sample after each gap, int64."""
        return np.asarray(self.starts[1:], dtype=np.int64)

    @property
    def missing(self) -> np.ndarray:
        """Length of each gap in samples, int64; 0 where a rounded count takes a sample back."""
        return (np.diff(self.clock) - np.diff(self.starts)).clip(0)

    @property
    def dropped(self) -> np.ndarray:
        """Length of each gap that lies within one file, int64: data that the rig lost."""
        return self.missing[np.diff(self.files) == 0]

    def spans(self, n_samples: int) -> list[tuple[int, int]]:
        """First sample of each piece, and one past its last, in a recording of that length."""
        return list(zip(self.starts, (*self.starts[1:], n_samples), strict=True))

    def on_clock(self, samples: Any) -> np.ndarray:
        """Place of samples on the clock.

        Parameters
        ----------
        samples : array of int or float
            Sample indices of the recording.

        Returns
        -------
        ndarray of int64 or float64
            Samples since the recording's first one, gaps included.
        """
        samples = np.asarray(samples)
        samples = samples.astype(np.float64 if samples.dtype.kind == "f" else np.int64)
        if not self.has_gaps:
            return samples
        before = np.asarray(self.clock, np.int64) - np.asarray(self.starts, np.int64)
        return samples + before[np.searchsorted(self.starts, samples, side="right").clip(1) - 1]

    def seconds(self, samples: Any, rate: float) -> np.ndarray:
        """Time of samples on the clock `probe`, s after the recording's first sample, float64."""
        return self.on_clock(samples).astype(np.float64) / rate

    def from_clock(self, places: Any) -> np.ndarray:
        """Sample index of (fractional) places on the clock; inside a gap, that of its end."""
        places = np.asarray(places, dtype=np.float64)
        ends = np.asarray((*self.starts[1:], np.iinfo(np.int64).max), dtype=np.float64)
        piece = np.searchsorted(self.clock, places, side="right").clip(1) - 1
        own = places - np.asarray(self.clock)[piece] + np.asarray(self.starts)[piece]
        return np.minimum(own, ends[piece])

    def longest(self, n_samples: int) -> int:
        """Length of the longest piece in a recording of that length, samples."""
        return max(stop - start for start, stop in self.spans(n_samples))

    def inside(self, start: int, length: int, n_samples: int) -> int:
        """Nearest place for a stretch (no longer than the longest piece) without a gap in it."""
        if not np.any((self.bounds > start) & (self.bounds < start + length)):
            return start
        places = [
            min(max(start, first), last - length)
            for first, last in self.spans(n_samples)
            if last - first >= length
        ]
        return min(places, key=lambda place: abs(place - start))

    @property
    def annotation(self) -> dict[str, Any]:
        """The annotation that carries the gaps, JSON values; empty without gaps."""
        if not self.has_gaps:
            return {}
        values = zip(_COLUMNS, (self.starts, self.clock, self.files), strict=True)
        return {ANNOTATION: {name: [int(x) for x in column] for name, column in values}}

    def annotate(self, extractor: Any) -> None:
        """Let a recording (or sorting) carry its gaps; nothing is added where it has none."""
        extractor.annotate(**self.annotation)


def timeline_of(extractor: Any) -> Timeline:
    """Read the gaps that a recording or sorting carries.

    Parameters
    ----------
    extractor : spikeinterface.BaseExtractor
        One segment.

    Returns
    -------
    Timeline
        Of one piece where nothing is annotated.
    """
    pieces = extractor.get_annotation(ANNOTATION)
    if not pieces:
        return Timeline()
    return Timeline(*(tuple(pieces[name]) for name in _COLUMNS))


def timeline_of_files(
    first_samples: Sequence[int],
    lengths: Sequence[int],
    *,
    leader: Sequence[int] = (),
    ratio: float = 1.0,
) -> Timeline:
    """Pieces of files that were joined.

    Parameters
    ----------
    first_samples : sequence of int
        Number of each file's first sample in the acquisition's count; empty where unknown.
    lengths : sequence of int
        Samples in each file.
    leader : sequence of int
        The same numbers of the faster stream of which this one is counted (AP of LF), where there
        is one: its own are rounded, and its time must follow the other's.
    ratio : float
        Samples of the leader to one of this stream.

    Returns
    -------
    Timeline
        Files that follow each other without a gap are one piece. With a leader no file lies a
        sample or more from where the leader's does, unless its own count says so.
    """
    if len(leader) == len(lengths):
        places = (np.asarray(leader, np.float64) - leader[0]) / ratio
        if len(first_samples) == len(lengths):
            own = np.asarray(first_samples, np.float64) - first_samples[0]
            places = np.where(np.abs(own - places) <= 1, places, own)
    elif len(first_samples) == len(lengths):
        places = np.asarray(first_samples, np.float64) - first_samples[0]
    else:
        return Timeline()
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    clock = [0]
    for place, length in zip(places[1:].tolist(), lengths, strict=False):
        follows = clock[-1] + length
        # Against the first file, not the one before: rounding must not add up. A count without
        # a leader that begins a sample too early is rounded too, and no overlap.
        apart = abs(place - follows) if len(leader) else place - follows
        clock.append(round(place) if apart >= 1 else follows)
    return _timeline(starts, np.asarray(clock, np.int64), np.arange(len(lengths)))


def timeline_of_numbers(numbers: np.ndarray) -> Timeline:
    """Pieces of a file that has a number for each sample.

    Parameters
    ----------
    numbers : ndarray of int, shape (n_samples,)
        May be memory-mapped: it is read once, block by block.

    Returns
    -------
    Timeline
        Empty files have one piece.

    Raises
    ------
    Broken
        `sample_numbers` when they do not rise, or jump more than 10,000 times.
    """
    jumps = []
    for start in range(0, len(numbers) - 1, BLOCK):
        steps = np.diff(np.asarray(numbers[start : start + BLOCK + 1], dtype=np.int64))
        odd = np.flatnonzero(steps != 1)
        if len(odd) and steps[odd].min() < 1:
            back = start + int(odd[np.argmin(steps[odd])])
            raise Broken(
                "sample_numbers",
                f"the sample numbers do not rise after sample {back} ({numbers[back]}, then "
                f"{numbers[back + 1]}), so that nobody knows when it was recorded; copy the "
                "folder again from the rig",
            )
        jumps.append(start + 1 + odd)
    bounds = np.concatenate([[0], *jumps]).astype(np.int64)
    if len(bounds) > MAX_PIECES:
        raise Broken(
            "sample_numbers",
            f"the sample numbers jump {len(bounds) - 1} times, so that they are no clock; copy "
            "the folder again from the rig",
        )
    if not len(numbers):
        return Timeline()
    clock = np.asarray(numbers[bounds], dtype=np.int64) - int(numbers[0])
    return _timeline(bounds, clock, np.zeros(len(bounds), np.int64))


def refuse_jumps(
    times: Callable[[int, int], np.ndarray], n_samples: int, step: float, name: str
) -> None:
    """Refuse timestamps with pauses: the samples would be taken to follow each other.

    Parameters
    ----------
    times : callable
        `times(first, end) -> ndarray of float, shape (end - first,)`, seconds; read in blocks.
    n_samples : int
        How many there are.
    step : float
        Time between two samples, s.
    name : str
        What they belong to, for the message.

    Raises
    ------
    Broken
        `timestamps_jump` where a step is off by more than half a sample.
    """
    for first in range(0, n_samples - 1, BLOCK):
        block = np.asarray(times(first, min(first + BLOCK + 1, n_samples)), dtype=float)
        # Written so that a time that is no number counts too.
        odd = np.flatnonzero(~(np.abs(np.diff(block) - step) <= step / 2))
        if odd.size:
            at = int(odd[0])
            raise Broken(
                "timestamps_jump",
                f"the timestamps of {name} jump after sample {first + at} "
                f"({block[at]:.6f} s, then {block[at + 1]:.6f} s); write each piece between jumps "
                "to a file of its own",
            )


def _timeline(starts: np.ndarray, clock: np.ndarray, files: np.ndarray) -> Timeline:
    """Join neighbours between which nothing is missing."""
    new = np.concatenate([[True], np.diff(clock) != np.diff(starts)])
    return Timeline(*(tuple(values[new].tolist()) for values in (starts, clock, files)))
