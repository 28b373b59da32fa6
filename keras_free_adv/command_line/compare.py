"""`keras-free-adv compare`: methods of training, on the user's network and data."""

import webbrowser
from pathlib import Path
from typing import Any

import keras

from keras_free_adv import files
from keras_free_adv.command_line import console, model_card, run_folder, training_start
from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.evaluate import ball, short_name
from keras_free_adv.command_line.image_data import (
    A_DATA_SET,
    ImageData,
    Wanted,
    image_data,
    kind_of,
)
from keras_free_adv.command_line.model_card import ModelCard
from keras_free_adv.command_line.named_attacks import named_attacks
from keras_free_adv.command_line.recipes import named
from keras_free_adv.command_line.subject import Subject, subject
from keras_free_adv.comparison import compare_methods
from keras_free_adv.comparison.method_comparison import MethodComparison
from keras_free_adv.recipes import Recipe, building

PAGE = "comparison.html"


def run(values: Any, train: str, test: str | None = None) -> None:
    """Trains by each method for the same time, attacks, prints, and writes a page."""
    minutes = typed.positive_number("minutes", values.minutes)
    named(values.recipe)
    recipe = run_folder.changed_recipe(values.recipe, values.set)
    recipe = recipe.replaced(policy="float32")  # in which the attacks see a network
    if test is None and kind_of(train) != A_DATA_SET:
        raise CommandError(
            f"TEST is needed: images that are not among those of {train}."
        )
    folder = Path(values.output or f"runs/compare-{short_name(train)}")
    start = None if values.weights is None else subject(values.weights)
    low, high = (0.0, 1.0) if start is None else start.value_range(None)
    images = training_start.training_images(values, recipe, train, start)
    epsilon, norm = _ball(values, start, recipe)
    attacks = named_attacks(
        values.attacks,
        epsilon * (high - low),
        norm=norm,
        value_range=(low, high),
        seed=values.seed,
        table="cifar10",
    )

    def build_model() -> keras.Model:
        begun = None if values.weights is None else subject(values.weights)
        network = training_start.network(recipe, images, begun)
        building.decay_weights(recipe, network)
        # `compare_methods` lets the rate fall over the updates of each method.
        optimizer = building.optimizer(recipe.replaced(schedule="constant"))
        network.compile(optimizer, building.loss(recipe, network))
        return network

    tested = _test_images(values, test or train, images, start, (low, high))
    comparison = compare_methods(
        build_model,
        images.minibatches,
        tested.minibatches,
        methods=values.methods,
        seconds=60 * minutes,
        epsilon=epsilon * (high - low),
        norm=norm,
        value_range=(low, high),
        attacks=attacks,
        max_examples=values.examples,
        epochs=values.epochs,
        seed=values.seed,
        folder=folder,
        identity=_identity(values, recipe, train, images),
        verbose=_verbose(values.verbose),
    )
    _publish(
        comparison, folder, ModelCard(epsilon, norm, (low, high), images.class_names)
    )
    if values.open:
        webbrowser.open((folder / PAGE).resolve().as_uri())


def _ball(values: Any, start: Subject | None, recipe: Recipe) -> tuple[float, str]:
    """Epsilon, as a share of the pixels' range, and norm; the recipe's if not said."""
    if start is not None and start.epsilon is not None:
        return ball(values, start)
    if values.epsilon is None and values.norm in (None, recipe.norm):
        return recipe.epsilon, recipe.norm
    if values.epsilon is None:
        raise CommandError(
            f"--norm={values.norm} needs an epsilon of its own. Pass --epsilon.",
            "epsilon",
        )
    return typed.positive_number("epsilon", values.epsilon), values.norm or "linf"


def _identity(
    values: Any, recipe: Recipe, train: str, images: ImageData
) -> dict[str, Any]:
    """What the comparison depends on besides its settings."""
    path = Path(train)
    named = ("weights", "image_size", "crop", "pixels", "split", "test_split")
    return {
        "recipe": recipe.to_dict(),
        "train": str(path.resolve()) if path.exists() else train,
        "train_minibatches": _count(images.minibatches),
        "class_names": images.class_names,
        **{name: values[name].value for name in named},
    }


def _count(minibatches: Any) -> int | None:
    """How many there are, if that is known before they are read."""
    cardinality = getattr(minibatches, "cardinality", None)
    return None if cardinality is None else int(cardinality())


def _test_images(
    values: Any,
    name: str,
    images: ImageData,
    start: Subject | None,
    value_range: tuple[float, float],
) -> ImageData:
    """The images to attack, as those to train on are brought to the network."""
    return image_data(
        name,
        Wanted(
            training_start.image_shape(values, start),
            value_range,
            split=values.test_split,
            batch_size=128,
            crop=values.crop,
            seed=values.seed,
            classes=images.class_names,
            pixels=typed.pixel_range("pixels", values.pixels),
            data_dir=values.data_dir,
            examples=values.examples,
        ),
    )


def _verbose(typed_in: str) -> str | int:
    """As Keras takes it; in a file a line for each epoch."""
    found = console.verbose(typed_in)
    return 2 if typed_in == "auto" and found == 0 else found


def _publish(comparison: MethodComparison, folder: Path, card: ModelCard) -> None:
    """Writes page, table and networks with their cards, and prints."""
    comparison.to_html(folder / PAGE)
    files.write_text(folder / "comparison.md", comparison.to_markdown())
    for name, network in comparison.models.items():
        path = folder / name / "model.keras"
        if not path.exists():
            natural = name == "natural"
            told = card._replace(epsilon=None, norm=None) if natural else card
            model_card.write(path, told)
            with files.atomic_write(path) as beside:
                network.save(beside)
    print(comparison)
    print(f"Page: {folder / PAGE}")
    print(f"Networks: {folder}/METHOD/model.keras")
