"""Each stream of an Open Ephys folder by itself: its files, its size, and which copy is used.

Which streams are one recording of a probe is decided in `recordings`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from neuro_assets.formats.broken import Broken, contained, short
from neuro_assets.formats.copies import Candidate, without_copies
from neuro_assets.formats.model import Problem, Stream
from neuro_assets.formats.names import ProbeName
from neuro_assets.formats.openephys.files import (
    check_contacts,
    created_at,
    is_sync,
    probe_of,
    read_oebin,
    sample_numbers_file,
    span_of_numbers,
)
from neuro_assets.formats.walk import FoundFile, Listing, natural_key

BYTES = 2
"""Open Ephys writes int16."""

LFP_BELOW_HZ = 5000.0
"""A stream slower than this is an LFP band (Neuropixels write 2500 Hz)."""

_MOST_HZ = 1e8
_EXPERIMENT = re.compile(r"^experiment([0-9]{1,6})$")
_RECORDING = re.compile(r"^recording([0-9]{1,6})$")
_NODE = re.compile(r"^Record Node (\d+)", re.IGNORECASE)
_BAND = re.compile(r"-(AP|LFP)$")


@dataclass
class Continuous:
    """One stream of one recording in one record node.

    Parameters
    ----------
    base : str
        Folder above the record node, relative to the session.
    node : str
        Name of the record node's folder; empty in folders of old versions.
    experiment, recording : int
        Numbers from the folder names.
    data : FoundFile
        `continuous.dat`.
    oebin, settings, sample_numbers : str
        Relative paths of `structure.oebin`, the experiment's settings, and the numbers of samples.
    entry : dict
        The stream in `structure.oebin`.
    """

    base: str
    node: str
    experiment: int
    recording: int
    data: FoundFile
    oebin: str
    settings: str
    sample_numbers: str
    entry: dict[str, Any]
    n_samples: int = 0
    first_sample: int = 0
    n_missing: int = 0
    serial: str | None = None
    model: str = ""
    created: datetime | None = None
    probe: ProbeName = field(default_factory=lambda: ProbeName(0))

    @property
    def folder_name(self) -> str:
        """Name of the stream's folder: processor, node number and stream."""
        return str(self.entry["folder_name"]).strip("/")

    @property
    def stream_name(self) -> str:
        """Name within its processor, such as `ProbeA-AP`."""
        return str(self.entry.get("stream_name") or self.folder_name.partition(".")[2])

    @property
    def probe_name(self) -> str:
        """Stream name without its band."""
        return _BAND.sub("", self.stream_name)

    @property
    def rate(self) -> float:
        """Sampling frequency, Hz."""
        return float(self.entry["sample_rate"])

    @property
    def band(self) -> str:
        """`ap`, `lf` or `wideband` (a probe without bands)."""
        if self.rate < LFP_BELOW_HZ:
            return "lf"
        return "ap" if self.stream_name.endswith("-AP") else "wideband"

    @property
    def history(self) -> str:
        """Processors that the first channel went through."""
        return str(self.entry["channels"][0].get("history", ""))

    @property
    def place(self) -> tuple[str, int, int]:
        """Base folder, experiment and recording."""
        return self.base, self.experiment, self.recording


def intact_streams(
    folder: Path, listing: Listing, problems: list[Problem], *, boards: bool = False
) -> list[Continuous]:
    """Find the streams of a session that can be used, each once.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.
    problems : list of Problem
        What is wrong is added here.
    boards : bool
        Whether those of auxiliary boards are wanted, or those of probes.

    Returns
    -------
    list of Continuous
        Where several record nodes hold one stream, the one that went through the fewest
        processors (then the lowest node number); no copies.
    """
    by_path = {found.path: found for found in listing.files}
    streams: list[Continuous] = []
    for found in listing.files:
        if found.name == "structure.oebin":
            # What nobody can read is reported once, with the probes.
            with contained(found.path, [] if boards else problems):
                streams += _read_structure(folder, found.path, by_path, problems, boards)
    if not boards:
        _report_orphans(listing, streams, problems)
    intact = []
    for stream in (each for each in streams if is_board(each.entry) == boards):
        with contained(stream.data.path, problems):
            _check(folder, stream)
            intact.append(stream)
            _report_gaps(stream, problems)
    chosen = _one_node_each(intact, problems)
    return without_copies(folder, [_candidate(stream) for stream in chosen], problems)


def _candidate(stream: Continuous) -> Candidate:
    says = (stream.serial, stream.folder_name, stream.created, stream.first_sample)
    return Candidate(
        item=stream,
        path=stream.data.path,
        size=stream.data.size,
        identity=says if stream.created else None,
        slot=(*stream.place, stream.folder_name),
        rank=(natural_key(stream.base), stream.experiment, stream.recording),
    )


def place_of(oebin: str) -> tuple[tuple[str, int, int], str]:
    """Read the path of a `structure.oebin`: base folder, experiment and recording; record node."""
    parts = PurePosixPath(oebin).parts
    experiment = _EXPERIMENT.match(parts[-3]) if len(parts) >= 3 else None
    recording = _RECORDING.match(parts[-2]) if len(parts) >= 2 else None
    above = parts[:-3] if experiment else parts[:-2]
    node = above[-1] if above and _NODE.match(above[-1]) else ""
    base = "/".join(above[:-1] if node else above)
    numbers = [int(found[1]) if found else 1 for found in (experiment, recording)]
    return (base, numbers[0], numbers[1]), node


def _read_structure(
    folder: Path, path: str, by_path: dict[str, FoundFile], problems: list[Problem], boards: bool
) -> list[Continuous]:
    """Streams of one recording folder of one record node; those without data are reported."""
    parts = PurePosixPath(path).parts
    (base, number, recording), node = place_of(path)
    settings = "settings.xml" if number == 1 else f"settings_{number}.xml"
    found = []
    for entry in read_oebin(folder / path)["continuous"]:
        name = str(entry.get("folder_name", "")).strip("/")
        stream_folder = f"{'/'.join(parts[:-1])}/continuous/{name}".lstrip("/")
        data = f"{stream_folder}/continuous.dat"
        if data not in by_path:
            detail = "structure.oebin lists this stream but its data file is not there; copy it"
            if is_board(entry) == boards:
                problems.append(Problem(kind="data_missing", path=data, detail=detail))
            continue
        found.append(
            Continuous(
                base=base,
                node=node,
                experiment=number,
                recording=recording,
                data=by_path[data],
                oebin=path,
                settings="/".join(part for part in (base, node, settings) if part),
                sample_numbers=sample_numbers_file(stream_folder, by_path),
                entry=entry,
            )
        )
    return found


def _report_orphans(
    listing: Listing, streams: Sequence[Continuous], problems: list[Problem]
) -> None:
    known = {stream.data.path for stream in streams}
    broken = {str(PurePosixPath(p.path).parent) for p in problems}
    for found in listing.files:
        if found.name != "continuous.dat" or found.path in known:
            continue
        recording = str(PurePosixPath(found.path).parent.parent.parent)
        if recording not in broken:
            problems.append(
                Problem(
                    kind="meta_missing",
                    path=found.path,
                    detail="no structure.oebin describes this stream; copy it from the rig",
                )
            )


def _check(folder: Path, stream: Continuous) -> None:
    """Check size, timestamps, gains and probe of one stream."""
    size = stream.data.size
    if size == 0:
        raise Broken("empty_file", "the file has no data; copy it again from the rig or remove it")
    n_channels = len(stream.entry.get("channels", ()))
    if n_channels == 0 or n_channels != int(stream.entry.get("num_channels", n_channels)):
        raise Broken(
            "channel_count", "structure.oebin contradicts itself about the channels; copy it again"
        )
    if size % (n_channels * BYTES):
        raise Broken(
            "truncated",
            f"{size} bytes are not a whole number of samples of {n_channels} channels; copy the "
            "file again from the rig",
        )
    if not 0 < stream.rate <= _MOST_HZ:
        raise Broken("meta_broken", f"sample_rate {short(stream.rate)} Hz in structure.oebin")
    stream.n_samples = size // (n_channels * BYTES)
    if not all(_is_gain(channel.get("bit_volts")) for channel in stream.entry["channels"]):
        raise Broken("bad_gain", "structure.oebin has a bit_volts that is no gain; correct it")
    if is_board(stream.entry):
        stream.created = created_at(folder / stream.settings)
    else:
        probe = probe_of(folder / stream.settings, stream.probe_name, stream.stream_name)
        check_contacts(probe, stream.entry)
        stream.serial = str(probe.annotations.get("serial_number") or "") or None
        stream.created = created_at(folder / stream.settings)
        stream.model = str(probe.annotations.get("part_number") or probe.model_name or "")
    numbers = span_of_numbers(folder / stream.sample_numbers, stream.n_samples)
    stream.first_sample, stream.n_missing = numbers


def _report_gaps(stream: Continuous, problems: list[Problem]) -> None:
    if stream.n_missing:
        seconds = stream.n_missing / stream.rate
        problems.append(
            Problem(
                kind="sample_gap",
                path=stream.data.path,
                detail=f"the sample numbers jump over {stream.n_missing} samples ({seconds:.3f} s) "
                "that the rig did not write; used, times after each jump are later",
            )
        )


def _is_gain(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _one_node_each(streams: list[Continuous], problems: list[Problem]) -> list[Continuous]:
    """Choose among record nodes that hold the same stream."""
    same: dict[tuple[Any, ...], list[Continuous]] = defaultdict(list)
    for stream in streams:
        same[(*stream.place, stream.folder_name)].append(stream)
    chosen = []
    for group in same.values():
        ranked = sorted(
            group,
            key=lambda s: (s.history.count("->"), natural_key(s.node), natural_key(s.data.path)),
        )
        chosen.append(ranked[0])
        for other in ranked[1:]:
            problems.append(
                Problem(
                    kind="duplicate_stream",
                    path=other.data.path,
                    detail=f"{other.node or 'this folder'} holds the same stream as "
                    f"{ranked[0].node or ranked[0].data.parent}, which is used (fewest processors, "
                    "then lowest node number); nothing to do",
                )
            )
    return chosen


def is_board(entry: dict[str, Any]) -> bool:
    """Tell analogue inputs: of a NI-DAQ, a OneBox, an acquisition board.

    Parameters
    ----------
    entry : dict
        A stream in `structure.oebin`.

    Returns
    -------
    bool
        False where one channel is of a probe.
    """
    processor = str(entry.get("source_processor_name") or entry.get("folder_name", ""))
    names = [str(c.get("channel_name", "")) for c in entry.get("channels", ()) if not is_sync(c)]
    is_daq = "NI-DAQ" in processor or "NIDAQ" in processor
    return is_daq or (bool(names) and all(name.upper().startswith("ADC") for name in names))


def place_texts(places: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int, int], str]:
    """Tell the recordings of a session apart.

    Parameters
    ----------
    places : iterable of (str, int, int)
        Base folder, experiment and recording.

    Returns
    -------
    dict
        `b2`, `e2r1`, ... by place; empty text for the first recording of the first folder.
    """
    places = set(places)
    bases = sorted({place[0] for place in places}, key=natural_key)
    first = {base: min(place[1:] for place in places if place[0] == base) for base in bases}
    return {
        (base, experiment, number): (f"b{bases.index(base) + 1}" if bases.index(base) else "")
        + (f"e{experiment}r{number}" if (experiment, number) != first[base] else "")
        for base, experiment, number in places
    }


def stream_of(name: str, stream: Continuous) -> Stream:
    """Describe a stream by what is needed to open it again."""
    metas = (stream.oebin,) if is_board(stream.entry) else (stream.oebin, stream.settings)
    return Stream(
        name=name,
        files=(stream.data.path,),
        metas=metas,
        n_channels=len(stream.entry["channels"]),
        n_samples=stream.n_samples,
        sampling_frequency=stream.rate,
        sizes=(stream.data.size,),
        first_samples=(stream.first_sample,),
        sample_numbers=(stream.sample_numbers,),
        n_missing=stream.n_missing,
    )
