"""The truth of a simulated session, as parquet and JSON; the pipeline never reads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuro_assets.simulation.clocks import AP_HZ, Timeline
from neuro_assets.simulation.levels import Levels
from neuro_assets.simulation.tissue_noise import channel_levels
from neuro_assets.simulation.traces import ProbeSimulation, truth_spikes
from neuro_assets.simulation.world import World

if TYPE_CHECKING:
    from neuro_assets.simulation.face_video import Face
    from neuro_assets.simulation.video import Film

SAMPLE_HZ = 100.0


def write_session(
    folder: Path,
    about: dict[str, Any],
    levels: Levels,
    timeline: Timeline,
    world: World,
    trials: pd.DataFrame,
    film: Film | None,
) -> None:
    """Write what probes share.

    Parameters
    ----------
    folder : Path
        Folder of the truth.
    about : dict
        Arguments of the simulation.
    levels : Levels
        Difficulty.
    timeline : Timeline
        Gates.
    world : World
        Behaviour and brain state.
    trials : DataFrame
        Trials.
    film : Film, optional
        Frames and keypoints.
    """
    about = about | {
        "clock": "session",
        "levels": {name: value for name, value in asdict(levels).items() if value is not None},
        "gate_starts_s": list(timeline.starts),
        "gate_duration_s": timeline.gate_s,
    }
    text = json.dumps(about, indent=1, sort_keys=True)
    (folder / "session.json").write_text(text + "\n", encoding="utf-8")
    times = np.arange(0, timeline.stop, 1 / SAMPLE_HZ)
    speed = world.speed(times)
    position = pd.DataFrame(
        {"session_s": times, "position_cm": world.position(times), "speed_cm_s": speed}
    )
    position["still"] = _within(times, world.still)
    phase = np.interp(times, world.times, world.theta_phase)
    theta = pd.DataFrame({"session_s": times, "phase_rad": np.angle(np.exp(1j * phase))})
    theta["amplitude"] = np.interp(times, world.times, world.theta_amplitude)
    tables = {
        "position": position,
        "theta": theta,
        "laps": world.runs[world.runs["stop_s"] <= timeline.stop],
        "ripples": world.ripples,
        "bursts": world.bursts,
        "trials": trials,
    }
    if film is not None:
        tables |= {"frames": film.frames, "keypoints": film.keypoints}
    for name, table in tables.items():
        _write(folder, name, table)


def write_devices(folder: Path, clocks: pd.DataFrame, tracking: pd.DataFrame, wheel: World) -> None:
    """Write what the devices' clocks, the tracker and the wheel truly did.

    Parameters
    ----------
    folder : Path
        Folder of the truth.
    clocks : DataFrame
        From `device_clocks.clock_table`.
    tracking : DataFrame
        From `tracking.make_tracking`.
    wheel : World
        From `tracking.with_slip`.
    """
    times = np.arange(0, wheel.times[-1], 1 / SAMPLE_HZ)
    turned = pd.DataFrame({"session_s": times, "wheel_cm": wheel.position(times)})
    for name, table in {"device_clocks": clocks, "tracking": tracking, "wheel": turned}.items():
        _write(folder, name, table)


def write_face(folder: Path, face: Face) -> None:
    """Write what the face camera sees.

    Parameters
    ----------
    folder : Path
        Folder of the truth.
    face : Face
        From `face_video.plan_face`.
    """
    tables = {
        "face_frames": face.frames,
        "face_keypoints": face.keypoints,
        "licks": face.licks,
        "blinks": face.blinks,
    }
    for name, table in tables.items():
        _write(folder, name, table)


def probe_tables(simulation: ProbeSimulation, pulses: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables of one probe.

    Parameters
    ----------
    simulation : ProbeSimulation
        The probe.
    pulses : DataFrame
        What it saw of the sync pulses.

    Returns
    -------
    dict of str to DataFrame
        By name.
    """
    plan = simulation.plan
    probe = f"probe{plan.number:02d}"
    spikes = truth_spikes(simulation)
    units = simulation.units.copy()
    units.insert(0, "probe", probe)
    counts = np.bincount(spikes["unit"], minlength=len(units))
    units["n_spikes"] = counts
    units["depth_um"] = units["y_um"]
    tables = {
        "spikes": spikes,
        "units": units,
        "channels": _channels(simulation),
        "saturation": _samples_table(simulation, simulation.saturation_samples()),
        "ripple_samples": _ripple_samples(simulation),
        "drift": _drift(simulation),
        "sync_map": _sync_map(simulation),
        "pulses": _pulses(simulation, pulses),
        "layers": pd.DataFrame(
            {
                "pyramidal_um": [simulation.mixing.layer_um],
                "ripple_width_um": [simulation.mixing.width_um],
                "channel": [simulation.mixing.layer_channel],
            }
        ),
    }
    if plan.levels.recording:
        tables["channels"]["noise_uv"] = channel_levels(plan, plan.levels.recording)
        tables["artefacts"] = _artefacts(simulation)
    if simulation.mixing.currents is not None:
        tables["currents"] = simulation.mixing.currents.copy()
    return {name: _named(table, probe) for name, table in tables.items()}


def write_probes(folder: Path, tables: list[dict[str, pd.DataFrame]]) -> None:
    """Write the tables of all probes, one file a table.

    Parameters
    ----------
    folder : Path
        Folder of the truth.
    tables : list of dict
        From `probe_tables`, one a probe.
    """
    for name in tables[0]:
        _write(folder, name, pd.concat([t[name] for t in tables], ignore_index=True))


def _named(table: pd.DataFrame, probe: str) -> pd.DataFrame:
    if "probe" not in table:
        table.insert(0, "probe", probe)
    return table


def _write(folder: Path, name: str, table: pd.DataFrame) -> None:
    table.to_parquet(folder / f"{name}.parquet", index=False)


def _within(times: np.ndarray, intervals: list[tuple[float, float]]) -> np.ndarray:
    inside = np.zeros(len(times), dtype=bool)
    for start, stop in intervals:
        inside |= (times >= start) & (times < stop)
    return inside


def _channels(simulation: ProbeSimulation) -> pd.DataFrame:
    plan = simulation.plan
    label = np.full(plan.probe.n_channels, "good", dtype="U5")
    label[plan.dead], label[plan.noisy] = "dead", "noisy"
    return pd.DataFrame(
        {
            "channel": np.arange(plan.probe.n_channels),
            "channel_id": [f"imec{plan.number}.ap#AP{c}" for c in plan.probe.readout],
            "x_um": plan.probe.positions[:, 0],
            "y_um": plan.probe.positions[:, 1],
            "shank": plan.probe.shanks,
            "label": label,
        }
    )


def _samples_table(simulation: ProbeSimulation, bounds: np.ndarray) -> pd.DataFrame:
    """Events as gate, start_sample and stop_sample in the gate's AP recording."""
    n = simulation.plan.clock.samples_per_gate
    return pd.DataFrame(
        {
            "gate": bounds[:, 0] // n,
            "start_sample": bounds[:, 0] % n,
            "stop_sample": bounds[:, 0] % n + bounds[:, 1] - bounds[:, 0],
        }
    )


def _artefacts(simulation: ProbeSimulation) -> pd.DataFrame:
    """Artefacts that begin and end while the probe records."""
    assert simulation.artefacts is not None
    clock, events = simulation.plan.clock, simulation.artefacts.events
    bounds = [clock.samples(events[name].to_numpy(float)) for name in ("start_s", "stop_s")]
    seen = (bounds[0] >= 0) & (bounds[1] >= 0)
    table = _samples_table(simulation, np.column_stack(bounds)[seen])
    return table.join(events[seen].reset_index(drop=True))


def _ripple_samples(simulation: ProbeSimulation) -> pd.DataFrame:
    """Ripples in samples of this probe, with the amplitude on the layer's channel."""
    clock, ripples = simulation.plan.clock, simulation.world.ripples
    start, stop = (clock.samples(ripples[name].to_numpy(float)) for name in ("start_s", "stop_s"))
    table = _samples_table(simulation, np.column_stack([start, stop]))
    table.insert(0, "ripple", np.arange(len(ripples)))
    table["amplitude_uv"] = simulation.ripple_uv
    return table


def _drift(simulation: ProbeSimulation) -> pd.DataFrame:
    times = np.arange(0, simulation.plan.drift.stop_s, 0.1)
    return pd.DataFrame({"session_s": times, "drift_um": simulation.plan.drift.at(times)})


def _sync_map(simulation: ProbeSimulation) -> pd.DataFrame:
    """Pieces of the clock: session time = session_s + (sample - start_sample) / rate_hz."""
    clock = simulation.plan.clock
    rows = []
    for piece in clock.pieces:
        first = clock.first_samples[piece.gate]
        rows.append(
            {
                "gate": piece.gate,
                "start_sample": piece.start,
                "stop_sample": piece.stop,
                "session_s": piece.time,
                "rate_hz": piece.rate,
                "ppm": clock.ppm,
                "first_sample": first,
                "offset_s": (first + piece.start) / AP_HZ - piece.time,
            }
        )
    return pd.DataFrame(rows)


def _pulses(simulation: ProbeSimulation, pulses: pd.DataFrame) -> pd.DataFrame:
    n = simulation.plan.clock.samples_per_gate
    running = pulses["sample"].to_numpy()
    recorded = running >= 0
    return pd.DataFrame(
        {
            "session_s": pulses["rise_s"],
            "status": pulses["status"].where(recorded, "not recorded"),
            "gate": np.where(recorded, running // n, -1),
            "sample_index": np.where(recorded, running % n, -1),
        }
    )
