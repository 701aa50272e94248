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
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def releases(declared: Iterable[str]) -> dict[str, str]:
    """Give the installed releases of declared packages; empty text where one is missing."""
    installed = installed_packages()
    return {name: installed.get(name, "") for name in sorted(declared)}
