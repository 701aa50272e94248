"""Write-back: what is sent to Alyx, what never is, and what happens when something breaks off."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_alyx.server import AlyxServer
from hypothesis import given
from hypothesis import strategies as st
from places import SAMPLES
from s3_servers import BUCKET, moto_server

from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.registration.apply import is_protected
from neuro_assets.alyx.registration.changes import send_task, settle
from neuro_assets.alyx.registration.diff import file_changes, next_revision
from neuro_assets.alyx.registration.merge import (
    merged_insertion,
    merged_keys,
    merged_summary,
    own_prefix,
    raised,
    rank,
)
from neuro_assets.alyx.registration.model import OutgoingFile, RemoteState, TargetState, TaskState
from neuro_assets.alyx.registration.register import compare, register
from neuro_assets.alyx.registration.repository import WriteRepository
from neuro_assets.alyx.rows import DatasetRow, SessionDetail, parse
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.files import open_backend
from neuro_assets.store.local import LocalBackend

TODAY = datetime.date(2026, 11, 21)
QC = ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")
UNITS = "alf/probe00/neuro_assets/clusters.table.pqt"
CHECKS = "alf/probe00/neuro_assets/_neuroassets_checks.table.pqt"


# -- merging: what is said of other writers' words ------------------------------------------------

PREFIX = own_prefix("probe00")
keys = st.text(max_size=12) | st.sampled_from(
    [f"{PREFIX}a", f"{PREFIX}b", own_prefix("probe01") + "a", "_neuroassets_probe00-g1_a", "qc"]
)
values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(0, 9)
fields = st.none() | st.dictionaries(keys, values, max_size=6)
ours = st.dictionaries(
    st.text(max_size=4).map(lambda end: PREFIX + end), st.sampled_from(QC), max_size=4
)


def others(field_value: Any, prefix: str = PREFIX) -> dict[str, Any]:
    return {k: v for k, v in (field_value or {}).items() if not k.startswith(prefix)}


@given(fields, ours)
def test_merging_keeps_every_key_of_other_writers_and_says_exactly_ours(theirs, mine):
    before = json.dumps(theirs)
    merged = merged_keys(theirs, mine, PREFIX)
    assert others(merged) == others(theirs)
    assert {k: v for k, v in (merged or {}).items() if k.startswith(PREFIX)} == mine
    assert merged_keys(merged, mine, PREFIX) == merged
    assert json.dumps(theirs) == before


@given(fields, st.sampled_from(QC), ours)
def test_the_json_of_an_insertion_keeps_all_but_quality_and_our_keys(info, qc, mine):
    if info is not None and not isinstance(info.get("extended_qc"), dict | None):
        info = others(info, "extended_qc")
    merged = merged_insertion(info, qc, mine, PREFIX)
    names = {"qc", "extended_qc"}
    assert {k: v for k, v in (merged or {}).items() if k not in names} == {
        k: v for k, v in (info or {}).items() if k not in names
    }
    assert merged_insertion(merged, qc, mine, PREFIX) == merged


@given(fields, st.dictionaries(st.text(max_size=4), values, max_size=3))
def test_the_json_of_a_session_keeps_all_but_our_recording(info, mine):
    other = {"neuro_assets": {"probe01": {"version": "1"}}}
    info = None if info is None else info | other
    merged = merged_summary(info, "probe00", mine)
    assert merged["neuro_assets"]["probe00"] == mine
    if info is not None:
        assert merged["neuro_assets"]["probe01"] == {"version": "1"}
        assert others(merged, "neuro_assets") == others(info, "neuro_assets")


anything = st.sampled_from([*QC, None, 0, 10, 30, 40, 50]) | st.text(max_size=4) | st.booleans()


@given(anything, st.sampled_from(QC))
def test_quality_is_never_lowered_and_nothing_said_replaces_nothing_said(theirs, mine):
    now = raised(theirs, mine)
    if rank(theirs) is None:
        assert now == theirs  # not on the scale: not ours to judge
        return
    assert rank(now) == max(rank(theirs), rank(mine))
    if mine == "NOT_SET":
        assert now == theirs


@pytest.mark.parametrize("wrong", [["a"], "text", 3])
def test_a_field_that_is_no_dictionary_is_refused_and_not_replaced(wrong):
    with pytest.raises(PermanentFailure, match="holds a"):
        merged_keys(wrong, {}, PREFIX)
    with pytest.raises(PermanentFailure, match="holds a"):
        merged_insertion({"extended_qc": wrong}, "PASS", {}, PREFIX)


def test_the_ranks_are_alyxs_own():
    scale = _sample("110-findings-reregistration-etc")["summary"]["QC"]
    assert {name: rank(name) for name in QC} == scale


def _sample(name: str) -> dict[str, Any]:
    path = SAMPLES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no recorded samples in {SAMPLES}")
    return json.loads(path.read_text(encoding="utf-8"))


def _rows(name: str) -> list[dict[str, Any]]:
    return _sample(name)["exchanges"][0]["response"]["body"]["results"]


def recorded(md5: str, version: str = "3.4.1") -> list[str]:
    """Compare a file with the recorded revisions of `spikes.times.npy`."""
    rows = tuple(parse(DatasetRow, _rows("103-revisions-default-flags")))
    session = SessionDetail.of(_sample("09-sessions-read")["exchanges"][0]["response"]["body"])
    file = OutgoingFile(
        collection="alf/probe00", name="spikes.times.npy", source=Path("made"), size=99, md5=md5,
        version=version,
    )  # fmt: skip
    target = TargetState(
        key="M_20261120_1_probe00", label="probe00", eid=session.id, files=(file,),
        repository="mainen_lab_SR", today=datetime.date(2026, 11, 21),
    )  # fmt: skip
    path = "ZFM-06048/2026-11-20/001/alf/probe00/#2026-11-21#/spikes.times.npy"
    remote = RemoteState(session=session, datasets=rows, copies={path: 99})
    return [str(change).split(" (")[0] for change in file_changes(target, remote, "ZFM/d/001")]


def test_recorded_revisions_are_understood():
    assert recorded("h2") == []
    assert recorded("h2", version="9")[-1] == "register alf/probe00/#2026-11-21#/spikes.times.npy"
    # The older revision has this content and is not the default.
    assert recorded("h1")[-1] == "register alf/probe00/#2026-11-21a#/spikes.times.npy"


def test_the_recorded_answer_of_check_protected_is_understood():
    (exchange,) = _sample("105-check-protected")["exchanges"]
    revisions = exchange["response"]["body"]["details"][0]["spikes.times.npy"]
    assert is_protected("alf/probe00/#2026-11-20#/spikes.times.npy", revisions)
    assert not is_protected("alf/probe00/#2026-11-21#/spikes.times.npy", revisions)
    assert not is_protected("alf/probe00/spikes.times.npy", revisions)


def test_revisions_are_named_by_the_day_and_then_by_letters():
    assert next_revision(TODAY, []) == "2026-11-21"
    assert next_revision(TODAY, ["", "2026-11-20"]) == "2026-11-21"
    assert next_revision(TODAY, ["", "2026-11-21", "2026-11-21a"]) == "2026-11-21b"
    with pytest.raises(PermanentFailure, match="again and again"):
        next_revision(TODAY, ["2026-11-21", *(f"2026-11-21{c}" for c in map(chr, range(97, 123)))])


# -- against a server ----------------------------------------------------------------------------


@dataclass
class World:
    """An Alyx with one session and probe, and a lab that registers on its local server."""

    server: AlyxServer
    folder: Path
    eid: str
    pid: str
    client: Alyx
    repository: WriteRepository
    files: dict[str, bytes] = field(default_factory=lambda: {UNITS: b"units", CHECKS: b"checks"})

    def target(self, **changes: Any) -> TargetState:
        given = {
            "key": "M1_20261120_1_probe00",
            "label": "probe00",
            "eid": self.eid,
            "pid": self.pid,
            "repository": self.repository.name,
            "files": tuple(self.file(path, content) for path, content in self.files.items()),
            "qc": "WARNING",
            "extended_qc": {f"{PREFIX}motion_drift": "WARNING", f"{PREFIX}motion_drift_um": 21.5},
            "summary": {"version": "0.1.0", "outputs": {"units": "complete"}},
            "task": TaskState(
                name="neuro_assets_process_probe00", status="Complete", version="0.1.0",
                log="https://dagster/runs/1", label="probe00",
            ),
            "today": TODAY,
        }  # fmt: skip
        return TargetState(**(given | changes))

    def file(self, path: str, content: bytes, **changes: Any) -> OutgoingFile:
        collection, _, name = path.rpartition("/")
        source = self.folder / "made" / hashlib.md5(content).hexdigest() / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        given = {
            "collection": collection, "name": name, "source": source, "size": len(content),
            "md5": hashlib.md5(content).hexdigest(), "version": "0.1.0", "qc": "PASS",
        }  # fmt: skip
        return OutgoingFile(**(given | changes))

    def register(self, **changes: Any) -> list[str]:
        """Send, and say each line."""
        written = register(self.client, self.target(**changes), self.repository)
        return [str(change) for change in written.sent]

    def compare(self, **changes: Any) -> list[str]:
        return [
            str(change) for change in compare(self.client, self.target(**changes), self.repository)
        ]

    def datasets(self, path: str = UNITS) -> dict[str, dict[str, Any]]:
        """Rows of one file by revision."""
        collection, _, name = path.rpartition("/")
        rows = self.client.rows("datasets", most=1000, session=self.eid)
        return {
            row["revision"] or "": row
            for row in rows
            if (row["collection"], row["name"]) == (collection, name)
        }

    def id(self) -> str:
        return self.datasets()[""]["url"].rsplit("/", 1)[-1]

    def protect(self) -> None:
        """As a release does."""
        self.server.add_tag("2026_Q4_release", protected=True)
        self.server.tag_dataset(self.id(), "2026_Q4_release")

    def session(self) -> dict[str, Any]:
        return self.client.read("sessions", self.eid)

    def insertion(self) -> dict[str, Any]:
        return self.client.read("insertions", self.pid)

    def exists(self, row: dict[str, Any]) -> dict[str, bool]:
        return {r["data_repository"]: r["exists"] for r in row["file_records"]}

    def writes(self) -> list[tuple[str, str]]:
        return [entry for entry in self.server.log if entry[0] != "GET"]

    def on_disk(self, path: str) -> bytes:
        return (self.folder / "lab_server" / "M1/2026-11-20/001" / path).read_bytes()


@pytest.fixture
def world(tmp_path):
    (tmp_path / "lab_server").mkdir()
    with AlyxServer(zone="UTC") as server:
        server.add_lab("lab")
        server.add_repository("lab_server", lab="lab", personal=True)
        server.add_repository("central", lab="lab")
        server.add_subject("M1", lab="lab")
        session = server.add_session("M1", "2026-11-20", 1, lab="lab")
        insertion = server.add_insertion(session["id"], "probe00")
        client = Alyx(server.url, server.token, sleep=lambda seconds: None, tries=3)
        repository = WriteRepository("lab_server", LocalBackend(tmp_path / "lab_server"))
        yield World(server, tmp_path, session["id"], insertion["id"], client, repository)


def test_what_is_new_is_copied_first_and_registered_second_with_all_that_alyx_needs(world):
    lines = world.register()
    assert [line.split(" ")[0] for line in lines[:4]] == ["create", "create", "copy", "copy"]
    assert lines[4].startswith(f"register {UNITS} (5 B, new, ")
    assert world.on_disk(UNITS) == b"units"
    for path, content in world.files.items():
        row = world.datasets(path)[""]
        assert row["hash"] == hashlib.md5(content).hexdigest()
        assert (row["file_size"], row["version"], row["qc"]) == (len(content), "0.1.0", "PASS")
        assert world.exists(row) == {"lab_server": True, "central": False}
        assert row["default_dataset"]
    session, insertion = world.session(), world.insertion()
    assert session["qc"] == insertion["json"]["qc"] == "WARNING"
    assert session["extended_qc"] == insertion["json"]["extended_qc"]
    assert session["extended_qc"][f"{PREFIX}motion_drift_um"] == 21.5
    assert session["json"]["neuro_assets"]["probe00"]["outputs"] == {"units": "complete"}
    (task,) = world.client.rows("tasks", most=9, session=world.eid)
    assert (task["name"], task["status"]) == ("neuro_assets_process_probe00", "Complete")
    assert (task["version"], task["log"]) == ("0.1.0", "https://dagster/runs/1")


def test_the_request_has_the_recorded_fields_and_the_quality(world):
    sent = {}

    class Reading(Alyx):
        def create(self, endpoint, data):
            sent[endpoint] = data
            return super().create(endpoint, data)

    register(Reading(world.server.url, world.server.token), world.target(), world.repository)
    recorded = _sample("10-register-file")["exchanges"][0]["request"]["body"]
    body = sent["register-file"]
    # Who it is by is told by the token.
    assert body.keys() == recorded.keys() - {"created_by"} | {"qc"}
    assert all(type(body[k]) is type(recorded[k]) for k in body.keys() - {"qc", "name"})
    assert len({len(v) for v in body.values() if isinstance(v, list)}) == 1


def test_a_second_time_nothing_is_to_do_and_nothing_is_sent(world):
    world.register()
    sent = len(world.writes())
    assert world.compare() == []
    assert world.register() == []
    assert len(world.writes()) == sent


def test_our_own_writes_seen_again_through_the_cursor_are_no_ops(world):
    began = world.server.local_now().isoformat()
    world.server.advance(60)
    world.register()
    moved = world.client.rows("sessions", most=9, django=f"auto_datetime__gte,{began}")
    assert [row["id"] for row in moved] == [world.eid]
    assert world.client.rows("datasets", most=9, django=f"auto_datetime__gte,{began}")
    assert [world.compare() for _ in moved] == [[]]


def test_looking_changes_nothing_in_alyx_not_even_by_questions(world):
    # GET /check-protected would add the token's user to the session.
    world.server.patch_session(world.eid, users=[])
    twin = world.server.add_session("M1", "2026-11-20", 2, lab="lab", users=[])
    before = world.session(), world.client.read("sessions", twin["id"])
    world.server.advance(60)
    second = world.target(eid=twin["id"], pid=None)
    assert world.compare() and compare(world.client, second, world.repository)
    assert world.writes() == []
    assert (world.session(), world.client.read("sessions", twin["id"])) == before
    assert list((world.folder / "lab_server").rglob("*")) == []


def test_every_change_is_one_line_with_what_there_was_and_what_will_be(world):
    world.server.patch_session(world.eid, qc="PASS", extended_qc={f"{PREFIX}old": 1, "task": "x"})
    lines = world.compare()
    assert lines == [
        "create dataset type clusters.table (files clusters.table*)",
        "create dataset type checks.table (files _neuroassets_checks.table*)",
        f"copy lab_server:M1/2026-11-20/001/{UNITS} (5 B)",
        f"copy lab_server:M1/2026-11-20/001/{CHECKS} (6 B)",
        f"register {UNITS} (5 B, new, version 0.1.0, qc PASS)",
        f"register {CHECKS} (6 B, new, version 0.1.0, qc PASS)",
        f'merge json of insertion {world.pid} (3 keys): {{"qc": null}} -> '
        '{"_neuroassets_probe00_motion_drift": "WARNING", '
        '"_neuroassets_probe00_motion_drift_um": 21.5, "qc": "WARNING"}',
        f"merge extended_qc of session {world.eid} (3 keys): "
        '{"_neuroassets_probe00_old": 1} -> {"_neuroassets_probe00_motion_drift": "WARNING", '
        '"_neuroassets_probe00_motion_drift_um": 21.5}',
        f"merge json of session {world.eid} (neuro_assets.probe00): nothing -> "
        '{"outputs": {"units": "complete"}, "version": "0.1.0"}',
        f"raise qc of session {world.eid}: PASS -> WARNING",
        "create task neuro_assets_process_probe00 (https://dagster/runs/1): nothing -> Complete",
    ]


# -- datasets ------------------------------------------------------------------------------------


def test_the_same_content_is_not_registered_again_since_that_would_reset_its_quality(world):
    world.register()
    world.client.update("datasets", world.id(), {"qc": "CRITICAL"})
    assert world.register() == []
    assert world.datasets()[""]["qc"] == "CRITICAL"


def test_another_content_becomes_a_new_revision_that_is_the_default_and_overwrites_nothing(world):
    world.register()
    first = world.datasets()[""]
    for content, revision in ((b"second", "2026-11-21"), (b"third", "2026-11-21a")):
        world.files[UNITS] = content
        lines = world.register()
        place = UNITS.replace("/clusters", f"/#{revision}#/clusters")
        assert [line.split(" ")[:2] for line in lines] == [
            ["copy", f"lab_server:M1/2026-11-20/001/{place}"],
            ["register", place],
        ]
        assert world.on_disk(place) == content
        row = world.datasets()[revision]
        assert row["default_dataset"] and world.exists(row)["lab_server"]
        assert [r["default_dataset"] for r in world.datasets().values()].count(True) == 1
    assert world.on_disk(UNITS) == b"units"
    kept = world.datasets()[""]
    assert (kept["hash"], kept["file_size"]) == (first["hash"], first["file_size"])


def test_going_back_to_an_earlier_content_is_a_new_revision_too(world):
    for content in (b"units", b"second", b"units"):
        world.files[UNITS] = content
        world.register()
    rows = world.datasets()
    assert {revision: row["default_dataset"] for revision, row in rows.items()} == {
        "": False, "2026-11-21": False, "2026-11-21a": True
    }  # fmt: skip
    assert rows["2026-11-21a"]["hash"] == rows[""]["hash"]


def test_a_protected_dataset_gets_a_revision_and_keeps_its_quality(world):
    world.register()
    world.protect()
    world.files[UNITS] = b"second"
    lines = world.register()
    assert "new revision, the registered one is protected" in lines[1]
    rows = world.datasets()
    assert rows["2026-11-21"]["default_dataset"] and not rows[""]["default_dataset"]
    assert rows[""]["qc"] == "PASS" and rows[""]["hash"] == hashlib.md5(b"units").hexdigest()


def test_a_protected_dataset_of_the_same_content_is_left_alone(world):
    world.register()
    world.protect()
    newer = [world.file(UNITS, b"units", version="0.2.0"), world.file(CHECKS, b"checks")]
    assert world.register(files=tuple(newer)) == []


def test_what_is_protected_between_looking_and_sending_is_not_registered_again(world):
    world.register()
    files = (world.file(UNITS, b"units", version="0.2.0"), world.file(CHECKS, b"checks"))
    tagged = []

    def tag(*_: Any) -> None:
        if not tagged:
            tagged.append(1)
            world.protect()

    class Hooked(Alyx):
        def get(self, path, **more):
            tag()
            return super().get(path, **more)

    client = Hooked(world.server.url, world.server.token)
    written = register(client, world.target(files=files), world.repository)
    assert tagged and not any("register" in str(change) for change in written.sent)
    row = world.datasets()[""]
    assert row["qc"] == "PASS" and row["default_dataset"] and row["version"] == "0.1.0"


def test_another_version_of_this_package_is_registered_with_the_quality_there_is(world):
    world.register()
    world.client.update("datasets", world.id(), {"qc": "CRITICAL"})
    files = (world.file(UNITS, b"units", version="0.2.0"), world.file(CHECKS, b"checks"))
    lines = world.register(files=files)
    assert any("again, its version was 0.1.0" in line for line in lines)
    row = world.datasets()[""]
    assert (row["version"], row["qc"], row["default_dataset"]) == ("0.2.0", "CRITICAL", True)
    assert list(world.datasets()) == [""]


def test_the_quality_of_a_dataset_is_raised_alone(world):
    world.register()
    worse = (world.file(UNITS, b"units", qc="FAIL"), world.file(CHECKS, b"checks"))
    assert world.register(files=worse) == [f"raise qc of {UNITS}: PASS -> FAIL"]
    assert world.datasets()[""]["qc"] == "FAIL"


def test_a_copy_that_is_gone_is_put_back_and_one_that_is_nowhere_is_marked_again(world):
    world.register()
    (world.folder / "lab_server/M1/2026-11-20/001" / UNITS).unlink()
    place = f"lab_server:M1/2026-11-20/001/{UNITS}"
    assert world.register() == [f"copy {place} (5 B)"]
    assert world.on_disk(UNITS) == b"units"
    world.server.set_exists(world.id(), "lab_server", False)
    assert world.register() == [f"copy {place} (5 B)", f"mark {place}: absent -> present"]
    assert world.exists(world.datasets()[""])["lab_server"]


def test_a_copy_that_was_moved_to_the_central_server_is_left_there(world):
    world.register()
    world.server.set_exists(world.id(), "central", True)
    world.server.set_exists(world.id(), "lab_server", False)
    (world.folder / "lab_server/M1/2026-11-20/001" / UNITS).unlink()
    assert world.register() == []


def test_two_sessions_on_one_path_are_refused_with_one_line_and_nothing_is_sent(world):
    other = world.server.add_session("M1", "2026-11-20", 1, lab="lab")
    with pytest.raises(PermanentFailure) as refusal:
        world.register()
    assert world.eid in str(refusal.value) and other["id"] in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert world.writes() == []


def test_a_session_of_another_subject_in_other_letters_is_not_the_same_path(world):
    world.server.add_subject("m1", lab="lab")
    world.server.add_session("m1", "2026-11-20", 1, lab="lab")
    assert world.register()


@pytest.mark.parametrize("missing", [{"number": None}, {"start_time": None}])
def test_a_session_without_day_or_number_is_refused(world, missing):
    world.server.patch_session(world.eid, **missing)
    with pytest.raises(PermanentFailure, match="no start time or no number"):
        world.compare()


def test_a_deleted_session_is_a_permanent_failure_that_says_so(world):
    world.server.delete_session(world.eid)
    with pytest.raises(PermanentFailure, match="not in Alyx any more"):
        world.compare()


def test_a_file_name_that_fits_two_types_is_refused_before_anything_is_sent(world):
    for name, pattern in (("clusters.one", "clusters.t*"), ("clusters.two", "*clusters.table*")):
        world.client.create("dataset-types", {"name": name, "filename_pattern": pattern})
    sent = len(world.writes())
    with pytest.raises(PermanentFailure, match=r"clusters\.one, clusters\.two"):
        world.register()
    assert len(world.writes()) == sent


def test_a_type_of_the_name_with_another_pattern_is_refused(world):
    world.client.create(
        "dataset-types", {"name": "clusters.table", "filename_pattern": "clusters.table.npy"}
    )
    with pytest.raises(PermanentFailure, match="does not fit"):
        world.compare()


def test_a_type_without_pattern_takes_the_file_by_its_name(world):
    world.client.create("dataset-types", {"name": "clusters.table", "filename_pattern": ""})
    assert not any("clusters.table (files" in line for line in world.compare())
    world.register()
    assert world.datasets()[""]["dataset_type"] == "clusters.table"


# -- what breaks off -----------------------------------------------------------------------------


class Breaking(Alyx):
    """Registers only the first file of the first batch, and says that the server failed."""

    broke = 0

    def create(self, endpoint, data):
        if endpoint != "register-file" or self.broke:
            return super().create(endpoint, data)
        type(self).broke = 1
        lists = ("filenames", "hashes", "filesizes", "versions", "qc")
        super().create(endpoint, {**data, **{name: data[name][:1] for name in lists}})
        raise TransientFailure("Alyx failed with 500: could not extend file")


def test_a_500_in_the_middle_of_a_batch_is_read_back_and_only_the_rest_is_sent(world):
    client = Breaking(world.server.url, world.server.token)
    first = register(client, world.target(), world.repository)
    posted = [path for _, path in world.writes() if path == "/register-file"]
    assert len(posted) == 2
    registered = [str(change).split(" (")[0] for change in first.sent if "register" in str(change)]
    assert registered == [f"register {UNITS}", f"register {CHECKS}"]
    assert set(world.datasets()) == set(world.datasets(CHECKS)) == {""}
    assert world.compare() == []


def test_a_type_that_vanishes_is_made_again_and_the_first_file_is_not_registered_twice(world):
    types, gone = world.server.tables.types, []

    class Retyped(Alyx):
        def create(self, endpoint, data):
            if endpoint == "register-file" and not gone:
                with world.server.lock:
                    gone.append(types.remove(types.by_key["checks.table"]))
            return super().create(endpoint, data)

    client = Retyped(world.server.url, world.server.token)
    register(client, world.target(), world.repository)
    posted = [path for _, path in world.writes() if path == "/register-file"]
    assert len(posted) == 2
    assert world.datasets(CHECKS)[""]["hash"] == hashlib.md5(b"checks").hexdigest()
    assert world.compare() == []


def test_an_answer_that_is_lost_after_the_work_was_done_is_found_done(world):
    class Lost(Alyx):
        lost = 0

        def create(self, endpoint, data):
            if endpoint == "register-file" and not self.lost:
                type(self).lost = 1
                world.server.drop_connections(1, after=True)
            return super().create(endpoint, data)

    register(Lost(world.server.url, world.server.token), world.target(), world.repository)
    posted = [
        path for method, path in world.server.log if (method, path[:9]) == ("POST", "/register")
    ]
    assert len(posted) == 1
    assert world.compare() == []


def test_an_outage_is_transient_and_what_was_sent_stays(world):
    class Down(Alyx):
        def create(self, endpoint, data):
            if endpoint == "register-file":
                world.server.down = True
            return super().create(endpoint, data)

    client = Down(world.server.url, world.server.token, sleep=lambda s: None, tries=2)
    with pytest.raises(TransientFailure):
        register(client, world.target(), world.repository)
    world.server.down = False
    assert [line.split(" ")[0] for line in world.register()][:3] == ["copy", "copy", "register"]
    assert world.compare() == []


def test_what_alyx_refuses_is_a_typed_error_that_names_what_remains(world):
    target = world.target(repository="nowhere")
    world.repository.name = "nowhere"
    with pytest.raises(PermanentFailure, match="repository does not exist.*remains.*register alf"):
        register(world.client, target, world.repository)


def test_a_default_that_does_not_move_is_an_error_and_not_a_revision_without_end(world):
    world.register()
    world.files[UNITS] = b"second"

    class Stuck(Alyx):
        def create(self, endpoint, data):
            if endpoint == "register-file":
                data = {**data, "default": False}
            return super().create(endpoint, data)

    client = Stuck(world.server.url, world.server.token)
    with pytest.raises(PermanentFailure, match="does not show it"):
        register(client, world.target(), world.repository)
    assert set(world.datasets()) == {"", "2026-11-21"}
    # Of each round one: the first, the new revision, and that once more to move the default.
    assert [path for _, path in world.writes()].count("/register-file") == 3
    assert any("again, it broke off" in line for line in world.register())
    assert world.datasets()["2026-11-21"]["default_dataset"]


def test_without_a_write_repository_the_difference_shows_and_sending_says_what_to_set(world):
    assert any(line.startswith("register alf") for line in map(str, compare(
        world.client, world.target(repository=""), None)))  # fmt: skip
    with pytest.raises(PermanentFailure, match=r"set alyx\.write_repository"):
        register(world.client, world.target(repository=""), None)
    assert world.writes() == []


# -- fields that others write too ----------------------------------------------------------------


def test_keys_that_another_writer_adds_between_looking_and_sending_stay(world):
    class Raced(Alyx):
        def create(self, endpoint, data):
            world.server.patch_session(world.eid, extended_qc={"task": "FAIL"}, json={"x": 1})
            world.server.patch_insertion(world.pid, json={"extended_qc": {"alignment_count": 2}})
            return super().create(endpoint, data)

    register(Raced(world.server.url, world.server.token), world.target(), world.repository)
    session, info = world.session(), world.insertion()["json"]
    assert session["extended_qc"]["task"] == "FAIL" and session["json"]["x"] == 1
    assert info["extended_qc"]["alignment_count"] == 2
    assert session["extended_qc"][f"{PREFIX}motion_drift"] == "WARNING"


def test_a_writer_that_undoes_ours_is_answered_once_and_an_endless_one_is_named(world):
    undo = [1]

    class Undone(Alyx):
        def update(self, endpoint, name, data):
            row = super().update(endpoint, name, data)
            if "extended_qc" in data and undo[0]:
                undo[0] -= 1
                world.server.patch_session(world.eid, extended_qc={"task": "PASS"})
            return row

    client = Undone(world.server.url, world.server.token)
    register(client, world.target(), world.repository)
    assert world.session()["extended_qc"].keys() == {
        "task", f"{PREFIX}motion_drift", f"{PREFIX}motion_drift_um"
    }  # fmt: skip
    undo[0] = 1000
    with pytest.raises(PermanentFailure, match="another writer"):
        settle(client, "sessions", world.eid, "extended_qc", lambda old: {**old, "a": 1})


def test_a_persons_critical_stays_and_pass_stays_without_our_word(world):
    world.server.patch_session(world.eid, qc="CRITICAL")
    world.server.patch_insertion(world.pid, json={"qc": "CRITICAL", "extended_qc": None})
    world.register(qc="FAIL")
    assert world.session()["qc"] == world.insertion()["json"]["qc"] == "CRITICAL"
    world.server.patch_session(world.eid, qc="PASS")
    world.register(qc="NOT_SET")
    assert world.session()["qc"] == "PASS"


def test_an_insertion_whose_json_is_null_and_a_quality_off_the_scale_are_handled(world):
    assert world.insertion()["json"] is None
    world.register()
    world.server.patch_insertion(world.pid, json={"qc": "to be checked"})
    world.register()
    assert world.insertion()["json"]["qc"] == "to be checked"
    assert world.compare() == []


def test_two_probes_of_a_session_keep_their_own_keys(world):
    world.register()
    other = world.server.add_insertion(world.eid, "probe01")
    keys = {f"{own_prefix('probe01')}motion_drift": "PASS"}
    more = {
        "pid": other["id"], "label": "probe01", "files": (), "extended_qc": keys,
        "task": TaskState(name="neuro_assets_process_probe01", status="Complete",
                          version="0.1.0", label="probe01"),
    }  # fmt: skip
    register(world.client, world.target(**more), world.repository)
    assert world.session()["extended_qc"].keys() == keys.keys() | world.target().extended_qc.keys()
    assert world.session()["json"]["neuro_assets"].keys() == {"probe00", "probe01"}
    assert world.compare() == []


def test_a_recording_without_insertion_writes_to_the_session_alone(world):
    assert not any("insertion" in line for line in world.register(pid=None))
    assert world.insertion()["json"] is None


# -- tasks ---------------------------------------------------------------------------------------


def tasks(world: World) -> list[tuple[str, str]]:
    rows = world.client.rows("tasks", most=9, session=world.eid)
    return [(row["name"], row["status"]) for row in rows]


def test_a_task_is_created_once_and_then_moved(world):
    task = world.target().task
    for status in ("Started", "Incomplete", "Errored", "Complete"):
        send_task(world.client, world.eid, task.model_copy(update={"status": status}))
        assert tasks(world) == [(task.name, status)]


def test_a_task_that_somebody_created_meanwhile_is_moved(world):
    task = world.target().task

    class Raced(Alyx):
        def create(self, endpoint, data):
            send_task(world.client, world.eid, task.model_copy(update={"status": "Started"}))
            return super().create(endpoint, data)

    send_task(Raced(world.server.url, world.server.token), world.eid, task)
    assert tasks(world) == [(task.name, "Complete")]


def test_a_task_of_that_name_with_other_arguments_is_somebody_elses(world):
    task = world.target().task
    world.client.create(
        "tasks",
        {"name": task.name, "session": world.eid, "arguments": {"pname": "x"}, "status": "Held",
         "executable": "x"},
    )  # fmt: skip
    world.register()
    assert sorted(tasks(world)) == [(task.name, "Complete"), (task.name, "Held")]


def test_a_task_moves_for_its_status_only(world):
    world.register()
    same = world.target().task.model_copy(update={"log": "https://dagster/runs/2"})
    assert world.compare(task=same) == []
    assert world.compare(task=same.model_copy(update={"status": "Incomplete"})) == [
        "move task neuro_assets_process_probe00 (https://dagster/runs/2): Complete -> Incomplete"
    ]


# -- the write repository ------------------------------------------------------------------------


def test_a_copy_is_whole_or_not_there_and_a_changed_source_is_not_registered(world):
    files = (world.file(UNITS, b"some"),)
    files[0].source.write_bytes(b"other content")
    with pytest.raises(TransientFailure, match="nothing was registered"):
        world.register(files=files)
    assert [p for p in (world.folder / "lab_server").rglob("*") if p.is_file()] == []
    assert not any("register-file" in path for _, path in world.server.log)


def test_the_folder_of_a_repository_is_never_made(world):
    world.repository = WriteRepository("lab_server", LocalBackend(world.folder / "not mounted"))
    with pytest.raises(PermanentFailure, match="is not there: mount it"):
        world.register()
    assert not (world.folder / "not mounted").exists()


@pytest.mark.parametrize("path", ["../out", "/etc/x", "a/../../b", ""])
def test_a_file_record_that_leaves_the_repository_is_not_followed(world, path):
    with pytest.raises(PermanentFailure, match="not to be followed"):
        world.repository.size(path)


def test_a_repository_on_s3_is_checked_by_reading_back(tmp_path):
    source = tmp_path / "units"
    source.write_bytes(b"units")
    md5 = hashlib.md5(b"units").hexdigest()
    with moto_server() as server:
        backend = open_backend(f"s3://{BUCKET}/lab", server.options())
        repository, path = WriteRepository("cloud", backend), "M1/2026-11-20/001/#2026-11-21#/a.pqt"
        assert repository.size(path) is None
        assert repository.put(source, path, 5, md5)
        assert (repository.size(path), backend.read(path)) == (5, b"units")
        assert not repository.put(source, path, 5, md5)
        with pytest.raises(TransientFailure, match="nothing was registered"):
            repository.put(source, "other", 5, hashlib.md5(b"x").hexdigest())
