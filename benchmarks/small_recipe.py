"""Searches for the best robust CIFAR-10 model of twenty minutes of one core.

    taskset -c 0 python benchmarks/small_recipe.py --trials=base,stride2 --seeds=0
    python benchmarks/small_recipe.py --table
    taskset -c 0 python benchmarks/small_recipe.py --cost --trials=base,stride2

A trial changes some settings of another one. All of them train on the first 45,000
training images and are compared on the last 5,000, never on test images: natural
accuracy, and PGD-10. A trial makes as many updates as its cost allows in the time of
the base's; `--cost` measures it, updates in turns. Run again after a kill, the command
goes on; a trial that is finished is not made again.
"""

import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import per_example
from absl import app, flags
from consistent import ConsistentFree
from interleaved import InterleavedFree, interleaved
from per_example import PerExampleFree, with_index
from trials import BASE_UPDATES, NETWORKS, TRIALS, settings_of

from keras_free_adv import (
    AveragedWeights,
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    datasets,
    evaluate_robustness,
    files,
)
from keras_free_adv.evaluation.intervals import binomial_interval
from keras_free_adv.optimizers import Muon
from keras_free_adv.recipes.linear_cycle import LinearCycle
from keras_free_adv.tables import markdown

FLAGS = flags.FLAGS
flags.DEFINE_list("trials", None, "Which trials; all by default.")
flags.DEFINE_list("seeds", ["0"], "Seeds of each trial.")
flags.DEFINE_float("share", 1.0, "Share of the twenty minutes.", 0.01, 1.0)
flags.DEFINE_integer("examples", 5000, "Held-out images to compare on.", 1, 5000)
flags.DEFINE_string("output", "runs/small_recipe", "Folder of the trials.")
flags.DEFINE_bool("cost", False, "Measure the cost of an update of the trials.")
flags.DEFINE_bool("table", False, "Print the results that there are.")

EPSILON = 8 / 255
EPOCHS = 10
HELD_OUT = 5000


def network(settings: dict[str, Any]) -> keras.Model:
    """The trial's network, in its policy."""
    keras.config.set_dtype_policy(settings["policy"])
    made = NETWORKS[settings["network"]](settings)
    keras.config.set_dtype_policy("float32")
    for variable in made.trainable_variables:
        if settings["decayed"] == "all" or len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(settings["weight_decay"] / 2)
    return made


def compiled(settings: dict[str, Any], made: keras.Model, updates: int) -> keras.Model:
    """The trial's method around its network."""
    if settings["method"] in ("free", "per_example"):
        per_example = settings["method"] == "per_example"
        kind = PerExampleFree if per_example else FreeAdversarialModel
        model = kind(
            with_index(made) if per_example else made,
            settings["epsilon"],
            replays=settings["replays"],
            step_size=settings["step_size"],
            epsilon_warmup_steps=round(settings["warmup"] * updates),
            perturbed_input="image" if per_example else None,
        )
        model.augment = settings["augment"]
    elif settings["method"] in ("consistent", "interleaved"):
        interleaves = settings["method"] == "interleaved"
        model = (InterleavedFree if interleaves else ConsistentFree)(
            made,
            settings["epsilon"],
            replays=1 if interleaves else settings["replays"],
            step_size=settings["step_size"],
            epsilon_warmup_steps=round(settings["warmup"] * updates),
        )
        for name in ("group", "restart", "first", "consistency"):
            setattr(model, name, settings[name])
        model.batch = settings["batch_size"]
    elif settings["method"] == "natural":
        model = made
    else:
        model = PGDAdversarialModel(
            made,
            settings["epsilon"],
            steps=settings["steps"],
            step_size=settings["step_size"],
            epsilon_warmup_steps=round(settings["warmup"] * updates),
        )
    model.compile(
        optimizer(settings, updates),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings["smoothing"]
        ),
        metrics=["accuracy"],
    )
    return model


def optimizer(settings: dict[str, Any], updates: int) -> keras.optimizers.Optimizer:
    """The trial's optimizer, with one cycle of the learning rate."""
    rate = LinearCycle(settings["learning_rate"], updates, settings["rise"])
    average = {}
    if settings["ema"]:
        average = {"use_ema": True, "ema_momentum": settings["ema"]}
    if settings["optimizer"] == "muon":
        return Muon(
            rate,
            settings["momentum"],
            sgd_lr_ratio=settings["others"],
            ns_steps=settings["ns"],
            ns_dtype="bfloat16",
            **average,
        )
    return keras.optimizers.SGD(rate, settings["momentum"], **average)


def updates_of(settings: dict[str, Any]) -> int:
    """The updates in the time of the base's."""
    updates = BASE_UPDATES * FLAGS.share / settings["cost"]
    return math.ceil(updates / EPOCHS / settings["replays"]) * (
        EPOCHS * settings["replays"]
    )


def whole(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split, 8-bit, and their labels."""
    import tensorflow_datasets as tfds

    return tfds.as_numpy(
        tfds.load("cifar10", split=split, batch_size=-1, as_supervised=True)
    )


@functools.cache
def held_out() -> tuple[np.ndarray, np.ndarray]:
    """The last training images."""
    data = datasets.load("cifar10", split="train[45000:]", batch_size=5000)
    images, labels = next(iter(data))
    # Load shuffles training splits: by the seed, so that a part is always the same.
    order = np.random.default_rng(0).permutation(5000)[: FLAGS.examples]
    return images.numpy()[order], labels.numpy()[order]


def training(
    settings: dict[str, Any], seed: int, updates: int, folder: Path
) -> tuple[keras.Model, float]:
    """The trained network, in float32, and the minutes that the processor worked."""
    keras.utils.set_random_seed(seed)
    if settings["method"] == "per_example":
        arrays = whole("train[:45000]")
        data = per_example.data(*arrays, settings["batch_size"], seed)
    else:
        data = datasets.load(
            "cifar10",
            split="train[:45000]",
            batch_size=settings["batch_size"],
            augment=settings["augment"],
            one_hot=True,
            drop_remainder=True,
            seed=seed,
        )
        if settings["method"] == "interleaved":
            data = interleaved(data, settings["group"], settings["replays"])
    made = network(settings)
    model = compiled(settings, made, updates)
    callbacks = [AveragedWeights()] if settings["ema"] else []
    begin = time.process_time()
    model.fit(
        data if settings["method"] != "natural" else data.repeat(),
        epochs=EPOCHS,
        steps_per_epoch=updates // EPOCHS,
        callbacks=[*callbacks, BackupAndRestore(folder / "backup")],
        verbose=2,
    )
    minutes = (time.process_time() - begin) / 60
    plain = network({**settings, "policy": "float32"})
    plain.set_weights(made.get_weights())
    return plain, minutes


def trained(name: str, seed: int) -> None:
    """Trains and evaluates a trial, or goes on with it."""
    folder = Path(FLAGS.output) / f"{FLAGS.share:g}" / f"{name}-seed{seed}"
    result = folder / "result.json"
    if result.exists():
        return
    settings = settings_of(name)
    updates = updates_of(settings)
    path = folder / "model.keras"
    if not path.exists():
        plain, minutes = training(settings, seed, updates, folder)
        folder.mkdir(parents=True, exist_ok=True)
        plain.save(folder / "unfinished.keras")
        files.write_text(folder / "minutes.txt", f"{minutes:.2f}")
        (folder / "unfinished.keras").rename(path)
    plain = keras.saving.load_model(path)
    images, labels = held_out()
    report = evaluate_robustness(
        plain,
        (images, labels),
        attacks=[PGDAttack(EPSILON, steps=10, step_size=EPSILON / 4, seed=0)],
        batch_size=250,
        verbose=0,
    )
    record = {
        "trial": name,
        "seed": seed,
        "updates": updates,
        "parameters": plain.count_params(),
        "examples": FLAGS.examples,
        "minutes": float((folder / "minutes.txt").read_text()),
        **report.accuracy,
        "settings": settings,
    }
    files.write_text(result, json.dumps(record, indent=1))
    print(json.dumps(record), flush=True)


def table() -> str:
    """All results, a line each; accuracy with half the width of its 95% interval."""
    found = [
        (float(path.parts[-3]), json.loads(path.read_text()))
        for path in Path(FLAGS.output).glob("*/*/result.json")
    ]
    rows = [["time", "trial", "seed", "updates", "natural", "PGD-10"]]
    for share, r in sorted(found, key=lambda pair: (pair[0], pair[1]["pgd10"])):
        cells = [f"{20 * share:g} min", f"`{r['trial']}`", str(r["seed"])]
        examples = r.get("examples", HELD_OUT)
        shares = [percent(r[name], examples) for name in ("natural", "pgd10")]
        cells += [f"{r['updates']:,}", *shares]
        rows.append(cells)
    return markdown(rows)


def percent(share: float, examples: int) -> str:
    low, high = binomial_interval(round(share * examples), examples)
    return f"{100 * share:.1f} ± {50 * (high - low):.1f}"


def cost() -> str:
    """Milliseconds of an update of each trial, the trials in turns."""
    from timing import in_turns, random_images
    from timing import table as timing_table

    names = dict.fromkeys(["base", *(FLAGS.trials or TRIALS)])
    models, data, sizes = {}, {}, {}
    for name in names:
        settings = settings_of(name)
        models[name] = compiled(settings, network(settings), 1000)
        sizes[name] = settings["batch_size"]
        images, labels = random_images(sizes[name] * 9)
        data[name] = images, keras.utils.to_categorical(labels, 10)
    seconds = in_turns(models, data, sizes, 6, 3)
    return timing_table(seconds, "base", "update")


def main(argv: list[str]) -> None:
    del argv
    if FLAGS.table:
        print(table())
    elif FLAGS.cost:
        print(cost())
    else:
        for seed in map(int, FLAGS.seeds):
            for name in FLAGS.trials or TRIALS:
                trained(name, seed)


if __name__ == "__main__":
    app.run(main)
