"""What every section of `lab.yaml` shares: strict models, and one clear line a mistake."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from neuro_assets.outcomes import PermanentFailure

LISTED = 30
"""Most choices that a message names; the assets of a lab and the fields of a section are fewer."""


class ConfigError(PermanentFailure):
    """`lab.yaml` cannot be used; the message has one line for each mistake."""


class Strict(BaseModel):
    """Immutable, and strict about unknown keys; a key without a value has its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        # A section of which every line is a comment is None in YAML.
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


def nearest(word: str, words: Any) -> str:
    """`; did you mean 'x'?` when one of the words is close, else the list of them, if short."""
    choices = sorted(words)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not choices:
        return "; there is none yet"
    more = f" and {len(choices) - LISTED} more" if len(choices) > LISTED else ""
    return f"; choose one of {', '.join(choices[:LISTED])}{more}"


def explain(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """List the mistakes: `lab.yaml: sorters.0.nme: unknown key; did you mean 'name'?`.

    Parameters
    ----------
    error : ValidationError
        Of `model`.
    model : type
        What was validated.
    where : str
        Begins each line.

    Returns
    -------
    list of str
        One line a mistake.
    """
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        place = f"{where}: {path}" if path else where
        if item["type"] == "extra_forbidden":
            fields = _fields_at(model, item["loc"][:-1])
            lines.append(f"{place}: unknown key{nearest(str(item['loc'][-1]), fields)}")
        else:
            lines.append(f"{place}: {item['msg'].removeprefix('Value error, ')}")
    return lines


def _fields_at(model: type[BaseModel] | None, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that sits at a location of the error."""
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        inner = _inner_models(field.annotation) if field else []
        model = inner[0] if inner else model
    return list(model.model_fields) if model else []


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _inner_models(part)]
