"""A SpikeInterface recording over one mtscomp `.cbin` file, decompressed as it is read.

SpikeInterface's own reader also builds the probe and needs the meta beside the file; this one
only moves samples, so that probe and gains are made in one place for both kinds of file.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseRecordingSegment

from neuro_assets.formats.broken import Broken

CACHED_CHUNKS = 2
"""Decompressed chunks kept in memory: one second of 385 channels is 23 MB."""


class CbinRecording(BaseRecording):
    """One `.cbin` file, all saved channels.

    Parameters
    ----------
    cbin_path, ch_path : str
        The compressed file and its chunk table.
    sampling_frequency : float
        Hz, from the meta (the chunk table has it rounded).
    channel_ids : list
        One id for each saved channel.
    """

    def __init__(
        self, cbin_path: str, ch_path: str, sampling_frequency: float, channel_ids: list[Any]
    ) -> None:
        BaseRecording.__init__(self, sampling_frequency, list(channel_ids), np.dtype("int16"))
        self.extra_requirements.append("mtscomp")
        self.add_recording_segment(_CbinSegment(cbin_path, ch_path, sampling_frequency))
        self._kwargs = {
            "cbin_path": str(Path(cbin_path).absolute()),
            "ch_path": str(Path(ch_path).absolute()),
            "sampling_frequency": sampling_frequency,
            "channel_ids": list(channel_ids),
        }


class _CbinSegment(BaseRecordingSegment):
    """Samples of one file; every worker process opens it for itself."""

    def __init__(self, cbin_path: str, ch_path: str, sampling_frequency: float) -> None:
        import mtscomp

        BaseRecordingSegment.__init__(self, sampling_frequency=sampling_frequency)
        self._path = cbin_path
        self._reader = mtscomp.Reader(quiet=True, n_threads=1, cache_size=10)
        self._reader.open(cbin_path, ch_path)
        self._reader.set_cache_size(CACHED_CHUNKS)

    def get_num_samples(self) -> int:
        """Count the samples per channel."""
        return int(self._reader.n_samples)

    def get_traces(
        self,
        start_frame: int | None = None,
        end_frame: int | None = None,
        channel_indices: Any = None,
    ) -> np.ndarray:
        """Decompress a range of samples, shape (samples, channels), int16."""
        try:
            traces = self._reader[start_frame:end_frame]
        except (AssertionError, OSError, zlib.error) as error:
            raise Broken(
                "corrupted",
                f"{self._path} cannot be decompressed at samples {start_frame}-{end_frame} "
                f"({error}); copy it again from the rig or the archive",
            ) from error
        return traces if channel_indices is None else traces[:, channel_indices]
