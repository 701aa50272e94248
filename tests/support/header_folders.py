"""Recordings whose header is one file and whose samples are others, as the programs write them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RATE = 20_000


def neuroscope(folder: Path, data: np.ndarray, name: str = "amp") -> Path:
    """Write `<name>.xml` and the samples (time, channels) in `<name>.dat`; give the header."""
    channels = range(data.shape[1])
    groups = "".join(f'<channel skip="0">{channel}</channel>' for channel in channels)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.xml").write_text(
        '<?xml version="1.0"?><parameters version="1.0" creator="neuroscope-2.0.0">'
        f"<acquisitionSystem><nBits>16</nBits><nChannels>{len(channels)}</nChannels>"
        f"<samplingRate>{RATE}</samplingRate><voltageRange>20</voltageRange>"
        "<amplification>1000</amplification><offset>0</offset></acquisitionSystem>"
        f"<anatomicalDescription><channelGroups><group>{groups}</group></channelGroups>"
        "</anatomicalDescription></parameters>"
    )
    (folder / f"{name}.dat").write_bytes(data.astype("<i2").tobytes())
    return folder / f"{name}.xml"


def intan(folder: Path, data: np.ndarray, *, per_channel: bool = False) -> Path:
    """Write `info.rhd`, the samples, their times and a digital input without an event."""
    n_samples, n_channels = data.shape
    folder.mkdir(parents=True, exist_ok=True)
    header = folder / "info.rhd"
    header.write_bytes(_rhd_header(n_channels))
    np.arange(n_samples, dtype="<i4").tofile(folder / "time.dat")
    digital = "board-DIGITAL-IN-00.dat" if per_channel else "digitalin.dat"
    np.zeros(n_samples, "<u2").tofile(folder / digital)
    if not per_channel:
        data.astype("<i2").tofile(folder / "amplifier.dat")
        return header
    for channel in range(n_channels):
        data[:, channel].astype("<i2").tofile(folder / f"amp-A-{channel:03d}.dat")
    return header


def _rhd_header(n_channels: int) -> bytes:
    """Version 2.0: one port with amplifiers, one with a digital input."""
    filters = (1, 1, 0.1, 7500, 1, 0.1, 7500, 0, 1000, 1000)
    general = struct.pack("<Ihhf", 0xC6912702, 2, 0, RATE) + struct.pack("<hffffffhff", *filters)
    general += _text("") * 3 + struct.pack("<hh", 0, 0) + _text("") + struct.pack("<h", 2)
    amplifiers = b"".join(_channel(f"A-{i:03d}", i, 0) for i in range(n_channels))
    return (
        general
        + _text("Port A") + _text("A") + struct.pack("<hhh", 1, n_channels, n_channels) + amplifiers
        + _text("Digital") + _text("DIN") + struct.pack("<hhh", 1, 1, 0)
        + _channel("DIGITAL-IN-00", 0, 4)
    )  # fmt: skip


def _channel(name: str, number: int, kind: int) -> bytes:
    return _text(name) * 2 + struct.pack(
        "<10hff", number, number, kind, 1, number, 0, 0, 0, 0, 0, 1e5, 0
    )


def _text(text: str) -> bytes:
    data = text.encode("utf-16-le")
    return struct.pack("<I", len(data)) + data
