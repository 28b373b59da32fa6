"""Loads an image classification set as a stream of minibatches."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv import validation
from keras_free_adv.data.addressable_dataset import addressable_dataset
from keras_free_adv.datasets import sources
from keras_free_adv.datasets.encoded_passes import encoded_passes
from keras_free_adv.datasets.image_decoder import ImageDecoder, WholeMinibatch
from keras_free_adv.datasets.photo_folder import photo_folder
from keras_free_adv.datasets.sources import Source
from keras_free_adv.distribution.padded_batch import WorkerSlice
from keras_free_adv.user_warnings import warn_user

AUGMENTATIONS = ("none", "flip", "standard", "standard_pad2")
IMAGE_SIZE = 224


def load(
    name: str,
    *,
    split: str,
    batch_size: int,
    augment: str = "none",
    seed: int = 0,
    data_dir: str | None = None,
    image_size: int | None = None,
    one_hot: bool = False,
    drop_remainder: bool = False,
    shuffle: bool | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> tf.data.Dataset:
    """Loads an image classification set as minibatches of (image, label).

    A training split (its name begins with "train") is shuffled anew for each pass: in
    memory if it is stored in up to 1 GiB, else in windows of 10,000 images. Every other
    split keeps its order. Which images a minibatch holds, and how they are augmented,
    follows from (seed, number of the minibatch) alone: `fit` of an adversarial model
    enters the stream at any minibatch, also after a crash. A transformation on top
    (`map`, `take`) makes it an ordinary `tf.data.Dataset`.

    Images are decoded and augmented once for each minibatch, in parallel, ahead of the
    model, whatever the number of replays.

    Args:
        name: "digits" (scikit-learn's, 8x8 gray images, no download); "cifar10_sample"
            (100 test images of CIFAR-10, ten of each class, from this package); the
            name of any image classification set of TensorFlow Datasets, such as
            "cifar10", "cifar100" or "imagenet2012"; or the path of an .npz file with
            `x_train`, `y_train`, `x_test`, `y_test` (uint8, or floats in [0, 1]), and
            `class_names` if you like.
        split: "train" or "test" for digits and an .npz, "test" for the sample; a TFDS
            split such as "train[:90%]".
        batch_size: images in a minibatch; the last of a pass may be shorter.
        augment: "none", "flip" or "standard". For images of one size, "flip" flips
            left to right at random (not digits and letters, which mirroring would turn
            into other signs), which is enough for a training of a few passes;
            "standard" also pads by an eighth of the image with zeros and crops at
            random; "standard_pad2" pads by 2 pixels, as the authors of Free
            training do. For images of varying size, "standard" cuts a window of 8 to
            100% of the area and an aspect ratio of 3/4 to 4/3, resizes it, and flips
            at random; "none" cuts out the central square, as if an image were resized
            to 256 and cropped to 224.
        seed: seed of the order and of the augmentation.
        data_dir: where TFDS keeps its data; None for the default of TFDS.
        image_size: height and width to resize images of varying size to; 224 by
            default. Only the window of a JPEG is decoded. Images of one size are not
            resized.
        one_hot: whether labels are one-hot rows, for label smoothing
            (`keras.losses.CategoricalCrossentropy(label_smoothing=...)`).
        drop_remainder: whether to leave out the short last minibatch of a pass.
        shuffle: whether to shuffle for each pass; None for training splits only.
        value_range: lowest and highest pixel value.

    Returns:
        A `tf.data.Dataset` of one pass: images `[B, height, width, channels]`,
        float32 in `value_range`, and labels `[B]`, int64 (or `[B, classes]`, float32).
        Its attributes are arguments of `export_for_serving`: `class_names`, and
        `image_size`, None for a set whose images all have one size; and `classes`,
        their number.

    Raises:
        TypeError, ValueError: an argument is wrong, or the set does not have images
            with one class each.
        ImportError: the extra `datasets` is not installed.

    Example:
    >>> images, labels = next(iter(load("digits", split="test", batch_size=32)))
    >>> images.shape
    TensorShape([32, 8, 8, 1])
    """
    settings = _checked(
        batch_size=batch_size,
        augment=validation.one_of("augment", augment, AUGMENTATIONS),
        seed=seed,
        one_hot=one_hot,
        drop_remainder=drop_remainder,
        value_range=value_range,
    )
    if image_size is not None:
        image_size = validation.positive_integer("image_size", image_size)
    if not isinstance(split, str):
        raise TypeError(
            "Argument `split` must be a string such as 'train' or 'test'. "
            f"Received: split={split!r}."
        )
    if name == "digits":
        source = sources.digits(split)
    elif name == "cifar10_sample":
        source = sources.cifar10_sample(split)
    elif name.endswith(".npz"):
        source = sources.from_array_file(name, split)
    else:
        source = sources.from_tfds(name, split, data_dir)
    varies = None in source.shape[:2]
    _check_size_arguments(varies, image_size, augment, name, source)
    if varies and image_size is None:
        image_size = IMAGE_SIZE
    if shuffle is None:
        shuffle = split.startswith("train")
    selected = f"Argument `split` selects {source.size} images"
    return _dataset(source, image_size, shuffle, selected, **settings)


def load_folder(
    folder: str | os.PathLike,
    *,
    image_size: int | tuple[int, int],
    batch_size: int,
    channels: int = 3,
    crop: bool = False,
    shuffle: bool = False,
    augment: str = "none",
    seed: int = 0,
    one_hot: bool = False,
    drop_remainder: bool = False,
    value_range: tuple[float, float] = (0.0, 1.0),
    max_examples: int | None = None,
) -> tf.data.Dataset:
    """Loads a folder of images, a subfolder for each class, as minibatches.

    Like Keras' `image_dataset_from_directory`, with what `load` adds: WebP, the order
    and the augmentation follow from the seed, so that training continues where it was
    stopped; and each file is decoded once beforehand, so that a broken one is named and
    skipped, and does not end a training.

    Args:
        folder: the folder; the names of its subfolders are those of the classes.
        image_size: height and width to resize to, one number if they are equal.
        batch_size: images in a minibatch; the last of a pass may be shorter.
        channels: 1 for gray images, 3 for colour.
        crop: whether to cut images of another shape, or to squeeze them, as Keras does.
        shuffle: whether to shuffle them anew for each pass; else they come from the
            classes in turn.
        augment: "none"; "flip": left to right, at random; "standard": also pads by an
            eighth and crops at random.
        seed: seed of the order and of the augmentation.
        one_hot: whether labels are one-hot rows, for label smoothing.
        drop_remainder: whether to leave out the short last minibatch of a pass.
        value_range: lowest and highest pixel value.
        max_examples: how many images to take, from the classes in turn; of the files
            after them few are decoded. None for all.

    Returns:
        A `tf.data.Dataset` as of `load`, with a further attribute `skipped`, the
        files that cannot be decoded, each with the reason.

    Raises:
        TypeError, ValueError: an argument is wrong, or there are no images.

    Example:
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     keras.utils.save_img(folder / name / "1.png", np.zeros((9, 9, 3)))
    >>> load_folder(folder, image_size=32, batch_size=2).class_names
    ('cat', 'dog')
    """
    settings = _checked(
        batch_size=batch_size,
        augment=validation.one_of("augment", augment, ("none", "flip", "standard")),
        seed=seed,
        one_hot=one_hot,
        drop_remainder=drop_remainder,
        value_range=value_range,
    )
    shuffle = validation.boolean("shuffle", shuffle)
    validation.one_of("channels", channels, (1, 3))
    sides = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
    height, width = (validation.positive_integer("image_size", n) for n in sides)
    if max_examples is not None:
        max_examples = validation.positive_integer("max_examples", max_examples)
    found = photo_folder(folder, channels, max_examples)
    for skipped in found.skipped:
        warn_user(f"{skipped} is no image that can be decoded, and is left out.")
    source = dataclasses.replace(found.source, fit="crop" if crop else "squeeze")
    selected = f"{str(folder)!r} holds {source.size} images"
    if source.size == max_examples:
        selected = f"max_examples={max_examples} takes {source.size} images"
    dataset = _dataset(source, (height, width), shuffle, selected, **settings)
    dataset.skipped = found.skipped
    return dataset


def load_arrays(
    images: Any,
    labels: Any,
    *,
    batch_size: int,
    shuffle: bool = False,
    augment: str = "none",
    seed: int = 0,
    one_hot: bool = False,
    drop_remainder: bool = False,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> tf.data.Dataset:
    """Arrays in memory, as minibatches with the order and augmentation of `load`.

    Args:
        images: `[N, height, width, channels]`, in [0, 1].
        labels: `[N]`, numbers of classes from 0 on, or one-hot rows.
        batch_size: images in a minibatch; the last of a pass may be shorter.
        shuffle: whether to shuffle them anew for each pass.
        augment: see `load`.
        seed: seed of the order and of the augmentation.
        one_hot: whether labels are one-hot rows, for label smoothing.
        drop_remainder: whether to leave out the short last minibatch of a pass.
        value_range: lowest and highest pixel value of the minibatches.

    Returns:
        A `tf.data.Dataset` as of `load`; classes are named by their numbers.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
    >>> data = load_arrays(np.zeros((5, 8, 8, 1)), np.arange(5), batch_size=2)
    >>> data.classes
    5
    """
    settings = _checked(
        batch_size=batch_size,
        augment=validation.one_of("augment", augment, AUGMENTATIONS),
        seed=seed,
        one_hot=one_hot,
        drop_remainder=drop_remainder,
        value_range=value_range,
    )
    x = validation.image_array("images", np.asarray(images, "float32"))
    validation.pixels_in_range("images", x, (0.0, 1.0))
    y = sources.labels_as_numbers(labels)
    names = tuple(map(str, range(int(y.max()) + 1)))
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    source = Source(examples, len(x), x.nbytes, names, x.shape[1:], "pixels")
    shuffle = validation.boolean("shuffle", shuffle)
    return _dataset(source, None, shuffle, f"There are {len(x)} images", **settings)


def _checked(**settings: Any) -> dict[str, Any]:
    """What all loaders take, or raises."""
    return {
        **settings,
        "batch_size": validation.positive_integer("batch_size", settings["batch_size"]),
        "seed": validation.seed("seed", settings["seed"]),
        "one_hot": validation.boolean("one_hot", settings["one_hot"]),
        "drop_remainder": validation.boolean(
            "drop_remainder", settings["drop_remainder"]
        ),
        "value_range": validation.pixel_range(settings["value_range"]),
    }


def _dataset(
    source: Source,
    image_size: int | tuple[int, int] | None,
    shuffle: bool,
    selected: str,
    *,
    batch_size: int,
    augment: str,
    seed: int,
    one_hot: bool,
    drop_remainder: bool,
    value_range: tuple[float, float],
) -> tf.data.Dataset:
    """The minibatches of a source; `selected` says how many images it has."""
    count = source.size // batch_size
    if not drop_remainder and source.size % batch_size:
        count += 1
    if count == 0:
        raise ValueError(
            f"{selected}, too few for a minibatch. Received: batch_size={batch_size}, "
            f"drop_remainder={drop_remainder}."
        )
    encoded = encoded_passes(
        source, batch_size, drop_remainder, seed if shuffle else None
    )
    decoder = ImageDecoder(
        source, batch_size, augment, seed, image_size, one_hot, value_range
    )

    def slices_of_pass(
        number: Any, within: Any, rows: WorkerSlice | WholeMinibatch
    ) -> tf.data.Dataset:
        return decoder.decode(encoded(number, within), number * count + within, rows)

    def one_pass(number: Any, within: Any) -> tf.data.Dataset:
        whole = slices_of_pass(number, within, WholeMinibatch(batch_size))
        return whole.map(lambda minibatch, size: minibatch)

    dataset = addressable_dataset(one_pass, slices_of_pass, count)
    dataset.classes = source.classes
    dataset.class_names = source.class_names
    dataset.image_size = image_size
    return dataset


def _check_size_arguments(
    varies: bool, image_size: int | None, augment: str, name: str, source: Source
) -> None:
    if not varies and image_size is not None:
        raise ValueError(
            "Argument `image_size` must be None for a set whose images all have one "
            f"size. Received: image_size={image_size} for {name!r}, with images of "
            f"shape {source.shape}."
        )
    if varies and augment in ("flip", "standard_pad2"):
        raise ValueError(
            "Argument `augment` must be 'none' or 'standard' for a set whose images "
            f"vary in size. Received: augment={augment!r} for {name!r}."
        )
