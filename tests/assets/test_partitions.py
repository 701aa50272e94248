"""The partition key: readable, reversible, and safe whatever a subject is called."""

from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.recording_key import RecordingKey, safe_name

DAY = date(2024, 5, 12)
hostile = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="./\\_- |,[]é%~$0", max_size=20),
    st.sampled_from(
        ["../../x", "M 1", "", ".", "..", "...", "a|b", "CON", "x" * 300, "日本", "\0"]
    ),
)


@pytest.mark.property
@given(hostile, st.dates(min_value=date(1990, 1, 1)), hostile, hostile, hostile)
def test_any_name_gives_a_key_that_parses_to_itself(subject, day, number, probe, qualifier):
    key = RecordingKey.make(subject, day, number, probe, qualifier)
    assert RecordingKey.parse(str(key)) == key


@pytest.mark.property
@given(hostile, hostile)
def test_no_name_leaves_its_folder_or_speaks_dagsters_syntax(subject, probe):
    text = str(RecordingKey.make(subject, DAY, 1, probe))
    assert PurePosixPath(text).parts == (text,)
    assert not text.startswith(".")
    assert ".." not in text
    assert not set(text) & set("|,[]/\\ \0\n")


def test_dagster_takes_the_key_of_a_hostile_subject():
    text = str(RecordingKey.make("../../x y|z", DAY, 1, "probe00"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SESSION_PROBE.name, [text])
        assert instance.has_dynamic_partition(SESSION_PROBE.name, text)


def test_a_key_of_the_field_is_read_from_the_right():
    key = RecordingKey.parse("my_mouse_3_20240512_1_probe00-g1")
    assert key == RecordingKey("my_mouse_3", DAY, "1", "probe00", "g1")


def test_the_number_loses_its_zeros_and_a_concatenation_keeps_its_letter():
    assert str(RecordingKey.make("M1", DAY, "001", "probe00")) == "M1_20240512_1_probe00"
    assert str(RecordingKey.make("M1", DAY, "c2", "probe00")) == "M1_20240512_c2_probe00"


def test_two_names_that_differ_only_in_a_forbidden_character_share_their_safe_name():
    assert safe_name("M 1") == safe_name("M-1")


@pytest.mark.parametrize("text", ["", "probe00", "M1_2024_1_probe00", "M1_20241332_1_probe00"])
def test_what_is_not_a_key_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="as in ZFM"):
        RecordingKey.parse(text)
