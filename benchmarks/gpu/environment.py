"""Step 1: the card, the driver, CUDA, and the versions."""

import os
import platform
import subprocess

import keras
import tensorflow as tf

from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step, table
from keras_free_adv import backends
from keras_free_adv.command_line.run_folder import devices
from keras_free_adv.version import __version__

_ASKED = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")


def cards() -> list[dict[str, str]]:
    """What the driver says of each card; none where there is no driver."""
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.split(", ") for line in said.strip().splitlines()]
    return [dict(zip(_ASKED, line, strict=True)) for line in lines]


def cuda() -> dict[str, str]:
    """The versions that TensorFlow was built for, or JAX runs on."""
    build = tf.sysconfig.get_build_info()
    names = ("cuda_version", "cudnn_version")
    return {f"tensorflow {n}": str(build[n]) for n in names if n in build}


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """Writes it down."""
    del sizes, place
    record.put("cards", cards())
    record.put("devices", devices())
    record.put(
        "versions",
        {
            "keras_free_adv": __version__,
            "keras": keras.__version__,
            **backends.versions(),
            **cuda(),
            "python": platform.python_version(),
        },
    )
    record.put("backend", keras.backend.backend())
    record.put("cores", os.cpu_count())
    record.put("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    # Keras decides for "auto"; its answer for a plain model is what `fit` uses.
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    record.put("jit_compile", bool(model.jit_compile))


def page(record: Record) -> list[str]:
    """A table."""
    found = record.found
    names = [card["name"] for card in found.get("cards", [])] or ["none"]
    rows = [["", ""], ["cards", ", ".join(names)]]
    for card in found.get("cards", [])[:1]:
        rows += [[key, value] for key, value in card.items() if key != "name"]
    for key in ("backend", "devices", "cores", "jit_compile", "XLA_FLAGS"):
        value = found.get(key, "")
        value = ", ".join(value) if isinstance(value, list) else str(value)
        rows.append([key, value or "unset"])
    rows += [[key, value] for key, value in found.get("versions", {}).items()]
    return table(rows)


STEP = Step("The machine", run, page)
