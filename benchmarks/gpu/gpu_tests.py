"""Step 5: `pytest -m gpu`."""

import re
import subprocess
import sys
from pathlib import Path

from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step

ROOT = Path(__file__).parents[2]


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """In a process of its own, whose output is kept."""
    del sizes
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "tests/test_gpu.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    (place.folder / "tests.txt").write_text(ended.stdout + ended.stderr)
    lines = ended.stdout.strip().splitlines() or ["nothing was printed"]
    record.put("status", ended.returncode)
    record.put("said", re.sub(r"\s*=+\s*", "", lines[-1]))
    record.put("failed", [line for line in lines if line.startswith("FAILED")])


def page(record: Record) -> list[str]:
    """Its last line, and what failed."""
    said = record.found.get("said", "Not run yet.")
    return [said, *(f"- {line}" for line in record.found.get("failed", []))]


STEP = Step("The tests that need a GPU", run, page)
