"""The test server's REST interface: addresses, lists with pages and filters, details, errors.

No sockets here: `Api.answer` takes a parsed request and gives status and JSON. What a write does is
in `fake_alyx.writes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import fake_alyx.filters as filters
from fake_alyx.endpoints import ENDPOINTS, Endpoint
from fake_alyx.fields import DatabaseError, Invalid
from fake_alyx.lookups import NotModelled
from fake_alyx.register import Refused, Register
from fake_alyx.rows import Rows
from fake_alyx.values import FilterError, as_datetime, parse
from fake_alyx.writes import Writes

PAGE, MOST = 250, 1000
"""Rows of a page that asks for none, and the most that any page gives."""
HELD = {"Dataset": "datasets", "ProbeInsertion": "insertions", "Task": "tasks"}
"""Models whose rows a session holds: an index."""
OF_SESSION = {
    f"session{key}{lookup}" for key in ("", "_id", "__id", "__pk") for lookup in ("", "__in")
}


@dataclass
class Answer:
    """Status and body; `allow` are the methods of the address."""

    status: int
    body: Any = None
    allow: tuple[str, ...] = ()
    html: bool = False


class NotFound(Exception):
    """404 in HTML: there is no such address."""


class Api:
    """The REST interface over the tables.

    Parameters
    ----------
    server : AlyxServer
        Gives `tables`, `zone`, `lock`, `url` and the hooks.
    """

    def __init__(self, server: Any) -> None:
        self.server, self.tables = server, server.tables
        self.rows = Rows(self.tables, server.url)
        self.registrar = Register(self.tables, self.rows)
        self.writes = Writes(server)
        self._found: dict[tuple[int, str, str], list[Any]] = {}

    # one request

    def answer(self, method: str, target: str, body: Callable[[], Any]) -> Answer:
        """Answer a request whose token is good."""
        split = urlsplit(target)
        name, _, key = split.path.strip("/").partition("/")
        endpoint = ENDPOINTS.get(name)
        if endpoint is None or split.path != f"/{name}" + (f"/{key}" if key else ""):
            raise NotFound(split.path)
        if key and (not endpoint.row_methods or "/" in key):
            raise NotFound(split.path)
        if key and endpoint.key == "id" and not _is_uuid(key):
            raise NotFound(split.path)
        allow = endpoint.row_methods if key else endpoint.methods
        try:
            if method not in allow:
                text = f'Method "{method}" not allowed.'
                return Answer(405, {"detail": text, "status_code": 405}, allow)
            query = {word: values[-1] for word, values in parse_qs(split.query, True).items()}
            return self._act(endpoint, name, method, key, query, target, body, allow)
        except Refused as refused:
            return Answer(refused.status, refused.body, allow)
        except Invalid as invalid:
            return Answer(400, {**invalid.errors, "status_code": 400}, allow)
        except (FilterError, TypeError, DatabaseError) as error:
            return Answer(500, {"status_code": 500, "detail": str(error)}, allow)

    def _act(
        self,
        endpoint: Endpoint,
        name: str,
        method: str,
        key: str,
        query: dict[str, str],
        target: str,
        body: Callable[[], Any],
        allow: tuple[str, ...],
    ) -> Answer:
        if name == "register-file":
            return Answer(201, self.registrar.register(body()), allow)
        if name == "check-protected":
            return Answer(200, self.registrar.check_protected(body() or query), allow)
        if not key and method == "GET":
            return Answer(200, self._page(endpoint, query, target), allow)
        if not key:
            return Answer(201, self.create(name, body()), allow)
        row = self.find(name, key)
        if row is None:
            text = f"No {endpoint.model} matches the given query."
            return Answer(404, {"detail": text, "status_code": 404}, allow)
        if method == "GET":
            return Answer(200, getattr(self.rows, endpoint.detail)(row), allow)
        if method == "DELETE":
            self.writes.delete(name, row)
            return Answer(204, None, allow)
        return Answer(200, self.update(name, row, body(), partial=method == "PATCH"), allow)

    def find(self, name: str, key: str) -> Any:
        """Row of an endpoint by its key; None when there is none."""
        endpoint = ENDPOINTS[name]
        if name == "files":
            return self.tables.record(key)
        table = getattr(self.tables, endpoint.table)
        return (table.rows if endpoint.key == "id" else table.by_key).get(key)

    def create(self, name: str, body: Any) -> dict[str, Any]:
        """Create a row; the answer is its detail, or the list's row where Alyx has it so."""
        row = self.writes.create(name, body)
        listed = name in ("subjects", "insertions")
        endpoint = ENDPOINTS[name]
        return getattr(self.rows, endpoint.listed if listed else endpoint.detail)(row)

    def update(self, name: str, row: Any, body: Any, *, partial: bool) -> dict[str, Any]:
        """Change a row; the answer is its detail."""
        self.writes.update(name, row, body, partial=partial)
        return getattr(self.rows, ENDPOINTS[name].detail)(row)

    # lists

    def _page(self, endpoint: Endpoint, query: dict[str, str], target: str) -> dict[str, Any]:
        limit = min(_positive(query.get("limit"), PAGE) or PAGE, MOST)
        offset = _positive(query.get("offset"), 0)
        unmodelled = filters.UNMODELLED.get(urlsplit(target).path[1:], "").split()
        if used := [word for word in unmodelled if query.get(word)]:
            raise NotModelled(f"the test server has no parameter {used[0]}")
        rows = self._select(endpoint, query)
        render = getattr(self.rows, endpoint.listed)
        address = self.server.url + target
        following = None
        if offset + limit < len(rows):
            following = _with(address, limit=limit, offset=offset + limit)
        previous = None
        if offset > 0:
            previous = _with(address, limit=limit, offset=max(offset - limit, 0))
        return {
            "count": len(rows),
            "next": following,
            "previous": previous,
            "results": [render(row) for row in rows[offset : offset + limit]],
        }

    def _select(self, endpoint: Endpoint, query: dict[str, str]) -> list[Any]:
        """Rows of a list, in order; kept until something is written, because pages follow."""
        wanted = {
            word: text for word, text in query.items() if text and word in endpoint.parameters
        }
        key = (self.tables.version, endpoint.model, urlencode(sorted(wanted.items())))
        if key not in self._found:
            tests = self._tests(endpoint, wanted)
            rows = [
                row
                for row in self._candidates(endpoint, wanted)
                if all(test(row) for test in tests)
            ]
            if len(self._found) > 8:
                self._found.clear()
            # Without order and index the rows come as they lie already.
            unordered = endpoint.model == "FileRecord"
            self._found[key] = rows if unordered else endpoint.order(rows)
        return self._found[key]

    def _tests(self, endpoint: Endpoint, wanted: dict[str, str]) -> list[filters.Test]:
        tests = []
        for word, text in wanted.items():
            try:
                test = endpoint.parameters[word](self.tables, self.server.zone, text)
            except filters.BadParameter as error:
                raise Invalid({word: [str(error)]}) from error
            if test is not None:
                tests.append(test)
        return tests

    def _candidates(self, endpoint: Endpoint, wanted: dict[str, str]) -> Iterable[Any]:
        """Rows that can match, by an index where the filters allow it."""
        if endpoint.model == "FileRecord":
            return [record for row in self.tables.datasets for record in self.tables.records(row)]
        table = getattr(self.tables, endpoint.table)
        if endpoint.model in HELD and "session" in wanted:
            session = self.tables.sessions.rows.get(str(UUID(wanted["session"])))
            return getattr(session, HELD[endpoint.model], {}).values()
        for key, value in parse(wanted.get("django", "")).items() if "django" in wanted else ():
            rows = self._by_lookup(endpoint.model, table, key, value)
            if rows is not None:
                return rows
        return table

    def _by_lookup(self, model: str, table: Any, key: str, value: Any) -> Iterable[Any] | None:
        if key in ("id__in", "pk__in") and isinstance(value, list | tuple):
            found = (table.rows.get(str(item)) for item in value)
            return [row for row in found if row is not None]
        if key in ("id", "pk", "id__exact") and isinstance(value, str):
            row = table.rows.get(value)
            return [] if row is None else [row]
        if key in OF_SESSION and model in HELD:
            ids = [value] if isinstance(value, str) else value
            sessions = [self.tables.sessions.rows.get(str(item)) for item in ids or ()]
            held = [getattr(row, HELD[model]).values() for row in sessions if row is not None]
            return [row for rows in held for row in rows]
        relation, _, rest = key.rpartition("auto_datetime__")
        if rest not in ("gte", "gt") or not isinstance(value, str):
            return None
        when = as_datetime(value, self.server.zone)
        if not relation and table.times is not None:
            return table.times.since(when, table.rows)
        if model == "Session" and relation in (
            "data_dataset_session_related__",
            "probe_insertion__",
        ):
            related = self.tables.datasets if relation[0] == "d" else self.tables.insertions
            rows = related.times.since(when, related.rows)
            return {row.session.id: row.session for row in rows if row.session}.values()
        return None


def _is_uuid(text: str) -> bool:
    # Django's converter: lower case with hyphens only.
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _positive(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


def _with(address: str, *, limit: int, offset: int) -> str:
    """Address of another page, as REST framework builds it: parameters sorted."""
    split = urlsplit(address)
    query = parse_qs(split.query, keep_blank_values=True)
    query.pop("offset", None)
    query["limit"] = [str(limit)]
    if offset:
        query["offset"] = [str(offset)]
    return split._replace(query=urlencode(sorted(query.items()), doseq=True)).geturl()
