"""Values of Django's lookups: parsed out of the query, converted as columns do, and compared.

Nothing here knows a model. What Alyx answers to a bad value is a 500 with the exception's text, so
the texts here are Django's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

Test = Callable[[Any], bool]


class FilterError(Exception):
    """A filter that Alyx cannot evaluate: a 500, whose detail is this text."""


TEXT = ("contains", "icontains", "startswith", "istartswith", "endswith", "iendswith", "iexact")


# parsing -----------------------------------------------------------------------------------------


def split_outside_brackets(text: str) -> list[str]:
    """Split at commas that are not inside brackets, as Alyx does."""
    words, word, close = [], "", ""
    for letter in text:
        if letter == "," and not close:
            words.append(word)
            word = ""
            continue
        if letter in "[(":
            close = "]" if letter == "[" else ")"
        elif letter == close:
            close = ""
        word += letter
    return [*words, word]


def _typed(word: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.replace(".", "", 1).isdigit():
        return float(word)
    if word.startswith(("(", "[")) and word.endswith((")", "]")):
        # Alyx runs `eval` here; a test server does not.
        try:
            return ast.literal_eval(word)
        except (ValueError, SyntaxError) as error:
            raise FilterError(str(error)) from error
    return None if word == "None" else word


def parse(text: str, prefix: str = "") -> dict[str, Any]:
    """Pairs of a lookup and its value; an odd number of words is Alyx's IndexError."""
    words = split_outside_brackets(text)
    if len(words) % 2:
        raise FilterError("list index out of range")
    out: dict[str, Any] = {}
    for key, word in zip(words[::2], words[1::2], strict=True):
        if prefix + key in out:
            raise FilterError(f'Duplicated fields in "{text}"')
        out[prefix + key] = _typed(word)
    return out


# values ------------------------------------------------------------------------------------------


def _bad(value: Any, what: str) -> FilterError:
    # Django's ValidationError, as str() shows it: the repr of a list of one message.
    return FilterError(repr([f"“{value}” {what}"]))


def as_datetime(value: Any, zone: ZoneInfo) -> datetime:
    """Naive time in the server's zone, of text as Django reads it."""
    if not isinstance(value, str):
        raise FilterError(f"expected string or bytes-like object, got '{type(value).__name__}'")
    form = "value has an invalid format. It must be in YYYY-MM-DD HH:MM[:ss[.uuuuuu]][TZ] format."
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise _bad(value, form) from error
    return when.astimezone(zone).replace(tzinfo=None) if when.tzinfo else when


def as_date(value: Any) -> date:
    """Date of text as Django reads it."""
    form = "value has an invalid date format. It must be in YYYY-MM-DD format."
    if not isinstance(value, str):
        raise FilterError(f"expected string or bytes-like object, got '{type(value).__name__}'")
    try:
        return date.fromisoformat(value.strip())
    except ValueError as error:
        raise _bad(value, form) from error


def _as_uuid(value: Any) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        raise _bad(value, "is not a valid UUID.") from error


def _as_bool(value: Any) -> bool:
    if value in (True, False, "t", "True", "1", "f", "False", "0"):
        return value in (True, "t", "True", "1")
    raise _bad(value, "value must be either True or False.")


def _as_number(kind: Callable[[Any], Any], name: str, value: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise FilterError(f"Field '{name}' expected a number but got {value!r}.") from error


def convert(kind: str, name: str, value: Any, zone: ZoneInfo) -> Any:
    """A value as the column holds it."""
    converters: dict[str, Callable[[], Any]] = {
        "datetime": lambda: as_datetime(value, zone),
        "date": lambda: as_date(value),
        "uuid": lambda: _as_uuid(value),
        "bool": lambda: _as_bool(value),
        "int": lambda: _as_number(int, name, value),
        "float": lambda: _as_number(float, name, value),
        # A name of digits only was made a number by the parser: Alyx looks for '123.0'.
        "char": lambda: str(value),
        "json": lambda: value,
    }
    return converters[kind]()


# tests of one value ------------------------------------------------------------------------------


def _text_test(lookup: str, value: Any) -> Test:
    text = str(value)
    if lookup.startswith("i"):
        lookup, text = lookup[1:], text.lower()
        test = _text_test(lookup, text)
        return lambda found: test(str(found).lower())
    tests: dict[str, Test] = {
        "contains": lambda found: text in str(found),
        "startswith": lambda found: str(found).startswith(text),
        "endswith": lambda found: str(found).endswith(text),
        "exact": lambda found: str(found) == text,
    }
    return tests[lookup]


def _order_test(lookup: str, value: Any) -> Test:
    def test(found: Any) -> bool:
        try:
            return {
                "gt": found > value,
                "gte": found >= value,
                "lt": found < value,
                "lte": found <= value,
            }[lookup]
        except TypeError:
            return False  # JSON of another type

    if lookup == "gte" and isinstance(value, datetime):
        return lambda found: found >= value  # the cursor: kept fast
    return test


def _same(found: Any, value: Any) -> bool:
    # JSON's true is not 1.
    return found == value and isinstance(found, bool) == isinstance(value, bool)


def _equal(value: Any) -> Test:
    return lambda found: found == value


def leaf_test(kind: str, name: str, lookup: str, value: Any, zone: ZoneInfo) -> Test:
    """Test of one value that is not null."""
    if lookup in TEXT:
        return _text_test(lookup, value)
    if lookup in ("regex", "iregex"):
        pattern = re.compile(str(value), re.IGNORECASE if lookup == "iregex" else 0)
        return lambda found: pattern.search(str(found)) is not None
    if value is None and lookup != "exact":
        raise FilterError("Cannot use None as a query value")
    if lookup in ("in", "range"):
        try:
            values = [convert(kind, name, item, zone) for item in value]
        except TypeError as error:
            raise FilterError(str(error)) from error
        if lookup == "in":
            return lambda found: any(_same(found, item) for item in values)
        return lambda found: values[0] <= found <= values[1]
    wanted = convert(kind, name, value, zone)
    if lookup == "exact":
        return (lambda found: _same(found, wanted)) if kind == "json" else _equal(wanted)
    return _order_test(lookup, wanted)
