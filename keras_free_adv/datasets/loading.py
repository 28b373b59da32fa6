"""An image classification set as a stream of minibatches."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv import random_numbers, validation
from keras_free_adv.data.passes import endless_passes, sharded_by_data
from keras_free_adv.datasets import augmentation, decoding, sources
from keras_free_adv.datasets.sources import Source

# A training split of up to so many bytes is read once, kept as it is stored, and
# shuffled whole; a larger one is read again for each pass, and shuffled in windows.
KEPT_BYTES = 2**30
SHUFFLE_WINDOW = 10_000
AUGMENTATIONS = ("none", "standard", "standard_pad2")
IMAGE_SIZE = 224

# One pass, by its number, from its i-th minibatch on.
Pass = Callable[[Any, Any], tf.data.Dataset]


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
) -> tf.data.Dataset:
    """Loads an image classification set as minibatches of (image, label).

    A training split (its name begins with "train") is shuffled anew for each pass,
    whole if it takes up to 1 GiB as it is stored, and is then kept in memory; every
    other split keeps its order. Which images a minibatch holds, and how they
    are augmented, follows from (seed, number of the minibatch) alone: `fit` of an
    adversarial model enters the stream at any place, also after a kill. A
    transformation on top (`map`, `take`) hides that, and makes it an ordinary
    `tf.data.Dataset`.

    Images are decoded and augmented once for each minibatch, in parallel, ahead of the
    model, whatever the number of replays.

    Args:
        name: "digits" (scikit-learn's, 8x8 gray images, no download), or the name of
            any image classification set of TensorFlow Datasets, such as "cifar10",
            "cifar100" or "imagenet2012".
        split: "train" or "test" for digits; a TFDS split such as "train[:90%]".
        batch_size: images in a minibatch; the last of a pass may be shorter.
        augment: "none" or "standard". For images of one size, "standard" pads by an
            eighth of the image with zeros, crops at random, and flips left to right at
            random (digits and letters, which mirroring would turn into other signs,
            are only cropped); "standard_pad2" pads by 2 pixels, as the authors of Free
            training do. For images of varying size, "standard" cuts a window of 8 to
            100% of the area and an aspect ratio of 3/4 to 4/3, resizes it, and flips
            at random; "none" cuts the central square, without the margin that is left
            when an image is resized to 256 and cropped to 224.
        seed: seed of the order and of the augmentation.
        data_dir: where TFDS keeps its data; None for TFDS' own choice.
        image_size: height and width to resize images of varying size to; 224 by
            default. Of a JPEG only the window is decoded. Images of one size are not
            resized.
        one_hot: whether labels are rows of zeros and a one, as label smoothing
            (`keras.losses.CategoricalCrossentropy(label_smoothing=...)`) needs.
        drop_remainder: whether to leave out the short last minibatch of a pass.

    Returns:
        A `tf.data.Dataset` of one pass: images `[B, height, width, channels]`,
        float32 in [0, 1], and labels `[B]`, int64 (or `[B, classes]`, float32). Its
        attributes say what `export_for_serving` asks for: `classes`, their number;
        `class_names`; and `image_size`, None for a set whose images all have one size.

    Raises:
        TypeError, ValueError: an argument is wrong, or the set is none of images of a
            class each.
        ImportError: the extra `datasets` is not installed.

    Example:
    >>> images, labels = next(iter(load("digits", split="test", batch_size=32)))
    >>> images.shape
    TensorShape([32, 8, 8, 1])
    """
    batch_size = validation.positive_integer("batch_size", batch_size)
    validation.one_of("augment", augment, AUGMENTATIONS)
    seed = validation.seed("seed", seed)
    one_hot = validation.boolean("one_hot", one_hot)
    drop_remainder = validation.boolean("drop_remainder", drop_remainder)
    if image_size is not None:
        image_size = validation.positive_integer("image_size", image_size)
    if not isinstance(split, str):
        raise TypeError(
            "Argument `split` must be a string such as 'train' or 'test'. "
            f"Received: split={split!r}."
        )
    if name == "digits":
        source = sources.digits(split)
    else:
        source = sources.from_tfds(name, split, data_dir)
    count = source.size // batch_size
    if not drop_remainder and source.size % batch_size:
        count += 1
    if count == 0:
        raise ValueError(
            f"Argument `split` selects {source.size} images, too few for a minibatch. "
            f"Received: split={split!r}, batch_size={batch_size}, "
            f"drop_remainder={drop_remainder}."
        )
    varies = None in source.shape[:2]
    _check_size_arguments(varies, image_size, augment, name, source)
    encoded = _encoded(
        source, batch_size, drop_remainder, seed if split.startswith("train") else None
    )
    if varies and image_size is None:
        image_size = IMAGE_SIZE
    decoded = _decoding(
        source,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        image_size=image_size,
        one_hot=one_hot,
    )

    def one_pass(number: Any, within: Any, part: Any = None) -> tf.data.Dataset:
        return decoded(encoded(number, within), number * count + within, part)

    dataset = _reshuffled_each_iteration(one_pass, count)
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
    if varies and augment == "standard_pad2":
        raise ValueError(
            "Argument `augment` must be 'none' or 'standard' for a set whose images "
            f"vary in size. Received: augment={augment!r} for {name!r}."
        )


def _decoding(
    source: Source,
    *,
    batch_size: int,
    augment: str,
    seed: int,
    image_size: int | None,
    one_hot: bool,
) -> Callable[[tf.data.Dataset, Any, Any], tf.data.Dataset]:
    """Maps encoded minibatches, and the number of the first, to decoded ones.

    With a `WorkerSlice` only that part of each minibatch is decoded, and comes with
    the size of the whole.
    """
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
    augments = augment != "none"
    padding = _padding(augment, source.shape)

    def key_of(number: Any) -> Any:
        return random_numbers.key(random_numbers.AUGMENT, seed, number)

    def decode(image: Any, number: Any) -> Any:
        if image_size is None:
            return _decoded(image, source)
        return _window(image, source, image_size, key_of(number), random=augments)

    def augmented(images: Any, number: Any, places: Any, size: Any) -> Any:
        if image_size is not None or not augments:
            return images
        return augmentation.pad_crop_flip(
            images,
            key_of(number),
            padding=padding,
            flip=source.mirrors,
            places=places,
            size=size,
        )

    def minibatches(encoded: tf.data.Dataset, first: Any, part: Any) -> tf.data.Dataset:
        def chosen(number: Any, minibatch: Any) -> tuple[Any, ...]:
            size = tf.shape(minibatch[1])[0]
            places = tf.range(size)
            if part is not None:
                places = part.places(size)
                minibatch = tuple(tf.gather(each, places) for each in minibatch)
            numbers = tf.repeat(number, tf.size(places))
            return *minibatch, places, numbers, tf.fill(tf.shape(places), size)

        def example(image: Any, label: Any, place: Any, number: Any, size: Any) -> Any:
            image = decode(image, number * batch_size + tf.cast(place, tf.int64))
            if one_hot:
                label = tf.one_hot(label, source.classes)
            return image, label, place, number, size

        def together(images: Any, y: Any, places: Any, numbers: Any, sizes: Any) -> Any:
            minibatch = augmented(images, numbers[0], places, sizes[0]), y
            return minibatch if part is None else (minibatch, sizes[0])

        examples = encoded.enumerate(first).map(chosen, **parallel).unbatch()
        return (
            examples.map(example, **parallel)
            .batch(batch_size if part is None else part.rows)
            .map(together, **parallel)
        )

    return minibatches


def _padding(
    augment: str, shape: tuple[int | None, int | None, int]
) -> tuple[int, int]:
    height, width = (n or 0 for n in shape[:2])
    return (2, 2) if augment == "standard_pad2" else (height // 8, width // 8)


def _decoded(image: Any, source: Source) -> Any:
    """The whole image, in [0, 1]."""
    if source.encoding == "pixels":
        return image
    is_jpeg = source.encoding == "jpeg"
    return decoding.whole_image(image, source.shape, is_jpeg=is_jpeg)


def _window(
    encoded: Any, source: Source, image_size: int, key: Any, *, random: bool
) -> Any:
    """A window of the image, resized, in [0, 1]; of a JPEG no more is decoded."""
    size = (image_size, image_size)

    def window_of(shape: Any) -> decoding.Window:
        if random:
            draw = random_numbers.key(key[0], key[1], 0)
            return augmentation.random_window(shape, draw)
        return decoding.central_window(shape, size, decoding.margin_of(size[0]))

    pixels = decoding.resized_window(
        encoded,
        window_of,
        size,
        channels=source.shape[-1],
        is_jpeg=source.encoding == "jpeg",
    )
    if random:
        draw = random_numbers.key(key[0], key[1], 1)
        pixels = tf.image.stateless_random_flip_left_right(pixels, draw)
    return pixels


def _encoded(
    source: Source, batch_size: int, drop_remainder: bool, seed: int | None
) -> Pass:
    """Passes of encoded minibatches, shuffled if there is a seed.

    The order follows from the seed and the number of the pass. `Dataset.shuffle` would
    do, but it takes no seed that is only known in the graph.
    """

    def batched(examples: tf.data.Dataset, within: Any) -> tf.data.Dataset:
        # Skipped before anything is decoded.
        return examples.batch(batch_size, drop_remainder=drop_remainder).skip(within)

    def permutation(length: Any, number: Any, window: Any) -> Any:
        key = random_numbers.key(random_numbers.SHUFFLE, seed, number, window)
        return tf.random.experimental.stateless_shuffle(tf.range(length), key)

    @functools.cache
    def kept() -> tuple[Any, ...]:
        with tf.init_scope(), tf.device("CPU:0"):
            return next(iter(source.examples.batch(source.size)))

    def in_order(number: Any, within: Any) -> tf.data.Dataset:
        return batched(source.examples, within)

    def shuffled_whole(number: Any, within: Any) -> tf.data.Dataset:
        parts = kept()
        order = tf.data.Dataset.from_tensor_slices(permutation(source.size, number, 0))
        return batched(order, within).map(
            lambda chunk: tuple(tf.gather(part, chunk) for part in parts)
        )

    def shuffled_in_windows(number: Any, within: Any) -> tf.data.Dataset:
        def one_window(window: Any, parts: Any) -> tf.data.Dataset:
            order = permutation(tf.shape(parts[1])[0], number, window)
            return tf.data.Dataset.from_tensor_slices(
                tuple(tf.gather(part, order) for part in parts)
            )

        windows = source.examples.batch(SHUFFLE_WINDOW).enumerate()
        return batched(windows.flat_map(one_window), within)

    if seed is None:
        return in_order
    return shuffled_whole if source.stored_bytes <= KEPT_BYTES else shuffled_in_windows


def _reshuffled_each_iteration(one_pass: Callable, count: int) -> tf.data.Dataset:
    """One pass a time it is iterated; remembers how to enter it at any minibatch."""
    passes_begun = iter(range(2**62))
    this_pass = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(
            tf.numpy_function(lambda: np.int64(next(passes_begun)), [], tf.int64), ()
        )
    )
    dataset = this_pass.flat_map(lambda p: one_pass(p, tf.zeros((), tf.int64)))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = sharded_by_data(dataset).prefetch(tf.data.AUTOTUNE)
    dataset.minibatches_from = lambda first, part=None: sharded_by_data(
        endless_passes(lambda p, i: one_pass(p, i, part), count, first)
    ).prefetch(tf.data.AUTOTUNE)
    return dataset
