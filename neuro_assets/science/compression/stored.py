"""A stored stream in the channel order of its raw file; needs only the folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.compression.layout import RAW_COLUMN

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


class StoredStream:
    """All channels of a stored stream, in file order.

    Parameters
    ----------
    folder : Path
        What `compress_recording` wrote to.
    name : str
        Stream name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from spikeinterface.core import read_zarr

        paths = [folder / f"{name}.zarr", folder / f"{name}_sync.zarr"]
        self.recordings: list[BaseRecording] = [read_zarr(p) for p in paths if p.is_dir()]
        if not self.recordings:
            raise PermanentFailure(f"No stream {name!r} in the compressed recording")
        columns = np.concatenate([r.get_property(RAW_COLUMN) for r in self.recordings])
        self._order = np.argsort(columns)
        self.is_complete = np.array_equal(columns[self._order], np.arange(len(columns)))
        ids = np.concatenate([r.channel_ids for r in self.recordings])
        self.channel_ids: list[object] = ids[self._order].tolist()
        self.chunk = max(1, round(self.recordings[0].sampling_frequency))

    @property
    def n_samples(self) -> list[int]:
        """Samples of each segment."""
        first = self.recordings[0]
        return [int(first.get_num_samples(s)) for s in range(first.get_num_segments())]

    def read(self, segment: int, start: int, stop: int) -> np.ndarray:
        """Read samples x channels, C-contiguous, in file order."""
        pieces = [
            r.get_traces(segment_index=segment, start_frame=start, end_frame=stop)
            for r in self.recordings
        ]
        return np.ascontiguousarray(np.concatenate(pieces, axis=1)[:, self._order])
