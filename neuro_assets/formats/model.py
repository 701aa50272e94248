"""The description of raw recordings on disk, as plain data that can be kept as JSON.

Finding recordings is done by the modules beside this one; opening them by
`neuro_assets.formats.opening`. Nothing here touches a file.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, JsonValue, field_validator, model_validator

from neuro_assets.formats.bands import shared_clock_rate


class Frozen(BaseModel):
    """Immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(Frozen):
    """What a recording says of itself, whatever its path is called.

    Parameters
    ----------
    probe_serial : str or None
        Serial number of the probe; 0 or empty counts for none.
    created : datetime or None
        Creation time written by the acquisition program (naive, rig's local time).
    first_sample : int or None
        Index of the first sample in the acquisition's count.
    size_bytes : int
        Total size of the main stream's binary data, uncompressed, bytes.
    stream : str
        What tells the streams of one acquisition apart, as recorded: `imec0`, a shank, the name of
        an Open Ephys stream. Streams may share a serial number (four shanks of one probe).
    hash : str or None
        Of the main stream's samples, where the acquisition program stored one.
    head : str
        Hash of its first samples where it says nothing else of itself; empty where not taken.
    """

    probe_serial: str | None = None
    created: datetime | None = None
    first_sample: int | None = None
    size_bytes: int
    stream: str = ""
    hash: str | None = None
    head: str = ""

    @field_validator("probe_serial", mode="before")
    @classmethod
    def _real_serial(cls, value: Any) -> Any:
        return value if value is None or str(value).strip().strip("0") else None

    @property
    def is_strong(self) -> bool:
        """Probe, time and first sample are all known: equal ones are the same recording."""
        return None not in (self.probe_serial, self.created, self.first_sample)

    @property
    def origin(self) -> tuple[Any, ...]:
        """Which stream of which acquisition this is, whatever became of its samples."""
        return self.probe_serial, self.stream, self.created, self.first_sample

    def is_same(self, other: Identity) -> bool:
        """Tell whether two say the same; stored hashes that differ mean different data.

        Parameters
        ----------
        other : Identity
            The other one.

        Returns
        -------
        bool
            True where nothing contradicts. Means one recording only where both are strong.
        """
        mine, theirs = (*self.origin, self.size_bytes), (*other.origin, other.size_bytes)
        return mine == theirs and (None in (self.hash, other.hash) or self.hash == other.hash)


class Stream(Frozen):
    """One stream of a recording.

    Parameters
    ----------
    name : str
        `ap`, `lf` or `wideband`; of an auxiliary board see `Board`.
    files : tuple of str
        Data files in time order (triggers), relative to the session folder, with `/`.
    metas : tuple of str
        Their metadata files, in the same order, where the format has them.
    n_channels : int
        Saved channels, sync included.
    n_samples : int
        Samples per channel over all files.
    sampling_frequency : float
        Hz.
    sha1 : tuple of str
        SHA-1 of each uncompressed data file, where the format records it; else empty.
    sizes : tuple of int
        Size of each data file on disk when it was described, bytes; a file of another size was
        changed since.
    first_samples : tuple of int
        Index of each file's first sample in the acquisition's count, where the format has it.
        Between files that do not follow on each other there is a gap in time.
    n_missing : int
        Samples that are missing in gaps: between files, or where sample numbers jump in one.
    sample_numbers : tuple of str
        Files with a number for each sample, where the format has them: gaps are read from these.
    """

    name: str
    files: tuple[str, ...]
    metas: tuple[str, ...] = ()
    n_channels: int
    n_samples: int
    sampling_frequency: float
    sha1: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    first_samples: tuple[int, ...] = ()
    n_missing: int = 0
    sample_numbers: tuple[str, ...] = ()

    def ratio_to(self, leader: Stream) -> float:
        """Count the samples of a faster stream of the same probe to one of this stream."""
        rate = leader.sampling_frequency
        return rate / shared_clock_rate(rate, self.sampling_frequency)


class Wiring(Frozen):
    """Where the contacts of a probe are that the format does not describe.

    Parameters
    ----------
    positions_um : tuple of (float, float)
        Contact positions x, y; um, y upwards.
    channels : tuple of int
        Index of the data channel of each contact; contact i is channel i when empty.
    shanks : tuple of int
        Shank of each contact; one shank when empty.
    """

    positions_um: tuple[tuple[float, float], ...]
    channels: tuple[int, ...] = ()
    shanks: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        for name in ("channels", "shanks"):
            values = getattr(self, name)
            if values and len(values) != len(self.positions_um):
                raise ValueError(
                    f"{name} has {len(values)} entries for {len(self.positions_um)} positions_um"
                )
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels names one channel twice")
        return self


class RawRecording(Frozen):
    """One recording of one probe: everything that is needed to open it again.

    Parameters
    ----------
    format : str
        Which reader opens it.
    probe : str
        Normalised probe name, `probe00`.
    qualifier : str
        Empty, or what tells it from the session's other recordings of this probe: `g1`, `e2r1`.
    streams : dict of str to Stream
        By stream name. The main one is `ap` or `wideband`.
    identity : Identity
        What the recording says of itself.
    probe_model : str
        Part number or name of the probe, for people (`NP2010`).
    reader : str or None
        For format `reader`: the name of a SpikeInterface reader (`binary`, `intan`, ...).
    reader_options : dict
        Keyword arguments of that reader (or stream names of Open Ephys), JSON values only.
    probe_file : str or None
        Absolute path of a probeinterface JSON for probes that the format does not describe.
    wiring : Wiring or None
        The same, given in the configuration instead of a file.
    path_argument : str or None
        For format `reader`: the reader's argument that takes the path.
    segment : int
        For format `reader`: which of the reader's segments this recording is.
    gain_uv, offset_uv : float or None
        Scale of all channels where the format has none: uV per bit, and uV.
    sync_channels : tuple of int
        Channels (index in the file) that are not neural, where the format does not say so.
    subject : str
        Whose the file itself says that it is; empty where it does not.
    processed : str
        What an earlier program already did to the data (the command line of CatGT); empty for
        data as acquired.
    """

    format: str
    probe: str
    qualifier: str = ""
    streams: dict[str, Stream]
    identity: Identity
    probe_model: str = ""
    reader: str | None = None
    reader_options: dict[str, Any] = {}
    probe_file: str | None = None
    wiring: Wiring | None = None
    path_argument: str | None = None
    segment: int = 0
    gain_uv: float | None = None
    offset_uv: float | None = None
    sync_channels: tuple[int, ...] = ()
    subject: str = ""
    processed: str = ""

    @property
    def label(self) -> str:
        """Probe and qualifier as in a partition key: unique within a session."""
        return f"{self.probe}-{self.qualifier}" if self.qualifier else self.probe

    @property
    def main(self) -> Stream:
        """The stream that is sorted."""
        return self.streams["ap"] if "ap" in self.streams else self.streams["wideband"]

    @property
    def lf_offset(self) -> float:
        """LF samples between the first sample of `ap` and that of `lf`; 0 where none is known.

        Counts of the LF band are rounded: less than one sample is no offset.
        """
        lf = self.streams.get("lf")
        if lf is None or not lf.first_samples or not self.main.first_samples:
            return 0.0
        offset = lf.first_samples[0] - self.main.first_samples[0] / lf.ratio_to(self.main)
        return offset if abs(offset) >= 1 else 0.0

    @property
    def duration_s(self) -> float:
        """Length of the main stream, seconds."""
        return self.main.n_samples / self.main.sampling_frequency


class Board(Frozen):
    """One stream of an auxiliary board: a NI-DAQ, the analogue inputs of a OneBox.

    Parameters
    ----------
    format : str
        Which reader opens it.
    stream : Stream
        Its name is unique in the session: device, and what tells its acquisition from others as in
        the keys of recordings (`nidq`, `obx0`, `nidq-g1`).
    acquisition : str
        What was recorded with it: `<run>_g0`, or `experiment1/recording1` below its folder.
    """

    format: str
    stream: Stream
    acquisition: str


class Problem(Frozen):
    """Something on disk that does not become a recording, and why.

    Parameters
    ----------
    kind : str
        A short type: `truncated`, `meta_missing`, `channel_count`, `empty_file`, `unreadable`,
        `duplicate_stream`, `conflicting_files`, `derivative`, `unknown_probe`, `still_growing`, ...
    path : str
        Relative to the session folder.
    detail : str
        One line that says what to do.
    """

    kind: str
    path: str
    detail: str


class Boards(Frozen):
    """What the auxiliary boards of one session left.

    Parameters
    ----------
    boards : tuple of Board
        Streams with distinct names.
    unusable : tuple of Problem
        Files of boards that are in no stream.
    problems : tuple of Problem
        All that is to be said, also of files that are used or are copies.
    """

    boards: tuple[Board, ...] = ()
    unusable: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


class RawFiles(Frozen):
    """What a session holds of one modality: everything that is needed to open it again.

    Parameters
    ----------
    format : str
        Which reader opens it.
    files : tuple of str
        Relative to the session folder, with `/`.
    sizes : tuple of int
        Size of each file when it was described, bytes.
    details : dict
        What else its reader needs, JSON values only.
    """

    format: str
    files: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    details: dict[str, JsonValue] = {}


class Dataset(Frozen):
    """One file of a session."""

    path: str
    size: int
    mtime_ns: int
    hash: str | None = None


class Scan(Frozen):
    """What was found in one session folder."""

    recordings: tuple[RawRecording, ...] = ()
    problems: tuple[Problem, ...] = ()
