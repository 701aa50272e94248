"""Whether the files of a SpikeGLX stream are as long as their metadata say."""

from __future__ import annotations

from pathlib import Path

from neuro_assets.formats.broken import Broken
from neuro_assets.formats.model import Stream
from neuro_assets.formats.spikeglx.meta import SpikeGLXMeta


def compare_lengths(stream: Stream, folder: Path) -> list[str]:
    """Compare `fileSizeBytes`, `fileTimeSecs` and the samples found: they must tell one length.

    Parameters
    ----------
    stream : Stream
        As found by the scan.
    folder : Path
        The session folder.

    Returns
    -------
    list of str
        One line for each disagreement.
    """
    reasons = []
    n_samples = 0
    for meta_name in stream.metas:
        try:
            meta = SpikeGLXMeta.read(folder / meta_name)
        except Broken as broken:
            return [f"{meta_name}: {broken.detail}"]
        if meta.file_size is None or meta.file_time is None:
            return [f"{meta_name} has no fileSizeBytes and fileTimeSecs: still acquiring"]
        expected = meta.file_size // (2 * meta.n_channels)
        n_samples += expected
        by_time = meta.file_time * meta.sampling_frequency
        if abs(expected - by_time) > max(2.0, 1e-5 * expected):
            reasons.append(
                f"{meta_name}: fileSizeBytes means {expected} samples, fileTimeSecs {by_time:.0f}"
            )
    if n_samples != stream.n_samples:
        reasons.append(
            f"{stream.files[0]}: {stream.n_samples} samples are there, the meta says {n_samples}"
        )
    return reasons
