"""Step 2: what an update costs by each method, and how busy `fit` keeps the GPU."""

import statistics
import time
from typing import Any

import keras
import tensorflow as tf
from subjects import METHODS, NETWORKS, compiled
from timing import random_images

from gpu.cost_of_update import in_turns, seconds_of_fit
from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step, table
from gpu.utilization import Utilization
from keras_free_adv import datasets, zoo

# The most telling first; `more_updates` adds the others.
CASES = (("preact_resnet18", "mixed_bfloat16"),)
MORE_CASES = (
    ("preact_resnet18", "mixed_float16"),
    ("preact_resnet18", "float32"),
    ("wide_resnet", "mixed_bfloat16"),
)
TIMED = ("natural", "free8", "pgd7")
MORE_TIMED = ("natural", "free8", "fgsm_rs", "pgd7")
AT_ONCE = (1, 8)  # steps_per_execution of the `fit` that is watched


def network(kind: str, sizes: Sizes) -> keras.Model:
    """A network of CIFAR's size."""
    if not sizes.width:
        return NETWORKS["tiny_cnn"]()
    if kind == "wide_resnet":
        return zoo.wide_resnet(depth=32, width=10)
    return zoo.preact_resnet18(width=sizes.width)


def minibatches(sizes: Sizes) -> tf.data.Dataset:
    """Images that are ready, without end."""
    images, labels = random_images(sizes.batch_size * 8)
    stored = tf.data.Dataset.from_tensor_slices((images, labels))
    return stored.batch(sizes.batch_size).cache().repeat().prefetch(4)


def time_case(
    kind: str, policy: str, methods: tuple[str, ...], sizes: Sizes
) -> dict[str, Any]:
    """Images a second of each method, in turns."""
    keras.config.set_dtype_policy(policy)
    try:
        models = {m: compiled(METHODS[m](network(kind, sizes))) for m in methods}
        data = dict.fromkeys(models, minibatches(sizes))
        seconds = in_turns(models, data, sizes.updates, sizes.rounds)
    finally:
        keras.config.set_dtype_policy("float32")
    least = {name: min(times) for name, times in seconds.items()}
    return {
        name: {
            "seconds": seconds[name],
            "images_a_second": sizes.batch_size / least[name],
            "/natural": least[name] / least["natural"],
            "/natural (medians)": statistics.median(seconds[name])
            / statistics.median(seconds["natural"]),
        }
        for name in methods
    }


def watch_fit(sizes: Sizes, place: Place, at_once: int) -> dict[str, Any]:
    """A Free `fit` from `datasets.load`, everything included."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        train = datasets.load(
            place.data,
            split="train",
            batch_size=sizes.batch_size,
            augment="standard",
            drop_remainder=True,
            data_dir=place.data_dir,
        )
        model = METHODS["free8"](network("preact_resnet18", sizes))
        compiled(model)
        model.compile(model.optimizer, model.loss, steps_per_execution=at_once)
        seconds_of_fit(model, train, 8)  # compiles, and reads the first images
        begin = time.perf_counter()
        with Utilization() as busy:
            seconds_of_fit(model, train, sizes.busy_updates)
        seconds = time.perf_counter() - begin
    finally:
        keras.config.set_dtype_policy("float32")
    return {
        "images_a_second": sizes.busy_updates * sizes.batch_size / seconds,
        "busy_percent": busy.percent,
    }


def _run(
    sizes: Sizes,
    record: Record,
    cases: tuple[tuple[str, str], ...],
    methods: tuple[str, ...],
) -> None:
    for kind, policy in cases:
        name = f"{kind}, {policy}"
        if name not in record:
            record.put(name, time_case(kind, policy, methods, sizes))


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """Natural, Free and 7-PGD; then a whole `fit`."""
    _run(sizes, record, CASES, TIMED)
    for at_once in AT_ONCE:
        name = f"fit, steps_per_execution={at_once}"
        if name not in record:
            record.put(name, watch_fit(sizes, place, at_once))


def run_more(sizes: Sizes, place: Place, record: Record) -> None:
    """Other precisions, another network, and FGSM-RS."""
    del place
    # A rehearsal has timed the others in the step before.
    methods = ("natural", "fgsm_rs") if sizes.dry else MORE_TIMED
    _run(sizes, record, MORE_CASES, methods)


def page(record: Record) -> list[str]:
    """A table of the methods, and one of `fit`."""
    rows = [["network", "method", "images/s", "/ natural", "/ natural (medians)"]]
    fits = [["Free m=8 from `datasets.load`", "images/s", "GPU busy"]]
    for name, found in record.found.items():
        if "busy_percent" in found:
            busy = found["busy_percent"]
            shown = "not known" if busy is None else f"{busy:.0f}%"
            fits.append([name, f"{found['images_a_second']:,.0f}", shown])
            continue
        for method, timed in found.items():
            rows.append(
                [
                    name,
                    method,
                    f"{timed['images_a_second']:,.0f}",
                    f"{timed['/natural']:.3f}",
                    f"{timed['/natural (medians)']:.3f}",
                ]
            )
    return [*table(rows), *(["", *table(fits)] if len(fits) > 1 else [])]


STEP = Step("An update", run, page)
MORE = Step("An update: other precisions and networks", run_more, page)
