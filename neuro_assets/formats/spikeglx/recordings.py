"""SpikeGLX: which files of a folder are one recording of one probe, and which are none.

One recording is one (run, gate, probe); its triggers follow each other in time. The gate and the
device come from the name a file has now, samples from its size, everything else from its meta.
Nothing here reads samples (see `spikeglx_open`) or decides whether a copy is finished
(see `readiness`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuro_assets.formats.copies import Candidate, same_content, without_copies
from neuro_assets.formats.model import Identity, Problem, RawRecording, Scan, Stream
from neuro_assets.formats.names import ProbeName
from neuro_assets.formats.spikeglx.files import (
    BOARDS,
    BYTES,
    DataFile,
    Group,
    absent_files,
    check_all,
    pair_files,
)
from neuro_assets.formats.spikeglx.probe_names import part_name_clashes, qualifiers_of
from neuro_assets.formats.spikeglx.triggers import (
    order_triggers,
    places_known,
    timeline_of_stream,
)
from neuro_assets.formats.walk import Listing, natural_key


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
    files = pair_files(folder, listing, problems)
    absent = absent_files(listing, problems)
    probes, broken = check_all(folder, files, problems)
    probes = without_copies(folder, [candidate(file) for file in probes], problems)
    part_name_clashes(probes, problems)
    probes = _without_derivatives(probes, broken, problems)
    groups: dict[Group, list[DataFile]] = defaultdict(list)
    for file in probes:
        groups[file.group].append(file)
    _drop_incomplete_groups(groups, [*broken, *absent], problems)
    _drop_widowed_groups(groups, problems)
    drop_conflicting(folder, groups, problems)
    qualifiers = qualifiers_of(groups)
    recordings: list[RawRecording] = []
    for group in sorted(
        groups, key=lambda g: (natural_key(g[0]), g[1], g[2].number, g[2].shank or 0)
    ):
        recordings += _recordings(folder, group, groups[group], qualifiers[group], problems)
    return Scan(recordings=tuple(recordings), problems=tuple(problems))


def candidate(file: DataFile) -> Candidate:
    """Describe a file for the search for copies."""
    meta = file.meta
    says = (meta.serial, meta.stream, file.band, meta.created, meta.first_sample)
    return Candidate(
        item=file,
        path=file.path,
        size=file.found.size,
        identity=says if meta.created or meta.sha1 else None,
        slot=(*file.group, file.trigger),
        sha1=meta.sha1,
        rank=(bool(file.name.derived), not file.name.device),
    )


def _without_derivatives(
    files: list[DataFile], broken: list[DataFile], problems: list[Problem]
) -> list[DataFile]:
    """Leave out CatGT output and exports of recordings whose raw files are in the session."""
    raw = [file for file in [*files, *broken] if not file.name.derived]
    whole = {_place(file) for file in files if file.meta.shank is None}
    kept = []
    for file in files:
        same = [other for other in raw if file.name.derived and _is_of_one_recording(file, other)]
        if any(_holds_band(other, file) for other in same):
            problems.append(derivative(file, f"made ({file.name.derived}) from the raw files"))
        elif file.band == "lf" and any(other.band == "ap" for other in same):
            problems.append(_lf_without_raw(file))
        elif file.meta.shank is not None and _place(file) in whole:
            problems.append(derivative(file, "one shank split from the whole probe's file"))
        else:
            kept.append(file)
    return kept


def _place(file: DataFile) -> tuple[str, int, int]:
    return (*file.group[:2], file.probe.number)


def _is_of_one_recording(made: DataFile, raw: DataFile) -> bool:
    """Compare run, gate and probe; where a run was renamed, what the metas say."""
    if _place(made) == _place(raw):
        return True
    own, other = ((f.meta.serial, f.meta.created, f.meta.first_sample) for f in (made, raw))
    return None not in own and own == other


def _holds_band(raw: DataFile, made: DataFile) -> bool:
    """Tell whether a raw file has the band of another; one of full band holds LF as well."""
    is_full_band = raw.meta.fields.get("acqApLfSy", "").split(",")[1:2] == ["0"]
    return raw.band == made.band or (raw.band == "ap" and is_full_band)


def _lf_without_raw(file: DataFile) -> Problem:
    return Problem(
        kind="lf_incomplete",
        path=file.path,
        detail=f"the raw LF files are not here, and those made ({file.name.derived}) of them are "
        "not joined to the raw AP files; copy the raw ones from the rig",
    )


def derivative(file: DataFile, how: str) -> Problem:
    """Report a file that was made of others."""
    return Problem(
        kind="derivative",
        path=file.path,
        detail=f"{how}, which are in this session and are used instead; nothing to do",
    )


def _drop_incomplete_groups(
    groups: dict[Group, list[DataFile]], broken: list[DataFile], problems: list[Problem]
) -> None:
    """Hold back a recording of which one trigger is broken, or known to be missing.

    Joined without it, it would be taken for another recording on the day the file is mended.
    """
    for file in broken:
        files = groups.get(file.group, [])
        if file.name.derived or file.band == "lf" or file.name.device.startswith(BOARDS):
            continue
        if all(other.name.derived for other in files):
            continue  # its raw files were removed, and their metas kept
        if file.trigger in {other.trigger for other in _of_band(files, "ap")}:
            continue  # an intact copy of the same trigger
        for other in groups.pop(file.group):
            problems.append(
                Problem(
                    kind="trigger_broken",
                    path=other.path,
                    detail="another file of the same recording is broken or not yet there "
                    f"({file.path}); mend or copy it, or move it out of the session to go on "
                    "without it",
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


def drop_conflicting(
    folder: Path, groups: dict[Any, list[DataFile]], problems: list[Problem]
) -> None:
    """Hold back a recording of which two files claim one place and are not the same data."""
    for group in list(groups):
        files = sorted(groups[group], key=lambda file: (len(file.path), file.path))
        clash = next(
            (
                (one, other)
                for band in ("ap", "lf", *BOARDS)
                for first, *others in by_trigger(_of_band(files, band))
                for one, other in ((first, each) for each in others)
                if _differ(folder, one, other)
            ),
            None,
        )
        if clash is None:
            continue
        del groups[group]
        problems += [
            Problem(
                kind="conflicting_files",
                path=one.path,
                detail=f"{one.path} and {other.path} have the same run, gate, device and trigger "
                "but are different recordings, so neither is used; move each run into a session "
                "folder of its own",
            )
            for one, other in (clash, clash[::-1])
        ]


def _differ(folder: Path, one: DataFile, other: DataFile) -> bool:
    """Tell two acquisitions from two copies of one; a copy may be shorter or compressed."""
    if _is_joined(one) != _is_joined(other):
        return False  # supercat's file is made of several runs, of which the other is one
    identities = {
        (file.meta.serial, file.meta.created, file.meta.first_sample) for file in (one, other)
    }
    return len(identities) > 1 or same_content(folder, candidate(one), candidate(other)) is False


def _is_joined(file: DataFile) -> bool:
    return "supercat" in file.path.lower()


def _of_band(files: Iterable[DataFile], band: str) -> list[DataFile]:
    return [file for file in files if file.band == band]


def _recordings(
    folder: Path,
    group: Group,
    files: list[DataFile],
    qualifier: str,
    problems: list[Problem],
) -> list[RawRecording]:
    """Make the recordings of one (run, gate, probe): one, unless triggers overlap."""
    main = [one_of(folder, same, problems) for same in by_trigger(_of_band(files, "ap"))]
    recordings: list[RawRecording] = []
    if not places_known(main, files, problems):
        return recordings
    for piece in order_triggers(main, problems):
        streams = {"ap": stream_of("ap", piece)}
        wanted = {file.trigger for file in piece}
        lf = [one_of(folder, same, problems) for same in by_trigger(_of_band(files, "lf"))]
        if not piece[0].name.derived:  # of triggers that CatGT joined, LF files cover a part each
            lf = [file for file in lf if file.trigger in wanted]
        if lf and {file.trigger for file in lf} == wanted:
            lf = sorted(lf, key=lambda file: file.trigger)
            streams["lf"] = stream_of("lf", lf, leader=streams["ap"])
        elif lf:
            problems.append(
                Problem(
                    kind="lf_incomplete",
                    path=lf[0].path,
                    detail="LF files of some triggers are missing or broken, or the AP files were "
                    "joined by CatGT, so none is used; copy what is missing from the rig",
                )
            )
        overlap = f"t{piece[0].trigger}" if recordings else ""
        recordings.append(_recording(group[2], qualifier + overlap, piece, streams))
    return recordings


def by_trigger(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """Part files by their trigger, in its order."""
    found: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        found[file.trigger].append(file)
    return [found[trigger] for trigger in sorted(found)]


def one_of(folder: Path, files: list[DataFile], problems: list[Problem]) -> DataFile:
    """Choose among copies of one file, and report the others.

    A file as long as its meta says goes before others, `.bin` before `.cbin` (it needs no
    decompression), a raw folder before CatGT's, then the shorter path.

    Parameters
    ----------
    folder : Path
        Session folder.
    files : list of DataFile
        Of one band and trigger.
    problems : list of Problem
        Of kind `duplicate_stream`, for what is left out.

    Returns
    -------
    DataFile
        The one that is used.
    """
    ranked = sorted(
        files,
        key=lambda file: (
            file.meta.file_size != file.n_samples * file.meta.n_channels * BYTES,
            file.name.extension != "bin",
            _is_joined(file),
            len(file.path),
            file.path,
        ),
    )
    used = ranked[0]
    for other in ranked[1:]:
        same = same_content(folder, candidate(used), candidate(other))
        if same:
            advice = "the content is the same: remove one of them"
        elif _is_joined(other) and not _is_joined(used):
            advice = "it is supercat's file of several runs; nothing to do"
        else:
            advice = "their contents cannot be compared here: do so before removing one"
        detail = f"the same run, gate, device and trigger as {used.path}, which is used; {advice}"
        problems.append(Problem(kind="duplicate_stream", path=other.path, detail=detail))
    return used


def stream_of(name: str, files: Sequence[DataFile], leader: Stream | None = None) -> Stream:
    """Describe files that follow each other as one stream; an LF stream has its AP as leader."""
    sha1 = [file.meta.sha1 for file in files]
    first = [file.meta.first_sample for file in files if file.meta.first_sample is not None]
    lengths = [file.n_samples for file in files]
    stream = Stream(
        name=name,
        files=tuple(file.path for file in files),
        metas=tuple(file.meta_path for file in files if file.meta_path),
        n_channels=files[0].meta.n_channels,
        n_samples=sum(lengths),
        sampling_frequency=files[0].meta.sampling_frequency,
        sha1=tuple(value for value in sha1 if value) if all(sha1) else (),
        sizes=tuple(file.found.size for file in files),
        first_samples=tuple(first) if len(first) == len(files) else (),
    )
    missing = timeline_of_stream(stream, lengths, leader).missing
    return stream.model_copy(update={"n_missing": int(missing.sum())})


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
            stream=meta.stream or files[0].name.device,
            hash="-".join(main.sha1) or None,
        ),
        probe_model=files[0].probe_model,
        processed=meta.processed,
    )
