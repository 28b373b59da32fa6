"""Step 4: the same network and method in a plain PyTorch loop, in turns."""

import json
import os
import subprocess
from pathlib import Path

import keras
from subjects import METHODS, compiled

from gpu.cost_of_update import in_turns
from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Missing, Place, Step, table
from gpu.updates import minibatches, network

BENCHMARKS = Path(__file__).parent.parent


def check_imports(python: str, module: str) -> None:
    """Raises if a Python cannot import a module.

    Raises:
        Missing: it cannot.
    """
    try:
        subprocess.run(
            [python, "-c", f"import {module}"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(
            f"{python} cannot import {module}. Install it there, or give another "
            "--peers_python."
        ) from error


def peer(sizes: Sizes, place: Place) -> subprocess.Popen:
    """The waiting process."""
    device = "cpu" if sizes.dry else "cuda"
    width = sizes.width or 2  # of a rehearsal
    settings = (width, sizes.batch_size, "bfloat16", os.cpu_count(), device)
    return subprocess.Popen(
        [place.peers_python, "-m", "peers.free_training", *map(str, settings)],
        cwd=BENCHMARKS,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def seconds_of(process: subprocess.Popen, updates: int) -> float:
    """Of an update, the mean of so many."""
    process.stdin.write(f"{updates}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(
            "The PyTorch process has ended; what it said is above. Give the path of a "
            "Python that has PyTorch: --peers_python."
        )
    seconds = json.loads(line)
    return sum(seconds) / len(seconds)


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """Ours and theirs, in turns."""
    check_imports(place.peers_python, "torch")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(METHODS["free8"](network("preact_resnet18", sizes)))
        data = {"free8": minibatches(sizes)}
        ours, theirs = [], []
        with peer(sizes, place) as process:
            seconds_of(process, sizes.updates[0])  # compiles
            for _ in range(sizes.rounds):
                ours += in_turns({"free8": model}, data, sizes.updates, 1)["free8"]
                theirs.append(seconds_of(process, sizes.updates[1]))
                record.put("seconds", {"ours": ours, "PyTorch": theirs})
            process.stdin.close()
    finally:
        keras.config.set_dtype_policy("float32")
    record.put("batch_size", sizes.batch_size)


def page(record: Record) -> list[str]:
    """Images a second of both."""
    found = record.found
    if "batch_size" not in found:
        return ["Not run to its end."]
    ours, theirs = (min(found["seconds"][side]) for side in ("ours", "PyTorch"))
    rows = [["", "images/s (best)"]]
    rows.append(["keras_free_adv", f"{found['batch_size'] / ours:,.0f}"])
    rows.append(["PyTorch", f"{found['batch_size'] / theirs:,.0f}"])
    rows.append(["ratio", f"{theirs / ours:.3f}"])
    return table(rows)


STEP = Step("Beside a PyTorch loop", run, page)
