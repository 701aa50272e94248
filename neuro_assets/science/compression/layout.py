"""The Zarr folder of one recording as SpikeInterface's `read_zarr` expects it.

Everything but the samples' bytes: identity, probe, gains, properties, times, and the empty array
that the samples go into. SpikeInterface 0.105 wrote the model (`add_recording_to_zarr_group`); its
own writer is not used because it always writes channels-last chunks, which compress worse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuro_assets.formats.timeline import Timeline, timeline_of
from neuro_assets.science.checksums import checksum

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

RAW_COLUMN = "raw_column"
"""Channel property that is added: the channel's column in the interleaved raw file."""


def create(recording: BaseRecording, folder: Path, columns: np.ndarray) -> Any:
    """Write everything but the samples.

    Parameters
    ----------
    recording : BaseRecording
        The channels to be stored, with probe, gains and offsets.
    folder : Path
        Folder to make; its name ends in `.zarr`.
    columns : ndarray of int
        Column of each channel in the raw file.

    Returns
    -------
    zarr.Group
        The open group, to be finished with `add_traces` and `consolidate`.
    """
    import zarr

    root = zarr.open_group(zarr.DirectoryStore(str(folder)), mode="w")
    properties = {RAW_COLUMN: np.asarray(columns, np.int64)} | _properties(recording)
    describe(
        root,
        sampling_frequency=recording.get_sampling_frequency(),
        channel_ids=np.asarray(recording.channel_ids),
        properties=properties,
        probegroup=recording.get_probegroup() if recording.has_probe() else None,
        annotations=recording._annotations,
        n_segments=recording.get_num_segments(),
    )
    _write_times(recording, root)
    return root


def describe(
    root: Any,
    *,
    sampling_frequency: float,
    channel_ids: np.ndarray,
    properties: dict[str, np.ndarray],
    probegroup: Any | None,
    annotations: dict[str, Any],
    n_segments: int = 1,
) -> None:
    """Write what a group's traces are, all but their times.

    Parameters
    ----------
    root : zarr.Group
        The group.
    sampling_frequency : float
        Hz.
    channel_ids : ndarray, shape (n_channels,)
        Numbers or text.
    properties : dict of str to ndarray
        Channel properties.
    probegroup : probeinterface.ProbeGroup or None
        Contacts in the order of the channels.
    annotations : dict
        Reduced to JSON values.
    n_segments : int
        Segments that the traces have or will have.
    """
    import zarr
    from spikeinterface.core.core_tools import check_json, retrieve_importing_provenance
    from spikeinterface.core.zarrextractors import ZarrRecordingExtractor

    attributes = {
        "zarr_class_info": retrieve_importing_provenance(ZarrRecordingExtractor),
        # SpikeInterface keeps the absolute path of the source here; outputs must open when moved.
        "provenance": None,
        "sampling_frequency": float(sampling_frequency),
        "num_segments": int(n_segments),
        "annotations": check_json(annotations),
    }
    if probegroup is not None:
        attributes["probegroup"] = check_json(probegroup.to_dict(array_as_list=True))
    # Zarr would put every number of the probe on a line of its own: 280 kB for 384 channels.
    root.store[zarr.storage.attrs_key] = _compact(attributes)
    root.create_dataset("channel_ids", data=channel_ids, compressor=checksum())
    group = root.create_group("properties")
    for name, values in properties.items():
        group.create_dataset(name, data=values, compressor=checksum())


def add_traces(
    root: Any, segment: int, shape: tuple[int, int], dtype: Any, chunk: int, codec: Any
) -> Any:
    """Create the empty, channel-major array of one segment.

    Parameters
    ----------
    root : zarr.Group
        From `create`.
    segment : int
        Segment index.
    shape : tuple of int
        Samples, channels.
    dtype : numpy.dtype
        Type of the samples.
    chunk : int
        Samples in a chunk; a chunk holds all channels.
    codec : numcodecs.abc.Codec
        From `make_codec`.

    Returns
    -------
    zarr.Array
        The array; its chunks are written by `put_chunk`.
    """
    # order="F" makes each chunk channel-major: the delta then runs along time.
    return root.create_dataset(
        f"traces_seg{segment}",
        shape=shape,
        chunks=(chunk, shape[1]),
        dtype=dtype,
        order="F",
        filters=[codec],
        compressor=checksum(),
        fill_value=0,
    )


def put_chunk(array: Any, index: int, data: bytes) -> None:
    """Store the coded chunk with this index along time, with a checksum."""
    array.chunk_store[f"{array.path}/{index}.0"] = array.compressor.encode(data)


def get_chunk(array: Any, index: int) -> bytes:
    """Read the coded chunk back and compare its checksum."""
    return array.compressor.decode(array.chunk_store[f"{array.path}/{index}.0"])


def consolidate(root: Any) -> None:
    """Gather all metadata in one object: remote stores then open with one request.

    As `zarr.consolidate_metadata`, without its indentation.
    """
    from zarr.storage import array_meta_key, attrs_key, group_meta_key

    kinds = (array_meta_key, attrs_key, group_meta_key)
    keys = sorted(key for key in root.store if key.rpartition("/")[2] in kinds)
    metadata = {key: json.loads(root.store[key]) for key in keys}
    root.store[".zmetadata"] = _compact({"zarr_consolidated_format": 1, "metadata": metadata})


def _compact(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _properties(recording: BaseRecording) -> dict[str, np.ndarray]:
    """Every channel property that Zarr can hold without pickle, and that is not the probe again."""
    values = {key: np.asarray(recording.get_property(key)) for key in recording.get_property_keys()}
    left_out = ("contact_vector", RAW_COLUMN)  # SpikeInterface leaves the first out as well
    return {k: v for k, v in values.items() if v.dtype.kind != "O" and k not in left_out}


def _write_times(recording: BaseRecording, root: Any) -> None:
    """Keep explicit times, or the start of each segment where times are regular."""
    n_segments = recording.get_num_segments()
    if timeline_of(recording).has_gaps and not recording.has_time_vector(0):
        write_gapped_times(
            root, timeline_of(recording), recording.get_num_samples(), recording.sampling_frequency
        )
        return
    starts = np.full(n_segments, np.nan)
    for segment in range(n_segments):
        if recording.has_time_vector(segment):
            root.create_dataset(
                f"times_seg{segment}", data=recording.get_times(segment), chunks=(1 << 20,)
            )
        else:
            starts[segment] = recording.get_start_time(segment)
    if np.any(np.nan_to_num(starts) != 0):
        root.create_dataset("t_starts", data=starts, compressor=checksum())


def write_gapped_times(root: Any, timeline: Timeline, n_samples: int, rate: float) -> None:
    """Write the time of every sample on the clock `probe`, for readers that know no annotation.

    Parameters
    ----------
    root : zarr.Group
        The group.
    timeline : Timeline
        With gaps.
    n_samples : int
        Of the only segment.
    rate : float
        Hz.
    """
    from numcodecs import PCodec

    # pcodec sees that the times are multiples of one number: some bytes a chunk are left.
    times = root.create_dataset(
        "times_seg0",
        shape=n_samples,
        chunks=1 << 20,
        dtype="float64",
        filters=[PCodec()],
        compressor=checksum(),
    )
    for start in range(0, n_samples, 1 << 20):
        stop = min(start + (1 << 20), n_samples)
        times[start:stop] = timeline.seconds(np.arange(start, stop), rate)
