"""All steps of a lab, collected from `neuro_assets.assets.steps`, needs first."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from types import ModuleType

from neuro_assets import names
from neuro_assets.assets import steps
from neuro_assets.assets.step import Need, Scope, StepSpec
from neuro_assets.checks.criteria import criteria_version
from neuro_assets.config import LabConfig
from neuro_assets.formats.modalities import of_session
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.base import StepParameters
from neuro_assets.sources.raw_input import externals


def step_modules() -> list[ModuleType]:
    """Import every module of `neuro_assets.assets.steps`."""
    found = sorted(module.name for module in pkgutil.iter_modules(steps.__path__))
    return [import_module(f"{steps.__name__}.{name}") for name in found]


def step_models() -> dict[str, type[StepParameters]]:
    """Parameter models by the name under which `lab.yaml` sets them."""
    members = [each for module in step_modules() for each in vars(module).values()]
    models = [m for m in members if isinstance(m, type) and issubclass(m, StepParameters)]
    return {model.step: model for model in models if model.step}


def all_steps(config: LabConfig) -> list[StepSpec]:
    """List the steps that this lab's configuration asks for.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.

    Returns
    -------
    list of StepSpec
        Needs first.

    Raises
    ------
    ConfigError
        When `lab.yaml` sets a step that does not exist, or parameters that it does not have.
    PermanentFailure
        When two steps have one name, or one needs what does not exist or what it may not.
    """
    config.check_steps(step_models())
    return in_order(spec for module in step_modules() for spec in module.specs(config))


def in_order(specs: Iterable[StepSpec]) -> list[StepSpec]:
    """Put what a step needs before it, and refuse what does not fit together.

    Parameters
    ----------
    specs : iterable of StepSpec
        In any order.

    Returns
    -------
    list of StepSpec
        By the longest way from the raw data, then by the number of needs.

    Raises
    ------
    PermanentFailure
        See `all_steps`.
    """
    given = list(specs)
    made = [spec for spec in given if spec.job == names.PROCESS_JOB]
    by_name = {spec.name: _expanded(spec, made) for spec in given}
    if len(by_name) != len(given):
        raise PermanentFailure(f"two steps have one name: {sorted(s.name for s in given)}")
    depths = dict.fromkeys(externals(), 0)
    for name in by_name:
        _depth(name, by_name, depths, ())
    return sorted(by_name.values(), key=lambda s: (depths[s.name], len(s.needs)))


def _expanded(spec: StepSpec, made: list[StepSpec]) -> StepSpec:
    """Replace the need of everything by the needs of each, and of the criteria that judge it."""
    if all(need.asset != names.EVERY_RESULT for need in spec.needs):
        return spec
    named = [need for need in spec.needs if need.asset != names.EVERY_RESULT]
    criteria = {each.name: criteria_version(each.criteria) for each in made}
    return replace(
        spec,
        needs=(*named, *(Need(each.name, optional=True) for each in made)),
        settings=lambda key: {**spec.settings(key), "criteria": criteria},
    )


def _depth(
    name: str, steps: dict[str, StepSpec], depths: dict[str, int], above: tuple[str, ...]
) -> int:
    """Longest way from the raw data; checks the needs on the way."""
    if name in depths:
        return depths[name]
    if name in above:
        raise PermanentFailure(f"steps need each other in a circle: {' -> '.join((*above, name))}")
    spec = steps[name]
    for need in spec.needs:
        _check(spec, need.asset, steps)
    below = [_depth(need.asset, steps, depths, (*above, name)) for need in spec.needs]
    depths[name] = 1 + max(below, default=0)
    return depths[name]


def _scope_of_external(asset: str) -> Scope | None:
    if asset not in externals():
        return None
    return "session" if asset in {each.asset for each in of_session()} else "recording"


def _check(spec: StepSpec, need: str, steps: dict[str, StepSpec]) -> None:
    scope = steps[need].scope if need in steps else _scope_of_external(need)
    if scope is None:
        raise PermanentFailure(f"{spec.name} needs {need}, which no step makes")
    if spec.scope == "session" and scope != "session":
        raise PermanentFailure(
            f"{spec.name} is made once a session and may not need {need}, which each recording "
            "has of its own: give it scope recording, or make the need one of scope session"
        )
