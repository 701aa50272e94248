"""What Alyx says of session, animal and insertion, from a real server and from odd answers."""

import json
import math
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest
from fake_alyx.server import TOKEN, AlyxServer
from places import SAMPLES

from neuro_assets.alyx.client import Alyx
from neuro_assets.alyx.responses import AlyxRefused, NotAlyx, TokenRefused
from neuro_assets.alyx.rows import SessionDetail
from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.registry.metadata import (
    RecordingMetadata,
    SubjectMetadata,
    TaskCollection,
)
from neuro_assets.sources.alyx.expected_probes import ExpectedProbe, expected_probes
from neuro_assets.sources.alyx.experiment import Experiment
from neuro_assets.sources.alyx.metadata import read_metadata
from neuro_assets.sources.alyx.metadata_insertion import alignment_state
from neuro_assets.sources.alyx.metadata_subject import subject_info

EID = "bef15ba9-8135-4be7-9753-4f5409f98e32"
PID = "88bbfe21-cef9-4ecf-87ec-f49f40927942"
URL = "https://alyx.example.org"


def sample(name: str) -> Any:
    if not SAMPLES.is_dir():
        pytest.skip(f"no recorded answers of Alyx at {SAMPLES}")
    return json.loads((SAMPLES / f"{name}.json").read_text())["exchanges"][0]["response"]["body"]


class Answers:
    """Stands for the client: gives what it was told, and notes what it was asked."""

    url = URL

    def __init__(self, subject: Any = None, trajectories: Any = ()) -> None:
        self.subject, self.trajectories = subject, trajectories
        self.asked: list[tuple[str, ...]] = []

    def read(self, endpoint: str, name: str) -> Any:
        self.asked.append((endpoint, name))
        return self._answer(self.subject)

    def rows(self, endpoint: str, *, most: int, **query: str) -> Any:
        self.asked.append((endpoint, query["django"]))
        return self._answer(self.trajectories)

    @staticmethod
    def _answer(found: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found


def session(**more: Any) -> SessionDetail:
    return SessionDetail.of(
        {
            "id": EID,
            "subject": "M 1/2",
            "lab": "lab",
            "start_time": "2026-11-20T10:30:00",
            "number": 1,
            **more,
        }
    )


def inserted(info: Any = None, **more: Any) -> SessionDetail:
    row = {"id": PID, "session": EID, "name": "imec0", "json": info, "serial": "18005", **more}
    return session(probe_insertion=[row])


def said(client: Any, detail: SessionDetail, serial: str = "", **more: Any) -> RecordingMetadata:
    probes, _ = expected_probes(detail.probe_insertion, None, [])
    found = read_metadata(client, detail, (), **more)
    return found.of(probes[0] if probes else None, serial)


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as found:
        yield found


def test_the_recorded_session_is_described():
    detail = SessionDetail.of(sample("09-sessions-read"))
    tasks = (TaskCollection(number=0, protocol="passive", raw_collection="raw_task_data_00"),)
    subject = sample("05-subjects-create")
    client = Answers({**subject, "weighings": []})
    probes, _ = expected_probes(detail.probe_insertion, None, [])
    found = read_metadata(client, detail, tasks).of(probes[0], "18005122641")
    assert found.session.link == f"{URL}/admin/actions/session/{EID}/change"
    assert found.session.procedures == ("Ephys recording with acute probe(s)",)
    assert (found.session.eid, found.session.tasks) == (EID, tasks)
    assert found.session.end_time == datetime(2026, 11, 20, 12, 10)
    assert found.subject == SubjectMetadata(
        nickname="ZFM-06048", species="Mus musculus", sex="M", birth_date=date(2026, 5, 1)
    )
    insertion = found.insertion
    assert insertion is not None and found.problems == ()
    assert (insertion.pid, insertion.probe, insertion.model) == (PID, "probe00", "3B2")
    assert (insertion.serial, insertion.qc, insertion.alignment) == (
        "18005122641",
        "NOT_SET",
        "none",
    )
    assert client.asked == [
        ("subjects", "ZFM-06048"),
        ("trajectories", f"probe_insertion__session,{EID}"),
    ]


def test_a_real_server_is_asked_twice_and_the_best_provenance_comes_first(server):
    eid = server.add_session("M.1~a-b", "2026-11-20", lab="lab")["id"]
    other = server.add_session("M2", "2026-11-20", lab="lab")["id"]
    pids = [server.add_insertion(eid, f"probe0{i}", serial=str(i))["id"] for i in range(2)]
    for i, name in enumerate(("Planned", "Histology track", "Micro-manipulator")):
        server.add_trajectory(pids[0], name, x=100.0 + i, depth=4000.0)
    server.add_trajectory(pids[1], "Ephys aligned histology track", z=None)
    server.add_trajectory(server.add_insertion(other)["id"], "Planned")
    client = Alyx(server.url, TOKEN, timeout_s=5)
    row = client.read("sessions", eid)
    detail = SessionDetail.of(row)
    probes, _ = expected_probes(detail.probe_insertion, None, [])
    before = client.n_requests
    found = read_metadata(client, detail, ())
    assert client.n_requests - before == 2
    assert found.problems == () and found.subject is not None
    assert (found.subject.nickname, found.subject.species) == ("M.1~a-b", "Mus musculus")
    first, second = (found.of(probe).insertion for probe in probes)
    assert first is not None and second is not None
    assert [(t.provenance, t.x) for t in first.trajectories] == [
        ("Histology track", 101.0),
        ("Micro-manipulator", 102.0),
        ("Planned", 100.0),
    ]
    assert first.trajectories[0].depth == 4000.0
    assert [(t.provenance, t.z) for t in second.trajectories] == [
        ("Ephys aligned histology track", None)
    ]


def test_several_sessions_of_one_subject_ask_for_it_once():
    client, known = Answers({"nickname": "M"}), {}
    for _ in range(3):
        assert said(client, session(), subjects=known).subject is not None
    assert len(client.asked) == 1


# What is missing


def test_a_subject_that_is_gone_is_a_problem_and_nothing_more(server):
    client = Answers(None)
    found = said(client, inserted())
    assert found.subject is None and found.insertion is not None
    assert [p.kind for p in found.problems] == ["subject_missing"]
    real = read_metadata(Alyx(server.url, TOKEN, timeout_s=5), session(), ())
    assert [p.kind for p in real.problems] == ["subject_missing"]


@pytest.mark.parametrize(
    "refusal",
    [
        AlyxRefused("no permission", 403),
        AlyxRefused("Cannot resolve keyword", 500),
        NotAlyx("no such page", 404),
        PermanentFailure("Alyx lists 5000 trajectories where at most 1000 were expected"),
    ],
)
def test_a_part_that_alyx_refuses_is_left_out_and_said(refusal):
    found = said(Answers(refusal, refusal), inserted())
    assert found.subject is None and found.insertion is not None
    assert found.insertion.trajectories == ()
    assert [p.kind for p in found.problems] == ["subject_missing", "trajectories_missing"]
    assert all(str(refusal) in problem.detail for problem in found.problems)


@pytest.mark.parametrize(
    "error",
    [TransientFailure("down"), TokenRefused("token", 403), NotAlyx("a login page", 200)],
)
@pytest.mark.parametrize("part", ["subject", "trajectories"])
def test_a_server_that_does_not_answer_is_no_missing_part(error, part):
    client = Answers({"nickname": "M"})
    setattr(client, part, error)
    with pytest.raises(type(error)):
        said(client, inserted())


def test_a_refusal_of_one_session_is_asked_again_for_the_next():
    known: dict[str, Any] = {}
    for _ in range(2):
        found = said(Answers(AlyxRefused("no", 403)), session(), subjects=known)
        assert [p.kind for p in found.problems] == ["subject_missing"]


def test_what_needs_no_question_is_not_asked():
    for detail in (session(subject=""), session(subject=".."), session(subject=None)):
        client = Answers()
        assert said(client, detail) == RecordingMetadata(session=said(client, detail).session)
        assert client.asked == []
    client = Answers({})
    said(client, inserted().model_copy(update={"id": "no[uuid]"}))
    assert [asked[0] for asked in client.asked] == ["subjects"]


def test_a_server_that_ignores_the_filter_gives_no_strange_trajectories():
    rows = [{"probe_insertion": pid, "provenance": 70} for pid in ("other", PID, None)]
    found = said(Answers({"nickname": "M"}, rows), inserted())
    assert found.insertion is not None
    assert [t.provenance for t in found.insertion.trajectories] == ["Ephys aligned histology track"]


def test_answers_of_another_shape_are_left_out_and_said():
    found = said(Answers({"birth_date": "yesterday"}, [{"x": "far"}]), inserted())
    assert found.subject is None
    assert [p.kind for p in found.problems] == ["subject_odd", "trajectories_missing"]


# The animal


WEIGHINGS = [
    {"date_time": "2026-11-18T08:00:00", "weight": 25.0},
    {"date_time": "2026-11-21T00:00:00", "weight": 30.0},
    {"date_time": "2026-11-20T23:59:59", "weight": 23.1},
    {"date_time": "2026-11-19T08:00:00", "weight": 22.0},
    {"date_time": "nonsense", "weight": 1.0},
    {"date_time": "2026-11-20T23:59:59.5", "weight": 0.0},
    {"date_time": "2026-11-20T23:59:59.6", "weight": math.nan},
    {"weight": 5},
    None,
]


def test_the_weight_is_the_last_up_to_the_end_of_the_sessions_day():
    found = said(Answers({"nickname": "M", "weighings": WEIGHINGS}), session()).subject
    assert found is not None
    assert (found.weight_g, found.weighed) == (23.1, datetime(2026, 11, 20, 23, 59, 59))
    for detail, weighings in (
        (session(start_time=None), WEIGHINGS),
        (session(), None),
        (session(), []),
        (session(start_time="2020-01-01T00:00:00"), WEIGHINGS),
    ):
        found = said(Answers({"nickname": "M", "weighings": weighings}), detail).subject
        assert found is not None and found.weight_g is None and found.weighed is None


@pytest.mark.parametrize(
    ("typed", "species"),
    [
        ("Laboratory mouse", "Mus musculus"),
        ("laboratory rat ", "Rattus norvegicus"),
        ("Mus musculus", "Mus musculus"),
        ("Ferret", "Ferret"),
        (None, ""),
    ],
)
def test_species_are_latin_where_they_are_known(typed, species):
    found = said(Answers({"nickname": "M", "species": typed}), session()).subject
    assert found is not None and found.species == species


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], ""),
        (None, ""),
        (["Ai32 homozygous", " Pvalb-Cre "], "Ai32 homozygous; Pvalb-Cre"),
        ([{"allele": "Ai32", "zygosity": 2}, {"allele": "Cre", "zygosity": 0}],
         "Ai32 Homozygous; Cre Absent"),
        ([{"allele": "Ai32", "zygosity": "Present"}, {"allele": "X"}, 3], "Ai32 Present; X"),
    ],
)  # fmt: skip
def test_genotypes_are_one_text(given, text):
    found = said(Answers({"nickname": "M", "genotype": given}), session()).subject
    assert found is not None and found.genotype == text


def test_nwb_gets_what_is_known_of_the_animal():
    known = SubjectMetadata(
        nickname="M",
        species="Mus musculus",
        sex="F",
        birth_date=date(2026, 5, 1),
        strain="C57BL/6J",
        line="Ai32",
        genotype="Ai32 Homozygous",
        description="shy",
        weight_g=23.1,
    )
    found = subject_info(known, date(2026, 11, 20))
    assert (found.species, found.sex, found.weight) == ("Mus musculus", "F", "23.1 g")
    assert found.age == f"P{(date(2026, 11, 20) - date(2026, 5, 1)).days}D" == "P203D"
    assert found.date_of_birth == datetime(2026, 5, 1)
    assert (found.strain, found.genotype) == ("C57BL/6J", "Ai32 Homozygous")
    assert found.description == "shy; line Ai32"
    nothing = subject_info(SubjectMetadata(nickname="M", sex="X"), date(2026, 11, 20))
    assert set(vars(nothing).values()) == {None}
    assert subject_info(known, date(2026, 4, 1)).age is None


def test_the_nwb_file_takes_this_animal(tmp_path):
    from pynwb.file import Subject

    info = subject_info(SubjectMetadata(nickname="M", weight_g=20, sex="M"), date(2026, 1, 1))
    assert Subject(subject_id="M", weight=info.weight, sex=info.sex).weight == "20 g"


# The insertion


@pytest.mark.parametrize(
    ("extended", "has_picks", "state"),
    [
        ({}, False, "none"),
        ({}, True, "traced"),
        ({"tracing_exists": False}, True, "none"),
        ({"tracing_exists": True, "alignment_count": 0}, False, "traced"),
        (
            {"tracing_exists": True, "alignment_count": 2, "alignment_resolved": False},
            True,
            "aligned",
        ),
        ({"alignment_count": 2, "alignment_resolved": True}, True, "resolved"),
        ({"alignment_resolved": "PASS", "alignment_count": None}, False, "none"),
    ],
)
def test_alignment_is_the_highest_state_of_the_ladder(extended, has_picks, state):
    assert alignment_state(extended, has_picks=has_picks) == state


def test_an_insertions_json_is_read():
    info = {
        "qc": "PASS",
        "xyz_picks": [[1, 2.5, -3], [0, 0, -4000]],
        "extended_qc": {
            "alignment_resolved": True,
            "alignment_count": 2,
            "alignment_resolved_by": "2020-06-26T16:40:14_Karolina",
        },
    }
    found = said(Answers({"nickname": "M"}), inserted(info)).insertion
    assert found is not None
    assert (found.qc, found.alignment) == ("PASS", "resolved")
    assert found.alignment_resolved_by == "2020-06-26T16:40:14_Karolina"
    assert found.xyz_picks_um == ((1.0, 2.5, -3.0), (0.0, 0.0, -4000.0))
    info["extended_qc"]["alignment_resolved"] = False
    again = said(Answers({"nickname": "M"}), inserted(info)).insertion
    assert again is not None and again.alignment_resolved_by == ""


def test_the_recorded_insertion_is_read():
    row = sample("43-insertions-session")["results"][0]
    detail = session(probe_insertion=[row])
    found = said(Answers({"nickname": "M"}), detail).insertion
    assert found is not None and (found.qc, found.alignment) == ("PASS", "none")


@pytest.mark.parametrize(
    "picks",
    [[[1, 2]], [["a", "b", "c"]], "nonsense", [[1, 2, math.inf]], 7, [None], [[1, 2, "nan"]]],
)
def test_points_of_a_track_that_are_none_are_left_out_and_said(picks):
    found = said(Answers({"nickname": "M"}), inserted({"xyz_picks": picks, "qc": 50}))
    assert found.insertion is not None and found.insertion.xyz_picks_um == ()
    assert found.insertion.qc == "NOT_SET"
    assert [p.kind for p in found.problems] == ["xyz_picks"]


def test_a_serial_number_that_differs_from_the_files_is_said_at_the_recording():
    client = Answers({"nickname": "M"})
    assert said(client, inserted(), serial="18005").problems == ()
    found = said(client, inserted(), serial="18006")
    assert [p.kind for p in found.problems] == ["probe_serial"]
    assert "18005" in found.problems[0].detail and "18006" in found.problems[0].detail


def test_a_probe_without_an_insertion_has_session_and_animal():
    found = read_metadata(Answers({"nickname": "M"}), session(), ())
    for probe in (None, ExpectedProbe(probe="probe00", label="probe00")):
        made = found.of(probe, "1")
        assert made.insertion is None and made.subject is not None
        assert RecordingMetadata.model_validate_json(made.model_dump_json()) == made


def test_procedures_come_from_the_description_where_the_page_has_none():
    experiment = Experiment(procedures=("Imaging",))
    client = Answers({"nickname": "M"})
    assert read_metadata(client, session(), (), experiment).session.procedures == ("Imaging",)
    detail = session(procedures=["Ephys"])
    assert read_metadata(client, detail, (), experiment).session.procedures == ("Ephys",)
