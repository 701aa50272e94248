"""The probes of a session: insertions, description and datasets made to agree, or it is said.

Names of probes are typed by people, at a rig and again in Alyx. Nothing here asks a server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from neuro_assets.alyx.rows import DatasetRow, InsertionRow
from neuro_assets.formats.model import Frozen, Problem, RawRecording
from neuro_assets.formats.names import ProbeName, parse_probe_name, parse_spikeglx_name
from neuro_assets.sources.alyx.experiment_file import Experiment

_RAW = "raw_ephys_data"


class ExpectedProbe(Frozen):
    """One probe, or a shank whose data are kept apart, of which a session has or will have data.

    Parameters
    ----------
    probe : str
        Our spelling, `probe00`.
    label : str
        Unique in the session: `probe00`, or `probe00-s1` where data of shanks are kept apart.
    shank : int or None
        Where names have a letter (`probe00b` is shank 1).
    insertions : tuple of InsertionRow
        Rows of it; several where its shanks are inserted one by one and recorded as one.
    collections : tuple of str
        Collections of its raw datasets; empty before they come.
    dataset_ids : frozenset of str
        Its raw datasets; `raw_ephys_data` alone may hold several probes.
    announced : bool
        Whether the experiment description names it.
    """

    probe: str
    label: str
    shank: int | None = None
    insertions: tuple[InsertionRow, ...] = ()
    collections: tuple[str, ...] = ()
    dataset_ids: frozenset[str] = frozenset()
    announced: bool = False

    @property
    def insertion(self) -> InsertionRow | None:
        """The row that stands for it: the only one, or that of the first shank."""
        return self.insertions[0] if self.insertions else None

    def owns(self, dataset: DatasetRow) -> bool:
        """Tell whether a raw dataset is this probe's."""
        return dataset.id in self.dataset_ids


@dataclass
class _Said:
    """What is said of one name."""

    insertions: list[InsertionRow] = field(default_factory=list)
    datasets: list[DatasetRow] = field(default_factory=list)
    announced: bool = False

    def add(self, other: _Said) -> None:
        self.insertions += other.insertions
        self.datasets += other.datasets
        self.announced = self.announced or other.announced


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
    said: dict[ProbeName, _Said] = defaultdict(_Said)
    for name, row in _insertions_by_name(insertions, problems).items():
        said[name].insertions.append(row)
    for dataset in datasets:
        if (owner := probe_of(dataset)) is not None:
            said[owner].datasets.append(dataset)
    for announced in _announced(experiment, problems):
        said[announced].announced = True
    numbers: dict[int, dict[int | None, _Said]] = defaultdict(dict)
    for name in sorted(said, key=lambda name: -1 if name.shank is None else name.shank):
        numbers[name.number][name.shank] = said[name]
    probes = [probe for number in sorted(numbers) for probe in _of_number(number, numbers[number])]
    has_data = any(probe.collections for probe in probes)
    problems += [problem for probe in probes for problem in _lonely(probe, has_data)]
    return tuple(probes), tuple(problems)


def _of_number(number: int, shanks: dict[int | None, _Said]) -> list[ExpectedProbe]:
    """Make one probe of what has one number, unless data of its shanks are kept apart.

    `imec0`, `probe00` and `probe00a` are one probe then, in whichever of Alyx and the rig each of
    them was typed.
    """
    lettered = [said for shank, said in shanks.items() if shank is not None]
    whole = shanks.get(None, _Said())
    # One shank that came first waits for its siblings: with them its name will be another.
    is_apart = len(lettered) > 1 and any(said.datasets for said in lettered)
    if not is_apart or whole.datasets:
        together = _Said()
        for said in shanks.values():
            together.add(said)
        only = next(iter(shanks)) if len(shanks) == 1 else None
        return [_expected(ProbeName(number), only, together, is_apart=False)]
    probes = []
    for shank, said in shanks.items():
        if shank is None:
            continue
        said.insertions = said.insertions or whole.insertions
        said.announced = said.announced or whole.announced
        probes.append(_expected(ProbeName(number), shank, said, is_apart=True))
    return probes


def _expected(name: ProbeName, shank: int | None, said: _Said, *, is_apart: bool) -> ExpectedProbe:
    return ExpectedProbe(
        probe=str(name),
        label=f"{name}-s{shank}" if is_apart else str(name),
        shank=shank,
        insertions=tuple(said.insertions),
        collections=tuple(sorted({dataset.collection for dataset in said.datasets})),
        dataset_ids=frozenset(dataset.id for dataset in said.datasets),
        announced=said.announced,
    )


def _insertions_by_name(
    insertions: Iterable[InsertionRow], problems: list[Problem]
) -> dict[ProbeName, InsertionRow]:
    found: dict[ProbeName, InsertionRow] = {}
    for row in sorted(insertions, key=lambda row: (row.name, row.id)):
        name = parse_probe_name(row.name.strip())
        if name is None:
            problems.append(
                Problem(
                    kind="probe_name",
                    path=row.name[:80],
                    detail=f"insertion {row.id} is named {row.name[:80]!a}, which is no probe's "
                    "name; rename it in Alyx to probe00, probe01, ...",
                )
            )
        elif name in found:
            problems.append(
                Problem(
                    kind="probe_name",
                    path=str(name),
                    detail=f"insertions {found[name].name!a} ({found[name].id}) and {row.name!a} "
                    f"({row.id}) are both {name}; the first is used: rename or delete one in Alyx",
                )
            )
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


def _announced(experiment: Experiment | None, problems: list[Problem]) -> set[ProbeName]:
    found = set()
    for probe in experiment.probes if experiment else ():
        name = parse_probe_name(probe.name)
        if name is None:
            problems.append(
                Problem(
                    kind="probe_name",
                    path=probe.name[:80],
                    detail=f"the experiment description names a probe {probe.name[:80]!a}; name it "
                    "probe00, probe01, ... there",
                )
            )
            continue
        found.add(name)
    return found


def _lonely(probe: ExpectedProbe, any_data: bool) -> list[Problem]:
    if probe.insertion is None and probe.collections:
        return [
            Problem(
                kind="data_without_insertion",
                path=probe.collections[0],
                detail=f"{probe.probe} has data and no insertion in Alyx; create an insertion "
                f"named {probe.probe}, or correct the name of one",
            )
        ]
    # Before any data it is not the names that disagree: the data are on their way.
    if probe.insertion is not None and not probe.collections and any_data:
        return [
            Problem(
                kind="insertion_without_data",
                path=probe.insertion.name[:80],
                detail=f"insertion {probe.insertion.name!a} ({probe.insertion.id}) is "
                f"{probe.label}, of which no data are registered while another probe has some; "
                "correct its name in Alyx, or register its data",
            )
        ]
    return []


def serial_problems(
    probes: Iterable[ExpectedProbe], recordings: Iterable[RawRecording]
) -> tuple[Problem, ...]:
    """Compare the serial numbers in Alyx with those that the recordings say of themselves.

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
    registered: dict[str, set[str]] = defaultdict(set)
    for probe in probes:
        for insertion in probe.insertions:
            if serial := bare_serial(insertion.serial):
                registered[probe.probe].add(serial)
    problems: dict[str, Problem] = {}
    for recording in recordings:
        serial = bare_serial(recording.identity.probe_serial or "")
        known = registered.get(recording.probe)
        if serial and known and serial not in known:
            problems[recording.probe] = Problem(
                kind="probe_serial",
                path=recording.main.files[0],
                detail=f"{recording.probe} has serial number {serial}, and its insertion in Alyx "
                f"{', '.join(sorted(known))}: correct the insertion, or its name",
            )
    return tuple(problems.values())


def bare_serial(serial: str) -> str:
    """Take a serial number without what people type around it.

    Parameters
    ----------
    serial : str
        As typed, or as a meta file has it.

    Returns
    -------
    str
        To compare; empty where nothing is known.
    """
    return serial.strip().lstrip("0").lower()
