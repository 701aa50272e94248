"""The sections `steps` and `sorters` of `lab.yaml`: a named set of parameters, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from neuro_assets.config.base import ConfigError, Strict, explain
from neuro_assets.parameters.base import StepParameters
from neuro_assets.parameters.sorting import SortingParameters

P = TypeVar("P", bound=StepParameters)


class StepChoice(Strict):
    """A named set of parameters, and the fields that differ from it."""

    set: str = "default"
    parameters: dict[str, Any] = Field(default_factory=dict)

    def resolved(self, model: type[P]) -> P:
        """Give the parameters of a step; errors as in `LabConfig.step`."""
        return _checked(
            f"steps.{model.step}", model, lambda: model.resolve(self.set, self.parameters)
        )


class SorterChoice(StepChoice):
    """One sorter set: a sorter with its parameters. Assets are named after `name`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Suffix of the assets' names, e.g. ks4"""
    sorter: str = ""
    """SpikeInterface's name of the sorter; `name` when empty"""
    probes: list[str] = ["*"]
    """Probes that are sorted with it, as patterns: probe00, probe0*, *"""

    @model_validator(mode="after")
    def _parameters_fit(self) -> SorterChoice:
        _ = self.sorting
        return self

    @property
    def sorter_name(self) -> str:
        """SpikeInterface's name of the sorter."""
        return self.sorter or self.name

    @property
    def sorting(self) -> SortingParameters:
        """Parameters of the sorting; errors as in `LabConfig.step`."""
        return _checked(
            f"sorters.{self.name}",
            SortingParameters,
            lambda: SortingParameters.for_sorter(self.sorter_name, self.set, self.parameters),
        )


def _checked(where: str, model: type[P], make: Callable[[], P]) -> P:
    try:
        return make()
    except KeyError as error:
        raise ConfigError(f"{where}: {error.args[0]}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, model, f"{where}.parameters"))) from error
