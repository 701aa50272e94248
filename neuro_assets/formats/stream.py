"""One opened stream of a recording: what every format's opener gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording


@dataclass(frozen=True)
class RawStream:
    """One opened stream.

    Parameters
    ----------
    name : str
        `ap`, `lf`, `wideband`; of an auxiliary board see `neuro_assets.formats.model.Board`.
    recording : BaseRecording
        All saved channels in file order, sync included, in the file's own integers; one segment.
    neural : BaseRecording
        The neural channels with probe, gains and offsets (uV) and, where known, the property
        `inter_sample_shift` (fraction of a sample). For an auxiliary board the analogue channels.
    sync_channel_ids : list
        Channel ids of `recording` that are digital words.
    sha1 : tuple of str
        SHA-1 of each uncompressed data file, where the format recorded it.
    """

    name: str
    recording: BaseRecording
    neural: BaseRecording
    sync_channel_ids: list[Any] = field(default_factory=list)
    sha1: tuple[str, ...] = ()
