"""Step 7: two GPUs train as one does, and how much faster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step, table

BENCHMARKS = Path(__file__).parent.parent
NEEDED = 2


def devices(sizes: Sizes) -> int:
    """How many there are."""
    if sizes.dry:
        return NEEDED  # parts of the processor
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return len(tf.config.list_physical_devices("GPU"))
    return len(keras.distribution.list_devices("gpu"))


def on(count: int, sizes: Sizes, folder: Path) -> dict[str, float]:
    """Seconds of an update by each method, on so many devices."""
    environment = dict(os.environ)
    if sizes.dry:
        flag = f"--xla_force_host_platform_device_count={NEEDED}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flag}"
    said = subprocess.run(
        [
            *(sys.executable, "-m", "gpu.on_devices", str(count)),
            *(str(folder.resolve()), str(sizes.dry)),
        ],
        cwd=BENCHMARKS,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return json.loads(said.splitlines()[-1])


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """On one and on two."""
    found = devices(sizes)
    record.put("devices", found)
    if found < NEEDED or keras.backend.backend() == "torch":
        return
    for count in (1, NEEDED):
        if str(count) not in record:
            record.put(str(count), on(count, sizes, place.folder))
    weights = [
        list(np.load(place.folder / f"devices-{count}.npz").values())
        for count in (1, NEEDED)
    ]
    pairs = zip(*weights, strict=True)
    apart = max(float(np.abs(one - two).max()) for one, two in pairs)
    record.put("weights_apart", apart)


def page(record: Record) -> list[str]:
    """How they scale."""
    found = record.found
    if "weights_apart" not in found:
        return [f"Not run: there are {found.get('devices', 'no')} devices for it."]
    rows = [["method", "one, ms", "two, ms", "one / two"]]
    for method, one in found["1"].items():
        two = found[str(NEEDED)][method]
        rows.append(
            [method, f"{1e3 * one:.2f}", f"{1e3 * two:.2f}", f"{one / two:.2f}"]
        )
    apart = found["weights_apart"]
    return [*table(rows), "", f"The weights after 8 updates differ by {apart:.1g}."]


STEP = Step("Two GPUs", run, page)
