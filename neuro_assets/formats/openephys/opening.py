"""Opening one stream of an Open Ephys recording as SpikeInterface recordings.

The data file is read through SpikeInterface's plain binary reader; probe and gains come from the
settings and `structure.oebin` of this very recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.formats.attach import attach_probe, set_volts
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.neuropixels import shifts_from_probe
from neuro_assets.formats.openephys.files import (
    check_contacts,
    is_sync,
    probe_of,
    read_oebin,
    read_sample_numbers,
    sample_numbers_file,
)
from neuro_assets.formats.stream import RawStream
from neuro_assets.formats.timeline import timeline_of_numbers

_UV = {"uV": 1.0, "mV": 1e3}
"""Microvolts in a unit of a board's channels, which is volts where it is not said."""


def open_stream(recording: RawRecording | None, stream: Stream, folder: Path) -> RawStream:
    """Open one stream.

    Parameters
    ----------
    recording : RawRecording or None
        The recording that the stream belongs to; None for an auxiliary board.
    stream : Stream
        Its description; the files were checked by the caller.
    folder : Path
        The session folder.

    Returns
    -------
    RawStream
        Neural channels with probe, gains and `inter_sample_shift`.

    Raises
    ------
    Broken
        When `structure.oebin` or the settings no longer describe the data.
    """
    from spikeinterface.core import BinaryRecordingExtractor

    data = folder / stream.files[0]
    entry = _entry(folder / stream.metas[0], data.parent.name)
    channels = entry["channels"]
    if len(channels) != stream.n_channels:
        raise Broken(
            "channel_count",
            f"{folder / stream.metas[0]} was changed: {len(channels)} channels, "
            f"{stream.n_channels} when it was registered; restore it, or discover it again",
        )
    whole = BinaryRecordingExtractor(
        data,
        sampling_frequency=stream.sampling_frequency,
        dtype="int16",
        num_channels=stream.n_channels,
        channel_ids=[str(channel["channel_name"]) for channel in channels],
    )
    # Recordings that were described before it was named there have it beside the data.
    there = {str(path) for path in data.parent.iterdir()}
    numbered = stream.sample_numbers or (sample_numbers_file(str(data.parent), there),)
    numbers = read_sample_numbers(folder / numbered[0], int(whole.get_num_samples()))
    timeline_of_numbers(numbers).annotate(whole)
    gains = np.array([float(channel["bit_volts"]) for channel in channels])
    if recording is None:
        gains *= [_UV.get(str(channel.get("units", "")), 1e6) for channel in channels]
    analogue = np.array([not is_sync(channel) for channel in channels])
    neural = whole.select_channels(whole.channel_ids[analogue])
    if recording is None:
        set_volts(neural, gains[analogue])
    else:
        neural.set_channel_gains(gains[analogue])
        neural.set_channel_offsets(np.zeros(int(analogue.sum())))
        _set_probe(neural, recording, stream, entry, folder)
    return RawStream(
        name=stream.name,
        recording=whole,
        neural=neural,
        sync_channel_ids=list(whole.channel_ids[~analogue]),
        sha1=stream.sha1,
    )


def _entry(oebin: Path, folder_name: str) -> dict:
    for entry in read_oebin(oebin)["continuous"]:
        if str(entry.get("folder_name", "")).strip("/") == folder_name:
            return dict(entry)
    raise Broken("meta_broken", f"{oebin} no longer lists {folder_name}; restore it")


def _set_probe(
    neural: Any, recording: RawRecording, stream: Stream, entry: dict, folder: Path
) -> None:
    name = str(entry.get("stream_name") or entry["folder_name"].strip("/").partition(".")[2])
    probe = probe_of(folder / stream.metas[1], recording.reader_options["probe_name"], name)
    check_contacts(probe, entry)
    attach_probe(
        neural,
        probe,
        sample_shifts=shifts_from_probe(probe),
        saturation_uv=_saturation_uv(probe, stream.name),
        is_filtered=bool(recording.processed),
    )


def _saturation_uv(probe: Any, band: str) -> float | None:
    """Half the converter's range over the amplifier's gain, uV."""
    span = probe.annotations.get("adc_range_vpp")
    gain = probe.annotations.get("lf_gain" if band == "lf" else "ap_gain")
    return None if span is None or gain is None else float(span) / 2 / float(gain) * 1e6
