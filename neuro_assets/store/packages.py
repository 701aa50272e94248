"""Which releases of the packages that can change a result are installed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import metadata

PACKAGES = (
    "neuro-assets", "spikeinterface", "probeinterface", "neo", "numpy", "scipy", "pandas",
    "pyarrow", "zarr", "numcodecs", "pcodec", "mtscomp", "torch", "kilosort", "pynwb", "hdmf",
    "numba", "scikit-learn", "hdbscan", "dagster",
)  # fmt: skip
"""Recorded in every manifest; only those that a step declares are part of its version."""


@cache
def installed_packages() -> dict[str, str]:
    """Give the installed release of each of `PACKAGES` that there is."""
    return {name: release for name in PACKAGES if (release := _release(name))}


def releases(declared: Iterable[str]) -> dict[str, str]:
    """Give the installed releases of declared packages; empty text where one is missing."""
    installed = installed_packages()
    return {name: installed.get(name) or _release(name) for name in sorted(declared)}


def _release(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
