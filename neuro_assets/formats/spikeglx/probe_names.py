"""What probes and recordings of a SpikeGLX session are called where names are not enough."""

from __future__ import annotations

from collections import defaultdict

from neuro_assets.formats.model import Problem
from neuro_assets.formats.names import ProbeName, place_texts
from neuro_assets.formats.spikeglx.files import DataFile, Group
from neuro_assets.formats.walk import natural_key


def part_name_clashes(files: list[DataFile], problems: list[Problem]) -> None:
    """Give a free number to a second probe that claims the name of another.

    Two serial numbers are two probes, whatever the names say (phase 3A: `imec` twice).

    Parameters
    ----------
    files : list of DataFile
        Intact files of probes; `renamed` is filled in.
    problems : list of Problem
        Of kind `probe_name_clash` are added here.
    """
    owners: dict[Group, str] = {}
    numbers = {file.probe.number for file in files}
    moved: dict[tuple[int, str], ProbeName] = {}
    for file in sorted(files, key=lambda file: natural_key(file.path)):
        serial = file.meta.serial
        if serial is None or owners.setdefault(file.group, serial) == serial:
            continue
        claimed = file.probe
        if (claimed.number, serial) not in moved:
            free = next(n for n in range(len(numbers) + 1) if n not in numbers)
            numbers.add(free)
            moved[(claimed.number, serial)] = ProbeName(free)
        file.renamed = moved[(claimed.number, serial)]
        problems.append(
            Problem(
                kind="probe_name_clash",
                path=file.path,
                detail=f"probe {serial} is named {claimed} like another one and is used as "
                f"{file.renamed}; put each probe in a folder probe00, probe01, ...",
            )
        )


def qualifiers_of(groups: dict[Group, list[DataFile]]) -> dict[Group, str]:
    """Give what tells the recordings of one probe in this session apart.

    The first run (by name) and the first gate need nothing; others get `r<n>`, `g<n>`;
    a shank that was split off gets `s<n>`.

    Parameters
    ----------
    groups : dict
        Files by run, gate and probe.

    Returns
    -------
    dict
        Qualifier of each group, often empty.
    """
    places = place_texts(group[:2] for group in groups)
    lettered: dict[tuple[str, int, int], int] = defaultdict(int)
    for run, gate, probe in groups:
        lettered[(run, gate, probe.number)] += 1
    qualifiers = {}
    for (run, gate, probe), files in groups.items():
        text = places[run, gate]
        split = files[0].meta.shank
        if split is None and lettered[(run, gate, probe.number)] > 1:
            split = probe.shank
        text += f"s{split}" if split is not None else ""
        qualifiers[(run, gate, probe)] = text
    return qualifiers
