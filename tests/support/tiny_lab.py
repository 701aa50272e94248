"""A code location of a few lines for the tests of launcher, service and frozen configuration.

It works in the folder named by TINY_LAB: assets leave lines in files there, and wait for files.
"""

import json
import os
import time
from pathlib import Path

import dagster as dg

from neuro_assets.executors.frozen_config import frozen_config
from neuro_assets.executors.multiprocess import multiprocess_config
from neuro_assets.parent_watchdog import end_with_parent
from neuro_assets.sensors.dropped_retries import dropped_retries_sensor

PARTITIONS = dg.DynamicPartitionsDefinition(name="tiny")
WAIT_S = 300


def folder() -> Path:
    return Path(os.environ["TINY_LAB"])


def note(name: str, **fields: object) -> None:
    """Add a line to `<name>.jsonl`."""
    with (folder() / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **fields}) + "\n")


def notes(name: str) -> list[dict]:
    path = folder() / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(name: str) -> None:
    until = time.monotonic() + WAIT_S
    while not (folder() / name).exists():
        if time.monotonic() > until:
            raise TimeoutError(name)
        time.sleep(0.05)


def threads(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def validate(text: str) -> None:
    if "broken" in text:
        raise ValueError("the word 'broken' is not allowed")


def compare(old: str, new: str) -> list[dict[str, str]]:
    return [{"field": "number", "old": old.strip(), "new": new.strip()}]


def build(text: str, error: str | None) -> dg.Definitions:
    @dg.asset(partitions_def=PARTITIONS)
    def first(context: dg.AssetExecutionContext) -> None:
        note("first", run=context.run_id)

    @dg.asset(partitions_def=PARTITIONS, deps=[first], pool="heavy")
    def slow(context: dg.AssetExecutionContext) -> None:
        end_with_parent(grace_s=5)
        note("slow", run=context.run_id)
        try:
            wait_for("go")
        finally:
            note("slow_cleaned", run=context.run_id)

    @dg.asset(partitions_def=PARTITIONS, deps=[slow])
    def last() -> None:
        note("last", text=text)

    @dg.asset(description=text)
    def text_before() -> None:
        note("text", step="before", text=text, server_threads=threads(os.getppid()))

    @dg.asset(deps=[text_before])
    def text_after() -> None:
        wait_for("edited")
        note("text", step="after", text=text, server_threads=threads(os.getppid()))

    chain = dg.AssetSelection.assets(first, slow, last)
    texts = dg.AssetSelection.assets(text_before, text_after)
    forked = dg.multiprocess_executor.configured(
        multiprocess_config(1, preload=("dagster", __name__))
    )
    spawned = dg.multiprocess_executor.configured({"max_concurrent": 1})
    return dg.Definitions(
        assets=[first, slow, last, text_before, text_after],
        jobs=[
            dg.define_asset_job("chain", chain, executor_def=forked),
            dg.define_asset_job("texts_forked", texts, executor_def=forked),
            dg.define_asset_job("texts_spawned", texts, executor_def=spawned),
        ],
        sensors=[dropped_retries_sensor(interval_s=3)],
        metadata={"config_error": error or "none"},
    )


@dg.definitions
def defs() -> dg.Definitions:
    config = frozen_config(folder() / "lab.yaml", validate, compare)
    return build(config.text, config.error)
