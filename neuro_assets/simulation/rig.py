"""Everything of a rig that is not a probe: digital lines, trials, wheel, and their raw files.

The raw files follow IBL's names and columns where those are simple. Times in files are on the
session clock where the levels have no `clocks`, else on the clock of the device that wrote them.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.simulation.clocks import NIDQ_HZ, PULSE_HIGH_S, Timeline, levels_at
from neuro_assets.simulation.device_clocks import DeviceClock
from neuro_assets.simulation.rng import FloatArray, IntArray, rows, stream
from neuro_assets.simulation.spikeglx_files import RANGE_NI_V
from neuro_assets.simulation.world import World

# Digital lines as IBL wires them (ibllib, ephys_fpga.CHMAPS, "3B").
CAMERA, FACE_CAMERA = 0, 1
SYNC, CUE_LIGHT, WHEEL_A, WHEEL_B, AUDIO = 3, 4, 5, 6, 7
IMEC_SYNC_BIT = 6
WHEEL_RADIUS_CM = 3.1
WHEEL_CYCLES = 1024
CAMERA_HIGH_S = 0.005
AUDIO_HIGH_S = 0.1
TTL_V = 3.3
NI_NOISE_COUNTS = 6.0

WIRING: dict[str, Any] = {
    "SYSTEM": "3B",
    "SYNC_WIRING_DIGITAL": {
        "P0.0": "left_camera",
        "P0.1": None,
        "P0.2": None,
        "P0.3": "imec_sync",
        "P0.4": "frame2ttl",
        "P0.5": "rotary_encoder_0",
        "P0.6": "rotary_encoder_1",
        "P0.7": "audio",
    },
    "SYNC_WIRING_ANALOG": {"AI0": "bpod", "AI1": "imec_sync"},
}
PROBE_WIRING = {"SYSTEM": "3B", "SYNC_WIRING_DIGITAL": {"P0.6": "imec_sync"}}


def wiring(face_camera: bool) -> dict[str, Any]:
    """Say which line is what on the NIDQ.

    Parameters
    ----------
    face_camera : bool
        Whether the rig has a second camera.

    Returns
    -------
    dict
        As IBL's wiring files.
    """
    digital = WIRING["SYNC_WIRING_DIGITAL"] | {"P0.1": "right_camera" if face_camera else None}
    return WIRING | {"SYNC_WIRING_DIGITAL": digital}


def make_trials(world: World, seed: int) -> pd.DataFrame:
    """One trial a traversal: a light at the far end, a run, a reward.

    Parameters
    ----------
    world : World
        Runs.
    seed : int
        Seed of the session.

    Returns
    -------
    DataFrame
        Names as in IBL's trials table, times in s of session time; only trials that end before
        the session does.
    """
    rng = stream(seed, "trials")
    runs = world.runs[world.runs["stop_s"] + 1.0 < world.times[-1]]
    n = len(runs)
    cue = runs["start_s"].to_numpy() - rng.uniform(0.3, 0.8, n)
    reward = runs["stop_s"].to_numpy() + rng.uniform(0.02, 0.08, n)
    return pd.DataFrame(
        {
            "intervals_0": cue - 0.1,
            "intervals_1": reward + 0.5,
            "stimOn_times": cue,
            "goCue_times": cue + 0.002,
            "firstMovement_times": runs["start_s"].to_numpy() + 0.1,
            "response_times": runs["stop_s"].to_numpy(),
            "feedback_times": reward,
            "stimOff_times": reward + 0.3,
            "feedbackType": np.ones(n, dtype=int),
            "choice": runs["direction"].to_numpy(),
            "rewardVolume": np.full(n, 3.0),
        }
    )


def wheel_edges(world: World) -> tuple[FloatArray, IntArray]:
    """Find when the encoder's quadrature count changes, and the count afterwards.

    Parameters
    ----------
    world : World
        Position.

    Returns
    -------
    times : ndarray
        s.
    counts : ndarray
        Quarter cycles since the session's start.
    """
    quarter = 2 * np.pi * WHEEL_RADIUS_CM / (4 * WHEEL_CYCLES)
    exact = (world.position_cm - world.position_cm[0]) / quarter
    whole = np.floor(exact + 0.5).astype(np.int64)
    change = np.diff(whole)
    row = np.repeat(np.arange(len(change)), np.abs(change))
    step = np.sign(change)[row]
    # Which crossing it is within its interval of the grid: 1, 2, ...
    place = np.arange(len(row)) - np.repeat(
        np.concatenate([[0], np.cumsum(np.abs(change))[:-1]]), np.abs(change)
    )
    counts = whole[row] + step * (place + 1)
    part = (counts - 0.5 * step - exact[row]) / (exact[row + 1] - exact[row])
    times = world.times[row] + np.clip(part, 0, 1) * (world.times[row + 1] - world.times[row])
    return times, counts


def line_edges(
    trials: pd.DataFrame,
    world: World,
    pulses: FloatArray,
    frames: FloatArray,
    face_frames: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Session times at which each line toggles, all beginning low.

    Parameters
    ----------
    trials : DataFrame
        From `make_trials`.
    world : World
        For the wheel.
    pulses : ndarray
        Rising edges of the sync square wave, s.
    frames : ndarray
        Exposure times of the camera, s.
    face_frames : ndarray, optional
        Those of the face camera, s.

    Returns
    -------
    dict of str to ndarray
        By line: `XD0`..`XD7`, `XA0` (trial starts and rewards).
    """
    times, counts = wheel_edges(world)
    # Quadrature: line A changes on odd to even steps, line B on the others.
    phase = counts % 4
    before = np.concatenate([[0], phase[:-1]]) if len(phase) else phase
    line_a, line_b = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
    changes_a = line_a[phase] != line_a[before]
    changes_b = line_b[phase] != line_b[before]
    starts = trials["intervals_0"].to_numpy()
    rewards = trials["feedback_times"].to_numpy()
    face = np.zeros(0) if face_frames is None else face_frames
    return {
        f"XD{FACE_CAMERA}": _pulses(face, CAMERA_HIGH_S),
        f"XD{CAMERA}": _pulses(frames, CAMERA_HIGH_S),
        f"XD{SYNC}": _pulses(pulses, PULSE_HIGH_S),
        f"XD{CUE_LIGHT}": np.sort(trials[["stimOn_times", "stimOff_times"]].to_numpy().ravel()),
        f"XD{WHEEL_A}": times[changes_a],
        f"XD{WHEEL_B}": times[changes_b],
        f"XD{AUDIO}": _pulses(trials["goCue_times"].to_numpy(), AUDIO_HIGH_S),
        "XA0": np.sort(np.concatenate([_pulses(starts, 0.1), _pulses(rewards, 0.06)])),
    }


def _pulses(rise: FloatArray, high_s: float) -> FloatArray:
    return np.column_stack([rise, rise + high_s]).ravel()


class NidqMaker:
    """Samples of the NIDQ: two analogue channels and one digital word.

    Parameters
    ----------
    edges : dict
        From `line_edges`.
    seed : int
        Seed of the session.
    """

    def __init__(self, edges: dict[str, FloatArray], seed: int) -> None:
        # Sample n is taken at n / rate, so an edge shows in the first sample at or after it.
        self._edges = {
            line: np.ceil(times * NIDQ_HZ - 1e-6).astype(np.int64) for line, times in edges.items()
        }
        self._rng = stream(seed, "nidq")

    def samples(self, start: int, stop: int) -> np.ndarray:
        """Make samples start..stop of the session, shape (n, 3), int16."""
        word = np.zeros(stop - start, dtype=np.int64)
        for line, edges in self._edges.items():
            if line.startswith("XD"):
                word |= levels_at(edges, start, stop) << int(line[2:])
        counts = TTL_V / RANGE_NI_V * 32768
        analogue = [self._edges["XA0"], self._edges[f"XD{SYNC}"]]
        block = np.zeros((stop - start, 3))
        # Row by row, so that the noise does not depend on where blocks and files end.
        block[:, :2] = NI_NOISE_COUNTS * self._rng.standard_normal((stop - start, 2))
        for column, edges in enumerate(analogue):
            block[:, column] += counts * levels_at(edges, start, stop)
        block[:, 2] = word
        return np.rint(block).astype(np.int16)


def write_behavior(
    folder: Path,
    trials: pd.DataFrame,
    world: World,
    about: dict[str, Any],
    created: datetime,
    clocks: dict[str, DeviceClock],
) -> None:
    """Write `raw_behavior_data` as a rig does.

    Parameters
    ----------
    folder : Path
        `raw_behavior_data`, to be created.
    trials : DataFrame
        From `make_trials`.
    world : World
        For the wheel.
    about : dict
        Subject, lab, date and number, for the settings.
    created : datetime
        Start of the session, rig's local time.
    clocks : dict
        Clocks of `bpod` and `encoder`.
    """
    folder.mkdir(parents=True)
    bpod, encoder = clocks["bpod"], clocks["encoder"]
    unit, per_second = ("us", 1e6) if encoder.device else ("ms", 1e3)
    settings = about | {
        "PYBPOD_PROTOCOL": "_simlab_tasks_linearTrack",
        "IBLRIG_VERSION_TAG": "6.4.2",
        "SESSION_DATETIME": created.isoformat(),
        "WHEEL_RADIUS_CM": WHEEL_RADIUS_CM,
        "ENCODER_CYCLES_PER_TURN": WHEEL_CYCLES,
        "ENCODER_TIME_UNIT": unit,
    }
    text = json.dumps(settings, indent=1, sort_keys=True)
    (folder / "_iblrig_taskSettings.raw.json").write_text(text + "\n", encoding="utf-8")
    timed = trials.assign(**{c: bpod.running(trials[c].to_numpy(float), c) for c in _BPOD_TIMES})
    lines = [json.dumps(_trial_record(n, row, bpod)) for n, row in enumerate(rows(timed), 1)]
    (folder / "_iblrig_taskData.raw.jsable").write_text("".join(f"{x}\n" for x in lines))
    times, counts = wheel_edges(world)
    # The encoder module streams whole cycles, in ms, as IBL's rigs of that version do.
    every = np.flatnonzero(counts % 4 == 0)
    shown = encoder.shown(times[every], "positions") * per_second
    moves = [f"{t:.0f} {c} " for t, c in zip(shown, counts[every] // 4, strict=True)]
    positions = folder / "_iblrig_encoderPositions.raw.ssv"
    positions.write_text("".join(f"{row}\n" for row in moves), encoding="utf-8")
    pairs = _events(trials)
    shown = encoder.shown(np.array([t for t, _ in pairs]), "events") * per_second
    events = [f"{t:.0f} {code} " for t, (_, code) in zip(shown, pairs, strict=True)]
    path = folder / "_iblrig_encoderEvents.raw.ssv"
    path.write_text("".join(f"{row}\n" for row in events), encoding="utf-8")


def _events(trials: pd.DataFrame) -> list[tuple[float, int]]:
    """List encoder events: 1 trial start, 2 light on, 3 reward."""
    codes = {"intervals_0": 1, "stimOn_times": 2, "feedback_times": 3}
    pairs = [(float(t), code) for name, code in codes.items() for t in trials[name]]
    return sorted(pairs)


_BPOD_TIMES = [
    "intervals_0",
    "stimOn_times",
    "goCue_times",
    "response_times",
    "feedback_times",
    "stimOff_times",
    "intervals_1",
]


def _trial_record(number: int, trial: Any, bpod: DeviceClock) -> dict[str, Any]:
    """One line of the task data; state times count from the trial's start, as Bpod's do."""
    start = float(trial.intervals_0)

    def state(begin: float, end: float) -> list[list[float]]:
        return [[round(begin - start, 4), round(end - start, 4)]]

    states = {
        "trial_start": state(start, trial.stimOn_times),
        "stim_on": state(trial.stimOn_times, trial.stimOff_times),
        "run": state(trial.goCue_times, trial.response_times),
        "reward": state(trial.feedback_times, trial.feedback_times + 0.06),
        "exit_state": state(trial.stimOff_times, trial.intervals_1),
    }
    return {
        "trial_num": number,
        "choice": int(trial.choice),
        "trial_correct": True,
        "reward_amount": float(trial.rewardVolume),
        "behavior_data": {
            "Bpod start timestamp": 0.0,
            "Trial start timestamp": round(start % bpod.wrap_s, 4),
            "Trial end timestamp": round(float(trial.intervals_1) % bpod.wrap_s, 4),
            "States timestamps": states,
        },
    }


def gate_samples(timeline: Timeline, gate: int) -> tuple[int, int]:
    """First and last-plus-one NIDQ samples of a gate, counted from the session's start."""
    start = round(timeline.starts[gate] * NIDQ_HZ)
    return start, start + round((timeline.gate_s + timeline.tail_s) * NIDQ_HZ)
