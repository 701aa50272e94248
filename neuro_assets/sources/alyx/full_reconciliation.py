"""The full reconciliation of a database with the registry: finds what leaves no trace in times."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from neuro_assets.alyx.responses import is_uuid
from neuro_assets.alyx.rows import DatasetRow, SessionRow, parse
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.descriptions import Known, Reconciliation
from neuro_assets.sources.alyx.exclusion import exclusion_reason
from neuro_assets.sources.alyx.metadata_subject import SubjectRow, subject_metadata
from neuro_assets.sources.alyx.readiness import RAW, settle_token

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.config import AlyxConfig

AUDIT_ANIMALS = 40
"""Animals that one reconciliation reads, one request each."""

AUDIT_REQUESTS = 3
"""Groups of sessions of which one reconciliation compares datasets and insertions; the next one
goes on from there."""

AUDIT_SESSIONS = 80
"""Sessions of one group: their ids fill the 4,094 characters that gunicorn takes as a
request line, and their raw datasets (two probes of four files) two thirds of a page."""

MAX_WAITING = 50
"""Waiting and held sessions that one reconciliation names: what they wait for may have come, and
what held them may be gone, without a trace in their own rows."""


def reconcile(
    client: Alyx, config: AlyxConfig, known: Mapping[str, Known], cursor: str | None
) -> Reconciliation:
    """Name the sessions that have to be looked at again.

    Parameters
    ----------
    client : Alyx
        The server.
    config : AlyxConfig
        What the lab wants.
    known : mapping of str to Known
        Registered sessions, by id.
    cursor : str or None
        How far the sessions' datasets and animals were compared, and whose turn it is among those
        that wait.

    Returns
    -------
    Reconciliation
        After one request for each 1,000 sessions with insertions, one for each 1,000 sessions
        that are CRITICAL, seven more, and one for each of up to 40 animals.
    """
    done = json.loads(cursor or "{}")
    rows = _listed(client, config)
    critical = {
        str(row["id"]) for row in client.rows("sessions", most=config.most_sessions, qc="CRITICAL")
    }
    again = _unregistered(rows, config, known, client) | _different(rows, known, critical)
    waits = [name for name, each in known.items() if each.waits]
    waiting, done["waiting"] = _turn(waits, done.get("waiting", ""), MAX_WAITING)
    there = [_checked(name) for name in known if name in rows]
    edited, done["audited"] = _edited(client, there, known, done.get("audited", ""))
    animals, done["animals"] = _edited_animals(client, rows, known, done.get("animals", ""))
    again = {**dict.fromkeys(waiting, "it waits, or is held"), **animals, **edited, **again}
    return Reconciliation(recheck=again, n_listed=len(rows), cursor=json.dumps(done))


def _listed(client: Alyx, config: AlyxConfig) -> dict[str, SessionRow]:
    """List the sessions with an insertion, and those with raw data that nobody made one for."""
    without = "probe_insertion__isnull,True"
    filters = [{"django": "probe_insertion__isnull,False"}]
    filters += [{"django": without, "dataset_types": name} for name in config.expected[:1]]
    rows: dict[str, SessionRow] = {}
    for query in filters:
        found = client.rows("sessions", most=config.most_sessions, **query)
        rows.update({row.id: row for row in parse(SessionRow, found)})
    return rows


def _unregistered(
    rows: Mapping[str, SessionRow], config: AlyxConfig, known: Mapping[str, Known], client: Alyx
) -> dict[str, str]:
    now = client.date or datetime.now(UTC)
    today = now.astimezone(ZoneInfo(config.timezone)).date()
    return {
        name: "it is not registered"
        for name, row in rows.items()
        if name not in known and not exclusion_reason(row, config, today)
    }


def _different(
    rows: Mapping[str, SessionRow], known: Mapping[str, Known], critical: set[str]
) -> dict[str, str]:
    again: dict[str, str] = {}
    for name, each in known.items():
        row = rows.get(name)
        if row is None:
            if not each.gone:
                again[name] = "it is not listed any more"
        elif each.gone:
            again[name] = "it is listed again"
        elif row.token != each.row_token:
            again[name] = "its subject, date, number, lab or projects differ"
        elif (each.qc == "CRITICAL") != (name in critical):
            again[name] = "its quality differs"
    return again


def _edited_animals(
    client: Alyx, rows: Mapping[str, SessionRow], known: Mapping[str, Known], after: str
) -> tuple[dict[str, str], str]:
    """Compare the animals of some sessions, an edit of which moves no time of theirs."""
    sessions: dict[str, list[str]] = defaultdict(list)
    for name, each in known.items():
        if name in rows and each.subject is not None:
            sessions[rows[name].subject].append(name)
    again: dict[str, str] = {}
    some, after = _turn(list(sessions), after, AUDIT_ANIMALS)
    for nickname in some:
        with suppress(PermanentFailure):  # refused or odd: reported with its sessions
            animal = SubjectRow.of(client.read("subjects", nickname))
            for name in sessions[nickname]:
                if subject_metadata(animal, nickname, rows[name].date) != known[name].subject:
                    again[name] = "its animal was edited"
    return again, after


def _edited(
    client: Alyx, names: Sequence[str], known: Mapping[str, Known], after: str
) -> tuple[dict[str, str], str]:
    """Compare datasets and insertions of some sessions: scripts and deletions move no time."""
    again: dict[str, str] = {}
    size = AUDIT_SESSIONS
    for _ in range(AUDIT_REQUESTS):
        some, last = _turn(names, after, size)
        if not some:
            break
        quoted = ",".join(f"'{name}'" for name in some)
        page = client.page(
            "datasets",
            django=f"session__id__in,[{quoted}],dataset_type__name__icontains,{RAW}",
        )
        if page.count > len(page.rows) and size > 1:
            size = max(1, size * len(page.rows) // (2 * page.count))  # once more, with fewer
            continue
        rows: dict[str, list[DatasetRow]] = defaultdict(list)
        for row in parse(DatasetRow, page.rows):
            rows[row.session or ""].append(row)
        inserted = client.page("insertions", django=f"session__id__in,[{quoted}]")
        pids = {str(row["id"]) for row in inserted.rows}
        for name in some:
            if settle_token(rows[name]) != known[name].source_token:
                again[name] = "its datasets differ"
            elif known[name].pids - pids:
                again[name] = "an insertion of it was deleted"
        after = last
    return again, after


def _turn(names: Sequence[str], after: str, most: int) -> tuple[list[str], str]:
    """Take the next names in order, from the start again behind the last."""
    ordered = sorted(names)
    rest = [name for name in ordered if name > after]
    taken = (rest or ordered)[:most]
    last = taken[-1] if taken else ""
    return taken, "" if not rest or taken == rest else last


def _checked(name: str) -> str:
    """Let only a uuid into a filter in brackets: the server evaluates those as Python."""
    if not is_uuid(name):
        raise PermanentFailure(f"the registry has a session id that is none: {name!r}")
    return str(UUID(name))
