"""Every picture of the library, at the size of a slide, in one command.

    python examples/figures.py --output=figures

Draws whatever `keras_free_adv.plotting` has: what an attack does to photographs, on the
natural and the robust CIFAR-10 network that come with the package; and curves, of one
small network that it trains naturally, by Free and by 7-PGD training on scikit-learn's
digits. Nothing is downloaded. It writes a file of each format for each figure, named
after what it shows, and index.md, a gallery with captions. PNG is for slides, PDF for
LaTeX, SVG for the web and for changes by hand. Under five minutes on two cores.

Figures of your own models: the same functions of `keras_free_adv.plotting`, one call
each; this file is the example.
"""

import os
import shlex
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    datasets,
    files,
    plotting,
    zoo,
)

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "figures", "Folder for the figures.")
flags.DEFINE_list("formats", "png,svg,pdf", "Of png, svg and pdf, those to write.")
flags.DEFINE_integer(
    "dpi", 200, "Dots an inch of PNG; 200 fills a screen of 1920 x 1080.", 20
)
flags.DEFINE_string("index", None, "The gallery page; OUTPUT/index.md if unset.")
flags.DEFINE_integer(
    "updates", 1440, "Updates of each model; rounded up to whole epochs.", 1
)
flags.DEFINE_integer("test_examples", 360, "Test images attacked, of 360.", 8, 360)
flags.DEFINE_float("epsilon", 0.16, "Radius of the ball, for pixels in [0, 1].", 0, 0.5)
flags.DEFINE_integer("replays", 8, "m of Free training.", 1)
flags.DEFINE_integer("seed", 0, "Seed of everything.")

FORMATS = ("png", "svg", "pdf")
EPOCHS = 12
SHOWN = 5  # photographs in a row
# What photographs of a class shall be read as.
AIMS = {"airplane": "frog", "cat": "dog", "ship": "truck", "deer": "airplane"}
PHOTO_EPSILON, LARGE = 8 / 255, 48 / 255
PHOTO_NETWORKS = {
    "natural": "cifar10_compact_natural",
    "Free m=3": "cifar10_compact_free",
}
FIRST_UPDATES = 64  # whose deltas are kept


@dataclass
class Photographs:
    """What the pictures of images are of.

    Attributes:
        images: one of each of some classes, which both networks read rightly,
            `[B, 32, 32, 3]`.
        labels: their classes, `[B]`.
        class_names: the names of all classes.
        networks: name to network, plain Keras.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    networks: dict[str, keras.Model]

    @classmethod
    def of_the_package(cls) -> "Photographs":
        """Those that come with it, and its networks."""
        data = datasets.load("cifar10_sample", split="test", batch_size=100)
        images, labels = next(data.as_numpy_iterator())
        networks = {n: zoo.pretrained(name) for n, name in PHOTO_NETWORKS.items()}
        read = [net.predict(images, verbose=0).argmax(-1) for net in networks.values()]
        right = np.all([classes == labels for classes in read], axis=0)
        names = data.class_names
        # First those that are aimed at another class, then the others.
        ordered = [*AIMS, *(name for name in names if name not in AIMS)]
        first = [
            np.flatnonzero(right & (labels == names.index(n)))[:1] for n in ordered
        ]
        chosen = np.concatenate(first)[:SHOWN]
        return cls(images[chosen], labels[chosen], names, networks)

    @property
    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them, and their classes."""
        return self.images, self.labels

    @property
    def to_turn(self) -> tuple[np.ndarray, np.ndarray]:
        """Those that shall become another class, and which."""
        names = [self.class_names[label] for label in self.labels]
        rows = [row for row, name in enumerate(names) if name in AIMS]
        aims = [self.class_names.index(AIMS[names[row]]) for row in rows]
        return self.images[rows], np.array(aims)


@dataclass
class Subjects:
    """What the figures are of.

    Attributes:
        photographs: of the pictures of images.
        images: digits of the test set, `[B, 8, 8, 1]`.
        labels: their classes, `[B]`.
        attack: the attack on digits.
        networks: name to network trained on digits, plain Keras.
        histories: name to what `fit` logged.
        free: the Free model, with its delta.
        deltas: number of the update to delta, of the first ones.
    """

    photographs: Photographs
    images: np.ndarray
    labels: np.ndarray
    attack: PGDAttack
    networks: dict[str, keras.Model] = field(default_factory=dict)
    histories: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    free: FreeAdversarialModel | None = None
    deltas: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def name_of_free(self) -> str:
        """What the Free model is called."""
        return f"Free m={FLAGS.replays}"

    @property
    def test_data(self) -> tuple[np.ndarray, np.ndarray]:
        """All digits."""
        return self.images, self.labels


@dataclass(frozen=True)
class Picture:
    """A figure, and what is said about it.

    Attributes:
        title: its heading in the gallery.
        caption: a sentence or two, in Markdown.
        draw: makes it.
    """

    title: str
    caption: str
    draw: Callable[[Subjects], Figure]


def photo_attack(epsilon: float, **arguments: Any) -> PGDAttack:
    """An attack on photographs."""
    return PGDAttack(epsilon, seed=FLAGS.seed, **arguments)


# A name becomes the name of a file. A new picture is an entry here, and no more.
PICTURES = {
    "adversarial_examples": Picture(
        "Adversarial examples",
        "Photographs, the perturbation that PGD-20 adds to them within 8 of 255, and "
        "what each network then sees.",
        lambda s: plotting.plot_adversarial_examples(
            s.photographs.networks,
            *s.photographs.shown,
            photo_attack(PHOTO_EPSILON),
            class_names=s.photographs.class_names,
        ),
    ),
    "input_gradients": Picture(
        "Input gradients",
        "What the loss hangs on: it rises where a pixel is light and falls where it is "
        "dark, as steeply as the scale below says. Those of a natural network look "
        "like noise, those of a robust one trace what is seen (Tsipras et al. 2019).",
        lambda s: plotting.plot_input_gradients(
            s.photographs.networks,
            *s.photographs.shown,
            class_names=s.photographs.class_names,
        ),
    ),
    "large_epsilon": Picture(
        "Large epsilon",
        "What a targeted attack makes of a photograph within 48 of 255. To be read as "
        "another class by a robust network it has to take on something of it.",
        lambda s: plotting.plot_large_epsilon(
            s.photographs.networks,
            *s.photographs.to_turn,
            photo_attack(LARGE, steps=100, targeted=True, keep="last"),
            class_names=s.photographs.class_names,
        ),
    ),
    "loss_surface": Picture(
        "Loss surface",
        "The loss around a photograph, along the direction that PGD-20 finds for each "
        "network and a random one: it climbs far for the natural network, and little "
        "for the robust one.",
        lambda s: plotting.plot_loss_surface(
            s.photographs.networks,
            s.photographs.images[0],
            s.photographs.labels[0],
            PHOTO_EPSILON,
            direction="pgd",
            seed=FLAGS.seed,
        ),
    ),
    "robustness_curve": Picture(
        "Accuracy against epsilon",
        "Robust accuracy against epsilon, with 95% intervals. All curves fall, and end "
        "at 0.5, where every image can be made the same gray.",
        lambda s: plotting.plot_robustness_curve(
            s.networks,
            s.test_data,
            [FLAGS.epsilon * share for share in (0.25, 0.5, 0.75, 1, 1.5, 2)] + [0.5],
            attack=s.attack,
            verbose=0,
        ),
    ),
    "attack_strength": Picture(
        "Accuracy against the strength of the attack",
        "Robust accuracy against the effort of the attack: a number is worth believing "
        "once the curve is level.",
        lambda s: plotting.plot_attack_strength(
            s.networks, s.test_data, FLAGS.epsilon, seed=FLAGS.seed, verbose=0
        ),
    ),
    "training_history_free": Picture(
        "History of Free training",
        "Loss and accuracy of Free training, natural and under attack. It passes "
        "through the data once where natural training does m times.",
        lambda s: plotting.plot_training_history(s.histories[s.name_of_free]),
    ),
    "training_history_natural": Picture(
        "History of natural training",
        "The same of natural training: accuracy under attack falls.",
        lambda s: plotting.plot_training_history(s.histories["natural"]),
    ),
    "delta_of_free_training": Picture(
        "The delta of Free training",
        "The persistent perturbation at the end of Free training, and how its values "
        "are distributed.",
        lambda s: plotting.plot_delta(s.free),
    ),
    "delta_while_it_trains": Picture(
        "The delta while it trains",
        "The deltas of two examples at the start of Free training. With steps of "
        "epsilon it is at the edge of the ball after one update. It persists from "
        "minibatch to minibatch: every m updates a new one comes, and some of delta "
        "turns round. The two curves are one: each value is at zero or at the edge.",
        lambda s: plotting.plot_delta_history(s.deltas, FLAGS.epsilon),
    ),
    "accuracy_against_training_time": Picture(
        "Accuracy against training time",
        "What robustness costs, on the machine that drew this: robust accuracy against "
        "the time of training. All three make the same number of updates.",
        lambda s: plotting.plot_accuracy_against_time(
            {
                name: (np.cumsum(logs["seconds"]), logs[_robust(s)])
                for name, logs in s.histories.items()
            },
            ylabel=f"PGD-{s.attack.steps} accuracy, {len(s.images)} test images",
        ),
    ),
    "published_cost_imagenet": Picture(
        "Published cost, ImageNet",
        "Robust accuracy on ImageNet against minutes of training, as Shafahi et al. "
        "(2019) published them; nothing of it is measured here.",
        lambda s: plotting.plot_published_cost("imagenet", "pgd100"),
    ),
    "published_cost_cifar10": Picture(
        "Published cost, CIFAR-10",
        "The same for CIFAR-10, where m is how often Free training replays.",
        lambda s: plotting.plot_published_cost("cifar10", "pgd100"),
    ),
}


class Seconds(keras.callbacks.Callback):
    """Logs how long an epoch's updates took; to stand before what evaluates."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stops it."""
        logs["seconds"] = time.perf_counter() - self._begin


class KeepDelta(keras.callbacks.Callback):
    """Keeps the deltas of the first updates."""

    def __init__(self, deltas: dict[int, np.ndarray]) -> None:
        super().__init__()
        self.deltas = deltas

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Keeps delta as it is now."""
        if len(self.deltas) < FIRST_UPDATES:
            self.deltas[len(self.deltas) + 1] = self.model.delta


def _robust(subjects: Subjects) -> str:
    """What the logs call accuracy under the attack."""
    return f"val_{subjects.attack.name}_accuracy"


def trained() -> Subjects:
    """Trains the network in three ways: one changed line each."""
    test = datasets.load("digits", split="test", batch_size=FLAGS.test_examples)
    images, labels = next(test.as_numpy_iterator())
    attack = PGDAttack(FLAGS.epsilon, steps=20, seed=FLAGS.seed)
    subjects = Subjects(Photographs.of_the_package(), images, labels, attack)
    for name, wrap in {
        "natural": lambda network: network,
        subjects.name_of_free: lambda network: FreeAdversarialModel(
            network, epsilon=FLAGS.epsilon, replays=FLAGS.replays
        ),
        "7-PGD": lambda network: PGDAdversarialModel(network, epsilon=FLAGS.epsilon),
    }.items():
        print(f"Training: {name}", flush=True)
        keras.utils.set_random_seed(FLAGS.seed)
        network = zoo.small_cnn(classes=10, input_shape=(8, 8, 1))
        model = wrap(network)
        model.compile(
            keras.optimizers.Adam(3e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        data = datasets.load("digits", split="train", batch_size=128, seed=FLAGS.seed)
        steps = -(-FLAGS.updates // EPOCHS)
        callbacks = [
            Seconds(),
            RobustnessEvaluation(subjects.test_data, attack, max_examples=10_000),
        ]
        if isinstance(model, FreeAdversarialModel):
            subjects.free = model
            callbacks.append(KeepDelta(subjects.deltas))
        history = model.fit(
            # An adversarial model repeats it by itself, and logs its passes.
            data.repeat() if model is network else data,
            epochs=-(-FLAGS.updates // steps),
            steps_per_epoch=steps,
            validation_data=subjects.test_data,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
        subjects.networks[name] = network
        subjects.histories[name] = logs = history.history
        passes_an_epoch = steps / len(data)
        logs.setdefault("passes", passes_an_epoch * (1 + np.arange(len(logs["loss"]))))
    return subjects


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes a figure in each format, whole or not at all."""
    for ending in FLAGS.formats:
        with files.atomic_write(folder / f"{name}.{ending}") as beside:
            figure.savefig(beside, dpi=FLAGS.dpi)


def gallery(folder: Path, index: Path, command: str) -> str:
    """The page that shows them all."""
    shown = min(FLAGS.formats, key=FORMATS.index)
    where = Path(os.path.relpath(folder, index.parent)).as_posix()
    lines = [
        "# Gallery",
        "",
        textwrap.fill(
            "Every picture of `keras_free_adv.plotting`, one call each, at the size of "
            "a slide: of photographs on the networks of `zoo.pretrained`, and curves "
            "of one small network on scikit-learn's digits, trained three ways with "
            f"{FLAGS.updates:,} updates each. Made by",
            88,
        ),
        "",
        "```sh",
        command,
        "```",
    ]
    for name, picture in PICTURES.items():
        caption = textwrap.fill(picture.caption, 88)
        lines += ["", f"## {picture.title}", "", caption, ""]
        if shown == "pdf":  # no browser shows it in a page
            lines.append(f"[{name}.pdf]({where}/{name}.pdf)")
        else:
            lines.append(f"![{picture.title}]({where}/{name}.{shown})")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Trains, draws and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    unknown = [name for name in FLAGS.formats if name not in FORMATS]
    if unknown or not FLAGS.formats:
        raise app.UsageError(
            f"--formats must be some of {', '.join(FORMATS)}. Received: "
            f"{', '.join(FLAGS.formats) or 'none'}."
        )
    folder = Path(FLAGS.output)
    index = Path(FLAGS.index) if FLAGS.index else folder / "index.md"
    files.check_room(index)
    # Right, and the intervals are drawn; here it would be said ten times.
    warnings.filterwarnings("ignore", "Only .* examples were evaluated")
    subjects = trained()
    for name, picture in PICTURES.items():
        print(f"Drawing: {name}", flush=True)
        save(picture.draw(subjects), folder, name)
    command = shlex.join(["python", "examples/figures.py", *sys.argv[1:]])
    files.write_text(index, gallery(folder, index, command))
    print(f"{len(PICTURES)} figures in {folder}; the gallery: {index}")


if __name__ == "__main__":
    app.run(main)
