"""Where the tests find what they read: the repository, real recordings, recorded answers."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_SHARED = REPOSITORY.parent / "shared"

REAL = Path(os.environ.get("NEURO_ASSETS_REAL_DATA", _SHARED / "data"))
"""Real recordings; tests that read them skip where the folder is missing."""

SAMPLES = Path(os.environ.get("NEURO_ASSETS_ALYX_SAMPLES", _SHARED / "alyx-samples"))
"""Exchanges recorded from a real Alyx."""
