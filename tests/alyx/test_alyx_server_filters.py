"""Filters of Alyx, as the test server evaluates them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fake_alyx.requests import call, get, ids
from fake_alyx.server import AlyxServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

AP = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.cbin"


# filters -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Iterator[AlyxServer]:
    """Four sessions, told apart by their numbers."""
    with AlyxServer() as server:
        server.add_repository("lab_server", lab="lab", personal=True)
        server.add_repository("central", lab="lab")
        raw = {"hash": "abc", "size": 10, "exists": ["lab_server"]}
        one = server.add_session(
            "ZFM-1",
            "2026-01-15",
            1,
            projects=["psychedelics"],
            qc="PASS",
            extended_qc={"task": "PASS", "rate": 0.97, "n": 3},
            json={"IS_MOCK": False},
        )["id"]
        server.add_insertion(one)
        server.add_dataset(one, AP, **raw)
        server.add_dataset(one, "alf/spikes.times.npy", exists=["central"], qc="WARNING")
        two = server.add_session(
            "ZFM-1",
            "2026-01-16",
            2,
            projects=["psychedelics", "brainwide"],
            qc="FAIL",
            lab="other",
            task_protocol="passive",
            extended_qc={"task": "FAIL", "rate": 0.5},
        )["id"]
        server.add_dataset(two, AP, exists=["central"], qc="CRITICAL")
        server.advance(3600)
        server.add_session("ZFM-2", None, 3, json={"IS_MOCK": True, "deep": {"a": [1, 2]}})
        server.add_session("zfm-10", "2026-01-16", 4, projects=["brainwide"], n_trials=400)
        yield server


CASES: list[tuple[dict[str, str], set[int]]] = [
    ({"subject": "zfm-1"}, {1, 2}),
    ({"subject": "ZFM"}, set()),
    ({"project": "psyche"}, {1, 2}),
    ({"projects": "BRAIN"}, {2, 4}),
    ({"lab": "OTHER"}, {2}),
    ({"qc": "fail"}, {2}),
    ({"date_range": "2026-01-15,2026-01-16"}, {1, 2, 4}),
    ({"date_range": "2026-01-16,2026-01-16"}, {2, 4}),
    ({"task_protocol": "PASS"}, {2}),
    ({"number": "3"}, {3}),
    ({"extended_qc": "task,PASS"}, {1}),
    ({"extended_qc": "rate__gte,0.5"}, {1, 2}),
    ({"extended_qc": "rate__gt,0.5,task,PASS"}, {1}),
    ({"extended_qc": "n,3"}, {1}),
    ({"json": "IS_MOCK,False"}, {1}),
    ({"json": "IS_MOCK,True"}, {3}),
    ({"json": "IS_MOCK,0"}, set()),
    ({"dataset_types": "ephysData.raw.ap"}, {1, 2}),
    ({"dataset_types": "ephysData.raw.ap,spikes.times"}, {1}),
    ({"datasets": "spikes.times.npy"}, {1}),
    ({"datasets": AP.rpartition("/")[2]}, set()),
    ({"not_a_filter": "x"}, {1, 2, 3, 4}),
    ({"ordering": "number"}, {1, 2, 3, 4}),
    ({"django": "subject__nickname,ZFM-1"}, {1, 2}),
    ({"django": "subject__nickname__in,['ZFM-1','zfm-10']"}, {1, 2, 4}),
    ({"django": "subject__nickname__iexact,ZFM-10"}, {4}),
    ({"django": "~subject__nickname,ZFM-1"}, {3, 4}),
    ({"django": "start_time__isnull,True"}, {3}),
    ({"django": "start_time,None"}, {3}),
    ({"django": "start_time__gte,2026-01-16"}, {2, 4}),
    ({"django": "~start_time__gte,2026-01-16"}, {1, 3}),
    ({"django": "start_time__date,2026-01-16"}, {2, 4}),
    ({"django": "start_time__date__lt,2026-01-16"}, {1}),
    ({"django": "start_time__year,2026,number__lt,2"}, {1}),
    ({"django": "number__in,[1,4]"}, {1, 4}),
    ({"django": "number__range,[2,3]"}, {2, 3}),
    ({"django": "number__gt,1,number__lte,3"}, {2, 3}),
    ({"django": "number,2"}, {2}),
    ({"django": "number__lt,4,~number__lt,2"}, {2, 3}),
    ({"django": "projects__name__icontains,brain,projects__name,psychedelics"}, {2}),
    ({"django": "~projects__name__icontains,brain"}, {1, 3}),
    ({"django": "projects__isnull,True"}, {3}),
    ({"django": "projects__name__isnull,True"}, {3}),
    ({"django": "qc__gte,30"}, {2}),
    ({"django": "probe_insertion__isnull,False"}, {1}),
    ({"django": "probe_insertion__name,probe00"}, {1}),
    ({"django": "data_dataset_session_related__isnull,True"}, {3, 4}),
    ({"django": "data_dataset_session_related__qc__gte,50"}, {2}),
    ({"django": "data_dataset_session_related__dataset_type__name,spikes.times"}, {1}),
    ({"django": "data_dataset_session_related__file_records__exists,False"}, {1}),
    (
        {
            "django": "data_dataset_session_related__file_records__exists,True,"
            "data_dataset_session_related__file_records__data_repository__globus_is_personal,False"
        },
        {1, 2},
    ),
    ({"django": "data_dataset_session_related__auto_datetime__gte,2026-11-20T22:00:00"}, {1, 2}),
    ({"django": "data_dataset_session_related__auto_datetime__gt,2026-11-20T22:00:00"}, set()),
    ({"django": "auto_datetime__gte,2026-11-20T22:00:00"}, {1, 2, 3, 4}),
    ({"django": "auto_datetime__gt,2026-11-20 22:00:00"}, {3, 4}),
    ({"django": "auto_datetime__gt,2026-11-20T22:00:00,lab__name,lab"}, {3, 4}),
    ({"django": "json__IS_MOCK,True"}, {3}),
    ({"django": "json__deep__a__1,2"}, {3}),
    ({"django": "json__isnull,True"}, {2, 4}),
    ({"django": "extended_qc__task__icontains,pa"}, {1}),
    ({"django": "n_trials__gte,400"}, {4}),
    ({"django": "task_protocol__startswith,pas"}, {2}),
    ({"django": "task_protocol__regex,^p.*e$"}, {2}),
    ({"django": "subject__lab__name,other"}, set()),
    ({"django": "users__username,admin,type,Experiment"}, {1, 2, 3, 4}),
]


@pytest.mark.parametrize(("query", "numbers"), CASES, ids=lambda value: str(value)[:70])
def test_a_filter_finds_the_sessions_that_it_means(
    world: AlyxServer, query: dict[str, str], numbers: set[int]
) -> None:
    rows = get(world, "/sessions", **query)["results"]
    assert {row["number"] for row in rows} == numbers


@pytest.mark.parametrize(
    ("path", "query", "count"),
    [
        (
            "/datasets",
            {
                "django": "session__subject__nickname,ZFM-1,dataset_type__name__in,"
                "['spikes.times','x']"
            },
            1,
        ),
        ("/datasets", {"django": "session__projects__name,brainwide"}, 1),
        ("/datasets", {"django": "probe_insertion__name,probe00"}, 1),
        ("/datasets", {"django": "file_records__data_repository__name,central"}, 3),
        ("/datasets", {"django": "created_datetime__gte,2026-11-20T22:00:00"}, 3),
        ("/datasets", {"created_date_gte": "2026-11-20"}, 3),
        ("/datasets", {"created_date_gte": "2026-11-21"}, 0),
        ("/datasets", {"exists": "True"}, 2),
        ("/datasets", {"exists": "False"}, 1),
        ("/insertions", {"project": "psyche"}, 1),
        ("/insertions", {"django": "session__projects__name,brainwide"}, 0),
        ("/insertions", {"django": "datasets__isnull,False"}, 1),
        ("/insertions", {"dataset_types": "ephysData.raw.ap"}, 1),
        ("/subjects", {"django": "nickname__icontains,zfm-1"}, 2),
    ],
)
def test_a_filter_finds_the_rows_of_other_tables(
    world: AlyxServer, path: str, query: dict[str, str], count: int
) -> None:
    assert get(world, path, **query)["count"] == count


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("django=session__nope,1", "Unsupported lookup 'nope' for ForeignKey or join on the field"),
        ("django=hash__contain,a", "Unsupported lookup 'contain' for CharField"),
        ("django=qc,PASS", "Field 'qc' expected a number but got 'PASS'."),
        ("django=default_dataset,x", "['“x” value must be either True or False.']"),
        ("django=session,x", "['“x” is not a valid UUID.']"),
        ("django=hash__isnull,1", "The QuerySet value for an isnull lookup must be True or"),
        ("django=hash,a,hash,b", 'Duplicated fields in "hash,a,hash,b"'),
        ("django=qc__in,5", "'float' object is not iterable"),
    ],
)
def test_a_bad_filter_is_a_500_with_django_s_text(world: AlyxServer, query: str, text: str) -> None:
    answer = call(world, "GET", f"/datasets?{query}")
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith(text)


def test_a_parameter_that_a_form_checks_is_a_400(world: AlyxServer) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    choice = "Select a valid choice. That choice is not one of the available choices."
    for path, errors in (
        (f"/datasets?session={unknown}", {"session": [choice]}),
        ("/insertions?session=x", {"session": ["Enter a valid UUID."]}),
        ("/sessions?number=x", {"number": ["Enter a number."]}),
    ):
        answer = call(world, "GET", path)
        assert (answer.status_code, answer.json()) == (400, {**errors, "status_code": 400})
    assert get(world, f"/insertions?session={unknown}")["count"] == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "patch", "delete", "sql", "register", "back", "on"]),
            st.integers(0, 30),
        ),
        max_size=40,
    ),
    since=st.integers(-120, 120),
)
def test_the_cursor_finds_exactly_the_rows_whose_time_is_late_enough(
    steps: list[tuple[str, int]], since: int
) -> None:
    with AlyxServer() as server:
        start = server.now
        eids: list[str] = []
        for what, number in steps:
            eid = eids[number % len(eids)] if eids else ""
            if what == "on":
                server.advance(number)
            elif what == "back":
                server.advance(-number)
            elif what == "add" or not eids:
                made = server.add_session("M1", "2026-01-15", len(server.log) + number)
                eids.append(made["id"])
                server.add_insertion(made["id"])
            elif what == "patch":
                server.patch_session(eid)
            elif what == "delete":
                eids.remove(eid)
                server.delete_session(eid)
            elif what == "sql":
                server.sql("sessions", eid, narrative="x")
            elif not server.datasets(eid):
                row = server.session(eid)
                path = f"M1/2026-01-15/{row['number']:03d}/alf"
                server.register(path, ["spikes.times.npy"])
        when = (start + timedelta(seconds=since)).replace(tzinfo=None).isoformat()
        tables = server.tables
        for endpoint, table in (
            ("sessions", tables.sessions),
            ("insertions", tables.insertions),
            ("datasets", tables.datasets),
        ):
            expected = {row.id for row in table if row.auto_datetime.isoformat() >= when}
            page = get(server, f"/{endpoint}", django=f"auto_datetime__gte,{when}", limit=1000)
            assert set(ids(page["results"])) == expected
