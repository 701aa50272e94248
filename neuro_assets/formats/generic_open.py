"""Opening recordings through a SpikeInterface reader: NWB, and readers named in `lab.yaml`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.formats.attach import attach_probe
from neuro_assets.formats.broken import Broken
from neuro_assets.formats.code_in_data import refuse_code
from neuro_assets.formats.companions import check_companions
from neuro_assets.formats.model import RawRecording, Stream, Wiring
from neuro_assets.formats.stream import RawStream
from neuro_assets.outcomes import PermanentFailure

_NOT_FILES = {"numpy"}
"""Readers that take no path."""


def known_readers() -> list[str]:
    """Name the readers of the installed SpikeInterface.

    Returns
    -------
    list of str
        Sorted names.
    """
    return sorted(set(_readers()) - _NOT_FILES)


def _readers() -> dict[str, Any]:
    from spikeinterface.extractors.extractor_classes import recording_extractor_full_dict

    return dict(recording_extractor_full_dict)


def call_reader(reader: str, path_argument: str | None, options: dict[str, Any], path: Path) -> Any:
    """Call a reader by name, and read the first and the last sample.

    Parameters
    ----------
    reader : str
        One of `known_readers()`.
    path_argument : str or None
        Its argument for the path; None takes the first one that is called so.
    options : dict
        Other keyword arguments.
    path : Path
        File or folder to open.

    Returns
    -------
    BaseRecording
        As the reader gives it.

    Raises
    ------
    Broken
        `reader_failed` with what the reader said; `runs_code` where the data hold a program;
        what `check_companions` raises.
    """
    classes = _readers()
    if reader not in classes or reader in _NOT_FILES:
        raise Broken("unknown_reader", f"SpikeInterface has no reader {reader!r}; correct lab.yaml")
    argument = path_argument or _path_argument(classes[reader])
    try:
        refuse_code(path)
    except PermanentFailure as error:
        raise Broken("runs_code", str(error)) from error
    with _reader_errors(reader, path):
        opened = classes[reader](**{argument: str(path)}, **options)
    check_companions(opened, reader)
    with _reader_errors(reader, path):
        for segment in range(opened.get_num_segments()):
            # Some open their files no sooner than they need them.
            n_samples = opened.get_num_samples(segment)
            for frame in sorted({0, n_samples - 1} - {-1}):
                opened.get_traces(segment, start_frame=frame, end_frame=frame + 1)
    return opened


@contextmanager
def _reader_errors(reader: str, path: Path) -> Iterator[None]:
    """Make one typed line of whatever forty readers raise."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        raise Broken(
            "reader_failed",
            f"the reader {reader!r} cannot open {path.name} ({type(error).__name__}: "
            f"{text[0] if text else ''}); check its options in lab.yaml, or copy the data again",
        ) from error


def _path_argument(reader: Any) -> str:
    names = list(inspect.signature(reader.__init__).parameters)[1:]
    for name in ("file_path", "folder_path", "file_paths", "dirname", "filename"):
        if name in names:
            return name
    return "file_path"


def probe_for(
    recording: Any, probe_file: str | None, wiring: Wiring | None, n_neural: int
) -> tuple[Any, list[int] | None]:
    """Make the probe that the configuration gives, or take the reader's own.

    Parameters
    ----------
    recording : BaseRecording
        As the reader gives it.
    probe_file : str or None
        probeinterface JSON.
    wiring : Wiring or None
        Positions and channels.
    n_neural : int
        Neural channels of the recording.

    Returns
    -------
    probe : probeinterface.Probe or None
        None when the reader's own probe is used.
    channels : list of int or None
        Data channel of each contact.

    Raises
    ------
    Broken
        `unknown_probe` when there is none; `channel_count` when it does not fit.
    """
    if wiring is not None:
        probe = _probe_from_wiring(wiring)
    elif probe_file is not None:
        probe = _probe_from_file(Path(probe_file))
    elif recording.has_probe():
        return None, None
    else:
        raise Broken(
            "unknown_probe",
            "the format does not describe the probe; give probe_file or wiring in the reader entry "
            "of lab.yaml",
        )
    channels = [int(channel) for channel in probe.device_channel_indices if channel >= 0]
    if len(channels) != n_neural or max(channels) >= recording.get_num_channels():
        raise Broken(
            "channel_count",
            f"the probe wires {len(channels)} contacts, to channels up to "
            f"{max(channels, default=-1)}, "
            f"but the file has {n_neural} neural of {recording.get_num_channels()} channels; "
            "correct the wiring or sync_channels in lab.yaml",
        )
    return probe, channels


def _probe_from_wiring(wiring: Wiring) -> Any:
    from probeinterface import Probe

    n = len(wiring.positions_um)
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(
        positions=np.asarray(wiring.positions_um, dtype=float),
        shapes="circle",
        shape_params={"radius": 5.0},
        shank_ids=list(wiring.shanks) if wiring.shanks else None,
    )
    probe.set_device_channel_indices(np.asarray(wiring.channels or range(n), dtype=int))
    return probe


def _probe_from_file(path: Path) -> Any:
    import probeinterface

    try:
        group = probeinterface.read_probeinterface(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Broken(
            "unknown_probe",
            f"the probe file {path} cannot be read ({type(error).__name__}: {error}); correct it "
            "or its path in lab.yaml",
        ) from error
    if len(group.probes) != 1:
        raise Broken("unknown_probe", f"{path} holds {len(group.probes)} probes; give one")
    probe = group.probes[0]
    if probe.device_channel_indices is None:
        raise Broken(
            "unknown_probe", f"{path} does not say which channel each contact is; add the wiring"
        )
    return probe


def open_stream(recording: RawRecording, stream: Stream, folder: Path) -> RawStream:
    """Open one stream through its reader.

    Parameters
    ----------
    recording : RawRecording
        Of format `nwb` or `reader`.
    stream : Stream
        Its description; the files were checked by the caller.
    folder : Path
        The session folder.

    Returns
    -------
    RawStream
        Gains and offsets of the configuration where the reader has none; 1 uV per bit is never
        assumed.

    Raises
    ------
    Broken
        When the reader fails, the data are not what was described, or no gain is known.
    """
    whole = _open(recording, stream, folder)
    if recording.format == "reader" and whole.get_num_segments() > 1:
        whole = whole.select_segments([recording.segment])
    if (whole.get_num_samples(), whole.get_num_channels()) != (stream.n_samples, stream.n_channels):
        raise Broken(
            "changed",
            f"{folder / stream.files[0]} was changed: {whole.get_num_samples()} samples of "
            f"{whole.get_num_channels()} channels, {stream.n_samples} of {stream.n_channels} when "
            "it was registered; restore it, or let the session be discovered again",
        )
    sync = [whole.channel_ids[i] for i in recording.sync_channels]
    ids = [one for i, one in enumerate(whole.channel_ids) if i not in recording.sync_channels]
    probe, channels = probe_for(whole, recording.probe_file, recording.wiring, len(ids))
    if channels is None or probe is None:
        neural = whole.select_channels(ids) if sync else whole.clone()
    else:
        order = np.argsort(channels)
        neural = whole.select_channels([whole.channel_ids[channels[i]] for i in order])
        sliced = probe.get_slice(np.flatnonzero(probe.device_channel_indices >= 0)[order])
        sliced.set_device_channel_indices(np.arange(len(channels)))
        attach_probe(neural, sliced)
    _set_gains(neural, recording, stream)
    return RawStream(
        name=stream.name, recording=whole, neural=neural, sync_channel_ids=sync, sha1=stream.sha1
    )


def _open(recording: RawRecording, stream: Stream, folder: Path) -> Any:
    if recording.format == "nwb":
        options = {"electrical_series_path": recording.reader_options[stream.name]}
        return call_reader("nwb", "file_path", options, folder / stream.files[0])
    options = recording.reader_options["options"]
    path = folder / recording.reader_options["path"]
    return call_reader(str(recording.reader), recording.path_argument, options, path)


def _set_gains(neural: Any, recording: RawRecording, stream: Stream) -> None:
    """Set the gains that the configuration gives, and refuse a recording without any."""
    check_gains(neural, recording.gain_uv)
    if recording.gain_uv is not None:
        n = neural.get_num_channels()
        neural.set_channel_gains(np.full(n, recording.gain_uv))
        neural.set_channel_offsets(np.full(n, recording.offset_uv or 0.0))


def check_gains(recording: Any, gain_uv: float | None) -> None:
    """Refuse a recording whose scale nobody knows: 1 uV per bit is never assumed.

    Parameters
    ----------
    recording : BaseRecording
        As the reader gives it.
    gain_uv : float or None
        From the configuration; it goes before the reader's.

    Raises
    ------
    Broken
        `bad_gain`.
    """
    if gain_uv is not None:
        return
    gains = recording.get_channel_gains() if recording.has_scaleable_traces() else None
    if gains is None or not np.isfinite(gains).all() or (np.asarray(gains) == 0).any():
        raise Broken(
            "bad_gain",
            "the data have no usable gain; give gain_uv (and offset_uv) in the reader entry of "
            "lab.yaml",
        )
