"""Real recordings, from the rig's files to NWB. Skipped where the recordings are not there."""

from __future__ import annotations

import pytest
from labs import SHORT, SmallLab
from places import NO_NP24, NP24
from places import REAL as DATA

pytestmark = [pytest.mark.real, pytest.mark.integration, pytest.mark.slow]

LOCUST = (
    SHORT
    + """
readers:
  - glob: "*.raw"
    reader: binary
    options: {sampling_frequency: 15000, num_channels: 4, dtype: int16}
    gain_uv: 1.0
    offset_uv: 0.0
    probe: tetrode1
    probe_model: tetrode
    wiring: {positions_um: [[0, 0], [25, 0], [0, 25], [25, 25]]}
"""
)


@pytest.fixture(scope="module")
def spikewrap(tmp_path_factory) -> tuple[SmallLab, list[str]]:
    """Two runs of half a second, Neuropixels 2.0 four-shank, as they were published."""
    lab = SmallLab(tmp_path_factory.mktemp("spikewrap"), SHORT)
    if not NP24.is_dir():
        pytest.skip(NO_NP24)
    ephys = NP24 / "rawdata" / "sub-001" / "ses-001" / "ephys"
    # As a source of its own: the runs are of two days, and each is a session.
    keys = lab.register(ephys)
    key = keys[0]
    assert lab.run("process", key).success
    assert lab.run("publish", key).success
    return lab, keys


def test_each_run_is_a_recording_of_its_own(spikewrap):
    lab, keys = spikewrap
    assert len(keys) == 2
    durations = [lab.registry.get(key).recording.duration_s for key in keys]
    assert durations == [0.5, 0.5]


def test_the_copy_is_bit_exact_by_the_sha1_that_the_rig_wrote(spikewrap):
    lab, keys = spikewrap
    metrics = lab.store.current("compressed_recording", keys[0]).manifest.metrics
    assert metrics["verified"] == 1
    assert metrics["sha1_matches"] == 1
    assert metrics["compression_ratio"] > 2


def test_quality_and_channels_are_there_and_sorting_says_why_not(spikewrap):
    lab, keys = spikewrap
    states = lab.states(keys[0])
    done = {name for name, state in states.items() if state.outcome == "complete"}
    assert done >= {"compressed_recording", "recording_quality", "bad_channels", "lfp", "nwb"}
    assert states["sorting_tridesclous2"].detail.startswith("recording_too_short: 0.5")
    for name in ("analyzer_tridesclous2", "unit_quality_tridesclous2", "units"):
        assert states[name].detail.startswith(
            "skipped_upstream: sorting_tridesclous2: recording_too_short"
        ), name
    quality = lab.store.current("recording_quality", keys[0]).table("channel_quality")
    assert len(quality) == 384
    # The page of the data gives about 22 uV; the raw wide band holds the field potential too.
    assert 15 < quality["rms_destriped_uv"].median() < 30


def test_the_file_names_what_it_was_made_without(spikewrap):
    import pynwb

    lab, keys = spikewrap
    path = lab.store.current("nwb", keys[0]).local() / f"{keys[0]}.nwb"
    nwb = pynwb.read_nwb(str(path))
    assert "recording_too_short" in nwb.session_description
    assert len(nwb.electrodes) == 384
    assert nwb.units is None


@pytest.fixture(scope="module")
def locust(tmp_path_factory) -> tuple[SmallLab, str]:
    """One tetrode in the locust antennal lobe, described by a small entry in lab.yaml."""
    if not DATA.is_dir():
        pytest.skip(f"no real recordings in {DATA}")
    lab = SmallLab(tmp_path_factory.mktemp("locust"), LOCUST)
    keys = lab.register(DATA / "tridesclous_locust" / "locust")
    assert len(keys) == 2
    assert lab.run("process", keys[0]).success
    assert lab.run("publish", keys[0]).success
    return lab, keys[0]


def test_a_tetrode_is_sorted_to_units_and_nwb(locust):
    import pynwb

    lab, key = locust
    units = lab.store.current("units", key).table("units")
    # tridesclous2 finds 7 units in the two trials together, spykingcircus2 5 (see the data's page).
    assert 3 <= len(units) <= 12
    nwb = pynwb.read_nwb(str(lab.store.current("nwb", key).local() / f"{key}.nwb"))
    assert len(nwb.units) == len(units)
    assert len(nwb.electrodes) == 4


def test_a_tetrodes_presence_is_unknown_below_a_minute_and_that_is_a_reason(locust):
    lab, key = locust
    quality = lab.store.current("unit_quality_tridesclous2", key).table("unit_quality")
    assert quality["presence_ratio"].isna().all()
    assert quality["firing_rate"].gt(0).all()
