"""What every section of `lab.yaml` shares: strict models, and the nearest right word."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


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
    """`; did you mean 'x'?` when one of the words is close, else the list of them."""
    choices = sorted(words)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose one of {', '.join(choices)}"
