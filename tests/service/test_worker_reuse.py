"""One worker process for the runs of a command: what it keeps, and what its end costs."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import dagster as dg
import pytest
import service_tools as tools

from neuro_assets.executors.launcher import claimed_by

LOCATION = "CodeLocation('worker_location', 'defs', 'mine')"
MODULE = """
import os, signal, time
from pathlib import Path
import dagster as dg
from neuro_assets.executors.launcher import claimed_by
from neuro_assets.executors.multiprocess import multiprocess_config

VERSION = 'old'

@dg.asset
def step(context: dg.AssetExecutionContext) -> None:
    with Path('seen').open('a') as file:
        print(VERSION, file=file)
    if Path('kill').exists():
        Path('kill').unlink()
        os.kill(claimed_by(context.instance.get_run_by_id(context.run_id)).pid, signal.SIGKILL)
        time.sleep(600)

preload = ('dagster', __name__)
executor = dg.multiprocess_executor.configured(multiprocess_config(1, preload=preload))
defs = dg.Definitions(
    assets=[step],
    jobs=[dg.define_asset_job(f'job_{VERSION}', '*', executor_def=executor)],
)
"""


@pytest.mark.integration
def test_a_worker_keeps_its_code_and_its_death_costs_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "worker_location.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=os.pathsep)
    tools.quick_home(tmp_path)
    code = f"""
        from neuro_assets.outcomes import PermanentFailure
        lab = Path({str(tmp_path)!r})
        module = lab / 'code' / 'worker_location.py'
        with prepared_worker(lab, {LOCATION}) as worker:
            def ask(job):
                try:
                    r = execute(job, workdir=lab, location={LOCATION}, worker=worker)
                    print('RESULT', r.status)
                except PermanentFailure as error:
                    print('REFUSED', str(error).splitlines()[0])
            ask('job_old')
            module.write_text(module.read_text().replace("'old'", "'another'"))
            ask('job_another')
            (lab / 'kill').touch()
            ask('job_old')
            ask('job_another')
    """
    assert tools.start(tmp_path, textwrap.dedent(code), "run.log").wait() == 0
    results = tools.log(tmp_path, "run.log").splitlines()
    assert [line.split(";")[0] for line in results] == [
        "RESULT SUCCESS",
        # Its imports changed: the worker, and the steps that are forked for it, keep theirs.
        "REFUSED there is no job 'job_another'",
        "RESULT FAILURE",
        # A new process takes the next run, with the code of then.
        "RESULT SUCCESS",
    ]
    assert tools.log(tmp_path, "seen").split() == ["old", "old", "another"]
    with dg.DagsterInstance.from_config(str(tmp_path / ".dagster_home")) as instance:
        records = instance.get_run_records(ascending=True)
        made = [record.dagster_run for record in records]
        assert [run.status.value for run in made] == ["SUCCESS", "FAILURE", "SUCCESS"]
        workers = [claimed_by(run) for run in made]
        assert workers[0] == workers[1] != workers[2]
        messages = [entry.message for entry in instance.all_logs(made[1].run_id)]
        assert any("Its process ended" in message for message in messages)
