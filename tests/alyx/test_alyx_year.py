"""A lab lives with its Alyx: late registrations, edits, renames, deletions, outages, for a year.

After every quiet period the platform's keys, versions and states are compared with what the
server's rows imply; that is worked out here, from the server's own tables, and shares no code
with the platform.
"""

from __future__ import annotations

import hashlib
import math
import random
import shutil
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alyx_lab import LOCAL, AlyxLab
from fake_alyx.server import AlyxServer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neuro_assets.outcomes import TransientFailure
from neuro_assets.registry.requests import REPEATED_FOR

BEGIN = datetime(2026, 2, 2, 8, tzinfo=UTC)
TYPES = {".bin": "ephysData.raw.ap", ".meta": "ephysData.raw.meta"}

picks = st.integers(0, 10**6)


class LabYear(RuleBasedStateMachine):
    """People, rigs and scripts on one side; ticks of the platform on the other."""

    begin_with = 25
    most_sessions = 230

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.server = AlyxServer(now=BEGIN)
        self.lab = AlyxLab(self.folder, self.server, reprocess=True, keys=100, keep_events=False)
        self.eids: list[str] = []
        self.ever_wanted: set[str] = set()
        self.versions: dict[Any, str] = {}
        self.numbers = defaultdict(int)
        self.n_made = 0
        self.n_patches = 300
        self.asked: dict[str, list[datetime]] = defaultdict(list)
        self.is_down = False

    def teardown(self) -> None:
        self.server.close()
        shutil.rmtree(self.folder)
        assert not self.server.errors, self.server.errors

    # --- what people, rigs and scripts do -----------------------------------------------------

    @initialize()
    def the_lab_opens(self) -> None:
        self.lab.tick()
        for i in range(self.begin_with):
            self.session(days_ago=i % 5, stage=3, n_probes=1 + i % 2, project=True)

    def session(self, *, days_ago: int, stage: int, n_probes: int, project: bool) -> None:
        day = (self.server.now - timedelta(days=days_ago)).date().isoformat()
        subject = f"M{self.n_made % 17:02d}"
        self.numbers[subject, day] += 1
        self.n_made += 1
        eid = self.lab.session(
            subject, day, self.numbers[subject, day] + 10 * (self.n_made // 17 % 9),
            projects=["p"] if project else [],
        )  # fmt: skip
        self.eids.append(eid)
        for i in range(n_probes):
            self.lab.insertion(eid, f"probe{i:02d}")
            if stage > 0:
                self.lab.register(eid, self.lab.copy_files(eid, f"probe{i:02d}"), exists=stage > 1)

    @rule(
        days_ago=st.sampled_from([0, 0, 1, 40, 700]),
        stage=st.integers(0, 2),
        n_probes=st.integers(1, 2),
        project=st.booleans(),
        many=st.integers(1, 8),
    )
    def sessions_are_recorded(self, days_ago, stage, n_probes, project, many) -> None:
        for _ in range(many):
            if len(self.eids) < self.most_sessions:
                self.session(days_ago=days_ago, stage=stage, n_probes=n_probes, project=project)

    @rule(pick=picks, flag=st.booleans())
    def files_are_transferred_or_lost(self, pick, flag) -> None:
        eid = self.alive(pick)
        for row in self.raw(eid):
            self.server.set_exists(_id(row), LOCAL, flag)

    @rule(pick=picks)
    def files_arrive_and_are_registered(self, pick) -> None:
        eid = self.alive(pick)
        if self.raw(eid) or self.twins(eid):
            return
        subject, day, number = self.name(eid)
        if (self.lab.repository / subject / day / f"{number:03d}").exists():
            return  # files of a session that was renumbered; nobody writes over them
        for probe in self.probes(eid):
            self.lab.register(eid, self.lab.copy_files(eid, probe))

    @rule(pick=picks, silent=st.booleans())
    def data_are_patched(self, pick, silent) -> None:
        """The file changes and its row with it; a script may leave no trace in times."""
        rows = [r for r in self.raw(self.alive(pick)) if r["name"].endswith(".bin")]
        if not rows:
            return
        row = rows[0]
        path = self.path(row)
        if path is None:
            return
        whole = path.read_bytes()
        self.n_patches += 1  # never what it was once: that version had its run
        data = whole[:-18] + self.n_patches.to_bytes(2, "big") * 8 + b"\1\0"
        path.write_bytes(data)
        fields = {"hash": hashlib.md5(data).hexdigest(), "file_size": len(data)}
        if silent:
            self.server.sql("datasets", _id(row), **fields)
        else:
            self.server.patch_dataset(_id(row), **fields)

    @rule(pick=picks)
    def the_same_is_registered_again(self, pick) -> None:
        for row in self.raw(self.alive(pick)):
            for record in row["file_records"]:
                if record["exists"] and record["data_repository"] == LOCAL:
                    self.server.patch_dataset(_id(row), qc="PASS")
                    return

    @rule(pick=picks)
    def a_dataset_is_deleted(self, pick) -> None:
        rows = self.raw(self.alive(pick))
        if rows:
            self.server.delete_dataset(_id(rows[0]))

    @rule(pick=picks, qc=st.sampled_from(["CRITICAL", "PASS"]), silent=st.booleans())
    def quality_is_judged(self, pick, qc, silent) -> None:
        eid = self.alive(pick)
        if silent:
            self.server.sql("sessions", eid, qc=qc)
        else:
            self.server.patch_session(eid, qc=qc)

    @rule(pick=picks, number=st.integers(1, 4))
    def a_session_is_renumbered(self, pick, number) -> None:
        self.server.patch_session(self.alive(pick), number=number)

    @rule(pick=picks)
    def a_session_is_registered_twice(self, pick) -> None:
        eid = self.alive(pick)
        row = self.server.session(eid)
        twin = self.lab.session(row["subject"], row["start_time"][:10], row["number"])
        self.eids.append(twin)
        for probe in self.probes(eid):
            self.lab.insertion(twin, probe)

    @rule(pick=picks)
    def a_session_is_deleted(self, pick) -> None:
        self.server.delete_session(self.alive(pick))

    @rule(pick=picks, silent=st.booleans())
    def a_project_is_attached(self, pick, silent) -> None:
        eid = self.alive(pick)
        if silent:
            self.server.attach_project(eid, "p")
        else:
            self.server.patch_session(eid, projects=["p", "q"])

    @rule(pick=picks)
    def a_project_is_taken_away(self, pick) -> None:
        self.server.patch_session(self.alive(pick), projects=["q"])

    @rule(pick=picks)
    def a_probe_is_added(self, pick) -> None:
        eid = self.alive(pick)
        if "probe02" not in self.probes(eid):
            self.lab.insertion(eid, "probe02")

    # --- what goes wrong ----------------------------------------------------------------------

    @rule()
    def the_database_goes_down(self) -> None:
        self.server.down = True

    @precondition(lambda self: self.server.down)
    @rule()
    def the_database_is_back(self) -> None:
        self.server.down = False

    @rule(n=st.integers(1, 4))
    def connections_break(self, n) -> None:
        self.server.drop_connections(n)

    @rule(n=st.integers(1, 4))
    def a_proxy_fails(self, n) -> None:
        self.server.fail_next(n)

    # --- the platform -------------------------------------------------------------------------

    @rule(n=st.integers(1, 3), until=st.sampled_from(["cursor"] * 4 + ["events", "keys", "runs"]))
    def ticks(self, n, until) -> None:
        for _ in range(n):
            self.tick(until=until)

    @rule()
    def the_comparison_runs(self) -> None:
        try:
            self.lab.reconcile()
        except TransientFailure:
            assert self.server.down or self.server.faults

    @rule(hours=st.sampled_from([1, 3, 24, 24 * 7, 24 * 30]))
    def time_passes(self, hours) -> None:
        self.lab.wait(hours=hours)

    def tick(self, until: str = "cursor") -> None:
        before = len(self.lab.asked)
        try:
            self.lab.tick(until=until)
        except TransientFailure:
            return
        for run_key, when in self.lab.asked[before:]:
            key, _, number = run_key.rpartition(":")
            record = self.lab.records[key]
            assert (record.state, str(record.request)) == ("ready", number), run_key
            self.asked[run_key].append(when)

    @rule()
    def the_lab_is_quiet_for_a_while(self) -> None:
        self.server.down = False
        self.server.faults.drop(0, after=False)
        passes = math.ceil(len(self.eids) / 240) + 2  # each looks at the datasets of 240 sessions
        for _ in range(passes):
            self.lab.wait(hours=7)
            for _ in range(20):  # what broken connections are left is used up
                try:
                    self.lab.reconcile()
                    break
                except TransientFailure:
                    continue
            for _ in range(40):
                self.tick()
                if not self.lab.pending() and not self.lab.n_left():
                    break
            self.tick()
            self.tick()
        self.compare()

    @invariant()
    def no_run_is_started_twice(self) -> None:
        for run_key, times in self.asked.items():
            # Asked for again only as long as a tick that was killed may have lost the asking.
            assert max(times) - min(times) <= REPEATED_FOR, run_key

    # --- what the server's rows imply ---------------------------------------------------------

    def alive(self, pick: int) -> str:
        there = [eid for eid in self.eids if eid in self.server.tables.sessions.rows]
        if not there:
            self.session(days_ago=0, stage=2, n_probes=1, project=True)
            there = [self.eids[-1]]
        return there[pick % len(there)]

    def raw(self, eid: str) -> list[dict[str, Any]]:
        return [r for r in self.server.datasets(eid) if r["dataset_type"] in TYPES.values()]

    def probes(self, eid: str) -> list[str]:
        named = {row["name"] for row in self.server.session(eid)["probe_insertion"]}
        return sorted(named | {r["collection"].split("/")[1] for r in self.raw(eid)})

    def path(self, row: dict[str, Any]) -> Path | None:
        there = [
            record["relative_path"]
            for record in row["file_records"]
            if record["data_repository"] == LOCAL and record["exists"]
        ]
        return self.lab.repository / max(there) if there else None

    def name(self, eid: str) -> tuple[Any, ...]:
        row = self.server.session(eid)
        return row["subject"], (row["start_time"] or "")[:10], row["number"]

    def twins(self, eid: str) -> list[str]:
        return [other for other in self.of_name()[self.name(eid)] if other != eid]

    def of_name(self) -> dict[tuple[Any, ...], list[str]]:
        """Sessions that are there, by subject, day and number."""
        found = defaultdict(list)
        for eid in self.eids:
            if eid in self.server.tables.sessions.rows:
                found[self.name(eid)].append(eid)
        return found

    def is_wanted(self, eid: str) -> bool:
        return "p" in self.server.session(eid)["projects"]

    def content(self, eid: str, probe: str) -> tuple[Any, ...] | None:
        """What the raw data of a probe are; None where they are not complete."""
        rows = [r for r in self.raw(eid) if r["collection"].endswith(probe)]
        if {r["dataset_type"] for r in rows} != set(TYPES.values()):
            return None
        if not all(r["hash"] and r["file_size"] and self.path(r) for r in rows):
            return None
        return tuple(
            sorted((r["dataset_type"], r["hash"], r["file_size"], r["revision"]) for r in rows)
        )

    def compare(self) -> None:
        records = self.lab.records
        by_probe = defaultdict(list)
        for key, record in records.items():
            by_probe[record.eid, record.label].append(key)
        there = [eid for eid in self.eids if eid in self.server.tables.sessions.rows]
        expected: set[str] = set()
        names = self.of_name()
        for eid in there:
            twins = [other for other in names[self.name(eid)] if other != eid]
            for probe in self.probes(eid):
                expected |= self.compare_probe(eid, probe, twins, by_probe, records)
        for key, record in records.items():
            if key not in expected:
                assert record.state in ("vanished", "held"), (key, record.state, record.reason)
            if record.eid not in there:
                assert record.state in ("vanished", "held"), key

    def compare_probe(self, eid, probe, twins, by_probe, records) -> set[str]:
        keys = by_probe[eid, probe]
        assert len(keys) <= 1, f"{eid} {probe} has keys {keys}"
        if not self.is_wanted(eid):
            assert all(records[key].state == "held" for key in keys), (eid, probe)
            return set(keys)
        if twins:
            shared = [k for o in (eid, *twins) for k in by_probe[o, probe]]
            assert shared, f"nobody holds {eid} {probe}"
            assert {records[key].state for key in shared} <= {"held", "vanished"}
            return set(shared)
        assert len(keys) == 1, f"{eid} {probe} has no key"
        [key] = keys
        record = records[key]
        said = self.server.session(eid)
        content = self.content(eid, probe)
        if said["qc"] == "CRITICAL":
            assert record.state == "held", key
        elif content is None:
            assert record.state == "not_ready", (key, record.state, record.reason)
        else:
            assert record.state == "ready", (key, record.state, record.reason)
        if content is not None:
            self.compare_version(key, record, content)
        return {key}

    def compare_version(self, key, record, content) -> None:
        known = self.versions.setdefault(content, record.raw_version)
        assert record.raw_version == known, f"{key} has another version of the same data"
        of_others = [c for c, v in self.versions.items() if v == known and c != content]
        assert not of_others, f"{key} has the version of other data"
        if record.state == "ready":
            assert record.requested == record.raw_version, f"{key} was missed"
            assert f"{key}:{record.request}" in self.lab.started, f"{key} was missed"


def _id(row: dict[str, Any]) -> str:
    return row["url"].rsplit("/", 1)[-1]


LabYear.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,  # the same lives each time; other ones: remove this line
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestLabYear = pytest.mark.slow(pytest.mark.property(LabYear.TestCase))


@pytest.mark.slow
def test_two_hundred_sessions_live_through_a_year():
    """Every kind of event, for twelve months, with a quiet week at the end of each."""
    rng = random.Random(7)
    year = LabYear()
    year.begin_with = 100
    try:
        year.the_lab_opens()
        for month in range(12):
            for _ in range(18):
                _something_happens(year, rng)
                year.no_run_is_started_twice()
            year.lab.wait(days=27)
            if month % 3 == 2:
                year.the_lab_is_quiet_for_a_while()
        assert year.n_made >= 200 and year.server.now - BEGIN > timedelta(days=330)
        assert len(year.lab.started) > 100
    finally:
        year.teardown()


def _something_happens(year: LabYear, rng: random.Random) -> None:
    pick, flag = rng.randrange(10**6), rng.random() < 0.5
    events = {
        lambda: year.sessions_are_recorded(
            days_ago=rng.choice([0, 0, 1, 40, 700]), stage=rng.randrange(3),
            n_probes=rng.randint(1, 2), project=rng.random() < 0.8, many=rng.randint(1, 5),
        ): 6,
        lambda: year.files_are_transferred_or_lost(pick=pick, flag=flag): 2,
        lambda: year.files_arrive_and_are_registered(pick=pick): 3,
        lambda: year.data_are_patched(pick=pick, silent=flag): 2,
        lambda: year.the_same_is_registered_again(pick=pick): 1,
        lambda: year.a_dataset_is_deleted(pick=pick): 1,
        lambda: year.quality_is_judged(
            pick=pick, qc=rng.choice(["CRITICAL", "PASS"]), silent=flag
        ): 2,
        lambda: year.a_session_is_renumbered(pick=pick, number=rng.randint(1, 4)): 2,
        lambda: year.a_session_is_registered_twice(pick=pick): 1,
        lambda: year.a_session_is_deleted(pick=pick): 1,
        lambda: year.a_project_is_attached(pick=pick, silent=flag): 2,
        lambda: year.a_project_is_taken_away(pick=pick): 1,
        lambda: year.a_probe_is_added(pick=pick): 1,
        year.the_database_goes_down: 1,
        year.the_database_is_back if year.server.down else year.the_comparison_runs: 3,
        lambda: year.connections_break(n=rng.randint(1, 4)): 1,
        lambda: year.a_proxy_fails(n=rng.randint(1, 4)): 1,
        lambda: year.ticks(n=rng.randint(1, 3), until=rng.choice(["cursor", "cursor", "keys"])): 8,
        lambda: year.time_passes(hours=rng.choice([1, 3, 24])): 3,
    }  # fmt: skip
    rng.choices(list(events), weights=list(events.values()))[0]()
