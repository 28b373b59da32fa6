"""Natural, Free and 7-PGD training of one small network, side by side.

    python examples/quickstart.py

Trains on scikit-learn's digits (no download) with the same number of updates each,
attacks all three, prints a table, and saves a picture of adversarial examples, the
histories, and the Free model. Under three minutes on two cores.
"""

import json
import time
from pathlib import Path

import keras
from absl import app, flags

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    datasets,
    evaluate_robustness,
    files,
    zoo,
)
from keras_free_adv.plotting import plot_adversarial_examples

FLAGS = flags.FLAGS
flags.DEFINE_integer(
    "updates", 1440, "Updates of each model; rounded up to whole epochs.", 1
)
flags.DEFINE_float("epsilon", 0.16, "Radius of the ball, for pixels in [0, 1].", 0)
flags.DEFINE_integer("replays", 8, "m of Free training.", 1)
flags.DEFINE_integer("seed", 0, "Seed of everything.")
flags.DEFINE_string("output", "runs/quickstart", "Folder for the results.")

UPDATES_AN_EPOCH = 120

# Each model of the comparison, from the same network: one changed line.
TRAINING = {
    "natural": lambda network: network,
    "Free": lambda network: FreeAdversarialModel(
        network, epsilon=FLAGS.epsilon, replays=FLAGS.replays
    ),
    "7-PGD": lambda network: PGDAdversarialModel(network, epsilon=FLAGS.epsilon),
}


def train(name: str) -> tuple[keras.Model, dict, float]:
    """Trains the network in one of the three ways; also returns the seconds."""
    keras.utils.set_random_seed(FLAGS.seed)
    network = zoo.small_cnn(classes=10, input_shape=(8, 8, 1))
    model = TRAINING[name](network)
    model.compile(
        keras.optimizers.Adam(3e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print(f"\n{name}:", flush=True)
    data = datasets.load("digits", split="train", batch_size=128, seed=FLAGS.seed)
    steps = min(FLAGS.updates, UPDATES_AN_EPOCH)
    epochs = -(-FLAGS.updates // steps)
    begin = time.perf_counter()
    history = model.fit(
        data.repeat(),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[OneBar(epochs)],
        shuffle=False,
        verbose=0,
    )
    return network, history.history, time.perf_counter() - begin


class OneBar(keras.callbacks.Callback):
    """One progress bar for all epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._bar = keras.utils.Progbar(epochs, unit_name="epoch")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        shown = [(k, v) for k, v in (logs or {}).items() if k in ("loss", "accuracy")]
        self._bar.update(epoch + 1, values=shown)


def main(argv: list[str]) -> None:
    """Trains, attacks, prints and saves."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    test_set = datasets.load("digits", split="test", batch_size=1000)
    test_data = next(test_set.as_numpy_iterator())
    attacks = [
        PGDAttack(FLAGS.epsilon, steps=20, restarts=restarts, seed=FLAGS.seed)
        for restarts in (1, 10)
    ]
    folder = Path(FLAGS.output)
    networks, histories, rows = {}, {}, []
    for name in TRAINING:
        networks[name], histories[name], seconds = train(name)
        print(f"{name}, attacked:", flush=True)
        report = evaluate_robustness(networks[name], test_data, attacks)
        rows.append((name, *report.accuracy.values(), seconds))

    updates = len(histories["natural"]["loss"]) * min(FLAGS.updates, UPDATES_AN_EPOCH)
    print(
        f"\n{updates:,} updates each; accuracy on {len(test_data[0])} test "
        f"images, epsilon {FLAGS.epsilon:g}:\n"
    )
    print("| training | natural | PGD-20 | 10 x PGD-20 | seconds | / natural |")
    print("|---|---|---|---|---|---|")
    for name, natural, pgd, restarts, seconds in rows:
        print(
            f"| {name} | {natural:.1%} | {pgd:.1%} | {restarts:.1%} | {seconds:.1f} | "
            f"{seconds / rows[0][-1]:.2f} |"
        )

    shown = {"natural": networks["natural"], "Free": networks["Free"]}
    images, labels = (part[:8] for part in test_data)
    figure = plot_adversarial_examples(shown, images, labels, attacks[0])
    files.write_text(folder / "history.json", json.dumps(histories))
    with files.atomic_write(folder / "adversarial_examples.png") as beside:
        figure.savefig(beside, dpi=150)
    with files.atomic_write(folder / "free.keras") as beside:
        networks["Free"].save(beside)
    print(f"\nThe picture:  {folder / 'adversarial_examples.png'}")
    print(f"The history:  {folder / 'history.json'}")
    print(
        f"The model:    {folder / 'free.keras'} (plain Keras: keras.models.load_model)"
    )


if __name__ == "__main__":
    app.run(main)
