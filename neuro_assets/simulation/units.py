"""Units of one probe: where they are, how large, when they fire, and their moving templates.

Templates come from SpikeInterface's generator; what is added is the amplitude level, the moment
at which each channel is sampled, and storage of only the channels that see a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.simulation.clocks import AP_HZ
from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.network import network_columns
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.probes import SimulatedProbe
from neuro_assets.simulation.rng import (
    FloatArray,
    IntArray,
    even_quantiles,
    split_lognormal,
)
from neuro_assets.simulation.tissue import Drift

MS_BEFORE, MS_AFTER = 1.0, 2.5
N_BEFORE = int(MS_BEFORE * AP_HZ / 1000)
REACH_UM = 250.0
"""Farther than this no unit reaches 1 uV."""
SMALL_REACH_UM = 140.0
PLACE_LEVEL = 0.2
"""A place field ends where the rate falls below this part of its peak."""


@dataclass(frozen=True)
class Footprint:
    """Template of one unit on the channels that see it.

    Parameters
    ----------
    channels : ndarray
        Channel indices.
    waveforms : ndarray
        uV, shape (n_displacements, n_samples, n_channels), float32.
    """

    channels: IntArray
    waveforms: np.ndarray


def make_units(plan: ProbePlan) -> pd.DataFrame:
    """Draw the units of a probe.

    Parameters
    ----------
    plan : ProbePlan
        Geometry; amplitudes, rates, place fields.

    Returns
    -------
    DataFrame
        One row a unit: unit, x_um, y_um, z_um, shank, amplitude_uv, rate_hz, bursty,
        place_cell, place_center_cm, place_width_cm, theta_phase, theta_depth, ripple_gain,
        burst_gain; with recording levels also label (`single unit`, `multi-unit`) and
        amplitude_sd, and with network levels those of `network.network_columns`.
    """
    probe, levels, rng = plan.probe, plan.levels, plan.rng("units")
    n = max(1, round(probe.n_channels / levels.channels_per_unit))
    table = _locations(probe, n, rng, minimum_z=5.0, maximum_z=30.0, minimum_distance=15.0)
    table["amplitude_uv"] = split_lognormal(even_quantiles(rng, n), *levels.amplitude_uv)
    table["rate_hz"] = _rates(rng, n, levels)
    rank = table["rate_hz"].rank().to_numpy()
    # The fastest fifth are interneurons: they neither burst nor have fields, for a field would
    # need an impossible peak rate at their mean rate.
    slow = np.flatnonzero(rank <= max(1, round(0.8 * n)))
    table["bursty"] = _chosen(rng, slow, round(levels.burst_fraction * n), n)
    table["place_cell"] = _chosen(rng, slow, round(levels.place_fraction * n), n)
    placed = table["place_cell"].to_numpy()
    centers = rng.uniform(0.03, 0.97, n) * levels.track_cm
    table["place_center_cm"] = np.where(placed, centers, np.nan)
    widths = rng.uniform(*levels.place_width_cm, n)
    table["place_width_cm"] = np.where(placed, widths, np.nan)
    table["theta_phase"] = rng.uniform(-np.pi, np.pi, n)
    table["theta_depth"] = rng.uniform(0.3, 0.8, n)
    table["ripple_gain"] = np.where(rng.random(n) < 0.5, rng.uniform(4, 10, n), 0.0)
    table["burst_gain"] = np.where(rng.random(n) < 0.6, rng.uniform(4, 8, n), 0.0)
    if levels.recording:
        table = _with_small_units(table, plan)
    if levels.network:
        table = network_columns(table, levels.network, plan.rng("network"))
    return table


def _with_small_units(units: pd.DataFrame, plan: ProbePlan) -> pd.DataFrame:
    """Add the units behind the multi-unit background: small, farther away, without fields."""
    levels, rng = plan.levels.recording, plan.rng("small units")
    assert levels is not None
    n = max(1, round(levels.small_units_per_channel * plan.probe.n_channels))
    small = _locations(plan.probe, n, rng, minimum_z=20.0, maximum_z=60.0, minimum_distance=None)
    small["unit"] += len(units)
    small["amplitude_uv"] = split_lognormal(even_quantiles(rng, n), *levels.small_amplitude_uv)
    small["rate_hz"] = _rates(rng, n, plan.levels, levels.small_rate_hz)
    small["bursty"] = small["place_cell"] = False
    small["place_center_cm"] = small["place_width_cm"] = np.nan
    small["theta_phase"] = rng.uniform(-np.pi, np.pi, n)
    small["theta_depth"] = rng.uniform(0.1, 0.5, n)
    small["ripple_gain"] = np.where(rng.random(n) < 0.5, rng.uniform(2, 5, n), 0.0)
    small["burst_gain"] = np.where(rng.random(n) < 0.6, rng.uniform(2, 5, n), 0.0)
    table = pd.concat([units, small], ignore_index=True)
    table["label"] = np.repeat(["single unit", "multi-unit"], [len(units), n])
    table["amplitude_sd"] = plan.rng("amplitude sd").uniform(*levels.amplitude_sd, len(table))
    return table


def _rates(
    rng: np.random.Generator, n: int, levels: Levels, median_hz: float | None = None
) -> FloatArray:
    from scipy.stats import norm

    z = norm.ppf(even_quantiles(rng, n))
    median_hz = median_hz or levels.rate_median_hz
    return np.minimum(median_hz * np.exp(levels.rate_sigma * z), levels.rate_max_hz)


def _chosen(rng: np.random.Generator, candidates: IntArray, wanted: int, n: int) -> np.ndarray:
    mask = np.zeros(n, dtype=bool)
    mask[rng.choice(candidates, min(wanted, len(candidates)), replace=False)] = True
    return mask


def _locations(
    probe: SimulatedProbe, n: int, rng: np.random.Generator, **limits: Any
) -> pd.DataFrame:
    """Positions near the contacts, shank by shank, kept apart where there is room."""
    from spikeinterface.core.generate import generate_unit_locations

    shanks = np.unique(probe.shanks)
    share = np.array_split(np.arange(n), len(shanks))
    rows = []
    for shank, members in zip(shanks, share, strict=True):
        if not len(members):
            continue
        places = generate_unit_locations(
            len(members),
            probe.positions[probe.shanks == shank],
            margin_um=8.0,
            max_iteration=300,
            seed=int(rng.integers(2**31)),
            **limits,
        )
        rows.append(pd.DataFrame(places, columns=["x_um", "y_um", "z_um"]).assign(shank=shank))
    table = pd.concat(rows, ignore_index=True).astype({"x_um": float, "y_um": float})
    table.insert(0, "unit", np.arange(n))
    return table


def displacement_grid(drift: Drift) -> FloatArray:
    """Displacements at which templates are kept, um: steps of 1 um, or 2 um over long ways."""
    end = drift.slow_um + drift.jump_um
    step = 1.0 if abs(end) <= 20 else 2.0
    grid = np.arange(0, abs(end) + step / 2, step)
    return grid * np.sign(end) if end else grid


def make_footprints(units: pd.DataFrame, plan: ProbePlan) -> list[Footprint]:
    """Templates of all units at all displacements.

    Dead channels see no unit, and noisy ones do not count as its best: amplitudes are levelled on
    all others, and on average over the course of the drift.

    Parameters
    ----------
    units : DataFrame
        From `make_units`.
    plan : ProbePlan
        Geometry, sampling moments, bad channels and drift.

    Returns
    -------
    list of Footprint
        One a unit.
    """
    from spikeinterface.core.generate import generate_templates

    probe = plan.probe
    shapes = _shapes(plan.rng("templates"), len(units))
    grid = displacement_grid(plan.drift)
    weights = _time_at(grid, plan.drift)
    good = np.setdiff1d(np.arange(probe.n_channels), plan.bad)
    places = units[["x_um", "y_um", "z_um"]].to_numpy(dtype=float)
    n_large = len(units) if "label" not in units else int((units["label"] == "single unit").sum())
    footprints = []
    for row, place in enumerate(places):
        away = np.linalg.norm(probe.positions - place[:2], axis=1)
        reach = REACH_UM if row < n_large else SMALL_REACH_UM
        near = np.flatnonzero(away < reach + np.abs(grid).max())
        moved = np.repeat(place[None, :], len(grid), axis=0)
        moved[:, 1] += grid
        templates = generate_templates(
            probe.positions[near],
            moved,
            sampling_frequency=AP_HZ,
            ms_before=MS_BEFORE,
            ms_after=MS_AFTER,
            seed=0,
            unit_params={k: np.full(len(grid), v[row]) for k, v in shapes.items()},
        )
        templates[:, :, np.isin(near, plan.dead)] = 0
        depth = -templates[:, :, np.isin(near, good)].min(axis=(1, 2))
        scale = units["amplitude_uv"].iloc[row] / float(np.sum(depth * weights))
        footprints.append(_cut(templates * scale, near, probe.shifts))
    return footprints


def _shapes(rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
    """Parameters of SpikeInterface's template generator, one value a unit."""
    ranges = {
        "alpha": (100.0, 100.0),
        "depolarization_ms": (0.09, 0.14),
        "repolarization_ms": (0.4, 0.7),
        "recovery_ms": (0.9, 1.3),
        "positive_amplitude": (0.1, 0.25),
        "smooth_ms": (0.03, 0.07),
        "spatial_decay": (18.0, 40.0),
        "propagation_speed": (250.0, 350.0),
        "ellipse_shrink": (0.5, 1.0),
        "ellipse_angle": (0.0, 2 * np.pi),
        "spatial_power": (2.0, 2.0),
    }
    return {name: rng.uniform(*limits, n) for name, limits in ranges.items()}


def _time_at(grid: FloatArray, drift: Drift) -> FloatArray:
    """Part of the session spent at each displacement."""
    path = drift.at(np.linspace(0, drift.stop_s, 1000))
    counts = np.bincount(nearest(grid, path), minlength=len(grid))
    return counts / counts.sum()


def nearest(grid: FloatArray, values: FloatArray) -> IntArray:
    """Index of the grid point nearest to each value; the grid is even and starts at 0."""
    if len(grid) == 1:
        return np.zeros(len(values), dtype=np.int64)
    index = np.rint(values / (grid[1] - grid[0])).astype(np.int64)
    return np.clip(index, 0, len(grid) - 1)


def _cut(templates: np.ndarray, near: IntArray, shifts: FloatArray) -> Footprint:
    """Sample each channel at its own moment, and keep the channels that see at least 1 uV."""
    seen = np.abs(templates).max(axis=(0, 1)) > 1.0
    channels = near[seen]
    kept = templates[:, :, seen].astype(np.float64)
    n = kept.shape[1]
    spectrum = np.fft.rfft(kept, n=2 * n, axis=1)
    turns = np.fft.rfftfreq(2 * n)[None, :, None] * shifts[channels][None, None, :]
    moved = np.fft.irfft(spectrum * np.exp(2j * np.pi * turns), n=2 * n, axis=1)[:, :n]
    return Footprint(channels, moved.astype(np.float32))
