"""Cohort tables: types and columns that do not depend on what is there."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from neuro_assets.science.tables import (
    INSERTION_COLUMNS,
    KEY_COLUMNS,
    UNIT_COLUMNS,
    insertions,
    units_table,
)


def record(key="a_20240512_1_probe00", lab="lab", subject="a", number="1", probe="probe00", **more):
    return {
        "key": key,
        "session": {"lab": lab, "subject": subject, "date": "2024-05-12", "number": number},
        "recording": {
            "probe": probe,
            "qualifier": "g1",
            "probe_model": "NP2014",
            "identity": {"probe_serial": "123", "size_bytes": 1},
            "streams": {"ap": {"n_channels": 385, "n_samples": 900000, "sampling_frequency": 3e4}},
        },
        "raw_version": "0123",
        "state": "ready",
        "eid": None,
        "pid": "p",
        "first_seen": "2024-05-13T00:00:01Z",
    } | more


def frame(n=2, **columns):
    given = {
        "unit_id": list(range(n)),
        "uuid": [f"u{k}" for k in range(n)],
        "good": pd.array([True] * n, dtype="boolean"),
        "num_spikes": np.arange(n) + 10,
        "firing_rate": np.linspace(1, 2, n),
    }
    return pd.DataFrame(given | columns)


def kinds(table):
    return {name: str(dtype) for name, dtype in table.dtypes.items()}


def test_without_recordings_the_tables_are_empty_with_all_columns():
    units, rows = units_table({}, {}), insertions({}, {}, {}, ["lfp"])
    assert len(units) == len(rows) == 0
    assert kinds(units) == KEY_COLUMNS | UNIT_COLUMNS
    extra = {"lfp__outcome": "string", "lfp__reason": "string"}
    assert kinds(rows) == KEY_COLUMNS | INSERTION_COLUMNS | extra


def test_each_unit_knows_its_recording():
    frames = {"b_20240512_1_probe01": frame(3), "a_20240512_1_probe00": frame(2)}
    records = {
        "a_20240512_1_probe00": record(),
        "b_20240512_1_probe01": record(subject="b", probe="probe01", lab="other"),
    }
    table = units_table(frames, records)
    assert list(table["key"]) == ["a_20240512_1_probe00"] * 2 + ["b_20240512_1_probe01"] * 3
    assert list(table["subject"]) == ["a"] * 2 + ["b"] * 3
    assert list(table["probe"]) == ["probe00"] * 2 + ["probe01"] * 3
    assert list(table["lab"]) == ["lab"] * 2 + ["other"] * 3
    assert set(table["date"]) == {pd.Timestamp("2024-05-12")}
    assert list(table["unit_id"]) == ["0", "1", "0", "1", "2"]
    assert list(table["num_spikes"]) == [10, 11, 10, 11, 12]


@pytest.mark.parametrize(
    "more",
    [
        {"num_spikes": [1, 2], "extra": [1, 2], "flag": [True, False], "text": ["x", None]},
        {
            "num_spikes": [1.5, np.nan],
            "extra": [np.nan, 0.5],
            "flag": [True, None],
            "text": ["", "y"],
        },
        {
            "num_spikes": pd.array([1, None], dtype="Int64"),
            "extra": pd.array([None, 1], dtype="Int8"),
        },
        {"good": [True, None], "unit_id": ["#a", "b"], "source": [None, None]},
        {"extra": np.array([1, 2], np.uint8), "flag": pd.array([None, True], dtype="boolean")},
    ],
)
def test_types_do_not_depend_on_what_a_recording_holds(more):
    wanted = {"extra": "float64", "flag": "boolean", "text": "string"}
    table = units_table({"a": frame(2, **more)}, {"a": record()})
    have = kinds(table)
    assert {name: have[name] for name in KEY_COLUMNS | UNIT_COLUMNS} == KEY_COLUMNS | UNIT_COLUMNS
    assert all(have[name] == wanted[name] for name in wanted if name in have)
    assert len(table) == 2


def test_metrics_that_only_some_recordings_have_are_unknown_elsewhere():
    frames = {"a": frame(1, drift=[3.0]), "b": frame(1), "c": frame(0)}
    table = units_table(frames, {key: record(key) for key in frames})
    assert table["drift"].iloc[0] == 3.0
    assert np.isnan(table["drift"].iloc[1])
    assert len(table) == 2
    assert list(table.columns[-1:]) == ["drift"]


def test_a_column_that_is_a_number_here_and_a_word_there_becomes_text():
    table = units_table({"a": frame(1, odd=[1.0]), "b": frame(1, odd=["x"])}, {})
    assert kinds(table)["odd"] == "string"
    assert list(table["odd"]) == ["1.0", "x"]


def test_a_recording_without_a_record_keeps_its_units():
    table = units_table({"a": frame(1)}, {})
    assert table["key"].tolist() == ["a"]
    assert table["lab"].isna().all()
    assert table["date"].isna().all()


def test_what_a_frame_says_of_its_recording_does_not_replace_the_registry():
    table = units_table({"a": frame(1, lab=["wrong"], key=["wrong"])}, {"a": record(lab="right")})
    assert table["lab"].tolist() == ["right"]
    assert table["key"].tolist() == ["a"]


def test_an_insertion_tells_outcomes_reasons_and_metrics():
    key = "a_20240512_1_probe00"
    outcomes = {
        key: {
            "lfp": {"outcome": "complete", "reason": None},
            "sorting_x": {"outcome": "skipped", "reason": "recording_too_short"},
            "nwb": {"outcome": "failed", "reason": "the disk is full"},
            "units": {"outcome": "waiting", "reason": None},
        }
    }
    metrics = {key: {"lfp": {"lfp_rms_uv_median": 81.5, "source_stream": "lf", "ok": True}}}
    table = insertions(
        {key: record()}, outcomes, metrics, ["lfp", "motion", "nwb", "sorting_x", "units"]
    )
    row = table.iloc[0]
    assert row["lfp__outcome"] == "complete"
    assert row["sorting_x__outcome"] == "skipped"
    assert row["sorting_x__reason"] == "recording_too_short"
    assert row["units__outcome"] == "waiting"
    assert pd.isna(row["motion__outcome"])
    assert row["lfp__lfp_rms_uv_median"] == 81.5
    assert (row["lfp__source_stream"], row["lfp__ok"]) == ("lf", True)
    assert [row[f"n_{name}"] for name in ("complete", "skipped", "failed", "missing")] == [
        1,
        1,
        1,
        2,
    ]
    assert (row["duration_s"], row["n_channels"], row["probe_serial"]) == (30.0, 385, "123")
    assert row["first_seen"] == pd.Timestamp("2024-05-13T00:00:01", tz="UTC")
    assert kinds(table)["lfp__ok"] == "boolean"


def test_an_insertion_that_nothing_was_made_of_has_its_row():
    table = insertions({"a": record("a"), "b": record("b")}, {}, {}, ["lfp"])
    assert table["key"].tolist() == ["a", "b"]
    assert table["n_missing"].tolist() == [1, 1]
    fixed = KEY_COLUMNS | INSERTION_COLUMNS
    assert {name: kinds(table)[name] for name in fixed} == fixed


def test_registry_records_are_taken_as_they_are():
    from neuro_assets.registry.records import RecordingRecord

    plain = record(problems=[], missing=[])
    plain["recording"] |= {"format": "spikeglx"}
    plain["recording"]["streams"]["ap"] |= {"name": "ap", "files": ["x.bin"]}
    model = RecordingRecord.model_validate(plain)
    table = insertions({model.key: model.model_dump(mode="json")}, {}, {}, [])
    row = table.iloc[0]
    assert (row["lab"], row["subject"], row["number"], row["probe"]) == ("lab", "a", "1", "probe00")
    assert row["date"] == pd.Timestamp(dt.date(2024, 5, 12))
    assert row["duration_s"] == 30.0


def test_the_tables_survive_parquet(tmp_path):
    tables = {
        "full": units_table({"a": frame(2, flag=[True, None])}, {"a": record()}),
        "empty": units_table({}, {}),
        "insertions": insertions(
            {"a": record("a")}, {"a": {"lfp": {"outcome": "failed"}}}, {}, ["lfp"]
        ),
    }
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
        back = pd.read_parquet(tmp_path / f"{name}.parquet")
        pd.testing.assert_frame_equal(back, table, check_index_type=False)
