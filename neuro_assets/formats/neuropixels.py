"""Geometry, sampling shifts and gains of a Neuropixels probe, from a SpikeGLX meta file.

probeinterface knows the probes; this module hands it a meta that it can read (an LF meta and a
saved subset as well), checks the channel count of what comes back, and takes the gains.
Nothing here reads samples.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro_assets.formats.broken import Broken
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta, parse_table

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProbeDescription:
    """What is known of the neural channels of one stream.

    Parameters
    ----------
    probe : probeinterface.Probe
        Contact i is neural channel i of the file.
    gains_uv : ndarray, (channels,)
        uV per bit.
    sample_shifts : ndarray, (channels,), or None
        Sampling delay of each channel as a fraction of a sample (AP clock); None where unknown.
    saturation_uv : float
        Largest voltage that the converter can express at the lowest gain, uV.
    """

    probe: Any
    gains_uv: Floats
    sample_shifts: Floats | None
    saturation_uv: float


def describe_probe(meta: SpikeGLXMeta) -> ProbeDescription:
    """Make probe, gains and shifts of a probe stream, AP or LF.

    Parameters
    ----------
    meta : SpikeGLXMeta
        Meta of kind `imec`.

    Returns
    -------
    ProbeDescription
        With as many contacts as the file has neural channels.

    Raises
    ------
    Broken
        `unknown_probe`, `channel_count` or `bad_gain`, with what to do.
    """
    rows = _neural_rows(meta)
    full = _full_probe(meta)
    if full is None:
        return _from_geometry_map(meta, rows)
    if rows.size == 0 or rows.max() >= full.get_contact_count():
        raise Broken(
            "channel_count",
            f"the file saves channel {int(rows.max(initial=-1))} but the probe table (imroTbl) has "
            f"{full.get_contact_count()} rows; copy the meta of this recording from the rig",
        )
    probe = full.get_slice(rows)
    probe.set_device_channel_indices(np.arange(rows.size))
    probe.annotate(part_number=meta.part_number, serial_number=meta.serial)
    gains, saturation = _gains(meta, probe)
    shifts = shifts_from_probe(probe)
    if shifts is None:
        shifts = shifts_from_mux(meta, rows)
    return ProbeDescription(probe, gains, shifts, saturation)


def _neural_rows(meta: SpikeGLXMeta) -> npt.NDArray[np.int64]:
    """Readout channel (row of the probe table) of each saved neural channel."""
    n_ap, n_lf = meta.acquired
    saved = np.asarray(meta.saved_channels(), dtype=np.int64)
    neural = saved[: meta.n_channels - meta.n_sync]
    # A two-band probe counts its LF channels behind its AP channels.
    return np.where((n_lf > 0) & (neural >= n_ap), neural - n_ap, neural)


def _full_probe(meta: SpikeGLXMeta) -> Any:
    """All readout channels of the probe; None where probeinterface has no such part."""
    table = meta.fields.get("imroTbl", "")
    if not table or not meta.part_number:
        return None
    # probeinterface fails on LF metas and on subsets that start late; it is given a meta that
    # saves every channel, and the slice is taken here.
    wanted = {
        "imroTbl": table,
        "imDatPrb_pn": meta.part_number,
        "nSavedChans": str(len(parse_table(table)) + 10_000),
        "snsSaveChanSubset": "all",
    }
    for name in ("imProbeOpt", "imProbeSN", "imDatPrb_sn", "imDatPrb_port", "imDatPrb_slot"):
        if name in meta.fields:
            wanted[name] = meta.fields[name]
    try:
        return _read_probe(tuple(wanted.items()))
    except (KeyError, ValueError, IndexError, AssertionError, TypeError) as error:
        if "snsGeomMap" in meta.fields:
            return None
        raise Broken(
            "unknown_probe",
            f"probe {meta.part_number or 'without part number'} is not in probeinterface's "
            f"table or its imroTbl is damaged ({type(error).__name__}: {error}); give the "
            "geometry in a reader entry of lab.yaml or update probeinterface",
        ) from error


@functools.lru_cache(maxsize=16)
def _read_probe(fields: tuple[tuple[str, str], ...]) -> Any:
    """Read a probe once for its AP, LF and trigger files; callers only take slices of it."""
    import probeinterface

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.meta"
        path.write_text("".join(f"{name}={value}\n" for name, value in fields))
        return probeinterface.read_spikeglx(path)


def _from_geometry_map(meta: SpikeGLXMeta, rows: npt.NDArray[np.int64]) -> ProbeDescription:
    """Geometry that SpikeGLX wrote itself, for probes newer than probeinterface's table."""
    from probeinterface import Probe

    entries = parse_table(meta.fields.get("snsGeomMap", ""))
    if len(entries) - 1 != rows.size:
        raise Broken(
            "unknown_probe",
            f"probe {meta.part_number or 'without part number'} has no readable imroTbl and no "
            f"snsGeomMap for its {rows.size} channels; give the geometry in a reader entry of "
            "lab.yaml",
        )
    try:
        pitch = float(entries[0].split(",")[2])
        contacts = np.array([[float(x) for x in entry.split(":")] for entry in entries[1:]])
    except (ValueError, IndexError):
        raise Broken("unknown_probe", "snsGeomMap in the meta file is damaged") from None
    shanks = contacts[:, 0].astype(int)
    probe = Probe(ndim=2, si_units="um", model_name=meta.part_number, manufacturer="imec")
    probe.set_contacts(
        positions=np.column_stack([contacts[:, 1] + shanks * pitch, contacts[:, 2]]),
        shapes="square",
        shape_params={"width": 12},
        shank_ids=shanks if shanks.max(initial=0) > 0 else None,
    )
    probe.set_device_channel_indices(np.arange(rows.size))
    probe.annotate(part_number=meta.part_number, serial_number=meta.serial)
    gains, saturation = _gains(meta, probe)
    return ProbeDescription(probe, gains, shifts_from_mux(meta, rows), saturation)


def _gains(meta: SpikeGLXMeta, probe: Any) -> tuple[Floats, float]:
    """UV per bit (input range / largest integer / amplifier gain), and full scale in uV."""
    n = probe.get_contact_count()
    name = "lf" if meta.band == "lf" else "ap"
    per_channel = probe.contact_annotations.get(f"{name}_gains")
    if per_channel is None and name == "lf" and not meta.acquired[1]:
        name = "ap"  # an LF file that CatGT or IBL made from a wide-band probe
    if per_channel is None:
        one = meta.fields.get(f"imChan0{name}Gain") or probe.annotations.get(f"{name}_gain")
        per_channel = np.full(n, _as_float(one))
    amplifier = np.asarray(per_channel, dtype=np.float64)
    maximum = meta.fields.get("imMaxInt") or _default_max_int(probe)
    full_scale = _as_float(meta.fields.get("imAiRangeMax"))
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = full_scale / np.float64(_as_float(maximum)) / amplifier * 1e6
    bad = ~np.isfinite(gains) | (gains <= 0)
    if bad.any():
        raise Broken(
            "bad_gain",
            f"{int(bad.sum())} of {n} channels have no usable gain (imAiRangeMax="
            f"{meta.fields.get('imAiRangeMax')}, imMaxInt={maximum}, gain of the first bad channel "
            f"{amplifier[bad][0]}); correct the meta file from the rig's copy",
        )
    return gains, float(gains.max() * _as_float(maximum))


def _default_max_int(probe: Any) -> float | None:
    """Older metas lack imMaxInt: half the converter's range, 512 for 10 bits."""
    bits = probe.annotations.get("adc_bit_depth")
    return None if bits is None else float(2 ** (int(bits) - 1))


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def shifts_from_probe(probe: Any) -> Floats | None:
    """Take the sampling delays from what probeinterface knows of the converters.

    Parameters
    ----------
    probe : probeinterface.Probe
        With contact annotation `adc_sample_order`.

    Returns
    -------
    ndarray, (channels,), or None
        Order within the converter over its number of cycles, `channels * (1 + LF rate / AP rate)`
        (billkarsh/ProbeTable, issue 3; as in SpikeInterface, which takes seconds to import).
    """
    order = probe.contact_annotations.get("adc_sample_order")
    names = ("num_channels_per_adc", "ap_sample_frequency_hz", "lf_sample_frequency_hz")
    known = [probe.annotations.get(name) for name in names]
    if order is None or None in known:
        return None
    per_adc, ap_rate, lf_rate = (float(value) for value in known)
    return np.asarray(order, dtype=np.float64) / int(per_adc * (1 + lf_rate / ap_rate))


def shifts_from_mux(meta: SpikeGLXMeta, rows: npt.NDArray[np.int64]) -> Floats | None:
    """Take the sampling delays from the multiplexer table that newer SpikeGLX writes.

    Parameters
    ----------
    meta : SpikeGLXMeta
        With `muxTbl` `(converters,slots)(channels of slot 0)(channels of slot 1)...`.
    rows : ndarray, (channels,)
        Readout channel of each saved channel.

    Returns
    -------
    ndarray, (channels,), or None
        Slot over the number of cycles, which is one more than the slots for probes that also
        sample an LF band (13 for Neuropixels 1.0, 16 for 2.0); None without the table.
    """
    entries = parse_table(meta.fields.get("muxTbl", ""))
    if len(entries) < 2:
        return None
    slots = {int(ch): slot for slot, text in enumerate(entries[1:]) for ch in text.split()}
    if any(int(row) not in slots for row in rows):
        return None
    cycles = len(entries) - 1 + (1 if meta.acquired[1] else 0)
    return np.array([slots[int(row)] for row in rows], dtype=np.float64) / cycles
