"""Registration of a recording in Alyx: the step, the tasks that follow runs, and the command."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import dagster as dg
import pandas as pd
import pytest
from commands import Done
from fake_alyx.server import TOKEN, AlyxServer
from labs import SmallLab
from records import register

from neuro_assets import names
from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.registration.outputs import Output, outputs_of
from neuro_assets.alyx.registration.repository import write_repository
from neuro_assets.alyx.registration.target_state import CHECKS_FILE, UNITS_FILE, task_of
from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.steps import alyx_registration
from neuro_assets.assets.steps.alyx_registration import send, target_of
from neuro_assets.checks.criteria import judge
from neuro_assets.config import parse_config
from neuro_assets.formats.model import Identity, RawRecording, Stream
from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure
from neuro_assets.partitions import SET_NAME
from neuro_assets.registry.metadata import RecordingMetadata, SessionMetadata
from neuro_assets.registry.registry import RecordingRecord, SessionInfo
from neuro_assets.service.home import prepare_home
from neuro_assets.service.renaming import rename
from neuro_assets.store import Manifest, Stored

ASSET = "alyx_registration"
COLLECTION = "alf/probe00/neuro_assets"

TEXT = """
lab: lab
store: {{url: store}}
alyx:
  url: {url}
  repositories: {{lab_server: lab_server}}
  write_repository: lab_server
  dagster_url: https://dagster.example.org
  write: {write}
"""


def recording() -> RawRecording:
    ap = Stream(name="ap", files=("a.bin",), n_channels=4, n_samples=300, sampling_frequency=30.0)
    created = datetime.datetime(2026, 11, 20, 10)
    return RawRecording(
        format="spikeglx", probe="probe00", streams={"ap": ap},
        identity=Identity(probe_serial="S1", size_bytes=1000, created=created),
    )  # fmt: skip


@dataclass
class Lab:
    """A lab whose recording was processed, and its Alyx."""

    small: SmallLab
    server: AlyxServer
    key: str
    eid: str
    pid: str

    def writing(self, write: bool = True) -> Lab:
        text = TEXT.format(url=self.server.url, write=str(write).lower())
        (self.small.folder / "lab.yaml").write_text(text)
        return Lab(self.small.with_text(text), self.server, self.key, self.eid, self.pid)

    @property
    def client(self) -> Alyx:
        return Alyx(self.server.url, TOKEN)

    @property
    def assets(self) -> list[str]:
        steps = all_steps(self.small.config)
        return [step.name for step in steps if step.job == names.PROCESS_JOB]

    def put(self, asset: str, version: str = "v1", **metrics: float) -> Stored:
        """Store an output with its criteria, as the runner does."""
        steps = {step.name: step for step in all_steps(self.small.config)}
        criteria = steps[asset].criteria
        values = {c.metric: metrics.get(c.metric, good(c)) for c in criteria}
        checks = [row.row() for row in judge(criteria, values)]
        inputs = []
        if asset == names.UNITS:
            inputs = [self.small.store.current("unit_quality_tridesclous2", self.key).ref]
        with self.small.store.attempt(asset, self.key, version) as attempt:
            frame = pd.DataFrame({"uuid": ["u1", "u2"], "firing_rate": [1.5, 2.5]})
            frame.to_parquet(attempt.folder / f"{asset}.parquet")
            return attempt.commit(
                Manifest(
                    asset=asset,
                    key=self.key,
                    version=version,
                    outcome=Outcome.COMPLETE,
                    metrics=values,
                    checks=checks,
                    packages={"neuro-assets": "0.1.0"},
                    run_id="run-1",
                    inputs=inputs,
                )  # fmt: skip
            )

    def skip(self, asset: str) -> Stored:
        why = {"reason": "no_lfp_band", "detail": "", "origin": None}
        with self.small.store.attempt(asset, self.key, "skipped") as attempt:
            return attempt.commit(
                Manifest(
                    asset=asset, key=self.key, version="skipped", outcome=Outcome.SKIPPED, skip=why
                )
            )

    def fail(self, asset: str) -> None:
        error = {"type": "PermanentFailure", "message": "broken"}
        self.small.store.fail(
            Manifest(asset=asset, key=self.key, version="v9", outcome=Outcome.FAILED, error=error)
        )

    def run(self, force: bool = False) -> dg.ExecuteInProcessResult:
        tags = {"neuro/force": "true"} if force else None
        return self.small.run(names.PUBLISH_JOB, self.key, tags=tags, only=[ASSET])

    def stored(self) -> Stored:
        return self.small.store.current(ASSET, self.key)

    def lines(self) -> pd.DataFrame:
        return self.stored().table("differences")

    def writes(self) -> list[tuple[str, str]]:
        return [entry for entry in self.server.log if entry[0] != "GET"]

    def tasks(self) -> list[tuple[str, str, str | None]]:
        rows = self.client.rows("tasks", most=9, session=self.eid)
        return [(row["name"], row["status"], row["log"]) for row in rows]


def good(criterion: Any) -> float:
    """A value that passes; any, where a number is shown and not judged."""
    limits = [x for x in (criterion.warning, criterion.fail, criterion.critical) if x is not None]
    if not limits:
        return 1.0
    return min(limits) - 0.5 if criterion.above else max(limits) + 0.5


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("ALYX_TOKEN", TOKEN)
    (tmp_path / "lab_server").mkdir()
    with AlyxServer(zone="UTC") as server:
        server.add_lab("lab")
        server.add_repository("lab_server", lab="lab", personal=True)
        server.add_repository("central", lab="lab")
        session = server.add_session("M1", "2026-11-20", 1, lab="lab")
        insertion = server.add_insertion(session["id"], "probe00")
        small = SmallLab(tmp_path, TEXT.format(url=server.url, write="false"))
        (tmp_path / "lab.yaml").write_text(small.text)
        where = SessionInfo(
            lab="lab", subject="M1", date=datetime.date(2026, 11, 20), number="1", source="alyx"
        )
        record = register(
            small.registry, where, recording(), "raw1", eid=session["id"], pid=insertion["id"]
        )
        small.instance.add_dynamic_partitions(SET_NAME, [record.key])
        made = Lab(small, server, record.key, session["id"], insertion["id"])
        for asset in made.assets:
            made.put(asset)
        yield made


# -- the step ------------------------------------------------------------------------------------


def test_the_step_and_its_sensors_are_there_only_where_alyx_is_named(lab):
    without = parse_config("")
    assert ASSET not in [step.name for step in all_steps(without)]
    sensors = {sensor.name for sensor in lab.small.defs.sensors}
    tasks = {f"alyx_task_after_{end}" for end in ("started", "success", "failure", "canceled")}
    assert tasks <= sensors
    none = SmallLab(lab.small.folder / "none", "").defs
    assert not tasks & {sensor.name for sensor in none.sensors}
    spec = all_steps(lab.small.config)[-1]
    assert (spec.name, spec.group, spec.job) == (ASSET, "export", "publish")
    assert {need.asset for need in spec.needs if not need.optional} == {"raw_recording"}
    assert {need.asset for need in spec.needs} >= set(lab.assets)


def test_a_dry_run_sends_nothing_and_shows_every_line(lab):
    result = lab.run()
    assert result.success
    assert lab.writes() == []
    assert list((lab.small.folder / "lab_server").rglob("*")) == []
    table, metrics = lab.lines(), lab.stored().manifest.metrics
    assert list(table.columns) == ["action", "target", "detail", "before", "after", "sent"]
    assert not table["sent"].any()
    assert metrics == {"n_changes": len(table), "n_sent": 0, "dry_run": True}
    logged = [event.message for event in result.all_events] + [
        entry.user_message for entry in lab.small.instance.all_logs(result.run_id)
    ]
    for _, row in table.iterrows():
        assert any(f"would {row['action']} {row['target']}" in line for line in logged), row


def test_writing_sends_exactly_the_difference_and_a_second_time_nothing(lab):
    assert lab.run().success
    shown = lab.lines().drop(columns="sent")
    writing = lab.writing()
    result = writing.run()
    assert result.success
    sent = writing.lines()
    pd.testing.assert_frame_equal(sent.drop(columns="sent"), shown)
    assert sent["sent"].all() and len(sent)
    metrics = writing.stored().manifest.metrics
    assert metrics == {"n_changes": len(sent), "n_sent": len(sent), "dry_run": False}
    n_writes = len(lab.writes())
    assert writing.run(force=True).success
    assert len(lab.writes()) == n_writes
    assert len(writing.lines()) == 0
    assert dict(writing.lines().dtypes.astype(str)) == dict(sent.dtypes.astype(str))


def test_what_was_registered_before_a_rename_is_not_registered_again(lab):
    register(
        lab.small.registry, lab.small.registry.get(lab.key).session, recording(), "raw1",
        eid=lab.eid, pid=lab.pid,
    )  # fmt: skip
    writing = lab.writing()
    assert writing.run().success
    n_writes = len(lab.writes())
    # Its label in Alyx stays, whatever stands behind the probe now.
    new = "M1_20261120_7_probe00-x9"
    rename(lab.small.registry, lab.small.instance, lab.key, new, [])
    renamed = Lab(writing.small, lab.server, new, lab.eid, lab.pid)
    assert renamed.run(force=True).success
    assert len(renamed.lines()) == 0 and len(lab.writes()) == n_writes
    done = commands.call("alyx", "diff", lab.key, folder=lab.small.folder,
                         env={"ALYX_TOKEN": TOKEN})  # fmt: skip
    assert f"renamed to {new}" in done.stderr and done.returncode == 0, done


def test_what_is_registered_opens_with_ones_own_loader_and_has_valid_names(lab):
    from one.alf.io import load_object
    from one.alf.spec import is_valid, regex

    assert is_valid(UNITS_FILE) and is_valid(CHECKS_FILE)
    writing = lab.writing()
    assert writing.run().success
    folder = lab.small.folder / "lab_server" / "M1/2026-11-20/001" / COLLECTION
    for file in folder.iterdir():
        path = f"lab/Subjects/M1/2026-11-20/001/{COLLECTION}/{file.name}"
        parts = regex().match(path)
        assert parts and parts["collection"] == COLLECTION
    units = load_object(folder, "clusters")
    assert list(units["firing_rate"]) == [1.5, 2.5]
    checks = load_object(folder, "checks")
    assert {"asset", "criterion", "family", "value", "warning", "verdict"} <= set(checks)
    stored = {(a, c["metric"]) for a in lab.assets
              for c in lab.small.store.current(a, lab.key).manifest.checks}  # fmt: skip
    assert set(zip(checks["asset"], checks["criterion"], strict=True)) == stored


def test_quality_goes_to_dataset_insertion_and_session(lab):
    lab.put("unit_quality_tridesclous2", "v2", median_snr=1.0)
    lab.put("units", "v2")
    lab.put("recording_quality", "v2", rms_destriped_uv_median=50.0)
    assert lab.writing().run().success
    session = lab.client.read("sessions", lab.eid)
    assert session["qc"] == "FAIL"
    extended = session["extended_qc"]
    assert extended["_neuroassets_probe00_recording_quality_noise"] == "FAIL"
    assert extended["_neuroassets_probe00_recording_quality_rms_destriped_uv_median"] == 50.0
    assert extended["_neuroassets_probe00_unit_quality_tridesclous2_isolation"] == "WARNING"
    assert lab.client.read("insertions", lab.pid)["json"]["qc"] == "FAIL"
    rows = lab.client.rows("datasets", most=99, session=lab.eid)
    # Units are judged by what they were made of, and not by the noise of the recording.
    assert {row["name"]: row["qc"] for row in rows} == {
        UNITS_FILE: "WARNING", CHECKS_FILE: "NOT_SET"
    }  # fmt: skip


def test_labs_can_keep_their_own_judgement(lab):
    lab.put("recording_quality", "v2", rms_destriped_uv_median=50.0)
    text = lab.writing().small.text + "steps: {alyx_registration: {set: files_only}}\n"
    own = Lab(lab.small.with_text(text), lab.server, lab.key, lab.eid, lab.pid)
    assert own.run().success
    session = lab.client.read("sessions", lab.eid)
    assert (session["qc"], session["extended_qc"]) == ("NOT_SET", None)
    assert lab.client.rows("datasets", most=99, session=lab.eid)


def test_every_value_of_alyx_that_the_step_reads_is_in_its_version(lab):
    texts = [TEXT.format(url=url, write=write) for url in ("http://a", "http://b")
             for write in ("true", "false")]  # fmt: skip
    texts += [
        texts[0].replace(old, new)
        for old, new in [
            ("lab_server", "other"), (": lab_server}", ": moved}"), ("dagster.", "other."),
        ]
    ]  # fmt: skip
    versions = [all_steps(parse_config(text))[-1].parameters.digest for text in texts]
    assert len(set(versions)) == len(texts)
    assert TOKEN not in str([all_steps(parse_config(text))[-1] for text in texts])


def test_a_recording_that_is_not_in_alyx_is_skipped_with_a_typed_reason_until_it_is(lab):
    lab.small.registry.update(lab.key, lambda record: {"eid": None, "pid": None})
    assert lab.run().success
    stored = lab.stored()
    assert stored.outcome is Outcome.SKIPPED
    assert stored.manifest.skip["reason"] == "not_in_alyx"
    said = RecordingMetadata(session=SessionMetadata(eid=lab.eid))
    lab.small.registry.update(lab.key, lambda record: {"eid": lab.eid, "metadata": said})
    assert lab.run().success
    assert lab.stored().outcome is Outcome.COMPLETE


def test_two_sessions_on_one_path_fail_the_step_alone_and_with_one_line(lab):
    lab.server.add_session("M1", "2026-11-20", 1, lab="lab")
    writing = lab.writing()
    result = writing.run()
    assert not result.success
    error = lab.small.store.failure(ASSET, lab.key).error["message"]
    assert "Alyx has two sessions M1/2026-11-20/001" in error and "\n" not in error
    assert lab.writes() == []


def test_what_was_published_dry_is_registered_once_writing_is_allowed(lab):
    assert lab.run().success and lab.stored().manifest.metrics["dry_run"]
    assert "alyx_backlog" not in {sensor.name for sensor in lab.small.defs.sensors}
    writing = lab.writing()
    sensor = writing.small.defs.get_sensor_def("alyx_backlog")

    def requested(cursor: str = "") -> list[Any]:
        context = dg.build_sensor_context(instance=lab.small.instance, cursor=cursor)
        return [
            request.with_resolved_tags_and_config(
                target_definition=writing.small.defs.get_job_def(names.PUBLISH_JOB),
                dynamic_partitions_requests=[],
                dynamic_partitions_store=lab.small.instance,
            )
            for request in sensor(context)
        ]

    [request] = requested()
    assert (request.partition_key, request.asset_selection) == (lab.key, [dg.AssetKey(ASSET)])
    assert [again.run_key for again in requested(lab.key)] == [request.run_key], "one run of it"
    assert writing.run().success and lab.writes()
    assert requested() == []


def test_a_deleted_session_leaves_the_difference_and_fails_no_run(lab):
    writing = lab.writing()
    lab.server.delete_session(lab.eid)
    done = call(lab, "diff", "--all")
    assert done.returncode == 0 and "0 recordings cannot be registered" in done.stdout
    assert "of 1 the session was deleted in Alyx" in done.stdout
    named = call(lab, "diff", lab.key)
    assert named.returncode == 1 and "is not in Alyx any more" in named.stdout
    assert writing.run().success
    assert lab.stored().manifest.skip["reason"] == "not_in_alyx"


def test_a_changed_result_becomes_a_revision_with_the_criteria(lab):
    writing = lab.writing()
    assert writing.run().success
    lab.put("lfp", "v2", lfp_rms_uv_median=2000.0)
    assert writing.run().success
    rows = lab.client.rows("datasets", most=99, session=lab.eid)
    revised = {row["name"]: row["default_dataset"] for row in rows if row["revision"]}
    assert revised == {CHECKS_FILE: True}
    assert lab.client.read("sessions", lab.eid)["qc"] == "WARNING"


def test_two_probes_of_a_session_are_registered_one_after_the_other(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(alyx_registration, "LEASE_S", 0.05)
    writing = lab.writing()
    store, config = writing.small.store, writing.small.config
    wanted = target_of(config, store, store_record(lab), lab.assets, tmp_path, lambda key: None)
    repository = write_repository(config)
    with store.lease(f"alyx-{lab.eid}", 60):
        with pytest.raises(TransientFailure, match="another process"):
            send(store, lab.client, wanted, repository)
        assert lab.writes() == []
    assert send(store, lab.client, wanted, repository).sent


@pytest.mark.parametrize("status", ["STARTED", "CANCELING"])
def test_nothing_is_registered_while_a_run_makes_results(lab, status):
    writing = lab.writing()
    assert lab.run().success, "the run of `publish` itself does not count"
    tags = {"dagster/partition": lab.key}
    live = dg.DagsterRun(job_name=names.PROCESS_JOB, tags=tags, status=dg.DagsterRunStatus[status])
    lab.small.instance.add_run(live)
    lab.put("lfp", "v2")
    assert not writing.run().success
    error = lab.small.store.failure(ASSET, lab.key).error["message"]
    assert f"are being made by run {live.run_id}" in error
    assert lab.writes() == []
    lab.small.instance.report_run_canceled(live)
    assert writing.run().success and lab.writes()


def test_what_is_registered_was_there_together(lab, tmp_path):
    """A run that begins and ends while the results are read."""
    store, config = lab.small.store, lab.writing().small.config

    def processing(key: str) -> None:
        lab.put("lfp", "v2")

    with pytest.raises(PermanentFailure, match="are being made, so that nothing"):
        target_of(config, store, store_record(lab), lab.assets, tmp_path, processing)
    assert target_of(config, store, store_record(lab), lab.assets, tmp_path, lambda key: None)


def store_record(lab: Lab) -> RecordingRecord:
    record = lab.small.registry.get(lab.key)
    assert record is not None
    return record


def test_the_write_repository_is_a_folder_or_a_prefix_on_s3():
    text = TEXT.format(url="http://a", write="false")
    folder = write_repository(parse_config(text, base=Path("/lab")))
    assert repr(folder) == "WriteRepository('lab_server', '/lab/lab_server')"
    s3 = write_repository(
        parse_config(text.replace("lab_server: lab_server", "lab_server: s3://b/p"))
    )
    assert repr(s3) == "WriteRepository('lab_server', 's3://b/p')"
    assert write_repository(parse_config("")) is None


# -- outcome of a recording ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ("complete complete", "Complete"),
        ("complete skipped", "Complete"),
        ("complete failed", "Incomplete"),
        ("complete waiting", "Incomplete"),
        ("old", "Incomplete"),
        ("failed waiting", "Errored"),
        ("failed skipped", "Errored"),
        ("waiting waiting", None),
    ],
)
def test_the_status_of_the_task_is_that_of_the_outputs(lab, states, status):
    stored = {
        "complete": (lab.put("lfp"), False),
        "skipped": (lab.skip("motion"), False),
        "failed": (None, True),
        "old": (lab.put("lfp"), True),
        "waiting": (None, False),
    }
    made = [Output(f"a{n}", *stored[word]) for n, word in enumerate(states.split())]
    task = task_of(lab.key, made, lab.small.config.alyx)
    assert (task and task.status) == status


def test_the_link_leads_to_the_run_and_the_version_is_that_of_the_outputs(lab):
    task = task_of(lab.key, outputs_of(lab.small.store, lab.key, lab.assets), lab.small.config.alyx)
    assert task.name == "neuro_assets_process_probe00"
    assert (task.log, task.version) == ("https://dagster.example.org/runs/run-1", "0.1.0")


# -- tasks follow the runs -----------------------------------------------------------------------


def follow(lab: Lab, status: str, *, run: str = "success") -> str:
    """Evaluate the sensor of a status for a run that ended as `run`; gives its words."""
    sensor = lab.small.defs.get_sensor_def(f"alyx_task_after_{status}")
    record = dg.DagsterRun(
        job_name=names.PROCESS_JOB,
        tags={"dagster/partition": lab.key},
        status=dg.DagsterRunStatus[run.upper()],
    )
    lab.small.instance.add_run(record)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_START.value, job_name=names.PROCESS_JOB
    )
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name, dagster_instance=lab.small.instance, dagster_run=record,
        dagster_event=event,
    )  # fmt: skip
    line = sensor(context).skip_message
    lab.small.instance.delete_run(record.run_id)  # it is over
    return line


def test_a_task_is_started_and_then_complete_or_incomplete_or_errored(lab):
    writing = lab.writing()
    follow(writing, "started", run="started")
    assert [task[:2] for task in lab.tasks()] == [("neuro_assets_process_probe00", "Started")]
    assert lab.tasks()[0][2].startswith("https://dagster.example.org/runs/")
    follow(writing, "success")
    assert lab.tasks()[0][1] == "Complete"
    lab.fail("lfp")
    follow(writing, "failure", run="failure")
    assert lab.tasks()[0][1] == "Incomplete"


def test_a_run_that_ended_without_any_output_is_errored(lab):
    lab.small.registry.update(lab.key, lambda record: {})
    empty = SmallLab(lab.small.folder, lab.writing().small.text.replace("store}", "other}"))
    empty.instance.add_dynamic_partitions(SET_NAME, [lab.key])
    record = lab.small.registry.get(lab.key)
    register(empty.registry, record.session, record.recording, "raw1", eid=lab.eid, pid=lab.pid)
    follow(Lab(empty, lab.server, lab.key, lab.eid, lab.pid), "canceled", run="canceled")
    assert lab.tasks()[0][1] == "Errored"


def test_a_start_that_is_told_after_the_end_is_not_written(lab):
    writing = lab.writing()
    follow(writing, "success")
    assert "over already" in follow(writing, "started", run="success")
    assert lab.tasks()[0][1] == "Complete"


def test_in_a_dry_run_the_line_is_said_and_nothing_is_sent(lab):
    assert "would create task neuro_assets_process_probe00" in follow(lab, "success")
    assert lab.writes() == []


def test_an_outage_of_alyx_never_leaves_the_sensor_and_the_step_writes_the_status(lab, monkeypatch):
    writing = lab.writing()
    follow(writing, "started", run="started")
    lab.server.down = True
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert "task in Alyx was not moved" in follow(writing, "success")
    lab.server.down = False
    assert lab.tasks()[0][1] == "Started"
    assert writing.run().success
    assert lab.tasks()[0][1] == "Complete"


def test_step_and_sensors_agree_so_that_nothing_is_written_twice(lab):
    writing = lab.writing()
    lab.fail("lfp")
    follow(writing, "failure", run="failure")
    assert writing.run().success
    assert not writing.lines()["action"].str.contains("task").any()


# -- the command ---------------------------------------------------------------------------------


def call(lab: Lab, *words: str, **env: str) -> Done:
    env = {"ALYX_TOKEN": TOKEN, **env}
    return commands.call("alyx", *words, folder=lab.small.folder, env=env)


def test_diff_shows_the_exact_difference_and_register_refuses_until_it_may(lab):
    done = call(lab, "diff", lab.key)
    assert done.returncode == 0, done.stderr
    assert f"{lab.key}  register {COLLECTION}/{UNITS_FILE} (" in done.stdout
    refused = call(lab, "register", lab.key)
    assert refused.returncode == 1
    assert "alyx.write is false" in refused.stderr and "write: true" in refused.stderr
    assert lab.writes() == []


def test_register_sends_what_diff_showed_and_then_nothing_remains(lab):
    shown = call(lab, "diff", "--all")
    assert "1 of 1 recordings were found in Alyx" in shown.stdout
    lab.writing()
    done = call(lab, "register", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in shown.stdout.splitlines() if line.startswith(lab.key)]
    assert lines and lines == [
        line for line in done.stdout.splitlines() if line.startswith(lab.key)
    ]
    assert "0 changes" in call(lab, "diff", lab.key).stdout
    home = prepare_home(lab.small.folder)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        tags, status = {"dagster/partition": lab.key}, dg.DagsterRunStatus.STARTED
        instance.add_run(dg.DagsterRun(job_name=names.PROCESS_JOB, tags=tags, status=status))
    assert "are being made by run" in call(lab, "register", lab.key).stdout
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_run_canceled(instance.get_runs()[0])
    writing = lab.writing()
    assert writing.run().success
    assert len(writing.lines()) == 0, "step and command say the same"


def test_one_recording_that_cannot_be_registered_does_not_stop_the_others(lab):
    lab.writing()
    record = lab.small.registry.get(lab.key)
    other = record.session.model_copy(update={"subject": "A0"})
    register(lab.small.registry, other, record.recording.model_copy(
        update={"identity": Identity(probe_serial="S2", size_bytes=1)}), "raw1",
        eid=[lab.server.add_session("A0", "2026-11-20", 1)["id"] for _ in range(2)][0])  # fmt: skip
    done = call(lab, "register", "--all")
    assert done.returncode == 1
    assert "error: Alyx has two sessions A0/2026-11-20/001" in done.stdout
    assert lab.tasks()[0][1] == "Complete"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["diff"], "name recordings, or give --all"),
        (["diff", "nobody"], "no recording 'nobody'"),
        (["register", "nobody", "--all"], "name recordings, or give --all"),
    ],
)
def test_wrong_arguments_are_one_line(lab, words, said):
    lab.writing()
    done = call(lab, *words)
    assert done.returncode == 1 and said in done.stderr


def test_a_wrong_token_is_said_once_and_not_for_every_recording(lab):
    done = call(lab, "diff", "--all", ALYX_TOKEN="wrong")
    assert done.returncode == 1
    assert "ALYX_TOKEN" in done.stderr and "wrong" not in done.stderr.replace("or wrong", "")


def test_without_alyx_the_command_says_what_to_set(lab):
    (lab.small.folder / "lab.yaml").write_text("lab: lab\nstore: {url: store}\n")
    done = call(lab, "diff", lab.key)
    assert done.returncode == 1 and "set url in the alyx section" in done.stderr
    assert json.dumps(lab.writes()) == "[]"
