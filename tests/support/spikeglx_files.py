"""Small SpikeGLX files with a given mess, written without any code of the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

N_NEURAL = 8
RATE = 30000


def imro_np1(ap_gain: int = 500, lf_gain: int = 250) -> str:
    return "(0,384)" + "".join(f"({i} 0 0 {ap_gain} {lf_gain} 1)" for i in range(384))


def imro_np2() -> str:
    return "(24,384)" + "".join(f"({i} {i // 96} 0 0 {i % 96})" for i in range(384))


def samples(n: int, seed: int = 0, n_channels: int = N_NEURAL + 1) -> np.ndarray:
    """Noise with a sync word that counts, never zero at the end."""
    rng = np.random.default_rng(seed)
    data = rng.integers(-200, 200, (n, n_channels), dtype=np.int16)
    data[:, -1] = 64 * (np.arange(n) // 10 % 2) + 1
    return data


def meta_text(
    data_bytes: int,
    *,
    band: str = "ap",
    first_sample: int = 1000,
    serial: str = "19000000001",
    created: str = "2024-05-12T10:00:00",
    file_name: str = "D:/somewhere/else_g7_t9.imec5.ap.bin",
    np2: bool = False,
    sha1: str = "0",
    extra: dict[str, str | None] | None = None,
) -> str:
    n_channels = N_NEURAL + 1
    rate = RATE if band == "ap" else 2500
    first, last = (0, N_NEURAL - 1) if band == "ap" else (384, 384 + N_NEURAL - 1)
    sync = 384 if np2 else 768
    fields: dict[str, str | None] = {
        "acqApLfSy": "384,0,1" if np2 else "384,384,1",
        "appVersion": "20230815",
        "fileCreateTime": created,
        "fileName": file_name,
        "fileSHA1": sha1,
        "fileSizeBytes": str(data_bytes),
        "fileTimeSecs": str(data_bytes / 2 / n_channels / rate),
        "firstSample": str(first_sample),
        "imAiRangeMax": "0.5" if np2 else "0.6",
        "imAiRangeMin": "-0.5" if np2 else "-0.6",
        "imDatPrb_pn": "NP2010" if np2 else "NP1000",
        "imDatPrb_sn": serial,
        "imDatPrb_type": "24" if np2 else "0",
        "imMaxInt": "8192" if np2 else "512",
        "imSampRate": str(rate),
        "nSavedChans": str(n_channels),
        "snsApLfSy": f"{N_NEURAL},0,1" if band == "ap" else f"0,{N_NEURAL},1",
        "snsSaveChanSubset": f"{first}:{last},{sync}",
        "typeThis": "imec",
        "~imroTbl": imro_np2() if np2 else imro_np1(),
    }
    fields.update(extra or {})
    return "".join(f"{k}={v}\r\n" for k, v in fields.items() if v is not None)


def write(
    path: Path, n: int = 300, *, seed: int = 0, data: np.ndarray | None = None, **meta: object
) -> Path:
    """Write a binary file and its meta; returns the binary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = samples(n, seed) if data is None else data
    path.write_bytes(data.tobytes())
    sha1 = hashlib.sha1(data.tobytes()).hexdigest()
    if ".lf." in path.name:
        meta.setdefault("band", "lf")
        meta.setdefault("first_sample", 1000 // 12)
    meta.setdefault("sha1", sha1)
    path.with_suffix(".meta").write_text(meta_text(data.nbytes, **meta), newline="")
    return path


def write_cbin(path: Path, n: int = 300, *, seed: int = 0, **meta: object) -> Path:
    """Write `.cbin`, `.ch` and `.meta` with mtscomp itself."""
    import mtscomp

    binary = write(path.with_suffix(".bin"), n, seed=seed, **meta)
    mtscomp.compress(
        binary,
        path,
        path.with_suffix(".ch"),
        sample_rate=RATE,
        n_channels=N_NEURAL + 1,
        dtype=np.int16,
        chunk_duration=0.004,
        n_threads=1,
        check_after_compress=False,
        quiet=True,
    )
    binary.unlink()
    return path


def write_board(
    path: Path, n: int = 300, *, kind: str = "nidq", first_sample: int = 990, seed: int = 9,
    analogue: int = 2,
) -> Path:  # fmt: skip
    """Write a NI-DAQ or OneBox file: two analogue channels and digital words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_channels = analogue + (1 if kind == "nidq" else 2)
    data = samples(n, seed, n_channels)
    path.write_bytes(data.tobytes())
    fields = {
        "fileCreateTime": "2024-05-12T10:00:00",
        "fileSizeBytes": str(data.nbytes),
        "fileTimeSecs": str(n / 25000),
        "firstSample": str(first_sample),
        "nSavedChans": str(n_channels),
        "snsSaveChanSubset": "all",
        "typeThis": kind,
    }
    if kind == "nidq":
        fields |= {
            "snsMnMaXaDw": f"0,0,{analogue},1",
            "niSampRate": "25000",
            "niAiRangeMax": "5",
            "niMNGain": "200",
            "niMAGain": "1",
        }
    else:
        fields |= {
            "snsXaDwSy": f"{analogue},1,1",
            "obSampRate": "25000",
            "obAiRangeMax": "5",
            "obMaxInt": "32768",
        }
    path.with_suffix(".meta").write_text("".join(f"{k}={v}\n" for k, v in fields.items()))
    return path
