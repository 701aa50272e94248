"""SpikeGLX files: binaries hashed while they are written, and their metas.

Only the file format is known here; what is in the samples comes from the other modules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from neuro_assets.simulation.clocks import AP_HZ, LF_HZ, NIDQ_HZ
from neuro_assets.simulation.probes import (
    READOUT,
    SimulatedProbe,
    channel_map,
    geometry_map,
    imro_table,
    saved_subset,
    shank_map,
)

RUN_NAME = "_spikeglx_ephysData"
RANGE_NI_V = 5.0
RIG_FOLDER = "D:/iblrig_data/Subjects"


class BinaryWriter:
    """One `.bin` file, written in order, with its size and SHA-1.

    Parameters
    ----------
    path : Path
        File to create.
    n_channels : int
        Saved channels, sync included.
    """

    def __init__(self, path: Path, n_channels: int) -> None:
        self.path, self.n_channels, self.n_bytes = path, n_channels, 0
        self._hash = hashlib.sha1(usedforsecurity=False)
        self._file = path.open("wb")

    def close(self) -> None:
        """Close the file; size and SHA-1 stay."""
        self._file.close()

    def write(self, samples: np.ndarray) -> None:
        """Append int16 samples of shape (n, n_channels)."""
        data = np.ascontiguousarray(samples, dtype="<i2").data.cast("B")
        self._hash.update(data)
        self._file.write(data)
        self.n_bytes += data.nbytes

    @property
    def sha1(self) -> str:
        """SHA-1 of what was written, upper case as SpikeGLX writes it."""
        return self._hash.hexdigest().upper()

    @property
    def n_samples(self) -> int:
        """Samples per channel written so far."""
        return self.n_bytes // 2 // self.n_channels


@dataclass(frozen=True)
class FileIdentity:
    """Where a file belongs in the run.

    Parameters
    ----------
    session : str
        `<subject>/<date>/<number>`, for the path on the rig.
    gate, trigger : int
        Gate and trigger.
    first_sample : int
        The stream's count at the file's first sample, in the stream's own rate.
    created : datetime
        Rig's local time.
    n_probes : int
        Probes in the run.
    """

    session: str
    gate: int
    trigger: int
    first_sample: int
    created: datetime
    n_probes: int

    def stem(self, stream: str) -> str:
        """File name without suffix, such as `..._g0_t0.imec0.ap`."""
        return f"{RUN_NAME}_g{self.gate}_t{self.trigger}.{stream}"


def write_meta(path: Path, fields: dict[str, Any]) -> None:
    """Write a meta: plain keys in alphabetical order, then the tables (`~`).

    Parameters
    ----------
    path : Path
        File to create.
    fields : dict
        Values by key.
    """
    keys = sorted(fields, key=lambda key: (key.startswith("~"), key.lower()))
    path.write_text("".join(f"{key}={_text(fields[key])}\n" for key in keys), encoding="utf-8")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.16g}" if isinstance(value, float) else str(value)


def _common(writer: BinaryWriter, identity: FileIdentity, rate: int, device: str) -> dict[str, Any]:
    run = f"{RUN_NAME}_g{identity.gate}"
    folder = f"{RIG_FOLDER}/{identity.session}/raw_ephys_data/{run}"
    if device:
        folder += f"/{run}_{device}"
    return {
        "appVersion": 20230815,
        "fileCreateTime": identity.created.isoformat(timespec="seconds"),
        "fileName": f"{folder}/{writer.path.name}",
        "fileSHA1": writer.sha1,
        "fileSizeBytes": writer.n_bytes,
        "fileTimeSecs": writer.n_samples / rate,
        "firstSample": identity.first_sample,
        "gateMode": "Immediate",
        "nDataDirs": 1,
        "nSavedChans": writer.n_channels,
        "syncSourceIdx": 3,
        "syncSourcePeriod": 1,
        "trigMode": "Immediate",
        "typeImEnabled": identity.n_probes,
        "typeNiEnabled": 1,
        "typeObEnabled": 0,
        "userNotes": "",
    }


def imec_meta(
    writer: BinaryWriter,
    identity: FileIdentity,
    probe: SimulatedProbe,
    band: str,
    serial: int,
    number: int,
) -> dict[str, Any]:
    """Meta of an AP or LF file.

    Parameters
    ----------
    writer : BinaryWriter
        The closed binary.
    identity : FileIdentity
        Where it belongs.
    probe : SimulatedProbe
        Probe and channels.
    band : str
        `ap` or `lf`.
    serial, number : int
        Serial number of the probe and its number in the run.

    Returns
    -------
    dict
        Fields for `write_meta`.
    """
    kind = probe.kind
    n_lf = READOUT if kind.has_lf else 0
    counts = (0, probe.n_channels, 1) if band == "lf" else (probe.n_channels, 0, 1)
    fields = _common(writer, identity, LF_HZ if band == "lf" else AP_HZ, f"imec{number}")
    fields |= {
        "acqApLfSy": f"{READOUT},{n_lf},1",
        "imAiRangeMax": kind.range_v,
        "imAiRangeMin": -kind.range_v,
        "imChan0apGain": kind.ap_gain,
        "imDatPrb_pn": kind.part_number,
        "imDatPrb_port": 1 + number % 4,
        "imDatPrb_slot": 2 + number // 4,
        "imDatPrb_sn": serial,
        "imDatPrb_type": kind.type_code,
        "imMaxInt": kind.max_int,
        "imSampRate": LF_HZ if band == "lf" else AP_HZ,
        "snsApLfSy": ",".join(str(c) for c in counts),
        "snsSaveChanSubset": saved_subset(probe, band),
        "typeThis": "imec",
        "~imroTbl": imro_table(kind),
        "~snsChanMap": channel_map(probe, band),
        "~snsGeomMap": geometry_map(probe),
        "~snsShankMap": shank_map(probe),
    }
    if kind.has_lf:
        fields["imChan0lfGain"] = kind.lf_gain
    return fields


def nidq_meta(writer: BinaryWriter, identity: FileIdentity, sync_bit: int) -> dict[str, Any]:
    """Meta of a NIDQ file with two analogue channels and one digital word.

    Parameters
    ----------
    writer : BinaryWriter
        The closed binary.
    identity : FileIdentity
        Where it belongs.
    sync_bit : int
        Digital line of the sync pulses.

    Returns
    -------
    dict
        Fields for `write_meta`.
    """
    return _common(writer, identity, NIDQ_HZ, "") | {
        "acqMnMaXaDw": "0,0,2,1",
        "niAiRangeMax": RANGE_NI_V,
        "niAiRangeMin": -RANGE_NI_V,
        "niMAChans1": "",
        "niMAGain": 1,
        "niMaxInt": 32768,
        "niMNChans1": "",
        "niMNGain": 200,
        "niSampRate": NIDQ_HZ,
        "niXAChans1": "0:1",
        "niXDBytes1": 1,
        "niXDChans1": "0:7",
        "snsMnMaXaDw": "0,0,2,1",
        "snsSaveChanSubset": "all",
        "syncNiChan": sync_bit,
        "syncNiChanType": 0,
        "syncNiThresh": 1.1,
        "typeThis": "nidq",
        "~snsChanMap": "(0,0,1,2,1)(XA0;0:0)(XA1;1:1)(XD0;2:2)",
    }
