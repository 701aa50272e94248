"""What differs between two configurations, field by field, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

ABSENT = "-"


def changed_fields(old: BaseModel, new: BaseModel) -> list[dict[str, str]]:
    """List the fields in which two configurations differ, with defaults filled in.

    Parameters
    ----------
    old : BaseModel
        The configuration before.
    new : BaseModel
        The configuration now.

    Returns
    -------
    list of dict
        `field` (`alyx.url`, `sorters[kilosort4].set`), `old` and `new` as JSON, in order of the
        fields; `-` for what is not there.
    """
    before = dict(_leaves("", old.model_dump(mode="json")))
    after = dict(_leaves("", new.model_dump(mode="json")))
    return [
        {"field": field, "old": before.get(field, ABSENT), "new": after.get(field, ABSENT)}
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field)
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value):
            # By name, so that one more sorter at the top does not change all others.
            yield from _leaves(f"{path}[{item.get('name', number)}]", item)
    else:
        yield path, json.dumps(value)
