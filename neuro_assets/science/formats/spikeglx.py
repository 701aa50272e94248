"""SpikeGLX: which files of a folder are one recording of one probe, and which are none.

One recording is one (run, gate, probe); its triggers follow each other in time. The gate and the
device come from the name a file has now, samples from its size, everything else from its meta.
Nothing here reads samples (see `spikeglx_open`) or decides whether a copy is finished
(see `readiness`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neuro_assets.science.formats.broken import Broken
from neuro_assets.science.formats.meta import SpikeGLXMeta
from neuro_assets.science.formats.model import Identity, Problem, RawRecording, Scan, Stream
from neuro_assets.science.formats.names import (
    ProbeName,
    SpikeGLXName,
    parse_probe_name,
    parse_spikeglx_name,
    strip_uuid,
)
from neuro_assets.science.formats.neuropixels import describe_probe
from neuro_assets.science.formats.triggers import order_triggers
from neuro_assets.science.formats.walk import FoundFile, Listing, natural_key, parts_upwards

BYTES = 2
"""SpikeGLX writes int16."""


Group = tuple[str, int, ProbeName]
"""Run, gate, probe: what one recording is made of."""


@dataclass
class DataFile:
    """One binary file with its meta, and what was read from both.

    Parameters
    ----------
    found : FoundFile
        The binary file.
    name : SpikeGLXName
        Parts of its present name.
    meta_path, ch_path : str or None
        Its meta, and for mtscomp its chunk table, relative to the session folder.
    meta : SpikeGLXMeta
        Content of the meta; without fields until it was read.
    n_samples : int
        Samples per channel, from the size.
    probe_model : str
        Part number.
    renamed : ProbeName or None
        Another probe name than the file says, where two probes say the same.
    """

    found: FoundFile
    name: SpikeGLXName
    meta_path: str | None
    ch_path: str | None = None
    meta: SpikeGLXMeta = field(default_factory=lambda: SpikeGLXMeta({}))
    n_samples: int = 0
    probe_model: str = ""
    renamed: ProbeName | None = None

    @property
    def path(self) -> str:
        """Relative path of the binary file."""
        return self.found.path

    @property
    def group(self) -> Group:
        """Run, gate and probe."""
        return self.name.run, self.name.gate or 0, self.probe

    @property
    def band(self) -> str:
        """Band by the meta, or by the name where the meta could not be read."""
        return self.meta.band if self.meta.fields else self.name.band or self.name.device

    @property
    def trigger(self) -> int:
        """Trigger number; 0 for a name without one."""
        return self.name.trigger or 0

    @property
    def probe(self) -> ProbeName:
        """Probe by the nearest folder with a probe's name (as ONE has it), else by the device.

        Phase 3A wrote `imec` for every probe and told them apart by folder only.
        """
        if self.renamed is not None:
            return self.renamed
        device = parse_probe_name(self.name.device) if self.name.device else None
        for part in parts_upwards(self.path):
            named = parse_probe_name(part)
            if named is not None and part.lower().startswith("probe"):
                return named
            if named is not None and device is None:
                return named
        return device or ProbeName(0)


def scan_spikeglx(folder: Path, listing: Listing) -> Scan:
    """Find the SpikeGLX recordings among the files of a session.

    Parameters
    ----------
    folder : Path
        Session folder or bare run folder.
    listing : Listing
        Its files.

    Returns
    -------
    Scan
        One recording for each (run, gate, probe) with an intact AP stream; a problem for each
        file that is in none.
    """
    problems: list[Problem] = []
    files = _data_files(folder, listing, problems)
    probes, boards, broken = _intact(folder, files, problems)
    _part_name_clashes(probes, problems)
    probes = _without_derivatives(probes, broken, problems)
    groups: dict[Group, list[DataFile]] = defaultdict(list)
    for file in probes:
        groups[file.group].append(file)
    _drop_incomplete_groups(groups, broken, problems)
    _drop_widowed_groups(groups, problems)
    qualifiers = _qualifiers(groups)
    recordings: list[RawRecording] = []
    for group in sorted(
        groups, key=lambda g: (natural_key(g[0]), g[1], g[2].number, g[2].shank or 0)
    ):
        recordings += _recordings(group, groups[group], boards, qualifiers[group], problems)
    return Scan(recordings=tuple(recordings), problems=tuple(problems))


def _data_files(folder: Path, listing: Listing, problems: list[Problem]) -> list[DataFile]:
    """Pair binaries with metas; report metas and chunk tables that are alone."""
    by_key: dict[tuple[str, str], dict[str, FoundFile]] = defaultdict(dict)
    for found in listing.files:
        name = parse_spikeglx_name(found.name)
        if name is not None:
            stem = strip_uuid(found.name).rsplit(".", 1)[0]
            by_key[(found.parent, stem)][name.extension] = found
    files = []
    for parts in by_key.values():
        binaries = [parts[ext] for ext in ("bin", "cbin") if ext in parts]
        meta = parts.get("meta")
        if not binaries:
            if meta is not None and _is_spikeglx(folder, meta):
                problems.append(
                    Problem(
                        kind="data_missing",
                        path=meta.path,
                        detail="the meta is there without its .bin or .cbin; copy the data file",
                    )
                )
            continue
        for binary in binaries:
            name = parse_spikeglx_name(binary.name)
            if name is None or not _belongs(folder, name, meta):
                continue
            files.append(
                DataFile(
                    found=binary,
                    name=name,
                    meta_path=meta.path if meta else None,
                    ch_path=parts["ch"].path if "ch" in parts else None,
                )
            )
    return files


def _belongs(folder: Path, name: SpikeGLXName, meta: FoundFile | None) -> bool:
    """Any program writes `.bin`: without a telling name, the meta must be SpikeGLX's."""
    if name.device or (name.band and name.gate is not None):
        return True
    return meta is not None and _is_spikeglx(folder, meta)


def _is_spikeglx(folder: Path, meta: FoundFile) -> bool:
    try:
        return SpikeGLXMeta.read(folder / meta.path).kind in ("imec", "nidq", "obx")
    except Broken:
        name = parse_spikeglx_name(meta.name)
        return name is not None and bool(name.device)


def _intact(
    folder: Path, files: Iterable[DataFile], problems: list[Problem]
) -> tuple[list[DataFile], list[DataFile], list[DataFile]]:
    """Check each file by itself; part probes, auxiliary boards and broken files."""
    probes: list[DataFile] = []
    boards: list[DataFile] = []
    bad: list[DataFile] = []
    for file in files:
        try:
            _check(folder, file, problems)
        except Broken as broken:
            problems.append(broken.at(file.path))
            bad.append(file)
            continue
        (probes if file.meta.kind == "imec" else boards).append(file)
    return probes, boards, bad


def _check(folder: Path, file: DataFile, problems: list[Problem]) -> None:
    """Read meta and size of one file; raise `Broken` for what cannot be used."""
    if file.found.size == 0:
        raise Broken("empty_file", "the file has no data; copy it again from the rig or remove it")
    if file.meta_path is None:
        raise Broken(
            "meta_missing",
            "the .meta file of this recording is not beside it; copy it from the rig",
        )
    file.meta = SpikeGLXMeta.read(folder / file.meta_path)
    compressed = file.name.extension == "cbin"
    size = _uncompressed_size(folder, file) if compressed else file.found.size
    file.n_samples = count_samples(file.meta, size)
    if file.meta.kind == "imec":
        description = describe_probe(file.meta)
        file.probe_model = file.meta.part_number or str(description.probe.model_name or "")
    _compare_with_meta(file, size, problems)


def _uncompressed_size(folder: Path, file: DataFile) -> int:
    """Bytes that the chunk table of an mtscomp file promises, once it fits the file."""
    if file.ch_path is None:
        raise Broken("ch_missing", "the .ch file of this .cbin is not beside it; copy it as well")
    chunks = read_chunk_table(folder / file.ch_path)
    if chunks.n_channels != file.meta.n_channels:
        raise Broken(
            "channel_count",
            f"the .ch file has {chunks.n_channels} channels and the meta {file.meta.n_channels}; "
            "copy both files of this recording again",
        )
    if chunks.compressed_size != file.found.size:
        raise Broken(
            "truncated",
            f"the .ch file describes {chunks.compressed_size} bytes but the .cbin has "
            f"{file.found.size}; copy it again",
        )
    return chunks.n_samples * chunks.n_channels * BYTES


@dataclass(frozen=True)
class ChunkTable:
    """What the `.ch` file of an mtscomp pair says."""

    n_channels: int
    n_samples: int
    compressed_size: int
    sha1: str | None


def read_chunk_table(path: Path) -> ChunkTable:
    """Read the JSON beside a `.cbin` file.

    Parameters
    ----------
    path : Path
        The `.ch` file.

    Returns
    -------
    ChunkTable
        Shape, and the size that the compressed file must have.

    Raises
    ------
    Broken
        `ch_broken` when it is not mtscomp's.
    """
    try:
        table = json.loads(path.read_text())
        if table["dtype"] != "int16":
            raise Broken("ch_broken", f"{path.name} holds {table['dtype']}, SpikeGLX writes int16")
        return ChunkTable(
            n_channels=int(table["n_channels"]),
            n_samples=int(table["chunk_bounds"][-1]),
            compressed_size=int(table["chunk_offsets"][-1]),
            sha1=table.get("sha1_uncompressed"),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Broken(
            "ch_broken", f"{path.name} is not a chunk table of mtscomp ({error}); copy it again"
        ) from error


def count_samples(meta: SpikeGLXMeta, size: int) -> int:
    """Count the samples of a file from its size; one that does not fit has one of two causes.

    Parameters
    ----------
    meta : SpikeGLXMeta
        Its meta.
    size : int
        Bytes, uncompressed.

    Returns
    -------
    int
        Samples per channel.

    Raises
    ------
    Broken
        `channel_count` when the file is whole but has another number of channels than the meta;
        `truncated` when it ends within a sample.
    """
    frame = meta.n_channels * BYTES
    if meta.file_time is not None and meta.file_size == size:
        expected = round(meta.file_time * meta.sampling_frequency)
        if expected > 0 and abs(size // frame - expected) > max(2, 1e-5 * expected):
            raise Broken(
                "channel_count",
                f"the file has {size / BYTES / expected:.6g} values a sample but the meta says "
                f"{meta.n_channels} channels; put the meta of this recording beside it",
            )
    if size % frame and meta.file_size == size:
        raise Broken(
            "channel_count",
            f"the file is as long as the meta says ({size} bytes) but holds no whole number of "
            f"samples of {meta.n_channels} channels; put the meta of this recording beside it",
        )
    if size % frame:
        raise Broken(
            "truncated",
            f"{size} bytes are not a whole number of samples of {meta.n_channels} channels "
            f"({size % frame} bytes too many); copy the file again from the rig",
        )
    return size // frame


def _compare_with_meta(file: DataFile, size: int, problems: list[Problem]) -> None:
    """Report, without giving the file up, what the meta says otherwise."""
    meta = file.meta
    if meta.file_size is None:
        problems.append(
            Problem(
                kind="still_growing",
                path=file.path,
                detail="the meta has no fileSizeBytes: SpikeGLX is still writing or was killed; "
                "create raw_session.flag to use it as it is",
            )
        )
    elif meta.file_size != size:
        problems.append(
            Problem(
                kind="size_mismatch",
                path=file.path,
                detail=f"the meta says {meta.file_size} bytes, the file has {size}: the copy is "
                "not finished or was cut; copy it again, or create raw_session.flag to use it as it is",
            )
        )


def _part_name_clashes(files: list[DataFile], problems: list[Problem]) -> None:
    """Give a free number to a second probe that claims the name of another.

    Two serial numbers are two probes, whatever the names say (phase 3A: `imec` twice).
    """
    owners: dict[Group, str] = {}
    numbers = {file.probe.number for file in files}
    moved: dict[tuple[int, str], ProbeName] = {}
    for file in sorted(files, key=lambda file: natural_key(file.path)):
        serial = file.meta.serial
        if serial is None or owners.setdefault(file.group, serial) == serial:
            continue
        claimed = file.probe
        if (claimed.number, serial) not in moved:
            free = next(n for n in range(len(numbers) + 1) if n not in numbers)
            numbers.add(free)
            moved[(claimed.number, serial)] = ProbeName(free)
        file.renamed = moved[(claimed.number, serial)]
        problems.append(
            Problem(
                kind="probe_name_clash",
                path=file.path,
                detail=f"probe {serial} is named {claimed} like another one and is used as "
                f"{file.renamed}; put each probe in a folder probe00, probe01, ...",
            )
        )


def _without_derivatives(
    files: list[DataFile], broken: list[DataFile], problems: list[Problem]
) -> list[DataFile]:
    """Leave out CatGT output and exports of a probe whose raw files are in the session."""
    raw = {file.probe.number for file in [*files, *broken] if not file.name.derived}
    whole = {file.group[:2] + (file.probe.number,) for file in files if file.meta.shank is None}
    kept = []
    for file in files:
        if file.name.derived and file.probe.number in raw:
            problems.append(_derivative(file, f"made ({file.name.derived}) from the raw files"))
        elif file.meta.shank is not None and (*file.group[:2], file.probe.number) in whole:
            problems.append(_derivative(file, "one shank split from the whole probe's file"))
        else:
            kept.append(file)
    return kept


def _derivative(file: DataFile, how: str) -> Problem:
    return Problem(
        kind="derivative",
        path=file.path,
        detail=f"{how}, which are in this session and are used instead; nothing to do",
    )


def _drop_incomplete_groups(
    groups: dict[Group, list[DataFile]], broken: list[DataFile], problems: list[Problem]
) -> None:
    """Hold back a recording of which one trigger is broken.

    Joined without it, it would be taken for another recording on the day the file is mended.
    """
    for file in broken:
        files = groups.get(file.group, [])
        if file.name.derived or file.band == "lf" or not files:
            continue
        if file.trigger in {other.trigger for other in _of_band(files, "ap")}:
            continue  # an intact copy of the same trigger
        for other in groups.pop(file.group):
            problems.append(
                Problem(
                    kind="trigger_broken",
                    path=other.path,
                    detail=f"another file of the same recording is broken ({file.path}); mend it, "
                    "or move it out of the session to go on without it",
                )
            )


def _drop_widowed_groups(groups: dict[Group, list[DataFile]], problems: list[Problem]) -> None:
    """Take out groups without an AP stream: an LF file alone cannot be sorted."""
    for group in [g for g, files in groups.items() if not _of_band(files, "ap")]:
        for file in groups.pop(group):
            problems.append(
                Problem(
                    kind="ap_missing",
                    path=file.path,
                    detail="no intact AP file of this run, gate and probe; mend or copy it",
                )
            )


def _qualifiers(groups: dict[Group, list[DataFile]]) -> dict[Group, str]:
    """Give what tells the recordings of one probe in this session apart.

    The first run (by name) and the first gate need nothing; others get `r<n>`, `g<n>`;
    a shank that was split off gets `s<n>`.
    """
    first_gate: dict[str, int] = {}
    for run, gate, _ in groups:
        first_gate[run] = min(first_gate.get(run, gate), gate)
    order = {run: i + 1 for i, run in enumerate(sorted(first_gate, key=natural_key))}
    lettered: dict[tuple[str, int, int], int] = defaultdict(int)
    for run, gate, probe in groups:
        lettered[(run, gate, probe.number)] += 1
    qualifiers = {}
    for (run, gate, probe), files in groups.items():
        text = f"r{order[run]}" if order[run] > 1 else ""
        text += f"g{gate}" if gate != first_gate[run] else ""
        split = files[0].meta.shank
        if split is None and lettered[(run, gate, probe.number)] > 1:
            split = probe.shank
        text += f"s{split}" if split is not None else ""
        qualifiers[(run, gate, probe)] = text
    return qualifiers


def _of_band(files: Iterable[DataFile], band: str) -> list[DataFile]:
    return [file for file in files if file.band == band]


def _recordings(
    group: Group,
    files: list[DataFile],
    boards: Sequence[DataFile],
    qualifier: str,
    problems: list[Problem],
) -> list[RawRecording]:
    """Make the recordings of one (run, gate, probe): one, unless triggers overlap."""
    run, gate, probe = group
    main = [_one_of(same, problems) for same in _by_trigger(_of_band(files, "ap"))]
    recordings: list[RawRecording] = []
    for piece in order_triggers(main, problems):
        streams = {"ap": _stream("ap", piece)}
        wanted = {file.trigger for file in piece}
        lf = [_one_of(same, problems) for same in _by_trigger(_of_band(files, "lf"))]
        lf = [file for file in lf if file.trigger in wanted]
        if lf and {file.trigger for file in lf} == wanted:
            streams["lf"] = _stream("lf", sorted(lf, key=lambda file: file.trigger))
        elif lf:
            problems.append(
                Problem(
                    kind="lf_incomplete",
                    path=lf[0].path,
                    detail="LF files of some triggers are missing or broken, so none is used; "
                    "copy them from the rig",
                )
            )
        for kind in ("nidq", "obx"):
            board = _board(kind, run, gate, wanted, boards)
            if board:
                streams[kind] = _stream(kind, board)
        overlap = f"t{piece[0].trigger}" if recordings else ""
        recordings.append(_recording(probe, qualifier + overlap, piece, streams))
    return recordings


def _by_trigger(files: Iterable[DataFile]) -> list[list[DataFile]]:
    found: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        found[file.trigger].append(file)
    return [found[trigger] for trigger in sorted(found)]


def _one_of(files: list[DataFile], problems: list[Problem]) -> DataFile:
    """Choose among copies of one file, and report the others.

    A file as long as its meta says goes before others, `.bin` before `.cbin` (it needs no
    decompression), a raw folder before CatGT's, then the shorter path.
    """
    ranked = sorted(
        files,
        key=lambda file: (
            file.meta.file_size != file.n_samples * file.meta.n_channels * BYTES,
            file.name.extension != "bin",
            "supercat" in file.path.lower(),
            len(file.path),
            file.path,
        ),
    )
    for other in ranked[1:]:
        problems.append(
            Problem(
                kind="duplicate_stream",
                path=other.path,
                detail=f"the same run, gate, probe and trigger as {ranked[0].path}, which is used; "
                "remove one of them",
            )
        )
    return ranked[0]


def _board(
    kind: str, run: str, gate: int, triggers: set[int], boards: Sequence[DataFile]
) -> list[DataFile]:
    """Files of an auxiliary board that were recorded with these triggers."""
    files = [
        file
        for file in boards
        if file.meta.kind == kind
        and file.name.run == run
        and (file.name.gate or 0) == gate
        and file.trigger in triggers
    ]
    one_each = [_one_of(same, []) for same in _by_trigger(files)]
    return one_each if {file.trigger for file in one_each} == triggers else []


def _stream(name: str, files: Sequence[DataFile]) -> Stream:
    sha1 = [file.meta.sha1 for file in files]
    first = [file.meta.first_sample for file in files]
    return Stream(
        name=name,
        files=tuple(file.path for file in files),
        metas=tuple(file.meta_path for file in files if file.meta_path),
        n_channels=files[0].meta.n_channels,
        n_samples=sum(file.n_samples for file in files),
        sampling_frequency=files[0].meta.sampling_frequency,
        sha1=tuple(value for value in sha1 if value) if all(sha1) else (),
        sizes=tuple(file.found.size for file in files),
        first_samples=(
            tuple(value for value in first if value is not None) if None not in first else ()
        ),
    )


def _recording(
    probe: ProbeName, qualifier: str, files: Sequence[DataFile], streams: dict[str, Stream]
) -> RawRecording:
    meta = files[0].meta
    main = streams["ap"]
    return RawRecording(
        format="cbin" if any(file.name.extension == "cbin" for file in files) else "spikeglx",
        probe=str(probe),
        qualifier=qualifier,
        streams=streams,
        identity=Identity(
            probe_serial=meta.serial,
            created=meta.created,
            first_sample=meta.first_sample,
            size_bytes=main.n_samples * main.n_channels * BYTES,
        ),
        probe_model=files[0].probe_model,
        processed=meta.processed,
    )
