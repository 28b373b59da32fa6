r"""All that a GPU is to show, in one program that can be stopped at any time.

    pip install -e ".[cuda,dev]"
    python benchmarks/on_gpu.py --output=runs/gpu
    python benchmarks/on_gpu.py --output=runs/gpu \
        --steps=pytorch,tests,autoattack,more_updates,two_gpus

The first three steps are what matters most. The others need more: PyTorch for
`pytorch`, and pyautoattack beside it for `autoattack`, in this environment or that of
--peers_python; two GPUs for `two_gpus`. KERAS_BACKEND=jax runs it on JAX.

OUTPUT holds a file for each step, written as it goes, and on_gpu.md, the page of all of
them. The same command goes on where it was stopped. --dry_run rehearses everything on a
CPU, at a tiny size: its figures mean nothing.

CIFAR-10 comes from TFDS; or from one file, for a machine without a network:

    python benchmarks/on_gpu.py --write_data=cifar10.npz
    python benchmarks/on_gpu.py --output=runs/gpu --data=cifar10.npz

The trained weights are in OUTPUT in half precision, in files of less than 16 MB:

    python benchmarks/on_gpu.py --join=runs/gpu --model=free8.keras
"""

import dataclasses
import os
import sys
import time
import traceback
from pathlib import Path

# Before a framework is imported: PyTorch is to find memory too.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import keras
import numpy as np
from absl import app, flags
from gpu import (
    beside_pyautoattack,
    beside_pytorch,
    environment,
    gpu_tests,
    training,
    two_gpus,
    updates,
)
from gpu.record import Record
from gpu.sizes import DRY, FULL, Sizes
from gpu.step import Missing, Place, Step
from gpu.weights import read_pieces

from keras_free_adv import datasets, files, recipes
from keras_free_adv.recipes import building

# In the order of what they tell.
STEPS: dict[str, Step] = {
    "environment": environment.STEP,
    "updates": updates.STEP,
    "train": training.STEP,
    "pytorch": beside_pytorch.STEP,
    "tests": gpu_tests.STEP,
    "autoattack": beside_pyautoattack.STEP,
    "more_updates": updates.MORE,
    "two_gpus": two_gpus.STEP,
}
FIRST = ("environment", "updates", "train")
PAGE = "on_gpu.md"

FLAGS = flags.FLAGS
flags.DEFINE_list("steps", None, f"Of {', '.join(STEPS)}; {', '.join(FIRST)} if unset.")
flags.DEFINE_string("output", "runs/gpu", "Folder.")
flags.DEFINE_bool("dry_run", False, "Rehearse everything, tiny, on any machine.")
flags.DEFINE_string("data", "cifar10", "cifar10 of TFDS, or an .npz file.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("peers_python", sys.executable, "Python that has PyTorch.")
flags.DEFINE_string("write_data", None, "Write CIFAR-10 to this .npz, and stop.")
flags.DEFINE_string("join", None, "Make a model of the weights in this folder.")
flags.DEFINE_string("model", "model.keras", "Where --join writes it.")


def write_data(path: str) -> None:
    """CIFAR-10 as one file."""
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        data = datasets.load(
            "cifar10",
            split=split,
            batch_size=1000,
            shuffle=False,
            data_dir=FLAGS.data_dir,
        )
        images, labels = zip(*data.as_numpy_iterator(), strict=True)
        pixels = np.rint(255 * np.concatenate(images)).astype("uint8")
        arrays |= {f"x_{split}": pixels, f"y_{split}": np.concatenate(labels)}
    arrays["class_names"] = np.array(data.class_names)
    with files.atomic_write(path) as beside:
        np.savez_compressed(beside, **arrays)
    print(f"{path}: {Path(path).stat().st_size / 1e6:.0f} MB")


def rehearsal_data(path: Path) -> str:
    """A few images of noise in CIFAR's shape."""
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 64), ("test", 16)):
        arrays[f"x_{split}"] = draw.integers(0, 256, (count, 32, 32, 3), dtype="uint8")
        arrays[f"y_{split}"] = np.arange(count) % 10
    with files.atomic_write(path) as beside:
        np.savez(beside, **arrays)
    return str(path)


def join(folder: Path, path: Path) -> None:
    """The trained network, from its pieces."""
    model = building.network(
        recipes.get(training.RECIPE),
        classes=10,
        input_shape=(32, 32, 3),
        policy="float32",
    )
    read_pieces(model, folder)
    with files.atomic_write(path) as beside:
        model.save(beside)
    print(f"Saved: {path}")


def settings_of(sizes: Sizes, place: Place) -> dict[str, object]:
    """What the findings of every step depend on."""
    plain = {**dataclasses.asdict(sizes), "data": Path(place.data).name}
    backend = keras.backend.backend()
    return {
        "backend": backend,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()},
    }


def page(records: dict[str, Record], sizes: Sizes) -> str:
    """All that was found so far."""
    lines = ["# On a GPU", ""]
    if sizes.dry:
        lines += ["A rehearsal at a tiny size: its figures mean nothing.", ""]
    for name, record in records.items():
        lines += [f"## {STEPS[name].title}", "", *STEPS[name].page(record), ""]
        if record.stopped_by:
            lines += [f"Not to its end. {record.stopped_by}", ""]
    return "\n".join(lines)


def run_steps(chosen: list[str], sizes: Sizes, place: Place) -> list[str]:
    """Runs the steps; an error ends a step, and the next one is tried.

    Returns:
        The steps that failed.
    """
    settings = settings_of(sizes, place)
    paths = {name: place.folder / f"{name}.json" for name in STEPS}
    records = {
        name: Record(path, settings)
        for name, path in paths.items()
        if name in chosen or path.exists()
    }
    failed = []
    for name in chosen:
        record = records[name]
        if record.ended:
            print(f"== {name}: done before", flush=True)
            continue
        print(f"== {name}", flush=True)
        begin = time.perf_counter()
        try:
            STEPS[name].run(sizes, place, record)
            record.end()
        except Missing as reason:
            print(f"Left out: {reason}", flush=True)
            record.end(f"{reason}")
        except (Exception, SystemExit) as error:  # the rest is to run
            traceback.print_exc()
            record.end(f"{type(error).__name__}: {str(error).strip()[:500]}")
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - begin:.0f} s", flush=True)
        files.write_text(place.folder / PAGE, page(records, sizes))
    return failed


def main(argv: list[str]) -> None:
    """Runs the steps that were asked for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    if FLAGS.write_data:
        write_data(FLAGS.write_data)
        return
    if FLAGS.join:
        join(Path(FLAGS.join), Path(FLAGS.model))
        return
    sizes = DRY if FLAGS.dry_run else FULL
    chosen = FLAGS.steps or list(STEPS if sizes.dry else FIRST)
    unknown = [name for name in chosen if name not in STEPS]
    if unknown:
        raise app.UsageError(
            f"--steps must be of {', '.join(STEPS)}. Received: {', '.join(unknown)}."
        )
    folder = Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    data = FLAGS.data
    if sizes.dry and data == "cifar10":
        data = rehearsal_data(folder / "rehearsal.npz")
    if data.endswith(".npz"):
        data = str(Path(data).resolve())  # for programs that run elsewhere
    place = Place(data, FLAGS.data_dir, folder, FLAGS.peers_python)
    try:
        failed = run_steps(chosen, sizes, place)
    except ValueError as error:  # other settings
        raise app.UsageError(str(error)) from error
    print((folder / PAGE).read_text())
    print(f"Results: {folder}")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    app.run(main)
