"""Subject, date and number of a session, from its folder: ONE's layout, or a bare run folder.

Names are handed on as they were typed; they are made safe for keys elsewhere.

The rule for a bare folder (no `Subjects/<subject>/<date>/<number>`):

- subject: a folder `sub-<x>` (BIDS) gives x; else what stands before the date in the folder's
  name, else before the date in the run's name; else the folder's name without gate and probe.
- date: when the acquisition program created the first recording; else a date in the name; else
  the oldest modification time among the files.
- number: one to three digits behind the date in that name; else a folder `ses-<digits>`; else 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise, takewhile
from pathlib import Path, PurePosixPath

from neuro_assets.formats.model import Problem, RawRecording
from neuro_assets.formats.names import labels_in, parse_day, parse_probe_name, parse_spikeglx_name
from neuro_assets.formats.walk import FoundFile, Listing

_DATE = re.compile(r"(?<!\d)(\d{4})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)")
_NUMBER = re.compile(r"^[_\-. ]+0*(\d{1,3})(?![\d:-])(?:[_\-. ]|$)")
_TAIL = re.compile(r"(_g\d+)?(_t\d+)?(_imec\d*)?$")
_OUTPUT = re.compile(r"^(?:catgt|supercat)_(?=.)", re.IGNORECASE)
"""What CatGT puts before a run's name in that of its folder."""
_INNER = re.compile(r"^(Record Node .*|experiment\d+|recording\d+)$", re.IGNORECASE)
_SESSION_GAP = timedelta(hours=12)
_MIDNIGHT = timedelta(days=1)
"""A session may last beyond midnight, and a folder be named on either day."""

CONFLICTS = frozenset({"several_dates", "several_subjects", "several_runs", "date_conflict"})
"""Kinds of problems for which nothing of a session may be processed."""

_ANIMAL_FILES = (".ap.bin", ".ap.cbin")
_FREE_NAMES = ("reader", "nwb")
_NUMBER_FOLDER = re.compile(r"^\d{1,3}$")


@dataclass(frozen=True)
class SessionFields:
    """Who, when, which.

    Parameters
    ----------
    lab, subject : str
        As typed; lab is empty where the layout has none.
    date : datetime.date
        Day of the session.
    number : str
        Number of the day, as typed (`001`).
    guessed : bool
        Whether nothing says the date, and it is taken from a file's time.
    """

    lab: str
    subject: str
    date: date
    number: str
    guessed: bool = False


@dataclass(frozen=True)
class NamedFields:
    """What the folders of a tree say of a session; empty where they do not.

    Parameters
    ----------
    subject, number : str
        Labels of `sub-` and `ses-`.
    date : datetime.date or None
        As in `ses-001_date-20240512`.
    dataset : str
        Name of the BIDS dataset in which the label of the subject stands for one animal.
    """

    subject: str = ""
    number: str = ""
    date: date | None = None
    dataset: str = ""


def one_fields(path: PurePosixPath) -> SessionFields | None:
    """Read `[<lab>/]Subjects/<subject>/<yyyy-mm-dd>/<number>`.

    Parameters
    ----------
    path : PurePosixPath
        Path that ends with the session folder; what stands before the lab is ignored.

    Returns
    -------
    SessionFields or None
        None when the path is not of that form.
    """
    parts = path.parts
    if len(parts) < 4 or parts[-4] != "Subjects" or not _NUMBER_FOLDER.match(parts[-1]):
        return None
    day = parse_day(parts[-2])
    if day is None:
        return None
    return SessionFields(parts[-5] if len(parts) > 4 else "", parts[-3], day, parts[-1])


def bare_fields(
    folder: Path,
    recordings: Sequence[RawRecording],
    listing: Listing,
    named: NamedFields | None = None,
) -> SessionFields:
    """Make the fields of a folder without ONE's layout, by the rule of this module.

    Parameters
    ----------
    folder : Path
        The session folder.
    recordings : sequence of RawRecording
        What was found in it.
    listing : Listing
        Its files.
    named : NamedFields, optional
        What the tree says; it goes before all names.

    Returns
    -------
    SessionFields
        Always complete.
    """
    named = named or NamedFields()
    folders = [folder.name, *_folders(recordings)]
    names = [folder.name, *_runs(recordings), *_folders(recordings)]
    dated = next((name for name in names if find_day(name)), None)
    subject = named.subject or _bids("sub", folders) or _before_date(dated)
    number = (
        named.number
        or (_behind_date(dated) if dated else None)
        or _digits(_bids("ses", folders))
        or "1"
    )
    created = [r.identity.created.date() for r in recordings if r.identity.created]
    known = created[0] if created else named.date or (find_day(dated) if dated else None)
    subject = subject or _TAIL.sub("", _OUTPUT.sub("", folder.name)) or folder.name
    return SessionFields("", subject, known or _oldest(listing), number, guessed=known is None)


def conflicts(
    folder: Path,
    recordings: Sequence[RawRecording],
    named: NamedFields,
    fields: SessionFields,
    others: Collection[str] = (),
) -> tuple[Problem, ...]:
    """Find what would make a session of more than one animal or day.

    Parameters
    ----------
    folder : Path
        The session folder.
    recordings : sequence of RawRecording
        What was found in it.
    named : NamedFields
        What the tree says, in whatever layout.
    fields : SessionFields
        What was made of all of it.
    others : collection of str
        Subjects that the tree names elsewhere.

    Returns
    -------
    tuple of Problem
        Of the kinds in `CONFLICTS`.
    """
    if not recordings:
        return ()
    times = sorted(r.identity.created for r in recordings if r.identity.created)
    found = {
        "several_dates": _days_apart(times),
        "several_subjects": _animals(folder, recordings, named, fields, others),
        "date_conflict": _other_day(times, named),
    }
    if not (any(found.values()) or named.subject or _subject_and_day(folder)):
        found["several_runs"] = _branches(recordings)
    path = recordings[-1].main.files[0]
    return tuple(Problem(kind=k, path=path, detail=detail) for k, detail in found.items() if detail)


def _days_apart(times: Sequence[datetime]) -> str:
    apart = any(after - before > _SESSION_GAP for before, after in pairwise(times))
    if not apart or times[0].date() == times[-1].date():
        return ""
    return (
        f"recordings from {times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d} would be one session; "
        "put each day in a folder of its own, or use <subject>/<date>/<number>"
    )


def _other_day(times: Sequence[datetime], named: NamedFields) -> str:
    for time in times:
        if named.date is not None and abs(named.date - time.date()) > _MIDNIGHT:
            return (
                f"the folder says {named.date} and the recording was made on {time.date()}; "
                "rename the folder, or move the recording to its own"
            )
    return ""


def _animals(
    folder: Path,
    recordings: Sequence[RawRecording],
    named: NamedFields,
    fields: SessionFields,
    others: Collection[str],
) -> str:
    """Say which animals the names inside a session are of, where they are several."""
    said = [_bids("sub", [r.subject]) or r.subject for r in recordings if r.subject]
    of_folder = named.subject or (fields.subject if said and _subject_and_day(folder) else "")
    labels = [*labels_in(_folders(recordings), named.subject), *said]
    runs = [name for run in _runs(recordings) if find_day(run) and (name := _before_date(run))]
    files = [name for each in recordings if (name := _file_animal(each))]
    own, elsewhere = _plain(fields.subject), {_plain(name) for name in others}
    # A run may be named for anything, but not for an animal that the tree has elsewhere.
    strange = [run for run in (*runs, *files) if _plain(run) in elsewhere and _plain(run) != own]
    claims = [*labels, *([of_folder] if of_folder else [])]
    for names in (
        claims,
        runs,
        [] if of_folder else files,
        [fields.subject, *strange] if strange else [],
    ):
        distinct = {_plain(name): name for name in names}
        if len(distinct) > 1:
            return (
                f"files of {', '.join(sorted(distinct.values()))} would be one animal; move each "
                "to the folder of its own subject"
            )
    return ""


def _file_animal(recording: RawRecording) -> str:
    """Take the animal from `<animal>_<yyyy-mm-dd>` of files whose format has no run names."""
    name = PurePosixPath(recording.main.files[0]).name if recording.format in _FREE_NAMES else ""
    animal = _before_date(name) if find_day(name) else None
    return "" if animal is None or parse_probe_name(animal) else animal


def plain_names(subjects: Iterable[str]) -> frozenset[str]:
    """Take subjects without what people write differently, for `other_animals`."""
    return frozenset(_plain(each) for each in subjects)


def other_animals(files: Iterable[FoundFile], own: str, animals: frozenset[str]) -> list[str]:
    """Name the other animals of a tree for which files of a session are named.

    Parameters
    ----------
    files : iterable of FoundFile
        Of the session.
    own : str
        Its subject.
    animals : frozenset of str
        From `plain_names`.

    Returns
    -------
    list of str
        Sorted; empty for nearly every session.
    """
    # Of every session in every tick: the files that name a recording, and no others.
    named = (file.path for file in files if file.path.lower().endswith(_ANIMAL_FILES))
    found = {_animal_of(path.rpartition("/")[2]) for path in named} & animals
    return sorted(found - {_plain(own)})


@lru_cache(maxsize=1 << 16)
def _animal_of(file: str) -> str:
    run = _run(PurePosixPath(file)) if find_day(file) else ""
    return _plain(_before_date(run) or "") if run else ""


def _plain(subject: str) -> str:
    """Take a subject without what people write differently: case, `sub-`, punctuation."""
    return re.sub(r"^sub-|[\W_]", "", subject.casefold())


def _subject_and_day(folder: Path) -> bool:
    """Tell whether a folder's name says whose it is; that of a day alone does not."""
    return bool(find_day(folder.name) and _before_date(folder.name))


def _branches(recordings: Sequence[RawRecording]) -> str:
    """Say which folders hold files of several runs, where the outer one names no subject."""
    files = [PurePosixPath(file) for each in recordings for file in each.main.files]
    places = [_place(file) for file in files]
    common = len(os.path.commonprefix(places))
    found: dict[str, str] = {}
    for place, file in zip(places, files, strict=True):
        # A run name says nothing for folders that differ: rigs use one for every animal.
        here = place[common] if len(place) > common else _run(file)
        if name := _session_name(here):
            found.setdefault(name, here)
    if len(found) < 2:
        return ""
    return (
        f"{' and '.join(found.values())} would be one session of one animal; put each directly "
        "into the source's folder, or name the folder of both <subject>_<yyyy-mm-dd>"
    )


def _place(file: PurePosixPath) -> list[str]:
    """Folders of a file, without those of probes and of Open Ephys."""
    outer = takewhile(lambda name: not _INNER.match(name), file.parent.parts)
    return [name for name in outer if not parse_probe_name(name)]


def _session_name(folder: str) -> str:
    """Name a session by a folder; one that says the time alone names none."""
    named = _before_date(folder) or _behind_date(folder) or not find_day(folder)
    return _TAIL.sub("", _OUTPUT.sub("", folder)) if named else ""


def _run(file: PurePosixPath) -> str:
    name = parse_spikeglx_name(file.name)
    return "" if name is None else name.run


def _runs(recordings: Sequence[RawRecording]) -> list[str]:
    """Run names from the files' present names."""
    return [run for each in recordings if (run := _run(PurePosixPath(each.main.files[0])))]


def _folders(recordings: Sequence[RawRecording]) -> list[str]:
    return [
        part for recording in recordings for part in PurePosixPath(recording.main.files[0]).parts
    ]


def _bids(entity: str, folders: Sequence[str]) -> str | None:
    for name in folders:
        found = re.match(rf"^{entity}-([^_]+)", name)
        if found:
            return found[1]
    return None


def find_day(name: str) -> date | None:
    """Find a date in a name.

    Parameters
    ----------
    name : str
        Such as `ses-001_date-20240512`.

    Returns
    -------
    datetime.date or None
        The first one.
    """
    for found in _DATE.finditer(name):
        try:
            return date(int(found[1]), int(found[2]), int(found[3]))
        except ValueError:
            continue
    return None


def _date_span(name: str) -> tuple[int, int]:
    for found in _DATE.finditer(name):
        if find_day(found.group()):
            return found.span()
    return len(name), len(name)


def _before_date(name: str | None) -> str | None:
    before = name[: _date_span(name)[0]].strip("_-. ") if name else ""
    return _OUTPUT.sub("", before) or None


def _behind_date(name: str) -> str | None:
    found = _NUMBER.match(_TAIL.sub("", name)[_date_span(name)[1] :])
    return found[1] if found else None


def _digits(text: str | None) -> str | None:
    return text if text and text.isascii() and text.isdigit() else None


def _oldest(listing: Listing) -> date:
    times = [found.mtime_ns for found in listing.files]
    return datetime.fromtimestamp(min(times, default=0) / 1e9, UTC).date()
