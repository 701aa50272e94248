"""The version of raw data: a short text that changes when the data do.

From sizes, modification times and a sampled hash, so that a terabyte is not read to be named;
from the hashes that SpikeGLX wrote where they are asked for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from neuro_assets.formats.broken import file_failure
from neuro_assets.formats.model import RawRecording, Stream

BLOCK = 1 << 20
"""Bytes of one sample of a file."""

N_BLOCKS = 8
"""Samples of a file: the first block, the last, and six spread evenly between."""


def raw_version(recording: RawRecording, folder: Path, *, use_file_hash: bool = False) -> str:
    """Version of a recording's raw data.

    Names and places do not enter: a renamed folder holds the same data. Everything that decides
    what is read does: the data files, their metadata, and the geometry and scale that the
    configuration gives.

    Parameters
    ----------
    recording : RawRecording
        As found by `scan_session`.
    folder : Path
        The session folder.
    use_file_hash : bool
        Take SpikeGLX's `fileSHA1` instead of sampling, where every file of a stream has one;
        the version then survives a copy that changes modification times.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    PermanentFailure
        When a file is missing, naming it.
    TransientFailure
        When the folder is not there.
    """
    digest = hashlib.sha256()
    for name in sorted(recording.streams):
        stream = recording.streams[name]
        _add(digest, name)
        add_stream(digest, stream, folder, use_file_hash=use_file_hash)
    if recording.lf_offset:
        _add(digest, f"lf offset {recording.lf_offset:.6f}")
    for value in (
        recording.wiring,
        recording.gain_uv,
        recording.offset_uv,
        recording.sync_channels,
        recording.segment,
        recording.reader,
        sorted((recording.reader_options.get("options") or {}).items()),
    ):
        _add(digest, str(value))
    if recording.probe_file is not None:
        _add_file(digest, Path(recording.probe_file), folder)
    for value in (recording.reader_options.get("options") or {}).values():
        # Such as one header for all sessions of a lab.
        if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_file():
            size = Path(value).stat().st_size
            _add(digest, f"{size} {sampled_hash(Path(value), size, folder)}")
    return digest.hexdigest()[:16]


def content_of(recording: RawRecording, folder: Path) -> str:
    """Name the samples of a recording, wherever and under whatever name they lie.

    Parameters
    ----------
    recording : RawRecording
        As found by `scan_session`.
    folder : Path
        The session folder.

    Returns
    -------
    str
        `<format>:<hash>` of the sizes and sampled blocks of the main stream's files: only those of
        one format can be compared.

    Raises
    ------
    PermanentFailure, TransientFailure
        As in `raw_version`.
    """
    digest = hashlib.sha256()
    for name in recording.main.files:
        size = _stat(folder / name, folder)[0]
        _add(digest, str(size))
        _add(digest, sampled_hash(folder / name, size, folder))
    options = sorted((k, str(v)) for k, v in recording.reader_options.items() if k != "path")
    # Entries may divide the channels of one file among probes.
    what = f"{recording.main.name} {recording.segment} {options}"
    _add(digest, f"{what} {recording.sync_channels}" if recording.sync_channels else what)
    return f"{recording.format}:{digest.hexdigest()[:16]}"


def _has_hashes(stream: Stream) -> bool:
    return len(stream.sha1) == len(stream.files)


def add_stream(digest: hashlib._Hash, stream: Stream, folder: Path, *, use_file_hash: bool) -> None:
    """Add the files of a stream to a digest; other arguments and errors as in `raw_version`."""
    by_hash = use_file_hash and _has_hashes(stream)
    for i, name in enumerate(stream.files):
        _add_sampled(digest, folder / name, folder, stream.sha1[i] if by_hash else "")
    for name in stream.metas:
        _add_file(digest, folder / name, folder)
    if stream.n_missing:
        # What was made before gaps were kept has wrong times: it is out of date.
        _add(digest, f"missing {stream.n_missing}")
    for name in stream.sample_numbers:
        _add_sampled(digest, folder / name, folder)


def _add_sampled(digest: hashlib._Hash, path: Path, folder: Path, known_hash: str = "") -> None:
    """Add size and stored hash of a large file; without one its time and a sampled hash."""
    size, mtime_ns = _stat(path, folder)
    _add(digest, str(size))
    for text in [known_hash] if known_hash else [str(mtime_ns), sampled_hash(path, size, folder)]:
        _add(digest, text)


def sampled_hash(path: Path, size: int, folder: Path) -> str:
    """Hash blocks of a file spread over its length.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Its size, bytes; of a longer file, how much of its beginning counts.
    folder : Path
        The session folder, to tell a vanished mount from a missing file.

    Returns
    -------
    str
        SHA-256 of at most 8 MiB of it.
    """
    digest = hashlib.sha256()
    last = max(size - BLOCK, 0)
    # Whole when it is small; else evenly spaced starts, the last block ends with the file.
    starts = (
        range(0, size, BLOCK)
        if size <= N_BLOCKS * BLOCK
        else [last * i // (N_BLOCKS - 1) for i in range(N_BLOCKS)]
    )
    try:
        with path.open("rb") as file:
            for start in starts:
                file.seek(start)
                digest.update(file.read(min(BLOCK, size - start)))
    except OSError as error:
        raise file_failure(error, path, folder) from error
    return digest.hexdigest()


def _stat(path: Path, folder: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise file_failure(error, path, folder) from error
    return stat.st_size, stat.st_mtime_ns


def _add(digest: hashlib._Hash, text: str) -> None:
    """Add a text with its length, so that neighbours cannot run into each other."""
    data = text.encode()
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)


def _add_file(digest: hashlib._Hash, path: Path, folder: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise file_failure(error, path, folder) from error
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)
