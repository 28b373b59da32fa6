"""The handle of the peers' process."""

import contextlib
import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers.settings import Settings

BENCHMARKS = Path(__file__).resolve().parent.parent


class AttackFailed(RuntimeError):
    """A peer's attack raised an error; the process goes on."""


class PeerProcess:
    """Python of the peers' environment, which stays alive between requests.

    PyTorch's threads wait asleep, unless the environment says otherwise: by default
    they spin, and as soon as anything else wants a core PyTorch is several times slower
    (8 times, where 2 is its share), which no comparison should measure.

    Args:
        python: path of that environment's Python.
        export: the file that `comparison.export` wrote.
        threads: threads it may use.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, python: str, export: Path, threads: int, device: str = "cpu"
    ) -> None:
        # The process runs in another folder; a link to Python must stay a link.
        python = os.path.abspath(python) if os.sep in python else python
        openmp = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        openmp["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [python, "-m", "peers.worker", str(export.resolve()), str(threads), device],
            cwd=BENCHMARKS,
            env=openmp,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *exception: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may have ended by itself
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # in the middle of an attack
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def hello(self) -> dict[str, Any]:
        """Versions, libraries, and how well its network agrees with the model."""
        return self._ask({"command": "hello"})

    def run(
        self, library: str, row: str, settings: Settings, examples: int, counted: bool
    ) -> dict[str, Any]:
        """What a library's attack found, or {"missing": ...} if it has none."""
        return self._ask(
            {
                "command": "attack",
                "library": library,
                "row": row,
                "settings": asdict(settings),
                "examples": examples,
                "counted": counted,
            }
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(
                "The peers' process has ended; what it said is above. Is PyTorch "
                "installed in its environment?"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise AttackFailed(answer["error"])
        return answer
