"""Opening a SpikeGLX stream, `.bin` or mtscomp `.cbin`, as SpikeInterface recordings.

Files are read through SpikeInterface's plain binary reader and our own reading of the meta:
neo's reader walks folders, doubles streams that are there twice, and takes names from the meta.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.formats.attach import attach_probe, set_volts
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.cbin import CbinRecording
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.names import parse_spikeglx_name
from neuro_assets.formats.neuropixels import describe_probe
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta
from neuro_assets.formats.spikeglx.triggers import timeline_of_stream
from neuro_assets.formats.stream import RawStream


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
        Neural channels with probe, gains, `inter_sample_shift` (not for data that CatGT has
        shifted already).

    Raises
    ------
    Broken
        When a meta no longer describes the data.
    """
    meta = SpikeGLXMeta.read(folder / stream.metas[0])
    if meta.n_channels != stream.n_channels:
        raise Broken(
            "channel_count",
            f"{folder / stream.metas[0]} was changed: it says {meta.n_channels} channels and "
            f"said {stream.n_channels} when it was registered; restore it, or discover it again",
        )
    leader = recording.main if recording is not None and stream.name == "lf" else None
    whole = _read(stream, folder, _channel_ids(stream, meta), leader)
    if whole.get_num_samples() != stream.n_samples:
        raise Broken(
            "changed",
            f"{folder / stream.files[0]} has {whole.get_num_samples()} samples and had "
            f"{stream.n_samples} when it was registered; restore it, or discover the session again",
        )
    n_neural = meta.n_channels - meta.n_sync
    neural = whole.select_channels(whole.channel_ids[:n_neural])
    if meta.kind == "imec":
        _describe_neural(neural, meta)
    else:
        set_volts(neural, _board_gains(meta)[:n_neural])
    return RawStream(
        name=stream.name,
        recording=whole,
        neural=neural,
        sync_channel_ids=list(whole.channel_ids[n_neural:]),
        sha1=stream.sha1,
    )


def _channel_ids(stream: Stream, meta: SpikeGLXMeta) -> list[str]:
    """Ids as SpikeGLX readers give them: `imec0.ap#AP0`."""
    name = parse_spikeglx_name(Path(stream.files[0]).name)
    device = (name.device if name else "") or meta.kind
    prefix = f"{device}.{meta.band}" if meta.kind == "imec" else device
    return [f"{prefix}#{channel}" for channel in meta.channel_names()]


def _read(stream: Stream, folder: Path, channel_ids: list[str], leader: Stream | None) -> Any:
    """All channels of all files as one segment, which knows the gaps between them."""
    from spikeinterface.core import BinaryRecordingExtractor, concatenate_recordings

    pieces: list[Any] = []
    for name in stream.files:
        path = folder / name
        if path.suffix == ".cbin":
            pieces.append(
                CbinRecording(
                    str(path), str(_chunk_table(path)), stream.sampling_frequency, channel_ids
                )
            )
        else:
            pieces.append(
                BinaryRecordingExtractor(
                    path,
                    sampling_frequency=stream.sampling_frequency,
                    dtype="int16",
                    num_channels=stream.n_channels,
                    channel_ids=channel_ids,
                )
            )
    whole = pieces[0] if len(pieces) == 1 else concatenate_recordings(pieces)
    lengths = [int(piece.get_num_samples()) for piece in pieces]
    timeline_of_stream(stream, lengths, leader).annotate(whole)
    return whole


def _chunk_table(path: Path) -> Path:
    """Find the `.ch` beside a `.cbin`; in ALF names each carries its own UUID."""
    from neuro_assets.formats.names import strip_uuid

    exact = path.with_suffix(".ch")
    if exact.is_file():
        return exact
    stem = strip_uuid(path.name).rsplit(".", 1)[0]
    for other in sorted(path.parent.glob("*.ch")):
        if strip_uuid(other.name) == f"{stem}.ch":
            return other
    raise Broken("ch_missing", f"the .ch file of {path} is missing; restore it")


def _describe_neural(neural: Any, meta: SpikeGLXMeta) -> None:
    description = describe_probe(meta)
    neural.set_channel_gains(description.gains_uv)
    neural.set_channel_offsets(np.zeros(neural.get_num_channels()))
    # CatGT aligns the channels in time unless told not to; doing it twice would undo it.
    shifted = bool(meta.processed) and "-no_tshift" not in meta.processed
    attach_probe(
        neural,
        description.probe,
        sample_shifts=None if shifted else description.sample_shifts,
        saturation_uv=description.saturation_uv,
        is_filtered="-apfilter" in meta.processed,
    )


def _board_gains(meta: SpikeGLXMeta) -> np.ndarray:
    """UV per bit of an auxiliary board's channels.

    `niAiRangeMax / 32768 / amplifier gain` for a NI-DAQ (gain only for MN and MA channels),
    `obAiRangeMax / obMaxInt` for a OneBox: https://billkarsh.github.io/SpikeGLX/#metadata-guides
    """
    if meta.kind == "obx":
        scale = meta.number("obAiRangeMax") / meta.number("obMaxInt")
        return np.full(meta.n_channels, scale * 1e6)
    scale = meta.number("niAiRangeMax") / float(meta.fields.get("niMaxInt", 32768))
    n_mn, n_ma, *_ = meta.counts
    gains = np.full(meta.n_channels, scale * 1e6)
    if n_mn:
        gains[:n_mn] /= meta.number("niMNGain")
    if n_ma:
        gains[n_mn : n_mn + n_ma] /= meta.number("niMAGain")
    return gains
