"""Where the tests find what they read: the repository, real recordings, recorded answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_SHARED = REPOSITORY.parent / "shared"

REAL = Path(os.environ.get("NEURO_ASSETS_REAL_DATA", _SHARED / "data"))
"""Real recordings; tests that read them skip where the folder is missing."""


def _np24() -> Path:
    own, package = REAL / "spikeglx_np24_spikewrap", find_spec("spikewrap")
    if own.is_dir() or package is None or package.origin is None:
        return own
    return Path(package.origin).parent / "examples" / "example_tiny_data" / "spikeglx"


NP24 = _np24()
"""Two runs of half a second of a real Neuropixels 2.0 probe with four shanks: of REAL, else those
that the package spikewrap 0.4.0 carries (BSD-3-Clause; only its files are read)."""

NO_NP24 = f"no real recording in {REAL}, and the package spikewrap is not installed"

SAMPLES = Path(os.environ.get("NEURO_ASSETS_ALYX_SAMPLES", _SHARED / "alyx-samples"))
"""Exchanges recorded from a real Alyx."""


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write to a folder: by permissions, for root by a mount of it on itself."""
    if os.geteuid() == 0:
        tries = [["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]]
        if any(subprocess.run(["mount", *t], check=False, capture_output=True).returncode
               for t in tries):  # fmt: skip
            pytest.skip("this machine allows no mounts, and root is not stopped by permissions")
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield
    for path in paths:
        path.chmod(0o755)
