"""Names of files, probes and sessions."""

from __future__ import annotations

from datetime import date
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_assets.formats.names import (
    parse_probe_name,
    parse_spikeglx_name,
    strip_uuid,
)
from neuro_assets.formats.session_fields import bare_fields, one_fields
from neuro_assets.formats.walk import Listing, natural_key


@pytest.mark.parametrize("text", ["imec", "imec0", "imec00", "probe00", "probe0", "Probe_00"])
def test_every_spelling_of_the_first_probe_is_probe00(text):
    assert str(parse_probe_name(text)) == "probe00"


@pytest.mark.parametrize(
    ("text", "name", "shank"),
    [
        ("probe00a", "probe00", 0),
        ("probe00d", "probe00", 3),
        ("probe12", "probe12", None),
        ("imec1", "probe01", None),
        ("run_g0_imec3", "probe03", None),
        ("probe_left", "probe00", None),
        ("probe_right", "probe01", None),
        ("ProbeA", "probe00", None),
        ("ProbeC", "probe02", None),
    ],
)
def test_a_probe_name_gives_number_and_shank(text, name, shank):
    parsed = parse_probe_name(text)
    assert (str(parsed), parsed.shank) == (name, shank)


@pytest.mark.parametrize(
    "text", ["", "raw_ephys_data", "prober", "probes", "probea", "imecx9", "behaviour", "00"]
)
def test_other_names_are_no_probe(text):
    assert parse_probe_name(text) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Noise_g0_t0.imec0.ap.bin", ("Noise", 0, 0, "imec0", "ap", "bin", "")),
        ("my run_g12_t3.imec.lf.meta", ("my run", 12, 3, "imec", "lf", "meta", "")),
        ("a_g1_b_g0_t0.imec10.ap.cbin", ("a_g1_b", 0, 0, "imec10", "ap", "cbin", "")),
        ("77.230125_2023-04-27_g0_tcat.imec0.ap.bin",
         ("77.230125_2023-04-27", 0, None, "imec0", "ap", "bin", "tcat")),
        ("x_g0_t0.exported.imec0.ap.bin", ("x", 0, 0, "imec0", "ap", "bin", "exported")),
        ("r_g0_t0.obx0.obx.bin", ("r", 0, 0, "obx0", "obx", "bin", "")),
        ("r_g0_t0.nidq.bin", ("r", 0, 0, "nidq", "", "bin", "")),
        ("mouse5.imec1.ap.bin", ("mouse5", None, None, "imec1", "ap", "bin", "")),
        ("_spikeglx_ephysData_g0_t0.imec0.ap.01234567-89ab-cdef-0123-456789abcdef.cbin",
         ("_spikeglx_ephysData", 0, 0, "imec0", "ap", "cbin", "")),
        ("Mäuse Größe_g0_t0.imec0.ap.bin", ("Mäuse Größe", 0, 0, "imec0", "ap", "bin", "")),
    ],
)  # fmt: skip
def test_a_spikeglx_name_is_read_as_it_is_now(name, expected):
    parsed = parse_spikeglx_name(name)
    assert (
        parsed.run,
        parsed.gate,
        parsed.trigger,
        parsed.device,
        parsed.band,
        parsed.extension,
        parsed.derived,
    ) == expected


def test_other_files_are_not_spikeglx():
    assert parse_spikeglx_name("video.mp4") is None
    assert parse_spikeglx_name("_spikeglx_sync.times.npy") is None


def test_a_uuid_is_taken_off_an_alf_name():
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    assert strip_uuid(f"a.imec0.ap.{uuid}.ch") == "a.imec0.ap.ch"
    assert strip_uuid("a.imec0.ap.ch") == "a.imec0.ap.ch"


@pytest.mark.property
@given(
    run=st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/\\.\n\r"),
                min_size=1, max_size=20),
    gate=st.integers(0, 99),
    trigger=st.integers(0, 99),
    probe=st.integers(0, 20),
)  # fmt: skip
def test_any_run_name_comes_back(run, gate, trigger, probe):
    parsed = parse_spikeglx_name(f"{run}_g{gate}_t{trigger}.imec{probe}.ap.bin")
    assert (parsed.run, parsed.gate, parsed.trigger) == (run, gate, trigger)
    assert parse_probe_name(parsed.device).number == probe


@pytest.mark.property
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=10))
def test_natural_order_is_numeric_order(numbers):
    names = sorted((f"t{n}" for n in numbers), key=natural_key)
    assert [int(name[1:]) for name in names] == sorted(numbers)


def test_one_layout_is_read_with_and_without_a_lab():
    fields = one_fields(PurePosixPath("/data/lab/Subjects/a_b c/2024-05-12/001"))
    assert (fields.lab, fields.subject, fields.date, fields.number) == (
        "lab",
        "a_b c",
        date(2024, 5, 12),
        "001",
    )
    assert one_fields(PurePosixPath("Subjects/s/2024-05-12/2")).lab == ""
    assert one_fields(PurePosixPath("Subjects/s/2024-13-12/2")) is None
    assert one_fields(PurePosixPath("lab/s/2024-05-12/2")) is None


@pytest.mark.parametrize(
    ("name", "subject", "day", "number"),
    [
        ("ZFM-06048_20240512_2_g0", "ZFM-06048", date(2024, 5, 12), "2"),
        ("M 1 2024-05-12", "M 1", date(2024, 5, 12), "1"),
        ("mouse_2024-05-12_10-30-00", "mouse", date(2024, 5, 12), "1"),
        ("nothing_known_g0", "nothing_known", date(1970, 1, 1), "1"),
        ("../../x", "x", date(1970, 1, 1), "1"),
    ],
)
def test_a_bare_folder_gives_subject_date_and_number(name, subject, day, number):
    fields = bare_fields(Path(name), (), Listing())
    assert (fields.subject, fields.date, fields.number) == (subject, day, number)
