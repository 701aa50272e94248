"""The LFP on disk: a Zarr folder that `spikeinterface.read_zarr` opens unchanged.

int16 with one gain by default (half the size of float32 and far more compressible, see
`LfpParameters.resolution_uv` for why nothing is lost), channel-major chunks with pcodec, probe,
labels and clock beside the traces. No filtering happens here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.formats.timeline import Timeline
from neuro_assets.parameters.lfp import LfpParameters
from neuro_assets.science.checksums import checksum
from neuro_assets.science.compression import layout

INT16_LIMIT = 32767


def even_chunk(n_samples: int, wanted: int) -> int:
    """Chunk length near the wanted one that leaves no nearly empty last chunk, samples."""
    pieces = max(1, round(n_samples / wanted))
    return max(1, -(-n_samples // pieces))


class LfpWriter:
    """Writes blocks of microvolts one after the other.

    Parameters
    ----------
    folder : Path
        The Zarr folder to make.
    channels : DataFrame
        As `lfp_source.match_channels`; its order is the traces'.
    shape : tuple of int
        Samples and channels.
    rate : float
        Hz.
    parameters : LfpParameters
        Number type, resolution, chunks.
    scaled : bool
        Whether the blocks are microvolts; otherwise gains are unknown and float32 is written.
    """

    def __init__(
        self,
        folder: Path,
        channels: pd.DataFrame,
        shape: tuple[int, int],
        rate: float,
        parameters: LfpParameters,
        *,
        scaled: bool,
    ) -> None:
        import zarr
        from numcodecs.pcodec import PCodec

        self.folder, self.channels, self.scaled = folder, channels, scaled
        self.parameters, self.rate = parameters, rate
        self.is_integer = scaled and parameters.dtype == "int16"
        self.chunk = even_chunk(shape[0], max(1, round(parameters.chunk_s * rate)))
        self.n_samples, self.n_clipped = shape[0], 0
        self._root = zarr.open(str(folder), mode="w")
        self._traces = self._root.create_dataset(
            "traces_seg0",
            shape=shape,
            chunks=(self.chunk, min(shape[1], parameters.channels_per_chunk)),
            dtype="int16" if self.is_integer else "float32",
            # Channel-major, so that the codec's differences run along time.
            order="F",
            filters=[PCodec(level=parameters.compression_level)],
            compressor=checksum(),
        )

    def write(self, start: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Write one block and return what a reader will get, in the block's own unit."""
        if not self.is_integer:
            self._traces[start : start + len(values)] = values
            return values
        steps = np.rint(values / np.float32(self.parameters.resolution_uv))
        self.n_clipped += int(np.count_nonzero(np.abs(steps) > INT16_LIMIT))
        steps = np.clip(steps, -INT16_LIMIT, INT16_LIMIT)
        self._traces[start : start + len(values)] = steps.astype(np.int16)
        return steps * np.float32(self.parameters.resolution_uv)

    def finish(
        self, probegroup: Any | None, annotations: dict[str, Any], timeline: Timeline
    ) -> None:
        """Write what describes the traces, after which the folder can be opened.

        Parameters
        ----------
        probegroup : probeinterface.ProbeGroup or None
            Contacts in the order of the traces' channels.
        annotations : dict
            JSON values: clock, source, band.
        timeline : Timeline
            Pieces of the LFP.
        """
        n = self._traces.shape[1]
        properties: dict[str, NDArray[Any]] = {
            name: np.array(self.channels[name].astype(str).tolist())
            for name in ("label", "ap_channel_id")
        }
        properties["interpolated"] = self.channels["interpolated"].to_numpy(dtype=bool)
        if self.scaled:
            gain = self.parameters.resolution_uv if self.is_integer else 1.0
            properties |= {"gain_to_uV": np.full(n, gain), "offset_to_uV": np.zeros(n)}
        if probegroup is not None:
            properties["group"] = pd.factorize(self.channels["shank"])[0].astype(np.int64)
        layout.describe(
            self._root,
            sampling_frequency=self.rate,
            channel_ids=np.array(self.channels["channel_id"].tolist()),
            properties=properties,
            probegroup=probegroup,
            annotations=annotations | timeline.annotation,
        )
        # The clock `probe` begins at the AP stream's first sample.
        if timeline.has_gaps:
            layout.write_gapped_times(self._root, timeline, self.n_samples, self.rate)
        else:
            self._root.create_dataset("t_starts", data=np.zeros(1), compressor=checksum())
        layout.consolidate(self._root)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def open_lfp(folder: Path) -> Any:
    """Open a stored LFP.

    Parameters
    ----------
    folder : Path
        The folder that holds `lfp.zarr`.

    Returns
    -------
    spikeinterface.BaseRecording
        Exactly `spikeinterface.read_zarr(folder / "lfp.zarr")`.
    """
    import spikeinterface as si

    return si.read_zarr(folder / "lfp.zarr")
