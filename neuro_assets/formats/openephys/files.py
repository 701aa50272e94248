"""What an Open Ephys recording says in `structure.oebin` and in the settings beside it.

Which recordings a folder holds is decided in `openephys`; samples are read in `openephys_open`.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from neuro_assets.formats.broken import Broken, read_text
from neuro_assets.formats.timeline import timeline_of_numbers

_MOST_BYTES = 100_000_000
"""Of `structure.oebin` or the settings; real ones have some hundred kB."""


def read_oebin(path: Path) -> dict[str, Any]:
    """Read a `structure.oebin`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its JSON, with a list `continuous`.

    Raises
    ------
    Broken
        `meta_missing`, `unreadable` or `meta_broken`.
    """
    try:
        structure = json.loads(read_text(path, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise Broken(
            "meta_broken",
            f"structure.oebin is cut off or damaged ({error}); copy it again from the rig",
        ) from error
    if not isinstance(structure, dict) or not isinstance(structure.get("continuous"), list):
        raise Broken("meta_broken", "structure.oebin lists no streams; copy it again from the rig")
    return structure


def read_sample_numbers(folder: Path) -> np.ndarray | None:
    """Map the number of each sample in the acquisition's count.

    Parameters
    ----------
    folder : Path
        The stream's folder.

    Returns
    -------
    ndarray of int or None
        Memory-mapped; from `sample_numbers.npy`, or `timestamps.npy` of versions before 0.6.
        None where neither can be read: the samples can without them.
    """
    for name in ("sample_numbers.npy", "timestamps.npy"):
        if not (folder / name).is_file():
            continue
        try:
            numbers = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError):
            return None
        if np.issubdtype(numbers.dtype, np.integer) and numbers.ndim == 1:
            return np.asarray(numbers) if numbers.size == 0 else numbers
    return None


def span_of_numbers(folder: Path, n_samples: int) -> tuple[int | None, int]:
    """Compare the first and the last sample number, and how many there are, with the data.

    Parameters
    ----------
    folder : Path
        The stream's folder.
    n_samples : int
        Samples in its data file.

    Returns
    -------
    first : int or None
        Number of the first sample; None without sample numbers.
    n_missing : int
        Samples that the numbers jump over.

    Raises
    ------
    Broken
        `truncated`, or `sample_numbers` when they do not rise.
    """
    numbers = read_sample_numbers(folder)
    if numbers is None or not len(numbers):
        return None, 0
    if len(numbers) != n_samples:
        raise Broken(
            "truncated",
            f"the data file has {n_samples} samples but there are {len(numbers)} sample numbers; "
            "copy the folder again from the rig",
        )
    # Rising numbers that jump end later than they would; opening the stream reads them all.
    n_missing = int(numbers[-1]) - int(numbers[0]) + 1 - n_samples
    if n_missing < 0:
        timeline_of_numbers(numbers)
    return int(numbers[0]), n_missing


def is_sync(channel: dict[str, Any]) -> bool:
    """Tell the digital word that newer plugins save as a channel.

    Parameters
    ----------
    channel : dict
        Channel in `structure.oebin`.

    Returns
    -------
    bool
        True for a SYNC channel.
    """
    return "SYNC" in str(channel.get("channel_name", "")).upper()


def check_contacts(probe: Any, entry: dict[str, Any]) -> None:
    """Refuse a probe that has another number of contacts than the stream has neural channels.

    Parameters
    ----------
    probe : probeinterface.Probe
        From the settings.
    entry : dict
        The stream in `structure.oebin`.

    Raises
    ------
    Broken
        `channel_count`.
    """
    n_neural = sum(not is_sync(channel) for channel in entry["channels"])
    if probe.get_contact_count() != n_neural:
        raise Broken(
            "channel_count",
            f"the settings describe {probe.get_contact_count()} contacts but the stream has "
            f"{n_neural} channels; copy the settings file of this experiment, or describe the "
            "recording with a reader entry in lab.yaml",
        )


def probe_of(settings: Path, probe_name: str, stream_name: str) -> Any:
    """Read the probe of a stream from the settings of its experiment.

    Parameters
    ----------
    settings : Path
        `settings.xml`, or `settings_<E>.xml` for later experiments.
    probe_name, stream_name : str
        Stream name without and with its band.

    Returns
    -------
    probeinterface.Probe
        Contact i is channel i of the stream.

    Raises
    ------
    Broken
        `unknown_probe`, with what to do.
    """
    import probeinterface

    what = "describe it with a reader entry (openephysbinary) and a wiring in lab.yaml"
    if not settings.is_file():
        raise Broken(
            "unknown_probe",
            f"{settings.name} of this experiment is missing; copy it from the rig, or {what}",
        )
    read_text(settings, _MOST_BYTES)
    try:
        if not probeinterface.has_neuropixels_probes(settings):
            raise Broken(
                "unknown_probe",
                f"{settings.name} has no Neuropixels probe for {stream_name}; {what}",
            )
        probe = probeinterface.read_openephys_neuropixels(
            settings, probe_name=probe_name, raise_error=False
        ) or probeinterface.read_openephys_neuropixels(
            settings, stream_name=stream_name, raise_error=False
        )
    except (
        KeyError,
        ValueError,
        IndexError,
        AttributeError,
        AssertionError,
        TypeError,
        ElementTree.ParseError,
    ) as error:
        raise Broken(
            "unknown_probe",
            f"{settings.name} cannot be read ({type(error).__name__}: {error}); copy it again, "
            f"or {what}",
        ) from error
    if probe is None:
        raise Broken(
            "unknown_probe", f"{settings.name} has no probe for the stream {stream_name}; {what}"
        )
    return probe


def created_at(settings: Path) -> datetime | None:
    """Read the date in the settings, the rig's local time.

    Parameters
    ----------
    settings : Path
        The settings file.

    Returns
    -------
    datetime or None
        None where it has none that can be read.
    """
    try:
        text = ElementTree.parse(settings).getroot().findtext("INFO/DATE") or ""
        return datetime.strptime(text.strip(), "%d %b %Y %H:%M:%S")
    except (OSError, ValueError, ElementTree.ParseError):
        return None
