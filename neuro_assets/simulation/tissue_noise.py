"""Noise of the AP band as in life: coloured, unequal, and shared over short distances.

As `noise.NoiseMaker`, for levels with a `recording`; what a sample holds does not depend on the
pieces in which samples are asked for.
"""

from __future__ import annotations

import numpy as np

from neuro_assets.simulation.clocks import AP_HZ
from neuro_assets.simulation.levels import RecordingLevels
from neuro_assets.simulation.noise import DEAD_NOISE_UV, passed_power
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.rng import FloatArray

SPECTRUM_HZ = (150.0, 9000.0)
SECTION_RATIO = 3.0
SITE_UM = 150.0
REACH = 8
BURN_IN = 3000


def power_law(low_hz: float, high_hz: float, exponent: float, rate_hz: float) -> FloatArray:
    """Filter whose power falls as a power of frequency: poles and zeros in even steps.

    Parameters
    ----------
    low_hz, high_hz : float
        Where the fall begins and ends, Hz; flat on both sides.
    exponent : float
        Power falls as frequency to minus this.
    rate_hz : float
        Samples per second.

    Returns
    -------
    ndarray
        Second-order sections.
    """
    from scipy.signal import bilinear_zpk, zpk2sos

    n = max(1, round(np.log(high_hz / low_hz) / np.log(SECTION_RATIO)))
    step = (high_hz / low_hz) ** (1 / n)
    pole_hz = low_hz * step ** np.arange(n)
    zero_hz = pole_hz * step ** (exponent / 2)
    # The bilinear transform bends frequencies; corners are bent the other way before.
    poles, zeros = (-2 * rate_hz * np.tan(np.pi * hz / rate_hz) for hz in (pole_hz, zero_hz))
    return zpk2sos(*bilinear_zpk(zeros, poles, 1.0, rate_hz))


class TissueNoise:
    """Noise of one probe in successive pieces.

    Parameters
    ----------
    plan : ProbePlan
        Geometry, sampling moments, bad channels and levels.
    leak_uv2 : ndarray
        Variance per channel after the high-pass that the field potential adds, uV^2.

    Attributes
    ----------
    level_uv : ndarray
        Standard deviation of each channel after the high-pass, uV.
    """

    def __init__(self, plan: ProbePlan, leak_uv2: FloatArray) -> None:
        from scipy.signal import sosfilt

        levels = plan.levels.recording
        assert levels is not None
        self.level_uv = channel_levels(plan, levels)
        self._rng = plan.rng("tissue noise")
        self._mix = np.linalg.cholesky(_correlation(plan, levels)).T.astype(np.float32)
        self._sos = power_law(*SPECTRUM_HZ, levels.spectrum_exponent, AP_HZ).astype(np.float32)
        self._delays = _delays(plan.probe.shifts).astype(np.float32)
        impulse = sosfilt(self._sos, np.eye(1, 4096)[0])
        rounding = plan.probe.kind.gain_uv("ap") ** 2 / 12
        wanted = np.clip(self.level_uv**2 - rounding - leak_uv2 * (self.level_uv > 2), 0, None)
        # What the delays take away at the highest frequencies is given back.
        kinds, which = np.unique(self._delays, axis=1, return_inverse=True)
        power = np.array([passed_power(np.convolve(impulse, taps)) for taps in kinds.T])
        self._scale = np.sqrt(wanted / power[which.ravel()]).astype(np.float32)
        self._state = np.zeros((len(self._sos), 2, plan.probe.n_channels), dtype=np.float32)
        self._tail = self._draw(2 * REACH - 1)
        self.next(BURN_IN)

    def next(self, n: int) -> np.ndarray:
        """Next n samples, shape (n, n_channels), uV, float32."""
        from scipy.signal import sosfilt

        mixed = np.concatenate([self._tail, self._draw(n)])
        self._tail = mixed[n:]
        traces = np.zeros((n, mixed.shape[1]), dtype=np.float32)
        for tap, weights in enumerate(self._delays):
            traces += mixed[tap : tap + n] * weights
        traces, self._state = sosfilt(self._sos, traces, axis=0, zi=self._state)
        traces *= self._scale
        return traces

    def _draw(self, n: int) -> np.ndarray:
        white = self._rng.standard_normal((n, len(self._mix)), dtype=np.float32)
        return white @ self._mix


def channel_levels(plan: ProbePlan, levels: RecordingLevels) -> FloatArray:
    """Draw each channel's standard deviation: a part of its own, and one smooth along depth.

    Parameters
    ----------
    plan : ProbePlan
        Geometry and bad channels.
    levels : RecordingLevels
        How unequal.

    Returns
    -------
    ndarray
        After the high-pass, uV, shape (n_channels,).
    """
    rng = plan.rng("noise levels")
    depth = plan.probe.positions[:, 1]
    knots = np.arange(depth.min(), depth.max() + 2 * SITE_UM, SITE_UM)
    smooth = np.interp(depth, knots, rng.standard_normal(len(knots)))
    own = rng.standard_normal(len(depth))
    uv = plan.levels.noise_uv * np.exp(levels.channel_spread * own + levels.site_spread * smooth)
    uv[plan.noisy] *= rng.uniform(*levels.noisy_factor, len(plan.noisy))
    uv[plan.dead] = DEAD_NOISE_UV
    return uv


def _correlation(plan: ProbePlan, levels: RecordingLevels) -> FloatArray:
    """Correlation of the channels: common, falling off along a shank, own; bad ones are alone."""
    probe = plan.probe
    away = np.linalg.norm(probe.positions[:, None] - probe.positions[None], axis=-1)
    local = np.exp(-away / levels.local_um) * (probe.shanks[:, None] == probe.shanks)
    matrix = levels.common_fraction + levels.local_fraction * local
    alone = np.isin(np.arange(probe.n_channels), plan.bad)
    matrix[alone] = 0
    matrix[:, alone] = 0
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _delays(shifts: FloatArray) -> FloatArray:
    """Take each channel at its own moment: windowed sinc, shape (taps, n_channels)."""
    away = shifts[None, :] - np.arange(-REACH + 1, REACH + 1)[:, None]
    return np.sinc(away) * np.cos(np.pi * away / (2 * REACH + 2)) ** 2
