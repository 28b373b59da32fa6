"""Trains a robust (or a natural) image classifier, and measures its robustness.

    python examples/train.py --dataset=digits --method=free
    python examples/train.py --dataset=cifar10 --method=free --replays=8 --epochs=40

The output folder holds settings.json (the exact settings and versions), history.json,
model.keras (plain Keras, float32) and report.json / report.md. A run that was
interrupted goes on when the same command is given again.
"""

import json
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import app, flags

import keras_free_adv
from keras_free_adv import datasets, files, zoo

FLAGS = flags.FLAGS

# What is trained on what.
flags.DEFINE_string(
    "dataset", "digits", "'digits', 'cifar10', or any TFDS image classification set."
)
flags.DEFINE_string("train_split", "train", "Split to train on.")
flags.DEFINE_string("test_split", "test", "Split to attack at the end.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_enum(
    "model",
    "auto",
    ["auto", "small_cnn", "preact_resnet18"],
    "The network; auto takes small_cnn for images under 16 pixels.",
)
flags.DEFINE_integer("width", 16, "Channels of preact_resnet18's first stage.", 1)
flags.DEFINE_enum("method", "free", ["natural", "free", "pgd"], "How to train it.")

# The threat, on the [0, 1] pixel scale.
flags.DEFINE_float("epsilon", 8 / 255, "Radius of the ball, for pixels in [0, 1].", 0)
flags.DEFINE_enum("norm", "linf", ["linf", "l2"], "Norm of the ball.")
flags.DEFINE_integer("replays", 8, "m: replays of each minibatch (free).", 1)
flags.DEFINE_integer("pgd_steps", 7, "K: ascent steps for each update (pgd).", 1)

# The optimization.
flags.DEFINE_integer(
    "epochs", 24, "Epochs; each makes as many updates as natural training.", 1
)
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_float("learning_rate", 0.1, "Largest learning rate.", 0)
flags.DEFINE_enum(
    "schedule",
    "cyclic",
    ["constant", "cosine", "cyclic", "piecewise"],
    "cosine falls to 0; cyclic first rises from 0 over --warmup of the updates; "
    "piecewise divides by 10 at 50% and 75% of them.",
)
flags.DEFINE_float("warmup", 0.4, "Share of the updates that rise (cyclic).", 0, 1)
flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.", 0, 1)
flags.DEFINE_float(
    "weight_decay", 5e-4, "L2 term in the loss, (weight_decay / 2) * sum of squares.", 0
)
flags.DEFINE_enum(
    "policy",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Precision of training; the saved model computes in float32.",
)
flags.DEFINE_enum("augment", "standard", ["none", "standard"], "Pad, crop and flip.")
flags.DEFINE_integer("seed", 0, "Seed of the weights, the order and the attacks.")
flags.DEFINE_bool(
    "deterministic", False, "Repeatable bit for bit on one machine; slower."
)

# Measuring and output.
flags.DEFINE_integer("test_examples", 1000, "Test images attacked at the end.", 1)
flags.DEFINE_string("output", None, "Folder of the run; runs/DATASET-METHOD if unset.")
flags.DEFINE_enum("verbose", "auto", ["auto", "0", "1", "2"], "As in Keras' fit.")

# Flags that may differ when a run is continued.
NOT_SETTINGS = ("output", "data_dir", "verbose", "test_examples")


class EpochSeconds(keras.callbacks.Callback):
    """Logs how long each epoch's updates took."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops it."""
        logs["seconds"] = time.perf_counter() - self._begin


def make_network(images: tf.TensorSpec, classes: int) -> keras.Model:
    """The network, for images of the set's shape."""
    shape = tuple(images.shape[1:])
    if FLAGS.model == "small_cnn" or (FLAGS.model == "auto" and shape[0] < 16):
        return zoo.small_cnn(classes=classes, input_shape=shape)
    return zoo.preact_resnet18(width=FLAGS.width, classes=classes, input_shape=shape)


def learning_rate(updates: int) -> Any:
    """The schedule, over so many updates."""
    peak, schedules = FLAGS.learning_rate, keras.optimizers.schedules
    if FLAGS.schedule == "cosine":
        return schedules.CosineDecay(peak, updates)
    if FLAGS.schedule == "cyclic":
        rise = max(int(FLAGS.warmup * updates), 1)
        return schedules.CosineDecay(
            0.0, max(updates - rise, 1), warmup_target=peak, warmup_steps=rise
        )
    if FLAGS.schedule == "piecewise":
        drops = [updates // 2, updates * 3 // 4]
        return schedules.PiecewiseConstantDecay(drops, [peak, peak / 10, peak / 100])
    return peak


def make_trainable(network: keras.Model) -> keras.Model:
    """The network, wrapped for its method of training. This is the one line."""
    if FLAGS.method == "free":
        return keras_free_adv.FreeAdversarialModel(
            network, FLAGS.epsilon, replays=FLAGS.replays, norm=FLAGS.norm
        )
    if FLAGS.method == "pgd":
        return keras_free_adv.PGDAdversarialModel(
            network, FLAGS.epsilon, steps=FLAGS.pgd_steps, norm=FLAGS.norm
        )
    return network


def train(
    train_data: tf.data.Dataset, classes: int, folder: Path
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Trains, or goes on training; returns the network in float32 and the history."""
    steps = int(train_data.cardinality())
    images = train_data.element_spec[0]
    keras.config.set_dtype_policy(FLAGS.policy)
    network = make_network(images, classes)
    if FLAGS.weight_decay:
        for variable in network.trainable_variables:
            variable.regularizer = keras.regularizers.L2(FLAGS.weight_decay / 2)
    model = make_trainable(network)
    model.compile(
        keras.optimizers.SGD(
            learning_rate(FLAGS.epochs * steps), momentum=FLAGS.momentum
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    backup = keras_free_adv.BackupAndRestore(folder / "backup", delete_checkpoint=False)
    if backup.epoch:
        print(f"Continuing after epoch {backup.epoch} of {FLAGS.epochs}.", flush=True)
    if FLAGS.method == "natural":
        # A plain Keras model does not know its place in the data: enter it here.
        train_data = train_data.minibatches_from(backup.epoch * steps)
    history = model.fit(
        train_data,
        steps_per_epoch=steps,
        epochs=FLAGS.epochs,
        callbacks=[EpochSeconds(), backup],
        verbose=FLAGS.verbose if FLAGS.verbose == "auto" else int(FLAGS.verbose),
        **({} if FLAGS.method != "natural" else {"shuffle": False}),
    )
    keras.config.set_dtype_policy("float32")
    trained = make_network(images, classes)
    trained.set_weights(network.get_weights())
    return trained, history.history


def attacks() -> list[keras_free_adv.PGDAttack]:
    """PGD-20 and 10-restart PGD-20, as in the paper's tables."""
    return [
        keras_free_adv.PGDAttack(
            FLAGS.epsilon,
            steps=20,
            step_size=FLAGS.epsilon / 4,
            restarts=restarts,
            norm=FLAGS.norm,
            keep="last",
            seed=FLAGS.seed,
        )
        for restarts in (1, 10)
    ]


def settle_settings(folder: Path) -> None:
    """Writes the settings, or checks that the run to continue has the same."""
    settings = {
        flag.name: flag.value
        for flag in FLAGS.get_key_flags_for_module(__name__)
        if flag.name not in NOT_SETTINGS
    }
    path = folder / "settings.json"
    if path.exists():
        before = json.loads(path.read_text())["settings"]
        changed = sorted(k for k in settings if settings[k] != before.get(k))
        if changed:
            raise app.UsageError(
                f"{folder} holds a run with other settings: "
                + ", ".join(f"--{k}={before.get(k)}" for k in changed)
                + ". Give another --output, or remove the folder."
            )
        return
    environment = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "keras_free_adv": keras_free_adv.__version__,
        "machine": platform.machine(),
        "devices": [d.device_type for d in tf.config.list_physical_devices()],
    }
    text = json.dumps({"settings": settings, "environment": environment}, indent=2)
    files.write_text(path, text)


def main(argv: list[str]) -> None:
    """Trains, saves and measures."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    folder = Path(FLAGS.output or f"runs/{FLAGS.dataset}-{FLAGS.method}")
    settle_settings(folder)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    common = {"batch_size": FLAGS.batch_size, "data_dir": FLAGS.data_dir}
    train_data = datasets.load(
        FLAGS.dataset,
        split=FLAGS.train_split,
        augment=FLAGS.augment,
        seed=FLAGS.seed,
        **common,
    )
    test_data = datasets.load(FLAGS.dataset, split=FLAGS.test_split, **common)
    model_file = folder / "model.keras"
    if model_file.exists():
        print(f"{model_file} is trained.", flush=True)
        model = keras.models.load_model(model_file)
    else:
        model, history = train(train_data, train_data.classes, folder)
        files.write_text(folder / "history.json", json.dumps(history))
        with files.written_beside(model_file) as beside:
            model.save(beside)
        shutil.rmtree(folder / "backup", ignore_errors=True)
    report = keras_free_adv.evaluate_robustness(
        model, test_data, attacks(), max_examples=FLAGS.test_examples
    )
    files.write_text(folder / "report.json", report.to_json())
    files.write_text(folder / "report.md", report.to_markdown())
    history = json.loads((folder / "history.json").read_text())
    print(report)
    seconds = history["seconds"]
    print(
        f"Training took {sum(seconds) / 60:.1f} minutes for {len(seconds)} epochs; the "
        f"fastest took {min(seconds):.1f} seconds. Results: {folder}"
    )


if __name__ == "__main__":
    app.run(main)
