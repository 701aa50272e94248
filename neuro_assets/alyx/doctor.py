"""The doctor's findings about Alyx: one line for each thing that `lab.yaml` names.

Nothing is mended here, and no session is read. Where the lab allows writing, one task of our own
is sent once more as it is, since only the answer to a write shows the server's clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from neuro_assets.alyx.client import Alyx, TokenRefused
from neuro_assets.alyx.registration.diff import fits
from neuro_assets.alyx.registration.model import TASK_PREFIX, DatasetTypeRow, TaskRow
from neuro_assets.alyx.rows import parse
from neuro_assets.config.alyx import DOWNLOAD
from neuro_assets.outcomes import NeuroAssetsError

if TYPE_CHECKING:
    from neuro_assets.config import AlyxConfig

Finding = tuple[str, bool, str]
"""What was examined, whether it is well, and what was found or has to be done."""

_MOST_NAMES = 100_000
_CLOCK_MARGIN = timedelta(minutes=2)
"""Rows that are written meanwhile, and a `Date` of whole seconds."""

_QUARTER = timedelta(minutes=15)
"""Offsets of zones are whole quarters of an hour."""

_NO_DATE = "the server's responses have no date: nothing can be compared"
_CLOCK_CHANGE = timedelta(hours=2)
"""For this long after clocks went back, rows from before may lie in the future of the clock."""


def findings(client: Alyx, config: AlyxConfig, files: Sequence[str] = ()) -> Iterator[Finding]:
    """Examine everything of Alyx that `lab.yaml` names.

    Parameters
    ----------
    client : Alyx
        Made with few tries: a doctor is waited for.
    config : AlyxConfig
        What `lab.yaml` names.
    files : sequence of str
        Names of raw files of the lab's sessions that are in Alyx.

    Yields
    ------
    tuple of (str, bool, str)
        Subject, whether it is well, and a message. After a wrong address or token nothing follows.
    """
    try:
        count = client.page("sessions", limit=1).count
    except TokenRefused as error:
        yield "alyx", True, f"{client.url} is an Alyx"
        yield "token", False, str(error)
        return
    except NeuroAssetsError as error:
        yield "alyx", False, str(error)
        return
    yield "alyx", True, f"{client.url} has {count} sessions"
    yield "token", True, "accepted"
    examinations: dict[str, Callable[[], Iterable[Finding]]] = {
        "projects": lambda: _named(client, "project", "projects", config.projects),
        "labs": lambda: _named(client, "lab", "labs", config.labs),
        "repositories": lambda: _repositories(client, config.repositories),
        "write_repository": lambda: _write_repository(client, config.write_repository),
        "dataset types": lambda: _dataset_types(client, files),
        "timezone": lambda: [_clock(client, config)],
    }
    for subject, examine in examinations.items():
        try:
            yield from examine()
        except NeuroAssetsError as error:
            yield subject, False, str(error)


def _named(client: Alyx, kind: str, endpoint: str, wanted: Iterable[str]) -> Iterator[Finding]:
    """Look for names, all of them with one list."""
    wanted = list(wanted)
    known = [row["name"] for row in client.rows(endpoint, most=_MOST_NAMES)] if wanted else []
    for name in wanted:
        subject = f"{kind} {name}"
        if name in known:
            yield subject, True, "is in Alyx"
        else:
            nearest = _nearest(name, known)
            yield subject, False, f"Alyx has no {kind} {name!r}; {nearest}: correct lab.yaml"


def _nearest(name: str, known: Sequence[str]) -> str:
    folded = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if found:
        return f"the nearest is {folded[found[0]]!r} (upper and lower case count)"
    return f"it has {', '.join(sorted(known)[:10]) or 'none at all'}"


def _repositories(client: Alyx, repositories: Mapping[str, str]) -> Iterator[Finding]:
    for subject, is_well, message in _named(
        client, "data repository", "data-repository", repositories
    ):
        name = subject.removeprefix("data repository ")
        yield (f"repository {name}", *(_place(repositories[name]) if is_well else (False, message)))


def _write_repository(client: Alyx, name: str | None) -> Iterator[Finding]:
    """Look whether ONE finds what is registered there."""
    rows = client.rows("data-repository", most=_MOST_NAMES) if name else []
    for row in (row for row in rows if row["name"] == name):
        subject = f"write_repository {name}"
        # Not set is what a new repository has, and counts as personal.
        if row.get("globus_is_personal") is not False:
            message = (
                "globus_is_personal is not false in Alyx: everything registers, and ONE lists "
                "nothing while another repository has false; set it to false there, or name "
                "another repository"
            )
        elif not row.get("data_url"):
            message = (
                "Alyx has no data_url of it, so that ONE cannot download what is registered; set "
                "it there where files are to be downloaded"
            )
        else:
            yield subject, True, f"ONE lists what is there; it downloads from {row['data_url']}"
            continue
        yield subject, False, message


def _dataset_types(client: Alyx, files: Sequence[str]) -> Iterator[Finding]:
    """Look whether each kind of file could be registered; ONE says nothing where it cannot."""
    kinds = {re.sub(r"\d+", "0", name): name for name in sorted(files, reverse=True)}
    if not kinds:
        return
    types = parse(DatasetTypeRow, client.rows("dataset-types", most=_MOST_NAMES))
    for name in sorted(kinds.values()):
        fitting = [row.name for row in types if fits(row, name)]
        if len(fitting) != 1:
            yield (
                f"file {name}",
                False,
                f"fits {len(fitting)} dataset types of this Alyx ({', '.join(fitting) or 'none'}) "
                "and is registered only where it fits one; ONE's client then gives None and says "
                "nothing: correct the filename patterns of the types in Alyx",
            )
        else:
            yield f"file {name}", True, f"is registered as {fitting[0]}"


def _place(place: str) -> tuple[bool, str]:
    """Examine the place of a repository's files."""
    if place == DOWNLOAD or place.startswith("s3://"):
        return True, f"is in Alyx; files come from: {place}"
    folder = Path(place)
    if not folder.is_dir():
        return False, f"{place} is not a folder of this machine: mount it, or correct lab.yaml"
    try:
        is_empty = next(folder.iterdir(), None) is None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return False, f"{place} cannot be read ({reason}): give this user the right to"
    return True, f"{place} {'is empty: is it mounted?' if is_empty else 'can be read'}"


def _clock(client: Alyx, config: AlyxConfig) -> Finding:
    """Compare the server's clock, which Alyx writes without a zone, with the zone of `lab.yaml`."""
    subject, timezone = "timezone", config.timezone
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        message = f"there is no zone {timezone!r}: write one like Europe/London in lab.yaml"
        return subject, False, message
    task = _own_task(client) if config.write else None
    if task is not None:
        return subject, *_offset(client, task, zone)
    return subject, *_future_rows(client, zone, timezone)


def _own_task(client: Alyx) -> TaskRow | None:
    """Give a task that registration made, of any session."""
    page = client.page("tasks", limit=1, django=f"name__startswith,{TASK_PREFIX}")
    tasks = parse(TaskRow, page.rows)
    return next((task for task in tasks if (task.name or "").startswith(TASK_PREFIX)), None)


def _offset(client: Alyx, task: TaskRow, zone: ZoneInfo) -> tuple[bool, str]:
    """Learn the clock's offset from the answer to a write: our task, with the status it has."""
    row = client.update("tasks", task.id, {"status": task.status})
    if client.date is None:
        return False, _NO_DATE
    written = datetime.fromisoformat(str(row["datetime"])).replace(tzinfo=UTC)
    quarters = round((written - client.date) / _QUARTER)
    found, told = quarters * _QUARTER, client.date.astimezone(zone).utcoffset()
    how = f"by a write of our own (task {task.name} got the status {task.status} again)"
    if found == told:
        return True, f"the server's clock is that of {zone}, {how}"
    hours = [f"UTC{(each or timedelta()) / timedelta(hours=1):+g} h" for each in (found, told)]
    return False, (
        f"the server's clock is {hours[0]}, {how}, and {zone} is {hours[1]} now: set timezone in "
        "lab.yaml to the TZ of the server"
    )


def _future_rows(client: Alyx, zone: ZoneInfo, timezone: str) -> tuple[bool, str]:
    """Look for rows that were changed later than the server's own clock, read in this zone.

    In a zone too far west the newest rows lie in the future; in one too far east nothing can be
    seen from outside.
    """
    if client.date is None:
        return False, _NO_DATE
    now = client.date.astimezone(zone)
    if now.utcoffset() != (client.date - _CLOCK_CHANGE).astimezone(zone).utcoffset():
        return True, "clocks have just changed: not examined now"
    after = f"{now + _CLOCK_MARGIN:%Y-%m-%dT%H:%M:%S}"
    for endpoint in ("sessions", "datasets"):
        page = client.page(endpoint, limit=1, django=f"auto_datetime__gte,{after}")
        if page.count:
            return False, _of_future(endpoint, page.count, now, timezone)
    return True, f"{timezone}: no row is newer than the server's clock"


def _of_future(endpoint: str, count: int, now: datetime, timezone: str) -> str:
    return (
        f"the server's clock reads {now:%Y-%m-%d %H:%M} in {timezone}, and {count} of its "
        f"{endpoint} were changed after that: it counts in another zone; set timezone in "
        "lab.yaml to the TZ of the server"
    )
