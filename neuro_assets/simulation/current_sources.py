"""Theta, sharp wave and ripple as currents over depth, and the potentials they cause.

Currents flow in discs parallel to the layers; the potential on their axis is that of Pettersen et
al. 2006 (J Neurosci Methods 154:116), equation for a disc, in a medium of even conductivity.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuro_assets.simulation.levels import NetworkLevels
from neuro_assets.simulation.rng import FloatArray

SOURCES = ("theta_cos", "theta_sin", "sharp_wave", "ripple")
GRID_UM = 5.0
REACH_WIDTHS = 12.0
# Strength of the currents at depths in widths of the layer above the pyramidal layer: oriens at
# 1.5, radiatum at -2.5, lacunosum-moleculare at -5. Each source sums to 0: no charge is left over.
_STRENGTHS: dict[str, dict[float, float]] = {
    "theta_cos": {1.5: 1.0, -2.5: -0.4, -5.0: -0.6},
    "theta_sin": {0.0: 1.0, -2.5: -0.7, 1.5: -0.3},
    "sharp_wave": {-2.5: -1.0, 0.0: 1.0},
    "ripple": {0.0: 1.0, -1.5: -0.5, 1.5: -0.5},
}
_WIDTH = 0.6
"""Standard deviation of each current over depth, in widths of the layer."""


def densities(layer_um: float, width_um: float) -> tuple[FloatArray, FloatArray]:
    """Lay the currents out over depth, far beyond the probe too, not yet levelled.

    Parameters
    ----------
    layer_um, width_um : float
        Depth and width of the pyramidal layer, um.

    Returns
    -------
    depth_um : ndarray
        Even grid of 5 um.
    density : ndarray
        Shape (n_sources, n_depths), rows as in `SOURCES`; each sums to 0.
    """
    away = np.arange(-REACH_WIDTHS, REACH_WIDTHS, GRID_UM / width_um)
    rows = []
    for source in SOURCES:
        parts = [
            strength * np.exp(-((away - place) ** 2) / (2 * _WIDTH**2))
            for place, strength in _STRENGTHS[source].items()
        ]
        row = np.sum(parts, axis=0)
        rows.append(row - row.mean())
    return layer_um + away * width_um, np.array(rows)


def potentials(
    at_um: FloatArray, depth_um: FloatArray, density: FloatArray, levels: NetworkLevels
) -> FloatArray:
    """Find the potential of currents in discs, on their axis.

    Parameters
    ----------
    at_um : ndarray
        Depths wanted, um.
    depth_um, density : ndarray
        From `densities`; density in uA/mm3.
    levels : NetworkLevels
        Radius of the discs, and conductivity.

    Returns
    -------
    ndarray
        uV, shape (n_sources, n_wanted).
    """
    away = np.abs(np.asarray(at_um)[:, None] - depth_um) * 1e-6
    radius, step = levels.disc_um * 1e-6, (depth_um[1] - depth_um[0]) * 1e-6
    kernel = (np.sqrt(away**2 + radius**2) - away) * step / (2 * levels.conductivity_s_m)
    # uA/mm3 are 1000 A/m3; V are 1e6 uV.
    return (density * 1e3) @ kernel.T * 1e6


def levelled(
    layer_um: float, sizes_uv: FloatArray, at_um: FloatArray, levels: NetworkLevels
) -> tuple[pd.DataFrame, FloatArray]:
    """Scale each source's currents so that its potential has the wanted size.

    Parameters
    ----------
    layer_um : float
        Depth of the pyramidal layer, um.
    sizes_uv : ndarray
        Largest magnitude of each source's potential at any depth, uV; rows as in `SOURCES`.
    at_um : ndarray
        Depths of the channels, um.
    levels : NetworkLevels
        Width of the layer, radius of the discs, and conductivity.

    Returns
    -------
    table : DataFrame
        source, depth_um, csd_ua_mm3, potential_uv at amplitude 1 of the source.
    weights : ndarray
        uV on the channels, shape (n_sources, n_channels).
    """
    depth, density = densities(layer_um, levels.layer_um)
    everywhere = potentials(depth, depth, density, levels)
    density *= (sizes_uv / np.abs(everywhere).max(axis=1))[:, None]
    everywhere = potentials(depth, depth, density, levels)
    table = pd.DataFrame(
        {
            "source": np.repeat(SOURCES, len(depth)),
            "depth_um": np.tile(depth, len(SOURCES)),
            "csd_ua_mm3": density.ravel(),
            "potential_uv": everywhere.ravel(),
        }
    )
    return table, potentials(at_um, depth, density, levels)
