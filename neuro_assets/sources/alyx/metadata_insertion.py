"""An insertion as Alyx has it: trajectories, track, alignment. Nothing here calls a server."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from pydantic import Field

from neuro_assets.alyx.rows import QC, InsertionRow, Row
from neuro_assets.formats.model import Problem
from neuro_assets.registry.metadata import (
    AlignmentState,
    InsertionMetadata,
    Trajectory,
)

PROVENANCES = {
    70: "Ephys aligned histology track",
    50: "Histology track",
    30: "Micro-manipulator",
    10: "Planned",
}
"""Alyx's own order, the best first."""


class TrajectoryRow(Row):
    """A trajectory as lists give it; um and degrees."""

    probe_insertion: str | None = None
    provenance: str | int = ""
    x: float | None = None
    y: float | None = None
    z: float | None = None
    depth: float | None = None
    theta: float | None = None
    phi: float | None = None
    roll: float | None = None
    when: datetime | None = Field(None, alias="datetime")

    @property
    def place(self) -> int:
        """Place of its provenance in Alyx's order; 0 for one that we do not know."""
        known = {name.lower(): number for number, name in PROVENANCES.items()}
        if isinstance(self.provenance, int):
            return self.provenance
        return known.get(self.provenance.strip().lower(), 0)

    def trajectory(self) -> Trajectory:
        """Give it without Alyx's names."""
        return Trajectory(
            provenance=PROVENANCES.get(self.place, str(self.provenance)),
            **{name: getattr(self, name) for name in ("x", "y", "z", "depth")},
            **{name: getattr(self, name) for name in ("theta", "phi", "roll")},
        )


def insertion_metadata(
    row: InsertionRow,
    probe: str,
    trajectories: tuple[Trajectory, ...],
    problems: list[Problem],
) -> InsertionMetadata:
    """Describe an insertion.

    Parameters
    ----------
    row : InsertionRow
        Its row.
    probe : str
        Our spelling of its name.
    trajectories : tuple of Trajectory
        The best first.
    problems : list of Problem
        `xyz_picks` is added here.

    Returns
    -------
    InsertionMetadata
        With the state of its alignment.
    """
    info = row.info or {}
    extended = info.get("extended_qc")
    extended = extended if isinstance(extended, dict) else {}
    picks = _picks(info.get("xyz_picks"), row, problems)
    state = alignment_state(extended, has_picks=bool(picks))
    by = extended.get("alignment_resolved_by")
    return InsertionMetadata(
        pid=row.id,
        name=row.name,
        probe=probe,
        model=row.model,
        serial=row.serial,
        qc=known_qc(info.get("qc")),
        alignment=state,
        alignment_resolved_by=str(by) if by and state == "resolved" else "",
        xyz_picks_um=picks,
        trajectories=trajectories,
    )


def alignment_state(extended_qc: dict[str, Any], *, has_picks: bool = False) -> AlignmentState:
    """Tell how far the position of a probe is known, by IBL's ladder.

    Parameters
    ----------
    extended_qc : dict
        Of the insertion's `json`.
    has_picks : bool
        Whether it has points of the track; they count where nothing is entered about tracing.

    Returns
    -------
    str
        The highest state that is reached.
    """
    if extended_qc.get("alignment_resolved") is True:
        return "resolved"
    count = extended_qc.get("alignment_count")
    if isinstance(count, int | float) and count > 0:
        return "aligned"
    traced = extended_qc.get("tracing_exists")
    return "traced" if traced is True or (traced is None and has_picks) else "none"


def _picks(
    value: Any, row: InsertionRow, problems: list[Problem]
) -> tuple[tuple[float, float, float], ...]:
    if not value:
        return ()
    try:
        points = tuple((float(x), float(y), float(z)) for x, y, z in value)
        if all(math.isfinite(number) for point in points for number in point):
            return points
    except (TypeError, ValueError, OverflowError):
        pass  # reported below, as for numbers that are none
    detail = (
        f"json.xyz_picks of insertion {row.id} is no list of (x, y, z) in um and is left out; "
        "correct it in Alyx"
    )
    problems.append(Problem(kind="xyz_picks", path=row.name, detail=detail))
    return ()


def known_qc(value: Any) -> str:
    """Take a quality of Alyx's scale; anything else counts as NOT_SET."""
    return value if isinstance(value, str) and value in QC else "NOT_SET"
