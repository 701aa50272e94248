"""The fingerprint of long traces, taken block by block while they are written or read.

It hangs on type, shape, rate and samples; not on chunks, codecs or the order of the work.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np


def block_length(sampling_frequency: float) -> int:
    """Give the samples of one block: a second, whatever the chunks are.

    Parameters
    ----------
    sampling_frequency : float
        Hz.

    Returns
    -------
    int
        At least one.
    """
    return max(1, round(sampling_frequency))


def block_fingerprint(planar: np.ndarray) -> bytes:
    """Fingerprint one block.

    Parameters
    ----------
    planar : ndarray, shape (n_channels, n_samples)
        Channel-major samples; each row contiguous. A CRC-32 a row costs a third of a SHA-1, and
        no change of up to 32 neighbouring bits can pass it.

    Returns
    -------
    bytes
        SHA-256 over the rows' sums.
    """
    sums = np.array([zlib.crc32(row) for row in planar], "<u4")
    return hashlib.sha256(sums.tobytes()).digest()


def traces_digest(shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[bytes]) -> str:
    """Join the fingerprints of all blocks.

    Parameters
    ----------
    shape : tuple of int
        Samples, channels.
    dtype : numpy.dtype
        Type of the samples.
    blocks : iterable of bytes
        From `block_fingerprint`, in time order.

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    total = hashlib.sha256(f"{tuple(shape)} {np.dtype(dtype).str}".encode())
    for block in blocks:
        total.update(block)
    return total.hexdigest()
