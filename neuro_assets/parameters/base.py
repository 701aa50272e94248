"""What every parameter model shares: named sets with a source, overrides, and the code version.

No step's parameters live here; each has its own module in this package.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class NamedSet(BaseModel):
    """A published or agreed choice of values.

    Parameters
    ----------
    source : str
        Where the values come from: paper, repository and commit, or our own measurement.
    values : dict
        Fields that differ from the model's defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: str
    values: dict[str, Any] = {}


class StepParameters(BaseModel):
    """Parameters of one step; subclasses add fields; the docstring below one names its unit.

    Attributes
    ----------
    step : str
        The step's name, which is that of its section under `steps` in `lab.yaml`; empty where
        there is none.
    algorithm_version : str
        Raised by hand when the same parameters would now give another result.
    sets : dict of str to NamedSet
        Named sets; `default` always exists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: ClassVar[str] = ""
    algorithm_version: ClassVar[str] = "1"
    sets: ClassVar[dict[str, NamedSet]] = {"default": NamedSet(source="neuro_assets")}

    @classmethod
    def resolve(cls, name: str = "default", overrides: dict[str, Any] | None = None) -> Self:
        """Build the parameters of a named set with some fields replaced.

        Parameters
        ----------
        name : str
            A key of `sets`.
        overrides : dict, optional
            Fields that replace the set's values.

        Returns
        -------
        StepParameters
            Validated parameters.

        Raises
        ------
        KeyError
            When the set does not exist.
        pydantic.ValidationError
            When a value is out of range or a field is unknown.
        """
        if name not in cls.sets:
            raise KeyError(
                f"{cls.step} has no parameter set {name!r}; choose one of {', '.join(cls.sets)}"
            )
        return cls(**{**cls.sets[name].values, **(overrides or {})})

    @property
    def digest(self) -> str:
        """First eight hexadecimal digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]
