"""How long a person waits for nothing: importing the package, loading the definitions.

Each in fresh processes; the best of several, since the limits are about our code and not about
what else the machine is doing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIMITS_S = {"import neuro_assets": 1.0, "from neuro_assets.definitions import defs; defs()": 4.0}
REPEATS = 7


def main() -> dict[str, Any]:
    """Measure and return wall seconds of each statement, with its limit."""
    figures = {}
    for statement, limit in LIMITS_S.items():
        seconds = sorted(_timed(statement) for _ in range(REPEATS))
        figures[statement] = {
            "best_s": seconds[0],
            "median_s": seconds[len(seconds) // 2],
            "limit_s": limit,
            "met": seconds[0] < limit,
        }
    return figures


def _timed(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return round(time.perf_counter() - began, 3)


if __name__ == "__main__":
    measured = main()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "startup.json").write_text(json.dumps(measured, indent=1))
    for name, values in measured.items():
        print(f"{name:<55} {values}")
