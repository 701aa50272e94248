"""A whole simulated session: the order in which it is planned, written and marked as finished."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import closing
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - `date` is the argument's name
from datetime import datetime, time, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.science.result import Progress, no_progress
from neuro_assets.simulation.clocks import (
    LF_STEP,
    NIDQ_HZ,
    Timeline,
    lay_out,
    levels_at,
    probe_pulses,
    toggles,
    true_pulses,
)
from neuro_assets.simulation.device_clocks import DeviceClock, clock_table, make_device_clocks
from neuro_assets.simulation.face_video import Face, draw, plan_face
from neuro_assets.simulation.levels import Difficulty, Levels, ProbeModel, levels_of
from neuro_assets.simulation.plan import ProbePlan, plan_probe
from neuro_assets.simulation.rng import FloatArray, IntArray
from neuro_assets.simulation.spikeglx_files import (
    BinaryWriter,
    FileIdentity,
    imec_meta,
    nidq_meta,
    write_meta,
)
from neuro_assets.simulation.traces import ProbeSimulation
from neuro_assets.simulation.tracking import make_tracking, tracking_file, with_slip
from neuro_assets.simulation.video import encode, plan_video, write_times, write_video
from neuro_assets.simulation.world import make_world

from . import face_video, rig, truth

FIRST_SERIAL = 19_051_016_000
LEVEL_SERIALS = 10_000_000
"""Serials between two levels: more than 37 for each of 270,000 seeds."""
LEVEL_MINUTES = 19
NIDQ_FIRST_SAMPLE_S = 1.0
NIDQ_CHUNK = 300_000
MAX_NAME_BYTES = 200
"""File systems take 255; the truth's folder adds the date and the number."""


@dataclass(frozen=True)
class SimulatedSession:
    """Where a simulated session was written.

    Parameters
    ----------
    session : Path
        `<out>/<lab>/Subjects/<subject>/<date>/<number>`.
    truth : Path
        `<out>/truth/<subject>_<date>_<number>`.
    """

    session: Path
    truth: Path


@dataclass(frozen=True)
class _Setup:
    """What the writers of one session share."""

    seed: int
    levels: Levels
    timeline: Timeline
    folder: Path
    name: str
    created: datetime
    n_probes: int
    progress: Progress

    def identity(self, gate: int, trigger: int, first_sample: int, seconds: float) -> FileIdentity:
        """Names, count and time of one file that begins so many seconds into the session."""
        later = timedelta(seconds=seconds, minutes=LEVEL_MINUTES * (self.levels.number or 0))
        created = (self.created + later).replace(microsecond=0)
        return FileIdentity(self.name, gate, trigger, first_sample, created, self.n_probes)


def simulate_session(
    out: Path,
    *,
    duration_s: float = 60.0,
    n_channels: int = 64,
    n_probes: int = 1,
    seed: int = 0,
    difficulty: Difficulty = "standard",
    probe_model: ProbeModel = "NP1",
    subject: str = "SIM-001",
    date: Date = Date(2025, 1, 15),
    number: int = 1,
    lab: str = "simlab",
    gates: int = 1,
    triggers: int = 1,
    video: bool = True,
    progress: Progress = no_progress,
) -> SimulatedSession:
    """Write a session as a rig does, and its truth beside it.

    Parameters
    ----------
    out : Path
        Folder that holds the lab's tree and the truth; created where it is missing.
    duration_s : float
        Recorded time of all gates together, s.
    n_channels : int
        Saved neural channels of each probe, 1 to 384, contiguous from the tip.
    n_probes : int
        Probes.
    seed : int
        The same seed and arguments give the same bytes.
    difficulty : str
        One of `levels.NAMED`.
    probe_model : str
        `NP1` (AP and LF files), `NP2` or `NP2.4` (one wide band).
    subject : str
        Subject, as the folder is to be called.
    date : datetime.date
        Day of the session.
    number : int
        Number of the session on that day.
    lab : str
        Lab, as the folder is to be called.
    gates : int
        Recordings that follow one another with a pause.
    triggers : int
        Files into which each recording is cut.
    video : bool
        Whether to write a camera's video.
    progress : callable
        Called at least every half minute.

    Returns
    -------
    SimulatedSession
        Folders of the session and of the truth.

    Raises
    ------
    PermanentFailure
        When the session exists already, or an argument is out of range.
    """
    _check(duration_s, n_probes, gates, triggers)
    for value in (lab, subject):
        _check_name(value)
    levels = levels_of(difficulty)
    name = f"{subject}/{date.isoformat()}/{number:03d}"
    folder = Path(out) / lab / "Subjects" / name
    beside = Path(out) / "truth" / f"{subject}_{date.isoformat()}_{number:03d}"
    for path in (folder, beside):
        if path.exists():
            raise PermanentFailure(f"{path} exists; choose another number or another folder")
    # Whole or not at all, also when we are killed: sources do not look into hidden folders.
    making = Path(out) / f".simulating_{beside.name}"
    made, truth = making / "session", making / "truth"
    timeline = lay_out(duration_s, gates, triggers, levels)
    plans = [
        plan_probe(probe_model, n_channels, timeline, levels, seed, probe)
        for probe in range(n_probes)
    ]
    created = datetime.combine(date, time(10, 0, 0))
    setup = _Setup(seed, levels, timeline, made, name, created, n_probes, progress)
    about = {
        "lab": lab,
        "subject": subject,
        "date": date.isoformat(),
        "number": number,
        "seed": seed,
        "difficulty": difficulty,
        "probe_model": probe_model,
        "duration_s": duration_s,
        "n_channels": n_channels,
        "n_probes": n_probes,
        "gates": gates,
        "triggers": triggers,
    }
    try:
        shutil.rmtree(making, ignore_errors=True)  # of one that was killed
        for path in (made, truth):
            path.mkdir(parents=True)
        _write_all(setup, plans, truth, about, video)
        # Last: whoever sees the flag may take everything else for complete.
        (made / "raw_session.flag").touch()
        for source, target in ((truth, beside), (made, folder)):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    progress(1.0, "session written")
    return SimulatedSession(folder, beside)


def _check(duration_s: float, n_probes: int, gates: int, triggers: int) -> None:
    if not math.isfinite(duration_s):
        raise PermanentFailure(f"{duration_s} s is no duration; give seconds")
    if min(n_probes, gates, triggers) < 1:
        raise PermanentFailure("n_probes, gates and triggers must be at least 1")
    if duration_s / gates / triggers < 0.5:
        raise PermanentFailure(
            f"{duration_s} s in {gates} gates of {triggers} triggers leaves files under 0.5 s; "
            "simulate a longer session"
        )


def _check_name(value: str) -> None:
    """Refuse names that would leave the folder; spaces and any script are fine."""
    if len(value.encode()) > MAX_NAME_BYTES:
        raise PermanentFailure(
            f"{value[:20]!r}... has {len(value.encode())} bytes, a folder's name may have "
            f"{MAX_NAME_BYTES}; choose a shorter lab or subject"
        )
    if not value.strip() or value in {".", ".."} or set(value) & set("/\\\0\n"):
        raise PermanentFailure(f"{value!r} cannot name a folder; choose another lab or subject")


def _write_all(
    setup: _Setup, plans: list[ProbePlan], beside: Path, about: dict[str, Any], video: bool
) -> None:
    levels, timeline, seed = setup.levels, setup.timeline, setup.seed
    world = make_world(timeline, plans)
    pulses = true_pulses(timeline, seed)
    trials = rig.make_trials(world, seed)
    film = plan_video(world, levels, seed) if video else None
    face = plan_face(world, trials, levels, levels.face, seed) if video and levels.face else None
    clocks = make_device_clocks(levels, timeline.stop, seed)
    wheel = with_slip(world, levels.clocks, seed)
    truth.write_session(beside, about, levels, timeline, world, trials, film)
    tables: list[dict[str, pd.DataFrame]] = []
    for plan in plans:
        simulation = ProbeSimulation(plan, world)
        seen = probe_pulses(pulses, plan.clock, levels, seed, plan.number)
        _write_probe(setup, simulation, toggles(seen, plan.clock))
        tables.append(truth.probe_tables(simulation, seen))
    truth.write_probes(beside, tables)
    frames = film.times if film is not None else np.zeros(0)
    _write_nidq(
        setup, rig.line_edges(trials, wheel, pulses, frames, face.times if face else None), face
    )
    settings = {key.upper(): value for key, value in about.items() if key != "seed"}
    behavior = setup.folder / "raw_behavior_data"
    rig.write_behavior(behavior, trials, wheel, settings, setup.created, clocks)
    if levels.clocks is not None:
        tracking = make_tracking(world, levels.clocks, seed)
        shown = clocks["tracker"].shown(tracking["session_s"].to_numpy(), "samples")
        file = tracking_file(tracking, shown)
        file.to_csv(behavior / "_simlab_tracking.raw.csv", index=False, na_rep="NaN")
        truth.write_devices(beside, clock_table(clocks), tracking, wheel)
    if film is not None:
        folder = setup.folder / "raw_video_data"
        write_video(folder, film, setup.created, seed, setup.progress, clocks["left_camera"])
    if face is not None:
        _write_face(setup, face, clocks["right_camera"])
        truth.write_face(beside, face)


def _write_face(setup: _Setup, face: Face, clock: DeviceClock) -> None:
    """Video of the second camera, with its frame counts and times."""
    folder = setup.folder / "raw_video_data"
    path = folder / "_iblrig_rightCamera.raw.mp4"
    encode(
        path, draw(face, setup.seed), (face_video.WIDTH, face_video.HEIGHT), setup.levels.video_hz
    )
    write_times(folder, "right", face.times, face.saved, setup.created, clock)


def _write_probe(setup: _Setup, simulation: ProbeSimulation, edges: IntArray) -> None:
    """AP and LF files of one probe."""
    plan, timeline = simulation.plan, setup.timeline
    folder = setup.folder / "raw_ephys_data" / f"probe{plan.number:02d}"
    folder.mkdir(parents=True)
    bands = ["ap", "lf"] if plan.probe.kind.has_lf else ["ap"]
    sinks = {band: _GateFiles(setup, plan, folder, band) for band in bands}
    start = 0
    for ap, lf in simulation.chunks():
        stop = start + len(ap)
        sync = levels_at(edges, start, stop) << rig.IMEC_SYNC_BIT
        sinks["ap"].write(ap, sync)
        if lf is not None:
            sinks["lf"].write(lf, sync[::LF_STEP])
        start = stop
        share = (plan.number + start / plan.clock.n_samples) / setup.n_probes
        setup.progress(0.8 * share, f"probe{plan.number:02d}: {start} samples")
    wiring = json.dumps(rig.PROBE_WIRING, indent=1) + "\n"
    for gate in range(len(timeline.starts)):
        identity = sinks["ap"].identity(gate, 0)
        path = folder / f"{identity.stem(f'imec{plan.number}')}.wiring.json"
        path.write_text(wiring, encoding="utf-8")


class _GateFiles:
    """All files of one band of one probe, one after another, cut at gates and triggers."""

    def __init__(self, setup: _Setup, plan: ProbePlan, folder: Path, band: str) -> None:
        self._setup, self._plan, self._folder, self._band = setup, plan, folder, band
        self._step = LF_STEP if band == "lf" else 1
        self._bounds = setup.timeline.trigger_bounds(plan.clock.samples_per_gate, LF_STEP)
        gates, triggers = len(setup.timeline.starts), setup.timeline.triggers
        self._places = product(range(gates), range(triggers))
        self._writer: BinaryWriter | None = None

    def identity(self, gate: int, trigger: int) -> FileIdentity:
        """Names, count and time of one file."""
        clock, start = self._plan.clock, self._bounds[trigger]
        running = np.array([gate * clock.samples_per_gate + start])
        first_sample = (clock.first_samples[gate] + start) // self._step
        return self._setup.identity(gate, trigger, first_sample, float(clock.times(running)[0]))

    def write(self, traces: np.ndarray, sync: IntArray) -> None:
        """Append samples, going on to the next file where one is full; a full one gets its meta."""
        plan, block = self._plan, np.column_stack([traces, sync.astype(np.int16)])
        while len(block):
            if self._writer is None:
                self._gate, self._trigger = next(self._places)
                name = self.identity(self._gate, self._trigger).stem(
                    f"imec{plan.number}.{self._band}"
                )
                self._writer = BinaryWriter(self._folder / f"{name}.bin", plan.probe.n_channels + 1)
            start, stop = self._bounds[self._trigger : self._trigger + 2]
            room = (stop - start) // self._step - self._writer.n_samples
            self._writer.write(block[:room])
            if len(block) >= room:
                self._finish(self._writer)
            block = block[room:]

    def _finish(self, writer: BinaryWriter) -> None:
        writer.close()
        plan, identity = self._plan, self.identity(self._gate, self._trigger)
        serial = FIRST_SERIAL + 37 * plan.seed + plan.number
        serial += LEVEL_SERIALS * (plan.levels.number or 0)
        fields = imec_meta(writer, identity, plan.probe, self._band, serial, plan.number)
        write_meta(writer.path.with_suffix(".meta"), fields)
        self._writer = None


def _write_nidq(setup: _Setup, edges: dict[str, FloatArray], face: Face | None) -> None:
    """NIDQ files of all gates and triggers."""
    folder, timeline = setup.folder / "raw_ephys_data", setup.timeline
    maker = rig.NidqMaker(edges, setup.seed)
    for gate in range(len(timeline.starts)):
        first, last = rig.gate_samples(timeline, gate)
        cuts = timeline.trigger_bounds(last - first, 1)
        for trigger in range(timeline.triggers):
            start, stop = first + cuts[trigger], first + cuts[trigger + 1]
            count_from = NIDQ_FIRST_SAMPLE_S + (setup.levels.number or 0)
            first_sample = start + round(count_from * NIDQ_HZ)
            identity = setup.identity(gate, trigger, first_sample, start / NIDQ_HZ)
            path = folder / f"{identity.stem('nidq')}.bin"
            with closing(BinaryWriter(path, 3)) as writer:
                for low in range(start, stop, NIDQ_CHUNK):
                    writer.write(maker.samples(low, min(low + NIDQ_CHUNK, stop)))
            write_meta(path.with_suffix(".meta"), nidq_meta(writer, identity, rig.SYNC))
        wiring = folder / f"{setup.identity(gate, 0, 0, 0).stem('nidq')}.wiring.json"
        wiring.write_text(
            json.dumps(rig.wiring(face is not None), indent=1) + "\n", encoding="utf-8"
        )
