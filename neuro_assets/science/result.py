"""What a step of the science layer hands back: numbers, tables, what was done, one picture.

Arrays too large for memory are not in here: the step writes them to the folder that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[float, str], None]
"""Called with the fraction done (0..1) and a few words, at least every half minute."""

_STREAMS = ("ap", "lf", "wideband")
_STORAGE = ("stored_bytes", "compression_ratio", "delta", "codec", "cbin_bytes")
NOT_CONTENT = frozenset(
    {"seconds", "realtime_factor", "sorter_cpu_s", "sorter_peak_memory_bytes", "size_bytes"}
    | {*_STORAGE}
    | {f"{stream}_{name}" for stream in _STREAMS for name in _STORAGE}
)
"""Metrics and columns that say how long the work took or how bytes are kept: not content."""


def no_progress(fraction: float, words: str) -> None:
    """Report nothing: the default when nobody watches."""


@dataclass(frozen=True)
class Applied:
    """One processing step that was really applied, with the values really used."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A small PNG (under 100 kB) and the few words that say what it shows."""

    title: str
    png: bytes


@dataclass
class StepResult:
    """Result of one step.

    Parameters
    ----------
    metrics : dict
        Flat numbers (or short strings) with the unit in the name (`rms_uv`, `duration_s`);
        quality criteria and the user interface read these. NaN is allowed, and means unknown.
    tables : dict of str to DataFrame
        Written as `<name>.parquet`.
    applied : list of Applied
        Steps in the order in which they were applied.
    picture : Picture, optional
        Where a person would rather look than read.
    digests : dict of str to str
        Fingerprints of traces taken while they were written (`neuro_assets.science.fingerprint`),
        by path in the folder, so that they need not be read again.
    repeatable : bool
        Whether the same inputs give the same content again.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    applied: list[Applied] = field(default_factory=list)
    picture: Picture | None = None
    digests: dict[str, str] = field(default_factory=dict)
    repeatable: bool = True
