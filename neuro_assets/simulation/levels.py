"""How hard and how lifelike a simulated session is: the fixed, named levels, and nothing else.

Figures that are quoted anywhere hold at these levels, so they are data, not arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from neuro_assets.outcomes import PermanentFailure

Difficulty = Literal["standard", "hard", "realistic", "clocks", "network", "face", "lifelike"]
ProbeModel = Literal["NP1", "NP2", "NP2.4"]


@dataclass(frozen=True)
class RecordingLevels:
    """What makes a recording as in life; `docs/simulation.md` compares it with real files.

    Parameters
    ----------
    channel_spread, site_spread : float
        Standard deviations of the logarithm of the channels' noise: each channel for itself, and
        smoothly along the shank.
    common_fraction, local_fraction : float
        Parts of the noise variance that all channels share, and that falls off with distance.
    local_um : float
        Distance over which the local part falls to 1/e, um.
    spectrum_exponent : float
        The noise's power falls as frequency to minus this from 150 Hz to 9 kHz.
    field_uv, field_exponent : float
        Standard deviation of the background field potential, uV, and the exponent of its power
        from 2 Hz on.
    hum_uv : float
        Amplitude of the 50 Hz mains hum, uV; two harmonics have a third and a ninth of it.
    small_units_per_channel : float
        Small units, multi-unit in the truth, per channel.
    small_amplitude_uv : tuple of float
        16 %, 50 % and 84 % quantiles of their amplitudes, uV.
    small_rate_hz : float
        Median of their log-normal rates, Hz.
    amplitude_sd : tuple of float
        Range of the standard deviation of a unit's amplitudes from spike to spike, as a part.
    noisy_factor : tuple of float
        Range of a noisy channel's noise, in the level of a good one.
    movement_hz, movement_s, movement_uv
        Movement artefacts per second of running; ranges of their lengths, s, and peaks, uV.
    electrical_hz, electrical_uv
        Electrical artefacts per second; range of their peaks, uV.
    """

    channel_spread: float = 0.04
    site_spread: float = 0.04
    common_fraction: float = 0.29
    local_fraction: float = 0.57
    local_um: float = 30.0
    spectrum_exponent: float = 1.3
    field_uv: float = 60.0
    field_exponent: float = 1.55
    hum_uv: float = 30.0
    small_units_per_channel: float = 2.0
    small_amplitude_uv: tuple[float, float, float] = (10.0, 20.0, 45.0)
    small_rate_hz: float = 2.0
    amplitude_sd: tuple[float, float] = (0.10, 0.20)
    noisy_factor: tuple[float, float] = (2.0, 5.0)
    movement_hz: float = 0.1
    movement_s: tuple[float, float] = (0.3, 1.2)
    movement_uv: tuple[float, float] = (150.0, 600.0)
    electrical_hz: float = 0.1
    electrical_uv: tuple[float, float] = (100.0, 400.0)


@dataclass(frozen=True)
class ClockLevels:
    """How the clocks of devices differ from the session's, and how position is blurred.

    Parameters
    ----------
    ppm : tuple of float
        Range of the absolute rate error of each device's clock, parts per million.
    jitter_s : tuple of float
        Range of the standard deviation of its times, s.
    wheel_slip : float
        Standard deviation of what the wheel turns too much or too little, as a part.
    tracking_noise_cm : float
        Standard deviation of a tracked point along each axis, cm.
    lost_fraction, swapped_fraction : float
        Parts of the tracker's samples in which a point is lost, and in which the points are taken
        for one another.
    """

    ppm: tuple[float, float] = (10.0, 80.0)
    jitter_s: tuple[float, float] = (0.00002, 0.0002)
    wheel_slip: float = 0.02
    tracking_noise_cm: float = 0.4
    lost_fraction: float = 0.05
    swapped_fraction: float = 0.03


@dataclass(frozen=True)
class NetworkLevels:
    """What a hippocampus tells of the track, and where its currents flow.

    Parameters
    ----------
    replay_fraction : float
        Part of the ripples with replay, half forward and half reverse; half of the others are
        stationary, half shuffled.
    replay_m_s : tuple of float
        Range of the speed of replay on the track, m/s.
    directional_fraction : float
        Part of the place cells whose field is active in one running direction only.
    precession_rad : tuple of float
        Range of how far the preferred theta phase moves through a field, radians.
    precession_depth : float
        How deeply theta modulates place cells, 0 to 1.
    conductivity_s_m : float
        Of the tissue, S/m.
    disc_um : float
        Radius of the discs in which currents flow, um.
    layer_um : float
        Width of the pyramidal layer, um; the currents over depth are laid out in widths of it.
    """

    replay_fraction: float = 0.5
    replay_m_s: tuple[float, float] = (5.0, 15.0)
    directional_fraction: float = 0.7
    precession_rad: tuple[float, float] = (-5.5, -3.5)
    precession_depth: float = 0.9
    conductivity_s_m: float = 0.3
    disc_um: float = 500.0
    layer_um: float = 80.0


@dataclass(frozen=True)
class VideoLevels:
    """What a second camera sees of the animal's face.

    Parameters
    ----------
    licks_per_reward : tuple of int
        Range of the licks in the bout after a reward, the end excluded.
    lick_hz : float
        Licks per second in a bout.
    blink_hz : float
        Blinks per second.
    blink_s : tuple of float
        Range of their lengths, s.
    pupil_px : tuple of float
        Smallest and largest diameter of the pupil, px.
    """

    licks_per_reward: tuple[int, int] = (4, 10)
    lick_hz: float = 7.0
    blink_hz: float = 0.2
    blink_s: tuple[float, float] = (0.12, 0.3)
    pupil_px: tuple[float, float] = (8.0, 22.0)


@dataclass(frozen=True)
class Levels:
    """Levels of one difficulty.

    Parameters
    ----------
    noise_uv : float
        Standard deviation of a good channel's noise above 300 Hz, uV.
    correlated_fraction : float
        Part of the noise variance that neighbouring channels share.
    channels_per_unit : int
        One unit per so many channels.
    amplitude_uv : tuple of float
        16 %, 50 % and 84 % quantiles of the units' amplitudes: the trough on the best good
        channel, uV.
    rate_median_hz, rate_max_hz, rate_sigma : float
        Log-normal mean firing rates: median and upper limit in Hz, standard deviation of the
        logarithm.
    burst_fraction : float
        Part of the units that fire in bursts.
    refractory_ms : float
        No two spikes of a unit are closer than this, ms.
    drift_um : float
        Slow movement of the tissue over the recording, um.
    jump_um : float
        One sudden movement, um.
    dead_fraction, noisy_fraction : float
        Parts of the channels that are dead or noisy.
    saturation_events : int
        Events that saturate the converter.
    saturation_s : float
        Length of each, s.
    clock_offset_s : tuple of float
        Range of the offset between a probe's clock and the session's, s.
    clock_ppm : tuple of float
        Range of the absolute rate error of a probe's clock, parts per million.
    pulses_lost, pulses_extra : int
        Sync pulses that a probe misses, and that it sees without there being one.
    restart : bool
        Each probe's acquisition stops and goes on again in the middle.
    ripple_rate_hz : float
        Ripples per second of standing still.
    ripple_duration_s : tuple of float
        Range of the duration at half height, s.
    ripple_sd : tuple of float
        Range of the envelope's peak, in standard deviations of the ripple-free envelope above
        its mean (150-250 Hz, on the channel nearest to the pyramidal layer).
    track_cm : float
        Length of the track, cm.
    place_width_cm : tuple of float
        Range of the extent in which a place field exceeds 20 % of its peak, cm.
    place_fraction : float
        Part of the units that have a place field.
    video_hz : float
        Frames per second.
    dropped_fraction, occluded_fraction : float
        Parts of the frames that are lost, and of the keypoints that are hidden.
    number : int, optional
        Moves serials, file times and first samples, so that no recording of this level has the
        identity of another level's; none for the two first levels.
    recording : RecordingLevels, optional
        A recording as in life.
    clocks : ClockLevels, optional
        Devices with clocks of their own, a slipping wheel and a tracker.
    network : NetworkLevels, optional
        Replay, precession, directional fields, and fields from known currents.
    face : VideoLevels, optional
        A second camera, at the animal's face.
    """

    noise_uv: float = 10.0
    correlated_fraction: float = 0.30
    channels_per_unit: int = 3
    amplitude_uv: tuple[float, float, float] = (45.0, 80.0, 140.0)
    rate_median_hz: float = 3.0
    rate_max_hz: float = 30.0
    rate_sigma: float = 1.0
    burst_fraction: float = 0.2
    refractory_ms: float = 2.0
    drift_um: float = 15.0
    jump_um: float = 0.0
    dead_fraction: float = 0.02
    noisy_fraction: float = 0.02
    saturation_events: int = 3
    saturation_s: float = 0.2
    clock_offset_s: tuple[float, float] = (2.0, 30.0)
    clock_ppm: tuple[float, float] = (5.0, 40.0)
    pulses_lost: int = 2
    pulses_extra: int = 1
    restart: bool = False
    ripple_rate_hz: float = 0.3
    ripple_duration_s: tuple[float, float] = (0.030, 0.120)
    ripple_sd: tuple[float, float] = (4.0, 9.0)
    track_cm: float = 180.0
    place_width_cm: tuple[float, float] = (25.0, 60.0)
    place_fraction: float = 0.6
    video_hz: float = 60.0
    dropped_fraction: float = 0.002
    occluded_fraction: float = 0.05
    number: int | None = None
    recording: RecordingLevels | None = None
    clocks: ClockLevels | None = None
    network: NetworkLevels | None = None
    face: VideoLevels | None = None


STANDARD = Levels()
HARD = replace(
    STANDARD,
    noise_uv=14.0,
    correlated_fraction=0.40,
    amplitude_uv=(35.0, 60.0, 110.0),
    drift_um=30.0,
    jump_um=20.0,
    dead_fraction=0.04,
    noisy_fraction=0.04,
    saturation_events=8,
    restart=True,
    ripple_sd=(3.0, 6.0),
    place_fraction=0.4,
    dropped_fraction=0.01,
    occluded_fraction=0.15,
)
NAMED = {
    "standard": STANDARD,
    "hard": HARD,
    "realistic": replace(STANDARD, number=1, noise_uv=15.0, recording=RecordingLevels()),
    "clocks": replace(STANDARD, number=2, clocks=ClockLevels()),
    "network": replace(STANDARD, number=6, network=NetworkLevels()),
    "face": replace(STANDARD, number=4, face=VideoLevels()),
    "lifelike": replace(
        STANDARD,
        number=7,
        noise_uv=15.0,
        recording=RecordingLevels(),
        clocks=ClockLevels(),
        network=NetworkLevels(),
        face=VideoLevels(),
    ),
}


def levels_of(difficulty: str) -> Levels:
    """Levels of a named difficulty.

    Parameters
    ----------
    difficulty : str
        One of `NAMED`.

    Returns
    -------
    Levels
        Its levels.

    Raises
    ------
    PermanentFailure
        When there is no such difficulty.
    """
    if difficulty not in NAMED:
        raise PermanentFailure(f"no difficulty {difficulty!r}; choose one of {', '.join(NAMED)}")
    return NAMED[difficulty]
