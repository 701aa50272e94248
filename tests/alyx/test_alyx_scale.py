"""At the size that IBL reported in 2020: what a tick and a comparison ask for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from alyx_lab import AlyxLab
from fake_alyx.server import AlyxServer

from neuro_assets.sources.alyx.full_reconciliation import AUDIT_ANIMALS

N_SESSIONS = 16_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with AlyxServer(now=datetime(2026, 6, 1, 8, tzinfo=UTC)) as server:
        lab = AlyxLab(tmp_path_factory.mktemp("scale"), server, keys=100)
        lab.eids = server.load(N_SESSIONS, project="p", repositories=("lab_server",), exists=())
        assert len(server.tables.datasets.rows) == 25 * N_SESSIONS
        lab.tick()
        yield lab


def test_a_steady_tick_makes_at_most_four_requests(lab):
    assert lab.n_requests(lab.tick) <= 4


def test_fifty_changed_sessions_are_planned_in_one_tick(lab):
    lab.source.monotonic = lambda: 0.0  # however slow this machine is just now
    changed = lab.eids[-50:]
    for eid in changed:
        lab.server.patch_session(eid, narrative="seen")
    lab.tick()
    assert {record.eid for record in lab.records.values()} == set(changed)
    lab.wait(hours=4)
    for eid in changed:
        lab.server.patch_session(eid, qc="CRITICAL")
    result = lab.tick()
    assert {event.partition for event in result.asset_events} == set(lab.records)
    assert set(lab.states.values()) == {"held"}


N_COMPARISON = N_SESSIONS / 1000 + 8 + AUDIT_ANIMALS


def test_a_full_comparison_needs_one_request_for_a_thousand_sessions_and_few_more(lab):
    assert lab.n_requests(lab.reconcile) <= N_COMPARISON


def test_a_comparison_with_many_registered_sessions_keeps_its_requests_short(lab):
    for eid in lab.eids[:100]:
        lab.server.patch_session(eid, narrative="seen")
    lab.ticks(4)
    assert len({record.eid for record in lab.records.values()}) >= 100
    n = len(lab.server.log)
    lab.reconcile()
    asked = [path for _, path in lab.server.log[n:]]
    assert len(asked) <= N_COMPARISON
    assert max(map(len, asked)) < 4000, "gunicorn refuses longer lines"
