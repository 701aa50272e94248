"""A simulated recording in memory, for tests and notebooks that need no files."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuro_assets.simulation.clocks import AP_HZ, lay_out
from neuro_assets.simulation.levels import Difficulty, Levels, ProbeModel, levels_of
from neuro_assets.simulation.plan import plan_probe
from neuro_assets.simulation.traces import ProbeSimulation
from neuro_assets.simulation.world import make_world


def simulate_recording(
    duration_s: float = 10.0,
    n_channels: int = 32,
    seed: int = 0,
    *,
    difficulty: Difficulty | Levels = "standard",
    probe_model: ProbeModel = "NP1",
) -> tuple[Any, Any]:
    """One probe's AP band and its true sorting as SpikeInterface objects.

    Parameters
    ----------
    duration_s : float
        Length, s.
    n_channels : int
        Neural channels, 1 to 384.
    seed : int
        Seed.
    difficulty : str or Levels
        One of `levels.NAMED`, or levels of one's own.
    probe_model : str
        `NP1`, `NP2` or `NP2.4`.

    Returns
    -------
    recording : spikeinterface NumpyRecording
        int16 with gains, probe and inter_sample_shift; property `truth_label` says `good`,
        `dead` or `noisy` per channel.
    sorting : spikeinterface NumpySorting
        True spikes; properties amplitude_uv, rate_hz, peak_channel, depth_um, and label where
        some units are multi-unit background.
    """
    from spikeinterface.core import NumpyRecording, NumpySorting

    levels = difficulty if isinstance(difficulty, Levels) else levels_of(difficulty)
    timeline = lay_out(duration_s, 1, 1, levels)
    plan = plan_probe(probe_model, n_channels, timeline, levels, seed, 0)
    simulation = ProbeSimulation(plan, make_world(timeline, [plan]))
    channel_ids = [f"imec0.ap#AP{channel}" for channel in plan.probe.readout]
    traces = np.concatenate([ap for ap, _ in simulation.chunks()])
    recording = NumpyRecording([traces], AP_HZ, channel_ids=channel_ids)
    recording.set_channel_gains(plan.probe.kind.gain_uv("ap"))
    recording.set_channel_offsets(0.0)
    mode = "by_shank" if plan.probe.kind.shanks > 1 else "auto"
    recording.set_probe(plan.probe.probe, group_mode=mode)
    recording.set_property("inter_sample_shift", plan.probe.shifts)
    labels = np.full(n_channels, "good", dtype="U5")
    labels[plan.dead], labels[plan.noisy] = "dead", "noisy"
    recording.set_property("truth_label", labels)
    sorting = NumpySorting.from_samples_and_labels(
        [simulation.spikes["sample"].to_numpy()],
        [simulation.spikes["unit"].to_numpy()],
        AP_HZ,
        unit_ids=simulation.units["unit"].to_list(),
    )
    for name in ("amplitude_uv", "rate_hz", "peak_channel"):
        sorting.set_property(name, simulation.units[name].to_numpy())
    if "label" in simulation.units:
        sorting.set_property("label", simulation.units["label"].to_numpy(dtype=str))
    sorting.set_property("depth_um", simulation.units["y_um"].to_numpy())
    return recording, sorting
