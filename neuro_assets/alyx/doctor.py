"""The doctor's findings about Alyx: one line for each thing that `lab.yaml` names.

Nothing is mended or written here, and no session is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from neuro_assets.alyx.client import Alyx, TokenRefused
from neuro_assets.config.alyx import DOWNLOAD
from neuro_assets.outcomes import NeuroAssetsError

Finding = tuple[str, bool, str]
"""What was examined, whether it is well, and what was found or has to be done."""

_MOST_NAMES = 100_000
_CLOCK_MARGIN = timedelta(minutes=2)
"""Rows that are written meanwhile, and a `Date` of whole seconds."""

_CLOCK_CHANGE = timedelta(hours=2)
"""For this long after clocks went back, rows from before may lie in the future of the clock."""


def findings(
    client: Alyx,
    *,
    projects: Sequence[str],
    labs: Sequence[str],
    repositories: Mapping[str, str],
    timezone: str,
) -> Iterator[Finding]:
    """Examine everything of Alyx that `lab.yaml` names.

    Parameters
    ----------
    client : Alyx
        Made with few tries: a doctor is waited for.
    projects, labs : sequence of str
        Names, matched exactly.
    repositories : mapping
        Data repositories and where their files are: a folder, `s3://...`, or `download`.
    timezone : str
        Zone of the server's clock.

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
        "projects": lambda: _named(client, "project", "projects", projects),
        "labs": lambda: _named(client, "lab", "labs", labs),
        "repositories": lambda: _repositories(client, repositories),
        "timezone": lambda: [_clock(client, timezone)],
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


def _clock(client: Alyx, timezone: str) -> Finding:
    """Look for rows that were changed later than the server's own clock, read in this zone.

    Alyx writes times without a zone. In a zone too far west the newest rows lie in the future;
    in one too far east nothing can be seen from outside.
    """
    subject = "timezone"
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        message = f"there is no zone {timezone!r}: write one like Europe/London in lab.yaml"
        return subject, False, message
    if client.date is None:
        return subject, False, "the server's responses have no date: nothing can be compared"
    now = client.date.astimezone(zone)
    if now.utcoffset() != (client.date - _CLOCK_CHANGE).astimezone(zone).utcoffset():
        return subject, True, "clocks have just changed: not examined now"
    after = f"{now + _CLOCK_MARGIN:%Y-%m-%dT%H:%M:%S}"
    for endpoint in ("sessions", "datasets"):
        page = client.page(endpoint, limit=1, django=f"auto_datetime__gte,{after}")
        if page.count:
            return subject, False, _of_future(endpoint, page.count, now, timezone)
    return subject, True, f"{timezone}: no row is newer than the server's clock"


def _of_future(endpoint: str, count: int, now: datetime, timezone: str) -> str:
    return (
        f"the server's clock reads {now:%Y-%m-%d %H:%M} in {timezone}, and {count} of its "
        f"{endpoint} were changed after that: it counts in another zone; set timezone in "
        "lab.yaml to the TZ of the server"
    )
