"""The structure of the package: small files, no circle among them, each says what it is for."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

import grimp
from places import REPOSITORY

PACKAGE = REPOSITORY / "neuro_assets"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports, also inside functions and for types only."""
    graph = grimp.build_graph("neuro_assets", include_external_packages=False)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach themselves."""
    reached = {name: _reached(edges, name) for name in edges}
    found = [{b for b in reached[a] if a in reached.get(b, ())} for a in edges]
    return [set(circle) for circle in {frozenset(circle) for circle in found if circle}]


def _reached(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += edges.get(name, ())
    return seen


def test_a_module_is_short_and_says_what_belongs_in_it():
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in FILES}
    assert len(texts) > 100
    assert {name for name, text in texts.items() if len(text.splitlines()) > MOST_LINES} == set()
    assert {name for name, text in texts.items() if not ast.get_docstring(ast.parse(text))} == set()


def test_no_circle_of_files():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]
    assert circles(imports()) == []


def test_no_two_files_of_tests_have_one_name():
    """Pytest's import mode `prepend` takes the second for the first."""
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    own = [path.name for path in files if not (path.parent / "__init__.py").exists()]
    assert len(own) > 80
    assert {name for name, n in Counter(own).items() if n > 1} == set()
