"""Noise of the AP band: an independent part per channel and a part that neighbours share.

The shared part is sampled by each channel at its own moment, as the converters do.
"""

from __future__ import annotations

import numpy as np

from neuro_assets.simulation.clocks import AP_HZ
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.probes import SimulatedProbe
from neuro_assets.simulation.rng import FloatArray

HIGH_PASS_HZ = 300.0
HIGH_PASS_ORDER = 3
LATENT_SPACING_UM = 80.0
LATENT_WIDTH_UM = 110.0
KERNEL_SD_SAMPLES = 0.8
KERNEL_REACH = 3
NOISY_FACTOR = 6.0
DEAD_NOISE_UV = 0.8


def high_pass() -> FloatArray:
    """Design the filter after which noise is levelled: 300 Hz Butterworth, order 3, sections."""
    from scipy.signal import butter

    return butter(HIGH_PASS_ORDER, HIGH_PASS_HZ, btype="highpass", fs=AP_HZ, output="sos")


def passed_power(impulse: FloatArray) -> float:
    """Variance that white noise of variance 1 keeps after an impulse response and the high-pass.

    The high-pass runs forwards and backwards, as the field applies it.

    Parameters
    ----------
    impulse : ndarray
        Impulse response before the high-pass.

    Returns
    -------
    float
        Variance.
    """
    from scipy.signal import sosfiltfilt

    padded = np.zeros(16384)
    padded[8192 : 8192 + len(impulse)] = impulse
    return float(np.sum(sosfiltfilt(high_pass(), padded) ** 2))


class NoiseMaker:
    """Noise of one probe in successive chunks.

    The shared part of its variance is half common to the shank, and half falls off with distance.

    Parameters
    ----------
    plan : ProbePlan
        Geometry, sampling moments, bad channels and levels.
    leak_uv2 : ndarray
        Variance per channel after the high-pass that the field potential adds; it counts as
        shared, uV^2.
    """

    def __init__(self, plan: ProbePlan, leak_uv2: FloatArray) -> None:
        probe, noise_uv, shared = plan.probe, plan.levels.noise_uv, plan.levels.correlated_fraction
        self._rng = plan.rng("noise")
        total = noise_uv**2
        rounding = probe.kind.gain_uv("ap") ** 2 / 12
        own = np.sqrt(max((1 - shared) * total - rounding, 0.0) / passed_power(np.ones(1)))
        self._own = np.full(probe.n_channels, own, dtype=np.float32)
        self._own[plan.noisy] = NOISY_FACTOR * noise_uv
        self._own[plan.dead] = DEAD_NOISE_UV
        weights = _latent_weights(probe)
        taps = np.arange(-KERNEL_REACH, KERNEL_REACH + 2)
        # Latent sample k reaches channel c at sample n by the kernel at n + shift - k.
        kernel = np.exp(
            -((probe.shifts[:, None] - taps[None, :]) ** 2) / (2 * KERNEL_SD_SAMPLES**2)
        )
        power = passed_power(np.exp(-(taps**2) / (2 * KERNEL_SD_SAMPLES**2)))
        scale = np.sqrt(np.clip(shared * total - leak_uv2, 0, None) / power)
        scale[plan.dead] = 0
        mixed = kernel.T[:, None, :] * weights[None, :, :] * scale
        self._mix = mixed.reshape(-1, probe.n_channels).astype(np.float32)
        self._n_latents, self._n_taps = len(weights), len(taps)
        self._tail = self._draw(self._n_taps - 1)

    def next(self, n: int) -> np.ndarray:
        """Next n samples, shape (n, n_channels), uV, float32."""
        latent = np.concatenate([self._tail, self._draw(n)])
        self._tail = latent[n:]
        # Successive rows lie one after another in memory, so the taps of one sample do too.
        windows = np.lib.stride_tricks.as_strided(
            latent,
            shape=(n, self._n_taps * self._n_latents),
            strides=latent.strides,
            writeable=False,
        )
        traces = self._rng.standard_normal((n, len(self._own)), dtype=np.float32)
        traces *= self._own
        traces += windows @ self._mix
        return traces

    def _draw(self, n: int) -> np.ndarray:
        return self._rng.standard_normal((n, self._n_latents), dtype=np.float32)


def _latent_weights(probe: SimulatedProbe) -> FloatArray:
    """Weights of the latent sources, shape (n_latents, n_channels), unit power per channel."""
    rows = [np.ones(probe.n_channels)]
    for shank in np.unique(probe.shanks):
        on = probe.shanks == shank
        depth = probe.positions[:, 1]
        low, high = depth[on].min() - 2 * LATENT_WIDTH_UM, depth[on].max() + 2 * LATENT_WIDTH_UM
        for center in np.arange(low, high + LATENT_SPACING_UM, LATENT_SPACING_UM):
            rows.append(np.exp(-((depth - center) ** 2) / (2 * LATENT_WIDTH_UM**2)) * on)
    weights = np.array(rows)
    weights[1:] /= np.sqrt(np.sum(weights[1:] ** 2, axis=0))
    return weights * np.sqrt(0.5)
