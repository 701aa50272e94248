"""The probes of a session: insertions, description and datasets made to agree, or it is reported.

Names of probes are typed by people, at a rig and again in Alyx. Nothing here calls a server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from neuro_assets.alyx.rows import DatasetRow, InsertionRow
from neuro_assets.formats.model import Frozen, Problem, RawRecording
from neuro_assets.formats.names import ProbeName, parse_probe_name, parse_spikeglx_name
from neuro_assets.sources.alyx.experiment import Experiment

_RAW = "raw_ephys_data"


class ExpectedProbe(Frozen):
    """One probe, or a shank whose data are kept apart, of which a session has or will have data.

    Parameters
    ----------
    probe : str
        Our spelling, `probe00`.
    label : str
        Unique in the session: `probe00`, or `probe00-s1` where data of shanks are kept apart.
    insertions : tuple of InsertionRow
        Rows of it; several where its shanks are inserted one by one and recorded as one.
    collections : tuple of str
        Collections of its raw datasets; empty before they come.
    dataset_ids : frozenset of str
        Its raw datasets; `raw_ephys_data` alone may hold several probes.
    """

    probe: str
    label: str
    insertions: tuple[InsertionRow, ...] = ()
    collections: tuple[str, ...] = ()
    dataset_ids: frozenset[str] = frozenset()

    @property
    def insertion(self) -> InsertionRow | None:
        """The row that stands for it: the only one, or that of the first shank."""
        return self.insertions[0] if self.insertions else None

    def owns(self, dataset: DatasetRow) -> bool:
        """Tell whether a raw dataset is this probe's."""
        return dataset.id in self.dataset_ids

    def serial_problem(self, serial: str | None, path: str) -> Problem | None:
        """Compare the serial number in Alyx with the recording's own.

        Parameters
        ----------
        serial : str or None
            As the recording has it.
        path : str
            Of the problem.

        Returns
        -------
        Problem or None
            `probe_serial` where both are known and differ.
        """
        known = {_bare(row.serial) for row in self.insertions} - {""}
        if not known or _bare(serial or "") in known | {""}:
            return None
        return Problem(
            kind="probe_serial",
            path=path,
            detail=f"{self.probe} has serial number {serial}, and its insertion in Alyx "
            f"{', '.join(sorted(known))}: correct the insertion, or its name",
        )


@dataclass
class _Evidence:
    """What Alyx and the files have under one name."""

    insertions: list[InsertionRow] = field(default_factory=list)
    datasets: list[DatasetRow] = field(default_factory=list)

    def probe(self, number: int, shank: int | None = None) -> ExpectedProbe:
        name = str(ProbeName(number))
        return ExpectedProbe(
            probe=name,
            label=name if shank is None else f"{name}-s{shank}",
            insertions=tuple(self.insertions),
            collections=tuple(sorted({dataset.collection for dataset in self.datasets})),
            dataset_ids=frozenset(dataset.id for dataset in self.datasets),
        )


def expected_probes(
    insertions: Iterable[InsertionRow],
    experiment: Experiment | None,
    datasets: Iterable[DatasetRow],
) -> tuple[tuple[ExpectedProbe, ...], tuple[Problem, ...]]:
    """Match insertions, the description and the datasets of a session, however probes are spelt.

    Parameters
    ----------
    insertions : iterable of InsertionRow
        Of the session.
    experiment : Experiment or None
        Its description.
    datasets : iterable of DatasetRow
        Of the session.

    Returns
    -------
    probes : tuple of ExpectedProbe
        By number and shank.
    problems : tuple of Problem
        `probe_name` (no probe's name, or two insertions with one), `insertion_without_data` (once
        another probe has data), `data_without_insertion`.
    """
    problems: list[Problem] = []
    evidence: dict[ProbeName, _Evidence] = defaultdict(_Evidence)
    for name, row in _insertions_by_name(insertions, problems).items():
        evidence[name].insertions.append(row)
    for dataset in datasets:
        if (owner := probe_of(dataset)) is not None:
            evidence[owner].datasets.append(dataset)
    for typed in experiment.probes if experiment else ():
        if (described := parse_probe_name(typed)) is not None:
            evidence[described]  # waited for
        else:
            detail = f"the experiment description names a probe {typed[:80]!a}; name it probe00, "
            problems.append(_odd_name(typed, f"{detail}probe01, ... there"))
    numbers: dict[int, dict[int | None, _Evidence]] = defaultdict(dict)
    for name in sorted(evidence, key=lambda name: -1 if name.shank is None else name.shank):
        numbers[name.number][name.shank] = evidence[name]
    probes = [probe for number in sorted(numbers) for probe in _of_number(number, numbers[number])]
    has_data = any(probe.collections for probe in probes)
    problems += [problem for probe in probes if (problem := _lonely(probe, has_data))]
    return tuple(probes), tuple(problems)


def _of_number(number: int, shanks: dict[int | None, _Evidence]) -> list[ExpectedProbe]:
    """Make one probe of what has one number, unless data of its shanks are kept apart.

    `imec0`, `probe00` and `probe00a` are one probe then, in whichever of Alyx and the rig each of
    them was typed.
    """
    whole = shanks.get(None, _Evidence())
    lettered = {shank: found for shank, found in shanks.items() if shank is not None}
    has_data = any(found.datasets for found in lettered.values())
    # One shank that came first waits for its siblings: with them its name will be another.
    if len(lettered) > 1 and has_data and not whole.datasets:
        for found in lettered.values():
            found.insertions = found.insertions or whole.insertions
        return [found.probe(number, shank) for shank, found in lettered.items()]
    together = _Evidence()
    for found in shanks.values():
        together.insertions += found.insertions
        together.datasets += found.datasets
    return [together.probe(number)]


def _odd_name(name: str, detail: str) -> Problem:
    return Problem(kind="probe_name", path=name[:80], detail=detail)


def _insertions_by_name(
    insertions: Iterable[InsertionRow], problems: list[Problem]
) -> dict[ProbeName, InsertionRow]:
    found: dict[ProbeName, InsertionRow] = {}
    for row in sorted(insertions, key=lambda row: (row.name, row.id)):
        name = parse_probe_name(row.name.strip())
        if name is None:
            detail = f"insertion {row.id} is named {row.name[:80]!a}, which is no probe's name; "
            problems.append(_odd_name(row.name, f"{detail}rename it in Alyx to probe00, ..."))
        elif name in found:
            first = f"{found[name].name!a} ({found[name].id})"
            detail = f"insertions {first} and {row.name!a} ({row.id}) are both {name}; the first "
            problems.append(_odd_name(str(name), f"{detail}is used: rename or delete one in Alyx"))
        else:
            found[name] = row
    return found


def probe_of(dataset: DatasetRow) -> ProbeName | None:
    """Tell which probe a raw dataset is of: by its folder, else by the device in its file name.

    Parameters
    ----------
    dataset : DatasetRow
        Any dataset.

    Returns
    -------
    ProbeName or None
        None for datasets of no probe.
    """
    parts = dataset.collection.split("/")
    if parts[0] != _RAW:
        return None
    file = parse_spikeglx_name(dataset.name)
    device = parse_probe_name(file.device) if file and file.device else None
    if file is not None and file.device and device is None:
        return None  # an auxiliary board, in whichever folder
    for part in reversed(parts[1:]):
        named = parse_probe_name(part)
        # A folder `run_g0_imec0` says no more than the file; `probe01` is what people decided.
        if named is not None and (device is None or part.lower().startswith("probe")):
            return named
    return device


def _lonely(probe: ExpectedProbe, any_data: bool) -> Problem | None:
    insertion = probe.insertion
    if insertion is None and probe.collections:
        return Problem(
            kind="data_without_insertion",
            path=probe.collections[0],
            detail=f"{probe.probe} has data and no insertion in Alyx; create an insertion named "
            f"{probe.probe}, or correct the name of one",
        )
    # Before any data it is not the names that disagree: the data are on their way.
    if insertion is not None and not probe.collections and any_data:
        return Problem(
            kind="insertion_without_data",
            path=insertion.name[:80],
            detail=f"insertion {insertion.name!a} ({insertion.id}) is {probe.label}, of which no "
            "data are registered while another probe has some; correct its name in Alyx, or "
            "register its data",
        )
    return None


def serial_problems(
    probes: Iterable[ExpectedProbe], recordings: Iterable[RawRecording]
) -> tuple[Problem, ...]:
    """Compare the serial numbers in Alyx with those of the recordings.

    Parameters
    ----------
    probes : iterable of ExpectedProbe
        From `expected_probes`.
    recordings : iterable of RawRecording
        Of the session.

    Returns
    -------
    tuple of Problem
        `probe_serial`, one for each probe that differs.
    """
    together: dict[str, ExpectedProbe] = {}
    for probe in probes:  # shanks are of one device
        rows = together[probe.probe].insertions if probe.probe in together else ()
        together[probe.probe] = probe.model_copy(update={"insertions": rows + probe.insertions})
    found: dict[str, Problem] = {}
    for recording in recordings:
        known = together.get(recording.probe)
        serial = recording.identity.probe_serial
        if known and (problem := known.serial_problem(serial, recording.main.files[0])):
            found[recording.probe] = problem
    return tuple(found.values())


def _bare(serial: str) -> str:
    """Take off what people type around a serial number; empty where it is unknown."""
    return serial.strip().lstrip("0").lower()
