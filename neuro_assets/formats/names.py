"""Names: what those of files, probes, subjects and days say, in every spelling met.

Names only: nothing here opens a file or reads a meta file. The gate and the device are taken
from the name the file has now, because a meta's `fileName` keeps the name it was recorded with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from neuro_assets.formats.walk import natural_key

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SPIKEGLX = re.compile(
    r"^(?P<run>.*?)"
    r"(?:_g(?P<gate>[0-9]{1,6}))?"
    r"(?:_t(?P<trigger>[0-9]{1,6}|cat|super))?"
    r"(?P<tag>\.exported|\.stream)?"
    r"(?:\.(?P<device>imec\d*[a-f]?|nidq\d*|obx\d*))?"
    r"(?:\.(?P<band>ap|lf|obx))?"
    r"(?P<tag2>\.exported|\.stream)?"
    rf"(?:\.(?P<uuid>{_UUID}))?"
    r"\.(?P<extension>bin|cbin|ch|meta)$",
    re.IGNORECASE,
)
_PROBE = re.compile(
    r"^(?:probe|imec)[_ -]?(?:(?P<number>\d{1,3})(?P<letter>[a-f]?))?$", re.IGNORECASE
)
_PROBE_TAIL = re.compile(r"_(?P<probe>imec\d*[a-f]?)$", re.IGNORECASE)
_LABEL = re.compile(
    r"sub-(.+?)(?:_(?:[A-Za-z][A-Za-z0-9]*-[^_]+|\d{4}[-_.]?\d\d[-_.]?\d\d(?!\d).*"
    r"|[gt]\d+|imec\d*))*"
)
"""A subject's label ends before pairs, a date, and what SpikeGLX puts behind a run."""
_SIDES = {"left": 0, "right": 1}
_LETTER = re.compile(r"^[Pp]robe(?:(?P<capital>[A-Z])|[_ -](?P<apart>[A-Za-z]))$")
"""`ProbeA`, `probe_a`; but `probes` and `prober` are words."""


@dataclass(frozen=True)
class SpikeGLXName:
    """Parts of a SpikeGLX file name.

    Parameters
    ----------
    run : str
        Run name without gate and trigger.
    gate : int or None
        `g` number; None when the name has none.
    trigger : int or None
        `t` number; None when the name has none, and for joined files.
    device : str
        `imec`, `imec0`, `nidq`, `obx0` in lower case; empty when the name has none.
    band : str
        `ap`, `lf`, `obx` or empty.
    extension : str
        `bin`, `cbin`, `ch` or `meta`.
    derived : str
        Empty for a file as acquired; `tcat` for output of CatGT and supercat, `exported` for a
        piece exported by the file viewer, `stream` for a downloaded snippet.
    """

    run: str
    gate: int | None
    trigger: int | None
    device: str
    band: str
    extension: str
    derived: str = ""


@dataclass(frozen=True)
class ProbeName:
    """A normalised probe name.

    Parameters
    ----------
    number : int
        Probe number.
    shank : int or None
        From a letter behind the number (`probe00b` is shank 1), else None.
    """

    number: int
    shank: int | None = None

    def __str__(self) -> str:
        return f"probe{self.number:02d}"


def parse_spikeglx_name(name: str) -> SpikeGLXName | None:
    """Read a SpikeGLX file name as it is now.

    Parameters
    ----------
    name : str
        File name without folders; ALF names may carry a UUID before the extension.

    Returns
    -------
    SpikeGLXName or None
        None when the extension is another one.
    """
    found = _SPIKEGLX.match(name)
    if found is None:
        return None
    trigger = (found["trigger"] or "").lower()
    tag = (found["tag"] or found["tag2"] or "").lower().lstrip(".")
    derived = "tcat" if trigger in ("cat", "super") else tag
    return SpikeGLXName(
        run=found["run"],
        gate=int(found["gate"]) if found["gate"] else None,
        trigger=int(trigger) if trigger.isdigit() else None,
        device=(found["device"] or "").lower(),
        band=(found["band"] or "").lower(),
        extension=found["extension"].lower(),
        derived=derived,
    )


def parse_probe_name(text: str) -> ProbeName | None:
    """Normalise a probe's name, from a device, a folder or a stream.

    `imec`, `imec0`, `imec00`, `probe00` and `probe00a` are all probe 0 (the letter is a shank),
    `probe_left` and `probe_right` probes 0 and 1 as IBL renamed them, `ProbeA` (Open Ephys)
    probe 0, `ProbeB` probe 1, and a run's probe folder `run_g0_imec1` probe 1.

    Parameters
    ----------
    text : str
        A name.

    Returns
    -------
    ProbeName or None
        None when the text is not a probe's name.
    """
    tail = _PROBE_TAIL.search(text)
    if tail is not None:
        text = tail["probe"]
    side = re.match(r"^probe[_ -]?(left|right)$", text, re.IGNORECASE)
    if side is not None:
        return ProbeName(_SIDES[side[1].lower()])
    letter = _LETTER.match(text)
    if letter is not None:
        return ProbeName(ord((letter["capital"] or letter["apart"]).lower()) - ord("a"))
    found = _PROBE.match(text)
    if found is None:
        return None
    shank = ord(found["letter"].lower()) - ord("a") if found["letter"] else None
    return ProbeName(int(found["number"] or 0), shank)


def place_texts(places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Tell the runs and gates of a session apart.

    Parameters
    ----------
    places : iterable of (str, int)
        Runs and gates.

    Returns
    -------
    dict
        `r2`, `g1`, `r2g1`, ... by run and gate; empty text for the first gate of the first run.
    """
    first: dict[str, int] = {}
    places = set(places)
    for run, gate in places:
        first[run] = min(first.get(run, gate), gate)
    order = {run: i + 1 for i, run in enumerate(sorted(first, key=natural_key))}
    return {
        (run, gate): (f"r{order[run]}" if order[run] > 1 else "")
        + (f"g{gate}" if gate != first[run] else "")
        for run, gate in places
    }


def strip_uuid(name: str) -> str:
    """Remove an ALF UUID from a file name.

    Parameters
    ----------
    name : str
        File name.

    Returns
    -------
    str
        The name without `.<uuid>` before its extension.
    """
    return re.sub(rf"\.{_UUID}(?=\.[^.]+$)", "", name)


def subject_label(folder: str) -> str:
    """Take the label of a subject's folder; what is no pair in it may tell animals apart.

    Parameters
    ----------
    folder : str
        Name that begins with `sub-`.

    Returns
    -------
    str
        `001` of `sub-001_id-A`, `mouse_1` of `sub-mouse_1`.
    """
    found = _LABEL.fullmatch(folder)
    return found[1] if found else folder.removeprefix("sub-")


def labels_in(names: Iterable[str], own: str) -> list[str]:
    """List the labels of subjects in the names of files and folders.

    Parameters
    ----------
    names : iterable of str
        Of whatever is in a session.
    own : str
        The session's label, which may have a `_` in it.

    Returns
    -------
    list of str
        One for each name that begins with `sub-`.
    """
    is_own = re.compile(rf"sub-{re.escape(own)}(?![^_.])" if own else "(?!)")
    return [
        own if is_own.match(name) else name[4:].partition("_")[0]
        for name in names
        if name.startswith("sub-") and name[4:5] not in ("", "_")
    ]


def parse_day(text: str) -> date | None:
    """Read a date folder.

    Parameters
    ----------
    text : str
        `yyyy-mm-dd`.

    Returns
    -------
    date or None
        None for anything else.
    """
    if not re.match(r"^\d{4}-\d{2}-\d{2}$", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
