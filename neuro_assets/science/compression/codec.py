"""The bytes of one stored chunk: channel-major samples, pcodec, padding that costs nothing.

Knows numpy and pcodec; neither recordings nor folders belong here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TILE = 512
"""Samples transposed at a time: a tile of 512 x 385 x 2 bytes stays in the second-level cache
(2.8 GB/s measured, against 0.8 GB/s for the whole array at once)."""

PAGE = 30_000
"""Numbers coded with one table: a second of one channel. With tables of half a second, a level
less is needed for the same encoding speed, and real Neuropixels 2.0 data take 0.3 % more room."""

DELTA_ORDERS = {"none": 0, "consecutive1": 1, "consecutive2": 2}


def is_pcodec_type(dtype: np.dtype) -> bool:
    """Say whether pcodec stores this type: 16 to 64 bits, native byte order."""
    return dtype.isnative and dtype.kind in "iuf" and dtype.itemsize in (2, 4, 8)


def make_codec(dtype: np.dtype, level: int, delta: str, chunk_samples: int) -> Any:
    """Build the stock numcodecs codec for one array.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the samples.
    level : int
        pcodec level, 0..12.
    delta : str
        `none`, `consecutive1`, `consecutive2` or `auto`.
    chunk_samples : int
        Samples per channel in one chunk. Pages are a whole part or a multiple of it, so that a
        table serves one channel where chunks are long enough.

    Returns
    -------
    numcodecs.abc.Codec
        PCodec; Blosc (zstd, bit shuffle) for the types that pcodec does not store (8-bit, foreign
        byte order).
    """
    from numcodecs import Blosc, PCodec

    dtype = np.dtype(dtype)
    if not is_pcodec_type(dtype):
        return Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
    parts = max(1, round(chunk_samples / PAGE))
    page = -(-chunk_samples // parts) if chunk_samples >= PAGE else PAGE
    spec = (
        {"delta_spec": "auto"}
        if delta == "auto"
        else {"delta_spec": "try_consecutive", "delta_encoding_order": DELTA_ORDERS[delta]}
    )
    mode = "auto" if dtype.kind == "f" else "classic"
    return PCodec(level=level, mode_spec=mode, equal_pages_up_to=page, **spec)


def choose_delta(sample: np.ndarray, level: int) -> str:
    """Find the delta order that compresses a sample best.

    Parameters
    ----------
    sample : ndarray, shape (n_channels, n_samples)
        Channel-major samples, C-contiguous.
    level : int
        pcodec level.

    Returns
    -------
    str
        `none`, `consecutive1` or `consecutive2`.
    """
    if sample.size == 0 or not is_pcodec_type(sample.dtype):
        return "none"

    def size(delta: str) -> int:
        return len(make_codec(sample.dtype, level, delta, sample.shape[1]).encode(sample))

    return min(DELTA_ORDERS, key=size)


def to_planar(block: np.ndarray, planar: np.ndarray) -> None:
    """Copy an interleaved block into a channel-major array, tile by tile.

    Parameters
    ----------
    block : ndarray, shape (n_samples, n_channels)
        Interleaved samples.
    planar : ndarray, shape (n_channels, m), m >= n_samples
        Destination; columns after `n_samples` are left as they are.
    """
    for start in range(0, len(block), TILE):
        tile = block[start : start + TILE]
        planar[:, start : start + len(tile)] = tile.T


def is_planar_of(block: np.ndarray, planar: np.ndarray) -> bool:
    """Say whether channel-major samples are bit for bit those of an interleaved block.

    Parameters
    ----------
    block : ndarray, shape (n_samples, n_channels)
        Interleaved samples.
    planar : ndarray, shape (n_channels, m), m >= n_samples
        Channel-major samples; columns after `n_samples` are padding.

    Returns
    -------
    bool
        True where every bit is equal (NaN payloads and signed zeros included).
    """
    bits = np.dtype(f"u{block.dtype.itemsize}")
    raw, stored = block.view(bits), planar.view(bits)
    return all(
        np.array_equal(raw[start : start + TILE], stored[:, start : start + len(tile)].T)
        for start in range(0, len(raw), TILE)
        for tile in (raw[start : start + TILE],)
    )


def encode_planar(codec: Any, planar: np.ndarray, n_valid: int) -> bytes:
    """Encode one chunk whose columns after `n_valid` are padding.

    Zarr chunks have one shape, so the last one is padded. Coded together with the data, padding
    would cost up to a bit a sample; here each channel's padding becomes a constant piece of the
    pcodec stream of some 15 bytes, and the stock codec still reads the chunk.

    Parameters
    ----------
    codec : numcodecs.abc.Codec
        From `make_codec`.
    planar : ndarray, shape (n_channels, n_chunk), C-contiguous
        Channel-major samples.
    n_valid : int
        Columns that hold data.

    Returns
    -------
    bytes
        The chunk as `codec.decode` reads it.
    """
    if n_valid == planar.shape[1] or codec.codec_id != "pcodec":
        return bytes(codec.encode(planar))
    padding = bytes(codec.encode(np.zeros(planar.shape[1] - n_valid, planar.dtype)))
    padding = padding[_header_length(planar.shape[1] - n_valid) : -1]
    pieces = [_stream_header(codec, planar)]
    for channel in planar[:, :n_valid]:
        data = bytes(codec.encode(np.ascontiguousarray(channel)))
        pieces += [data[_header_length(n_valid) : -1], padding]
    return b"".join([*pieces, b"\0"])


def _header_length(n: int) -> int:
    """Bytes before the first piece of a pcodec 1.x standalone stream of `n` numbers.

    Magic (4), version (1), type (1), a hint of the count (6 bits of length, then the count),
    the wrapped format's version (2): https://github.com/pcodec/pcodec/blob/main/docs/format.md
    """
    return 8 + -(-(6 + n.bit_length()) // 8)


def _stream_header(codec: Any, planar: np.ndarray) -> bytes:
    """Header of a stream of as many numbers as the chunk has."""
    constant = np.broadcast_to(np.zeros(1, planar.dtype), planar.size)
    stream = bytes(codec.encode(np.ascontiguousarray(constant)))
    return stream[: _header_length(planar.size)]
