"""Each SpikeGLX file by itself: its meta, its size, and whether the two can be true together.

Which files are one recording is decided in `spikeglx`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neuro_assets.formats.broken import Broken, contained
from neuro_assets.formats.model import Problem
from neuro_assets.formats.names import (
    ProbeName,
    SpikeGLXName,
    parse_probe_name,
    parse_spikeglx_name,
    strip_uuid,
)
from neuro_assets.formats.neuropixels import describe_probe
from neuro_assets.formats.spikeglx.chunk_table import read_chunk_table
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta
from neuro_assets.formats.walk import FoundFile, Listing, name_when_copied

BYTES = 2
"""SpikeGLX writes int16."""

BOARDS = ("nidq", "obx")
"""Devices that are no probe: NI-DAQ, and the analogue inputs of a OneBox."""

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
        for part in reversed(PurePosixPath(self.path).parent.parts):
            named = parse_probe_name(part)
            if named is not None and part.lower().startswith("probe"):
                return named
            if named is not None and device is None:
                return named
        return device or ProbeName(0)


def pair_files(
    folder: Path, listing: Listing, problems: list[Problem], *, boards: bool = False
) -> list[DataFile]:
    """Pair binaries with metas and chunk tables.

    Parameters
    ----------
    folder : Path
        Session folder.
    listing : Listing
        Its files.
    problems : list of Problem
        Metas that are alone are added here.
    boards : bool
        Whether those of auxiliary boards are wanted, or those of probes.

    Returns
    -------
    list of DataFile
        Binaries that SpikeGLX wrote, by their name or their meta.
    """
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
        if _is_board(folder, next(iter(parts.values())), meta) != boards:
            continue
        if not binaries:
            if meta is not None and _is_spikeglx(folder, meta):
                detail = "the meta is there without its .bin or .cbin; copy the data file"
                problems.append(Problem(kind="data_missing", path=meta.path, detail=detail))
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


def _is_board(folder: Path, found: FoundFile, meta: FoundFile | None) -> bool:
    """Tell a NI-DAQ or OneBox by the name of its file, or by a meta where the name says nothing."""
    name = parse_spikeglx_name(found.name)
    if name is not None and (name.device or name.band in ("ap", "lf")):
        return name.device.startswith(BOARDS)
    try:
        return meta is not None and SpikeGLXMeta.read(folder / meta.path).kind in BOARDS
    except Broken:
        return False


def absent_files(listing: Listing, problems: Iterable[Problem]) -> list[DataFile]:
    """Name the files that are known to belong to a session, and are not there yet.

    Parameters
    ----------
    listing : Listing
        Files of the session.
    problems : iterable of Problem
        Of `pair_files`: metas without data.

    Returns
    -------
    list of DataFile
        In place of each its meta, or the copy in progress.
    """
    alone = {problem.path for problem in problems if problem.kind == "data_missing"}
    absent = []
    for found in listing.files:
        own = found.name if found.path in alone else name_when_copied(found.name)
        name = parse_spikeglx_name(own)
        if name is not None:
            absent.append(DataFile(found=found, name=name, meta_path=None))
    return absent


def _belongs(folder: Path, name: SpikeGLXName, meta: FoundFile | None) -> bool:
    """Any program writes `.bin`: without a telling name, the meta must be SpikeGLX's."""
    if name.device or (name.band and name.gate is not None):
        return True
    return meta is not None and _is_spikeglx(folder, meta)


def _is_spikeglx(folder: Path, meta: FoundFile) -> bool:
    try:
        return SpikeGLXMeta.read(folder / meta.path).kind in ("imec", *BOARDS)
    except Broken:
        name = parse_spikeglx_name(meta.name)
        return name is not None and bool(name.device)


def check_all(
    folder: Path, files: Iterable[DataFile], problems: list[Problem]
) -> tuple[list[DataFile], list[DataFile]]:
    """Check each file by itself.

    Parameters
    ----------
    folder : Path
        Session folder.
    files : iterable of DataFile
        Their meta, samples and model are filled in.
    problems : list of Problem
        What is wrong is added here.

    Returns
    -------
    intact, broken : list of DataFile
        Files that can be used, and those that cannot.
    """
    intact: list[DataFile] = []
    bad: list[DataFile] = []
    for file in files:
        with contained(file.path, problems):
            _check(folder, file, problems)
            intact.append(file)
            continue
        bad.append(file)
    return intact, bad


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
    if file.name.device and file.name.device.startswith(BOARDS) != (file.meta.kind in BOARDS):
        raise Broken(
            "meta_broken",
            f"the meta is one of {file.meta.kind}, the file's name says {file.name.device}; put "
            "the meta of this recording beside it",
        )
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
        detail = (
            "the meta has no fileSizeBytes: SpikeGLX is still writing or was killed; create "
            "raw_session.flag to use it as it is"
        )
        problems.append(Problem(kind="still_growing", path=file.path, detail=detail))
    elif meta.file_size != size:
        detail = _other_size(size, meta.file_size, meta.sha1 is not None)
        problems.append(Problem(kind="size_mismatch", path=file.path, detail=detail))


def _other_size(size: int, said: int, has_hash: bool) -> str:
    """Say what is missing, or too much, and what each choice does."""
    differs = f"{abs(said - size) / max(said, 1):.0%}"
    what = f"the last {differs} are missing" if size < said else f"it is {differs} longer"
    hashed = (
        "; as its SHA-1 cannot agree then, say steps.compressed_recording.parameters."
        "on_sha1_mismatch: report in lab.yaml as well"
        if has_hash
        else ""
    )
    return (
        f"the meta says {said} bytes, the file has {size}: {what}. Copy it again, which gives the "
        f"whole recording; or create raw_session.flag, which takes what is there{hashed}"
    )
