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

from neuro_assets.formats.broken import Broken

_COUNTS = {"imec": "snsApLfSy", "nidq": "snsMnMaXaDw", "obx": "snsXaDwSy"}
_RATES = {"imec": "imSampRate", "nidq": "niSampRate", "obx": "obSampRate"}
_SHA1 = re.compile(r"^[0-9a-f]{40}$")
_MAX_BYTES = 4_000_000
"""The largest real meta (quad base, 1540 channels) has 75 kB; beyond this it is no meta."""


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
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise Broken("meta_broken", f"{path.name} is too large for a SpikeGLX meta file")
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            raise Broken(
                "meta_missing", f"{path.name} is not there; copy it from the rig"
            ) from None
        except PermissionError:
            raise Broken("unreadable", f"no permission to read {path.name}; grant it") from None
        meta = cls(parse_fields(text))
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
            raise Broken("meta_broken", f"{name}={text!r} in the meta file is not a number")
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
        return int(self.number("nSavedChans"))

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
        try:
            counts = tuple(int(part) for part in text.split(","))
        except ValueError:
            raise Broken("meta_broken", f"{name}={text!r} in the meta file is not a list") from None
        if sum(counts) != self.n_channels or self.n_channels <= 0:
            raise Broken(
                "channel_count",
                f"the meta file contradicts itself: nSavedChans={self.n_channels} but "
                f"{name}={text}; copy the meta of this recording from the rig",
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
        if rate <= 0:
            raise Broken("meta_broken", f"{_RATES[self.kind]}={rate} in the meta file")
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
        serial = self.fields.get("imDatPrb_sn") or self.fields.get("imProbeSN") or None
        shank = self.shank
        return f"{serial}-s{shank}" if serial and shank is not None else serial

    @property
    def shank(self) -> int | None:
        """Shank of a file that ibl-neuropixel split from a four-shank recording."""
        for name in ("NP2.4_shank", "NP2QB_shank"):
            if self.fields.get(name, "").isdigit():
                return int(self.fields[name])
        return None

    @property
    def created(self) -> datetime | None:
        """Creation time (naive, rig's local time)."""
        try:
            return datetime.fromisoformat(self.fields.get("fileCreateTime", "")).replace(
                tzinfo=None
            )
        except ValueError:
            return None

    @property
    def first_sample(self) -> int | None:
        """Index of the first sample in the acquisition's count."""
        text = self.fields.get("firstSample", "")
        return int(text) if text.isdigit() else None

    @property
    def file_size(self) -> int | None:
        """`fileSizeBytes`; None while acquiring, because SpikeGLX writes it at the end."""
        text = self.fields.get("fileSizeBytes", "")
        return int(text) if text.isdigit() else None

    @property
    def file_time(self) -> float | None:
        """`fileTimeSecs`, seconds; None while acquiring."""
        try:
            value = float(self.fields.get("fileTimeSecs", ""))
        except ValueError:
            return None
        return value if math.isfinite(value) else None

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
            prefixes = ("MN", "MA", "XA", "XD") if self.kind == "nidq" else ("XA", "XD", "SY")
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
        if len(parts) == 3 and all(part.strip().isdigit() for part in parts):
            return int(parts[0]), int(parts[1])
        n_ap = max(len(parse_table(self.fields.get("imroTbl", ""))) - 1, *self.counts[:2])
        # Two-band probes count their LF channels behind the AP channels, and sync behind both.
        return n_ap, n_ap if max(self.saved_channels(), default=0) >= 2 * n_ap else 0


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
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            return []
        channels.extend(range(int(first), int(last or first) + 1))
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
