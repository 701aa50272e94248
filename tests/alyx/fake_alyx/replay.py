"""Recorded exchanges with an Alyx, replayed against the test server and compared value by value.

Only what cannot be equal is normalised: ids (one recorded id is always one of ours, and back),
times that the server makes (one recorded time is always one of ours, in the same order, and a field
of a row changes when it changed in the record), order where Alyx has none, and lists that the
record cuts short.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRIMMED = re.compile(r"\.\.\. \((\d+) items\)")
STAMPS = ("auto_datetime", "created_datetime", "datetime", "date_time")
"""Fields whose time the server makes."""
UNORDERED = ("file_records", "datasets", "data_dataset_session_related")
"""Lists without an order in Alyx."""
HOST = "http://127.0.0.1:8000"


def load(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Samples by name, in the order in which they were recorded: by number, then by name."""

    def place(path: Path) -> tuple[float, str]:
        return float(path.stem.partition("-")[0].rstrip("bcd")), path.stem

    files = sorted(folder.glob("*.json"), key=place)
    return [(file.stem, json.loads(file.read_text())) for file in files]


class Differs(AssertionError):
    """An answer is not the recorded one."""


class Comparison:
    """What has been learned of the record so far: which id and which time is which."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ids: dict[str, str] = {}
        self.back: dict[str, str] = {}
        self.times: dict[str, str] = {}
        self.fields: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.unordered_results = False

    def learn(self, recorded: str, ours: str) -> None:
        """Note an id that no answer before showed."""
        self.ids[recorded], self.back[ours] = ours, recorded

    # requests

    def translate(self, value: Any) -> Any:
        """A recorded request with our ids and our address."""
        text = json.dumps(value).replace(HOST, self.url)
        return json.loads(UUID.sub(lambda found: self.ids.get(found[0], found[0]), text))

    # answers

    def compare(self, recorded: Any, ours: Any, place: str = "body", row: str = "") -> None:
        """Check one value.

        Raises
        ------
        Differs
            Naming the place.
        """
        if isinstance(recorded, dict) and isinstance(ours, dict):
            self._compare_dict(recorded, ours, place)
        elif isinstance(recorded, list) and isinstance(ours, list):
            self._compare_list(recorded, ours, place, row)
        elif isinstance(recorded, str) and isinstance(ours, str):
            self._compare_text(recorded, ours, place)
        elif recorded != ours or type(recorded) is not type(ours):
            raise Differs(f"{place}: recorded {recorded!r}, ours {ours!r}")

    def _compare_dict(self, recorded: dict[str, Any], ours: dict[str, Any], place: str) -> None:
        if recorded.keys() != ours.keys():
            odd = recorded.keys() ^ ours.keys()
            raise Differs(f"{place}: fields {sorted(odd)} are in one only")
        row = str(recorded.get("id") or recorded.get("url") or "")
        for name, value in recorded.items():
            where = f"{place}.{name}"
            if name in STAMPS and isinstance(value, str):
                self._compare_time(value, ours[name], where, (row, name))
            else:
                self.compare(value, ours[name], where, row)

    def _compare_list(self, recorded: list[Any], ours: list[Any], place: str, row: str) -> None:
        shown, count = recorded, len(recorded)
        if cut := TRIMMED.fullmatch(str(recorded[-1])) if recorded else None:
            shown, count = recorded[:-1], int(cut[1])
        if len(ours) != count:
            raise Differs(f"{place}: recorded {count} items, ours {len(ours)}")
        name = place.rpartition(".")[2]
        free = name in UNORDERED or (self.unordered_results and name in ("results", "body"))
        if free:
            self._compare_set(shown, ours, place)
            return
        for number, (one, other) in enumerate(zip(shown, ours, strict=False)):
            self.compare(one, other, f"{place}[{number}]", row)

    def _compare_set(self, recorded: list[Any], ours: list[Any], place: str) -> None:
        left = list(ours)
        for number, one in enumerate(recorded):
            reasons = []
            for other in left:
                before = self.learned()
                try:
                    self.compare(one, other, f"{place}[{number}]")
                except Differs as difference:
                    self.restore(before)
                    reasons.append(str(difference))
                    continue
                left.remove(other)
                break
            else:
                raise Differs(f"{place}[{number}] is none of ours: " + "; ".join(reasons))

    def learned(self) -> tuple[Any, ...]:
        """Copy of what has been learned."""
        fields = {key: list(pairs) for key, pairs in self.fields.items()}
        return self.ids.copy(), self.back.copy(), self.times.copy(), fields

    def restore(self, learned: tuple[Any, ...]) -> None:
        """Forget what was learned since."""
        self.ids, self.back, self.times, self.fields = learned

    def _compare_text(self, recorded: str, ours: str, place: str) -> None:
        ours = ours.replace(self.url, HOST)
        if UUID.split(recorded) != UUID.split(ours):
            raise Differs(f"{place}: recorded {recorded!r}, ours {ours!r}")
        for one, other in zip(UUID.findall(recorded), UUID.findall(ours), strict=True):
            known = self.ids.setdefault(one, other), self.back.setdefault(other, one)
            if known != (other, one):
                raise Differs(f"{place}: id {other} is not the row that was recorded as {one}")

    def _compare_time(self, recorded: str, ours: Any, place: str, field: tuple[str, str]) -> None:
        datetime.fromisoformat(ours)
        if self.times.setdefault(recorded, ours) != ours:
            raise Differs(f"{place}: {recorded} was {self.times[recorded]} before, now {ours}")
        for one, other in self.times.items():
            if (one < recorded) != (other < ours) and one != recorded and other != ours:
                raise Differs(f"{place}: the order of {ours} and {other} is not as recorded")
        seen = self.fields.setdefault(field, [])
        for one, other in seen:
            if (one == recorded) != (other == ours):
                word = "moved" if one != recorded else "did not move"
                raise Differs(f"{place}: it {word} in the record since {one}")
        seen.append((recorded, ours))


def mutations(body: Any) -> list[tuple[str, Any]]:
    """Copies of a recorded answer with one thing changed that a comparison must notice.

    Ids and the server's times are left: one alone may be any.
    """
    if isinstance(body, dict):
        out: list[tuple[str, Any]] = []
        for name, value in body.items():
            if name in STAMPS:
                continue
            out.append((f".{name} dropped", {key: body[key] for key in body if key != name}))
            out += [(f".{name}{what}", {**body, name: new}) for what, new in mutations(value)]
        return out
    if isinstance(body, list):
        out = [(" longer", [*body, body[-1] if body else "x"])]
        for number, item in enumerate(body):
            for what, new in mutations(item):
                out.append((f"[{number}]{what}", [*body[:number], new, *body[number + 1 :]]))
        return out
    changed = {str: lambda: body + "x", bool: lambda: not body, type(None): lambda: 0}
    return [(" changed", changed.get(type(body), lambda: body + 1)())]


def clock_of(exchange: dict[str, Any], now: datetime) -> datetime:
    """Time of an exchange, of the latest time that its answer shows; else one millisecond on."""
    later = now + timedelta(milliseconds=1)
    shown = _stamps(exchange["response"]["body"])
    request = exchange["request"]
    if request["method"] == "GET" or not shown:
        return later
    latest = max(shown).replace(tzinfo=UTC)
    return max(latest, later)


def _stamps(body: Any) -> list[datetime]:
    if isinstance(body, list):
        return [when for item in body for when in _stamps(item)]
    if not isinstance(body, dict):
        return []
    found = [when for value in body.values() for when in _stamps(value)]
    mine = (body.get(name) for name in STAMPS)
    return found + [datetime.fromisoformat(value) for value in mine if isinstance(value, str)]


def target(url: str) -> str:
    """Path and query of a recorded address."""
    split = urlsplit(url)
    return split.path + (f"?{split.query}" if split.query else "")
