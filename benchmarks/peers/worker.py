"""The process of the peers: answers requests, one line of JSON each.

    python -m peers.worker EXPORT THREADS [DEVICE]

It is started by `compare_with_peers.py` in the folder `benchmarks` and lives until its
standard input ends, so that start-up is in no timing.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import traceback
import warnings
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from peers.counted import Counted
from peers.settings import Settings
from peers.standing import Run
from peers.twin import load_twin

LIBRARIES = ("pyautoattack", "torchattacks", "foolbox")
TOLERANCE = 1e-5  # of float32 arithmetic at the rim of the ball
MEMORY_FORMATS = {"contiguous": False, "channels_last": True}
MEASURED = 7


class Worker:
    """The network, the examples, and the attacks made so far.

    Args:
        export: the file that `comparison.export` wrote.
        device: "cpu" or "cuda".
    """

    def __init__(self, export: str, device: str) -> None:
        with np.load(export) as arrays:
            pixels = arrays["images"].transpose(0, 3, 1, 2)
            self._images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
            self._labels = torch.from_numpy(arrays["labels"]).to(device)
            self._logits = torch.from_numpy(arrays["logits"]).to(device)
        twins = {
            name: load_twin(export, last).to(device)
            for name, last in MEMORY_FORMATS.items()
        }
        self._difference = max(map(self._logit_difference, twins.values()))
        self._milliseconds = self._gradient_milliseconds(twins)
        best = min(self._milliseconds, key=self._milliseconds.__getitem__)
        self._network = twins[best]
        self._counted = Counted(self._network)
        self._runs: dict[tuple[Any, ...], Run | None] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is sent back for a request."""
        if request["command"] == "hello":
            return self._hello()
        return self._attack(
            request["library"],
            request["row"],
            Settings(**request["settings"]),
            request["examples"],
            request["counted"],
        )

    def _hello(self) -> dict[str, Any]:
        found = [name for name in LIBRARIES if importlib.util.find_spec(name)]
        return {
            "largest_logit_difference": self._difference,
            "gradient_milliseconds": self._milliseconds,
            "versions": {n: importlib.metadata.version(n) for n in ["torch", *found]},
            "libraries": found,
        }

    def _attack(
        self, library: str, row: str, settings: Settings, examples: int, counted: bool
    ) -> dict[str, Any]:
        network = self._counted if counted else self._network
        run = self._run_of(library, row, settings, network)
        if run is None:
            return {"missing": f"{library} has no {row}"}
        images, labels = self._images[:examples], self._labels[:examples]
        self._counted.reset()
        torch.manual_seed(settings.seed)
        begin, cpu = time.perf_counter(), time.process_time()
        stands, broken = run(images, labels)
        stands = stands.cpu()  # what is asked of a GPU is done only then
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        _check_ball(images, broken, settings)
        return {
            "robust": "".join("01"[int(s)] for s in stands),
            "seconds": seconds,
            "cpu_seconds": cpu,
            "forward": self._counted.forward_passes,
            "backward": self._counted.backward_passes,
        }

    def _run_of(
        self, library: str, row: str, settings: Settings, network: nn.Module
    ) -> Run | None:
        key = (library, row, settings, network)
        if key not in self._runs:
            module = importlib.import_module(f"peers.with_{library}")
            self._runs[key] = module.make(row, network, settings)
        return self._runs[key]

    def _logit_difference(self, network: nn.Module) -> float:
        """From the Keras model, the largest over all examples."""
        logits = torch.cat([network(part) for part in self._images.split(128)])
        return float((logits - self._logits).abs().max())

    def _gradient_milliseconds(self, twins: dict[str, nn.Module]) -> dict[str, float]:
        """Of one batch forward and backward in each memory format, the fastest."""
        images, labels = self._images[:128], self._labels[:128]
        best = dict.fromkeys(twins, float("inf"))
        for _ in range(MEASURED):
            for name, twin in twins.items():
                begin = time.perf_counter()
                inputs = images.clone().requires_grad_()
                loss = nn.functional.cross_entropy(twin(inputs), labels)
                torch.autograd.grad(loss, inputs)[0].cpu()
                milliseconds = 1e3 * (time.perf_counter() - begin)
                best[name] = min(best[name], milliseconds)
        return best


def _check_ball(images: Tensor, broken: Tensor, settings: Settings) -> None:
    delta = (broken - images).flatten(1)
    order = {"linf": float("inf"), "l2": 2}[settings.norm]
    radius = float(torch.linalg.vector_norm(delta, order, dim=1).max())
    low, high = float(broken.min()), float(broken.max())
    # A NaN satisfies none of these.
    inside = radius <= settings.epsilon + TOLERANCE and low >= 0 and high <= 1
    if not inside:
        raise RuntimeError(
            f"The attack left its ball: radius {radius:.6f} of {settings.epsilon:.6f}, "
            f"pixels from {low:.6f} to {high:.6f}."
        )


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answers until there are no more requests."""
    for line in requests:
        try:
            answer = worker.answer(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Keeps standard output for the answers; libraries print to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(sys.argv[2]))
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    serve(Worker(sys.argv[1], device), sys.stdin, answers)


if __name__ == "__main__":
    main()
