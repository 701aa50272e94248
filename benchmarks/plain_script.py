"""The same science as the job, as a person would write it in one script, without a platform.

Results are written to a folder; nothing is versioned, checked or recorded.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_assets import names
from neuro_assets.assets.catalog import all_steps
from neuro_assets.config import LabConfig, read_config
from neuro_assets.formats.opening import open_raw
from neuro_assets.science.analyzer import analyze_sorting, open_analyzer
from neuro_assets.science.bad_channels import check_sortable, detect_bad_channels
from neuro_assets.science.compression.run import (
    compress_recording,
    open_compressed,
    open_recordings,
)
from neuro_assets.science.lfp.extract import extract_lfp
from neuro_assets.science.quality.recording import recording_quality
from neuro_assets.science.sorting import open_sorting, sort_recording
from neuro_assets.science.unit_quality import unit_quality
from neuro_assets.science.units import choose_units
from neuro_assets.sources.folders.source import LocalSessionSource


def process(folder: Path, config: LabConfig, out: Path) -> None:
    """Compute everything that the job computes for the only recording of a lab."""
    (session,) = LocalSessionSource(folder / "sessions", settle_s=0).survey()[0]
    (recording,) = session.recordings
    parameters = {step.name: step.parameters for step in all_steps(config)}
    jobs: dict[str, Any] = {"n_jobs": config.compute.n_cores}

    def place(name: str) -> Path:
        (out / name).mkdir()
        return out / name

    def keep(name: str, tables: dict[str, pd.DataFrame]) -> None:
        for table, frame in tables.items():
            frame.to_parquet(out / name / f"{table}.parquet")

    compressed = place(names.COMPRESSED_RECORDING)
    compress_recording(
        open_raw(recording, Path(session.folder)), compressed,
        parameters[names.COMPRESSED_RECORDING], **jobs,
    )  # fmt: skip
    ap, streams = open_compressed(compressed), open_recordings(compressed)
    labelled = detect_bad_channels(ap, place(names.BAD_CHANNELS), parameters[names.BAD_CHANNELS])
    keep(names.BAD_CHANNELS, labelled.tables)
    channels = labelled.tables["channels"]
    quality = recording_quality(
        streams, place(names.RECORDING_QUALITY), parameters[names.RECORDING_QUALITY],
        channels=channels, n_jobs=config.compute.n_jobs,
    )  # fmt: skip
    keep(names.RECORDING_QUALITY, quality.tables)
    saturation = quality.tables["saturation"]
    lfp = place(names.LFP_ASSET)
    result = extract_lfp(ap, streams.get("lf"), channels, lfp, parameters[names.LFP_ASSET], **jobs)
    keep(names.LFP_ASSET, result.tables)
    check_sortable(channels, ap.get_duration(), parameters[names.BAD_CHANNELS])
    sorter = config.sorters[0]
    with tempfile.TemporaryDirectory() as scratch:
        sort_recording(
            ap, channels, saturation, place("sorting"), Path(scratch), sorter.sorting,
            **jobs,
        )  # fmt: skip
    place("analyzer")
    analyze_sorting(
        ap, open_sorting(out / "sorting"), channels, out / "analyzer",
        parameters[names.analyzer(sorter.name)],
        saturation=saturation, **jobs,
    )  # fmt: skip
    analyzer = open_analyzer(out / "analyzer")
    units = unit_quality(
        analyzer,
        place("unit_quality"),
        parameters[names.unit_quality(sorter.name)],
    )
    keep("unit_quality", units.tables)
    chosen = choose_units(
        {sorter.name: units.tables["unit_quality"]}, {sorter.name: "0"}, place(names.UNITS),
        parameters[names.UNITS], open_source=lambda _: analyzer,
    )  # fmt: skip
    keep(names.UNITS, chosen.tables)


if __name__ == "__main__":
    lab = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as target:
        process(lab, read_config(lab / "lab.yaml"), Path(target))
