"""The local field potential of one probe: a few sources in time, and how channels see them.

Sources are made block by block on the LF grid (2.5 kHz), so that memory does not grow with the
recording; the AP band takes them interpolated to 30 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuro_assets.simulation.artefacts import Artefacts
from neuro_assets.simulation.clocks import LF_HZ, LF_STEP
from neuro_assets.simulation.current_sources import levelled
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.rng import FloatArray
from neuro_assets.simulation.tissue_noise import power_law
from neuro_assets.simulation.world import World

BACKGROUND_UV = 140.0
BACKGROUND_CORNER_HZ = 2.0
BACKGROUND_CUTOFF_HZ = 260.0
THETA_UV = 220.0
SHARP_WAVE_UV = 200.0
LF_NOISE_UV = 3.0
RIPPLE_BAND_HZ = (150.0, 250.0)
LATENT_SPACING_UM = 300.0
LAYER_UM = 80.0
HALF_TAPS = 8
N_SHARED = 4
"""Sources before the background: theta (two, a quarter turn apart), sharp wave, ripple."""


@dataclass(frozen=True)
class Mixing:
    """How channels see the sources.

    Parameters
    ----------
    weights : ndarray
        Shape (n_sources, n_channels).
    layer_um : float
        Depth of the pyramidal layer, um from the lowest contact.
    width_um : float
        Standard deviation of the ripple's profile over depth, um.
    layer_channel : int
        Good channel nearest to the layer.
    currents : DataFrame or None
        From `current_sources.levelled`, where the levels have a network.
    """

    weights: FloatArray
    layer_um: float
    width_um: float
    layer_channel: int
    currents: pd.DataFrame | None = None


def make_mixing(plan: ProbePlan) -> Mixing:
    """Place the pyramidal layer and the background's latent sources.

    Parameters
    ----------
    plan : ProbePlan
        Geometry; bad channels cannot stand for the layer.

    Returns
    -------
    Mixing
        Weights; the ripple's is 1 on the layer's channel.
    """
    rng = plan.rng("layer")
    depth = plan.probe.positions[:, 1]
    span = max(float(np.ptp(depth)), 1.0)
    layer = float(depth.min() + rng.uniform(0.5, 0.75) * span)
    network = plan.levels.network
    # Currents are as wide as the tissue's layers, however short the probe: squeezed onto it, they
    # would have to be thousands of times as dense for the same potential.
    width = network.layer_um if network else min(LAYER_UM, span / 5)
    good = np.setdiff1d(np.arange(plan.probe.n_channels), plan.bad)
    channel = int(good[np.argmin(np.abs(depth[good] - layer))])
    turn = np.pi / (1 + np.exp((depth - layer) / (0.5 * width)))
    gain = THETA_UV * (0.5 + np.clip(np.abs(depth - layer) / (3 * width), 0, 1))
    below = np.exp(-((depth - layer + 2 * width) ** 2) / (2 * (1.5 * width) ** 2))
    ripple = np.exp(-((depth - layer) ** 2) / (2 * width**2))
    rows = [gain * np.cos(turn), gain * np.sin(turn), -SHARP_WAVE_UV * below]
    rows.append(ripple / ripple[channel])
    recording = plan.levels.recording
    rows += list(_background_weights(depth, recording.field_uv if recording else BACKGROUND_UV))
    if network is None:
        return Mixing(np.array(rows), layer, width, channel)
    sizes = np.array([THETA_UV, THETA_UV / 2, SHARP_WAVE_UV, 1.0])
    currents, seen = levelled(layer, sizes, depth, network)
    ripple_uv = seen[3, channel]
    currents.loc[currents["source"] == "ripple", ["csd_ua_mm3", "potential_uv"]] /= ripple_uv
    seen[3] /= ripple_uv
    return Mixing(np.vstack([seen, *rows[N_SHARED:]]), layer, width, channel, currents)


def _background_weights(depth: FloatArray, size_uv: float) -> FloatArray:
    """One source common to all channels and smooth bumps along the depth, half the power each."""
    centers = np.arange(depth.min(), depth.max() + LATENT_SPACING_UM, LATENT_SPACING_UM)
    bumps = np.exp(-((depth - centers[:, None]) ** 2) / (2 * (0.8 * LATENT_SPACING_UM) ** 2))
    bumps /= np.sqrt(np.sum(bumps**2, axis=0))
    weights = np.vstack([np.ones((1, len(depth))), bumps])
    return weights * size_uv * np.sqrt(0.5)


class Background:
    """Unit-variance noise that falls with frequency, low-passed, in successive blocks.

    Parameters
    ----------
    n_sources : int
        Independent sources.
    rng : numpy.random.Generator
        Source of randomness.
    exponent : float, optional
        Its power falls as frequency to minus this; without, it is brown noise.
    """

    def __init__(
        self, n_sources: int, rng: np.random.Generator, exponent: float | None = None
    ) -> None:
        from scipy.signal import butter, sosfilt

        self._rng = rng
        self._n = n_sources
        self._keep = float(np.exp(-2 * np.pi * BACKGROUND_CORNER_HZ / LF_HZ))
        self._sos = butter(4, BACKGROUND_CUTOFF_HZ, fs=LF_HZ, output="sos")
        self._power = 1.0
        if exponent is not None:
            colour = power_law(BACKGROUND_CORNER_HZ, BACKGROUND_CUTOFF_HZ, exponent, LF_HZ)
            self._keep, self._sos = 0.0, np.concatenate([colour, self._sos])
            self._power = float(np.sum(sosfilt(self._sos, np.eye(1, 8 * LF_HZ)[0]) ** 2))
        self._memory = rng.standard_normal((1, n_sources)) * self._keep
        self._state = np.zeros((len(self._sos), 2, n_sources))
        if exponent is not None:
            self.next(2 * LF_HZ)

    def next(self, n: int) -> FloatArray:
        """Next n samples, shape (n, n_sources)."""
        from scipy.signal import lfilter, sosfilt

        if not n:
            return np.zeros((0, self._n))
        white = self._rng.standard_normal((n, self._n)) * np.sqrt(1 - self._keep**2)
        brown, self._memory = lfilter([1.0], [1.0, -self._keep], white, axis=0, zi=self._memory)
        smooth, self._state = sosfilt(self._sos, brown, axis=0, zi=self._state)
        return smooth / np.sqrt(self._power)


class Sources:
    """All sources of one probe, in successive blocks of the LF grid.

    Parameters
    ----------
    world : World
        Theta, ripples.
    plan : ProbePlan
        When each sample was taken.
    mixing : Mixing
        As many background sources as it has.
    amplitudes : ndarray
        Ripple amplitudes, uV on the layer's channel.
    artefacts : Artefacts, optional
        They become one more source, after the others.
    """

    def __init__(
        self,
        world: World,
        plan: ProbePlan,
        mixing: Mixing,
        amplitudes: FloatArray,
        artefacts: Artefacts | None = None,
    ) -> None:
        self._world, self._clock, self._amplitudes = world, plan.clock, amplitudes
        recording, n = plan.levels.recording, len(mixing.weights) - N_SHARED
        exponent = recording.field_exponent if recording else None
        self._background = Background(n, plan.rng("background"), exponent)
        self._artefacts = artefacts
        self._position = 0

    def next(self, n: int) -> FloatArray:
        """Next n samples, shape (n, n_sources); uV after mixing."""
        samples = np.arange(self._position, self._position + n)
        self._position += n
        times = self._clock.times(samples * LF_STEP)
        shared = np.zeros((n, N_SHARED))
        phase = np.interp(times, self._world.times, self._world.theta_phase)
        amplitude = np.interp(times, self._world.times, self._world.theta_amplitude)
        shared[:, 0] = amplitude * np.cos(phase)
        shared[:, 1] = amplitude * np.sin(phase)
        self._add_ripples(times, shared)
        own = [self._artefacts.at(times)[:, None]] if self._artefacts else []
        return np.hstack([shared, self._background.next(n), *own])

    def _add_ripples(self, times: FloatArray, shared: FloatArray) -> None:
        ripples = self._world.ripples
        if not len(times):
            return
        reach = 3 * ripples["duration_s"].to_numpy(dtype=float)
        peaks = ripples["peak_s"].to_numpy(dtype=float)
        near = (peaks + reach > times[0]) & (peaks - reach < times[-1])
        for index in np.flatnonzero(near):
            event = ripples.iloc[index]
            wave = ripple_wave(times, event["peak_s"], event["duration_s"], event["frequency_hz"])
            shared[:, 3] += self._amplitudes[index] * wave
            width = event["duration_s"] / 1.5
            shared[:, 2] += np.exp(-((times - event["peak_s"]) ** 2) / (2 * width**2))


def ripple_wave(times: FloatArray, peak: float, duration: float, frequency: float) -> FloatArray:
    """Oscillate under a flat-topped envelope, which is half its peak half a duration away.

    Parameters
    ----------
    times : ndarray
        Session times, s.
    peak : float
        Middle, s.
    duration : float
        Width at half height, s.
    frequency : float
        Hz.

    Returns
    -------
    ndarray
        Between -1 and 1.
    """
    away = times - peak
    envelope = np.exp2(-((2 * np.abs(away) / duration) ** 4))
    return envelope * np.cos(2 * np.pi * frequency * away)


def ripple_amplitudes(world: World, plan: ProbePlan, mixing: Mixing) -> FloatArray:
    """Amplitudes that bring each ripple's envelope to its level above the real background.

    The background is made as it will be written; mean and standard deviation of its envelope are
    taken over the recording (its first two minutes), and each amplitude is solved for in place.

    Parameters
    ----------
    world : World
        Ripples with `peak_sd`.
    plan : ProbePlan
        When each sample was taken.
    mixing : Mixing
        Weights.

    Returns
    -------
    ndarray
        uV on the layer's channel, one a ripple.
    """
    from scipy.signal import butter

    ripples, clock = world.ripples, plan.clock
    band = butter(3, RIPPLE_BAND_HZ, btype="bandpass", fs=LF_HZ, output="sos")
    trace = _layer_background(world, plan, mixing)
    envelope = np.abs(_analytic(trace[: 120 * LF_HZ], band))
    mean, deviation = float(envelope.mean()), float(envelope.std())
    amplitudes = np.zeros(len(ripples))
    peaks = clock.samples(ripples["peak_s"].to_numpy(dtype=float)) // LF_STEP
    for index, peak in enumerate(peaks):
        event = ripples.iloc[index]
        rows = np.arange(max(peak - LF_HZ // 4, 0), min(peak + LF_HZ // 4, len(trace)))
        times = clock.times(rows * LF_STEP)
        wave = ripple_wave(times, event["peak_s"], event["duration_s"], event["frequency_hz"])
        target = mean + event["peak_sd"] * deviation
        core = np.abs(times - event["peak_s"]) <= event["duration_s"] / 2
        ground, unit = _analytic(trace[rows], band)[core], _analytic(wave, band)[core]
        amplitudes[index] = _solve(ground, unit, target)
    return amplitudes


def _layer_background(world: World, plan: ProbePlan, mixing: Mixing) -> FloatArray:
    """Make the layer channel's LF trace without ripples, uV."""
    sources = Sources(world, plan, mixing, np.zeros(len(world.ripples)))
    noise = plan.rng("layer noise")
    weights = mixing.weights[:, mixing.layer_channel]
    left = plan.clock.n_samples // LF_STEP
    blocks = []
    while left > 0:
        n = min(left, 10 * LF_HZ)
        blocks.append(sources.next(n) @ weights + LF_NOISE_UV * noise.standard_normal(n))
        left -= n
    return np.concatenate(blocks)


def _analytic(trace: FloatArray, band: FloatArray) -> np.ndarray:
    from scipy.signal import hilbert, sosfiltfilt

    return hilbert(sosfiltfilt(band, trace, padlen=min(300, len(trace) - 1)))


def _solve(ground: np.ndarray, unit: np.ndarray, target: float) -> float:
    """Amplitude at which the largest magnitude of ground + amplitude x unit is the target."""
    low, high = 0.0, 4 * target / max(float(np.abs(unit).max()), 1e-9)
    for _ in range(40):
        middle = (low + high) / 2
        if float(np.abs(ground + middle * unit).max()) < target:
            low = middle
        else:
            high = middle
    return high


def interpolation_kernel(delay: float = 0.0) -> FloatArray:
    """Windowed sinc from the LF to the AP grid, shape (2 * HALF_TAPS, LF_STEP).

    Parameters
    ----------
    delay : float
        How much later than the grid a channel is sampled, in LF samples, 0 to 1.

    Returns
    -------
    ndarray
        Shape (2 * HALF_TAPS, LF_STEP).
    """
    steps = np.arange(LF_STEP) / LF_STEP + delay
    taps = np.arange(-HALF_TAPS + 1, HALF_TAPS + 1)[:, None] - steps[None, :]
    kernel = (
        np.sinc(taps)
        * np.kaiser(4001, 6.0)[np.clip(np.rint((taps / HALF_TAPS + 1) * 2000), 0, 4000).astype(int)]
    )
    return kernel / kernel.sum(axis=0)


def upsample(block: FloatArray, kernel: FloatArray) -> FloatArray:
    """Interpolate sources to the AP grid.

    Parameters
    ----------
    block : ndarray
        Shape (n + 2 * HALF_TAPS - 1, n_sources): HALF_TAPS - 1 samples before, HALF_TAPS after.
    kernel : ndarray
        From `interpolation_kernel`.

    Returns
    -------
    ndarray
        Shape (n * LF_STEP, n_sources).
    """
    windows = np.lib.stride_tricks.sliding_window_view(block, 2 * HALF_TAPS, axis=0)
    fine = windows @ kernel
    return fine.transpose(0, 2, 1).reshape(-1, block.shape[1])
