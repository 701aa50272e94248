"""What an NWB file is made from, as plain data, and helpers that take it from SpikeInterface.

Nothing here writes: that is `nwb`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.formats.timeline import Timeline
from neuro_assets.science.geometry import channel_table

CLOCK = "seconds on the clock `probe`: 0 at the recording's first sample, running on through gaps"


@dataclass(frozen=True)
class SubjectInfo:
    """What is known of the animal beyond its name; every field may be unknown.

    Parameters
    ----------
    species : str or None
        Latin binomial (`Mus musculus`).
    sex : str or None
        `M`, `F`, `U` or `O`.
    age : str or None
        ISO 8601 duration on the day of the session (`P90D`).
    date_of_birth : datetime or None
        With or without time zone.
    weight : str or None
        With unit (`23.1 g`).
    genotype, strain, description : str or None
        Free text.
    """

    species: str | None = None
    sex: str | None = None
    age: str | None = None
    date_of_birth: datetime | None = None
    weight: str | None = None
    genotype: str | None = None
    strain: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class Templates:
    """Mean waveforms of units.

    Parameters
    ----------
    unit_ids : list
        As in the units table.
    channel_ids : list
        As in the channels table.
    average : ndarray
        uV, shape (n_units, n_samples, n_channels); zero or NaN where a unit was not sampled.
    sampling_frequency : float
        Hz.
    n_before : int
        Samples before the spike's sample.
    deviation : ndarray or None
        Standard deviation over spikes, uV, same shape.
    """

    unit_ids: list[Any]
    channel_ids: list[Any]
    average: NDArray[np.floating[Any]]
    sampling_frequency: float
    n_before: int
    deviation: NDArray[np.floating[Any]] | None = None


@dataclass
class NwbInputs:
    """Everything that goes into one NWB file; what is None is left out and named.

    Parameters
    ----------
    key : str
        The recording's key, `<subject>_<yyyymmdd>_<number>_<probe>`; the file's name.
    lab, subject, number : str
        The session.
    date : datetime.date
        The session's day.
    start_time : datetime or None
        When the recording began; naive times are in `NwbParameters.timezone`; without one, the
        day's midnight is written and named in the session description.
    version : str
        Version of the output; enters the identifier, so that another version is another file.
    probe : str
        `probe00`.
    probe_model, probe_serial, probe_manufacturer : str
        Empty where unknown.
    sampling_frequency : float
        Rate of the sorted recording, Hz.
    n_samples : int
        Length of the sorted recording, samples.
    channels : DataFrame
        One row a channel: `channel_id`, `label`; `x_um`, `y_um`, `shank` and `location`
        (brain region) where known.
    units : DataFrame or None
        One row a unit: `unit_id`, `uuid`, metrics; `main_channel_id` where known.
    spikes : mapping of unit id to ndarray, or None
        Sorted sample indices on the clock `probe`.
    templates : Templates or None
        Mean waveforms.
    lfp, raw : spikeinterface.BaseRecording or None
        Traces on the clock `probe`.
    subject_info : SubjectInfo
        The animal.
    experimenters : tuple of str
        `Last, First`.
    experiment_description : str or None
        Free text.
    session_aliases : mapping
        Other names of the session (`eid`, `pid`) and what else a reader must know of it (a `date`
        that is guessed), written as notes.
    timeline : Timeline
        Gaps of the sorted recording.
    masked : DataFrame or None
        Stretches that are no signal: `start_sample`, `stop_sample` (one past the last), `reason`.
    missing : list of str
        What the file had to do without, each with its reason.
    """

    key: str
    lab: str
    subject: str
    date: date
    number: str
    sampling_frequency: float
    n_samples: int
    channels: pd.DataFrame
    probe: str = "probe00"
    probe_model: str = ""
    probe_serial: str = ""
    probe_manufacturer: str = ""
    start_time: datetime | None = None
    version: str = ""
    units: pd.DataFrame | None = None
    spikes: Mapping[Any, NDArray[np.integer[Any]]] | None = None
    templates: Templates | None = None
    lfp: Any | None = None
    raw: Any | None = None
    subject_info: SubjectInfo = field(default_factory=SubjectInfo)
    experimenters: tuple[str, ...] = ()
    experiment_description: str | None = None
    session_aliases: Mapping[str, str] = field(default_factory=dict)
    timeline: Timeline = Timeline()
    masked: pd.DataFrame | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Length of the sorted recording, seconds."""
        return self.n_samples / self.sampling_frequency

    @property
    def masked_samples(self) -> NDArray[np.int64]:
        """First sample of each masked stretch, and one past its last; shape (n, 2)."""
        if self.masked is None:
            return np.zeros((0, 2), dtype=np.int64)
        return self.masked[["start_sample", "stop_sample"]].to_numpy(dtype=np.int64)


def trains_from_tables(units: pd.DataFrame, spikes: pd.DataFrame) -> dict[Any, NDArray[np.int64]]:
    """Take the spike trains out of the stored tables `units` and `spikes`.

    Parameters
    ----------
    units : DataFrame
        With `unit_id` and `unit_index`.
    spikes : DataFrame
        With `sample_index` and `unit_index`, in time order.

    Returns
    -------
    dict of unit id to ndarray
        Sample indices of every unit, those without spikes included.
    """
    owner = spikes["unit_index"].to_numpy()
    order = np.argsort(owner, kind="stable")
    samples = spikes["sample_index"].to_numpy(dtype=np.int64)[order]
    wanted = units["unit_index"].to_numpy()
    begin = np.searchsorted(owner[order], wanted, side="left")
    end = np.searchsorted(owner[order], wanted, side="right")
    return {unit: samples[a:b] for unit, a, b in zip(units["unit_id"], begin, end, strict=True)}


def templates_of(analyzer: Any) -> Templates | None:
    """Take mean waveforms out of a SortingAnalyzer; None when it has no templates.

    Parameters
    ----------
    analyzer : spikeinterface.SortingAnalyzer
        With extension `templates`, scaled to uV.

    Returns
    -------
    Templates or None
        Dense: zero outside of a unit's sparsity.
    """
    extension = analyzer.get_extension("templates")
    if extension is None or not analyzer.return_in_uV:
        return None
    computed = extension.params["operators"]
    return Templates(
        unit_ids=list(analyzer.unit_ids),
        channel_ids=list(analyzer.channel_ids),
        average=np.asarray(extension.get_data("average")),
        sampling_frequency=float(analyzer.sampling_frequency),
        n_before=int(extension.nbefore),
        deviation=np.asarray(extension.get_data("std")) if "std" in computed else None,
    )


def manufacturer_of(recording: Any) -> str:
    """Read who made a recording's probe.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        With or without a probe.

    Returns
    -------
    str
        Empty where unknown.
    """
    if not recording.has_probe():
        return ""
    return str(recording.get_probegroup().probes[0].annotations.get("manufacturer") or "")


def channels_of(recording: Any, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """Describe a recording's channels from its probe.

    Parameters
    ----------
    recording : spikeinterface.BaseRecording
        With or without a probe.
    labels : DataFrame, optional
        `channel_id` and `label`; channels that it does not hold become `unknown`.

    Returns
    -------
    DataFrame
        `channel_id`, `label`, `x_um`, `y_um`, `shank`.
    """
    table = channel_table(recording)
    known = (
        {}
        if labels is None
        else dict(zip(labels["channel_id"].astype(str), labels["label"].astype(str), strict=True))
    )
    table["label"] = [known.get(channel, "unknown") for channel in table["channel_id"]]
    return table[["channel_id", "label", "x_um", "y_um", "shank"]]
