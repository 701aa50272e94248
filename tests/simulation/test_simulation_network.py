"""The level `network`, judged by decoding, circular fits and integrals that are made here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.signal import butter, sosfiltfilt

from neuro_assets.simulation import lfp, simulate_session
from neuro_assets.simulation.clocks import lay_out
from neuro_assets.simulation.levels import NAMED
from neuro_assets.simulation.plan import plan_probe
from neuro_assets.simulation.spikes import make_spikes
from neuro_assets.simulation.traces import ProbeSimulation
from neuro_assets.simulation.units import make_units
from neuro_assets.simulation.world import make_world


class Long:
    """Spikes of one large probe over some minutes."""

    def __init__(self, difficulty, duration_s):
        levels = NAMED[difficulty]
        timeline = lay_out(duration_s, 1, 1, levels)
        plan = plan_probe("NP1", 288, timeline, levels, 77, 0)
        self.world = make_world(timeline, [plan])
        self.units = make_units(plan)
        self.spikes = make_spikes(self.units, self.world, plan)
        times = plan.clock.times(self.spikes["sample"].to_numpy())
        last = np.searchsorted(self.world.runs["start_s"], times, side="right") - 1
        self.spikes = self.spikes.assign(
            time=times,
            position=self.world.position(times),
            running=self.world.speed(times) > 10,
            direction=self.world.runs["direction"].to_numpy()[np.clip(last, 0, None)],
            phase=np.interp(times, self.world.times, self.world.theta_phase),
        )
        self.cells = self.units[self.units["place_cell"]].set_index("unit")


@pytest.fixture(scope="module")
def long():
    return Long("network", 300)


def test_half_of_the_ripples_replay_at_5_to_15_m_a_second_on_the_track(long):
    ripples = long.world.ripples
    counts = ripples["content"].value_counts()
    assert set(counts.index) == {"forward", "reverse", "stationary", "shuffled"}
    assert counts[["forward", "reverse"]].sum() == pytest.approx(len(ripples) / 2, abs=0.5)
    assert np.ptp(counts[["forward", "reverse"]]) <= 1
    assert np.ptp(counts[["stationary", "shuffled"]]) <= 1
    replay = ripples[ripples["content"].isin(["forward", "reverse"])]
    assert replay["speed_m_s"].abs().between(5, 15).all()
    with_map = np.sign(replay["speed_m_s"]) == replay["map_direction"]
    assert (with_map == (replay["content"] == "forward")).all()
    assert (ripples[ripples["content"] == "stationary"]["speed_m_s"] == 0).all()
    assert (ripples[["from_cm", "to_cm"]] - 90).abs().to_numpy().max() <= 90
    moved = (replay["to_cm"] - replay["from_cm"]) / 100 / replay["duration_s"]
    np.testing.assert_allclose(moved, replay["speed_m_s"])


def decoded_speed(long, event):
    """Speed of the straight path under which the ripple's spikes are likeliest, m/s."""
    cells = long.cells
    cells = cells[~cells["bursty"] & (cells["place_direction"] * event.map_direction >= 0)]
    own = long.spikes[long.spikes["time"].between(event.start_s, event.stop_s)]
    own = own[own["unit"].isin(cells.index)]
    if own["unit"].nunique() < 4 or len(own) < 8:
        return np.nan
    found = cells.loc[own["unit"]]
    sigma = found["place_width_cm"].to_numpy() / (2 * np.sqrt(2 * np.log(5)))
    seconds = own["time"].to_numpy() - (event.start_s + event.stop_s) / 2
    middle, speed = np.meshgrid(np.arange(0, 181, 4), np.arange(-20, 20.1, 0.5), indexing="ij")
    likely = np.zeros(middle.shape)
    for second, center, width in zip(seconds, found["place_center_cm"], sigma, strict=True):
        away = middle + speed * 100 * second - center
        # A floor, so that one spike outside its field cannot decide.
        likely += np.log(np.exp(-(away**2) / (2 * width**2)) + 0.05)
    return speed.ravel()[likely.argmax()]


def test_replay_decoded_with_the_true_fields_has_the_true_speed(long):
    events = long.world.ripples
    events = events.assign(decoded=[decoded_speed(long, e) for e in events.itertuples()])
    events = events[events["decoded"].notna() & (events["duration_s"] > 0.05)]
    replay = events[events["content"].isin(["forward", "reverse"])]
    assert len(replay) >= 8
    assert (np.sign(replay["decoded"]) == np.sign(replay["speed_m_s"])).mean() > 0.9
    assert np.median(np.abs(replay["decoded"] - replay["speed_m_s"])) < 2
    still = events[events["content"] == "stationary"]
    assert len(still) >= 4
    assert np.median(np.abs(still["decoded"])) < 2.5
    shuffled = events[events["content"] == "shuffled"]
    off = np.abs(shuffled["decoded"] - shuffled["speed_m_s"])
    assert np.median(off) > 3 * np.median(np.abs(replay["decoded"] - replay["speed_m_s"]))


def precession(spikes, unit):
    """Change of theta phase through the field: the slope with the longest mean vector, radians."""
    own = spikes[(spikes["unit"] == unit.Index) & spikes["running"]]
    if unit.place_direction:
        own = own[own["direction"] == unit.place_direction]
    through = own["direction"] * (own["position"] - unit.place_center_cm) / unit.place_width_cm
    inside = through.abs() < 0.5
    own, through = own[inside], through[inside].to_numpy()
    if len(own) < 60:
        return np.nan
    slopes = np.arange(-12, 12.01, 0.1)
    turned = np.exp(1j * (own["phase"].to_numpy()[:, None] - through[:, None] * slopes))
    return slopes[np.abs(turned.mean(axis=0)).argmax()]


def test_spikes_precess_through_the_field_as_far_as_the_truth_says(long):
    cells = long.cells
    found = np.array([precession(long.spikes, cell) for cell in cells.itertuples()])
    told = np.isfinite(found)
    assert told.sum() >= 15
    off = found[told] - cells["precession_rad"].to_numpy()[told]
    assert np.median(np.abs(off)) < 0.5
    assert (found[told] < -2).mean() > 0.9


def test_fields_are_active_in_the_direction_that_the_truth_says(long):
    cells = long.cells
    assert (cells["place_direction"] != 0).mean() == pytest.approx(0.7, abs=0.15)
    running = long.spikes[long.spikes["running"]].join(cells["place_center_cm"], on="unit")
    away = (running["position"] - running["place_center_cm"]).abs()
    near = running[away < 12]
    counts = pd.crosstab(near["unit"], near["direction"])
    # Bursts are at least 40 ms apart, which flattens the fields of fast bursting cells.
    for cell in cells[~cells["bursty"]].itertuples():
        if cell.Index not in counts.index or counts.loc[cell.Index].sum() < 60:
            continue
        share = counts.loc[cell.Index, 1] / counts.loc[cell.Index].sum()
        if cell.place_direction:
            assert (share if cell.place_direction == 1 else 1 - share) > 0.85
        else:
            assert 0.3 < share < 0.7


def test_counts_and_refractory_times_hold_as_in_the_other_levels(long):
    counts = long.spikes.groupby("unit").size()
    np.testing.assert_allclose(counts / 300, long.units["rate_hz"], rtol=0.1)
    assert min(np.diff(own).min() for _, own in long.spikes.groupby("unit")["sample"]) >= 60


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    out = tmp_path_factory.mktemp("network")
    return simulate_session(
        out, duration_s=14, n_channels=48, seed=5, difficulty="network", video=False
    )


def table(session, name):
    return pd.read_parquet(session.truth / f"{name}.parquet")


def test_potentials_are_those_of_the_currents_by_integration_over_the_discs(session):
    """Against rings of point sources, each 1 / (4 pi sigma r), summed by quadrature."""
    currents = table(session, "currents")
    for source, own in currents.groupby("source"):
        depth, density = own["depth_um"].to_numpy() * 1e-6, own["csd_ua_mm3"].to_numpy() * 1e3
        assert abs(density.sum()) < 1e-9 * np.abs(density).sum(), "no charge is left over"
        step = depth[1] - depth[0]
        for row in (len(own) // 3, len(own) // 2):
            volts = 0.0
            for z, c in zip(depth[::4], density[::4], strict=True):
                away = abs(z - depth[row])
                ring = quad(lambda r, a=away: r / np.sqrt(r * r + a * a) if r + a else 1, 0, 500e-6)
                volts += c * 4 * step * ring[0] / (2 * 0.3)
            largest = own["potential_uv"].abs().max()
            assert volts * 1e6 == pytest.approx(own["potential_uv"].iloc[row], abs=0.02 * largest)
        curved = -0.3 * np.gradient(np.gradient(own["potential_uv"] * 1e-6, step), step)
        # In discs that are wide against the layers, current is the second derivative.
        assert np.corrcoef(curved, density)[0, 1] > 0.97, source


@pytest.mark.parametrize(("model", "n"), [("NP1", 1), ("NP1", 4), ("NP1", 16), ("NP2.4", 64)])
def test_a_short_probe_sees_the_same_currents_as_a_long_one(model, n):
    """Currents belong to the tissue; on the channels is what point sources of them add up to."""
    levels = NAMED["network"]
    timeline = lay_out(4, 1, 1, levels)
    plans = [plan_probe(model, count, timeline, levels, 5, 0) for count in (n, 384)]
    mixing, of_long = (lfp.make_mixing(plan) for plan in plans)
    density = mixing.currents["csd_ua_mm3"].to_numpy().reshape(4, -1)
    np.testing.assert_allclose(
        density, of_long.currents["csd_ua_mm3"].to_numpy().reshape(4, -1), rtol=1e-2, atol=1e-9
    )
    assert (np.abs(density.sum(axis=1)) < 1e-9 * np.abs(density).sum(axis=1)).all()
    # Beyond the lowest and highest current that is written down there is none left out.
    assert (np.abs(density[:, [0, -1]]) < 1e-6 * np.abs(density).max(axis=1)[:, None]).all()
    depth = mixing.currents["depth_um"].to_numpy()[: density.shape[1]]
    channel_um = plans[0].probe.positions[:, 1][::4]
    ring = (np.arange(2500) + 0.5) * 500 / 2500
    away = np.hypot(ring, (channel_um[:, None] - depth)[..., None])
    # uA/mm3 x um3 / (S/m x um) is 1e-3 uV; a ring of points lies at one distance.
    points = (2 * np.pi * ring * 0.2 / (4 * np.pi * 0.3 * away)).sum(axis=-1)
    summed = density @ points.T * np.diff(depth)[0] * 1e-3
    seen = mixing.weights[:4, ::4]
    sizes = np.array([[220.0], [110.0], [200.0], [1.0]])
    assert (np.abs(seen - summed) < 0.01 * sizes).all()


def test_theta_in_the_lf_file_is_the_potential_of_the_truths_currents(session):
    lf = np.fromfile(next(session.session.rglob("*.lf.bin")), "<i2").reshape(-1, 49)[:, :-1]
    lf = lf * (0.6 / 512 / 250 * 1e6)
    sync, theta = table(session, "sync_map").iloc[0], table(session, "theta")
    times = sync["session_s"] + np.arange(len(lf)) * 12 / sync["rate_hz"]
    phase = np.interp(times, theta["session_s"], np.unwrap(theta["phase_rad"]))
    size = np.interp(times, theta["session_s"], theta["amplitude"])
    clean = np.convolve(np.abs(lf).max(axis=1) > 1100, np.ones(2501), "same") == 0
    clean &= (size > 0.8) & (times > times[1250]) & (times < times[-1250])
    assert clean.mean() > 0.2
    band = butter(2, (4, 14), "bandpass", fs=2500, output="sos")
    basis = sosfiltfilt(band, np.column_stack([size * np.cos(phase), size * np.sin(phase)]), axis=0)
    seen = np.linalg.lstsq(basis[clean], sosfiltfilt(band, lf, axis=0)[clean], rcond=None)[0]
    channels, currents = table(session, "channels"), table(session, "currents")
    good = (channels["label"] == "good").to_numpy()
    for row, source in enumerate(["theta_cos", "theta_sin"]):
        own = currents[currents["source"] == source]
        expected = np.interp(channels["y_um"][good], own["depth_um"], own["potential_uv"])
        assert np.corrcoef(seen[row, good], expected)[0, 1] > 0.9
        # The background field, which is common to neighbours, adds some 10 uV.
        assert np.abs(seen[row, good] - expected).mean() < 0.15 * np.abs(expected).max() + 12


def test_the_ripples_current_is_levelled_on_the_layers_channel(session):
    layer, currents = table(session, "layers").iloc[0], table(session, "currents")
    channels = table(session, "channels").set_index("channel")
    own = currents[currents["source"] == "ripple"]
    depth = channels.loc[layer["channel"], "y_um"]
    assert np.interp(depth, own["depth_um"], own["potential_uv"]) == pytest.approx(1, abs=0.01)
    peak = own["depth_um"].iloc[own["csd_ua_mm3"].argmax()]
    assert peak == pytest.approx(layer["pyramidal_um"], abs=5)


def test_fields_are_sampled_as_late_as_the_channels_slot_says(monkeypatch):
    """A converter takes its channels in turn, in the LF band too (`inter_sample_shift`)."""
    monkeypatch.setattr(lfp, "LF_NOISE_UV", 0.0)
    levels = replace(NAMED["network"], saturation_events=0)
    timeline = lay_out(4, 1, 1, levels)
    plan = plan_probe("NP1", 48, timeline, levels, 9, 0)
    at_once = replace(plan.probe, shifts=np.zeros_like(plan.probe.shifts))

    def band(plan):
        simulation = ProbeSimulation(plan, make_world(timeline, [plan]))
        return np.concatenate([lf for _, lf in simulation.chunks()]).astype(float)

    late, now = (
        np.fft.rfft(band(plan), axis=0),
        np.fft.rfft(band(replace(plan, probe=at_once)), axis=0),
    )
    frequency = np.fft.rfftfreq(4 * 2500, 1 / 2500)
    low = (frequency > 2) & (frequency < 40)
    for channel in np.flatnonzero(plan.probe.shifts > 0.5)[:5]:
        cross = late[low, channel] * now[low, channel].conj()
        seconds = np.sum(np.angle(cross) * np.abs(cross) * frequency[low]) / np.sum(
            2 * np.pi * frequency[low] ** 2 * np.abs(cross)
        )
        assert seconds * 2500 == pytest.approx(plan.probe.shifts[channel], abs=0.1)
