"""Run every benchmark, or those that are named: `python -m benchmarks [NAME ...]`.

Each runs in a process of its own, so that one neither warms nor breaks the next.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def discover() -> list[str]:
    """Names of the modules here that define `main`, without importing them."""
    names = []
    for path in sorted(FOLDER.glob("[!_]*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body):
            names.append(path.stem)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after the other.

    Returns
    -------
    int
        0 when every benchmark ended well.
    """
    known = discover()
    names = list(sys.argv[1:] if arguments is None else arguments) or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"\n== {name} ==", flush=True)
        command = [sys.executable, "-m", f"{FOLDER.name}.{name}"]
        if subprocess.run(command, cwd=FOLDER.parent, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
