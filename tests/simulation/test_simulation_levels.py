"""The levels of a simulated session, measured from its files alone and held against the table.

Nothing here looks at the generator's settings: the numbers are those of the design's section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, hilbert, sosfiltfilt

from neuro_assets.simulation import simulate_session

TABLE = {
    "standard": {
        "noise": 10,
        "shared": 0.30,
        "amplitude": (45, 80, 140),
        "drift": 15,
        "bad": 0.02,
        "saturation": 3,
        "ripple_sd": (4, 9),
        "place": 0.6,
    },
    "hard": {
        "noise": 14,
        "shared": 0.40,
        "amplitude": (35, 60, 110),
        "drift": 50,
        "bad": 0.04,
        "saturation": 8,
        "ripple_sd": (3, 6),
        "place": 0.4,
    },
}
# Part number: uV per count of the AP band and the converter's limit, from SpikeGLX's metadata page.
CONVERTER = {"NP1": (0.6 / 512 / 500 * 1e6, 512), "NP2": (0.62 / 2048 / 100 * 1e6, 2048)}


@dataclass
class Measured:
    """One session's files, read without any reader."""

    difficulty: str
    model: str
    session: Path
    truth: Path
    n_channels: int
    duration_s: float

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.truth / f"{name}.parquet")

    @cached_property
    def raw(self) -> np.ndarray:
        path = next(self.session.rglob("*.imec0.ap.bin"))
        return np.fromfile(path, "<i2").reshape(-1, self.n_channels + 1)

    @cached_property
    def microvolts(self) -> np.ndarray:
        return self.raw[:, :-1].astype("f4") * CONVERTER[self.model][0]

    @cached_property
    def filtered(self) -> np.ndarray:
        sos = butter(3, 300, "highpass", fs=30000, output="sos")
        return sosfiltfilt(sos, self.microvolts, axis=0).astype("f4")

    @cached_property
    def saturated(self) -> np.ndarray:
        limit = CONVERTER[self.model][1]
        traces = self.raw[:, :-1]
        at_limit = ((traces >= limit - 1) | (traces <= -limit)).mean(axis=1) > 0.5
        return np.flatnonzero(np.diff(np.r_[0, at_limit.astype(int), 0])).reshape(-1, 2)

    @cached_property
    def clean(self) -> np.ndarray:
        clean = np.ones(len(self.raw), dtype=bool)
        for start, stop in self.saturated:
            clean[max(start - 3000, 0) : stop + 3000] = False
        return clean

    @cached_property
    def quiet(self) -> np.ndarray:
        quiet = self.clean.copy()
        spikes = self.table("spikes")["sample_index"].to_numpy()
        for away in range(-40, 90):
            quiet[np.clip(spikes + away, 0, len(quiet) - 1)] = False
        return quiet

    @cached_property
    def noise(self) -> np.ndarray:
        """Every fourth sample without spikes or saturation: more than 100,000."""
        return self.filtered[np.flatnonzero(self.quiet)[::4]]

    @cached_property
    def good(self) -> np.ndarray:
        return np.flatnonzero(self.table("channels")["label"] == "good")


@pytest.fixture(
    scope="module", params=[("standard", "NP1", 48), ("hard", "NP2", 48)], ids=lambda p: p[0]
)
def measured(request, tmp_path_factory):
    difficulty, model, n_channels = request.param
    out = tmp_path_factory.mktemp(difficulty)
    made = simulate_session(
        out,
        duration_s=26,
        n_channels=n_channels,
        seed=4711,
        difficulty=difficulty,
        probe_model=model,
        video=False,
    )
    return Measured(difficulty, model, made.session, made.truth, n_channels, 26.0)


def expected(measured: Measured, name: str):
    return TABLE[measured.difficulty][name]


def test_noise_after_the_high_pass_is_at_its_level_on_every_good_channel(measured):
    deviation = measured.noise[:, measured.good].std(axis=0)
    np.testing.assert_allclose(deviation, expected(measured, "noise"), rtol=0.03)


def test_neighbouring_channels_share_the_stated_part_of_the_noise(measured):
    noise = measured.noise[:, measured.good]
    positions = measured.table("channels")[["x_um", "y_um"]].to_numpy()[measured.good]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    near = (distance > 0) & (distance < 45)
    shared = np.corrcoef(noise.T)[near].mean()
    assert abs(shared - expected(measured, "shared")) < 0.03


def test_bad_channels_are_as_many_and_as_bad_as_stated(measured):
    labels = measured.table("channels")["label"]
    deviation = measured.noise.std(axis=0)
    wanted = max(1, round(expected(measured, "bad") * measured.n_channels))
    level = expected(measured, "noise")
    dead, noisy = np.flatnonzero(deviation < 2), np.flatnonzero(deviation > 3 * level)
    assert len(dead) == len(noisy) == wanted
    assert dead.tolist() == np.flatnonzero(labels == "dead").tolist()
    assert noisy.tolist() == np.flatnonzero(labels == "noisy").tolist()


def test_saturation_events_last_200_ms_at_the_converters_limit_and_are_where_truth_says(measured):
    bounds = measured.saturated
    assert len(bounds) == expected(measured, "saturation")
    assert (bounds[:, 1] - bounds[:, 0] == 6000).all()
    truth = measured.table("saturation")[["start_sample", "stop_sample"]].to_numpy()
    np.testing.assert_array_equal(bounds, truth)


def unit_amplitudes(measured: Measured) -> pd.DataFrame:
    """Trough of each unit's average on its best channel, over stretches of 4 um of drift."""
    spikes = measured.table("spikes").query("not in_saturation")
    piece, drift = measured.table("sync_map").iloc[0], measured.table("drift")
    session = piece["session_s"] + spikes["sample_index"] / piece["rate_hz"]
    depth = np.interp(session, drift["session_s"], drift["drift_um"])
    rows = []
    for unit, own in spikes.assign(stretch=depth // 4).groupby("unit"):
        troughs, counts = [], []
        for _, part in own.groupby("stretch"):
            window = part["sample_index"].to_numpy()[:100, None] + np.arange(-30, 45)[None]
            average = measured.microvolts[window][:, :, measured.good].mean(axis=0)
            average -= np.median(average, axis=0)
            troughs.append(-average[26:35].min())
            counts.append(len(part) * (len(part) >= 6))
        if sum(counts) >= 20:
            rows.append((unit, np.average(troughs, weights=counts), sum(counts)))
    return pd.DataFrame(rows, columns=["unit", "measured_uv", "n"]).set_index("unit")


def test_units_are_one_per_three_channels_and_as_large_as_stated(measured):
    units = measured.table("units").set_index("unit")
    assert len(units) == round(measured.n_channels / 3)
    low, median, high = expected(measured, "amplitude")
    quantiles = np.quantile(units["amplitude_uv"], [0.16, 0.5, 0.84])
    np.testing.assert_allclose(quantiles, [low, median, high], rtol=0.15)
    found = unit_amplitudes(measured).join(units["amplitude_uv"])
    ratio = found["measured_uv"] / found["amplitude_uv"]
    assert len(ratio) >= 0.6 * len(units)
    assert 0.9 < ratio.median() < 1.1
    assert ratio.between(0.7, 1.35).all()


def test_rates_are_log_normal_around_3_hz_and_no_refractory_time_is_violated(measured):
    spikes = measured.table("spikes")
    counts = spikes.groupby("unit").size().to_numpy()
    rates = counts / measured.duration_s
    assert 2.3 < np.median(rates) < 3.9
    assert rates.max() <= 30.5
    low, high = np.quantile(rates, [0.16, 0.84])
    assert 0.7 < low < 1.7
    assert 5.5 < high < 11.5
    closest = [np.diff(own["sample_index"]).min() for _, own in spikes.groupby("unit")]
    assert min(closest) >= 0.002 * 30000


def test_place_fields_are_in_the_stated_part_of_units_and_as_wide_as_stated(measured):
    units = measured.table("units")
    assert abs(units["place_cell"].mean() - expected(measured, "place")) < 0.04
    widths = units["place_width_cm"].dropna()
    assert widths.between(25, 60).all()


def test_spikes_move_along_the_probe_by_the_stated_drift(measured):
    drift = measured.table("drift")["drift_um"].to_numpy()
    assert abs(abs(drift[-1] - drift[0]) - expected(measured, "drift")) < 0.2
    positions = measured.table("channels")["y_um"].to_numpy()[measured.good]
    spikes = measured.table("spikes").query("not in_saturation")
    units = measured.table("units").set_index("unit")
    moved = []
    for unit, own in spikes.groupby("unit"):
        depth = units.loc[unit, "y_um"]
        samples = own["sample_index"].to_numpy()
        parts = (
            samples[samples < 0.2 * len(measured.raw)],
            samples[samples > 0.8 * len(measured.raw)],
        )
        inner = positions.min() + 80 < depth < positions.max() - 80
        if min(len(part) for part in parts) < 8 or not inner:
            continue
        centers = []
        for part in parts:
            window = part[:, None] + np.arange(-15, 30)[None]
            average = measured.filtered[window][:, :, measured.good].mean(axis=0)
            size = np.clip(np.ptp(average, axis=0) - 15, 0, None)
            near = np.abs(positions - depth) < 110
            if size[near].max() > 30:
                centers.append(np.sum((size * positions)[near]) / np.sum(size[near]))
        if len(centers) == 2:
            moved.append(centers[1] - centers[0])
    assert moved
    # The centre of mass of few contacts underestimates a movement, but by less than half.
    assert 0.5 < np.median(moved) / (drift[-1] - drift[0]) < 1.2


def layer_trace(measured: Measured) -> np.ndarray:
    """The pyramidal layer's channel at 2.5 kHz: from the LF file, or the wide band itself."""
    channel = int(measured.table("layers")["channel"][0])
    if measured.model == "NP1":
        path = next(measured.session.rglob("*.imec0.lf.bin"))
        counts = np.fromfile(path, "<i2").reshape(-1, measured.n_channels + 1)[:, channel]
        return counts * (0.6 / 512 / 250 * 1e6)
    low = butter(4, 1000, fs=30000, output="sos")
    return sosfiltfilt(low, measured.microvolts[:, channel].astype(float))[::12]


def test_ripples_stand_out_by_the_stated_number_of_standard_deviations(measured):
    band = butter(3, (150, 250), "bandpass", fs=2500, output="sos")
    envelope = np.abs(hilbert(sosfiltfilt(band, layer_trace(measured))))
    events = measured.table("ripple_samples")
    free = np.ones(len(envelope), dtype=bool)
    for start, stop in measured.saturated // 12:
        free[max(start - 700, 0) : stop + 700] = False
    for event in events.itertuples():
        free[event.start_sample // 12 - 250 : event.stop_sample // 12 + 250] = False
    z = (envelope - envelope[free].mean()) / envelope[free].std()
    peaks = np.array(
        [z[e.start_sample // 12 - 15 : e.stop_sample // 12 + 15].max() for e in events.itertuples()]
    )
    low, high = expected(measured, "ripple_sd")
    assert len(peaks) >= 3
    assert peaks.min() > low - 1.2
    assert peaks.max() < high + 1.2
    wanted = measured.table("ripples")["peak_sd"].to_numpy()
    # The LF file holds what was levelled; a wide band adds spikes and the amplifier's noise.
    assert np.abs(peaks - wanted).max() < (0.5 if measured.model == "NP1" else 1.5)


def test_ripples_come_at_the_stated_rate_only_while_still_and_for_30_to_120_ms(measured):
    ripples, position = measured.table("ripples"), measured.table("position")
    still_s = position["still"].mean() * position["session_s"].iloc[-1]
    assert abs(len(ripples) / still_s - 0.3) < 0.07
    assert ripples["duration_s"].between(0.030, 0.120).all()
    speed = np.interp(ripples["peak_s"], position["session_s"], position["speed_cm_s"])
    assert (speed < 4).all()


def rising(level: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(level.astype(int)) == 1) + 1


def test_the_probes_clock_is_off_by_the_stated_rate_and_offset_and_its_pulses_tell_so(measured):
    """Match the probe's pulses with the NIDQ's through the truth's pieces, then fit them afresh."""
    nidq = np.fromfile(next(measured.session.rglob("*.nidq.bin")), "<i2").reshape(-1, 3)
    true = rising(nidq[:, 2] >> 3 & 1) / 30000
    seen = rising(measured.raw[:, -1] >> 6 & 1)
    pieces = measured.table("sync_map")
    assert len(pieces) == (2 if measured.difficulty == "hard" else 1)
    matched = extra = 0
    recorded = np.zeros(len(true), dtype=bool)
    for piece in pieces.itertuples():
        own = seen[(seen >= piece.start_sample) & (seen < piece.stop_sample)]
        session = piece.session_s + (own - piece.start_sample) / piece.rate_hz
        nearest = true[np.abs(true[:, None] - session).argmin(axis=0)]
        close = np.abs(nearest - session) < 0.001
        matched, extra = matched + close.sum(), extra + (~close).sum()
        slope = np.polyfit(nearest[close], own[close], 1)[0]
        assert abs((slope / 30000 - 1) * 1e6 - piece.ppm) < 3
        assert 5 <= abs(piece.ppm) <= 40
        assert 1 < abs(piece.offset_s) <= 30
        stop = piece.session_s + (piece.stop_sample - piece.start_sample) / piece.rate_hz
        recorded |= (true >= piece.session_s) & (true < stop)
    # A rise that falls into the pause of a restart shows as one at its end.
    assert extra in ({1} if len(pieces) == 1 else {1, 2})
    assert recorded.sum() - matched == 2


def test_the_seconds_in_the_pulse_table_are_those_of_the_sync_map(measured):
    pulses, pieces = measured.table("pulses"), measured.table("sync_map")
    kept = pulses[pulses["status"] == "seen"]
    for piece in pieces.itertuples():
        own = kept[kept["sample_index"].between(piece.start_sample, piece.stop_sample - 1)]
        session = piece.session_s + (own["sample_index"] - piece.start_sample) / piece.rate_hz
        assert np.abs(session - own["session_s"]).max() <= 1 / 30000
