"""Open Ephys binary: experiments, recordings, record nodes and streams of a folder.

One recording is one probe in one `experiment<E>/recording<R>`. Each `structure.oebin` is read by
itself; settings come from the `settings.xml` of its own experiment. Samples are read elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from neuro_assets.formats.model import Identity, Problem, RawRecording, Scan
from neuro_assets.formats.names import ProbeName, parse_probe_name
from neuro_assets.formats.openephys.streams import (
    Continuous,
    intact_streams,
    place_texts,
    stream_of,
)
from neuro_assets.formats.walk import Listing, natural_key

_FILTERS = ("filter", "reference", "common avg", "phase")


def scan_openephys(folder: Path, listing: Listing) -> Scan:
    """Find the Open Ephys recordings among the files of a session.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.

    Returns
    -------
    Scan
        One recording for each probe, experiment and recording; where several record nodes hold
        one stream, the one that went through the fewest processors is used (then the lowest
        node number) and the others are reported.
    """
    problems: list[Problem] = []
    chosen = intact_streams(folder, listing, problems)
    return Scan(recordings=tuple(_recordings(chosen, problems)), problems=tuple(problems))


def _recordings(streams: list[Continuous], problems: list[Problem]) -> list[RawRecording]:
    """Join bands of one probe, name probes, and tell recordings apart."""
    _name_probes(streams)
    groups: dict[tuple[str, int, int, int], list[Continuous]] = defaultdict(list)
    for stream in streams:
        groups[(*stream.place, stream.probe.number)].append(stream)
    qualifiers = place_texts(stream.place for stream in streams)
    recordings = []
    for key in sorted(groups, key=lambda k: (natural_key(k[0]), k[1:])):
        bands = {stream.band: stream for stream in groups[key]}
        if not bands.keys() & {"ap", "wideband"}:
            problems.append(
                Problem(
                    kind="ap_missing",
                    path=groups[key][0].data.path,
                    detail="no intact AP stream of this probe; mend or copy it",
                )
            )
            continue
        recordings.append(_recording(bands, qualifiers[key[:3]]))
    return recordings


def _name_probes(streams: list[Continuous]) -> None:
    """Give probes the number in their name (`ProbeA` is 0), and others the free ones.

    The same stream name is the same probe in every recording of the session.
    """
    names = sorted({(s.base, _source(s), s.probe_name) for s in streams}, key=str)
    numbers: dict[tuple[str, str, str], int] = {}
    for name in names:
        parsed = parse_probe_name(name[2])
        taken = {n for other, n in numbers.items() if other[0] == name[0]}
        if parsed is not None and parsed.number not in taken:
            numbers[name] = parsed.number
    for name in names:
        if name not in numbers:
            taken = {n for other, n in numbers.items() if other[0] == name[0]}
            numbers[name] = next(n for n in range(len(names) + 1) if n not in taken)
    for stream in streams:
        stream.probe = ProbeName(numbers[(stream.base, _source(stream), stream.probe_name)])


def _source(stream: Continuous) -> str:
    return stream.folder_name.partition(".")[0]


def _recording(bands: dict[str, Continuous], qualifier: str) -> RawRecording:
    main = bands.get("ap") or bands["wideband"]
    streams = {band: stream_of(band, stream) for band, stream in bands.items()}
    history = main.history
    filtered = any(word in history.lower() for word in _FILTERS)
    return RawRecording(
        format="openephys",
        probe=str(main.probe),
        qualifier=qualifier,
        streams=streams,
        identity=Identity(
            probe_serial=main.serial,
            created=main.created,
            first_sample=main.first_sample,
            size_bytes=main.data.size,
            stream=f"{_source(main)}.{main.probe_name}",
        ),
        probe_model=main.model,
        reader_options={"probe_name": main.probe_name},
        processed=history if filtered else "",
    )
