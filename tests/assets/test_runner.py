"""Every end of a step is recorded and emits all its checks, wherever it fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import dagster as dg
import pandas as pd
import pytest

from neuro_assets.assets.inventory import inventory
from neuro_assets.assets.runner import step_asset
from neuro_assets.assets.step import Need, StepSpec
from neuro_assets.checks.criteria import Criterion, Verdict
from neuro_assets.config import StoreConfig, parse_config
from neuro_assets.formats.model import Identity, RawRecording
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.partitions import SESSION_PROBE
from neuro_assets.registry.records import RecordingRecord, SessionInfo
from neuro_assets.resources.io_managers import PARQUET, StoreResource, io_managers
from neuro_assets.science.result import StepResult
from neuro_assets.store import Attempt, Store

KEY = "M1_20240512_1_probe00"
ROWS = pd.DataFrame({"x": [1, 2, 3]})
CRITERION = Criterion("n", "counts", "units", warning=2, above=False, source="")


class Lab:
    """Two steps, `first` and `second`, and what Dagster saw of them."""

    def __init__(self, folder) -> None:
        self.resource = StoreResource(
            StoreConfig(url=str(folder / "store")), scratch=str(folder / "scratch")
        )
        self.store: Store = self.resource.store()
        self.instance = dg.DagsterInstance.ephemeral()
        self.instance.add_dynamic_partitions(SESSION_PROBE.name, [KEY])
        config = parse_config("lab: x\nstore: {url: store}\n", base=folder)
        self.rows = ROWS
        self.assets = [
            step_asset(self.spec("first", ()), config),
            step_asset(self.spec("second", (Need("first"),)), config),
        ]

    def spec(self, name: str, needs) -> StepSpec:
        def compute(step):
            for need in needs:
                step.stored(need.asset).table("t")
            return StepResult(metrics={"n": 3}, tables={"t": self.rows})

        return StepSpec(
            name=name, group="g", kinds=frozenset(), needs=needs,
            parameters=UnitsParameters.resolve(), io_manager_key=PARQUET, compute=compute,
            description="", criteria=(CRITERION,),
        )  # fmt: skip

    def run(self, *only: str, force: bool = False):
        defs = dg.Definitions(assets=self.assets, resources=io_managers(self.resource))
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, partition_key=KEY, raise_on_error=False,
            tags={"neuro/force": "true"} if force else None,
            asset_selection=[dg.AssetKey(name) for name in only] or None,
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path) -> Lab:
    lab = Lab(tmp_path)
    assert lab.run().success
    return lab


def failed_with(lab: Lab, result, asset: str, match: str) -> None:
    """The failure is stored, and its check is red although it was green before."""
    assert not result.success
    failure = lab.store.failure(asset, KEY)
    assert failure is not None and match in failure.error["message"]
    assert failure.turn == lab.store.current(asset, KEY).manifest.turn + 1
    checks = {e.check_name: e for e in checks_of(result, asset)}
    assert set(checks) == {"outcome", "usable", "counts"}
    assert not any(check.passed for check in checks.values())
    assert match in checks["outcome"].description
    step_failures = [e for e in result.all_events if e.is_step_failure]
    assert len(step_failures) == 1, "a permanent failure is not tried again"


def test_an_input_that_cannot_be_resolved(lab):
    pointer = lab.store.backend.locate(f"first/{KEY}/current.json")
    pointer.write_text("{ damaged")
    failed_with(lab, lab.run("second"), "second", "is damaged")


def test_an_input_whose_manifest_is_damaged(lab):
    path = lab.store.current("first", KEY).path
    lab.store.backend.locate(f"{path}/manifest.json").write_text("{ damaged")
    lab.store.backend.locate(f"first/{KEY}/current.json").write_text(
        lab.store.backend.locate(f"first/{KEY}/current.json").read_text().replace('"digest"', '"x"')
    )
    failed_with(lab, lab.run("second"), "second", "is damaged")


def test_its_own_damaged_pointer_is_mended_by_a_run(lab):
    before = lab.store.current("second", KEY)
    lab.store.backend.locate(f"second/{KEY}/current.json").write_text("{ damaged")
    assert lab.run("second").success
    assert lab.store.current("second", KEY).attempt == before.attempt, "nothing is computed again"


def test_a_damaged_attempt_of_its_own_is_made_again(lab):
    before = lab.store.current("second", KEY)
    lab.store.backend.locate(f"{before.path}/manifest.json").write_text("{ damaged")
    assert lab.run("second").success
    assert lab.store.current("second", KEY).attempt != before.attempt


def test_a_commit_that_fails(lab, monkeypatch):
    def full(*_, **__):
        raise PermanentFailure("no space left")

    monkeypatch.setattr(Attempt, "commit", full)
    failed_with(lab, lab.run("second", force=True), "second", "no space left")
    assert lab.store.current("second", KEY).outcome is Outcome.COMPLETE


def observed(result) -> dict[str, tuple[str, str]]:
    """Description and next step that the run logged, by asset."""
    found = {}
    for event in result.get_asset_observation_events():
        logged = event.asset_observation_data.asset_observation
        assert logged.partition == KEY
        next_step = logged.metadata["next_step"].value
        found[logged.asset_key.to_user_string()] = (logged.description, next_step)
    return found


def checks_of(result, asset: str) -> list[dg.AssetCheckEvaluation]:
    found = result.get_asset_check_evaluations()
    return [each for each in found if each.asset_key == dg.AssetKey(asset)]


def test_a_failure_is_said_on_the_page_of_each_asset_that_waits_for_it(lab, monkeypatch):
    assert observed(lab.run(force=True)) == {}
    monkeypatch.setattr(Attempt, "commit", lambda *_, **__: 1 / 0)
    result = lab.run(force=True)
    assert not result.success
    found = observed(result)
    assert found["first"][0] == "division by zero"
    assert found["second"][0].startswith("not made: it waits for first, which failed: division")
    assert set(found) == {"first", "second"}
    assert f"neuro-assets run {KEY}" in found["second"][1]
    of_second = {e.check_name: e for e in checks_of(result, "second")}
    assert set(of_second) == {"outcome", "usable", "counts"}
    for check in of_second.values():  # what is stored is no less good than before: amber, not red
        assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
        assert "it waits for first, which failed: division by zero" in check.description
        assert check.partition == KEY
    alone = lab.run("first", force=True)
    assert set(observed(alone)) == {"first"}, "second is not in the run"
    assert checks_of(alone, "second") == []


def test_what_is_below_two_failed_steps_ends_with_the_reasons_of_both(lab):
    config = parse_config("lab: x\nstore: {url: store}\n", base=lab.store.backend.locate("."))
    other = replace(lab.spec("other", ()), compute=lambda step: 1 / 0)
    first = replace(lab.spec("first", ()), compute=lambda step: {}["n"])
    below = lab.spec("below", (Need("first"), Need("other")))
    lab.assets = [step_asset(spec, config) for spec in (first, other, below)]
    result = lab.run(force=True)
    text, _ = observed(result)["below"]
    assert text.count("which failed:") == 2
    assert "first, which failed: 'n'" in text and "other, which failed: division by zero" in text
    events = [e.asset_observation_data.asset_observation for e in result.all_events
              if e.is_asset_observation]  # fmt: skip
    newest = [e for e in events if e.asset_key == dg.AssetKey("below")][-1]
    assert {*newest.metadata["waits_for"].value.split(", ")} == {"first", "other"}


def test_a_transient_failure_is_said_when_it_is_not_tried_again(lab, monkeypatch):
    def busy(*_, **__):
        raise ConnectionError("the server is busy")

    monkeypatch.setattr(Attempt, "commit", busy)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    result = lab.run("first", force=True)
    assert not result.success
    assert len(result.get_asset_observation_events()) == 1
    assert observed(result)["first"][0] == "the server is busy"


def test_what_must_not_be_used_says_so_on_the_pages_below(lab, monkeypatch):
    monkeypatch.setattr(Criterion, "judge", lambda self, value: Verdict.CRITICAL)
    result = lab.run(force=True)
    found = observed(result)
    assert found["first"][0] == "CRITICAL, not usable: n"
    assert found["second"][0] == "not made: it waits for first, which is CRITICAL, not usable: n"
    first = result.get_asset_observation_events()[0].asset_observation_data.asset_observation
    assert first.metadata["outcome"].value == "not usable"


def test_a_success_after_a_failure_hides_it(lab, monkeypatch):
    monkeypatch.setattr(Attempt, "commit", lambda *_, **__: 1 / 0)
    assert not lab.run("second", force=True).success
    monkeypatch.undo()
    assert lab.run("second").success
    assert lab.store.failure("second", KEY) is None


@pytest.mark.parametrize("automatic", [True, False])
def test_an_automatic_retry_has_the_turn_of_its_run_and_a_persons_run_a_new_one(
    lab, monkeypatch, automatic
):
    """The retry computes with the configuration of then, so it does not overtake newer runs."""
    create, parent = lab.instance.create_run_for_job, lab.run("second").run_id
    for _ in range(2):
        lab.rows = pd.concat([lab.rows, ROWS])
        newer = lab.run("second", force=True).run_id
        assert lab.store.current("second", KEY).manifest.run_id == newer

        def again(parent=parent, **more):
            run = create(**more, parent_run_id=parent, root_run_id=parent)
            if automatic:
                tags = {"dagster/auto_retry_run_id": run.run_id}
                lab.instance.add_run_tags(parent, tags)
            return run

        with monkeypatch.context() as patch:
            patch.setattr(lab.instance, "create_run_for_job", again)
            lab.rows = pd.concat([lab.rows, ROWS])
            parent = lab.run("second", force=True).run_id
        counts = lab.store.current("second", KEY).manifest.run_id
        assert counts == (newer if automatic else parent)


def test_the_data_version_is_the_digest_and_a_forced_run_with_other_bytes_is_another(lab):
    def data_version(result, asset):
        [event] = result.asset_materializations_for_node(asset)
        return event.tags["dagster/data_version"]

    first = lab.store.current("first", KEY)
    assert data_version(lab.run("first"), "first") == first.digest
    lab.rows = ROWS.assign(x=[1, 2, 4])
    result = lab.run("first", force=True)
    other = lab.store.current("first", KEY)
    assert other.version == first.version
    assert data_version(result, "first") == other.digest != first.digest
    before = lab.store.current("second", KEY)
    assert lab.run("second").success
    after = lab.store.current("second", KEY)
    assert after.version != before.version, "everything after other content is another version"


def test_below_a_failed_or_running_step_it_shows_what_is_out_of_date(tmp_path):
    lab = Lab(tmp_path)
    config = parse_config("lab: x\nstore: {url: store}\n", base=tmp_path)
    a, b, c = (
        lab.spec("first", ()),
        lab.spec("second", (Need("first"),)),
        lab.spec("third", (Need("second"),)),
    )
    lab.assets = [step_asset(spec, config) for spec in (a, b, c)]
    assert lab.run().success
    session = SessionInfo(subject="M1", date=date(2024, 5, 12), number="1")
    identity = Identity(size_bytes=1)
    raw = RawRecording(format="spikeglx", probe="probe00", streams={}, identity=identity)
    record = RecordingRecord(key=KEY, session=session, recording=raw, raw_version="v1")

    def seen(*specs, running=()):
        found = inventory(lab.store, {KEY: record}, specs, {KEY: running})
        return [(state.outcome.value, state.out_of_date) for state in found]

    changed = replace(a, parameters=a.parameters.model_copy(update={"only_good": True}))
    why = ("parameters: only_good from False to True",)
    below = [("complete", ("through: first",)), ("complete", ("through: second",))]
    assert seen(changed, b, c) == [("complete", why), *below]
    assert seen(changed, b, c, running=("first",)) == [("running", why), *below]

    def boom(step):
        raise ValueError("boom")

    failing = replace(changed, compute=boom)
    lab.assets = [step_asset(spec, config) for spec in (failing, b, c)]
    assert not lab.run("first").success
    assert seen(failing, b, c) == [("failed", why), *below]
    lab.assets = [step_asset(replace(spec, compute=boom), config) for spec in (changed, b, c)]
    assert not lab.run("second", force=True).success
    assert seen(changed, b, c)[:2] == [("failed", why), ("failed", ("through: first",))], (
        "the failure of what needs it is not hidden"
    )


def stale(lab: Lab, asset: str) -> str:
    """What Dagster says of one key."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    defs = dg.Definitions(lab.assets, resources=io_managers(lab.resource))
    graph = defs.get_repository_def().asset_graph
    context = LoadingContextForTest(lab.instance)
    resolver = CachingStaleStatusResolver(lab.instance, graph, context)
    return resolver.get_status(dg.AssetKey(asset), KEY).value


def test_dagster_shows_a_child_stale_after_other_content_and_fresh_after_the_same(lab):
    assert stale(lab, "second") == "FRESH"
    assert lab.run("first", force=True).success
    assert stale(lab, "second") == "FRESH", "the same content again"
    lab.rows = ROWS.assign(x=[1, 2, 4])
    assert lab.run("first", force=True).success
    assert stale(lab, "second") == "STALE"
    assert lab.run("second").success
    assert stale(lab, "second") == "FRESH"
