"""Whether the files that a reader put together belong together: names and lengths.

Readers that find their samples beside a header pair them by sort order, or take what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from neuro_assets.formats.broken import Broken

_RAW = ".dat"
"""What Neuroscope calls wideband; `.lfp` and `.eeg` are the same recording, decimated."""

_SLOWER = {"auxiliary": (4,), "supply": (60, 128)}
"""How much slower Intan's chips sample these inputs; programs write them so, or repeat samples."""


def check_wideband(opened: Any, reader: str, named: Sequence[str]) -> None:
    """Refuse the LFP that Neuroscope's reader takes where the wideband file is not there.

    Parameters
    ----------
    opened : BaseRecording
        As the reader gives it.
    reader : str
        Its name.
    named : sequence of str
        Pattern and options of the entry: a file whose ending one of them names is meant.

    Raises
    ------
    Broken
        `data_missing`; `bad_options` where the LFP is meant and its rate is not the reader's.
    """
    if reader != "neuroscope":
        return
    taken = Path(opened.neo_reader.data_file_path)
    if taken.suffix == _RAW:
        return
    if any(name.endswith(taken.suffix) for name in named):
        _check_lfp_rate(opened, taken)
        return
    raise Broken(
        "data_missing",
        f"{taken.with_suffix(_RAW).name} is not there, and {taken.name} (the LFP, at a rate of "
        f"its own) is not taken for it; copy it, or name {taken.suffix} in the entry's glob",
    )


def _check_lfp_rate(opened: Any, file: Path) -> None:
    """Refuse an LFP that the reader gives the rate of the wideband."""
    header = ElementTree.parse(opened.neo_reader.xml_file_path)
    text = header.findtext("fieldPotentials/lfpSamplingRate")
    rate = opened.get_sampling_frequency()
    if text and float(text) != rate:
        raise Broken(
            "bad_options",
            f"{file.name} is sampled at {float(text):g} Hz, and the reader takes it for {rate:g} "
            "Hz; describe it with the binary reader in lab.yaml",
        )


def check_companions(opened: Any, reader: str) -> None:
    """Compare the files with samples with the channels of the header, and their lengths.

    Parameters
    ----------
    opened : BaseRecording
        As the reader gives it.
    reader : str
        Its name.

    Raises
    ------
    Broken
        `channel_files` when a channel's file is missing or one too many; `truncated` when one
        holds fewer samples than another, or ends within a sample.
    """
    if reader == "intan" and opened.neo_reader.file_format != "header-attached":
        _check_intan(opened.neo_reader, opened.stream_id)


def _check_intan(neo: Any, stream_id: str) -> None:
    streams, channels = neo.header["signal_streams"], neo.header["signal_channels"]
    stream = str(streams["name"][streams["id"] == stream_id][0])
    data, times = neo._raw_data[stream], neo._raw_data["timestamp"]
    if isinstance(data, list):
        if "amplifier" in stream.lower():
            _check_names(data, [str(i) for i in channels["id"][channels["stream_id"] == stream_id]])
        times = times[0]
    else:
        data = [data]
    frames = {Path(one.filename): int(np.prod(one.shape[1:])) * one.itemsize for one in data}
    n_samples = _check_lengths({**frames, Path(times.filename): times.itemsize})
    for name in neo._raw_data.keys() - {stream, "timestamp"}:
        beside = neo._raw_data[name]
        _check_beside(beside if isinstance(beside, list) else [beside], n_samples, name)


def _check_names(data: Sequence[np.memmap[Any, Any]], channels: Sequence[str]) -> None:
    """Refuse files that are not those of the channels, one by one."""
    files = [Path(str(one.filename)) for one in data]
    # amp-A-000.dat, dc-A-000.dat (whose channel is called A-000_DC)
    found = [file.stem.partition("-")[2] for file in files]
    wanted = [channel.removesuffix("_DC") for channel in channels]
    stray = [file.name for file, name in zip(files, found, strict=True) if name not in wanted]
    missing = [name for name in wanted if name not in found]
    if found == wanted:
        return
    lines = [f"no file of channel {', '.join(missing)} (copy it again)"] * bool(missing)
    lines += [f"{', '.join(stray)} of no channel (move it elsewhere)"] * bool(stray)
    lines = lines or [f"{len(files)} files, not one of each in the header's order"]
    raise Broken(
        "channel_files",
        f"the header names {len(wanted)} channels, but there is {', and '.join(lines)}: the reader "
        "would give samples to the wrong channels",
    )


def _check_beside(files: Sequence[np.memmap[Any, Any]], n_samples: int, stream: str) -> None:
    """Refuse digital and auxiliary inputs that are not as long as the recording."""
    ratios = next((r for name, r in _SLOWER.items() if name in stream.lower()), ())
    for one in files:
        path, frame = Path(str(one.filename)), int(np.prod(one.shape[1:])) * one.itemsize
        size = path.stat().st_size
        if size not in {-(-n_samples // ratio) * frame for ratio in (1, *ratios)}:
            raise Broken(
                "truncated",
                f"{path.name} holds {size // frame} samples, the recording beside it {n_samples}: "
                "copy it again, or move it and what is recorded with it to a folder of its own",
            )


def _check_lengths(frames: Mapping[Path, int]) -> int:
    """Refuse files that end at different samples; `frames` gives each one's bytes a sample."""
    sizes = {file: file.stat().st_size for file in frames}
    n_samples = max(-(-size // frames[file]) for file, size in sizes.items())
    missing = {file: n_samples * frames[file] - size for file, size in sizes.items()}
    cut = [file for file in frames if missing[file]]
    if not cut:
        return n_samples
    file = cut[0]
    more = f" (and {len(cut) - 1} files more)" if len(cut) > 1 else ""
    raise Broken(
        "truncated",
        f"{file.name}{more} holds {sizes[file] // frames[file]} of {n_samples} samples: "
        f"{missing[file]} bytes are missing; copy it again, or shorten its companions where the "
        "rig wrote no more",
    )
