"""The model that a user names, with what is known of it."""

from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_free_adv import pixel_scale, zoo
from keras_free_adv.command_line import model_card, run_folder
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.first_layers import unwrapped
from keras_free_adv.recipes import Recipe


class Subject(NamedTuple):
    """A classifier, and what is known of it.

    Attributes:
        name: what it was called by.
        model: plain Keras, or adversarially trained.
        folder: where its reports go.
        stem: the beginning of their names.
        recipe: of its training, if it is a run.
        epsilon: that it was trained for, as a share of its pixels' range, if known.
        norm: of that, if known.
        class_names: the names of its classes, if known.
        own_data: whether it is a run on data that its user brought.
        card_range: the range of its pixels, if its card says it.
    """

    name: str
    model: keras.Model
    folder: Path
    stem: str
    recipe: Recipe | None = None
    epsilon: float | None = None
    norm: str | None = None
    class_names: tuple[str, ...] | None = None
    own_data: bool = False
    card_range: tuple[float, float] | None = None

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """Height, width and channels of its images; None where any will do."""
        shape = self.model.input_shape
        if not isinstance(shape, tuple) or len(shape) != 4:
            raise CommandError(
                f"{self.name} must take images [batch, height, width, channels]. "
                f"Received: a model that takes {shape}."
            )
        return shape[1:]

    def value_range(self, said: tuple[float, float] | None) -> tuple[float, float]:
        """The range of its pixels: what is said, else its card's, else what it shows.

        Raises:
            CommandError: the model contradicts what is said.
        """
        try:
            return pixel_scale.resolve(said or self.card_range, self.model)
        except ValueError as error:
            raise CommandError(f"--value_range: {error}", "value_range") from error


def subject(name: str) -> Subject:
    """The model of a .keras file, of the folder of a run, or a pretrained one.

    Raises:
        CommandError: there is none, or its file is damaged.
    """
    path = Path(name)
    if path.is_dir():
        return _of_run(name, path)
    if path.exists():
        in_run = path.name == run_folder.MODEL
        if in_run and (path.parent / run_folder.SETTINGS).exists():
            return _of_run(name, path.parent)
        return _of_file(name, path)
    if name in zoo.pretrained_names():
        card = zoo.card(name)
        width = card.value_range[1] - card.value_range[0]
        return Subject(
            name,
            zoo.pretrained(name),
            Path(),
            name,
            epsilon=None if card.epsilon is None else card.epsilon / width,
            norm=card.norm,
            class_names=card.class_names,
        )
    raise CommandError(
        f"There is no model {name!r}. Expected a .keras file, the folder of a run, or "
        f"one of {', '.join(zoo.pretrained_names())}."
    )


def _of_run(name: str, folder: Path) -> Subject:
    recipe = run_folder.recipe_of(folder)
    path = folder / run_folder.MODEL
    if not path.exists():
        raise CommandError(
            f"{folder} has no {run_folder.MODEL}: its training has not ended. Give the "
            "command that began it again."
        )
    return Subject(
        name,
        _fast(run_folder.loaded(path)),
        folder,
        "report",
        recipe,
        epsilon=recipe.epsilon,
        norm=recipe.norm,
        class_names=run_folder.class_names_of(folder),
        own_data=run_folder.has_own_data(folder),
    )


def _of_file(name: str, path: Path) -> Subject:
    model, card = run_folder.loaded(path), model_card.read(path)
    epsilon: Any = getattr(model, "epsilon", None)
    if unwrapped(model) is model or epsilon is None:
        return Subject(
            name,
            _fast(model),
            path.parent,
            path.stem,
            epsilon=card.epsilon,
            norm=card.norm if card.epsilon is None else card.norm or "linf",
            class_names=card.class_names,
            card_range=card.value_range,
        )
    low, high = pixel_scale.resolve(None, model)
    return Subject(
        name,
        model,
        path.parent,
        path.stem,
        epsilon=epsilon / (high - low),
        norm=getattr(model, "norm", None),
        class_names=card.class_names,
    )


def _fast(model: keras.Model) -> keras.Model:
    """The model, on the fused kernel of batch norm where it can be."""
    plain = type(model).__name__ in ("Functional", "Sequential")
    return zoo.fused(model) if plain else model
