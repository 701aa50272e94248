"""What an Open Ephys recording says in `structure.oebin` and in the settings beside it.

Which recordings a folder holds is decided in `openephys`; samples are read in `openephys_open`.
"""

from __future__ import annotations

import json
from collections.abc import Container
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from neuro_assets.formats.broken import Broken, read_text, short
from neuro_assets.formats.timeline import timeline_of_numbers
from neuro_assets.outcomes import TransientFailure

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


SAMPLE_NUMBERS = ("sample_numbers.npy", "timestamps.npy")
"""Files with the number of each sample: of version 0.6 and later, and of those before.

Later versions write seconds into the second one.
"""


def sample_numbers_file(folder: str, paths: Container[str]) -> str:
    """Choose the file that numbers the samples of a stream.

    Parameters
    ----------
    folder : str
        The stream's folder.
    paths : container of str
        Files that are there.

    Returns
    -------
    str
        Its path; that of the newer versions where there is none.
    """
    both = [f"{folder}/{name}" for name in SAMPLE_NUMBERS]
    return next((path for path in both if path in paths), both[0])


def read_sample_numbers(path: Path, n_samples: int) -> np.ndarray:
    """Map the number of each sample in the acquisition's count.

    Parameters
    ----------
    path : Path
        `sample_numbers.npy`, or `timestamps.npy` of versions before 0.6.
    n_samples : int
        Samples in the data file.

    Returns
    -------
    ndarray of int, shape (n_samples,)
        Memory-mapped.

    Raises
    ------
    Broken
        `sample_numbers` when it is damaged, empty or holds seconds; `truncated` when it numbers
        more or fewer samples than there are.
    TransientFailure
        When the disk does not answer.
    """
    try:
        numbers = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _no_numbers(path.name, "is missing") from None
    except PermissionError:
        raise Broken("unreadable", f"no permission to read {path}; grant it") from None
    except OSError as error:
        raise TransientFailure(f"cannot read {path} ({error.strerror or error})") from error
    except Exception as error:
        # NumPy's reader of headers raises whatever a damaged one makes it meet.
        raise _no_numbers(path.name, f"is damaged ({short(error)})") from error
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.ndim != 1:
        if path.name == SAMPLE_NUMBERS[0]:
            raise _no_numbers(path.name, f"holds {numbers.dtype} and no numbers of samples")
        raise _no_numbers(SAMPLE_NUMBERS[0], f"is missing ({path.name} holds seconds)")
    if len(numbers) != n_samples:
        raise Broken(
            "truncated",
            f"the data file has {n_samples} samples but there are {len(numbers)} sample numbers; "
            "copy the folder again from the rig",
        )
    return numbers


def _no_numbers(name: str, what: str) -> Broken:
    return Broken(
        "sample_numbers",
        f"{name} {what}, so nobody knows where the rig lost data: copy it again from the rig (or "
        "describe the data with a reader entry in lab.yaml, which takes them as gapless)",
    )


def span_of_numbers(path: Path, n_samples: int) -> tuple[int, int]:
    """Compare the first and the last sample number, and how many there are, with the data.

    Parameters
    ----------
    path : Path
        The file with the numbers.
    n_samples : int
        Samples in the data file, at least one.

    Returns
    -------
    first : int
        Number of the first sample.
    n_missing : int
        Samples that the numbers jump over.

    Raises
    ------
    Broken
        As `read_sample_numbers`, or `sample_numbers` when they do not rise.
    """
    numbers = read_sample_numbers(path, n_samples)
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
