"""Trains a row of the tables, or a recipe of your own, and measures its robustness.

    python examples/train.py --recipe=digits_free8
    python examples/train.py --recipe=cifar10_wrn32_10_free8
    python examples/train.py --recipe=cifar10_small_free8 \
        --set replays=4 --set epsilon=4/255 --output=runs/mine

`--list` prints the recipes, `--show` the settings of one; each can be changed with
`--set`. The output folder holds settings.json (the exact settings and versions),
history.json, model.keras (plain Keras, float32) and the report, as JSON and Markdown. A
run that was interrupted, even killed, goes on when the same command is given again.
`examples/evaluate.py` attacks the model further.

Keras' backend is that of KERAS_BACKEND; what follows is for TensorFlow. With several
GPUs add `--strategy=mirrored`. On several machines start the same command
with `--strategy=multi_worker` on each, with TF_CONFIG set (docs/many_devices.md) and an
output folder that all of them see.
"""

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import keras
import runs
import tensorflow as tf
from absl import app, flags, logging

from keras_free_adv import (
    AveragedWeights,
    BackupAndRestore,
    PGDAttack,
    RobustnessEvaluation,
    evaluate_robustness,
    files,
    recipes,
)
from keras_free_adv.data.addressable_dataset import minibatches_from
from keras_free_adv.distribution import workers
from keras_free_adv.recipes import Recipe, building

FLAGS = flags.FLAGS

flags.DEFINE_string("recipe", None, "Name of the recipe; --list prints all.")
flags.DEFINE_multi_string("set", [], "KEY=VALUE: changes a setting; may be repeated.")
flags.DEFINE_bool("list", False, "Print the names of the recipes, and stop.")
flags.DEFINE_bool("show", False, "Print the recipe's settings, and stop.")

flags.DEFINE_integer("seed", 0, "Seed of the weights, the order and the attacks.")
flags.DEFINE_bool(
    "deterministic",
    False,
    "TensorFlow's deterministic ops: repeatable bit for bit on a GPU too; slower.",
)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string(
    "output",
    None,
    "Folder of the run; if unset runs/RECIPE, with -changed and -seedN where so.",
)
flags.DEFINE_enum(
    "strategy",
    "single",
    ["single", "mirrored", "multi_worker"],
    "One device, all GPUs of this machine, or all machines of TF_CONFIG.",
)
flags.DEFINE_enum("verbose", "auto", ["auto", "0", "1", "2"], "As in Keras' fit.")

flags.DEFINE_integer("monitor_every", 0, "PGD-20 each so many epochs; 0 for never.", 0)
flags.DEFINE_integer("monitor_examples", 500, "Test images of --monitor_every.", 1)
flags.DEFINE_integer("test_examples", 1000, "Test images attacked; 0 for none.", 0)


class EpochSeconds(keras.callbacks.Callback):
    """Logs how long each epoch's updates took, by the clock and in processor time."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts both clocks."""
        self._begin = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops them."""
        clock, cpu = self._begin
        logs["seconds"] = time.perf_counter() - clock
        logs["cpu_seconds"] = time.process_time() - cpu


def strategy_of(name: str) -> Any:
    """The strategy of a name; to be made before anything else of TensorFlow."""
    if name != "single" and keras.backend.backend() != "tensorflow":
        raise app.UsageError(
            f"--strategy={name} is TensorFlow's. Received: Keras' backend "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow, or leave "
            "--strategy out."
        )
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        logging.set_verbosity(logging.WARNING)  # or TensorFlow tells of each collective
        return tf.distribute.MultiWorkerMirroredStrategy()
    return workers.strategy_in_force()


def writes() -> bool:
    """Whether this process writes the files; of many workers the first one does."""
    return workers.worker_number(workers.strategy_in_force()) == 0


def exists(path: Path) -> bool:
    """Whether the first worker sees the file: all have to do the same."""
    seen = workers.of_each_worker(path.exists(), workers.strategy_in_force())
    return bool(seen[0])


def say(text: str) -> None:
    """Prints, once."""
    if writes():
        print(text, flush=True)


def callbacks(
    recipe: Recipe, backup: BackupAndRestore, data_dir: str | None
) -> list[keras.callbacks.Callback]:
    """In their order: what others read comes first, the backup last."""
    found: list[keras.callbacks.Callback] = [EpochSeconds()]
    if recipe.ema_momentum is not None:
        found.append(AveragedWeights())
    if FLAGS.monitor_every:
        test = building.data(recipe, recipe.test_split, data_dir=data_dir)
        images, labels = next(iter(test.unbatch().batch(FLAGS.monitor_examples)))
        attack = PGDAttack(
            recipe.epsilon, step_size=recipe.epsilon / 4, norm=recipe.norm, seed=0
        )
        found.append(
            RobustnessEvaluation(
                (images.numpy(), labels.numpy()),
                attack,
                evaluation_freq=FLAGS.monitor_every,
            )
        )
    return [*found, backup]


def train(recipe: Recipe, data: Any, folder: Path) -> keras.Model:
    """Trains, or goes on training; returns the network in float32."""
    network = building.network(recipe, data)
    model = building.compiled(recipe, network)
    backup = BackupAndRestore(folder / "backup", delete_checkpoint=False)
    if backup.epoch:
        say(f"Continuing after epoch {backup.epoch} of {recipe.epochs}.")
    settings: dict[str, Any] = {}
    source = data
    if recipe.method == "natural":
        # A plain Keras model does not know its place in the data: enter it here.
        source = minibatches_from(data, backup.epoch * recipe.steps_per_epoch)
        settings["shuffle"] = False
    history = model.fit(
        source,
        epochs=recipe.epochs,
        steps_per_epoch=recipe.steps_per_epoch,
        callbacks=callbacks(recipe, backup, FLAGS.data_dir),
        verbose=verbose(),
        **settings,
    )
    if writes():
        files.write_text(folder / runs.HISTORY, json.dumps(history.history))
    trained = building.network(recipe, data, policy="float32")
    trained.set_weights(network.get_weights())
    return trained


def verbose() -> str | int:
    """As Keras takes it; of many workers the first one speaks."""
    if not writes():
        return 0
    return FLAGS.verbose if FLAGS.verbose == "auto" else int(FLAGS.verbose)


def trained_model(recipe: Recipe, data: Any, folder: Path) -> keras.Model:
    """The run's model, trained now if it is not yet."""
    path = folder / runs.MODEL
    if exists(path):
        say(f"{path} is trained.")
        model = runs.loaded(path)
    else:
        model = train(recipe, data, folder)
        if writes():
            with files.atomic_write(path) as beside:
                model.save(beside)
    if writes():  # here, for a run that was killed just after it was saved
        shutil.rmtree(folder / "backup", ignore_errors=True)
    return model


def measure(recipe: Recipe, model: keras.Model, folder: Path) -> None:
    """The columns of the paper's table, on the first test images."""
    path = runs.report_path(folder, "paper", FLAGS.test_examples)
    if exists(path):
        say(path.with_suffix(".md").read_text())
        path.with_suffix(".partial").unlink(missing_ok=True)
        return
    test = building.data(recipe, recipe.test_split, data_dir=FLAGS.data_dir)
    report = evaluate_robustness(
        model,
        test,
        building.attacks(recipe),
        max_examples=FLAGS.test_examples,
        resume=path.with_suffix(".partial"),
        verbose=verbose(),
    )
    if writes():
        published = report.to_markdown(recipe.published)
        files.write_text(path.with_suffix(".md"), published)
        files.write_text(path, report.to_json())
        path.with_suffix(".partial").unlink(missing_ok=True)
    say(report.to_text(recipe.published))


def main(argv: list[str]) -> None:
    """Trains, saves and measures."""
    runs.quiet()
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    if FLAGS.list:
        print("\n".join(recipes.names()))
        return
    if FLAGS.recipe is None:
        raise app.UsageError("--recipe=NAME is needed; --list prints the names.")
    recipe = runs.changed_recipe(FLAGS.recipe, FLAGS.set)
    if FLAGS.show:
        print(json.dumps(recipe.to_dict(), indent=2))
        return
    if FLAGS.deterministic and keras.backend.backend() != "tensorflow":
        raise app.UsageError(
            "--deterministic asks for TensorFlow's deterministic ops. Received: Keras' "
            f"backend {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow, or "
            "leave it out."
        )
    strategy = strategy_of(FLAGS.strategy)
    try:
        scope = contextlib.nullcontext() if strategy is None else strategy.scope()
        with scope, workers.explaining_lost_worker(strategy):
            run(recipe)
    except workers.WorkerLost as error:
        sys.exit(str(error))


def run(recipe: Recipe) -> None:
    """Trains, saves and measures, under the strategy in force."""
    folder = Path(FLAGS.output or f"runs/{runs.folder_name(recipe, FLAGS.seed)}")
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    # Of a short last minibatch Keras may leave a device without an image, and fails.
    several = workers.replica_count(workers.strategy_in_force()) > 1
    whole = several and recipe.method == "natural"
    data = building.data(
        recipe.replaced(drop_remainder=True) if whole else recipe,
        recipe.train_split,
        seed=FLAGS.seed,
        data_dir=FLAGS.data_dir,
    )
    # Not before: a folder is not to be bound to settings that cannot be trained.
    if writes():
        for name in (runs.SETTINGS, runs.HISTORY, runs.MODEL):
            files.discard_leftovers(folder / name)
        runs.settle(folder, recipe, FLAGS.seed, FLAGS.deterministic)
    model = trained_model(recipe, data, folder)
    if writes():
        seconds = runs.history_of(folder)["seconds"]
        print(
            f"Training took {sum(seconds) / 60:.1f} minutes for {recipe.updates:,} "
            f"updates; the fastest epoch of {recipe.steps_per_epoch} took "
            f"{min(seconds):.1f} s."
        )
    if FLAGS.test_examples:
        measure(recipe, model, folder)
    say(f"Results: {folder}")


if __name__ == "__main__":
    app.run(main)
