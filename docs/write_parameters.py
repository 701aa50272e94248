"""Writes `docs/parameters.md` from the models: `python docs/write_parameters.py`."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from neuro_assets.assets.catalog import step_models
from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.parameters.sorting import SortingParameters

INTRODUCTION = """\
# Parameters

Written from the models by `python docs/write_parameters.py`.

Choose a named set and override fields in `lab.yaml`:

```yaml
steps:
  bad_channels: {set: aind, parameters: {n_neighbors: 9}}
sorters:
  - {name: tridesclous2, parameters: {sorter_parameters: {detection: {detect_threshold: 6}}}}
```

The hash of all parameters of a step is in its code version: a changed field shows every stored
output as out of date, with the field, and never starts a run by itself.
"""


def document() -> str:
    """Render all parameter models as Markdown.

    Returns
    -------
    str
        One section a step: named sets with their sources, then fields with units and defaults.
    """
    lines = [INTRODUCTION]
    for name, model in step_models().items():
        lines += _section(f"`{name}`", model)
    lines += _section("`sorting_<set>`: sorter sets", SortingParameters)
    return "\n".join(lines).rstrip() + "\n"


def meanings(model: type[StepParameters]) -> dict[str, str]:
    """Give what the docstring below each field of a model says, on one line."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _section(title: str, model: type[StepParameters]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield "| set | differs from the defaults in | source |\n|---|---|---|"
    for name, chosen in model.sets.items():
        yield f"| `{name}` | {_values(chosen)} | {chosen.source} |"
    yield "\n| field | default | meaning |\n|---|---|---|"
    words = meanings(model)
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        meaning = words[name].replace("|", "\\|")
        yield f"| `{name}` | {_code(default)} | {meaning} |"


def _values(chosen: NamedSet) -> str:
    values: Mapping[str, Any] = chosen.values
    return ", ".join(f"`{name}` {_code(value)}" for name, value in values.items()) or "nothing"


def _code(value: Any) -> str:
    text = value.model_dump_json() if hasattr(value, "model_dump_json") else repr(value)
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("parameters.md")
    target.write_text(document(), encoding="utf-8")
