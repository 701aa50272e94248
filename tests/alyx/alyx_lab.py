"""A lab whose sessions are in Alyx and whose files are on its server; driven without processes."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import spikeglx_files
from fake_alyx.server import TOKEN, AlyxServer
from labs import SmallLab

from neuro_assets.alyx.client import Alyx
from neuro_assets.partitions import SET_NAME
from neuro_assets.registry.recheck_queue import read_recheck_queue
from neuro_assets.registry.registry import RecordingRecord, Registry
from neuro_assets.sensors.discovery import look
from neuro_assets.sensors.reconciliation import compare
from neuro_assets.service.session_registration import local_source
from neuro_assets.sources.alyx.session import SessionReader
from neuro_assets.sources.alyx.source import AlyxSessionSource

LOCAL, CENTRAL = "lab_server", "central"
RAW = "raw_ephys_data/{probe}/_spikeglx_ephysData_g0_t0.imec{number}.ap.{kind}"

TEXT = """
lab: lab
store: {{url: store}}
sources: {sources}
alyx:
  url: {url}
  projects: [p]
  repositories: {{lab_server: repository}}
  settle_minutes: 0
  {more}
processing: {{reprocess_changed: {reprocess}, runs_per_tick: {keys}}}
"""


class AlyxLab:
    """Server, files, registry, and the daemon's part of a tick.

    Time is the server's: nothing looks at this machine's clock.
    """

    def __init__(
        self,
        folder: Path,
        server: AlyxServer,
        *,
        more: str = "",
        reprocess: bool = False,
        keys: int = 20,
        sources: str = "[]",
        keep_events: bool = True,
    ) -> None:
        self.folder, self.server, self.keep_events = folder, server, keep_events
        text = TEXT.format(
            url=server.url, more=more, reprocess=str(reprocess).lower(), keys=keys, sources=sources
        )
        self.lab = SmallLab(folder, text)
        self.repository = folder / "repository"
        self.repository.mkdir(parents=True, exist_ok=True)
        server.add_repository(LOCAL, lab="lab", personal=True)
        server.add_repository(CENTRAL, lab="lab")
        server.add_dataset_type("ephysData.raw.ap", "*ephysData*.ap.*bin")
        self.registry = Registry(self.lab.store)
        self.sleeps: list[float] = []
        self.client = Alyx(
            server.url, TOKEN, timeout_s=60, deadline_s=120, tries=2, sleep=self.sleeps.append
        )
        config = self.lab.config
        self.source = AlyxSessionSource(
            self.client, config.alyx, SessionReader.of(self.client, config)
        )
        self.sources: dict[str, Any] = {s.name: local_source(s, config) for s in config.sources}
        self.sources["alyx"] = self.source
        self.cursor: str | None = None
        self.reconcile_cursor: str | None = None
        self.started: dict[str, datetime] = {}
        self.asked: list[tuple[str, datetime]] = []
        self.serial = 1000
        self.daemon_lives = True

    # what people and rigs do

    def session(
        self, subject: str = "M1", day: str = "2026-01-15", number: int = 1, **more: Any
    ) -> str:
        """Register a session, as at the start of an acquisition."""
        more.setdefault("projects", ["p"])
        return self.server.add_session(subject, day, number, lab="lab", **more)["id"]

    def insertion(self, eid: str, probe: str = "probe00", **more: Any) -> str:
        return self.server.add_insertion(eid, probe, **more)["id"]

    def copy_files(self, eid: str, probe: str = "probe00", *, seed: int = 0, n: int = 30) -> Path:
        """Put the files of a probe on the lab server; not registered yet."""
        row = self.server.session(eid)
        day = (row["start_time"] or "2026-01-15")[:10]
        self.serial += 1
        number = int(probe[-2:])
        path = (
            self.repository / row["subject"] / day / f"{row['number']:03d}"
            / RAW.format(probe=probe, number=number, kind="bin")
        )  # fmt: skip
        spikeglx_files.write(path, n, seed=seed, serial=str(self.serial), created=f"{day}T10:00:00")
        return path

    def register(self, eid: str, file: Path, *, exists: bool = True, **more: Any) -> list[str]:
        """Register the two files of a probe as datasets."""
        ids = []
        for path in (file, file.with_suffix(".meta")):
            data = path.read_bytes()
            below = path.relative_to(self.repository).parts[3:]
            row = self.server.add_dataset(
                eid,
                "/".join(below),
                hash=hashlib.md5(data).hexdigest(),
                size=len(data),
                exists=(LOCAL,) if exists else (),
                dataset_type=f"ephysData.raw.{'meta' if path.suffix == '.meta' else 'ap'}",
                **more,
            )
            ids.append(row["url"].rsplit("/", 1)[-1])
        return ids

    def recorded(self, subject: str = "M1", day: str = "2026-01-15", number: int = 1, **more: Any):
        """Register a whole session with one probe; gives eid, file and dataset ids."""
        eid = self.session(subject, day, number, **more)
        self.insertion(eid)
        file = self.copy_files(eid)
        return eid, file, self.register(eid, file)

    # what the daemon does

    def evaluate(self, sources: dict[str, Any] | None = None) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.lab.instance, cursor=self.cursor)
        return look(
            context, self.registry, self.lab.config, sources or self.sources, self.server.now
        )

    def tick(self, *, seconds: float = 30, until: str = "cursor") -> dg.SensorResult:
        """One tick of discovery, `seconds` after the last; `until` is where it is killed."""
        self.server.advance(seconds)
        result = self.evaluate()
        for event in result.asset_events or [] if self.keep_events else []:
            self.lab.instance.report_runless_asset_event(event)
        if until == "events":
            return result
        for request in result.dynamic_partitions_requests or []:
            self.lab.instance.add_dynamic_partitions(SET_NAME, list(request.partition_keys))
        if until == "keys":
            return result
        for request in result.run_requests or []:
            assert request.run_key is not None
            self.asked.append((request.run_key, self.server.now))
            if request.run_key not in self.started and self.daemon_lives:
                tags = {**request.tags, "dagster/partition": request.partition_key or ""}
                tags["dagster/run_key"] = request.run_key
                self.lab.instance.add_run(dg.DagsterRun(job_name="process", tags=tags))
            self.started.setdefault(request.run_key, self.server.now)
        if until == "runs":
            return result
        self.cursor = result.cursor
        return result

    def ticks(self, n: int, *, seconds: float = 30) -> None:
        for _ in range(n):
            self.tick(seconds=seconds)

    def reconcile(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.lab.instance, cursor=self.reconcile_cursor)
        result = compare(context, self.registry, self.lab.config, self.sources, self.server.now)
        self.reconcile_cursor = result.cursor
        return result

    @property
    def records(self) -> dict[str, RecordingRecord]:
        return self.registry.all()

    def record(self) -> RecordingRecord:
        """The only record."""
        [record] = self.records.values()
        return record

    @property
    def states(self) -> dict[str, str]:
        return {key: record.state for key, record in self.records.items()}

    def n_requests(self, what: Any) -> int:
        """Requests that a call makes."""
        before = len(self.server.log)
        what()
        return len(self.server.log) - before

    def wait(self, **time: float) -> None:
        self.server.now = self.server.now + timedelta(**time)

    def pending(self) -> list[str]:
        """Sessions that the source's cursor still has to look at."""
        from neuro_assets.sources.alyx.cursor import AlyxCursor

        said = json.loads(self.cursor or "{}").get("sources", {}).get("alyx")
        cursor = AlyxCursor.decode(said)
        return [*cursor.pending, *cursor.failed, *cursor.settling, *cursor.gone]

    def n_left(self) -> int:
        """Sessions that the sensor's cursor has put off."""
        said = json.loads(self.cursor or "{}")
        listed = read_recheck_queue(self.registry.store, "alyx")
        number, done = said.get("rechecked", {}).get("alyx", (0, 0))
        left = len(listed.sessions or {}) - (done if number == listed.number else 0)
        return left + sum(len(names) for names in said.get("later", {}).values())
