"""What a step is, as data, and what its function gets.

The steps themselves are in `neuro_assets.assets.steps`, a file each; how they live is in
`neuro_assets.assets.runner`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from neuro_assets import names
from neuro_assets.checks.criteria import Criterion
from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.parameters.base import StepParameters
from neuro_assets.registry.metadata import RecordingMetadata
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.resources.io_managers import Missing, Unreadable
from neuro_assets.science.result import Progress, StepResult
from neuro_assets.sources.raw_input import RawInput
from neuro_assets.store import InputRef, Store, Stored, version_of
from neuro_assets.store.json_values import canonical
from neuro_assets.store.packages import releases

Scope = Literal["recording", "session"]

Input = Stored | RawInput | Missing | Unreadable


@dataclass(frozen=True)
class Need:
    """An upstream asset; an optional one may be skipped or missing, and the step goes on."""

    asset: str
    optional: bool = False


@dataclass
class Step:
    """What a step's function gets.

    Parameters
    ----------
    key : str
        Partition key of the recording.
    version : str
        Version of the output that is being made.
    parameters : StepParameters
        Resolved parameters.
    inputs : dict
        Handles of the inputs by asset, resolved once.
    folder : Path
        Empty folder for what the step writes.
    scratch : Path
        Local folder that is removed afterwards.
    n_jobs : int
        Worker threads or processes to use.
    progress : callable
        Takes the fraction done and a few words.
    store : Store
        The lab's store, to read records from.
    """

    key: str
    version: str
    parameters: Any
    inputs: Mapping[str, Input]
    folder: Path
    scratch: Path
    n_jobs: int
    progress: Progress
    store: Store

    def stored(self, asset: str) -> Stored:
        """Give the output of a needed asset."""
        found = self.inputs[asset]
        if not isinstance(found, Stored):
            raise PermanentFailure(f"{asset} of {self.key} has no stored output; run it first")
        return found

    def optional(self, asset: str) -> Stored | None:
        """Give the output of an optional asset; None where it was skipped or is not there."""
        found = self.inputs[asset]
        if isinstance(found, Stored) and found.outcome is Outcome.COMPLETE:
            return found
        return None

    @property
    def raw(self) -> RawInput:
        """The raw recording."""
        return self.raw_data(names.RAW_RECORDING)

    def raw_data(self, asset: str) -> RawInput:
        """Give the raw data of a modality."""
        found = self.inputs[asset]
        if isinstance(found, RawInput):
            return found
        if isinstance(found, Missing) and asset != names.RAW_RECORDING:
            raise PermanentFailure(f"{asset} of {found.key} cannot be read: {found.reason}")
        raise PermanentFailure(
            f"{self.key} is not in the registry; run `neuro-assets run FOLDER` on its folder"
        )

    @property
    def metadata(self) -> RecordingMetadata | None:
        """What the lab's database says of the recording; None where there is none."""
        found = self.inputs.get(names.RECORDING_METADATA)
        return found.metadata if isinstance(found, RawInput) else None


Compute = Callable[[Step], StepResult]
Settings = Callable[[str], Mapping[str, Any]]
RecordValues = Callable[[RecordingRecord], Mapping[str, Any]]


def _no_settings(key: str) -> Mapping[str, Any]:
    return {}


def _no_record_values(record: RecordingRecord) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """One step as data: Dagster's assets are made of it, and `status` reads it.

    Parameters
    ----------
    name, group, kinds, pool, description
        As in `dagster.asset`.
    needs : tuple of Need
        Upstream assets.
    parameters : StepParameters
        Resolved parameters.
    packages : tuple of str
        Packages whose release can change the result.
    io_manager_key : str
        Which format the output has.
    compute : callable
        Calls the science.
    criteria : tuple of Criterion
        Quality criteria on the metrics of the result.
    job : str
        The job that makes it.
    scope : {"recording", "session"}
        Whether each recording has an output of its own, or all recordings of a session share one.
    clock : str
        Which clock the times of its output are on: `probe`, or `board`, each board's own.
    settings : callable
        What else of `lab.yaml` the step reads for a key: plain values, part of the version.
    record_values : callable
        What the step reads of the registry's record itself (subject, date): as `settings`.
    """

    name: str
    group: str
    kinds: frozenset[str]
    needs: tuple[Need, ...]
    parameters: StepParameters
    io_manager_key: str
    compute: Compute
    description: str
    criteria: tuple[Criterion, ...] = ()
    pool: str | None = None
    job: str = names.PROCESS_JOB
    scope: Scope = "recording"
    clock: str = "probe"
    settings: Settings = _no_settings
    record_values: RecordValues = _no_record_values
    packages: tuple[str, ...] = ()

    def home(self, record: RecordingRecord) -> str:
        """Key under which an output of this step stands in the store."""
        return record.session.store_key if self.scope == "session" else record.home

    def values(self, key: str, record: RecordingRecord | None = None) -> dict[str, Any]:
        """Every value that the step reads for a key, as it is recorded."""
        return {**self.parameters.model_dump(mode="json"), **self._keyed(key, record)}

    def _keyed(self, key: str, record: RecordingRecord | None) -> dict[str, Any]:
        found = self.record_values(record) if record is not None else {}
        return {**self.settings(key), **found}

    @cached_property
    def releases(self) -> dict[str, str]:
        """Installed releases of the declared packages."""
        return releases(self.packages)

    @cached_property
    def code_version(self) -> str:
        """`<algorithm version>-<hash of parameters and packages>`, for Dagster."""
        values = self.parameters.model_dump(mode="json")
        digest = hashlib.sha256(canonical([values, self.releases])).hexdigest()[:8]
        return f"{self.parameters.algorithm_version}-{digest}"

    def version(
        self, inputs: Sequence[InputRef], key: str, record: RecordingRecord | None = None
    ) -> str:
        """Version of the output that the step would make of these inputs."""
        keyed = self._keyed(key, record)
        settings = repr(keyed) if keyed else ""
        if settings not in self._rendered:
            self._rendered[settings] = canonical({**self.values(key, record), "clock": self.clock})
        algorithm = self.parameters.algorithm_version
        configuration = self._rendered[settings]
        return version_of(self.name, algorithm, configuration, inputs, self._packages, key=key)

    @cached_property
    def _packages(self) -> bytes:
        return canonical(self.releases)

    @cached_property
    def _rendered(self) -> dict[str, bytes]:
        """Configurations as canonical JSON, by what depends on the key."""
        return {}

    def version_with(
        self,
        algorithm: str,
        values: Mapping[str, Any],
        inputs: Sequence[InputRef],
        packages: Mapping[str, str],
        key: str,
    ) -> str:
        """Version of an output of this step made with other values."""
        configuration = {**values, "clock": self.clock}
        return version_of(self.name, algorithm, configuration, inputs, packages, key=key)


def step(
    parameters: StepParameters,
    *,
    group: str,
    kinds: set[str],
    needs: Sequence[Need],
    io_manager_key: str,
    **others: Any,
) -> Callable[[Compute], StepSpec]:
    """Turn a function of one `Step` into a `StepSpec`; its docstring becomes the description.

    Parameters
    ----------
    parameters, group, kinds, needs, io_manager_key
        See `StepSpec`.
    **others
        Further fields of `StepSpec`; `name` is that of the parameter model where it is not given.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(compute: Compute) -> StepSpec:
        return StepSpec(
            **{"name": parameters.step, **others},
            group=group,
            kinds=frozenset(kinds),
            needs=tuple(needs),
            parameters=parameters,
            io_manager_key=io_manager_key,
            compute=compute,
            description=(compute.__doc__ or "").strip(),
        )

    return decorate
