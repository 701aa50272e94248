"""One session folder in, all its recordings and problems out: the formats are asked in turn.

What makes a recording in each format is the business of its own module.
"""

from __future__ import annotations

from pathlib import Path

from neuro_assets.science.formats.model import Scan
from neuro_assets.science.formats.spikeglx import scan_spikeglx
from neuro_assets.science.formats.walk import list_files


def scan_session(folder: Path) -> Scan:
    """Find the recordings of one session."""
    listing = list_files(folder)
    scan = scan_spikeglx(folder, listing)
    return Scan(recordings=scan.recordings, problems=(*listing.problems, *scan.problems))
