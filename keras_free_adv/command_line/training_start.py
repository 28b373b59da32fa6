"""What a training begins with: its images, and its network."""

import keras
from absl import flags

from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.image_data import (
    ImageData,
    Wanted,
    image_data,
    refuse_flags_that_do_not_apply,
)
from keras_free_adv.command_line.new_head import shape_and_classes, with_classes
from keras_free_adv.command_line.subject import Subject
from keras_free_adv.recipes import Recipe, building

# Height and width of photographs, unless the user or the network says another.
IMAGE_SIZE = 64


def training_images(
    values: flags.FlagValues, recipe: Recipe, data: str | None, start: Subject | None
) -> ImageData:
    """The minibatches to train on: the recipe's, or those the user names."""
    fixed = None if start is None else start.image_shape[0]
    refuse_flags_that_do_not_apply(values, data or recipe.dataset, fixed)
    if data is None and start is None:
        dataset = building.data(
            recipe, recipe.train_split, seed=values.seed, data_dir=values.data_dir
        )
        return ImageData(recipe.dataset, dataset, tuple(dataset.class_names))
    return image_data(
        data or recipe.dataset,
        Wanted(
            image_shape(values, start),
            (0.0, 1.0) if start is None else start.value_range(None),
            split=values.split or recipe.train_split,
            batch_size=recipe.batch_size,
            trains=True,
            augment=recipe.augment.removesuffix("_pad2"),
            one_hot=recipe.label_smoothing > 0,
            drop_remainder=recipe.drop_remainder,
            seed=values.seed,
            crop=values.crop,
            pixels=typed.pixel_range("pixels", values.pixels),
            data_dir=values.data_dir,
        ),
    )


def image_shape(
    values: flags.FlagValues, start: Subject | None
) -> tuple[int | None, ...]:
    """Height, width and channels that photographs are brought to."""
    size = values.image_size or IMAGE_SIZE
    if start is None:
        return size, size, 3
    height, width, channels = start.image_shape
    return height or size, width or size, channels


def network(
    recipe: Recipe, images: ImageData, start: Subject | None, policy: str | None = None
) -> keras.Model:
    """The recipe's network, or the user's, for the classes of the data."""
    names, data = images.class_names, images.minibatches
    if start is not None:
        numbered = getattr(data, "classes", 0)
        return with_classes(start.model, len(names or ()), numbered)
    if hasattr(data, "classes"):
        return building.network(recipe, data, policy=policy)
    shape, classes = shape_and_classes(data, names)
    return building.network(recipe, classes=classes, input_shape=shape, policy=policy)
