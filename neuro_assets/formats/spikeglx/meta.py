"""The SpikeGLX `.meta` file: its fields with their types, and what is wrong with a bad one.

Fields as described at https://billkarsh.github.io/SpikeGLX/#metadata-guides. Geometry and gains
are made from it in `neuropixels`; which file belongs to which recording is decided in `spikeglx`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from neuro_assets.formats.broken import Broken, read_text, short
from neuro_assets.formats.names import parse_spikeglx_name

_COUNTS = {"imec": "snsApLfSy", "nidq": "snsMnMaXaDw", "obx": "snsXaDwSy"}
_KINDS = {
    "imec": ("AP", "LF", "SY"),
    "nidq": ("MN", "MA", "XA", "XD"),
    "obx": ("XA", "XD", "SY"),
}
"""Kinds of channels in the order of the counts; as in the names that SpikeGLX gives them."""

_RATES = {"imec": "imSampRate", "nidq": "niSampRate", "obx": "obSampRate"}
_SHA1 = re.compile(r"^[0-9a-f]{40}$")
_MAX_BYTES = 4_000_000
"""The largest real meta (quad base, 1540 channels) has 75 kB; beyond this it is no meta."""

MOST_CHANNELS = 1 << 16
"""Of one stream; the largest probe has 5,120 sites."""

_MOST_HZ = 1e8
_WHOLE = re.compile(r"[0-9]{1,18}")
"""A count that fits 64 bits; `str.isdigit` also takes `²`, and `int` text of any length."""


@dataclass(frozen=True)
class SpikeGLXMeta:
    """Parsed `.meta` file.

    Parameters
    ----------
    fields : dict of str to str
        Text of every field, without the `~` that SpikeGLX puts before long ones (IBL's copies
        sometimes lack it).
    """

    fields: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> SpikeGLXMeta:
        """Read and check a meta file.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        SpikeGLXMeta
            With the fields that every use needs.

        Raises
        ------
        Broken
            `meta_broken` when it is empty, cut off or not SpikeGLX's; `unreadable` without
            permission; `meta_missing` when it is not there.
        """
        meta = cls(parse_fields(read_text(path, _MAX_BYTES)))
        if meta.kind not in _COUNTS:
            raise Broken(
                "meta_broken",
                f"{path.name} has no typeThis that SpikeGLX writes; copy it again from the rig",
            )
        meta.counts  # noqa: B018 - reads and checks the channel counts
        meta.sampling_frequency  # noqa: B018
        return meta

    def number(self, name: str) -> float:
        """Read a field as a finite number.

        Parameters
        ----------
        name : str
            Field name.

        Returns
        -------
        float
            Its value.

        Raises
        ------
        Broken
            `meta_broken` when it is missing or not a finite number.
        """
        text = self.fields.get(name)
        if text is None:
            raise Broken("meta_broken", f"the meta file has no {name}; copy it again from the rig")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise Broken("meta_broken", f"{name}={short(text)} in the meta file is not a number")
        return value

    @property
    def kind(self) -> str:
        """`imec`, `nidq` or `obx`; empty when the file does not say."""
        kind = self.fields.get("typeThis", "")
        if kind:
            return kind
        return next((kind for kind, field in _COUNTS.items() if field in self.fields), "")

    @property
    def n_channels(self) -> int:
        """Saved channels, sync included."""
        n = self.number("nSavedChans")
        if not 0 < n <= MOST_CHANNELS:
            raise Broken("meta_broken", f"nSavedChans={n:.6g} in the meta file is no channel count")
        return int(n)

    @property
    def counts(self) -> tuple[int, ...]:
        """Saved channels by kind: (AP, LF, SY), (MN, MA, XA, DW) or (XA, DW, SY).

        Raises
        ------
        Broken
            `channel_count` when they do not add up to `nSavedChans`.
        """
        name = _COUNTS[self.kind]
        text = self.fields.get(name, "")
        parts = [whole(part) for part in text.split(",")]
        counts = tuple(part for part in parts if part is not None)
        if len(counts) != len(_KINDS[self.kind]) or len(parts) != len(counts):
            raise Broken("meta_broken", f"{name}={short(text)} in the meta file is not a list")
        if sum(counts) != self.n_channels:
            raise Broken(
                "channel_count",
                f"the meta file contradicts itself: nSavedChans={self.n_channels} but "
                f"{name}={short(text)}; copy the meta of this recording from the rig",
            )
        return counts

    @property
    def n_sync(self) -> int:
        """Saved channels at the end that are digital words."""
        return self.counts[-1] if self.kind != "obx" else sum(self.counts[-2:])

    @property
    def band(self) -> str:
        """`ap` or `lf` for a probe, else the kind."""
        if self.kind != "imec":
            return self.kind
        return "ap" if self.counts[0] else "lf"

    @property
    def sampling_frequency(self) -> float:
        """Hz, calibrated where SpikeGLX was."""
        rate = self.number(_RATES[self.kind])
        if not 0 < rate <= _MOST_HZ:
            raise Broken("meta_broken", f"{_RATES[self.kind]}={rate:.6g} Hz in the meta file")
        return rate

    @property
    def part_number(self) -> str:
        """Probe part number; phase 3A probes are described as NP1010, as probeinterface does."""
        if "imProbeOpt" in self.fields:
            return "NP1010"
        return self.fields.get("imDatPrb_pn", "")

    @property
    def serial(self) -> str | None:
        """Probe serial number; with the shank for a file that IBL split by shank."""
        serial = (self.fields.get("imDatPrb_sn") or self.fields.get("imProbeSN") or "").strip()
        if not serial.strip("0"):
            return None
        shank = self.shank
        return f"{short(serial)}-s{shank}" if shank is not None else short(serial)

    @property
    def shank(self) -> int | None:
        """Shank of a file that ibl-neuropixel split from a four-shank recording."""
        for name in ("NP2.4_shank", "NP2QB_shank"):
            if (shank := whole(self.fields.get(name, ""))) is not None:
                return shank
        return None

    @property
    def stream(self) -> str:
        """Device under which it was recorded (`imec0`), whatever its file is called now."""
        name = parse_spikeglx_name(re.split(r"[\\/]", self.fields.get("fileName", ""))[-1])
        return name.device if name is not None else ""

    @property
    def created(self) -> datetime | None:
        """Creation time (naive, rig's local time); CatGT writes when it ran, and keeps that."""
        own = self.fields.get("fileCreateTime", "")
        try:
            text = self.fields.get("fileCreateTime_original", own)
            return datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError:
            return None

    @property
    def first_sample(self) -> int | None:
        """Index of the first sample in the acquisition's count."""
        return whole(self.fields.get("firstSample", ""))

    @property
    def file_size(self) -> int | None:
        """`fileSizeBytes`; None while acquiring, because SpikeGLX writes it at the end."""
        return whole(self.fields.get("fileSizeBytes", ""))

    @property
    def file_time(self) -> float | None:
        """`fileTimeSecs`, seconds; None while acquiring."""
        try:
            value = float(self.fields.get("fileTimeSecs", ""))
        except ValueError:
            return None
        return value if 0 <= value < 1e10 else None

    @property
    def sha1(self) -> str | None:
        """SHA-1 of the uncompressed binary file; CatGT writes 0, which is none."""
        text = self.fields.get("fileSHA1", "").lower()
        return text if _SHA1.match(text) else None

    @property
    def processed(self) -> str:
        """Command line of CatGT, or empty."""
        names = sorted(name for name in self.fields if name.lower().startswith("catgtcmdline"))
        return " ".join(self.fields[name] for name in names)

    def saved_channels(self) -> list[int]:
        """Acquisition index of each saved channel, in file order.

        Returns
        -------
        list of int
            One for each saved channel.

        Raises
        ------
        Broken
            `channel_count` when the subset has another length than `nSavedChans`.
        """
        text = self.fields.get("snsSaveChanSubset_orig") or self.fields.get(
            "snsSaveChanSubset", "all"
        )
        channels = parse_subset(text, self.n_channels)
        if len(channels) != self.n_channels:
            raise Broken(
                "channel_count",
                f"snsSaveChanSubset names {len(channels)} channels but nSavedChans is "
                f"{self.n_channels}; copy the meta of this recording from the rig",
            )
        return channels

    def channel_names(self) -> list[str]:
        """Names as SpikeGLX gives them: AP0, LF0, SY0; XA0, XD0 and so on for the boards.

        Returns
        -------
        list of str
            One for each saved channel, in file order.
        """
        if self.kind != "imec":
            prefixes = _KINDS[self.kind]
            return [
                f"{prefix}{i}"
                for prefix, count in zip(prefixes, self.counts, strict=True)
                for i in range(count)
            ]
        n_ap, n_lf = self.acquired
        names = []
        for channel in self.saved_channels():
            if channel < n_ap:
                names.append(f"AP{channel}")
            elif channel < n_ap + n_lf:
                names.append(f"LF{channel - n_ap}")
            else:
                names.append(f"SY{channel - n_ap - n_lf}")
        return names

    @property
    def acquired(self) -> tuple[int, int]:
        """Acquired AP and LF channels of a probe, saved or not."""
        text = self.fields.get("acqApLfSy", "")
        parts = text.split(",")
        n_each = [whole(part) for part in parts]
        if len(parts) == 3 and n_each[0] is not None and n_each[1] is not None:
            return n_each[0], n_each[1]
        n_ap = max(len(parse_table(self.fields.get("imroTbl", ""))) - 1, *self.counts[:2])
        # Two-band probes count their LF channels behind the AP channels, and sync behind both.
        return n_ap, n_ap if max(self.saved_channels(), default=0) >= 2 * n_ap else 0


def whole(text: str) -> int | None:
    """Read a count.

    Parameters
    ----------
    text : str
        ASCII digits.

    Returns
    -------
    int or None
        None for anything else, and for what no 64 bits hold.
    """
    return int(text) if _WHOLE.fullmatch(text.strip()) else None


def parse_fields(text: str) -> dict[str, str]:
    """Split the text of a meta file in fields.

    Parameters
    ----------
    text : str
        Content; lines `name=value`, either kind of line end.

    Returns
    -------
    dict of str to str
        Values by name, a leading `~` removed.
    """
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip().lstrip("~")] = value.strip()
    return fields


def parse_subset(text: str, n_channels: int) -> list[int]:
    """Read a channel list such as `0:10,50,768`.

    Parameters
    ----------
    text : str
        The list; `all` means the first `n_channels`.
    n_channels : int
        Saved channels.

    Returns
    -------
    list of int
        Channels in order; empty where the text is not a list.
    """
    if text in ("", "all"):
        return list(range(n_channels))
    channels: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        start, end = whole(first), whole(last or first)
        if start is None or end is None or end - start >= MOST_CHANNELS - len(channels):
            return []
        channels.extend(range(start, end + 1))
    return channels


def parse_table(text: str) -> list[str]:
    """Split `(a)(b)(c)` in its entries.

    Parameters
    ----------
    text : str
        A table field of a meta file.

    Returns
    -------
    list of str
        The entries without parentheses; the first is the header.
    """
    return re.findall(r"\(([^()]*)\)", text)
