"""Dagster's side of the store: formats, handles, reuse, re-execution, failures."""

from __future__ import annotations

import contextlib
import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from records import register

from neuro_assets.assets import runner
from neuro_assets.assets.dagster_metadata import output, stored_metadata
from neuro_assets.assets.runner import step_asset
from neuro_assets.assets.step import StepSpec
from neuro_assets.config import StoreConfig, parse_config
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.registry.registry import Registry, SessionInfo
from neuro_assets.resources.io_managers import (
    NWB_FILE,
    PARQUET,
    REQUIRED,
    ZARR_ANALYZER,
    ZARR_RECORDING,
    Missing,
    StoreResource,
    io_managers,
)
from neuro_assets.science.result import StepResult
from neuro_assets.store import WHOLE_LAB, Attempt, Manifest, Store, Stored
from neuro_assets.store.opening import s3_options
from neuro_assets.store.output_files import commit_result

K1, K2 = "M1_20240512_1_probe00", "M2_20240512_1_probe00"
FRAME = pd.DataFrame({"unit": [1, 2, 3], "snr": [1.5, np.nan, 3.0], "name": ["a", None, "c"]})


@pytest.fixture
def resource(tmp_path: Path) -> StoreResource:
    return StoreResource(StoreConfig(url=str(tmp_path / "store")), str(tmp_path / "scratch"))


@pytest.fixture
def store(resource) -> Store:
    return resource.store()


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        found.add_dynamic_partitions(SESSION_PROBE.name, [K1, K2])
        yield found


def produce(context, store: StoreResource, write, version="aa", manager=PARQUET, **more):
    """What the step wrapper does, in small."""
    key = context.partition_key if context.has_partition_key else WHOLE_LAB
    asset = context.asset_key.to_user_string()
    made = Manifest(
        asset=asset, key=key, version=version, clock="probe", run_id=context.run_id,
        **{"outcome": "complete", "duration_s": 1.5, "peak_memory_bytes": 2_000_000, **more},
    )  # fmt: skip
    with store.store().attempt(asset, key, version) as attempt:
        result = write(attempt.folder)
        given = (result.tables, result.digests) if result is not None else ()
        stored = commit_result(attempt, made, REQUIRED[manager], *given)
        partition = context.has_partition_key
        yield output(stored, stored_metadata(stored, reused=False, partition=partition))


def asset_of(name, manager, write, *, ins=(), partitioned=True, see=None, version="aa", **more):
    def run(context, store: dg.ResourceParam[StoreResource], **inputs):
        if see is not None:
            see(inputs)
        yield from produce(context, store, write, version=version, manager=manager, **more)

    return dg.asset(
        name=name,
        io_manager_key=manager,
        partitions_def=SESSION_PROBE if partitioned else None,
        ins={each: dg.AssetIn(each, input_manager_key=manager) for each in ins},
    )(run)


def step_of(name, manager, compute, base: Path, **more) -> dg.AssetsDefinition:
    """The same through the real step wrapper."""
    spec = StepSpec(
        name=name, group="g", kinds=frozenset(), needs=(), parameters=UnitsParameters.resolve(),
        io_manager_key=manager, compute=compute, description="", **more,
    )  # fmt: skip
    return step_asset(spec, parse_config("lab: x\nstore: {url: store}\n", base=base))


def tables(**frames):
    return lambda folder: StepResult(tables=frames)


def execute(resource, instance, assets, key=K1, **more):
    defs = dg.Definitions(assets=assets, resources=io_managers(resource))
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, partition_key=key, **more)


def metadata_of(result, asset: str) -> dict:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def small_recording():
    import spikeinterface as si

    return si.generate_ground_truth_recording(durations=[1.0], num_channels=4, num_units=3, seed=0)


def write_sorting_and_analyzer(folder: Path) -> StepResult:
    import spikeinterface as si

    recording, sorting = small_recording()
    sorting.save(format="zarr", folder=folder / "sorting.zarr")
    si.create_sorting_analyzer(
        sorting, recording, format="zarr", folder=folder / "analyzer.zarr", sparse=False,
        verbose=False,
    )  # fmt: skip
    return StepResult(tables={"extra": FRAME})


def write_recording(folder: Path) -> StepResult:
    recording, _ = small_recording()
    recording.save(format="zarr", folder=folder / "ap.zarr", n_jobs=1, verbose=False)
    return StepResult()


def write_nwb(folder: Path) -> StepResult:
    from pynwb import NWBHDF5IO, NWBFile

    made = NWBFile("a session", "id-1", datetime(2024, 5, 12, tzinfo=UTC))
    with NWBHDF5IO(folder / f"{K1}.nwb", "w") as file:
        file.write(made)
    return StepResult()


# -- formats --------------------------------------------------------------------------------------


def test_tables_are_parquet_that_says_where_it_comes_from(resource, store, instance):
    units = asset_of("units", PARQUET, tables(units=FRAME, spikes=FRAME.head(1)))
    result = execute(resource, instance, [units])
    stored = store.current("units", K1)
    pd.testing.assert_frame_equal(stored.table("units"), FRAME)
    path = stored.local() / "units.parquet"
    origin = json.loads(pq.read_schema(path).metadata[b"neuro_assets"])
    assert origin == {"asset": "units", "key": K1, "version": "aa", "clock": "probe"}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    shown = metadata_of(result, "units")
    assert shown["outcome"] == "complete" and shown["reused"] is False
    assert shown["version"] == "aa" and shown["n_files"] == 2
    assert shown["size_bytes"] == sum(p.stat().st_size for p in stored.local().glob("*.parquet"))
    assert shown["dagster/partition_row_count"] == 3 and shown["rows_spikes"] == 1
    assert shown["step_duration_s"] == 1.5 and shown["peak_memory_mb"] == 2.0
    assert shown["path"] == str(stored.local())
    assert stored.manifest.extra["rows"] == {"units": 3, "spikes": 1}


@pytest.mark.parametrize(
    ("manager", "write", "name"),
    [
        (ZARR_RECORDING, write_recording, "ap.zarr"),
        (ZARR_ANALYZER, write_sorting_and_analyzer, "analyzer.zarr"),
        (NWB_FILE, write_nwb, f"{K1}.nwb"),
    ],
)
def test_each_format_is_stored_and_opens_with_the_fields_own_tool(
    resource, store, instance, manager, write, name
):
    execute(resource, instance, [asset_of("it", manager, write)])
    path = store.current("it", K1).local() / name
    if manager == NWB_FILE:
        from pynwb import NWBHDF5IO

        with NWBHDF5IO(path, "r") as file:
            assert file.read().identifier == "id-1"
        return
    import spikeinterface as si

    if manager == ZARR_RECORDING:
        assert si.read_zarr(path).get_num_channels() == 4
        return
    assert si.load_sorting_analyzer(path, load_extensions=False).get_num_units() == 3
    assert len(si.read_zarr(path.with_name("sorting.zarr")).unit_ids) == 3
    assert len(store.current("it", K1).table("extra")) == 3


def test_nwb_with_the_zarr_backend_is_committed_and_its_digest_is_without_the_key(
    resource, store, instance, tmp_path
):
    from pynwb import NWBFile

    from neuro_assets.parameters.nwb import NwbParameters
    from neuro_assets.science.nwb.check import open_nwb
    from neuro_assets.science.nwb.write import nwb_path, save_nwb

    zarr, made = NwbParameters(backend="zarr"), {}

    def compute(step):
        file = NWBFile(f"{made['text']} of {step.key}", "id-1", datetime(2024, 5, 12, tzinfo=UTC))
        save_nwb(file, nwb_path(step.key, step.folder, zarr), zarr)
        return StepResult()

    asset, digests = step_of("it", NWB_FILE, compute, tmp_path), []
    for key, text in ((K1, "a session"), (K2, "a session"), (K2, "another")):
        made["text"] = text
        execute(resource, instance, [asset], key=key, tags={"neuro/force": "true"})
        stored = store.current("it", key)
        digests.append(stored.digest)
        io, nwbfile = open_nwb(stored.local() / f"{key}.nwb.zarr")
        with io:
            assert nwbfile.session_description == f"{text} of {key}"
    assert digests[0] == digests[1] != digests[2]


def test_nothing_in_the_store_is_pickled(resource, store, instance, tmp_path):
    assets = [
        asset_of("a", PARQUET, tables(a=FRAME)),
        asset_of("b", ZARR_ANALYZER, write_sorting_and_analyzer),
    ]
    execute(resource, instance, assets)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not path.read_bytes().startswith((b"\x80\x03", b"\x80\x04", b"\x80\x05"))
        assert path.suffix not in {".pkl", ".pickle"}


def broken_parquet(folder: Path) -> StepResult:
    (folder / "x.parquet").write_bytes(b"PAR1 not really PAR1")
    return StepResult()


def broken_zarr(folder: Path) -> StepResult:
    write_recording(folder)
    shutil.rmtree(folder / "ap.zarr" / "traces_seg0")
    return StepResult()


def broken_nwb(folder: Path) -> StepResult:
    write_nwb(folder)
    path = folder / f"{K1}.nwb"
    path.write_bytes(path.read_bytes()[:1000])
    return StepResult()


@pytest.mark.parametrize(
    ("manager", "write", "words"),
    [
        (PARQUET, broken_parquet, r"wrote x\.parquet, which does not open"),
        (ZARR_RECORDING, broken_zarr, r"wrote ap\.zarr, which does not open"),
        (NWB_FILE, broken_nwb, r"\.nwb, which does not open"),
        (PARQUET, lambda folder: StepResult(), r"holds no \.parquet file"),
        (ZARR_RECORDING, tables(a=FRAME), r"holds no \.zarr file"),
    ],
)
def test_what_does_not_open_is_not_committed_and_is_recorded_as_failed(
    resource, store, instance, tmp_path, manager, write, words
):
    tried = []

    def compute(step):
        tried.append(1)
        return write(step.folder)

    retried = step_of("it", manager, compute, tmp_path)
    with pytest.raises(dg.Failure, match=words) as caught:
        execute(resource, instance, [retried])
    assert "\n" not in str(caught.value.description)
    assert tried == [1], "a permanent failure is not tried again"
    assert store.current("it", K1) is None
    failure = store.failure("it", K1)
    assert failure.outcome is Outcome.FAILED
    assert failure.error["type"] == "PermanentFailure"
    names = {path.name for path in (tmp_path / "store").rglob("*") if path.is_file()}
    turn = {"1.json", f"run-{failure.run_id}.json"}
    assert names - {".lock"} == {"store.json", "manifest.json", "failure.json"} | turn


def test_a_table_that_the_step_also_wrote_itself_is_refused(resource, instance, tmp_path):
    def write(step):
        FRAME.to_parquet(step.folder / "a.parquet")
        return StepResult(tables={"a": FRAME})

    with pytest.raises(dg.Failure, match="itself and as a table"):
        execute(resource, instance, [step_of("it", PARQUET, write, tmp_path)])


def test_a_transient_failure_of_the_store_is_tried_again(
    resource, store, instance, monkeypatch, tmp_path
):
    real, calls = Attempt.commit, []

    def commit(attempt, manifest, known=None):
        calls.append(attempt.id)
        if len(calls) == 1:
            raise TransientFailure("the connection broke")
        return real(attempt, manifest, known)

    monkeypatch.setattr(Attempt, "commit", commit)
    monkeypatch.setattr(runner, "RETRIES", dg.RetryPolicy(max_retries=1))
    it = step_of("it", PARQUET, lambda step: StepResult(tables={"a": FRAME}), tmp_path)
    assert execute(resource, instance, [it]).success
    assert len(set(calls)) == 2
    assert store.current("it", K1).attempt == calls[1]
    assert store.failure("it", K1) is None


def test_a_skipped_output_is_a_materialization_without_files(resource, store, instance):
    skip = {"reason": "no_units_found", "detail": "0 units", "origin": None}
    skipped = asset_of("it", ZARR_ANALYZER, lambda folder: None, outcome="skipped", skip=skip)
    seen = {}
    after = asset_of("after", PARQUET, tables(a=FRAME), ins=["it"], see=seen.update)
    result = execute(resource, instance, [skipped, after])
    assert metadata_of(result, "it")["outcome"] == "skipped"
    assert metadata_of(result, "it")["n_files"] == 0
    assert seen["it"].outcome is Outcome.SKIPPED
    assert seen["it"].manifest.skip == skip


def test_an_asset_that_returns_something_else_is_told(resource, instance):
    @dg.asset(io_manager_key=PARQUET, partitions_def=SESSION_PROBE)
    def it():
        return 3

    with pytest.raises(dg.Failure, match="returned int, not a Stored"):
        execute(resource, instance, [it])


# -- handles --------------------------------------------------------------------------------------


def test_inputs_are_lazy_handles_on_what_this_run_made(resource, store, instance):
    older = put(store, "a", "old")
    seen = {}
    a = asset_of("a", PARQUET, tables(a=FRAME), version="new")
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=seen.update)
    execute(resource, instance, [a, b])
    assert isinstance(seen["a"], Stored)
    assert seen["a"].version == "new" and seen["a"] != older
    assert seen["a"]._manifest is None, "nothing is read before it is used"


def put(store: Store, asset: str, version: str, key: str = K1, run_id=None, turn=0) -> Stored:
    with store.attempt(asset, key, version) as attempt:
        FRAME.to_parquet(attempt.folder / f"{asset}.parquet")
        made = Manifest(
            asset=asset, key=key, version=version, outcome="complete", run_id=run_id, turn=turn
        )
        return attempt.commit(made)


def test_this_runs_output_goes_before_what_another_run_committed_meanwhile(
    resource, store, instance
):
    seen = {}
    a = asset_of("a", PARQUET, tables(a=FRAME), version="mine")

    def meanwhile(inputs):
        seen.update(inputs)

    @dg.asset(io_manager_key=PARQUET, partitions_def=SESSION_PROBE, deps=["a"])
    def other(context, store: dg.ResourceParam[StoreResource]):
        put(store.store(), "a", "theirs", run_id="another-run")
        yield from produce(context, store, tables(x=FRAME))

    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a", "other"], see=meanwhile)
    execute(resource, instance, [a, other, b])
    assert store.current("a", K1).version == "theirs"
    assert seen["a"].version == "mine"


def test_without_one_of_its_own_a_run_takes_what_counts(resource, store, instance):
    stored = put(store, "a", "v1")
    seen = {}
    a = asset_of("a", PARQUET, tables(a=FRAME))
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=seen.update)
    assert execute(resource, instance, [a, b], asset_selection=[dg.AssetKey("b")]).success
    assert seen["a"] == stored


def re_execute(defs, instance, parent: str, root: str) -> str:
    """What the UI's "re-execute from failure" does: `b` again, in a child run."""
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey("b")}
    )
    run = instance.create_run_for_job(
        job, tags={"dagster/partition": K1}, parent_run_id=parent, root_run_id=root
    )
    execute_run(InMemoryJob(job), run, instance, raise_on_error=False)
    return run.run_id


def test_a_re_execution_takes_what_its_ancestors_made(resource, store, instance):
    seen = []

    def see(inputs):
        seen.append(inputs["a"].version)
        raise ValueError("boom")

    a = asset_of("a", PARQUET, tables(a=FRAME), version="first")
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=see)
    defs = dg.Definitions(
        assets=[a, b], resources=io_managers(resource), executor=dg.in_process_executor
    )
    job = defs.resolve_implicit_global_asset_job_def()
    first = job.execute_in_process(instance=instance, partition_key=K1, raise_on_error=False)
    put(store, "a", "newer")
    second = re_execute(defs, instance, first.run_id, first.run_id)
    re_execute(defs, instance, second, first.run_id)  # its parent made nothing itself
    assert seen == ["first", "first", "first"]


def test_a_missing_input_says_why(resource, store, instance):
    seen = {}
    a = asset_of("a", PARQUET, tables(a=FRAME))
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=seen.update)
    execute(resource, instance, [a, b], asset_selection=[dg.AssetKey("b")])
    assert seen["a"] == Missing("a", K1, "it was never made")
    words = {"type": "ValueError", "message": "boom"}
    store.fail(Manifest(asset="a", key=K1, version="v", outcome="failed", error=words))
    execute(resource, instance, [a, b], asset_selection=[dg.AssetKey("b")])
    assert seen["a"] == Missing("a", K1, "it failed: boom")


def test_a_table_over_all_recordings_is_one_output_of_the_lab(resource, store, instance):
    seen = {}
    table = asset_of("units_table", PARQUET, tables(units_table=FRAME), partitioned=False)
    after = asset_of(
        "after", PARQUET, tables(after=FRAME), ins=["units_table"], partitioned=False,
        see=seen.update,
    )  # fmt: skip
    result = execute(resource, instance, [table, after], key=None)
    assert seen["units_table"] == store.current("units_table", WHOLE_LAB)
    assert metadata_of(result, "units_table")["dagster/row_count"] == 3


def test_raw_data_come_from_the_registry(resource, store, instance):
    stream = Stream(name="ap", files=("a",), n_channels=1, n_samples=1, sampling_frequency=1.0)
    recording = RawRecording(
        format="spikeglx", probe="probe00", streams={"ap": stream}, identity=Identity(size_bytes=2)
    )
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1", folder="/data/M1")
    record = register(Registry(store), session, recording, "raw-v1")
    seen = {}
    raw = dg.AssetSpec("raw_recording", partitions_def=SESSION_PROBE)
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["raw_recording"], see=seen.update)
    execute(resource, instance, [raw, b])
    assert (seen["raw_recording"].record, seen["raw_recording"].version) == (record, "raw-v1")
    assert seen["raw_recording"].folder == Path("/data/M1")
    execute(resource, instance, [raw, b], key=K2)
    assert isinstance(seen["raw_recording"], Missing)


def test_a_reused_output_counts_for_the_run_and_is_not_written_again(
    resource, store, instance, tmp_path
):
    step = step_of("a", PARQUET, lambda step: StepResult(tables={"a": FRAME}), tmp_path)
    execute(resource, instance, [step])
    old = store.current("a", K1)
    put(store, "a", "v2", turn=1)
    assert store.current("a", K1).version == "v2"
    seen = {}
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=seen.update)
    result = execute(resource, instance, [step, b])
    assert metadata_of(result, "a")["reused"] is True
    assert seen["a"] == old == store.current("a", K1)
    assert store.attempts("a", K1, old.version) == [old.attempt]
    assert store.produced_by(result.run_id, "a", K1) == old


def test_an_input_deleted_behind_the_back_is_named_when_it_is_used(resource, store, instance):
    stored = put(store, "a", "v1")
    (stored.local() / "a.parquet").unlink()

    def use(inputs):
        inputs["a"].table("a")

    a = asset_of("a", PARQUET, tables(a=FRAME))
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=use)
    with pytest.raises(PermanentFailure, match=rf"a of {K1}: .*a\.parquet is missing"):
        execute(resource, instance, [a, b], asset_selection=[dg.AssetKey("b")])


# -- resource -------------------------------------------------------------------------------------


def test_secrets_come_from_the_environment_and_are_never_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    config = StoreConfig(
        url="s3://bucket/lab", endpoint_url="http://127.0.0.1:1", region="eu-west-1"
    )
    assert s3_options(config) == {
        "max_attempts": 5,
        "endpoint_url": "http://127.0.0.1:1",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    assert "hush-hush" not in repr(StoreResource(config))


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"store": {"config": {"url": "ELSEWHERE"}}}},
        {"resources": {"store": {"config": {"config": {"url": "ELSEWHERE"}}}}},
        {"resources": {PARQUET: {"config": {"store": {"url": "ELSEWHERE"}}}}},
        {"resources": {"io_manager": {"config": {"base_dir": "ELSEWHERE"}}}},
    ],
)
def test_a_launch_cannot_move_the_store(resource, store, instance, tmp_path, config):
    elsewhere = tmp_path / "elsewhere"
    config = json.loads(json.dumps(config).replace("ELSEWHERE", str(elsewhere)))
    a = asset_of("a", PARQUET, tables(a=FRAME))

    @dg.asset(partitions_def=SESSION_PROBE, deps=[a])
    def without_a_manager() -> None:
        pass

    with contextlib.suppress(dg.DagsterInvalidConfigError):
        execute(resource, instance, [a, without_a_manager], run_config=config)
        assert store.current("a", K1) is not None
    assert not elsewhere.exists()


@pytest.mark.parametrize("value", ["made up", {"pickle": {"path": "evil"}}, {"value": 3}])
def test_a_launch_cannot_make_up_an_input(resource, store, instance, value):
    seen = {}
    a = asset_of("a", PARQUET, tables(a=FRAME))
    b = asset_of("b", PARQUET, tables(b=FRAME), ins=["a"], see=seen.update)
    config = {"ops": {"b": {"inputs": {"a": value}}}}
    for selection in (None, [dg.AssetKey("b")]):
        execute(resource, instance, [a, b], run_config=config, asset_selection=selection)
        assert seen.pop("a") == store.current("a", K1)


def test_what_an_asset_without_a_manager_returns_is_never_pickled(resource, instance, tmp_path):
    @dg.asset(partitions_def=SESSION_PROBE)
    def careless() -> int:
        return 3

    with pytest.raises(dg.Failure, match="an asset's fault"):
        execute(resource, instance, [careless])
    assert not list(tmp_path.rglob("careless"))
