"""The recording of one probe, chunk by chunk: noise, field potential, spikes, faults, converter.

This is where everything about a probe comes together; files are written elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from neuro_assets.simulation.artefacts import Artefacts
from neuro_assets.simulation.clocks import AP_HZ, LF_HZ, LF_STEP
from neuro_assets.simulation.noise import NoiseMaker, high_pass
from neuro_assets.simulation.plan import ProbePlan
from neuro_assets.simulation.rng import FloatArray, IntArray
from neuro_assets.simulation.spikes import make_spikes
from neuro_assets.simulation.tissue_noise import TissueNoise
from neuro_assets.simulation.units import (
    N_BEFORE,
    Footprint,
    displacement_grid,
    make_footprints,
    make_units,
    nearest,
)
from neuro_assets.simulation.world import World

from . import lfp

CHUNK = 12_000
"""AP samples per chunk: 0.4 s, 18 MB of 384 channels in single precision."""
AP_CORNER_HZ = 300.0
SATURATION_FACTOR = 1.5


class ProbeSimulation:
    """Everything of one probe that the world determines, and its samples on demand.

    Parameters
    ----------
    plan : ProbePlan
        Probe, clock, faults.
    world : World
        Behaviour and brain state.

    Attributes
    ----------
    units : DataFrame
        From `units.make_units`, with `peak_channel`.
    spikes : DataFrame
        From `spikes.make_spikes`.
    mixing : Mixing
        Where the pyramidal layer is.
    ripple_uv : ndarray
        Amplitude of each ripple on the layer's channel, uV.
    artefacts : Artefacts or None
        Where the levels have them.
    """

    def __init__(self, plan: ProbePlan, world: World) -> None:
        self.plan, self.world = plan, world
        self.units = make_units(plan)
        self.spikes = make_spikes(self.units, world, plan)
        self._footprints = make_footprints(self.units, plan)
        self.units["peak_channel"] = [_peak(f) for f in self._footprints]
        self.mixing = lfp.make_mixing(plan)
        self.ripple_uv = lfp.ripple_amplitudes(world, plan, self.mixing)
        recording = plan.levels.recording
        self.artefacts = Artefacts(world, recording, plan.seed) if recording else None

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """All samples in order: int16 AP (n, channels) and LF (n / 12, channels) or None.

        The chunks cut across gates and triggers; each holds at most `CHUNK` samples and a whole
        number of LF samples.
        """
        plan, kind = self.plan, self.plan.probe.kind
        noise = self.noise()
        field = _FieldPotential(self, self._weights())
        lf_noise, layer_noise = plan.rng("lf noise"), plan.rng("layer noise")
        spikes = self._injection()
        for start in range(0, plan.clock.n_samples, CHUNK):
            stop = min(start + CHUNK, plan.clock.n_samples)
            slow, fast = field.next((stop - start) // LF_STEP)
            traces = noise.next(stop - start)
            traces += fast.astype(np.float32)
            self._inject(traces, start, spikes)
            ap = self._convert(traces, start, 1, "ap")
            lf = None
            if kind.has_lf:
                slow += self._lf_noise(lf_noise, layer_noise, len(slow))
                lf = self._convert(slow.astype(np.float32), start, LF_STEP, "lf")
            yield ap, lf

    def noise(self) -> NoiseMaker | TissueNoise:
        """Noise of the AP band from its first sample on."""
        return (TissueNoise if self.plan.levels.recording else NoiseMaker)(self.plan, self._leak())

    def _weights(self) -> FloatArray:
        """How channels see the sources, artefacts last: nearly equally, for they come from afar."""
        weights, plan = self.mixing.weights.copy(), self.plan
        if self.artefacts:
            seen = plan.rng("artefacts seen").uniform(0.85, 1.0, plan.probe.n_channels)
            weights = np.vstack([weights, seen])
        weights[:, plan.dead] = 0
        return weights

    def _lf_noise(self, rng: np.random.Generator, layer: np.random.Generator, n: int) -> np.ndarray:
        noise = rng.standard_normal((n, self.plan.probe.n_channels)) * lfp.LF_NOISE_UV
        # The very noise against which the ripples were levelled.
        noise[:, self.mixing.layer_channel] = layer.standard_normal(n) * lfp.LF_NOISE_UV
        noise[:, self.plan.noisy] *= 5
        noise[:, self.plan.dead] *= 0.2
        return noise

    def _leak(self) -> FloatArray:
        """Variance that the background field leaves in the AP band after the high-pass, uV^2."""
        from scipy.signal import sosfiltfilt

        recording = self.plan.levels.recording
        exponent = recording.field_exponent if recording else None
        background = lfp.Background(1, self.plan.rng("leak"), exponent)
        block = np.pad(background.next(8 * LF_HZ), ((lfp.HALF_TAPS - 1, lfp.HALF_TAPS), (0, 0)))
        fine = lfp.upsample(block, lfp.interpolation_kernel())
        if self.plan.probe.kind.has_lf:
            fine = _first_order(fine)[0]
        variance = float(np.var(sosfiltfilt(high_pass(), fine, axis=0)[AP_HZ:-AP_HZ]))
        return variance * np.sum(self.mixing.weights[lfp.N_SHARED :] ** 2, axis=0)

    def _injection(self) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
        """Spikes as arrays: sample, unit, factor, displacement index."""
        samples = self.spikes["sample"].to_numpy(dtype=np.int64)
        moved = self.plan.drift.at(self.plan.clock.times(samples))
        return (
            samples,
            self.spikes["unit"].to_numpy(dtype=np.int64),
            self.spikes["factor"].to_numpy(dtype=float),
            nearest(displacement_grid(self.plan.drift), moved),
        )

    def _inject(
        self,
        traces: np.ndarray,
        start: int,
        spikes: tuple[IntArray, IntArray, FloatArray, IntArray],
    ) -> None:
        """Add the spikes that touch a chunk, in place."""
        samples, units, factors, moved = spikes
        length = self._footprints[0].waveforms.shape[1]
        first = np.searchsorted(samples, start - length)
        last = np.searchsorted(samples, start + len(traces) + N_BEFORE)
        for i in range(first, last):
            shape = self._footprints[units[i]]
            begin = samples[i] - N_BEFORE - start
            low, high = max(begin, 0), min(begin + length, len(traces))
            if low >= high:
                continue
            wave = shape.waveforms[moved[i], low - begin : high - begin]
            traces[low:high, shape.channels] += (factors[i] * wave).astype(np.float32)

    def _convert(self, traces: np.ndarray, start: int, step: int, band: str) -> np.ndarray:
        """Saturate, scale, round and clip to the converter's range."""
        plan, kind = self.plan, self.plan.probe.kind
        samples = start + np.arange(len(traces)) * step
        alive = np.setdiff1d(np.arange(plan.probe.n_channels), plan.dead)
        full = SATURATION_FACTOR * kind.max_int * kind.gain_uv(band)
        for number, (low, high) in enumerate(self.saturation_samples()):
            rows = np.flatnonzero((samples >= low) & (samples < high))
            if len(rows):
                traces[np.ix_(rows, alive)] += full if number % 2 == 0 else -full
        traces *= 1 / kind.gain_uv(band)
        np.rint(traces, out=traces)
        np.clip(traces, -kind.max_int, kind.max_int - 1, out=traces)
        return traces.astype(np.int16)

    def saturation_samples(self) -> IntArray:
        """First and last-plus-one samples (running count) of saturation events, shape (n, 2)."""
        first = self.plan.clock.samples(self.plan.saturation)
        length = round(self.plan.levels.saturation_s * AP_HZ)
        return np.column_stack([first, first + length])


def _peak(footprint: Footprint) -> int:
    middle = footprint.waveforms[len(footprint.waveforms) // 2]
    return int(footprint.channels[np.argmin(middle.min(axis=0))])


def _first_order(
    traces: FloatArray, state: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """High-pass of a Neuropixels 1.0 AP band: first order at 300 Hz, settled on the first value."""
    from scipy.signal import butter, lfilter, lfilter_zi

    b, a = butter(1, AP_CORNER_HZ, btype="highpass", fs=AP_HZ)
    state = lfilter_zi(b, a)[:, None] * traces[:1] if state is None else state
    return lfilter(b, a, traces, axis=0, zi=state)


class _FieldPotential:
    """What the sources do on each channel, on both grids, in step.

    Channels of one converter are sampled one after the other; the two first levels know that of
    noise and spikes only, so that their recordings stay as they are.
    """

    def __init__(self, simulation: ProbeSimulation, weights: FloatArray) -> None:
        plan = simulation.plan
        self._sources = lfp.Sources(
            simulation.world, plan, simulation.mixing, simulation.ripple_uv, simulation.artefacts
        )
        self._weights = weights
        is_multiplexed = plan.levels.number is not None
        shifts = plan.probe.shifts if is_multiplexed else np.zeros(plan.probe.n_channels)
        self._slots = [_Slot(shift, shifts == shift) for shift in np.unique(shifts)]
        self._high_pass = plan.probe.kind.has_lf
        ahead = self._sources.next(lfp.HALF_TAPS)
        before = np.repeat(ahead[:1], lfp.HALF_TAPS - 1, axis=0)
        self._buffer = np.concatenate([before, ahead])

    def next(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Next n LF samples, and the same stretch on the AP grid as the AP band passes it, uV."""
        block = np.concatenate([self._buffer, self._sources.next(n)])
        self._buffer = block[n:]
        n_channels = self._weights.shape[1]
        slow, fast = np.empty((n, n_channels)), np.empty((n * LF_STEP, n_channels))
        for slot in self._slots:
            weights = self._weights[:, slot.channels]
            slow[:, slot.channels] = slot.coarse(block, n) @ weights
            fine = lfp.upsample(block, slot.ap_kernel)
            if self._high_pass:
                fine, slot.state = _first_order(fine, slot.state)
            fast[:, slot.channels] = fine @ weights
        return slow, fast


class _Slot:
    """The channels that are sampled at one moment, `shift` samples of either band late."""

    def __init__(self, shift: float, channels: np.ndarray) -> None:
        self.channels = np.flatnonzero(channels)
        self.ap_kernel = lfp.interpolation_kernel(shift / LF_STEP)
        self._lf_kernel = lfp.interpolation_kernel(shift)[:, :1] if shift else None
        self.state: FloatArray | None = None

    def coarse(self, block: FloatArray, n: int) -> FloatArray:
        """Give the sources at the moments of the LF samples, shape (n, n_sources)."""
        if self._lf_kernel is None:
            return block[lfp.HALF_TAPS - 1 : lfp.HALF_TAPS - 1 + n]
        windows = np.lib.stride_tricks.sliding_window_view(block, 2 * lfp.HALF_TAPS, axis=0)
        return (windows @ self._lf_kernel)[:n, :, 0]


def truth_spikes(simulation: ProbeSimulation) -> pd.DataFrame:
    """Spikes with gate, sample index in the gate's recording, and whether saturation hides them.

    Parameters
    ----------
    simulation : ProbeSimulation
        The probe.

    Returns
    -------
    DataFrame
        probe, gate, sample_index, unit, amplitude_uv, in_saturation.
    """
    plan = simulation.plan
    samples = simulation.spikes["sample"].to_numpy(dtype=np.int64)
    amplitude = simulation.units["amplitude_uv"].to_numpy()[simulation.spikes["unit"]]
    hidden = np.zeros(len(samples), dtype=bool)
    for low, high in simulation.saturation_samples():
        hidden |= (samples >= low) & (samples < high)
    return pd.DataFrame(
        {
            "probe": f"probe{plan.number:02d}",
            "gate": samples // plan.clock.samples_per_gate,
            "sample_index": samples % plan.clock.samples_per_gate,
            "unit": simulation.spikes["unit"],
            "amplitude_uv": amplitude * simulation.spikes["factor"],
            "in_saturation": hidden,
        }
    )
