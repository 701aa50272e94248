"""The level `realistic`, measured from its samples; and that no two levels share an identity."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfiltfilt, welch
from scipy.stats import kurtosis

from neuro_assets.simulation import simulate_session, traces
from neuro_assets.simulation.clocks import lay_out
from neuro_assets.simulation.levels import NAMED, STANDARD
from neuro_assets.simulation.plan import plan_probe
from neuro_assets.simulation.tissue_noise import TissueNoise
from neuro_assets.simulation.traces import ProbeSimulation
from neuro_assets.simulation.world import make_world
from neuro_assets.sources.folders.source import LocalSessionSource

REALISTIC = NAMED["realistic"]
NP2_UV = 0.62 / 2048 / 100 * 1e6
N_CHANNELS = 32


def high_passed(microvolts):
    sos = butter(3, 300, "highpass", fs=30000, output="sos")
    return sosfiltfilt(sos, microvolts, axis=0)


class Made:
    """Twelve seconds of one session, read from its files alone."""

    def __init__(self, out, difficulty):
        made = simulate_session(
            out,
            duration_s=12,
            n_channels=N_CHANNELS,
            seed=41,
            difficulty=difficulty,
            probe_model="NP2",
            video=False,
        )
        self.session, self.truth = made.session, made.truth
        path = next(made.session.rglob("*.ap.bin"))
        raw = np.fromfile(path, "<i2").reshape(-1, N_CHANNELS + 1)[:, :-1]
        self.saturated = (np.abs(raw) >= 2047).mean(axis=1) > 0.5
        self.microvolts = raw * NP2_UV
        self.filtered = high_passed(self.microvolts)
        self.good = np.flatnonzero(self.table("channels")["label"] == "good")

    def table(self, name):
        return pd.read_parquet(self.truth / f"{name}.parquet")

    def quiet(self):
        """Samples without saturation, artefacts or the spikes of single units."""
        busy = np.convolve(self.saturated, np.ones(6001), "same") > 0
        spikes = self.table("spikes").merge(self.table("units"), on="unit")
        single = spikes["label"] == "single unit" if "label" in spikes else spikes["unit"] >= 0
        for sample in spikes[single]["sample_index"]:
            busy[max(sample - 40, 0) : sample + 90] = True
        if (self.truth / "artefacts.parquet").exists():
            for event in self.table("artefacts").itertuples():
                busy[max(event.start_sample - 900, 0) : event.stop_sample + 900] = True
        return ~busy


@pytest.fixture(scope="module", params=["standard", "realistic"])
def both(request, tmp_path_factory):
    return request.param, Made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("realistic"), "realistic")


def test_the_background_has_heavier_tails_than_gaussian_noise(both):
    difficulty, made = both
    tails = np.median(kurtosis(made.filtered[made.quiet()][:, made.good], axis=0))
    assert tails > 0.07 if difficulty == "realistic" else abs(tails) < 0.04


def test_channels_differ_in_noise_as_the_truth_says(made):
    channels = made.table("channels")
    measured = made.filtered[made.quiet()].std(axis=0)
    level = channels["noise_uv"].to_numpy()
    spread = np.log(level[made.good]).std()
    assert 0.03 < spread < 0.1
    # Small units add to the noise: most on average, little to the differences.
    ratio = measured[made.good] / level[made.good]
    assert 0.97 < np.median(ratio) < 1.25
    assert np.corrcoef(measured[made.good], level[made.good])[0, 1] > 0.7
    noisy = channels["label"] == "noisy"
    assert (measured[noisy] / np.median(measured)).item() == pytest.approx(
        level[noisy].item() / np.median(measured), rel=0.1
    )
    assert 1.8 < level[noisy].item() / 15 < 5.5


def noise_alone(n_channels=64, seconds=4):
    """Noise with all channels sampled at one moment, so that only distance counts."""
    plan = plan_probe("NP2", n_channels, lay_out(10, 1, 1, REALISTIC), REALISTIC, 8, 0)
    plan = replace(plan, probe=replace(plan.probe, shifts=np.zeros(n_channels)))
    maker = TissueNoise(plan, np.zeros(n_channels))
    return plan, maker, maker.next(seconds * 30000)


def test_noise_is_at_its_level_and_falls_with_frequency_as_stated():
    plan, maker, noise = noise_alone()
    good = np.setdiff1d(np.arange(64), plan.bad)
    deviation = high_passed(noise)[:, good].std(axis=0)
    # Rounding to counts, which adds 0.8 uV, is not part of it yet.
    np.testing.assert_allclose(deviation, maker.level_uv[good], rtol=0.03)
    hz, power = welch(noise[:, good].mean(axis=1), 30000, nperseg=4096)
    fit = (hz > 300) & (hz < 6000)
    slope = np.polyfit(np.log(hz[fit]), np.log(power[fit]), 1)[0]
    assert slope == pytest.approx(-1.3, abs=0.15)


def test_noise_is_shared_over_the_stated_distance():
    plan, _, noise = noise_alone()
    good = np.setdiff1d(np.arange(64), plan.bad)
    shared = np.corrcoef(high_passed(noise)[:, good].T)
    positions = plan.probe.positions[good]
    away = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    far = shared[away > 300].mean()
    assert far == pytest.approx(0.29, abs=0.03)
    near = (away > 10) & (away < 60)
    slope, offset = np.polyfit(away[near], np.log(shared[near] - far), 1)
    assert -1 / slope == pytest.approx(30, rel=0.25)
    assert np.exp(offset) == pytest.approx(0.57, abs=0.1)


def test_amplitudes_vary_by_10_to_20_percent_from_spike_to_spike(made):
    spikes = made.table("spikes").merge(made.table("units"), on="unit", suffixes=("", "_unit"))
    plain = spikes[~spikes["bursty"] & (spikes["n_spikes"] > 100)]
    spread = plain.groupby("unit")["amplitude_uv"].agg(lambda own: own.std() / own.mean())
    assert spread.between(0.075, 0.235).all()
    assert 0.12 < spread.median() < 0.18
    large = plain[plain["label"] == "single unit"].sort_values("amplitude_uv_unit").tail(1)
    own = plain[(plain["unit"] == large["unit"].item()) & ~plain["in_saturation"]]
    peak = own["sample_index"].to_numpy()[:, None] + np.arange(-4, 5)
    trough = -made.filtered[peak, int(large["peak_channel"].item())].min(axis=1)
    assert np.corrcoef(trough, own["amplitude_uv"])[0, 1] > 0.5


def test_small_units_are_many_small_and_multi_unit_in_the_truth(made):
    units = made.table("units")
    small = units[units["label"] == "multi-unit"]
    assert len(small) == 2 * N_CHANNELS
    assert (units["label"] == "single unit").sum() == round(N_CHANNELS / 3)
    assert small["amplitude_uv"].median() == pytest.approx(20, rel=0.1)
    assert not small["place_cell"].any()
    assert (small["n_spikes"] > 0).all()


def test_artefacts_are_on_all_channels_where_and_as_large_as_the_truth_says(made):
    events = made.table("artefacts")
    assert set(events["kind"]) == {"movement", "electrical"}
    hum_free = butter(2, [1.5, 35], "bandpass", fs=30000, output="sos")
    slow = sosfiltfilt(hum_free, made.microvolts[:, made.good].mean(axis=1))
    fast = np.median(made.filtered[:, made.good], axis=1)
    for event in events.itertuples():
        inside = slice(event.start_sample, event.stop_sample)
        if made.saturated[inside].any():
            continue
        seen = np.abs((slow if event.kind == "movement" else fast)[inside]).max()
        assert 0.5 < seen / event.peak_uv < 1.4


def test_mains_hum_stands_out_at_50_hz(made):
    busy = made.saturated.copy()
    for event in made.table("artefacts").itertuples():
        busy[event.start_sample : event.stop_sample] = True
    start = next(s for s in range(0, 300_000, 3000) if not busy[s : s + 40_000].any())
    clean = made.microvolts[start : start + 40_000, made.good[0]]
    hz, power = welch(clean, 30000, nperseg=30000)
    assert power[50] > 20 * np.median(power[[44, 46, 47, 53, 54, 56]])


def test_what_a_sample_holds_does_not_depend_on_the_pieces(monkeypatch):
    timeline = lay_out(2, 1, 1, REALISTIC)
    plan = plan_probe("NP1", 16, timeline, REALISTIC, 3, 0)
    simulation = ProbeSimulation(plan, make_world(timeline, [plan]))
    whole = [np.concatenate(band) for band in zip(*simulation.chunks(), strict=True)]
    monkeypatch.setattr(traces, "CHUNK", 4_812)
    pieces = [np.concatenate(band) for band in zip(*simulation.chunks(), strict=True)]
    for one, other in zip(whole, pieces, strict=True):
        differ = one != other
        # Sums in another order may round the other way, a count at most.
        assert differ.mean() < 1e-4
        assert np.abs(one.astype(int) - other)[differ].max(initial=0) <= 1


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """What the folder source finds a session of equal seed and arguments to be, by level."""
    found = {}
    for difficulty in NAMED:
        out = tmp_path_factory.mktemp(difficulty)
        simulate_session(
            out, duration_s=0.5, n_channels=4, seed=6, difficulty=difficulty, video=False
        )
        source = LocalSessionSource(out, name="rig", settle_s=0)
        session = source.describe("simlab/Subjects/SIM-001/2025-01-15/001", settled=False)
        found[difficulty] = session.recordings[0].identity
    return found


def test_an_equal_seed_with_another_level_is_another_recording(identities):
    for (first, one), (second, other) in combinations(identities.items(), 2):
        assert not one.is_same(other), (first, second)
        if {first, second} == {"standard", "hard"}:
            continue
        assert one.probe_serial != other.probe_serial
        assert one.created != other.created
        assert one.first_sample != other.first_sample


@pytest.mark.parametrize(("difficulty", "checksum"), [("standard", 241812791), ("hard", 968744923)])
def test_the_first_two_levels_stay_as_they_are(tmp_path, difficulty, checksum):
    made = simulate_session(
        tmp_path, duration_s=4, n_channels=16, seed=6, difficulty=difficulty, video=False
    )
    meta = next(made.session.rglob("*.ap.meta")).read_text()
    assert "imDatPrb_sn=19051016222\n" in meta
    assert "fileCreateTime=2025-01-15T10:00:00\n" in meta
    spikes = pd.read_parquet(made.truth / "spikes.parquet")
    assert zlib.crc32(spikes[["unit", "sample_index"]].to_csv().encode()) == checksum
    levels = json.loads((made.truth / "session.json").read_text())["levels"]
    assert not {"number", "recording"} & set(levels)
    assert levels["noise_uv"] == {"standard": 10, "hard": 14}[difficulty]
    assert STANDARD.recording is None
