"""What a lab of IBL's size costs: ticks and comparisons against the test server.

16,000 sessions, 32,000 insertions and 400,000 datasets, all registered. The server runs in the same
process; the time that its handlers take is measured and taken off. It answers much faster than a
real Alyx, which is why requests are counted.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
N_SESSIONS = 16_000
REPEATS = 5
LIMITS = {"steady_requests": 4, "steady_outside_s": 1.0, "full_requests": N_SESSIONS / 1000 + 5}

sys.path.insert(0, str(HERE.parent / "tests"))  # the server is a tool of the tests


def main() -> dict[str, Any]:
    """Measure and return requests and wall seconds outside the server, with the limits."""
    from alyx_lab import AlyxLab
    from fake_alyx.server import AlyxServer

    logging.disable(logging.WARNING)
    figures: dict[str, Any] = {"n_sessions": N_SESSIONS}
    with (
        tempfile.TemporaryDirectory() as folder,
        AlyxServer(now=datetime(2026, 6, 1, 8, tzinfo=UTC)) as server,
    ):
        lab = AlyxLab(Path(folder), server, keys=100)
        eids = server.load(N_SESSIONS, project="p", repositories=("lab_server",), exists=())
        figures["register_s"] = round(_register(lab, eids), 1)
        lab.tick()
        lab.tick()
        steady = [_cost(lab, lab.tick) for _ in range(REPEATS)]
        figures["steady_requests"] = max(each["requests"] for each in steady)
        figures["steady_outside_s"] = sorted(each["outside_s"] for each in steady)
        lab.registry = type(lab.registry)(lab.lab.store)
        lab.wait(hours=4)
        server.patch_session(eids[0], narrative="first look after a start")
        figures["first_tick_after_a_start"] = _cost(lab, lab.tick)
        lab.wait(hours=4)
        for eid in eids[-50:]:
            server.patch_session(eid, qc="CRITICAL")
        figures["fifty_changed"] = _cost(lab, lab.tick)
        held = sum(state == "held" for state in lab.states.values())
        figures["fifty_changed"]["sessions_planned"] = held // 2
        figures["full_comparison"] = _cost(lab, lab.reconcile)
    figures["limits"] = LIMITS
    figures["met"] = (
        figures["steady_requests"] <= LIMITS["steady_requests"]
        and figures["steady_outside_s"][REPEATS // 2] < LIMITS["steady_outside_s"]
        and figures["full_comparison"]["requests"] <= LIMITS["full_requests"]
        and held == 100
    )
    return figures


def _register(lab: Any, eids: list[str]) -> float:
    """Fill the registry as the discovery of all these sessions would have left it."""
    from neuro_assets.registry.planning import Seen, plan
    from neuro_assets.service.session_registration import carry_out

    began = time.perf_counter()
    today = lab.server.now
    found = []
    for eid in eids[:1]:  # one as the source describes it, the model for the others
        described = lab.source.describer.describe(eid, today).description
        found.append(described)
    model = found[0]
    seen = []
    for number, eid in enumerate(eids):
        row = lab.server.session(eid)
        day = date.fromisoformat(row["start_time"][:10])
        metadata = {
            name: said.model_copy(
                update={
                    "session": said.session.model_copy(
                        update={"eid": eid, "row_token": _row_token(row)}
                    )
                }
            )
            for name, said in model.metadata.items()
        }
        update = {"session_id": eid, "eid": eid, "subject": row["subject"], "date": day}
        update |= {"number": str(row["number"]), "metadata": metadata}
        seen.append(Seen(model.model_copy(update=update), {}))
        if number % 4000 == 3999:
            print(f"  {number + 1} sessions planned", flush=True)
    carry_out(lab.registry, plan({}, seen, [], today))
    return time.perf_counter() - began


def _row_token(row: dict[str, Any]) -> str:
    from neuro_assets.alyx.rows import SessionRow

    return SessionRow.of(row).token


def _cost(lab: Any, what: Callable[[], Any]) -> dict[str, Any]:
    n, busy, began = len(lab.server.log), lab.server.busy_s, time.perf_counter()
    what()
    wall = time.perf_counter() - began
    return {
        "requests": len(lab.server.log) - n,
        "wall_s": round(wall, 3),
        "outside_s": round(wall - (lab.server.busy_s - busy), 3),
    }


if __name__ == "__main__":
    measured = main()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "alyx.json").write_text(json.dumps(measured, indent=1))
    for name, value in measured.items():
        print(f"{name:<28} {value}")
