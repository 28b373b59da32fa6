"""Pictures of trained CIFAR-10 models, side by side.

    python examples/reproduce_table.py --table=cifar10 --scale=small
    python examples/cifar10_figures.py --output=figures/cifar10 \
        --runs=natural=runs/cifar10_small_natural \
        --runs=Free=runs/cifar10_small_free4 --runs=7-PGD=runs/cifar10_small_pgd7

Draws test images that a targeted attack wants to be read as another class ("read this
plane as a frog"), input gradients, images that a large epsilon turns into that class,
and the loss along the direction that PGD finds. A model is the folder of a run of
`keras-free-adv train`, or a `.keras` file. `figures.py` draws all pictures of the
library, of digits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure

from keras_free_adv import PGDAttack, datasets, files, plotting, zoo
from keras_free_adv.command_line import run_folder

FLAGS = flags.FLAGS
flags.DEFINE_multi_string("runs", [], "NAME=RUN or NAME=FILE; may be repeated.")
flags.DEFINE_string("output", "figures/cifar10", "Folder for the figures.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("dpi", 100, "Dots an inch.", 20)
flags.DEFINE_integer("steps", 100, "Of the attacks.", 1)

EPSILON, LARGE = 8 / 255, 48 / 255
# A class, and what its images shall be read as.
AIMS = {
    "airplane": "frog",
    "automobile": "horse",
    "cat": "dog",
    "ship": "truck",
    "deer": "airplane",
}


def chosen_models() -> dict[str, keras.Model]:
    """Name to model, as the flags say."""
    found = {}
    for text in FLAGS.runs:
        name, _, path = text.rpartition("=")
        path = Path(path) / run_folder.MODEL if Path(path).is_dir() else Path(path)
        if not name or not path.is_file():
            raise app.UsageError(
                f"--runs takes NAME=RUN or NAME=FILE. Received: {text}, and there is "
                f"no {path}."
            )
        found[name] = zoo.fused(run_folder.loaded(path))
    if not found:
        raise app.UsageError("--runs=NAME=RUN is needed, once for each model.")
    return found


def chosen_images(
    models: dict[str, keras.Model], test: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class the first image that all models read rightly, and its aim."""
    names = test.class_names
    images, labels = next(test.as_numpy_iterator())
    seen = [model.predict(images, verbose=0).argmax(-1) for model in models.values()]
    right = np.all([classes == labels for classes in seen], axis=0)
    first = [np.flatnonzero((labels == names.index(name)) & right)[:1] for name in AIMS]
    chosen = np.concatenate(first)
    if not chosen.size:
        raise app.UsageError(
            f"--runs: there is no image of {', '.join(AIMS)} among the first "
            f"{len(images)} that all of {', '.join(models)} read rightly."
        )
    aims = [names.index(AIMS[names[label]]) for label in labels[chosen]]
    return images[chosen], labels[chosen], np.array(aims)


def main(argv: list[str]) -> None:
    """Draws and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    folder = Path(FLAGS.output)
    files.check_room(folder / "a.png")
    models = chosen_models()
    test = datasets.load(
        "cifar10", split="test", batch_size=500, data_dir=FLAGS.data_dir
    )
    images, labels, aims = chosen_images(models, test)
    named = {"class_names": test.class_names}

    def targeted(epsilon: float) -> PGDAttack:
        return PGDAttack(epsilon, steps=FLAGS.steps, targeted=True, keep="last", seed=0)

    first_two = dict(list(models.items())[:2])
    pictures: dict[str, Callable[[], Figure]] = {
        "at_a_glance": lambda: plotting.plot_adversarial_examples(
            first_two,
            images,
            aims,
            targeted(EPSILON),
            perturbations=False,
            **named,
        ),
        "targeted": lambda: plotting.plot_adversarial_examples(
            first_two, images, aims, targeted(EPSILON), **named
        ),
        "input_gradients": lambda: plotting.plot_input_gradients(
            models, images, labels, **named
        ),
        "large_epsilon": lambda: plotting.plot_large_epsilon(
            models, images, aims, targeted(LARGE), **named
        ),
        "loss_surface": lambda: plotting.plot_loss_surface(
            models, images[0], labels[0], EPSILON, direction="pgd"
        ),
    }
    for name, draw in pictures.items():
        print(f"Drawing: {name}", flush=True)
        with files.atomic_write(folder / f"{name}.png") as beside:
            draw().savefig(beside, format="png", dpi=FLAGS.dpi)
    print(f"{len(pictures)} figures in {folder}")


if __name__ == "__main__":
    app.run(main)
