"""The units table of an NWB file: spike times, metrics with descriptions, mean waveforms.

Built by columns, so that millions of spikes cost one array, not one call each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.nwb import NwbParameters
from neuro_assets.parameters.unit_columns import description_of
from neuro_assets.science.nwb.inputs import CLOCK, NwbInputs, Templates
from neuro_assets.science.valid_time import valid_periods

Wrap = Callable[[Any], Any]

OWN_COLUMNS = frozenset({"unit_id", "uuid", "id"})


def units_table(inputs: NwbInputs, nwbfile: Any, parameters: NwbParameters, wrap: Wrap) -> Any:
    """Make the units table.

    Parameters
    ----------
    inputs : NwbInputs
        With units and spikes.
    nwbfile : pynwb.NWBFile
        Its electrodes are complete, one row a row of `inputs.channels`.
    parameters : NwbParameters
        Channels of a mean waveform.
    wrap : callable
        Adds compression to a large array.

    Returns
    -------
    pynwb.misc.Units
        One row a row of `inputs.units`.

    Raises
    ------
    PermanentFailure
        When a unit has no spike train, or spikes lie outside of the recording.
    """
    from hdmf.common import VectorData
    from pynwb.misc import Units

    units = inputs.units
    assert units is not None
    ids = [str(unit) for unit in units["unit_id"]]
    columns = _spike_times(inputs, ids, wrap) + _observed(inputs, len(ids))
    columns.append(VectorData(name="unit_name", description="the sorter's id", data=ids))
    if "uuid" in units:
        uuids = [str(uuid) for uuid in units["uuid"]]
        text = "UUIDv5 of the sorting's content digest and the unit's id"
        columns.append(VectorData(name="uuid", description=text, data=uuids))
    columns += _metric_columns(units)
    main, waveforms, rate = _waveform_columns(inputs, ids, parameters, wrap)
    columns += waveforms + _electrode_columns(inputs, main, nwbfile)
    numbers = _integer_ids(ids)
    kept = inputs.templates if rate is not None else None
    return Units(
        name="units",
        description=f"sorted units of {inputs.probe}; times on the clock `probe` (seconds since "
        "the recording's first sample)",
        id=numbers,
        columns=columns,
        resolution=1.0 / inputs.sampling_frequency,
        waveform_rate=rate,
        waveform_unit="volts",
        waveform_time_before_peak_in_ms=None
        if kept is None
        else 1000.0 * kept.n_before / kept.sampling_frequency,
        electrode_table=nwbfile.electrodes,
    )


def _integer_ids(ids: list[str]) -> list[int]:
    if all(unit.isdecimal() for unit in ids):
        return [int(unit) for unit in ids]
    return list(range(len(ids)))


def _spike_times(inputs: NwbInputs, ids: list[str], wrap: Wrap) -> list[Any]:
    from hdmf.common import VectorData, VectorIndex

    trains = {str(unit): np.asarray(samples) for unit, samples in (inputs.spikes or {}).items()}
    absent = [unit for unit in ids if unit not in trains]
    if absent:
        raise PermanentFailure(
            f"{len(absent)} of {len(ids)} units have no spike train (first: {absent[0]}); "
            "the units table and the sorting are not of one version, make units again"
        )
    ordered = [np.sort(trains[unit]) for unit in ids]
    samples = np.concatenate(ordered) if ordered else np.zeros(0, np.int64)
    if len(samples) and (samples.min() < 0 or samples.max() >= inputs.n_samples):
        raise PermanentFailure(
            f"spikes reach from sample {samples.min()} to {samples.max()} in a recording of "
            f"{inputs.n_samples} samples; make the sorting again"
        )
    times = inputs.timeline.seconds(samples, inputs.sampling_frequency)
    values = VectorData(
        name="spike_times",
        description=CLOCK,
        data=wrap(times),
    )
    return [values, VectorIndex(name="spike_times_index", data=_ends(ordered), target=values)]


def _ends(pieces: list[Any]) -> list[int]:
    # A list: hdmf chooses the smallest unsigned type, which other tools can subtract from.
    return np.cumsum([len(piece) for piece in pieces], dtype=np.int64).tolist()


def _observed(inputs: NwbInputs, n_units: int) -> list[Any]:
    from hdmf.common import VectorData, VectorIndex

    spans = valid_periods(inputs.masked_samples, inputs.timeline, inputs.n_samples)
    begin = inputs.timeline.seconds(spans[:, 0], inputs.sampling_frequency)
    lengths = np.diff(spans, axis=1) / inputs.sampling_frequency
    values = VectorData(
        name="obs_intervals",
        description="valid time: the recording without its gaps and masked stretches (their "
        "reasons are in invalid_times), seconds on the clock `probe`",
        data=np.tile(np.column_stack([begin, begin + lengths[:, 0]]), (n_units, 1)),
    )
    index = [len(spans) * (unit + 1) for unit in range(n_units)]
    return [values, VectorIndex(name="obs_intervals_index", data=index, target=values)]


def _metric_columns(units: pd.DataFrame) -> list[Any]:
    from hdmf.common import VectorData
    from pynwb.misc import Units

    # Columns with a fixed meaning: a metric of that name is written as `metric_<name>`.
    reserved = {"name", "description", "columns", "colnames"}
    reserved |= {column["name"] for column in Units.__columns__}
    columns = []
    for name in units.columns:
        if name in OWN_COLUMNS:
            continue
        written = f"metric_{name}" if name in reserved else str(name).replace("/", "_")
        data = plain_values(units[name])
        columns.append(VectorData(name=written, description=description_of(name), data=data))
    return columns


def plain_values(column: pd.Series) -> Any:
    """Turn a column into what NWB can hold: booleans, integers, floats with NaN, or strings."""
    if pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any():
        return column.to_numpy(dtype=np.int64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return [
        "" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)
    ]


def _waveform_columns(
    inputs: NwbInputs, ids: list[str], parameters: NwbParameters, wrap: Wrap
) -> tuple[list[list[int]], list[Any], float | None]:
    """Electrode rows of each unit, waveform columns, and their rate."""
    from hdmf.common import VectorData

    row_of = {str(c): row for row, c in enumerate(inputs.channels["channel_id"])}
    if inputs.templates is None or not ids:
        return _main_channels(inputs, row_of), [], None
    chosen, mean, deviation = strongest(inputs.templates, ids, parameters.waveform_channels)
    try:
        rows = [
            [row_of[str(inputs.templates.channel_ids[k])] for k in channels] for channels in chosen
        ]
    except KeyError as error:
        raise PermanentFailure(
            f"the templates have channel {error}, the channel table has not; make analyzer again"
        ) from error
    described = "on the unit's `electrodes`, in their order"
    columns = [
        VectorData(
            name="waveform_mean", description=f"mean waveform (V) {described}", data=wrap(mean)
        )
    ]
    if deviation is not None:
        text = f"standard deviation over spikes (V) {described}"
        columns.append(VectorData(name="waveform_sd", description=text, data=wrap(deviation)))
    return rows, columns, inputs.templates.sampling_frequency


def strongest(
    templates: Templates, ids: list[str], n_channels: int
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32] | None]:
    """Keep each unit's channels of largest absolute value, that of its main channel first.

    Parameters
    ----------
    templates : Templates
        Dense.
    ids : list of str
        Units wanted, in order.
    n_channels : int
        At most so many channels a unit.

    Returns
    -------
    channels : ndarray
        Positions in `templates.channel_ids`, shape (n_units, n_kept).
    mean, deviation : ndarray
        Volts, shape (n_units, n_samples, n_kept); deviation may be None.
    """
    place = {str(unit): k for k, unit in enumerate(templates.unit_ids)}
    absent = [unit for unit in ids if unit not in place]
    if absent:
        raise PermanentFailure(
            f"{len(absent)} units have no template (first: {absent[0]}); make the analyzer again"
        )
    order = [place[unit] for unit in ids]
    average = np.nan_to_num(np.asarray(templates.average))[order]
    # As SpikeInterface finds main channels: peak to peak would put others first.
    amplitude = np.abs(average).max(axis=1)
    chosen = np.argsort(-amplitude, axis=1, kind="stable")[:, :n_channels]
    mean = np.take_along_axis(average, chosen[:, None, :], axis=2)
    deviation = None
    if templates.deviation is not None:
        spread = np.nan_to_num(np.asarray(templates.deviation))[order]
        deviation = np.take_along_axis(spread, chosen[:, None, :], axis=2)
        deviation = (deviation * 1e-6).astype(np.float32)
    return chosen, (mean * 1e-6).astype(np.float32), deviation


def _main_channels(inputs: NwbInputs, row_of: dict[str, int]) -> list[list[int]]:
    units = inputs.units
    if units is None or "main_channel_id" not in units:
        return []
    return [[row_of[c]] if c in row_of else [] for c in units["main_channel_id"].astype(str)]


def _electrode_columns(inputs: NwbInputs, rows: list[list[int]], nwbfile: Any) -> list[Any]:
    from hdmf.common import DynamicTableRegion, VectorData, VectorIndex

    if not rows or not all(rows):
        return []
    region = DynamicTableRegion(
        name="electrodes",
        description="electrodes of the unit, by the largest absolute value of the mean waveform: "
        "the main channel first",
        data=np.concatenate(rows).astype(np.int64),
        table=nwbfile.electrodes,
    )
    groups = nwbfile.electrodes["group"].data
    return [
        region,
        VectorIndex(name="electrodes_index", data=_ends(rows), target=region),
        VectorData(
            name="electrode_group",
            description="shank of the main channel",
            data=[groups[row[0]] for row in rows],
        ),
    ]
