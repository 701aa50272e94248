"""Neuropixels probes: geometry from probeinterface, channel choice, and the tables of the meta.

The tables are written as SpikeGLX writes them, so that its readers find the same probe again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.simulation.rng import FloatArray, IntArray

READOUT = 384

# Four-shank probes wire blocks of 48 electrodes to blocks of 48 channels, differently on each
# shank (SpikeGLX, IMROTbl_T24.cpp). These are the two lowest blocks of each shank, which
# together take every channel once.
_LOWEST_BLOCKS = {0: (0, 2), 1: (1, 3), 2: (4, 6), 3: (5, 7)}


@dataclass(frozen=True)
class ProbeKind:
    """What differs between the probe models.

    Parameters
    ----------
    part_number : str
        `imDatPrb_pn`.
    type_code : int
        `imDatPrb_type`, and the first field of the IMRO header.
    ap_gain, lf_gain : int
        Amplifier gains; an LF gain of 0 means one wide band and no LF file.
    max_int : int
        Counts at the positive end of the range.
    range_v : float
        Positive end of the converter's range, V.
    shanks : int
        Number of shanks.
    """

    part_number: str
    type_code: int
    ap_gain: int
    lf_gain: int
    max_int: int
    range_v: float
    shanks: int

    @property
    def has_lf(self) -> bool:
        """Whether the probe writes a separate LF file."""
        return self.lf_gain > 0

    def gain_uv(self, band: str) -> float:
        """Microvolts per count in band `ap` or `lf`."""
        gain = self.lf_gain if band == "lf" else self.ap_gain
        return self.range_v / self.max_int / gain * 1e6


KINDS = {
    "NP1": ProbeKind("NP1000", 0, 500, 250, 512, 0.6, 1),
    "NP2": ProbeKind("NP2003", 2003, 100, 0, 2048, 0.62, 1),
    "NP2.4": ProbeKind("NP2013", 2013, 100, 0, 2048, 0.62, 4),
}


@dataclass(frozen=True)
class SimulatedProbe:
    """A probe with the channels that are saved.

    Parameters
    ----------
    kind : ProbeKind
        The model.
    readout : ndarray
        Saved readout channels (0..383), ascending, as the file orders them.
    positions : ndarray
        Contact positions as probeinterface gives them, shape (n_channels, 2), um.
    shanks : ndarray
        Shank of each channel.
    shifts : ndarray
        When within a sample period each channel is sampled, 0..1.
    probe : probeinterface.Probe
        Probe with the saved contacts, wired in file order.
    """

    kind: ProbeKind
    readout: IntArray
    positions: FloatArray
    shanks: IntArray
    shifts: FloatArray
    probe: Any

    @property
    def n_channels(self) -> int:
        """Saved neural channels."""
        return len(self.readout)


def make_probe(model: str, n_channels: int) -> SimulatedProbe:
    """Choose contiguous sites from the tip of a probe.

    Parameters
    ----------
    model : str
        `NP1`, `NP2` or `NP2.4`; four shanks share the channels evenly.
    n_channels : int
        1 to 384.

    Returns
    -------
    SimulatedProbe
        The probe.

    Raises
    ------
    PermanentFailure
        For an unknown model or a channel count that the probe does not have.
    """
    if model not in KINDS:
        raise PermanentFailure(f"no probe model {model!r}; choose one of {', '.join(KINDS)}")
    if not 1 <= n_channels <= READOUT:
        raise PermanentFailure(f"{n_channels} channels asked for; a probe has 1 to {READOUT}")
    from probeinterface.neuropixels_tools import build_neuropixels_probe

    kind = KINDS[model]
    shank, electrode = _wiring(kind)
    readout = _saved_channels(kind, n_channels)
    full = build_neuropixels_probe(kind.part_number)
    names = _contact_names(kind, shank[readout], electrode[readout])
    index = {name: i for i, name in enumerate(full.contact_ids)}
    probe = full.get_slice(np.array([index[name] for name in names]))
    probe.set_device_channel_indices(np.arange(n_channels))
    return SimulatedProbe(
        kind=kind,
        readout=readout,
        positions=np.asarray(probe.contact_positions, dtype=float),
        shanks=shank[readout],
        shifts=_sample_shifts(full.annotations["adc_sampling_table"], kind.has_lf)[readout],
        probe=probe,
    )


def _wiring(kind: ProbeKind) -> tuple[IntArray, IntArray]:
    """Shank and electrode of each readout channel."""
    channels = np.arange(READOUT)
    if kind.shanks == 1:
        return np.zeros(READOUT, dtype=np.int64), channels
    shank = np.zeros(READOUT, dtype=np.int64)
    electrode = np.zeros(READOUT, dtype=np.int64)
    for number, blocks in _LOWEST_BLOCKS.items():
        for place, block in enumerate(blocks):
            rows = slice(48 * block, 48 * block + 48)
            shank[rows] = number
            electrode[rows] = 48 * place + np.arange(48)
    return shank, electrode


def _saved_channels(kind: ProbeKind, n_channels: int) -> IntArray:
    """Readout channels of the lowest electrodes, shared evenly by the shanks."""
    shank, electrode = _wiring(kind)
    order = np.lexsort((shank, electrode))
    return np.sort(order[:n_channels])


def _contact_names(kind: ProbeKind, shank: IntArray, electrode: IntArray) -> list[str]:
    if kind.shanks == 1:
        return [f"e{e}" for e in electrode]
    return [f"s{s}e{e}" for s, e in zip(shank, electrode, strict=True)]


def _sample_shifts(table: str, has_lf: bool) -> FloatArray:
    """Find when within a sample period each readout channel is sampled, from the MUX table.

    The table is `(converters,channels each)(ch ch ...)(...)`: one group a time slot. Probes with
    an LF band use one more slot for it.
    """
    header, *slots = table.strip("()").split(")(")
    n_slots = int(header.split(",")[1]) + int(has_lf)
    shifts = np.zeros(READOUT)
    for slot, channels in enumerate(slots):
        numbers = np.array([int(c) for c in channels.split(" ")])
        shifts[numbers[numbers < READOUT]] = slot
    return shifts / n_slots


def imro_table(kind: ProbeKind) -> str:
    """`~imroTbl`: reference, gains and electrode of all 384 readout channels."""
    shank, electrode = _wiring(kind)
    entries = [f"({kind.type_code},{READOUT})"]
    for channel in range(READOUT):
        if kind.type_code == 0:
            entries.append(f"({channel} 0 0 {kind.ap_gain} {kind.lf_gain} 1)")
        elif kind.shanks == 1:
            entries.append(f"({channel} 1 0 {electrode[channel]})")
        else:
            entries.append(f"({channel} {shank[channel]} 0 0 {electrode[channel]})")
    return "".join(entries)


def channel_map(probe: SimulatedProbe, band: str) -> str:
    """`~snsChanMap`: names of the saved channels, the sync channel last."""
    n_lf = READOUT if probe.kind.has_lf else 0
    base = READOUT if band == "lf" else 0
    sync = READOUT + n_lf
    entries = [f"({READOUT},{n_lf},1)"]
    entries += [f"({band.upper()}{c};{base + c}:{base + c})" for c in probe.readout]
    return "".join([*entries, f"(SY0;{sync}:{sync})"])


def saved_subset(probe: SimulatedProbe, band: str) -> str:
    """`snsSaveChanSubset`: ranges of acquired channels, the sync channel last."""
    n_lf = READOUT if probe.kind.has_lf else 0
    base = READOUT if band == "lf" else 0
    numbers = [*(probe.readout + base).tolist(), READOUT + n_lf]
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def geometry_map(probe: SimulatedProbe) -> str:
    """`~snsGeomMap`: shank, x from the shank's left edge, y and use of each saved site."""
    kind = probe.kind
    pitch = 250 if kind.shanks > 1 else 0
    lowest = 27 if kind.type_code else 11
    x = probe.positions[:, 0] - probe.shanks * pitch + lowest
    entries = [f"({kind.part_number},{kind.shanks},{pitch},70)"]
    for shank, left, up in zip(probe.shanks, x, probe.positions[:, 1], strict=True):
        entries.append(f"({shank}:{left:.0f}:{up:.0f}:1)")
    return "".join(entries)


def shank_map(probe: SimulatedProbe) -> str:
    """`~snsShankMap`: shank, column, row and use of each saved site."""
    kind = probe.kind
    _, electrode = _wiring(kind)
    rows = 640 if kind.type_code else 480
    entries = [f"({kind.shanks},2,{rows})"]
    for shank, site in zip(probe.shanks, electrode[probe.readout], strict=True):
        entries.append(f"({shank}:{site % 2}:{site // 2}:1)")
    return "".join(entries)
