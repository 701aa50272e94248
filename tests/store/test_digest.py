"""The content digest: equal for equal content however written, another one for any change."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuro_assets.formats.stream import RawStream
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.parameters.compression import CompressionParameters
from neuro_assets.science.compression.run import compress_recording
from neuro_assets.store import Manifest
from neuro_assets.store.digest import content_digest

FRAME = pd.DataFrame(
    {"unit": [1, 2, 3], "snr": [1.5, np.nan, 3.0], "name": ["a", None, "c"], "good": [True] * 3}
)


def manifest(**more) -> Manifest:
    fields = {"asset": "a", "key": "K", "version": "v", "outcome": "complete", **more}
    return Manifest(**fields)


def digest(folder: Path, known: dict[str, str] | None = None, **more) -> str:
    return content_digest(folder, manifest(**more), known or {})


def table(tmp_path: Path, name: str, frame: pd.DataFrame, **options) -> str:
    folder = tmp_path / name
    folder.mkdir()
    options = {"compression": "zstd", **options}
    written = pa.Table.from_pandas(frame).replace_schema_metadata({b"from": name.encode()})
    pq.write_table(written, folder / "t.parquet", **options)
    return digest(folder)


def test_a_table_is_its_values_and_not_its_encoding(tmp_path):
    base = table(tmp_path, "a", FRAME)
    assert table(tmp_path, "b", FRAME, compression="snappy", row_group_size=2) == base
    assert table(tmp_path, "c", FRAME.astype({"name": "category"}), use_dictionary=False) == base


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(snr=[1.5, np.nan, 3.0000000000000004]),
        lambda f: f.assign(snr=[1.5, 0.0, 3.0]),
        lambda f: f.assign(name=["a", "", "c"]),
        lambda f: f.assign(name=["ac", None, ""]),
        lambda f: f.assign(unit=f["unit"].astype("int32")),
        lambda f: f.assign(good=[True, True, False]),
        lambda f: f.rename(columns={"snr": "SNR"}),
        lambda f: f[["snr", "unit", "name", "good"]],
        lambda f: f.iloc[[1, 0, 2]],
        lambda f: f.head(2),
    ],
)
def test_any_change_of_a_table_shows(tmp_path, change):
    base = table(tmp_path, "a", FRAME)
    assert table(tmp_path, "b", change(FRAME).reset_index(drop=True)) != base


ODD_NUMBERS = [float("nan"), float("inf"), float("-inf"), None, 0.0]


def differ(digests) -> None:
    found = list(digests)
    assert len(set(found)) == len(found)


def test_each_number_that_is_none_is_another_content_in_a_list_of_a_table(tmp_path):
    kind = pa.list_(pa.float64())
    differ(
        parquet(tmp_path / str(n), pa.table({"l": pa.array([[1.0, value]], kind)}))
        for n, value in enumerate(ODD_NUMBERS)
    )


def test_each_number_that_is_none_is_another_content_in_an_attribute(tmp_path):
    import zarr

    def attributes(folder: Path, **values) -> str:
        zarr.open_group(str(folder / "x.zarr"), mode="w").attrs.update(values)
        return digest(folder)

    values = [*({"v": v} for v in ODD_NUMBERS), *({"v": [{"w": v}]} for v in ODD_NUMBERS)]
    words = [{"v": "NaN"}, {"v": "Infinity"}]
    differ(attributes(tmp_path / str(n), **each) for n, each in enumerate([*values, *words]))


def parquet(folder: Path, written: pa.Table) -> str:
    folder.mkdir()
    pq.write_table(written, folder / "t.parquet")
    return digest(folder)


AT = datetime(2026, 1, 2, 3, 4, 5, 6)
HOUR, UTC_HOUR = timedelta(hours=1), AT.replace(tzinfo=UTC)
TYPES = {
    "bytes": (pa.binary(), b"\xff\0", b"\xfe\0"),
    "fixed bytes": (pa.binary(2), b"\xff\0", b"\xfe\0"),
    "decimal": (pa.decimal128(10, 2), Decimal("1.25"), Decimal("1.26")),
    "date": (pa.date32(), AT.date(), AT.date() + 24 * HOUR),
    "time": (pa.time32("ms"), time(1, 2, 3), time(1, 2, 4)),
    "time of day in ns": (pa.time64("ns"), 1, 2),
    "timestamp": (pa.timestamp("ns"), AT, AT + HOUR),
    "timestamp with a zone": (pa.timestamp("us", "UTC"), UTC_HOUR, UTC_HOUR + HOUR),
    "timedelta": (pa.duration("ns"), HOUR, 2 * HOUR),
    "list of bytes": (pa.list_(pa.binary()), [b"\xff", None], [b"\xfe", None]),
    "list of lists": (pa.list_(pa.list_(pa.int32())), [[1], [2]], [[1, 2]]),
    "list of decimals": (pa.list_(pa.decimal128(3, 1)), [Decimal("1.2")], [Decimal("1.3")]),
    "list of timestamps": (pa.list_(pa.timestamp("ns")), [AT], [AT + HOUR]),
    "list of timedeltas": (pa.list_(pa.duration("ns")), [1], [2]),
    "list of times": (pa.list_(pa.time64("us")), [time(1)], [time(2)]),
    "struct": (
        pa.struct([("a", pa.binary()), ("b", pa.timestamp("us", "UTC"))]),
        {"a": b"\xff", "b": UTC_HOUR}, {"a": b"\xff", "b": UTC_HOUR + HOUR},
    ),
    "map": (pa.map_(pa.string(), pa.binary()), [("a", b"\xff")], [("a", b"\xfe")]),
    "id": (pa.uuid(), bytes(16), bytes([*range(16)])),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_each_type_of_column_that_people_write_is_content(tmp_path, name):
    kind, *values = TYPES[name]
    columns = [[value, None] for value in values] + [[None, values[0]]]
    made = [pa.table({"x": pa.array(column, kind)}) for column in columns]
    digests = [parquet(tmp_path / str(n), each) for n, each in enumerate(made)]
    differ(digests)
    (tmp_path / "again").mkdir()
    pq.write_table(made[0], tmp_path / "again" / "t.parquet", row_group_size=1, compression="gzip")
    assert digest(tmp_path / "again") == digests[0]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.period_range("2026-01", periods=2, freq="M"), "pandas.period"),
        (pa.array([[1]], pa.list_(pa.time64("ns"))), r"list<element: time64\[ns\]>"),
    ],
)
def test_a_column_whose_values_cannot_be_told_apart_is_refused(tmp_path, column, kind):
    frame = pa.table({"x": column}) if isinstance(column, pa.Array) else pd.DataFrame({"x": column})
    written = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame)
    with pytest.raises(PermanentFailure, match=f"table t.parquet: column 'x' is of type .*{kind}"):
        parquet(tmp_path / "a", written)


def test_the_labels_of_rows_are_content_also_where_pandas_keeps_them_as_a_range(tmp_path):
    names = iter("abcdefghij")

    def labelled(index: pd.Index, rows: int = 3) -> str:
        frame = pd.DataFrame({"a": np.arange(rows)}, index=index)
        return parquet(tmp_path / next(names), pa.Table.from_pandas(frame))

    plain = parquet(tmp_path / "plain", pa.table({"a": np.arange(3)}))
    assert labelled(pd.RangeIndex(3)) == plain, "as in stores of earlier releases"
    differ(
        [
            plain,
            labelled(pd.RangeIndex(5, 8)),
            labelled(pd.RangeIndex(0, 6, 2)),
            labelled(pd.RangeIndex(3, name="unit")),
            labelled(pd.Index([0, 1, 2])),
        ]
    )
    assert labelled(pd.RangeIndex(0, 5, 2)) == digest(tmp_path / "c"), "the same labels"
    assert labelled(pd.RangeIndex(0, 1, 7), 1) == labelled(pd.RangeIndex(1), 1)


def test_digests_of_earlier_releases_stay(tmp_path):
    """Else a forced rerun would show everything after an unchanged output as out of date."""
    import zarr

    root = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    root.attrs.update({"rate": 30000.0, "name": None, "list": [1, 2.5, "a"]})
    pq.write_table(pa.table({"a": [[1.0], None], "b": [1.5, None]}), tmp_path / "t.parquet")
    assert digest(tmp_path) == "7d97cea7663d2c7a7bf3bdaaa265598f"


def test_run_times_and_sizes_are_no_content_and_other_metrics_are(tmp_path):
    base = digest(tmp_path, metrics={"n_units": 3, "sorter_cpu_s": 1.0, "ap_stored_bytes": 5})
    same = {"n_units": 3, "sorter_cpu_s": 9.0, "ap_stored_bytes": 6}
    run = {"key": "K2", "version": "w", "run_id": "r", "duration_s": 9.0, "turn": 4}
    again = digest(tmp_path, metrics=same, **run)
    assert again == base
    assert digest(tmp_path, metrics={**same, "n_units": 4}) != base
    assert digest(tmp_path, metrics=same, clock="session") != base


def test_a_skip_is_its_reason_without_the_key(tmp_path):
    def skipped(key: str, reason: str = "no_units_found") -> str:
        why = {"reason": reason, "detail": f"{key} has none", "origin": None}
        return digest(tmp_path, key=key, outcome=Outcome.SKIPPED, skip=why)

    assert skipped("K1") == skipped("K2") != digest(tmp_path)
    assert skipped("K1", "recording_too_short") != skipped("K1")


def test_logs_do_not_count_and_other_files_do(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"1")
    base = digest(tmp_path)
    (tmp_path / "sorter.log").write_text("took 5 s")
    (tmp_path / "spikeinterface_log.json").write_text('{"run_time": 5}')
    assert digest(tmp_path) == base
    (tmp_path / "a.npy").write_bytes(b"2")
    assert digest(tmp_path) != base


def recording(seed: int = 0, rate: float = 1000.0, shift: float = 0.0):
    import spikeinterface as si

    rng = np.random.default_rng(seed)
    traces = rng.integers(-50, 50, (2500, 3)).astype(np.int16)
    made = si.NumpyRecording([traces], rate)
    made.set_channel_gains(2.0)
    made.set_channel_offsets(0.0)
    made.set_dummy_probe_from_locations(np.array([[0, 0], [0, 20], [0, 40 + shift]], float))
    return made


def compress(folder: Path, made, **options):
    folder.mkdir()
    return compress_recording(
        {"ap": RawStream("ap", made, made)},
        folder,
        CompressionParameters.resolve("default", options),
    )


def test_traces_hashed_while_they_are_written_need_not_be_read_again(tmp_path, monkeypatch):
    result = compress(tmp_path / "a", recording())
    read = digest(tmp_path / "a")
    assert set(result.digests) == {"ap.zarr/traces_seg0"}
    monkeypatch.setattr("neuro_assets.store.digest._zarr_array_digest", only_small)
    assert digest(tmp_path / "a", result.digests) == read


def only_small(array, name, rate, readable):
    from neuro_assets.store.digest import _values_digest

    assert not name.startswith("traces"), "the traces were read"
    return _values_digest(array, array.shape, array.dtype, readable)


def test_a_recording_is_its_samples_and_not_its_chunks_or_codec(tmp_path):
    base = compress(tmp_path / "a", recording())
    other = compress(tmp_path / "b", recording(), chunk_duration_s=2.0, level=2, delta="none")
    cut = compress(tmp_path / "c", recording(), chunk_duration_s=0.7)
    assert base.digests == other.digests
    assert cut.digests == {}, "chunks that cut the blocks are read again instead"
    digests = {digest(tmp_path / name) for name in "abc"}
    assert len(digests) == 1


@pytest.mark.parametrize("change", ["sample", "rate", "place"])
def test_any_change_of_a_recording_shows(tmp_path, change):
    compress(tmp_path / "a", recording())
    made = recording(
        rate=1001.0 if change == "rate" else 1000.0, shift=1.0 if change == "place" else 0.0
    )
    if change == "sample":
        made.get_traces()[1777, 1] ^= 1
    compress(tmp_path / "b", made)
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def nwb(folder: Path, key: str, identifier: str, amplitude: float = 1.0) -> str:
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    folder.mkdir()
    made = NWBFile(f"Recording {key}", identifier, datetime(2024, 5, 12, tzinfo=UTC))
    made.add_acquisition(TimeSeries("x", data=np.array([amplitude, 2.0]), unit="V", rate=1.0))
    with NWBHDF5IO(folder / f"{key}.nwb", "w") as file:
        file.write(made)
    return digest(folder, key=key)


def test_an_nwb_file_is_its_data_without_ids_dates_and_key(tmp_path):
    assert nwb(tmp_path / "a", "K1", "one") == nwb(tmp_path / "b", "K2", "two")
    assert nwb(tmp_path / "c", "K1", "one", 1.5) != digest(tmp_path / "a", key="K1")


@pytest.mark.parametrize("ending", ["zarr", "nwb"])
def test_each_value_and_each_attribute_of_any_node_shows(tmp_path, ending):
    digests = [tree(tmp_path / str(n), ending, change) for n, change in enumerate(CHANGES)]
    assert len(set(digests)) == len(CHANGES)
    assert tree(tmp_path / "again", ending, "") == digests[0]


CHANGES = ("", "/", "group", "group/numbers", "group/words", "a number", "a word")


def tree(folder: Path, ending: str, change: str) -> str:
    """Digest of a group with two arrays; `change` is a node with another attribute, or a value."""
    import h5py
    import zarr

    folder.mkdir()
    path = str(folder / f"x.{ending}")
    root = h5py.File(path, "w") if ending == "nwb" else zarr.open_group(path, mode="w")
    group = root.create_group("group")
    group.create_dataset("numbers", data=np.array([1.0, 3.0 if change == "a number" else 2.0]))
    words = np.array([b"a", b"c" if change == "a word" else b"b"], dtype=object)
    if ending == "nwb":
        group.create_dataset("words", data=words)
    else:
        text = np.array([word.decode() for word in words], dtype=object)
        group.create_dataset("words", data=text, dtype=str)
    for node in ("/", "group", "group/numbers", "group/words"):
        root[node].attrs["unit"] = "mV" if change == node else "uV"
    if ending == "nwb":
        root.close()
    return digest(folder)


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    import zarr
    from numcodecs import Pickle

    root = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    root.create_dataset("o", shape=1, dtype=object, object_codec=Pickle())[0] = {"a": 1}
    with pytest.raises(PermanentFailure, match="pickled objects"):
        digest(tmp_path)
